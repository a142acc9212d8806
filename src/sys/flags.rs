//! Inode flags and project ids, by ioctl.

use super::{At, Result, check, fail::hit};
use rustix::fs as rfs;
use std::os::fd::{AsFd, AsRawFd};

/// Inode flags as `FS_IOC_GETFLAGS` gives them.
///
/// # Errors
/// As ioctl(2); `ENOTTY` where the file system has none.
pub fn get_flags(fd: impl AsFd) -> Result<u32> {
    rfs::ioctl_getflags(fd).map(|f| f.bits())
}

/// Is it immutable (as statx(2) says; false where the file system does not).
///
/// # Errors
/// As statx(2).
pub fn is_immutable(at: At<'_>) -> Result<bool> {
    Ok(attributes(at)?.contains(rfs::StatxAttributes::IMMUTABLE))
}

/// Is it immutable, or may only be appended to.
///
/// # Errors
/// As statx(2).
pub fn is_protected(at: At<'_>) -> Result<bool> {
    let protects = rfs::StatxAttributes::IMMUTABLE | rfs::StatxAttributes::APPEND;
    Ok(attributes(at)?.intersects(protects))
}

fn attributes(at: At<'_>) -> Result<rfs::StatxAttributes> {
    let none = rfs::StatxFlags::empty();
    let (dir, stat) = match at {
        At::Name(dir, name) => {
            let stat = rfs::statx(dir, name, rfs::AtFlags::SYMLINK_NOFOLLOW, none)?;
            (dir, stat)
        }
        At::Fd(fd) => (fd, rfs::statx(fd, c"", rfs::AtFlags::EMPTY_PATH, none)?),
    };
    // erofs says it of every inode, and means that the image is never written.
    let immutable = stat
        .stx_attributes
        .contains(rfs::StatxAttributes::IMMUTABLE);
    if immutable && rfs::fstatfs(dir)?.f_type == EROFS_MAGIC {
        return Ok(stat.stx_attributes - rfs::StatxAttributes::IMMUTABLE);
    }
    Ok(stat.stx_attributes)
}

/// `EROFS_SUPER_MAGIC_V1` of linux/magic.h.
const EROFS_MAGIC: rfs::FsWord = 0xe0f5_e1e2;

/// Set inode flags as `FS_IOC_SETFLAGS` does.
///
/// # Errors
/// As ioctl(2).
pub fn set_flags(fd: impl AsFd, flags: u32) -> Result<()> {
    hit("setflags")?;
    rfs::ioctl_setflags(fd, rfs::IFlags::from_bits_retain(flags))
}

/// `struct fsxattr` of `FS_IOC_FSGETXATTR`: flags, extent sizes, project id.
pub type FsXattr = [u8; 28];

const FS_IOC_FSGETXATTR: libc::c_ulong = 0x801c_581f;
const FS_IOC_FSSETXATTR: libc::c_ulong = 0x401c_5820;

/// Inode flags and project id as `FS_IOC_FSGETXATTR` gives them.
///
/// # Errors
/// As ioctl(2); `ENOTTY` where the file system has none.
pub fn get_fsxattr(fd: impl AsFd) -> Result<FsXattr> {
    let mut out: FsXattr = [0; 28];
    let fd = fd.as_fd().as_raw_fd();
    // SAFETY: the ioctl writes one struct fsxattr, 28 bytes, as `out` has.
    check(unsafe { libc::ioctl(fd, FS_IOC_FSGETXATTR as _, out.as_mut_ptr()).into() })?;
    Ok(out)
}

/// Set what [`get_fsxattr`] gives.
///
/// # Errors
/// As ioctl(2).
pub fn set_fsxattr(fd: impl AsFd, value: &FsXattr) -> Result<()> {
    hit("fssetxattr")?;
    let fd = fd.as_fd().as_raw_fd();
    // SAFETY: the ioctl reads one struct fsxattr, 28 bytes, as `value` has.
    check(unsafe { libc::ioctl(fd, FS_IOC_FSSETXATTR as _, value.as_ptr()).into() }).map(drop)
}
