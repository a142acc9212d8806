//! What the union shows and writes, case by case, without a mount.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
#![allow(clippy::indexing_slicing, clippy::print_stderr, missing_docs)]

mod common;
mod direct;

use direct::{cases, variant::Variant};

#[test]
fn every_case() {
    if !direct::able() {
        return;
    }
    let variant = Variant::default_one();
    let (mut wrong, mut run) = (Vec::new(), 0);
    for case in cases::all() {
        match case.run(&variant, &std::env::temp_dir()) {
            Ok(done) => run += usize::from(done),
            Err(e) => wrong.push(e),
        }
    }
    eprintln!("{run} cases right, {} wrong", wrong.len());
    assert!(run + wrong.len() > 50, "too few cases");
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}
