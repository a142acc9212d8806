//! Is a process that was written down still the same one.

use crate::sys::child::Handle;
use crate::sys::{self, Errno};
use serde::{Deserialize, Serialize};
use std::fs;
use std::path::Path;
use std::time::{Duration, SystemTime};

/// The exit code of a container of which nobody saw the end.
pub const UNKNOWN_EXIT: u8 = 255;

/// A process, told from all others that have or will have its number: those
/// began at another time, or after another start of the machine.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Process {
    /// Its number.
    pub pid: u32,
    /// Ticks since the machine started.
    pub start: u64,
    /// Which start of the machine.
    pub boot: String,
}

impl Process {
    /// The process that has this number now, unless it has ended.
    pub fn of(pid: u32) -> Option<Process> {
        Process::find(pid, false)
    }

    /// A child that was not waited for, so that the number is its own though it
    /// may have ended.
    pub fn of_child(pid: u32) -> Option<Process> {
        Process::find(pid, true)
    }

    fn find(pid: u32, ended: bool) -> Option<Process> {
        let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id").ok()?;
        Some(Process {
            pid,
            start: start(pid, ended)?,
            boot: boot.trim().to_owned(),
        })
    }

    /// Has it not ended.
    pub fn is_alive(&self) -> bool {
        Process::of(self.pid).as_ref() == Some(self)
    }

    /// The process, held so that its number stays its own.
    ///
    /// # Errors
    /// `ESRCH` when it has ended.
    pub fn handle(&self) -> sys::Result<Handle> {
        let handle = Handle::open(self.pid)?;
        match self.is_alive() {
            true => Ok(handle),
            false => Err(Errno::SRCH),
        }
    }
}

/// When a process began, in ticks; one that has `ended` only if that is asked for.
fn start(pid: u32, ended: bool) -> Option<u64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name, in parentheses, may hold anything.
    let mut fields = stat.get(stat.rfind(')')? + 2..)?.split(' ');
    if matches!(fields.next()?, "Z" | "X") && !ended {
        return None;
    }
    fields.nth(18)?.parse().ok()
}

/// The process of a pid file, if it is alive and the one that was meant: a
/// process that began after the file was written only has its number. For the
/// moment between the runtime's writing it and the record's.
pub fn from_pid_file(path: &Path) -> Option<Process> {
    let written = fs::metadata(path).ok()?.modified().ok()?;
    let process = Process::of(fs::read_to_string(path).ok()?.trim().parse().ok()?)?;
    let boot = fs::read_to_string("/proc/stat").ok()?;
    let boot = boot.lines().find_map(|l| l.strip_prefix("btime "))?;
    let boot = Duration::from_secs(boot.trim().parse().ok()?);
    // USER_HZ is 100 on every architecture that Linux supports for this file.
    let since_boot = Duration::from_millis(process.start.saturating_mul(10));
    let began = SystemTime::UNIX_EPOCH + boot + since_boot;
    (began <= written + Duration::from_secs(2)).then_some(process)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reused_pid_is_not_the_process() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("pid");
        fs::write(&path, std::process::id().to_string()).unwrap();
        let own = Process::of(std::process::id()).unwrap();
        assert_eq!(from_pid_file(&path), Some(own.clone()));
        let old = SystemTime::now() - Duration::from_secs(1_000_000_000);
        fs::File::options()
            .write(true)
            .open(&path)
            .unwrap()
            .set_modified(old)
            .unwrap();
        assert_eq!(from_pid_file(&path), None);
        fs::write(&path, "4194304999").unwrap();
        assert_eq!(from_pid_file(&path), None);
        assert!(own.is_alive() && own.handle().is_ok());
        for other in [
            Process {
                start: own.start + 1,
                ..own.clone()
            },
            Process {
                boot: "another".into(),
                ..own
            },
        ] {
            assert!(!other.is_alive());
            assert_eq!(other.handle().unwrap_err(), Errno::SRCH);
        }
    }

    #[test]
    fn a_zombie_has_ended() {
        let mut child = std::process::Command::new("true").spawn().unwrap();
        let handle = Handle::open(child.id()).unwrap();
        assert!(handle.ends_within(Duration::from_secs(20)).unwrap());
        assert_eq!(Process::of(child.id()), None);
        // It is written down all the same, as what has ended.
        let known = Process::of_child(child.id()).unwrap();
        assert!(!known.is_alive());
        child.wait().unwrap();
        assert_eq!(Process::of_child(child.id()), None);
    }
}
