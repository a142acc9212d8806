//! What a copy-up costs and keeps.

use super::{Mounted, Target, ino, kib, mounted};
use crate::common::{pattern, sys::xattr};
use std::fs;
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt, symlink};

const BARE: (Target, &str) = (Target::OverlayBare, "no metacopy");
const PEERS: (Target, &str) = (
    Target::FuseOverlayfs,
    "copies all data, holes filled (peers.md 1b)",
);

#[test]
fn a_chmod_of_a_large_file_copies_no_data() {
    let spec = "/big file 0644 size=67108864 data=@3";
    let Some((fx, mut m)) = mounted(&[spec], &[BARE, PEERS]) else {
        return;
    };
    let before = kib(&fx.upper());
    fs::set_permissions(m.at("big"), fs::Permissions::from_mode(0o600)).unwrap();
    std::os::unix::fs::chown(m.at("big"), Some(7), Some(7)).unwrap();
    m.remount();
    assert!(kib(&fx.upper()) - before < 64);
    let st = fs::metadata(m.at("big")).unwrap();
    assert_eq!(
        (st.mode() & 0o7777, st.uid(), st.len()),
        (0o600, 7, 67_108_864)
    );
    let f = fs::File::open(m.at("big")).unwrap();
    let mut buf = [0; 6];
    f.read_exact_at(&mut buf, 33_554_432).unwrap();
    assert_eq!(buf.as_slice(), pattern(3, 33_554_432, 6));
}

#[test]
fn metadata_only_copies_hold_their_data_through_write_and_remount() {
    let Some((fx, mut m)) = mounted(&["/f file 0644 size=3000000 data=@9"], &[BARE, PEERS]) else {
        return;
    };
    let number = ino(&m.at("f"));
    fs::set_permissions(m.at("f"), fs::Permissions::from_mode(0o600)).unwrap();
    fs::rename(m.at("f"), m.at("g")).unwrap();
    fs::create_dir(m.at("d")).unwrap();
    fs::rename(m.at("g"), m.at("d/h")).unwrap();
    m.remount();
    assert!(kib(&fx.upper()) < 100, "{} KiB", kib(&fx.upper()));
    assert!(fs::read(m.at("d/h")).unwrap() == pattern(9, 0, 3_000_000));
    let f = fs::OpenOptions::new()
        .write(true)
        .open(m.at("d/h"))
        .unwrap();
    f.write_all_at(b"here", 2_000_000).unwrap();
    drop(f);
    let mut want = pattern(9, 0, 3_000_000);
    want[2_000_000..2_000_004].copy_from_slice(b"here");
    for _ in 0..2 {
        assert!(fs::read(m.at("d/h")).unwrap() == want);
        assert_eq!(ino(&m.at("d/h")), number);
        assert_eq!(super::mode(&m.at("d/h")), 0o600);
        m.remount();
    }
}

/// Who only opens one for writing has changed nothing of it.
#[test]
fn a_metacopy_keeps_what_it_has_when_its_data_comes() {
    let spec = "/s file 4755 1:2 size=5000000 data=@1 mtime=8.5\n\
        /c file 0644 size=5000000 data=@2 mtime=9.5 cap=0x0100000200040000000000000000000000000000";
    let Some((_fx, mut m)) = mounted(&[spec], &[BARE, PEERS]) else {
        return;
    };
    let capability = |m: &Mounted| {
        xattr(&m.at("c"), b"security.capability")
            .map(|v| v.len())
            .ok()
    };
    let before = capability(&m);
    for name in ["s", "c"] {
        let path = m.at(name);
        let mode = super::mode(&path) & 0o7700;
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        let old = fs::metadata(&path).unwrap();
        drop(fs::OpenOptions::new().write(true).open(&path).unwrap());
        for _ in 0..2 {
            let new = fs::metadata(m.at(name)).unwrap();
            assert_eq!(new.mode(), old.mode(), "{name}");
            assert_eq!(new.modified().unwrap(), old.modified().unwrap(), "{name}");
            let seed = if name == "s" { 1 } else { 2 };
            assert!(fs::read(m.at(name)).unwrap() == pattern(seed, 0, 5_000_000));
            assert_eq!(capability(&m), before);
            m.remount();
        }
    }
}

/// They are not undone when the copy sets back what it has changed, nor are the
/// copy's own times seen.
#[test]
fn attributes_change_while_a_metacopy_gets_its_data() {
    let spec = "/f file 0644 size=200000000 data=@3 mtime=8.5";
    let Some((_fx, mut m)) = mounted(&[spec], &[BARE, PEERS]) else {
        return;
    };
    let path = m.at("f");
    let old = fs::metadata(&path).unwrap().modified().unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
    let when = std::time::SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(1_000_000);
    std::thread::scope(|s| {
        let open = s.spawn(|| fs::OpenOptions::new().write(true).open(&path).unwrap());
        let mut seen = Vec::new();
        while !open.is_finished() && seen.len() < 3 {
            std::thread::sleep(std::time::Duration::from_millis(20));
            seen.push(fs::metadata(&path).unwrap().modified().unwrap());
        }
        assert!(seen.iter().all(|t| *t == old), "{seen:?}");
        fs::File::open(&path).unwrap().set_modified(when).unwrap();
        open.join().unwrap();
    });
    for _ in 0..2 {
        assert_eq!(fs::metadata(&path).unwrap().modified().unwrap(), when);
        m.remount();
    }
}

#[test]
fn holes_stay_holes() {
    let spec = "/sparse file size=1073741824 at=4096:\"a\" at=1073000000:\"z\"\n\
                /half file size=10485760 at=0:\"x\"";
    let Some((fx, mut m)) = mounted(&[spec], &[PEERS]) else {
        return;
    };
    for name in ["sparse", "half"] {
        let f = fs::OpenOptions::new()
            .append(true)
            .open(m.at(name))
            .unwrap();
        std::io::Write::write_all(&mut &f, b"!").unwrap();
    }
    m.remount();
    // Kernel overlayfs copies holes within 1 MiB of data.
    let kernel = matches!(m.target(), Target::Overlay | Target::OverlayBare);
    let most = if kernel { 5000 } else { 200 };
    assert!(kib(&fx.upper()) < most, "{} KiB", kib(&fx.upper()));
    let f = fs::File::open(m.at("sparse")).unwrap();
    assert_eq!(f.metadata().unwrap().len(), 1_073_741_825);
    let mut b = [0];
    for (at, want) in [
        (4096, b'a'),
        (1_073_000_000, b'z'),
        (1_073_741_824, b'!'),
        (500_000_000, 0),
    ] {
        f.read_exact_at(&mut b, at).unwrap();
        assert_eq!(b[0], want, "at {at}");
    }
}

#[test]
fn inode_numbers_stay_over_every_change() {
    let spec =
        "/d/f file data=\"x\"\n/d/s symlink -> f\n/d/p fifo\n/d/c char dev=1:3\n/d/sub dir\n/o dir";
    let Some((_fx, mut m)) = mounted(&[spec], &[(Target::OverlayBare, "EXDEV for directories")])
    else {
        return;
    };
    let all = ["f", "s", "p", "c", "sub"];
    let numbers: Vec<u64> = all.iter().map(|n| ino(&m.at(&format!("d/{n}")))).collect();
    let dir = ino(&m.at("d"));
    fs::write(m.at("d/f"), "y").unwrap();
    for n in all {
        std::os::unix::fs::lchown(m.at(&format!("d/{n}")), Some(3), None).unwrap();
    }
    fs::rename(m.at("d"), m.at("o/e")).unwrap();
    for round in 0..2 {
        let listed = crate::common::sys::list(&m.at("o/e")).unwrap();
        for (n, number) in all.iter().zip(&numbers) {
            assert_eq!(
                ino(&m.at(&format!("o/e/{n}"))),
                *number,
                "{n} round {round}"
            );
            let e = listed.iter().find(|e| e.name.to_str() == Some(n)).unwrap();
            assert_eq!(e.ino, *number, "d_ino of {n} round {round}");
        }
        assert_eq!(ino(&m.at("o/e")), dir);
        m.remount();
    }
}

#[test]
fn a_large_file_open_for_reading_is_not_written_below() {
    // In any order and any number of times; the fixture compares the lower layer.
    let Some((_fx, m)) = mounted(&["/f file 0644 size=1000000 data=@5\n/g link /f"], &[]) else {
        return;
    };
    let path = m.at("f");
    let read = |f: &fs::File| {
        let mut b = vec![0; 1000];
        f.read_exact_at(&mut b, 500_000).unwrap();
        b
    };
    let old: Vec<fs::File> = (0..3).map(|_| fs::File::open(&path).unwrap()).collect();
    let map = crate::common::sys::Mapping::new(&old[0], 1_000_000, false).unwrap();
    assert_eq!(map.read(0, 10).unwrap(), pattern(5, 0, 10));
    for round in 0..5u8 {
        let name = if round % 2 == 0 { "f" } else { "g" };
        let w = fs::OpenOptions::new()
            .read(true)
            .write(true)
            .open(m.at(name))
            .unwrap();
        w.write_all_at(&[round; 1000], 500_000).unwrap();
        assert_eq!(read(&w), [round; 1000], "the writer sees its own");
        let again = fs::File::open(m.at(name)).unwrap();
        assert_eq!(
            read(&again),
            [round; 1000],
            "a new reader sees it, round {round}"
        );
        for f in &old {
            let got = read(f);
            let lower = pattern(5, 500_000, 1000);
            let known = (0..=round).any(|r| got == [r; 1000]);
            assert!(
                got == lower || known,
                "an old reader sees the old or the new"
            );
        }
    }
    drop(map);
    drop(old);
    assert_eq!(read(&fs::File::open(m.at("f")).unwrap())[0], 4);
}

#[test]
fn small_files_are_coherent_for_every_descriptor_and_mapping() {
    let Some((_fx, m)) = mounted(&["/f file 0644 size=20000 data=@5"], &[]) else {
        return;
    };
    let old = fs::File::open(m.at("f")).unwrap();
    let map = crate::common::sys::Mapping::new(&old, 20_000, false).unwrap();
    assert_eq!(map.read(9000, 5).unwrap(), pattern(5, 9000, 5));
    let w = fs::OpenOptions::new()
        .read(true)
        .write(true)
        .open(m.at("f"))
        .unwrap();
    w.write_all_at(b"fresh", 9000).unwrap();
    let mut b = [0; 5];
    old.read_exact_at(&mut b, 9000).unwrap();
    assert_eq!(&b, b"fresh", "an old descriptor");
    if m.target() == Target::Overlay || m.target() == Target::OverlayBare {
        eprintln!("old mappings are not coherent on kernel overlayfs (its documentation says so)");
    } else {
        assert_eq!(map.read(9000, 5).unwrap(), b"fresh", "an old mapping");
    }
    let shared = crate::common::sys::Mapping::new(&w, 20_000, true).unwrap();
    shared.write(100, b"mapped").unwrap();
    let mut b = [0; 6];
    fs::File::open(m.at("f"))
        .unwrap()
        .read_exact_at(&mut b, 100)
        .unwrap();
    assert_eq!(&b, b"mapped", "a store through a mapping");
    w.write_all_at(b"after", 100).unwrap();
    assert_eq!(
        shared.read(100, 6).unwrap(),
        b"afterd",
        "a write shows in the mapping"
    );
}

#[test]
fn symlinks_devices_and_fifos_are_copied_up_as_they_are() {
    let spec = "/s symlink -> a/b/c 1:2 mtime=5.5\n/p fifo 0640 3:4 mtime=6.5\n\
                /c char 0620 5:6 dev=1:3 mtime=7.5\n/b block 0600 dev=240:9 mtime=8.5\n/k sock 0700 mtime=9.5";
    let Some((_fx, mut m)) = mounted(&[spec], &[]) else {
        return;
    };
    for n in ["s", "p", "c", "b", "k"] {
        fs::hard_link(m.at(n), m.at(&format!("{n}2"))).unwrap();
    }
    m.remount();
    let options = crate::common::tree::DumpOptions {
        mtime: crate::common::tree::Mtime::Exact,
        hide_names: vec!["s2", "p2", "c2", "b2", "k2"],
        ..Default::default()
    };
    let dump = crate::common::tree::dump(m.path(), &options).text();
    for want in [
        "/s symlink 0777 1:2 nlink=2 -> a/b/c mtime=5.500000000",
        "/p fifo 0640 3:4 nlink=2 mtime=6.500000000",
        "/c char 0620 5:6 nlink=2 dev=1:3 mtime=7.500000000",
        "/b block 0600 0:0 nlink=2 dev=240:9 mtime=8.500000000",
        "/k sock 0700 0:0 nlink=2 mtime=9.500000000",
    ] {
        assert!(dump.contains(want), "{want}\nnot in\n{dump}");
    }
    symlink("over", m.at("new")).unwrap();
    assert_eq!(fs::read_link(m.at("new")).unwrap().to_str(), Some("over"));
}

/// The name goes while its file is copied: who opened it has a file without a
/// name, or came too late.
#[test]
fn a_file_is_unlinked_while_it_is_copied_up() {
    let spec: String = (0..12)
        .map(|n| format!("/f{n} file size=6000000 data=@{n}\n/g{n} file size=100000 data=@{n}\n"))
        .collect();
    let Some((fx, mut m)) = mounted(&[&spec], &[]) else {
        return;
    };
    for n in 0..12 {
        for (name, size) in [(format!("f{n}"), 6_000_000), (format!("g{n}"), 100_000)] {
            let path = m.at(&name);
            let opened = std::thread::scope(|s| {
                let open = s.spawn(|| fs::OpenOptions::new().read(true).append(true).open(&path));
                std::thread::sleep(std::time::Duration::from_millis(n));
                fs::remove_file(&path).unwrap();
                open.join().unwrap()
            });
            match opened {
                Ok(f) => {
                    std::io::Write::write_all(&mut &f, b"tail").unwrap();
                    let mut got = vec![0; size + 4];
                    f.read_exact_at(&mut got, 0).unwrap();
                    assert!(
                        got[..size] == pattern(n, 0, size) && got.ends_with(b"tail"),
                        "{name}"
                    );
                    assert_eq!(f.metadata().unwrap().nlink(), 0, "{name}");
                }
                Err(e) => assert_eq!(e.raw_os_error(), Some(libc::ENOENT), "{name}"),
            }
            assert!(!path.exists());
        }
    }
    m.remount();
    assert!(super::names(m.path()).is_empty());
    assert_eq!(super::names(&fx.upper()).len(), 24, "whiteouts");
    assert!(kib(&fx.upper()) < 200);
    assert!(super::names(&fx.work().join("work")).is_empty());
}

/// To the nanosecond, of the file, of those that only get new attributes, and
/// of the directories above.
#[test]
fn access_times_are_kept() {
    let not_on = [(Target::FuseOverlayfs, "keeps none of directories")];
    let spec = "/d/e/f file 0644 data=\"f\"\n/d/m file 0644 data=\"m\"\n/d/s/l symlink -> f\n\
                /d/big file size=300000 data=@1\n/d/h1 file data=\"h\"\n/d/h2 link /d/h1";
    let Some((_fx, mut m)) = mounted(&[spec], &not_on) else {
        return;
    };
    // What the fixture gives all that is in a lower layer.
    const OLD: (i64, i64) = (86_400, 7);
    let all = [
        "d", "d/e", "d/e/f", "d/m", "d/s", "d/s/l", "d/big", "d/h1", "d/h2",
    ];
    let atimes = |m: &super::Mounted, when: &str| {
        for name in all {
            let st = fs::symlink_metadata(m.at(name)).unwrap();
            assert_eq!((st.atime(), st.atime_nsec()), OLD, "{name} {when}");
        }
    };
    atimes(&m, "before");
    for name in ["d/e/f", "d/big", "d/h1"] {
        super::copied_up(&m.at(name));
    }
    fs::set_permissions(m.at("d/m"), fs::Permissions::from_mode(0o600)).unwrap();
    std::os::unix::fs::lchown(m.at("d/s/l"), Some(5), None).unwrap();
    atimes(&m, "after a copy-up");
    m.remount();
    atimes(&m, "after a remount");
    // The data of a metacopy comes later.
    super::copied_up(&m.at("d/m"));
    atimes(&m, "after the copy of its data");
}
