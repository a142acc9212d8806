//! What a stack of lower layers merges to, in one file.
//!
//! Layers of the store never change, so neither does what a stack of them
//! shows: which names each directory has, what they are, and where in which
//! layer that is. The union writes it down once (`union/catalog/build.rs`, with
//! the code that would else search the layers), maps it at mount, and answers
//! from it without a system call. A catalog is derived from the layers alone: a
//! missing one costs time and nothing else, and one that is not in order or not
//! of these layers is not used.
//!
//! # The file
//!
//! Little-endian, without padding: a header, the sections one after another,
//! and last the CRC-32 of all before it.
//!
//! ```text
//! header, 64 bytes
//!    0  magic "capascat"
//!    8  version, 1
//!   12  compatible features: bits that a reader may ignore; none yet
//!   16  incompatible features: bits that it must know; none yet
//!   20  how the layers were read: 1 = the mount's own family of marks is
//!       `user.`, 2 = redirects are not followed, 4 = with `trusted.` attributes
//!   24  number of records in each section, in this order; of the heap, bytes
//!   60  CRC-32 of what owners were to the reader, see [`Seen`]
//!
//! section    bytes  record
//! layers        40  file system UUID; the root's inode number; its change time
//!                   (seconds; nanoseconds; 0)
//! places        16  a name in a layer: layer (u16), flags (u16), parent's
//!                   place, name in the heap, its length. First come the layers'
//!                   roots, which have neither parent (all ones) nor name; a
//!                   parent comes before what is in it.
//!                   Flags: 1 = no directory, 2 = has attribute whiteouts
//! dirs          16  a merged directory: first entry, number of entries, first
//!                   in `stacks`, number there. Number 0 is the root. Entries of
//!                   directory 0 come first, then those of 1, and so on
//! stacks         4  the places that a directory merges, top first
//! entries       12  name in the heap, inode, length of the name; sorted by name
//!                   in each directory, bytewise
//! inodes       104  see `format::Inode`; 0 is the root. One that is a
//!                   directory has the next number in `dirs`, counted by entries
//! xattr sets     8  first in `xattrs`, number there
//! xattrs        16  name in the heap with its NUL, length; value, length
//! heap           1  names, targets of symlinks, attributes
//! ```
//!
//! Everything is checked when a catalog is opened ([`check`]): that all
//! references lie within their sections and lead forward (no cycle can be made
//! of them), that every directory has one parent, that names are names and in
//! order, that types fit. Besides its owner and mode must be such that nobody
//! else can write it, and the layers must be those it was made of: same file
//! system, same inode, not changed since. Only their roots are known: what changed
//! deeper in a layer is not noticed. And who mounts must see of layers what the
//! maker saw ([`Seen`]): the same owners, `trusted.*` attributes or none. Device
//! numbers are not recorded, as they are others after a restart.
//!
//! A name that the layers list but that cannot be looked up (a metacopy whose
//! data is missing) or written down (more attributes than can be listed) is
//! marked *live*: for it the layers are searched as without a catalog.

pub mod check;
pub mod format;
pub mod open;
mod read;
pub mod write;

pub use check::Damage;
pub use format::{Built, Inode, LayerId, Seen, What};
pub use open::{Refusal, open};
pub use read::{Entry, Place};
pub use write::{Draft, TooLarge};

use crate::sys::map::Map;
use format::Head;

/// The largest file that is written or used: far more than any image needs.
pub const MOST_BYTES: u64 = 1 << 30;

/// A catalog that is in order.
#[derive(Debug)]
pub struct Catalog {
    bytes: Bytes,
    head: Head,
}

/// Where a catalog's bytes are.
#[derive(Debug)]
enum Bytes {
    Mapped(Map),
    Owned(Vec<u8>),
}

impl Bytes {
    fn get(&self) -> &[u8] {
        match self {
            Bytes::Mapped(map) => map,
            Bytes::Owned(bytes) => bytes,
        }
    }
}

impl Catalog {
    /// The catalog in a file's bytes.
    ///
    /// # Errors
    /// Says what is not as it must be.
    pub fn parse(bytes: Vec<u8>) -> Result<Catalog, Damage> {
        Catalog::checked(Bytes::Owned(bytes))
    }

    fn checked(bytes: Bytes) -> Result<Catalog, Damage> {
        let head = check::check(bytes.get())?;
        Ok(Catalog { bytes, head })
    }
}

#[cfg(test)]
mod tests;
