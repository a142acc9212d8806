//! A catalog's file, as a mount is told of it.

use super::{Bytes, Catalog, Damage, MOST_BYTES};
use crate::sys::{Errno, creds, fs, map::Map};
use std::fmt;
use std::os::fd::AsFd;

/// Why a catalog is not used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// It cannot be read.
    Unreadable(Errno),
    /// It is no regular file, or larger than any catalog.
    NoFile,
    /// Others than root and the own user may write it.
    Writable,
    /// It is not in order.
    Damaged(Damage),
    /// It was made of other layers.
    OtherLayers,
    /// It was made for other mount options.
    OtherOptions,
    /// Who made it saw other owners or attributes of the layers.
    OtherRights,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Refusal::Unreadable(errno) => write!(f, "{errno}"),
            Refusal::NoFile => write!(f, "it is no catalog"),
            Refusal::Writable => write!(f, "others may write it"),
            Refusal::Damaged(damage) => write!(f, "{damage}"),
            Refusal::OtherLayers => write!(f, "it was made of other layers"),
            Refusal::OtherOptions => write!(f, "it was made for other mount options"),
            Refusal::OtherRights => write!(f, "it was made with other rights or user ids"),
        }
    }
}

/// Map and check the catalog in an open file.
///
/// # Errors
/// Why it cannot be used.
pub fn open(file: impl AsFd) -> Result<Catalog, Refusal> {
    let stat = fs::stat_fd(&file).map_err(Refusal::Unreadable)?;
    if !stat.is_file() || stat.size == 0 || stat.size > MOST_BYTES {
        return Err(Refusal::NoFile);
    }
    let own = stat.uid == 0 || stat.uid == creds::effective_uid();
    if !own || stat.mode & 0o022 != 0 {
        return Err(Refusal::Writable);
    }
    let map = Map::of(&file).map_err(Refusal::Unreadable)?;
    Catalog::checked(Bytes::Mapped(map)).map_err(Refusal::Damaged)
}
