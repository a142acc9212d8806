//! System calls that neither `std` nor rustix has a safe form of: the only
//! `unsafe` of the tests.
#![allow(unsafe_code)]

use rustix::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};
use rustix::io::Errno;
use std::ffi::CString;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::Path;

/// A shared mapping of a file. Its bytes are read and written through a memfd,
/// so that a mapping beyond the end of its file gives `EFAULT`, not SIGBUS.
pub struct Mapping {
    addr: *mut libc::c_void,
    len: usize,
    aside: OwnedFd,
}

// SAFETY: the mapping belongs to the process, and is only touched by system calls.
unsafe impl Send for Mapping {}

impl Mapping {
    /// Maps the first `len` bytes of `fd`, shared.
    pub fn new(fd: impl AsFd, len: usize, write: bool) -> Result<Self, Errno> {
        let prot = libc::PROT_READ | if write { libc::PROT_WRITE } else { 0 };
        let aside = rustix::fs::memfd_create("aside", rustix::fs::MemfdFlags::CLOEXEC)?;
        // SAFETY: a new mapping at an address the kernel chooses touches no memory of ours.
        let addr = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                len,
                prot,
                libc::MAP_SHARED,
                fd.as_fd().as_raw_fd(),
                0,
            )
        };
        if addr == libc::MAP_FAILED {
            return Err(last());
        }
        Ok(Mapping { addr, len, aside })
    }

    /// The mapped bytes `off..off+len`.
    pub fn read(&self, off: usize, len: usize) -> Result<Vec<u8>, Errno> {
        assert!(off + len <= self.len);
        // SAFETY: the range lies in the mapping (asserted); the kernel reads it and
        // answers EFAULT where there is no page.
        let n = unsafe {
            libc::pwrite(
                self.aside.as_raw_fd(),
                self.addr.cast::<u8>().add(off).cast(),
                len,
                0,
            )
        };
        if n < 0 {
            return Err(last());
        }
        let mut out = vec![0; n as usize];
        let n = rustix::io::pread(&self.aside, &mut out, 0)?;
        out.truncate(n);
        Ok(out)
    }

    /// Stores `data` at `off` and waits until it is written back.
    pub fn write(&self, off: usize, data: &[u8]) -> Result<usize, Errno> {
        assert!(off + data.len() <= self.len);
        rustix::io::pwrite(&self.aside, data, 0)?;
        // SAFETY: the range lies in the mapping (asserted), which no reference points into.
        let n = unsafe {
            libc::pread(
                self.aside.as_raw_fd(),
                self.addr.cast::<u8>().add(off).cast(),
                data.len(),
                0,
            )
        };
        if n < 0 {
            return Err(last());
        }
        // SAFETY: address and length are those of the mapping.
        if unsafe { libc::msync(self.addr, self.len, libc::MS_SYNC) } != 0 {
            return Err(last());
        }
        Ok(n as usize)
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: address and length are those of the mapping, which ends here.
        unsafe { libc::munmap(self.addr, self.len) };
    }
}

fn last() -> Errno {
    Errno::from_raw_os_error(
        std::io::Error::last_os_error()
            .raw_os_error()
            .unwrap_or(libc::EIO),
    )
}

/// Runs `f` in a thread whose user and group are `uid` and `gid`, with no
/// supplementary groups and so no capabilities.
pub fn as_user<T: Send>(uid: u32, gid: u32, f: impl FnOnce() -> T + Send) -> T {
    std::thread::scope(|s| {
        s.spawn(|| {
            // SAFETY: the raw calls change the credentials of this thread only, which ends after `f`.
            unsafe {
                assert_eq!(libc::syscall(libc::SYS_setgroups, 0, 0), 0);
                assert_eq!(libc::syscall(libc::SYS_setresgid, gid, gid, gid), 0);
                assert_eq!(libc::syscall(libc::SYS_setresuid, uid, uid, uid), 0);
            }
            f()
        })
        .join()
        .unwrap_or_else(|e| std::panic::resume_unwind(e))
    })
}

/// Runs `f` in a thread with a umask of its own.
pub fn with_umask<T: Send>(mask: u32, f: impl FnOnce() -> T + Send) -> T {
    std::thread::scope(|s| {
        s.spawn(|| {
            // SAFETY: after unshare(CLONE_FS) the umask is this thread's own.
            unsafe {
                assert_eq!(libc::unshare(libc::CLONE_FS), 0);
                libc::umask(mask as libc::mode_t);
            }
            f()
        })
        .join()
        .unwrap_or_else(|e| std::panic::resume_unwind(e))
    })
}

/// A file handle, as name_to_handle_at gives it.
#[repr(C, align(8))]
#[derive(Clone)]
pub struct Handle {
    bytes: [u8; 8 + 128],
}

/// The handle of `path` (not followed).
pub fn handle_of(path: &Path) -> Result<Handle, Errno> {
    let mut h = Handle { bytes: [0; 136] };
    h.bytes[..4].copy_from_slice(&128u32.to_ne_bytes());
    let c = CString::new(path.as_os_str().as_bytes()).unwrap();
    let mut mount = 0;
    // SAFETY: `bytes` is aligned, begins with the room that follows its 8-byte header, and has it.
    let r = unsafe {
        libc::name_to_handle_at(
            libc::AT_FDCWD,
            c.as_ptr(),
            h.bytes.as_mut_ptr().cast(),
            &mut mount,
            0,
        )
    };
    if r == 0 { Ok(h) } else { Err(last()) }
}

/// Opens a handle on the filesystem of `mount`.
pub fn open_handle(mount: impl AsFd, handle: &Handle, flags: i32) -> Result<OwnedFd, Errno> {
    let mut h = handle.clone();
    // SAFETY: `bytes` is a handle as the kernel gave it; the result is a new descriptor or -1.
    unsafe {
        let fd = libc::open_by_handle_at(
            mount.as_fd().as_raw_fd(),
            h.bytes.as_mut_ptr().cast(),
            flags,
        );
        if fd < 0 {
            return Err(last());
        }
        Ok(OwnedFd::from_raw_fd(fd))
    }
}

/// One directory entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Its name.
    pub name: std::ffi::OsString,
    /// `d_ino`.
    pub ino: u64,
    /// `d_type` as a letter: `-dlcbps`, `?` for unknown.
    pub kind: char,
    /// `d_off`.
    pub off: i64,
}

/// The entries of one getdents64 call with a buffer of `room` bytes; empty at the end.
pub fn getdents(fd: impl AsFd, room: usize) -> Result<Vec<Entry>, Errno> {
    let mut buf = vec![0u64; room / 8];
    loop {
        // SAFETY: the buffer is writable and as long as we say.
        let n = unsafe {
            libc::syscall(
                libc::SYS_getdents64,
                fd.as_fd().as_raw_fd(),
                buf.as_mut_ptr(),
                room / 8 * 8,
            )
        };
        if n < 0 {
            return Err(last());
        }
        // SAFETY: the kernel filled `n` bytes, at most the length of `buf`.
        let bytes = unsafe { std::slice::from_raw_parts(buf.as_ptr().cast::<u8>(), n as usize) };
        let entries = parse_entries(bytes);
        // A buffer with nothing but the dots is not the end.
        if n == 0 || !entries.is_empty() {
            return Ok(entries);
        }
    }
}

fn parse_entries(mut rest: &[u8]) -> Vec<Entry> {
    let mut out = Vec::new();
    while rest.len() > 19 {
        let ino = u64::from_ne_bytes(rest[..8].try_into().unwrap());
        let off = i64::from_ne_bytes(rest[8..16].try_into().unwrap());
        let reclen = u16::from_ne_bytes(rest[16..18].try_into().unwrap()) as usize;
        let kind = match rest[18] {
            libc::DT_REG => '-',
            libc::DT_DIR => 'd',
            libc::DT_LNK => 'l',
            libc::DT_CHR => 'c',
            libc::DT_BLK => 'b',
            libc::DT_FIFO => 'p',
            libc::DT_SOCK => 's',
            _ => '?',
        };
        let name = rest[19..reclen].split(|&b| b == 0).next().unwrap();
        if name != b"." && name != b".." {
            let name = std::ffi::OsString::from_vec(name.to_vec());
            out.push(Entry {
                name,
                ino,
                kind,
                off,
            });
        }
        rest = &rest[reclen..];
    }
    out
}

/// All entries of the directory, but for the dots.
pub fn list(path: &Path) -> Result<Vec<Entry>, Errno> {
    use rustix::fs::{Mode, OFlags};
    let fd = rustix::fs::open(
        path,
        OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::NOATIME | OFlags::CLOEXEC,
        Mode::empty(),
    )?;
    let mut out = Vec::new();
    loop {
        let part = getdents(&fd, 32 * 1024)?;
        if part.is_empty() {
            return Ok(out);
        }
        out.extend(part);
    }
}

/// The xattr names of `path` (not followed), sorted.
pub fn xattr_names(path: &Path) -> Result<Vec<Vec<u8>>, Errno> {
    let mut buf = [0u8; 2048];
    let n = match rustix::fs::llistxattr(path, &mut buf) {
        Err(Errno::RANGE) => {
            let mut big = vec![0u8; 1 << 16];
            let n = rustix::fs::llistxattr(path, &mut big)?;
            return Ok(split_names(&big[..n]));
        }
        r => r?,
    };
    Ok(split_names(&buf[..n]))
}

/// The xattr names of an open file, sorted.
pub fn fxattr_names(fd: impl AsFd) -> Result<Vec<Vec<u8>>, Errno> {
    let mut big = vec![0u8; 1 << 16];
    let n = rustix::fs::flistxattr(fd, &mut big)?;
    Ok(split_names(&big[..n]))
}

fn split_names(bytes: &[u8]) -> Vec<Vec<u8>> {
    let mut names: Vec<Vec<u8>> = bytes
        .split(|&b| b == 0)
        .filter(|n| !n.is_empty())
        .map(<[u8]>::to_vec)
        .collect();
    names.sort();
    names
}

/// The value of an xattr of `path` (not followed).
pub fn xattr(path: &Path, name: &[u8]) -> Result<Vec<u8>, Errno> {
    let mut buf = [0u8; 2048];
    match rustix::fs::lgetxattr(path, name, &mut buf) {
        Err(Errno::RANGE) => {
            let mut big = vec![0u8; 1 << 16];
            let n = rustix::fs::lgetxattr(path, name, &mut big)?;
            big.truncate(n);
            Ok(big)
        }
        r => r.map(|n| buf[..n].to_vec()),
    }
}

/// Flags of [`shut_down`]: what is in the journal reaches the disk, or not.
pub const LOG_FLUSH: u32 = 1;
pub const NO_LOG_FLUSH: u32 = 2;

/// FS_IOC_SHUTDOWN: nothing that is not on the disk yet gets there, and every
/// call fails until the filesystem is mounted again.
pub fn shut_down(fd: impl AsFd, flags: u32) -> Result<(), Errno> {
    const FS_IOC_SHUTDOWN: libc::c_ulong = 0x8004_587d;
    // SAFETY: the ioctl reads one u32 that lives over the call.
    let done = unsafe {
        libc::ioctl(
            fd.as_fd().as_raw_fd(),
            FS_IOC_SHUTDOWN as _,
            &raw const flags,
        )
    };
    if done == 0 { Ok(()) } else { Err(last()) }
}

/// What ioctl(2) says of `request` with `argument`, which it may change.
pub fn ioctl(fd: impl AsFd, request: u32, argument: &mut [u8]) -> Result<(), Errno> {
    assert!(argument.len() >= (request >> 16 & 0x3fff) as usize);
    // SAFETY: the kernel uses as many bytes of the argument as the request's
    // number says, which are there (asserted).
    let done = unsafe {
        libc::ioctl(
            fd.as_fd().as_raw_fd(),
            libc::c_ulong::from(request) as _,
            argument.as_mut_ptr(),
        )
    };
    if done < 0 { Err(last()) } else { Ok(()) }
}

/// What swapon(2) says of a file.
pub fn swap_on(path: &Path) -> Result<(), Errno> {
    let c = CString::new(path.as_os_str().as_bytes()).unwrap();
    // SAFETY: the path is NUL-terminated and outlives the call.
    let done = unsafe { libc::swapon(c.as_ptr(), 0) };
    if done == 0 { Ok(()) } else { Err(last()) }
}

/// A lock on the bytes `start..start+len` by fcntl(2): `F_SETLK`, `F_SETLKW`,
/// `F_OFD_SETLK` and their like, with `F_RDLCK`, `F_WRLCK` or `F_UNLCK`.
pub fn lock(
    fd: impl AsFd,
    how: libc::c_int,
    kind: libc::c_int,
    start: i64,
    len: i64,
) -> Result<(), Errno> {
    let lock = libc::flock {
        l_type: kind as libc::c_short,
        l_whence: libc::SEEK_SET as libc::c_short,
        l_start: start,
        l_len: len,
        l_pid: 0,
    };
    // SAFETY: the call reads one struct flock, which lives over it.
    let done = unsafe { libc::fcntl(fd.as_fd().as_raw_fd(), how, &raw const lock) };
    if done < 0 { Err(last()) } else { Ok(()) }
}

/// The loop devices on a file, as losetup(8) lists them.
pub fn loop_devices_of(image: &Path) -> Vec<u8> {
    let mut list = std::process::Command::new("losetup");
    list.arg("-j").arg(image).output().unwrap().stdout
}

/// Does this process run in another user namespace than the first.
pub fn in_user_namespace() -> bool {
    let map = std::fs::read_to_string("/proc/self/uid_map").unwrap();
    map.split_whitespace().ne(["0", "0", "4294967295"])
}

/// Somebody in a new user namespace, to be killed, in which `count` ids from
/// `inside` on are those from `outside` on.
pub fn user_namespace(inside: u32, outside: u32, count: u32) -> std::process::Child {
    let holder = std::process::Command::new("unshare")
        .args(["--user", "sleep", "600"])
        .spawn()
        .unwrap();
    let there = format!("/proc/{}", holder.id());
    let own = std::fs::read_link("/proc/self/ns/user").unwrap();
    while std::fs::read_link(format!("{there}/ns/user")).is_ok_and(|ns| ns == own) {
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    let map = format!("{inside} {outside} {count}\n");
    for file in ["uid_map", "gid_map"] {
        std::fs::write(format!("{there}/{file}"), &map).unwrap();
    }
    holder
}

/// A detached mount of what is mounted at `path`, in which `count` ids of the
/// file system from `inside` on are seen as those from `outside` on.
pub fn idmapped_clone(
    path: &Path,
    inside: u32,
    outside: u32,
    count: u32,
) -> Result<OwnedFd, Errno> {
    use rustix::mount::OpenTreeFlags;
    let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
    let clone = rustix::mount::open_tree(rustix::fs::CWD, path, flags)?;
    // A user namespace says what is mapped; somebody has to be in it meanwhile.
    let mut holder = user_namespace(inside, outside, count);
    let namespace = std::fs::File::open(format!("/proc/{}/ns/user", holder.id())).unwrap();
    holder.kill().unwrap();
    holder.wait().unwrap();
    let attr = libc::mount_attr {
        attr_set: libc::MOUNT_ATTR_IDMAP,
        attr_clr: 0,
        propagation: 0,
        userns_fd: namespace.as_raw_fd() as u64,
    };
    // SAFETY: an empty path with AT_EMPTY_PATH names the descriptor; `attr` lives and its size is told.
    let r = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            clone.as_raw_fd(),
            c"".as_ptr(),
            libc::AT_EMPTY_PATH,
            &attr,
            size_of_val(&attr),
        )
    };
    if r == 0 { Ok(clone) } else { Err(last()) }
}
