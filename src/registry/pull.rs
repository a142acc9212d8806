//! An image from a registry into the store.

use super::{Document, Registry, Wanted, in_silence};
use crate::store::document::{
    Descriptor, IMAGE_CONFIGS, ImageConfig, MAX_CONFIG, MAX_MANIFEST, Manifest, Platform, Top,
};
use crate::store::error::{Error, Result, invalid, show};
use crate::store::image::{self, Image};
use crate::store::load::{Origin, Plan, PlannedLayer, Source, Step, planned_layers};
use crate::store::pipeline::Blob;
use crate::store::repo_digest::RepoDigest;
use crate::store::{Digest, Name, Reference, Store, platform};
use std::collections::HashMap;
use std::fs::File;
use std::io::Read;
use std::sync::Mutex;
use std::time::Duration;

/// Layers that are fetched at a time, as docker does.
const WORKERS: usize = 3;
/// How deep indexes may refer to indexes.
const MAX_NESTING: usize = 4;
/// Entries of an index whose platform is looked for in their configurations.
const MAX_SILENT: usize = 16;

/// What happens to a layer's blob.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    /// So far has it come in the store.
    Step(Step),
    /// So many bytes of so many are here.
    Downloading(u64, u64),
    /// The connection failed; it is tried again after this time.
    Retrying(Duration),
    /// All bytes are here.
    Downloaded,
}

/// Is told what happens to the blob of that digest.
pub type Tell<'a> = &'a (dyn Fn(&Digest, Progress) + Sync);

/// An image that was asked for, as its registry has it.
pub struct Found {
    plan: Plan,
    /// The store has this image under that name and lacks nothing of it.
    pub up_to_date: bool,
    /// The store has this image.
    known: bool,
    /// The digest of what the name means in the registry.
    pub digest: Digest,
}

impl Registry {
    /// Find an image and read its documents.
    ///
    /// # Errors
    /// When it is not there, not for that platform, or its documents are bad.
    pub fn find(&self, store: &Store, name: &Name, wish: Option<&Platform>) -> Result<Found> {
        let repository = name.reference.path();
        let wanted = match name.digest {
            Some(digest) => Wanted::Digest(digest),
            None => Wanted::Tag(name.reference.tag()),
        };
        let top = self.manifest(repository, wanted, &in_silence)?;
        let digest = top.descriptor.digest;
        let index = match &top.content {
            Top::Manifest(_) => None,
            Top::Index(_) => Some(top.data.clone()),
        };
        let Chosen { document, said } = self.choose(repository, top, wish)?;
        let Top::Manifest(manifest) = &document.content else {
            return invalid("an index where an image's manifest should be");
        };
        let config_data = self.config(repository, manifest)?;
        let config = ImageConfig::parse(&config_data).map_err(|e| foreign(manifest, name, e))?;
        if let (Some(wish), false) = (wish, said) {
            check_platform(&config, wish, &name.reference)?;
        }
        let called = RepoDigest::new(&name.reference, digest);
        let listed = store.read_index()?;
        let id = manifest.config.digest;
        let known = image::images(&listed).into_iter().find(|i| i.id == id);
        let whole = known.is_some()
            && image::damage(&listed, &id).is_none()
            && (index.is_none() || store.read_blob(&digest, MAX_MANIFEST).is_ok())
            && is_whole(store, &document.descriptor, manifest, &config);
        let named = |image: &Image| {
            let named = name.digest.is_some() || image.names.contains(&name.reference);
            named && image.digests.contains(&called)
        };
        Ok(Found {
            up_to_date: whole && known.as_ref().is_some_and(named),
            known: whole && known.is_some_and(|i| i.manifest.digest == document.descriptor.digest),
            digest,
            plan: Plan {
                layers: planned_layers(manifest, &config)?,
                config_data,
                config,
                manifest: Some((document.descriptor, document.data)),
                names: match name.digest {
                    Some(_) => Vec::new(),
                    None => vec![name.reference.clone()],
                },
                origin: Some(Origin {
                    digest: called,
                    index,
                }),
            },
        })
    }

    /// Take in what was found.
    ///
    /// # Errors
    /// When a layer cannot be had or is not what it should be; then the store
    /// is as before.
    pub fn pull(
        &self,
        store: &Store,
        name: &Reference,
        found: Found,
        tell: Tell<'_>,
    ) -> Result<()> {
        if found.up_to_date {
            return store.tidy();
        }
        let source = Remote {
            store,
            registry: self,
            repository: name.path(),
            // Nothing is fetched for an image that only gets a name.
            tell: if found.known { &|_, _| {} } else { tell },
            wrong: Mutex::default(),
        };
        store.take_in(&source, vec![found.plan]).map(drop)
    }

    /// Follow indexes to the image for a platform.
    fn choose(&self, repository: &str, top: Document, wish: Option<&Platform>) -> Result<Chosen> {
        let wish = wish.cloned().unwrap_or_else(Platform::host);
        let mut document = top;
        let mut said = false;
        for _ in 0..MAX_NESTING {
            let Top::Index(index) = &document.content else {
                return Ok(Chosen { document, said });
            };
            let entries: Vec<_> = index.manifests.iter().collect();
            let next = if let Some(entry) = platform::choose(&entries, &wish) {
                said = true;
                Some(self.entry(repository, entry)?)
            } else {
                said = false;
                self.silent_entry(repository, &entries, &wish)?
            };
            document = next.ok_or_else(|| {
                Error::NotFound(format!(
                    "no matching manifest for {wish} in the manifest list entries{}",
                    platform::offered(&entries)
                ))
            })?;
        }
        match document.content {
            Top::Manifest(_) => Ok(Chosen { document, said }),
            Top::Index(_) => invalid("indexes refer to indexes too deeply"),
        }
    }

    /// What an entry of an index describes.
    fn entry(&self, repository: &str, entry: &Descriptor) -> Result<Document> {
        let next = self.manifest(repository, Wanted::Digest(entry.digest), &in_silence)?;
        if next.descriptor.size != entry.size {
            return invalid(format!(
                "manifest {} has {} bytes, its descriptor says {}",
                entry.digest, next.descriptor.size, entry.size
            ));
        }
        if next.descriptor.is_index() != entry.is_index() {
            return invalid(format!(
                "manifest {} is not what the index calls it",
                entry.digest
            ));
        }
        Ok(next)
    }

    /// Of entries that do not say their platform the only one, else the first
    /// whose configuration suits.
    fn silent_entry(
        &self,
        repository: &str,
        entries: &[&Descriptor],
        wish: &Platform,
    ) -> Result<Option<Document>> {
        let only = entries.len() == 1;
        let silent = entries.iter().filter(|e| e.platform.is_none());
        for entry in silent.take(MAX_SILENT) {
            let document = self.entry(repository, entry)?;
            let suits = match &document.content {
                Top::Manifest(manifest) if !only => {
                    let config = self.config(repository, manifest)?;
                    // Other things than images are in indexes too.
                    ImageConfig::parse(&config).is_ok_and(|c| c.suits(wish))
                }
                Top::Manifest(_) | Top::Index(_) => true,
            };
            if suits {
                return Ok(Some(document));
            }
        }
        Ok(None)
    }

    fn config(&self, repository: &str, manifest: &Manifest) -> Result<Vec<u8>> {
        self.small_blob(
            repository,
            &manifest.config,
            MAX_CONFIG,
            Box::new(in_silence),
        )
    }
}

/// An image of an index, or what was no index.
struct Chosen {
    document: Document,
    /// The index said that it is for the platform.
    said: bool,
}

/// Does the store lack nothing of an image: good documents, trees of all layers
/// and, for each, its blob or what the blob is made from.
fn is_whole(
    store: &Store,
    described: &Descriptor,
    manifest: &Manifest,
    config: &ImageConfig,
) -> bool {
    let documents = store.read_blob(&described.digest, MAX_MANIFEST).is_ok()
        && store.read_blob(&manifest.config.digest, MAX_CONFIG).is_ok();
    let Ok(layers) = store.image_layers(config) else {
        return false;
    };
    documents
        && layers
            .iter()
            .zip(&manifest.layers)
            .all(|(layer, blob)| store.has_blob(blob) || store.skeleton(&layer.name()).exists())
}

/// Why the configuration cannot be read: charts and the like are in registries too.
fn foreign(manifest: &Manifest, name: &Name, why: Error) -> Error {
    let kind = manifest.config.media_type.as_str();
    match IMAGE_CONFIGS.contains(&kind) {
        true => why,
        false => Error::Invalid(format!(
            "{} is no container image but {}: get it with the program that it is for",
            name.reference.familiar(),
            show(kind.as_bytes())
        )),
    }
}

fn check_platform(config: &ImageConfig, wish: &Platform, name: &Reference) -> Result<()> {
    if config.suits(wish) {
        return Ok(());
    }
    Err(Error::NotFound(format!(
        "image with reference {} was found but does not match the specified platform: wanted {wish}, actual: {}",
        name.familiar_tagged(),
        config.platform()
    )))
}

/// Layers of a repository.
struct Remote<'a> {
    store: &'a Store,
    registry: &'a Registry,
    repository: &'a str,
    tell: Tell<'a>,
    /// How many places of a blob gave what it is not: the store, then the
    /// mirrors in their order.
    wrong: Mutex<HashMap<Digest, usize>>,
}

impl Remote<'_> {
    fn wrong(&self, digest: &Digest) -> usize {
        let wrong = self.wrong.lock();
        wrong.map_or(0, |w| w.get(digest).copied().unwrap_or(0))
    }

    /// The store's own, where it is as large as it should be.
    fn own(&self, blob: &Descriptor) -> Option<File> {
        let file = File::open(self.store.blob(&blob.digest)).ok()?;
        let size = file.metadata().ok()?.len();
        (size == blob.size).then_some(file)
    }
}

impl Source for Remote<'_> {
    fn workers(&self) -> usize {
        WORKERS
    }

    fn wants_blobs(&self) -> bool {
        false
    }

    fn open(&self, layer: &PlannedLayer) -> Result<Blob<'_>> {
        let Some(blob) = &layer.described else {
            return invalid("the layer has no descriptor");
        };
        let (digest, size) = (blob.digest, blob.size);
        let wrong = self.wrong(&digest);
        // The tree may be gone or be that of another chain, the blob here.
        if wrong == 0
            && let Some(file) = self.own(blob)
        {
            let reader = Box::new(file);
            return Ok(Blob { reader, size });
        }
        let tell = self.tell;
        let waiting = move |time| tell(&digest, Progress::Retrying(time));
        let body = self.registry.blob(
            self.repository,
            blob,
            wrong.saturating_sub(1),
            Box::new(waiting),
        );
        Ok(Blob {
            reader: Box::new(Watched {
                body,
                at: 0,
                size,
                ended: false,
                tell: Box::new(move |progress| tell(&digest, progress)),
            }),
            size,
        })
    }

    fn was_wrong(&self, layer: &PlannedLayer) -> bool {
        let (Some(blob), Ok(mut wrong)) = (&layer.described, self.wrong.lock()) else {
            return false;
        };
        let count = wrong.entry(blob.digest).or_default();
        // What the store has not was not asked for there.
        *count += match *count == 0 && self.own(blob).is_none() {
            true => 2,
            false => 1,
        };
        *count <= self.registry.mirrors() + 1
    }

    fn tell(&self, layer: &PlannedLayer, step: Step) {
        if let Some(blob) = &layer.described {
            (self.tell)(&blob.digest, Progress::Step(step));
        }
    }
}

/// Says how far a body has been read.
struct Watched<'a, R> {
    body: R,
    at: u64,
    size: u64,
    ended: bool,
    tell: Box<dyn Fn(Progress) + Send + 'a>,
}

impl<R: Read> Read for Watched<'_, R> {
    fn read(&mut self, buf: &mut [u8]) -> std::io::Result<usize> {
        let n = self.body.read(buf)?;
        self.at += n as u64;
        if n > 0 {
            (self.tell)(Progress::Downloading(self.at, self.size));
        } else if !buf.is_empty() && !self.ended {
            self.ended = true;
            (self.tell)(Progress::Downloaded);
        }
        Ok(n)
    }
}
