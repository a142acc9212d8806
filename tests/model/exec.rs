//! Does operations below one root and tells what came of each as text.

use super::op::{Op, Verb};
use crate::common::sys::{self, Mapping};
use crate::common::tree::{escape, parse_acl, unescape};
use crate::common::{Hash, pattern};
use rustix::fd::{AsRawFd, OwnedFd};
use rustix::fs::{
    AtFlags, CWD, FallocateFlags, FileType, Mode, OFlags, RenameFlags, Statx, StatxFlags, Timespec,
    Timestamps, XattrFlags,
};
use rustix::io::Errno;
use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// How many descriptors and how many mappings a run may hold.
pub const SLOTS: usize = 12;
/// See [`SLOTS`].
pub const MAPS: usize = 4;

/// What came of an operation: `Ok` with what it returned, or the errno.
pub type Outcome = Result<String, Errno>;

/// One root with the descriptors held below it.
pub struct Executor {
    root: PathBuf,
    start: i64,
    slots: Vec<Option<OwnedFd>>,
    maps: Vec<Option<(Mapping, usize)>>,
}

impl Executor {
    /// Below `root`; times from the second `start` on are shown as `now`.
    pub fn new(root: &Path, start: i64) -> Self {
        Executor {
            root: root.to_path_buf(),
            start,
            slots: (0..SLOTS).map(|_| None).collect(),
            maps: (0..MAPS).map(|_| None).collect(),
        }
    }

    /// Closes everything that is held.
    pub fn close_all(&mut self) {
        self.slots.iter_mut().for_each(|s| *s = None);
        self.maps.iter_mut().for_each(|m| *m = None);
    }

    /// The held descriptor.
    pub fn slot(&self, n: usize) -> Option<&OwnedFd> {
        self.slots.get(n).and_then(Option::as_ref)
    }

    /// The absolute path of a path below the root.
    pub fn at(&self, path: &[u8]) -> PathBuf {
        if path.is_empty() {
            return self.root.clone();
        }
        self.root.join(OsStr::from_bytes(path))
    }

    fn fd(&self, op: &Op) -> Result<&OwnedFd, Errno> {
        self.slot(op.slot).ok_or(Errno::BADF)
    }

    /// Does one operation.
    pub fn apply(&mut self, op: &Op) -> Outcome {
        let path = self.at(&op.path);
        let done = || Ok(String::new());
        match op.verb {
            Verb::Open => {
                let flags = OFlags::from_bits_retain(op.a as u32)
                    | OFlags::NONBLOCK
                    | OFlags::NOCTTY
                    | OFlags::CLOEXEC;
                let fd = rustix::fs::open(&path, flags, Mode::from_raw_mode(op.b as u32))?;
                self.slots[op.slot] = Some(fd);
                done()
            }
            Verb::Close => {
                self.slots[op.slot] = None;
                done()
            }
            Verb::Pread => {
                let mut buf = vec![0; op.b as usize];
                let n = read_full(self.fd(op)?, &mut buf, op.a as u64)?;
                Ok(show(&buf[..n]))
            }
            Verb::Pwrite => {
                let data = pattern(op.a as u64 ^ 77, op.a as u64, op.b as usize);
                let n = rustix::io::pwrite(self.fd(op)?, &data, op.a as u64)?;
                Ok(n.to_string())
            }
            // At the descriptor's own position: appends with O_APPEND.
            Verb::Write => {
                let data = pattern(op.a as u64, 0, op.b as usize);
                Ok(rustix::io::write(self.fd(op)?, &data)?.to_string())
            }
            Verb::Truncate => {
                let fd = rustix::fs::open(
                    &path,
                    OFlags::WRONLY | OFlags::NONBLOCK | OFlags::CLOEXEC,
                    Mode::empty(),
                )?;
                rustix::fs::ftruncate(fd, op.a as u64)?;
                done()
            }
            Verb::Ftruncate => {
                rustix::fs::ftruncate(self.fd(op)?, op.a as u64)?;
                done()
            }
            Verb::Fallocate => {
                let mode = FallocateFlags::from_bits_retain(op.text.parse().unwrap_or(0));
                rustix::fs::fallocate(self.fd(op)?, mode, op.a as u64, op.b as u64)?;
                done()
            }
            Verb::Fsync => {
                rustix::fs::fsync(self.fd(op)?)?;
                done()
            }
            Verb::CopyRange => self.copy_range(op),
            Verb::WriteFile => {
                let fd = rustix::fs::open(
                    &path,
                    OFlags::WRONLY
                        | OFlags::CREATE
                        | OFlags::TRUNC
                        | OFlags::NONBLOCK
                        | OFlags::CLOEXEC,
                    Mode::from_raw_mode(0o640),
                )?;
                let data = pattern(op.a as u64, 0, op.b as usize);
                Ok(rustix::io::write(fd, &data)?.to_string())
            }
            Verb::Map | Verb::MapRead | Verb::MapWrite | Verb::Unmap => self.mapping(op),
            Verb::Mkdir
            | Verb::Rmdir
            | Verb::Unlink
            | Verb::Rename
            | Verb::Link
            | Verb::LinkFd
            | Verb::Symlink
            | Verb::Mknod
            | Verb::RmTree => self.names(op, &path),
            Verb::Readlink => {
                let t = rustix::fs::readlinkat(CWD, &path, Vec::new())?;
                Ok(escape(t.as_bytes()))
            }
            Verb::Chmod => {
                let m = Mode::from_raw_mode(op.a as u32);
                rustix::fs::chmodat(CWD, &path, m, AtFlags::empty())?;
                done()
            }
            Verb::Fchmod => {
                rustix::fs::fchmod(self.fd(op)?, Mode::from_raw_mode(op.a as u32))?;
                done()
            }
            Verb::Chown => {
                let (u, g) = owner(op);
                rustix::fs::chownat(CWD, &path, u, g, AtFlags::SYMLINK_NOFOLLOW)?;
                done()
            }
            Verb::Fchown => {
                let (u, g) = owner(op);
                rustix::fs::fchown(self.fd(op)?, u, g)?;
                done()
            }
            Verb::Utimens => {
                rustix::fs::utimensat(CWD, &path, &times(op), AtFlags::SYMLINK_NOFOLLOW)?;
                done()
            }
            Verb::Futimens => {
                rustix::fs::futimens(self.fd(op)?, &times(op))?;
                done()
            }
            Verb::Setxattr
            | Verb::Getxattr
            | Verb::Removexattr
            | Verb::Listxattr
            | Verb::Fsetxattr
            | Verb::Flistxattr
            | Verb::SetAcl => self.xattrs(op, &path),
            Verb::Stat => {
                let st = rustix::fs::statx(CWD, &path, AtFlags::SYMLINK_NOFOLLOW, basic())?;
                Ok(self.show_stat(&st))
            }
            Verb::Fstat => {
                let st = rustix::fs::statx(self.fd(op)?, "", AtFlags::EMPTY_PATH, basic())?;
                Ok(self.show_stat(&st))
            }
            Verb::Readdir => {
                let mut names: Vec<String> = sys::list(&path)?
                    .iter()
                    .map(|e| format!("{}{}", e.kind, escape(e.name.as_bytes())))
                    .collect();
                names.sort();
                Ok(names.join(" "))
            }
            Verb::ReaddirUnder => readdir_under(op, &path),
            Verb::Check | Verb::Remount | Verb::Cross => done(),
        }
    }

    fn names(&mut self, op: &Op, path: &Path) -> Outcome {
        match op.verb {
            Verb::Mkdir => rustix::fs::mkdirat(CWD, path, Mode::from_raw_mode(op.a as u32))?,
            Verb::Rmdir => rustix::fs::unlinkat(CWD, path, AtFlags::REMOVEDIR)?,
            Verb::Unlink => rustix::fs::unlinkat(CWD, path, AtFlags::empty())?,
            Verb::Rename => {
                let flags = RenameFlags::from_bits_retain(op.a as u32);
                rustix::fs::renameat_with(CWD, path, CWD, self.at(&op.other), flags)?;
            }
            Verb::Link => {
                rustix::fs::linkat(CWD, path, CWD, self.at(&op.other), AtFlags::empty())?;
            }
            Verb::LinkFd => {
                let from = format!("/proc/self/fd/{}", self.fd(op)?.as_raw_fd());
                rustix::fs::linkat(CWD, from, CWD, path, AtFlags::SYMLINK_FOLLOW)?;
            }
            Verb::Symlink => rustix::fs::symlinkat(op.other.as_slice(), CWD, path)?,
            Verb::Mknod => {
                let kind = FileType::from_raw_mode(op.a as u32);
                let mode = Mode::from_raw_mode(op.a as u32 & 0o7777);
                rustix::fs::mknodat(CWD, path, kind, mode, op.b as u64)?;
            }
            _ => rm_tree(path)?,
        }
        Ok(String::new())
    }

    fn xattrs(&mut self, op: &Op, path: &Path) -> Outcome {
        let (name, value) = op.text.split_once('=').unwrap_or((&op.text, ""));
        let (name, value) = (unescape(name), unescape(value));
        let flags = XattrFlags::from_bits_retain(op.a as u32);
        // Only the length of long values is in the text.
        let long = pattern(3, 0, op.b as usize);
        let value = if op.b > 0 { &long } else { &value };
        match op.verb {
            Verb::Setxattr => rustix::fs::lsetxattr(path, name.as_slice(), value, flags)?,
            Verb::Fsetxattr => rustix::fs::fsetxattr(self.fd(op)?, name.as_slice(), value, flags)?,
            Verb::Getxattr => return Ok(show(&sys::xattr(path, &name)?)),
            Verb::Removexattr => rustix::fs::lremovexattr(path, name.as_slice())?,
            Verb::SetAcl => {
                let (kind, text) = op.text.split_once('=').ok_or(Errno::INVAL)?;
                let name = format!("system.posix_acl_{kind}");
                let acl = parse_acl(text).ok_or(Errno::INVAL)?;
                rustix::fs::lsetxattr(path, name.as_str(), &acl, XattrFlags::empty())?;
            }
            _ => {
                let names = match op.verb {
                    Verb::Listxattr => sys::xattr_names(path)?,
                    _ => sys::fxattr_names(self.fd(op)?)?,
                };
                let names: Vec<String> = names.iter().map(|n| escape(n)).collect();
                return Ok(names.join(" "));
            }
        }
        Ok(String::new())
    }

    /// How many bytes are mapped there.
    pub fn mapped(&self, slot: usize) -> Option<usize> {
        self.maps[slot % MAPS].as_ref().map(|(_, size)| *size)
    }

    fn mapping(&mut self, op: &Op) -> Outcome {
        let m = op.slot % MAPS;
        match op.verb {
            Verb::Unmap => self.maps[m] = None,
            Verb::Map => {
                let fd = self.slot(op.a as usize).ok_or(Errno::BADF)?;
                let size = rustix::fs::fstat(fd)?.st_size as usize;
                if size == 0 {
                    return Err(Errno::INVAL);
                }
                let map = Mapping::new(fd, size, op.b != 0)?;
                self.maps[m] = Some((map, size));
            }
            _ => {
                let (map, size) = self.maps[m].as_ref().ok_or(Errno::BADF)?;
                let off = op.a as usize % size;
                let len = (op.b as usize).min(size - off);
                if op.verb == Verb::MapRead {
                    return Ok(show(&map.read(off, len)?));
                }
                let data = pattern(op.a as u64, 0, len);
                return Ok(map.write(off, &data)?.to_string());
            }
        }
        Ok(String::new())
    }

    fn copy_range(&mut self, op: &Op) -> Outcome {
        let (from, to) = (
            self.fd(op)?,
            self.slot(op.text.parse().unwrap_or(0)).ok_or(Errno::BADF)?,
        );
        let (mut src, mut dst, mut left) = (op.a as u64, op.a as u64 / 2, op.b as usize);
        while left > 0 {
            match rustix::fs::copy_file_range(from, Some(&mut src), to, Some(&mut dst), left)? {
                0 => break,
                n => left -= n,
            }
        }
        Ok((op.b as usize - left).to_string())
    }

    fn show_stat(&self, st: &Statx) -> String {
        let mode = u32::from(st.stx_mode);
        let dir = mode & libc::S_IFMT == libc::S_IFDIR;
        let mtime = st.stx_mtime.tv_sec;
        let mtime = if mtime >= self.start && mtime < self.start + 86_400 {
            "now".to_string()
        } else {
            format!("{mtime}.{:09}", st.stx_mtime.tv_nsec)
        };
        // Size and link count of directories mean nothing on an overlay.
        let (size, nlink) = if dir {
            (0, 0)
        } else {
            (st.stx_size, st.stx_nlink)
        };
        format!(
            "mode={mode:o} owner={}:{} nlink={nlink} rdev={}:{} size={size} mtime={mtime}",
            st.stx_uid, st.stx_gid, st.stx_rdev_major, st.stx_rdev_minor
        )
    }
}

fn basic() -> StatxFlags {
    StatxFlags::BASIC_STATS
}

/// Content as text: what a comparison needs, short.
pub fn show(data: &[u8]) -> String {
    let mut h = Hash::new();
    h.update(data);
    let head = escape(&data[..data.len().min(12)]);
    format!("{}:{:016x}:{head}", data.len(), h.finish())
}

fn read_full(fd: &OwnedFd, buf: &mut [u8], off: u64) -> Result<usize, Errno> {
    let mut have = 0;
    while have < buf.len() {
        match rustix::io::pread(fd, &mut buf[have..], off + have as u64)? {
            0 => break,
            n => have += n,
        }
    }
    Ok(have)
}

fn owner(op: &Op) -> (Option<rustix::fs::Uid>, Option<rustix::fs::Gid>) {
    (
        (op.a >= 0).then(|| rustix::fs::Uid::from_raw(op.a as u32)),
        (op.b >= 0).then(|| rustix::fs::Gid::from_raw(op.b as u32)),
    )
}

fn times(op: &Op) -> Timestamps {
    let t = Timespec {
        tv_sec: op.a,
        tv_nsec: op.b,
    };
    Timestamps {
        last_access: t,
        last_modification: t,
    }
}

/// As `rm -rf`: lists and removes until nothing is left.
fn rm_tree(path: &Path) -> Result<(), Errno> {
    match rustix::fs::unlinkat(CWD, path, AtFlags::empty()) {
        Err(Errno::ISDIR) => {}
        r => return r,
    }
    for e in sys::list(path)? {
        rm_tree(&path.join(e.name))?;
    }
    rustix::fs::unlinkat(CWD, path, AtFlags::REMOVEDIR)
}

/// Reads a directory in small steps while names come and go: what was there
/// all the time must be seen exactly once.
fn readdir_under(op: &Op, path: &Path) -> Outcome {
    let (victims, news) = op.text.split_once(';').unwrap_or((&op.text, ""));
    let split = |s: &str| -> Vec<Vec<u8>> {
        s.split(',')
            .filter(|n| !n.is_empty())
            .map(unescape)
            .collect()
    };
    let (victims, news) = (split(victims), split(news));
    let touched: BTreeSet<&Vec<u8>> = victims.iter().chain(&news).collect();
    let stay: BTreeSet<Vec<u8>> = sys::list(path)?
        .into_iter()
        .map(|e| e.name.as_bytes().to_vec())
        .filter(|n| !touched.contains(n))
        .collect();
    let dir = rustix::fs::open(
        path,
        OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC,
        Mode::empty(),
    )?;
    let mut seen: Vec<Vec<u8>> = Vec::new();
    let mut round = 0;
    loop {
        let part = sys::getdents(&dir, 640)?;
        if part.is_empty() && round > 0 {
            break;
        }
        seen.extend(part.iter().map(|e| e.name.as_bytes().to_vec()));
        if round == 0 {
            for v in &victims {
                match rustix::fs::unlinkat(&dir, v.as_slice(), AtFlags::empty()) {
                    Ok(()) | Err(Errno::NOENT | Errno::ISDIR) => {}
                    Err(e) => return Err(e),
                }
            }
            let flags = OFlags::CREATE | OFlags::WRONLY | OFlags::NONBLOCK | OFlags::CLOEXEC;
            for n in &news {
                match rustix::fs::openat(&dir, n.as_slice(), flags, Mode::from_raw_mode(0o600)) {
                    Ok(_) | Err(Errno::ISDIR | Errno::NXIO | Errno::NOENT) => {}
                    Err(e) => return Err(e),
                }
            }
        }
        round += 1;
    }
    let count = |n: &Vec<u8>| seen.iter().filter(|s| *s == n).count();
    let mut odd = Vec::new();
    for n in &stay {
        if count(n) != 1 {
            odd.push(format!("{} seen {} times", escape(n), count(n)));
        }
    }
    for n in touched {
        if count(n) > 1 {
            odd.push(format!("{} seen {} times", escape(n), count(n)));
        }
    }
    Ok(format!("{} {}", stay.len(), odd.join(", ")))
}
