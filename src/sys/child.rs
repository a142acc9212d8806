//! Other processes: those that end beneath this one, and any that is held by
//! a descriptor, whose number can then not become another's.

use super::{Errno, Result};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, Signal, WaitOptions, WaitStatus};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Duration;

/// The signal that a child has ended.
pub const ENDED: i32 = libc::SIGCHLD;

/// From now on orphans among this process's descendants become its children.
///
/// # Errors
/// As prctl(2).
pub fn adopt_orphans() -> Result<()> {
    rustix::process::set_child_subreaper(Some(rustix::process::getpid()))
}

/// A child that has ended: its number, and its exit code or 128 and the signal
/// that ended it. None while none has.
///
/// # Errors
/// `ECHILD` when there are no children.
pub fn ended() -> Result<Option<(u32, u8)>> {
    loop {
        match rustix::process::wait(WaitOptions::NOHANG) {
            Ok(None) => return Ok(None),
            Ok(Some((pid, status))) => return Ok(Some((number(pid), code(status)))),
            Err(Errno::INTR) => {}
            Err(e) => return Err(e),
        }
    }
}

/// Wait for the end of the child `pid`; its exit code as of [`ended`].
///
/// # Errors
/// `ECHILD` when there is no such child.
pub fn wait_for(pid: u32) -> Result<u8> {
    let pid = to_pid(pid)?;
    loop {
        match rustix::process::waitpid(Some(pid), WaitOptions::empty()) {
            Ok(Some((_, status))) => return Ok(code(status)),
            Ok(None) | Err(Errno::INTR) => {}
            Err(e) => return Err(e),
        }
    }
}

fn number(pid: Pid) -> u32 {
    pid.as_raw_nonzero().get().unsigned_abs()
}

fn code(status: WaitStatus) -> u8 {
    let code = match (status.exit_status(), status.terminating_signal()) {
        (Some(code), _) => code,
        (None, Some(signal)) => 128 + signal,
        (None, None) => 255,
    };
    u8::try_from(code).unwrap_or(255)
}

fn to_pid(pid: u32) -> Result<Pid> {
    let raw = i32::try_from(pid).map_err(|_| Errno::SRCH)?;
    Pid::from_raw(raw).filter(|_| raw > 0).ok_or(Errno::SRCH)
}

/// A process held by a descriptor.
#[derive(Debug)]
pub struct Handle(OwnedFd);

impl Handle {
    /// Hold the process that has this number now.
    ///
    /// # Errors
    /// `ESRCH` when there is none.
    pub fn open(pid: u32) -> Result<Handle> {
        rustix::process::pidfd_open(to_pid(pid)?, PidfdFlags::empty()).map(Handle)
    }

    /// Send it a signal by number.
    ///
    /// # Errors
    /// `ESRCH` when it has ended; `EINVAL` when there is no such signal.
    pub fn signal(&self, number: i32) -> Result<()> {
        let signal = signal(number).ok_or(Errno::INVAL)?;
        rustix::process::pidfd_send_signal(&self.0, signal)
    }

    /// Wait for its end, but no longer than `patience`; has it ended.
    ///
    /// # Errors
    /// As poll(2).
    pub fn ends_within(&self, patience: Duration) -> Result<bool> {
        let timeout = Timespec::try_from(patience).ok();
        let mut fds = [PollFd::new(&self.0, PollFlags::IN)];
        match poll(&mut fds, timeout.as_ref()) {
            Ok(n) => Ok(n > 0),
            Err(Errno::INTR) => Ok(false),
            Err(e) => Err(e),
        }
    }
}

impl AsFd for Handle {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// The signal of that number, real-time signals included.
fn signal(number: i32) -> Option<Signal> {
    Signal::from_named_raw(number).or_else(|| {
        let real_time = (libc::SIGRTMIN()..=libc::SIGRTMAX()).contains(&number);
        // SAFETY: it is a real-time signal that libc does not keep for itself.
        real_time.then(|| unsafe { Signal::from_raw_unchecked(number) })
    })
}

/// A new network namespace, in which nothing is up and nobody is; it lives as
/// long as the descriptor and those who entered by it.
///
/// # Errors
/// As unshare(2).
pub fn new_network() -> Result<OwnedFd> {
    let made = std::thread::spawn(|| {
        // SAFETY: only this thread moves, and it ends right away; it shares
        // no descriptor table or working directory less than before.
        unsafe { rustix::thread::unshare_unsafe(rustix::thread::UnshareFlags::NEWNET) }?;
        let file = std::fs::File::open("/proc/thread-self/ns/net");
        file.map(OwnedFd::from)
            .map_err(|e| Errno::from_io_error(&e).unwrap_or(Errno::IO))
    });
    made.join().unwrap_or(Err(Errno::IO))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_is_held_signalled_and_waited_for() {
        let mut child = std::process::Command::new("sleep")
            .arg("100")
            .spawn()
            .unwrap();
        let handle = Handle::open(child.id()).unwrap();
        assert!(!handle.ends_within(Duration::ZERO).unwrap());
        assert_eq!(handle.signal(0).unwrap_err(), Errno::INVAL);
        assert_eq!(handle.signal(-1).unwrap_err(), Errno::INVAL);
        handle.signal(libc::SIGTERM).unwrap();
        assert!(handle.ends_within(Duration::from_secs(20)).unwrap());
        child.wait().unwrap();
        assert_eq!(handle.signal(libc::SIGTERM).unwrap_err(), Errno::SRCH);
        assert_eq!(Handle::open(0).unwrap_err(), Errno::SRCH);
    }
}
