//! Answers from the catalog in place of the lower layers.

use super::super::{
    Union,
    dirs::LowerDir,
    lower::{InLowers, Search},
    lru_of,
    node::Node,
    options::XattrPermissions,
    readdir::Entry,
    stack::{Known, Stack},
    state::LowerFile,
};
use super::{identity, seen};
use crate::catalog::{self, Catalog, Inode, Refusal, What};
use crate::layer::{
    Layer,
    open::{OpenDir, OpenFile},
};
use crate::sys::{Result, fs::Stat};
use lru::LruCache;
use parking_lot::Mutex;
use std::ffi::{CStr, OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::sync::{Arc, OnceLock};

/// How many directories of layers are kept for those who ask again.
const KEPT: usize = 1024;

/// The catalog of this mount's lower layers.
pub(in super::super) struct Merged {
    catalog: Catalog,
    /// A place's directory has this and its number as its serial, so that one
    /// that is made again finds the descriptor that is kept for it.
    first_serial: u64,
    /// Directories by place. Leaf lock.
    dirs: Mutex<LruCache<u32, Arc<LowerDir>>>,
}

impl Union {
    /// Use a catalog, if it is in order and of these layers and options. One
    /// that is not is told of, and done without.
    pub(in super::super) fn adopt(&mut self, file: &OpenFile) {
        match self.fitting(file) {
            Ok(catalog) => {
                self.catalog = Some(Merged {
                    first_serial: self.table.serials(catalog.places().into()),
                    catalog,
                    dirs: Mutex::new(lru_of(KEPT)),
                });
            }
            Err(why) => log::warn!("catalog {} is not used: {why}", file.path.display()),
        }
    }

    fn fitting(&self, file: &OpenFile) -> std::result::Result<Catalog, Refusal> {
        let catalog = catalog::open(&file.fd)?;
        of_layers(&catalog, &self.lowers)?;
        let plain = self.options.xattr_permissions == XattrPermissions::Off;
        let reading = self.reading().map_err(Refusal::Unreadable)?;
        match catalog.built() == reading && plain {
            true => Ok(catalog),
            false => Err(Refusal::OtherOptions),
        }
    }

    /// The merged root, where there is a catalog.
    pub(in super::super) fn known_root(&self) -> Option<Stack> {
        let catalog = &self.catalog.as_ref()?.catalog;
        Some(Stack::Known(Known {
            top: self.roots.first()?.clone(),
            dir: 0,
            inode: 0,
            merged: catalog.stack(0).len() > 1,
        }))
    }

    /// What the lowers have under a name in a directory of the catalog.
    pub(in super::super) fn find_known(&self, parent: &Known, name: &OsStr) -> Result<InLowers> {
        let Some(merged) = &self.catalog else {
            return Ok(InLowers::None);
        };
        let catalog = &merged.catalog;
        let Some(number) = catalog.find(parent.dir, name.as_bytes()) else {
            return Ok(InLowers::None);
        };
        let inode = catalog.inode(number);
        let stat = self.known_stat(&inode);
        let place = |parent, name: &[u8], data, known| LowerFile {
            dir: merged.dir(&self.roots, parent),
            name: OsStr::from_bytes(name).into(),
            data,
            known,
        };
        let data = match inode.what {
            What::Live => {
                let search = Search::Name(name.to_owned());
                return self.find_lower(&self.known_dirs(parent.dir), search, inode.layer);
            }
            What::Dir(dir) => {
                let mut stack = catalog.stack(dir);
                let top = stack.next().unwrap_or_default();
                let known = Known {
                    top: merged.dir(&self.roots, top),
                    dir,
                    inode: number,
                    merged: stack.len() > 0,
                };
                return Ok(InLowers::Dirs(stat, Stack::Known(known)));
            }
            What::Metacopy(at) => {
                let at = catalog.place(at);
                let parent = at.parent.unwrap_or_default();
                Some(Box::new(place(parent, at.name, None, None)))
            }
            What::File | What::Symlink(..) | What::Special => None,
        };
        let dir = merged.part(parent.dir, inode.layer);
        let file = place(dir, name.as_bytes(), data, Some(number));
        Ok(InLowers::File(stat, file))
    }

    /// The directories that one of the catalog's merges.
    pub(in super::super) fn known_dirs(&self, dir: u32) -> Vec<Arc<LowerDir>> {
        let Some(merged) = &self.catalog else {
            return Vec::new();
        };
        let stack = merged.catalog.stack(dir);
        stack.map(|p| merged.dir(&self.roots, p)).collect()
    }

    /// The attributes of an inode of the catalog, as the layer has them.
    fn known_stat(&self, inode: &Inode) -> Stat {
        let layer = self.lowers.get(usize::from(inode.layer));
        Stat {
            dev: layer.map_or(0, |layer| layer.dev),
            ..inode.stat
        }
    }

    /// A node's inode in the catalog, while it is all in the lowers.
    fn known(&self, node: &Node) -> Option<(&Catalog, Inode)> {
        let catalog = &self.catalog.as_ref()?.catalog;
        let number = node.state.lock().known()?;
        Some((catalog, catalog.inode(number)))
    }

    /// A node's attributes, if the catalog has them.
    pub(in super::super) fn known_attr(&self, node: &Node) -> Option<Stat> {
        let (_, inode) = self.known(node)?;
        Some(self.known_stat(&inode))
    }

    /// What a symlink points to, if the catalog has it.
    pub(in super::super) fn known_target(&self, node: &Node) -> Option<OsString> {
        let (catalog, inode) = self.known(node)?;
        let target = catalog.target(&inode)?;
        Some(OsString::from_vec(target.to_vec()))
    }

    /// The value of an extended attribute as the layer has it, if the catalog
    /// knows that, or knows that there is none.
    pub(in super::super) fn known_xattr(
        &self,
        node: &Node,
        name: &CStr,
    ) -> Option<Option<Vec<u8>>> {
        let (catalog, inode) = self.known(node)?;
        let found = catalog.xattrs(&inode).find(|(n, _)| *n == name);
        let found = found.map(|(_, value)| value.to_vec());
        // Of other kinds there may be some that are not listed.
        let name = name.to_bytes();
        let listed = [&b"user."[..], b"trusted.", b"system.posix_acl_"]
            .iter()
            .any(|kind| name.starts_with(kind))
            || name == b"security.capability";
        (found.is_some() || listed).then_some(found)
    }

    /// The names of a node's extended attributes as the layer has them, each
    /// with a NUL, into `list`; false if the catalog does not know.
    pub(in super::super) fn known_xattrs(&self, node: &Node, list: &mut Vec<u8>) -> bool {
        let Some((catalog, inode)) = self.known(node) else {
            return false;
        };
        list.clear();
        for (name, _) in catalog.xattrs(&inode) {
            list.extend_from_slice(name.to_bytes_with_nul());
        }
        true
    }

    /// The entries of one of the catalog's directories from a position on.
    pub(in super::super) fn known_entries(
        &self,
        dir: u32,
        from: u32,
    ) -> impl Iterator<Item = KnownEntry<'_>> {
        let catalog = self.catalog.as_ref().map(|merged| &merged.catalog);
        let names = catalog.into_iter().flat_map(move |catalog| {
            let entries = (from..catalog.len(dir)).filter_map(move |i| catalog.entry(dir, i));
            entries.map(|entry| (entry.name, catalog.inode(entry.inode)))
        });
        names.map(|(name, inode)| KnownEntry {
            name: OsStr::from_bytes(name),
            ino: self.inos.map(self.known_stat(&inode).dev, inode.stat.ino),
            kind: inode.stat.kind(),
            layer: inode.layer,
        })
    }

    /// Has one of the catalog's directories no entries.
    pub(in super::super) fn is_known_empty(&self, dir: u32) -> bool {
        let catalog = self.catalog.as_ref().map(|merged| &merged.catalog);
        catalog.is_none_or(|catalog| catalog.is_empty(dir))
    }

    /// List a directory of the catalog whose first entry is at `first`.
    pub(in super::super) fn list_known(
        &self,
        dir: u32,
        first: u64,
        offset: u64,
        sink: &mut dyn FnMut(&Entry) -> bool,
    ) {
        let from = u32::try_from(offset.saturating_sub(first)).unwrap_or(u32::MAX);
        for (position, entry) in (u64::from(from)..).zip(self.known_entries(dir, from)) {
            let entry = Entry {
                ino: entry.ino,
                kind: entry.kind,
                next: first + position + 1,
                name: entry.name.to_owned(),
            };
            if !sink(&entry) {
                return;
            }
        }
    }
}

/// Was a catalog made of these layers, by somebody who saw them as this process
/// does. Seen through an idmapped mount a layer has other owners.
fn of_layers(catalog: &Catalog, layers: &[Layer]) -> std::result::Result<(), Refusal> {
    let same = catalog.layers().eq(layers.iter().map(identity));
    if !same || layers.iter().any(|layer| layer.idmapped) {
        return Err(Refusal::OtherLayers);
    }
    match catalog.built().seen == seen(layers).map_err(Refusal::Unreadable)? {
        true => Ok(()),
        false => Err(Refusal::OtherRights),
    }
}

/// Can a mount of these layers use the catalog in `file`, as far as it does not
/// depend on the mount's options.
///
/// # Errors
/// Why not.
pub fn fits(file: &OpenFile, lower: Vec<OpenDir>) -> std::result::Result<(), Refusal> {
    let catalog = catalog::open(&file.fd)?;
    let layers = lower.into_iter().map(Layer::new);
    let layers = layers.collect::<Result<Vec<_>>>();
    of_layers(&catalog, &layers.map_err(Refusal::Unreadable)?)
}

/// An entry of a directory of the catalog.
pub(in super::super) struct KnownEntry<'a> {
    pub name: &'a OsStr,
    /// `st_ino`.
    pub ino: u64,
    pub kind: u32,
    pub layer: u16,
}

impl Merged {
    /// The place of a merged directory in one layer.
    fn part(&self, dir: u32, layer: u16) -> u32 {
        let mut stack = self.catalog.stack(dir);
        stack
            .find(|place| self.catalog.place(*place).layer == layer)
            .unwrap_or_default()
    }

    /// The directory at a place.
    fn dir(&self, roots: &[Arc<LowerDir>], place: u32) -> Arc<LowerDir> {
        let mut missing = Vec::new();
        let mut at = place;
        let mut dir = loop {
            if let Some(root) = roots.get(at as usize) {
                break root.clone();
            }
            if let Some(kept) = self.dirs.lock().get(&at) {
                break kept.clone();
            }
            missing.push(at);
            at = self.catalog.place(at).parent.unwrap_or_default();
        };
        while let Some(number) = missing.pop() {
            let place = self.catalog.place(number);
            dir = Arc::new(LowerDir {
                layer: place.layer,
                parent: Some(dir),
                name: OsStr::from_bytes(place.name).to_owned(),
                serial: self.first_serial + u64::from(number),
                wh: OnceLock::new(),
                xwhiteouts: place.xwhiteouts,
            });
            let _out = self.dirs.lock().push(number, dir.clone());
        }
        dir
    }
}
