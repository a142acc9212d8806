//! Containers whose monitor died before it could write down how they ended.

use super::record::Status;
use super::{Containers, Record, process};
use crate::store::error::{Error, Result};

impl Containers<'_> {
    /// Write down that a container has ended of which nobody saw the end, and
    /// remove what its run has left. One that runs without its monitor and was
    /// left standing still goes on. Nothing for any other.
    ///
    /// # Errors
    /// When it is in use, or something cannot be removed.
    pub fn settle(&self, record: &Record) -> Result<()> {
        if record.state.status != Status::Running {
            return Ok(());
        }
        match self.status(record).0 {
            Status::Exited => {}
            Status::Running => {
                self.let_go_on(record);
                return Ok(());
            }
            Status::Created => return Ok(()),
        }
        // Its monitor may have settled it meanwhile, and removed it.
        let held = self.hold(record);
        let (_held, now) = match held.and_then(|held| Ok((held, self.read(&record.id)?))) {
            Err(Error::NotFound(_)) => return Ok(()),
            both => both?,
        };
        // Held by us, it can only be written by us.
        if now.state.status != Status::Running || self.process(&now).is_some() {
            return Ok(());
        }
        self.clean(&now.id)?;
        match now.goes_when_it_ends() {
            true => self.remove_held(&now, true),
            false => {
                let why = "its monitor died".to_owned();
                self.update(&now.id, |r| r.exit(None, process::UNKNOWN_EXIT, why))
                    .map(drop)
            }
        }
    }

    /// Remove a step of a build that has ended, however that was. Nothing for
    /// any other.
    ///
    /// # Errors
    /// When something cannot be removed.
    pub fn settle_step(&self, record: &Record) -> Result<bool> {
        if !record.is_abandoned() {
            return Ok(false);
        }
        match self.remove(record, true, true) {
            // Its monitor saw it too, and was faster.
            Ok(()) | Err(Error::NotFound(_)) => Ok(true),
            Err(_) if !self.dir(&record.id).exists() => Ok(true),
            Err(e) => Err(e),
        }
    }

    /// [`Containers::settle`] for all, and the steps of builds that have ended go. What cannot be done is a warning: the
    /// next `capas` tries again.
    ///
    /// # Errors
    /// When a record is damaged.
    pub fn settle_all(&self) -> Result<()> {
        for record in self.list()? {
            let settled = match self.settle_step(&record) {
                Ok(false) => self.settle(&record),
                gone => gone.map(drop),
            };
            match settled {
                Ok(()) | Err(Error::NotFound(_)) => {}
                Err(e) => log::warn!("container {}: {e}", record.name),
            }
        }
        Ok(())
    }
}
