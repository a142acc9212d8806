//! What the union shows and writes, case by case, without a mount.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
#![allow(clippy::indexing_slicing, clippy::print_stderr, missing_docs)]

mod common;
mod direct;

use capas::sys::Errno;
use capas::union::options::Fsync;
use common::tree;
use direct::{Rig, cases, variant::Variant};

#[test]
fn every_case() {
    if !direct::able() {
        return;
    }
    let variant = Variant::default_one();
    let (mut wrong, mut run) = (Vec::new(), 0);
    for case in cases::all() {
        match case.run(&variant, &std::env::temp_dir()) {
            Ok(done) => run += usize::from(done),
            Err(e) => wrong.push(e),
        }
    }
    eprintln!("{run} cases right, {} wrong", wrong.len());
    assert!(run + wrong.len() > 50, "too few cases");
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}

struct Bed {
    _dir: tempfile::TempDir,
    rig: Rig,
}

fn bed(lower: &str, upper: &str) -> Bed {
    let dir = tempfile::tempdir().unwrap();
    Rig::build(dir.path(), &[lower.to_owned()], Some(upper));
    let mut variant = Variant::default_one();
    variant.options.fsync = Fsync::Auto;
    let rig = Rig::new(dir.path(), variant.options, variant.features);
    Bed { _dir: dir, rig }
}

/// A layer may come from anywhere. Its redirects are taken only as the kernel
/// takes them, so nothing beside it is ever seen.
#[test]
fn redirects_do_not_lead_out_of_their_layer() {
    if !direct::able() {
        return;
    }
    let top = r#"
/up dir trusted.overlay.redirect=".."
/over dir trusted.overlay.redirect="../lower1/x"
/through dir trusted.overlay.redirect="l/x"
/path dir trusted.overlay.redirect="/x/../x"
/slash dir trusted.overlay.redirect="/x//y"
/file file size=1 trusted.overlay.metacopy="" trusted.overlay.redirect="../lower1/f"
/x/inside dir trusted.overlay.redirect="../../x"
"#;
    let bottom = "/l symlink -> .\n/x/y/z file\n/f file data=\"1\"\n";
    let upper = r#"
/u dir trusted.overlay.redirect="../x"
/n dir trusted.overlay.redirect="/x/inside/deep"
/m file size=1 trusted.overlay.metacopy="" trusted.overlay.redirect="l/f"
"#;
    let dir = tempfile::tempdir().unwrap();
    Rig::build(
        dir.path(),
        &[top.to_owned(), bottom.to_owned()],
        Some(upper),
    );
    let variant = Variant::default_one();
    let rig = Rig::new(dir.path(), variant.options, variant.features);
    rig.open().unwrap();
    for path in [
        "/up",
        "/over",
        "/through",
        "/path",
        "/slash",
        "/file",
        "/x/inside",
        "/u",
        "/n",
        "/m",
    ] {
        assert_eq!(rig.id(path), Err(Errno::IO), "{path}");
    }
    assert!(rig.id("/x/y/z").is_ok());
}

/// What is listed from a position on, at most `most` names, and where to go on.
fn list(rig: &Rig, id: u64, mut from: u64, most: usize) -> (Vec<String>, u64) {
    let mut names = Vec::new();
    rig.with(|u| {
        u.readdir(id, from, |e| {
            if names.len() == most {
                return false;
            }
            from = e.next;
            names.push(e.name.to_string_lossy().into_owned());
            true
        })
    })
    .unwrap();
    (names, from)
}

/// A listing in small pieces while names come and go: what is there all the
/// time is seen exactly once.
#[test]
fn listing_under_changes() {
    if !direct::able() {
        return;
    }
    let lower: String = (0..200).map(|i| format!("/m/l{i} file\n")).collect();
    let upper: String = (0..200)
        .map(|i| format!("/m/u{i} file\n/p/u{i} file\n"))
        .collect();
    let Bed { _dir, rig } = bed(&lower, &upper);
    rig.open().unwrap();
    for dir in ["/m", "/p"] {
        let id = rig.id(dir).unwrap();
        let (mut seen, mut from, mut round) = (Vec::new(), 0, 0);
        loop {
            let (names, next) = list(&rig, id, from, 13);
            if names.is_empty() {
                break;
            }
            seen.extend(names);
            from = next;
            let stays = |i: usize| i.is_multiple_of(3);
            // Every third name stays; of the others some go in each round, seen
            // or not, and new ones come.
            for i in (0..200).filter(|i| !stays(*i) && i % 20 == round % 20) {
                for kind in ["l", "u"] {
                    let _ = rig.op(&format!("unlink {dir}/{kind}{i}"));
                }
            }
            if round < 30 {
                rig.op(&format!("create {dir}/new{round} 0644")).unwrap();
            }
            round += 1;
            assert!(round < 500, "the listing does not end");
        }
        let mut sorted = seen.clone();
        sorted.sort();
        sorted.dedup();
        assert_eq!(sorted.len(), seen.len(), "{dir}: a name was seen twice");
        for i in (0..200).step_by(3) {
            for kind in ["l", "u"] {
                let name = format!("{kind}{i}");
                let there = kind == "u" || dir == "/m";
                assert_eq!(seen.contains(&name), there, "{dir}/{name}");
            }
        }
        let (again, _) = list(&rig, id, 0, 10_000);
        for i in 0..round.min(30) {
            assert!(again.contains(&format!("new{i}")), "from the start: new{i}");
        }
    }
    assert_eq!(rig.lowers_changed(), None);
}

/// Whatever an earlier mount, or somebody else, left in the work directory.
#[test]
fn leftovers_of_any_name_do_no_harm() {
    if !direct::able() {
        return;
    }
    let Bed { _dir, rig } = bed("/f file data=\"f\"\n/d/g file\n", "");
    tree::build(
        &rig.dir.join("work/work"),
        r#"
        / dir
        /#1 file
        /#probe-a dir
        /#probe-a/in file
        /#probe-b whiteout
        /index dir
        /a/b/c/d file
        /\xff dir
        /\xff/locked dir 0000
        /\xff/locked/x file
        /incompat dir
        /work symlink -> /
        /p fifo
        "#,
    );
    rig.open().unwrap();
    assert_eq!(rig.leftovers(), Vec::<String>::new());
    for op in ["chmod /f 0600", "unlink /d/g", "rmdir /d", "mkdir /d 0700"] {
        rig.op(op).unwrap();
    }
    rig.close();
    assert_eq!(rig.leftovers(), Vec::<String>::new());
    assert_eq!(rig.lowers_changed(), None);
}

/// Descriptors and nodes: nothing is kept of what was used.
#[test]
fn descriptors_are_given_back() {
    if !direct::able() {
        return;
    }
    let lower: String = (0..50).map(|i| format!("/d{i}/s/f file\n")).collect();
    let Bed { _dir, rig } = bed(&lower, "");
    let open = || {
        let fds = std::fs::read_dir("/proc/self/fd").unwrap();
        fds.filter_map(|e| std::fs::read_link(e.unwrap().path()).ok())
            .filter(|p| p.starts_with(&rig.dir))
            .count()
    };
    rig.open().unwrap();
    for i in 0..50 {
        rig.op(&format!("touch /d{i}/s/f")).unwrap();
        rig.op(&format!("open L{i} /d{i}/s/f w")).unwrap();
        rig.op(&format!("unlink /d{i}/s/f")).unwrap();
    }
    for i in 0..50 {
        rig.op(&format!("pwrite L{i} 0 \"x\"")).unwrap();
        rig.op(&format!("release L{i}")).unwrap();
    }
    rig.forget();
    assert_eq!(
        rig.with(capas::union::Union::nodes),
        1,
        "nodes but the root"
    );
    rig.close();
    assert_eq!(open(), 0);
}

/// Kernel overlayfs with `nfs_export=on` marks in the index what is gone.
#[test]
fn a_whiteout_in_the_index_is_no_file() {
    if !direct::able() {
        return;
    }
    let Bed { _dir, rig } = bed("/a file data=\"low\"\n/b link /a\n", "");
    rig.open().unwrap();
    rig.op("chmod /a 0600").unwrap();
    rig.op("unlink /a").unwrap();
    let entries = rig.index();
    assert_eq!(entries.len(), 1);
    rig.close();
    let entry = rig.dir.join("work/index").join(&entries[0]);
    std::fs::remove_file(&entry).unwrap();
    let device = std::process::Command::new("mknod")
        .arg(&entry)
        .args(["c", "0", "0"])
        .status();
    assert!(device.unwrap().success());
    rig.open().unwrap();
    let view = tree::escape(format!("{:?}", rig.view().lines).as_bytes());
    assert!(view.contains("low") && view.contains("file"), "{view}");
    rig.op("write /b 0 \"new\"").unwrap();
    assert_eq!(rig.index(), entries);
    rig.remount();
    rig.op("open L /b").unwrap();
    rig.op("read L 0 \"new\"").unwrap();
}

/// A large lower file is hidden, not copied.
#[test]
fn unlink_copies_nothing() {
    if !direct::able() {
        return;
    }
    let Bed { _dir, rig } = bed("/big file size=314572800 at=1000:\"x\"\n", "");
    rig.open().unwrap();
    rig.op("unlink /big").unwrap();
    let upper = std::fs::read_dir(rig.dir.join("upper")).unwrap();
    let blocks: u64 = upper
        .map(|e| std::os::unix::fs::MetadataExt::blocks(&e.unwrap().metadata().unwrap()))
        .sum();
    assert_eq!(blocks, 0);
}

/// Whiteouts are names of one inode, as in kernel overlayfs, and go on being
/// made when all of those are gone.
#[test]
fn whiteouts_share_an_inode() {
    use std::os::unix::fs::MetadataExt;
    if !direct::able() {
        return;
    }
    let Bed { _dir, rig } = bed("/a file\n/b file\n/c file\n/d/e file\n", "");
    rig.open().unwrap();
    let inode = |name: &str| {
        let meta = std::fs::symlink_metadata(rig.dir.join("upper").join(name)).unwrap();
        assert_eq!(
            (meta.mode() & libc::S_IFMT, meta.rdev()),
            (libc::S_IFCHR, 0)
        );
        (meta.ino(), meta.nlink())
    };
    // Made in place, put in the place of a file and of a directory.
    for op in ["unlink /a", "chmod /b 0600", "unlink /b", "unlink /d/e"] {
        rig.op(op).unwrap();
    }
    assert_eq!(inode("a"), (inode("b").0, 3));
    assert_eq!(inode("a"), inode("d/e"));
    rig.op("rmdir /d").unwrap();
    assert_eq!(inode("d"), inode("a"));
    for op in [
        "mkdir /a 0700",
        "create /b 0600",
        "mkdir /d 0700",
        "unlink /c",
        "create /c 0600",
        "unlink /b",
        "rmdir /a",
    ] {
        rig.op(op).unwrap();
    }
    assert_eq!(inode("a"), (inode("b").0, 2));
    rig.close();
    assert_eq!(rig.leftovers(), Vec::<String>::new());
    assert_eq!(rig.lowers_changed(), None);
}

/// A new file is known to have no capability, until it gets one.
#[test]
fn a_capability_that_comes_is_seen() {
    if !direct::able() {
        return;
    }
    const CAPABILITY: &str = "security.capability";
    let value = b"\x01\0\0\x02\0\x04\0\0\0\0\0\0\0\0\0\0\0\0\0\0";
    let Bed { _dir, rig } = bed("", "");
    rig.open().unwrap();
    rig.op("create /f 0700").unwrap();
    let id = rig.id("/f").unwrap();
    let name = std::ffi::OsStr::new(CAPABILITY);
    let got = || rig.with(|u| u.getxattr(id, name));
    assert_eq!(got().unwrap_err(), Errno::NODATA);
    rig.with(|u| u.setxattr(id, name, value, 0, Rig::caller()))
        .unwrap();
    assert_eq!(got().unwrap(), value);
    rig.op("link /f /g").unwrap();
    rig.with(|u| u.removexattr(id, name)).unwrap();
    assert_eq!(got().unwrap_err(), Errno::NODATA);
}

/// In a directory of the upper alone the making says what is in the way.
#[test]
fn a_name_in_the_way_is_seen_by_the_making() {
    if !direct::able() {
        return;
    }
    let upper = "/d dir\n/d/w whiteout\n/d/f file\n";
    let Bed { _dir, rig } = bed("", upper);
    rig.open().unwrap();
    // It is known now that there are no `.wh.*` files.
    rig.op("create /d/new 0600").unwrap();
    for op in ["create /d/f 0600", "mkdir /d/new 0700"] {
        assert_eq!(rig.op(op).unwrap_err(), Errno::EXIST, "{op}");
    }
    rig.op("mkdir /d/w 0700").unwrap();
    assert!(rig.dir.join("upper/d/w").is_dir());
    rig.op("rmdir /d/w").unwrap();
    assert!(!rig.dir.join("upper/d/w").exists());
}

/// The kernel waits for no answer to a release, so it may be seen when the
/// number is another file's: it counts only for what was opened.
#[test]
fn a_late_release_is_not_another_files() {
    if !direct::able() {
        return;
    }
    let Bed { _dir, rig } = bed("", "");
    rig.open().unwrap();
    let caller = Rig::caller();
    let make = || {
        let name = std::ffi::OsStr::new("f");
        let flags = libc::O_RDWR | libc::O_EXCL;
        rig.with(|u| u.create(1, name, 0o600, 0, flags, caller))
            .unwrap()
    };
    let (first, opened) = make();
    rig.with(|u| u.release(first.id, opened.handle.wrapping_add(1), libc::O_RDWR));
    let opens = |id, handle| rig.with(|u| u.opens(id, handle));
    assert_eq!(opens(first.id, opened.handle), Some(1));
    rig.op("unlink /f").unwrap();
    rig.with(|u| u.forget(first.id, 1));
    // ext4 gives the same number again, other file systems need not.
    let (second, again) = make();
    assert_ne!(opened.handle, again.handle);
    assert_eq!(opens(second.id, opened.handle), None);
    let late = rig.with(|u| u.release(first.id, opened.handle, libc::O_RDWR));
    assert!(late.last, "nothing is left of the first");
    assert_eq!(opens(second.id, again.handle), Some(1));
    rig.with(|u| u.write(second.id, 0, b"second", true, caller))
        .unwrap();
}

/// A name went that was the only one of the file that is known: another one on
/// disk shows the same inode, and changes of it are made there.
#[test]
fn a_name_that_is_found_after_the_known_one_went() {
    if !direct::able() {
        return;
    }
    let Bed { _dir, rig } = bed("", "/a file 0644 data=\"text\"\n/b link /a");
    rig.open().unwrap();
    let a = rig.id("/a").unwrap();
    rig.op("unlink /a").unwrap();
    assert_eq!(rig.id("/b").unwrap(), a, "one file");
    rig.op("chmod /b 0600").unwrap();
    rig.op("truncate /b 1").unwrap();
    let b = std::fs::metadata(rig.dir.join("upper/b")).unwrap();
    use std::os::unix::fs::MetadataExt;
    assert_eq!((b.mode() & 0o7777, b.size()), (0o600, 1));
    let seen = rig.with(|u| u.getattr(a)).unwrap().stat;
    assert_eq!((seen.mode & 0o7777, seen.size, seen.nlink), (0o600, 1, 1));
}

/// A rename onto a directory that the file lies in is refused before any lock
/// is taken that a reader below holds.
#[test]
fn a_file_is_not_renamed_onto_a_directory() {
    if !direct::able() {
        return;
    }
    let Bed { _dir, rig } = bed("/d/e/f file\n/g file", "");
    rig.open().unwrap();
    for (from, to) in [("/d/e/f", "/d"), ("/g", "/d")] {
        let e = rig.op(&format!("rename {from} {to}")).unwrap_err();
        assert!(matches!(e, capas::sys::Errno::ISDIR), "{e:?}");
    }
}
