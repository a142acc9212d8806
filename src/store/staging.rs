//! Things in the making: `tmp/<random>/`, held by a lock on the directory.
//!
//! A staging directory whose lock can be taken belongs to nobody any more, and
//! whoever finds it removes it. All that a staging directory holds is garbage
//! until it has been renamed into place.

use super::discard::remove_tree;
use super::error::{Context, Error, Result};
use crate::sys::tree;
use std::fs::{self, File};
use std::io::ErrorKind;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// What this process has in the making, for when it is interrupted.
static OURS: Mutex<Ours> = Mutex::new(Ours {
    paths: Vec::new(),
    changed: false,
});

#[derive(Debug)]
struct Ours {
    paths: Vec<PathBuf>,
    changed: bool,
}

/// While it is held, an interrupt waits.
#[derive(Debug)]
pub struct Committing(MutexGuard<'static, Ours>);

/// From now on what is in the making becomes what it should be.
pub fn committing() -> Committing {
    Committing(ours())
}

impl Committing {
    /// Something has been done that stays.
    pub fn changed(&mut self) {
        self.0.changed = true;
    }

    /// Remove all that this process has in the making, whose threads can then
    /// write nothing any more; has it done something before that stays. The
    /// caller ends the process while it holds `self`.
    pub fn abandon(&mut self) -> bool {
        for path in std::mem::take(&mut self.0.paths) {
            // Threads that still run may make new names meanwhile.
            for _ in 0..100 {
                match remove(&path) {
                    Err(e) if e.kind() != ErrorKind::NotFound => {}
                    _ => break,
                }
            }
        }
        self.0.changed
    }
}

fn remove(path: &Path) -> std::io::Result<()> {
    match fs::symlink_metadata(path)?.is_dir() {
        true => remove_tree(path),
        false => fs::remove_file(path),
    }
}

/// A file or directory that goes away when this is dropped or the process is
/// interrupted, unless it has another name by then.
#[derive(Debug)]
pub struct Making(PathBuf);

impl Making {
    /// Let `make` make `path`, with no interrupt between.
    ///
    /// # Errors
    /// Those of `make`.
    pub fn new<T, E>(
        path: &Path,
        make: impl FnOnce(&Path) -> std::result::Result<T, E>,
    ) -> std::result::Result<(Making, T), E> {
        let mut ours = ours();
        let made = make(path)?;
        ours.paths.push(path.to_owned());
        Ok((Making(path.to_owned()), made))
    }

    /// What is at `from`, in the making again: it goes without another directory,
    /// for which a full disk has no room. A directory is nobody else's garbage
    /// as long as somebody holds its lock.
    ///
    /// # Errors
    /// When it cannot be moved.
    pub fn again(from: &Path, tmp: &Path) -> Result<Making> {
        let path = tmp.join(random_hex(8)?);
        let moved = Making::new(&path, |path| tree::rename(from, path));
        let moved = moved.context(|| format!("cannot move {} away", from.display()));
        Ok(moved?.0)
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Making {
    fn drop(&mut self) {
        let mut ours = ours();
        ours.paths.retain(|p| *p != self.0);
        if let Err(e) = remove(&self.0)
            && e.kind() != ErrorKind::NotFound
        {
            log::warn!("cannot remove {}: {e}", self.0.display());
        }
    }
}

fn ours() -> MutexGuard<'static, Ours> {
    OURS.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A staging directory; removed when dropped, and then its lock released.
#[derive(Debug)]
pub struct Staging {
    made: Making,
    _dir: File,
}

/// `bytes` random bytes as hex digits.
///
/// # Errors
/// When the system has no randomness.
pub fn random_hex(bytes: usize) -> Result<String> {
    let mut buf = vec![0; bytes];
    tree::random(&mut buf).context(|| "cannot get random bytes".to_owned())?;
    Ok(buf.iter().map(|b| format!("{b:02x}")).collect())
}

impl Staging {
    /// A new directory under `tmp`.
    ///
    /// # Errors
    /// When it cannot be made.
    pub fn new(tmp: &Path) -> Result<Staging> {
        for _ in 0..16 {
            let path = tmp.join(random_hex(8)?);
            let make = |path: &Path| {
                fs::DirBuilder::new().mode(0o700).create(path)?;
                File::open(path)
            };
            match Making::new(&path, make) {
                // Between mkdir and lock another process may have taken it for
                // garbage; then it is gone or about to go.
                Ok((made, dir)) => {
                    let is_ours = dir.try_lock().is_ok()
                        && fs::symlink_metadata(&path).is_ok_and(|at| {
                            dir.metadata().is_ok_and(|held| held.ino() == at.ino())
                        });
                    if is_ours {
                        return Ok(Staging { made, _dir: dir });
                    }
                }
                Err(e) if e.kind() == ErrorKind::NotFound && tmp.is_dir() => {}
                Err(e) => {
                    return Err(Error::System(format!("cannot make {}", path.display()), e));
                }
            }
        }
        Err(Error::Conflict(
            "cannot keep a staging directory".to_owned(),
        ))
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        self.made.path()
    }

    /// A directory in it, made if it is not there.
    ///
    /// # Errors
    /// When it cannot be made.
    pub fn subdir(&self, name: &str) -> Result<PathBuf> {
        let path = self.path().join(name);
        match fs::DirBuilder::new().mode(0o700).create(&path) {
            Err(e) if e.kind() != ErrorKind::AlreadyExists => {
                Err(Error::System(format!("cannot make {}", path.display()), e))
            }
            _ => Ok(path),
        }
    }
}

/// A staging directory of a process that is gone, held against others.
#[derive(Debug)]
pub struct Stale {
    path: PathBuf,
    _dir: File,
}

impl Stale {
    /// Its name in `tmp`.
    pub fn name(&self) -> &std::ffi::OsStr {
        self.path.file_name().unwrap_or_default()
    }

    /// Remove it. What cannot be removed is tried again next time.
    pub fn remove(self) {
        if let Err(e) = remove_tree(&self.path)
            && e.kind() != ErrorKind::NotFound
        {
            log::warn!("cannot remove {}: {e}", self.path.display());
        }
    }
}

/// The staging directories of processes that are gone.
///
/// # Errors
/// When `tmp` cannot be read.
pub fn stale(tmp: &Path) -> Result<Vec<Stale>> {
    let entries = fs::read_dir(tmp).context(|| format!("cannot read {}", tmp.display()))?;
    let abandoned = entries.flatten().filter_map(|entry| {
        let path = entry.path();
        let dir = File::open(&path).ok()?;
        dir.try_lock().is_ok().then_some(Stale { path, _dir: dir })
    });
    Ok(abandoned.collect())
}

/// Remove the staging directories of processes that are gone.
///
/// # Errors
/// When `tmp` cannot be read.
pub fn remove_stale(tmp: &Path) -> Result<()> {
    stale(tmp)?.into_iter().for_each(Stale::remove);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_abandoned_staging_is_removed() {
        let tmp = tempfile::tempdir().unwrap();
        let live = Staging::new(tmp.path()).unwrap();
        fs::write(live.path().join("f"), "x").unwrap();
        let stale = tmp.path().join("0123456789abcdef");
        fs::create_dir(&stale).unwrap();
        fs::write(stale.join("f"), "x").unwrap();
        remove_stale(tmp.path()).unwrap();
        assert!(live.path().join("f").exists());
        assert!(!stale.exists());
        let path = live.path().to_owned();
        drop(live);
        assert!(!path.exists());
    }
}
