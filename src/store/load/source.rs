//! Where layers come from, and how far they have come.

use super::PlannedLayer;
use crate::store::error::Result;
use crate::store::pipeline::Blob;
use std::path::Path;

/// Where the blobs of layers come from.
pub trait Source: Sync {
    /// How many layers are read at a time.
    fn workers(&self) -> usize;

    /// The blob of a layer, from its beginning.
    ///
    /// # Errors
    /// When it is not there.
    fn open(&self, layer: &PlannedLayer) -> Result<Blob<'_>>;

    /// Is a blob wanted although the layer can be made from its tree in the
    /// store.
    fn wants_blobs(&self) -> bool {
        true
    }

    /// A file on the store's file system that is the blob and will not be
    /// changed: the store then shares it instead of copying it.
    fn file(&self, layer: &PlannedLayer) -> Option<&Path> {
        let _ = layer;
        None
    }

    /// The blob that [`Source::open`] gave was not the layer's. Is there another
    /// place that it may be had from: then the next `open` gives that one.
    fn was_wrong(&self, layer: &PlannedLayer) -> bool {
        let _ = layer;
        false
    }

    /// A layer has come so far.
    fn tell(&self, layer: &PlannedLayer, step: Step) {
        let _ = (layer, step);
    }
}

/// How far a layer has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// The store has it.
    Present,
    /// It will be read.
    Wanted,
    /// It will be read after others.
    Waiting,
    /// It is unpacked.
    Done,
}
