//! Directories of the layers, and the descriptors that are kept for them.

use super::{Union, lru_of, node::Node, stack::Stack};
use crate::sys::{Errno, Result, fs};
use lru::LruCache;
use parking_lot::Mutex;
use std::ffi::{OsStr, OsString};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::sync::{Arc, OnceLock};

/// A directory of a lower layer. Lowers do not change, so neither does this.
#[derive(Debug)]
pub(super) struct LowerDir {
    pub layer: u16,
    /// None for the layer's root.
    pub parent: Option<Arc<LowerDir>>,
    pub name: OsString,
    pub serial: u64,
    /// Has `.wh.*` entries; unknown until somebody looks.
    pub wh: OnceLock<bool>,
    /// Has attribute whiteouts (`overlay.opaque=x`).
    pub xwhiteouts: bool,
}

impl LowerDir {
    /// Its path in the layer, `/a/b`.
    pub(super) fn path(&self) -> OsString {
        let mut names = Vec::new();
        let mut dir = self;
        while let Some(parent) = &dir.parent {
            names.push(dir.name.as_os_str());
            dir = parent;
        }
        join(names)
    }

    /// The path of one of its entries.
    pub(super) fn path_of(&self, name: &OsStr) -> OsString {
        let mut path = self.path().into_vec();
        if path.last() != Some(&b'/') {
            path.push(b'/');
        }
        path.extend_from_slice(name.as_bytes());
        OsString::from_vec(path)
    }

    /// The same directory of the same layer.
    pub(super) fn same(&self, other: &LowerDir) -> bool {
        if self.layer != other.layer {
            return false;
        }
        let (mut a, mut b) = (self, other);
        loop {
            if std::ptr::eq(a, b) {
                return true;
            }
            match (&a.parent, &b.parent) {
                (None, None) => return true,
                (Some(pa), Some(pb)) if a.name == b.name => (a, b) = (pa, pb),
                _ => return false,
            }
        }
    }
}

fn join(names: Vec<&OsStr>) -> OsString {
    let mut path = Vec::new();
    for name in names.iter().rev() {
        path.push(b'/');
        path.extend_from_slice(name.as_bytes());
    }
    if path.is_empty() {
        path.push(b'/');
    }
    OsString::from_vec(path)
}

impl Drop for LowerDir {
    fn drop(&mut self) {
        // Not by recursion: paths may be deeper than the stack.
        let mut next = self.parent.take();
        while let Some(parent) = next {
            next = Arc::into_inner(parent).and_then(|mut p| p.parent.take());
        }
    }
}

/// The most recently used directory descriptors, by serial number of the
/// node or lower directory. Leaf lock.
pub(super) struct DirFds(Mutex<LruCache<u64, Arc<OwnedFd>>>);

impl DirFds {
    pub(super) fn new(capacity: usize) -> DirFds {
        DirFds(Mutex::new(lru_of(capacity)))
    }

    fn get(&self, serial: u64) -> Option<Arc<OwnedFd>> {
        self.0.lock().get(&serial).cloned()
    }

    fn put(&self, serial: u64, fd: &Arc<OwnedFd>) {
        // What falls out is closed after the lock is released.
        let _out = self.0.lock().push(serial, fd.clone());
    }

    /// Let go of a directory that is removed.
    pub(super) fn forget(&self, serial: u64) {
        let _out = self.0.lock().pop(&serial);
    }
}

impl Union {
    /// Close what is kept open of a directory that the kernel has forgotten.
    pub(super) fn close_dir(&self, node: &Node) {
        let mut unused = vec![node.serial()];
        if let Stack::Dirs(dirs) = &node.state.lock().lowers {
            let own = dirs.iter().filter(|dir| Arc::strong_count(dir) == 1);
            unused.extend(own.map(|dir| dir.serial));
        }
        unused
            .into_iter()
            .for_each(|serial| self.fds.forget(serial));
    }

    /// The upper directory of a node, as `O_PATH`. The caller holds
    /// `topology`, so that no ancestor moves meanwhile.
    ///
    /// # Errors
    /// `EROFS` without an upper; as open(2).
    pub(super) fn upper_dir(&self, node: &Arc<Node>) -> Result<Arc<OwnedFd>> {
        let upper = self.upper.as_ref().ok_or(Errno::ROFS)?;
        if let Some(fd) = self.fds.get(node.serial()) {
            return Ok(fd);
        }
        let mut missing = Vec::new();
        let mut at = node.clone();
        let mut fd = loop {
            if at.id == super::node::ROOT_ID {
                break upper.layer.root.clone();
            }
            if let Some(fd) = self.fds.get(at.serial()) {
                break fd;
            }
            let (parent, orphan) = {
                let state = at.state.lock();
                (state.link().cloned(), state.orphan.clone())
            };
            if let Some(fd) = orphan {
                break fd;
            }
            let link = parent.ok_or(Errno::NOENT)?;
            let above = link.parent.clone();
            missing.push((at, link));
            at = above;
        };
        while let Some((node, link)) = missing.pop() {
            let _named = node.named();
            if !node.has(&link) {
                return Err(Errno::NOENT);
            }
            fd = Arc::new(fs::open_dir_path(&*fd, &link.name)?);
            self.fds.put(node.serial(), &fd);
        }
        Ok(fd)
    }

    /// A lower directory as `O_PATH`.
    ///
    /// # Errors
    /// As open(2).
    pub(super) fn lower_dir(&self, dir: &Arc<LowerDir>) -> Result<Arc<OwnedFd>> {
        if let Some(fd) = self.fds.get(dir.serial) {
            return Ok(fd);
        }
        let mut missing: Vec<&LowerDir> = Vec::new();
        let mut at: &Arc<LowerDir> = dir;
        let mut fd = loop {
            let Some(parent) = &at.parent else {
                let layer = self.lowers.get(usize::from(at.layer)).ok_or(Errno::IO)?;
                break layer.root.clone();
            };
            if let Some(fd) = self.fds.get(at.serial) {
                break fd;
            }
            missing.push(at);
            at = parent;
        };
        while let Some(dir) = missing.pop() {
            fd = Arc::new(fs::open_dir_path(&*fd, &dir.name)?);
            self.fds.put(dir.serial, &fd);
        }
        Ok(fd)
    }
}
