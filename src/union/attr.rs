//! Attributes: what callers see, and changing them.

use super::{
    Attr, Union,
    copy_up::Want,
    create::Caller,
    name::Name,
    node::Node,
    state::{InUpper, Seen},
};
use crate::sys::{
    At, Errno, Result, creds, flags,
    fs::{self, SetTime, Stat},
};
use std::ffi::OsString;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;

/// Where an inode is to be found.
#[derive(Debug)]
pub(super) enum Place {
    /// A name in a directory.
    Name(Arc<OwnedFd>, Name),
    /// The inode itself.
    Fd(Arc<OwnedFd>),
}

impl Place {
    pub(super) fn at(&self) -> At<'_> {
        match self {
            Place::Name(dir, name) => At::Name(dir.as_fd(), name),
            Place::Fd(fd) => At::Fd(fd.as_fd()),
        }
    }
}

/// What setattr changes; `None` leaves a thing as it is.
#[derive(Clone, Copy, Debug, Default)]
pub struct SetAttr {
    /// Permission bits.
    pub mode: Option<u32>,
    /// Owner as the caller names it.
    pub uid: Option<u32>,
    /// Group as the caller names it.
    pub gid: Option<u32>,
    /// Length in bytes.
    pub size: Option<u64>,
    /// Last access.
    pub atime: Option<SetTime>,
    /// Last change of data.
    pub mtime: Option<SetTime>,
}

impl Union {
    /// A node's attributes.
    ///
    /// # Errors
    /// `ESTALE` for an unknown node; errors of the layers.
    pub fn getattr(&self, id: u64) -> Result<Attr> {
        let asked = self.node(id)?;
        self.with_names(&asked, |node| Ok(self.attr_of(node)?.asked_of(&asked)))
    }

    /// Look at the node that has the names of `asked` now: they may just be going
    /// over to a successor. `act` is called with `topology` and the node's `naming`
    /// held.
    pub(super) fn with_names<T>(
        &self,
        asked: &Arc<Node>,
        act: impl FnOnce(&Arc<Node>) -> Result<T>,
    ) -> Result<T> {
        loop {
            let node = asked.latest();
            let _moving = self.topology.read();
            let _named = node.named();
            if node.state.lock().successor.is_none() {
                return act(&node);
            }
        }
    }

    /// A node's attributes. The caller holds `topology`.
    pub(super) fn attr_of(&self, node: &Arc<Node>) -> Result<Attr> {
        let _named = node.named();
        let (last, lower) = {
            let s = node.state.lock();
            (s.last.clone(), s.lower_layer())
        };
        let stat = match (last, lower) {
            (Some(stat), _) => *stat,
            (None, Some(layer)) => match self.known_attr(node) {
                Some(stat) => stat,
                None => self.stat_lower(layer, self.place(node)?.at())?,
            },
            (None, None) => self.stat(self.place(node)?.at())?,
        };
        self.show(node, stat)
    }

    /// Where a node's attributes are. The caller holds `topology`, and `naming`
    /// for as long as it uses the place.
    pub(super) fn place(&self, node: &Arc<Node>) -> Result<Place> {
        let (upper, link, index, orphan, lower, lower_dir) = {
            let s = node.state.lock();
            (
                s.upper,
                s.link().cloned(),
                s.index.clone(),
                s.orphan.clone(),
                s.lower(),
                s.lowers.top().cloned(),
            )
        };
        if let Some(fd) = orphan {
            return Ok(Place::Fd(fd));
        }
        if upper == InUpper::No {
            if let Some(dir) = lower_dir {
                return self.lower_dir(&dir).map(Place::Fd);
            }
            let file = lower.ok_or(Errno::STALE)?;
            return Ok(Place::Name(self.lower_dir(&file.dir)?, file.name));
        }
        if node.is_dir() {
            return self.upper_dir(node).map(Place::Fd);
        }
        if let (Some(index), Some(links)) = (index, &self.links) {
            return Ok(Place::Name(links.dir_fd(), index.as_os_str().into()));
        }
        let link = link.ok_or(Errno::STALE)?;
        Ok(Place::Name(self.upper_dir(&link.parent)?, link.name))
    }

    /// Attributes as callers see them, from those of the inode.
    pub(super) fn show(&self, node: &Arc<Node>, mut stat: Stat) -> Result<Attr> {
        if let Some(partial) = node.partial() {
            let copy = partial.stat()?;
            (stat.size, stat.blocks) = (copy.size, copy.blocks);
            (stat.mtime, stat.ctime) = (copy.mtime, copy.ctime);
        }
        let mut state = node.state.lock();
        if let Some(times) = &state.times {
            (stat.atime, stat.mtime) = **times;
        }
        if node.is_dir() {
            let merged = state.lowers.is_merged() || (state.in_upper() && !state.lowers.is_empty());
            if merged || self.options.static_nlink {
                stat.nlink = 1;
            }
        } else {
            if state.upper == InUpper::No && state.removed {
                stat.nlink = 0;
            }
            if let (Some(count), true) = (state.nlink, state.in_upper()) {
                stat.nlink = count.names(stat.nlink);
            }
        }
        let data = match state.upper {
            InUpper::Meta => state.lower().map(|file| file.data().clone()),
            InUpper::No => state.lower_data().cloned(),
            InUpper::Data => None,
        };
        stat.ino = match state.parted {
            true => self.inos.map(stat.dev, stat.ino),
            false => node.ino(),
        };
        // A store to a shared mapping passes us by, and what the kernel does to
        // a name that it knows as the predecessor's it counts there.
        let volatile = state.shared_writer || state.predecessor.strong_count() > 0;
        state.seen = Seen::of(&stat);
        drop(state);
        if let Some(file) = data {
            let dir = self.lower_dir(&file.dir)?;
            stat.blocks = fs::stat_at(&*dir, &file.name)?.blocks;
        }
        stat.uid = self.uids.shown(stat.uid);
        stat.gid = self.gids.shown(stat.gid);
        Ok(Attr {
            id: node.id,
            stat,
            volatile,
            of: node.id,
        })
    }

    /// Change attributes, exactly those asked for.
    ///
    /// # Errors
    /// `EROFS`, `EOVERFLOW` for ids without a mapping, errors of the upper.
    pub fn setattr(&self, id: u64, set: SetAttr, caller: Caller) -> Result<Attr> {
        let asked = self.node(id)?;
        let want = match set.size {
            Some(0) => Want::Empty,
            Some(_) => Want::Data,
            None => Want::Meta,
        };
        self.change(&asked, want, |node| {
            if let Some(stat) = node.state.lock().last.as_deref_mut() {
                self.set_in(stat, &set)?;
            } else {
                self.set_at(self.place(node)?.at(), node, &set, caller)?;
            }
            Ok(self.attr_of(node)?.asked_of(&asked))
        })
    }

    /// Change the attributes of an inode that no name leads to any more, and
    /// that was not open: they are only shown, and only to who has found it
    /// before. Its data cannot be reached.
    fn set_in(&self, stat: &mut Stat, set: &SetAttr) -> Result<()> {
        if set.size.is_some() {
            return Err(Errno::STALE);
        }
        let set_time = |time: &mut fs::Time, to: Option<SetTime>| match to {
            Some(SetTime::Now) => *time = fs::now(),
            Some(SetTime::At(at)) => *time = at,
            Some(SetTime::Keep) | None => {}
        };
        if set.is_empty() || set.uid.is_some() || set.gid.is_some() {
            if stat.is_file() {
                stat.mode = without_set_id(stat.mode);
            }
            if let Some(uid) = set.uid.filter(|_| !self.uids.squashes()) {
                stat.uid = self.uids.stored(uid)?;
            }
            if let Some(gid) = set.gid.filter(|_| !self.gids.squashes()) {
                stat.gid = self.gids.stored(gid)?;
            }
        }
        if let Some(mode) = set.mode {
            stat.mode = stat.kind() | mode & 0o7777;
        }
        set_time(&mut stat.atime, set.atime);
        set_time(&mut stat.mtime, set.mtime);
        stat.ctime = fs::now();
        Ok(())
    }

    /// Change the attributes of an inode of the upper.
    fn set_at(&self, at: At<'_>, node: &Arc<Node>, set: &SetAttr, caller: Caller) -> Result<()> {
        let uid = set.uid.filter(|_| !self.uids.squashes());
        let gid = set.gid.filter(|_| !self.gids.squashes());
        let uid = uid.map(|id| self.uids.stored(id)).transpose()?;
        let gid = gid.map(|id| self.gids.stored(id)).transpose()?;
        // Two things come without any field: chown(2) with both ids -1, which
        // clears set-id bits like every chown, and a write to a file with a
        // capability, which the kernel has removed just before.
        let lost = std::mem::take(&mut node.state.lock().lost_capability);
        let written = lost && set.is_empty() && !creds::in_chown(caller.pid);
        let owns = set.uid.is_some() || set.gid.is_some() || (set.is_empty() && !written);
        let file = match set.size {
            Some(size) => Some((self.open_data(node, true)?, size)),
            None => None,
        };
        // One change alone that fails leaves nothing to be taken back.
        let times = set.atime.is_some() || set.mtime.is_some();
        let steps = [owns, set.mode.is_some(), times, file.is_some()];
        let several = file.is_some() || steps.iter().filter(|step| **step).count() > 1;
        let before = match several {
            true => Some(self.stat(at)?),
            false => None,
        };
        let change = || {
            if owns {
                self.chown(at, uid, gid)?;
            }
            if let Some(mode) = set.mode {
                self.chmod(at, mode)?;
            } else if file.is_some() {
                self.clear_set_id(at, caller, false)?;
            }
            if file.is_none() {
                self.set_times(at, set)?;
            }
            file.as_ref()
                .map_or(Ok(()), |(file, size)| fs::truncate(&**file, *size))
        };
        if let Err(e) = change() {
            if let Some(before) = &before {
                self.restore_owner(at, before, owns);
            }
            return Err(e);
        }
        if file.is_some() {
            self.set_times(at, set)?;
        }
        Ok(())
    }

    fn set_times(&self, at: At<'_>, set: &SetAttr) -> Result<()> {
        if set.atime.is_none() && set.mtime.is_none() {
            return Ok(());
        }
        let time = |t: Option<SetTime>| t.unwrap_or(SetTime::Keep);
        fs::utimens(at, time(set.atime), time(set.mtime))
    }

    /// Take back a change that was not completed, as far as that can be done.
    fn restore_owner(&self, at: At<'_>, before: &Stat, owns: bool) {
        let Ok(now) = self.stat(at) else { return };
        let owner = (now.uid, now.gid) != (before.uid, before.gid);
        let result = if owns && owner {
            self.chown(at, Some(before.uid), Some(before.gid))
        } else {
            Ok(())
        };
        let mode = self
            .stat(at)
            .is_ok_and(|now| now.mode != before.mode && now.kind() != libc::S_IFLNK);
        let result = if mode {
            result.and(self.chmod(at, before.mode))
        } else {
            result
        };
        if let Err(e) = result {
            log::warn!("cannot take back a change of attributes that failed: {e}");
        }
    }

    /// Change a file's data, of which callers' set-id bits do not survive:
    /// those go first, so that there is no moment when they stand on data that
    /// they were not meant for. True if bits went.
    pub(super) fn without_privileges<T>(
        &self,
        at: At<'_>,
        caller: Caller,
        unprivileged: bool,
        change: impl FnOnce() -> Result<T>,
    ) -> Result<(T, bool)> {
        let before = self.stat(at)?;
        let cleared = self.clear_set_id(at, caller, unprivileged)?;
        match change() {
            Ok(done) => Ok((done, cleared)),
            Err(e) => {
                if cleared {
                    self.restore_owner(at, &before, false);
                }
                Err(e)
            }
        }
    }

    /// What a write does to set-id bits; the kernel leaves it to us
    /// (`FUSE_HANDLE_KILLPRIV_V2`). The caller's rights are only looked at
    /// where there are such bits, and not where the kernel has done so
    /// (`unprivileged`). True if bits went: the kernel must then be told, for
    /// it keeps the old mode.
    fn clear_set_id(&self, at: At<'_>, caller: Caller, unprivileged: bool) -> Result<bool> {
        let stat = self.stat(at)?;
        let set_id = libc::S_ISUID | libc::S_ISGID;
        if !stat.is_file()
            || stat.mode & set_id == 0
            || (!unprivileged && creds::capable(caller.pid, creds::cap::FSETID))
        {
            return Ok(false);
        }
        let mut mode = without_set_id(stat.mode);
        if mode & libc::S_ISGID != 0 && self.loses_set_gid(caller, stat.gid) {
            mode &= !libc::S_ISGID;
        }
        if mode != stat.mode {
            self.chmod(at, mode)?;
        }
        Ok(mode != stat.mode)
    }

    /// Is the caller in a group, given as it is stored.
    fn in_group(&self, caller: Caller, stored: u32) -> bool {
        let gid = self.gids.shown(stored);
        caller.gid == gid || creds::has_group(caller.pid, gid)
    }

    /// The target of a symlink.
    ///
    /// # Errors
    /// `EINVAL` for anything else.
    pub fn readlink(&self, id: u64) -> Result<OsString> {
        let node = self.node(id)?;
        let _moving = self.topology.read();
        let _named = node.named();
        match self.known_target(&node) {
            Some(target) => Ok(target),
            None => fs::readlink(self.place(&node)?.at()),
        }
    }

    /// File system statistics: those of the upper, or of the topmost lower.
    ///
    /// # Errors
    /// As statfs(2).
    pub fn statfs(&self) -> Result<fs::StatFs> {
        let upper = self.upper.as_ref().map(|u| &u.layer);
        let layer = upper.or_else(|| self.lowers.first()).ok_or(Errno::IO)?;
        fs::statfs(&*layer.mount)
    }

    /// Inode flags (`FS_IOC_GETFLAGS`).
    ///
    /// # Errors
    /// `ENOTTY` where the layer has none.
    pub fn get_flags(&self, id: u64) -> Result<u32> {
        let file = self.with_names(&self.node(id)?, |node| self.readable(node))?;
        flags::get_flags(file)
    }

    /// Set inode flags (`FS_IOC_SETFLAGS`); the file is copied up.
    ///
    /// # Errors
    /// `ENOTTY` where the upper has none, `EPERM`.
    pub fn set_flags(&self, id: u64, flags: u32) -> Result<()> {
        self.change(&self.node(id)?, Want::Data, |node| {
            flags::set_flags(self.readable(node)?, flags)
        })
    }

    /// Inode flags and project id (`FS_IOC_FSGETXATTR`).
    ///
    /// # Errors
    /// `ENOTTY` where the layer has none.
    pub fn get_fsxattr(&self, id: u64) -> Result<flags::FsXattr> {
        let file = self.with_names(&self.node(id)?, |node| self.readable(node))?;
        flags::get_fsxattr(file)
    }

    /// Set them (`FS_IOC_FSSETXATTR`); the file is copied up.
    ///
    /// # Errors
    /// `ENOTTY` where the upper has none, `EPERM`.
    pub fn set_fsxattr(&self, id: u64, value: &flags::FsXattr) -> Result<()> {
        self.change(&self.node(id)?, Want::Data, |node| {
            flags::set_fsxattr(self.readable(node)?, value)
        })
    }

    /// A file or directory open for reading, for ioctls.
    fn readable(&self, node: &Arc<Node>) -> Result<OwnedFd> {
        if !node.is_dir() && !node.is_file() {
            return Err(Errno::NOTTY);
        }
        let _named = node.named();
        match self.place(node)? {
            Place::Fd(fd) => fs::reopen(fd, libc::O_RDONLY),
            Place::Name(dir, name) => fs::open(dir, &name, libc::O_RDONLY, 0),
        }
    }

    /// Does the VFS clear the set-group-id bit when `caller` changes the ACL of
    /// a file of this (stored) group.
    pub(super) fn loses_set_gid(&self, caller: Caller, gid: u32) -> bool {
        !self.in_group(caller, gid) && !creds::capable(caller.pid, creds::cap::FSETID)
    }
}

impl SetAttr {
    fn is_empty(&self) -> bool {
        let times = self.atime.is_some() || self.mtime.is_some();
        let owner = self.uid.is_some() || self.gid.is_some();
        !times && !owner && self.mode.is_none() && self.size.is_none()
    }
}

impl Attr {
    /// The same, as the answer to a question about `asked`.
    pub(super) fn asked_of(self, asked: &Node) -> Attr {
        Attr {
            id: asked.id,
            volatile: self.volatile || self.id != asked.id,
            ..self
        }
    }
}

/// A mode after a write by somebody unprivileged who is in the file's group:
/// setgid without group execution stays.
pub(super) fn without_set_id(mode: u32) -> u32 {
    let mut mode = mode & !libc::S_ISUID;
    if mode & libc::S_IXGRP != 0 {
        mode &= !libc::S_ISGID;
    }
    mode
}
