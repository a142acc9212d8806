//! Listing directories.
//!
//! A directory that is one real directory is listed with that one's own
//! cookies. A merged one has positions of its own ([`super::positions`]), which stay
//! the same while the node lives: first the names that the lowers have, in an order
//! that never changes, then those that only the upper has, by a number that each
//! gets when it appears. So nothing that is there all the time is lost or
//! seen twice, whatever happens meanwhile.

use super::{
    Union,
    dirs::LowerDir,
    merged::{Cover, Listing, LowerName, Step},
    node::Node,
    positions::{DOTS, Start, Taking},
    stack::Stack,
    state::InUpper,
};
use crate::layer::marks::{self, Opaque};
use crate::sys::{At, Errno, Result, dir, fs};
use std::collections::HashSet;
use std::ffi::{OsStr, OsString};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::ffi::OsStrExt;
use std::sync::Arc;

/// One entry of a listing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// `st_ino`.
    pub ino: u64,
    /// `S_IFMT` bits.
    pub kind: u32,
    /// Where the next entry is.
    pub next: u64,
    /// The name.
    pub name: OsString,
}

impl Entry {
    /// Is it the directory itself, or that above it.
    pub fn is_dot(&self) -> bool {
        matches!(self.name.as_bytes(), b"." | b"..")
    }
}

/// `.` (0) or `..` (1).
fn dot(numbers: [u64; 2], which: usize, next: u64) -> Entry {
    Entry {
        ino: numbers.get(which).copied().unwrap_or_default(),
        kind: libc::S_IFDIR,
        next,
        name: [".", ".."].get(which).copied().unwrap_or_default().into(),
    }
}

/// How many entries are looked at between two checks for room.
const BATCH: usize = 64;
/// To list more takes longer than most requests.
const MANY: u32 = 4096;

impl Union {
    /// List a directory from position `offset` (0 = the start), until `sink`
    /// returns false or the end.
    ///
    /// # Errors
    /// `ENOTDIR`, errors of the layers.
    pub fn readdir(
        &self,
        id: u64,
        offset: u64,
        mut sink: impl FnMut(&Entry) -> bool,
    ) -> Result<()> {
        let node = self.node(id)?;
        let _moving = self.topology.read();
        let _names = node.ns().read();
        self.list(&node, offset, &mut sink)
    }

    /// [`Union::readdir`] for who holds `topology` and the directory's `ns`.
    pub(super) fn list(
        &self,
        node: &Arc<Node>,
        offset: u64,
        sink: &mut dyn FnMut(&Entry) -> bool,
    ) -> Result<()> {
        if !node.is_dir() {
            return Err(Errno::NOTDIR);
        }
        let (in_upper, lowers, removed, impure) = {
            let s = node.state.lock();
            (s.in_upper(), s.lowers.clone(), s.removed, s.impure)
        };
        if removed {
            return Ok(());
        }
        match (in_upper, &lowers) {
            (true, lowers) if lowers.is_empty() => {
                let fd = self.upper_dir(node)?;
                let marks = super::with_scratch(|scratch| {
                    marks::read(At::Fd(fd.as_fd()), self.belief, scratch)
                })?;
                let xwhiteouts = marks.opaque == Opaque::Xwhiteouts;
                self.list_one(node, &fd, impure, xwhiteouts, offset, sink)?;
                Ok(())
            }
            (false, Stack::Dirs(dirs)) if dirs.len() == 1 => {
                let only = lowers.top().ok_or(Errno::IO)?;
                let fd = self.lower_dir(only)?;
                self.list_lower(node, only, &fd, offset, sink)
            }
            (false, Stack::Known(known)) => {
                if self.list_dots(node, offset, sink) {
                    self.list_known(known.dir, DOTS, offset, sink);
                }
                Ok(())
            }
            _ => self.list_merged(node, offset, sink),
        }
    }

    /// The numbers of `.` and `..`.
    pub(super) fn dots(&self, node: &Arc<Node>) -> [u64; 2] {
        let above = node.link().map_or(node.ino(), |l| l.parent.ino());
        [node.ino(), above]
    }

    /// `.` and `..` where positions are ours; false if there is no more room.
    fn list_dots(
        &self,
        node: &Arc<Node>,
        offset: u64,
        sink: &mut dyn FnMut(&Entry) -> bool,
    ) -> bool {
        let dots = self.dots(node);
        [0, 1].into_iter().all(|which| {
            let position = which as u64;
            position < offset || sink(&dot(dots, which, position + 1))
        })
    }

    fn list_merged(
        &self,
        node: &Arc<Node>,
        offset: u64,
        sink: &mut dyn FnMut(&Entry) -> bool,
    ) -> Result<()> {
        self.load_listing(node)?;
        let dots = self.dots(node);
        let mut going: Option<Start> = None;
        loop {
            let batch = {
                let state = node.state.lock();
                let Some(listing) = &state.listing else {
                    return Ok(());
                };
                let start = || listing.positions.start(offset, listing.lowers());
                listing.part(going.get_or_insert_with(start), BATCH)
            };
            if batch.is_empty() {
                return Ok(());
            }
            for (next, step) in batch {
                let entry = match step {
                    Step::Dot(which) => dot(dots, which, next),
                    Step::Name(name, known) => {
                        // Copied up or new: its number may be that of an origin.
                        let known = match known {
                            Some(known) => Some(known),
                            None => self.listed(node, &name)?,
                        };
                        let Some((ino, kind)) = known else { continue };
                        let name = name.to_os_string();
                        Entry {
                            ino,
                            kind,
                            next,
                            name,
                        }
                    }
                };
                if !sink(&entry) {
                    return Ok(());
                }
            }
        }
    }

    /// Number and type of a name of the upper. One that cannot be resolved is
    /// listed all the same: its own lookup says what is wrong.
    pub(super) fn listed(&self, node: &Arc<Node>, name: &OsStr) -> Result<Option<(u64, u32)>> {
        match self.resolve(node, name) {
            Ok(found) => Ok(found.map(|found| {
                let known = self.table.by_name(node, name);
                let known = known.filter(|n| !n.state.lock().parted);
                (known.map_or(found.ino, |n| n.ino()), found.stat.kind())
            })),
            Err(Errno::IO) => {
                let dir = self.upper_dir(node)?;
                let stat = fs::absent(fs::stat_at(&*dir, name))?;
                Ok(stat.map(|s| (self.inos.map(s.dev, s.ino), s.kind())))
            }
            Err(e) => Err(e),
        }
    }

    /// The type of an entry; `None` if it is a whiteout or another mark.
    pub(super) fn is_mark(
        &self,
        fd: BorrowedFd<'_>,
        e: &dir::Entry<'_>,
        xwhiteouts: bool,
    ) -> Result<Option<u32>> {
        let wh = marks::is_wh(e.name);
        let doubtful =
            wh || matches!(e.kind, 0 | libc::S_IFCHR) || (xwhiteouts && e.kind == libc::S_IFREG);
        if !doubtful {
            return Ok(Some(e.kind));
        }
        let Some(stat) = fs::absent(fs::stat_at(fd, e.name))? else {
            return Ok(None);
        };
        if stat.is_whiteout() {
            return Ok(None);
        }
        if wh || (xwhiteouts && stat.is_file() && stat.size == 0) {
            let marks = self.marks(At::Name(fd, e.name), self.lower_belief, &stat)?;
            if (wh && !marks.plain) || (xwhiteouts && marks.whiteout) {
                return Ok(None);
            }
        }
        Ok(Some(stat.kind()))
    }

    /// Is nothing in the directory to be seen. The caller holds `topology`.
    pub(super) fn is_empty_dir(&self, node: &Arc<Node>) -> Result<bool> {
        let (in_upper, lowers) = {
            let state = node.state.lock();
            (state.in_upper(), state.lowers.clone())
        };
        if in_upper && lowers.is_empty() {
            let fd = self.upper_dir(node)?;
            let mut empty = true;
            let mut result = Ok(());
            dir::read(dir::open(&*fd)?, 0, |e| {
                match self.is_mark(fd.as_fd(), &e, true) {
                    Ok(None) => {}
                    Ok(Some(_)) => empty = false,
                    Err(err) => result = Err(err),
                }
                empty && result.is_ok()
            })?;
            return result.map(|()| empty);
        }
        if let (false, Some(known)) = (in_upper, lowers.known()) {
            return Ok(self.is_known_empty(known.dir));
        }
        self.load_listing(node)?;
        Ok(node
            .state
            .lock()
            .listing
            .as_ref()
            .is_none_or(|l| l.is_empty()))
    }

    /// Read the names of a merged directory, unless that was done.
    fn load_listing(&self, node: &Arc<Node>) -> Result<()> {
        let (upper, lowers) = {
            let state = node.state.lock();
            if state.listing.is_some() {
                return Ok(());
            }
            (state.upper, state.lowers.clone())
        };
        let mut listing = match &lowers {
            Stack::Dirs(dirs) => self.load_lowers(dirs)?,
            Stack::Known(known) => self.load_known(known.dir),
        };
        if upper != InUpper::No {
            self.load_upper(node, &mut listing)?;
        }
        node.state.lock().listing = Some(Box::new(listing));
        Ok(())
    }

    /// The names in a stack of lower directories.
    pub(super) fn lower_names(&self, lowers: &[Arc<LowerDir>]) -> Result<Vec<LowerName>> {
        Ok(self.load_lowers(lowers)?.lower)
    }

    /// As [`Union::load_lowers`] from the catalog, in the order in which that
    /// is listed: a listing can go on where one of the catalog ended.
    fn load_known(&self, dir: u32) -> Listing {
        let mut listing = Listing::default();
        for entry in self.known_entries(dir, 0) {
            listing.add(LowerName {
                name: entry.name.into(),
                ino: entry.ino,
                kind: entry.kind,
                layer: entry.layer,
                cover: Cover::Nothing,
            });
        }
        listing
    }

    fn load_lowers(&self, lowers: &[Arc<LowerDir>]) -> Result<Listing> {
        let mut listing = Listing::default();
        let mut hidden = HashSet::new();
        let mut taking = (lowers.len() == 1).then(Taking::default);
        for lower in lowers {
            self.load_lower(lower, &mut listing, &mut hidden, taking.as_mut())?;
        }
        if let Some(taking) = taking {
            listing.positions = taking.done();
        }
        Ok(listing)
    }

    fn load_lower(
        &self,
        lower: &Arc<LowerDir>,
        listing: &mut Listing,
        hidden: &mut HashSet<OsString>,
        mut taking: Option<&mut Taking>,
    ) -> Result<()> {
        let fd = self.lower_dir(lower)?;
        let dev = fs::stat_fd(&*fd)?.dev;
        let mut hides = Vec::new();
        let mut result = Ok(());
        let mut seen_wh = false;
        let mut count = 0u32;
        dir::read_all(dir::open_unseen(&*fd)?, 0, |e| {
            count = count.wrapping_add(1);
            if count == MANY {
                self.may_wait();
            }
            if let Some(which) = [".", ".."].iter().position(|dot| e.name == *dot) {
                if let Some(taking) = &mut taking {
                    taking.dot(which, e.cookie);
                }
                return true;
            }
            let kind = match self.is_mark(fd.as_fd(), &e, lower.xwhiteouts) {
                Ok(kind) => kind,
                Err(err) => {
                    result = Err(err);
                    return false;
                }
            };
            seen_wh |= marks::is_wh(e.name);
            let Some(kind) = kind else {
                hides.push(match e.name.as_bytes().strip_prefix(marks::WH) {
                    Some(rest) => OsStr::from_bytes(rest).to_owned(),
                    None => e.name.to_owned(),
                });
                return true;
            };
            if !hidden.contains(e.name) && !listing.shows(e.name) {
                listing.add(LowerName {
                    name: e.name.into(),
                    ino: self.inos.map(dev, e.ino),
                    kind,
                    layer: lower.layer,
                    cover: Cover::Nothing,
                });
                if let Some(taking) = &mut taking {
                    taking.name(e.cookie);
                }
            }
            true
        })?;
        let _ = lower.wh.set(seen_wh);
        hidden.extend(hides);
        result
    }

    fn load_upper(&self, node: &Arc<Node>, listing: &mut Listing) -> Result<()> {
        let fd = self.upper_dir(node)?;
        let mut result = Ok(());
        let mut wh = Vec::new();
        dir::read(dir::open(&*fd)?, 0, |e| {
            match self.is_mark(fd.as_fd(), &e, true) {
                Ok(Some(_)) => listing.set(e.name, Cover::Entry),
                Ok(None) => match e.name.as_bytes().strip_prefix(marks::WH) {
                    Some(rest) => wh.push(OsStr::from_bytes(rest).to_owned()),
                    None => listing.set(e.name, Cover::Whiteout),
                },
                Err(err) => result = Err(err),
            }
            result.is_ok()
        })?;
        node.state.lock().wh = Some(!wh.is_empty());
        for name in wh {
            // Beside an entry of the same layer it hides only the lowers.
            if fs::absent(fs::stat_at(&*fd, &name))?.is_none() {
                listing.set(&name, Cover::Whiteout);
            }
        }
        result
    }
}

impl Node {
    /// The upper directory has this name now, as a whiteout or as an entry.
    /// The caller holds `ns`.
    pub(super) fn covered(&self, name: &OsStr, whiteout: bool) {
        if let Some(listing) = &mut self.state.lock().listing {
            let cover = if whiteout {
                Cover::Whiteout
            } else {
                Cover::Entry
            };
            listing.set(name, cover);
        }
    }

    /// The upper directory has this name no more. The caller holds `ns`.
    pub(super) fn uncovered(&self, name: &OsStr) {
        if let Some(listing) = &mut self.state.lock().listing {
            listing.set(name, Cover::Nothing);
        }
    }
}
