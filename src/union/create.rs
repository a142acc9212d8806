//! New names: files, directories, symlinks, nodes, hard links.

use super::{
    Attr, Opened, Union,
    copy_up::Want,
    lookup::Found,
    node::Node,
    state::{InUpper, Link},
};
use crate::layer::{
    acl,
    marks::{self, Mark},
    work::{Onto, Staged},
};
use crate::sys::{At, Errno, Result, fs, probe::Features, xattr};
use std::ffi::{OsStr, OsString};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

/// Who asks.
#[derive(Clone, Copy, Debug)]
pub struct Caller {
    /// User.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Process, 0 if unknown.
    pub pid: u32,
}

/// What to make.
#[derive(Clone, Copy, Debug)]
pub enum Make<'a> {
    /// An empty regular file.
    File,
    /// A directory.
    Dir,
    /// A symlink to this.
    Symlink(&'a OsStr),
    /// A FIFO, socket or device: `S_IFMT` bits and device number.
    Node(u32, u64),
}

impl Make<'_> {
    fn kind(self) -> u32 {
        match self {
            Make::File => libc::S_IFREG,
            Make::Dir => libc::S_IFDIR,
            Make::Symlink(_) => libc::S_IFLNK,
            Make::Node(kind, _) => kind,
        }
    }
}

/// What the new inode is to be.
struct Plan {
    mode: u32,
    uid: u32,
    gid: u32,
    access_acl: Option<Vec<u8>>,
    default_acl: Option<Arc<Vec<u8>>>,
}

/// What is under the name in the upper already.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Under {
    Nothing,
    /// A character device 0:0 or an empty file with the whiteout attribute.
    Whiteout,
    /// A `.wh.NAME` file.
    Wh,
}

impl Union {
    /// Make something new. Its lookup count is one.
    ///
    /// # Errors
    /// `EEXIST`, `EPERM` for a whiteout device, `EROFS`, errors of the upper.
    pub fn make(
        &self,
        parent: u64,
        name: &OsStr,
        what: Make<'_>,
        mode: u32,
        umask: u32,
        caller: Caller,
    ) -> Result<Attr> {
        let (attr, ()) = self.make_and(parent, name, what, mode, umask, caller, |_, _| ())?;
        Ok(attr)
    }

    /// As [`Union::make`], with something done to it before anybody else can
    /// find it.
    #[allow(clippy::too_many_arguments, reason = "those of the request, and one")]
    fn make_and<T>(
        &self,
        parent: u64,
        name: &OsStr,
        what: Make<'_>,
        mode: u32,
        umask: u32,
        caller: Caller,
        then: impl FnOnce(&Arc<Node>, Option<OwnedFd>) -> T,
    ) -> Result<(Attr, T)> {
        if let Make::Node(libc::S_IFCHR, 0) = what {
            return Err(Errno::PERM);
        }
        if name.len() > 255 {
            return Err(Errno::NAMETOOLONG);
        }
        let parent = self.node(parent)?;
        self.copy_up(&parent, Want::Meta)?;
        let _moving = self.topology.read();
        let _names = parent.ns().write();
        let dir = self.upper_dir(&parent)?;
        let plain = marks::is_wh(name);
        // The making itself says there whether the name is free.
        let unseen = parent.is_only_upper() && !plain;
        let (mut under, mut covers) = match unseen {
            true => (Under::Nothing, false),
            false => self.vacant(&parent, &dir, name)?,
        };
        let plan = self.plan(&parent, &dir, what, mode, umask, caller)?;
        let direct = plan.uid == 0
            && plan.gid == 0
            && self.uids.is_identity()
            && under == Under::Nothing
            && !plain
            && plan.access_acl.is_none()
            && plan.default_acl.is_none()
            && !self.keeps_owner_apart()
            && crate::sys::creds::effective_uid() == 0
            // The kernel would give the file what `noacl` does not.
            && (self.options.acl || self.stored_default_acl(&parent, dir.as_fd())?.is_none());
        let made = match direct.then(|| make_in_place(&dir, name, what, plan.mode)) {
            // It may be a whiteout.
            Some(Err(Errno::EXIST)) if unseen => None,
            made => made.transpose()?,
        };
        if made.is_none() {
            if unseen {
                (under, covers) = self.vacant(&parent, &dir, name)?;
            }
            let opaque = covers && matches!(what, Make::Dir);
            let staged = self.stage(what, &plan)?;
            if opaque {
                self.set_opaque(staged.at())?;
            }
            if plain {
                self.set_mark(staged.at(), Mark::Plain, b"y")?;
            }
            Union::install_new(&dir, name, staged, under)?;
        }
        let file = made.flatten();
        parent.covered(name, false);
        let at = match &file {
            Some(fd) => At::Fd(fd.as_fd()),
            None => At::Name(dir.as_fd(), name),
        };
        let stat = self.stat(at)?;
        let mut found = Found::new(stat, self.inos.map(stat.dev, stat.ino));
        found.upper = InUpper::Data;
        found.by_ino = false;
        let node = self.instantiate(&parent, name, found);
        {
            let mut state = node.state.lock();
            state.wh = Some(false);
            state.no_capability = true;
            if matches!(what, Make::Dir) {
                state.default_acl = Some(plan.default_acl);
            }
        }
        let attr = self.show(&node, stat)?;
        let done = then(&node, file);
        self.table.remember(&node);
        Ok((attr, done))
    }

    /// Make a file and open it, before its name can go again.
    ///
    /// # Errors
    /// As [`Union::make`].
    pub fn create(
        &self,
        parent: u64,
        name: &OsStr,
        mode: u32,
        umask: u32,
        flags: i32,
        caller: Caller,
    ) -> Result<(Attr, Opened)> {
        let open = |node: &Arc<Node>, file| self.opened_new(node, flags, file);
        self.make_and(parent, name, Make::File, mode, umask, caller, open)
    }

    /// Another name for a file.
    ///
    /// # Errors
    /// `EEXIST`, `EPERM` for a directory, `ESTALE` where the file's names belong
    /// to another node since a copy-up, errors of the upper.
    pub fn link(&self, id: u64, parent: u64, name: &OsStr) -> Result<Attr> {
        if name.len() > 255 {
            return Err(Errno::NAMETOOLONG);
        }
        let node = self.node(id)?;
        if node.is_dir() {
            return Err(Errno::PERM);
        }
        let parent = self.node(parent)?;
        self.copy_up(&parent, Want::Meta)?;
        let mut node = self.copy_up(&node, Want::Meta)?;
        // The data of a metacopy is found by name: under another name it
        // needs a redirect, or else all its data.
        let redirected = {
            let _moving = self.topology.read();
            self.redirect_metacopy(&node)?
        };
        if !redirected || marks::is_wh(name) {
            node = self.copy_up(&node, Want::Data)?;
        }
        let _moving = self.topology.read();
        let _names = parent.ns().write();
        let dir = self.upper_dir(&parent)?;
        let (under, _) = self.vacant(&parent, &dir, name)?;
        let naming = node.naming.write();
        if node.has_successor() {
            return Err(Errno::STALE);
        }
        let place = self.place(&node)?;
        let at = place.at();
        if marks::is_wh(name) {
            self.set_mark(at, Mark::Plain, b"y")?;
        }
        self.relative_to_upper(&node, at)?;
        if node.state.lock().origin {
            self.make_impure(&parent)?;
        }
        if under == Under::Nothing {
            fs::link(at, &*dir, name)?;
        } else {
            let staged = self.upper()?.work.link(at)?;
            Union::install_new(&dir, name, staged, under)?;
        }
        parent.covered(name, false);
        {
            let mut state = node.state.lock();
            state.removed = false;
            state.last = None;
            node.gains(&mut state, Link::new(&parent, name));
        }
        drop(naming);
        let attr = self.attr_of(&node)?;
        self.table.remember(&node);
        Ok(attr)
    }

    /// See that a name is free: what is under it in the upper, and whether a
    /// lower layer has it. The caller holds the parent's `ns`.
    pub(super) fn vacant(
        &self,
        parent: &Arc<Node>,
        dir: &OwnedFd,
        name: &OsStr,
    ) -> Result<(Under, bool)> {
        let mut covered = false;
        if self.resolve_seeing(parent, name, &mut covered)?.is_some() {
            return Err(Errno::EXIST);
        }
        let under = match covered {
            // A `.wh.*` mark in the way: taking its place would show again
            // what it hides.
            true if marks::is_wh(name) => return Err(Errno::PERM),
            true => Under::Whiteout,
            false if parent.state.lock().wh == Some(true) => match marks::wh_name(name) {
                Some(wh) if fs::absent(fs::stat_at(dir, &wh))?.is_some() => Under::Wh,
                _ => Under::Nothing,
            },
            false => Under::Nothing,
        };
        // With nothing of it in the upper the lowers were searched: they have
        // none either.
        Ok((under, under != Under::Nothing))
    }

    /// Put something new in place. The caller holds the parent's `ns`.
    fn install_new(dir: &OwnedFd, name: &OsStr, staged: Staged<'_>, under: Under) -> Result<()> {
        let onto = match under {
            Under::Nothing | Under::Wh => Onto::Nothing,
            Under::Whiteout => Onto::File,
        };
        staged.install(dir, name, onto)?;
        if under == Under::Wh
            && let Some(wh) = marks::wh_name(name)
        {
            // Beside the entry itself it says only that the lowers are hidden,
            // which the entry does too, a directory by its opaque mark.
            if let Err(e) = fs::unlink(dir, &wh, false) {
                log::warn!("cannot remove {wh:?} after creating its name: {e}");
            }
        }
        Ok(())
    }

    fn plan(
        &self,
        parent: &Arc<Node>,
        dir: &OwnedFd,
        what: Make<'_>,
        mode: u32,
        umask: u32,
        caller: Caller,
    ) -> Result<Plan> {
        let is_dir = matches!(what, Make::Dir);
        // Its mode is known from when it was last shown; rarely more is needed.
        let seen = parent.state.lock().seen;
        let above = match seen.mode() {
            Some(mode) if mode & libc::S_ISGID == 0 => None,
            _ => Some(self.stat(At::Fd(dir.as_fd()))?),
        };
        let mut plan = Plan {
            mode: mode & 0o7777,
            uid: if self.uids.squashes() {
                crate::sys::creds::effective_uid()
            } else {
                self.uids.stored(caller.uid)?
            },
            gid: if self.gids.squashes() {
                crate::sys::creds::effective_gid()
            } else {
                self.gids.stored(caller.gid)?
            },
            access_acl: None,
            default_acl: None,
        };
        if let Some(above) = above.filter(|above| above.mode & libc::S_ISGID != 0) {
            plan.gid = above.gid;
            if is_dir {
                plan.mode |= libc::S_ISGID;
            }
        }
        if matches!(what, Make::Symlink(_)) {
            return Ok(plan);
        }
        let default = self.default_acl(parent, dir.as_fd())?;
        match default
            .as_ref()
            .and_then(|acl| acl::inherit(acl, plan.mode))
        {
            Some(got) => {
                plan.mode = got.mode;
                plan.access_acl = got.access;
                plan.default_acl = default.filter(|_| is_dir);
            }
            None => plan.mode &= !umask,
        }
        Ok(plan)
    }

    /// A directory's default ACL, if ACLs are believed.
    fn default_acl(&self, node: &Arc<Node>, dir: BorrowedFd<'_>) -> Result<Option<Arc<Vec<u8>>>> {
        match self.options.acl {
            true => self.stored_default_acl(node, dir),
            false => Ok(None),
        }
    }

    fn stored_default_acl(
        &self,
        node: &Arc<Node>,
        dir: BorrowedFd<'_>,
    ) -> Result<Option<Arc<Vec<u8>>>> {
        if let Some(known) = &node.state.lock().default_acl {
            return Ok(known.clone());
        }
        let acl = match xattr::get(At::Fd(dir), c"system.posix_acl_default") {
            Err(Errno::OPNOTSUPP) => None,
            result => result?,
        };
        let acl = acl.filter(|a| a.len() > 4).map(Arc::new);
        node.state.lock().default_acl = Some(acl.clone());
        Ok(acl)
    }

    fn stage(&self, what: Make<'_>, plan: &Plan) -> Result<Staged<'_>> {
        let work = &self.upper()?.work;
        let staged = match what {
            Make::File => work.file()?,
            Make::Dir => work.dir()?,
            Make::Symlink(target) => work.symlink(target)?,
            Make::Node(kind, rdev) => self.stage_node(kind, rdev)?,
        };
        let at = staged.at();
        let owner = fs::Stat {
            mode: what.kind() | plan.mode,
            uid: plan.uid,
            gid: plan.gid,
            rdev: if let Make::Node(_, rdev) = what {
                rdev
            } else {
                0
            },
            ..fs::Stat::default()
        };
        self.give_owner(at, &owner)?;
        for (name, acl) in [
            (c"system.posix_acl_access", plan.access_acl.as_ref()),
            (c"system.posix_acl_default", plan.default_acl.as_deref()),
        ] {
            if let Some(acl) = acl {
                xattr::set(at, name, acl, 0)?;
            }
        }
        if what.kind() != libc::S_IFLNK && !self.keeps_owner_apart() {
            fs::chmod(at, plan.mode)?;
        }
        Ok(staged)
    }

    /// A whiteout in the work directory.
    ///
    /// # Errors
    /// As mknod(2); `EOPNOTSUPP` where none can be made.
    pub(super) fn stage_whiteout(&self, parent: &Arc<Node>) -> Result<Staged<'_>> {
        let work = &self.upper()?.work;
        if self.features.has(Features::MKNOD) {
            return work.whiteout();
        }
        if !self.features.has(Features::XATTR) && !self.features.has(Features::TRUSTED) {
            return Err(Errno::OPNOTSUPP);
        }
        let dir = self.upper_dir(parent)?;
        let staged = work.file()?;
        self.set_mark(staged.at(), Mark::Whiteout, b"y")?;
        self.set_mark(At::Fd(dir.as_fd()), Mark::Opaque, b"x")?;
        Ok(staged)
    }

    /// Hide a lower name that the upper does not have, in one step. The caller
    /// holds the parent's `ns`.
    pub(super) fn hide(&self, parent: &Arc<Node>, dir: &OwnedFd, name: &OsStr) -> Result<()> {
        if self.features.has(Features::MKNOD) {
            self.upper()?.work.make_whiteout(dir, name)?;
        } else {
            match self.stage_whiteout(parent) {
                Ok(staged) => drop(staged.install(dir, name, Onto::Nothing)?),
                Err(Errno::OPNOTSUPP) => self.make_wh(parent, dir, name)?,
                Err(e) => return Err(e),
            }
        }
        parent.covered(name, true);
        Ok(())
    }

    /// Hide a lower name by a `.wh.NAME` file, where nothing else can be made.
    pub(super) fn make_wh(&self, parent: &Arc<Node>, dir: &OwnedFd, name: &OsStr) -> Result<()> {
        let wh: OsString = marks::wh_name(name).ok_or(Errno::NAMETOOLONG)?;
        let flags = libc::O_CREAT | libc::O_WRONLY;
        fs::open(dir, &wh, flags, 0o600)?;
        parent.state.lock().wh = Some(true);
        Ok(())
    }
}

/// Gives a new file open for reading only, as a backing file is: a descriptor
/// to write would keep others from running it.
fn make_in_place(
    dir: &OwnedFd,
    name: &OsStr,
    what: Make<'_>,
    mode: u32,
) -> Result<Option<OwnedFd>> {
    match what {
        Make::File => {
            let flags = libc::O_CREAT | libc::O_EXCL | libc::O_RDONLY;
            return fs::open(dir, name, flags, mode).map(Some);
        }
        Make::Dir => fs::mkdir(dir, name, mode),
        Make::Symlink(target) => fs::symlink(target, dir, name),
        Make::Node(kind, rdev) => fs::mknod(dir, name, kind | mode, rdev),
    }
    .map(|()| None)
}
