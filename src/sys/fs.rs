//! Files and names: open, stat, create, rename, remove, set attributes.

use super::{
    At, Errno, Result, c_name, check,
    fail::{hit, hit_read},
};
use rustix::fs::{self as rfs, AtFlags, FileType as RType, Mode, OFlags};
use std::ffi::{OsStr, OsString};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStringExt;

/// Seconds and nanoseconds since 1970, negative seconds before.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Time {
    /// Seconds.
    pub sec: i64,
    /// Nanoseconds, 0 to 999,999,999.
    pub nsec: u32,
}

/// What stat(2) says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stat {
    /// Device of the file system.
    pub dev: u64,
    /// Inode number.
    pub ino: u64,
    /// Type and permission bits.
    pub mode: u32,
    /// Hard links.
    pub nlink: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Device number of a device node.
    pub rdev: u64,
    /// Bytes.
    pub size: u64,
    /// 512-byte blocks.
    pub blocks: u64,
    /// Preferred I/O size.
    pub blksize: u32,
    /// Last access.
    pub atime: Time,
    /// Last change of data.
    pub mtime: Time,
    /// Last change of the inode.
    pub ctime: Time,
}

impl Stat {
    /// The `S_IFMT` bits.
    pub fn kind(&self) -> u32 {
        self.mode & libc::S_IFMT
    }
    /// Is it a directory.
    pub fn is_dir(&self) -> bool {
        self.kind() == libc::S_IFDIR
    }
    /// Is it a regular file.
    pub fn is_file(&self) -> bool {
        self.kind() == libc::S_IFREG
    }
    /// Is it overlayfs's whiteout, a character device 0:0.
    pub fn is_whiteout(&self) -> bool {
        self.kind() == libc::S_IFCHR && self.rdev == 0
    }
}

#[allow(
    clippy::unnecessary_cast,
    reason = "field types differ between targets"
)]
impl From<rfs::Stat> for Stat {
    fn from(s: rfs::Stat) -> Stat {
        let time = |sec: i64, nsec: u64| Time {
            sec,
            nsec: nsec as u32,
        };
        Stat {
            dev: s.st_dev as u64,
            ino: s.st_ino as u64,
            mode: s.st_mode as u32,
            nlink: s.st_nlink as u32,
            uid: s.st_uid,
            gid: s.st_gid,
            rdev: s.st_rdev as u64,
            size: s.st_size as u64,
            blocks: s.st_blocks as u64,
            blksize: s.st_blksize as u32,
            atime: time(s.st_atime as i64, s.st_atime_nsec as u64),
            mtime: time(s.st_mtime as i64, s.st_mtime_nsec as u64),
            ctime: time(s.st_ctime as i64, s.st_ctime_nsec as u64),
        }
    }
}

/// Open one name. `flags` are `O_*` bits; `O_CLOEXEC|O_NOFOLLOW` are added.
///
/// # Errors
/// As openat(2).
pub fn open(dir: impl AsFd, name: &OsStr, flags: i32, mode: u32) -> Result<OwnedFd> {
    if flags & (libc::O_CREAT | libc::O_TRUNC) != 0 {
        hit("open")?;
    } else {
        hit_read("open")?;
    }
    let flags = OFlags::from_bits_retain(flags.unsigned_abs())
        | OFlags::CLOEXEC
        | OFlags::NOFOLLOW
        | OFlags::LARGEFILE;
    rfs::openat(dir, name, flags, Mode::from_bits_retain(mode))
}

/// A directory as an `O_PATH` descriptor: good for every operation by name.
///
/// # Errors
/// As openat(2).
pub fn open_dir_path(dir: impl AsFd, name: &OsStr) -> Result<OwnedFd> {
    open(dir, name, libc::O_PATH | libc::O_DIRECTORY, 0)
}

/// An inode of any type as an `O_PATH` descriptor.
///
/// # Errors
/// As openat(2).
pub fn open_path(dir: impl AsFd, name: &OsStr) -> Result<OwnedFd> {
    open(dir, name, libc::O_PATH, 0)
}

/// An unnamed file in `dir` (`O_TMPFILE`), read-write, mode 0600.
///
/// # Errors
/// As openat(2); `EOPNOTSUPP` where the file system has none.
pub fn open_tmpfile(dir: impl AsFd) -> Result<OwnedFd> {
    hit("open")?;
    rfs::openat(
        dir,
        ".",
        OFlags::TMPFILE | OFlags::RDWR | OFlags::CLOEXEC | OFlags::LARGEFILE,
        Mode::from_bits_retain(0o600),
    )
}

/// Open again what `fd` has open, with other flags.
///
/// # Errors
/// As open(2) of `/proc/self/fd/N`.
pub fn reopen(fd: impl AsFd, flags: i32) -> Result<OwnedFd> {
    hit_read("open")?;
    let flags =
        OFlags::from_bits_retain(flags.unsigned_abs()) | OFlags::CLOEXEC | OFlags::LARGEFILE;
    rfs::open(proc_path(fd.as_fd()), flags, Mode::empty())
}

/// An `O_PATH` descriptor of the inode itself.
///
/// # Errors
/// As open(2), and `EMFILE`.
pub fn path_of(at: At<'_>) -> Result<OwnedFd> {
    match at {
        At::Name(dir, name) => open_path(dir, name),
        At::Fd(fd) => {
            hit_read("dup")?;
            rustix::io::fcntl_dupfd_cloexec(fd, 0)
        }
    }
}

/// `/proc/self/fd/N`, the way to operate on an `O_PATH` descriptor.
pub(super) fn proc_path(fd: BorrowedFd<'_>) -> String {
    format!("/proc/self/fd/{}", fd.as_raw_fd())
}

/// stat(2) without following.
///
/// # Errors
/// As fstatat(2).
pub fn stat(at: At<'_>) -> Result<Stat> {
    hit_read("stat")?;
    match at {
        At::Name(dir, name) => rfs::statat(dir, name, AtFlags::SYMLINK_NOFOLLOW),
        At::Fd(fd) => rfs::fstat(fd),
    }
    .map(Stat::from)
}

/// stat(2) of one name.
///
/// # Errors
/// As fstatat(2).
pub fn stat_at(dir: impl AsFd, name: &OsStr) -> Result<Stat> {
    stat(At::Name(dir.as_fd(), name))
}

/// stat(2) of what is open.
///
/// # Errors
/// As fstat(2).
pub fn stat_fd(fd: impl AsFd) -> Result<Stat> {
    stat(At::Fd(fd.as_fd()))
}

/// `Ok(None)` instead of `ENOENT`; a parent that is no directory or a name
/// that the layer's file system cannot hold is as good as absent.
///
/// # Errors
/// All others of `result`.
pub fn absent<T>(result: Result<T>) -> Result<Option<T>> {
    match result {
        Ok(t) => Ok(Some(t)),
        Err(Errno::NOENT | Errno::NOTDIR | Errno::NAMETOOLONG | Errno::LOOP) => Ok(None),
        Err(e) => Err(e),
    }
}

/// mkdir(2).
///
/// # Errors
/// As mkdirat(2).
pub fn mkdir(dir: impl AsFd, name: &OsStr, mode: u32) -> Result<()> {
    hit("mkdir")?;
    rfs::mkdirat(dir, name, Mode::from_bits_retain(mode & 0o7777))
}

/// mknod(2); `mode` holds the type.
///
/// # Errors
/// As mknodat(2).
pub fn mknod(dir: impl AsFd, name: &OsStr, mode: u32, rdev: u64) -> Result<()> {
    hit("mknod")?;
    rfs::mknodat(
        dir,
        name,
        RType::from_raw_mode(mode & libc::S_IFMT),
        Mode::from_bits_retain(mode & 0o7777),
        rdev,
    )
}

/// symlink(2).
///
/// # Errors
/// As symlinkat(2).
pub fn symlink(target: &OsStr, dir: impl AsFd, name: &OsStr) -> Result<()> {
    hit("symlink")?;
    rfs::symlinkat(target, dir, name)
}

/// Give what `at` names another name; a symlink is linked itself.
///
/// # Errors
/// As linkat(2).
pub fn link(at: At<'_>, dir: impl AsFd, name: &OsStr) -> Result<()> {
    hit("link")?;
    match at {
        At::Name(from, old) => rfs::linkat(from, old, dir, name, AtFlags::empty()),
        // Unlike AT_EMPTY_PATH this needs no CAP_DAC_READ_SEARCH.
        At::Fd(fd) => rfs::linkat(rfs::CWD, proc_path(fd), dir, name, AtFlags::SYMLINK_FOLLOW),
    }
}

/// How a rename treats its target.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Replace {
    /// Replace what is there.
    Yes,
    /// `EEXIST` if anything is there.
    No,
    /// Exchange both.
    Exchange,
    /// Replace, and leave a whiteout under the old name.
    Whiteout,
}

/// renameat2(2).
///
/// # Errors
/// As renameat2(2); `EINVAL` where the file system lacks the flag.
pub fn rename(
    from: impl AsFd,
    old: &OsStr,
    to: impl AsFd,
    new: &OsStr,
    how: Replace,
) -> Result<()> {
    hit("rename")?;
    let flags = match how {
        Replace::Yes => rfs::RenameFlags::empty(),
        Replace::No => rfs::RenameFlags::NOREPLACE,
        Replace::Exchange => rfs::RenameFlags::EXCHANGE,
        Replace::Whiteout => rfs::RenameFlags::WHITEOUT,
    };
    if flags.is_empty() {
        return rfs::renameat(from, old, to, new);
    }
    rfs::renameat_with(from, old, to, new, flags)
}

/// unlink(2), or rmdir(2) with `dir`.
///
/// # Errors
/// As unlinkat(2).
pub fn unlink(parent: impl AsFd, name: &OsStr, dir: bool) -> Result<()> {
    hit("unlink")?;
    let flags = if dir {
        AtFlags::REMOVEDIR
    } else {
        AtFlags::empty()
    };
    rfs::unlinkat(parent, name, flags)
}

/// The target of a symlink.
///
/// # Errors
/// As readlinkat(2).
pub fn readlink(at: At<'_>) -> Result<OsString> {
    hit_read("readlink")?;
    let target = match at {
        At::Name(dir, name) => rfs::readlinkat(dir, name, Vec::with_capacity(256)),
        At::Fd(fd) => rfs::readlinkat(fd, "", Vec::with_capacity(256)),
    }?;
    Ok(OsString::from_vec(target.into_bytes()))
}

/// fchmodat2(2) in Linux 6.6; its number is the same on every architecture.
const SYS_FCHMODAT2: libc::c_long = 452;

/// Permission bits of anything but a symlink.
///
/// # Errors
/// As chmod(2); `EOPNOTSUPP` for a symlink.
pub fn chmod(at: At<'_>, mode: u32) -> Result<()> {
    hit("chmod")?;
    let bits = Mode::from_bits_retain(mode & 0o7777);
    let (dir, name) = match at {
        At::Fd(fd) => return rfs::chmod(proc_path(fd), bits),
        At::Name(dir, name) => (dir, name),
    };
    let c = c_name(name)?;
    // SAFETY: `c` is a NUL-terminated string that outlives the call.
    let ret = check(unsafe {
        libc::syscall(
            SYS_FCHMODAT2,
            dir.as_raw_fd(),
            c.as_ptr(),
            mode & 0o7777,
            libc::AT_SYMLINK_NOFOLLOW,
        )
    });
    match ret {
        Err(Errno::NOSYS) => {
            let fd = open_path(dir, name)?;
            rfs::chmod(proc_path(fd.as_fd()), bits)
        }
        ret => ret.map(drop),
    }
}

/// Owner and group; `None` leaves one as it is.
///
/// # Errors
/// As fchownat(2).
pub fn chown(at: At<'_>, uid: Option<u32>, gid: Option<u32>) -> Result<()> {
    hit("chown")?;
    let (uid, gid) = (uid.map(rfs::Uid::from_raw), gid.map(rfs::Gid::from_raw));
    match at {
        At::Name(dir, name) => rfs::chownat(dir, name, uid, gid, AtFlags::SYMLINK_NOFOLLOW),
        At::Fd(fd) => rfs::chownat(fd, "", uid, gid, AtFlags::EMPTY_PATH),
    }
}

/// The moment, by the clock that file systems use.
pub fn now() -> Time {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::RealtimeCoarse);
    Time {
        sec: now.tv_sec,
        nsec: u32::try_from(now.tv_nsec).unwrap_or_default(),
    }
}

/// One of the two times of utimensat(2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SetTime {
    /// Leave it.
    Keep,
    /// The moment of the call.
    Now,
    /// This.
    At(Time),
}

/// Access and modification time.
///
/// # Errors
/// As utimensat(2).
pub fn utimens(at: At<'_>, atime: SetTime, mtime: SetTime) -> Result<()> {
    hit("utimensat")?;
    let spec = |t: SetTime| match t {
        SetTime::Keep => rfs::Timespec {
            tv_sec: 0,
            tv_nsec: rfs::UTIME_OMIT as _,
        },
        SetTime::Now => rfs::Timespec {
            tv_sec: 0,
            tv_nsec: rfs::UTIME_NOW as _,
        },
        SetTime::At(t) => rfs::Timespec {
            tv_sec: t.sec,
            tv_nsec: t.nsec as _,
        },
    };
    let times = rfs::Timestamps {
        last_access: spec(atime),
        last_modification: spec(mtime),
    };
    match at {
        At::Name(dir, name) => rfs::utimensat(dir, name, &times, AtFlags::SYMLINK_NOFOLLOW),
        At::Fd(fd) => rfs::utimensat(rfs::CWD, proc_path(fd), &times, AtFlags::empty()),
    }
}

/// ftruncate(2).
///
/// # Errors
/// As ftruncate(2).
pub fn truncate(fd: impl AsFd, size: u64) -> Result<()> {
    hit("ftruncate")?;
    rfs::ftruncate(fd, size)
}

/// fsync(2), or fdatasync(2) with `data_only`.
///
/// # Errors
/// As fsync(2).
pub fn sync(fd: impl AsFd, data_only: bool) -> Result<()> {
    hit(if data_only { "fdatasync" } else { "fsync" })?;
    if data_only {
        rfs::fdatasync(fd)
    } else {
        rfs::fsync(fd)
    }
}

/// fsync of a directory that is open as `O_PATH`.
///
/// # Errors
/// As open(2) and fsync(2).
pub fn sync_dir(dir: impl AsFd) -> Result<()> {
    let fd = open(dir, OsStr::new("."), libc::O_RDONLY | libc::O_DIRECTORY, 0)?;
    sync(fd, false)
}

/// pread(2) until `buf` is full or the file ends; the number of bytes.
///
/// # Errors
/// As pread(2).
pub fn read_at(fd: impl AsFd, buf: &mut [u8], offset: u64) -> Result<usize> {
    hit_read("pread")?;
    let mut done = 0;
    while let Some(rest) = buf.get_mut(done..).filter(|r| !r.is_empty()) {
        match rustix::io::pread(&fd, rest, offset + done as u64) {
            Ok(0) => break,
            Ok(n) => done += n,
            Err(Errno::INTR) => {}
            Err(e) if done == 0 => return Err(e),
            Err(_) => break,
        }
    }
    Ok(done)
}

/// pwrite(2) of all of `buf`; fewer bytes only if an error came after some.
///
/// # Errors
/// As pwrite(2).
pub fn write_at(fd: impl AsFd, buf: &[u8], offset: u64) -> Result<usize> {
    hit("pwrite")?;
    let mut done = 0;
    while let Some(rest) = buf.get(done..).filter(|r| !r.is_empty()) {
        match rustix::io::pwrite(&fd, rest, offset + done as u64) {
            Ok(n) => done += n,
            Err(Errno::INTR) => {}
            Err(e) if done == 0 => return Err(e),
            Err(_) => break,
        }
    }
    Ok(done)
}

/// fallocate(2) with raw mode bits.
///
/// # Errors
/// As fallocate(2).
pub fn fallocate(fd: impl AsFd, mode: i32, offset: u64, len: u64) -> Result<()> {
    hit("fallocate")?;
    let mode = rfs::FallocateFlags::from_bits_retain(mode.unsigned_abs());
    rfs::fallocate(fd, mode, offset, len)
}

/// lseek(2) with `SEEK_DATA` or `SEEK_HOLE`.
///
/// # Errors
/// As lseek(2); `ENXIO` past the end, `EINVAL` for other values of `whence`.
pub fn seek_sparse(fd: impl AsFd, offset: u64, whence: i32) -> Result<u64> {
    match whence {
        libc::SEEK_DATA => rfs::seek(fd, rfs::SeekFrom::Data(offset)),
        libc::SEEK_HOLE => rfs::seek(fd, rfs::SeekFrom::Hole(offset)),
        _ => Err(Errno::INVAL),
    }
}

/// What statfs(2) says.
#[derive(Clone, Copy, Debug, Default)]
pub struct StatFs {
    /// Magic number of the file system's type.
    pub magic: u64,
    /// Blocks in all.
    pub blocks: u64,
    /// Free blocks.
    pub free: u64,
    /// Blocks free for users.
    pub available: u64,
    /// Inodes in all.
    pub files: u64,
    /// Free inodes.
    pub files_free: u64,
    /// Block size in bytes.
    pub block_size: u32,
    /// Fragment size in bytes.
    pub fragment_size: u32,
    /// Longest name.
    pub name_max: u32,
}

/// statfs(2) of what is open.
///
/// # Errors
/// As fstatfs(2).
#[allow(
    clippy::unnecessary_cast,
    reason = "field types differ between targets"
)]
pub fn statfs(fd: impl AsFd) -> Result<StatFs> {
    let s = rfs::fstatfs(fd)?;
    Ok(StatFs {
        magic: s.f_type as u64,
        blocks: s.f_blocks as u64,
        free: s.f_bfree as u64,
        available: s.f_bavail as u64,
        files: s.f_files as u64,
        files_free: s.f_ffree as u64,
        block_size: s.f_bsize as u32,
        fragment_size: s.f_frsize as u32,
        name_max: s.f_namelen as u32,
    })
}
