//! Registries: who we are there, what we find, get and bring there.
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
#[path = "registry/bounds.rs"]
mod bounds;
#[path = "registry/display.rs"]
mod display;
#[path = "registry/faults.rs"]
mod faults;
#[path = "registry/images.rs"]
mod images;
#[path = "registry/import.rs"]
mod import;
#[path = "registry/interrupt.rs"]
mod interrupt;
#[path = "registry/killed.rs"]
mod killed;
#[path = "registry/login.rs"]
mod login;
#[path = "registry/proxies.rs"]
mod proxies;
#[path = "registry/pull.rs"]
mod pull;
#[path = "registry/push.rs"]
mod push;
#[path = "registry/search.rs"]
mod search;
#[path = "registry/served.rs"]
mod served;
#[path = "registry/stub.rs"]
mod stub;
#[path = "registry/tls.rs"]
mod tls;
#[path = "registry/tokens.rs"]
mod tokens;
#[path = "registry/uploads.rs"]
mod uploads;
#[path = "registry/walk.rs"]
mod walk;
