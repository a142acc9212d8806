//! Copying a file's data: reflink, else extent by extent with holes kept.

use super::{Errno, Result, fail::hit};
use rustix::fs as rfs;
use std::os::fd::AsFd;

/// Copy the first `size` bytes of `from` to the empty file `to`, whose size
/// is `size` afterwards. `reflink` allows `FICLONE`.
///
/// # Errors
/// As read(2) and write(2).
pub fn data(from: impl AsFd, to: impl AsFd, size: u64, reflink: bool) -> Result<()> {
    if size == 0 {
        return Ok(());
    }
    hit("ficlone")?;
    if reflink && rfs::ioctl_ficlone(&to, &from).is_ok() {
        return Ok(());
    }
    super::fs::truncate(&to, size)?;
    extents(&from, size, |start, end| range(&from, &to, start, end))
}

/// As [`data`] into a file of that size that is a hole, by stores to a mapping:
/// these leave it its set-id bits and its capability, as no write does.
///
/// # Errors
/// As mmap(2) and read(2); `ENOSPC` where there is no room.
pub fn stores(from: impl AsFd, to: impl AsFd, size: u64) -> Result<()> {
    extents(&from, size, |mut start, end| {
        while start < end {
            hit("mmap")?;
            let n = super::map::read_into(&from, &to, start, end - start)?;
            if n == 0 {
                break;
            }
            start += n;
        }
        Ok(())
    })
}

/// Give `each` the ranges below `size` that hold data.
fn extents(
    from: &impl AsFd,
    size: u64,
    mut each: impl FnMut(u64, u64) -> Result<()>,
) -> Result<()> {
    let mut pos = 0;
    while pos < size {
        let start = match rfs::seek(from, rfs::SeekFrom::Data(pos)) {
            Ok(start) => start,
            Err(Errno::NXIO) => break,
            // No SEEK_DATA here: all of it is data.
            Err(_) => pos,
        };
        let end = rfs::seek(from, rfs::SeekFrom::Hole(start))
            .unwrap_or(size)
            .min(size);
        each(start.min(end), end)?;
        pos = end.max(start + 1);
    }
    Ok(())
}

/// Make the empty file `to` share all data of `from`; false if that cannot be.
pub fn clone(from: impl AsFd, to: impl AsFd) -> bool {
    hit("ficlone").is_ok() && rfs::ioctl_ficlone(&to, &from).is_ok()
}

/// Copy the bytes `start..end` to the same place, holes as zeros.
///
/// # Errors
/// As read(2) and write(2).
pub fn part(from: impl AsFd, to: impl AsFd, start: u64, end: u64) -> Result<()> {
    range(&from, &to, start, end)
}

/// Copy the bytes `start..end` to the same place.
fn range(from: &impl AsFd, to: &impl AsFd, start: u64, end: u64) -> Result<()> {
    let (mut off_in, mut off_out) = (start, start);
    while off_in < end {
        hit("copy_file_range")?;
        let len = usize::try_from(end - off_in)
            .unwrap_or(usize::MAX)
            .min(1 << 30);
        match rfs::copy_file_range(from, Some(&mut off_in), to, Some(&mut off_out), len) {
            Err(Errno::INTR) => {}
            Ok(n) if n > 0 => {}
            // Either the source ends early, and the rest stays a hole, or its file
            // system does not do this, and says so in this way.
            Ok(_) | Err(Errno::XDEV | Errno::INVAL | Errno::OPNOTSUPP | Errno::NOSYS) => {
                return by_buffer(from, to, off_in, end);
            }
            Err(e) => return Err(e),
        }
    }
    Ok(())
}

fn by_buffer(from: &impl AsFd, to: &impl AsFd, mut pos: u64, end: u64) -> Result<()> {
    let mut buf = vec![0; 256 * 1024];
    while pos < end {
        let want = usize::try_from(end - pos)
            .unwrap_or(usize::MAX)
            .min(buf.len());
        let Some(chunk) = buf.get_mut(..want) else {
            return Err(Errno::INVAL);
        };
        let n = super::fs::read_at(from, chunk, pos)?;
        let Some(chunk) = buf.get(..n).filter(|c| !c.is_empty()) else {
            return Ok(());
        };
        let mut done = 0;
        while done < n {
            let rest = chunk.get(done..).unwrap_or_default();
            done += super::fs::write_at(to, rest, pos + done as u64)?;
        }
        pos += n as u64;
    }
    Ok(())
}

/// copy_file_range(2) for the application's own call; the bytes copied.
///
/// # Errors
/// As copy_file_range(2).
pub fn file_range(
    from: impl AsFd,
    mut off_in: u64,
    to: impl AsFd,
    mut off_out: u64,
    len: usize,
) -> Result<usize> {
    hit("copy_file_range")?;
    rfs::copy_file_range(from, Some(&mut off_in), to, Some(&mut off_out), len)
}
