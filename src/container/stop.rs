//! Signals for a container's command, and waiting for its end.

use super::monitor::launch::Wanted;
use super::monitor::protocol::Event;
use super::record::Status;
use super::{Containers, Record, cgroup, signal};
use crate::store::error::{Context, Error, Result};
use crate::sys::Errno;
use crate::sys::child::Handle;
use std::time::{Duration, Instant};

/// How long a command may take to end that was asked to.
const STOP: u64 = 10;
/// How long a killed container may take to end, and its monitor to clean up.
const KILL_WAIT: Duration = Duration::from_secs(30);
/// How often it is looked whether the record says so.
const POLL: Duration = Duration::from_millis(5);

/// How a command is asked to end; else as its container says.
#[derive(Clone, Copy, Debug, Default)]
pub struct How {
    /// After how many seconds it is killed.
    pub patience: Option<u64>,
    /// By which signal.
    pub signal: Option<i32>,
}

impl Containers<'_> {
    /// The first process of a container that runs, held.
    fn running(&self, record: &Record) -> Result<Option<Handle>> {
        let begun = Instant::now();
        loop {
            let now = self.read(&record.id)?;
            if self.status(&now).0 != Status::Running && !self.is_busy(&now) {
                return Ok(None);
            }
            match self.process(&now).map(|p| p.handle()) {
                Some(Ok(handle)) => return Ok(Some(handle)),
                Some(Err(Errno::SRCH)) | None => {}
                Some(Err(e)) => return Err(e).context(|| "cannot reach its process".to_owned()),
            }
            // It is just being started, or its end just written down.
            if begun.elapsed() > KILL_WAIT {
                return Err(Error::Conflict(format!(
                    "container {} neither starts nor ends",
                    record.name
                )));
            }
            std::thread::sleep(POLL);
        }
    }

    /// Send a signal to a container's command.
    ///
    /// # Errors
    /// When it does not run.
    pub fn kill(&self, record: &Record, number: i32) -> Result<()> {
        self.send(record, number)?;
        match number {
            signal::KILL => self.wait_settled(record, KILL_WAIT),
            _ => Ok(()),
        }
    }

    /// Kill a container's command that is to be removed: nothing of it has to be
    /// written down, for which there may be no room.
    ///
    /// # Errors
    /// As [`Containers::kill`].
    pub(super) fn kill_to_remove(&self, record: &Record) -> Result<()> {
        self.send(record, signal::KILL)?;
        self.wait_free(record, KILL_WAIT).map(drop)
    }

    fn send(&self, record: &Record, number: i32) -> Result<()> {
        let not_running = || {
            Error::Conflict(format!(
                "cannot kill container: {}: container {} is not running",
                record.name, record.id
            ))
        };
        let handle = self.running(record)?.ok_or_else(not_running)?;
        match handle.signal(number) {
            Err(Errno::SRCH) => return Err(not_running()),
            sent => sent.context(|| format!("cannot signal container {}", record.name))?,
        }
        if number == signal::KILL {
            cgroup::thaw(&record.id);
        }
        Ok(())
    }

    /// [`Containers::stop`] one that is to be started again: it stays, though it
    /// would be removed.
    ///
    /// # Errors
    /// As [`Containers::stop`].
    pub fn stop_to_start(&self, record: &Record, how: How) -> Result<()> {
        if record.auto_remove {
            self.update(&record.id, |r| {
                r.state.restarting = r.state.status == Status::Running;
                Ok(())
            })?;
        }
        self.stop(record, how)
    }

    /// Ask a container's command to end, and kill it if it does not. Fine if it
    /// does not run.
    ///
    /// # Errors
    /// When it does not end even then.
    pub fn stop(&self, record: &Record, how: How) -> Result<()> {
        let Some(handle) = self.running(record)? else {
            return self.settle(record);
        };
        let settings = &record.settings;
        let number = match (how.signal, &settings.stop_signal) {
            (Some(number), _) => number,
            (None, Some(text)) => signal::parse(text)?,
            (None, None) => signal::TERM,
        };
        let patience = how.patience.or(settings.stop_timeout).unwrap_or(STOP);
        let send = |number| match handle.signal(number) {
            Ok(()) | Err(Errno::SRCH) => Ok(()),
            Err(e) => Err(e).context(|| format!("cannot signal container {}", record.name)),
        };
        send(number)?;
        let begun = Instant::now();
        let patience = Duration::from_secs(patience);
        let ends = |within| {
            handle
                .ends_within(within)
                .context(|| "cannot wait for its process".to_owned())
        };
        // A wait may be cut short by a signal.
        while begun.elapsed() < patience {
            if ends(patience.saturating_sub(begun.elapsed()))? {
                break;
            }
        }
        if !ends(Duration::ZERO)? {
            send(signal::KILL)?;
            cgroup::thaw(&record.id);
        }
        self.wait_settled(record, KILL_WAIT)
    }

    /// Does a container run that could not be started, since somebody else was just
    /// doing that. Who holds it for something else is waited for, too.
    pub fn is_started_by_another(&self, record: &Record) -> bool {
        let begun = Instant::now();
        while begun.elapsed() < KILL_WAIT {
            match self.read(&record.id) {
                Ok(now) if self.status(&now).0 == Status::Running => return true,
                Ok(now) if self.is_held(&now) => std::thread::sleep(POLL),
                _ => return false,
            }
        }
        false
    }

    /// Wait until the end of a container's command is written down and all is
    /// cleaned up.
    ///
    /// # Errors
    /// When that takes too long.
    pub fn wait_settled(&self, record: &Record, patience: Duration) -> Result<()> {
        match self.wait_free(record, patience)? {
            Some(now) => self.settle(&now),
            None => Ok(()),
        }
    }

    /// Wait until a container has ended and nobody holds it; what is written down
    /// of it then, unless it is gone.
    fn wait_free(&self, record: &Record, patience: Duration) -> Result<Option<Record>> {
        let begun = Instant::now();
        while begun.elapsed() < patience {
            let now = match self.read(&record.id) {
                Ok(now) => now,
                Err(Error::NotFound(_)) => return Ok(None),
                Err(e) => return Err(e),
            };
            if self.status(&now).0 != Status::Running && !self.is_held(&now) {
                return Ok(Some(now));
            }
            std::thread::sleep(POLL);
        }
        Err(Error::Conflict(format!(
            "container {} does not end",
            record.name
        )))
    }

    /// Wait for the end of a container's command; its exit code.
    ///
    /// # Errors
    /// When its record is damaged.
    pub fn wait(&self, record: &Record) -> Result<u8> {
        // Its monitor knows best, and of one that is removed nobody else does.
        if let Ok(mut monitor) = self.connect(record, Wanted::default()) {
            loop {
                match monitor.wait() {
                    Ok(Event::Exited(code)) => return Ok(code),
                    Ok(_) => {}
                    Err(_) => break,
                }
            }
        }
        loop {
            let now = match self.read(&record.id) {
                Err(Error::NotFound(_)) => return Ok(super::process::UNKNOWN_EXIT),
                now => now?,
            };
            match self.status(&now) {
                (Status::Running, _) => {}
                (_, code) => {
                    self.settle(&now)?;
                    return Ok(code.unwrap_or_default());
                }
            }
            if let Some(Ok(handle)) = self.process(&now).map(|p| p.handle()) {
                let _ = handle.ends_within(Duration::from_secs(60));
            } else {
                std::thread::sleep(POLL);
            }
        }
    }
}
