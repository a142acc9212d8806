//! Operations as text, one a line:
//!
//! ```text
//! create /f 0644 ["data"] [umask=022]     mkdir /d 0755 [umask=022]
//! symlink /l target                       mknod /n fifo|sock|char:1:3|block:7:0 0644
//! unlink /f   rmdir /d                    link /f /g
//! rename /a /b [noreplace|exchange|whiteout]
//! write /f 3 "data"   truncate /f 0       fallocate /f 0 10 20
//! chmod /f 0600   chown /f 1:2|1:-|-:2    utimens /f 5.5 7.25|keep|now
//! setattr /f mode=0600 uid=1 gid=2 size=0 mtime=5.5
//! setxattr /f user.k "v" [create|replace] removexattr /f user.k
//! copyup /f|touch (open for writing)      trunc /f (open with O_TRUNC)
//! fsync /f   fdatasync /f
//! flags /f 64   fsflags /f 128             copy /from 0 /to 0 10
//! ino L /f   same L /f   differs L /f     st_ino is remembered, compared
//! open L /f [w]  release L                an open descriptor
//! read L 0 "data"  pwrite L 0 "data"  fstat L nlink=0  id L /d
//! gone /f (ENOENT)   forget   remount
//! ```
//!
//! `@UID:GID` before it says who asks.

use super::Rig;
use super::view::ROOT;
use crate::common::tree::unescape;
use capas::sys::Errno;
use capas::sys::fs::{Replace, SetTime, Time};
use capas::union::{Caller, Make, SetAttr};
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};

const ERRORS: &[(&str, Errno)] = &[
    ("EACCES", Errno::ACCESS),
    ("EDQUOT", Errno::DQUOT),
    ("EEXIST", Errno::EXIST),
    ("EINVAL", Errno::INVAL),
    ("EIO", Errno::IO),
    ("EISDIR", Errno::ISDIR),
    ("EMFILE", Errno::MFILE),
    ("ENAMETOOLONG", Errno::NAMETOOLONG),
    ("ENODATA", Errno::NODATA),
    ("ENOENT", Errno::NOENT),
    ("ENOMEM", Errno::NOMEM),
    ("ENOSPC", Errno::NOSPC),
    ("ENOTDIR", Errno::NOTDIR),
    ("ENOTEMPTY", Errno::NOTEMPTY),
    ("EOPNOTSUPP", Errno::OPNOTSUPP),
    ("EPERM", Errno::PERM),
    ("EROFS", Errno::ROFS),
    ("ESTALE", Errno::STALE),
    ("EXDEV", Errno::XDEV),
];

/// The error of that name.
pub fn errno(name: &str) -> Errno {
    let found = ERRORS.iter().find(|(n, _)| *n == name);
    found.unwrap_or_else(|| panic!("no error {name}")).1
}

/// What an error is called.
pub fn name_of(e: Errno) -> String {
    match ERRORS.iter().find(|(_, known)| *known == e) {
        Some((name, _)) => (*name).to_owned(),
        None => format!("{e:?}"),
    }
}

fn quoted(word: &str) -> Vec<u8> {
    let inner = word.strip_prefix('"').and_then(|w| w.strip_suffix('"'));
    match (inner, word.strip_prefix('@')) {
        (Some(inner), _) => unescape(inner),
        (None, Some(spec)) => {
            let (seed, len) = spec.split_once(':').expect("@SEED:LENGTH");
            crate::common::pattern(seed.parse().unwrap(), 0, len.parse().unwrap())
        }
        _ => panic!("value {word:?}"),
    }
}

fn octal(word: &str) -> u32 {
    u32::from_str_radix(word, 8).unwrap_or_else(|_| panic!("mode {word:?}"))
}

fn time(word: &str) -> SetTime {
    match word {
        "keep" => SetTime::Keep,
        "now" => SetTime::Now,
        _ => {
            let (sec, frac) = word.split_once('.').unwrap_or((word, "0"));
            SetTime::At(Time {
                sec: sec.parse().unwrap(),
                nsec: format!("{frac:0<9}").parse().unwrap(),
            })
        }
    }
}

fn split(path: &str) -> (&str, OsString) {
    let (parent, name) = path.rsplit_once('/').unwrap();
    (parent, OsString::from_vec(unescape(name)))
}

impl Rig {
    /// This process.
    pub fn caller() -> Caller {
        Caller {
            pid: std::process::id(),
            ..ROOT
        }
    }

    /// Do what the line says.
    pub fn op(&self, line: &str) -> Result<(), Errno> {
        let mut words: Vec<&str> = line.split_whitespace().collect();
        let mut caller = Rig::caller();
        if let Some(who) = words[0].strip_prefix('@') {
            let (uid, gid) = who.split_once(':').unwrap();
            caller = Caller {
                uid: uid.parse().unwrap(),
                gid: gid.parse().unwrap(),
                pid: 0,
            };
            words.remove(0);
        }
        let umask = words
            .iter()
            .find_map(|w| w.strip_prefix("umask="))
            .map_or(0, octal);
        words.retain(|w| !w.starts_with("umask="));
        match words.as_slice() {
            ["forget"] => self.forget(),
            ["remount"] => {
                self.close();
                // Says why in words: which error it was does not matter here.
                return self.open().map_err(|_| Errno::IO);
            }
            ["create", path, mode, data @ ..] => {
                let (parent, name) = split(path);
                let parent = self.id(parent)?;
                let (attr, _) =
                    self.with(|u| u.create(parent, &name, octal(mode), umask, 2, caller))?;
                self.hold(attr.id);
                let result = match data {
                    [data] => self.with(|u| u.write(attr.id, 0, &quoted(data), false, caller)),
                    _ => return self.released(attr.id, Ok(())),
                };
                return self.released(attr.id, result.map(drop));
            }
            ["mkdir", path, mode] => self.make(path, Make::Dir, octal(mode), umask, caller)?,
            ["symlink", path, target] => {
                let target = OsString::from_vec(unescape(target));
                self.make(path, Make::Symlink(&target), 0o777, umask, caller)?;
            }
            ["mknod", path, kind, mode] => {
                let parts: Vec<&str> = kind.split(':').collect();
                let dev =
                    |a: &str, b: &str| rustix::fs::makedev(a.parse().unwrap(), b.parse().unwrap());
                let what = match parts.as_slice() {
                    ["fifo"] => Make::Node(libc::S_IFIFO, 0),
                    ["sock"] => Make::Node(libc::S_IFSOCK, 0),
                    ["char", a, b] => Make::Node(libc::S_IFCHR, dev(a, b)),
                    ["block", a, b] => Make::Node(libc::S_IFBLK, dev(a, b)),
                    _ => panic!("{line}"),
                };
                self.make(path, what, octal(mode), umask, caller)?;
            }
            ["unlink", path] => {
                let (parent, name) = split(path);
                let parent = self.id(parent)?;
                self.with(|u| u.unlink(parent, &name))?;
            }
            ["rmdir", path] => {
                let (parent, name) = split(path);
                let parent = self.id(parent)?;
                self.with(|u| u.rmdir(parent, &name))?;
            }
            ["link", from, to] => {
                let id = self.id(from)?;
                let (parent, name) = split(to);
                let parent = self.id(parent)?;
                let attr = self.with(|u| u.link(id, parent, &name))?;
                self.hold(attr.id);
            }
            ["rename", from, to, how @ ..] => {
                let how = match how {
                    [] => Replace::Yes,
                    ["noreplace"] => Replace::No,
                    ["exchange"] => Replace::Exchange,
                    ["whiteout"] => Replace::Whiteout,
                    _ => panic!("{line}"),
                };
                let ((a, old), (b, new)) = (split(from), split(to));
                let (a, b) = (self.id(a)?, self.id(b)?);
                self.with(|u| u.rename(a, &old, b, &new, how))?;
            }
            _ => return self.op_on_file(line, &words, caller),
        }
        Ok(())
    }

    fn make(
        &self,
        path: &str,
        what: Make<'_>,
        mode: u32,
        umask: u32,
        caller: Caller,
    ) -> Result<(), Errno> {
        let (parent, name) = split(path);
        let parent = self.id(parent)?;
        let attr = self.with(|u| u.make(parent, &name, what, mode, umask, caller))?;
        self.hold(attr.id);
        Ok(())
    }

    fn released(&self, id: u64, result: Result<(), Errno>) -> Result<(), Errno> {
        self.release(id);
        result
    }

    fn release(&self, id: u64) {
        let handle = self.handles.borrow().get(&id).copied().unwrap_or_default();
        self.with(|u| u.release(id, handle, 0));
    }

    /// Open as the kernel does: `ESTALE` is a reason to look the name up again.
    fn opened(&self, path: &str, flags: i32, caller: Caller) -> Result<u64, Errno> {
        let id = self.id(path)?;
        let (id, opened) = match self.with(|u| u.open_file(id, flags, caller)) {
            Err(Errno::STALE) => {
                let id = self.id(path)?;
                (id, self.with(|u| u.open_file(id, flags, caller))?)
            }
            result => (id, result?),
        };
        self.handles.borrow_mut().insert(id, opened.handle);
        Ok(id)
    }

    fn op_on_file(&self, line: &str, words: &[&str], caller: Caller) -> Result<(), Errno> {
        let number = |w: &str| -> u64 { w.parse().unwrap_or_else(|_| panic!("{line}: {w}")) };
        match words {
            ["write", path, offset, data] => {
                let id = self.opened(path, libc::O_RDWR, caller)?;
                let result =
                    self.with(|u| u.write(id, number(offset), &quoted(data), true, caller));
                return self.released(id, result.map(drop));
            }
            ["copyup" | "touch", path] => {
                let id = self.opened(path, libc::O_RDWR, caller)?;
                return self.released(id, Ok(()));
            }
            ["trunc", path] => {
                let id = self.opened(path, libc::O_WRONLY | libc::O_TRUNC, caller)?;
                return self.released(id, Ok(()));
            }
            ["fallocate", path, mode, offset, len] => {
                let id = self.opened(path, libc::O_RDWR, caller)?;
                let mode = i32::try_from(number(mode)).unwrap();
                let result =
                    self.with(|u| u.fallocate(id, mode, number(offset), number(len), caller));
                return self.released(id, result.map(drop));
            }
            ["copy", from, off_in, to, off_out, len] => {
                let from = (self.id(from)?, number(off_in));
                let id = self.opened(to, libc::O_RDWR, caller)?;
                let len = number(len) as usize;
                let to = (id, number(off_out));
                let result = self.with(|u| u.copy_file_range(from, to, len, caller));
                return self.released(id, result.map(drop));
            }
            ["flags", path, flags] => {
                let id = self.id(path)?;
                self.with(|u| u.set_flags(id, number(flags) as u32))?;
            }
            ["fsync", path] => self.with(|u| u.fsync(self.id(path)?, false))?,
            ["fdatasync", path] => self.with(|u| u.fsync(self.id(path)?, true))?,
            ["fsflags", path, flags] => {
                let id = self.id(path)?;
                let mut value = self.with(|u| u.get_fsxattr(id))?;
                value[..4].copy_from_slice(&(number(flags) as u32).to_ne_bytes());
                self.with(|u| u.set_fsxattr(id, &value))?;
            }
            ["truncate", path, size] => self.setattr(path, &[&format!("size={size}")], caller)?,
            ["chmod", path, mode] => self.setattr(path, &[&format!("mode={mode}")], caller)?,
            ["chown", path, ids] => {
                let (uid, gid) = ids.split_once(':').unwrap();
                let set = [format!("uid={uid}"), format!("gid={gid}")];
                let set: Vec<&str> = set.iter().map(String::as_str).collect();
                let set: Vec<&str> = set.into_iter().filter(|s| !s.ends_with('-')).collect();
                self.setattr(path, &set, caller)?;
            }
            ["utimens", path, a, m] => {
                let set = [format!("atime={a}"), format!("mtime={m}")];
                self.setattr(path, &[&set[0], &set[1]], caller)?;
            }
            ["setattr", path, set @ ..] => self.setattr(path, set, caller)?,
            ["setxattr", path, name, value, flags @ ..] => {
                let id = self.id(path)?;
                let flags = match flags {
                    [] => 0,
                    ["create"] => libc::XATTR_CREATE,
                    ["replace"] => libc::XATTR_REPLACE,
                    _ => panic!("{line}"),
                };
                let value = match value.strip_prefix("acl:") {
                    Some(acl) => crate::common::tree::parse_acl(acl).unwrap(),
                    None => quoted(value),
                };
                let name = unescape(name);
                let name = OsStr::from_bytes(&name);
                self.with(|u| u.setxattr(id, name, &value, flags, caller))?;
            }
            ["removexattr", path, name] => {
                let id = self.id(path)?;
                let name = unescape(name);
                self.with(|u| u.removexattr(id, OsStr::from_bytes(&name)))?;
            }
            _ => return self.check(line, words, caller),
        }
        Ok(())
    }

    fn setattr(&self, path: &str, set: &[&str], caller: Caller) -> Result<(), Errno> {
        let id = match path.strip_prefix('=') {
            Some(label) => self.label(label),
            None => self.id(path)?,
        };
        let mut change = SetAttr::default();
        for word in set {
            let (key, value) = word.split_once('=').unwrap();
            match key {
                "mode" => change.mode = Some(octal(value)),
                "uid" => change.uid = Some(value.parse().unwrap()),
                "gid" => change.gid = Some(value.parse().unwrap()),
                "size" => change.size = Some(value.parse().unwrap()),
                "atime" => change.atime = Some(time(value)),
                "mtime" => change.mtime = Some(time(value)),
                _ => panic!("{word}"),
            }
        }
        self.with(|u| u.setattr(id, change, caller)).map(drop)
    }

    fn label(&self, label: &str) -> u64 {
        let known = self.labels.borrow().get(label).copied();
        known.unwrap_or_else(|| panic!("no {label}"))
    }

    fn remember(&self, label: &str, value: u64) {
        self.labels.borrow_mut().insert(label.to_owned(), value);
    }

    fn ino(&self, path: &str) -> Result<u64, Errno> {
        let id = self.id(path)?;
        self.with(|u| u.getattr(id)).map(|a| a.stat.ino)
    }

    fn check(&self, line: &str, words: &[&str], caller: Caller) -> Result<(), Errno> {
        match words {
            ["ino", label, path] => self.remember(label, self.ino(path)?),
            ["same", label, path] => {
                assert_eq!(self.ino(path)?, self.label(label), "{line}: st_ino");
            }
            ["differs", label, path] => {
                assert_ne!(self.ino(path)?, self.label(label), "{line}: st_ino");
            }
            ["id", label, path] => self.remember(label, self.id(path)?),
            ["open", label, path, how @ ..] => {
                let flags = if how == ["w"] {
                    libc::O_RDWR
                } else {
                    libc::O_RDONLY
                };
                let id = self.opened(path, flags, caller)?;
                self.remember(label, id);
            }
            ["release", label] => {
                let id = self.label(label);
                self.release(id);
            }
            ["read", label, offset, data] => {
                let want = quoted(data);
                let mut got = vec![0; want.len() + 1];
                let id = self.label(label);
                let n = self.with(|u| u.read(id, offset.parse().unwrap(), &mut got))?;
                got.truncate(n.min(want.len()));
                assert!(got == want, "{line}: {:?}", String::from_utf8_lossy(&got));
            }
            ["pwrite", label, offset, data] => {
                let id = self.label(label);
                let offset = offset.parse().unwrap();
                self.with(|u| u.write(id, offset, &quoted(data), false, caller))?;
            }
            ["fstat", label, set @ ..] => {
                let id = self.label(label);
                let s = self.with(|u| u.getattr(id))?.stat;
                for word in set {
                    let (key, want) = word.split_once('=').unwrap();
                    let got = match key {
                        "nlink" => s.nlink.to_string(),
                        "size" => s.size.to_string(),
                        "mode" => format!("{:04o}", s.mode & 0o7777),
                        "uid" => s.uid.to_string(),
                        "ino" => format!("{}", s.ino == self.label(want)),
                        _ => panic!("{line}"),
                    };
                    let want = if key == "ino" { "true" } else { want };
                    assert_eq!(got, want, "{line}");
                }
            }
            ["flink", label, to] => {
                let id = self.label(label);
                let (parent, name) = split(to);
                let parent = self.id(parent)?;
                let attr = self.with(|u| u.link(id, parent, &name))?;
                self.hold(attr.id);
            }
            ["lookup", path] => drop(self.id(path)?),
            ["readdir", path] => {
                let id = self.id(path)?;
                self.with(|u| u.readdir(id, 0, |_| true))?;
            }
            ["getxattr", path, name] => {
                let id = self.id(path)?;
                let name = unescape(name);
                self.with(|u| u.getxattr(id, OsStr::from_bytes(&name)))?;
            }
            ["gone", path] => match self.id(path) {
                Err(Errno::NOENT) => {}
                other => panic!("{line}: {other:?}"),
            },
            _ => panic!("no such operation: {line}"),
        }
        Ok(())
    }
}
