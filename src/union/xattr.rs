//! Extended attributes of callers.

use super::{Union, copy_up::Want, create::Caller, node::Node};
use crate::layer::marks::{self, Family, Stored};
use crate::sys::{Errno, Result, creds, xattr};
use std::ffi::{CStr, CString, OsStr};
use std::os::unix::ffi::OsStrExt;
use std::sync::Arc;

const CAPABILITY: &str = "security.capability";
const ACCESS: &[u8] = b"system.posix_acl_access";
const DEFAULT: &[u8] = b"system.posix_acl_default";

impl Union {
    /// One attribute's value.
    ///
    /// # Errors
    /// `ENODATA`, `EOPNOTSUPP`.
    pub fn getxattr(&self, id: u64, name: &OsStr) -> Result<Vec<u8>> {
        let stored = self.stored_name(name, Errno::NODATA)?;
        let value = self.with_names(&self.node(id)?, |node| {
            if name == CAPABILITY && node.state.lock().no_capability {
                return Ok(None);
            }
            self.value(node, &stored, name)
        })?;
        let mut value = value.ok_or(Errno::NODATA)?;
        self.map_acl(name, &mut value, |map, id| Ok(map.shown(id)))?;
        Ok(value)
    }

    /// The names of all attributes, each with a NUL. Those in `trusted.` only
    /// for the privileged.
    ///
    /// # Errors
    /// As listxattr(2).
    pub fn listxattr(&self, id: u64, caller: Caller) -> Result<Vec<u8>> {
        let node = self.node(id)?;
        super::with_scratch(|list| {
            self.with_names(&node, |node| match self.known_xattrs(node, list) {
                true => Ok(()),
                false => xattr::list_into(self.place(node)?.at(), list),
            })?;
            let mut out = Vec::new();
            let known = std::cell::OnceCell::new();
            let privileged =
                || *known.get_or_init(|| creds::capable(caller.pid, creds::cap::SYS_ADMIN));
            for name in xattr::names(list).filter_map(|n| marks::to_shown(n, self.belief.own)) {
                let hidden = (name.starts_with(b"trusted.") && !privileged())
                    || (!self.options.acl && (name == ACCESS || name == DEFAULT));
                if !hidden {
                    out.extend_from_slice(&name);
                    out.push(0);
                }
            }
            Ok(out)
        })
    }

    /// Set one attribute.
    ///
    /// # Errors
    /// `EPERM` for names that other drivers would believe, `EEXIST` and
    /// `ENODATA` by `flags`, errors of the upper.
    pub fn setxattr(
        &self,
        id: u64,
        name: &OsStr,
        value: &[u8],
        flags: i32,
        caller: Caller,
    ) -> Result<()> {
        let stored = self.stored_name(name, Errno::PERM)?;
        let mut value = value.to_vec();
        self.map_acl(name, &mut value, |map, id| map.stored(id))?;
        self.change(&self.node(id)?, Want::Meta, |node| {
            let place = self.place(node)?;
            let at = place.at();
            if name == CAPABILITY {
                node.state.lock().no_capability = false;
            }
            xattr::set(at, &stored, &value, flags)?;
            if name.as_bytes() == DEFAULT {
                node.state.lock().default_acl = None;
            }
            if name.as_bytes() == ACCESS {
                let stat = self.stat(at)?;
                if stat.mode & libc::S_ISGID != 0 && self.loses_set_gid(caller, stat.gid) {
                    self.chmod(at, stat.mode & !libc::S_ISGID)?;
                }
            }
            Ok(())
        })
    }

    /// Remove one attribute.
    ///
    /// # Errors
    /// `ENODATA`, errors of the upper.
    pub fn removexattr(&self, id: u64, name: &OsStr) -> Result<()> {
        let stored = self.stored_name(name, Errno::NODATA)?;
        let asked = self.node(id)?;
        // Nothing is copied up for what is not there.
        self.with_names(&asked, |node| self.value(node, &stored, name))?
            .ok_or(Errno::NODATA)?;
        self.change(&asked, Want::Meta, |node| {
            let place = self.place(node)?;
            node.state.lock().lost_capability = name == CAPABILITY;
            match xattr::remove(place.at(), &stored) {
                Err(Errno::NODATA) if self.is_raw(name) => {
                    let name = CString::new(name.as_bytes()).map_err(|_| Errno::INVAL)?;
                    xattr::remove(place.at(), &name)?;
                }
                result => result?,
            }
            if name.as_bytes() == DEFAULT {
                node.state.lock().default_acl = None;
            }
            Ok(())
        })
    }

    fn stored_name(&self, name: &OsStr, refused: Errno) -> Result<CString> {
        if !self.options.acl && matches!(name.as_bytes(), ACCESS | DEFAULT) {
            return Err(Errno::OPNOTSUPP);
        }
        match marks::to_stored(name) {
            Stored::Same => CString::new(name.as_bytes()).map_err(|_| Errno::INVAL),
            Stored::Escaped(name) => Ok(name),
            Stored::Refused => Err(refused),
        }
    }

    /// Is this a name of the mark family that is not this mount's: a layer may
    /// have it as it is.
    fn is_raw(&self, name: &OsStr) -> bool {
        let other: &[u8] = match self.belief.own {
            Family::Trusted => b"user.overlay.",
            Family::User => b"trusted.overlay.",
        };
        name.as_bytes().starts_with(other)
    }

    /// A node's attribute: by the name that it is stored as, or as it is. The
    /// caller holds `topology` and the node's `naming`.
    fn value(&self, node: &Arc<Node>, stored: &CStr, name: &OsStr) -> Result<Option<Vec<u8>>> {
        let get = |name: &CStr| match self.known_xattr(node, name) {
            Some(known) => Ok(known),
            None => xattr::get(self.place(node)?.at(), name),
        };
        let value = get(stored)?;
        if value.is_some() || !self.is_raw(name) {
            return Ok(value);
        }
        get(&CString::new(name.as_bytes()).map_err(|_| Errno::INVAL)?)
    }

    /// Translate the ids in an ACL's entries for named users and groups.
    fn map_acl(
        &self,
        name: &OsStr,
        value: &mut [u8],
        map: impl Fn(&super::ids::IdMap, u32) -> Result<u32>,
    ) -> Result<()> {
        const USER: u16 = 0x02;
        const GROUP: u16 = 0x08;
        if !matches!(name.as_bytes(), ACCESS | DEFAULT)
            || (self.uids.is_identity() && self.gids.is_identity())
        {
            return Ok(());
        }
        for entry in value.get_mut(4..).unwrap_or_default().chunks_exact_mut(8) {
            let Some((head, id)) = entry.split_first_chunk_mut::<4>() else {
                continue;
            };
            let Ok(id) = <&mut [u8; 4]>::try_from(id) else {
                continue;
            };
            let [t0, t1, ..] = *head;
            let ids = match u16::from_le_bytes([t0, t1]) {
                USER => &self.uids,
                GROUP => &self.gids,
                _ => continue,
            };
            *id = map(ids, u32::from_le_bytes(*id))?.to_le_bytes();
        }
        Ok(())
    }
}
