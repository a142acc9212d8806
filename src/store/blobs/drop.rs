//! Dropping blobs.

use super::ImageLayer;
use crate::store::digest::Digest;
use crate::store::error::{Context, Error, Result};
use crate::store::image::image_at;
use crate::store::layer::LayerRecord;
use crate::store::skeleton;
use crate::store::staging::{Staging, remove_stale};
use crate::store::walk::Taken;
use crate::store::{Lock, SKELETONS, Store, sync_dir};
use crate::sys::tree;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::fs::File;
use std::path::{Path, PathBuf};

/// What dropping blobs did, or would do.
#[derive(Debug, Default)]
pub struct Dropped {
    /// The blobs that are gone, and what they took on the disk.
    pub blobs: BTreeMap<Digest, u64>,
    /// What skeletons take in their place.
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

impl Store {
    /// Remove the blobs of layers whose archives can be made from their trees,
    /// which is tried before. With `dry_run` nothing is tried or changed.
    ///
    /// # Errors
    /// When the store cannot be read or written, or is in use by somebody who
    /// adds to it.
    pub fn drop_blobs(&self, dry_run: bool) -> Result<Dropped> {
        let mut done = Dropped::default();
        if dry_run {
            for digest in self.droppable()?.into_keys() {
                let taken = Taken::default().add(&self.blob(&digest))?;
                done.blobs.insert(digest, taken);
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
            for (digest, trees) in self.droppable()? {
                // Trees that came meanwhile have no skeleton yet, or not any
                // more: an image that was removed and came again has lost its.
                let is_ready = |name| ready.contains(name) && self.skeleton(name).exists();
                if !trees.keys().all(is_ready) {
                    continue;
                }
                let to = trash.path().join(digest.hex());
                tree::rename(&self.blob(&digest), &to)
                    .context(|| format!("cannot remove blob {digest}"))?;
                done.blobs.insert(digest, Taken::default().add(&to)?);
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

    /// The blobs that are here and are layers of images, with the trees of
    /// these layers in all images, which may count on each other's blobs. Not
    /// those without a tree, those of entries that others made, and what an
    /// image may need whose documents are damaged.
    fn droppable(&self) -> Result<BTreeMap<Digest, Trees>> {
        let foreign = self.live(&[], |entry| image_at(entry).is_none())?;
        let (layers, doubtful) = self.all_layers()?;
        self.warn_of_damage(&foreign);
        self.warn_of_damage(&doubtful);
        if doubtful.any_blob && doubtful.any_layer {
            return Ok(BTreeMap::new());
        }
        let mut trees: HashMap<Digest, Trees> = HashMap::new();
        let mut without_tree = HashSet::new();
        let mut blobs = BTreeMap::new();
        for layer in layers {
            let id = layer.diff_id;
            if self.has_blob(&layer.blob) && !foreign.has_blob(&layer.blob.digest) {
                blobs.insert(layer.blob.digest, id);
            }
            match self.find_layer(&id, &layer.chain_id)? {
                Some(record) => {
                    let same = trees.entry(id).or_default();
                    same.entry(record.name()).or_insert((record, layer));
                }
                None => drop(without_tree.insert(id)),
            }
        }
        let droppable = blobs.into_iter().filter(|(digest, id)| {
            !without_tree.contains(id)
                && !doubtful.blobs.contains(digest)
                && !doubtful.layers.contains(id)
        });
        Ok(droppable
            .map(|(digest, id)| (digest, trees.get(&id).cloned().unwrap_or_default()))
            .collect())
    }

    /// Make and try the skeletons that are needed to drop blobs; returns the
    /// names of the layers that can do without.
    fn make_skeletons(&self, done: &mut Dropped) -> Result<HashSet<Digest>> {
        let _adding = self.lock_adding()?;
        remove_stale(&self.tmp())?;
        let staging = Staging::new(&self.tmp())?;
        let mut ready = HashSet::new();
        let mut new = Vec::new();
        for (digest, trees) in self.droppable()? {
            for (name, (record, layer)) in trees {
                if ready.contains(&name)
                    || self.try_skeleton(&self.skeleton(&name), &record).is_ok()
                {
                    ready.insert(name);
                    continue;
                }
                let path = staging.path().join(name.hex());
                match self.make_skeleton(&path, &record, &layer) {
                    Ok(()) => {
                        new.push((path, name));
                        ready.insert(name);
                    }
                    Err(e) => done.kept.push((digest, e.to_string())),
                }
            }
        }
        done.skeletons = self.place_skeletons(&staging, new)?;
        Ok(ready)
    }

    /// Give names to what was made in staging; returns what that takes.
    fn place_skeletons(&self, staging: &Staging, new: Vec<(PathBuf, Digest)>) -> Result<u64> {
        let root = File::open(staging.path())
            .context(|| "cannot open the staging directory".to_owned())?;
        tree::sync_filesystem(&root).context(|| "cannot sync the store".to_owned())?;
        let _lock = self.lock()?;
        self.use_feature(SKELETONS)?;
        let mut taken = Taken::default();
        let mut bytes = 0;
        for (path, name) in new {
            bytes += taken.add(&path)?;
            tree::rename(&path, &self.skeleton(&name))
                .context(|| "cannot write to the store".to_owned())?;
        }
        sync_dir(&self.layers())?;
        Ok(bytes)
    }

    /// Make the skeleton of a layer and see that it is one.
    fn make_skeleton(&self, path: &Path, record: &LayerRecord, layer: &ImageLayer) -> Result<()> {
        let say = || format!("cannot write {}", path.display());
        let out = File::create_new(path).context(say)?;
        let dir = self.layer_dir(&record.name());
        let dir = File::open(&dir).context(|| format!("cannot open {}", dir.display()))?;
        skeleton::make(self.open_layer(layer)?, &dir, &layer.diff_id, &out)?;
        self.try_skeleton(path, record)
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

/// The trees that were made from a blob, by name: each with its record, and a
/// layer that it is the tree of.
type Trees = BTreeMap<Digest, (LayerRecord, ImageLayer)>;
