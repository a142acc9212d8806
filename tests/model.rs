//! Random operations: a mount must behave as a plain directory does, live,
//! after remounts, and with several threads at work.
//!
//! `CAPAS_TARGET` chooses who serves, `CAPAS_SEED` one seed, `CAPAS_COUNT` how
//! many operations; see `scripts/model`.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
#![allow(clippy::indexing_slicing, clippy::print_stderr, clippy::print_stdout)]
#![allow(missing_docs)]

mod common;
#[path = "model/mod.rs"]
mod harness;

use common::fixture::Target;
use harness::report::check;
use harness::run::{Config, Stats};

/// A number from the environment.
fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|v| v.parse().unwrap())
}

#[test]
fn random_operations() {
    if !common::able_to_mount() {
        return;
    }
    let target = Target::from_env();
    let total = number("CAPAS_COUNT").unwrap_or(100_000) as usize;
    let seeds: Vec<u64> = match number("CAPAS_SEED") {
        Some(s) => vec![s],
        None => (1..=(total as u64).div_ceil(4000)).collect(),
    };
    let each = total / seeds.len();
    let next = std::sync::Mutex::new(seeds.into_iter());
    let sum = std::sync::Mutex::new(Stats::default());
    std::thread::scope(|s| {
        for _ in 0..2 {
            s.spawn(|| {
                loop {
                    let Some(seed) = next.lock().unwrap().next() else {
                        break;
                    };
                    *sum.lock().unwrap() += check(&Config::new(seed, each, target));
                }
            });
        }
    });
    println!("{target:?}: {:?}", sum.lock().unwrap());
}
