//! Listing a directory that is one real directory, with that one's cookies.

use super::{Union, dirs::LowerDir, node::Node, readdir::Entry};
use crate::layer::marks;
use crate::sys::{Result, dir, fs};
use lru::LruCache;
use parking_lot::Mutex;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::sync::Arc;

/// What was met in a real directory.
pub(super) struct Seen {
    /// If its end was: the position after the last entry that is shown.
    end: Option<u64>,
    /// There are `.wh.*` entries.
    wh: bool,
}

/// Where directories of the lowers end that were just listed, by serial. Leaf
/// lock.
pub(super) struct Ends(Mutex<LruCache<u64, u64>>);

impl Ends {
    pub(super) fn new() -> Ends {
        Ends(Mutex::new(super::lru_of(64)))
    }

    fn put(&self, serial: u64, end: u64) {
        self.0.lock().put(serial, end);
    }

    fn is_at(&self, serial: u64, position: u64) -> bool {
        self.0.lock().peek(&serial) == Some(&position)
    }
}

impl Union {
    /// A directory that is one of a lower layer. It does not change, so what a
    /// whole listing says of it is kept: the kernel asks once more at its end.
    pub(super) fn list_lower(
        &self,
        node: &Arc<Node>,
        dir: &LowerDir,
        fd: &OwnedFd,
        offset: u64,
        sink: &mut dyn FnMut(&Entry) -> bool,
    ) -> Result<()> {
        if offset != 0 && self.ends.is_at(dir.serial, offset) {
            return Ok(());
        }
        let seen = self.list_one(node, fd, false, dir.xwhiteouts, offset, sink)?;
        if let Some(end) = seen.end {
            self.ends.put(dir.serial, end);
            if offset == 0 {
                let _ = dir.wh.set(seen.wh);
            }
        }
        Ok(())
    }

    /// A directory that is one real one.
    pub(super) fn list_one(
        &self,
        node: &Arc<Node>,
        fd: &OwnedFd,
        impure: bool,
        xwhiteouts: bool,
        offset: u64,
        sink: &mut dyn FnMut(&Entry) -> bool,
    ) -> Result<Seen> {
        let dev = fs::stat_fd(fd)?.dev;
        let mut result = Ok(());
        let (mut last, mut wh, mut ended) = (offset, false, true);
        let [this, above] = self.dots(node);
        let in_upper = node.state.lock().in_upper();
        let open = match in_upper {
            true => dir::open(fd)?,
            false => dir::open_unseen(fd)?,
        };
        dir::read_all(open, offset, |e| {
            let mut entry = Entry {
                ino: 0,
                kind: e.kind,
                next: e.cookie,
                name: e.name.to_owned(),
            };
            wh |= marks::is_wh(e.name);
            match e.name.as_bytes() {
                b"." => entry.ino = this,
                b".." => entry.ino = above,
                _ => match self.entry(node, fd.as_fd(), &e, dev, impure, xwhiteouts) {
                    Ok(Some((ino, kind))) => (entry.ino, entry.kind) = (ino, kind),
                    Ok(None) => return true,
                    Err(err) => {
                        result = Err(err);
                        return false;
                    }
                },
            }
            ended = sink(&entry);
            if ended {
                last = entry.next;
            }
            ended
        })?;
        result?;
        let end = ended.then_some(last);
        Ok(Seen { end, wh })
    }

    /// Number and type of a real directory's entry; `None` for what is none.
    fn entry(
        &self,
        node: &Arc<Node>,
        fd: BorrowedFd<'_>,
        e: &dir::Entry<'_>,
        dev: u64,
        impure: bool,
        xwhiteouts: bool,
    ) -> Result<Option<(u64, u32)>> {
        if impure {
            return self.listed(node, e.name);
        }
        match self.is_mark(fd, e, xwhiteouts)? {
            Some(kind) => Ok(Some((self.inos.map(dev, e.ino), kind))),
            None => Ok(None),
        }
    }
}
