//! From text to a tree.

use super::{below, escape, unescape};
use crate::common::pattern;
use rustix::fs::{AtFlags, CWD, FileType, Mode, OFlags, Timespec, Timestamps, XattrFlags};
use std::path::{Path, PathBuf};

/// Makes what `spec` says below the existing directory `root`.
pub fn build(root: &Path, spec: &str) {
    let mut times: Vec<(PathBuf, Timespec)> = Vec::new();
    for line in spec.lines() {
        let line = line.split(" #").next().unwrap().trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        if let Some(t) = build_line(root, line) {
            times.push(t);
        }
    }
    // Deepest last in, first out: making a child changes its parent's mtime.
    times.sort_by_key(|(p, _)| std::cmp::Reverse(p.components().count()));
    for (path, t) in times {
        let both = Timestamps {
            last_access: t,
            last_modification: t,
        };
        rustix::fs::utimensat(CWD, &path, &both, AtFlags::SYMLINK_NOFOLLOW).unwrap();
    }
}

fn build_line(root: &Path, line: &str) -> Option<(PathBuf, Timespec)> {
    let mut words = line.split_whitespace();
    let path = below(root, words.next().unwrap());
    let kind = words
        .next()
        .unwrap_or_else(|| panic!("no type in line {line:?}"));
    let words: Vec<&str> = words.collect();
    if let Some(parent) = path.parent() {
        std::fs::create_dir_all(parent).unwrap();
    }
    let dev = value(&words, "dev=").map_or(0, |v| {
        let (a, b) = v.split_once(':').unwrap();
        rustix::fs::makedev(a.parse().unwrap(), b.parse().unwrap())
    });
    let mut mode = 0o644;
    let node = |t: FileType, dev| {
        rustix::fs::mknodat(CWD, &path, t, Mode::from_raw_mode(0o600), dev)
            .unwrap_or_else(|e| panic!("{line:?}: {e}"))
    };
    match kind {
        "dir" => {
            mode = 0o755;
            if !path.is_dir() {
                std::fs::create_dir(&path).unwrap_or_else(|e| panic!("{line:?}: {e}"));
            }
        }
        "file" => write_file(&path, &words, line),
        "link" => {
            let from = below(root, words[0]);
            std::fs::hard_link(from, &path).unwrap_or_else(|e| panic!("{line:?}: {e}"));
            return None;
        }
        "symlink" => {
            assert_eq!(words[0], "->", "{line:?}");
            rustix::fs::symlinkat(unescape(words[1]), CWD, &path).unwrap();
        }
        "fifo" => node(FileType::Fifo, 0),
        "sock" => node(FileType::Socket, 0),
        "char" => node(FileType::CharacterDevice, dev),
        "block" => node(FileType::BlockDevice, dev),
        "whiteout" => {
            node(FileType::CharacterDevice, 0);
            return None;
        }
        _ => panic!("unknown type in {line:?}"),
    }
    let mut mtime = None;
    let mut late: Vec<(Vec<u8>, Vec<u8>)> = Vec::new();
    let mut owner = (0, 0);
    for w in &words {
        if w.len() == 4 && w.bytes().all(|b| b.is_ascii_digit()) {
            mode = u32::from_str_radix(w, 8).unwrap();
        } else if let Some((u, g)) = ids(w) {
            owner = (u, g);
        } else if let Some(v) = w.strip_prefix("mtime=") {
            mtime = parse_time(v);
        } else if let Some(v) = w.strip_prefix("acl=") {
            late.push((b"system.posix_acl_access".to_vec(), acl(v)));
        } else if let Some(v) = w.strip_prefix("default=") {
            late.push((b"system.posix_acl_default".to_vec(), acl(v)));
        } else if let Some(v) = w.strip_prefix("cap=") {
            late.push((b"security.capability".to_vec(), bytes_of(v)));
        } else if *w == "opaque" {
            let name = format!("{}opaque", crate::common::flatten::private());
            late.push((name.into_bytes(), b"y".to_vec()));
        } else if let Some((k, v)) = w.split_once('=')
            && k.contains('.')
        {
            late.push((unescape(k), bytes_of(v)));
        }
    }
    let (u, g) = (
        rustix::fs::Uid::from_raw(owner.0),
        rustix::fs::Gid::from_raw(owner.1),
    );
    rustix::fs::chownat(CWD, &path, Some(u), Some(g), AtFlags::SYMLINK_NOFOLLOW).unwrap();
    if kind != "symlink" {
        let m = Mode::from_raw_mode(mode);
        rustix::fs::chmodat(CWD, &path, m, AtFlags::empty()).unwrap();
    }
    for (name, v) in late {
        rustix::fs::lsetxattr(&path, name.as_slice(), &v, XattrFlags::empty())
            .unwrap_or_else(|e| panic!("{line:?}: xattr {}: {e}", escape(&name)));
    }
    mtime.map(|t| (path, t))
}

fn value<'a>(words: &[&'a str], key: &str) -> Option<&'a str> {
    words.iter().find_map(|w| w.strip_prefix(key))
}

fn ids(w: &str) -> Option<(u32, u32)> {
    let (u, g) = w.split_once(':')?;
    Some((u.parse().ok()?, g.parse().ok()?))
}

/// `"text"`, `0xhex`, or `@SEED` (whose length comes from elsewhere).
fn bytes_of(v: &str) -> Vec<u8> {
    if let Some(text) = v.strip_prefix('"') {
        return unescape(text.strip_suffix('"').unwrap());
    }
    let hex = v
        .strip_prefix("0x")
        .unwrap_or_else(|| panic!("value {v:?}"));
    (0..hex.len() / 2)
        .map(|i| u8::from_str_radix(&hex[2 * i..2 * i + 2], 16).unwrap())
        .collect()
}

fn write_file(path: &Path, words: &[&str], line: &str) {
    let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::CLOEXEC;
    let fd = rustix::fs::open(path, flags, Mode::from_raw_mode(0o600))
        .unwrap_or_else(|e| panic!("{line:?}: {e}"));
    let size: Option<usize> = value(words, "size=").map(|v| v.parse().unwrap());
    let data = match value(words, "data=") {
        Some(v) if v.starts_with('@') => pattern(
            v[1..].parse().unwrap(),
            0,
            size.expect("data=@ needs size="),
        ),
        Some(v) => bytes_of(v),
        None => Vec::new(),
    };
    write_all(&fd, &data, 0);
    for w in words.iter().filter_map(|w| w.strip_prefix("at=")) {
        let (off, v) = w.split_once(':').unwrap();
        write_all(&fd, &bytes_of(v), off.parse().unwrap());
    }
    if let Some(size) = size {
        rustix::fs::ftruncate(&fd, size as u64).unwrap();
    }
}

fn write_all(fd: impl rustix::fd::AsFd, mut data: &[u8], mut off: u64) {
    while !data.is_empty() {
        let n = rustix::io::pwrite(&fd, data, off).unwrap();
        data = &data[n..];
        off += n as u64;
    }
}

/// `SEC.NSEC` (the fraction is at most nine digits), or `now` for none.
fn parse_time(v: &str) -> Option<Timespec> {
    if v == "now" {
        return None;
    }
    let (s, n) = v.split_once('.').unwrap_or((v, "0"));
    Some(Timespec {
        tv_sec: s.parse().unwrap(),
        tv_nsec: format!("{n:0<9}").parse().unwrap(),
    })
}

/// `u::rwx,u:1000:r--,g::r-x,m::rwx,o::---` as the value of a POSIX ACL xattr; `None` if malformed.
pub fn parse_acl(text: &str) -> Option<Vec<u8>> {
    let mut out = vec![2, 0, 0, 0];
    for entry in text.split(',') {
        let mut parts = entry.split(':');
        let (who, id, perm) = (parts.next()?, parts.next()?, parts.next()?);
        let tag: u16 = match (who, id.is_empty()) {
            ("u", true) => 1,
            ("u", false) => 2,
            ("g", true) => 4,
            ("g", false) => 8,
            ("m", _) => 16,
            ("o", _) => 32,
            _ => return None,
        };
        let bit = |c, v| if perm.contains(c) { v } else { 0u16 };
        out.extend(tag.to_le_bytes());
        out.extend((bit('r', 4) | bit('w', 2) | bit('x', 1)).to_le_bytes());
        let id: u32 = if id.is_empty() {
            u32::MAX
        } else {
            id.parse().ok()?
        };
        out.extend(id.to_le_bytes());
    }
    Some(out)
}

fn acl(text: &str) -> Vec<u8> {
    parse_acl(text).unwrap_or_else(|| panic!("acl {text:?}"))
}
