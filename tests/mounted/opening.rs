//! Files that are opened without a message to the daemon (`open=zero`).

use super::{Mounted, Target};
use crate::common::fixture::Fixture;
use std::fs;
use std::io::{Read, Write};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::Path;
use std::time::{Duration, Instant};

const LOWER: &str =
    "/small file 0644 data=\"lower\"\n/large file 0644 size=300000 data=@1\n/d/f file data=\"x\"";

fn mounted(options: &str) -> Option<(Fixture, Mounted)> {
    if !crate::common::able_to_mount() || Target::from_env() != Target::Capasfs {
        return None;
    }
    let fx = Fixture::new().lower(LOWER);
    let m = fx.mount(Target::Capasfs, &format!("log_level=debug,{options}"));
    Some((fx, m))
}

fn writable(path: &Path) -> fs::File {
    let mut how = fs::OpenOptions::new();
    how.read(true).write(true).open(path).unwrap()
}

fn messages(fx: &Fixture, what: &str) -> usize {
    let log = fs::read_to_string(fx.path().join("daemon.log")).unwrap();
    log.lines().filter(|line| line.contains(what)).count()
}

/// How many files without a name the daemon holds.
fn nameless(m: &Mounted) -> usize {
    let fds = format!("/proc/{}/fd", m.daemon().unwrap());
    let fds = fs::read_dir(fds).unwrap();
    fds.filter(|fd| {
        let to = fs::read_link(fd.as_ref().unwrap().path()).unwrap_or_default();
        to.to_string_lossy().ends_with(" (deleted)")
    })
    .count()
}

#[test]
fn the_kernel_asks_once_and_the_first_write_copies_up() {
    let Some((fx, m)) = mounted("open=zero") else {
        return;
    };
    let mut text = String::new();
    for _ in 0..3 {
        text.clear();
        let mut file = fs::File::open(m.at("small")).unwrap();
        file.read_to_string(&mut text).unwrap();
    }
    assert_eq!(text, "lower");
    let before = fs::File::open(m.at("large")).unwrap();
    let file = writable(&m.at("large"));
    assert!(!fx.upper().join("large").exists());
    file.write_all_at(b"changed", 200_000).unwrap();
    assert!(fx.upper().join("large").exists());
    // Also descriptors from before see it: they are of the same node.
    let mut seen = [0; 7];
    before.read_exact_at(&mut seen, 200_000).unwrap();
    assert_eq!(&seen, b"changed");
    drop((before, file));
    assert_eq!(messages(&fx, " debug: open "), 1);
    assert_eq!(messages(&fx, " debug: release "), 0);
}

#[test]
fn truncation_at_open_is_done() {
    let Some((fx, m)) = mounted("open=zero") else {
        return;
    };
    for name in ["small", "large", "d/f"] {
        let mut how = fs::OpenOptions::new();
        let file = how.write(true).truncate(true).open(m.at(name)).unwrap();
        assert_eq!(file.metadata().unwrap().len(), 0, "{name}");
        assert_eq!(fs::metadata(fx.upper().join(name)).unwrap().len(), 0);
    }
}

#[test]
fn a_file_without_a_name_is_kept_while_it_is_open_and_no_longer() {
    let Some((_fx, m)) = mounted("open=zero") else {
        return;
    };
    fs::write(m.at("new"), "upper").unwrap();
    fs::write(m.at("over"), "over").unwrap();
    for name in ["new", "small", "large"] {
        let file = writable(&m.at(name));
        file.write_all_at(b"1", 0).unwrap();
        if name == "new" {
            fs::rename(m.at("over"), m.at(name)).unwrap();
        }
        fs::remove_file(m.at(name)).unwrap();
        file.write_all_at(b"2", 1).unwrap();
        let mut seen = [0; 2];
        file.read_exact_at(&mut seen, 0).unwrap();
        assert_eq!(&seen, b"12", "{name}");
        assert_eq!(file.metadata().unwrap().nlink(), 0, "{name}");
        file.sync_all().unwrap();
    }
    let deadline = Instant::now() + Duration::from_secs(10);
    while nameless(&m) > 0 {
        assert!(Instant::now() < deadline, "{} are kept", nameless(&m));
        std::thread::sleep(Duration::from_millis(2));
    }
}

#[test]
fn what_is_read_only_is_not_opened_for_writing() {
    if !crate::common::able_to_mount() || Target::from_env() != Target::Capasfs {
        return;
    }
    let fx = Fixture::new().lower(LOWER);
    let lower = fx.lowerdir();
    let m = fx.mount_with(Target::Capasfs, &format!("open=zero,{lower}"));
    let m = m.unwrap();
    let mut how = fs::OpenOptions::new();
    let opened = how.append(true).open(m.at("small"));
    let why = opened.and_then(|mut f| f.write_all(b"x")).unwrap_err();
    assert_eq!(why.raw_os_error(), Some(libc::EROFS));
    assert_eq!(fs::read_to_string(m.at("small")).unwrap(), "lower");
}

#[test]
fn only_without_passthrough_by_itself() {
    for (options, opens) in [
        ("disable=passthrough", 1),
        ("disable=passthrough,open=message", 2),
        ("open=message", 2),
        ("open=auto", 2),
    ] {
        let Some((fx, m)) = mounted(options) else {
            return;
        };
        for _ in 0..2 {
            assert_eq!(fs::read_to_string(m.at("small")).unwrap(), "lower");
        }
        assert_eq!(messages(&fx, " debug: open "), opens, "{options}");
    }
}
