//! Registries: who we are there.

pub mod credentials;
