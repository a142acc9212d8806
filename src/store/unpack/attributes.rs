//! Owners, modes, times and extended attributes.

use super::{DirAttributes, Unpacked, Unpacker, system};
use crate::store::error::{Error, Result, invalid, show};
use crate::sys::fs::{self as sfs, SetTime, Time};
use crate::sys::tree::{self, Links};
use crate::sys::{At, Errno, creds, xattr};
use std::ffi::{CString, OsStr};
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;

impl Unpacker {
    /// True when the owner was changed.
    pub(super) fn own(&mut self, at: At<'_>, uid: u32, gid: u32) -> Result<bool> {
        if (uid, gid) == self.ids {
            return Ok(false);
        }
        match sfs::chown(at, Some(uid), Some(gid)) {
            Ok(()) => Ok(true),
            Err(Errno::PERM | Errno::INVAL) if !self.privileged => {
                self.warn_once("devices and owners are left out without privileges");
                Ok(false)
            }
            Err(e) => Err(system("cannot set its owner", e)),
        }
    }

    pub(super) fn attributes(&mut self, at: At<'_>, xattrs: &[(Vec<u8>, Vec<u8>)]) -> Result<()> {
        for (name, value) in xattrs {
            if !is_kept(name) {
                continue;
            }
            let Ok(c_name) = CString::new(name.as_slice()) else {
                return invalid("the name of an extended attribute holds a NUL");
            };
            match xattr::set(at, &c_name, value, 0) {
                Ok(()) => {}
                Err(Errno::PERM | Errno::OPNOTSUPP) => {
                    let what = format!("extended attribute {} cannot be kept here", show(name));
                    self.warn_once(&what);
                }
                Err(e) => {
                    let what = format!("cannot set extended attribute {}", show(name));
                    return Err(system(&what, e));
                }
            }
        }
        Ok(())
    }

    pub(super) fn warn_once(&mut self, what: &str) {
        if !self.warned {
            self.warned = true;
            log::warn!("{what}");
        }
    }

    /// Give directories their attributes, deepest first, so that nothing has
    /// to pass a directory that is already closed or change one's time.
    ///
    /// # Errors
    /// When they cannot be set.
    pub fn finish(mut self) -> Result<Unpacked> {
        self.parent = None;
        let plain = DirAttributes {
            mode: 0o755,
            uid: self.ids.0,
            gid: self.ids.1,
            mtime: Time::default(),
            xattrs: Vec::new(),
        };
        let mut dirs = std::mem::take(&mut self.dirs);
        dirs.entry(Vec::new()).or_insert_with(|| plain.clone());
        self.out.implicit = self.implicit.drain().collect();
        self.out.implicit.sort_unstable();
        for path in &self.out.implicit {
            dirs.entry(path.clone()).or_insert_with(|| plain.clone());
        }
        for (path, attributes) in dirs.iter().rev() {
            self.finish_dir(path, attributes).map_err(|e| match e {
                Error::System(m, io) => Error::System(format!("{}: {m}", show(path)), io),
                other => other,
            })?;
        }
        Ok(self.out)
    }

    fn finish_dir(&mut self, path: &[u8], attributes: &DirAttributes) -> Result<()> {
        let split = path.iter().rposition(|b| *b == b'/');
        let (parent, name) = match split {
            Some(slash) => (path.get(..slash), path.get(slash + 1..)),
            None => (None, Some(path)),
        };
        let parent = OsStr::from_bytes(parent.unwrap_or_default());
        let name = OsStr::from_bytes(name.unwrap_or_default());
        let dir =
            tree::open_dir_beneath(&self.root, parent, Links::InRoot).and_then(|parent| match name
                .is_empty()
            {
                true => Ok(parent),
                false => sfs::open_dir_path(&parent, name),
            });
        // A later entry may have put something else in its place.
        let Some(dir) = sfs::absent(dir).map_err(|e| system("cannot open it again", e))? else {
            return Ok(());
        };
        let at = At::Fd(dir.as_fd());
        self.own(at, attributes.uid, attributes.gid)?;
        self.attributes(at, &attributes.xattrs)?;
        // Without privileges the tree can only be moved into place, and later
        // away, while its root is writable.
        let mode = match path.is_empty() && !self.privileged {
            true => attributes.mode | 0o700,
            false => attributes.mode,
        };
        sfs::chmod(at, mode).map_err(|e| system("cannot set its mode", e))?;
        let time = SetTime::At(attributes.mtime);
        sfs::utimens(at, time, time).map_err(|e| system("cannot set its time", e))
    }
}

/// Attributes that are the image's own; not those by which overlay filesystems
/// and this machine's security module keep their own accounts.
pub fn is_kept(name: &[u8]) -> bool {
    let private: [&[u8]; 5] = [
        b"trusted.overlay.",
        b"user.overlay.",
        b"user.fuseoverlayfs.",
        b"user.containers.",
        b"security.selinux",
    ];
    let known: [&[u8]; 4] = [b"user.", b"trusted.", b"security.", b"system.posix_acl_"];
    known.iter().any(|p| name.starts_with(p)) && !private.iter().any(|p| name.starts_with(p))
}

/// May this process make devices and give files to others.
pub fn privileged() -> bool {
    creds::effective_uid() == 0 && creds::in_first_user_namespace()
}
