//! All nodes by the kernel's number.

use super::{
    name::Name,
    node::{Node, ROOT_ID, Special},
    state::{Link, State},
};
use dashmap::{DashMap, mapref::entry::Entry};
use parking_lot::{Mutex, RwLock};
use std::borrow::Borrow;
use std::ffi::OsStr;
use std::hash::{Hash, Hasher};
use std::sync::atomic::{
    AtomicU32, AtomicU64, AtomicUsize,
    Ordering::{AcqRel, Acquire, Relaxed},
};
use std::sync::{Arc, Weak};

/// Numbers from here on are given to nodes whose `st_ino` is taken.
const FIRST_SPARE_ID: u64 = 1 << 63;

/// A node by its number.
#[derive(Debug)]
struct Held(Arc<Node>);

impl Borrow<u64> for Held {
    fn borrow(&self) -> &u64 {
        &self.0.id
    }
}

impl Hash for Held {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.0.id.hash(state);
    }
}

impl PartialEq for Held {
    fn eq(&self, other: &Held) -> bool {
        self.0.id == other.0.id
    }
}

impl Eq for Held {}

/// All nodes by the kernel's number. The kernel holds a node until it has
/// forgotten each of its lookups; children hold their parents.
#[derive(Debug, Default)]
pub(super) struct Table {
    /// Those that the kernel knows. Their counts of lookups change under a
    /// shard's lock, and get to nothing under one for writing.
    held: DashMap<Held, ()>,
    /// Those that it does not know, or not any more.
    loose: DashMap<u64, Weak<Node>>,
    /// How often one became held: it is in both then for a moment, so that
    /// who looked into `held` first and into `loose` last has to look again.
    moves: AtomicUsize,
    /// `st_ino` to number, where they differ.
    spare: DashMap<u64, u64>,
    /// Nodes that no number leads to, by their parent's serial and their name.
    /// How many names there are is counted first: mostly none.
    names: DashMap<(u64, Name), Weak<Node>>,
    named: AtomicUsize,
    next_spare: AtomicU64,
    serial: AtomicU64,
    /// How many were forgotten since memory was given back.
    forgotten: AtomicUsize,
}

/// Before that many were forgotten there is not much to be given back.
const SOME: usize = 1024;

impl Table {
    /// A number that is never given twice.
    pub(super) fn serial(&self) -> u64 {
        self.serials(1)
    }

    /// The first of so many.
    pub(super) fn serials(&self, count: u64) -> u64 {
        self.serial.fetch_add(count, Relaxed) + 1
    }

    /// The node that the kernel calls `id`.
    pub(super) fn get(&self, id: u64) -> Option<Arc<Node>> {
        loop {
            let moves = self.moves.load(Acquire);
            if let Some(held) = self.held.get(&id) {
                return Some(held.key().0.clone());
            }
            if let Some(node) = self.loose.get(&id) {
                return node.upgrade();
            }
            if self.moves.load(Acquire) == moves {
                return None;
            }
        }
    }

    /// The node with this `st_ino`, if it is known.
    pub(super) fn by_ino(&self, ino: u64) -> Option<Arc<Node>> {
        let id = self.spare.get(&ino).map_or(ino, |id| *id);
        self.get(id).filter(|n| n.ino() == ino)
    }

    /// The node of this name, if it is one that no number leads to. The caller
    /// holds the parent's `ns`.
    pub(super) fn by_name(&self, parent: &Arc<Node>, name: &OsStr) -> Option<Arc<Node>> {
        if self.named.load(Relaxed) == 0 {
            return None;
        }
        let key = (parent.serial(), name.into());
        loop {
            let node = self.names.get(&key)?.upgrade()?;
            let state = node.state.lock();
            if state.has(parent, name) {
                let known = !state.removed;
                drop(state);
                return known.then_some(node);
            }
            drop(state);
            // Its names are just going over to a successor.
            drop(node.named());
        }
    }

    pub(super) fn name(&self, link: &Link, node: &Arc<Node>) {
        let key = (link.parent.serial(), link.name.clone());
        if self.names.insert(key, Arc::downgrade(node)).is_none() {
            self.named.fetch_add(1, Relaxed);
        }
    }

    pub(super) fn unname(&self, parent: &Node, name: &OsStr, node: &Node) {
        let is_its = |_: &_, known: &Weak<Node>| std::ptr::eq(known.as_ptr(), node);
        let key = (parent.serial(), name.into());
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
        let taken = || ino <= ROOT_ID || ino >= FIRST_SPARE_ID || self.get(ino).is_some();
        let id = if root {
            ROOT_ID
        } else if taken() {
            FIRST_SPARE_ID + self.next_spare.fetch_add(1, Relaxed)
        } else {
            ino
        };
        if id == ino || root {
            self.spare.remove(&ino);
        } else {
            self.spare.insert(ino, id);
        }
        let special = kind == libc::S_IFDIR || id != ino;
        let node = Arc::new(Node {
            id,
            special: special.then(|| {
                Box::new(Special {
                    ino,
                    serial: self.serial(),
                    ns: RwLock::new(()),
                })
            }),
            lookups: AtomicU32::new(0),
            dtype: (kind >> 12 & 0xf) as u8,
            ticket: Mutex::new(()),
            naming: RwLock::new(()),
            state: Mutex::new(state),
            table: Arc::downgrade(self),
        });
        // Another thread may have taken the number meanwhile: its node then
        // lives on, and is found no more by its number once ours is; both
        // are of the same inode only if callers failed to hold `ns`.
        self.loose.insert(id, Arc::downgrade(&node));
        node
    }

    /// The kernel has been told of the node once more.
    pub(super) fn remember(&self, node: &Arc<Node>) {
        let once_more = |held: &Held| {
            let more = |n: u32| n.checked_add(1);
            let _most = held.0.lookups.fetch_update(Relaxed, Relaxed, more);
        };
        if let Some(held) = self.held.get(&node.id) {
            return once_more(held.key());
        }
        match self.held.entry(Held(node.clone())) {
            Entry::Occupied(entry) => once_more(entry.into_ref().key()),
            Entry::Vacant(entry) => {
                // Held on to: FORGET may come at once and make it loose again.
                let held = entry.insert(());
                once_more(held.key());
                self.moves.fetch_add(1, AcqRel);
                let is_it = |_: &_, known: &Weak<Node>| known.as_ptr() == Arc::as_ptr(node);
                self.loose.remove_if(&node.id, is_it);
            }
        }
    }

    /// The kernel forgets `count` lookups. What is dropped is dropped by the
    /// caller, outside the table's locks.
    pub(super) fn forget(&self, id: u64, count: u64) -> Option<Arc<Node>> {
        let last = |held: &Held, _: &()| {
            let node = &held.0;
            let lookups = node.lookups.load(Relaxed);
            if lookups == u32::MAX {
                return false;
            }
            let count = u32::try_from(count).unwrap_or(u32::MAX);
            let left = lookups.saturating_sub(count);
            node.lookups.store(left, Relaxed);
            // Nobody else can get at it where nobody else has it.
            if left == 0 && Arc::strong_count(node) + Arc::weak_count(node) > 1 {
                self.loose.insert(id, Arc::downgrade(node));
            }
            left == 0
        };
        self.held.remove_if(&id, last).map(|(held, ())| held.0)
    }

    pub(super) fn dropped(&self, node: &Node) {
        // Another one may have the number by now.
        let is_dead = |_: &_, known: &Weak<Node>| known.strong_count() == 0;
        self.loose.remove_if(&node.id, is_dead);
        if node.id != node.ino() {
            self.spare.remove_if(&node.ino(), |_, id| *id == node.id);
        }
    }

    /// One was forgotten and is dropped. Once more than are left are gone the
    /// table gives back its room; true: the allocator is to do so too.
    pub(super) fn shrinks(&self) -> bool {
        let forgotten = self.forgotten.fetch_add(1, Relaxed) + 1;
        if !forgotten.is_multiple_of(SOME) || forgotten < self.len() {
            return false;
        }
        self.forgotten.store(0, Relaxed);
        self.held.shrink_to_fit();
        self.loose.shrink_to_fit();
        true
    }

    /// How many nodes there are.
    pub(super) fn len(&self) -> usize {
        self.held.len() + self.loose.len()
    }
}
