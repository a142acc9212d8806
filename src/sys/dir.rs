//! Reading directories by their cookies.

use super::{Errno, Result, fail::hit_read};
use rustix::fs::{self as rfs, RawDir, SeekFrom};
use std::ffi::OsStr;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;

/// One entry as getdents64(2) gives it.
#[derive(Clone, Copy, Debug)]
pub struct Entry<'a> {
    /// Inode number; not to be trusted over mount points.
    pub ino: u64,
    /// Where to go on after this entry.
    pub cookie: u64,
    /// `S_IFMT` bits, 0 where the file system does not tell.
    pub kind: u32,
    /// The name.
    pub name: &'a OsStr,
}

/// Open a directory, which may be held as `O_PATH`, for [`read`].
///
/// # Errors
/// As open(2).
pub fn open(dir: impl AsFd) -> Result<OwnedFd> {
    super::fs::open(dir, OsStr::new("."), libc::O_RDONLY | libc::O_DIRECTORY, 0)
}

/// As [`open`], without leaving an access time where that is allowed: for
/// directories of lower layers.
///
/// # Errors
/// As open(2).
pub fn open_unseen(dir: impl AsFd) -> Result<OwnedFd> {
    let flags = libc::O_RDONLY | libc::O_DIRECTORY | libc::O_NOATIME;
    match super::fs::open(&dir, OsStr::new("."), flags, 0) {
        // Only the owner may.
        Err(Errno::PERM) => open(dir),
        result => result,
    }
}

/// [`read_all`] without `.` and `..`.
///
/// # Errors
/// As lseek(2) and getdents64(2).
pub fn read(fd: impl AsFd, cookie: u64, mut each: impl FnMut(Entry<'_>) -> bool) -> Result<()> {
    read_all(fd, cookie, |e| {
        matches!(e.name.as_bytes(), b"." | b"..") || each(e)
    })
}

/// Call `each` for the entries from `cookie` (0 = the start), until it returns
/// false or the directory ends.
///
/// # Errors
/// As lseek(2) and getdents64(2).
pub fn read_all(fd: impl AsFd, cookie: u64, mut each: impl FnMut(Entry<'_>) -> bool) -> Result<()> {
    hit_read("getdents")?;
    rfs::seek(&fd, SeekFrom::Start(cookie))?;
    let mut buf: Vec<u8> = Vec::with_capacity(32 * 1024);
    let mut iter = RawDir::new(fd, buf.spare_capacity_mut());
    while let Some(entry) = iter.next() {
        let entry = match entry {
            // The directory was removed meanwhile.
            Err(Errno::NOENT) => return Ok(()),
            entry => entry?,
        };
        let name = entry.file_name().to_bytes();
        let kind = match entry.file_type() {
            rfs::FileType::Unknown => 0,
            kind => kind.as_raw_mode(),
        };
        let more = each(Entry {
            ino: entry.ino(),
            cookie: entry.next_entry_cookie(),
            kind,
            name: OsStr::from_bytes(name),
        });
        if !more {
            break;
        }
    }
    Ok(())
}
