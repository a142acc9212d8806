//! An image from the store to a registry.

use super::upload::{Begun, Upload, push_scope};
use super::{OwnWaiting, Registry};
use crate::store::blobs::{ImageLayer, layers_of};
use crate::store::digest::Hasher;
use crate::store::document::{
    Descriptor, ImageConfig, MAX_CONFIG, MAX_MANIFEST, REF_NAME, Top, parse, parse_top,
};
use crate::store::error::{Context, Error, Result, invalid};
use crate::store::image::Image;
use crate::store::pipeline::Encoding;
use crate::store::repo_digest::RepoDigest;
use crate::store::staging::Staging;
use crate::store::{Digest, Reference, Store};
use flate2::Compression;
use flate2::write::GzEncoder;
use serde_json::Value;
use std::fs::File;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

/// Layers that are sent at a time, as docker does.
const WORKERS: usize = 5;

/// What happens to a layer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Sending {
    /// It will be sent.
    Preparing,
    /// It will be sent after others.
    Waiting,
    /// The registry has it.
    Exists,
    /// The registry has taken it from that repository.
    Mounted(String),
    /// So many bytes of so many are there.
    Sent(u64, u64),
    /// It failed; it is tried again after this time.
    Retrying(Duration),
    /// It is there.
    Done,
}

/// Is told what happens to the layer of that DiffID.
pub type TellSending<'a> = &'a (dyn Fn(&Digest, Sending) + Sync);

/// What was written.
#[derive(Debug)]
pub struct Pushed {
    /// Digest of the manifest.
    pub digest: Digest,
    /// Its bytes.
    pub size: u64,
    /// Whether the store knows now what the registry calls the image.
    pub noted: Result<()>,
}

/// A file for a blob that had to be made.
struct Made {
    _staging: Staging,
    path: PathBuf,
}

impl Registry {
    /// Write the image that has that name to the repository of the name. The
    /// manifest is the one that it came with, unless a layer had to be
    /// compressed again.
    ///
    /// # Errors
    /// When a layer cannot be had here or is not taken there. That the store
    /// cannot be written is none: what was pushed is pushed.
    pub fn push(
        &self,
        store: &Store,
        image: &Image,
        name: &Reference,
        tell: TellSending<'_>,
    ) -> Result<Pushed> {
        let _reading = store.lock_reading()?;
        let descriptor = manifest_of(store, image, name)?;
        let data = store.read_blob(&descriptor.digest, MAX_MANIFEST)?;
        let Top::Manifest(manifest) = parse_top(&data)? else {
            return invalid("an index where an image's manifest should be");
        };
        let config_data = store.read_blob(&manifest.config.digest, MAX_CONFIG)?;
        let layers = layers_of(&manifest, &ImageConfig::parse(&config_data)?)?;
        let push = Push {
            store,
            registry: self,
            repository: name.path(),
            from: others(image, name),
            tell,
        };
        let sent = push.layers(&layers)?;
        push.config(&manifest.config)?;
        let same = layers.iter().zip(&sent).all(|(l, s)| l.blob == *s);
        let (descriptor, data) = match same {
            true => (descriptor, data),
            false => rewritten(&descriptor, &data, &sent)?,
        };
        self.put_manifest(name.path(), name.tag(), &descriptor, &data)?;
        Ok(Pushed {
            noted: store.note_digest(image, RepoDigest::new(name, descriptor.digest)),
            digest: descriptor.digest,
            size: descriptor.size,
        })
    }
}

/// The manifest that an image has under one of its names.
fn manifest_of(store: &Store, image: &Image, name: &Reference) -> Result<Descriptor> {
    let full = name.to_string();
    let index = store.read_index()?;
    let entry = index
        .manifests
        .into_iter()
        .find(|d| d.annotation(REF_NAME) == Some(&full));
    Ok(Descriptor {
        annotations: None,
        ..entry.unwrap_or_else(|| image.manifest.clone())
    })
}

/// Other repositories of the registry that have the image.
fn others(image: &Image, name: &Reference) -> Vec<String> {
    let mut out = Vec::new();
    for digest in &image.digests {
        let other = digest.repository();
        if other.domain() == name.domain() && !digest.is_in(name) {
            out.push(other.path().to_owned());
        }
    }
    out
}

/// The manifest with other blobs for its layers.
fn rewritten(
    descriptor: &Descriptor,
    data: &[u8],
    layers: &[Descriptor],
) -> Result<(Descriptor, Vec<u8>)> {
    let mut value: Value = parse(data, "manifest")?;
    let list = value.get_mut("layers").and_then(Value::as_array_mut);
    for (entry, layer) in list.into_iter().flatten().zip(layers) {
        if let Some(entry) = entry.as_object_mut() {
            entry.insert("mediaType".to_owned(), layer.media_type.clone().into());
            entry.insert("digest".to_owned(), layer.digest.to_string().into());
            entry.insert("size".to_owned(), layer.size.into());
            // They tell of the blob that is no more.
            entry.remove("annotations");
        }
    }
    let data = crate::store::to_json(&value)?;
    let descriptor = Descriptor {
        digest: Digest::of(&data),
        size: data.len() as u64,
        ..descriptor.clone()
    };
    Ok((descriptor, data))
}

struct Push<'a> {
    store: &'a Store,
    registry: &'a Registry,
    repository: &'a str,
    from: Vec<String>,
    tell: TellSending<'a>,
}

impl Push<'_> {
    /// Send every layer once, several at a time, the topmost first as docker
    /// does; returns their blobs as they are there.
    fn layers(&self, layers: &[ImageLayer]) -> Result<Vec<Descriptor>> {
        let mut jobs: Vec<&ImageLayer> = Vec::new();
        for layer in layers.iter().rev() {
            if !jobs.iter().any(|j| j.blob.digest == layer.blob.digest) {
                jobs.push(layer);
            }
        }
        for job in &jobs {
            (self.tell)(&job.diff_id, Sending::Preparing);
        }
        for job in jobs.iter().skip(WORKERS) {
            (self.tell)(&job.diff_id, Sending::Waiting);
        }
        let next = AtomicUsize::new(0);
        let cancel = AtomicBool::new(false);
        let done: Mutex<Result<Vec<(Digest, Descriptor)>>> = Mutex::new(Ok(Vec::new()));
        std::thread::scope(|scope| {
            for _ in 0..WORKERS.min(jobs.len()) {
                scope.spawn(|| {
                    while let Some(job) = jobs.get(next.fetch_add(1, Ordering::Relaxed)) {
                        if cancel.load(Ordering::Relaxed) {
                            return;
                        }
                        let result = self.layer(job);
                        let Ok(mut done) = done.lock() else { return };
                        match (result, &mut *done) {
                            (Ok(blob), Ok(all)) => all.push((job.blob.digest, blob)),
                            (Err(e), Ok(_)) => {
                                cancel.store(true, Ordering::Relaxed);
                                *done = Err(e);
                            }
                            (_, Err(_)) => {}
                        }
                    }
                });
            }
        });
        let done = done
            .into_inner()
            .unwrap_or_else(|_| invalid("a thread that sends layers failed"))?;
        let find = |layer: &ImageLayer| {
            let found = done.iter().find(|(digest, _)| *digest == layer.blob.digest);
            match found {
                Some((_, blob)) => Ok(blob.clone()),
                None => invalid("a layer was not sent"),
            }
        };
        layers.iter().map(find).collect()
    }

    fn layer(&self, layer: &ImageLayer) -> Result<Descriptor> {
        let tell = |sending| (self.tell)(&layer.diff_id, sending);
        let blob = &layer.blob;
        if self.is_there(blob)? {
            tell(Sending::Exists);
            return Ok(blob.clone());
        }
        // A place for the upload that the wish to mount has left.
        let mut place = None;
        for from in &self.from {
            let begun = self
                .registry
                .begin(self.repository, &blob.digest, Some(from));
            match begun {
                Ok(Begun::Mounted) => {
                    self.give_back(place);
                    tell(Sending::Mounted(from.clone()));
                    return Ok(blob.clone());
                }
                Ok(Begun::Upload(upload)) => self.give_back(place.replace(upload)),
                // We may not read there.
                Err(e) => log::debug!("cannot mount {} from {from}: {e}", blob.digest),
            }
        }
        let waiting: OwnWaiting<'_> = Box::new(|time| tell(Sending::Retrying(time)));
        if self.store.has_blob(blob) {
            let open = || -> Result<Box<dyn Read>> { Ok(Box::new(self.store.open_blob(blob)?)) };
            self.send(
                blob,
                place,
                open,
                &|at| tell(Sending::Sent(at, blob.size)),
                &*waiting,
            )?;
            tell(Sending::Done);
            return Ok(blob.clone());
        }
        let (made, blob) = self.compress(layer)?;
        if self.is_there(&blob)? {
            self.give_back(place);
            tell(Sending::Exists);
            return Ok(blob);
        }
        let open = || -> Result<Box<dyn Read>> { Ok(Box::new(open_file(&made.path)?)) };
        self.send(
            &blob,
            place,
            open,
            &|at| tell(Sending::Sent(at, blob.size)),
            &*waiting,
        )?;
        tell(Sending::Done);
        Ok(blob)
    }

    /// A place that is not needed. Nothing depends on it: the registry forgets
    /// such places at some time.
    fn give_back(&self, place: Option<Upload>) {
        if let Some(upload) = place
            && let Err(e) = self.registry.cancel(self.repository, &upload)
        {
            log::debug!("cannot give a place back: {e}");
        }
    }

    fn is_there(&self, blob: &Descriptor) -> Result<bool> {
        self.registry
            .has_blob(self.repository, &blob.digest, &push_scope(self.repository))
    }

    fn send(
        &self,
        blob: &Descriptor,
        place: Option<Upload>,
        open: impl Fn() -> Result<Box<dyn Read>>,
        sent: &dyn Fn(u64),
        waiting: super::Waiting<'_>,
    ) -> Result<()> {
        let upload = match place {
            Some(upload) => upload,
            None => match self.registry.begin(self.repository, &blob.digest, None)? {
                Begun::Mounted => return Ok(()),
                Begun::Upload(upload) => upload,
            },
        };
        self.registry
            .upload(self.repository, upload, blob, open, sent, waiting)
    }

    /// Make a blob for a layer whose own was dropped. It has the same content,
    /// but another digest.
    fn compress(&self, layer: &ImageLayer) -> Result<(Made, Descriptor)> {
        let staging = Staging::new(&self.store.tmp())?;
        let path = staging.path().join("blob");
        let say = || format!("cannot write {}", path.display());
        let file = File::create_new(&path).context(say)?;
        let mut out = GzEncoder::new(Hashed::new(file), Compression::default());
        let mut source = self.store.open_layer(layer)?;
        std::io::copy(&mut source, &mut out).context(say)?;
        let (digest, size) = out.finish().context(say)?.hasher.finish();
        let docker = layer.blob.media_type.starts_with("application/vnd.docker.");
        let media_type = match docker {
            true => "application/vnd.docker.image.rootfs.diff.tar.gzip",
            false => Encoding::Gzip.media_type(),
        };
        let blob = Descriptor {
            media_type: media_type.to_owned(),
            digest,
            size,
            annotations: None,
            platform: None,
        };
        let made = Made {
            path: path.clone(),
            _staging: staging,
        };
        Ok((made, blob))
    }

    fn config(&self, config: &Descriptor) -> Result<()> {
        if self.is_there(config)? {
            return Ok(());
        }
        let open = || -> Result<Box<dyn Read>> { Ok(Box::new(self.store.open_blob(config)?)) };
        self.send(config, None, open, &|_| {}, &super::in_silence)
    }
}

fn open_file(path: &Path) -> Result<File> {
    File::open(path).map_err(|e| Error::System(format!("cannot open {}", path.display()), e))
}

/// Hashes what is written to a file.
struct Hashed {
    file: File,
    hasher: Hasher,
}

impl Hashed {
    fn new(file: File) -> Hashed {
        Hashed {
            file,
            hasher: Hasher::default(),
        }
    }
}

impl Write for Hashed {
    fn write(&mut self, data: &[u8]) -> std::io::Result<usize> {
        let n = self.file.write(data)?;
        self.hasher.update(data.get(..n).unwrap_or_default());
        Ok(n)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.file.flush()
    }
}
