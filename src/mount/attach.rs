//! The connection to the kernel and its place in the tree.

use super::check::Target;
use super::failure::Failure;
use super::options::{Allow, MountSpec};
use crate::sys::mount::{self, Request};
use crate::sys::{self, Errno};
use std::os::fd::OwnedFd;
use std::path::PathBuf;

/// A connection that is mounted.
#[derive(Debug)]
pub struct Attached {
    /// The connection, nothing read from it yet.
    pub device: OwnedFd,
    /// Who may use the mount; `None`: only who mounted it.
    pub allow: Option<Allow>,
    /// Where it is mounted, if that was our doing.
    pub seat: Option<Seat>,
}

/// A mount of ours in the tree.
#[derive(Clone, Debug)]
pub struct Seat {
    path: PathBuf,
    /// Of the mount, so that nobody else's is taken away.
    id: Option<u64>,
}

impl Seat {
    /// Takes the mount out of the tree, if it is still there. Those who have
    /// files open may go on.
    pub fn leave(&self) {
        if self.id.is_some() && mount::id_at(&self.path).ok() != self.id {
            return;
        }
        if let Err(error) = mount::detach(&self.path) {
            log::warn!("umount {}: {error}", self.path.display());
        }
    }
}

/// Mounts at the target with `device`, what opening /dev/fuse gave. Who may
/// not mount asks fusermount3.
pub fn attach(
    spec: &MountSpec,
    target: Target,
    device: sys::Result<OwnedFd>,
) -> Result<Attached, Failure> {
    let (dir, path) = match target {
        Target::Directory(dir, path) => (dir, path),
        Target::Connection(device) => {
            let allow = Some(spec.kernel.allow.unwrap_or(Allow::All));
            return Ok(Attached {
                device,
                allow,
                seat: None,
            });
        }
    };
    // As mount(8): without SELinux its labels mean nothing and are an error
    // to the kernel.
    let labels = match mount::has_selinux() {
        true => spec.kernel.labels.as_slice(),
        false => &[],
    };
    let request = Request {
        source: &spec.source,
        subtype: &spec.kernel.subtype,
        flags: spec.kernel.flags,
        allow_other: true,
        labels,
    };
    let direct = device.and_then(|device| {
        mount::attach(&device, &dir, &request)?;
        Ok(device)
    });
    let (device, allow) = match direct {
        Ok(device) => (device, Some(spec.kernel.allow.unwrap_or(Allow::All))),
        Err(error @ (Errno::PERM | Errno::ACCESS)) => {
            // Without a word the helper grants only the mounter; others need
            // a line in /etc/fuse.conf.
            let allow = spec.kernel.allow;
            let allow_other = allow.is_some();
            let device = mount::attach_by_helper(
                &path,
                &Request {
                    allow_other,
                    ..request
                },
            )
            .map_err(|helper| {
                let path = path.display();
                Failure::mount(format!(
                    "cannot mount at {path}: {error}; with help: {helper}"
                ))
            })?;
            (device, allow)
        }
        Err(error @ (Errno::NOENT | Errno::NODEV | Errno::NXIO)) => {
            return Err(Failure::system(format!(
                "cannot open /dev/fuse: {error}; is FUSE in the kernel (modprobe fuse)?"
            )));
        }
        Err(error) => {
            let path = path.display();
            return Err(Failure::mount(format!("cannot mount at {path}: {error}")));
        }
    };
    if spec.kernel.private
        && let Err(error) = mount::make_private(&path)
    {
        log::warn!("cannot make {} private: {error}", path.display());
    }
    let id = mount::id_at(&path).ok();
    let seat = Some(Seat { path, id });
    Ok(Attached {
        device,
        allow,
        seat,
    })
}
