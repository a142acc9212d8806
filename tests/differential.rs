//! Kernel overlayfs and capasfs on the same layers: at every remount the
//! other one mounts the upper as it was left, shows the same tree, and goes.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
#![allow(clippy::indexing_slicing, clippy::print_stderr, clippy::print_stdout)]
#![allow(missing_docs)]

mod common;
// Runs of several threads are the model test's.
#[allow(dead_code)]
#[path = "model/mod.rs"]
mod harness;

use common::live::Target;
use common::sys::in_user_namespace;
use harness::report::check_all;
use harness::run::Config;

fn run(target: Target, first: u64) {
    if !common::able_to_mount() {
        return;
    }
    let number = |name: &str| -> Option<u64> { std::env::var(name).ok()?.parse().ok() };
    let total = number("CAPAS_COUNT").unwrap_or(40_000) as usize / 2;
    let seeds: Vec<u64> = match number("CAPAS_SEED") {
        Some(s) => vec![s],
        // Kernel overlayfs cannot read the `.wh.` marks of every third seed.
        None => harness::report::known_seeds()
            .into_iter()
            .chain(first..)
            .filter(|s| s % 3 != 1)
            .take(total.div_ceil(2000))
            .collect(),
    };
    let each = total / seeds.len();
    // With `userxattr` kernel overlayfs follows neither redirects nor metacopies, and
    // in a user namespace it has no index.
    let userxattr = in_user_namespace();
    let options = match userxattr {
        false => "",
        true => "redirect_dir=nofollow,metacopy=off,index=off",
    };
    let configs = seeds.into_iter().map(|seed| {
        let mut c = Config::new(seed, each, target);
        c.cross = true;
        c.opts = options.to_string();
        c.userxattr = userxattr;
        c.remount_every = 400;
        c
    });
    let stats = check_all(configs.collect());
    println!("{target:?}: {stats:?}");
}

#[test]
fn kernel_overlayfs_mounts_what_capasfs_wrote() {
    run(Target::Capasfs, 1000);
}

#[test]
fn capasfs_mounts_what_kernel_overlayfs_wrote() {
    run(Target::Overlay, 2000);
}

/// A tenth of both.
#[test]
fn both_in_a_user_namespace() {
    if !common::able_to_mount() {
        return;
    }
    let args = ["--nocapture", "--skip", "in_a_user_namespace"];
    let count = std::env::var("CAPAS_COUNT").map_or(4_000, |n| n.parse::<u64>().unwrap() / 10);
    let count = [("CAPAS_COUNT", count.to_string())];
    println!("{}", common::namespace::succeeds(&args, &count));
}
