//! Small lower files are handed to the kernel when they are opened, so that it
//! need not ask again to read them.

use super::{
    Union,
    file::PASSTHROUGH_FROM,
    node::Node,
    state::{InUpper, IoMode, LowerFile},
};
use crate::sys::fs;
use std::sync::Arc;

/// Files up to this size, in bytes: about what is read ahead of a first read.
pub(super) const PREFETCH_TO: u64 = PASSTHROUGH_FROM / 4;

/// What an open has that wants other content.
const WRITES: i32 = libc::O_ACCMODE | libc::O_TRUNC;

impl Union {
    /// A file is about to be opened with `flags`. `store` is given all of its
    /// content if it is a small one of the lowers that was not opened before.
    ///
    /// No open of it is answered meanwhile, since the first one of each way comes
    /// through here or copies up, both under the ticket: so nobody reads it, which
    /// `store` would have to wait for, and the content is right.
    pub fn prefetch(&self, id: u64, flags: i32, store: impl FnOnce(&[u8])) {
        let Ok(node) = self.node(id) else { return };
        if flags & WRITES != libc::O_RDONLY || self.unread(&node).is_none() {
            return;
        }
        let _ticket = self.ticket(&node);
        let Some(lower) = self.unread(&node) else {
            return;
        };
        // One more, to see that there is no more.
        let mut data = vec![0; PREFETCH_TO as usize + 1];
        let read = self
            .open_lower(&lower)
            .and_then(|file| fs::read_at(file, &mut data, 0));
        // Who reads it then is told what is wrong.
        if let Some(all) = read.ok().and_then(|n| data.get(..n))
            && all.len() < data.len()
        {
            store(all);
        }
        node.state.lock().prefetched = true;
    }

    /// A small lower file of which the kernel can have nothing yet.
    fn unread(&self, node: &Arc<Node>) -> Option<LowerFile> {
        let state = node.state.lock();
        let lower = node.is_file()
            && state.upper == InUpper::No
            && state.partial.is_none()
            && state.successor.is_none();
        let untouched = !state.prefetched && state.opens == 0 && state.io == IoMode::Closed;
        let unread = lower && untouched && state.seen.is_small();
        unread.then(|| state.lower()).flatten()
    }
}
