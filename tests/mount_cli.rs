//! capasfs as a command, up to the point where it would mount.
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

use mount_support::{CAPASFS, Tree, code, ok, stderr, within};
use std::os::unix::fs::symlink;
use std::process::{Command, Output};

/// Calls it as mount(8) does, with `-f`: everything but the mount.
fn fake(tree: &Tree, args: &[&str]) -> Output {
    let link = tree.path("mount.capasfs");
    if !link.exists() {
        symlink(CAPASFS, &link).unwrap();
    }
    let mut command = Command::new(link);
    within(
        command
            .args(["src", "m", "-f"])
            .args(args)
            .current_dir(tree.path(".")),
    )
}

#[test]
fn version_is_the_first_line() {
    let tree = Tree::new();
    for flag in ["--version", "-V"] {
        let out = ok(&tree.capasfs(&[flag]));
        let want = format!("capasfs {}", env!("CARGO_PKG_VERSION"));
        assert_eq!(out.lines().next(), Some(&*want));
    }
}

#[test]
fn help_names_every_option_that_the_readme_promises() {
    let tree = Tree::new();
    let help = ok(&tree.capasfs(&["--help"]));
    for word in "-f -d -v -s -n -t -N --help --version lowerdir upperdir workdir redirect_dir \
        metacopy index xino userxattr volatile fsync auto|strict|volatile uidmapping gidmapping \
        squash_to_root squash_to_uid squash_to_gid xattr_permissions 0|1|2 static_nlink noacl \
        timeout fsname subtype context ro rw suid nosuid dev nodev exec noexec noatime relatime \
        allow_other allow_root default_permissions private threads busy_poll log log_level disable"
        .split_whitespace()
    {
        assert!(help.contains(word), "{word} is missing");
    }
}

#[test]
fn standard_output_that_cannot_be_written_is_an_error() {
    let tree = Tree::new();
    let said = tree.shell("$capasfs --help >/dev/full");
    assert_eq!(code(&said), 2);
    assert!(
        stderr(&said).contains("standard output"),
        "{}",
        stderr(&said)
    );
}

#[test]
fn failures_are_one_line_and_mounts_exit_codes() {
    let tree = Tree::new();
    let table: &[(&[&str], i32, &str)] = &[
        (&[], 1, "no mountpoint given"),
        (&["-x", "m"], 1, "unknown flag -x"),
        (&["a", "b", "c"], 1, "one argument too many: c"),
        (&["m"], 1, "no lowerdir="),
        (
            &["-o", "lowerdir=l1,upperdir=u", "m"],
            1,
            "upperdir= needs workdir=",
        ),
        (
            &["-o", "lowerdir=l1,xino=maybe", "m"],
            1,
            "xino=maybe: not on|auto|off",
        ),
        (&["-o", "lowerdir=l1::l2", "m"], 1, "data-only"),
        (
            &["-o", "lowerdir=l1,log=/nonexistent/x", "m"],
            2,
            "log file /nonexistent/x",
        ),
        (
            &["-o", "lowerdir=none", "m"],
            32,
            "lowerdir none: no such directory",
        ),
        (
            &["-o", "lowerdir=l1/one", "m"],
            32,
            "lowerdir l1/one: not a directory",
        ),
        (
            &["-o", "lowerdir=l1", "none"],
            32,
            "mountpoint none: no such directory",
        ),
        (
            &["-o", "lowerdir=u,upperdir=u,workdir=w", "m"],
            32,
            "lowerdir u is upperdir u",
        ),
        (
            &["-o", "lowerdir=l1,upperdir=u,workdir=/proc/self", "m"],
            32,
            "different filesystems",
        ),
        (
            &["-o", "lowerdir=l1,ro,remount", "m"],
            32,
            "remount is not possible",
        ),
        (
            &["-o", "lowerdir=l1", "-N", "/nonexistent", "m"],
            32,
            "cannot enter mount namespace",
        ),
    ];
    for (args, want, text) in table {
        let said = tree.capasfs(args);
        let line = stderr(&said);
        assert_eq!(code(&said), *want, "{args:?}: {line}");
        assert!(
            line.starts_with("capasfs: ") && line.contains(text),
            "{args:?}: {line}"
        );
        assert_eq!(line.matches('\n').count(), 1, "{args:?}: {line}");
        assert_eq!(said.stdout, b"", "{args:?}");
        assert_eq!(tree.mounted("m"), None, "{args:?}");
    }
}

#[test]
fn fake_checks_everything_and_mounts_nothing() {
    let tree = Tree::new();
    let said = fake(&tree, &["-o", "rw,lowerdir=l1:l2,upperdir=u,workdir=w"]);
    assert_eq!((code(&said), stderr(&said)), (0, String::new()));
    assert_eq!(tree.mounted("m"), None);
    let said = fake(&tree, &["-o", "rw,lowerdir=l1:none"]);
    assert_eq!(code(&said), 32);
    assert_eq!(stderr(&said), "capasfs: lowerdir none: no such directory\n");
    // It left no lock behind.
    ok(&fake(
        &tree,
        &["-o", "rw,lowerdir=l1:l2,upperdir=u,workdir=w"],
    ));
}

#[test]
fn unknown_options_are_warned_about_once_unless_sloppy() {
    let tree = Tree::new();
    let options = "rw,lowerdir=l1,foo=1,foo=2,x-bar=3,_netdev,bar";
    let said = fake(&tree, &["-o", options]);
    assert_eq!(code(&said), 0);
    assert_eq!(
        stderr(&said),
        "capasfs: unknown option ignored: foo\ncapasfs: unknown option ignored: bar\n"
    );
    let said = fake(&tree, &["-s", "-o", options]);
    assert_eq!((code(&said), stderr(&said)), (0, String::new()));
}

#[test]
fn a_thousand_layers_in_one_long_string() {
    let tree = Tree::new();
    let pad = "x".repeat(90);
    let layers: Vec<_> = (0..1000).map(|n| format!("{pad}{n}")).collect();
    layers
        .iter()
        .for_each(|l| std::fs::create_dir(tree.path(l)).unwrap());
    let options = format!("lowerdir={},upperdir=u,workdir=w", layers.join(":"));
    assert!(options.len() > 90 << 10, "{}", options.len());
    let said = fake(&tree, &["-o", &options]);
    assert_eq!((code(&said), stderr(&said)), (0, String::new()));
}
