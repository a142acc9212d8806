//! The model: random operations on a mount and on a plain directory beside it.
//!
//! What a plain directory answers is right, whatever serves the mount. The
//! exceptions are rules in `pair` and `trees`. Of capasfs: an old read-only
//! descriptor of a lower file above the passthrough threshold may show the
//! lower content; root's write through a descriptor from before the file got
//! set-id bits clears them; a store through a mapping removes capabilities; a
//! FIFO's mtime does not follow writes to it. Of
//! kernel overlayfs, which passes the same runs:
//!
//! - what lies deep gives EXDEV to rename and link (redirects are 256 bytes long at most),
//! - a metacopied file gets a new mtime when it is opened for writing,
//! - an unlinked lower file that only read-only descriptors hold has st_nlink 1
//!   and takes no change of its attributes (ENOENT or EEXIST),
//! - mappings from before a copy-up show the lower content,
//! - d_ino of a hard link in a directory of the upper alone is the upper's.

pub mod concurrent;
pub mod exec;
pub mod generate;
pub mod layers;
pub mod op;
pub mod pair;
pub mod report;
pub mod rng;
pub mod run;
pub mod setup;
pub mod trees;
