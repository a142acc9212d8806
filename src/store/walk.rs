//! Trees that are only looked at: everything in one, and what it takes on the
//! disk.

use super::error::{Context, Result};
use crate::sys::fs::{self as sfs, Stat};
use crate::sys::{At, Errno, dir};
use std::collections::HashSet;
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// Call `each` with the directory, name and attributes of all that is under
/// `root`. Other file systems that are mounted there are left out, and so is
/// what vanishes meanwhile. A directory that may not be read is a warning.
///
/// # Errors
/// When the tree cannot be read, and those of `each`.
pub fn walk(
    root: &Path,
    mut each: impl FnMut(&OwnedFd, &OsStr, &Stat) -> Result<()>,
) -> Result<()> {
    let say = || format!("cannot read {}", root.display());
    let top = match File::open(root) {
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        top => top.context(say)?,
    };
    let device = sfs::stat_fd(&top).context(say)?.dev;
    // Breadth by descriptors would need as many as the tree is wide; names on
    // the way down are kept instead, one open directory at a time.
    let mut todo: Vec<Vec<OsString>> = vec![Vec::new()];
    while let Some(path) = todo.pop() {
        let fd = match descend(&top, &path) {
            Ok(fd) => fd,
            Err(e @ Errno::ACCESS) => {
                let inner: std::path::PathBuf = path.iter().collect();
                log::warn!("cannot read {}: {e}", root.join(inner).display());
                continue;
            }
            Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => continue,
            Err(e) => return Err(e).context(say),
        };
        for name in names(&fd).context(say)? {
            let Some(stat) = sfs::absent(sfs::stat_at(&fd, &name)).context(say)? else {
                continue;
            };
            if stat.dev != device {
                continue;
            }
            each(&fd, &name, &stat)?;
            if stat.is_dir() {
                let mut below = path.clone();
                below.push(name);
                todo.push(below);
            }
        }
    }
    Ok(())
}

/// The directory at the end of `path`, for reading; no symlink is followed.
///
/// # Errors
/// As open(2).
pub fn descend(root: impl AsFd, path: &[OsString]) -> crate::sys::Result<OwnedFd> {
    let mut fd = sfs::path_of(At::Fd(root.as_fd()))?;
    for name in path {
        fd = sfs::open_dir_path(&fd, name)?;
    }
    dir::open(&fd)
}

/// The names in a directory that is open for reading.
///
/// # Errors
/// As getdents(2).
pub fn names(fd: impl AsFd) -> crate::sys::Result<Vec<OsString>> {
    let mut out = Vec::new();
    dir::read(fd, 0, |entry| {
        out.push(entry.name.to_owned());
        true
    })?;
    Ok(out)
}

/// What things take on the disk, as `du -x` counts: blocks, directories too,
/// and a file with several names once.
#[derive(Debug, Default)]
pub struct Taken {
    seen: HashSet<(u64, u64)>,
}

impl Taken {
    /// What `path` and all in it add to what was counted before; 0 for what
    /// is not there.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn add(&mut self, path: &Path) -> Result<u64> {
        let meta = match std::fs::symlink_metadata(path) {
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(0),
            meta => meta.context(|| format!("cannot read {}", path.display()))?,
        };
        let mut total = meta.blocks().saturating_mul(512);
        if meta.is_dir() {
            walk(path, |_, _, stat| {
                let linked = !stat.is_dir() && stat.nlink > 1;
                if !linked || self.seen.insert((stat.dev, stat.ino)) {
                    total += stat.blocks.saturating_mul(512);
                }
                Ok(())
            })?;
        }
        Ok(total)
    }
}
