//! A layer's members become a tree beneath a staging directory.
//!
//! Every member is made by (parent descriptor, one name). The parent is found
//! with openat2(2) beneath the tree's root, where symlinks lead as in a chroot;
//! the name is created exclusively and never followed. So whatever an archive
//! says, nothing outside the root is reached.
//!
//! What an archive could use to be believed by a union mount never gets into
//! the tree: char 0:0, names of whiteouts other than well-formed ones, and the
//! private attributes of overlay filesystems. Images in the wild hold such
//! attributes by accident, so those are left out; the rest is refused.

mod attributes;
mod marks;

pub use attributes::{is_kept, privileged};
pub use marks::{OPAQUE, OPAQUE_XATTRS, is_opaque};

use super::error::{Context, Error, Result, invalid, show};
use super::tarball::{Kind, MAX_PATH, Member, Reader};
use crate::sys::fs::{self as sfs, SetTime, Time};
use crate::sys::tree::{self, Links, Node};
use crate::sys::{At, Errno, creds};
use marks::set_opaque;
use std::collections::{BTreeMap, HashSet};
use std::ffi::OsStr;
use std::fs::File;
use std::io::{Seek, SeekFrom, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;

/// How the names of whiteouts begin.
pub const WHITEOUT: &[u8] = b".wh.";

/// Bounds of what one layer may hold.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Members.
    pub members: u64,
    /// Bytes of content.
    pub bytes: u64,
    /// Directories on the way to a member.
    pub depth: usize,
    /// Bytes of names and of directories' attributes that have to be remembered.
    pub names: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Limits {
            members: 4_000_000,
            bytes: u64::MAX,
            depth: 255,
            names: 256 << 20,
        }
    }
}

/// What is known of a tree that was unpacked.
#[derive(Debug, Default)]
pub struct Unpacked {
    /// Bytes of regular files, hard links counted once.
    pub size: u64,
    /// Members.
    pub members: u64,
    /// The archive has an entry for the root itself.
    pub root_entry: bool,
    /// Everything below the layer is hidden.
    pub root_opaque: bool,
    /// Directories without an entry of their own.
    pub implicit: Vec<Vec<u8>>,
    /// Hard links whose target must be in a layer below: name and target.
    pub links: Vec<(Vec<u8>, Vec<u8>)>,
}

/// Attributes that a directory gets when all is in it.
#[derive(Clone, Debug)]
struct DirAttributes {
    mode: u32,
    uid: u32,
    gid: u32,
    mtime: Time,
    xattrs: Vec<(Vec<u8>, Vec<u8>)>,
}

/// Writes one tree.
#[derive(Debug)]
pub struct Unpacker {
    root: OwnedFd,
    limits: Limits,
    /// Owner of what this process makes.
    ids: (u32, u32),
    /// May owners and devices be made at all.
    privileged: bool,
    dirs: BTreeMap<Vec<u8>, DirAttributes>,
    implicit: HashSet<Vec<u8>>,
    /// The parent of the last member: members mostly come by directory.
    parent: Option<(Vec<u8>, OwnedFd)>,
    names: u64,
    out: Unpacked,
    warned: bool,
}

impl Unpacker {
    /// Write to the empty directory `root`.
    ///
    /// # Errors
    /// When it cannot be used.
    pub fn new(root: &File, limits: Limits) -> Result<Unpacker> {
        let say = || "cannot open the layer's directory".to_owned();
        let root = tree::open_dir_beneath(root, OsStr::new(""), Links::Refuse).context(say)?;
        Ok(Unpacker {
            root,
            limits,
            ids: (creds::effective_uid(), creds::effective_gid()),
            privileged: privileged(),
            dirs: BTreeMap::new(),
            implicit: HashSet::new(),
            parent: None,
            names: 0,
            out: Unpacked::default(),
            warned: false,
        })
    }

    /// Take one member, and its content from `reader`.
    ///
    /// # Errors
    /// For a member that cannot or must not be made.
    pub fn add<C>(&mut self, member: &Member, reader: &mut Reader<C>) -> Result<()>
    where
        C: FnMut(Vec<u8>) -> std::io::Result<Vec<u8>>,
    {
        self.out.members += 1;
        if self.out.members > self.limits.members {
            return invalid(format!("more than {} members", self.limits.members));
        }
        self.add_inner(member, reader).map_err(|e| match e {
            Error::Invalid(m) => Error::Invalid(format!("{}: {m}", show(&member.path))),
            Error::System(m, io) => Error::System(format!("{}: {m}", show(&member.path)), io),
            other => other,
        })
    }

    fn add_inner<C>(&mut self, member: &Member, reader: &mut Reader<C>) -> Result<()>
    where
        C: FnMut(Vec<u8>) -> std::io::Result<Vec<u8>>,
    {
        let parts = components(&member.path, self.limits.depth)?;
        let Some((name, parents)) = parts.split_last() else {
            return self.add_root(member);
        };
        if parents.iter().any(|p| p.starts_with(WHITEOUT)) {
            return invalid("names that begin with .wh. are reserved");
        }
        if name.starts_with(WHITEOUT) {
            return self.add_mark(member, name, parents);
        }
        let key = parts.join(&b'/');
        let parent = self.open_parent(parents, Links::InRoot)?;
        let result = self.make(
            member,
            reader,
            &key,
            parent.as_fd(),
            OsStr::from_bytes(name),
        );
        self.parent = Some((parents.join(&b'/'), parent));
        result
    }

    /// The root itself may only be given attributes.
    fn add_root(&mut self, member: &Member) -> Result<()> {
        if member.kind != Kind::Dir {
            return invalid("the root of a layer must be a directory");
        }
        self.out.root_entry = true;
        self.remember_dir(Vec::new(), member)
    }

    fn remember_dir(&mut self, key: Vec<u8>, member: &Member) -> Result<()> {
        let kept = member.xattrs.iter().filter(|(name, _)| is_kept(name));
        let xattrs: Vec<_> = kept.cloned().collect();
        let bytes: usize = xattrs.iter().map(|(n, v)| n.len() + v.len()).sum();
        self.count_memory(key.len() + bytes)?;
        self.implicit.remove(&key);
        self.dirs.insert(
            key,
            DirAttributes {
                mode: member.mode,
                uid: member.uid,
                gid: member.gid,
                mtime: member.mtime,
                xattrs,
            },
        );
        Ok(())
    }

    fn count_memory(&mut self, bytes: usize) -> Result<()> {
        self.names += bytes as u64;
        if self.names > self.limits.names {
            return invalid(
                "the names and attributes of the layer's directories take too much memory",
            );
        }
        Ok(())
    }

    fn open_parent(&mut self, parents: &[&[u8]], links: Links) -> Result<OwnedFd> {
        let path = parents.join(&b'/');
        if links == Links::InRoot
            && let Some((cached, fd)) = self.parent.take()
            && cached == path
        {
            return Ok(fd);
        }
        match tree::open_dir_beneath(&self.root, OsStr::from_bytes(&path), links) {
            Ok(fd) => Ok(fd),
            Err(Errno::NOENT) => self.make_parents(parents, links),
            Err(e) => parent_error(e),
        }
    }

    /// Directories that the archive uses without having mentioned them.
    fn make_parents(&mut self, parents: &[&[u8]], links: Links) -> Result<OwnedFd> {
        let mut path: Vec<u8> = Vec::new();
        let mut dir = open_root(&self.root)?;
        for name in parents {
            if !path.is_empty() {
                path.push(b'/');
            }
            path.extend_from_slice(name);
            let os = OsStr::from_bytes(&path);
            dir = match tree::open_dir_beneath(&self.root, os, links) {
                Ok(dir) => dir,
                Err(Errno::NOENT) => {
                    let name = OsStr::from_bytes(name);
                    match sfs::mkdir(&dir, name, 0o700) {
                        Ok(()) => {}
                        Err(Errno::EXIST) => {
                            return invalid("a parent is a symlink that leads nowhere");
                        }
                        Err(e) => return Err(system("cannot make a parent directory", e)),
                    }
                    self.count_memory(path.len())?;
                    self.implicit.insert(path.clone());
                    sfs::open_dir_path(&dir, name).or_else(parent_error)?
                }
                Err(e) => return parent_error(e),
            };
        }
        Ok(dir)
    }

    fn make<C>(
        &mut self,
        member: &Member,
        reader: &mut Reader<C>,
        key: &[u8],
        parent: BorrowedFd<'_>,
        name: &OsStr,
    ) -> Result<()>
    where
        C: FnMut(Vec<u8>) -> std::io::Result<Vec<u8>>,
    {
        let at = At::Name(parent, name);
        let mut was_hidden = false;
        loop {
            let made = match &member.kind {
                Kind::File | Kind::Sparse(..) => {
                    match tree::create_file(parent, name, member.mode & 0o777) {
                        Ok(file) => return self.fill(member, reader, file),
                        Err(e) => Err(e),
                    }
                }
                Kind::Dir => sfs::mkdir(parent, name, 0o700),
                Kind::Symlink(target) => sfs::symlink(OsStr::from_bytes(target), parent, name),
                Kind::Hardlink(target) => self.hard_link(key, target, parent, name)?,
                Kind::Char(0, 0) => return invalid("a character device 0:0 would be a whiteout"),
                Kind::Char(major, minor) => {
                    tree::make_node(parent, name, Node::Char(*major, *minor), member.mode)
                }
                Kind::Block(major, minor) => {
                    tree::make_node(parent, name, Node::Block(*major, *minor), member.mode)
                }
                Kind::Fifo => tree::make_node(parent, name, Node::Fifo, member.mode),
            };
            match made {
                Ok(()) => break,
                Err(Errno::EXIST) => {
                    if self.clear(member, key, parent, name, &mut was_hidden)? {
                        break;
                    }
                }
                Err(Errno::PERM) if !self.privileged && is_device(&member.kind) => {
                    self.warn_once("devices and owners are left out without privileges");
                    return Ok(());
                }
                Err(e) => return Err(system("cannot make it", e)),
            }
        }
        match &member.kind {
            Kind::Dir => {
                self.remember_dir(key.to_vec(), member)?;
                if was_hidden {
                    let dir = sfs::open_dir_path(parent, name).or_else(parent_error)?;
                    set_opaque(dir.as_fd())?;
                }
                Ok(())
            }
            Kind::Hardlink(_) => Ok(()),
            _ => {
                self.own(at, member.uid, member.gid)?;
                self.attributes(at, &member.xattrs)?;
                if !matches!(member.kind, Kind::Symlink(_)) {
                    sfs::chmod(at, member.mode).map_err(|e| system("cannot set its mode", e))?;
                }
                let time = SetTime::At(member.mtime);
                sfs::utimens(at, time, time).map_err(|e| system("cannot set its time", e))
            }
        }
    }

    /// Make room for a later entry of the same name, as tar does: the last one
    /// wins. True when what is there is already what is wanted.
    fn clear(
        &mut self,
        member: &Member,
        key: &[u8],
        parent: BorrowedFd<'_>,
        name: &OsStr,
        was_hidden: &mut bool,
    ) -> Result<bool> {
        let there = sfs::stat_at(parent, name).map_err(|e| system("cannot look at the name", e))?;
        let is_dir = there.is_dir();
        if is_dir && member.kind == Kind::Dir {
            return Ok(true);
        }
        *was_hidden |= there.is_whiteout();
        match sfs::unlink(parent, name, is_dir) {
            Ok(()) => {
                self.dirs.remove(key);
                self.implicit.remove(key);
                Ok(false)
            }
            Err(Errno::NOTEMPTY | Errno::EXIST) => {
                invalid("it would replace a directory that has content")
            }
            Err(e) => Err(system("cannot replace it", e)),
        }
    }

    /// The target is looked up in this layer; if it is not here it must be in
    /// one below, and the link is made when those are known.
    fn hard_link(
        &mut self,
        key: &[u8],
        target: &[u8],
        parent: BorrowedFd<'_>,
        name: &OsStr,
    ) -> Result<crate::sys::Result<()>> {
        let parts = components(target, self.limits.depth)?;
        let Some((leaf, parents)) = parts.split_last() else {
            return invalid("a hard link to the root");
        };
        if parts.iter().any(|p| p.starts_with(WHITEOUT)) {
            return invalid("a hard link to a whiteout");
        }
        let target_key = parts.join(&b'/');
        if target_key == key {
            return invalid("a hard link to itself");
        }
        let dirs = parents.join(&b'/');
        let dir = tree::open_dir_beneath(&self.root, OsStr::from_bytes(&dirs), Links::InRoot);
        let found = dir.and_then(|dir| {
            let leaf = OsStr::from_bytes(leaf);
            let stat = sfs::stat_at(&dir, leaf)?;
            Ok((dir, leaf, stat))
        });
        match sfs::absent(found).map_err(|e| system("cannot look at the link's target", e))? {
            Some((_, _, stat)) if stat.is_dir() => invalid("a hard link to a directory"),
            Some((_, _, stat)) if stat.is_whiteout() => invalid("a hard link to a whiteout"),
            Some((dir, leaf, _)) => Ok(sfs::link(At::Name(dir.as_fd(), leaf), parent, name)),
            None => {
                self.count_memory(key.len())?;
                self.count_memory(target_key.len())?;
                self.out.links.push((key.to_vec(), target_key));
                Ok(Ok(()))
            }
        }
    }

    /// Content and attributes of a regular file.
    fn fill<C>(&mut self, member: &Member, reader: &mut Reader<C>, mut file: File) -> Result<()>
    where
        C: FnMut(Vec<u8>) -> std::io::Result<Vec<u8>>,
    {
        let say = || "cannot write it".to_owned();
        let (size, chunks) = match &member.kind {
            Kind::Sparse(size, chunks) => (*size, chunks.as_slice()),
            _ => (member.size, [].as_slice()),
        };
        self.out.size = self.out.size.saturating_add(size);
        self.limits.bytes = match self.limits.bytes.checked_sub(member.size) {
            Some(left) => left,
            None => return Err(system("the layer does not fit on the disk", Errno::NOSPC)),
        };
        if matches!(member.kind, Kind::Sparse(..)) {
            for (offset, length) in chunks {
                file.seek(SeekFrom::Start(*offset)).context(say)?;
                reader.exactly(*length, |data| file.write_all(data).context(say))?;
            }
            file.set_len(size).context(say)?;
        } else {
            reader.exactly(size, |data| file.write_all(data).context(say))?;
        }
        let at = At::Fd(file.as_fd());
        let chowned = self.own(at, member.uid, member.gid)?;
        self.attributes(at, &member.xattrs)?;
        // The mode comes after the owner, whose change clears set-id bits, and
        // is already right unless the umask or those bits are in the way.
        if chowned || member.mode & 0o7000 != 0 || self.mode_differs(&file, member.mode)? {
            let mode = std::os::unix::fs::PermissionsExt::from_mode(member.mode);
            file.set_permissions(mode)
                .context(|| "cannot set its mode".to_owned())?;
        }
        tree::set_times(&file, member.mtime).map_err(|e| system("cannot set its time", e))
    }

    fn mode_differs(&self, file: &File, mode: u32) -> Result<bool> {
        let stat = sfs::stat_fd(file).map_err(|e| system("cannot look at it", e))?;
        Ok(stat.mode & 0o7777 != mode)
    }
}

fn open_root(root: &OwnedFd) -> Result<OwnedFd> {
    tree::open_dir_beneath(root, OsStr::new(""), Links::Refuse)
        .map_err(|e| system("cannot open the layer's directory", e))
}

fn system(what: &str, e: Errno) -> Error {
    Error::System(what.to_owned(), e.into())
}

fn parent_error<T>(e: Errno) -> Result<T> {
    match e {
        Errno::NOTDIR => invalid("a parent is not a directory"),
        Errno::LOOP => invalid("a parent is a symlink"),
        Errno::XDEV => invalid("a parent leads out of the layer"),
        Errno::NAMETOOLONG => invalid("a name is too long"),
        e => Err(system("cannot open its directory", e)),
    }
}

fn is_device(kind: &Kind) -> bool {
    matches!(kind, Kind::Char(..) | Kind::Block(..))
}

/// The parts of a member's name. A leading `/` means the layer's root, as for
/// every program that unpacks images.
pub fn components(path: &[u8], max_depth: usize) -> Result<Vec<&[u8]>> {
    if path.len() >= MAX_PATH {
        return invalid("the name is too long");
    }
    let mut parts = Vec::new();
    for part in path.split(|b| *b == b'/') {
        match part {
            b"" | b"." => {}
            b".." => return invalid("the name leads out of the layer with \"..\""),
            part if part.len() > 255 => return invalid("a part of the name is too long"),
            part if part.contains(&0) => return invalid("the name holds a NUL"),
            part => parts.push(part),
        }
    }
    if parts.len() > max_depth {
        return invalid(format!("it lies more than {max_depth} directories deep"));
    }
    Ok(parts)
}
