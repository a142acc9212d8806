//! Nodes: what the kernel knows by number, and the table that holds them.

use super::{dirs::LowerDir, partial::Partial, stack::Stack};
use crate::sys::fs::{Stat, Time};
use dashmap::DashMap;
use parking_lot::{Mutex, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::ffi::{OsStr, OsString};
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Weak};

/// The kernel's number for the root, whatever its `st_ino`.
pub const ROOT_ID: u64 = 1;
/// Numbers from here on are given to nodes whose `st_ino` is taken.
const FIRST_SPARE_ID: u64 = 1 << 63;

/// One name of a node.
#[derive(Clone, Debug)]
pub(super) struct Link {
    pub parent: Arc<Node>,
    pub name: OsString,
}

impl Link {
    pub(super) fn is(&self, parent: &Arc<Node>, name: &OsStr) -> bool {
        Arc::ptr_eq(&self.parent, parent) && self.name == name
    }
}

/// How much of a node is in the upper layer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum InUpper {
    /// Nothing.
    #[default]
    No,
    /// Attributes; the data is in a lower layer (metacopy).
    Meta,
    /// All of it.
    Data,
}

/// A non-directory in a lower layer.
#[derive(Clone, Debug)]
pub(super) struct LowerFile {
    pub dir: Arc<LowerDir>,
    pub name: OsString,
    /// It is a metacopy itself: where its data is.
    pub data: Option<Box<LowerFile>>,
    /// Its inode in the catalog.
    pub known: Option<u32>,
}

impl LowerFile {
    /// The same name in the same directory of the same layer.
    pub(super) fn same(&self, other: &LowerFile) -> bool {
        self.name == other.name && self.dir.same(&other.dir)
    }

    /// Where the data is.
    pub(super) fn data(&self) -> &LowerFile {
        let mut file = self;
        while let Some(next) = &file.data {
            file = next;
        }
        file
    }
}

/// The number of names of an inode in the index.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Count {
    /// This many.
    Total(i64),
    /// As many as the upper's inode has links, and this many more.
    Relative(i64),
}

impl Count {
    /// From the attribute's value, given the lower's count.
    pub(super) fn decode(value: &[u8], lower: Option<u32>) -> Option<Count> {
        match crate::layer::marks::nlink::decode(value)? {
            (true, diff) => Some(Count::Relative(diff)),
            (false, diff) => Some(Count::Total(i64::from(lower?) + diff)),
        }
    }

    /// The number, given the upper inode's count.
    pub(super) fn names(self, upper: u32) -> u32 {
        let n = match self {
            Count::Total(n) => n,
            Count::Relative(diff) => i64::from(upper) + diff,
        };
        u32::try_from(n.max(0)).unwrap_or(u32::MAX)
    }
}

/// Where reads and writes of a node's open files go. Sticky while any is open.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum IoMode {
    /// Not open.
    #[default]
    Closed,
    /// Through the page cache of the FUSE inode and through the daemon.
    Cached,
    /// Past the daemon, to the upper's file.
    PassUpper,
    /// Past the daemon, to the lower's file, only for reading.
    PassLower,
}

/// What is known of a node's names and places. Leaf lock: never held over a
/// system call.
#[derive(Debug, Default)]
pub(super) struct State {
    /// Names that are known; a directory has one until it is removed.
    pub links: Vec<Link>,
    pub upper: InUpper,
    /// Its name in the index directory, where it is always to be found.
    pub index: Option<OsString>,
    /// How names are counted where the index holds the inode.
    pub nlink: Option<Count>,
    /// Non-directories: the lower file that is shown, or was copied up.
    pub lower: Option<LowerFile>,
    /// It is being copied up, without a name yet.
    pub partial: Option<Arc<Partial>>,
    /// What its access and modification time stay while its data is put into a
    /// metacopy.
    pub times: Option<Box<(Time, Time)>>,
    /// Directories: what is merged, top first.
    pub lowers: Stack,
    /// It was copied up from a lower inode, whose number it shows.
    pub origin: bool,
    /// The number that its names have in the layers is not this node's: the
    /// table knows it by its names.
    pub by_name: bool,
    /// It was one of several names of a lower file, and is a file of its own
    /// since it was copied up: it shows the upper's number, lest the others
    /// seem to be the same file.
    pub parted: bool,
    /// The redirect of the upper directory, an absolute path.
    pub redirect: Option<OsString>,
    /// The upper directory is marked impure.
    pub impure: bool,
    /// The upper directory has `.wh.*` files; unknown until somebody looks.
    pub wh: Option<bool>,
    /// The directory's default ACL, once read.
    pub default_acl: Option<Option<Arc<Vec<u8>>>>,
    /// The names of a merged directory, once read.
    pub listing: Option<Box<super::readdir::Listing>>,
    /// Mode and size when they were last seen, for choosing how to open.
    pub mode_hint: u32,
    pub size_hint: u64,
    /// Its content was given to the kernel before its first open.
    pub prefetched: bool,
    pub io: IoMode,
    /// Open file descriptions.
    pub opens: u32,
    /// Those of programs that run it.
    pub runs: u32,
    /// It is known to have no `security.capability`, which the kernel asks for at
    /// the first write and at each chown.
    pub no_capability: bool,
    /// Its capability was removed by the last request that changed it.
    pub lost_capability: bool,
    /// Open by passthrough for reading and writing, so perhaps mapped shared.
    pub shared_writer: bool,
    /// Written by passthrough: pages cached before are stale.
    pub stale_cache: bool,
    /// Kept open because it has no name any more.
    pub orphan: Option<Arc<OwnedFd>>,
    /// The last name is gone.
    pub removed: bool,
    /// The attributes it had then, where it was not open.
    pub last: Option<Box<Stat>>,
    /// Since a copy-up under open lower descriptors the name belongs to this
    /// node; only those descriptors still use the old one.
    pub successor: Option<Arc<Node>>,
    /// The node that this one is the successor of. As long as it lives the
    /// kernel may know names of ours as that one's.
    pub predecessor: Weak<Node>,
}

impl State {
    /// The lower layer that the attributes come from, if it is one.
    pub(super) fn lower_layer(&self) -> Option<u16> {
        if self.in_upper() {
            return None;
        }
        let dir = self.lowers.top().map(|d| d.layer);
        dir.or(self.lower.as_ref().map(|f| f.dir.layer))
    }

    /// Its inode in the catalog, which has its attributes as long as nothing of
    /// it is in the upper.
    pub(super) fn known(&self) -> Option<u32> {
        if self.in_upper() || self.orphan.is_some() {
            return None;
        }
        let dir = self.lowers.known().map(|known| known.inode);
        dir.or(self.lower.as_ref().and_then(|file| file.known))
    }

    /// Is anything of it in the upper.
    pub(super) fn in_upper(&self) -> bool {
        self.upper != InUpper::No
    }
}

/// An inode of the union.
#[derive(Debug)]
pub struct Node {
    /// The kernel's number for it.
    pub(super) id: u64,
    /// Never used twice, unlike `id`.
    pub(super) serial: u64,
    /// `st_ino`.
    pub(super) ino: u64,
    /// `S_IFMT` bits.
    pub(super) kind: u32,
    /// Lock order: a ticket, then topology, then `ns` (two only by
    /// [`Node::both_ns`]), then `naming` of a descendant before that of an
    /// ancestor (two files by [`Node::both_naming`]), then `state`. Who holds
    /// topology or `ns` takes no ticket.
    pub(super) ticket: Mutex<()>,
    /// Directories: the names below do not change.
    pub(super) ns: RwLock<()>,
    /// Held for writing while the node gets, changes or loses a name (but not by
    /// a rename of directories), so for reading by whoever goes to the inode by a
    /// name of it: the name could else be another inode's by then.
    pub(super) naming: RwLock<()>,
    pub(super) state: Mutex<State>,
    table: Weak<Table>,
}

impl Node {
    pub(super) fn is_dir(&self) -> bool {
        self.kind == libc::S_IFDIR
    }

    pub(super) fn is_file(&self) -> bool {
        self.kind == libc::S_IFREG
    }

    /// A directory that merges nothing and has no `.wh.*` files: what it has under
    /// a name the upper alone says.
    pub(super) fn is_only_upper(&self) -> bool {
        let state = self.state.lock();
        let alone = state.in_upper() && state.lowers.is_empty();
        alone && self.is_dir() && !state.removed && state.wh == Some(false)
    }

    /// Its copy under way.
    pub(super) fn partial(&self) -> Option<Arc<Partial>> {
        self.state.lock().partial.clone()
    }

    /// One of its names.
    pub(super) fn link(&self) -> Option<Link> {
        self.state.lock().links.first().cloned()
    }

    /// Keeps the node's names while it is held, with `topology`.
    pub(super) fn named(&self) -> RwLockReadGuard<'_, ()> {
        // Who has it may ask again.
        self.naming.read_recursive()
    }

    /// Locks the names in two directories, which may be the same, for writing.
    /// Who holds one never waits here for the other.
    pub(super) fn both_ns<'a>(
        a: &'a Node,
        b: &'a Node,
    ) -> (RwLockWriteGuard<'a, ()>, Option<RwLockWriteGuard<'a, ()>>) {
        if a.serial == b.serial {
            return (a.ns.write(), None);
        }
        let (mut first, mut second) = (a, b);
        loop {
            let held = first.ns.write();
            if let Some(other) = second.ns.try_write() {
                return (held, Some(other));
            }
            drop(held);
            std::mem::swap(&mut first, &mut second);
        }
    }

    /// Locks the names of one or two files for a change.
    pub(super) fn both_naming<'a>(
        a: &'a Node,
        b: Option<&'a Arc<Node>>,
    ) -> (RwLockWriteGuard<'a, ()>, Option<RwLockWriteGuard<'a, ()>>) {
        match b.map(|b| &**b).filter(|b| b.serial != a.serial) {
            Some(b) if b.serial < a.serial => {
                let held = b.naming.write();
                (a.naming.write(), Some(held))
            }
            other => (a.naming.write(), other.map(|b| b.naming.write())),
        }
    }

    /// Have its names gone over to another node.
    pub(super) fn has_successor(&self) -> bool {
        self.state.lock().successor.is_some()
    }

    /// From now on its names lead to it, whatever number they have in the layers.
    pub(super) fn known_by_name(self: &Arc<Node>) {
        let mut state = self.state.lock();
        state.by_name = true;
        if let Some(table) = self.table.upgrade() {
            state.links.iter().for_each(|link| table.name(link, self));
        }
    }

    /// It has one more name.
    pub(super) fn gains(self: &Arc<Node>, state: &mut State, link: Link) {
        if state.by_name
            && let Some(table) = self.table.upgrade()
        {
            table.name(&link, self);
        }
        state.links.push(link);
    }

    /// It has lost this name, if it had it.
    pub(super) fn loses(&self, state: &mut State, parent: &Arc<Node>, name: &OsStr) {
        state.links.retain(|l| !l.is(parent, name));
        if state.by_name
            && let Some(table) = self.table.upgrade()
        {
            table.unname(parent, name, self);
        }
    }

    /// One of its names has become another.
    pub(super) fn moved(self: &Arc<Node>, old: &Link, new: Link) {
        let mut state = self.state.lock();
        self.loses(&mut state, &old.parent, &old.name);
        self.loses(&mut state, &new.parent, &new.name);
        self.gains(&mut state, new);
    }

    /// Does it still have this name.
    pub(super) fn has(&self, link: &Link) -> bool {
        let state = self.state.lock();
        state.links.iter().any(|l| l.is(&link.parent, &link.name))
    }

    /// The node that the name belongs to now.
    pub(super) fn latest(self: &Arc<Node>) -> Arc<Node> {
        let mut node = self.clone();
        loop {
            let next = node.state.lock().successor.clone();
            match next {
                Some(next) => node = next,
                None => return node,
            }
        }
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        if let Some(table) = self.table.upgrade() {
            table.dropped(self.id, self.ino, self.serial);
            let state = self.state.get_mut();
            if state.by_name {
                let links = std::mem::take(&mut state.links);
                links
                    .iter()
                    .for_each(|l| table.unname(&l.parent, &l.name, self));
                self.state.get_mut().links = links;
            }
        }
        // Parents are freed one after another, not by recursion: paths may be
        // deeper than the stack.
        let mut pending: Vec<Arc<Node>> = Vec::new();
        take_parents(self.state.get_mut(), &mut pending);
        while let Some(parent) = pending.pop() {
            if let Some(mut parent) = Arc::into_inner(parent) {
                take_parents(parent.state.get_mut(), &mut pending);
            }
        }
    }
}

fn take_parents(state: &mut State, out: &mut Vec<Arc<Node>>) {
    out.extend(state.links.drain(..).map(|l| l.parent));
    out.extend(state.successor.take());
}

#[derive(Debug)]
struct Slot {
    node: Weak<Node>,
    serial: u64,
    /// The kernel's own reference: `lookups` of it.
    held: Option<Arc<Node>>,
    lookups: u64,
}

/// All nodes by the kernel's number. The kernel holds a node until it has
/// forgotten each of its lookups; children hold their parents.
#[derive(Debug, Default)]
pub(super) struct Table {
    slots: DashMap<u64, Slot>,
    /// `st_ino` to number, where they differ.
    spare: DashMap<u64, u64>,
    /// Nodes that no number leads to, by their parent's serial and their name.
    /// How many names there are is counted first: mostly none.
    names: DashMap<(u64, OsString), Weak<Node>>,
    named: AtomicUsize,
    next_spare: AtomicU64,
    serial: AtomicU64,
}

impl Table {
    /// A number that is never given twice.
    pub(super) fn serial(&self) -> u64 {
        self.serial.fetch_add(1, Relaxed) + 1
    }

    /// The first of so many.
    pub(super) fn serials(&self, count: u64) -> u64 {
        self.serial.fetch_add(count, Relaxed) + 1
    }

    /// The node that the kernel calls `id`.
    pub(super) fn get(&self, id: u64) -> Option<Arc<Node>> {
        self.slots.get(&id)?.node.upgrade()
    }

    /// The node with this `st_ino`, if it is known.
    pub(super) fn by_ino(&self, ino: u64) -> Option<Arc<Node>> {
        let id = self.spare.get(&ino).map_or(ino, |id| *id);
        self.get(id).filter(|n| n.ino == ino)
    }

    /// The node of this name, if it is one that no number leads to. The caller
    /// holds the parent's `ns`.
    pub(super) fn by_name(&self, parent: &Arc<Node>, name: &OsStr) -> Option<Arc<Node>> {
        if self.named.load(Relaxed) == 0 {
            return None;
        }
        let key = (parent.serial, name.to_owned());
        loop {
            let node = self.names.get(&key)?.upgrade()?;
            let state = node.state.lock();
            if state.links.iter().any(|l| l.is(parent, name)) {
                let known = !state.removed;
                drop(state);
                return known.then_some(node);
            }
            drop(state);
            // Its names are just going over to a successor.
            drop(node.named());
        }
    }

    fn name(&self, link: &Link, node: &Arc<Node>) {
        let key = (link.parent.serial, link.name.clone());
        if self.names.insert(key, Arc::downgrade(node)).is_none() {
            self.named.fetch_add(1, Relaxed);
        }
    }

    fn unname(&self, parent: &Node, name: &OsStr, node: &Node) {
        let is_its = |_: &_, known: &Weak<Node>| std::ptr::eq(known.as_ptr(), node);
        let key = (parent.serial, name.to_owned());
        if self.names.remove_if(&key, is_its).is_some() {
            self.named.fetch_sub(1, Relaxed);
        }
    }

    /// A new node. Its number is `st_ino` where that is free.
    pub(super) fn insert(
        self: &Arc<Table>,
        ino: u64,
        kind: u32,
        root: bool,
        state: State,
    ) -> Arc<Node> {
        let serial = self.serial();
        let mut node = Node {
            id: if root { ROOT_ID } else { ino },
            serial,
            ino,
            kind,
            ticket: Mutex::new(()),
            ns: RwLock::new(()),
            naming: RwLock::new(()),
            state: Mutex::new(state),
            table: Arc::downgrade(self),
        };
        if !root && (ino <= ROOT_ID || ino >= FIRST_SPARE_ID || self.slots.contains_key(&ino)) {
            node.id = FIRST_SPARE_ID + self.next_spare.fetch_add(1, Relaxed);
            self.spare.insert(ino, node.id);
        } else {
            self.spare.remove(&ino);
        }
        let node = Arc::new(node);
        let slot = Slot {
            node: Arc::downgrade(&node),
            serial,
            held: None,
            lookups: 0,
        };
        // Another thread may have taken the number meanwhile: its node then
        // lives on, and is found no more by its number once ours is; both
        // are of the same inode only if callers failed to hold `ns`.
        self.slots.insert(node.id, slot);
        node
    }

    /// The kernel has been told of the node once more.
    pub(super) fn remember(&self, node: &Arc<Node>) {
        if let Some(mut slot) = self.slots.get_mut(&node.id) {
            slot.lookups += 1;
            if slot.held.is_none() {
                slot.held = Some(node.clone());
            }
        }
    }

    /// The kernel forgets `count` lookups. What is dropped is dropped by the
    /// caller, outside the table's locks.
    pub(super) fn forget(&self, id: u64, count: u64) -> Option<Arc<Node>> {
        let mut slot = self.slots.get_mut(&id)?;
        slot.lookups = slot.lookups.saturating_sub(count);
        if slot.lookups == 0 {
            slot.held.take()
        } else {
            None
        }
    }

    fn dropped(&self, id: u64, ino: u64, serial: u64) {
        self.slots.remove_if(&id, |_, slot| slot.serial == serial);
        if id != ino {
            self.spare.remove_if(&ino, |_, spare| *spare == id);
        }
    }

    /// How many nodes there are.
    pub(super) fn len(&self) -> usize {
        self.slots.len()
    }
}
