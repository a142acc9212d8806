//! Listing a directory together with what its names stand for: a lookup of each
//! under the one lock that the listing holds.

use super::{Attr, Entry, Union};
use crate::sys::Result;

/// What became of an entry that was offered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Taken {
    /// There was no room: the listing goes on here another time.
    No,
    /// Its name is told, and no more.
    Name,
    /// The kernel is told of its node: that counts as a lookup.
    Node,
}

impl Union {
    /// As [`Union::readdir`], with the attributes of each name but `.` and `..`
    /// and those that cannot be looked up, whose own lookup says what is wrong.
    ///
    /// # Errors
    /// `ENOTDIR`, errors of the layers.
    pub fn readdir_plus(
        &self,
        id: u64,
        offset: u64,
        mut sink: impl FnMut(&Entry, Option<&Attr>) -> Taken,
    ) -> Result<()> {
        let dir = self.node(id)?;
        let _moving = self.topology.read();
        let _names = dir.ns().read();
        self.list(&dir, offset, &mut |entry| {
            let found = match entry.is_dot() {
                true => None,
                false => self.lookup_locked(&dir, &entry.name).ok().flatten(),
            };
            match (sink(entry, found.as_ref().map(|(_, attr)| attr)), &found) {
                (Taken::No, _) => return false,
                (Taken::Node, Some((node, _))) => self.table.remember(node),
                (Taken::Node, None) | (Taken::Name, _) => {}
            }
            true
        })
    }
}
