//! Owner, mode and type of an inode: in the inode, or in an attribute where
//! the mount is told so (`xattr_permissions=`).

use super::{Union, ids::OVERFLOW_ID, options::XattrPermissions};
use crate::layer::{owner::Owner, work::Staged};
use crate::sys::{At, Errno, Result, fs, fs::Stat, xattr};
use std::ffi::CStr;

/// What files and directories really get then: everybody who may come so far
/// may read, and the attribute can be set.
const OPEN_MODE: u32 = 0o755;

impl Union {
    /// The attribute, where one is used.
    fn owner_attribute(&self) -> Option<&'static CStr> {
        match self.options.xattr_permissions {
            XattrPermissions::Off => None,
            XattrPermissions::Private => Some(c"user.fuseoverlayfs.override_stat"),
            XattrPermissions::Containers => Some(c"user.containers.override_stat"),
        }
    }

    /// Are owner and mode kept in attributes.
    pub(super) fn keeps_owner_apart(&self) -> bool {
        self.owner_attribute().is_some()
    }

    /// stat(2) with owner, mode and type where they are kept.
    pub(super) fn stat(&self, at: At<'_>) -> Result<Stat> {
        let mut stat = fs::stat(at)?;
        if let Some(name) = self.owner_attribute()
            && (stat.is_file() || stat.is_dir())
            && let Some(value) = xattr::get(at, name)?
        {
            match Owner::parse(&value) {
                Some(owner) => owner.apply(&mut stat),
                None => log::warn!("malformed {name:?} ignored"),
            }
        }
        Ok(stat)
    }

    /// [`Union::stat`] in a lower layer, with ids as the upper stores them.
    pub(super) fn stat_lower(&self, layer: u16, at: At<'_>) -> Result<Stat> {
        let mut stat = self.stat(at)?;
        let layer = self.lowers.get(usize::from(layer));
        if layer.is_some_and(|l| l.idmapped) {
            stat.uid = self.uids.stored(stat.uid)?;
            stat.gid = self.gids.stored(stat.gid)?;
        }
        Ok(stat)
    }

    /// Refuses a lower file whose owner has no number here, as kernel overlayfs
    /// does: its copy would be somebody else's. `stat` is what was seen of it.
    ///
    /// # Errors
    /// `EOVERFLOW`.
    pub(super) fn owner_is_known(&self, layer: u16, at: At<'_>, stat: &Stat) -> Result<()> {
        let layer = self.lowers.get(usize::from(layer));
        let lack = self.ids_lack || layer.is_some_and(|l| l.idmapped);
        let (user, group) = (stat.uid == OVERFLOW_ID, stat.gid == OVERFLOW_ID);
        if !lack || !(user || group) || self.keeps_owner_apart() {
            return Ok(());
        }
        // Nobody may well be who is meant. A group that is not known can be
        // told from it nowhere, and harms only by its set-id bit.
        if group && stat.is_file() && stat.mode & libc::S_ISGID != 0 {
            return Err(Errno::OVERFLOW);
        }
        let flags = match stat.kind() {
            libc::S_IFREG => libc::O_RDONLY | libc::O_NOATIME | libc::O_NONBLOCK,
            libc::S_IFDIR => libc::O_RDONLY | libc::O_NOATIME | libc::O_DIRECTORY,
            _ => return Ok(()),
        };
        // The kernel's rights do not reach files of users without a number.
        let opened = match at {
            At::Name(dir, name) => fs::open(dir, name, flags, 0),
            At::Fd(fd) => fs::reopen(fd, flags),
        };
        match opened {
            Err(Errno::PERM | Errno::ACCESS) => Err(Errno::OVERFLOW),
            _ => Ok(()),
        }
    }

    /// Change owner and group.
    pub(super) fn chown(&self, at: At<'_>, uid: Option<u32>, gid: Option<u32>) -> Result<()> {
        let Some(name) = self.owner_attribute() else {
            return fs::chown(at, uid, gid);
        };
        let stat = self.stat(at)?;
        if stat.kind() == libc::S_IFLNK {
            return fs::chown(at, uid, gid);
        }
        let mut owner = Owner::of(&stat);
        owner.uid = uid.unwrap_or(owner.uid);
        owner.gid = gid.unwrap_or(owner.gid);
        if stat.is_file() {
            owner.mode = super::attr::without_set_id(owner.mode);
        }
        xattr::set(at, name, owner.format().as_bytes(), 0)
    }

    /// Change permission bits.
    pub(super) fn chmod(&self, at: At<'_>, mode: u32) -> Result<()> {
        let Some(name) = self.owner_attribute() else {
            return fs::chmod(at, mode);
        };
        let mut owner = Owner::of(&self.stat(at)?);
        owner.mode = mode & 0o7777;
        xattr::set(at, name, owner.format().as_bytes(), 0)
    }

    /// Give a new inode owner and mode; `stat` says which, and its type.
    pub(super) fn give_owner(&self, at: At<'_>, stat: &Stat) -> Result<()> {
        let Some(name) = self.owner_attribute() else {
            return match fs::chown(at, Some(stat.uid), Some(stat.gid)) {
                Err(Errno::INVAL) => Err(Errno::OVERFLOW),
                result => result,
            };
        };
        if stat.kind() == libc::S_IFLNK {
            // It has no attribute of its own, and its mode is never looked at.
            return match fs::chown(at, Some(stat.uid), Some(stat.gid)) {
                Err(Errno::PERM | Errno::INVAL) => Ok(()),
                result => result,
            };
        }
        fs::chmod(at, OPEN_MODE)?;
        xattr::set(at, name, Owner::of(stat).format().as_bytes(), 0)
    }

    /// A FIFO, socket or device in the work directory; a plain file where the
    /// attribute says what it is.
    pub(super) fn stage_node(&self, kind: u32, rdev: u64) -> Result<Staged<'_>> {
        let work = &self.upper()?.work;
        if self.keeps_owner_apart() {
            work.file()
        } else {
            work.node(kind, rdev)
        }
    }
}
