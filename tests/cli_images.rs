//! How people look at images: what the commands print, column by column.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stderr,
    dead_code,
    missing_docs
)]

#[path = "cli_images/fixture.rs"]
mod fixture;
#[path = "cli_images/format.rs"]
mod format;
#[path = "cli_images/list.rs"]
mod list;
#[path = "cli_images/look.rs"]
mod look;
#[path = "cli_images/manage.rs"]
mod manage;
#[path = "cli_images/place.rs"]
mod place;
#[path = "store/program.rs"]
mod program;
#[path = "store/support.rs"]
mod support;
