//! Images built from Dockerfiles.
//!
//! These need root, runc, a static busybox and capasfs itself.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stderr,
    dead_code,
    missing_docs
)]

#[path = "build/bad_input.rs"]
mod bad_input;
#[path = "build/cache.rs"]
mod cache;
#[path = "build/death.rs"]
mod death;
#[path = "build/fixture.rs"]
mod fixture;
#[path = "cli_run/harness.rs"]
mod harness;
#[path = "build/instructions.rs"]
mod instructions;
#[path = "store/packed.rs"]
mod packed;
#[path = "build/platforms.rs"]
mod platforms;
#[path = "build/secrets.rs"]
mod secrets;
#[path = "build/sources.rs"]
mod sources;
#[path = "store/support.rs"]
mod support;
