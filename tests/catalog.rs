//! The merged catalog says what the layers say.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
#![allow(clippy::indexing_slicing, clippy::print_stderr, missing_docs)]

mod common;
mod direct;

use capas::catalog::{Catalog, What};
use capas::layer::marks::{self, Family};
use capas::sys::{Errno, fs::Stat};
use capas::union::{Caller, Union, catalog};
use direct::{Rig, cases, variant::Variant, view::ROOT};
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;

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
