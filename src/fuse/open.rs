//! How an opened file is read and written: through the daemon, or past it.

use super::adapter::Adapter;
use crate::sys::{Errno, Result};
use crate::union::{Caller, Io, Opened};
use fuser::{BackingId, FileHandle, FopenFlags, INodeNo, OpenFlags};
use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;

/// What the kernel is told.
pub(super) enum Way {
    /// Through the daemon and the page cache.
    Daemon(FileHandle, FopenFlags),
    /// By passthrough, to this backing file.
    Kernel(FileHandle, Arc<BackingId>),
}

impl Adapter {
    /// Open a file; `register` makes a backing file known to the kernel.
    pub(super) fn open_way(
        &self,
        ino: INodeNo,
        flags: OpenFlags,
        caller: Caller,
        register: impl FnOnce(OwnedFd) -> io::Result<BackingId>,
    ) -> Result<Way> {
        let result = self.union.open_file(ino.0, flags.0, caller);
        // Descriptors of the old node are to ask for attributes.
        if matches!(&result, Err(Errno::STALE) | Ok(Opened { stale: true, .. })) {
            self.late.attributes_changed(ino);
        }
        self.way(ino, result?, register)
    }

    /// The way of a node that has just been opened.
    pub(super) fn way(
        &self,
        ino: INodeNo,
        opened: Opened,
        register: impl FnOnce(OwnedFd) -> io::Result<BackingId>,
    ) -> Result<Way> {
        let handle = FileHandle(opened.handle);
        let flags = match opened.io {
            Io::Passthrough { source } => {
                let open = || match opened.file {
                    Some(file) => Ok(file),
                    None => self.union.backing_file(ino.0, source),
                };
                let backing =
                    self.backings
                        .get(&self.union, ino.0, opened.handle, source, open, register)?;
                if let Some(id) = backing {
                    return Ok(Way::Kernel(handle, id));
                }
                FopenFlags::empty()
            }
            Io::Cached { keep: true } => FopenFlags::FOPEN_KEEP_CACHE,
            Io::Cached { keep: false } => FopenFlags::empty(),
        };
        Ok(Way::Daemon(handle, flags))
    }
}
