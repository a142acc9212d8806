//! Images into the store, from an archive or from another [`Source`].

mod child;
mod import;
mod legacy;
mod plan;
mod source;
mod told;

pub use child::{NewImage, Step as MakingStep};
pub use import::Import;
pub use plan::{Origin, Plan, PlannedLayer, planned_layers};
pub use source::{Source, Step};
pub use told::Tell;

use super::archive::Archive;
use super::aside::{settle, unpacker};
use super::digest::Digest;
use super::discard::remove_tree;
use super::document::{CONFIG, Descriptor, MANIFEST, Manifest, Platform, parse};
use super::error::{Context, Error, Result, invalid, show};
use super::image::{Image, assign};
use super::layer::{LayerRecord, chain_ids, mounted};
use super::pipeline::{self, Done, Encoding, Job};
use super::reference::Reference;
use super::staging::{self, Staging};
use super::unpack::Unpacked;
use super::{Lock, Store, remove_if_there, sync_dir, to_json};
use crate::sys::{Errno, tree};
use plan::{check_platform, plan_docker, plan_oci};
use std::collections::{HashMap, HashSet};
use std::fs::{self, File};
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use told::Told;

/// An image that is listed now.
#[derive(Clone, Debug)]
pub struct Loaded {
    /// Its id.
    pub id: Digest,
    /// The names it was given.
    pub names: Vec<Reference>,
    /// Images that lost their last name to it, and the name.
    pub replaced: Vec<(Reference, Digest)>,
}

/// How images are to be loaded.
#[derive(Clone, Copy, Default)]
pub struct Wish<'a> {
    /// Of images for several platforms the one for this.
    pub platform: Option<&'a Platform>,
    /// Who is told how much was read.
    pub tell: Option<&'a Tell<'a>>,
}

impl Store {
    /// Take in the images of the archive or directory at `path`.
    ///
    /// # Errors
    /// For anything that is not as it must be; then nothing is listed.
    pub fn load(&self, path: &Path) -> Result<Vec<Loaded>> {
        self.load_as(path, Wish::default())
    }

    /// As [`Store::load`], by one's wishes.
    ///
    /// # Errors
    /// As [`Store::load`], and for an image that is not there for the platform.
    pub fn load_as(&self, path: &Path, wish: Wish<'_>) -> Result<Vec<Loaded>> {
        let base = path.canonicalize().ok();
        let base = base.as_deref().unwrap_or(path).file_name();
        let base = base.and_then(|n| n.to_str()).unwrap_or_default().to_owned();
        self.load_with(&base, wish, |staging| Archive::open(path, staging))
    }

    /// Take in the images of an archive that comes as a stream.
    ///
    /// # Errors
    /// As [`Store::load_as`].
    pub fn load_stream(&self, stream: impl Read + Send, wish: Wish<'_>) -> Result<Vec<Loaded>> {
        self.load_with("", wish, |staging| Archive::from_stream(stream, staging))
    }

    fn load_with(
        &self,
        base: &str,
        wish: Wish<'_>,
        open: impl FnOnce(&Staging) -> Result<Archive>,
    ) -> Result<Vec<Loaded>> {
        let _adding = self.lock_adding()?;
        staging::remove_stale(&self.tmp())?;
        let staging = Staging::new(&self.tmp())?;
        let archive = open(&staging)?;
        let plans = if archive.has("index.json")? {
            plan_oci(&archive, base, wish.platform)?
        } else if archive.has("manifest.json")? {
            plan_docker(&archive)?
        } else if archive.has(legacy::REPOSITORIES)? {
            legacy::plan_legacy(&archive)?
        } else {
            return invalid(
                "no image archive: it has neither index.json nor manifest.json nor repositories",
            );
        };
        if plans.is_empty() {
            return invalid("the archive holds no image");
        }
        if let Some(platform) = wish.platform {
            plans
                .iter()
                .try_for_each(|plan| check_platform(&plan.config, platform))?;
        }
        match wish.tell {
            Some(tell) => self.take_in_to(&staging, &Told { archive, tell }, plans),
            None => self.take_in_to(&staging, &archive, plans),
        }
    }

    /// Take in images whose layers `source` has.
    ///
    /// # Errors
    /// As [`Store::load`].
    pub fn take_in(&self, source: &dyn Source, plans: Vec<Plan>) -> Result<Vec<Loaded>> {
        let _adding = self.lock_adding()?;
        staging::remove_stale(&self.tmp())?;
        self.take_in_to(&Staging::new(&self.tmp())?, source, plans)
    }

    fn take_in_to(
        &self,
        staging: &Staging,
        source: &dyn Source,
        plans: Vec<Plan>,
    ) -> Result<Vec<Loaded>> {
        Load::new(self, staging, source)?.run(plans)
    }

    /// Take in the layers of an image that is not listed yet; bottom first.
    fn keep(
        &self,
        staging: &Staging,
        source: &dyn Source,
        plan: &Plan,
    ) -> Result<Vec<LayerRecord>> {
        Load::new(self, staging, source)?.keep(plan)
    }
}

/// One blob to be read.
struct LayerJob<'a> {
    number: usize,
    layer: &'a PlannedLayer,
    /// Of several blobs of a layer the first counts, others are only checked.
    first: bool,
    /// The store has no tree of it.
    unpack: bool,
}

/// A layer that was dealt with.
struct Taken {
    blob: Descriptor,
    /// Its tree in staging, unless the store had it.
    tree: Option<Unpacked>,
}

struct Load<'a> {
    store: &'a Store,
    staging: &'a Staging,
    source: &'a dyn Source,
    blobs: PathBuf,
    trees: PathBuf,
}

impl<'a> Load<'a> {
    fn new(store: &'a Store, staging: &'a Staging, source: &'a dyn Source) -> Result<Load<'a>> {
        Ok(Load {
            store,
            staging,
            source,
            blobs: staging.subdir("blobs")?,
            trees: staging.subdir("layers")?,
        })
    }

    fn run(&self, plans: Vec<Plan>) -> Result<Vec<Loaded>> {
        let mut taken = self.take_layers(&plans)?;
        let (mut images, mut catalogs) = (Vec::new(), Vec::new());
        for plan in plans {
            let (image, layers) = self.finish_image(&plan, &mut taken)?;
            let chain = chain_ids(plan.config.diff_ids()).pop();
            catalogs.extend(chain.map(|chain| (chain, mounted(&layers))));
            images.push((image, plan.names));
        }
        let loaded = self.commit(images)?;
        for (chain, layers) in &catalogs {
            self.store.ready_catalog(chain, layers);
        }
        Ok(loaded)
    }

    /// Read every layer once, several at a time.
    fn take_layers(&self, plans: &[Plan]) -> Result<HashMap<Digest, Taken>> {
        let mut jobs: Vec<LayerJob<'_>> = Vec::new();
        let mut present = HashMap::new();
        let mut trees = HashSet::new();
        let mut blobs = HashSet::new();
        for plan in plans {
            for (layer, chain) in plan.layers.iter().zip(chain_ids(plan.config.diff_ids())) {
                let blob = layer.described.as_ref().map(|d| d.digest);
                if !blobs.insert((layer.diff_id, blob)) {
                    continue;
                }
                let first = trees.insert(layer.diff_id);
                let found = self.store.find_layer(&layer.diff_id, &chain)?;
                if let Some(record) = &found
                    && let Some(blob) = self.known_blob(layer, record)?
                {
                    self.source.tell(layer, Step::Present);
                    let taken = Taken { blob, tree: None };
                    present.entry(layer.diff_id).or_insert(taken);
                    continue;
                }
                jobs.push(LayerJob {
                    number: jobs.len(),
                    layer,
                    first,
                    unpack: first && found.is_none(),
                });
            }
        }
        let workers = self.source.workers();
        for (i, job) in jobs.iter().enumerate() {
            self.source.tell(job.layer, Step::Wanted);
            if i >= workers {
                self.source.tell(job.layer, Step::Waiting);
            }
        }
        let cancel = AtomicBool::new(false);
        let next = AtomicUsize::new(0);
        let done: Mutex<Result<HashMap<Digest, Taken>>> = Mutex::new(Ok(present));
        std::thread::scope(|scope| {
            for _ in 0..workers.min(jobs.len()) {
                scope.spawn(|| {
                    while let Some(job) = jobs.get(next.fetch_add(1, Ordering::Relaxed)) {
                        if cancel.load(Ordering::Relaxed) {
                            return;
                        }
                        let result = self.take_layer(job, &cancel);
                        let Ok(mut done) = done.lock() else { return };
                        match (result, &mut *done) {
                            (Ok(taken), Ok(all)) if job.first => {
                                all.insert(job.layer.diff_id, taken);
                            }
                            // Another blob of a layer that one job unpacks.
                            (Ok(_), Ok(_)) => {}
                            (Err(e), Ok(_)) => {
                                cancel.store(true, Ordering::Relaxed);
                                *done = Err(e);
                            }
                            // The first error is the one that is told.
                            (_, Err(_)) => {}
                        }
                    }
                });
            }
        });
        done.into_inner()
            .unwrap_or_else(|_| invalid("a thread that reads layers failed"))
    }

    fn take_layer(&self, job: &LayerJob<'_>, cancel: &AtomicBool) -> Result<Taken> {
        let layer = job.layer;
        let part = self.blobs.join(format!("{}.part", job.number));
        let file = self.source.file(layer);
        let keep = file.is_none().then_some(part.as_path());
        let done = self
            .read_layer(layer, job.unpack, keep, cancel)
            .map_err(|e| in_layer(&layer.diff_id, e))?;
        if let Some(file) = file {
            fs::hard_link(file, &part).context(|| format!("cannot write {}", part.display()))?;
        }
        let (digest, size) = done.blob;
        let media_type = match &layer.described {
            Some(d) => d.media_type.clone(),
            None => done.encoding.media_type().to_owned(),
        };
        let to = self.blobs.join(digest.hex());
        tree::rename(&part, &to).context(|| format!("cannot write {}", to.display()))?;
        self.source.tell(layer, Step::Done);
        Ok(Taken {
            blob: Descriptor {
                media_type,
                digest,
                size,
                annotations: None,
                platform: None,
            },
            tree: done.unpacked,
        })
    }

    /// The blob of a layer that is unpacked, if the store can do without reading
    /// it.
    fn known_blob(&self, layer: &PlannedLayer, record: &LayerRecord) -> Result<Option<Descriptor>> {
        let has = |digest: &Digest, size: u64| {
            fs::metadata(self.store.blob(digest)).is_ok_and(|m| m.len() == size)
        };
        if let Some(described) = &layer.described {
            let made = !self.source.wants_blobs() && self.store.skeleton(&record.name()).exists();
            let enough = made || has(&described.digest, described.size);
            return Ok(enough.then(|| described.clone()));
        }
        // In a docker archive only a plain layer is known by its DiffID.
        let mut source = self.source.open(layer)?;
        let size = source.size;
        let mut magic = [0; 4];
        let n = source
            .reader
            .read(&mut magic)
            .context(|| "cannot read the layer".to_owned())?;
        let plain = Encoding::of(magic.get(..n).unwrap_or_default()) == Encoding::Plain;
        Ok((plain && has(&layer.diff_id, size)).then(|| Descriptor {
            media_type: Encoding::Plain.media_type().to_owned(),
            digest: layer.diff_id,
            size,
            annotations: None,
            platform: None,
        }))
    }

    /// Read a layer to its end, from the next place where the first gave
    /// something else.
    fn read_layer(
        &self,
        layer: &PlannedLayer,
        unpack: bool,
        keep: Option<&Path>,
        cancel: &AtomicBool,
    ) -> Result<Done> {
        loop {
            let tree = unpack.then(|| self.trees.join(layer.diff_id.hex()));
            let e = match self.read_once(layer, tree.as_deref(), keep, cancel) {
                Ok(done) => return Ok(done),
                // What the system refuses it refuses again.
                Err(Error::System(what, e)) if e.raw_os_error().is_some() => {
                    return Err(Error::System(what, e));
                }
                Err(e) => e,
            };
            if cancel.load(Ordering::Relaxed) || !self.source.was_wrong(layer) {
                return Err(e);
            }
            log::debug!("layer {}: {e}", layer.diff_id);
            let say = || "cannot clean the staging directory".to_owned();
            for path in keep.into_iter().chain(tree.as_deref()) {
                match path.is_dir() {
                    true => remove_tree(path).context(say)?,
                    false => remove_if_there(path).context(say)?,
                }
            }
        }
    }

    fn read_once(
        &self,
        layer: &PlannedLayer,
        tree: Option<&Path>,
        keep: Option<&Path>,
        cancel: &AtomicBool,
    ) -> Result<Done> {
        let source = self.source.open(layer)?;
        let unpacker = tree.map(unpacker).transpose()?;
        pipeline::run(
            Job {
                source,
                expected: layer.described.as_ref().map(|d| (d.digest, d.size)),
                diff_id: layer.diff_id,
                keep,
                cancel,
            },
            unpacker,
        )
    }

    /// Give every layer of an image its final form, in staging; and the layers'
    /// blobs.
    fn finish_layers(
        &self,
        plan: &Plan,
        taken: &mut HashMap<Digest, Taken>,
    ) -> Result<(Vec<LayerRecord>, Vec<Descriptor>)> {
        let mut below: Vec<PathBuf> = Vec::new();
        let (mut records, mut descriptors) = (Vec::new(), Vec::new());
        for (layer, chain) in plan.layers.iter().zip(chain_ids(plan.config.diff_ids())) {
            let (record, path) = self
                .finish_layer(layer, chain, taken, &below)
                .map_err(|e| in_layer(&layer.diff_id, e))?;
            if record.root_opaque {
                below.clear();
            }
            below.insert(0, path);
            records.push(record);
            let blob = taken.get(&layer.diff_id).map(|t| t.blob.clone());
            descriptors.extend(blob);
        }
        Ok((records, descriptors))
    }

    /// Give every layer of an image its final form and the image its
    /// documents, all in staging. With the image come the records of its
    /// layers, bottom first.
    fn finish_image(
        &self,
        plan: &Plan,
        taken: &mut HashMap<Digest, Taken>,
    ) -> Result<(Image, Vec<LayerRecord>)> {
        let (records, descriptors) = self.finish_layers(plan, taken)?;
        let size = records.iter().map(|r| r.size).sum();
        let id = Digest::of(&plan.config_data);
        self.write_blob(&id, &plan.config_data)?;
        let manifest = match &plan.manifest {
            Some((descriptor, data)) => {
                self.write_blob(&descriptor.digest, data)?;
                descriptor.clone()
            }
            None => {
                let data = to_json(&Manifest {
                    schema_version: 2,
                    media_type: Some(MANIFEST.to_owned()),
                    config: Descriptor {
                        media_type: CONFIG.to_owned(),
                        digest: id,
                        size: plan.config_data.len() as u64,
                        annotations: None,
                        platform: None,
                    },
                    layers: descriptors,
                })?;
                let digest = Digest::of(&data);
                self.write_blob(&digest, &data)?;
                Descriptor {
                    media_type: MANIFEST.to_owned(),
                    digest,
                    size: data.len() as u64,
                    annotations: None,
                    platform: None,
                }
            }
        };
        if let Some(origin) = &plan.origin
            && let Some(index) = &origin.index
        {
            self.write_blob(&origin.digest.digest, index)?;
        }
        let origin = plan.origin.as_ref().map(|o| o.digest.clone());
        let image = Image {
            id,
            manifest,
            names: plan.names.clone(),
            digests: origin.into_iter().collect(),
            created: plan.config.created.clone(),
            size,
        };
        Ok((image, records))
    }

    /// The record and directory of a layer, which may be in staging.
    fn finish_layer(
        &self,
        layer: &PlannedLayer,
        chain: Digest,
        taken: &mut HashMap<Digest, Taken>,
        below: &[PathBuf],
    ) -> Result<(LayerRecord, PathBuf)> {
        for name in [layer.diff_id, chain] {
            let record = self.trees.join(format!("{}.json", name.hex()));
            if let Ok(data) = super::read_file(&record, 1 << 20) {
                let record: LayerRecord = parse(&data, "layer record")?;
                if record.chain_id.is_none_or(|c| c == chain) && record.diff_id == layer.diff_id {
                    return Ok((record, self.trees.join(name.hex())));
                }
            }
        }
        if let Some(record) = self.store.find_layer(&layer.diff_id, &chain)? {
            let path = self.store.layer_dir(&record.name());
            return Ok((record, path));
        }
        let mut tree = taken.get_mut(&layer.diff_id).and_then(|t| t.tree.take());
        if tree.is_none() {
            // Another chain needed the first copy of this tree for itself.
            let cancel = AtomicBool::new(false);
            tree = self.read_layer(layer, true, None, &cancel)?.unpacked;
        }
        let Some(tree) = tree else {
            return invalid("the layer was not unpacked");
        };
        let made = self.trees.join(layer.diff_id.hex());
        let record = settle(&made, tree, layer.diff_id, chain, below)?;
        let path = self.trees.join(record.name().hex());
        if path != made {
            tree::rename(&made, &path).context(|| format!("cannot write {}", path.display()))?;
        }
        let json = self.trees.join(format!("{}.json", record.name().hex()));
        fs::write(&json, to_json(&record)?)
            .context(|| format!("cannot write {}", json.display()))?;
        Ok((record, path))
    }

    fn write_blob(&self, digest: &Digest, data: &[u8]) -> Result<()> {
        let path = self.blobs.join(digest.hex());
        fs::write(&path, data).context(|| format!("cannot write {}", path.display()))
    }

    /// Make durable what is in staging and move it into place.
    fn place(&self) -> Result<(Lock, staging::Committing)> {
        let root = File::open(self.staging.path())
            .context(|| "cannot open the staging directory".to_owned())?;
        tree::sync_filesystem(&root).context(|| "cannot sync the store".to_owned())?;
        let lock = self.store.lock()?;
        let interrupts = staging::committing();
        move_all(&self.blobs, &self.store.blobs())?;
        move_all(&self.trees, &self.store.layers())?;
        Ok((lock, interrupts))
    }

    fn keep(&self, plan: &Plan) -> Result<Vec<LayerRecord>> {
        let mut taken = self.take_layers(std::slice::from_ref(plan))?;
        let (layers, _) = self.finish_layers(plan, &mut taken)?;
        let (_lock, mut interrupts) = self.place()?;
        interrupts.changed();
        Ok(layers)
    }

    /// Make durable what is in staging, move it into place, list the images.
    fn commit(&self, images: Vec<(Image, Vec<Reference>)>) -> Result<Vec<Loaded>> {
        let (_lock, mut interrupts) = self.place()?;
        let mut index = self.store.read_index()?;
        let mut loaded = Vec::new();
        for (image, names) in images {
            let mut replaced = Vec::new();
            for name in &names {
                if let Some(old) = assign(&mut index, &image, Some(name)) {
                    replaced.push((name.clone(), old));
                }
            }
            if names.is_empty() {
                assign(&mut index, &image, None);
            }
            loaded.push(Loaded {
                id: image.id,
                names,
                replaced,
            });
        }
        self.store.write_index(&index)?;
        interrupts.changed();
        Ok(loaded)
    }
}

/// Rename all in `from` to `to`. A layer's record goes before its directory:
/// a directory is only believed together with its record. A directory that is
/// there already is as good as ours.
fn move_all(from: &Path, to: &Path) -> Result<()> {
    let say = || format!("cannot write {}", to.display());
    let entries = fs::read_dir(from).context(say)?;
    let mut names: Vec<(bool, std::ffi::OsString)> = Vec::new();
    for entry in entries {
        let entry = entry.context(say)?;
        let dir = entry.file_type().context(say)?.is_dir();
        names.push((dir, entry.file_name()));
    }
    names.sort();
    for (dir, name) in names {
        match tree::rename(&from.join(&name), &to.join(&name)) {
            Err(Errno::NOTEMPTY | Errno::EXIST) if dir => {}
            other => other.context(say)?,
        }
    }
    sync_dir(to)
}

fn in_layer(diff_id: &Digest, e: Error) -> Error {
    let id = diff_id.short();
    match e {
        Error::Invalid(m) => Error::Invalid(format!("layer {id}: {m}")),
        Error::NotFound(m) => Error::NotFound(format!("layer {id}: {m}")),
        Error::System(m, io) => Error::System(format!("layer {id}: {}", show(m.as_bytes())), io),
        other => other,
    }
}
