//! From a tree to text, and the difference of two.

use super::escape;
use crate::common::{Hash, sys};
use rustix::fs::{AtFlags, CWD, Mode, OFlags, Statx, StatxFlags};
use std::collections::{BTreeMap, HashMap};
use std::fmt::Write as _;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// How a dump shows modification times.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mtime {
    /// Not at all.
    Ignore,
    /// To the nanosecond.
    Exact,
    /// To the nanosecond, but any time within a day from this second on is `now`.
    NowFrom(i64),
}

/// What a dump shows.
#[derive(Clone, Debug)]
pub struct DumpOptions {
    /// Modification times.
    pub mtime: Mtime,
    /// Leave out xattrs with these prefixes.
    pub hide_xattrs: Vec<&'static str>,
    /// Leave out these names in the root.
    pub hide_names: Vec<&'static str>,
}

impl Default for DumpOptions {
    fn default() -> Self {
        DumpOptions {
            mtime: Mtime::Ignore,
            hide_xattrs: Vec::new(),
            hide_names: Vec::new(),
        }
    }
}

/// What identifies an inode.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Identity {
    /// `st_ino`.
    pub ino: u64,
    /// `st_dev`.
    pub dev: u64,
    /// Birth time, where the filesystem tells it.
    pub btime: (i64, u32),
}

/// A tree as text.
#[derive(Clone, Debug, Default)]
pub struct Dump {
    /// One line per path, without the path.
    pub lines: BTreeMap<Vec<u8>, String>,
    /// The inode of each path.
    pub inodes: BTreeMap<Vec<u8>, Identity>,
    /// Names whose `d_ino` or `d_type` is not that of the inode.
    pub odd_entries: Vec<String>,
}

impl Dump {
    /// The whole text.
    pub fn text(&self) -> String {
        let mut out = String::new();
        for (path, line) in &self.lines {
            let _ = writeln!(out, "{} {line}", escape(path));
        }
        out
    }
}

/// The tree at `root`. A failing system call becomes part of the text.
pub fn dump(root: &Path, options: &DumpOptions) -> Dump {
    let mut d = Dumper {
        options,
        out: Dump::default(),
        links: HashMap::new(),
    };
    d.walk(root, b"/");
    d.out
}

/// The lines that differ (`-` only or first in `a`, `+` in `b`), if any.
pub fn compare(a: &Dump, b: &Dump) -> Option<String> {
    let mut out = String::new();
    let paths: std::collections::BTreeSet<_> = a.lines.keys().chain(b.lines.keys()).collect();
    let mut n = 0;
    for p in paths {
        let (x, y) = (a.lines.get(p), b.lines.get(p));
        if x == y {
            continue;
        }
        n += 1;
        if n > 10 {
            continue;
        }
        for (sign, line) in [('-', x), ('+', y)] {
            if let Some(line) = line {
                let _ = writeln!(out, "{sign} {} {line}", escape(p));
            }
        }
    }
    if n > 10 {
        let _ = writeln!(out, "… {n} paths in all");
    }
    (n > 0).then_some(out)
}

struct Dumper<'a> {
    options: &'a DumpOptions,
    out: Dump,
    links: HashMap<(u64, u64), Vec<u8>>,
}

const WANT: StatxFlags = StatxFlags::BASIC_STATS.union(StatxFlags::BTIME);

fn dev_of(st: &Statx) -> u64 {
    rustix::fs::makedev(st.stx_dev_major, st.stx_dev_minor)
}

impl Dumper<'_> {
    fn walk(&mut self, at: &Path, path: &[u8]) -> Option<(u64, char)> {
        let st = match rustix::fs::statx(CWD, at, AtFlags::SYMLINK_NOFOLLOW, WANT) {
            Ok(st) => st,
            Err(e) => {
                self.put(path, format!("statx: {e:?}"));
                return None;
            }
        };
        let kind = match u32::from(st.stx_mode) & libc::S_IFMT {
            libc::S_IFDIR => ('d', "dir"),
            libc::S_IFREG => ('-', "file"),
            libc::S_IFLNK => ('l', "symlink"),
            libc::S_IFIFO => ('p', "fifo"),
            libc::S_IFSOCK => ('s', "sock"),
            libc::S_IFCHR => ('c', "char"),
            libc::S_IFBLK => ('b', "block"),
            _ => ('?', "?"),
        };
        let id = Identity {
            ino: st.stx_ino,
            dev: dev_of(&st),
            btime: (st.stx_btime.tv_sec, st.stx_btime.tv_nsec),
        };
        self.out.inodes.insert(path.to_vec(), id);
        // Whiteouts share an inode or not: it says nothing.
        let whiteout = kind.0 == 'c' && (st.stx_rdev_major, st.stx_rdev_minor) == (0, 0);
        if kind.0 != 'd' && st.stx_nlink > 1 && !whiteout {
            let key = (id.dev, id.ino);
            if let Some(first) = self.links.get(&key) {
                let line = format!("link {}", escape(first));
                self.put(path, line);
                return Some((st.stx_ino, kind.0));
            }
            self.links.insert(key, path.to_vec());
        }
        let mut line = format!(
            "{} {:04o} {}:{}",
            kind.1,
            u32::from(st.stx_mode) & 0o7777,
            st.stx_uid,
            st.stx_gid
        );
        if kind.0 != 'd' && !whiteout {
            let _ = write!(line, " nlink={}", st.stx_nlink);
        }
        match kind.0 {
            '-' => {
                let _ = write!(line, " size={} {}", st.stx_size, content(at));
            }
            'l' => {
                let _ = match rustix::fs::readlinkat(CWD, at, Vec::new()) {
                    Ok(t) => write!(line, " -> {}", escape(t.as_bytes())),
                    Err(e) => write!(line, " readlink: {e:?}"),
                };
            }
            'c' | 'b' => {
                let _ = write!(line, " dev={}:{}", st.stx_rdev_major, st.stx_rdev_minor);
            }
            _ => {}
        }
        self.mtime(&mut line, &st);
        self.xattrs(&mut line, at);
        self.put(path, line);
        if kind.0 == 'd' {
            self.children(at, path);
        }
        Some((st.stx_ino, kind.0))
    }

    fn children(&mut self, at: &Path, path: &[u8]) {
        let mut entries = match sys::list(at) {
            Ok(v) => v,
            Err(e) => return self.put(path, format!("readdir: {e:?}")),
        };
        entries.sort_by(|a, b| a.name.cmp(&b.name));
        if let Some(w) = entries.windows(2).find(|w| w[0].name == w[1].name) {
            let name = escape(w[0].name.as_bytes());
            self.put(path, format!("readdir: {name} is listed twice"));
        }
        for e in entries {
            if path == b"/" && self.options.hide_names.iter().any(|n| e.name == *n) {
                continue;
            }
            let mut child = path.to_vec();
            if child != b"/" {
                child.push(b'/');
            }
            child.extend_from_slice(e.name.as_bytes());
            if let Some((ino, kind)) = self.walk(&at.join(&e.name), &child)
                && (ino != e.ino || kind != e.kind)
            {
                self.out.odd_entries.push(format!(
                    "{}: d_ino {} d_type {}, st_ino {ino} type {kind}",
                    escape(&child),
                    e.ino,
                    e.kind
                ));
            }
        }
    }

    fn mtime(&self, line: &mut String, st: &Statx) {
        let (s, n) = (st.stx_mtime.tv_sec, st.stx_mtime.tv_nsec);
        let _ = match self.options.mtime {
            Mtime::Ignore => Ok(()),
            Mtime::NowFrom(t) if s >= t && s < t + 86_400 => write!(line, " mtime=now"),
            _ => write!(line, " mtime={s}.{n:09}"),
        };
    }

    fn xattrs(&self, line: &mut String, at: &Path) {
        let names = match sys::xattr_names(at) {
            Ok(n) => n,
            Err(e) => {
                let _ = write!(line, " listxattr: {e:?}");
                return;
            }
        };
        for name in names {
            let hidden = |p: &&str| name.starts_with(p.as_bytes());
            if self.options.hide_xattrs.iter().any(hidden) {
                continue;
            }
            let _ = match sys::xattr(at, &name) {
                Ok(v) if v.len() <= 40 && v.iter().all(|b| b.is_ascii_graphic()) => {
                    write!(line, " {}=\"{}\"", escape(&name), escape(&v))
                }
                Ok(v) if v.len() <= 40 => {
                    let hex: String = v.iter().map(|b| format!("{b:02x}")).collect();
                    write!(line, " {}=0x{hex}", escape(&name))
                }
                Ok(v) => {
                    let mut h = Hash::new();
                    h.update(&v);
                    write!(line, " {}=#{}:{:016x}", escape(&name), v.len(), h.finish())
                }
                Err(e) => write!(line, " {}={e:?}", escape(&name)),
            };
        }
    }

    fn put(&mut self, path: &[u8], line: String) {
        self.out
            .lines
            .entry(path.to_vec())
            .and_modify(|l| {
                l.push(' ');
                l.push_str(&line);
            })
            .or_insert(line);
    }
}

fn content(at: &Path) -> String {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NOATIME | OFlags::CLOEXEC;
    let fd = match rustix::fs::open(at, flags, Mode::empty()) {
        Ok(fd) => fd,
        Err(e) => return format!("open: {e:?}"),
    };
    let mut hash = Hash::new();
    let mut buf = vec![0u8; 64 * 1024];
    let mut total = 0;
    loop {
        let mut have = 0;
        while have < buf.len() {
            match rustix::io::read(&fd, &mut buf[have..]) {
                Ok(0) => break,
                Ok(n) => have += n,
                Err(e) => return format!("read at {}: {e:?}", total + have),
            }
        }
        if total == 0 && have <= 40 {
            return format!("data=\"{}\"", escape(&buf[..have]));
        }
        hash.update(&buf[..have]);
        total += have;
        if have < buf.len() {
            return format!("data=#{total}:{:016x}", hash.finish());
        }
    }
}
