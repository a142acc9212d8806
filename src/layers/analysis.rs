//! The result, and how it comes out of an image in the store.

use super::merge::Builder;
use super::{duplicates, label};
use crate::store::error::{Context, Result};
use crate::store::image::Image;
use crate::store::{Digest, Store, document};
use serde::{Deserialize, Serialize};
use std::fs::File;

/// What a name is in a layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// A regular file.
    File,
    /// A directory.
    Dir,
    /// A symbolic link.
    Symlink,
    /// A device, a pipe, a socket.
    Special,
}

/// What a layer does to a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// Nothing below has it.
    Added,
    /// Something below has it.
    Changed,
    /// What is below is hidden.
    Removed,
}

/// A name in a directory of any layer. Parents come before their children.
#[derive(Debug)]
pub struct Node {
    /// The directory; the root is its own.
    pub parent: u32,
    /// Any bytes but `/`.
    pub name: Box<[u8]>,
    /// Sorted by name.
    pub children: Vec<u32>,
}

/// The node of the root.
pub const ROOT: u32 = 0;

/// What a layer does to one name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Change {
    /// The name.
    pub node: u32,
    /// What is done.
    pub status: Status,
    /// What it is then; of a removed one, what it was.
    pub kind: Kind,
    /// Bytes that the layer holds for it; of a removed one, bytes that are
    /// wasted by the removal.
    pub size: u64,
}

/// Entries and bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Count {
    /// Entries.
    pub entries: u64,
    /// Bytes.
    pub bytes: u64,
}

/// One layer.
#[derive(Debug)]
pub struct Layer {
    /// Digest of its uncompressed archive.
    pub diff_id: Digest,
    /// The command that made it, as the image tells; mostly on one line.
    pub command: String,
    /// Bytes of its files.
    pub size: u64,
    /// Bytes below that are wasted because of it.
    pub wastes: u64,
    /// What it does, each name at most once.
    pub changes: Vec<Change>,
}

impl Layer {
    /// How much of a kind it does.
    pub fn count(&self, status: Status) -> Count {
        let mut count = Count::default();
        for change in self.changes.iter().filter(|c| c.status == status) {
            count.entries += 1;
            count.bytes += change.size;
        }
        count
    }
}

/// Bytes that lie in layers for nothing under one name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Waste {
    /// The name.
    pub node: u32,
    /// Bytes.
    pub bytes: u64,
    /// How many files of the name are hidden.
    pub times: u32,
}

/// All that is known of the layers of an image.
#[derive(Debug)]
pub struct Analysis {
    /// Every name that any layer has.
    pub nodes: Vec<Node>,
    /// Bottom first.
    pub layers: Vec<Layer>,
    /// Bytes of all layers.
    pub total: u64,
    /// Bytes that are wasted.
    pub wasted: u64,
    /// Under which names, most first.
    pub waste: Vec<Waste>,
    /// Bytes that are there more than once.
    pub duplicated: u64,
}

impl Analysis {
    /// Read the layers of an image.
    ///
    /// # Errors
    /// When the image or one of its layers is missing or damaged.
    pub fn of(store: &Store, image: &Image) -> Result<Analysis> {
        let (config, data) = store.image_config(&image.id)?;
        let records = store.image_layers(&config)?;
        let commands = commands(&data, records.len())?;
        let mut builder = Builder::new();
        let mut dirs = Vec::new();
        let mut layers = Vec::new();
        for (record, command) in records.iter().zip(commands) {
            let path = store.layer_dir(&record.name());
            let say = || format!("cannot read layer {}", record.diff_id.short());
            let dir = File::open(&path).context(say)?;
            let (size, wastes, changes) = builder
                .add(&dir, record.root_opaque)
                .map_err(|e| crate::store::Error::System(say(), e.into()))?;
            layers.push(Layer {
                diff_id: record.diff_id,
                command,
                size,
                wastes,
                changes,
            });
            dirs.push(dir);
        }
        let (nodes, files, waste) = builder.finish();
        let duplicated = duplicates::bytes(&nodes, &files, &dirs)?;
        Ok(Analysis {
            total: layers.iter().map(|l| l.size).sum(),
            wasted: waste.iter().map(|w| w.bytes).sum(),
            nodes,
            layers,
            waste,
            duplicated,
        })
    }

    /// How much of the image is not wasted, from 0 to 1.
    #[allow(clippy::cast_precision_loss, reason = "a score")]
    pub fn efficiency(&self) -> f64 {
        match self.total {
            0 => 1.0,
            total => 1.0 - self.wasted as f64 / total as f64,
        }
    }

    /// Wasted bytes for each hundred bytes of the layers above the lowest.
    #[allow(clippy::cast_precision_loss, reason = "a score")]
    pub fn wasted_percent(&self) -> f64 {
        match self.layers.iter().skip(1).map(|l| l.size).sum::<u64>() {
            0 => 0.0,
            built => 100.0 * self.wasted as f64 / built as f64,
        }
    }

    /// The path of a node without a leading `/`; empty for the root.
    pub fn path(&self, node: u32) -> Vec<u8> {
        path(&self.nodes, node)
    }

    /// A path as it may be shown, with a leading `/`.
    pub fn shown_path(&self, node: u32) -> String {
        format!("/{}", label::label(&self.path(node)))
    }
}

/// The path of a node without a leading `/`.
pub(super) fn path(nodes: &[Node], mut node: u32) -> Vec<u8> {
    let mut names: Vec<&[u8]> = Vec::new();
    while let Some(n) = nodes.get(node as usize).filter(|_| node != ROOT) {
        names.push(&n.name);
        node = n.parent;
    }
    names.reverse();
    names.join(&b'/')
}

/// What we need of an image's history.
#[derive(Deserialize)]
struct Told {
    #[serde(default)]
    history: Option<Vec<Step>>,
}

#[derive(Deserialize)]
struct Step {
    #[serde(default)]
    created_by: Option<String>,
    #[serde(default)]
    empty_layer: Option<bool>,
}

/// The commands of `count` layers; empty where the history does not fit them.
fn commands(config: &[u8], count: usize) -> Result<Vec<String>> {
    let told: Told = document::parse(config, "image configuration")?;
    let mut commands: Vec<String> = told
        .history
        .unwrap_or_default()
        .into_iter()
        .filter(|step| step.empty_layer != Some(true))
        .map(|step| label::one_line(&step.created_by.unwrap_or_default()))
        .collect();
    if commands.len() != count {
        commands = vec![String::new(); count];
    }
    Ok(commands)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_belong_to_layers_that_are_not_empty() {
        let config = br#"{"history":[{"created_by":"ADD a\n b"},{"created_by":"ENV","empty_layer":true},{}]}"#;
        assert_eq!(commands(config, 2).unwrap(), ["ADD a b", ""]);
        assert_eq!(commands(config, 1).unwrap(), [""]);
        assert_eq!(commands(b"{\"history\":null}", 1).unwrap(), [""]);
    }
}
