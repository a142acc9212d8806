//! Overlay semantics: plain values in and out, no FUSE, no system calls of its
//! own. Errors are errnos, as the caller of the file system call gets them.

mod attr;
pub mod catalog;
mod chunks;
mod copy_data;
mod copy_up;
mod create;
mod dirs;
mod file;
mod handles;
mod ids;
mod ino;
mod links;
mod list_real;
mod lookup;
mod lower;
mod merged;
mod name;
mod node;
mod open;
pub mod options;
mod owner;
mod partial;
mod path;
mod positions;
mod prefetch;
mod readdir;
mod readdir_plus;
mod remove;
mod rename;
mod stack;
mod state;
mod table;
pub mod why;
mod xattr;

pub use attr::SetAttr;
pub use create::{Caller, Make};
pub use file::{Changed, Io, Opened, PASSTHROUGH_FROM, Released, Source};
pub use open::SetupError;
pub use readdir::Entry;
pub use readdir_plus::Taken;

use crate::layer::{
    Layer,
    marks::{Belief, Family, Mark},
    work::Work,
};
use crate::sys::{At, Errno, Result, fs::Stat, probe::Features};
use dirs::{DirFds, LowerDir};
use file::OpenFiles;
use ids::IdMap;
use lru::LruCache;
use node::{Node, ROOT_ID};
use options::Options;
use parking_lot::{Mutex, RwLock};
use std::cell::RefCell;
use std::collections::HashSet;
use std::ffi::CStr;
use std::hash::Hash;
use std::num::NonZeroUsize;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use table::Table;

/// A node and its attributes, as callers see them.
#[derive(Clone, Copy, Debug)]
pub struct Attr {
    /// The kernel's number for the node.
    pub id: u64,
    /// With `ino` the union's number, ids mapped, links counted.
    pub stat: Stat,
    /// They may change behind the kernel's back: they are of another node, to
    /// which the name went over at a copy-up, or such another node still has
    /// names of this one, or a passthrough mapping may change the file.
    pub volatile: bool,
    /// The node that they are of: another one than was asked about where the
    /// name went over to it.
    pub of: u64,
}

/// The writable layer and its work directory.
struct Upper {
    layer: Layer,
    work: Work,
    /// Keep others off both for as long as this lives.
    _locks: Vec<OwnedFd>,
}

/// A mounted union.
pub struct Union {
    options: Options,
    features: Features,
    /// Whose marks count in the upper, and in the lowers.
    belief: Belief,
    lower_belief: Belief,
    upper: Option<Upper>,
    /// Top first.
    lowers: Vec<Layer>,
    roots: Vec<Arc<LowerDir>>,
    /// What the lowers merge to, where that is written down.
    catalog: Option<catalog::Merged>,
    /// The hard link index; none = off.
    links: Option<links::Links>,
    inos: ino::Inos,
    uids: IdMap,
    gids: IdMap,
    /// Some ids have no number here: files of theirs show [`OVERFLOW_ID`](ids::OVERFLOW_ID).
    ids_lack: bool,
    table: Arc<Table>,
    root: Arc<Node>,
    /// The kernel opens files without a word: nobody knows which are open.
    opens_unasked: bool,
    /// See [`Union::tell_of_waits`].
    waits: Option<Box<dyn Fn() + Send + Sync>>,
    /// After a ticket only (see [`Node::ticket`] for all locks): written by
    /// renames of directories, read by whoever walks parents or changes a directory. Never
    /// held while data is copied or synced.
    topology: RwLock<()>,
    /// Between looking for a node by its `st_ino` and making it. Leaf lock
    /// but for the table and `state`.
    creating: Mutex<()>,
    fds: DirFds,
    ends: list_real::Ends,
    files: OpenFiles,
    partials: partial::Partials,
}

impl std::fmt::Debug for Union {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Union")
            .field("lowers", &self.lowers.len())
            .field("upper", &self.upper.is_some())
            .field("nodes", &self.table.len())
            .finish_non_exhaustive()
    }
}

impl Union {
    /// The node of a number of the kernel's.
    fn node(&self, id: u64) -> Result<Arc<Node>> {
        if id == ROOT_ID {
            return Ok(self.root.clone());
        }
        self.table.get(id).ok_or(Errno::STALE)
    }

    fn upper(&self) -> Result<&Upper> {
        self.upper.as_ref().ok_or(Errno::ROFS)
    }

    /// A mark's attribute name in this mount.
    fn mark(&self, mark: Mark) -> &'static CStr {
        mark.name(self.belief.own)
    }

    /// Can this inode carry the mount's private attributes: `user.*` only
    /// lives on files and directories.
    fn carries_marks(&self, kind: u32) -> bool {
        self.belief.own == Family::Trusted || matches!(kind, libc::S_IFREG | libc::S_IFDIR)
    }

    /// Can the upper hold private attributes.
    fn has_marks(&self) -> bool {
        self.belief.own == Family::Trusted || self.features.has(Features::XATTR)
    }

    /// Set a private attribute. Where the upper has none, what only helps is
    /// left out, and what cannot be done without is refused.
    fn set_mark(&self, at: At<'_>, mark: Mark, value: &[u8]) -> Result<()> {
        if self.has_marks() {
            return crate::sys::xattr::set(at, self.mark(mark), value, 0);
        }
        match mark {
            Mark::Origin | Mark::Impure | Mark::Nlink => Ok(()),
            Mark::Redirect => Err(Errno::XDEV),
            Mark::Plain => Err(Errno::PERM),
            Mark::Opaque | Mark::Metacopy | Mark::Whiteout => Err(Errno::OPNOTSUPP),
        }
    }

    /// Make a directory of the upper hide the lowers.
    fn set_opaque(&self, at: At<'_>) -> Result<()> {
        if self.has_marks() {
            return self.set_mark(at, Mark::Opaque, b"y");
        }
        let name = std::ffi::OsStr::new(crate::layer::marks::WH_OPAQUE);
        let flags = libc::O_CREAT | libc::O_WRONLY;
        let dir = crate::sys::fs::path_of(at)?;
        crate::sys::fs::open(dir, name, flags, 0o600).map(drop)
    }

    /// Remove a private attribute, which may be absent.
    fn clear_mark(&self, at: At<'_>, mark: Mark) -> Result<()> {
        match crate::sys::xattr::remove(at, self.mark(mark)) {
            Err(Errno::NODATA | Errno::OPNOTSUPP) => Ok(()),
            result => result,
        }
    }

    /// Are names and attributes only ever changed through this mount; how long
    /// may the kernel keep them otherwise.
    pub fn timeout(&self) -> Option<std::time::Duration> {
        self.options.timeout
    }

    /// What the union can use.
    pub fn features(&self) -> Features {
        self.features
    }

    /// What was asked of it.
    pub fn options(&self) -> &Options {
        &self.options
    }

    /// Is nothing ever written.
    pub fn read_only(&self) -> bool {
        self.upper.is_none()
    }

    /// The kernel forgets `count` lookups of a node; its handle if it has none
    /// left.
    pub fn forget(&self, id: u64, count: u64) -> Option<u64> {
        let node = self.table.forget(id, count)?;
        let serial = node.given_serial();
        if let Some(serial) = serial {
            // A release, if there was one, has seen to that.
            self.files.forget(serial);
        }
        if node.is_dir() {
            self.close_dir(&node);
        }
        drop(node);
        if self.table.shrinks() {
            crate::sys::process::give_back_memory();
        }
        serial
    }

    /// The kernel will not read or write files past us.
    pub fn disable_passthrough(&mut self) {
        self.features = self.features.without(Features::PASSTHROUGH);
    }

    /// Is it known what the lowers merge to.
    pub fn has_catalog(&self) -> bool {
        self.catalog.is_some()
    }

    /// The kernel opens files without a word to us, nor one of their release:
    /// they are read and written through us, copied up by the first change,
    /// and kept without a name for as long as the kernel knows them.
    pub fn open_unasked(&mut self) {
        self.disable_passthrough();
        self.opens_unasked = true;
    }

    /// Does it so.
    pub fn opens_unasked(&self) -> bool {
        self.opens_unasked
    }

    /// `tell` is called in each request that may wait, before it does: for the
    /// disk, or for the copy of much data.
    pub fn tell_of_waits(&mut self, tell: impl Fn() + Send + Sync + 'static) {
        self.waits = Some(Box::new(tell));
    }

    fn may_wait(&self) {
        if let Some(tell) = &self.waits {
            tell();
        }
    }

    /// How many nodes are known.
    pub fn nodes(&self) -> usize {
        self.table.len()
    }

    /// What the layers lie on can be below a file system of this depth more:
    /// 1 where no layer is on overlayfs or FUSE itself.
    pub fn lowest_stack_depth(&self) -> u32 {
        const OVERLAYFS: u64 = 0x794c_7630;
        const FUSE: u64 = 0x6573_5546;
        const ECRYPTFS: u64 = 0xf15f;
        let mut asked = HashSet::new();
        let stacked = |layer: &Layer| {
            if !asked.insert(layer.dev) {
                return false;
            }
            crate::sys::fs::statfs(&*layer.mount)
                .is_ok_and(|s| matches!(s.magic, OVERLAYFS | FUSE | ECRYPTFS))
        };
        let upper = self.upper.as_ref().map(|u| &u.layer);
        if self.lowers.iter().chain(upper).any(stacked) {
            2
        } else {
            1
        }
    }
}

thread_local! {
    static SCRATCH: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

/// A cache of the `most` recently used, which takes room only as it fills: an
/// idle mount has nothing in it.
pub(crate) fn lru_of<K: Hash + Eq, V>(most: usize) -> LruCache<K, V> {
    let mut cache = LruCache::unbounded();
    cache.resize(NonZeroUsize::new(most).unwrap_or(NonZeroUsize::MIN));
    cache
}

/// A buffer of this thread's for attribute lists.
fn with_scratch<T>(f: impl FnOnce(&mut Vec<u8>) -> T) -> T {
    SCRATCH.with(|s| match s.try_borrow_mut() {
        Ok(mut buf) => f(&mut buf),
        Err(_) => f(&mut Vec::new()),
    })
}
