//! The merged content of layers as a plain directory: the oracle of what a
//! mount must show. It knows plain layers only (whiteouts, opaque directories,
//! `.wh.` marks), not redirects and metacopies.

use super::sys;
use rustix::fs::{AtFlags, CWD, Mode, OFlags, Timespec, Timestamps, XattrFlags};
use std::collections::HashMap;
use std::ffi::OsString;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// What the names of private attributes begin with.
pub fn private() -> &'static str {
    match sys::in_user_namespace() {
        false => "trusted.overlay.",
        true => "user.overlay.",
    }
}

/// Merges `layers`, the bottom one first, into the empty directory `out`.
pub fn flatten(layers: &[PathBuf], out: &Path) {
    for layer in layers {
        apply(layer, out, &mut HashMap::new(), false);
    }
}

/// Copies a tree as it is seen: with `all`, every xattr is an ordinary one.
pub fn copy_tree(from: &Path, to: &Path, all: bool) {
    apply(from, to, &mut HashMap::new(), all);
}

fn remove(path: &Path) {
    match std::fs::symlink_metadata(path) {
        Ok(m) if m.is_dir() => std::fs::remove_dir_all(path).unwrap(),
        Ok(_) => std::fs::remove_file(path).unwrap(),
        Err(_) => {}
    }
}

fn is_whiteout(m: &std::fs::Metadata) -> bool {
    m.mode() & libc::S_IFMT == libc::S_IFCHR && m.rdev() == 0
}

fn apply(from: &Path, to: &Path, links: &mut HashMap<u64, PathBuf>, all: bool) {
    let entries = sys::list(from).unwrap();
    let opaque_mark = entries.iter().any(|e| e.name == ".wh..wh..opq");
    if !all
        && (sys::xattr(from, format!("{}opaque", private()).as_bytes()).is_ok_and(|v| v == b"y")
            || opaque_mark)
    {
        for e in sys::list(to).unwrap() {
            remove(&to.join(e.name));
        }
    }
    for e in entries {
        let (src, dst) = (from.join(&e.name), to.join(&e.name));
        let m = std::fs::symlink_metadata(&src).unwrap();
        if let Some(hidden) = e.name.as_bytes().strip_prefix(b".wh.") {
            if e.name != ".wh..wh..opq" {
                remove(&to.join(OsString::from_vec(hidden.to_vec())));
            }
            continue;
        }
        if is_whiteout(&m) {
            remove(&dst);
            continue;
        }
        let both_dirs = m.is_dir() && std::fs::symlink_metadata(&dst).is_ok_and(|d| d.is_dir());
        if !both_dirs {
            remove(&dst);
        }
        if m.is_dir() {
            if !both_dirs {
                std::fs::create_dir(&dst).unwrap();
            }
            apply(&src, &dst, links, all);
        } else if let Some(first) = links.get(&m.ino()).filter(|_| m.nlink() > 1) {
            std::fs::hard_link(first, &dst).unwrap();
        } else {
            copy_one(&src, &dst, &m, all);
            links.insert(m.ino(), dst);
        }
    }
    attributes(from, to, all);
}

fn copy_one(src: &Path, dst: &Path, m: &std::fs::Metadata, all: bool) {
    if m.is_symlink() {
        std::os::unix::fs::symlink(std::fs::read_link(src).unwrap(), dst).unwrap();
    } else if m.is_file() {
        copy_data(src, dst, m.size());
    } else {
        let kind = rustix::fs::FileType::from_raw_mode(m.mode());
        rustix::fs::mknodat(CWD, dst, kind, Mode::from_raw_mode(0o600), m.rdev()).unwrap();
    }
    attributes(src, dst, all);
}

fn copy_data(src: &Path, dst: &Path, size: u64) {
    let flags = OFlags::RDONLY | OFlags::NOATIME | OFlags::CLOEXEC;
    let a = rustix::fs::open(src, flags, Mode::empty()).unwrap();
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
    let b = rustix::fs::open(dst, flags, Mode::from_raw_mode(0o600)).unwrap();
    rustix::fs::ftruncate(&b, size).unwrap();
    let mut buf = vec![0u8; 128 * 1024];
    let mut at = 0;
    while let Ok(from) = rustix::fs::seek(&a, rustix::fs::SeekFrom::Data(at)) {
        let end = rustix::fs::seek(&a, rustix::fs::SeekFrom::Hole(from)).unwrap();
        let mut pos = from;
        while pos < end {
            let room = buf.len().min((end - pos) as usize);
            let n = rustix::io::pread(&a, &mut buf[..room], pos).unwrap();
            assert!(n > 0 && rustix::io::pwrite(&b, &buf[..n], pos).unwrap() == n);
            pos += n as u64;
        }
        at = end;
    }
}

fn attributes(src: &Path, dst: &Path, all: bool) {
    let m = std::fs::symlink_metadata(src).unwrap();
    let uid = rustix::fs::Uid::from_raw(m.uid());
    let gid = rustix::fs::Gid::from_raw(m.gid());
    rustix::fs::chownat(CWD, dst, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW).unwrap();
    if !m.is_symlink() {
        let mode = Mode::from_raw_mode(m.mode() & 0o7777);
        rustix::fs::chmodat(CWD, dst, mode, AtFlags::empty()).unwrap();
    }
    for name in sys::xattr_names(dst).unwrap() {
        rustix::fs::lremovexattr(dst, name.as_slice()).unwrap();
    }
    for name in sys::xattr_names(src).unwrap() {
        let own = name.strip_prefix(private().as_bytes()).filter(|_| !all);
        // An escaped name is shown without the escape, other private ones are not shown.
        let shown = match own.map(|rest| rest.strip_prefix(b"overlay.")) {
            None => name.clone(),
            Some(Some(rest)) => [private().as_bytes(), rest].concat(),
            Some(None) => continue,
        };
        let v = sys::xattr(src, &name).unwrap();
        rustix::fs::lsetxattr(dst, shown.as_slice(), &v, XattrFlags::empty()).unwrap();
    }
    let t = Timespec {
        tv_sec: m.mtime(),
        tv_nsec: m.mtime_nsec(),
    };
    let times = Timestamps {
        last_access: t,
        last_modification: t,
    };
    rustix::fs::utimensat(CWD, dst, &times, AtFlags::SYMLINK_NOFOLLOW).unwrap();
}
