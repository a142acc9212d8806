//! What applications may rely on, one named test each, over a real mount.
//!
//! `CAPAS_TARGET=overlay` runs the same tests on kernel overlayfs; where it
//! does not pass, the test says why. Every test ends with a comparison of the
//! lower layers with what they were before (`Fixture`'s drop).
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
#![allow(clippy::indexing_slicing, clippy::print_stderr, clippy::print_stdout)]
#![allow(missing_docs)]

mod common;

#[path = "mounted/attributes.rs"]
mod attributes;
#[path = "mounted/copy_up.rs"]
mod copy_up;
#[path = "mounted/directories.rs"]
mod directories;
#[path = "mounted/faulty.rs"]
mod faulty;
#[path = "mounted/full.rs"]
mod full;
#[path = "mounted/impossible.rs"]
mod impossible;
#[path = "mounted/io.rs"]
mod io;
#[path = "mounted/limits.rs"]
mod limits;
#[path = "mounted/links.rs"]
mod links;
#[path = "mounted/locks.rs"]
mod locks;
#[path = "mounted/logging.rs"]
mod logging;
#[path = "mounted/marks.rs"]
mod marks;
#[path = "mounted/mask.rs"]
mod mask;
#[path = "mounted/matrix.rs"]
mod matrix;
#[path = "mounted/names.rs"]
mod names;
#[path = "mounted/odd_layers.rs"]
mod odd_layers;
#[path = "mounted/opening.rs"]
mod opening;
#[path = "mounted/options.rs"]
mod options;
#[path = "mounted/power.rs"]
mod power;
#[path = "mounted/serving.rs"]
mod serving;
#[path = "mounted/unlinked.rs"]
mod unlinked;

use common::fixture::Fixture;
use common::live::{Mounted, Target};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// Layers (the bottom one first) and a mount of them, unless the test cannot
/// run here or its target is known to fail it, each with the reason.
fn mounted(lowers: &[&str], not_on: &[(Target, &str)]) -> Option<(Fixture, Mounted)> {
    if !common::able_to_mount() {
        return None;
    }
    let target = Target::from_env();
    if let Some((_, why)) = not_on.iter().find(|(t, _)| *t == target) {
        eprintln!("not on {target:?}: {why}");
        return None;
    }
    let fx = lowers
        .iter()
        .fold(Fixture::new(), |fx, spec| fx.lower(spec));
    let m = fx.mount(target, "");
    Some((fx, m))
}

/// [`mounted`] for what is said of capasfs alone, with mount options.
fn ours(fx: impl FnOnce() -> Fixture, options: &str) -> Option<(Fixture, Mounted)> {
    if !common::able_to_mount() || Target::from_env() != Target::Capasfs {
        return None;
    }
    let fx = fx();
    let m = fx.mount(Target::Capasfs, options);
    Some((fx, m))
}

/// The error number.
fn errno<T>(r: std::io::Result<T>) -> Option<i32> {
    r.err().and_then(|e| e.raw_os_error())
}

/// Copies a file up, however files are opened: by a change of data that is none.
fn copied_up(path: &Path) {
    let f = std::fs::OpenOptions::new().write(true).open(path).unwrap();
    f.set_len(f.metadata().unwrap().len()).unwrap();
}

/// The permission bits.
fn mode(path: &Path) -> u32 {
    std::fs::symlink_metadata(path).unwrap().mode() & 0o7777
}

/// `st_ino`.
fn ino(path: &Path) -> u64 {
    std::fs::symlink_metadata(path).unwrap().ino()
}

/// How many KiB the tree takes on disk.
fn kib(path: &Path) -> u64 {
    let mut sum = std::fs::symlink_metadata(path).unwrap().blocks() / 2;
    if path.is_dir() {
        for e in std::fs::read_dir(path).unwrap() {
            sum += kib(&e.unwrap().path());
        }
    }
    sum
}

/// The names in a directory, sorted, as the mount lists them.
fn names(path: &Path) -> Vec<String> {
    let mut v: Vec<String> = std::fs::read_dir(path)
        .unwrap()
        .map(|e| e.unwrap().file_name().to_string_lossy().into_owned())
        .collect();
    v.sort();
    v
}

/// Runs a shell script with `$1` = the mountpoint; its output, or what it said when it failed.
fn sh(m: &Mounted, script: &str) -> Result<String, String> {
    let out = std::process::Command::new("sh")
        .args(["-ec", script, "sh"])
        .arg(m.path())
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&out.stdout).into_owned();
    if out.status.success() {
        Ok(text)
    } else {
        Err(format!("{text}{}", String::from_utf8_lossy(&out.stderr)))
    }
}
