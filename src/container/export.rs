//! A container's files as an archive.

use super::pack::Packer;
use super::{Containers, Record};
use crate::store::error::Result;
use crate::store::time;
use crate::sys::At;
use std::io::Write;
use std::os::fd::AsFd;

impl Containers<'_> {
    /// Write all files of a container to `out`, without what is mounted in it.
    ///
    /// # Errors
    /// When they cannot be read, or `out` not written.
    pub fn export(&self, record: &Record, out: &mut dyn Write) -> Result<()> {
        let view = self.view(record)?;
        let mut packer = Packer::new(out, time::source_date_epoch()?);
        packer.add_tree(b"", At::Fd(view.root.as_fd()), &|_| false)?;
        packer.finish().map(drop)
    }
}
