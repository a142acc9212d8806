//! Backing files that the kernel holds for passthrough, one a node, kept after
//! the last release: opening the file again then costs no registration.

use crate::sys::creds::WithoutFsetid;
use crate::union::{Source, Union};
use fuser::BackingId;
use lru::LruCache;
use parking_lot::Mutex;
use std::os::fd::OwnedFd;
use std::sync::Arc;

/// Kept for nodes that are not open.
const IDLE: usize = 1024;

#[derive(Debug)]
struct Backing {
    id: Arc<BackingId>,
    source: Source,
}

/// All that are registered.
pub(super) struct Backings {
    /// Of nodes that are open: never closed, since further opens of the node
    /// must name the same one. Leaf locks, taken in this order.
    open: Mutex<std::collections::HashMap<u64, Backing>>,
    idle: Mutex<LruCache<u64, Backing>>,
}

impl Backings {
    pub(super) fn new() -> Backings {
        Backings {
            open: Mutex::default(),
            idle: Mutex::new(LruCache::new(
                std::num::NonZeroUsize::new(IDLE).unwrap_or(std::num::NonZeroUsize::MIN),
            )),
        }
    }

    /// The backing file of a node that is being opened.
    pub(super) fn get(
        &self,
        union: &Union,
        node: u64,
        source: Source,
        register: impl FnOnce(OwnedFd) -> std::io::Result<BackingId>,
    ) -> std::io::Result<Arc<BackingId>> {
        let mut open = self.open.lock();
        if let Some(backing) = open.get(&node)
            && backing.source == source
        {
            return Ok(backing.id.clone());
        }
        let idle = self.idle.lock().pop(&node);
        let backing = match idle {
            Some(backing) if backing.source == source => backing,
            _ => {
                let fd = union.backing_file(node, source)?;
                let _rights = (source == Source::Upper).then(WithoutFsetid::new);
                Backing {
                    id: Arc::new(register(fd)?),
                    source,
                }
            }
        };
        let id = backing.id.clone();
        open.insert(node, backing);
        Ok(id)
    }

    /// The node's last open is released.
    pub(super) fn idle(&self, node: u64) {
        let backing = self.open.lock().remove(&node);
        if let Some(backing) = backing {
            // What falls out is closed after the lock is released.
            let _out = self.idle.lock().push(node, backing);
        }
    }

    /// The node is forgotten: its number may come to mean another file.
    pub(super) fn forget(&self, node: u64) {
        let _out = (self.open.lock().remove(&node), self.idle.lock().pop(&node));
    }
}
