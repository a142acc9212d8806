//! Whiteouts and opaque directories: read in the form of the image
//! specification, written in the kernel's.

use super::{Unpacker, WHITEOUT, parent_error, system};
use crate::store::error::{Result, invalid};
use crate::store::tarball::{Kind, Member};
use crate::sys::fs as sfs;
use crate::sys::tree::{self, Links, Node};
use crate::sys::{At, Errno, xattr};
use std::ffi::{CStr, OsStr};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::ffi::OsStrExt;

/// The name that makes its directory opaque.
pub const OPAQUE: &[u8] = b".wh..wh..opq";
/// The mark of a directory that hides what lies below.
pub const OPAQUE_XATTRS: [&CStr; 2] = [c"trusted.overlay.opaque", c"user.overlay.opaque"];

impl Unpacker {
    /// `.wh.NAME` and `.wh..wh..opq`.
    pub(super) fn add_mark(
        &mut self,
        member: &Member,
        name: &[u8],
        parents: &[&[u8]],
    ) -> Result<()> {
        let is_mark = match &member.kind {
            Kind::File => member.size == 0,
            // On aufs all whiteouts are one file, and docker's archives of its layers say so.
            Kind::Hardlink(target) => {
                let leaf = target.rsplit(|b| *b == b'/').next();
                leaf.is_some_and(|leaf| leaf.starts_with(WHITEOUT))
            }
            _ => false,
        };
        if !is_mark {
            return invalid(
                "a whiteout must be an empty regular file, or a hard link to another whiteout",
            );
        }
        let hidden = name.strip_prefix(WHITEOUT).unwrap_or_default();
        if name != OPAQUE
            && (hidden.is_empty()
                || hidden == b"."
                || hidden == b".."
                || hidden.starts_with(WHITEOUT))
        {
            return invalid("a whiteout of nothing that can be hidden");
        }
        let parent = self.open_parent(parents, Links::Refuse)?;
        if name == OPAQUE {
            if parents.is_empty() {
                self.out.root_opaque = true;
                return Ok(());
            }
            return set_opaque(parent.as_fd());
        }
        self.white_out(
            parent.as_fd(),
            OsStr::from_bytes(hidden),
            OsStr::from_bytes(name),
        )
    }

    /// A whiteout hides what layers below have. Where this layer has the name
    /// too, before or after, a file hides them anyway and a directory is made
    /// opaque.
    fn white_out(&self, parent: BorrowedFd<'_>, hidden: &OsStr, mark: &OsStr) -> Result<()> {
        match tree::make_node(parent, hidden, Node::Char(0, 0), 0) {
            Ok(()) => Ok(()),
            Err(Errno::EXIST) => {
                let there = sfs::stat_at(parent, hidden)
                    .map_err(|e| system("cannot look at the name", e))?;
                if there.is_dir() {
                    let dir = sfs::open_dir_path(parent, hidden).or_else(parent_error)?;
                    return set_opaque(dir.as_fd());
                }
                Ok(())
            }
            Err(Errno::PERM | Errno::OPNOTSUPP) => match tree::create_file(parent, mark, 0o600) {
                Ok(_) | Err(Errno::EXIST) => Ok(()),
                Err(e) => Err(system("cannot make a whiteout", e)),
            },
            Err(e) => Err(system("cannot make a whiteout", e)),
        }
    }
}

/// Mark a directory as hiding what lies below. Without privileges the mark is
/// the one that mounts in user namespaces read.
pub(super) fn set_opaque(dir: BorrowedFd<'_>) -> Result<()> {
    let [trusted, user] = OPAQUE_XATTRS;
    let set = |name| xattr::set(At::Fd(dir), name, b"y", 0);
    match set(trusted) {
        Err(Errno::PERM) => match set(user) {
            Err(Errno::OPNOTSUPP) => match tree::create_file(dir, OsStr::from_bytes(OPAQUE), 0o600)
            {
                Ok(_) | Err(Errno::EXIST) => Ok(()),
                Err(e) => Err(system("cannot mark it as opaque", e)),
            },
            other => other.map_err(|e| system("cannot mark it as opaque", e)),
        },
        other => other.map_err(|e| system("cannot mark it as opaque", e)),
    }
}

/// Does the directory hide what lies below.
pub fn is_opaque(dir: BorrowedFd<'_>) -> bool {
    OPAQUE_XATTRS
        .iter()
        .any(|name| matches!(xattr::get(At::Fd(dir), name), Ok(Some(v)) if v == b"y"))
        || sfs::stat_at(dir, OsStr::from_bytes(OPAQUE)).is_ok()
}
