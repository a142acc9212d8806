//! Files mapped into memory, to be read.

use super::{Errno, Result, fs::stat_fd};
use std::ops::Deref;
use std::os::fd::{AsFd, AsRawFd};
use std::ptr::NonNull;

/// A whole file, mapped read-only and unmapped when dropped.
///
/// Who writes to the file meanwhile changes what is seen here, and who cuts it
/// off makes reading it fatal (`SIGBUS`): callers map only what nobody but
/// their own user and root may write, and believe no byte unchecked.
#[derive(Debug)]
pub struct Map {
    start: NonNull<u8>,
    len: usize,
}

// SAFETY: the mapping is read-only and belongs to the value alone, which any
// thread may read and drop.
unsafe impl Send for Map {}
// SAFETY: as above.
unsafe impl Sync for Map {}

impl Map {
    /// Map all that is in an open file now.
    ///
    /// # Errors
    /// `EINVAL` for an empty file; as mmap(2).
    pub fn of(file: impl AsFd) -> Result<Map> {
        let file = file.as_fd();
        let len = usize::try_from(stat_fd(file)?.size).map_err(|_| Errno::FBIG)?;
        // SAFETY: a new mapping at an address that the kernel chooses; `file`
        // is open for the time of the call.
        let start = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                len,
                libc::PROT_READ,
                libc::MAP_SHARED | libc::MAP_POPULATE,
                file.as_raw_fd(),
                0,
            )
        };
        if start == libc::MAP_FAILED {
            return Err(last_error());
        }
        let start = NonNull::new(start.cast()).ok_or(Errno::FAULT)?;
        Ok(Map { start, len })
    }
}

impl Deref for Map {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        // SAFETY: `len` bytes are mapped at `start` for as long as `self` is.
        unsafe { std::slice::from_raw_parts(self.start.as_ptr(), self.len) }
    }
}

impl Drop for Map {
    fn drop(&mut self) {
        // SAFETY: the mapping is ours, and no reference into it is left.
        unsafe { libc::munmap(self.start.as_ptr().cast(), self.len) };
    }
}

/// Read at most `len` bytes, and some MiB, at `offset` of `from` into the same
/// place of `to`, which is as large, by a mapping of it; how many were read.
///
/// # Errors
/// As mmap(2) and read(2); `ENOSPC` for a page that cannot be written.
pub fn read_into(from: impl AsFd, to: impl AsFd, offset: u64, len: u64) -> Result<u64> {
    const WINDOW: u64 = 4 << 20;
    let begin = offset - offset % WINDOW;
    let skip = (offset - begin) as usize;
    let len = len.min(WINDOW - offset % WINDOW) as usize;
    // SAFETY: a new mapping at an address that the kernel chooses; `to` is open for
    // the time of the call.
    let start = unsafe {
        libc::mmap(
            std::ptr::null_mut(),
            skip + len,
            libc::PROT_READ | libc::PROT_WRITE,
            libc::MAP_SHARED,
            to.as_fd().as_raw_fd(),
            i64::try_from(begin).map_err(|_| Errno::FBIG)?,
        )
    };
    if start == libc::MAP_FAILED {
        return Err(last_error());
    }
    // SAFETY: the mapping has `skip + len` bytes, and the kernel alone writes to
    // it, with an error for what cannot be written.
    let read = unsafe {
        let at = start.cast::<u8>().add(skip).cast();
        libc::pread(
            from.as_fd().as_raw_fd(),
            at,
            len,
            i64::try_from(offset).unwrap_or(i64::MAX),
        )
    };
    let result = u64::try_from(read).map_err(|_| match last_error() {
        Errno::FAULT => Errno::NOSPC,
        other => other,
    });
    // SAFETY: the mapping is ours, and no reference into it is left.
    unsafe { libc::munmap(start, skip + len) };
    result
}

fn last_error() -> Errno {
    Errno::from_io_error(&std::io::Error::last_os_error()).unwrap_or(Errno::IO)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    #[test]
    fn a_file_is_seen_whole() {
        let mut file = tempfile::tempfile().unwrap();
        assert_eq!(Map::of(&file).unwrap_err(), Errno::INVAL);
        file.write_all(&[7; 10_000]).unwrap();
        let map = Map::of(&file).unwrap();
        assert_eq!(&*map, [7; 10_000]);
    }
}
