//! From a mounted `/dev/fuse` descriptor to a served file system.

use super::{adapter::Adapter, crew::Crew};
use crate::union::Union;
use fuser::{Config, Session, SessionACL};
use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;

/// Whose requests are answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Allow {
    /// Everybody's (`allow_other`).
    All,
    /// Root's and the mounting user's (`allow_root`).
    RootAndOwner,
    /// The mounting user's.
    Owner,
}

/// How to serve.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    /// Threads that read requests at most, at least 1.
    pub threads: usize,
    /// How long the reader looks for the next request before it sleeps.
    pub busy_poll: Duration,
    /// Whose requests are answered.
    pub allow: Allow,
}

/// A file system whose handshake is done.
pub struct Running {
    session: Session<Adapter>,
    union: Arc<Union>,
}

impl std::fmt::Debug for Running {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Running").finish_non_exhaustive()
    }
}

/// Shake hands with the kernel over a mounted `/dev/fuse` descriptor.
///
/// # Errors
/// `EPROTO` from too old a kernel; as read(2).
pub fn serve(union: Union, dev: OwnedFd, settings: Settings) -> io::Result<Running> {
    let mut config = Config::default();
    config.n_threads = Some(settings.threads.max(1));
    // The kernel itself keeps others out, but for `allow_root`, which only
    // fuser knows; it goes by the user of each request, which the kernel no
    // longer tells once idmapped mounts are allowed.
    let acl = match settings.allow {
        Allow::All | Allow::Owner => SessionACL::All,
        Allow::RootAndOwner => SessionACL::RootAndOwner,
    };
    let crew = Crew::new(dev.try_clone()?, settings.busy_poll);
    let adapter = Adapter::new(union, settings.allow != Allow::RootAndOwner, crew);
    let late = adapter.late();
    let session = Session::from_fd(adapter, dev, acl, config)?;
    late.set(session.notifier());
    let union = late.union().ok_or(io::ErrorKind::NotConnected)?;
    if union.options().lazy.is_some() {
        let copying = union.clone();
        std::thread::Builder::new()
            .name("copy-up".into())
            .spawn(move || copying.copy_in_background())?;
    }
    Ok(Running { session, union })
}

impl Running {
    /// What is served, for who ends it otherwise than by an unmount.
    pub fn union(&self) -> Arc<Union> {
        self.union.clone()
    }

    /// Serve until the file system is unmounted; the union is closed then.
    ///
    /// # Errors
    /// As read(2) of the device.
    pub fn run(self) -> io::Result<()> {
        self.session.run()
    }
}
