//! The image store: what is loaded is what the archive holds, hostile archives
//! are refused and leave nothing, and a killed load leaves nothing listed; what is
//! saved is what was loaded, with the layers' blobs or without.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stderr,
    missing_docs
)]

#[path = "store/attributes.rs"]
mod attributes;
#[path = "store/blobs.rs"]
mod blobs;
#[path = "store/catalog.rs"]
mod catalog;
#[path = "store/check.rs"]
mod check;
#[path = "store/corrupt.rs"]
mod corrupt;
#[path = "store/df.rs"]
mod df;
#[path = "store/doctor.rs"]
mod doctor;
#[path = "store/hostile.rs"]
mod hostile;
#[path = "store/import.rs"]
mod import;
#[path = "store/killed.rs"]
mod killed;
#[path = "store/legacy.rs"]
mod legacy;
#[path = "store/load.rs"]
mod load;
#[path = "store/packed.rs"]
#[allow(dead_code)]
mod packed;
#[path = "store/rebuild.rs"]
mod rebuild;
#[path = "store/save.rs"]
mod save;
#[path = "store/support.rs"]
mod support;
#[path = "store/upkeep.rs"]
mod upkeep;
