//! The store survives what kills programs and machines: SIGKILL and power cuts
//! at random moments, and many processes at once. After each, `check` passes,
//! nothing that was promised is lost, and the same command works again.
//!
//! `CAPAS_POINTS` says how many moments each campaign tries (12 unless set),
//! `CAPAS_SEED` where the random numbers begin.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stderr,
    dead_code,
    missing_docs
)]

mod common;
#[path = "registry/images.rs"]
mod images;
#[path = "crash/kill.rs"]
mod kill;
#[path = "crash/power.rs"]
mod power;
#[path = "registry/served.rs"]
mod served;
#[path = "registry/stub.rs"]
mod stub;
#[path = "store/support.rs"]
mod support;
#[path = "crash/together.rs"]
mod together;

use common::{pattern, splitmix};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use support::{Tar, diffs, docker_archive, gzip};

/// How many moments a campaign tries.
fn points() -> u64 {
    let set = std::env::var("CAPAS_POINTS").ok();
    set.map_or(12, |n| n.parse().unwrap())
}

/// Random numbers that are told, so that a failure can be had again.
struct Random(u64);

impl Random {
    fn new(campaign: &str) -> Random {
        let set = std::env::var("CAPAS_SEED").ok();
        let clock = || {
            std::time::UNIX_EPOCH
                .elapsed()
                .unwrap()
                .subsec_nanos()
                .into()
        };
        let seed = set.map_or_else(clock, |n| n.parse().unwrap());
        eprintln!("{campaign}: CAPAS_SEED={seed}");
        Random(seed)
    }

    fn below(&mut self, n: u64) -> u64 {
        splitmix(&mut self.0) % n.max(1)
    }
}

/// A directory for what no power cut shall meet: in memory, where there is
/// room, so that nobody waits for the disk.
fn scratch() -> tempfile::TempDir {
    let memory = Path::new("/dev/shm");
    match memory.is_dir() {
        true => tempfile::tempdir_in(memory).unwrap(),
        false => tempfile::tempdir().unwrap(),
    }
}

fn command(root: &Path, args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_capas"));
    command.arg("--root").arg(root).args(args);
    command.env_remove("CAPAS_FAIL");
    command
}

fn text(out: &Output) -> String {
    String::from_utf8([&out.stdout[..], &out.stderr].concat()).unwrap()
}

/// The output of a command that must succeed.
fn capas(root: &Path, args: &[&str]) -> String {
    let out = command(root, args).output().unwrap();
    assert!(out.status.success(), "{args:?}: {}", text(&out));
    text(&out)
}

/// `check` finds no damage.
fn sound(root: &Path, when: &str) -> String {
    let out = command(root, &["check"]).output().unwrap();
    let text = text(&out);
    assert!(out.status.success(), "{when}: {text}");
    text
}

/// The names that are listed, without their tags.
fn listed(root: &Path) -> BTreeSet<String> {
    let table = capas(root, &["images"]);
    let names = table.lines().skip(1).map(|l| l.split(' ').next().unwrap());
    names.map(str::to_owned).collect()
}

/// An archive of an image of two layers. The lower one depends on `base` only,
/// so that images share it; the upper one is this image's own.
fn archive(dir: &Path, name: &str, base: u64, files: u64) -> PathBuf {
    let mut lower = Tar::new();
    lower.dir("d/");
    for n in 0..files {
        let words = pattern(base + n, 0, 1 + (n as usize * 977) % 20_000);
        let words: String = words.iter().map(|b| char::from(b'a' + b % 26)).collect();
        lower.file(&format!("d/{n}"), &words);
    }
    lower.hardlink("d/link", "d/0").symlink("l", "d");
    let mut upper = Tar::new();
    upper
        .file("d/own", name)
        .file("d/.wh.1", "")
        .hardlink("e", "d/2");
    let layers = [lower.end(), upper.end()];
    let stored = [gzip(&layers[0]), layers[1].clone()];
    let path = dir.join(format!("{name}.tar"));
    let data = docker_archive(&stored, &diffs(&layers), &[&format!("{name}:1")]);
    std::fs::write(&path, data).unwrap();
    path
}
