//! Copying a lower inode to the upper: made aside, complete and synced, then
//! put in place by one link or rename.

use super::{
    Union,
    links::Links,
    node::Node,
    options::Fsync,
    state::{Count, InUpper, IoMode, Link, State},
};
use crate::layer::{
    marks::{self, Mark, Stored, nlink, origin},
    work::{Onto, Staged},
};
use crate::sys::{
    At, Errno, Result, flags,
    fs::{self, SetTime, Stat},
    handle, xattr,
};
use parking_lot::MutexGuard;
use std::ffi::OsStr;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::sync::Arc;

/// What the upper must have afterwards.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Want {
    /// The attributes.
    Meta,
    /// The attributes and all data.
    Data,
    /// The attributes; the data is about to be cut off.
    Empty,
}

/// How a copy ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Copied {
    Done,
    /// The name was another by then: nothing is done.
    Renamed,
}

impl Union {
    /// See that a node is in the upper. The node to go on with is given back:
    /// another one where open descriptors go on reading the lower file.
    ///
    /// The caller holds no lock.
    ///
    /// # Errors
    /// `EROFS`; errors of the upper, which is then as before.
    pub(super) fn copy_up(&self, node: &Arc<Node>, want: Want) -> Result<Arc<Node>> {
        if node.latest().partial().is_some() {
            // For the rest of its copy, or for who is making it.
            self.may_wait();
        }
        self.copy_up_by(node, want, |node| self.ticket(node))
    }

    /// As [`Union::copy_up`], for a thread that answers no requests.
    pub(super) fn copy_up_aside(&self, node: &Arc<Node>, want: Want) -> Result<Arc<Node>> {
        self.copy_up_by(node, want, |node| node.ticket.lock())
    }

    /// A node's ticket, which who copies much holds for long.
    pub(super) fn ticket<'a>(&self, node: &'a Node) -> MutexGuard<'a, ()> {
        node.ticket.try_lock().unwrap_or_else(|| {
            self.may_wait();
            node.ticket.lock()
        })
    }

    /// Copy up and change attributes of the upper inode: not while data is put into
    /// it, which changes attributes, too, and sets them back. `act` is called with
    /// `topology` and the node's `naming` held; the caller holds no lock.
    ///
    /// # Errors
    /// As [`Union::copy_up`], and those of `act`.
    pub(super) fn change<T>(
        &self,
        asked: &Arc<Node>,
        want: Want,
        act: impl FnOnce(&Arc<Node>) -> Result<T>,
    ) -> Result<T> {
        loop {
            let node = self.copy_up(asked, want)?;
            let upper = node.state.lock().upper;
            let _whole = (upper == InUpper::Meta).then(|| self.ticket(&node));
            let _moving = self.topology.read();
            let _named = node.named();
            // Its names may have gone over to another while it was waited for.
            if node.state.lock().successor.is_none() {
                return act(&node);
            }
        }
    }

    fn copy_up_by(
        &self,
        node: &Arc<Node>,
        want: Want,
        take: impl Fn(&Node) -> MutexGuard<'_, ()>,
    ) -> Result<Arc<Node>> {
        self.upper()?;
        let node = node.latest();
        let have = node.state.lock().upper;
        if have == InUpper::Data || (have == InUpper::Meta && want == Want::Meta) {
            return Ok(node);
        }
        if node.is_dir() {
            // Those above it are not what is changed.
            let lower = node.state.lock().lowers.top().cloned();
            if let Some(lower) = lower
                && flags::is_immutable(At::Fd(self.lower_dir(&lower)?.as_fd()))?
            {
                return Err(Errno::PERM);
            }
            self.copy_up_dirs(&node)?;
            return Ok(node);
        }
        let ticket = take(&node);
        // Who lost the race finds it done.
        let (have, successor) = {
            let state = node.state.lock();
            (state.upper, state.successor.clone())
        };
        if let Some(next) = successor {
            return Ok(next);
        }
        match (have, want) {
            (InUpper::Data, _) | (InUpper::Meta, Want::Meta) => {}
            (InUpper::Meta, _) => self.copy_up_data(&node, want)?,
            (InUpper::No, _) => {
                if let Some(link) = node.link() {
                    self.copy_up_dirs(&link.parent)?;
                }
                // The name may go while it is copied; what is copied then has
                // another name, or none.
                while self.copy_up_file(&node, want)? == Copied::Renamed {}
            }
        }
        let next = self.succeed(&node);
        drop(ticket);
        Ok(next)
    }

    /// Copy up a directory and those above it that are not in the upper yet.
    pub(super) fn copy_up_dirs(&self, node: &Arc<Node>) -> Result<()> {
        self.upper()?;
        let mut missing = Vec::new();
        let mut at = node.clone();
        loop {
            let (have, link) = {
                let state = at.state.lock();
                (state.upper, state.link().cloned())
            };
            if have != InUpper::No {
                break;
            }
            let link = link.ok_or(Errno::NOENT)?;
            missing.push(at);
            at = link.parent;
        }
        while let Some(dir) = missing.pop() {
            let _ticket = dir.ticket.lock();
            if dir.state.lock().upper == InUpper::No {
                self.copy_up_dir(&dir)?;
            }
        }
        Ok(())
    }

    fn copy_up_dir(&self, node: &Arc<Node>) -> Result<()> {
        let lower = {
            let state = node.state.lock();
            state.lowers.top().cloned().ok_or(Errno::STALE)?
        };
        let from = self.lower_dir(&lower)?;
        let from = At::Fd(from.as_fd());
        let stat = self.stat_lower(lower.layer, from)?;
        self.owner_is_known(lower.layer, from, &stat)?;
        let staged = self.upper()?.work.dir()?;
        self.copy_attributes(from, &stat, staged.at())?;
        if let Some(origin) = self.origin_of(from, stat.dev)? {
            self.set_mark(staged.at(), Mark::Origin, &origin)?;
        }
        if self.options.fsync == Fsync::Strict {
            self.sync_at(staged.at(), true)?;
        }
        let dir = {
            let _moving = self.topology.read();
            let link = node.link().ok_or(Errno::NOENT)?;
            let _names = link.parent.ns().write();
            if !node.has(&link) {
                return Err(Errno::NOENT);
            }
            let dir = self.install(&link, staged, true)?;
            let mut state = node.state.lock();
            state.upper = InUpper::Data;
            state.origin = true;
            dir
        };
        self.sync_names(&dir)
    }

    /// Of a directory where something was put, with `fsync=strict`. The caller
    /// holds no lock, and knows it in place: an error says only that a power cut
    /// could take it away.
    fn sync_names(&self, dir: &OwnedFd) -> Result<()> {
        match self.options.fsync {
            Fsync::Strict => fs::sync_dir(dir),
            _ => Ok(()),
        }
    }

    fn copy_up_file(&self, node: &Arc<Node>, want: Want) -> Result<Copied> {
        let upper = self.upper()?;
        let lower = node.state.lock().lower().ok_or(Errno::STALE)?;
        let dir = self.lower_dir(&lower.dir)?;
        let from = At::Name(dir.as_fd(), &lower.name);
        let stat = self.stat_lower(lower.dir.layer, from)?;
        self.may_copy_up(lower.dir.layer, from, &stat)?;
        let mut got = InUpper::Data;
        let partial = node.partial().filter(|_| want != Want::Empty);
        let staged = match (stat.kind(), &partial) {
            (_, Some(partial)) => {
                partial.complete()?;
                let fd = partial.copy()?;
                if self.options.fsync != Fsync::Volatile {
                    fs::sync(&fd, true)?;
                }
                upper.work.nameless(fd)
            }
            (libc::S_IFREG, None) => {
                let staged = upper.work.file()?;
                let fd = staged.fd().ok_or(Errno::BADF)?;
                match want {
                    Want::Meta if self.options.metacopy && self.has_marks() && stat.size > 0 => {
                        got = InUpper::Meta;
                        fs::truncate(fd, stat.size)?;
                    }
                    Want::Meta | Want::Data => {
                        self.copy_data(&lower, fd, stat.size)?;
                        if self.options.fsync != Fsync::Volatile {
                            fs::sync(fd, true)?;
                        }
                    }
                    Want::Empty => {}
                }
                staged
            }
            (libc::S_IFLNK, None) => upper.work.symlink(&fs::readlink(from)?)?,
            (kind, None) => self.stage_node(kind, stat.rdev)?,
        };
        let to = staged.fd().map_or(staged.at(), |fd| At::Fd(fd.as_fd()));
        if let Some(partial) = &partial {
            let (_quiet, mtime) = partial.quiet()?;
            self.copy_attributes(from, &Stat { mtime, ..stat }, to)?;
        } else {
            self.copy_attributes(from, &stat, to)?;
        }
        if want == Want::Empty {
            // Its data is gone when it appears: so this is when it changed.
            fs::utimens(to, SetTime::At(stat.atime), SetTime::Now)?;
        }
        if got == InUpper::Meta {
            self.set_mark(to, Mark::Metacopy, b"")?;
        }
        let indexed = self.links.as_ref().filter(|_| stat.nlink > 1);
        let mut origin = None;
        if (stat.nlink == 1 || indexed.is_some()) && self.carries_marks(stat.kind()) {
            origin = self.origin_of(from, stat.dev)?;
            if let Some(origin) = &origin {
                self.set_mark(to, Mark::Origin, origin)?;
            }
        }
        let found_again = origin.is_some();
        let mut indexed_as = None;
        if let (Some(links), Some(origin)) = (indexed, origin) {
            self.set_mark(to, Mark::Nlink, &nlink::lower(0))?;
            indexed_as = Some((links, Links::new_name(&origin)));
        }
        if self.options.fsync == Fsync::Strict
            && let Some(fd) = staged.fd()
        {
            fs::sync(fd, false)?;
        }
        let moving = self.topology.read();
        let Some(link) = node.link() else {
            // Unlinked while it was open: the copy gets no name either.
            self.keep_orphan(node, staged, got)?;
            return Ok(Copied::Done);
        };
        let names = link.parent.ns().write();
        if !node.has(&link) {
            return Ok(Copied::Renamed);
        }
        let naming = node.naming.write();
        if let Some((links, name)) = indexed_as {
            staged.install(&links.dir, &name, links.onto(&name))?;
            links.added(name.clone());
            {
                let mut state = node.state.lock();
                state.upper = got;
                state.origin = true;
                state.index = Some(name.clone());
                state.nlink = Some(Count::Total(stat.nlink.into()));
            }
            let dir = self.link_up(node, &link, links.at(&name))?;
            drop((naming, names, moving));
            self.sync_names(&links.dir)?;
            self.sync_names(&dir)?;
            return Ok(Copied::Done);
        }
        let dir = self.install(&link, staged, true)?;
        {
            let mut state = node.state.lock();
            state.upper = got;
            state.origin = true;
            state.parted = stat.nlink > 1;
            state.partial = None;
        }
        self.partials.remove(node);
        if !found_again {
            node.known_by_name();
        }
        drop((naming, names, moving));
        self.sync_names(&dir)?;
        Ok(Copied::Done)
    }

    /// May a lower inode be copied.
    pub(super) fn may_copy_up(&self, layer: u16, at: At<'_>, stat: &Stat) -> Result<()> {
        self.owner_is_known(layer, at, stat)?;
        match flags::is_protected(at)? {
            true => Err(Errno::PERM),
            false => Ok(()),
        }
    }

    /// An unlinked node's copy.
    fn keep_orphan(&self, node: &Arc<Node>, mut staged: Staged<'_>, got: InUpper) -> Result<()> {
        let fd = match staged.take_fd() {
            Some(fd) => fd,
            None => fs::path_of(staged.at())?,
        };
        let mut state = node.state.lock();
        state.upper = got;
        state.orphan = Some(Arc::new(fd));
        state.last = None;
        state.partial = None;
        drop(state);
        self.partials.remove(node);
        Ok(())
    }

    /// Give an index entry one more of its lower names in the upper, which
    /// changes the upper's count but not the union's. The caller holds the
    /// parent's `ns`, and is given its directory in the upper.
    pub(super) fn link_up(
        &self,
        node: &Arc<Node>,
        link: &Link,
        entry: At<'_>,
    ) -> Result<Arc<OwnedFd>> {
        self.relative_to_lower(node, entry)?;
        let staged = self.upper()?.work.link(entry)?;
        let dir = self.install(link, staged, true)?;
        self.relative_to_upper(node, entry)?;
        Ok(dir)
    }

    /// Put a copy in place, leaving the parent's times as they were; its directory
    /// in the upper is given back, not synced.
    fn install(&self, link: &Link, staged: Staged<'_>, has_origin: bool) -> Result<Arc<OwnedFd>> {
        let dir = self.upper_dir(&link.parent)?;
        let times = fs::stat_fd(&*dir)?;
        if has_origin {
            self.make_impure(&link.parent)?;
        }
        staged.install(&*dir, &link.name, Onto::Nothing)?;
        // The copy is in place: from here on nothing may fail.
        let restored = fs::utimens(
            At::Fd(dir.as_fd()),
            SetTime::At(times.atime),
            SetTime::At(times.mtime),
        );
        if let Err(e) = restored {
            log::warn!("cannot restore the times of a parent directory: {e}");
        }
        link.parent.covered(&link.name, false);
        Ok(dir)
    }

    /// Entries of this upper directory may have origins.
    pub(super) fn make_impure(&self, dir: &Arc<Node>) -> Result<()> {
        if dir.state.lock().impure {
            return Ok(());
        }
        let fd = self.upper_dir(dir)?;
        match self.set_mark(At::Fd(fd.as_fd()), Mark::Impure, b"y") {
            Ok(()) | Err(Errno::OPNOTSUPP) => {}
            Err(e) => return Err(e),
        }
        dir.state.lock().impure = true;
        Ok(())
    }

    /// Owner, extended attributes, mode and times, in this order: a change of
    /// owner drops set-id bits and capabilities.
    pub(super) fn copy_attributes(&self, from: At<'_>, stat: &Stat, to: At<'_>) -> Result<()> {
        self.give_owner(to, stat)?;
        let mut list = Vec::new();
        xattr::list_into(from, &mut list)?;
        for name in xattr::names(&list) {
            // Under the name that a caller's own attribute would have: what
            // looks like a mark of another mount's is no mark here.
            let Some(shown) = marks::to_shown(name, self.belief.own) else {
                continue;
            };
            let stored = match marks::to_stored(OsStr::from_bytes(&shown)) {
                Stored::Same => name.to_owned(),
                Stored::Escaped(stored) => stored,
                Stored::Refused => continue,
            };
            let Some(value) = xattr::get(from, name)? else {
                continue;
            };
            match xattr::set(to, &stored, &value, 0) {
                Err(Errno::OPNOTSUPP) if !must_keep(name.to_bytes()) => {}
                result => result?,
            }
        }
        if stat.kind() != libc::S_IFLNK && !self.keeps_owner_apart() {
            fs::chmod(to, stat.mode)?;
        }
        fs::utimens(to, SetTime::At(stat.atime), SetTime::At(stat.mtime))
    }

    /// The origin of a lower inode as the upper keeps it; none where the
    /// lower's file system has no handles.
    pub(super) fn origin_of(&self, at: At<'_>, dev: u64) -> Result<Option<Vec<u8>>> {
        let Some(uuid) = self.uuid_of(dev) else {
            return Ok(None);
        };
        match handle::encode(at) {
            Ok(handle) => Ok(origin::encode(&handle, uuid)),
            Err(Errno::OPNOTSUPP | Errno::OVERFLOW) => Ok(None),
            Err(e) => Err(e),
        }
    }

    fn sync_at(&self, at: At<'_>, dir: bool) -> Result<()> {
        let flags = if dir { libc::O_DIRECTORY } else { 0 } | libc::O_RDONLY;
        let fd = match at {
            At::Name(parent, name) => fs::open(parent, name, flags, 0)?,
            At::Fd(fd) => fs::reopen(fd, flags)?,
        };
        fs::sync(fd, false)
    }

    /// After data came to the upper: where descriptors read the lower past
    /// the daemon, the kernel allows no other backing file for this node, so
    /// the name goes over to a new one.
    pub(super) fn succeed(&self, node: &Arc<Node>) -> Arc<Node> {
        let is_due = |s: &State| {
            let changes = s.upper == InUpper::Data || s.partial.is_some();
            changes && s.io == IoMode::PassLower
        };
        if !is_due(&node.state.lock()) {
            return node.clone();
        }
        // Who is about to change its names looks again at whose they are.
        let _moving = self.topology.read();
        let _naming = node.naming.write();
        let mut old = node.state.lock();
        if !is_due(&old) {
            return node.clone();
        }
        let mut state = State::named(None);
        state.upper = old.upper;
        state.origin = old.origin;
        state.seen = old.seen;
        let lower = old.lower();
        for link in old.take_links() {
            state.add_link(link);
        }
        state.set_lower(lower);
        state.index = old.index.clone();
        state.nlink = old.nlink;
        state.partial = old.partial.take();
        state.by_name = old.by_name;
        state.parted = old.parted;
        state.orphan = old.orphan.take();
        state.removed = old.removed;
        state.predecessor = Arc::downgrade(node);
        drop(old);
        let by_name = state.by_name;
        let new = self.table.insert(node.ino(), node.kind(), false, state);
        if by_name {
            new.known_by_name();
        }
        node.state.lock().successor = Some(new.clone());
        new
    }

    /// Before a name of an indexed inode is linked up: the count is written
    /// relative to the lower's, which does not change.
    fn relative_to_lower(&self, node: &Arc<Node>, at: At<'_>) -> Result<()> {
        let (count, lower) = {
            let state = node.state.lock();
            (state.nlink, state.lower())
        };
        let (Some(Count::Relative(_)), Some(count), Some(lower)) = (count, count, lower) else {
            return Ok(());
        };
        let names = i64::from(count.names(fs::stat(at)?.nlink));
        let dir = self.lower_dir(&lower.dir)?;
        let below = i64::from(fs::stat_at(&*dir, &lower.name)?.nlink);
        self.set_mark(at, Mark::Nlink, &nlink::lower(names - below))?;
        node.state.lock().nlink = Some(Count::Total(names));
        Ok(())
    }

    /// Before a name of an indexed inode is made or removed: the count is
    /// written relative to the upper's, so that both change in one step. The
    /// caller holds `ns` of a parent.
    pub(super) fn relative_to_upper(&self, node: &Arc<Node>, at: At<'_>) -> Result<()> {
        let current = node.state.lock().nlink;
        let Some(Count::Total(names)) = current else {
            return Ok(());
        };
        let diff = names - i64::from(fs::stat(at)?.nlink);
        self.set_mark(at, Mark::Nlink, &nlink::upper(diff))?;
        node.state.lock().nlink = Some(Count::Relative(diff));
        Ok(())
    }
}

/// Names that kernel overlayfs, too, does not do without.
fn must_keep(name: &[u8]) -> bool {
    name.starts_with(b"system.posix_acl_") || name == b"security.capability"
}
