//! Directories as places in the tree: who they are, what is above them, who
//! has claimed them.

use super::{Errno, Result};
use rustix::fs::{AtFlags, CWD, FlockOperation, Mode, OFlags, StatVfsMountFlags, StatxFlags};
use std::collections::{HashMap, HashSet};
use std::ffi::OsString;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};

/// What tells one directory from every other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Identity {
    /// Device of the file system, major and minor.
    pub dev: (u32, u32),
    /// Inode number.
    pub ino: u64,
}

/// A directory and the mount through which it was reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// Which directory.
    pub identity: Identity,
    /// Through which mount, as in /proc/self/mountinfo.
    pub mount: u64,
}

const PATH: OFlags = OFlags::PATH.union(OFlags::DIRECTORY).union(OFlags::CLOEXEC);

/// The mounts that map ids themselves (mount_setattr(2), `MOUNT_ATTR_IDMAP`),
/// by their numbers; none where /proc does not tell.
pub fn idmapped_mounts() -> HashSet<u64> {
    let table = std::fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    let idmapped = |line: &str| {
        let mut fields = line.split(' ');
        let number = fields.next()?.parse().ok()?;
        let options = fields.nth(4)?;
        options
            .split(',')
            .any(|o| o == "idmapped")
            .then_some(number)
    };
    table.lines().filter_map(idmapped).collect()
}

/// What each mount shows: by its number the device, the directory of the file
/// system that is its root, and where that is mounted.
#[derive(Debug)]
pub struct Mounts(HashMap<u64, (String, PathBuf, PathBuf)>);

impl Mounts {
    /// From /proc/self/mountinfo; nothing where that does not tell.
    pub fn read() -> Mounts {
        let table = std::fs::read("/proc/self/mountinfo").unwrap_or_default();
        let mount = |line: &[u8]| {
            let mut fields = line.split(|b| *b == b' ');
            let number = std::str::from_utf8(fields.next()?).ok()?.parse().ok()?;
            let device = String::from_utf8(fields.nth(1)?.to_vec()).ok()?;
            let mut path = || Some(PathBuf::from(OsString::from_vec(unescaped(fields.next()?))));
            Some((number, (device, path()?, path()?)))
        };
        Mounts(table.split(|b| *b == b'\n').filter_map(mount).collect())
    }

    /// The device of a directory's file system and its path there, the same
    /// whichever mount it is reached through; none where that is not known.
    pub fn path_within(&self, dir: impl AsFd, place: &Place) -> Option<(&str, PathBuf)> {
        let (device, root, point) = self.0.get(&place.mount)?;
        let link = format!("/proc/self/fd/{}", dir.as_fd().as_raw_fd());
        let path = std::fs::read_link(link).ok()?;
        Some((device, root.join(path.strip_prefix(point).ok()?)))
    }
}

/// A field with `\ooo` for what could not stand in it.
fn unescaped(field: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(field.len());
    let mut rest = field;
    while let Some((byte, after)) = rest.split_first() {
        let code = match (byte, after.first_chunk::<3>()) {
            (b'\\', Some(digits)) => std::str::from_utf8(digits).ok(),
            _ => None,
        };
        match code.and_then(|digits| u8::from_str_radix(digits, 8).ok()) {
            Some(byte) => {
                out.push(byte);
                rest = after.get(3..).unwrap_or_default();
            }
            None => {
                out.push(*byte);
                rest = after;
            }
        }
    }
    out
}

/// Opens a directory as a place (`O_PATH`); symlinks are followed.
pub fn open(path: &Path) -> Result<OwnedFd> {
    rustix::fs::open(path, PATH, Mode::empty())
}

/// Opens a directory by a path below `dir`, no symlink followed and no mount
/// crossed: by openat2(2) if `openat2` allows it and the kernel has it, else
/// name by name. `path` has no `..`.
///
/// # Errors
/// `ENOTDIR` or `ELOOP` for a symlink, `EXDEV` for what is not below or on
/// another mount; as open(2).
pub fn open_beneath(dir: impl AsFd, path: &Path, openat2: bool) -> Result<OwnedFd> {
    use rustix::fs::ResolveFlags;
    if openat2 {
        let how = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_XDEV;
        match rustix::fs::openat2(&dir, path, PATH, Mode::empty(), how) {
            // Filters of system calls may say either for one they do not know.
            Err(Errno::NOSYS | Errno::PERM) => {}
            result => return result,
        }
    }
    let mount = look(&dir)?.mount;
    let mut at = rustix::fs::openat(&dir, c".", PATH, Mode::empty())?;
    for part in path.components() {
        let std::path::Component::Normal(name) = part else {
            return Err(Errno::XDEV);
        };
        at = rustix::fs::openat(&at, name, PATH | OFlags::NOFOLLOW, Mode::empty())?;
        if look(&at)?.mount != mount {
            return Err(Errno::XDEV);
        }
    }
    Ok(at)
}

/// The directory above; that of `/` is `/` itself.
pub fn parent(dir: impl AsFd) -> Result<OwnedFd> {
    rustix::fs::openat(dir, c"..", PATH, Mode::empty())
}

/// What is above a directory and has nothing above it.
pub fn top(dir: impl AsFd) -> Result<Place> {
    let mut at = parent(dir)?;
    let mut place = look(&at)?;
    loop {
        let above = parent(&at)?;
        let next = look(&above)?;
        if next == place {
            return Ok(place);
        }
        (at, place) = (above, next);
    }
}

/// Another open file description of the same directory, able to lock and sync.
pub fn readable(dir: impl AsFd) -> Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    rustix::fs::openat(dir, c".", flags, Mode::empty())
}

/// Who an open directory is.
pub fn look(dir: impl AsFd) -> Result<Place> {
    statx(dir, c"", AtFlags::EMPTY_PATH)
}

/// Who is under a name in a directory; a symlink is not followed.
pub fn look_at(dir: impl AsFd, name: &Path) -> Result<Place> {
    statx(dir, name, AtFlags::SYMLINK_NOFOLLOW)
}

fn statx(dir: impl AsFd, name: impl rustix::path::Arg, flags: AtFlags) -> Result<Place> {
    // Neither flag nor mask asks a network or FUSE server for anything new.
    let flags = flags | AtFlags::STATX_DONT_SYNC;
    let mask = StatxFlags::TYPE | StatxFlags::INO | StatxFlags::MNT_ID;
    let stat = rustix::fs::statx(dir, name, flags, mask)?;
    let dev = (stat.stx_dev_major, stat.stx_dev_minor);
    // Before Linux 5.8 there is no mount id: the device is the next best.
    let mount = if stat.stx_mask & StatxFlags::MNT_ID.bits() != 0 {
        stat.stx_mnt_id
    } else {
        u64::from(dev.0) << 32 | u64::from(dev.1)
    };
    Ok(Place {
        identity: Identity {
            dev,
            ino: stat.stx_ino,
        },
        mount,
    })
}

/// Is the file system or the mount of `dir` read-only.
pub fn is_read_only(dir: impl AsFd) -> Result<bool> {
    let stat = rustix::fs::fstatvfs(dir)?;
    Ok(stat.f_flag.contains(StatVfsMountFlags::RDONLY))
}

/// The path at which an open directory is found now.
pub fn path_of(dir: impl AsFd) -> Result<PathBuf> {
    use std::os::unix::ffi::OsStringExt;
    let link = format!("/proc/self/fd/{}", dir.as_fd().as_raw_fd());
    let target = rustix::fs::readlinkat(CWD, link, Vec::new())?.into_bytes();
    Ok(PathBuf::from(std::ffi::OsString::from_vec(target)))
}

/// Tries to claim a directory for as long as `dir`'s open file description
/// lives, so also over fork and never beyond the process's death. `false`:
/// somebody else has it.
pub fn claim(dir: impl AsFd) -> Result<bool> {
    match rustix::fs::flock(dir, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(true),
        Err(Errno::WOULDBLOCK) => Ok(false),
        Err(error) => Err(error),
    }
}

/// Has anybody claimed a directory. Who tries to claim it in this very moment is
/// told that somebody has.
pub fn is_claimed(dir: impl AsFd) -> Result<bool> {
    match rustix::fs::flock(readable(dir)?, FlockOperation::NonBlockingLockShared) {
        Ok(()) => Ok(false),
        Err(Errno::WOULDBLOCK) => Ok(true),
        Err(error) => Err(error),
    }
}

/// Has process `pid` a descriptor by which a directory is claimed, as far as
/// /proc shows it.
pub fn claims(pid: u32, identity: Identity) -> bool {
    let Ok(all) = std::fs::read_dir(format!("/proc/{pid}/fdinfo")) else {
        return false;
    };
    let texts = all.flatten();
    let mut texts = texts.filter_map(|entry| std::fs::read_to_string(entry.path()).ok());
    texts.any(|text| {
        let mut locks = text.lines().filter_map(|line| line.strip_prefix("lock:"));
        locks.any(|lock| parse_lock(lock).is_some_and(|claim| claim.identity == identity))
    })
}

/// A directory that another process has claimed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Claim {
    /// By whom.
    pub pid: u32,
    /// Which directory.
    pub identity: Identity,
}

/// The directories that other processes called `name` have claimed now, as far
/// as /proc/locks shows them (this pid namespace and those below).
pub fn claimed_by(name: &str) -> Vec<Claim> {
    let Ok(text) = std::fs::read_to_string("/proc/locks") else {
        return Vec::new();
    };
    let own = std::process::id();
    text.lines()
        .filter_map(parse_lock)
        .filter(|claim| claim.pid != own)
        .filter(|claim| {
            std::fs::read_to_string(format!("/proc/{}/comm", claim.pid))
                .is_ok_and(|comm| comm.trim_end() == name)
        })
        .collect()
}

/// A claimed directory, through the descriptors of who has claimed it, so also
/// where no path leads to it from here. `None` if it cannot be seen.
pub fn open_claimed(claim: &Claim) -> Option<OwnedFd> {
    // In the order of their numbers, in which claims come early.
    for entry in std::fs::read_dir(format!("/proc/{}/fd", claim.pid)).ok()? {
        let path = entry.ok()?.path();
        if let Ok(fd) = open(&path)
            && look(&fd).is_ok_and(|place| place.identity == claim.identity)
        {
            return Some(fd);
        }
    }
    None
}

/// `1: FLOCK  ADVISORY  WRITE 812 fe:00:1044 0 EOF`; the device is in hex.
fn parse_lock(line: &str) -> Option<Claim> {
    let mut words = line.split_ascii_whitespace();
    words.next()?;
    if words.next()? != "FLOCK" || words.next().is_none() || words.next()? != "WRITE" {
        return None;
    }
    let pid = words.next()?.parse().ok()?;
    let mut parts = words.next()?.split(':');
    let major = u32::from_str_radix(parts.next()?, 16).ok()?;
    let minor = u32::from_str_radix(parts.next()?, 16).ok()?;
    let ino = parts.next()?.parse().ok()?;
    let dev = (major, minor);
    let identity = Identity { dev, ino };
    Some(Claim { pid, identity })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_of_proc_locks() {
        let line = "12: FLOCK  ADVISORY  WRITE 812 fe:1a:1044 0 EOF";
        let dev = (0xfe, 0x1a);
        let identity = Identity { dev, ino: 1044 };
        assert_eq!(parse_lock(line), Some(Claim { pid: 812, identity }));
        // Shared locks, POSIX locks and waiters ("->") claim nothing.
        for line in [
            "12: FLOCK  ADVISORY  READ 812 fe:1a:1044 0 EOF",
            "12: POSIX  ADVISORY  WRITE 812 fe:1a:1044 0 EOF",
            "12: -> FLOCK  ADVISORY  WRITE 812 fe:1a:1044 0 EOF",
            "",
        ] {
            assert_eq!(parse_lock(line), None, "{line}");
        }
    }

    #[test]
    fn a_claim_is_exclusive_and_ends_with_its_descriptor() {
        let dir = tempfile::tempdir().unwrap();
        let place = open(dir.path()).unwrap();
        let one = readable(&place).unwrap();
        let two = readable(&place).unwrap();
        assert!(claim(&one).unwrap());
        assert!(!claim(&two).unwrap());
        let identity = look(&place).unwrap().identity;
        assert!(claims(std::process::id(), identity));
        drop(one);
        assert!(!claims(std::process::id(), identity));
        assert!(claim(&two).unwrap());
    }

    #[test]
    fn parents_and_identity() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("a")).unwrap();
        let top = open(dir.path()).unwrap();
        let a = open(&dir.path().join("a")).unwrap();
        assert_eq!(look(&top), look(parent(&a).unwrap()));
        assert_ne!(look(&top), look(&a));
        assert_eq!(path_of(&a).unwrap(), dir.path().join("a"));
    }

    #[test]
    fn beneath_with_and_without_openat2() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(dir.path().join("a/b")).unwrap();
        std::fs::write(dir.path().join("a/file"), "").unwrap();
        std::os::unix::fs::symlink("a", dir.path().join("link")).unwrap();
        let top = open(dir.path()).unwrap();
        let b = look(open(&dir.path().join("a/b")).unwrap()).unwrap();
        for openat2 in [true, false] {
            let go = |path: &str| {
                let found = open_beneath(&top, Path::new(path), openat2);
                found.map(|fd| look(fd).unwrap())
            };
            assert_eq!(go("a/b"), Ok(b));
            assert_eq!(go("a/none").unwrap_err(), Errno::NOENT);
            assert_eq!(go("a/file").unwrap_err(), Errno::NOTDIR);
            assert_eq!(go("/").unwrap_err(), Errno::XDEV);
            assert_eq!(go("..").unwrap_err(), Errno::XDEV);
            for path in ["link", "link/b"] {
                let e = go(path).unwrap_err();
                assert!(matches!(e, Errno::LOOP | Errno::NOTDIR), "{path}: {e}");
            }
        }
        // A mount in the way, which everybody has.
        let root = open(Path::new("/")).unwrap();
        for openat2 in [true, false] {
            let e = open_beneath(&root, Path::new("proc/self"), openat2).unwrap_err();
            assert_eq!(e, Errno::XDEV, "{openat2}");
        }
    }
}
