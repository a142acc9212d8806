//! What the layers of an image show under a name. They hold whiteouts and
//! opaque directories, but no other marks: unpacking leaves those out.

use super::join;
use crate::store::error::{Context, Result, show};
use crate::store::unpack::{WHITEOUT, is_opaque};
use crate::store::walk;
use crate::sys::fs::{self as sfs, Stat};
use crate::sys::tree::{self, Links};
use crate::sys::{Errno, dir};
use std::collections::BTreeSet;
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::PathBuf;

/// The layers, top first.
#[derive(Debug)]
pub struct Image {
    roots: Vec<File>,
}

/// A directory as the layers show it together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dir {
    /// Where it is in each of them.
    pub path: Vec<u8>,
    /// Those that have it, top first; never empty.
    pub layers: Vec<usize>,
}

/// A [`Dir`] that is open.
#[derive(Debug)]
pub struct OpenDir {
    path: Vec<u8>,
    parts: Vec<(usize, OwnedFd)>,
}

/// What is found under a name.
#[derive(Debug)]
pub enum Found {
    /// Nothing.
    Nothing,
    /// A directory, with the attributes that are seen.
    Dir(Dir, Stat),
    /// Something else, in that layer.
    Other(usize, Stat),
}

impl Found {
    /// Attributes of what was found.
    pub fn stat(&self) -> Option<Stat> {
        match self {
            Found::Nothing => None,
            Found::Dir(_, stat) | Found::Other(_, stat) => Some(*stat),
        }
    }
}

impl Image {
    /// Open the layers' directories, top first.
    ///
    /// # Errors
    /// When one is not there.
    pub fn open(layers: &[PathBuf]) -> Result<Image> {
        let open = |path: &PathBuf| {
            File::open(path).context(|| format!("cannot open the layer {}", path.display()))
        };
        Ok(Image {
            roots: layers.iter().map(open).collect::<Result<_>>()?,
        })
    }

    /// A layer's root.
    pub fn root(&self, layer: usize) -> Option<&File> {
        self.roots.get(layer)
    }

    /// The root of all.
    pub fn top(&self) -> Option<Dir> {
        let layers: Vec<usize> = (0..self.roots.len()).collect();
        (!layers.is_empty()).then(|| Dir {
            path: Vec::new(),
            layers,
        })
    }

    /// Open a directory.
    ///
    /// # Errors
    /// When it cannot be.
    pub fn enter(&self, dir: &Dir) -> Result<OpenDir> {
        let say = || format!("cannot open {} of the image", show(&dir.path));
        let mut parts = Vec::new();
        for layer in &dir.layers {
            if let Some(root) = self.root(*layer) {
                let path = OsStr::from_bytes(&dir.path);
                let fd = tree::open_dir_beneath(root, path, Links::Refuse).context(say)?;
                parts.push((*layer, fd));
            }
        }
        Ok(OpenDir {
            path: dir.path.clone(),
            parts,
        })
    }

    /// What is at a path from the root.
    ///
    /// # Errors
    /// When a layer cannot be read.
    pub fn find(&self, path: &[u8]) -> Result<Found> {
        let mut at = self.top();
        let mut parts = path.split(|b| *b == b'/').peekable();
        while let (Some(dir), Some(part)) = (at, parts.next()) {
            match (self.enter(&dir)?.find(part)?, parts.peek()) {
                (found, None) => return Ok(found),
                (Found::Dir(dir, _), Some(_)) => at = Some(dir),
                _ => break,
            }
        }
        Ok(Found::Nothing)
    }
}

impl OpenDir {
    /// Where it is in its layers.
    pub fn path(&self) -> &[u8] {
        &self.path
    }

    /// What is under a name.
    ///
    /// # Errors
    /// When a layer cannot be read.
    pub fn find(&self, name: &[u8]) -> Result<Found> {
        let say = || format!("cannot look for {} in the image", show(name));
        let mark = [WHITEOUT, name].concat();
        let (name, mark) = (OsStr::from_bytes(name), OsStr::from_bytes(&mark));
        let mut layers = Vec::new();
        let mut seen = None;
        for (layer, fd) in &self.parts {
            match sfs::absent(sfs::stat_at(fd, name)).context(say)? {
                Some(stat) if stat.is_whiteout() => break,
                Some(stat) if stat.is_dir() => {
                    seen.get_or_insert(stat);
                    layers.push(*layer);
                    let inner = sfs::open_dir_path(fd, name).context(say)?;
                    if is_opaque(inner.as_fd()) {
                        break;
                    }
                }
                Some(stat) if layers.is_empty() => return Ok(Found::Other(*layer, stat)),
                Some(_) => break,
                None => {}
            }
            // A whiteout as a file may stand beside what replaces the name. Too
            // long a name cannot have one.
            match sfs::stat_at(fd, mark) {
                Ok(_) => break,
                Err(Errno::NOENT | Errno::NAMETOOLONG) => {}
                Err(e) => return Err(e).context(say),
            }
        }
        Ok(match seen {
            Some(stat) => Found::Dir(
                Dir {
                    path: join(&self.path, name.as_bytes()),
                    layers,
                },
                stat,
            ),
            None => Found::Nothing,
        })
    }

    /// The names that any of the layers has there; not all need be seen.
    ///
    /// # Errors
    /// When a layer cannot be read.
    pub fn names(&self) -> Result<BTreeSet<Vec<u8>>> {
        let say = || format!("cannot read {} of the image", show(&self.path));
        let mut out = BTreeSet::new();
        for (_, fd) in &self.parts {
            let names = dir::open_unseen(fd).and_then(walk::names).context(say)?;
            let names = names.into_iter().map(OsString::into_vec);
            out.extend(names.filter(|n| !n.starts_with(WHITEOUT)));
        }
        Ok(out)
    }
}
