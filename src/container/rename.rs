//! A container gets another name.

use super::{Containers, Record, create, name};
use crate::store::error::Result;
use crate::store::{replace_file, to_json};

impl Containers<'_> {
    /// Call it `new`.
    ///
    /// # Errors
    /// When that is no name, or another container has it.
    pub fn rename(&self, record: &Record, new: &str) -> Result<()> {
        name::check(new)?;
        let _lock = self.store.lock()?;
        create::refuse_taken(&self.list()?, new)?;
        let mut record = self.read(&record.id)?;
        new.clone_into(&mut record.name);
        replace_file(
            &self.dir(&record.id).join("config.json"),
            &to_json(&record)?,
        )
    }
}
