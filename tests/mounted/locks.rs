//! flock and POSIX locks.

use super::mounted;
use crate::common::sys::lock;
use std::fs;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

const FILE: &str = "CAPAS_LOCK_FILE";
const WHAT: &str = "CAPAS_LOCK";

/// What [`another`] starts: it takes the lock or fails. POSIX locks belong to a
/// process, and end when that closes any descriptor of the file.
#[test]
fn another_process() {
    let (Some(path), Ok(what)) = (std::env::var_os(FILE), std::env::var(WHAT)) else {
        return;
    };
    let file = fs::File::options()
        .read(true)
        .write(true)
        .open(path)
        .unwrap();
    let words: Vec<i64> = what.split(' ').map(|w| w.parse().unwrap()).collect();
    let [how, kind, start, len] = words[..] else {
        file.try_lock().unwrap();
        return;
    };
    lock(&file, how as i32, kind as i32, start, len).unwrap();
}

fn another(path: &Path, what: &str) -> Child {
    Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "locks::another_process"])
        .env(FILE, path)
        .env(WHAT, what)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap()
}

/// Does another process get an exclusive flock.
fn flock_is_free(path: &Path) -> bool {
    another(path, "0").wait().unwrap().success()
}

/// Does another process get a POSIX lock of those bytes at once.
fn is_free(path: &Path, kind: i32, start: i64, len: i64) -> bool {
    let what = format!("{} {kind} {start} {len}", libc::F_SETLK);
    another(path, &what).wait().unwrap().success()
}

fn open(path: &Path) -> fs::File {
    fs::File::options()
        .read(true)
        .write(true)
        .open(path)
        .unwrap()
}

#[test]
fn flock_conflicts_also_over_a_copy_up() {
    let Some((_fx, m)) = mounted(
        &["/small file 0666 data=\"x\"\n/large file 0666 size=300000 data=@1"],
        &[],
    ) else {
        return;
    };
    for name in ["small", "large"] {
        let path = m.at(name);
        let holder = open(&path);
        holder.try_lock().unwrap();
        assert!(!flock_is_free(&path), "{name}");
        fs::write(&path, "changed").unwrap();
        assert!(!flock_is_free(&path), "{name} after a write");
        holder.unlock().unwrap();
        assert!(flock_is_free(&path), "{name} after the unlock");
    }
}

#[test]
fn a_lock_on_a_read_only_descriptor_holds_over_a_copy_up() {
    let spec = "/small file 0666 data=\"x\"\n/posix file 0666 data=\"x\"";
    let Some((_fx, m)) = mounted(&[spec], &[]) else {
        return;
    };
    let path = m.at("small");
    let holder = fs::File::open(&path).unwrap();
    holder.try_lock().unwrap();
    fs::OpenOptions::new().append(true).open(&path).unwrap();
    assert!(!flock_is_free(&path));
    drop(holder);
    assert!(flock_is_free(&path));
    let path = m.at("posix");
    let holder = fs::File::open(&path).unwrap();
    lock(&holder, libc::F_SETLK, libc::F_RDLCK, 0, 0).unwrap();
    // The other process opens it for writing, which copies it up.
    assert!(!is_free(&path, libc::F_WRLCK, 0, 0));
    assert!(is_free(&path, libc::F_RDLCK, 0, 0));
    drop(holder);
    assert!(is_free(&path, libc::F_WRLCK, 0, 0));
}

#[test]
fn posix_locks_conflict_by_range_and_end_with_the_descriptor() {
    let spec = "/f file 0666 data=\"x\"\n/big file 0666 size=300000 data=@1";
    let Some((_fx, m)) = mounted(&[spec], &[]) else {
        return;
    };
    for name in ["f", "big"] {
        let path = m.at(name);
        let holder = open(&path);
        lock(&holder, libc::F_SETLK, libc::F_WRLCK, 10, 20).unwrap();
        lock(&holder, libc::F_SETLK, libc::F_RDLCK, 100, 50).unwrap();
        for (kind, start, len, free) in [
            (libc::F_WRLCK, 0, 10, true),
            (libc::F_WRLCK, 0, 11, false),
            (libc::F_RDLCK, 29, 1, false),
            (libc::F_WRLCK, 30, 70, true),
            (libc::F_RDLCK, 100, 50, true),
            (libc::F_WRLCK, 149, 1, false),
            (libc::F_WRLCK, 150, 0, true),
        ] {
            let got = is_free(&path, kind, start, len);
            assert_eq!(got, free, "{name}: {kind} {start} {len}");
        }
        lock(&holder, libc::F_SETLK, libc::F_UNLCK, 15, 5).unwrap();
        assert!(is_free(&path, libc::F_WRLCK, 15, 5));
        assert!(!is_free(&path, libc::F_WRLCK, 14, 1));
        drop(holder);
        assert!(is_free(&path, libc::F_WRLCK, 0, 0));
    }
}

#[test]
fn who_waits_for_a_lock_gets_it_when_it_is_free() {
    let Some((_fx, m)) = mounted(&["/f file 0666 data=\"x\""], &[]) else {
        return;
    };
    let path = m.at("f");
    let holder = open(&path);
    lock(&holder, libc::F_SETLK, libc::F_WRLCK, 0, 0).unwrap();
    let what = format!("{} {} 0 0", libc::F_SETLKW, libc::F_WRLCK);
    let mut waits = another(&path, &what);
    std::thread::sleep(Duration::from_millis(300));
    assert_eq!(waits.try_wait().unwrap(), None);
    lock(&holder, libc::F_SETLK, libc::F_UNLCK, 0, 0).unwrap();
    assert!(waits.wait().unwrap().success());
}

/// Locks of open file descriptions: of two in one process too, and not ended by
/// the end of another one.
#[test]
fn locks_of_descriptions_conflict_in_one_process() {
    let Some((_fx, m)) = mounted(&["/f file 0666 data=\"x\""], &[]) else {
        return;
    };
    let path = m.at("f");
    let (holder, other) = (open(&path), open(&path));
    let take = |file: &fs::File| lock(file, libc::F_OFD_SETLK, libc::F_WRLCK, 0, 0);
    take(&holder).unwrap();
    assert!(take(&other).is_err());
    drop(open(&path));
    assert!(take(&other).is_err());
    assert!(!is_free(&path, libc::F_WRLCK, 0, 0));
    drop(holder);
    take(&other).unwrap();
}
