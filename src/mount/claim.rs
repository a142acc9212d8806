//! Claims on what a mount writes: nobody else's mount may write the same
//! directory, one inside it, or one that it lies in.

use super::check::{Dir, above, climb};
use super::failure::Failure;
use crate::sys::place::{self, Claim, Identity};
use crate::sys::{self, dir, process};
use std::collections::HashSet;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::time::{Duration, Instant};

/// How long a claim is waited for: umount(8) returns before the daemon that
/// served the mount has ended, and the next mount of the same upper may come
/// at once.
pub(super) const PATIENCE: Duration = Duration::from_secs(3);

/// How many names below what is written are looked at before all locks are.
const FEW: usize = 256;

/// Claims what will be written, and sees that it is in nothing that another
/// live mount has claimed, and that nothing of another's is in it. Of two that
/// come at the same time at most one gets what it wants, since each looks at
/// others' claims after it has made its own.
pub(super) fn claim(
    writable: &[&Dir<'_>],
    openat2: bool,
    warnings: &mut Vec<String>,
) -> Result<Vec<OwnedFd>, Failure> {
    let deadline = Instant::now() + PATIENCE;
    let mut held = Vec::new();
    for dir in writable {
        let fd = place::readable(&dir.fd).map_err(|e| dir.cannot(e))?;
        loop {
            match place::claim(&fd) {
                Ok(true) => break held.push(fd),
                Ok(false) if Instant::now() < deadline => {
                    std::thread::sleep(Duration::from_millis(10));
                }
                Ok(false) => {
                    let text = format!("{} is in use by another live mount", dir.name());
                    return Err(Failure::mount(text));
                }
                // Some network file systems lock no directories.
                Err(error) => {
                    let text = format!(
                        "{}: cannot be locked against other mounts: {error}",
                        dir.name()
                    );
                    break warnings.push(text);
                }
            }
        }
    }
    if !writable.iter().all(|dir| stands_alone(dir, openat2)) {
        apart(writable, &place::claimed_by(process::NAME))?;
    }
    Ok(held)
}

/// No mount has claimed a directory above or below, as far as these themselves can
/// tell: no means that all locks of the system have to be looked at. For that the
/// kernel waits until each processor has passed by, longer than all else takes
/// that a mount does.
fn stands_alone(dir: &Dir<'_>, openat2: bool) -> bool {
    let mut free = true;
    let above = climb(&dir.fd, false, |fd, above| {
        free = match place::is_claimed(fd) {
            Ok(claimed) => !claimed || is_callers(above.identity),
            Err(_) => false,
        };
        free
    });
    let mut left = FEW;
    above.is_ok() && free && none_claimed_below(&dir.fd, openat2, &mut left) == Ok(true)
}

/// Who calls us may hold a directory for reasons of its own, as `capas` does with a
/// container's.
fn is_callers(identity: Identity) -> bool {
    process::callers().any(|pid| place::claims(pid, identity))
}

/// No directory below is claimed; at most `left` names are looked at.
fn none_claimed_below(top: &OwnedFd, openat2: bool, left: &mut usize) -> sys::Result<bool> {
    let mut below = Vec::new();
    let mut all = true;
    dir::read(dir::open_unseen(top)?, 0, |entry| {
        all = *left > 0;
        *left = left.saturating_sub(1);
        if matches!(entry.kind, 0 | libc::S_IFDIR) {
            below.push(entry.name.to_owned());
        }
        all
    })?;
    for name in below {
        let fd = place::open_beneath(top, Path::new(&name), openat2)?;
        all = all && !place::is_claimed(&fd)? && none_claimed_below(&fd, openat2, left)?;
    }
    Ok(all)
}

/// None of `writable` is inside of what others have claimed, or around it.
fn apart(writable: &[&Dir<'_>], claims: &[Claim]) -> Result<(), Failure> {
    if claims.is_empty() {
        return Ok(());
    }
    let claimed: HashSet<Identity> = claims.iter().map(|claim| claim.identity).collect();
    for dir in writable {
        let above = above(&dir.fd).map_err(|e| dir.cannot(e))?;
        if above.iter().skip(1).any(|id| claimed.contains(id)) {
            let text = format!(
                "{} is inside a directory that another live mount writes",
                dir.name()
            );
            return Err(Failure::mount(text));
        }
    }
    // Only what lies on the same file system can be inside.
    let near = claims.iter().filter(|claim| {
        let dev = claim.identity.dev;
        writable.iter().any(|dir| dir.place.identity.dev == dev)
    });
    for claim in near {
        // One that ends meanwhile, or is not ours to look into.
        let Some(above) = place::open_claimed(claim).and_then(|fd| above(fd).ok()) else {
            continue;
        };
        let around = |dir: &&&Dir<'_>| above.iter().skip(1).any(|id| *id == dir.place.identity);
        if let Some(dir) = writable.iter().find(around) {
            let text = format!(
                "{} contains a directory that another live mount writes",
                dir.name()
            );
            return Err(Failure::mount(text));
        }
    }
    Ok(())
}
