//! Many streams at once, none of which is waited for.

use super::{Errno, Result};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use std::os::fd::AsFd;
use std::path::Path;
use std::time::Duration;

/// What is waited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Interest {
    /// Something to read.
    Read,
    /// Room to write.
    Write,
    /// Either.
    Both,
    /// Nothing but that the other end is gone.
    End,
}

/// What has come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Event {
    /// There is something to read.
    pub read: bool,
    /// There is room.
    pub write: bool,
    /// The other end is gone.
    pub end: bool,
}

impl Event {
    /// Is it anything at all.
    pub fn any(self) -> bool {
        self.read || self.write || self.end
    }
}

/// Wait until something comes, in the order of `fds`; after `patience` for
/// nothing.
///
/// # Errors
/// As poll(2).
pub fn wait(fds: &[(&dyn AsFd, Interest)], patience: Option<Duration>) -> Result<Vec<Event>> {
    let timeout = patience.and_then(|p| Timespec::try_from(p).ok());
    let mut all: Vec<PollFd<'_>> = fds
        .iter()
        .map(|(fd, interest)| {
            let flags = match interest {
                Interest::Read => PollFlags::IN,
                Interest::Write => PollFlags::OUT,
                Interest::Both => PollFlags::IN | PollFlags::OUT,
                Interest::End => PollFlags::empty(),
            };
            PollFd::from_borrowed_fd(fd.as_fd(), flags)
        })
        .collect();
    match poll(&mut all, timeout.as_ref()) {
        Ok(_) => {}
        Err(Errno::INTR) => return Ok(vec![Event::default(); fds.len()]),
        Err(e) => return Err(e),
    }
    let events = all.iter().map(|fd| {
        let came = fd.revents();
        Event {
            read: came.contains(PollFlags::IN),
            write: came.contains(PollFlags::OUT),
            end: came.intersects(PollFlags::HUP | PollFlags::ERR | PollFlags::NVAL),
        }
    });
    Ok(events.collect())
}

/// From now on nobody waits at this stream, whoever shares it.
///
/// # Errors
/// As ioctl(2).
pub fn never_wait(fd: impl AsFd) -> Result<()> {
    rustix::io::ioctl_fionbio(fd, true)
}

/// What is there, 0 at the end; none while there is nothing.
///
/// # Errors
/// As read(2).
pub fn read(fd: impl AsFd, buf: &mut [u8]) -> Result<Option<usize>> {
    match rustix::io::read(fd, buf) {
        Ok(n) => Ok(Some(n)),
        Err(Errno::AGAIN | Errno::INTR) => Ok(None),
        Err(e) => Err(e),
    }
}

/// How much could be written; none while there is no room.
///
/// # Errors
/// As write(2).
pub fn write(fd: impl AsFd, data: &[u8]) -> Result<Option<usize>> {
    match rustix::io::write(fd, data) {
        Ok(n) => Ok(Some(n)),
        Err(Errno::AGAIN | Errno::INTR) => Ok(None),
        Err(e) => Err(e),
    }
}

/// Is it a mount whose server has ended.
pub fn disconnected(path: &Path) -> bool {
    // Its root can be opened without it, but what it says of itself it is asked.
    let asked = rustix::fs::statfs(path);
    matches!(asked, Err(Errno::NOTCONN | Errno::CONNABORTED))
}

/// While `start` runs, children inherit this descriptor.
pub fn lend<T>(fd: impl AsFd, start: impl FnOnce() -> T) -> T {
    use rustix::io::{FdFlags, fcntl_setfd};
    // Of a descriptor that is open this cannot fail.
    let _ = fcntl_setfd(&fd, FdFlags::empty());
    let result = start();
    let _ = fcntl_setfd(&fd, FdFlags::CLOEXEC);
    result
}
