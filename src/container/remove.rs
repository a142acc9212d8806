//! A container goes away.

use super::record::Status;
use super::{Containers, Record, process};
use crate::store::error::{Context, Error, Result};
use crate::store::staging::Staging;
use crate::sys::tree;
use std::time::{Duration, Instant};

/// How long a killed container may take to end.
const KILL_WAIT: Duration = Duration::from_secs(10);

impl Containers<'_> {
    /// Remove a container; one that runs only with `force`.
    ///
    /// # Errors
    /// When it runs, is in use, or cannot be unmounted.
    pub fn remove(&self, record: &Record, force: bool) -> Result<()> {
        if self.status(record).0 == Status::Running {
            if !force {
                return Err(Error::Conflict(format!(
                    "cannot remove container \"/{}\": container is running: stop the container before removing or force remove",
                    record.name
                )));
            }
            self.kill(record)?;
            // One that is removed when it ends may be gone already.
            if !self.dir(&record.id).exists() {
                return Ok(());
            }
        }
        let _held = self.hold(record)?;
        self.remove_held(record)
    }

    /// Remove a container that this process holds.
    ///
    /// # Errors
    /// When it cannot be unmounted or moved away.
    pub fn remove_held(&self, record: &Record) -> Result<()> {
        self.unmount(record)?;
        let trash = Staging::new(&self.store.tmp())?;
        let _lock = self.store.lock()?;
        tree::rename(&self.dir(&record.id), &trash.path().join(&record.id))
            .context(|| format!("cannot remove container {}", record.name))
    }

    /// Kill the container's first process, and wait until whoever runs it has
    /// written that down.
    fn kill(&self, record: &Record) -> Result<()> {
        let pid_file = self.dir(&record.id).join("pid");
        let begun = Instant::now();
        while self.status(record).0 == Status::Running {
            if let Some(pid) = process::from_pid_file(&pid_file)
                && let Err(e) = tree::kill(pid, tree::SIGKILL)
                && e != crate::sys::Errno::SRCH
            {
                return Err(e).context(|| format!("cannot kill container {}", record.name));
            }
            if begun.elapsed() > KILL_WAIT {
                return Err(Error::Conflict(format!(
                    "container {} does not end",
                    record.name
                )));
            }
            std::thread::sleep(Duration::from_millis(20));
            match self.read(&record.id) {
                // Removed by the process that ran it.
                Err(Error::NotFound(_)) => return Ok(()),
                Ok(now) if now.state.status == Status::Exited => break,
                _ => {}
            }
        }
        // The process that ran it still unmounts.
        while self.is_held(record) && begun.elapsed() < KILL_WAIT {
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(())
    }
}
