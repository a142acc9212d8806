//! Nodes: what the kernel knows by number.

use super::{
    partial::Partial,
    state::{Link, State},
    table::Table,
};
use parking_lot::{Mutex, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::ffi::OsStr;
use std::sync::atomic::AtomicU32;
use std::sync::{Arc, Weak};

/// The kernel's number for the root, whatever its `st_ino`.
pub const ROOT_ID: u64 = 1;

/// An inode of the union.
#[derive(Debug)]
pub struct Node {
    /// The kernel's number for it.
    pub(super) id: u64,
    /// None for a plain one: no directory, and `id` is its `st_ino`.
    pub(super) special: Option<Box<Special>>,
    /// How many lookups the kernel has to forget. At the highest number it stays:
    /// a node that was told of so often is kept.
    pub(super) lookups: AtomicU32,
    /// [`libc::DT_DIR`] and its like: the `S_IFMT` bits, shifted.
    pub(super) dtype: u8,
    /// Lock order: a ticket, then topology, then `ns` (two only by
    /// [`Node::both_ns`]), then `naming` of a descendant before that of an
    /// ancestor (two files by [`Node::both_naming`]), then `state`. Who holds
    /// topology or `ns` takes no ticket.
    pub(super) ticket: Mutex<()>,
    /// Held for writing while the node gets, changes or loses a name (but not by
    /// a rename of directories), so for reading by whoever goes to the inode by a
    /// name of it: the name could else be another inode's by then.
    pub(super) naming: RwLock<()>,
    pub(super) state: Mutex<State>,
    pub(super) table: Weak<Table>,
}

/// What is not as in most nodes.
#[derive(Debug)]
pub(super) struct Special {
    /// `st_ino`.
    pub ino: u64,
    pub serial: u64,
    /// Directories: the names below do not change.
    pub ns: RwLock<()>,
}

/// Of those that have no names below.
static NO_NAMES: RwLock<()> = RwLock::new(());

impl Node {
    /// `S_IFMT` bits.
    pub(super) fn kind(&self) -> u32 {
        u32::from(self.dtype) << 12
    }

    pub(super) fn is_dir(&self) -> bool {
        self.kind() == libc::S_IFDIR
    }

    pub(super) fn is_file(&self) -> bool {
        self.kind() == libc::S_IFREG
    }

    /// `st_ino`.
    pub(super) fn ino(&self) -> u64 {
        self.special.as_ref().map_or(self.id, |special| special.ino)
    }

    /// A number that no other node ever has, unlike `id`. Files get it when it
    /// is first asked for. Who asks does not hold `state`.
    pub(super) fn serial(&self) -> u64 {
        if let Some(special) = &self.special {
            return special.serial;
        }
        let mut state = self.state.lock();
        match (state.serial, self.table.upgrade()) {
            (0, Some(table)) => {
                state.serial = table.serial();
                state.serial
            }
            (serial, _) => serial,
        }
    }

    /// [`Node::serial`], if somebody has asked for it.
    pub(super) fn given_serial(&self) -> Option<u64> {
        match &self.special {
            Some(special) => Some(special.serial),
            None => Some(self.state.lock().serial).filter(|serial| *serial != 0),
        }
    }

    /// See [`Special::ns`].
    pub(super) fn ns(&self) -> &RwLock<()> {
        self.special
            .as_ref()
            .map_or(&NO_NAMES, |special| &special.ns)
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
        self.state.lock().link().cloned()
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
        if std::ptr::eq(a, b) {
            return (a.ns().write(), None);
        }
        let (mut first, mut second) = (a, b);
        loop {
            let held = first.ns().write();
            if let Some(other) = second.ns().try_write() {
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
        match b.map(|b| &**b).filter(|b| !std::ptr::eq(*b, a)) {
            Some(b) if std::ptr::from_ref(b) < std::ptr::from_ref(a) => {
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
            state.links().for_each(|link| table.name(link, self));
        }
    }

    /// It has one more name.
    pub(super) fn gains(self: &Arc<Node>, state: &mut State, link: Link) {
        if state.by_name
            && let Some(table) = self.table.upgrade()
        {
            table.name(&link, self);
        }
        state.add_link(link);
    }

    /// It has lost this name, if it had it.
    pub(super) fn loses(&self, state: &mut State, parent: &Arc<Node>, name: &OsStr) {
        state.remove_link(parent, name);
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
        self.state.lock().has(&link.parent, &link.name)
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
            table.dropped(self);
            let state = self.state.lock();
            if state.by_name {
                let unname = |l: &Link| table.unname(&l.parent, &l.name, self);
                state.links().for_each(unname);
            }
        }
        // Parents are freed one after another, not by recursion: paths may be
        // deeper than the stack.
        let mut pending: Vec<Arc<Node>> = self.state.get_mut().take_nodes().collect();
        while let Some(parent) = pending.pop() {
            if let Some(mut parent) = Arc::into_inner(parent) {
                pending.extend(parent.state.get_mut().take_nodes());
            }
        }
    }
}
