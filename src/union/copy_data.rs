//! The data of lower files: into a copy that is made, and into a metacopy in place.

use super::{
    Union,
    copy_up::Want,
    node::Node,
    options::Fsync,
    state::{InUpper, LowerFile},
};
use crate::layer::marks::Mark;
use crate::sys::{
    At, Errno, Result, copy,
    fs::{self, SetTime, Stat},
    probe::Features,
    xattr,
};
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;

/// To copy so much takes longer than most requests, in bytes.
const MUCH: u64 = 1 << 20;

impl Union {
    /// The data of a metacopy. It is believed only once its mark is gone. In
    /// place, since other names and changes of attributes may come meanwhile;
    /// so who dies here may leave a newer modification time.
    pub(super) fn copy_up_data(&self, node: &Arc<Node>, want: Want) -> Result<()> {
        let lower = node.state.lock().lower().ok_or(Errno::STALE)?;
        let fd = {
            let _moving = self.topology.read();
            self.open_upper(node, libc::O_RDWR)?
        };
        let at = At::Fd(fd.as_fd());
        if want == Want::Empty {
            fs::truncate(&fd, 0)?;
        } else {
            let stat = fs::stat(at)?;
            // What is shown meanwhile.
            node.state.lock().times = Some(Box::new((stat.atime, stat.mtime)));
            let filled = self.fill(&lower, &fd, &stat);
            node.state.lock().times = None;
            filled?;
        }
        if self.options.fsync != Fsync::Volatile {
            fs::sync(&fd, true)?;
        }
        self.clear_mark(at, Mark::Metacopy)?;
        self.clear_mark(at, Mark::Redirect)?;
        node.state.lock().upper = InUpper::Data;
        match self.options.fsync {
            Fsync::Strict => fs::sync(&fd, false),
            _ => Ok(()),
        }
    }

    /// Put the lower file's data into an empty file of its size, whose attributes
    /// stay; what does not fit is taken out again.
    fn fill(&self, lower: &LowerFile, fd: &OwnedFd, stat: &Stat) -> Result<()> {
        let at = At::Fd(fd.as_fd());
        let capability = xattr::get(at, c"security.capability")?;
        let fragile = capability.is_some() || stat.mode & (libc::S_ISUID | libc::S_ISGID) != 0;
        let copied = match fragile {
            // Who writes takes these away, and is killed before they are back.
            true => self.store_data(lower, fd, stat.size),
            false => self.copy_data(lower, fd, stat.size),
        };
        if copied.is_err() {
            let out = libc::FALLOC_FL_PUNCH_HOLE | libc::FALLOC_FL_KEEP_SIZE;
            if let Err(e) = fs::fallocate(fd, out, 0, stat.size) {
                log::warn!("cannot free what was copied of a file: {e}");
            }
            if let Some(value) = capability {
                xattr::set(at, c"security.capability", &value, 0)?;
            }
            if fs::stat(at)?.mode != stat.mode {
                fs::chmod(at, stat.mode)?;
            }
        }
        let times = fs::utimens(at, SetTime::At(stat.atime), SetTime::At(stat.mtime));
        copied.and(times)
    }

    fn store_data(&self, lower: &LowerFile, to: &OwnedFd, size: u64) -> Result<()> {
        self.may_wait();
        copy::stores(self.open_lower(lower)?, to, size)
    }

    pub(super) fn copy_data(&self, lower: &LowerFile, to: &OwnedFd, size: u64) -> Result<()> {
        if size >= MUCH {
            self.may_wait();
        }
        let from = self.open_lower(lower)?;
        copy::data(&from, to, size, self.features.has(Features::REFLINK))
    }
}
