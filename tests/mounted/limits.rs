//! Few descriptors, many layers, handles, statfs.

use super::{Target, mounted, names, sh};
use crate::common::fixture::Fixture;
use crate::common::sys::{handle_of, open_handle};
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::time::{Duration, Instant};

#[test]
fn handles_open_again_after_caches_are_dropped() {
    let spec = "/d/f file data=\"text\"\n/d/g file data=\"gone\"";
    let not = "EOPNOTSUPP without nfs_export";
    let Some((_fx, mut m)) = mounted(
        &[spec],
        &[
            (Target::Overlay, not),
            (Target::OverlayBare, not),
            (Target::FuseOverlayfs, "ESTALE"),
        ],
    ) else {
        return;
    };
    fs::write(m.at("d/up"), "upper").unwrap();
    fs::write(m.at("d/moved"), "moved").unwrap();
    let root = fs::File::open(m.path()).unwrap();
    let h: Vec<_> = ["d/f", "d/up", "d"]
        .iter()
        .map(|n| handle_of(&m.at(n)).unwrap())
        .collect();
    let gone = handle_of(&m.at("d/g")).unwrap();
    fs::remove_file(m.at("d/g")).unwrap();
    fs::write(m.at("d/f"), "TEXT").unwrap();
    fs::write("/proc/sys/vm/drop_caches", "2").unwrap();
    for (h, want) in h.iter().zip(["TEXT", "upper"]) {
        let fd = open_handle(&root, h, libc::O_RDONLY).unwrap();
        let mut buf = [0; 16];
        let n = rustix::io::pread(&fd, &mut buf, 0).unwrap();
        assert_eq!(&buf[..n], want.as_bytes());
    }
    open_handle(&root, &h[2], libc::O_RDONLY | libc::O_DIRECTORY).unwrap();
    assert!(open_handle(&root, &gone, libc::O_RDONLY).is_err());
    // Of files under another name since, in another directory, and after a remount.
    let moved = handle_of(&m.at("d/moved")).unwrap();
    fs::create_dir(m.at("e")).unwrap();
    fs::rename(m.at("d/moved"), m.at("e/here")).unwrap();
    fs::rename(m.at("d/f"), m.at("e/f")).unwrap();
    drop(root);
    for round in 0..2 {
        fs::write("/proc/sys/vm/drop_caches", "2").unwrap();
        let root = fs::File::open(m.path()).unwrap();
        for (h, want) in [(&h[0], "TEXT"), (&h[1], "upper"), (&moved, "moved")] {
            let fd = open_handle(&root, h, libc::O_RDONLY);
            let fd = fd.unwrap_or_else(|e| panic!("{want}, round {round}: {e}"));
            let mut buf = [0; 16];
            let n = rustix::io::pread(&fd, &mut buf, 0).unwrap();
            assert_eq!(&buf[..n], want.as_bytes(), "round {round}");
        }
        assert!(open_handle(&root, &gone, libc::O_RDONLY).is_err());
        drop(root);
        m.remount();
    }
}

#[test]
fn statfs_is_that_of_the_upper() {
    let Some((fx, m)) = mounted(&["/f file"], &[]) else {
        return;
    };
    let (a, b) = (
        rustix::fs::statvfs(m.path()).unwrap(),
        rustix::fs::statvfs(fx.upper()).unwrap(),
    );
    assert_eq!(a.f_blocks * a.f_frsize, b.f_blocks * b.f_frsize);
    assert_eq!(a.f_files, b.f_files);
    assert_eq!(a.f_namemax, 255);
    assert!(a.f_bavail * a.f_frsize <= b.f_blocks * b.f_frsize);
}

#[test]
fn a_thousand_layers() {
    if !crate::common::able_to_mount() {
        return;
    }
    let target = Target::from_env();
    if matches!(target, Target::Overlay | Target::OverlayBare) {
        eprintln!("not on {target:?}: mount(8) would exceed one page of options");
        return;
    }
    let mut fx = Fixture::new().lower("/bottom file data=\"b\"\n/d/0 file\n/x file");
    for n in 1..1000 {
        // A directory of fifty layers is enough to be removed name by name.
        let d = if n % 20 == 0 {
            format!("/d/{n} file data=\"{n}\"\n")
        } else {
            String::new()
        };
        fx = fx.lower(&format!("{d}/over file data=\"{n}\""));
    }
    let mut m = fx.mount(target, "");
    for _ in 0..2 {
        assert_eq!(names(&m.at("d")).len(), 50);
        assert_eq!(fs::read_to_string(m.at("over")).unwrap(), "999");
        assert_eq!(fs::read_to_string(m.at("bottom")).unwrap(), "b");
        m.remount();
    }
    fs::remove_dir_all(m.at("d")).unwrap();
    fs::remove_file(m.at("over")).unwrap();
    m.remount();
    assert_eq!(names(m.path()), ["bottom", "x"]);
}

#[test]
fn a_daemon_with_256_descriptors_serves_a_large_tree() {
    let spec: String = (0..3000)
        .map(|n| format!("/d{}/f{n} file 0644 data=\"{n}\"\n", n % 300))
        .collect();
    if !crate::common::able_to_mount() {
        return;
    }
    let target = Target::from_env();
    if !target.is_fuse() {
        return;
    }
    let fx = Fixture::new().lower(&spec).descriptors(256);
    let mut m = fx.mount(target, "");
    let look = |m: &super::Mounted| {
        sh(
            m,
            "find \"$1\" | wc -l; find \"$1\" -type f -exec cat {} + | wc -c",
        )
        .unwrap()
    };
    let first = look(&m);
    assert!(first.starts_with("3301\n"), "{first}");
    // Forty files held open, then changes all over the tree.
    let held: Vec<_> = (0..40)
        .map(|n| fs::File::open(m.at(&format!("d{n}/f{n}"))).unwrap())
        .collect();
    for n in 0..300 {
        fs::write(m.at(&format!("d{n}/f{n}")), "changed").unwrap();
        fs::create_dir(m.at(&format!("d{n}/new"))).unwrap();
    }
    assert!(held.iter().all(|f| f.metadata().is_ok()));
    drop(held);
    m.remount();
    assert!(look(&m).starts_with("3601\n"));
    sh(&m, "rm -rf \"$1\"/d*").unwrap();
    assert!(names(m.path()).is_empty());
}

#[test]
fn mounts_without_an_upper_are_read_only() {
    if !crate::common::able_to_mount() {
        return;
    }
    let target = Target::from_env();
    let fx = Fixture::new()
        .lower("/f file data=\"low\"\n/d/x file")
        .lower("/d/y file\n/f file data=\"high\"");
    let m = fx.mount_read_only(target);
    assert_eq!(fs::read_to_string(m.at("f")).unwrap(), "high");
    assert_eq!(names(&m.at("d")), ["x", "y"]);
    for r in [
        fs::write(m.at("f"), "x"),
        fs::write(m.at("new"), "x"),
        fs::create_dir(m.at("new")),
        fs::remove_file(m.at("f")),
        fs::rename(m.at("f"), m.at("g")),
        std::os::unix::fs::chown(m.at("f"), Some(1), None),
    ] {
        assert_eq!(r.unwrap_err().raw_os_error(), Some(libc::EROFS));
    }
}

#[test]
fn layers_on_two_filesystems_do_not_share_inode_numbers() {
    if !crate::common::able_to_mount() {
        return;
    }
    let spec: String = (0..50)
        .map(|n| format!("/low{n} file data=\"{n}\"\n"))
        .collect();
    let fx = Fixture::new().lower(&spec).small_upper("16m");
    let mut m = fx.mount(Target::from_env(), "");
    for n in 0..50 {
        fs::write(m.at(&format!("up{n}")), "x").unwrap();
    }
    let numbers = |m: &super::Mounted| -> Vec<(u64, u64)> {
        names(m.path())
            .iter()
            .map(|n| fs::metadata(m.at(n)).unwrap())
            .map(|st| (st.dev(), st.ino()))
            .collect()
    };
    let first = numbers(&m);
    let distinct: std::collections::HashSet<_> = first.iter().collect();
    assert_eq!(distinct.len(), 100);
    for n in 0..50 {
        fs::OpenOptions::new()
            .append(true)
            .open(m.at(&format!("low{n}")))
            .unwrap();
    }
    if m.target() != Target::OverlayBare {
        assert_eq!(numbers(&m), first, "over copy-up");
        m.remount();
        let ino = |v: Vec<(u64, u64)>| -> Vec<u64> { v.into_iter().map(|(_, i)| i).collect() };
        assert_eq!(ino(numbers(&m)), ino(first), "over remount");
    }
}

/// What the kernel knows of files costs the daemon little memory, which the system
/// gets back when the kernel forgets them.
#[test]
fn memory_is_bounded_by_what_the_kernel_knows() {
    const FILES: usize = 30_000;
    /// What requests leave however many files there were, with an OPENDIR for each
    /// directory the most, in KiB.
    const LEFT: u64 = 2000;
    if !crate::common::able_to_mount() || Target::from_env() != Target::Capasfs {
        return;
    }
    let mut fx = Fixture::new();
    let low = fx.add_lower();
    for dir in 0..100 {
        let dir = low.join(format!("d{dir}"));
        fs::create_dir(&dir).unwrap();
        for n in 0..FILES / 100 {
            fs::File::create(dir.join(format!("f{n}"))).unwrap();
        }
    }
    let m = fx.mount(Target::Capasfs, "");
    // Its own memory, in KiB: what it has mapped of its program is not counted.
    let own = || m.daemon_status("RssAnon:");
    let before = own();
    let mut seen = Vec::new();
    for _ in 0..3 {
        let mut count = 0;
        for dir in fs::read_dir(m.path()).unwrap() {
            for file in fs::read_dir(dir.unwrap().path()).unwrap() {
                count += usize::from(file.unwrap().metadata().unwrap().is_file());
            }
            m.touch();
        }
        assert_eq!(count, FILES);
        let full = own();
        fs::write("/proc/sys/vm/drop_caches", "2").unwrap();
        // FORGET is not waited for.
        let end = Instant::now() + Duration::from_secs(20);
        while own() > before + LEFT && Instant::now() < end {
            std::thread::sleep(Duration::from_millis(20));
        }
        seen.push((full, own()));
    }
    eprintln!("{before} KiB, then {seen:?}");
    for (full, empty) in seen {
        // 150 bytes a file, and what comes with the first requests.
        assert!(full < before + 4500 + LEFT, "{before} KiB, then {full}");
        assert!(empty < before + LEFT, "{before} KiB, then {empty} left");
    }
}
