//! Finding nodes by number alone, for file handles that outlive the kernel's
//! cache (`FUSE_EXPORT_SUPPORT`: lookups of `.` and `..`).

use super::{
    Attr, Union,
    node::{Node, ROOT_ID},
};
use crate::sys::{Errno, Result};
use std::ffi::OsString;
use std::sync::Arc;

impl Union {
    /// The node of a handle. One that is forgotten is searched for in the
    /// whole tree: handles are rare, and the kernel keeps what is in use.
    ///
    /// # Errors
    /// `ESTALE` if there is none.
    pub fn reopen_node(&self, id: u64) -> Result<Attr> {
        if let Ok(node) = self.node(id) {
            let _moving = self.topology.read();
            let attr = self.attr_of(&node.latest())?;
            self.table.remember(&node);
            return Ok(attr.asked_of(&node));
        }
        self.search(id)?.ok_or(Errno::STALE)
    }

    /// The directory above a directory.
    ///
    /// # Errors
    /// `ESTALE` if either is gone.
    pub fn lookup_parent(&self, id: u64) -> Result<Attr> {
        let node = match self.node(id) {
            Ok(node) => node,
            Err(_) => {
                self.search(id)?.ok_or(Errno::STALE)?;
                let node = self.node(id)?;
                self.forget(id, 1);
                node
            }
        };
        let parent = match node.link() {
            Some(link) => link.parent,
            None if node.id == ROOT_ID => node,
            None => return Err(Errno::STALE),
        };
        let _moving = self.topology.read();
        let attr = self.attr_of(&parent)?;
        self.table.remember(&parent);
        Ok(attr)
    }

    /// Walk the tree for a node number, breadth first.
    fn search(&self, id: u64) -> Result<Option<Attr>> {
        self.may_wait();
        let mut dirs: Vec<Arc<Node>> = vec![self.root.clone()];
        while let Some(dir) = dirs.pop() {
            let mut names: Vec<(OsString, bool)> = Vec::new();
            let listed = self.readdir(dir.id, 0, |e| {
                if !e.is_dot() && (e.ino == id || e.kind == libc::S_IFDIR) {
                    names.push((e.name.clone(), e.ino == id));
                }
                true
            });
            // Removed meanwhile.
            if listed.is_err() {
                continue;
            }
            for (name, wanted) in names {
                if wanted {
                    return self.lookup(dir.id, &name).map(Some);
                }
                let _moving = self.topology.read();
                let _names = dir.ns().read();
                if let Some((node, _)) = self.lookup_locked(&dir, &name)? {
                    dirs.push(node);
                }
            }
        }
        Ok(None)
    }
}
