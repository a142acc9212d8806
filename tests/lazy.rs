//! Large files that are copied up while they are in use (`lazy_copy_up=`): straight
//! on the union, where nothing is copied but by what is asked of it, with a thread
//! that copies meanwhile, and through death and power cuts at any call.
//!
//! `CAPAS_POINTS` says how many moments the last two try.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
#![allow(clippy::indexing_slicing, clippy::print_stderr, missing_docs)]

mod common;
mod direct;

use capas::sys::{
    fail,
    fs::{Replace, SetTime, Time},
    probe::Features,
};
use capas::union::options::{Lazy, Options};
use capas::union::{Caller, SetAttr, Union};
use common::{pattern, splitmix};
use direct::Rig;
use std::ffi::OsStr;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

const SIZE: usize = 100_000;
const LOWER: &str = "/d/big file 0640 7:8 size=100000 data=@4 mtime=4.000000004 user.k=\"v\"\n/d/small file data=\"x\"";
const ROOT: Caller = Caller {
    uid: 0,
    gid: 0,
    pid: 0,
};

fn options() -> Options {
    let lazy = Some(Lazy {
        from: 50_000,
        chunk: 4096,
    });
    Options {
        lazy,
        ..Options::default()
    }
}

/// Layers that were made before.
fn rig(dir: &Path) -> Rig {
    let features = Features::all().without(Features::REFLINK);
    let rig = Rig::new(dir, options(), features);
    rig.open().unwrap();
    rig
}

fn fresh() -> Option<(tempfile::TempDir, Rig)> {
    if !direct::able() {
        return None;
    }
    let dir = tempfile::tempdir().unwrap();
    Rig::build(dir.path(), &[LOWER.into()], Some(""));
    let rig = rig(dir.path());
    Some((dir, rig))
}

fn open(rig: &Rig, path: &str) -> u64 {
    let id = rig.id(path).unwrap();
    rig.with(|u| u.open_file(id, libc::O_RDWR, ROOT)).unwrap();
    id
}

fn content(u: &Union, id: u64) -> Vec<u8> {
    let mut buf = vec![0; SIZE * 3];
    let n = u.read(id, 0, &mut buf).unwrap();
    buf.truncate(n);
    buf
}

/// Some writes, and what the file is then.
fn change(u: &Union, id: u64) -> Vec<u8> {
    let mut want = pattern(4, 0, SIZE);
    for (offset, data) in [
        (50_000, vec![b'a'; 3]),
        // Over more than one chunk, of which one entirely.
        (8_000, vec![b'b'; 10_000]),
        (SIZE, vec![b'c'; 5_000]),
        (4_096, vec![b'd'; 4_096]),
    ] {
        let done = u.write(id, offset as u64, &data, false, ROOT).unwrap();
        assert_eq!(done.len, data.len());
        want.resize(want.len().max(offset + data.len()), 0);
        want[offset..offset + data.len()].copy_from_slice(&data);
    }
    want
}

#[test]
fn what_is_written_is_seen_at_once_and_the_name_comes_when_the_copy_is_whole() {
    let Some((dir, rig)) = fresh() else { return };
    let id = open(&rig, "/d/big");
    let big = dir.path().join("upper/d/big");
    let before = rig.with(|u| u.getattr(id)).unwrap().stat;
    assert_eq!((before.size, before.mtime.sec), (SIZE as u64, 4));
    let want = rig.with(|u| change(u, id));
    rig.with(|u| assert!(content(u, id) == want));
    for attr in [
        rig.with(|u| u.getattr(id)).unwrap(),
        rig.with(|u| u.lookup(rig.id("/d").unwrap(), OsStr::new("big")))
            .unwrap(),
    ] {
        assert_eq!((attr.id, attr.stat.size), (id, want.len() as u64));
        assert!(attr.stat.mtime.sec > 4);
        assert_eq!((attr.stat.mode & 0o7777, attr.stat.nlink), (0o640, 1));
    }
    assert!(!big.exists());
    let mtime = rig.with(|u| u.getattr(id)).unwrap().stat.mtime;
    rig.with(Union::settle);
    assert!(fs::read(&big).unwrap() == want);
    let stat = fs::metadata(&big).unwrap();
    assert_eq!(
        (stat.mode() & 0o7777, stat.uid(), stat.gid()),
        (0o640, 7, 8)
    );
    assert_eq!(
        (stat.mtime(), stat.mtime_nsec()),
        (mtime.sec, mtime.nsec.into())
    );
    let after = rig.with(|u| u.getattr(id)).unwrap().stat;
    assert_eq!(after.ino, before.ino);
    rig.with(|u| assert!(content(u, id) == want));
    rig.remount();
    let id = rig.id("/d/big").unwrap();
    rig.with(|u| assert!(content(u, id) == want));
    assert!(rig.leftovers().is_empty() && rig.lowers_changed().is_none());
}

#[test]
fn only_large_and_plain_files() {
    let spec = "/small file size=40000 data=@1\n/two file size=60000 data=@1\n/other link /two\n\
                /set file 4755 size=60000 data=@1\n/sparse file size=60000";
    if !direct::able() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    Rig::build(dir.path(), &[spec.into()], Some(""));
    let rig = rig(dir.path());
    for name in ["small", "two", "set", "sparse"] {
        open(&rig, name);
        assert!(dir.path().join("upper").join(name).exists(), "{name}");
    }
}

/// Whoever wants more than to read and write finds it whole.
#[test]
fn everything_else_waits_for_the_rest() {
    type Act = fn(&Union, u64, u64, &mut Vec<u8>);
    let acts: &[(&str, &str, Act)] = &[
        ("chmod", "big", |u, id, _, _| {
            let set = SetAttr {
                mode: Some(0o600),
                ..SetAttr::default()
            };
            assert_eq!(u.setattr(id, set, ROOT).unwrap().stat.mode & 0o7777, 0o600);
        }),
        ("utimens", "big", |u, id, _, _| {
            let time = Time { sec: 9, nsec: 8 };
            let set = SetAttr {
                mtime: Some(SetTime::At(time)),
                ..SetAttr::default()
            };
            assert_eq!(u.setattr(id, set, ROOT).unwrap().stat.mtime, time);
        }),
        ("truncate", "big", |u, id, _, want| {
            let set = SetAttr {
                size: Some(70_001),
                ..SetAttr::default()
            };
            u.setattr(id, set, ROOT).unwrap();
            want.truncate(70_001);
        }),
        ("cut", "big", |u, id, _, want| {
            u.open_file(id, libc::O_WRONLY | libc::O_TRUNC, ROOT)
                .unwrap();
            want.clear();
        }),
        ("setxattr", "big", |u, id, _, _| {
            let name = OsStr::new("user.n");
            u.setxattr(id, name, b"w", 0, ROOT).unwrap();
            assert_eq!(u.getxattr(id, name).unwrap(), b"w");
            assert_eq!(u.getxattr(id, OsStr::new("user.k")).unwrap(), b"v");
        }),
        ("rename", "new", |u, _, dir, _| {
            let (old, new) = (OsStr::new("big"), OsStr::new("new"));
            u.rename(dir, old, dir, new, Replace::Yes).unwrap();
        }),
        ("exchange", "small", |u, _, dir, _| {
            let (old, new) = (OsStr::new("big"), OsStr::new("small"));
            u.rename(dir, old, dir, new, Replace::Exchange).unwrap();
        }),
        ("link", "new", |u, id, dir, _| {
            let attr = u.link(id, dir, OsStr::new("new")).unwrap();
            assert_eq!((attr.id, attr.stat.nlink), (id, 2));
        }),
        ("fallocate", "big", |u, id, _, want| {
            u.fallocate(id, 0, 0, 200_000, ROOT).unwrap();
            want.resize(200_000, 0);
        }),
        ("lseek", "big", |u, id, _, want| {
            let end = u.lseek(id, 0, libc::SEEK_HOLE).unwrap();
            assert_eq!(end, want.len() as u64);
        }),
        ("fsync", "big", |u, id, _, _| u.fsync(id, false).unwrap()),
        ("copy_file_range", "small", |u, id, dir, want| {
            let small = u.lookup(dir, OsStr::new("small")).unwrap().id;
            let len = want.len();
            let done = u.copy_file_range((id, 0), (small, 0), len, ROOT);
            assert_eq!(done.unwrap().len, len);
            u.forget(small, 1);
        }),
        ("flags", "big", |u, id, _, _| {
            let flags = u.get_flags(id).unwrap_or_default();
            let _ = u.set_flags(id, flags);
        }),
    ];
    for (what, name, act) in acts {
        let Some((dir, rig)) = fresh() else { return };
        let id = open(&rig, "/d/big");
        let above = rig.id("/d").unwrap();
        let mut want = rig.with(|u| change(u, id));
        rig.with(|u| act(u, id, above, &mut want));
        let path = dir.path().join("upper/d").join(name);
        assert!(fs::read(&path).unwrap() == want, "{what}");
        if *what != "copy_file_range" {
            rig.with(|u| assert!(content(u, id) == want, "{what}"));
            // And goes on.
            let done = rig.with(|u| u.write(id, 1, b"Z", false, ROOT)).unwrap();
            assert_eq!(done.len, 1);
            want.resize(want.len().max(2), 0);
            want[1] = b'Z';
        }
        rig.remount();
        assert!(fs::read(&path).unwrap() == want, "{what}, remounted");
        assert!(rig.leftovers().is_empty() && rig.lowers_changed().is_none());
    }
}

#[test]
fn without_a_name_it_is_still_what_was_written_and_is_never_copied() {
    for replaced in [false, true] {
        let Some((_dir, rig)) = fresh() else { return };
        let id = open(&rig, "/d/big");
        let above = rig.id("/d").unwrap();
        let want = rig.with(|u| change(u, id));
        let (big, small) = (OsStr::new("big"), OsStr::new("small"));
        rig.with(|u| match replaced {
            true => u.rename(above, small, above, big, Replace::Yes),
            false => u.unlink(above, big),
        })
        .unwrap();
        rig.with(|u| {
            assert!(content(u, id) == want);
            let stat = u.getattr(id).unwrap().stat;
            assert_eq!((stat.nlink, stat.size), (0, want.len() as u64));
            u.write(id, 0, b"Z", false, ROOT).unwrap();
            assert_eq!(content(u, id)[..2], [b'Z', want[1]]);
            u.fsync(id, false).unwrap();
            assert_eq!(content(u, id)[..2], [b'Z', want[1]]);
        });
        rig.remount();
        match rig.id("/d/big") {
            Ok(id) => rig.with(|u| assert!(replaced && content(u, id) == b"x")),
            Err(_) => assert!(!replaced),
        }
        assert!(rig.leftovers().is_empty() && rig.lowers_changed().is_none());
    }
}

/// Two threads of callers, and one that copies.
#[test]
fn random_reads_and_writes_while_it_is_copied() {
    for seed in 1..20 {
        let Some((dir, rig)) = fresh() else { return };
        let id = open(&rig, "/d/big");
        let model = std::sync::Mutex::new(pattern(4, 0, SIZE));
        rig.with(|u| {
            let caller = |seed: u64| {
                let mut random = seed;
                for n in 0..60 {
                    let offset = (splitmix(&mut random) % (SIZE as u64 + 9_000)) as usize;
                    let len = 1 + (splitmix(&mut random) % 9_000) as usize;
                    let mut model = model.lock().unwrap();
                    if n % 2 == 0 {
                        let data = pattern(seed + n, 0, len);
                        let done = u.write(id, offset as u64, &data, false, ROOT);
                        assert_eq!(done.unwrap().len, len);
                        let end = model.len().max(offset + len);
                        model.resize(end, 0);
                        model[offset..offset + len].copy_from_slice(&data);
                    } else {
                        let mut buf = vec![0; len];
                        let n = u.read(id, offset as u64, &mut buf).unwrap();
                        let from = offset.min(model.len());
                        let to = (offset + len).min(model.len());
                        assert!(buf[..n] == model[from..to]);
                    }
                    let size = u.getattr(id).unwrap().stat.size;
                    assert_eq!(size, model.len() as u64);
                }
            };
            std::thread::scope(|s| {
                let copying = s.spawn(|| u.copy_in_background());
                let both = [s.spawn(|| caller(seed)), s.spawn(|| caller(seed + 1000))];
                for thread in both {
                    thread.join().unwrap();
                }
                u.settle();
                copying.join().unwrap();
            });
        });
        let got = fs::read(dir.path().join("upper/d/big")).unwrap();
        assert!(got == *model.lock().unwrap(), "seed {seed}");
        assert!(rig.lowers_changed().is_none());
    }
}

fn points() -> u64 {
    let set = std::env::var("CAPAS_POINTS").ok();
    set.map_or(40, |n| n.parse().unwrap())
}

/// How many calls the child below makes, about.
const CALLS: u64 = 76;

/// Run again by the two tests below, with death at a call of its own.
#[test]
fn child() {
    let Some(dir) = std::env::var_os("CAPAS_LAZY_IN") else {
        return;
    };
    let dir = Path::new(&dir);
    let rig = rig(dir);
    fail::arm_from_env();
    let id = open(&rig, "/d/big");
    rig.with(|u| change(u, id));
    if let Some(told) = std::env::var_os("CAPAS_LAZY_TOLD") {
        rig.with(|u| u.fsync(id, false)).unwrap();
        fs::write(told, "").unwrap();
    }
    rig.with(Union::settle);
    fail::disarm();
    // As after SIGKILL: nothing is tidied.
    std::process::exit(0);
}

/// True if it died.
fn die_at(dir: &Path, call: u64, told: Option<&Path>) -> bool {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", "child", "--nocapture"]);
    command.env("CAPAS_LAZY_IN", dir);
    command.env("CAPAS_FAIL", format!("{call}:kill"));
    command.envs(told.map(|told| ("CAPAS_LAZY_TOLD", told)));
    let out = command.output().unwrap();
    assert!(
        out.status.success() || out.status.code().is_none(),
        "{}",
        String::from_utf8_lossy(&out.stderr)
    );
    !out.status.success()
}

/// Old (false) or new (true), in the union and in the upper itself.
fn state(dir: &Path, when: &str) -> bool {
    let rig = rig(dir);
    let id = rig.id("/d/big").unwrap();
    let got = rig.with(|u| content(u, id));
    let new = got.len() != SIZE;
    let stat = rig.with(|u| u.getattr(id)).unwrap().stat;
    assert_eq!((stat.mode & 0o7777, stat.uid), (0o640, 7), "{when}");
    assert_eq!(stat.mtime.sec > 4, new, "{when}");
    let upper = fs::read(dir.join("upper/d/big"));
    if new {
        assert!(upper.unwrap() == got, "{when}");
        let id = open(&rig, "/d/big");
        rig.with(|u| assert!(change(u, id) == got, "{when}: a mix"));
    } else {
        assert!(upper.is_err(), "{when}");
        assert!(got == pattern(4, 0, SIZE), "{when}: a mix");
        // The same again works.
        let id = open(&rig, "/d/big");
        let want = rig.with(|u| change(u, id));
        rig.with(Union::settle);
        assert!(fs::read(dir.join("upper/d/big")).unwrap() == want);
    }
    assert!(rig.leftovers().is_empty(), "{when}");
    assert!(rig.lowers_changed().is_none(), "{when}");
    new
}

#[test]
fn death_at_any_call_leaves_old_or_new_content() {
    if !direct::able() {
        return;
    }
    let (mut died, mut new) = (0, 0);
    for n in 0..points() {
        let dir = tempfile::tempdir().unwrap();
        Rig::build(dir.path(), &[LOWER.into()], Some(""));
        let told = dir.path().join("told");
        let syncs = n % 2 == 1;
        let call = 1 + n * CALLS / points();
        died += u64::from(die_at(dir.path(), call, syncs.then_some(&told)));
        let is_new = state(dir.path(), &format!("killed at call {call}"));
        assert!(is_new || !told.exists(), "call {call}: fsync was answered");
        new += u64::from(is_new);
    }
    eprintln!("{} states: {died} died, {new} new", points());
    assert!(died > points() / 2 && new > 0 && new < points());
}

/// An ext4 in a file, of which nothing more reaches the disk after a cut.
#[test]
fn power_cuts_leave_old_or_new_content() {
    if !common::able_to_mount() {
        return;
    }
    let run = |program: &str, args: &[&Path]| {
        let out = Command::new(program).args(args).output().unwrap();
        assert!(out.status.success(), "{program} {args:?}: {out:?}");
    };
    let dir = tempfile::tempdir().unwrap();
    let (image, disk) = (dir.path().join("image"), dir.path().join("disk"));
    fs::File::create(&image)
        .unwrap()
        .set_len(200 << 20)
        .unwrap();
    fs::create_dir(&disk).unwrap();
    run("mkfs.ext4", &[Path::new("-qF"), &image]);
    let mount = || run("mount", &[Path::new("-oloop"), &image, &disk]);
    // A process that is just being made by another test may have it open. A mount
    // before it is gone would be the same file system, still shut down.
    let umount = || {
        let end = Instant::now() + Duration::from_secs(120);
        while !Command::new("umount")
            .arg(&disk)
            .status()
            .unwrap()
            .success()
        {
            assert!(Instant::now() < end, "it stays in use");
            std::thread::sleep(Duration::from_millis(20));
        }
        while !common::sys::loop_devices_of(&image).is_empty() {
            assert!(Instant::now() < end, "it stays mounted somewhere");
            std::thread::sleep(Duration::from_millis(20));
        }
    };
    mount();
    let mut random = 5;
    let mut new = 0;
    for n in 0..points() {
        let top = disk.join(n.to_string());
        fs::create_dir(&top).unwrap();
        Rig::build(&top, &[LOWER.into()], Some(""));
        run("sync", &[Path::new("-f"), &disk]);
        let told = dir.path().join(format!("told{n}"));
        let syncs = n % 2 == 1;
        let call = 1 + splitmix(&mut random) % (CALLS + 10);
        die_at(&top, call, syncs.then_some(&told));
        // Of what nobody syncs nothing is left after a cut.
        let control = disk.join(format!("control{n}"));
        fs::write(&control, "x".repeat(10_000)).unwrap();
        let log = [common::sys::NO_LOG_FLUSH, common::sys::LOG_FLUSH];
        let log = log[(splitmix(&mut random) % 2) as usize];
        common::sys::shut_down(fs::File::open(&disk).unwrap(), log).unwrap();
        umount();
        mount();
        let control = fs::metadata(&control).map_or(0, |m| m.blocks());
        assert_eq!(control, 0, "the cut was none");
        let when = format!("cut at call {call}, flags {log}");
        let is_new = state(&top, &when);
        assert!(is_new || !told.exists(), "{when}: fsync was answered");
        new += u64::from(is_new);
        fs::remove_dir_all(&top).unwrap();
    }
    umount();
    eprintln!("{} states: {new} new", points());
    assert!(new > 0 && new < points());
}

/// But for what needs a file system of its own.
#[test]
fn everything_in_a_user_namespace() {
    if !common::able_to_mount() {
        return;
    }
    let but = ["--skip", "in_a_user_namespace", "--skip", "power_cuts"];
    let said = common::namespace::succeeds(&but, &[]);
    assert!(said.contains("7 passed"), "{said}");
}
