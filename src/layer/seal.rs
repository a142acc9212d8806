//! Layers seen through mounts of our own: the lower ones through such that
//! cannot be written, the upper through one that keeps access times as it was
//! asked for.

use super::open::OpenDir;
use crate::sys::mount::{Flags, clone_with_atimes, read_only_clone};
use crate::sys::place::{self, Place};
use crate::sys::probe::Features;
use std::collections::HashMap;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

/// Replaces each descriptor by one of the same directory in a detached
/// read-only mount, so that no mistake of ours can change a layer. Where it is
/// not possible the descriptor stays what it was, and the answer is no.
pub fn seal(lower: Vec<&mut OpenDir>, allowed: Features) -> bool {
    let dirs = lower.iter().map(|dir| &**dir);
    let found = through_clones(dirs, allowed, |fd| read_only_clone(fd).ok());
    let mut all = true;
    for (dir, found) in lower.into_iter().zip(found) {
        all &= found.is_some();
        if let Some(fd) = found {
            dir.fd = fd;
        }
    }
    all
}

/// Replaces the descriptors of upper and work directory by ones in a detached
/// mount with the atime options among `flags`. Both or none: nothing is renamed
/// from one mount to another. False if that was not possible.
pub fn keep_atimes(
    upper: &mut OpenDir,
    work: &mut OpenDir,
    flags: Flags,
    allowed: Features,
) -> bool {
    let dirs = [&*upper, &*work];
    let found = through_clones(dirs, allowed, |fd| clone_with_atimes(fd, flags).ok());
    match <[Option<OwnedFd>; 2]>::try_from(found) {
        Ok([Some(a), Some(b)]) => {
            (upper.fd, work.fd) = (a, b);
            true
        }
        _ => false,
    }
}

/// The same directories in clones of the mounts that they lie on. One clone
/// serves all directories of a mount: that of the directory that contains them
/// all.
fn through_clones<'a>(
    dirs: impl IntoIterator<Item = &'a OpenDir>,
    allowed: Features,
    clone: impl Fn(&OwnedFd) -> Option<OwnedFd>,
) -> Vec<Option<OwnedFd>> {
    let openat2 = allowed.has(Features::OPENAT2);
    let real: Vec<Option<(Place, PathBuf)>> = dirs
        .into_iter()
        .map(|dir| Some((place::look(&dir.fd).ok()?, place::path_of(&dir.fd).ok()?)))
        .collect();
    let mut tops: HashMap<u64, PathBuf> = HashMap::new();
    for (place, path) in real.iter().flatten() {
        tops.entry(place.mount)
            .and_modify(|top| *top = common(top, path))
            .or_insert_with(|| path.clone());
    }
    let clones: HashMap<u64, (OwnedFd, PathBuf)> = tops
        .into_iter()
        .filter_map(|(mount, top)| Some((mount, (clone(&still_at(mount, &top)?)?, top))))
        .collect();
    real.into_iter()
        .map(|real| {
            let (place, path) = real?;
            let (clone, top) = clones.get(&place.mount)?;
            same_in(clone, path.strip_prefix(top).ok()?, place, openat2)
        })
        .collect()
}

/// The directory that contains both.
fn common(a: &Path, b: &Path) -> PathBuf {
    let both = a.components().zip(b.components());
    both.take_while(|(a, b)| a == b).map(|(a, _)| a).collect()
}

/// What is at `top`, if that is still in the mount.
fn still_at(mount: u64, top: &Path) -> Option<OwnedFd> {
    let fd = place::open(top).ok()?;
    (place::look(&fd).ok()?.mount == mount).then_some(fd)
}

/// The directory `inside` the clone, if it is the one that was meant.
fn same_in(clone: &OwnedFd, inside: &Path, meant: Place, openat2: bool) -> Option<OwnedFd> {
    let fd = match inside.as_os_str().is_empty() {
        true => clone.try_clone().ok()?,
        false => place::open_beneath(clone, inside, openat2).ok()?,
    };
    (place::look(&fd).ok()?.identity == meant.identity).then_some(fd)
}
