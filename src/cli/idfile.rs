//! `--cidfile`.

use crate::store::Result;
use crate::store::error::{Context, invalid};
use std::fs::File;
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};

/// A new file for a container's id, which goes again if there is none.
#[derive(Debug)]
pub struct IdFile {
    path: PathBuf,
    file: File,
    written: bool,
}

impl IdFile {
    /// Make it.
    ///
    /// # Errors
    /// When it is there already, or cannot be made.
    pub fn new(path: &Path) -> Result<IdFile> {
        let say = || format!("cannot make {}", path.display());
        match File::create_new(path) {
            Err(e) if e.kind() == ErrorKind::AlreadyExists => invalid(format!(
                "container ID file found, make sure the other container isn't running or delete {}",
                path.display()
            )),
            file => Ok(IdFile {
                path: path.to_owned(),
                file: file.context(say)?,
                written: false,
            }),
        }
    }

    /// Write the id to it.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn write(mut self, id: &str) -> Result<()> {
        let written = self.file.write_all(id.as_bytes());
        written.context(|| format!("cannot write {}", self.path.display()))?;
        self.written = true;
        Ok(())
    }
}

impl Drop for IdFile {
    fn drop(&mut self) {
        if !self.written {
            let _ = std::fs::remove_file(&self.path);
        }
    }
}
