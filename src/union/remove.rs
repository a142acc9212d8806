//! Removing names. What a lower layer has is hidden by a whiteout, never
//! copied; each removal is one system call that changes the upper.

use super::{Union, copy_up::Want, lookup::Found, node::Node, rename::TRIES, state::InUpper};
use crate::layer::work::Onto;
use crate::sys::{At, Errno, Result, flags, fs};
use std::ffi::OsStr;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;

/// What [`Union::before_unlink`] leaves for afterwards.
#[derive(Debug, Default)]
pub(super) struct Leaving {
    /// Keeps an inode that is open.
    keep: Option<OwnedFd>,
    /// The name has got its link in the upper just now.
    pub(super) linked: bool,
    /// The shared inode's attributes.
    shared: Option<fs::Stat>,
}

impl Union {
    /// unlink(2).
    ///
    /// # Errors
    /// `ENOENT`, `EISDIR`, `EROFS`, errors of the upper.
    pub fn unlink(&self, parent: u64, name: &OsStr) -> Result<()> {
        self.remove(parent, name, false)
    }

    /// rmdir(2).
    ///
    /// # Errors
    /// `ENOENT`, `ENOTDIR`, `ENOTEMPTY`, `EROFS`, errors of the upper.
    pub fn rmdir(&self, parent: u64, name: &OsStr) -> Result<()> {
        self.remove(parent, name, true)
    }

    fn remove(&self, parent: u64, name: &OsStr, is_dir: bool) -> Result<()> {
        self.upper()?;
        let parent = self.node(parent)?;
        self.copy_up(&parent, Want::Meta)?;
        // Mostly nothing is to be done first, so it is seen to only then.
        let mut indexed = true;
        for _ in 0..TRIES {
            match self.try_remove(&parent, name, is_dir, indexed) {
                Ok(None) => return Ok(()),
                Ok(Some(node)) => {
                    self.copy_up(&node, Want::Meta)?;
                    indexed = false;
                }
                // The name went over to another node.
                Err(Errno::AGAIN) => {}
                Err(e) => return Err(e),
            }
        }
        Err(Errno::STALE)
    }

    /// Removes a name, or, where `indexed` asks for it, says what must be in
    /// the index before.
    fn try_remove(
        &self,
        parent: &Arc<Node>,
        name: &OsStr,
        is_dir: bool,
        indexed: bool,
    ) -> Result<Option<Arc<Node>>> {
        let _moving = self.topology.read();
        let _names = parent.ns().write();
        let found = self.resolve(parent, name)?.ok_or(Errno::NOENT)?;
        match (is_dir, found.stat.is_dir()) {
            (true, false) => return Err(Errno::NOTDIR),
            (false, true) => return Err(Errno::ISDIR),
            _ => {}
        }
        let mut stat = found.stat;
        let unindexed = indexed && self.is_unindexed(&found);
        let upper = found.upper != InUpper::No;
        let node = self.instantiate(parent, name, found);
        if unindexed {
            return Ok(Some(node));
        }
        if !upper && flags::is_protected(self.place(&node)?.at())? {
            return Err(Errno::PERM);
        }
        if is_dir && !self.is_empty_dir(&node)? {
            return Err(Errno::NOTEMPTY);
        }
        let dir = self.upper_dir(parent)?;
        let _naming = node.naming.write();
        if node.has_successor() {
            return Err(Errno::AGAIN);
        }
        let there = fs::absent(fs::stat_at(&*dir, name))?;
        let here = there.is_some();
        if let Some(now) = there.filter(|_| !is_dir) {
            // Another name may have come or gone until now.
            stat.nlink = now.nlink;
        }
        let leaving = self.before_unlink(&node, parent, &dir, name, here)?;
        if !here && !leaving.linked {
            self.hide(parent, &dir, name)?;
        } else if self.in_lowers(parent, name)? {
            self.replace_by_whiteout(parent, &dir, name, is_dir)?;
        } else {
            self.remove_upper(&dir, name, is_dir)?;
            parent.uncovered(name);
        }
        self.after_unlink(&node, parent, name, stat, leaving);
        Ok(None)
    }

    /// A lower file with several names is counted in the index, which must
    /// have it before a name goes away.
    fn is_unindexed(&self, found: &Found) -> bool {
        let lower_file = found.upper == InUpper::No && !found.stat.is_dir();
        self.links.is_some() && lower_file && found.stat.nlink > 1
    }

    /// See that a name's file is in the index if it must be.
    pub(super) fn index_before_removal(&self, parent: &Arc<Node>, name: &OsStr) -> Result<()> {
        if self.links.is_none() {
            return Ok(());
        }
        let node = {
            let _moving = self.topology.read();
            let _names = parent.ns().read();
            let Some(found) = self.resolve(parent, name)? else {
                return Ok(());
            };
            if !self.is_unindexed(&found) {
                return Ok(());
            }
            self.instantiate(parent, name, found)
        };
        self.copy_up(&node, Want::Meta).map(drop)
    }

    /// Before a name goes away: a shared inode gets this name in the upper, so
    /// that its counts move together, and one that is open is kept.
    pub(super) fn before_unlink(
        &self,
        node: &Arc<Node>,
        parent: &Arc<Node>,
        dir: &OwnedFd,
        name: &OsStr,
        here: bool,
    ) -> Result<Leaving> {
        let mut leaving = Leaving::default();
        let (upper, index, open, link) = {
            let s = node.state.lock();
            // Descriptors from before a copy-up are those of another node.
            let open = s.opens > 0 || s.predecessor.strong_count() > 0;
            (
                s.upper,
                s.index.clone(),
                open || (self.opens_unasked && node.is_file()),
                s.links().find(|l| l.is(parent, name)).cloned(),
            )
        };
        if upper == InUpper::No {
            return Ok(leaving);
        }
        let at = if let (Some(index), Some(links)) = (&index, &self.links) {
            let entry = links.at(index);
            if !here && let Some(link) = link {
                self.link_up(node, &link, entry)?;
                leaving.linked = true;
            }
            self.relative_to_upper(node, entry)?;
            leaving.shared = Some(fs::stat(entry)?);
            entry
        } else {
            At::Name(dir.as_fd(), name)
        };
        // Directories, FIFOs and devices are opened without a word to us.
        let told = matches!(node.kind(), libc::S_IFREG | libc::S_IFLNK);
        if !open && told {
            return Ok(leaving);
        }
        match fs::path_of(at) {
            Ok(fd) => leaving.keep = Some(fd),
            Err(e) if open => return Err(e),
            Err(_) => {}
        }
        Ok(leaving)
    }

    /// After a name is gone.
    pub(super) fn after_unlink(
        &self,
        node: &Arc<Node>,
        parent: &Arc<Node>,
        name: &OsStr,
        stat: fs::Stat,
        leaving: Leaving,
    ) {
        let mut stat = leaving.shared.unwrap_or(stat);
        let drop_index = {
            let mut s = node.state.lock();
            node.loses(&mut s, parent, name);
            let mut gone = true;
            let mut index = None;
            if s.upper != InUpper::No && !node.is_dir() {
                // `stat` is from before: of the upper's inode.
                stat.nlink = stat.nlink.saturating_sub(1);
                match (s.nlink, s.index.clone()) {
                    (Some(count), Some(name)) => {
                        gone = count.names(stat.nlink) == 0;
                        index = gone.then_some(name);
                    }
                    _ => gone = stat.nlink == 0,
                }
            }
            if let Some(fd) = leaving.keep {
                if s.link().is_none() {
                    s.orphan = Some(Arc::new(fd));
                }
            } else if s.link().is_none() && gone {
                s.last = Some(Box::new(stat));
            }
            s.removed |= gone;
            index
        };
        if node.is_dir() {
            self.fds.forget(node.serial());
        } else if node.state.lock().opens == 0 {
            self.files.forget(node.serial());
        }
        if let (Some(name), Some(links)) = (drop_index, &self.links)
            && let Err(e) = links.remove(&name)
        {
            // Found and removed at the next mount.
            log::warn!("cannot remove index entry {name:?}: {e}");
        }
    }

    /// Remove an upper entry that hides nothing.
    fn remove_upper(&self, dir: &OwnedFd, name: &OsStr, is_dir: bool) -> Result<()> {
        match fs::unlink(dir, name, is_dir) {
            // Only whiteouts are left in it.
            Err(Errno::NOTEMPTY | Errno::EXIST) if is_dir => self.upper()?.work.take(dir, name),
            result => result,
        }
    }

    fn replace_by_whiteout(
        &self,
        parent: &Arc<Node>,
        dir: &OwnedFd,
        name: &OsStr,
        is_dir: bool,
    ) -> Result<()> {
        match self.stage_whiteout(parent) {
            Ok(staged) => {
                let onto = if is_dir { Onto::Anything } else { Onto::File };
                staged.install(dir, name, onto)?;
            }
            Err(Errno::OPNOTSUPP) => {
                // First the mark, which beside the entry changes nothing.
                self.make_wh(parent, dir, name)?;
                self.remove_upper(dir, name, is_dir)?;
            }
            Err(e) => return Err(e),
        }
        parent.covered(name, true);
        Ok(())
    }
}
