//! A container that runs stands still for a while. Its monitor stops it and lets
//! it go on when nobody wants it still any more, so it does not stay so when
//! whoever wanted that is killed.

use super::monitor::launch::{Connection, Wanted};
use super::runtime::Runtime;
use super::{Containers, Record, cgroup};
use crate::store::error::{Error, Result};

/// A container that stands still until this is dropped.
#[derive(Debug)]
pub struct Paused {
    connection: Connection,
    runtime: Runtime,
    id: String,
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
        let mut connection = self.connect(record, Wanted::default())?;
        connection.pause()?;
        Ok(Paused {
            connection,
            runtime: Runtime::at(program),
            id: record.id.clone(),
        })
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
