//! Finding a name in the merged tree.

use super::why::because;
use super::{
    Attr, Union,
    dirs::LowerDir,
    lower::{InLowers, Search},
    node::Node,
    stack::Stack,
    state::{Count, InUpper, Link, LowerFile, State},
};
use crate::layer::marks::{self, Belief, Marks, Opaque};
use crate::sys::{
    At, Errno, Result, dir,
    fs::{self, Stat},
    handle,
    probe::Features,
};
use std::ffi::{OsStr, OsString};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::ffi::OsStrExt;
use std::sync::Arc;

/// What a name stands for.
#[derive(Debug)]
pub(super) struct Found {
    /// Of the inode that the attributes come from.
    pub stat: Stat,
    pub upper: InUpper,
    pub index: Option<OsString>,
    pub nlink: Option<Count>,
    pub lower: Option<LowerFile>,
    pub lowers: Stack,
    pub redirect: Option<OsString>,
    pub impure: bool,
    /// It was copied up from a lower inode.
    pub origin: bool,
    pub ino: u64,
    /// Names with the same `ino` are one node.
    pub by_ino: bool,
    /// The node is to be known by its name.
    pub by_name: bool,
}

impl Found {
    pub(super) fn new(stat: Stat, ino: u64) -> Found {
        Found {
            stat,
            upper: InUpper::No,
            index: None,
            nlink: None,
            lower: None,
            lowers: Stack::default(),
            redirect: None,
            impure: false,
            origin: false,
            ino,
            by_ino: true,
            by_name: false,
        }
    }
}

const DOT_OPAQUE: &[u8] = b"/.wh..wh..opq";

impl Union {
    /// Find a child and tell the kernel: its lookup count grows by one.
    ///
    /// # Errors
    /// `ENOENT`, `ENOTDIR`, `ENAMETOOLONG`, and errors of the layers.
    pub fn lookup(&self, parent: u64, name: &OsStr) -> Result<Attr> {
        let parent = self.node(parent)?;
        let _moving = self.topology.read();
        let _names = parent.ns().read();
        let (node, attr) = self.lookup_locked(&parent, name)?.ok_or(Errno::NOENT)?;
        self.table.remember(&node);
        Ok(attr)
    }

    /// Find a child. The caller holds `topology` and the parent's `ns`.
    pub(super) fn lookup_locked(
        &self,
        parent: &Arc<Node>,
        name: &OsStr,
    ) -> Result<Option<(Arc<Node>, Attr)>> {
        let Some(found) = self.resolve(parent, name)? else {
            return Ok(None);
        };
        let stat = found.stat;
        let node = self.instantiate(parent, name, found);
        let attr = self.show(&node, stat)?;
        Ok(Some((node, attr)))
    }

    /// The node of what was found: the one that is known, or a new one.
    pub(super) fn instantiate(&self, parent: &Arc<Node>, name: &OsStr, found: Found) -> Arc<Node> {
        let link = || Link::new(parent, name);
        let kind = found.stat.kind();
        if let Some(node) = self
            .table
            .by_name(parent, name)
            .filter(|n| n.kind() == kind)
        {
            return node;
        }
        let known = |at: Option<Arc<Node>>| at.filter(|_| found.by_ino);
        let _one_at_a_time = loop {
            // A node that does not have this name yet may be about to lose its
            // last, and the inode be one that has got the number since: so its
            // names stand still first.
            let same = known(self.table.by_ino(found.ino));
            let _named = match &same {
                Some(node) if !node.is_dir() && !node.has(&link()) => Some(node.named()),
                _ => None,
            };
            let creating = self.creating.lock();
            let Some(node) = known(self.table.by_ino(found.ino)) else {
                break creating;
            };
            if !same.as_ref().is_some_and(|same| Arc::ptr_eq(same, &node)) {
                continue;
            }
            let mut state = node.state.lock();
            let has = state.has(parent, name);
            if node.kind() == kind && !state.removed && (has || !node.is_dir()) {
                if !has {
                    node.gains(&mut state, link());
                    state.last = None;
                }
                state.origin |= found.origin;
                if !state.has_lower() {
                    state.set_lower(found.lower);
                }
                drop(state);
                return node.clone();
            }
            drop(state);
            break creating;
        };
        let mut state = State::named(Some(link()));
        state.upper = found.upper;
        state.origin = found.origin;
        state.set_lower(found.lower);
        if kind == libc::S_IFDIR {
            state.lowers = found.lowers;
            state.redirect = found.redirect;
            state.impure = found.impure;
        }
        if found.index.is_some() || found.nlink.is_some() {
            state.index = found.index;
            state.nlink = found.nlink;
        }
        let node = self.table.insert(found.ino, kind, false, state);
        if found.by_name {
            node.known_by_name();
        }
        node
    }

    /// What `name` in `parent` stands for. The caller holds `topology` and the
    /// parent's `ns`.
    pub(super) fn resolve(&self, parent: &Arc<Node>, name: &OsStr) -> Result<Option<Found>> {
        self.resolve_seeing(parent, name, &mut false)
    }

    /// As [`Union::resolve`], and whether the upper directory has an entry of
    /// that name, shown or not.
    pub(super) fn resolve_seeing(
        &self,
        parent: &Arc<Node>,
        name: &OsStr,
        covered: &mut bool,
    ) -> Result<Option<Found>> {
        if name.len() > 255 {
            return Err(Errno::NAMETOOLONG);
        }
        if !parent.is_dir() {
            return Err(Errno::NOTDIR);
        }
        let in_upper = {
            let state = parent.state.lock();
            if state.removed {
                return Err(Errno::NOENT);
            }
            state.in_upper()
        };
        if !in_upper {
            return self.resolve_lower(parent, name);
        }
        let fd = self.upper_dir(parent)?;
        let Some(stat) = fs::absent(self.stat(At::Name(fd.as_fd(), name)))? else {
            if self.has_upper_wh(parent, &fd)? && self.is_wh_whiteout(fd.as_fd(), name)? {
                return Ok(None);
            }
            return self.resolve_lower(parent, name);
        };
        *covered = true;
        if stat.is_whiteout() {
            return Ok(None);
        }
        let marks = self.marks(At::Name(fd.as_fd(), name), self.belief, &stat)?;
        if (marks.whiteout && stat.is_file()) || (marks::is_wh(name) && !marks.plain) {
            return Ok(None);
        }
        if stat.is_dir() {
            self.resolve_upper_dir(parent, fd.as_fd(), name, stat, marks)
        } else {
            self.resolve_upper_file(parent, name, stat, marks)
        }
        .map(Some)
    }

    fn resolve_upper_dir(
        &self,
        parent: &Arc<Node>,
        fd: BorrowedFd<'_>,
        name: &OsStr,
        stat: Stat,
        marks: Marks,
    ) -> Result<Found> {
        let mut found = Found::new(stat, 0);
        found.upper = InUpper::Data;
        found.impure = marks.impure;
        found.origin = marks.origin.is_some();
        let mut top = None;
        let foreign_opaque = self.has_upper_wh(parent, fd)? && self.is_wh_whiteout(fd, name)?;
        if marks.opaque != Opaque::Yes && !foreign_opaque && !self.has_wh_opaque(fd, name)? {
            let below = match (&marks.redirect, self.follows_redirects()) {
                (Some(to), true) => self.find_below(parent, Search::redirect(to)?)?,
                _ => self.find_below(parent, Search::Name(name.to_owned()))?,
            };
            if let InLowers::Dirs(stat, dirs) = below {
                top = Some(stat);
                found.lowers = dirs;
            }
            found.redirect = marks.redirect.filter(|to| to.as_bytes().starts_with(b"/"));
        }
        let from = top.unwrap_or(stat);
        found.ino = self.inos.map(from.dev, from.ino);
        Ok(found)
    }

    fn resolve_upper_file(
        &self,
        parent: &Arc<Node>,
        name: &OsStr,
        stat: Stat,
        marks: Marks,
    ) -> Result<Found> {
        let mut found = Found::new(stat, self.inos.map(stat.dev, stat.ino));
        found.upper = InUpper::Data;
        if marks.metacopy && stat.is_file() {
            let search = match &marks.redirect {
                Some(to) => Search::redirect(to)?,
                None => Search::Name(name.to_owned()),
            };
            let InLowers::File(_, lower) = self.find_below(parent, search)? else {
                because(format!(
                    "the metacopy {name:?} has no data in any lower layer"
                ));
                return Err(Errno::IO);
            };
            found.upper = InUpper::Meta;
            found.lower = Some(lower);
        }
        found.origin = marks.origin.is_some();
        if let Some(origin) = &marks.origin {
            let index = self.links.as_ref().and_then(|l| l.name_of(origin));
            let mut lower_nlink = None;
            if let Some((dev, ino, lower)) = self.origin_ino(origin)?
                && lower.is_none_or(|lower| {
                    (lower.nlink == 1 || index.is_some()) && lower.kind() == stat.kind()
                })
            {
                found.ino = self.inos.map(dev, ino);
                lower_nlink = lower.map(|l| l.nlink);
            }
            if index.is_some() {
                let value = marks.nlink.as_deref();
                let decode = |below| value.and_then(|v| Count::decode(v, below));
                found.nlink = decode(lower_nlink);
                if found.nlink.is_none() && value.is_some() && lower_nlink.is_none() {
                    found.nlink = decode(self.nlink_below(parent, name, found.ino));
                }
                found.index = index;
            }
        }
        Ok(found)
    }

    /// The link count of a lower inode that cannot be opened by its handle: a name that
    /// was linked up, and whose count is not yet the upper's, hides it.
    fn nlink_below(&self, parent: &Arc<Node>, name: &OsStr, ino: u64) -> Option<u32> {
        match self.find_below(parent, Search::Name(name.to_owned())) {
            Ok(InLowers::File(stat, _)) => {
                (self.inos.map(stat.dev, stat.ino) == ino).then_some(stat.nlink)
            }
            Ok(_) => None,
            Err(e) => {
                log::debug!("the link count of {name:?}, which a lower layer has: {e}");
                None
            }
        }
    }

    /// Search the lowers of a directory. Where its listing is known, that says
    /// which layer to begin with, or that none has the name: many layers then
    /// cost no more than one.
    fn find_below(&self, parent: &Arc<Node>, search: Search) -> Result<InLowers> {
        let (lowers, from) = {
            let state = parent.state.lock();
            let from = match (&search, &state.listing) {
                (Search::Name(_), _) if state.lowers.is_empty() => None,
                (Search::Name(name), Some(listing)) => listing.layer(name),
                _ => Some(0),
            };
            (state.lowers.clone(), from)
        };
        match (lowers, &search, from) {
            (Stack::Known(parent), Search::Name(name), _) => self.find_known(&parent, name),
            (Stack::Dirs(dirs), _, Some(from)) => self.find_lower(&dirs, search, from),
            // A path begins at the layers' roots.
            (Stack::Known(_), Search::Path(_), _) => self.find_lower(&[], search, 0),
            (Stack::Dirs(_), _, None) => Ok(InLowers::None),
        }
    }

    fn resolve_lower(&self, parent: &Arc<Node>, name: &OsStr) -> Result<Option<Found>> {
        let below = self.find_below(parent, Search::Name(name.to_owned()))?;
        let (stat, lower) = match below {
            InLowers::None => return Ok(None),
            InLowers::Dirs(stat, dirs) => {
                let mut found = Found::new(stat, self.inos.map(stat.dev, stat.ino));
                found.lowers = dirs;
                return Ok(Some(found));
            }
            InLowers::File(stat, lower) => (stat, lower),
        };
        let mut found = Found::new(stat, self.inos.map(stat.dev, stat.ino));
        if stat.nlink > 1 && self.upper.is_some() {
            match (&self.links, self.uuid_of(stat.dev)) {
                (None, _) | (_, None) => (found.by_ino, found.by_name) = (false, true),
                (Some(links), Some(uuid)) => {
                    let dir = self.lower_dir(&lower.dir)?;
                    let at = At::Name(dir.as_fd(), &lower.name);
                    if let Some(index) = links.find(at, uuid)? {
                        let lower_nlink = Some(stat.nlink);
                        let (stat, marks) = self.index_entry(links, &index)?;
                        found.stat = stat;
                        let value = marks.nlink.as_deref();
                        found.nlink = value.and_then(|v| Count::decode(v, lower_nlink));
                        found.upper = if marks.metacopy {
                            InUpper::Meta
                        } else {
                            InUpper::Data
                        };
                        found.index = Some(index);
                        found.origin = true;
                    }
                }
            }
        }
        found.lower = Some(lower);
        Ok(Some(found))
    }

    fn index_entry(&self, links: &super::links::Links, name: &OsStr) -> Result<(Stat, Marks)> {
        let at = links.at(name);
        let stat = self.stat(at)?;
        Ok((stat, self.marks(at, self.belief, &stat)?))
    }

    /// Do the lowers of a directory show `name`: is a whiteout needed.
    pub(super) fn in_lowers(&self, parent: &Arc<Node>, name: &OsStr) -> Result<bool> {
        let found = self.find_below(parent, Search::Name(name.to_owned()))?;
        Ok(!matches!(found, InLowers::None))
    }

    /// What a redirect leads to.
    pub(super) fn find_redirect(
        &self,
        parents: &[Arc<LowerDir>],
        redirect: &OsStr,
    ) -> Result<InLowers> {
        self.find_lower(parents, Search::redirect(redirect)?, 0)
    }

    /// The marks of an inode; none without asking where it can have none.
    pub(super) fn marks(&self, at: At<'_>, belief: Belief, stat: &Stat) -> Result<Marks> {
        let carries_user = stat.is_dir() || stat.is_file();
        if !carries_user && belief.own == marks::Family::User {
            return Ok(Marks::default());
        }
        super::with_scratch(|scratch| marks::read(at, belief, scratch))
    }

    /// Is there a `.wh.NAME` that stands for a whiteout.
    pub(super) fn is_wh_whiteout(&self, dir: BorrowedFd<'_>, name: &OsStr) -> Result<bool> {
        let Some(wh) = marks::wh_name(name) else {
            return Ok(false);
        };
        let Some(stat) = fs::absent(fs::stat_at(dir, &wh))? else {
            return Ok(false);
        };
        let marks = self.marks(At::Name(dir, &wh), self.lower_belief, &stat)?;
        Ok(stat.is_file() && !marks.plain)
    }

    /// Does the directory `name` hold a `.wh..wh..opq`.
    pub(super) fn has_wh_opaque(&self, dir: BorrowedFd<'_>, name: &OsStr) -> Result<bool> {
        let mut path = name.as_bytes().to_vec();
        path.extend_from_slice(DOT_OPAQUE);
        let path = OsStr::from_bytes(&path);
        let Some(stat) = fs::absent(fs::stat_at(dir, path))? else {
            return Ok(false);
        };
        let marks = self.marks(At::Name(dir, path), self.lower_belief, &stat)?;
        Ok(stat.is_file() && !marks.plain)
    }

    fn has_upper_wh(&self, node: &Arc<Node>, fd: impl AsFd) -> Result<bool> {
        if let Some(known) = node.state.lock().wh {
            return Ok(known);
        }
        let found = has_wh(fd.as_fd())?;
        node.state.lock().wh = Some(found);
        Ok(found)
    }

    /// Device, number and, if it can be had, stat of the lower inode that an
    /// upper one was copied from.
    fn origin_ino(&self, origin: &[u8]) -> Result<Option<(u64, u64, Option<Stat>)>> {
        let Some((handle, uuid)) = marks::origin::decode(origin) else {
            return Ok(None);
        };
        let layer = self.lowers.iter().find(|l| l.uuid == uuid);
        let Some(layer) = layer.filter(|l| l.is_told_apart) else {
            return Ok(None);
        };
        if self.features.has(Features::OPEN_HANDLES) {
            // Layers on one file system decode handles alike.
            return match handle::open(&*layer.mount, &handle, libc::O_PATH) {
                Ok(fd) => fs::stat_fd(fd).map(|s| Some((s.dev, s.ino, Some(s)))),
                Err(Errno::STALE | Errno::PERM | Errno::OPNOTSUPP) => Ok(None),
                Err(e) => Err(e),
            };
        }
        // Who may not open it knows the number, but not whether it is still
        // there: an origin is only written where it stays the number.
        Ok(handle.ino().map(|ino| (layer.dev, ino, None)))
    }

    /// The UUID of the file system of a lower inode, by which it is found again;
    /// none where that could be another file system's.
    pub(super) fn uuid_of(&self, dev: u64) -> Option<[u8; 16]> {
        match self.lowers.iter().find(|l| l.dev == dev) {
            Some(layer) => layer.is_told_apart.then_some(layer.uuid),
            // Something is mounted in a layer.
            None => None,
        }
    }
}

/// Does a directory have any entry named `.wh.*`.
pub(super) fn has_wh(fd: BorrowedFd<'_>) -> Result<bool> {
    let mut found = false;
    dir::read(dir::open_unseen(fd)?, 0, |e| {
        found = marks::is_wh(e.name);
        !found
    })?;
    Ok(found)
}
