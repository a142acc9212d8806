//! What each layer of an image adds, changes and removes, and what of it is
//! there for nothing.
//!
//! The layers' directories are read bottom first onto one tree of every path
//! that any of them names. For each layer a list is kept of what it does to
//! the merged layers below it: an entry is *added* where there was none,
//! *changed* where there was one (a directory on a directory only if its mode
//! or owner differ), *removed* where a whiteout, an opaque directory or a file
//! in a directory's place hides it. The tree as any layer leaves it follows
//! from these lists, see [`view`].
//!
//! Bytes are those of regular files, holes included; a file with several names
//! counts once, at the first of them.
//!
//! - *wasted*: bytes of files that the image no longer shows under any name,
//!   since later layers replaced or removed all their names;
//! - *duplicated*: bytes of files whose content is in the layers once more,
//!   under another name or in an earlier layer, see [`duplicates`];
//! - *efficiency*: 1 - wasted / bytes of all layers, and 1 for an empty image;
//! - *wasted of what was built*: wasted / bytes of all layers but the lowest,
//!   which mostly is somebody else's. 0 where there are none.
//!
//! Memory is linear in the entries of all layers: nothing can be removed that
//! was not added by an entry.

pub mod analysis;
pub mod duplicates;
pub mod label;
mod merge;
pub mod view;

pub use analysis::{Analysis, Change, Kind, Layer, Node, ROOT, Status, Waste};
