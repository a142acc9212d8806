//! What the kernel offers to a FUSE daemon, by its first message over a mount
//! that is never served.

use super::Errno;
use super::mount::{self, Flags, Request};
use std::ffi::OsStr;
use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;

/// What `FUSE_INIT` says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Offer {
    /// Protocol version.
    pub version: (u32, u32),
    flags: u64,
}

/// Abilities of the protocol that capasfs makes use of: bits of linux/fuse.h.
pub const ABILITIES: [(&str, u32); 5] = [
    ("passthrough", 37),
    ("killpriv_v2", 28),
    ("no_opendir", 24),
    ("posix_acl", 20),
    ("allow_idmap", 40),
];

impl Offer {
    /// Is bit number `bit` set.
    pub fn has(&self, bit: u32) -> bool {
        self.flags & 1 << bit != 0
    }
}

/// Mount on the empty directory `target`, read the kernel's first message, and
/// take the mount away.
///
/// # Errors
/// When /dev/fuse cannot be opened or nothing be mounted.
pub fn ask(target: &Path) -> io::Result<Offer> {
    let request = Request {
        source: OsStr::new("trial"),
        subtype: OsStr::new("capasfs"),
        flags: Flags::NOSUID | Flags::NODEV,
        allow_other: false,
        labels: &[],
    };
    let dir = super::place::open(target)?;
    let direct = mount::open_device().and_then(|dev| {
        mount::attach(&dev, &dir, &request)?;
        Ok(dev)
    });
    let dev: OwnedFd = match direct {
        Err(Errno::PERM | Errno::ACCESS) => mount::attach_by_helper(target, &request)?,
        dev => dev?,
    };
    let mut buf = vec![0; 1 << 16];
    let read = rustix::io::read(&dev, &mut buf);
    // Before the device is closed, which ends the connection.
    let gone = mount::detach(target);
    let offer = parse(buf.get(..read?).unwrap_or_default())?;
    gone?;
    Ok(offer)
}

/// A header of 40 bytes, then version, read-ahead, flags and more flags.
fn parse(message: &[u8]) -> io::Result<Offer> {
    let word = |at: usize| -> Option<u32> {
        let bytes = message.get(at..at + 4)?;
        Some(u32::from_ne_bytes(bytes.try_into().ok()?))
    };
    const INIT: u32 = 26;
    const EXTENDED: u32 = 1 << 30;
    let offer = || {
        let flags = word(52)?;
        let more = match flags & EXTENDED {
            0 => 0,
            _ => word(56)?,
        };
        (word(4)? == INIT).then_some(Offer {
            version: (word(40)?, word(44)?),
            flags: u64::from(flags) | u64::from(more) << 32,
        })
    };
    offer().ok_or_else(|| io::Error::other("the kernel's first message is none"))
}
