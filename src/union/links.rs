//! The hard link index of kernel overlayfs: `WORKDIR/index` holds, under the
//! hex form of the lower inode's origin, the upper inode that all its names
//! share.

use crate::layer::{marks::origin, work::Onto};
use crate::sys::{At, Errno, Result, dir, fs::stat_at, handle};
use parking_lot::Mutex;
use std::collections::HashSet;
use std::ffi::{OsStr, OsString};
use std::fmt::Write as _;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;

/// The index directory and what is in it.
#[derive(Debug)]
pub(super) struct Links {
    pub dir: Arc<OwnedFd>,
    /// Leaf lock.
    names: Mutex<HashSet<OsString>>,
    /// Where whiteouts were when it was read.
    whiteouts: HashSet<OsString>,
}

/// The index name of an origin.
fn hex(origin: &[u8]) -> OsString {
    let mut out = String::with_capacity(origin.len() * 2);
    for byte in origin {
        let _ = write!(out, "{byte:02x}");
    }
    out.into()
}

impl Links {
    /// Read the index.
    ///
    /// # Errors
    /// As getdents64(2) and fstatat(2).
    pub(super) fn open(index: OwnedFd) -> Result<Links> {
        let (mut names, mut whiteouts) = (HashSet::new(), HashSet::new());
        let mut result = Ok(());
        dir::read(dir::open(&index)?, 0, |e| {
            // A whiteout tells, of a mount with `nfs_export`, that a file is gone.
            let gone = match e.kind {
                libc::S_IFCHR | 0 => stat_at(&index, e.name).map(|s| s.is_whiteout()),
                _ => Ok(false),
            };
            match gone {
                Ok(true) => drop(whiteouts.insert(e.name.to_owned())),
                Ok(false) => drop(names.insert(e.name.to_owned())),
                Err(e) => result = Err(e),
            }
            result.is_ok()
        })?;
        result?;
        Ok(Links {
            dir: Arc::new(index),
            names: Mutex::new(names),
            whiteouts,
        })
    }

    /// Where an entry is.
    pub(super) fn at<'a>(&'a self, name: &'a OsStr) -> At<'a> {
        At::Name(self.dir.as_fd(), name)
    }

    /// The directory.
    pub(super) fn dir_fd(&self) -> Arc<OwnedFd> {
        self.dir.clone()
    }

    /// The entry of an origin, if there is one.
    pub(super) fn name_of(&self, origin: &[u8]) -> Option<OsString> {
        let name = hex(origin);
        self.names.lock().contains(&name).then_some(name)
    }

    /// The entry of a lower inode, if there is one.
    ///
    /// # Errors
    /// As name_to_handle_at(2).
    pub(super) fn find(&self, lower: At<'_>, uuid: [u8; 16]) -> Result<Option<OsString>> {
        if self.names.lock().is_empty() {
            return Ok(None);
        }
        match handle::encode(lower) {
            Ok(handle) => Ok(origin::encode(&handle, uuid).and_then(|o| self.name_of(&o))),
            Err(Errno::OPNOTSUPP) => Ok(None),
            Err(e) => Err(e),
        }
    }

    /// The name that an origin's entry gets.
    pub(super) fn new_name(origin: &[u8]) -> OsString {
        hex(origin)
    }

    /// What a new entry may replace.
    pub(super) fn onto(&self, name: &OsStr) -> Onto {
        match self.whiteouts.contains(name) {
            true => Onto::File,
            false => Onto::Nothing,
        }
    }

    /// An entry has been made.
    pub(super) fn added(&self, name: OsString) {
        self.names.lock().insert(name);
    }

    /// An entry is to be removed: the last name is gone.
    ///
    /// # Errors
    /// As unlink(2).
    pub(super) fn remove(&self, name: &OsStr) -> Result<()> {
        self.names.lock().remove(name);
        match crate::sys::fs::unlink(&*self.dir, name, false) {
            Err(Errno::NOENT) => Ok(()),
            result => result,
        }
    }

    /// All names, for the check at mount.
    pub(super) fn all(&self) -> Vec<OsString> {
        self.names.lock().iter().cloned().collect()
    }
}
