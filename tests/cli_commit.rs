//! What containers have changed, and what is made of it: images, archives.
//!
//! These need root, runc, a static busybox, capasfs itself and podman.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stderr,
    dead_code,
    missing_docs
)]

#[path = "cli_commit/commit.rs"]
mod commit;
mod common;
#[path = "cli_commit/cp.rs"]
mod cp;
#[path = "cli_commit/diff.rs"]
mod diff;
#[path = "cli_run/harness.rs"]
mod harness;
#[path = "cli_commit/podman.rs"]
mod podman;
#[path = "store/support.rs"]
mod support;
