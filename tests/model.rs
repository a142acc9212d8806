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

use common::live::Target;
use harness::report::check_all;
use harness::run::Config;

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
        None => {
            let known = harness::report::known_seeds();
            let more = (1..).filter(|s| !known.contains(s));
            let want = total.div_ceil(4000);
            let mut all = known.clone();
            all.extend(more.take(want.saturating_sub(known.len())));
            all
        }
    };
    let each = total / seeds.len();
    let configs = seeds.iter().map(|s| Config::new(*s, each, target));
    let stats = check_all(configs.collect());
    println!("{target:?}: {stats:?}");
}

#[test]
fn random_operations_of_several_threads() {
    if !common::able_to_mount() {
        return;
    }
    let target = Target::from_env();
    if target == Target::Plain {
        return;
    }
    let total = number("CAPAS_COUNT").unwrap_or(100_000) as usize / 5;
    let seeds = number("CAPAS_SEED").map_or(1..=3, |s| s..=s);
    let each = total / seeds.clone().count();
    for seed in seeds {
        let mut config = Config::new(seed, each, target);
        config.remount_every = 500;
        match harness::concurrent::run(&config) {
            Ok(stats) => println!("{target:?}, seed {seed}: {stats:?}"),
            Err(f) => panic!("{}", harness::report::describe_only(&config, &f)),
        }
    }
}

/// The same in a user namespace, a tenth of them.
#[test]
fn random_operations_in_a_user_namespace() {
    if !common::able_to_mount() || Target::from_env() != Target::Capasfs {
        return;
    }
    let count = number("CAPAS_COUNT").unwrap_or(100_000) / 10;
    let args = ["--nocapture", "--skip", "in_a_user_namespace"];
    let count = [("CAPAS_COUNT", count.to_string())];
    println!("{}", common::namespace::succeeds(&args, &count));
}
