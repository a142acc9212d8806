//! A container goes away.

use super::record::Status;
use super::{Containers, Record};
use crate::store::error::{Error, Result};
use crate::store::staging::Making;

fn is_running(record: &Record) -> Error {
    Error::Conflict(format!(
        "cannot remove container \"/{}\": container is running: stop the container before removing or force remove",
        record.name
    ))
}

impl Containers<'_> {
    /// Remove a container; one that runs only with `force`. With `volumes` those
    /// go too that were made for it.
    ///
    /// # Errors
    /// When it runs, is in use, or cannot be unmounted.
    pub fn remove(&self, record: &Record, force: bool, volumes: bool) -> Result<()> {
        let running = self.status(record).0 == Status::Running;
        if running || force && self.is_busy(record) {
            if !force {
                return Err(is_running(record));
            }
            match self.kill_to_remove(record) {
                // It ended by itself just now.
                Err(Error::Conflict(_)) if self.status(record).0 != Status::Running => {}
                Err(Error::NotFound(_)) => return Ok(()),
                killed => killed?,
            }
        }
        let held = self.hold(record);
        let (_held, now) = match held.and_then(|held| Ok((held, self.read(&record.id)?))) {
            // One that is removed when it ends may be gone already.
            Err(Error::NotFound(_)) => return Ok(()),
            both => both?,
        };
        if now.state.status == Status::Running {
            if self.process(&now).is_some() {
                return Err(is_running(&now));
            }
            // Its monitor died, or could not write down how it ended.
            self.clean(&now.id)?;
        }
        self.remove_held(&now, volumes || now.auto_remove)
    }

    /// As [`Containers::remove`] for one that this process holds.
    ///
    /// # Errors
    /// When it cannot be unmounted or moved away.
    pub fn remove_held(&self, record: &Record, volumes: bool) -> Result<()> {
        self.move_away(record, volumes).map(drop)
    }

    /// Make a container that this process holds to something in the making.
    ///
    /// # Errors
    /// As [`Containers::remove_held`].
    pub(super) fn move_away(&self, record: &Record, volumes: bool) -> Result<Making> {
        self.unmount(record)?;
        let lock = self.store.lock()?;
        let volumes = match volumes {
            true => self.discard_anonymous(record, &lock)?,
            false => Vec::new(),
        };
        let gone = Making::again(&self.dir(&record.id), &self.store.tmp());
        // What is only to be deleted can be so beside others.
        drop(lock);
        drop(volumes);
        gone
    }
}
