//! What a directory merges of the lower layers.

use super::{Union, dirs::LowerDir};
use std::sync::Arc;

/// Directories of the lower layers that are merged, top first.
#[derive(Clone, Debug)]
pub(super) enum Stack {
    /// These.
    Dirs(Vec<Arc<LowerDir>>),
    /// Those that the catalog has for one of its directories.
    Known(Known),
}

/// A merged directory of the catalog.
#[derive(Clone, Debug)]
pub(super) struct Known {
    /// The topmost of its directories.
    pub top: Arc<LowerDir>,
    /// Its number in the catalog.
    pub dir: u32,
    /// That of its inode.
    pub inode: u32,
    /// It has more directories.
    pub merged: bool,
}

impl Default for Stack {
    fn default() -> Stack {
        Stack::NOTHING
    }
}

impl Stack {
    pub(super) const NOTHING: Stack = Stack::Dirs(Vec::new());

    /// Nothing is in the lowers.
    pub(super) fn is_empty(&self) -> bool {
        matches!(self, Stack::Dirs(dirs) if dirs.is_empty())
    }

    /// There is more than one.
    pub(super) fn is_merged(&self) -> bool {
        match self {
            Stack::Dirs(dirs) => dirs.len() > 1,
            Stack::Known(known) => known.merged,
        }
    }

    /// The topmost.
    pub(super) fn top(&self) -> Option<&Arc<LowerDir>> {
        match self {
            Stack::Dirs(dirs) => dirs.first(),
            Stack::Known(known) => Some(&known.top),
        }
    }

    /// What the catalog calls it.
    pub(super) fn known(&self) -> Option<&Known> {
        match self {
            Stack::Dirs(_) => None,
            Stack::Known(known) => Some(known),
        }
    }
}

impl Union {
    /// All directories of a stack.
    pub(super) fn dirs_of(&self, stack: &Stack) -> Vec<Arc<LowerDir>> {
        match stack {
            Stack::Dirs(dirs) => dirs.clone(),
            Stack::Known(known) => self.known_dirs(known.dir),
        }
    }
}
