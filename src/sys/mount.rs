//! Attaching and detaching file systems.

use super::{Errno, Result, check};
use rustix::fs::{AtFlags, Mode, OFlags};
use rustix::mount::{MountPropagationFlags, OpenTreeFlags, UnmountFlags};
use std::ffi::{CString, OsStr, OsString};
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::Path;
use std::process::{Command, Stdio};

/// `MS_*`: what every file system understands.
pub use rustix::mount::MountFlags as Flags;

/// The program that mounts for those who may not.
const HELPER: &str = "fusermount3";

/// A FUSE mount to be made.
#[derive(Clone, Copy, Debug)]
pub struct Request<'a> {
    /// First column of /proc/mounts.
    pub source: &'a OsStr,
    /// The type is shown as `fuse.` and this.
    pub subtype: &'a OsStr,
    /// Generic mount flags.
    pub flags: Flags,
    /// Not only the mounter may use it.
    pub allow_other: bool,
    /// SELinux: option name and label.
    pub labels: &'a [(&'static str, OsString)],
}

/// Opens /dev/fuse: a connection that waits for its mount.
pub fn open_device() -> Result<OwnedFd> {
    rustix::fs::open(c"/dev/fuse", OFlags::RDWR | OFlags::CLOEXEC, Mode::empty())
}

/// Mounts the connection `dev` over the open directory `target`.
pub fn attach(dev: impl AsFd, target: impl AsFd, request: &Request<'_>) -> Result<()> {
    let (uid, gid) = super::process::real_ids();
    let mut data = format!(
        "fd={},rootmode=40000,user_id={uid},group_id={gid},default_permissions",
        dev.as_fd().as_raw_fd()
    )
    .into_bytes();
    if request.allow_other {
        data.extend_from_slice(b",allow_other");
    }
    for (name, label) in request.labels {
        data.extend_from_slice(format!(",{name}=\"").as_bytes());
        data.extend_from_slice(label.as_bytes());
        data.push(b'"');
    }
    let data = CString::new(data).map_err(|_| Errno::INVAL)?;
    let mut fstype = OsString::from("fuse.");
    fstype.push(request.subtype);
    // The open directory itself is the target; its path may lead elsewhere
    // by now.
    let link = format!("/proc/self/fd/{}", target.as_fd().as_raw_fd());
    let (source, flags) = (request.source, request.flags);
    rustix::mount::mount(source, link.as_str(), &*fstype, flags, &*data)
}

/// Asks fusermount3 to mount over `target`; returns the connection. On failure
/// the error carries what the program said.
pub fn attach_by_helper(target: &Path, request: &Request<'_>) -> io::Result<OwnedFd> {
    use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};
    let kind = SocketType::STREAM;
    let (ours, theirs) = socketpair(AddressFamily::UNIX, kind, SocketFlags::CLOEXEC, None)?;
    let mut options = b"default_permissions,fsname=".to_vec();
    escape_commas(request.source, &mut options);
    options.extend_from_slice(b",subtype=");
    escape_commas(request.subtype, &mut options);
    if request.allow_other {
        options.extend_from_slice(b",allow_other");
    }
    for (flag, word) in WORDS {
        if request.flags.contains(*flag) {
            options.push(b',');
            options.extend_from_slice(word.as_bytes());
        }
    }
    // The socket goes over as standard input, the one descriptor besides
    // output and error that a child gets without further ado.
    let said = Command::new(HELPER)
        .arg("-o")
        .arg(OsString::from_vec(options))
        .arg("--")
        .arg(target)
        .env("_FUSE_COMMFD", "0")
        .stdin(Stdio::from(theirs))
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .output()
        .map_err(|error| io::Error::new(error.kind(), format!("{HELPER}: {error}")))?;
    if !said.status.success() {
        let text = String::from_utf8_lossy(&said.stderr);
        let line = text.lines().next().unwrap_or("failed without a word");
        return Err(io::Error::other(line.to_owned()));
    }
    receive(&ours)
}

/// How fusermount3 calls the flags that it takes.
const WORDS: &[(Flags, &str)] = &[
    (Flags::RDONLY, "ro"),
    (Flags::NOSUID, "nosuid"),
    (Flags::NODEV, "nodev"),
    (Flags::NOEXEC, "noexec"),
    (Flags::NOATIME, "noatime"),
    (Flags::NODIRATIME, "nodiratime"),
    (Flags::SYNCHRONOUS, "sync"),
    (Flags::DIRSYNC, "dirsync"),
];

fn escape_commas(text: &OsStr, into: &mut Vec<u8>) {
    for &byte in text.as_bytes() {
        if matches!(byte, b',' | b'\\') {
            into.push(b'\\');
        }
        into.push(byte);
    }
}

/// The descriptor that comes as SCM_RIGHTS with one byte.
fn receive(socket: impl AsFd) -> io::Result<OwnedFd> {
    use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg};
    let mut space = [std::mem::MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let mut byte = [0u8; 1];
    recvmsg(
        socket,
        &mut [io::IoSliceMut::new(&mut byte)],
        &mut control,
        RecvFlags::CMSG_CLOEXEC,
    )?;
    control
        .drain()
        .find_map(|message| match message {
            RecvAncillaryMessage::ScmRights(mut fds) => fds.next(),
            _ => None,
        })
        .ok_or_else(|| io::Error::other(format!("{HELPER} sent no descriptor")))
}

/// The id of the mount whose root is at `path`, as in /proc/self/mountinfo.
/// The file server behind it is not asked.
pub fn id_at(path: &Path) -> Result<u64> {
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let fd = rustix::fs::open(path, flags, Mode::empty())?;
    let text = std::fs::read_to_string(format!("/proc/self/fdinfo/{}", fd.as_raw_fd()))
        .map_err(|error| Errno::from_io_error(&error).unwrap_or(Errno::IO))?;
    text.lines()
        .find_map(|line| line.strip_prefix("mnt_id:")?.trim().parse().ok())
        .ok_or(Errno::NOSYS)
}

/// Takes the mount away from the tree at once; who uses it still may go on.
/// Those without the right to do so ask fusermount3.
pub fn detach(path: &Path) -> io::Result<()> {
    match rustix::mount::unmount(path, UnmountFlags::DETACH | UnmountFlags::NOFOLLOW) {
        Ok(()) => Ok(()),
        Err(Errno::PERM) => {
            let mut helper = Command::new(HELPER);
            helper.args(["-u", "-z", "-q", "--"]).arg(path);
            match helper.stdin(Stdio::null()).status()?.success() {
                true => Ok(()),
                false => Err(io::Error::other(format!("{HELPER} -u failed"))),
            }
        }
        Err(error) => Err(error.into()),
    }
}

/// Keeps mount events below `path` from other mount namespaces and back.
pub fn make_private(path: &Path) -> Result<()> {
    rustix::mount::mount_change(path, MountPropagationFlags::PRIVATE)
}

/// The same directory through a mount of its own that is in no namespace's
/// tree, that shows no mounts below it, and through which nothing can be
/// written, not even an access time. Needs the right to mount.
pub fn read_only_clone(dir: impl AsFd) -> Result<OwnedFd> {
    let tree = detached_clone(dir)?;
    let full = libc::MOUNT_ATTR_RDONLY | libc::MOUNT_ATTR_NODEV | libc::MOUNT_ATTR_NOATIME;
    // In a user namespace the atime setting may be locked to what it was.
    set_attributes(&tree, full, libc::MOUNT_ATTR__ATIME)
        .or_else(|_| set_attributes(&tree, libc::MOUNT_ATTR_RDONLY, 0))?;
    Ok(tree)
}

/// The atime options of mount(2).
pub const ATIMES: Flags = Flags::NOATIME
    .union(Flags::RELATIME)
    .union(Flags::STRICTATIME)
    .union(Flags::NODIRATIME);

/// The same directory through a detached mount that keeps access times as the
/// [`ATIMES`] among `flags` say. Needs the right to mount.
pub fn clone_with_atimes(dir: impl AsFd, flags: Flags) -> Result<OwnedFd> {
    let tree = detached_clone(dir)?;
    let (mut set, mut clear) = (0, 0);
    if flags.intersects(Flags::NOATIME | Flags::RELATIME | Flags::STRICTATIME) {
        clear |= libc::MOUNT_ATTR__ATIME;
        if flags.contains(Flags::NOATIME) {
            set |= libc::MOUNT_ATTR_NOATIME;
        } else if flags.contains(Flags::STRICTATIME) {
            set |= libc::MOUNT_ATTR_STRICTATIME;
        }
    }
    if flags.contains(Flags::NODIRATIME) {
        set |= libc::MOUNT_ATTR_NODIRATIME;
    }
    set_attributes(&tree, set, clear)?;
    Ok(tree)
}

fn detached_clone(dir: impl AsFd) -> Result<OwnedFd> {
    // open_tree's flags share their numbers with those of openat and statx.
    let empty_path = OpenTreeFlags::AT_EMPTY_PATH;
    let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC | empty_path;
    rustix::mount::open_tree(&dir, c"", flags)
}

fn set_attributes(mount: impl AsFd, set: u64, clear: u64) -> Result<()> {
    let attr = libc::mount_attr {
        attr_set: set,
        attr_clr: clear,
        propagation: 0,
        userns_fd: 0,
    };
    // SAFETY: the path is an empty C string, and the pointer and size are
    // those of `attr`, which the kernel only reads.
    check(unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            mount.as_fd().as_raw_fd(),
            c"".as_ptr(),
            AtFlags::EMPTY_PATH.bits(),
            &raw const attr,
            size_of::<libc::mount_attr>(),
        )
    })
    .map(drop)
}

/// Does this system label files (SELinux is there and its file system too).
pub fn has_selinux() -> bool {
    rustix::fs::statfs(c"/sys/fs/selinux").is_ok_and(|s| s.f_type == SELINUX_MAGIC)
}

const SELINUX_MAGIC: rustix::fs::FsWord = 0xf97c_ff8c;
