//! What a container has changed, read from its writable layer alone: the image's
//! layers are only asked for the names that the writable layer has.
//!
//! The driver's marks are resolved here, so that who reads this needs to know
//! none: a directory that was renamed (`overlay.redirect`) is told with all that
//! it shows, a file whose data still lies below (`overlay.metacopy`) with the
//! place of its data.

pub mod image;
mod walk;

use crate::store::error::{Context, Result, invalid, show};
use crate::sys::fs::Stat;
use crate::sys::tree::{self, Links};
use image::Image;
use std::ffi::OsStr;
use std::fs::File;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
pub use walk::family;

/// What has become of a name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum What {
    /// It is as described.
    Here {
        /// What it is now.
        stat: Stat,
        /// Where its attributes are.
        attributes: Place,
        /// Where the data of a file is.
        data: Place,
    },
    /// It is gone.
    Gone,
    /// It went with the directory that had it, of which another has the place.
    GoneBefore,
}

/// A file or directory of one of the trees.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// One of the image's layers, top first; `None` is the writable layer.
    pub layer: Option<usize>,
    /// Its path there; empty for the root.
    pub path: Vec<u8>,
}

/// One name that was added, changed or removed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// Where, without a leading slash; empty for the root.
    pub path: Vec<u8>,
    /// What has become of it.
    pub what: What,
    /// What the image has there; not told of the root.
    pub before: Option<Stat>,
    /// A directory in the place of one of the image that is not merged with it.
    pub replaces: bool,
}

impl Change {
    /// Is it a directory now.
    pub fn is_dir(&self) -> bool {
        matches!(&self.what, What::Here { stat, .. } if stat.is_dir())
    }
}

/// The trees that a container is made of.
#[derive(Debug)]
pub struct Trees {
    upper: File,
    image: Image,
}

impl Trees {
    /// The writable layer, and the image's layers, top first.
    ///
    /// # Errors
    /// When one cannot be opened.
    pub fn open(upper: &Path, layers: &[PathBuf]) -> Result<Trees> {
        let say = || format!("cannot open {}", upper.display());
        Ok(Trees {
            upper: File::open(upper).context(say)?,
            image: Image::open(layers)?,
        })
    }

    /// All changes: parents before what is in them, names in their order.
    ///
    /// # Errors
    /// When a tree cannot be read, or a mark leads nowhere.
    pub fn changes(&self) -> Result<Vec<Change>> {
        let mut changes = walk::walk(&self.upper, &self.image)?;
        let slash = |b: &u8| *b == b'/';
        changes.sort_by(|a, b| a.path.split(slash).cmp(b.path.split(slash)));
        Ok(changes)
    }

    /// The directory that holds a place, and the name in it; the root is its
    /// own `.`.
    ///
    /// # Errors
    /// When it is gone.
    pub fn locate<'a>(&self, place: &'a Place) -> Result<(OwnedFd, &'a OsStr)> {
        let (dir, name) = split(&place.path);
        let root = match place.layer {
            None => Some(&self.upper),
            Some(number) => self.image.root(number),
        };
        let Some(root) = root else {
            return invalid("there is no such layer");
        };
        let dir = tree::open_dir_beneath(root, OsStr::from_bytes(dir), Links::Refuse)
            .context(|| format!("cannot open {}", show(dir)))?;
        let name = if name.is_empty() { b"." } else { name };
        Ok((dir, OsStr::from_bytes(name)))
    }
}

/// A path's directory and last part.
pub fn split(path: &[u8]) -> (&[u8], &[u8]) {
    match path.iter().rposition(|b| *b == b'/') {
        Some(slash) => (
            path.get(..slash).unwrap_or_default(),
            path.get(slash + 1..).unwrap_or_default(),
        ),
        None => (&[], path),
    }
}

/// The path of a name in a directory.
pub fn join(dir: &[u8], name: &[u8]) -> Vec<u8> {
    match dir {
        [] => name.to_vec(),
        dir => [dir, b"/", name].concat(),
    }
}

#[cfg(test)]
mod tests;
