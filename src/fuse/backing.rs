//! Backing files that the kernel holds for passthrough, one a node, kept after
//! the last release: opening the file again then costs no registration.

use crate::sys::Result;
use crate::sys::creds::WithoutFsetid;
use crate::union::{Source, Union};
use fuser::BackingId;
use lru::LruCache;
use parking_lot::Mutex;
use std::collections::HashMap;
use std::os::fd::OwnedFd;
use std::sync::Arc;

/// Kept for nodes that are not open.
const IDLE: usize = 1024;

#[derive(Debug)]
struct Backing {
    id: Arc<BackingId>,
    source: Source,
}

/// All that are registered, by [`Opened::handle`](crate::union::Opened): a
/// node's number may be another one's before the last of it is heard.
pub(super) struct Backings {
    /// Of nodes that are open: never closed, since further opens of the node
    /// must name the same one. Taken before all locks of the union, which takes
    /// none of these, and before `idle`.
    open: Mutex<HashMap<u64, Backing>>,
    idle: Mutex<LruCache<u64, Backing>>,
}

impl Backings {
    pub(super) fn new() -> Backings {
        Backings {
            open: Mutex::default(),
            idle: Mutex::new(crate::union::lru_of(IDLE)),
        }
    }

    /// The backing file of a node that is being opened, made from `file` where
    /// there is none yet; `None` if the kernel
    /// takes none of it, now or at an open before: then all its opens go
    /// through the daemon.
    ///
    /// # Errors
    /// `ESTALE` for an unknown node.
    pub(super) fn get(
        &self,
        union: &Union,
        node: u64,
        handle: u64,
        source: Source,
        file: impl FnOnce() -> Result<OwnedFd>,
        register: impl FnOnce(OwnedFd) -> std::io::Result<BackingId>,
    ) -> Result<Option<Arc<BackingId>>> {
        let mut open = self.open.lock();
        if !union.is_passed(node) {
            return Ok(None);
        }
        if let Some(backing) = open.get(&handle)
            && backing.source == source
        {
            return Ok(Some(backing.id.clone()));
        }
        let idle = self.idle.lock().pop(&handle);
        let backing = match idle {
            Some(backing) if backing.source == source => backing,
            _ => {
                let registered = file().map_err(std::io::Error::from).and_then(|fd| {
                    let _rights = (source == Source::Upper).then(WithoutFsetid::new);
                    register(fd)
                });
                match registered {
                    Ok(id) => {
                        log::debug!("passthrough for {node:#x}: registered");
                        Backing {
                            id: Arc::new(id),
                            source,
                        }
                    }
                    Err(why) => {
                        log::debug!("no passthrough for {node:#x}: {why}");
                        union.open_without_passthrough(node)?;
                        return Ok(None);
                    }
                }
            }
        };
        let id = backing.id.clone();
        open.insert(handle, backing);
        Ok(Some(id))
    }

    /// A release was the last, as it seemed: whether it is still so is seen
    /// here, since another open may have come between.
    pub(super) fn idle(&self, union: &Union, node: u64, handle: u64) {
        let mut open = self.open.lock();
        let opens = union.opens(node, handle);
        if opens.is_some_and(|n| n > 0) {
            return;
        }
        let Some(backing) = open.remove(&handle) else {
            return;
        };
        drop(open);
        // What falls out is closed after the lock is released.
        let _out = match opens {
            Some(_) => self.idle.lock().push(handle, backing).map(|(_, old)| old),
            None => Some(backing),
        };
    }

    /// The node is forgotten. If a release of it is still to come, that one
    /// closes what is left.
    pub(super) fn forget(&self, handle: u64) {
        let _out = self.idle.lock().pop(&handle);
    }
}
