//! A path in a tree that may not be left: found by descriptors, its last link
//! followed or not.

use super::changes::{join, split};
use crate::store::error::{Context, Result, invalid, show};
use crate::sys::fs::{self as sfs, Stat};
use crate::sys::tree::{self, Kind, Links};
use crate::sys::{At, Errno, dir};
use std::ffi::OsStr;
use std::fs::File;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;

/// The kernel follows no more.
const MAX_LINKS: usize = 40;

/// An inode by its directory and name, or a directory itself.
#[derive(Debug)]
pub enum Node {
    /// A name in a directory.
    Name(OwnedFd, Vec<u8>),
    /// A directory that is open.
    Open(OwnedFd),
}

impl Node {
    /// Where it is.
    pub fn at(&self) -> At<'_> {
        match self {
            Node::Name(dir, name) => At::Name(dir.as_fd(), OsStr::from_bytes(name)),
            Node::Open(fd) => At::Fd(fd.as_fd()),
        }
    }
}

/// What was found.
#[derive(Debug)]
pub enum Found {
    /// Something, and its path.
    Here(Node, Stat, Vec<u8>),
    /// A directory without the name.
    Missing(Vec<u8>, Vec<u8>),
    /// Not even the directory.
    NoDirectory(Vec<u8>),
}

/// Find `path` in the tree `root`, in which links lead as in a chroot; `follow`
/// says whether a link at its end is followed.
///
/// # Errors
/// When it cannot be looked at.
pub fn find(root: &File, path: &[u8], follow: bool) -> Result<Found> {
    let say = || format!("cannot look at /{}", show(path));
    let mut at = path.to_vec();
    for _ in 0..MAX_LINKS {
        while at.ends_with(b"/") {
            at.pop();
        }
        let (dir, name) = split(&at);
        let beneath = |path| tree::open_dir_beneath(root, OsStr::from_bytes(path), Links::InRoot);
        if matches!(name, b"" | b"." | b"..") {
            return match beneath(&at) {
                Ok(fd) => {
                    let stat = sfs::stat_fd(&fd).context(say)?;
                    Ok(Found::Here(Node::Open(fd), stat, at))
                }
                Err(Errno::NOENT | Errno::NOTDIR) => Ok(Found::NoDirectory(at)),
                Err(e) => Err(e).context(say),
            };
        }
        let parent = match beneath(dir) {
            Err(Errno::NOENT | Errno::NOTDIR) => return Ok(Found::NoDirectory(dir.to_vec())),
            parent => parent.context(say)?,
        };
        let node = Node::Name(parent, name.to_vec());
        let Some(stat) = sfs::absent(sfs::stat(node.at())).context(say)? else {
            return Ok(Found::Missing(dir.to_vec(), name.to_vec()));
        };
        if !follow || tree::kind_of(&stat) != Kind::Symlink {
            return Ok(Found::Here(node, stat, at));
        }
        let target = sfs::readlink(node.at()).context(say)?;
        at = match target.as_bytes() {
            target if target.starts_with(b"/") => target.to_vec(),
            target => join(dir, target),
        };
    }
    invalid(format!("/{} has too many symbolic links", show(path)))
}

/// The directory `path` of the tree `root`, for reading.
///
/// # Errors
/// When it is gone or none.
pub fn find_dir(root: &File, path: &[u8]) -> Result<OwnedFd> {
    tree::open_dir_beneath(root, OsStr::from_bytes(path), Links::InRoot)
        .and_then(dir::open)
        .context(|| format!("cannot open /{}", show(path)))
}
