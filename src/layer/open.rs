//! The directories of a mount, resolved and checked once, by descriptor.

use std::os::fd::OwnedFd;
use std::path::PathBuf;

/// A directory that a mount uses.
#[derive(Debug)]
pub struct OpenDir {
    /// `O_PATH|O_DIRECTORY` descriptor.
    pub fd: OwnedFd,
    /// As it was given, for messages.
    pub path: PathBuf,
    /// It lies on an idmapped mount: its ids are those that callers see, and
    /// no mapping of ours applies to them.
    pub idmapped: bool,
}

/// A file that a mount uses.
#[derive(Debug)]
pub struct OpenFile {
    /// Open for reading.
    pub fd: OwnedFd,
    /// As it was given, for messages.
    pub path: PathBuf,
}

/// All that a mount has opened.
#[derive(Debug)]
pub struct OpenLayers {
    /// Read-only layers, top first.
    pub lower: Vec<OpenDir>,
    /// The writable layer; none = read-only mount.
    pub upper: Option<OpenDir>,
    /// The work directory, on the upper's file system.
    pub work: Option<OpenDir>,
    /// Locks that keep others off the upper and the work directory.
    pub locks: Vec<OwnedFd>,
    /// What the read-only layers merge to ([`crate::catalog`]).
    pub catalog: Option<OpenFile>,
}
