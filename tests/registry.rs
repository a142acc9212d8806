//! Registries: who we are there and what we find there.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stderr,
    missing_docs
)]

#[path = "registry/accounts.rs"]
mod accounts;
#[path = "registry/login.rs"]
mod login;
#[path = "registry/search.rs"]
mod search;
#[path = "registry/stub.rs"]
mod stub;
