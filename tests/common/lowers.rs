//! What lower layers looked like before a test, to the last timestamp.

use super::{Hash, sys};
use rustix::fs::{AtFlags, CWD, Mode, OFlags, StatxFlags, Timespec, Timestamps, UTIME_OMIT};
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// Every inode of a tree with all that `stat` tells, atime and ctime included,
/// its xattrs and its content.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fingerprint(BTreeMap<Vec<u8>, String>);

/// Sets all access times below `dir` to long ago, so that `relatime` would
/// update them at any access.
pub fn age(dir: &Path) {
    let old = Timestamps {
        last_access: Timespec {
            tv_sec: 86_400,
            tv_nsec: 7,
        },
        last_modification: Timespec {
            tv_sec: 0,
            tv_nsec: UTIME_OMIT,
        },
    };
    for e in sys::list(dir).unwrap_or_default() {
        let path = dir.join(&e.name);
        if e.kind == 'd' {
            age(&path);
        } else {
            rustix::fs::utimensat(CWD, &path, &old, AtFlags::SYMLINK_NOFOLLOW).unwrap();
        }
    }
    rustix::fs::utimensat(CWD, dir, &old, AtFlags::SYMLINK_NOFOLLOW).unwrap();
}

impl Fingerprint {
    /// Of the tree at `dir`. Taking it changes nothing there: symlinks are not
    /// read (their ctime and inode number tell if they were replaced).
    pub fn take(dir: &Path) -> Self {
        let mut out = BTreeMap::new();
        walk(dir, b"/", &mut out);
        Fingerprint(out)
    }

    /// What differs from `self` in `now`, if anything.
    pub fn changes(&self, now: &Fingerprint) -> Option<String> {
        let mut out = String::new();
        let paths: std::collections::BTreeSet<_> = self.0.keys().chain(now.0.keys()).collect();
        for p in paths {
            let (a, b) = (self.0.get(p), now.0.get(p));
            if a != b {
                let name = super::tree::escape(p);
                let _ = writeln!(out, "{name}\n  before {a:?}\n  after  {b:?}");
            }
        }
        (!out.is_empty()).then_some(out)
    }
}

fn walk(at: &Path, path: &[u8], out: &mut BTreeMap<Vec<u8>, String>) {
    let st = rustix::fs::statx(
        CWD,
        at,
        AtFlags::SYMLINK_NOFOLLOW,
        StatxFlags::BASIC_STATS | StatxFlags::BTIME,
    )
    .unwrap();
    let mut line = format!(
        "mode={:o} owner={}:{} nlink={} ino={} size={} rdev={}:{} atime={:?} mtime={:?} ctime={:?}",
        st.stx_mode,
        st.stx_uid,
        st.stx_gid,
        st.stx_nlink,
        st.stx_ino,
        st.stx_size,
        st.stx_rdev_major,
        st.stx_rdev_minor,
        (st.stx_atime.tv_sec, st.stx_atime.tv_nsec),
        (st.stx_mtime.tv_sec, st.stx_mtime.tv_nsec),
        (st.stx_ctime.tv_sec, st.stx_ctime.tv_nsec),
    );
    for name in sys::xattr_names(at).unwrap_or_default() {
        let v = sys::xattr(at, &name).unwrap_or_default();
        let mut h = Hash::new();
        h.update(&v);
        let _ = write!(line, " {}={:x}", super::tree::escape(&name), h.finish());
    }
    let kind = u32::from(st.stx_mode) & libc::S_IFMT;
    if kind == libc::S_IFREG {
        let _ = write!(line, " data={:x}", data(at));
    }
    out.insert(path.to_vec(), line);
    if kind == libc::S_IFDIR {
        for e in sys::list(at).unwrap() {
            let mut child = path.to_vec();
            if child != b"/" {
                child.push(b'/');
            }
            child.extend_from_slice(e.name.as_bytes());
            walk(&at.join(&e.name), &child, out);
        }
    }
}

/// The content: every block that is not zero, with its place. (Where the holes
/// are is no part of it: writeback alone may turn written blocks into them.)
fn data(at: &Path) -> u64 {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NOATIME | OFlags::CLOEXEC;
    let fd = rustix::fs::open(at, flags, Mode::empty()).unwrap();
    let mut h = Hash::new();
    let mut buf = vec![0u8; 64 * 4096];
    let mut at = 0;
    while let Ok(from) = rustix::fs::seek(&fd, rustix::fs::SeekFrom::Data(at)) {
        let mut pos = from / 4096 * 4096;
        let end = rustix::fs::seek(&fd, rustix::fs::SeekFrom::Hole(from)).unwrap();
        while pos < end {
            let n = rustix::io::pread(&fd, &mut buf, pos).unwrap();
            if n == 0 {
                break;
            }
            for (i, block) in buf[..n].chunks(4096).enumerate() {
                if block.iter().any(|b| *b != 0) {
                    h.update(&(pos / 4096 + i as u64).to_le_bytes());
                    h.update(block);
                }
            }
            pos += n as u64;
        }
        at = pos;
    }
    h.finish()
}
