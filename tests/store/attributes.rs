//! What a layer holds, its marks too, is what its tree has.

use super::load::base;
use super::support::*;
use capas::store::save::Format;
use capas::sys::{At, xattr};
use std::fs;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::path::Path;

/// cap_net_raw=ep, as a file has it.
const CAPABILITY: &[u8] = b"\x01\0\0\x02\0\x20\0\0\0\0\0\0\0\0\0\0\0\0\0\0";

#[test]
fn attributes_are_kept_to_the_nanosecond_and_bit() {
    if !root() {
        return;
    }
    let b = Bench::new();
    let layer = Tar::new()
        .add(
            &Entry {
                mode: 0o750,
                uid: 7,
                gid: 8,
                mtime: 1,
                ..entry("./", b'5')
            },
            b"",
        )
        .pax(&[
            ("mtime", b"1234567890.123456789"),
            ("SCHILY.xattr.user.k", b"v\0\xff\n"),
            ("SCHILY.xattr.security.capability", CAPABILITY),
        ])
        .add(
            &Entry {
                mode: 0o4751,
                uid: 1000,
                gid: 1001,
                ..entry("suid", b'0')
            },
            b"data",
        )
        .pax(&[("mtime", b"-1.5")])
        .add(
            &Entry {
                mode: 0o2775,
                gid: 50,
                ..entry("sgid/", b'5')
            },
            b"",
        )
        .file("sgid/f", "x")
        .hardlink("sgid/g", "suid")
        .add(
            &Entry {
                link: b"../any\xff",
                uid: 5,
                gid: 6,
                ..entry("link", b'2')
            },
            b"",
        )
        .add(
            &Entry {
                kind: b'3',
                device: (1, 3),
                mode: 0o666,
                ..entry("null", b'3')
            },
            b"",
        )
        .add(
            &Entry {
                mode: 0o600,
                ..entry("pipe", b'6')
            },
            b"",
        )
        .add(&entry("name\u{fc}", b'0'), b"")
        .end();
    b.image(&[layer]).unwrap();
    let tree = b.tree(0);
    let stat = |n: &str| fs::symlink_metadata(tree.join(n)).unwrap();
    let root = stat("");
    assert_eq!(
        (root.mode() & 0o7777, root.uid(), root.gid(), root.mtime()),
        (0o750, 7, 8, 1)
    );
    let suid = stat("suid");
    assert_eq!(
        (suid.mode() & 0o7777, suid.uid(), suid.gid()),
        (0o4751, 1000, 1001)
    );
    assert_eq!(
        (suid.mtime(), suid.mtime_nsec(), suid.nlink()),
        (1_234_567_890, 123_456_789, 2)
    );
    assert_eq!(stat("sgid/g").ino(), suid.ino());
    let file = fs::File::open(tree.join("suid")).unwrap();
    let at = At::Fd(std::os::fd::AsFd::as_fd(&file));
    assert_eq!(xattr::get(at, c"user.k").unwrap().unwrap(), b"v\0\xff\n");
    let capability = xattr::get(at, c"security.capability").unwrap().unwrap();
    assert_eq!(capability, CAPABILITY);
    let sgid = stat("sgid");
    assert_eq!((sgid.mode() & 0o7777, sgid.gid()), (0o2775, 50));
    assert_eq!((sgid.mtime(), sgid.mtime_nsec()), (-2, 500_000_000));
    assert_eq!(stat("sgid/f").gid(), 0);
    assert_eq!(stat("link").uid(), 5);
    assert!(stat("null").file_type().is_char_device());
    assert_eq!(
        (stat("null").rdev(), stat("null").mode() & 0o7777),
        (0x103, 0o666)
    );
    assert!(stat("pipe").file_type().is_fifo());
    let mode = fs::metadata(b.store.root()).unwrap().permissions().mode();
    assert_eq!(mode & 0o7777, 0o700);
}

#[test]
fn sparse_files_of_both_kinds_are_whole() {
    let b = Bench::new();
    let mut v1 = b"2\n0\n3\n1048576\n4\n".to_vec();
    v1.resize(512, 0);
    v1.extend_from_slice(b"abcdefg");
    let layer = Tar::new()
        .pax(&[
            ("GNU.sparse.major", b"1"),
            ("GNU.sparse.minor", b"0"),
            ("GNU.sparse.name", b"new"),
            ("GNU.sparse.realsize", b"2000000"),
        ])
        .add(&entry("GNUSparseFile.1/new", b'0'), &v1)
        .pax(&[
            ("GNU.sparse.size", b"1000000"),
            ("GNU.sparse.map", b"999990,3"),
        ])
        .add(&entry("old", b'0'), b"xyz")
        .file("after", "in step")
        .end();
    b.image(&[layer]).unwrap();
    let tree = b.tree(0);
    let new = fs::read(tree.join("new")).unwrap();
    assert_eq!(
        (new.len(), &new[..4], &new[1_048_576..1_048_581]),
        (2_000_000, &b"abc\0"[..], &b"defg\0"[..])
    );
    assert!(fs::metadata(tree.join("new")).unwrap().blocks() < 64);
    let old = fs::read(tree.join("old")).unwrap();
    assert_eq!(
        (old.len(), &old[999_989..999_994]),
        (1_000_000, &b"\0xyz\0"[..])
    );
    assert_eq!(fs::read(tree.join("after")).unwrap(), b"in step");
}

fn is_whiteout(path: &Path) -> bool {
    fs::symlink_metadata(path).is_ok_and(|m| m.file_type().is_char_device() && m.rdev() == 0)
}

fn is_opaque(path: &Path) -> bool {
    let dir = fs::File::open(path).unwrap();
    let at = At::Fd(std::os::fd::AsFd::as_fd(&dir));
    matches!(xattr::get(at, c"trusted.overlay.opaque"), Ok(Some(v)) if v == b"y")
}

#[test]
fn whiteouts_hide_lower_layers_only_in_any_order() {
    if !root() {
        return;
    }
    let b = Bench::new();
    let layer = Tar::new()
        .file("d/.wh.gone", "")
        // Mark before and after a file, before and after a directory.
        .file("d/.wh.f1", "")
        .file("d/f1", "1")
        .file("d/f2", "2")
        .file("d/.wh.f2", "")
        .file("d/.wh.d1", "")
        .dir("d/d1/")
        .file("d/d1/x", "")
        .dir("d/d2/")
        .file("d/.wh.d2", "")
        .dir("o/")
        .file("o/kept", "")
        .file("o/.wh..wh..opq", "")
        .end();
    b.image(&[base(), layer]).unwrap();
    let tree = b.tree(1);
    assert!(is_whiteout(&tree.join("d/gone")));
    assert_eq!(fs::read(tree.join("d/f1")).unwrap(), b"1");
    assert_eq!(fs::read(tree.join("d/f2")).unwrap(), b"2");
    assert!(is_opaque(&tree.join("d/d1")) && tree.join("d/d1/x").exists());
    assert!(is_opaque(&tree.join("d/d2")));
    assert!(is_opaque(&tree.join("o")) && tree.join("o/kept").exists());
    assert!(!is_opaque(&tree.join("d")));
}

/// As docker wrote them on aufs, where all whiteouts are one file.
#[test]
fn whiteouts_may_be_hard_links_of_one() {
    if !root() {
        return;
    }
    let b = Bench::new();
    let layer = Tar::new()
        .file("d/.wh.f1", "")
        .hardlink("d/.wh.f2", "d/.wh.f1")
        .hardlink(".wh.d1", "./d/.wh.f1")
        .dir("o/")
        .file("o/kept", "")
        .hardlink("o/.wh..wh..opq", "/d/.wh.f2")
        .end();
    b.image(&[base(), layer.clone()]).unwrap();
    let tree = b.tree(1);
    for name in ["d/f1", "d/f2", "d1"] {
        assert!(is_whiteout(&tree.join(name)), "{name}");
    }
    assert!(is_opaque(&tree.join("o")) && tree.join("o/kept").exists());
    let names = |dir: &str| fs::read_dir(tree.join(dir)).unwrap().count();
    assert_eq!((names("d"), names("o")), (2, 1));
    // The same archive goes out again, whether its blob is here or not.
    let saved = || {
        let mut out = Vec::new();
        let image = b.store.wanted(&["x:1".to_owned()]).unwrap();
        b.store.save(&image, Format::Docker, &mut out).unwrap();
        out
    };
    let holds = |archive: Vec<u8>| archive.windows(layer.len()).any(|part| part == layer);
    assert!(holds(saved()));
    assert!(!b.store.drop_blobs(false).unwrap().blobs.is_empty());
    assert!(holds(saved()));
}

#[test]
fn an_opaque_root_hides_all_layers_below() {
    let b = Bench::new();
    let layer = Tar::new().file(".wh..wh..opq", "").file("only", "").end();
    b.image(&[base(), layer]).unwrap();
    let containers = capas::container::Containers::new(&b.store);
    let wish = capas::container::Wish {
        image: "x:1".into(),
        ..Default::default()
    };
    assert_eq!(containers.create(wish).unwrap().layers.len(), 1);
}

#[test]
fn what_a_layer_leaves_open_comes_from_the_layers_below() {
    if !root() {
        return;
    }
    let b = Bench::new();
    let below = Tar::new()
        .add(
            &Entry {
                mode: 0o1777,
                uid: 9,
                mtime: 77,
                ..entry("tmp/", b'5')
            },
            b"",
        )
        .add(
            &Entry {
                mode: 0o640,
                uid: 3,
                ..entry("lib", b'0')
            },
            b"shared",
        )
        .dir("hidden/")
        .end();
    // No entry for tmp, and a link to a file of the layer below.
    let above = Tar::new()
        .file("tmp/x", "")
        .hardlink("a/link", "lib")
        .hardlink("a/two", "lib")
        .end();
    b.image(&[below.clone(), above.clone()]).unwrap();
    let tree = b.tree(1);
    let tmp = fs::metadata(tree.join("tmp")).unwrap();
    assert_eq!(
        (tmp.mode() & 0o7777, tmp.uid(), tmp.mtime()),
        (0o1777, 9, 77)
    );
    let link = fs::metadata(tree.join("a/link")).unwrap();
    assert_eq!(
        (link.mode() & 0o7777, link.uid(), link.nlink(), link.mtime()),
        (0o640, 3, 2, 1_000_000_000)
    );
    assert_eq!(fs::read(tree.join("a/two")).unwrap(), b"shared");
    // On another base it is another tree, and the first is not touched.
    let other = Tar::new()
        .add(
            &Entry {
                mode: 0o700,
                ..entry("tmp/", b'5')
            },
            b"",
        )
        .file("lib", "other")
        .end();
    let layers = [other, above];
    b.load(&docker_archive(&layers, &diffs(&layers), &["x:1"]))
        .unwrap();
    assert_ne!(b.tree(1), tree);
    assert_eq!(
        fs::metadata(b.tree(1).join("tmp")).unwrap().mode() & 0o7777,
        0o700
    );
    assert_eq!(fs::read(b.tree(1).join("a/link")).unwrap(), b"other");
    assert_eq!(fs::read(tree.join("a/link")).unwrap(), b"shared");
}

#[test]
fn private_attributes_are_left_out() {
    if !root() {
        return;
    }
    let b = Bench::new();
    let private: [&str; 5] = [
        "SCHILY.xattr.trusted.overlay.opaque",
        "SCHILY.xattr.trusted.overlay.redirect",
        "SCHILY.xattr.user.overlay.opaque",
        "SCHILY.xattr.user.fuseoverlayfs.opaque",
        "SCHILY.xattr.user.containers.override_stat",
    ];
    let mut records: Vec<(&str, &[u8])> = private.iter().map(|k| (*k, &b"y"[..])).collect();
    records.push(("SCHILY.xattr.user.own", b"kept"));
    let layer = Tar::new()
        .pax(&records)
        .dir("d/")
        .pax(&records)
        .file("f", "")
        .end();
    b.image(&[layer]).unwrap();
    for name in ["d", "f"] {
        let file = fs::File::open(b.tree(0).join(name)).unwrap();
        let mut list = Vec::new();
        xattr::list_into(At::Fd(std::os::fd::AsFd::as_fd(&file)), &mut list).unwrap();
        let names: Vec<_> = xattr::names(&list).map(|n| n.to_bytes().to_vec()).collect();
        assert_eq!(names, [b"user.own".to_vec()]);
    }
}
