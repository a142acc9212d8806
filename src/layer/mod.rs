//! One directory tree through its root descriptor, the on-disk marks, and
//! staged installation through the work directory.

pub mod acl;
pub mod marks;
pub mod open;
pub mod owner;
pub mod seal;
pub mod work;

use crate::sys::{Result, dir, fs, fs::Time, handle};
use open::OpenDir;
use std::collections::{HashMap, HashSet};
use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;
use std::sync::Arc;

/// A layer of the union: one directory and its file system.
#[derive(Debug)]
pub struct Layer {
    /// Its root as `O_PATH`.
    pub root: Arc<OwnedFd>,
    /// Its root, or that of another on its file system, as a readable descriptor,
    /// for handles.
    pub mount: Arc<OwnedFd>,
    /// Where it came from, for messages.
    pub path: PathBuf,
    /// Device of its file system.
    pub dev: u64,
    /// Inode number of its root.
    pub ino: u64,
    /// Who owns its root.
    pub uid: u32,
    /// Its root's group.
    pub gid: u32,
    /// When its root was changed last.
    pub ctime: Time,
    /// UUID of its file system, zeros if unknown.
    pub uuid: [u8; 16],
    /// No other lower is on a file system with the same UUID, or without one like
    /// this: so it tells which file system an origin is from.
    pub is_told_apart: bool,
    /// Its ids are those that callers see.
    pub idmapped: bool,
}

impl Layer {
    /// Take over the descriptor of a directory.
    ///
    /// # Errors
    /// As fstat(2) and open(2).
    pub fn new(dir: OpenDir) -> Result<Layer> {
        Layer::beside(dir, None)
    }

    /// As [`Layer::new`] for who can read any directory: `other` lends its readable
    /// descriptor, if it is on the same file system.
    ///
    /// # Errors
    /// As fstat(2) and open(2).
    pub fn beside(dir: OpenDir, other: Option<&Layer>) -> Result<Layer> {
        let OpenDir {
            fd: root,
            path,
            idmapped,
        } = dir;
        let stat = fs::stat_fd(&root)?;
        let (mount, uuid) = match other.filter(|other| other.dev == stat.dev) {
            Some(other) => (other.mount.clone(), other.uuid),
            None => {
                let mount = dir::open(&root)?;
                let uuid = handle::fs_uuid(mount.as_fd());
                (Arc::new(mount), uuid)
            }
        };
        Ok(Layer {
            root: Arc::new(root),
            mount,
            path,
            dev: stat.dev,
            ino: stat.ino,
            uid: stat.uid,
            gid: stat.gid,
            ctime: stat.ctime,
            uuid,
            is_told_apart: true,
            idmapped,
        })
    }

    fn is_subvolume(&self) -> bool {
        const BTRFS: u64 = 0x9123_683e;
        self.uuid != [0; 16] && fs::statfs(&*self.mount).is_ok_and(|s| s.magic == BTRFS)
    }
}

/// Find the layers on file systems that their UUIDs do not tell apart, such as
/// copies of one image, each mounted, or squashfs, which has none.
pub fn tell_apart(lowers: &mut [Layer]) {
    let mut first = HashMap::new();
    let mut shared = HashSet::new();
    for layer in lowers.iter() {
        let other = *first.entry(layer.uuid).or_insert(layer.dev) != layer.dev;
        // Subvolumes of one btrfs have devices of their own, and handles alike.
        if other && !layer.is_subvolume() {
            shared.insert(layer.uuid);
        }
    }
    for layer in lowers {
        layer.is_told_apart = !shared.contains(&layer.uuid);
    }
}
