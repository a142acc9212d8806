//! What a live mount writes no other mount writes: the same directories, one inside
//! them, or one around them.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    missing_docs
)]
#![allow(clippy::print_stderr, clippy::print_stdout, dead_code)]

mod common;
mod mount_support;

use mount_support::{Tree, able_to_mount, code, ok, stderr};
use std::fs;

#[test]
fn an_upper_in_use_is_refused_and_free_after_umount() {
    if !able_to_mount() {
        return;
    }
    let tree = Tree::new();
    for dir in ["m2", "u2", "w2", "u/inner"] {
        fs::create_dir(tree.path(dir)).unwrap();
    }
    tree.mount("");
    for (options, want) in [
        (
            "lowerdir=@/l1,upperdir=@/u,workdir=@/w2",
            "upperdir @/u is in use by another live mount",
        ),
        (
            "lowerdir=@/l1,upperdir=@/u2,workdir=@/w",
            "workdir @/w is in use by another live mount",
        ),
        (
            "lowerdir=@/l1,upperdir=@/u/inner,workdir=@/w2",
            "upperdir @/u/inner is inside a directory that another live mount writes",
        ),
    ] {
        let said = tree.capasfs(&["-o", &tree.text(options), "m2"]);
        assert_eq!(stderr(&said), tree.text(&format!("capasfs: {want}\n")));
        assert_eq!((code(&said), tree.mounted("m2")), (32, None));
    }
    // Also where the caller holds a directory in between.
    fs::create_dir_all(tree.path("u/held/inner")).unwrap();
    let options = tree.text("lowerdir=@/l1,upperdir=@/u/held/inner,workdir=@/w2");
    let said = tree.shell(&format!("flock -x u/held $capasfs -o {options} m2"));
    let want = "upperdir @/u/held/inner is inside a directory that another live mount writes";
    assert_eq!(stderr(&said), tree.text(&format!("capasfs: {want}\n")));
    assert_eq!((code(&said), tree.mounted("m2")), (32, None));
    tree.umount();
    // At once, though the daemon may still be ending.
    tree.mount("");
}

/// Also where the other one is in a mount namespace of its own.
#[test]
fn an_upper_around_anothers_is_refused() {
    if !able_to_mount() {
        return;
    }
    let tree = Tree::new();
    for dir in ["a/b/u", "c/w", "a2/u", "u2", "w2", "m2"] {
        fs::create_dir_all(tree.path(dir)).unwrap();
    }
    let own = tree.text("lowerdir=@/l1,upperdir=@/a/b/u,workdir=@/c/w");
    let held = tree.text("@/m");
    for start in ["", "exec unshare -m "] {
        ok(&tree.shell(&format!("{start}$capasfs -o {own} {held}")));
        for (options, want) in [
            ("upperdir=@/a,workdir=@/w2", "upperdir @/a"),
            ("upperdir=@/u2,workdir=@/c", "workdir @/c"),
        ] {
            let options = tree.text(&format!("lowerdir=@/l1,{options}"));
            let said = tree.capasfs(&["-o", &options, "m2"]);
            let want = tree.text(want);
            let want =
                format!("capasfs: {want} contains a directory that another live mount writes\n");
            assert_eq!(stderr(&said), want, "{start}");
            assert_eq!((code(&said), tree.mounted("m2")), (32, None));
        }
        // Beside it there is no objection.
        let beside = tree.text("lowerdir=@/l1,upperdir=@/a2,workdir=@/w2");
        ok(&tree.capasfs(&["-o", &beside, "m2"]));
        ok(&tree.shell("umount m2"));
        ok(&tree.shell(&format!("kill -TERM {}", tree.daemon())));
        tree.until_ended();
    }
    let around = tree.text("lowerdir=@/l1,upperdir=@/a,workdir=@/c");
    ok(&tree.capasfs(&["-o", &around, "m2"]));
    ok(&tree.shell("umount m2"));
}

/// A few names below are looked at one by one; of many, the locks of the system
/// tell who claims what.
#[test]
fn an_upper_of_many_names_around_anothers_is_refused() {
    if !able_to_mount() {
        return;
    }
    let tree = Tree::new();
    for dir in ["a/b/u", "c/w", "w2", "m2"] {
        fs::create_dir_all(tree.path(dir)).unwrap();
    }
    for name in 0..1000 {
        fs::write(tree.path(format!("a/{name}")), "").unwrap();
    }
    let own = tree.text("lowerdir=@/l1,upperdir=@/a/b/u,workdir=@/c/w");
    ok(&tree.capasfs(&["-o", &own, "m"]));
    let options = tree.text("lowerdir=@/l1,upperdir=@/a,workdir=@/w2");
    let said = tree.capasfs(&["-o", &options, "m2"]);
    let want = "capasfs: upperdir @/a contains a directory that another live mount writes\n";
    assert_eq!(stderr(&said), tree.text(want));
    assert_eq!((code(&said), tree.mounted("m2")), (32, None));
}

/// Only mounts claim; others may have locks of their own for directories.
#[test]
fn a_lock_that_is_no_mounts_is_no_claim() {
    if !able_to_mount() {
        return;
    }
    let tree = Tree::new();
    for dir in ["a/u/inside", "w2", "m2"] {
        fs::create_dir_all(tree.path(dir)).unwrap();
    }
    let options = tree.text("lowerdir=@/l1,upperdir=@/a/u,workdir=@/w2");
    for locked in ["a", "a/u/inside"] {
        ok(&tree.shell(&format!(
            "flock -x {locked} $capasfs -o {options} m2 && umount m2"
        )));
    }
}
