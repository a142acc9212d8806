//! Blobs are what their names say.

use super::Check;
use crate::store::digest::{Digest, Hasher};
use crate::store::error::{Context, Result};
use crate::store::gc::named;
use crate::store::sync_dir;
use crate::sys::fs as sfs;
use crate::sys::tree::{self, Links};
use std::ffi::OsStr;
use std::fs::File;
use std::io::Read;

impl Check<'_> {
    /// Read one blob. What has no digest for a name was told already.
    pub(super) fn blob(&mut self, name: &OsStr) -> Result<()> {
        let Some(digest) = named(name).filter(|d| d.hex().as_str() == name) else {
            return Ok(());
        };
        self.report.blobs += 1;
        let wrong = match self.open_blob(name) {
            Err(e) => Some(format!("it cannot be read: {e}")),
            Ok(_) if self.options.quick => None,
            Ok(file) => match hash(file) {
                Err(e) => Some(format!("it cannot be read: {e}")),
                Ok(found) if found != digest => Some(format!("its content has digest {found}")),
                Ok(_) => None,
            },
        };
        match wrong {
            None => drop(self.good.insert(digest)),
            Some(why) => self.damaged(&format!("blob {digest}"), &why),
        }
        Ok(())
    }

    fn open_blob(&self, name: &OsStr) -> crate::sys::Result<File> {
        let dir = File::open(self.store.blobs())
            .map_err(|e| crate::sys::Errno::from_io_error(&e).unwrap_or(crate::sys::Errno::IO))?;
        tree::open_file_beneath(&dir, name, Links::Refuse)
    }

    /// Take away a layer's blob that is not what its name says, so that
    /// nothing takes it for the layer that it is not. False when it is gone.
    pub(super) fn remove_blob(&self, digest: &Digest) -> Result<bool> {
        let _lock = self.store.lock()?;
        let dir = self.store.blobs();
        let say = || format!("cannot remove blob {digest}");
        let fd = File::open(&dir).context(say)?;
        let hex = digest.hex();
        let done = sfs::absent(sfs::unlink(&fd, OsStr::new(&hex), false)).context(say)?;
        sync_dir(&dir)?;
        Ok(done.is_some())
    }

    /// Is a blob there, right, and of that size: else why not.
    pub(super) fn blob_is(&self, digest: &Digest, size: u64) -> Option<String> {
        let path = self.store.blob(digest);
        let shown = |why: &str| Some(format!("blob {digest} {why}"));
        match std::fs::symlink_metadata(&path) {
            Err(_) => shown("is not there"),
            Ok(_) if !self.good.contains(digest) => shown("is damaged"),
            Ok(meta) if meta.len() != size => shown(&format!(
                "has {} bytes, its descriptor says {size}",
                meta.len()
            )),
            Ok(_) => None,
        }
    }
}

fn hash(mut file: File) -> std::io::Result<Digest> {
    let mut hasher = Hasher::default();
    let mut buf = vec![0; 1 << 20];
    loop {
        match file.read(&mut buf)? {
            0 => return Ok(hasher.finish().0),
            n => hasher.update(buf.get(..n).unwrap_or_default()),
        }
    }
}
