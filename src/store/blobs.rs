//! The bytes of layers: from their blobs, or from skeletons and trees where
//! blobs have been dropped; and dropping them.

use super::digest::Digest;
use super::document::{Descriptor, ImageConfig, MAX_CONFIG, Manifest};
use super::error::{Context, Error, Result, invalid};
use super::gc::Live;
use super::image::{Image, images};
use super::layer::{LayerRecord, chain_ids};
use super::pipeline::{Encoding, decoder};
use super::skeleton::{self, Rebuilt};
use super::staging::{Staging, remove_stale};
use super::verify::Verified;
use super::{Lock, SKELETONS, Store, sync_dir};
use crate::sys::tree;
use std::collections::{BTreeMap, HashSet};
use std::fs::{self, File};
use std::io::{BufReader, Read};
use std::path::{Path, PathBuf};

/// A layer of an image.
#[derive(Clone, Debug)]
pub struct ImageLayer {
    /// Digest of its uncompressed archive.
    pub diff_id: Digest,
    /// The chain that it ends.
    pub chain_id: Digest,
    /// The blob as the manifest has it, which need not be here.
    pub blob: Descriptor,
}

/// What dropping blobs did, or would do.
#[derive(Debug, Default)]
pub struct Dropped {
    /// The blobs that are gone, and their sizes.
    pub blobs: BTreeMap<Digest, u64>,
    /// Bytes that skeletons take in their place.
    pub skeletons: u64,
    /// Blobs that stay, and why.
    pub kept: Vec<(Digest, String)>,
}

impl Dropped {
    /// Bytes that are free now.
    pub fn freed(&self) -> u64 {
        let blobs: u64 = self.blobs.values().sum();
        blobs.saturating_sub(self.skeletons)
    }
}

/// The layers of an image by its documents, bottom first.
///
/// # Errors
/// When the documents do not agree.
pub fn layers_of(manifest: &Manifest, config: &ImageConfig) -> Result<Vec<ImageLayer>> {
    let diffs = config.diff_ids();
    if diffs.len() != manifest.layers.len() {
        return invalid(format!(
            "the manifest has {} layers, the image configuration {}",
            manifest.layers.len(),
            diffs.len()
        ));
    }
    let chains = chain_ids(diffs);
    let layers = diffs.iter().zip(chains).zip(&manifest.layers);
    Ok(layers
        .map(|((diff_id, chain_id), blob)| ImageLayer {
            diff_id: *diff_id,
            chain_id,
            blob: blob.clone(),
        })
        .collect())
}

impl Store {
    /// The layers of an image, with what its manifest says of their blobs.
    ///
    /// # Errors
    /// When its documents are damaged or do not agree.
    pub fn described_layers(&self, image: &Image) -> Result<Vec<ImageLayer>> {
        let manifest = self.image_manifest(&image.manifest)?;
        let data = self.read_blob(&manifest.config.digest, MAX_CONFIG)?;
        layers_of(&manifest, &ImageConfig::parse(&data)?)
    }

    /// Is the blob here, as large as it should be.
    pub fn has_blob(&self, blob: &Descriptor) -> bool {
        fs::metadata(self.blob(&blob.digest)).is_ok_and(|m| m.len() == blob.size)
    }

    /// The bytes of a blob; reading ends in an error if they are not its.
    ///
    /// # Errors
    /// [`Error::NotFound`] when it is not here, else when it cannot be read or
    /// has another size.
    pub fn open_blob(&self, blob: &Descriptor) -> Result<Verified<File>> {
        let digest = blob.digest;
        let file = match File::open(self.blob(&digest)) {
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => {
                return Err(Error::NotFound(format!("blob {digest} is not here")));
            }
            file => file.context(|| format!("cannot open blob {digest}"))?,
        };
        let damaged = format!("blob {digest} is damaged");
        let meta = file
            .metadata()
            .context(|| format!("cannot look at blob {digest}"))?;
        if meta.len() != blob.size {
            return invalid(damaged);
        }
        Ok(Verified::new(file, digest, damaged))
    }

    /// A layer's uncompressed archive, made from its tree.
    ///
    /// # Errors
    /// [`Error::NotFound`] when the tree or its skeleton is not here.
    pub fn rebuild_layer(&self, diff_id: &Digest, chain_id: &Digest) -> Result<Rebuilt> {
        let Some(record) = self.find_layer(diff_id, chain_id)? else {
            return Err(Error::NotFound(format!(
                "layer {diff_id} is not in the store"
            )));
        };
        let name = record.name();
        skeleton::open(&self.skeleton(&name), &self.layer_dir(&name), diff_id)
    }

    /// A layer's uncompressed archive, from its blob or else from its tree.
    /// Reading ends in an error if the bytes are not those of the DiffID; who
    /// holds [`Store::lock_reading`] meanwhile does not lose it to a sweep.
    ///
    /// # Errors
    /// [`Error::NotFound`] when neither can be had.
    pub fn open_layer(&self, layer: &ImageLayer) -> Result<Box<dyn Read + Send>> {
        let digest = layer.blob.digest;
        let say = || format!("cannot read blob {digest}");
        let file = match File::open(self.blob(&digest)) {
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => {
                return match self.rebuild_layer(&layer.diff_id, &layer.chain_id) {
                    Ok(rebuilt) => Ok(Box::new(rebuilt)),
                    Err(Error::NotFound(_)) => Err(absent(layer)),
                    Err(e) => Err(e),
                };
            }
            file => file.context(say)?,
        };
        let mut input = BufReader::with_capacity(256 << 10, file);
        let encoding = Encoding::of(std::io::BufRead::fill_buf(&mut input).context(say)?);
        let plain = decoder(encoding, input).context(say)?;
        let damaged = format!("blob {digest} is damaged");
        Ok(Box::new(Verified::new(plain, layer.diff_id, damaged)))
    }

    /// Where the skeleton of the layer of that name is, if it has one.
    pub fn skeleton(&self, name: &Digest) -> PathBuf {
        self.layers().join(format!("{}.skel", name.hex()))
    }

    /// Remove the blobs of layers whose archives can be made from their trees,
    /// which is tried before. With `dry_run` nothing is tried or changed.
    ///
    /// # Errors
    /// When the store cannot be read or written, or is in use by somebody who
    /// adds to it.
    pub fn drop_blobs(&self, dry_run: bool) -> Result<Dropped> {
        let mut done = Dropped::default();
        if dry_run {
            for (digest, uses) in self.droppable()? {
                done.blobs.insert(digest, uses.size);
            }
            return Ok(done);
        }
        let ready = self.make_skeletons(&mut done)?;
        let sweeping = self.lock_sweeping()?;
        let trash = Staging::new(&self.tmp())?;
        {
            let _lock = self.lock()?;
            self.use_feature(SKELETONS)?;
            let blobs = self.blobs();
            for (digest, uses) in self.droppable()? {
                // Trees that came meanwhile have no skeleton yet.
                if !uses.layers.keys().all(|name| ready.contains(name)) {
                    continue;
                }
                let to = trash.path().join(digest.hex());
                tree::rename(&self.blob(&digest), &to)
                    .context(|| format!("cannot remove blob {digest}"))?;
                done.blobs.insert(digest, uses.size);
            }
            sync_dir(&blobs)?;
        }
        drop(sweeping);
        Ok(done)
    }

    /// The right to remove, waited for as long as short commands take.
    fn lock_sweeping(&self) -> Result<Lock> {
        for _ in 0..20 {
            if let Some(lock) = self.try_lock_sweeping()? {
                return Ok(lock);
            }
            std::thread::sleep(std::time::Duration::from_millis(100));
        }
        Err(Error::Conflict(
            "the store is in use by a command that reads or adds images: try again when it has ended"
                .to_owned(),
        ))
    }

    /// The blobs that are here and are layers of images; those of entries that
    /// others made are not ours to drop.
    fn droppable(&self) -> Result<BTreeMap<Digest, Uses>> {
        let index = self.read_index()?;
        let ours = images(&index);
        let mut foreign = Live::default();
        for entry in &index.manifests {
            if !ours.iter().any(|i| i.manifest.digest == entry.digest) {
                self.mark(entry, &mut foreign)?;
            }
        }
        let mut out: BTreeMap<Digest, Uses> = BTreeMap::new();
        let mut without_tree = HashSet::new();
        for image in &ours {
            for layer in self.described_layers(image)? {
                let digest = layer.blob.digest;
                if !self.has_blob(&layer.blob) || foreign.blobs.contains(&digest) {
                    continue;
                }
                match self.find_layer(&layer.diff_id, &layer.chain_id)? {
                    Some(record) => {
                        let uses = out.entry(digest).or_default();
                        uses.size = layer.blob.size;
                        uses.layers.insert(record.name(), (record, layer));
                    }
                    None => drop(without_tree.insert(digest)),
                }
            }
        }
        out.retain(|digest, _| !without_tree.contains(digest));
        Ok(out)
    }

    /// Make and try the skeletons that are needed to drop blobs; returns the
    /// names of the layers that can do without.
    fn make_skeletons(&self, done: &mut Dropped) -> Result<HashSet<Digest>> {
        let _adding = self.lock_adding()?;
        remove_stale(&self.tmp())?;
        let staging = Staging::new(&self.tmp())?;
        let mut ready = HashSet::new();
        let mut new = Vec::new();
        for (digest, uses) in self.droppable()? {
            for (name, (record, layer)) in uses.layers {
                if ready.contains(&name)
                    || self.try_skeleton(&self.skeleton(&name), &record).is_ok()
                {
                    ready.insert(name);
                    continue;
                }
                let path = staging.path().join(name.hex());
                match self.make_skeleton(&path, &record, &layer) {
                    Ok(size) => {
                        done.skeletons += size;
                        new.push((path, name));
                        ready.insert(name);
                    }
                    Err(e) => done.kept.push((digest, e.to_string())),
                }
            }
        }
        let root = File::open(staging.path())
            .context(|| "cannot open the staging directory".to_owned())?;
        tree::sync_filesystem(&root).context(|| "cannot sync the store".to_owned())?;
        let _lock = self.lock()?;
        self.use_feature(SKELETONS)?;
        for (path, name) in new {
            tree::rename(&path, &self.skeleton(&name))
                .context(|| "cannot write to the store".to_owned())?;
        }
        sync_dir(&self.layers())?;
        Ok(ready)
    }

    /// Make the skeleton of a layer and see that it is one; returns its size.
    fn make_skeleton(&self, path: &Path, record: &LayerRecord, layer: &ImageLayer) -> Result<u64> {
        let say = || format!("cannot write {}", path.display());
        let out = File::create_new(path).context(say)?;
        let dir = self.layer_dir(&record.name());
        let dir = File::open(&dir).context(|| format!("cannot open {}", dir.display()))?;
        skeleton::make(self.open_layer(layer)?, &dir, &layer.diff_id, &out)?;
        self.try_skeleton(path, record)?;
        Ok(out.metadata().context(say)?.len())
    }

    /// Does the skeleton with the tree give the layer's archive.
    fn try_skeleton(&self, path: &Path, record: &LayerRecord) -> Result<()> {
        let dir = self.layer_dir(&record.name());
        let mut rebuilt = skeleton::open(path, &dir, &record.diff_id)?;
        std::io::copy(&mut rebuilt, &mut std::io::sink())
            .map(drop)
            .context(|| format!("cannot read {}", path.display()))
    }
}

/// Who needs a blob.
#[derive(Default)]
struct Uses {
    size: u64,
    /// The trees made from it, by name.
    layers: BTreeMap<Digest, (LayerRecord, ImageLayer)>,
}

/// The error for a layer of which nothing is here that could be read.
pub(super) fn absent(layer: &ImageLayer) -> Error {
    Error::NotFound(format!(
        "layer {} is not in the store: neither its blob {} nor a skeleton (pull or load the image again)",
        layer.diff_id, layer.blob.digest
    ))
}
