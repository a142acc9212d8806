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
use std::os::unix::fs::MetadataExt;

/// A file that was looked at: another one, or another content, has another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Stamp {
    ino: u64,
    ctime: (i64, i64),
}

impl Check<'_> {
    /// Read one blob. What has no digest for a name was told already.
    pub(super) fn blob(&mut self, name: &OsStr) {
        let Some(digest) = named(name).filter(|d| d.hex().as_str() == name) else {
            return;
        };
        self.report.blobs += 1;
        let stamp = self.stamp(&digest);
        match self.content_is(&digest) {
            None => drop(self.good.insert(digest)),
            Some(why) => {
                self.wrong.insert(digest, stamp);
                self.damaged(&format!("blob {digest}"), &why);
            }
        }
    }

    fn stamp(&self, digest: &Digest) -> Option<Stamp> {
        let meta = std::fs::symlink_metadata(self.store.blob(digest)).ok()?;
        Some(Stamp {
            ino: meta.ino(),
            ctime: (meta.ctime(), meta.ctime_nsec()),
        })
    }

    /// Is the content of a blob what its name says: else why not.
    fn content_is(&self, digest: &Digest) -> Option<String> {
        match self.open_blob(OsStr::new(&digest.hex())) {
            Err(e) => Some(format!("it cannot be read: {e}")),
            Ok(_) if self.options.quick => None,
            Ok(file) => match hash(file) {
                Err(e) => Some(format!("it cannot be read: {e}")),
                Ok(found) if found != *digest => Some(format!("its content has digest {found}")),
                Ok(_) => None,
            },
        }
    }

    /// Look at a blob that came after the blobs were read, or was not right
    /// then: images are added while a check runs.
    fn look_again(&mut self, digest: &Digest) {
        let stamp = self.stamp(digest);
        let before = self.wrong.get(digest).copied();
        if stamp.is_none() || before == Some(stamp) || self.good.contains(digest) {
            return;
        }
        if self.content_is(digest).is_some() {
            self.wrong.insert(*digest, stamp);
            return;
        }
        self.good.insert(*digest);
        if self.wrong.remove(digest).is_some() {
            let what = format!("blob {digest}");
            self.mended(1, &what, "it was brought again meanwhile");
        }
    }

    fn open_blob(&self, name: &OsStr) -> crate::sys::Result<File> {
        let dir = File::open(self.store.blobs())
            .map_err(|e| crate::sys::Errno::from_io_error(&e).unwrap_or(crate::sys::Errno::IO))?;
        tree::open_file_beneath(&dir, name, Links::Refuse)
    }

    /// Take away a layer's blob that is not what its name says, so that
    /// nothing takes it for the layer that it is not. False when it is gone, or
    /// a right one is there by now.
    pub(super) fn remove_blob(&mut self, digest: &Digest) -> Result<bool> {
        let _lock = self.store.lock()?;
        self.look_again(digest);
        if self.good.contains(digest) {
            return Ok(false);
        }
        let dir = self.store.blobs();
        let say = || format!("cannot remove blob {digest}");
        let fd = File::open(&dir).context(say)?;
        let hex = digest.hex();
        let done = sfs::absent(sfs::unlink(&fd, OsStr::new(&hex), false)).context(say)?;
        sync_dir(&dir)?;
        Ok(done.is_some())
    }

    /// Is a blob there, right, and of that size: else why not.
    pub(super) fn blob_is(&mut self, digest: &Digest, size: u64) -> Option<String> {
        self.look_again(digest);
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
