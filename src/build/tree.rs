//! Where files are copied from: a directory of the machine, or what the layers
//! of an image show together. Every name is reached from the root by descriptors;
//! nothing leads out of it.

use super::pattern::Patterns;
use crate::container::changes::image::{Found, Image, OpenDir};
use crate::store::error::{Context, Error, Result, invalid, show};
use crate::store::walk;
use crate::sys::fs::{self as sfs, Stat};
use crate::sys::tree::{self, Links};
use crate::sys::{At, dir};
use std::collections::{BTreeSet, VecDeque};
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};

/// The kernel follows no more.
const MAX_LINKS: usize = 40;

/// A tree.
#[derive(Debug)]
pub enum Tree {
    /// A directory of the machine, and what of it does not count.
    Directory {
        /// Its root.
        root: File,
        /// What is left out.
        ignore: Patterns,
        /// Files belong to who they belong to, else to root.
        keeps_owners: bool,
        /// What it is called in errors.
        called: &'static str,
    },
    /// The layers of an image.
    Layers(Image),
}

/// A directory of a tree, open.
#[derive(Debug)]
pub enum Open {
    /// Of the machine.
    Plain(OwnedFd),
    /// Of several layers.
    Merged(OpenDir),
}

/// A path without symlinks in it, and what is there.
#[derive(Clone, Debug)]
pub struct Resolved {
    /// The path, relative to the root.
    pub path: Vec<u8>,
    /// What is there, if anything.
    pub stat: Option<Stat>,
}

/// The path of a name in a directory.
pub fn join(dir: &[u8], name: &[u8]) -> Vec<u8> {
    match dir {
        [] => name.to_vec(),
        dir => [dir, b"/", name].concat(),
    }
}

/// A path's directory and last part.
pub fn split(path: &[u8]) -> (&[u8], &[u8]) {
    crate::container::changes::split(path)
}

impl Tree {
    /// What is at a path that has no symlink in it.
    ///
    /// # Errors
    /// When the tree cannot be read.
    pub fn find(&self, path: &[u8]) -> Result<Option<Stat>> {
        match self {
            Tree::Layers(_) if path.is_empty() => Ok(Some(root_of_layers(self)?)),
            Tree::Layers(image) => Ok(image.find(path)?.stat()),
            Tree::Directory { root, .. } => {
                let say = || self.say(path);
                if path.is_empty() {
                    return sfs::stat_fd(root).map(Some).context(say);
                }
                let (dir, name) = split(path);
                let dir = tree::open_dir_beneath(root, OsStr::from_bytes(dir), Links::Refuse);
                let found = dir.and_then(|dir| sfs::stat_at(dir, OsStr::from_bytes(name)));
                match found {
                    Err(crate::sys::Errno::NOTDIR) => Ok(None),
                    found => sfs::absent(found).context(say),
                }
            }
        }
    }

    fn say(&self, path: &[u8]) -> String {
        match self {
            Tree::Directory { called, .. } => format!("cannot read {} of {called}", show(path)),
            Tree::Layers(_) => format!("cannot read {} of the image", show(path)),
        }
    }

    /// The directory that holds what is at `path`, and its name there.
    ///
    /// # Errors
    /// When it cannot be read or is not there.
    pub fn locate<'a>(&self, path: &'a [u8]) -> Result<(OwnedFd, &'a OsStr)> {
        let say = || self.say(path);
        let (dir, name) = split(path);
        let root = match self {
            Tree::Directory { root, .. } => Some(root),
            Tree::Layers(image) if path.is_empty() => image.root(0),
            Tree::Layers(image) => match image.find(path)? {
                Found::Nothing => None,
                Found::Dir(dir, _) => dir.layers.first().and_then(|l| image.root(*l)),
                Found::Other(layer, _) => image.root(layer),
            },
        };
        let Some(root) = root else {
            return invalid(format!("{}: it is not there", say()));
        };
        let dir = tree::open_dir_beneath(root, OsStr::from_bytes(dir), Links::Refuse);
        let name: &[u8] = if name.is_empty() { b"." } else { name };
        Ok((dir.context(say)?, OsStr::from_bytes(name)))
    }

    /// Open a directory.
    ///
    /// # Errors
    /// When it is none, or cannot be read.
    pub fn enter(&self, path: &[u8]) -> Result<Option<Open>> {
        match self {
            Tree::Directory { root, .. } => {
                let fd = tree::open_dir_beneath(root, OsStr::from_bytes(path), Links::Refuse);
                Ok(Some(Open::Plain(fd.context(|| self.say(path))?)))
            }
            Tree::Layers(image) => {
                let dir = match path {
                    [] => image.top(),
                    path => match image.find(path)? {
                        Found::Dir(dir, _) => Some(dir),
                        _ => None,
                    },
                };
                dir.map(|dir| image.enter(&dir).map(Open::Merged))
                    .transpose()
            }
        }
    }

    /// Follow the symlinks of a path as in a chroot; the last part too if
    /// `last`. What is not there ends it, and the rest stays as it is.
    ///
    /// # Errors
    /// When it leads out of a directory of the machine, or in circles.
    pub fn resolve(&self, path: &str, last: bool) -> Result<Resolved> {
        let mut left: VecDeque<Vec<u8>> = parts(path.as_bytes()).collect();
        let mut at: Vec<Vec<u8>> = Vec::new();
        let mut links = 0;
        let mut found = self.find(b"")?;
        while let Some(part) = left.pop_front() {
            if part == b".." {
                if at.pop().is_none() {
                    self.leads_out(path)?;
                }
                found = self.find(&at.join(&b'/'))?;
                continue;
            }
            at.push(part);
            let here = at.join(&b'/');
            found = match found.is_some_and(|s| s.is_dir()) {
                true => self.find(&here)?,
                false => None,
            };
            let is_link = found.is_some_and(|s| s.kind() == libc::S_IFLNK);
            if !is_link || left.is_empty() && !last {
                continue;
            }
            links += 1;
            if links > MAX_LINKS {
                return invalid(format!("{path}: too many symbolic links"));
            }
            let (dir, name) = self.locate(&here)?;
            let target = sfs::readlink(At::Name(dir.as_fd(), name)).context(|| self.say(&here))?;
            let target = target.as_bytes();
            at.pop();
            if target.starts_with(b"/") {
                self.leads_out(path)?;
                at.clear();
            }
            found = self.find(&at.join(&b'/'))?;
            for part in parts(target).collect::<Vec<_>>().into_iter().rev() {
                left.push_front(part);
            }
        }
        Ok(Resolved {
            path: at.join(&b'/'),
            stat: found,
        })
    }

    /// In an image the root is the end; a directory of the machine is not left.
    fn leads_out(&self, path: &str) -> Result<()> {
        match self {
            Tree::Layers(_) => Ok(()),
            Tree::Directory { called, .. } => Err(Error::Invalid(format!(
                "{} leads out of {called}: only what is in it can be copied",
                show(path.as_bytes())
            ))),
        }
    }

    /// Is a path left out of the tree.
    pub fn leaves_out(&self, path: &[u8]) -> bool {
        match self {
            Tree::Directory { ignore, .. } => !path.is_empty() && ignore.leave_out(path),
            Tree::Layers(_) => false,
        }
    }

    /// Is nothing below a directory wanted that is left out itself.
    pub fn leaves_all_out(&self, path: &[u8]) -> bool {
        match self {
            Tree::Directory { ignore, .. } => self.leaves_out(path) && !ignore.keep_some(),
            Tree::Layers(_) => false,
        }
    }
}

/// The root of layers looks as their topmost says.
fn root_of_layers(tree: &Tree) -> Result<Stat> {
    let empty = Stat {
        mode: libc::S_IFDIR | 0o755,
        ..Stat::default()
    };
    match tree {
        Tree::Layers(image) => match image.root(0) {
            Some(root) => sfs::stat_fd(root).context(|| tree.say(b"")),
            None => Ok(empty),
        },
        Tree::Directory { .. } => Ok(empty),
    }
}

fn parts(path: &[u8]) -> impl Iterator<Item = Vec<u8>> + '_ {
    let all = path.split(|b| *b == b'/');
    all.filter(|p| !p.is_empty() && *p != b".")
        .map(<[u8]>::to_vec)
}

impl Open {
    /// The names in it, in their order.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn names(&self) -> Result<BTreeSet<Vec<u8>>> {
        match self {
            Open::Merged(dir) => dir.names(),
            Open::Plain(fd) => {
                let names = dir::open_unseen(fd).and_then(walk::names);
                let names = names.context(|| "cannot read a directory".to_owned())?;
                Ok(names.into_iter().map(OsString::into_vec).collect())
            }
        }
    }

    /// What is under a name.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn find(&self, name: &[u8]) -> Result<Option<Stat>> {
        match self {
            Open::Merged(dir) => Ok(dir.find(name)?.stat()),
            Open::Plain(fd) => sfs::absent(sfs::stat_at(fd, OsStr::from_bytes(name)))
                .context(|| format!("cannot look at {}", show(name))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    fn directory(path: &std::path::Path) -> Tree {
        Tree::Directory {
            root: File::open(path).unwrap(),
            ignore: Patterns::read("no\n!no/yes\n").unwrap(),
            keeps_owners: false,
            called: "the directory",
        }
    }

    #[test]
    fn a_directory_of_the_machine_is_not_left() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        std::fs::create_dir_all(at("a/b")).unwrap();
        std::fs::write(at("a/f"), "").unwrap();
        symlink("a/b", at("to")).unwrap();
        symlink("../f", at("a/b/up")).unwrap();
        symlink("/etc", at("out")).unwrap();
        symlink("../..", at("a/above")).unwrap();
        symlink("loop", at("loop")).unwrap();
        let tree = directory(dir.path());
        for (path, last, want) in [
            ("a/f", true, Some("a/f")),
            ("./a//b/../f", true, Some("a/f")),
            ("to/up", true, Some("a/f")),
            ("to/up", false, Some("a/b/up")),
            ("to", false, Some("to")),
            ("", true, Some("")),
            ("a/none/x", true, None),
            ("a/f/x", true, None),
        ] {
            let found = tree.resolve(path, last).unwrap();
            let there = found.stat.map(|_| String::from_utf8(found.path).unwrap());
            assert_eq!(there.as_deref(), want, "{path}");
        }
        for path in ["..", "a/../..", "out", "out/passwd", "a/above/x", "loop"] {
            let e = tree.resolve(path, true).unwrap_err().to_string();
            assert!(
                e.contains("leads out of the directory") || e.contains("too many"),
                "{path}: {e}"
            );
        }
        assert!(tree.leaves_out(b"no/x") && !tree.leaves_out(b"no/yes") && !tree.leaves_out(b""));
        assert!(!tree.leaves_all_out(b"no"));
    }

    #[test]
    fn in_layers_the_root_is_the_end() {
        let dir = tempfile::tempdir().unwrap();
        let (top, below) = (dir.path().join("top"), dir.path().join("below"));
        std::fs::create_dir_all(top.join("d")).unwrap();
        std::fs::create_dir_all(below.join("d/e")).unwrap();
        std::fs::write(below.join("d/e/f"), "x").unwrap();
        std::fs::write(top.join("d/.wh.gone"), "").unwrap();
        std::fs::write(below.join("d/gone"), "").unwrap();
        symlink("/../../d/e", top.join("way")).unwrap();
        let tree = Tree::Layers(Image::open(&[top, below]).unwrap());
        let found = tree.resolve("/way/f", true).unwrap();
        assert_eq!(
            (found.path.as_slice(), found.stat.unwrap().size),
            (&b"d/e/f"[..], 1)
        );
        assert!(tree.resolve("/d/gone", true).unwrap().stat.is_none());
        assert!(tree.resolve("/../../d", true).unwrap().stat.is_some());
        let names = tree.enter(b"d").unwrap().unwrap();
        assert!(names.find(b"gone").unwrap().is_none());
        assert!(names.names().unwrap().contains(b"e".as_slice()));
        let (parent, name) = tree.locate(b"d/e/f").unwrap();
        assert_eq!(sfs::stat_at(parent, name).unwrap().size, 1);
    }
}
