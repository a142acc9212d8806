//! The merged catalog says what the layers say.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
#![allow(clippy::indexing_slicing, clippy::print_stderr, missing_docs)]

mod common;
mod direct;

use capas::catalog::{Catalog, What};
use capas::layer::marks::{self, Family};
use capas::sys::{Errno, fs::Stat, fs::Time};
use capas::union::{Caller, Union, catalog};
use direct::{Rig, cases, variant::Variant, view::ROOT};
use std::ffi::{OsStr, OsString};
use std::fs::Permissions;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;

const CALLER: Caller = ROOT;

/// All that is listed in a directory, sorted.
fn list(union: &Union, id: u64) -> Vec<(OsString, u64, u32)> {
    let mut names = Vec::new();
    union
        .readdir(id, 0, |e| {
            if e.name != "." && e.name != ".." {
                names.push((e.name.clone(), e.ino, e.kind));
            }
            true
        })
        .unwrap();
    names.sort();
    names
}

/// What is the layers' own: the union shows others' links and no device.
fn same(catalog: &Stat, union: &Stat) -> bool {
    let plain = |stat: &Stat| Stat {
        dev: 0,
        nlink: if stat.is_dir() { 0 } else { stat.nlink },
        ..*stat
    };
    plain(catalog) == plain(union)
}

struct Walk<'a> {
    family: Family,
    catalog: &'a Catalog,
    union: &'a Union,
    entries: usize,
    live: usize,
}

impl Walk<'_> {
    fn dir(&mut self, dir: u32, id: u64, path: &str) {
        let listed = list(self.union, id);
        assert_eq!(self.catalog.len(dir) as usize, listed.len(), "{path}");
        for (position, (name, ino, kind)) in (0..).zip(listed) {
            let path = format!("{path}/{}", name.display());
            let entry = self.catalog.entry(dir, position).unwrap();
            assert_eq!(entry.name, name.as_bytes(), "{path}");
            assert_eq!(self.catalog.find(dir, entry.name), Some(entry.inode));
            let inode = self.catalog.inode(entry.inode);
            assert_eq!((inode.stat.ino, inode.stat.kind()), (ino, kind), "{path}");
            self.entries += 1;
            let attr = match self.union.lookup(id, &name) {
                Ok(attr) => attr,
                Err(Errno::IO) if inode.what == What::Live => {
                    self.live += 1;
                    continue;
                }
                Err(e) => panic!("{path}: {e}"),
            };
            assert_ne!(inode.what, What::Live, "{path}");
            assert!(
                same(&inode.stat, &attr.stat),
                "{path}: {:?}\n{:?}",
                inode.stat,
                attr.stat
            );
            let target = self.catalog.target(&inode);
            let link = self.union.readlink(attr.id).ok();
            assert_eq!(target, link.as_deref().map(OsStrExt::as_bytes), "{path}");
            self.xattrs(&inode, attr.id, &path);
            if let What::Dir(dir) = inode.what {
                self.dir(dir, attr.id, &path);
            }
            self.union.forget(attr.id, 1);
        }
    }

    /// Those that callers see, in the same order.
    fn xattrs(&self, inode: &capas::catalog::Inode, id: u64, path: &str) {
        let caller = Caller {
            pid: std::process::id(),
            ..CALLER
        };
        let list = self.union.listxattr(id, caller).unwrap();
        let shown: Vec<(Vec<u8>, &[u8])> = (self.catalog.xattrs(inode))
            .filter_map(|(name, value)| Some((marks::to_shown(name, self.family)?, value)))
            .collect();
        let names: Vec<&[u8]> = list.split(|b| *b == 0).filter(|n| !n.is_empty()).collect();
        let found: Vec<&[u8]> = shown.iter().map(|(name, _)| name.as_slice()).collect();
        assert_eq!(found, names, "{path}");
        for name in names {
            let value = self.union.getxattr(id, OsStr::from_bytes(name)).unwrap();
            let stored = shown.iter().filter(|(n, _)| n == name);
            assert!(stored.clone().any(|(_, v)| *v == value), "{path}");
        }
    }
}

/// The texts of some layers in a way to read them.
type Lowers = Box<dyn Fn(&Variant) -> Vec<String>>;

/// Of every case's layers, in each way to read them.
#[test]
fn it_says_what_the_layers_say() {
    if !direct::able() {
        return;
    }
    let mut lowers_of: Vec<(String, Lowers)> = (cases::all().into_iter())
        .map(|case| {
            (
                case.name.clone(),
                Box::new(move |v: &Variant| case.lowers(v)) as Lowers,
            )
        })
        .collect();
    let lost = |v: &Variant| vec![format!("/m file data=\"m\" {}metacopy=\"\"\n", v.family())];
    lowers_of.push(("a metacopy without data".into(), Box::new(lost)));
    let (mut entries, mut live) = (0, 0);
    for name in ["default", "userxattr", "redirect_dir=off", "trusted"] {
        let variant = Variant::named(name);
        let family = match variant.family() {
            "user.overlay." => Family::User,
            _ => Family::Trusted,
        };
        for (case, lowers) in &lowers_of {
            let dir = tempfile::tempdir().unwrap();
            Rig::build(dir.path(), &lowers(&variant), None);
            let rig = Rig::new(dir.path(), variant.options.clone(), variant.features);
            if rig.lowers().is_empty() {
                continue;
            }
            let made = catalog::build(rig.lowers(), &variant.options, variant.features);
            let made = made.unwrap_or_else(|e| panic!("{case} [{name}]: {e}"));
            let catalog = Catalog::parse(made).unwrap_or_else(|e| panic!("{case}: {e}"));
            assert_eq!(catalog.layers().len(), rig.lowers().len());
            rig.open().unwrap();
            rig.with(|union| {
                let mut walk = Walk {
                    family,
                    catalog: &catalog,
                    union,
                    entries: 0,
                    live: 0,
                };
                walk.dir(0, 1, &format!("{case} [{name}]: "));
                entries += walk.entries;
                live += walk.live;
            });
            assert_eq!(rig.lowers_changed(), None);
        }
    }
    eprintln!("{entries} entries, {live} of them live");
    assert!(entries > 500 && live > 0);
}

/// Every attribute of every path, as far as it can be looked up. Looking at
/// the upper changes when it was looked at.
fn attributes(union: &Union, id: u64, path: &str, out: &mut Vec<(String, Stat)>) {
    for (name, ..) in list(union, id) {
        let Ok(attr) = union.lookup(id, &name) else {
            continue;
        };
        let path = format!("{path}/{}", name.display());
        assert_eq!(union.getattr(attr.id).unwrap().stat, attr.stat, "{path}");
        let atime = Time::default();
        out.push((path.clone(), Stat { atime, ..attr.stat }));
        if attr.stat.is_dir() {
            attributes(union, attr.id, &path, out);
        }
        union.forget(attr.id, 1);
    }
}

/// What a mount shows, and what it makes of the layers, is the same.
#[test]
fn mounts_are_the_same_with_and_without() {
    if !direct::able() {
        return;
    }
    let variant = Variant::default_one();
    let mut paths = 0;
    for case in cases::all() {
        let dir = tempfile::tempdir().unwrap();
        Rig::build(
            dir.path(),
            &case.lowers(&variant),
            Some(&case.upper(&variant)),
        );
        let new = || Rig::new(dir.path(), variant.options.clone(), variant.features);
        if new().lowers().is_empty() {
            continue;
        }
        let seen = |rig: Rig| {
            rig.open().unwrap();
            let mut out = Vec::new();
            rig.with(|union| attributes(union, 1, "", &mut out));
            let view = rig.view();
            (out, view.text(), view.inodes, rig.uses_catalog())
        };
        let (without, text, inodes, no) = seen(new());
        let (with, same_text, same_inodes, yes) = seen(new().catalogued());
        assert!(yes && !no, "{}: it is not used", case.name);
        assert_eq!(with, without, "{}", case.name);
        assert_eq!(same_text, text, "{}", case.name);
        assert_eq!(same_inodes, inodes, "{}", case.name);
        paths += with.len();
    }
    assert!(paths > 200, "{paths}");
}

/// Positions in a listing hold when the directory gets a part in the upper.
#[test]
fn a_listing_goes_on_after_a_copy_up() {
    if !direct::able() {
        return;
    }
    for catalogued in [true, false] {
        let dir = tempfile::tempdir().unwrap();
        let lower: String = (0..100).map(|i| format!("/d/f{i} file\n")).collect();
        Rig::build(dir.path(), &[lower], Some(""));
        let variant = Variant::default_one();
        let mut rig = Rig::new(dir.path(), variant.options, variant.features);
        if catalogued {
            rig = rig.catalogued();
        }
        rig.open().unwrap();
        let id = rig.id("/d").unwrap();
        let (mut names, mut from) = (Vec::new(), 0);
        let mut read = |most: usize| {
            let mut room = most;
            rig.with(|u| {
                u.readdir(id, from, |e| {
                    if room > 0 {
                        room -= 1;
                        from = e.next;
                        names.push(e.name.clone());
                    }
                    room > 0
                })
            })
            .unwrap();
            names.len()
        };
        read(40);
        rig.op("create /d/new 0644").unwrap();
        rig.op("create /d/newer 0644").unwrap();
        // Up to the first of the new ones, and from there.
        assert_eq!(read(63), 2 + 101, "{catalogued}");
        assert_eq!(read(1000), 2 + 102, "{catalogued}");
        assert_eq!(read(1000), 2 + 102, "{catalogued}");
        names.sort();
        names.dedup();
        assert_eq!(names.len(), 2 + 102, "{catalogued}");
    }
}

/// What cannot be written down is asked of the layers.
#[test]
fn an_odd_inode_is_left_to_the_layers() {
    if !direct::able() {
        return;
    }
    // A file system that takes more attributes than can be listed.
    let dir = tempfile::tempdir_in("/dev/shm").unwrap();
    let lower = "/d dir\n/d/f file data=\"f\"\n/g file\n/h file\n".to_owned();
    Rig::build(dir.path(), &[lower], Some(""));
    let odd = ["lower0/d", "lower0/g"].map(|name| dir.path().join(name));
    for path in &odd {
        for i in 0..300 {
            let name = format!("trusted.{i:0240}");
            let flags = rustix::fs::XattrFlags::empty();
            rustix::fs::setxattr(path, name, b"", flags).unwrap();
        }
        let listed = rustix::fs::listxattr(path, &mut vec![0u8; 1 << 17]);
        assert_eq!(listed, Err(rustix::io::Errno::TOOBIG));
    }
    let variant = Variant::default_one();
    let new = || Rig::new(dir.path(), variant.options.clone(), variant.features);
    let seen = |rig: Rig| {
        rig.open().unwrap();
        let mut out = Vec::new();
        rig.with(|union| attributes(union, 1, "", &mut out));
        assert_eq!(out.len(), 1, "but for the odd ones");
        let lookup = |name| rig.with(|u| u.lookup(1, OsStr::new(name)).map(|attr| attr.stat));
        (out, [lookup("d"), lookup("g")], rig.uses_catalog())
    };
    let (without, answers, no) = seen(new());
    let rig = new().catalogued();
    let catalog = Catalog::parse(std::fs::read(dir.path().join("catalog")).unwrap()).unwrap();
    let what = |name: &[u8]| catalog.inode(catalog.find(0, name).unwrap()).what;
    assert_eq!([what(b"d"), what(b"g")], [What::Live; 2]);
    let (with, same_answers, yes) = seen(rig);
    assert!(yes && !no);
    assert_eq!(with, without);
    assert_eq!(same_answers, answers);
}

/// Layers are read without a trace.
#[test]
fn making_one_leaves_no_access_time() {
    if !direct::able() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let lower = "/d dir\n/d/f file data=\"f\"\n/d/l symlink -> f\n".to_owned();
    Rig::build(dir.path(), &[lower.clone(), lower], None);
    for i in 0..2 {
        common::lowers::age(&dir.path().join(format!("lower{i}")));
    }
    let variant = Variant::default_one();
    let rig = Rig::new(dir.path(), variant.options, variant.features).catalogued();
    assert_eq!(rig.lowers_changed(), None);
}

/// A catalog that does not fit is not used, and everything is there.
#[test]
fn a_foreign_or_damaged_one_is_done_without() {
    if !direct::able() {
        return;
    }
    let variant = Variant::default_one();
    let rig = |dir: &std::path::Path| {
        Rig::build(dir, &["/f file data=\"f\"\n".to_owned()], Some(""));
        Rig::new(dir, variant.options.clone(), variant.features).catalogued()
    };
    let open = |rig: &Rig| {
        rig.open().unwrap();
        rig.id("/f").unwrap();
        let used = rig.uses_catalog();
        rig.close();
        used
    };
    let dir = tempfile::tempdir().unwrap();
    let good = rig(dir.path());
    assert!(open(&good));
    let file = dir.path().join("catalog");
    let bytes = std::fs::read(&file).unwrap();
    let mode = |mode| std::fs::set_permissions(&file, Permissions::from_mode(mode)).unwrap();
    mode(0o620);
    assert!(!open(&good), "others may write it");
    mode(0o600);
    for (what, wrong) in [
        ("cut off", bytes[..bytes.len() - 1].to_vec()),
        ("empty", Vec::new()),
        ("another file", b"#!/bin/sh\n".repeat(100)),
    ] {
        std::fs::write(&file, wrong).unwrap();
        assert!(!open(&good), "{what}");
    }
    // Another layer of the same content.
    let other = tempfile::tempdir().unwrap();
    drop(rig(other.path()));
    std::fs::copy(other.path().join("catalog"), &file).unwrap();
    assert!(!open(&good), "of another layer");
    // The layer was touched.
    std::fs::write(&file, &bytes).unwrap();
    assert!(open(&good));
    let lower = dir.path().join("lower0");
    std::fs::write(lower.join("new"), "").unwrap();
    std::fs::remove_file(lower.join("new")).unwrap();
    assert!(!open(&good), "of a layer that was changed");
    // Of who saw other owners, or no trusted attributes.
    let fourth = tempfile::tempdir().unwrap();
    let seen = rig(fourth.path());
    let file = fourth.path().join("catalog");
    let bytes = std::fs::read(&file).unwrap();
    assert!(open(&seen));
    for (at, bit) in [(20, 4), (60, 1)] {
        let mut other = bytes[..bytes.len() - 4].to_vec();
        other[at] ^= bit;
        other.extend_from_slice(&capas::catalog::check::checksum(&other));
        std::fs::write(&file, other).unwrap();
        assert!(!open(&seen), "made by others, byte {at}");
    }
    // Other options.
    let mut options = variant.options.clone();
    let third = tempfile::tempdir().unwrap();
    drop(rig(third.path()));
    options.redirect_dir = capas::union::options::RedirectDir::NoFollow;
    let mut strict = Rig::new(third.path(), options, variant.features);
    strict.catalog = Some(third.path().join("catalog"));
    assert!(!open(&strict), "for other options");
}
