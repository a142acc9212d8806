//! An archive that tells how much of it was read.

use super::{PlannedLayer, Source};
use crate::store::archive::Archive;
use crate::store::digest::Digest;
use crate::store::error::Result;
use crate::store::pipeline::Blob;
use std::io::Read;

/// Called with the DiffID of a layer and how many bytes of how many were read of
/// its blob.
pub type Tell<'a> = dyn Fn(&Digest, u64, u64) + Sync + 'a;

/// The archive, and whom to tell.
pub(super) struct Told<'a> {
    pub(super) archive: Archive,
    pub(super) tell: &'a Tell<'a>,
}

impl Source for Told<'_> {
    fn workers(&self) -> usize {
        self.archive.workers()
    }

    fn open(&self, layer: &PlannedLayer) -> Result<Blob<'_>> {
        let Blob { reader, size } = self.archive.open(layer)?;
        let counted = Counted {
            reader,
            at: 0,
            size,
            layer: layer.diff_id,
            tell: self.tell,
        };
        Ok(Blob {
            reader: Box::new(counted),
            size,
        })
    }
}

struct Counted<'a> {
    reader: Box<dyn Read + Send + 'a>,
    at: u64,
    size: u64,
    layer: Digest,
    tell: &'a Tell<'a>,
}

impl Read for Counted<'_> {
    fn read(&mut self, buf: &mut [u8]) -> std::io::Result<usize> {
        let n = self.reader.read(buf)?;
        self.at += n as u64;
        (self.tell)(&self.layer, self.at, self.size);
        Ok(n)
    }
}
