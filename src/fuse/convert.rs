//! Between the union's plain values and fuser's.

use crate::sys::{
    Errno,
    fs::{SetTime, Stat, Time},
};
use crate::union::{Attr, Caller};
use fuser::{FileAttr, FileType, INodeNo, Request, TimeOrNow};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// The reply's error.
pub(super) fn errno(e: Errno) -> fuser::Errno {
    fuser::Errno::from_i32(e.raw_os_error())
}

/// Who asks.
pub(super) fn caller(req: &Request) -> Caller {
    Caller {
        uid: req.uid(),
        gid: req.gid(),
        pid: req.pid(),
    }
}

/// A type by its `S_IFMT` bits.
pub(super) fn file_type(kind: u32) -> FileType {
    match kind {
        libc::S_IFDIR => FileType::Directory,
        libc::S_IFLNK => FileType::Symlink,
        libc::S_IFCHR => FileType::CharDevice,
        libc::S_IFBLK => FileType::BlockDevice,
        libc::S_IFIFO => FileType::NamedPipe,
        libc::S_IFSOCK => FileType::Socket,
        _ => FileType::RegularFile,
    }
}

fn system_time(t: Time) -> SystemTime {
    let nsec = Duration::from_nanos(t.nsec.into());
    let sec = Duration::from_secs(t.sec.unsigned_abs());
    let whole = if t.sec < 0 {
        UNIX_EPOCH.checked_sub(sec)
    } else {
        UNIX_EPOCH.checked_add(sec)
    };
    whole
        .and_then(|w| w.checked_add(nsec))
        .unwrap_or(UNIX_EPOCH)
}

/// Seconds since 1970 and nanoseconds that count forwards, also before it.
///
/// fuser 0.18 makes of the kernel's pair (s, n) with negative s the moment
/// |s| seconds and n nanoseconds before 1970, which this takes back.
fn time(t: SystemTime) -> Time {
    match t.duration_since(UNIX_EPOCH) {
        Ok(d) => Time {
            sec: i64::try_from(d.as_secs()).unwrap_or(i64::MAX),
            nsec: d.subsec_nanos(),
        },
        Err(before) => {
            let d = before.duration();
            Time {
                sec: i64::try_from(d.as_secs()).map_or(i64::MIN, |s| -s),
                nsec: d.subsec_nanos(),
            }
        }
    }
}

/// A time to set.
pub(super) fn set_time(t: TimeOrNow) -> SetTime {
    match t {
        TimeOrNow::Now => SetTime::Now,
        TimeOrNow::SpecificTime(t) => SetTime::At(time(t)),
    }
}

/// Linux's encoding of a device number for user space.
fn rdev(dev: u64) -> u32 {
    let (major, minor) = (libc::major(dev), libc::minor(dev));
    (minor & 0xff) | (major << 8) | ((minor & !0xff) << 12)
}

/// A device number from the kernel's encoding.
pub(super) fn device(rdev: u32) -> u64 {
    let major = (rdev & 0xf_ff00) >> 8;
    let minor = (rdev & 0xff) | ((rdev >> 12) & 0xf_ff00);
    libc::makedev(major, minor)
}

/// Attributes with `ino` as the number to show.
pub(super) fn file_attr(stat: &Stat, ino: u64) -> FileAttr {
    FileAttr {
        ino: INodeNo(ino),
        size: stat.size,
        blocks: stat.blocks,
        atime: system_time(stat.atime),
        mtime: system_time(stat.mtime),
        ctime: system_time(stat.ctime),
        crtime: UNIX_EPOCH,
        kind: file_type(stat.kind()),
        perm: (stat.mode & 0o7777) as u16,
        nlink: stat.nlink,
        uid: stat.uid,
        gid: stat.gid,
        rdev: rdev(stat.rdev),
        blksize: stat.blksize,
        flags: 0,
    }
}

/// How long attributes hold: not at all where the reply carries the kernel's
/// number in the place of `st_ino`, so that the kernel asks again.
pub(super) fn attr_ttl(attr: &Attr, ttl: Duration) -> Duration {
    if attr.id == attr.stat.ino && !attr.volatile {
        ttl
    } else {
        Duration::ZERO
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As fuser 0.18 decodes what setattr carries.
    fn decoded(t: Time) -> SystemTime {
        if t.sec >= 0 {
            UNIX_EPOCH + Duration::new(t.sec as u64, t.nsec)
        } else {
            UNIX_EPOCH - Duration::new(t.sec.unsigned_abs(), t.nsec)
        }
    }

    #[test]
    fn times_before_1970_and_after_2038() {
        for t in [
            Time { sec: 0, nsec: 0 },
            Time { sec: -1, nsec: 1 },
            Time {
                sec: -2_000_000_000,
                nsec: 999_999_999,
            },
            Time { sec: -7, nsec: 0 },
            Time {
                sec: 8_000_000_000,
                nsec: 5,
            },
        ] {
            assert_eq!(time(decoded(t)), t);
        }
    }

    #[test]
    fn devices() {
        for (major, minor) in [(1, 3), (259, 1_048_575), (4095, 256)] {
            let dev = libc::makedev(major, minor);
            assert_eq!(device(rdev(dev)), dev);
        }
    }
}
