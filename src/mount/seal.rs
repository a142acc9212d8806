//! Lower layers seen through mounts that cannot be written.

use crate::layer::open::OpenDir;
use crate::sys::mount::read_only_clone;
use crate::sys::place::{self, Place};
use crate::sys::probe::Features;
use std::collections::HashMap;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

/// Replaces each descriptor by one of the same directory in a detached
/// read-only mount, so that no mistake of ours can change a layer. One mount
/// serves all layers of a file system: that of the directory that contains
/// them all. Where it is not possible the descriptor stays what it was; the
/// second value says whether all were replaced.
pub fn seal(lower: Vec<OpenDir>, allowed: Features) -> (Vec<OpenDir>, bool) {
    let openat2 = allowed.has(Features::OPENAT2);
    let real: Vec<Option<(Place, PathBuf)>> = lower
        .iter()
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
        .filter_map(|(mount, top)| Some((mount, (clone(mount, &top)?, top))))
        .collect();
    let mut all = true;
    let sealed = lower
        .into_iter()
        .zip(real)
        .map(|(mut dir, real)| {
            let found = real.and_then(|(place, path)| {
                let (clone, top) = clones.get(&place.mount)?;
                same_in(clone, path.strip_prefix(top).ok()?, place, openat2)
            });
            all &= found.is_some();
            if let Some(fd) = found {
                dir.fd = fd;
            }
            dir
        })
        .collect();
    (sealed, all)
}

/// The directory that contains both.
fn common(a: &Path, b: &Path) -> PathBuf {
    let both = a.components().zip(b.components());
    both.take_while(|(a, b)| a == b).map(|(a, _)| a).collect()
}

/// A clone of what is at `top`, if that is still in the mount.
fn clone(mount: u64, top: &Path) -> Option<OwnedFd> {
    let fd = place::open(top).ok()?;
    if place::look(&fd).ok()?.mount != mount {
        return None;
    }
    read_only_clone(&fd).ok()
}

/// The directory `inside` the clone, if it is the one that was meant.
fn same_in(clone: &OwnedFd, inside: &Path, meant: Place, openat2: bool) -> Option<OwnedFd> {
    let fd = match inside.as_os_str().is_empty() {
        true => clone.try_clone().ok()?,
        false => place::open_beneath(clone, inside, openat2).ok()?,
    };
    (place::look(&fd).ok()?.identity == meant.identity).then_some(fd)
}
