//! Open files: which way their data goes, and the way through the daemon.
//!
//! The kernel's rule (fs/fuse/iomode.c): while a node is open one way, it
//! cannot be opened another way, nor with another backing file. So the way is
//! chosen by the first open and kept until the last release:
//! * small lower files go through the page cache of the FUSE inode, which
//!   stays coherent over a copy-up, since only our source changes;
//! * large lower files and upper files go past the daemon;
//! * files with set-id bits go through the daemon, which is told when a write
//!   must clear them.

use super::{
    Union,
    attr::Place,
    copy_up::Want,
    create::Caller,
    lru_of,
    node::Node,
    options::Fsync,
    state::{InUpper, IoMode, LowerFile, State},
};
use crate::sys::{
    At, Errno, Result, copy,
    fs::{self},
    probe::Features,
};
use lru::LruCache;
use parking_lot::Mutex;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;

/// Lower files up to this size are read through the daemon, in bytes.
pub const PASSTHROUGH_FROM: u64 = 128 * 1024;

/// Which way an open file's data goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Io {
    /// Through the page cache and the daemon; `keep` what is cached already.
    Cached {
        /// The node's cached pages are still good.
        keep: bool,
    },
    /// Past the daemon. One backing file serves all opens of the node while
    /// it has the same `source`.
    Passthrough {
        /// Differs when the backing file must be another one.
        source: Source,
    },
}

/// What a passthrough backing file is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// The lower layer's file: never to be opened for writing.
    Lower,
    /// The upper's.
    Upper,
}

/// The answer to an open.
#[derive(Debug)]
pub struct Opened {
    /// Which node it is: unlike the kernel's number never given twice, so a
    /// release that comes late is not taken for another file's.
    pub handle: u64,
    /// The way.
    pub io: Io,
    /// The kernel is to drop the attributes that it has: set-id bits were
    /// cleared by truncation, or a mapping may change the file unseen.
    pub stale: bool,
    /// A new file, as [`Union::backing_file`] would open it.
    pub file: Option<OwnedFd>,
}

/// The answer to a release.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Released {
    /// It was the node's last.
    pub last: bool,
    /// The kernel is to drop the attributes that it has.
    pub stale: bool,
}

/// What changed the data of a file.
#[derive(Clone, Copy, Debug)]
pub struct Changed {
    /// Bytes.
    pub len: usize,
    /// Set-id bits were cleared.
    pub cleared: bool,
}

/// A data descriptor that the daemon keeps for a node.
#[derive(Debug)]
struct OpenFile {
    fd: Arc<OwnedFd>,
    writable: bool,
    upper: bool,
}

/// The most recently used data descriptors, by serial. Leaf lock.
pub(super) struct OpenFiles(Mutex<LruCache<u64, OpenFile>>);

impl OpenFiles {
    pub(super) fn new(capacity: usize) -> OpenFiles {
        OpenFiles(Mutex::new(lru_of(capacity)))
    }

    fn get(&self, serial: u64, upper: bool, write: bool) -> Option<Arc<OwnedFd>> {
        let mut files = self.0.lock();
        let file = files.get(&serial)?;
        (file.upper == upper && (file.writable || !write)).then(|| file.fd.clone())
    }

    fn put(&self, serial: u64, file: OpenFile) {
        let _out = self.0.lock().push(serial, file);
    }

    pub(super) fn forget(&self, serial: u64) {
        let _out = self.0.lock().pop(&serial);
    }
}

const ACCESS: i32 = libc::O_ACCMODE;
/// The kernel's own flag (`__FMODE_EXEC`): the file is opened to be run.
const RUN: i32 = 0x20;

impl Union {
    /// Open a file: copies it up where it is to be written, and says which way
    /// the data goes.
    ///
    /// # Errors
    /// `ESTALE` where the name belongs to another node since a copy-up: the
    /// kernel looks it up again. `ETXTBSY`, `EROFS` and errors of the upper.
    pub fn open_file(&self, id: u64, flags: i32, caller: Caller) -> Result<Opened> {
        let node = self.node(id)?;
        if !node.is_file() {
            return Err(if node.is_dir() {
                Errno::ISDIR
            } else {
                Errno::NXIO
            });
        }
        let truncates = flags & libc::O_TRUNC != 0;
        let writes = flags & ACCESS != libc::O_RDONLY || truncates;
        // For `O_RDONLY|O_TRUNC` the kernel sees to that only afterwards.
        if truncates && node.state.lock().runs > 0 {
            return Err(Errno::TXTBSY);
        }
        if writes {
            let now = match truncates {
                true => self.copy_up(&node, Want::Empty)?,
                false => self.copy_up_to_write(&node)?,
            };
            if !Arc::ptr_eq(&now, &node) {
                return Err(Errno::STALE);
            }
        }
        let mut cleared = false;
        if truncates {
            let _moving = self.topology.read();
            let _named = node.named();
            let file = self.open_data(&node, true)?;
            let place = self.place(&node)?;
            let cut = || fs::truncate(&*file, 0);
            ((), cleared) = self.without_privileges(place.at(), caller, false, cut)?;
            node.state.lock().seen.emptied();
        }
        // An inode that is open when its last name goes is kept.
        let _moving = self.topology.read();
        if writes && !truncates && node.partial().is_none() {
            // The kernel opens a backing file after the answer, and then makes
            // EIO of what is an upper that became read-only or a file that may
            // only be appended to.
            drop(self.open_upper(&node, flags & (ACCESS | libc::O_APPEND))?);
        }
        let _named = node.named();
        let handle = node.serial();
        let mut state = node.state.lock();
        if state.successor.is_some() || state.is_lost() {
            return Err(Errno::STALE);
        }
        if state.io == IoMode::Closed {
            state.io = match &state.partial {
                Some(_) => IoMode::Cached,
                None => self.choose(&state),
            };
        }
        let io = match state.io {
            IoMode::PassLower => Io::Passthrough {
                source: Source::Lower,
            },
            IoMode::PassUpper => {
                state.stale_cache |= writes;
                cleared |= state.may_map(flags);
                Io::Passthrough {
                    source: Source::Upper,
                }
            }
            IoMode::Cached | IoMode::Closed => Io::Cached {
                keep: !std::mem::take(&mut state.stale_cache),
            },
        };
        state.opens += 1;
        state.runs += u32::from(flags & RUN != 0);
        Ok(Opened {
            handle,
            io,
            stale: cleared,
            file: None,
        })
    }

    fn choose(&self, state: &State) -> IoMode {
        let mode = state.seen.mode().unwrap_or(0);
        let set_id = mode & (libc::S_ISUID | libc::S_ISGID) != 0;
        if !self.features.has(Features::PASSTHROUGH) {
            return IoMode::Cached;
        }
        match state.upper {
            InUpper::Data if set_id => IoMode::Cached,
            InUpper::Data => IoMode::PassUpper,
            _ if state.seen.is_large() => IoMode::PassLower,
            _ => IoMode::Cached,
        }
    }

    /// Do the opens of a node go past the daemon.
    pub fn is_passed(&self, id: u64) -> bool {
        self.node(id).is_ok_and(|node| {
            let io = node.state.lock().io;
            matches!(io, IoMode::PassLower | IoMode::PassUpper)
        })
    }

    /// The kernel did not take the node's backing file, and has none of it:
    /// its opens go through the daemon.
    ///
    /// # Errors
    /// `ESTALE` for an unknown node.
    pub fn open_without_passthrough(&self, id: u64) -> Result<()> {
        let node = self.node(id)?;
        let mut state = node.state.lock();
        state.io = IoMode::Cached;
        // The caller answers with what makes the kernel drop its pages.
        state.stale_cache = false;
        Ok(())
    }

    /// A descriptor to register as a node's backing file. It is read-only: the
    /// kernel opens it again with each opener's flags.
    ///
    /// # Errors
    /// As open(2).
    pub fn backing_file(&self, id: u64, source: Source) -> Result<OwnedFd> {
        let node = self.node(id)?;
        match source {
            Source::Lower => {
                let lower = node.state.lock().lower().ok_or(Errno::STALE)?;
                self.open_lower(&lower)
            }
            Source::Upper => {
                let _moving = self.topology.read();
                self.open_upper(&node, libc::O_RDONLY)
            }
        }
    }

    /// An open file description is gone, which was opened with `flags` and got
    /// `handle`. The kernel waits for no answer to this, so the node may have
    /// been forgotten, and its number be another one's, before it is seen.
    pub fn release(&self, id: u64, handle: u64, flags: i32) -> Released {
        let Some(node) = self.opened(id, handle) else {
            return Released {
                last: true,
                stale: false,
            };
        };
        let mut state = node.state.lock();
        state.opens = state.opens.saturating_sub(1);
        state.runs = state.runs.saturating_sub(u32::from(flags & RUN != 0));
        let last = state.opens == 0;
        let stale = last && std::mem::take(&mut state.shared_writer);
        if last {
            state.io = IoMode::Closed;
            drop(state);
            self.files.forget(node.serial());
        }
        Released { last, stale }
    }

    /// Is the node that was opened as `handle` still known, and how often is it
    /// open.
    pub fn opens(&self, id: u64, handle: u64) -> Option<u32> {
        self.opened(id, handle).map(|node| node.state.lock().opens)
    }

    fn opened(&self, id: u64, handle: u64) -> Option<Arc<Node>> {
        self.node(id)
            .ok()
            .filter(|node| node.given_serial() == Some(handle))
    }

    /// Read through the daemon; fewer bytes only at the end.
    ///
    /// # Errors
    /// As pread(2).
    pub fn read(&self, id: u64, offset: u64, buf: &mut [u8]) -> Result<usize> {
        let node = self.node(id)?;
        if let Some(partial) = node.partial() {
            return partial.read(buf, offset);
        }
        fs::read_at(&*self.data(&node, false)?, buf, offset)
    }

    /// Write through the daemon. `kill` set-id bits, as the kernel asks.
    ///
    /// # Errors
    /// As pwrite(2).
    pub fn write(
        &self,
        id: u64,
        offset: u64,
        data: &[u8],
        kill: bool,
        caller: Caller,
    ) -> Result<Changed> {
        let node = self.copy_up_to_write(&self.node(id)?)?;
        if let Some(partial) = node.partial() {
            // It has no set-id bits.
            let len = partial.write(data, offset)?;
            return Ok(Changed {
                len,
                cleared: false,
            });
        }
        let fd = self.data(&node, true)?;
        if !kill {
            let len = fs::write_at(&*fd, data, offset)?;
            return Ok(Changed {
                len,
                cleared: false,
            });
        }
        let (len, cleared) = self.without_privileges(At::Fd(fd.as_fd()), caller, true, || {
            fs::write_at(&*fd, data, offset)
        })?;
        Ok(Changed { len, cleared })
    }

    /// fsync(2), or fdatasync(2).
    ///
    /// # Errors
    /// As fsync(2).
    pub fn fsync(&self, id: u64, data_only: bool) -> Result<()> {
        let node = self.whole(self.node(id)?.latest())?;
        if self.options.fsync == Fsync::Volatile || !node.state.lock().in_upper() {
            return Ok(());
        }
        if node.is_dir() {
            let dir = {
                let _moving = self.topology.read();
                self.upper_dir(&node)?
            };
            self.may_wait();
            return fs::sync_dir(&*dir);
        }
        // Nobody waits for the disk but who has asked.
        let fd = {
            let _moving = self.topology.read();
            if node.state.lock().upper == InUpper::Data {
                self.open_data(&node, false)?
            } else {
                Arc::new(self.open_upper(&node, libc::O_RDONLY)?)
            }
        };
        self.may_wait();
        fs::sync(&*fd, data_only)
    }

    /// fallocate(2).
    ///
    /// # Errors
    /// As fallocate(2).
    pub fn fallocate(
        &self,
        id: u64,
        mode: i32,
        offset: u64,
        len: u64,
        caller: Caller,
    ) -> Result<Changed> {
        let node = self.copy_up(&self.node(id)?, Want::Data)?;
        let fd = self.data(&node, true)?;
        let ((), cleared) = self.without_privileges(At::Fd(fd.as_fd()), caller, false, || {
            fs::fallocate(&*fd, mode, offset, len)
        })?;
        Ok(Changed { len: 0, cleared })
    }

    /// lseek(2) for data and holes.
    ///
    /// # Errors
    /// As lseek(2).
    pub fn lseek(&self, id: u64, offset: u64, whence: i32) -> Result<u64> {
        let node = self.whole(self.node(id)?)?;
        fs::seek_sparse(&*self.data(&node, false)?, offset, whence)
    }

    /// copy_file_range(2) between two files of the union.
    ///
    /// # Errors
    /// As copy_file_range(2).
    pub fn copy_file_range(
        &self,
        from: (u64, u64),
        to: (u64, u64),
        len: usize,
        caller: Caller,
    ) -> Result<Changed> {
        let source = self.whole(self.node(from.0)?)?;
        let target = self.copy_up(&self.node(to.0)?, Want::Data)?;
        let fd_in = self.data(&source, false)?;
        let fd_out = self.data(&target, true)?;
        self.may_wait();
        let (len, cleared) =
            self.without_privileges(At::Fd(fd_out.as_fd()), caller, false, || {
                copy::file_range(&*fd_in, from.1, &*fd_out, to.1, len)
            })?;
        Ok(Changed { len, cleared })
    }

    fn data(&self, node: &Arc<Node>, write: bool) -> Result<Arc<OwnedFd>> {
        let _moving = self.topology.read();
        self.open_data(node, write)
    }

    /// The data descriptor of a node. The caller holds `topology`.
    pub(super) fn open_data(&self, node: &Arc<Node>, write: bool) -> Result<Arc<OwnedFd>> {
        let (upper, lower) = {
            let state = node.state.lock();
            // Descriptors that a copy-up left behind go on reading the lower.
            let upper = state.upper == InUpper::Data && state.successor.is_none();
            (upper, state.lower())
        };
        if let Some(fd) = self.files.get(node.serial(), upper, write) {
            return Ok(fd);
        }
        let fd = match (upper, write) {
            (true, false) => self.open_upper(node, libc::O_RDONLY)?,
            (true, true) => self.open_upper(node, libc::O_RDWR)?,
            (false, true) => return Err(Errno::ROFS),
            (false, false) => self.open_lower(&lower.ok_or(Errno::STALE)?)?,
        };
        let fd = Arc::new(fd);
        let file = OpenFile {
            fd: fd.clone(),
            writable: write,
            upper,
        };
        self.files.put(node.serial(), file);
        Ok(fd)
    }

    /// The upper's file. The caller holds `topology`.
    pub(super) fn open_upper(&self, node: &Arc<Node>, flags: i32) -> Result<OwnedFd> {
        let _named = node.named();
        match self.place(node)? {
            Place::Name(dir, name) => fs::open(dir, &name, flags, 0),
            Place::Fd(fd) => fs::reopen(fd, flags),
        }
    }

    /// The data of a lower file, only ever for reading, and without leaving an
    /// access time.
    pub(super) fn open_lower(&self, lower: &LowerFile) -> Result<OwnedFd> {
        let file = lower.data();
        let dir = self.lower_dir(&file.dir)?;
        let flags = libc::O_RDONLY | libc::O_NONBLOCK;
        match fs::open(&*dir, &file.name, flags | libc::O_NOATIME, 0) {
            // Only the owner may.
            Err(Errno::PERM) => fs::open(&*dir, &file.name, flags, 0),
            result => result,
        }
    }

    /// A new file, open: the answer to a create.
    pub(super) fn opened_new(&self, node: &Node, flags: i32, file: Option<OwnedFd>) -> Opened {
        let handle = node.serial();
        let mut state = node.state.lock();
        if state.io == IoMode::Closed {
            state.io = self.choose(&state);
        }
        state.opens += 1;
        let io = if state.io == IoMode::PassUpper {
            state.stale_cache = true;
            // The attributes of the answer hold all the same: nothing can be stored
            // by a mapping before there is data, and the kernel asks again for the
            // attributes of a file that gets some.
            state.may_map(flags);
            Io::Passthrough {
                source: Source::Upper,
            }
        } else {
            Io::Cached { keep: false }
        };
        Opened {
            handle,
            io,
            stale: false,
            file,
        }
    }
}

impl State {
    /// Its last name went while it was not open: there is no way to its data.
    fn is_lost(&self) -> bool {
        self.removed && self.in_upper() && self.orphan.is_none()
    }

    /// An open by passthrough: if it lets the file be mapped for writing, its
    /// attributes are not to be kept while it is open. True if that is new.
    fn may_map(&mut self, flags: i32) -> bool {
        flags & ACCESS == libc::O_RDWR && !std::mem::replace(&mut self.shared_writer, true)
    }
}
