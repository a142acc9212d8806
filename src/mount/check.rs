//! Before anything is mounted: every directory opened once, told apart by
//! who it is and not by its name, and claimed.
//!
//! Containment means: reached by going up within one file system, through
//! whichever mount. What is mounted below a layer is no part of it, as in kernel
//! overlayfs, so the root of the system may be a lower of a mount whose upper
//! lies on a tmpfs in `/run`.

use super::claim::claim;
use super::failure::Failure;
use super::options::MountSpec;
use crate::layer::open::{OpenDir, OpenFile, OpenLayers};
use crate::layer::seal::{keep_atimes, seal};
use crate::sys::mount::{ATIMES, Flags, read_only_clone};
use crate::sys::place::{self, Identity, Place};
use crate::sys::probe::Features;
use crate::sys::{Errno, process};
use std::collections::{HashMap, HashSet};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::rc::Rc;

/// Where the mount goes.
#[derive(Debug)]
pub enum Target {
    /// Over this directory, found at this path.
    Directory(OwnedFd, PathBuf),
    /// It is there already: the connection (`/dev/fd/N`).
    Connection(OwnedFd),
}

/// What passed the checks.
#[derive(Debug)]
pub struct Checked {
    /// The layers, opened and claimed.
    pub layers: OpenLayers,
    /// The lower layers are seen through mounts that cannot be written.
    pub sealed: bool,
    /// Where the mount goes.
    pub target: Target,
    /// One line each.
    pub warnings: Vec<String>,
}

/// An opened directory of the mount, with what to call it in messages.
pub(super) struct Dir<'a> {
    what: &'static str,
    path: &'a Path,
    pub(super) fd: OwnedFd,
    pub(super) place: Place,
    /// The directory above, if it was seen on the way: no symlink and no mount lies
    /// between.
    above: Option<Rc<Above>>,
    /// `fd` is of a mount that cannot be written; `place` is where the directory was
    /// found.
    sealed: bool,
}

/// A directory above another.
struct Above {
    fd: OwnedFd,
    place: Place,
}

impl Above {
    fn of(dir: impl AsFd) -> Result<Above, Errno> {
        let fd = place::parent(dir)?;
        let place = place::look(&fd)?;
        Ok(Above { fd, place })
    }
}

/// A directory that layers are opened in.
struct Parent {
    above: Rc<Above>,
    /// It in a mount that cannot be written, where several layers lie in it.
    sealed: Option<OwnedFd>,
}

/// Directories that others are opened in: layers mostly lie side by side.
struct Parents<'a> {
    openat2: bool,
    /// How many of the layers lie in each.
    layers: HashMap<&'a Path, usize>,
    open: HashMap<&'a Path, Option<Parent>>,
}

impl<'a> Parents<'a> {
    fn new(openat2: bool, layers: &'a [PathBuf]) -> Parents<'a> {
        let mut parents = Parents {
            openat2,
            layers: HashMap::new(),
            open: HashMap::new(),
        };
        for parent in layers.iter().filter_map(|layer| layer.parent()) {
            *parents.layers.entry(parent).or_default() += 1;
        }
        parents
    }

    /// [`Dir::open`], with the directory above known where no symlink and no
    /// mount lies between.
    fn open(&mut self, what: &'static str, path: &'a Path) -> Result<Dir<'a>, Failure> {
        self.beside(what, path)
            .map_or_else(|| Dir::open(what, path), Ok)
    }

    fn beside(&mut self, what: &'static str, path: &'a Path) -> Option<Dir<'a>> {
        let (parent, name) = (path.parent()?, path.file_name()?);
        if !self.openat2 {
            return None;
        }
        let several = self.layers.get(parent).is_some_and(|n| *n > 1);
        let opened = self.open.entry(parent).or_insert_with(|| {
            let here = parent.as_os_str().is_empty();
            let fd = place::open(if here { Path::new(".") } else { parent }).ok()?;
            let place = place::look(&fd).ok()?;
            // One mount a layer would cost more than it saves.
            let sealed = several.then(|| read_only_clone(&fd).ok()).flatten();
            let above = Rc::new(Above { fd, place });
            Some(Parent { above, sealed })
        });
        let parent = opened.as_ref()?;
        let (fd, place) = parent.enter(Path::new(name))?;
        Some(Dir {
            what,
            path,
            fd,
            place,
            above: Some(parent.above.clone()),
            sealed: parent.sealed.is_some(),
        })
    }
}

impl Parent {
    /// A directory in it that is no mount's root, sealed if this one is.
    fn enter(&self, name: &Path) -> Option<(OwnedFd, Place)> {
        let Some(sealed) = &self.sealed else {
            let fd = place::open_beneath(&self.above.fd, name, true).ok()?;
            let place = place::look(&fd).ok()?;
            return Some((fd, place));
        };
        // What is mounted there is not seen in the sealed one.
        let place = place::look_at(&self.above.fd, name).ok()?;
        let fd = place::open_beneath(sealed, name, true).ok()?;
        let same = place::look(&fd).ok()?.identity == place.identity;
        (same && place.mount == self.above.place.mount).then_some((fd, place))
    }
}

/// Opens and checks all directories of `spec`. On failure everything is closed
/// and nothing was changed.
pub fn check(spec: &MountSpec) -> Result<Checked, Failure> {
    let openat2 = spec.allowed.has(Features::OPENAT2);
    let mut parents = Parents::new(openat2, &spec.lower);
    let lower = spec
        .lower
        .iter()
        .map(|path| parents.open("lowerdir", path))
        .collect::<Result<Vec<_>, _>>()?;
    let upper = open_if("upperdir", spec.upper.as_deref())?;
    let work = open_if("workdir", spec.work.as_deref())?;
    let target = match connection(&spec.mountpoint) {
        Some(number) => Err(number),
        None => Ok(mountpoint(&spec.mountpoint)?),
    };
    let writable: Vec<&Dir<'_>> = upper.iter().chain(&work).collect();
    if let (Some(upper), Some(work)) = (&upper, &work) {
        pair(upper, work, spec.kernel.flags)?;
    }
    if let Ok(target) = &target {
        mountpoint_apart(target, &writable)?;
    }
    lowers_apart(&lower, &writable)?;
    let mut warnings = Vec::new();
    let locks = claim(&writable, openat2, &mut warnings)?;
    let above_target = match &target {
        Ok(target) => above(&target.fd).map_err(|e| target.cannot(e))?,
        Err(_) => Vec::new(),
    };
    let below_mountpoint = lower
        .iter()
        .find(|l| {
            above_target
                .iter()
                .skip(1)
                .any(|id| *id == l.place.identity)
        })
        .map(|l| l.path.to_owned());
    let idmapped = place::idmapped_mounts();
    let open: Vec<bool> = lower.iter().map(|dir| !dir.sealed).collect();
    let opened = lower.into_iter().map(|l| l.opened(&idmapped));
    let mut lower: Vec<OpenDir> = opened.collect();
    let open = lower.iter_mut().zip(open);
    let open = open.filter_map(|(dir, open)| open.then_some(dir)).collect();
    let sealed = seal(open, spec.allowed);
    if let (false, Some(path)) = (sealed, below_mountpoint) {
        let text = format!(
            "mountpoint {} is inside lowerdir {}, which needs the right to mount it apart",
            spec.mountpoint.display(),
            path.display()
        );
        return Err(Failure::mount(text));
    }
    let target = match target {
        Ok(dir) => {
            let path = place::path_of(&dir.fd).map_err(|e| dir.cannot(e))?;
            Target::Directory(dir.fd, path)
        }
        Err(number) => Target::Connection(process::take_inherited(number).map_err(|e| {
            Failure::mount(format!("mountpoint {}: {e}", spec.mountpoint.display()))
        })?),
    };
    let mut upper = upper.map(|u| u.opened(&idmapped));
    let mut work = work.map(|w| w.opened(&idmapped));
    if let (Some(upper), Some(work)) = (&mut upper, &mut work)
        && spec.kernel.flags.intersects(ATIMES)
        && !keep_atimes(upper, work, spec.kernel.flags, spec.allowed)
    {
        let path = upper.path.display();
        warnings.push(format!(
            "access times in upperdir {path} are kept as its own mount says: \
             other atime options need the right to mount"
        ));
    }
    let layers = OpenLayers {
        lower,
        upper,
        work,
        locks,
        catalog: open_catalog(spec, &mut warnings),
    };
    Ok(Checked {
        layers,
        sealed,
        target,
        warnings,
    })
}

/// Without the catalog everything is the same but slower.
fn open_catalog(spec: &MountSpec, warnings: &mut Vec<String>) -> Option<OpenFile> {
    let path = spec.catalog.as_ref()?;
    let mut options = std::fs::File::options();
    // A FIFO is not waited for.
    let options = options.read(true).custom_flags(libc::O_NONBLOCK);
    match options.open(path) {
        Ok(file) => Some(OpenFile {
            fd: file.into(),
            path: path.clone(),
        }),
        Err(error) => {
            let path = path.display();
            warnings.push(format!("catalog {path} is not used: {error}"));
            None
        }
    }
}

/// The number in `/dev/fd/N`, under which the caller left an open connection.
pub fn connection(mountpoint: &Path) -> Option<i32> {
    mountpoint.to_str()?.strip_prefix("/dev/fd/")?.parse().ok()
}

/// Where a FUSE mount has lost its server the directory can be opened, and
/// even looked at from the kernel's memory, but it is no place to mount on.
fn mountpoint(path: &Path) -> Result<Dir<'_>, Failure> {
    let dir = Dir::open("mountpoint", path)?;
    place::is_read_only(&dir.fd).map_err(|e| dir.cannot(e))?;
    Ok(dir)
}

fn open_if<'a>(what: &'static str, path: Option<&'a Path>) -> Result<Option<Dir<'a>>, Failure> {
    path.map(|path| Dir::open(what, path)).transpose()
}

impl<'a> Dir<'a> {
    fn open(what: &'static str, path: &'a Path) -> Result<Dir<'a>, Failure> {
        let opened = place::open(path).and_then(|fd| Ok((place::look(&fd)?, fd)));
        match opened {
            Ok((place, fd)) => Ok(Dir {
                what,
                path,
                fd,
                place,
                above: None,
                sealed: false,
            }),
            Err(error) => Err(failed(what, path, error)),
        }
    }

    fn opened(self, idmapped: &HashSet<u64>) -> OpenDir {
        OpenDir {
            fd: self.fd,
            path: self.path.to_owned(),
            idmapped: idmapped.contains(&self.place.mount),
        }
    }

    /// The device of its file system and its path there.
    fn within<'m>(&self, mounts: &'m place::Mounts) -> Option<(&'m str, PathBuf)> {
        match (&self.above, self.path.file_name()) {
            (Some(above), Some(name)) => {
                let (device, path) = mounts.path_within(&above.fd, &above.place)?;
                Some((device, path.join(name)))
            }
            _ => mounts.path_within(&self.fd, &self.place),
        }
    }

    pub(super) fn cannot(&self, error: Errno) -> Failure {
        failed(self.what, self.path, error)
    }

    pub(super) fn name(&self) -> String {
        format!("{} {}", self.what, self.path.display())
    }
}

fn failed(what: &str, path: &Path, error: Errno) -> Failure {
    let path = path.display();
    Failure::mount(match error {
        Errno::NOENT => format!("{what} {path}: no such directory"),
        Errno::NOTDIR => format!("{what} {path}: not a directory"),
        Errno::NOTCONN => {
            format!("{what} {path}: the FUSE mount there has lost its server; umount it first")
        }
        other => format!("{what} {path}: {other}"),
    })
}

/// A directory and those above it, itself first, up to the root of its mount.
pub(super) fn above(dir: impl AsFd) -> Result<Vec<Identity>, Errno> {
    walk_up(dir, false)
}

/// [`above`], or on over the mounts' roots up to `/`.
fn walk_up(dir: impl AsFd, over_mounts: bool) -> Result<Vec<Identity>, Errno> {
    let mut ids = vec![place::look(&dir)?.identity];
    climb(dir, over_mounts, |_, up| {
        ids.push(up.identity);
        true
    })?;
    Ok(ids)
}

/// Calls `see` for each directory above, until it says no.
pub(super) fn climb(
    dir: impl AsFd,
    over_mounts: bool,
    mut see: impl FnMut(&OwnedFd, &Place) -> bool,
) -> Result<(), Errno> {
    let mut at = place::look(&dir)?;
    let mut fd = place::parent(&dir);
    // A directory above that may not be searched ends the walk: nothing can
    // have been opened through it either.
    while let Ok(open) = &fd {
        let up = place::look(open)?;
        if up == at || (up.mount != at.mount && !over_mounts) || !see(open, &up) {
            break;
        }
        at = up;
        fd = place::parent(open);
    }
    Ok(())
}

/// The upper and its workdir: renames must be possible between them, and
/// neither may be part of the other.
fn pair(upper: &Dir<'_>, work: &Dir<'_>, flags: Flags) -> Result<(), Failure> {
    let refuse = |text: String| Err(Failure::mount(text));
    if upper.place.identity == work.place.identity {
        return refuse(format!(
            "{} and {} are the same directory",
            upper.name(),
            work.name()
        ));
    }
    if upper.place.identity.dev != work.place.identity.dev {
        let (upper, work) = (upper.name(), work.name());
        return refuse(format!("{upper} and {work} are on different filesystems"));
    }
    if upper.place.mount != work.place.mount {
        let (upper, work) = (upper.name(), work.name());
        return refuse(format!(
            "{upper} and {work} are reached through different mounts"
        ));
    }
    for (inner, outer) in [(upper, work), (work, upper)] {
        let above = above(&inner.fd).map_err(|e| inner.cannot(e))?;
        if above.contains(&outer.place.identity) {
            return refuse(format!("{} is inside {}", inner.name(), outer.name()));
        }
    }
    let read_only = place::is_read_only(&upper.fd).map_err(|e| upper.cannot(e))?;
    if read_only && !flags.contains(Flags::RDONLY) {
        let upper = upper.name();
        return refuse(format!(
            "{upper} is on a read-only filesystem; leave it out or mount with ro"
        ));
    }
    Ok(())
}

/// The mount would hide its own upper, or its upper would show the mount. A
/// lower may well be the mountpoint: it is open before it is covered. Here mounts
/// in between count, because upper and work are used with what is mounted in
/// them.
fn mountpoint_apart(target: &Dir<'_>, writable: &[&Dir<'_>]) -> Result<(), Failure> {
    let above_target = walk_up(&target.fd, true).map_err(|e| target.cannot(e))?;
    for dir in writable {
        if dir.place.identity == target.place.identity {
            let text = format!("mountpoint and {} are the same directory", dir.name());
            return Err(Failure::mount(text));
        }
        let above_dir = walk_up(&dir.fd, true).map_err(|e| dir.cannot(e))?;
        let inside = |inner: &Dir<'_>, outer: &Dir<'_>| {
            Err(Failure::mount(format!(
                "{} is inside {}",
                inner.name(),
                outer.name()
            )))
        };
        if above_dir.contains(&target.place.identity) {
            return inside(dir, target);
        }
        if above_target.contains(&dir.place.identity) {
            return inside(target, dir);
        }
    }
    Ok(())
}

/// No lower is, contains or lies in a directory that is written.
fn lowers_apart(lower: &[Dir<'_>], writable: &[&Dir<'_>]) -> Result<(), Failure> {
    let mut above_writable = Vec::new();
    for dir in writable {
        above_writable.push((dir, above(&dir.fd).map_err(|e| dir.cannot(e))?));
    }
    // Layers mostly lie side by side, so the way up is walked once.
    let mut outside = HashSet::new();
    for lower in lower {
        for (dir, above) in &above_writable {
            let how = match above.iter().position(|id| *id == lower.place.identity) {
                Some(0) => "is",
                Some(_) => "contains",
                None => continue,
            };
            let text = format!("{} {how} {}", lower.name(), dir.name());
            return Err(Failure::mount(text));
        }
        let Some(found) = inside_any(lower, writable, &mut outside) else {
            continue;
        };
        let text = format!("{} is inside {}", lower.name(), found.name());
        return Err(Failure::mount(text));
    }
    apart_behind_mounts(lower, writable)
}

/// The same of what is reached through another mount of one file system, such as
/// a bind mount, beyond whose root nothing leads up.
fn apart_behind_mounts(lower: &[Dir<'_>], writable: &[&Dir<'_>]) -> Result<(), Failure> {
    let elsewhere = |lower: &Dir<'_>| {
        let mut mounts = writable.iter().map(|dir| dir.place.mount);
        mounts.any(|mount| mount != lower.place.mount)
    };
    if !lower.iter().any(elsewhere) {
        return Ok(());
    }
    let mounts = place::Mounts::read();
    let written: Vec<_> = writable
        .iter()
        .filter_map(|dir| Some((*dir, dir.within(&mounts)?)))
        .collect();
    for lower in lower.iter().filter(|lower| elsewhere(lower)) {
        let Some((device, path)) = lower.within(&mounts) else {
            continue;
        };
        for (dir, (_, other)) in written.iter().filter(|(_, (d, _))| *d == device) {
            let how = match (&path, other) {
                (path, other) if path == other => "is",
                (path, other) if other.starts_with(path) => "contains",
                (path, other) if path.starts_with(other) => "is inside",
                _ => continue,
            };
            let text = format!("{} {how} {}", lower.name(), dir.name());
            return Err(Failure::mount(text));
        }
    }
    Ok(())
}

/// Which of `dirs` is above `inner`. `outside` remembers who is in none.
fn inside_any<'d, 'a>(
    inner: &Dir<'_>,
    dirs: &[&'d Dir<'a>],
    outside: &mut HashSet<Identity>,
) -> Option<&'d Dir<'a>> {
    let mut at = inner.place;
    if !outside.insert(at.identity) {
        return None;
    }
    let mut up = match &inner.above {
        Some(above) => above.clone(),
        None => Rc::new(Above::of(&inner.fd).ok()?),
    };
    loop {
        let above = up.place;
        if let Some(found) = dirs.iter().find(|d| d.place.identity == above.identity) {
            return Some(found);
        }
        if above == at || above.mount != at.mount || !outside.insert(above.identity) {
            return None;
        }
        at = above;
        up = Rc::new(Above::of(&up.fd).ok()?);
    }
}

#[cfg(test)]
mod tests;
