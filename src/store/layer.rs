//! Unpacked layers: where they are, and what is known of them.

use super::digest::Digest;
use super::error::Result;
use super::{Store, document, read_file};
use serde::{Deserialize, Serialize};
use std::path::PathBuf;

/// The content of `layers/<hex>.json`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LayerRecord {
    /// Digest of the uncompressed archive.
    pub diff_id: Digest,
    /// Set where the tree is right on top of one chain only: the chain it ends.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub chain_id: Option<Digest>,
    /// Bytes of its regular files.
    pub size: u64,
    /// Members of its archive.
    pub members: u64,
    /// The archive gives the root's attributes.
    pub root_entry: bool,
    /// All layers below are hidden.
    pub root_opaque: bool,
}

impl LayerRecord {
    /// The name of the layer's directory.
    pub fn name(&self) -> Digest {
        self.chain_id.unwrap_or(self.diff_id)
    }
}

/// The chain ids of layers, bottom first.
pub fn chain_ids(diff_ids: &[Digest]) -> Vec<Digest> {
    let mut out: Vec<Digest> = Vec::with_capacity(diff_ids.len());
    for diff in diff_ids {
        out.push(out.last().map_or(*diff, |below| below.chain(*diff)));
    }
    out
}

/// The layers that a mount of them needs, top first. One that hides everything
/// below it at the root is the last, as union mounts know no opaque root.
pub fn mounted(layers: &[LayerRecord]) -> Vec<Digest> {
    let mut out = Vec::new();
    for layer in layers.iter().rev() {
        out.push(layer.name());
        if layer.root_opaque {
            break;
        }
    }
    out
}

impl Store {
    /// The directory of an unpacked layer.
    pub fn layer_dir(&self, name: &Digest) -> PathBuf {
        self.layers().join(name.hex())
    }

    /// The unpacked layer for that place in an image, if it is here.
    ///
    /// # Errors
    /// When its record is damaged.
    pub fn find_layer(&self, diff_id: &Digest, chain_id: &Digest) -> Result<Option<LayerRecord>> {
        for name in [diff_id, chain_id] {
            let path = self.layers().join(format!("{}.json", name.hex()));
            let data = match read_file(&path, 1 << 20) {
                Err(super::Error::NotFound(_)) => continue,
                data => data?,
            };
            let record: LayerRecord = document::parse(&data, "layer record")?;
            let right = record.diff_id == *diff_id
                && record.chain_id.is_none_or(|chain| chain == *chain_id);
            if right && self.layer_dir(name).is_dir() {
                return Ok(Some(record));
            }
        }
        Ok(None)
    }
}
