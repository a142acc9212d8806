//! The ioctls that there are: inode flags, in both forms.

use crate::sys::{Errno, Result};
use crate::union::Union;

// By the numbers of 64-bit machines.
const GETFLAGS: u32 = 0x8008_6601;
const SETFLAGS: u32 = 0x4008_6602;
const FSGETXATTR: u32 = 0x801c_581f;
const FSSETXATTR: u32 = 0x401c_5820;

/// What ioctl(2) with `argument` gives back; `ENOTTY` for those that are none.
pub(super) fn answer(union: &Union, node: u64, cmd: u32, argument: &[u8]) -> Result<Vec<u8>> {
    match (cmd, argument.first_chunk::<4>()) {
        (GETFLAGS, _) => union.get_flags(node).map(|f| f.to_le_bytes().to_vec()),
        (SETFLAGS, Some(flags)) => union
            .set_flags(node, u32::from_ne_bytes(*flags))
            .map(|()| Vec::new()),
        (FSGETXATTR, _) => union.get_fsxattr(node).map(|x| x.to_vec()),
        (FSSETXATTR, _) => match argument.first_chunk() {
            Some(value) => union.set_fsxattr(node, value).map(|()| Vec::new()),
            None => Err(Errno::INVAL),
        },
        _ => Err(Errno::NOTTY),
    }
}
