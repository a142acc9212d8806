//! A container that runs stands still for a while. Its monitor stops it and lets
//! it go on when nobody wants it still any more, so it does not stay so when
//! whoever wanted that is killed.

use super::monitor::launch::{Connection, Wanted};
use super::runtime::Runtime;
use super::{Containers, Record, cgroup};
use crate::store::error::{Context, Error, Result};
use std::fs::File;

/// Locked, shared, by whoever wants the container to stand still.
const STILL: &str = "still";

/// A container that stands still until this is dropped.
#[derive(Debug)]
pub struct Paused {
    connection: Connection,
    runtime: Runtime,
    id: String,
    _still: File,
}

impl Containers<'_> {
    /// Let a container stand still that runs.
    ///
    /// # Errors
    /// When that cannot be had: no control groups, or no monitor.
    pub fn pause(&self, record: &Record) -> Result<Paused> {
        let Some(program) = &record.state.runtime else {
            return Err(Error::Conflict(format!(
                "container {} is not running",
                record.name
            )));
        };
        let still = {
            let path = self.dir(&record.id).join(STILL);
            let say = || format!("cannot lock {}", path.display());
            let file = File::create(&path).context(say)?;
            file.lock_shared().context(say)?;
            file
        };
        let mut connection = self.connect(record, Wanted::default())?;
        connection.pause()?;
        Ok(Paused {
            connection,
            runtime: Runtime::at(program),
            id: record.id.clone(),
            _still: still,
        })
    }

    /// Let a container go on that runs and may stand still though whoever wanted
    /// that has died, and its monitor too.
    pub(super) fn let_go_on(&self, record: &Record) {
        let still = File::open(self.dir(&record.id).join(STILL));
        if still.is_ok_and(|file| file.try_lock().is_ok() && !self.is_held(record)) {
            cgroup::thaw(&record.id);
        }
    }
}

impl Drop for Paused {
    fn drop(&mut self) {
        // A monitor lets it go on when the connection ends; one that has died
        // cannot.
        if self.connection.event().is_err() && self.runtime.resume(&self.id).is_err() {
            cgroup::thaw(&self.id);
        }
    }
}
