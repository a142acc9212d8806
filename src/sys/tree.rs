//! Trees that strangers describe: paths resolved beneath a root, nodes of all
//! types, syncing and locking the store, unmounting, signals for a child.

use super::{Errno, Result, fail::hit};
use rustix::fs::{self as rfs, Mode, OFlags, ResolveFlags};
use std::ffi::OsStr;
use std::fs::File;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

/// How symlinks on the way are treated by [`open_dir_beneath`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Links {
    /// Followed as in a chroot: never out of the root.
    InRoot,
    /// `ELOOP`.
    Refuse,
}

impl Links {
    fn flags(self) -> ResolveFlags {
        match self {
            Links::InRoot => ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS,
            Links::Refuse => ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS,
        }
    }
}

/// The directory at `path` under `root` as an `O_PATH` descriptor; whatever
/// the tree holds, the result lies in the tree. An empty path is the root.
///
/// # Errors
/// As openat2(2); `ENOTDIR` for anything but a directory.
pub fn open_dir_beneath(root: impl AsFd, path: &OsStr, links: Links) -> Result<OwnedFd> {
    let path = if path.is_empty() {
        OsStr::new(".")
    } else {
        path
    };
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    again(|| rfs::openat2(&root, path, flags, Mode::empty(), links.flags()))
}

/// The regular file at `path` under `root`, for reading. Symlinks lead
/// nowhere outside; a FIFO or device is refused without waiting for it.
///
/// # Errors
/// As openat2(2); `EINVAL` for anything but a regular file.
pub fn open_file_beneath(root: impl AsFd, path: &OsStr, links: Links) -> Result<File> {
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    let fd = again(|| rfs::openat2(&root, path, flags, Mode::empty(), links.flags()))?;
    if !super::fs::stat_fd(&fd)?.is_file() {
        return Err(Errno::INVAL);
    }
    Ok(File::from(fd))
}

/// openat2(2) says `EAGAIN` when a rename elsewhere raced with the walk.
fn again(mut open: impl FnMut() -> Result<OwnedFd>) -> Result<OwnedFd> {
    let mut last = Errno::AGAIN;
    for _ in 0..32 {
        match open() {
            Err(e @ (Errno::AGAIN | Errno::INTR)) => last = e,
            result => return result,
        }
    }
    Err(last)
}

/// A new file `name`, which must not exist, for writing.
///
/// # Errors
/// As openat(2) with `O_CREAT|O_EXCL|O_NOFOLLOW`.
pub fn create_file(dir: impl AsFd, name: &OsStr, mode: u32) -> Result<File> {
    let flags = libc::O_WRONLY | libc::O_CREAT | libc::O_EXCL;
    super::fs::open(dir, name, flags, mode).map(File::from)
}

/// What an inode is, as far as copying it goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A directory.
    Dir,
    /// A regular file.
    File,
    /// A symbolic link.
    Symlink,
    /// Made by mknod(2) whole.
    Other,
}

/// Which of these it is.
pub fn kind_of(stat: &super::fs::Stat) -> Kind {
    match stat.kind() {
        libc::S_IFDIR => Kind::Dir,
        libc::S_IFREG => Kind::File,
        libc::S_IFLNK => Kind::Symlink,
        _ => Kind::Other,
    }
}

/// A node that is neither a file, a directory nor a symlink.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Node {
    /// A named pipe.
    Fifo,
    /// A character device, major and minor.
    Char(u32, u32),
    /// A block device, major and minor.
    Block(u32, u32),
}

/// mknod(2); 0:0 as a character device is overlayfs's whiteout.
///
/// # Errors
/// As mknodat(2).
pub fn make_node(dir: impl AsFd, name: &OsStr, node: Node, mode: u32) -> Result<()> {
    let (kind, rdev) = match node {
        Node::Fifo => (libc::S_IFIFO, 0),
        Node::Char(major, minor) => (libc::S_IFCHR, rfs::makedev(major, minor)),
        Node::Block(major, minor) => (libc::S_IFBLK, rfs::makedev(major, minor)),
    };
    super::fs::mknod(dir, name, kind | (mode & 0o7777), rdev)
}

/// Major and minor number of a device, as [`Node`] has them.
pub fn device_numbers(rdev: u64) -> (u32, u32) {
    (rfs::major(rdev), rfs::minor(rdev))
}

/// Access and modification time of an open file.
///
/// # Errors
/// As futimens(3).
pub fn set_times(fd: impl AsFd, time: super::fs::Time) -> Result<()> {
    hit("futimens")?;
    let time = rfs::Timespec {
        tv_sec: time.sec,
        tv_nsec: time.nsec.into(),
    };
    rfs::futimens(
        fd,
        &rfs::Timestamps {
            last_access: time,
            last_modification: time,
        },
    )
}

/// Write all dirty data and metadata of the file system that holds `fd`.
///
/// # Errors
/// As syncfs(2), write errors since the descriptor was opened included.
pub fn sync_filesystem(fd: impl AsFd) -> Result<()> {
    hit("syncfs")?;
    rfs::syncfs(fd)
}

/// rename(2) of names in the store, which are ours.
///
/// # Errors
/// As rename(2).
pub fn rename(from: &Path, to: &Path) -> Result<()> {
    hit("rename")?;
    rfs::rename(from, to)
}

/// Bytes that may still be written to the file system of `fd`.
///
/// # Errors
/// As fstatfs(2).
pub fn free_bytes(fd: impl AsFd) -> Result<u64> {
    let s = super::fs::statfs(fd)?;
    Ok(s.available.saturating_mul(s.fragment_size.into()))
}

/// `FS_TOPDIR_FL` of linux/fs.h.
const TOPDIR: u32 = 0x0002_0000;

/// Let the file system place the subdirectories of `dir` far from each other.
///
/// ext4 puts what is made in a directory near it, and for minutes after files
/// were removed there it looks at every one of their inodes before it gives a
/// free one away: a tree of some thousand files then takes ten times as long.
/// Other file systems do not know the flag.
///
/// # Errors
/// As ioctl(2).
pub fn spread_subdirs(dir: impl AsFd) -> Result<()> {
    let flags = super::flags::get_flags(&dir)?;
    super::flags::set_flags(&dir, flags | TOPDIR)
}

/// Fill `buf` with random bytes.
///
/// # Errors
/// As getrandom(2).
pub fn random(buf: &mut [u8]) -> Result<()> {
    let mut done = 0;
    while let Some(rest) = buf.get_mut(done..).filter(|r| !r.is_empty()) {
        done += rustix::rand::getrandom(rest, rustix::rand::GetRandomFlags::empty())?;
    }
    Ok(())
}

/// umount2(2) of `path`, which is not followed if it is a symlink.
///
/// # Errors
/// As umount2(2).
pub fn unmount(path: &Path) -> Result<()> {
    rustix::mount::unmount(path, rustix::mount::UnmountFlags::NOFOLLOW)
}

/// Those that [`Forward`] holds.
fn forwarded() -> [i32; 6] {
    [
        libc::SIGINT,
        libc::SIGTERM,
        libc::SIGHUP,
        libc::SIGQUIT,
        libc::SIGUSR1,
        libc::SIGUSR2,
    ]
}

/// While it lives, signals that ask this process to end are held, to be taken
/// when it suits.
///
/// The mask is the calling thread's; make it before other threads start.
#[derive(Debug)]
pub struct Forward {
    set: libc::sigset_t,
    old: libc::sigset_t,
}

impl Forward {
    /// Hold the signals from here on.
    pub fn new() -> Forward {
        // SAFETY: sigset_t is plain data, for which zero bytes are a value;
        // the calls below only write to sets that live here.
        unsafe {
            let mut set: libc::sigset_t = std::mem::zeroed();
            let mut old: libc::sigset_t = std::mem::zeroed();
            libc::sigemptyset(&raw mut set);
            for signal in forwarded() {
                libc::sigaddset(&raw mut set, signal);
            }
            // The end of a child ends the wait.
            libc::sigaddset(&raw mut set, libc::SIGCHLD);
            libc::pthread_sigmask(libc::SIG_BLOCK, &raw const set, &raw mut old);
            Forward { set, old }
        }
    }

    /// The signal that has come within `wait`, and its `si_code`; none for the
    /// end of a child.
    pub fn taken(&self, wait: std::time::Duration) -> Option<(i32, i32)> {
        let timeout = libc::timespec {
            tv_sec: wait.as_secs().try_into().unwrap_or(1),
            tv_nsec: wait.subsec_nanos().into(),
        };
        // SAFETY: siginfo_t is plain data, filled by the call; set and timeout
        // are borrowed for the call.
        let (signal, code) = unsafe {
            let mut info: libc::siginfo_t = std::mem::zeroed();
            let signal = libc::sigtimedwait(&raw const self.set, &raw mut info, &raw const timeout);
            (signal, info.si_code)
        };
        (signal > 0 && signal != libc::SIGCHLD).then_some((signal, code))
    }
}

impl Default for Forward {
    fn default() -> Self {
        Forward::new()
    }
}

impl Drop for Forward {
    fn drop(&mut self) {
        // SAFETY: `old` is the mask that pthread_sigmask filled in `new`.
        unsafe {
            libc::pthread_sigmask(libc::SIG_SETMASK, &raw const self.old, std::ptr::null_mut());
        }
    }
}

/// Send a signal by number.
///
/// # Errors
/// As kill(2); `ESRCH` also for numbers that name no single process.
pub fn kill(pid: u32, signal: i32) -> Result<()> {
    let pid = i32::try_from(pid).map_err(|_| Errno::SRCH)?;
    if pid <= 0 {
        return Err(Errno::SRCH);
    }
    // SAFETY: kill(2) takes two numbers and touches no memory of ours.
    super::check(unsafe { libc::kill(pid, signal) }.into()).map(drop)
}

/// `SIGKILL`.
pub const SIGKILL: i32 = libc::SIGKILL;
