//! A container's files from outside: as it sees them if it runs, else mounted for
//! the time that they are looked at.

use super::record::Status;
use super::volume::Kind;
use super::{Containers, Held, Record};
use crate::store::error::{Context, Error, Result, show};
use crate::sys::mount;
use std::fs::File;
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// How long others may take who hold the container.
const PATIENCE: Duration = Duration::from_secs(30);

/// A tree of a container. Paths in it are resolved beneath `root`, by
/// descriptors, and lead nowhere else whatever it holds.
#[derive(Debug)]
pub struct View {
    /// The root of the tree.
    pub root: File,
    /// Where the tree is in the container; empty for the whole of it.
    pub at: Vec<u8>,
    /// Nobody mounts, starts or removes it meanwhile. Goes after what keeps it
    /// mounted.
    _held: Option<Held>,
}

impl Containers<'_> {
    /// A container's own root, without what is mounted in it. One that is mounted
    /// for this is so only as long as a descriptor leads to it, so whatever ends
    /// us leaves no mount.
    ///
    /// # Errors
    /// When it cannot be mounted.
    pub fn view(&self, record: &Record) -> Result<View> {
        let held = self.hold_still(record)?;
        let is_ours = held.is_some() && !self.is_served(record)?;
        if is_ours {
            self.mount(record)?;
        }
        let root = open(self.mount_point(record));
        if is_ours {
            let say = || format!("cannot unmount container {}", record.name);
            mount::detach(&self.mount_point(record)).context(say)?;
        }
        Ok(View {
            root: root?,
            at: Vec::new(),
            _held: held,
        })
    }

    /// Hold a container, unless it runs and is mounted: then its monitor does.
    /// Others who look at it are soon done.
    fn hold_still(&self, record: &Record) -> Result<Option<Held>> {
        let begun = Instant::now();
        loop {
            self.settle(record)?;
            let now = self.read(&record.id)?;
            if self.status(&now).0 == Status::Running && self.is_served(&now)? {
                return Ok(None);
            }
            match self.hold(&now) {
                Err(Error::Conflict(_)) if begun.elapsed() < PATIENCE => {}
                held => return held.map(Some),
            }
        }
    }

    /// What `path` of a container is in: for one that runs, all that it sees;
    /// else its root, or the volume that is to be mounted there. `write` says
    /// whether it is to be changed.
    ///
    /// # Errors
    /// When it cannot be mounted, or must not be changed.
    pub fn view_at(&self, record: &Record, path: &[u8], write: bool) -> Result<View> {
        if self.status(record).0 == Status::Running
            && let Some(process) = self.process(record)
        {
            // It may end at any time, and its number be another's then.
            let root = open(PathBuf::from(format!("/proc/{}/root", process.pid)))?;
            if process.is_alive() {
                return Ok(View {
                    root,
                    at: Vec::new(),
                    _held: None,
                });
            }
        }
        let is_in = |target: &str| {
            let rest = path.strip_prefix(clean(target.as_bytes()).as_slice());
            rest.is_some_and(|rest| rest.is_empty() || rest.starts_with(b"/"))
        };
        // Inner mounts come after those that they lie in.
        let mut mounts = record.settings.mounts.iter().rev();
        let mount = mounts.find(|m| m.kind != Kind::Tmpfs && is_in(&m.target));
        let read_only = mount.map_or(record.settings.read_only, |m| m.read_only);
        if write && read_only {
            return Err(Error::Conflict(match mount {
                None => "container rootfs is marked read-only".to_owned(),
                Some(m) => format!("mounted volume {} is marked read-only", m.target),
            }));
        }
        let Some(mount) = mount else {
            return self.view(record);
        };
        let source = match mount.kind {
            Kind::Volume => {
                let view = self.view(record)?;
                self.fill_volumes(record, &view.root)?;
                self.volume_data(&mount.source)
            }
            _ => PathBuf::from(&mount.source),
        };
        Ok(View {
            root: open(source)?,
            at: clean(mount.target.as_bytes()),
            _held: None,
        })
    }
}

fn open(path: PathBuf) -> Result<File> {
    File::open(&path)
        .context(|| format!("cannot open {}", show(path.as_os_str().as_encoded_bytes())))
}

/// A path by its names alone: `..` takes one away, and leads not above the root.
pub fn clean(path: &[u8]) -> Vec<u8> {
    let mut parts: Vec<&[u8]> = Vec::new();
    for part in path.split(|b| *b == b'/') {
        match part {
            b"" | b"." => {}
            b".." => drop(parts.pop()),
            part => parts.push(part),
        }
    }
    parts.join(&b'/')
}
