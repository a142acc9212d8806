//! Renaming. Everything that must be in the upper is copied up first; the
//! rename itself is one system call, which leaves a whiteout where one is
//! needed.

use super::{
    Union,
    copy_up::Want,
    lower::InLowers,
    name::Name,
    node::Node,
    options::RedirectDir,
    stack::Stack,
    state::{InUpper, Link},
};
use crate::layer::{
    marks::{self, Mark},
    work::Onto,
};
use crate::sys::{
    At, Errno, Result, flags,
    fs::{self, Replace, Stat},
    probe::Features,
};
use std::ffi::{OsStr, OsString};
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;

/// Longest redirect that is written, in bytes: an attribute's value must fit
/// into a block on most file systems.
const REDIRECT_MAX: usize = 3500;

/// How often it is looked again for what another thread has moved meanwhile.
pub(super) const TRIES: usize = 16;

/// One side of a rename.
struct Side {
    parent: Arc<Node>,
    name: OsString,
    dir: Arc<OwnedFd>,
    node: Option<(Arc<Node>, Stat)>,
    /// The upper has something under the name, be it a whiteout.
    here: bool,
    /// A lower layer has the name: without an entry in the upper it would be
    /// seen again.
    covers: bool,
}

impl Side {
    fn link(&self) -> Link {
        Link::new(&self.parent, &self.name)
    }
}

impl Union {
    /// renameat2(2) with `Replace::Yes`, `No` or `Exchange`.
    ///
    /// # Errors
    /// `EXDEV` for a lower directory where redirects are off or cannot
    /// describe it, `EEXIST`, `ENOTEMPTY`, `EINVAL`, errors of the upper.
    pub fn rename(
        &self,
        from: u64,
        name: &OsStr,
        to: u64,
        new_name: &OsStr,
        how: Replace,
    ) -> Result<()> {
        self.upper()?;
        if how == Replace::Whiteout {
            return Err(Errno::INVAL);
        }
        if new_name.len() > 255 {
            return Err(Errno::NAMETOOLONG);
        }
        let (from, to) = (self.node(from)?, self.node(to)?);
        // What was copied up is lost again only to a rename in between.
        for _ in 0..TRIES {
            let is_dir = self.prepare(&from, name, true)?;
            self.prepare(&to, new_name, how == Replace::Exchange)?;
            let result = if is_dir {
                Err(Errno::AGAIN)
            } else {
                let _moving = self.topology.read();
                let _names = Node::both_ns(&from, &to);
                self.rename_prepared((&from, name), (&to, new_name), how, false)
            };
            let result = match result {
                // A directory: with its name those of everything in it change.
                Err(Errno::AGAIN) => {
                    let _moving = self.topology.write();
                    self.rename_prepared((&from, name), (&to, new_name), how, true)
                }
                result => result,
            };
            match result {
                Err(Errno::STALE) => {}
                result => return result,
            }
        }
        Err(Errno::STALE)
    }

    /// The rename itself. The caller holds `topology` for writing (`alone`), or
    /// for reading with the `ns` of both parents: directories then give
    /// `EAGAIN`.
    fn rename_prepared(
        &self,
        (from, name): (&Arc<Node>, &OsStr),
        (to, new_name): (&Arc<Node>, &OsStr),
        how: Replace,
        alone: bool,
    ) -> Result<()> {
        self.renew_whiteout(to, new_name)?;
        let old = self.side(from, name)?;
        let new = self.side(to, new_name)?;
        let Some((old_node, old_stat)) = old.node.clone() else {
            return Err(Errno::NOENT);
        };
        let target = new.node.as_ref().map(|(node, _)| node);
        let dirs =
            old_node.is_dir() || (how == Replace::Exchange && target.is_some_and(|t| t.is_dir()));
        if dirs && !alone {
            return Err(Errno::AGAIN);
        }
        if let Some(target) = target {
            if Arc::ptr_eq(target, &old_node) {
                return Ok(());
            }
            if how == Replace::No {
                return Err(Errno::EXIST);
            }
        } else if how == Replace::Exchange {
            return Err(Errno::NOENT);
        }
        if how == Replace::Yes {
            self.may_replace(old_stat, &new)?;
        }
        let _naming = (!alone).then(|| Node::both_naming(&old_node, target));
        // Copied up before the lock: lost again only to a rename in between.
        let lost = old_node.state.lock().upper == InUpper::No || !old.here;
        if lost || old_node.has_successor() || target.is_some_and(|t| t.has_successor()) {
            return Err(Errno::STALE);
        }
        if marks::is_wh(new_name) {
            self.set_mark(At::Name(old.dir.as_fd(), name), Mark::Plain, b"y")?;
        }
        self.describe(&old_node, &old, &new)?;
        if how == Replace::Exchange {
            return self.exchange(&old, &new);
        }
        self.replace(&old, old_stat, &new)
    }

    /// Copy up what a rename moves; true if it is a directory. The caller holds
    /// no lock.
    fn prepare(&self, parent: &Arc<Node>, name: &OsStr, moves: bool) -> Result<bool> {
        self.copy_up(parent, Want::Meta)?;
        self.index_before_removal(parent, name)?;
        if !moves {
            return Ok(false);
        }
        let node = {
            let _moving = self.topology.read();
            let _names = parent.ns().read();
            let found = self.resolve(parent, name)?.ok_or(Errno::NOENT)?;
            self.instantiate(parent, name, found)
        };
        if node.is_dir() {
            let merged = !node.state.lock().lowers.is_empty();
            if merged && (self.options.redirect_dir != RedirectDir::On || !self.has_marks()) {
                return Err(Errno::XDEV);
            }
        }
        let node = self.copy_up(&node, Want::Meta)?;
        let found_by_name = {
            let _moving = self.topology.read();
            !node.is_dir() && !self.redirect_metacopy(&node)?
        };
        if found_by_name || (marks::is_wh(name) && node.is_file()) {
            self.copy_up(&node, Want::Data)?;
        }
        Ok(node.is_dir())
    }

    /// The caller holds what [`Union::rename_prepared`] says.
    fn side(&self, parent: &Arc<Node>, name: &OsStr) -> Result<Side> {
        let dir = self.upper_dir(parent)?;
        let mut here = fs::absent(fs::stat_at(&*dir, name))?.is_some();
        let node = match self.resolve(parent, name)? {
            None => None,
            Some(found) => {
                let stat = found.stat;
                let node = self.instantiate(parent, name, found);
                let index = node.state.lock().index.clone();
                if let (false, Some(index), Some(links)) = (here, &index, &self.links) {
                    let link = Link::new(parent, name);
                    let _naming = node.naming.write();
                    self.link_up(&node, &link, links.at(index))?;
                    here = true;
                }
                Some((node, stat))
            }
        };
        Ok(Side {
            parent: parent.clone(),
            name: name.to_owned(),
            covers: self.in_lowers(parent, name)?,
            dir,
            node,
            here,
        })
    }

    /// A `.wh.NAME` that another driver has left would make a merged directory
    /// that takes the name opaque: a whiteout of ours takes its place.
    fn renew_whiteout(&self, parent: &Arc<Node>, name: &OsStr) -> Result<()> {
        if !self.has_marks() {
            return Ok(());
        }
        let dir = self.upper_dir(parent)?;
        if let (super::create::Under::Wh, _) = match self.vacant(parent, &dir, name) {
            Err(Errno::EXIST) => return Ok(()),
            found => found?,
        } && let Some(wh) = marks::wh_name(name)
        {
            self.hide(parent, &dir, name)?;
            fs::unlink(&*dir, &wh, false)?;
        }
        Ok(())
    }

    /// What the target forbids, before anything is changed.
    fn may_replace(&self, old: Stat, new: &Side) -> Result<()> {
        let Some((target, stat)) = &new.node else {
            return Ok(());
        };
        let upper = target.state.lock().upper != InUpper::No;
        if !upper && flags::is_protected(self.place(target)?.at())? {
            return Err(Errno::PERM);
        }
        match (old.is_dir(), stat.is_dir()) {
            (true, false) => Err(Errno::NOTDIR),
            (false, true) => Err(Errno::ISDIR),
            (true, true) if !self.is_empty_dir(target)? => Err(Errno::NOTEMPTY),
            _ => Ok(()),
        }
    }

    /// Before something moves from `old` to `new`: what it needs so that it is
    /// read the same there.
    fn describe(&self, node: &Arc<Node>, old: &Side, new: &Side) -> Result<()> {
        let at = At::Name(old.dir.as_fd(), &old.name);
        if node.is_dir() {
            let lowers = node.state.lock().lowers.clone();
            match lowers.top() {
                Some(top) => {
                    // As kernel overlayfs writes it, or else, where the stack
                    // came about in another way, the topmost one's own path.
                    let candidates = [self.redirect_path(node), top.path()];
                    let mut found = None;
                    for redirect in candidates {
                        if redirect.len() <= REDIRECT_MAX && self.leads_to(&redirect, node)? {
                            found = Some(redirect);
                            break;
                        }
                    }
                    let redirect = found.ok_or(Errno::XDEV)?;
                    self.set_mark(at, Mark::Redirect, redirect.as_encoded_bytes())?;
                    node.state.lock().redirect = Some(redirect);
                }
                None if new.covers || new.here => self.set_opaque(at)?,
                None => {}
            }
        }
        let has_origin = {
            let state = node.state.lock();
            state.origin || !state.lowers.is_empty()
        };
        if has_origin {
            self.make_impure(&new.parent)?;
        }
        Ok(())
    }

    /// The path of a directory in the layers below the upper: its names up to
    /// a directory whose redirect says the rest.
    fn redirect_path(&self, node: &Arc<Node>) -> OsString {
        let mut names: Vec<Name> = Vec::new();
        let mut at = node.clone();
        let mut path = loop {
            let (redirect, link) = {
                let state = at.state.lock();
                (state.redirect.clone(), state.link().cloned())
            };
            if let Some(redirect) = redirect {
                break redirect;
            }
            match link {
                Some(link) => {
                    names.push(link.name);
                    at = link.parent;
                }
                None => break OsString::new(),
            }
        };
        while let Some(name) = names.pop() {
            path.push("/");
            path.push(name);
        }
        path
    }

    /// Does a redirect find just the directories that are merged now.
    fn leads_to(&self, redirect: &OsStr, node: &Arc<Node>) -> Result<bool> {
        let InLowers::Dirs(_, found) = self.find_redirect(&[], redirect)? else {
            return Ok(false);
        };
        let lowers = node.state.lock().lowers.clone();
        let (found, lowers) = (self.dirs_of(&found), self.dirs_of(&lowers));
        Ok(found.len() == lowers.len() && found.iter().zip(&lowers).all(|(a, b)| a.same(b)))
    }

    /// A metacopy finds its data by name: before its name changes, it gets a
    /// redirect. False if none can say where the data is. The caller holds
    /// `topology`.
    pub(super) fn redirect_metacopy(&self, node: &Arc<Node>) -> Result<bool> {
        let _named = node.named();
        let lower = {
            let state = node.state.lock();
            if state.upper != InUpper::Meta {
                return Ok(true);
            }
            state.lower().ok_or(Errno::STALE)?
        };
        let mut candidates = vec![lower.dir.path_of(&lower.name)];
        if let Some(link) = node.link() {
            let mut path = self.redirect_path(&link.parent);
            path.push("/");
            path.push(link.name);
            candidates.push(path);
        }
        for redirect in candidates {
            if redirect.len() > REDIRECT_MAX {
                continue;
            }
            if let InLowers::File(_, found) = self.find_redirect(&[], &redirect)?
                && found.data().same(lower.data())
            {
                let place = self.place(node)?;
                self.set_mark(place.at(), Mark::Redirect, redirect.as_encoded_bytes())?;
                return Ok(true);
            }
        }
        Ok(false)
    }

    fn exchange(&self, old: &Side, new: &Side) -> Result<()> {
        let (Some((a, _)), Some((b, _))) = (&old.node, &new.node) else {
            return Err(Errno::NOENT);
        };
        if b.state.lock().upper == InUpper::No || !new.here {
            return Err(Errno::STALE);
        }
        if marks::is_wh(&old.name) {
            self.set_mark(At::Name(new.dir.as_fd(), &new.name), Mark::Plain, b"y")?;
        }
        self.describe(b, new, old)?;
        fs::rename(
            &*old.dir,
            &old.name,
            &*new.dir,
            &new.name,
            Replace::Exchange,
        )?;
        a.moved(&old.link(), new.link());
        b.moved(&new.link(), old.link());
        old.parent.covered(&old.name, false);
        new.parent.covered(&new.name, false);
        Ok(())
    }

    fn replace(&self, old: &Side, old_stat: Stat, new: &Side) -> Result<()> {
        let Some((node, _)) = &old.node else {
            return Err(Errno::NOENT);
        };
        let mut leaving = None;
        if let Some((target, stat)) = &new.node {
            if target.is_dir() && new.here {
                self.empty_of_whiteouts(target, new)?;
            }
            let mut stat = *stat;
            if new.here && !target.is_dir() {
                // Another name may have come or gone until now.
                stat.nlink = fs::stat_at(&*new.dir, &new.name)?.nlink;
            }
            leaving = Some((
                target,
                stat,
                self.before_unlink(target, &new.parent, &new.dir, &new.name, new.here)?,
            ));
        }
        let onto_whiteout = new.node.is_none() && new.here;
        self.move_upper(old, new, old_stat.is_dir() && onto_whiteout)?;
        if old.covers {
            old.parent.covered(&old.name, true);
        } else {
            old.parent.uncovered(&old.name);
        }
        new.parent.covered(&new.name, false);
        if let Some((target, stat, leaving)) = leaving {
            self.after_unlink(target, &new.parent, &new.name, stat, leaving);
        }
        node.moved(&old.link(), new.link());
        Ok(())
    }

    /// A directory that only has whiteouts left is exchanged for an empty,
    /// opaque one, so that a rename can replace it.
    fn empty_of_whiteouts(&self, target: &Arc<Node>, new: &Side) -> Result<()> {
        let dir = self.upper_dir(target)?;
        let mut any = false;
        crate::sys::dir::read(crate::sys::dir::open(&*dir)?, 0, |_| {
            any = true;
            false
        })?;
        if !any {
            return Ok(());
        }
        let from = At::Fd(dir.as_fd());
        let staged = self.upper()?.work.dir()?;
        self.copy_attributes(from, &self.stat(from)?, staged.at())?;
        if self.has_marks() {
            self.set_opaque(staged.at())?;
        } else {
            // A mark inside would not leave it empty; this one beside it hides
            // as much, and changes nothing yet.
            self.make_wh(&new.parent, &new.dir, &new.name)?;
        }
        self.fds.forget(target.serial());
        staged.install(&*new.dir, &new.name, Onto::Anything)?;
        let mut state = target.state.lock();
        state.lowers = Stack::default();
        state.listing = None;
        Ok(())
    }

    /// The rename in the upper. `swap`: a directory goes onto a whiteout,
    /// which only an exchange can do.
    fn move_upper(&self, old: &Side, new: &Side, swap: bool) -> Result<()> {
        let rename = |how| fs::rename(&*old.dir, &old.name, &*new.dir, &new.name, how);
        if swap && self.features.has(Features::EXCHANGE) {
            rename(Replace::Exchange)?;
            if !old.covers
                && let Err(e) = fs::unlink(&*old.dir, &old.name, false)
            {
                // It hides nothing.
                log::warn!("cannot remove a whiteout: {e}");
            }
            return Ok(());
        }
        if !swap {
            return self.move_away(old, new);
        }
        // Without an exchange, what the whiteout hides is seen for a moment.
        fs::unlink(&*new.dir, &new.name, false)?;
        let result = self.move_away(old, new);
        if result.is_err()
            && let Err(e) = self.hide(&new.parent, &new.dir, &new.name)
        {
            log::warn!("cannot put back the whiteout {:?}: {e}", new.name);
        }
        result
    }

    /// The rename onto nothing or onto what it can replace, with a whiteout
    /// where one is needed.
    fn move_away(&self, old: &Side, new: &Side) -> Result<()> {
        let rename = |how| fs::rename(&*old.dir, &old.name, &*new.dir, &new.name, how);
        if !old.covers {
            return rename(Replace::Yes);
        }
        if self.features.has(Features::WHITEOUT_RENAME) && self.features.has(Features::MKNOD) {
            return rename(Replace::Whiteout);
        }
        // Without RENAME_WHITEOUT a file has both names for a moment, and a
        // directory none.
        let is_dir = old.node.as_ref().is_some_and(|(n, _)| n.is_dir());
        match self.stage_whiteout(&old.parent) {
            Ok(whiteout)
                if is_dir && new.node.is_none() && self.features.has(Features::EXCHANGE) =>
            {
                // A whiteout more where nothing is hides nothing.
                whiteout.install(&*new.dir, &new.name, Onto::Nothing)?;
                if let Err(e) = rename(Replace::Exchange) {
                    fs::unlink(&*new.dir, &new.name, false)?;
                    return Err(e);
                }
            }
            Ok(whiteout) if is_dir => {
                rename(Replace::Yes)?;
                if let Err(e) = whiteout.install(&*old.dir, &old.name, Onto::Nothing) {
                    let (from, to) = ((&*new.dir, &new.name), (&*old.dir, &old.name));
                    fs::rename(from.0, from.1, to.0, to.1, Replace::Yes)?;
                    return Err(e);
                }
            }
            Ok(whiteout) => {
                let at = At::Name(old.dir.as_fd(), &old.name);
                let copy = self.upper()?.work.link(at)?;
                copy.install(&*new.dir, &new.name, Onto::File)?;
                whiteout.install(&*old.dir, &old.name, Onto::File)?;
            }
            Err(Errno::OPNOTSUPP) => {
                self.make_wh(&old.parent, &old.dir, &old.name)?;
                rename(Replace::Yes)?;
            }
            Err(e) => return Err(e),
        }
        Ok(())
    }
}
