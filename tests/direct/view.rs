//! What the union shows, in the form of a dump of a real tree.

use super::Rig;
use crate::common::Hash;
use crate::common::tree::{Dump, Identity, escape};
use capas::sys::fs;
use capas::union::{Attr, Caller, Taken, Union};
use std::collections::BTreeMap;
use std::collections::HashMap;
use std::ffi::OsStr;
use std::fmt::Write as _;
use std::os::unix::ffi::OsStrExt;

/// Root.
pub const ROOT: Caller = Caller {
    uid: 0,
    gid: 0,
    pid: 0,
};

struct Viewer<'a> {
    union: &'a Union,
    since: i64,
    out: Dump,
    links: HashMap<u64, Vec<u8>>,
    /// How many names each number has, and how many it says.
    counts: BTreeMap<u64, (u32, u32, Vec<u8>)>,
}

impl Rig {
    /// The whole tree through the union's own calls. Times of directories are
    /// shown, as all others, as `now` where they are recent. What is wrong
    /// with a name is part of its line.
    pub fn view(&self) -> Dump {
        self.with(|union| {
            let mut v = Viewer {
                union,
                since: self.since,
                out: Dump::default(),
                links: HashMap::new(),
                counts: BTreeMap::new(),
            };
            match union.getattr(1) {
                Ok(attr) => v.show(attr, b"/"),
                Err(e) => v.put(b"/", &format!("getattr: {}", super::ops::name_of(e))),
            }
            for (names, says, path) in std::mem::take(&mut v.counts).into_values() {
                if names != says {
                    v.put(&path, &format!("nlink is {says} but it has {names} names"));
                }
            }
            v.out
        })
    }
}

impl Viewer<'_> {
    fn put(&mut self, path: &[u8], text: &str) {
        let line = self.out.lines.entry(path.to_vec()).or_default();
        if !line.is_empty() {
            line.push(' ');
        }
        line.push_str(text);
    }

    fn show(&mut self, attr: Attr, path: &[u8]) {
        let s = attr.stat;
        let id = Identity {
            ino: s.ino,
            dev: 0,
            btime: (0, 0),
        };
        self.out.inodes.insert(path.to_vec(), id);
        match self.union.getattr(attr.id) {
            Ok(again) if again.stat == s => {}
            Ok(again) => self.put(path, &format!("getattr {:?}, lookup {s:?}", again.stat)),
            Err(e) => self.put(path, &format!("getattr: {e:?}")),
        }
        let kind = match s.kind() {
            libc::S_IFDIR => "dir",
            libc::S_IFREG => "file",
            libc::S_IFLNK => "symlink",
            libc::S_IFIFO => "fifo",
            libc::S_IFSOCK => "sock",
            libc::S_IFCHR => "char",
            libc::S_IFBLK => "block",
            _ => "?",
        };
        if !s.is_dir() {
            let count = (0, s.nlink, path.to_vec());
            self.counts.entry(s.ino).or_insert(count).0 += 1;
            if s.nlink > 1 {
                if let Some(first) = self.links.get(&s.ino) {
                    let text = format!("link {}", escape(first));
                    return self.put(path, &text);
                }
                self.links.insert(s.ino, path.to_vec());
            }
        }
        let mut line = format!("{kind} {:04o} {}:{}", s.mode & 0o7777, s.uid, s.gid);
        if !s.is_dir() {
            let _ = write!(line, " nlink={}", s.nlink);
        }
        match s.kind() {
            libc::S_IFREG => {
                let _ = write!(line, " size={} {}", s.size, self.content(&attr));
            }
            libc::S_IFLNK => {
                let _ = match self.union.readlink(attr.id) {
                    Ok(t) => write!(line, " -> {}", escape(t.as_bytes())),
                    Err(e) => write!(line, " readlink: {e:?}"),
                };
            }
            libc::S_IFCHR | libc::S_IFBLK => {
                let (a, b) = (rustix::fs::major(s.rdev), rustix::fs::minor(s.rdev));
                let _ = write!(line, " dev={a}:{b}");
            }
            _ => {}
        }
        let (sec, nsec) = (s.mtime.sec, s.mtime.nsec);
        let _ = if sec >= self.since && sec < self.since + 86_400 {
            write!(line, " mtime=now")
        } else {
            write!(line, " mtime={sec}.{nsec:09}")
        };
        self.xattrs(&mut line, attr.id);
        self.put(path, &line);
        if s.is_dir() {
            self.children(attr.id, path);
        }
    }

    fn children(&mut self, id: u64, path: &[u8]) {
        let mut entries = Vec::new();
        // In small pieces, as the kernel asks.
        let mut offset = 0;
        loop {
            let mut room = 7;
            let result = self.union.readdir_plus(id, offset, |e, attr| {
                if room == 0 {
                    return Taken::No;
                }
                room -= 1;
                offset = e.next;
                if !e.is_dot() {
                    entries.push((e.clone(), attr.copied()));
                }
                attr.map_or(Taken::Name, |_| Taken::Node)
            });
            if let Err(e) = result {
                return self.put(path, &format!("readdir: {}", super::ops::name_of(e)));
            }
            if room > 0 {
                break;
            }
        }
        entries.sort_by(|(a, _), (b, _)| a.name.cmp(&b.name));
        if let Some(w) = entries.windows(2).find(|w| w[0].0.name == w[1].0.name) {
            let text = format!("{:?} is listed twice", w[0].0.name);
            self.put(path, &text);
        }
        for (e, with) in entries {
            let mut child = path.to_vec();
            if child != b"/" {
                child.push(b'/');
            }
            child.extend_from_slice(e.name.as_bytes());
            match self.union.lookup(id, &e.name) {
                Err(err) => {
                    let text = format!("listed, but: {}", super::ops::name_of(err));
                    self.put(&child, &text);
                }
                Ok(attr) => {
                    if attr.stat.ino != e.ino || attr.stat.kind() != e.kind {
                        let text = format!(
                            "listed as {} {:o}, is {} {:o}",
                            e.ino,
                            e.kind,
                            attr.stat.ino,
                            attr.stat.kind()
                        );
                        self.put(&child, &text);
                    }
                    // Listing and reading leave an access time.
                    let seen = |a: &Attr| {
                        (
                            a.id,
                            fs::Stat {
                                atime: Default::default(),
                                ..a.stat
                            },
                        )
                    };
                    if with.as_ref().map(seen) != Some(seen(&attr)) {
                        self.put(&child, &format!("listed with {with:?}, is {attr:?}"));
                    }
                    self.show(attr, &child);
                    self.union.forget(attr.id, 1);
                }
            }
            if let Some(attr) = with {
                self.union.forget(attr.id, 1);
            }
        }
    }

    fn content(&self, attr: &Attr) -> String {
        let opened = match self.union.open_file(attr.id, libc::O_RDONLY, ROOT) {
            Ok(opened) => opened,
            Err(e) => return format!("open: {e:?}"),
        };
        let mut data = vec![0; attr.stat.size as usize];
        let result = self.union.read(attr.id, 0, &mut data);
        self.union.release(attr.id, opened.handle, libc::O_RDONLY);
        match result {
            Err(e) => return format!("read: {e:?}"),
            Ok(n) if n < data.len() => return format!("only {n} bytes"),
            Ok(_) => {}
        }
        if data.len() <= 40 {
            return format!("data=\"{}\"", escape(&data));
        }
        let mut hash = Hash::new();
        hash.update(&data);
        format!("data=#{}:{:016x}", data.len(), hash.finish())
    }

    fn xattrs(&self, line: &mut String, id: u64) {
        let list = match self.union.listxattr(
            id,
            Caller {
                pid: std::process::id(),
                ..ROOT
            },
        ) {
            Ok(list) => list,
            Err(e) => {
                let _ = write!(line, " listxattr: {e:?}");
                return;
            }
        };
        let mut names: Vec<&[u8]> = list.split(|b| *b == 0).filter(|n| !n.is_empty()).collect();
        names.sort_unstable();
        for name in names {
            let _ = match self.union.getxattr(id, OsStr::from_bytes(name)) {
                Ok(v) if v.len() <= 40 && v.iter().all(u8::is_ascii_graphic) => {
                    write!(line, " {}=\"{}\"", escape(name), escape(&v))
                }
                Ok(v) if v.len() <= 40 => {
                    let hex: String = v.iter().map(|b| format!("{b:02x}")).collect();
                    write!(line, " {}=0x{hex}", escape(name))
                }
                Ok(v) => {
                    let mut h = Hash::new();
                    h.update(&v);
                    write!(line, " {}=#{}:{:016x}", escape(name), v.len(), h.finish())
                }
                Err(e) => write!(line, " {}={e:?}", escape(name)),
            };
        }
    }
}
