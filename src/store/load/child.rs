//! An image on another: its layers, and new ones whose archives are written here.

use super::plan::{Plan, PlannedLayer, planned_layers};
use super::{Loaded, Source};
use crate::store::archive::Range;
use crate::store::digest::{Digest, Hasher};
use crate::store::document::{Descriptor, ImageConfig, MAX_CONFIG, host_architecture, parse};
use crate::store::error::{Context, Result, invalid};
use crate::store::image::Image;
use crate::store::layer::{LayerRecord, chain_ids};
use crate::store::pipeline::{Blob, Encoding};
use crate::store::reference::Reference;
use crate::store::staging::{self, Staging};
use crate::store::steps::StepLayer;
use crate::store::{Lock, Store, to_json};
use serde_json::{Map, Value, json};
use std::collections::HashMap;
use std::fs::{self, File};
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

/// What docker's older builds wrote down about the container that they made the
/// image of; of one made on it that is not true.
const STALE: [&str; 5] = [
    "container",
    "container_config",
    "docker_version",
    "id",
    "parent",
];

/// How one more step was made, for the image's history.
#[derive(Clone, Debug, Default)]
pub struct Step {
    /// RFC 3339.
    pub created: String,
    /// What made it.
    pub created_by: String,
    /// Who made it, perhaps nobody.
    pub author: String,
    /// What was said of it.
    pub comment: String,
}

/// An image in the making. What was written goes away with it unless it is
/// finished.
#[derive(Debug)]
pub struct NewImage<'a> {
    store: &'a Store,
    _adding: Lock,
    staging: Staging,
    /// The image configuration; `rootfs` and `history` are kept by the steps.
    pub config: Map<String, Value>,
    layers: Vec<PlannedLayer>,
    made: Made,
}

/// The archives that were written.
#[derive(Debug, Default)]
struct Made(HashMap<Digest, PathBuf>);

impl Source for Made {
    fn workers(&self) -> usize {
        std::thread::available_parallelism().map_or(1, usize::from)
    }

    fn open(&self, layer: &PlannedLayer) -> Result<Blob<'_>> {
        let Some(path) = self.0.get(&layer.diff_id) else {
            return invalid("its blob is not in the store (try \"check\")");
        };
        let say = || format!("cannot read {}", path.display());
        let range = File::open(path).and_then(Range::whole).context(say)?;
        Ok(Blob {
            size: range.len(),
            reader: Box::new(range),
        })
    }

    /// Layers of the image below may be here without theirs.
    fn wants_blobs(&self) -> bool {
        false
    }

    fn file(&self, layer: &PlannedLayer) -> Option<&Path> {
        self.0.get(&layer.diff_id).map(PathBuf::as_path)
    }
}

impl Store {
    /// Begin an image on `parent`, or one that has nothing below it.
    ///
    /// # Errors
    /// When the parent's documents are damaged, or nothing can be written.
    pub fn new_image(&self, parent: Option<&Image>) -> Result<NewImage<'_>> {
        let adding = self.lock_adding()?;
        staging::remove_stale(&self.tmp())?;
        let staging = Staging::new(&self.tmp())?;
        let (mut config, layers) = match parent {
            None => {
                let empty = json!({
                    "architecture": host_architecture(),
                    "os": "linux",
                    "config": {},
                });
                (object(empty), Vec::new())
            }
            Some(parent) => {
                let manifest = self.image_manifest(&parent.manifest)?;
                let data = self.read_blob(&parent.id, MAX_CONFIG)?;
                let layers = planned_layers(&manifest, &ImageConfig::parse(&data)?)?;
                (object(parse(&data, "image configuration")?), layers)
            }
        };
        for key in STALE {
            config.remove(key);
        }
        complete_history(&mut config, layers.len());
        Ok(NewImage {
            store: self,
            _adding: adding,
            staging,
            config,
            layers: layers.into_iter().map(with_oci_type).collect(),
            made: Made::default(),
        })
    }
}

impl<'a> NewImage<'a> {
    /// Write one more layer's archive, uncompressed. An archive without members
    /// makes no layer.
    ///
    /// # Errors
    /// Those of `write`, and when the disk is full.
    pub fn add_layer(
        &mut self,
        write: impl FnOnce(&mut dyn Write) -> Result<()>,
    ) -> Result<Option<Digest>> {
        let number = self.layers.len();
        let path = self.staging.path().join(format!("{number}.tar"));
        let say = || "cannot write the layer".to_owned();
        let mut out = Hashing {
            file: BufWriter::with_capacity(256 << 10, File::create_new(&path).context(say)?),
            hasher: Hasher::default(),
        };
        write(&mut out)?;
        out.file.flush().context(say)?;
        let (diff_id, size) = out.hasher.finish();
        if size <= 2 * tar_core::HEADER_SIZE as u64 {
            fs::remove_file(&path).context(say)?;
            return Ok(None);
        }
        self.made.0.insert(diff_id, path);
        self.layers.push(PlannedLayer {
            diff_id,
            described: Some(Descriptor {
                media_type: Encoding::Plain.media_type().to_owned(),
                digest: diff_id,
                size,
                annotations: None,
                platform: None,
            }),
            member: String::new(),
        });
        Ok(Some(diff_id))
    }

    /// Begin another image on the same layers, with the same configuration.
    ///
    /// # Errors
    /// When nothing can be written.
    pub fn branch(&self) -> Result<NewImage<'a>> {
        Ok(NewImage {
            store: self.store,
            _adding: self.store.lock_adding()?,
            staging: Staging::new(&self.store.tmp())?,
            config: self.config.clone(),
            layers: self.layers.clone(),
            made: Made::default(),
        })
    }

    /// Go on with a layer that the store has.
    pub fn adopt(&mut self, layer: &StepLayer) {
        self.layers.push(PlannedLayer {
            diff_id: layer.diff_id,
            described: Some(layer.blob.clone()),
            member: String::new(),
        });
    }

    /// Take what was written into the store, though no image is listed that has
    /// it: whoever counts on it holds [`Store::lock_adding`].
    ///
    /// # Errors
    /// As [`NewImage::finish`].
    pub fn keep(&mut self) -> Result<Vec<LayerRecord>> {
        let plan = self.plan(Vec::new())?;
        let kept = self.store.keep(&self.staging, &self.made, &plan)?;
        for (_, path) in self.made.0.drain() {
            fs::remove_file(&path).context(|| format!("cannot remove {}", path.display()))?;
        }
        Ok(kept)
    }

    /// The layer that was added last.
    pub fn last_layer(&self) -> Option<StepLayer> {
        let top = self.layers.last()?;
        Some(StepLayer {
            diff_id: top.diff_id,
            chain_id: self.chain()?,
            blob: top.described.clone()?,
        })
    }

    /// What all its layers are called together.
    pub fn chain(&self) -> Option<Digest> {
        let diff_ids: Vec<Digest> = self.layers.iter().map(|l| l.diff_id).collect();
        chain_ids(&diff_ids).pop()
    }

    /// Where things are made that go away with it.
    pub fn staging(&self) -> &Staging {
        &self.staging
    }

    /// Write a step down in the history, with the layer that it made, if any.
    pub fn note(&mut self, step: &Step, layer: Option<Digest>) {
        let mut entry = json!({"created": step.created, "created_by": step.created_by});
        let told = [("author", &step.author), ("comment", &step.comment)];
        if let Some(entry) = entry.as_object_mut() {
            for (key, text) in told.into_iter().filter(|(_, text)| !text.is_empty()) {
                entry.insert(key.to_owned(), text.as_str().into());
            }
            if layer.is_none() {
                entry.insert("empty_layer".to_owned(), true.into());
            }
        }
        if let Some(Value::Array(history)) = self.config.get_mut("history") {
            history.push(entry);
        }
    }

    /// List the image under `names`.
    ///
    /// # Errors
    /// When it has too many layers, and when the store cannot be written.
    pub fn finish(mut self, names: Vec<Reference>) -> Result<Loaded> {
        let plan = self.plan(names)?;
        let loaded = self
            .store
            .take_in_to(&self.staging, &self.made, vec![plan])?;
        match loaded.into_iter().next() {
            Some(loaded) => Ok(loaded),
            None => invalid("nothing became an image"),
        }
    }

    fn plan(&mut self, names: Vec<Reference>) -> Result<Plan> {
        let diff_ids: Vec<Digest> = self.layers.iter().map(|l| l.diff_id).collect();
        let rootfs = json!({"type": "layers", "diff_ids": diff_ids});
        self.config.insert("rootfs".to_owned(), rootfs);
        let config_data = to_json(&self.config)?;
        Ok(Plan {
            config: ImageConfig::parse(&config_data)?,
            config_data,
            manifest: None,
            layers: self.layers.clone(),
            names,
            origin: None,
        })
    }
}

/// A history that there is must tell of every layer.
fn complete_history(config: &mut Map<String, Value>, layers: usize) {
    let known = match config.remove("history") {
        Some(Value::Array(known)) => known,
        _ => Vec::new(),
    };
    let told = known
        .iter()
        .filter(|step| step.get("empty_layer") != Some(&Value::Bool(true)));
    let missing = layers.saturating_sub(told.count());
    let mut history = vec![json!({}); missing];
    history.extend(known);
    config.insert("history".to_owned(), history.into());
}

struct Hashing {
    file: BufWriter<File>,
    hasher: Hasher,
}

impl Write for Hashing {
    fn write(&mut self, buf: &[u8]) -> std::io::Result<usize> {
        let n = self.file.write(buf)?;
        self.hasher.update(buf.get(..n).unwrap_or_default());
        Ok(n)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.file.flush()
    }
}

fn object(value: Value) -> Map<String, Value> {
    match value {
        Value::Object(object) => object,
        _ => Map::new(),
    }
}

/// The manifest is an OCI one, in which docker's names for the same are foreign.
fn with_oci_type(mut layer: PlannedLayer) -> PlannedLayer {
    if let Some(described) = &mut layer.described {
        let encoding = match described.media_type.as_str() {
            "application/vnd.docker.image.rootfs.diff.tar" => Some(Encoding::Plain),
            "application/vnd.docker.image.rootfs.diff.tar.gzip" => Some(Encoding::Gzip),
            "application/vnd.docker.image.rootfs.diff.tar.zstd" => Some(Encoding::Zstd),
            _ => None,
        };
        if let Some(encoding) = encoding {
            described.media_type = encoding.media_type().to_owned();
        }
    }
    layer
}
