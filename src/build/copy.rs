//! `COPY` and `ADD`: which files become which, and the layer that they make.
//! The layer is written from where the files are; nothing is mounted for it.

use super::mode::Mode;
use super::pattern::{Pattern, Patterns, is_pattern};
use super::tree::{Tree, join, split};
use crate::container::pack::Packer;
use crate::store::error::{Context, Result, invalid, show};
use crate::store::tarball::{Kind, Member};
use crate::store::unpack::WHITEOUT;
use crate::sys::At;
use crate::sys::fs::{self as sfs, Stat, Time};
use crate::sys::tree::{self as stree, Links};
use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::io::Write;
use std::os::fd::AsFd;

/// How files are copied.
#[derive(Debug, Default)]
pub struct How {
    /// The owner of all of it; else that of each file.
    pub owner: Option<(u32, u32)>,
    /// The permission bits of all of it.
    pub mode: Option<Mode>,
    /// Sources keep the directories that they are in.
    pub parents: bool,
    /// What is not copied, below each source.
    pub exclude: Patterns,
    /// Seconds since 1970, for directories that are made on the way.
    pub now: i64,
}

/// One thing to be copied.
#[derive(Debug)]
pub enum From<'a> {
    /// What is at this path of a tree.
    Path(&'a Tree, String),
    /// All of a tree, as if it were the content of a directory.
    All(&'a Tree),
    /// A file of this name with this content.
    Written(String, Vec<u8>),
}

/// What a path of the layer is made of.
#[derive(Debug)]
enum Made<'a> {
    Tree(&'a Tree, Vec<u8>),
    Written(Vec<u8>),
    Directory,
}

/// The layer in the making: paths to what they become.
pub struct Layer<'a> {
    base: &'a Tree,
    how: How,
    entries: BTreeMap<Vec<u8>, (Stat, Made<'a>)>,
    /// Directories that the base does not have: nothing in them has to be looked
    /// for there.
    fresh: HashSet<Vec<u8>>,
}

impl<'a> Layer<'a> {
    /// A layer on what `base` shows.
    pub fn new(base: &'a Tree, how: How) -> Layer<'a> {
        Layer {
            base,
            how,
            entries: BTreeMap::new(),
            fresh: HashSet::new(),
        }
    }

    /// Copy all of `sources` to `target`, an absolute path.
    ///
    /// # Errors
    /// When a source is not there or a target cannot be what it should.
    pub fn copy(&mut self, sources: Vec<From<'a>>, target: &str) -> Result<()> {
        let names_dir = target.ends_with('/')
            || target.ends_with("/.")
            || target.ends_with("/..")
            || self.how.parents;
        let target_path = self.base.resolve(target, true)?;
        let is_dir = names_dir || target_path.stat.is_some_and(|s| s.is_dir());
        if sources.len() > 1 && !is_dir {
            return invalid(format!(
                "several sources need a directory as their target: end {} with a /",
                show(target.as_bytes())
            ));
        }
        for source in sources {
            match source {
                From::Path(tree, path) => {
                    let real = tree.resolve(&path, true)?;
                    let Some(stat) = real
                        .stat
                        .filter(|_| !tree.leaves_out(&real.path) || tree_keeps(tree, &real.path))
                    else {
                        return missing(tree, &path);
                    };
                    let above = match self.how.parents {
                        true => self.parents_of(tree, &path, &target_path.path)?,
                        false => target_path.path.clone(),
                    };
                    if stat.is_dir() {
                        // With its parents it has its name too.
                        let to = match path.trim_end_matches('/').rsplit('/').next() {
                            Some(name) if self.how.parents && !matches!(name, "" | ".") => {
                                join(&above, name.as_bytes())
                            }
                            _ => above,
                        };
                        self.directory(tree, &real.path, &stat, &to)?;
                    } else {
                        // It is called as it was asked for, whatever it links to.
                        let name = path.trim_end_matches('/').rsplit('/').next();
                        let to = self.beneath(&above, is_dir, name.unwrap_or_default())?;
                        self.place(to, stat, Made::Tree(tree, real.path))?;
                    }
                }
                From::All(tree) => {
                    let root = tree.find(b"")?.unwrap_or_default();
                    self.directory(tree, b"", &root, &target_path.path)?;
                }
                From::Written(name, content) => {
                    let to = self.beneath(&target_path.path, is_dir, &name)?;
                    let stat = Stat {
                        mode: libc::S_IFREG | 0o644,
                        nlink: 1,
                        size: content.len() as u64,
                        mtime: self.now(),
                        ..Stat::default()
                    };
                    self.place(to, stat, Made::Written(content))?;
                }
            }
        }
        Ok(())
    }

    /// Make the directories that `path` of a tree is in below `target`, those
    /// after `/./` if it has that; the last of them.
    fn parents_of(&mut self, tree: &'a Tree, path: &str, target: &[u8]) -> Result<Vec<u8>> {
        let path = path.trim_end_matches('/');
        let path = path.strip_prefix("./").unwrap_or(path);
        let (before, kept) = path.split_once("/./").unwrap_or(("", path));
        let mut to = target.to_vec();
        let mut from = before.to_owned();
        let mut names = kept
            .split('/')
            .filter(|name| !matches!(*name, "" | "."))
            .peekable();
        while let Some(name) = names.next() {
            if names.peek().is_none() {
                break;
            }
            if name == ".." {
                return invalid(format!(
                    "--parents: write {} without ..",
                    show(path.as_bytes())
                ));
            }
            from = format!("{from}/{name}");
            to = join(&to, name.as_bytes());
            let real = tree.resolve(&from, true)?;
            if let Some(stat) = real.stat.filter(Stat::is_dir)
                && !self.base.find(&to)?.is_some_and(|there| there.is_dir())
                && !self.entries.contains_key(&to)
            {
                self.place(to.clone(), stat, Made::Tree(tree, real.path))?;
            }
        }
        Ok(to)
    }

    fn now(&self) -> Time {
        Time {
            sec: self.how.now,
            nsec: 0,
        }
    }

    /// Make a directory with all above it, as `WORKDIR` does; is it new.
    ///
    /// # Errors
    /// When something else is there.
    pub fn make_dir(&mut self, path: &str) -> Result<bool> {
        let target = self.base.resolve(path, true)?;
        match target.stat {
            Some(stat) if stat.is_dir() => Ok(false),
            Some(_) => not_a_directory(&target.path),
            None => {
                self.parents(&join(&target.path, b"x"))?;
                Ok(true)
            }
        }
    }

    fn beneath(&self, target: &[u8], is_dir: bool, name: &str) -> Result<Vec<u8>> {
        match is_dir {
            true => Ok(join(target, name.as_bytes())),
            false if target.is_empty() => invalid("a file cannot become /"),
            false => Ok(target.to_vec()),
        }
    }

    /// The content of a directory becomes that of `target`.
    fn directory(&mut self, tree: &'a Tree, path: &[u8], stat: &Stat, target: &[u8]) -> Result<()> {
        // One that is there keeps its attributes.
        match self.base.find(target)? {
            Some(there) if there.is_dir() => {}
            Some(_) => return not_a_directory(target),
            None if self.entries.contains_key(target) => {}
            None => self.place(target.to_vec(), *stat, Made::Tree(tree, path.to_vec()))?,
        }
        let mut waiting = vec![(path.to_vec(), target.to_vec())];
        while let Some((from, to)) = waiting.pop() {
            let Some(dir) = tree.enter(&from)? else {
                continue;
            };
            for name in dir.names()? {
                let Some(stat) = dir.find(&name)? else {
                    continue;
                };
                let (inner, target) = (join(&from, &name), join(&to, &name));
                let below = inner.get(path.len()..).unwrap_or_default();
                let below = below.strip_prefix(b"/").unwrap_or(below);
                let excluded = self.how.exclude.leave_out(below);
                let out = excluded || tree.leaves_out(&inner);
                if stat.is_dir() {
                    let nothing_below =
                        tree.leaves_all_out(&inner) || excluded && !self.how.exclude.keep_some();
                    if !nothing_below {
                        waiting.push((inner.clone(), target.clone()));
                    }
                }
                if stat.is_whiteout() {
                    return invalid(format!(
                        "{}: a character device 0:0 would be a whiteout",
                        show(&inner)
                    ));
                }
                // Archives hold no sockets.
                if !out && stat.kind() != libc::S_IFSOCK {
                    self.place(target, stat, Made::Tree(tree, inner))?;
                }
            }
        }
        Ok(())
    }

    /// What is at `to` is to be this.
    fn place(&mut self, to: Vec<u8>, mut stat: Stat, made: Made<'a>) -> Result<()> {
        if to
            .split(|&b| b == b'/')
            .any(|name| name.starts_with(WHITEOUT))
        {
            return invalid(format!(
                "/{}: names that begin with .wh. mean something else in images",
                show(&to)
            ));
        }
        let was = match self.entries.get(&to) {
            Some((stat, _)) => Some(*stat),
            None if self.fresh.contains(split(&to).0) => None,
            None => self.base.find(&to)?,
        };
        if was.is_none() && stat.is_dir() {
            self.fresh.insert(to.clone());
        }
        match was {
            Some(was) if was.is_dir() && !stat.is_dir() => {
                return invalid(format!(
                    "/{} is a directory, and would be replaced by a file",
                    show(&to)
                ));
            }
            Some(was) if !was.is_dir() && stat.is_dir() => return not_a_directory(&to),
            _ => {}
        }
        self.parents(&to)?;
        let rootly = match &made {
            Made::Tree(Tree::Directory { keeps_owners, .. }, _) => !keeps_owners,
            _ => false,
        };
        if let Some((uid, gid)) = self.how.owner.or(rootly.then_some((0, 0))) {
            (stat.uid, stat.gid) = (uid, gid);
        }
        if let Some(mode) = &self.how.mode
            && stat.kind() != libc::S_IFLNK
        {
            stat.mode = stat.kind() | mode.of(stat.mode & 0o7777, stat.is_dir());
        }
        self.entries.insert(to, (stat, made));
        Ok(())
    }

    /// The directories above a path: those that are there stay as they are.
    fn parents(&mut self, path: &[u8]) -> Result<()> {
        let ends = path.iter().enumerate().filter(|(_, b)| **b == b'/');
        let mut above: Vec<Vec<u8>> = ends
            .map(|(n, _)| path.get(..n).unwrap_or_default().to_vec())
            .collect();
        above.retain(|dir| !self.entries.contains_key(dir));
        for dir in above {
            let entry = match self.base.find(&dir)? {
                Some(stat) if stat.is_dir() => (stat, Made::Tree(self.base, dir.clone())),
                Some(_) => return not_a_directory(&dir),
                None => {
                    let (uid, gid) = self.how.owner.unwrap_or_default();
                    let stat = Stat {
                        mode: libc::S_IFDIR | 0o755,
                        uid,
                        gid,
                        mtime: self.now(),
                        ..Stat::default()
                    };
                    self.fresh.insert(dir.clone());
                    (stat, Made::Directory)
                }
            };
            self.entries.insert(dir, entry);
        }
        Ok(())
    }

    /// Write the layer; no time is later than `latest`.
    ///
    /// # Errors
    /// When a source cannot be read, or `out` not written.
    pub fn write<W: Write>(&self, latest: Option<i64>, out: W) -> Result<W> {
        let mut packer = Packer::new(out, latest);
        for (path, (stat, made)) in &self.entries {
            match made {
                Made::Tree(tree, from) => {
                    let (dir, name) = tree.locate(from)?;
                    packer.add(path, stat, At::Name(dir.as_fd(), name), || {
                        let file = stree::open_file_beneath(&dir, name, Links::Refuse);
                        sfs::absent(file).context(|| format!("cannot read {}", show(from)))
                    })?;
                }
                Made::Written(content) => {
                    packer.member(
                        &plain(path, Kind::File, stat, latest),
                        &mut content.as_slice(),
                    )?;
                }
                Made::Directory => {
                    packer.member(&plain(path, Kind::Dir, stat, latest), &mut std::io::empty())?;
                }
            }
        }
        packer.finish()
    }

    /// Is there nothing in it.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }
}

fn plain(path: &[u8], kind: Kind, stat: &Stat, latest: Option<i64>) -> Member {
    Member {
        path: path.to_vec(),
        kind,
        mode: stat.mode & 0o7777,
        uid: stat.uid,
        gid: stat.gid,
        mtime: Time {
            sec: latest.map_or(stat.mtime.sec, |l| stat.mtime.sec.min(l)),
            nsec: 0,
        },
        size: stat.size,
        xattrs: Vec::new(),
    }
}

fn not_a_directory<T>(path: &[u8]) -> Result<T> {
    invalid(format!("/{} is not a directory in the image", show(path)))
}

/// A directory that is left out, and of which something is kept, is there.
fn tree_keeps(tree: &Tree, path: &[u8]) -> bool {
    !tree.leaves_all_out(path) && tree.find(path).is_ok_and(|s| s.is_some_and(|s| s.is_dir()))
}

/// The error for a source that is not there.
///
/// # Errors
/// Always.
pub fn missing<T>(tree: &Tree, path: &str) -> Result<T> {
    let path = show(path.as_bytes());
    match tree {
        Tree::Directory { called, .. } if tree.leaves_out(path.trim_matches('/').as_bytes()) => {
            invalid(format!("{path} of {called} is left out by .dockerignore"))
        }
        Tree::Directory { called, .. } => invalid(format!("{path} is not in {called}")),
        Tree::Layers(_) => invalid(format!("{path} is not in the image that it is copied from")),
    }
}

/// The paths of a tree that a source means: its own, or all that its patterns
/// fit.
///
/// # Errors
/// When it cannot be looked at.
pub fn matching(tree: &Tree, source: &str) -> Result<Vec<String>> {
    if !is_pattern(source) {
        return Ok(vec![source.to_owned()]);
    }
    let mut found = BTreeSet::from([String::new()]);
    for part in source.split('/').filter(|p| !p.is_empty()) {
        let mut next = BTreeSet::new();
        if part == "." && found.iter().all(String::is_empty) {
            continue;
        }
        for dir in &found {
            if !is_pattern(part) {
                next.insert(format!("{dir}/{part}"));
                continue;
            }
            let pattern = Pattern::wildcard(part.as_bytes())?;
            let real = tree.resolve(dir, true)?;
            if !real.stat.is_some_and(|s| s.is_dir()) {
                continue;
            }
            let Some(open) = tree.enter(&real.path)? else {
                continue;
            };
            for name in open.names()? {
                let there = open.find(&name)?.is_some();
                if there && pattern.matches(&name) && !tree.leaves_out(&join(&real.path, &name)) {
                    match String::from_utf8(name) {
                        Ok(name) => drop(next.insert(format!("{dir}/{name}"))),
                        Err(_) => {
                            return invalid(
                                "a name that is not UTF-8 cannot be copied by a pattern",
                            );
                        }
                    }
                }
            }
        }
        found = next;
    }
    // Parts without patterns may name nothing.
    let mut there = Vec::new();
    for path in found {
        if tree.resolve(&path, true)?.stat.is_some() {
            there.push(path);
        }
    }
    Ok(there)
}
