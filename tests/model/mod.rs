//! The model: random operations on a mount and on a plain directory.

pub mod concurrent;
pub mod exec;
pub mod generate;
pub mod layers;
pub mod op;
pub mod report;
pub mod rng;
pub mod run;
