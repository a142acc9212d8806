//! An image from a registry into the store.

use super::{Document, Registry, Wanted, in_silence};
use crate::store::document::{ImageConfig, MAX_CONFIG, Manifest, Platform, Top};
use crate::store::error::{Error, Result, invalid};
use crate::store::image::{Image, RepoDigest};
use crate::store::load::{Origin, Plan, PlannedLayer, Source, Step, planned_layers};
use crate::store::pipeline::Blob;
use crate::store::{Digest, Name, Reference, Store, platform};
use std::fs::File;
use std::io::Read;
use std::time::Duration;

/// Layers that are fetched at a time, as docker does.
const WORKERS: usize = 3;
/// How deep indexes may refer to indexes.
const MAX_NESTING: usize = 4;

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
        let (document, index) = match &top.content {
            Top::Manifest(_) => (top, None),
            Top::Index(_) => {
                let data = top.data.clone();
                (self.choose(repository, top, wish)?, Some(data))
            }
        };
        let Top::Manifest(manifest) = &document.content else {
            return invalid("an index where an image's manifest should be");
        };
        let config_data = self.config(repository, manifest)?;
        let config = ImageConfig::parse(&config_data)?;
        // Of an index that was looked for already.
        if let (Some(wish), None) = (wish, &index) {
            check_platform(&config, wish, &name.reference)?;
        }
        let called = RepoDigest::new(&name.reference, digest);
        let known = store
            .images()?
            .into_iter()
            .find(|i| i.id == manifest.config.digest);
        let whole = known.is_some() && store.image_layers(&config).is_ok();
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
        };
        store.take_in(&source, vec![found.plan]).map(drop)
    }

    /// Follow indexes to the image for a platform.
    fn choose(&self, repository: &str, top: Document, wish: Option<&Platform>) -> Result<Document> {
        let wish = wish.cloned().unwrap_or_else(Platform::host);
        let mut document = top;
        for _ in 0..MAX_NESTING {
            let Top::Index(index) = &document.content else {
                return Ok(document);
            };
            let entries: Vec<_> = index.manifests.iter().collect();
            let Some(entry) = platform::choose(&entries, &wish) else {
                return Err(Error::NotFound(format!(
                    "no matching manifest for {wish} in the manifest list entries"
                )));
            };
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
            document = next;
        }
        match document.content {
            Top::Manifest(_) => Ok(document),
            Top::Index(_) => invalid("indexes refer to indexes too deeply"),
        }
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
        // The tree may be gone or be that of another chain, the blob here.
        if let Ok(file) = File::open(self.store.blob(&digest))
            && file.metadata().is_ok_and(|m| m.len() == size)
        {
            let reader = Box::new(file);
            return Ok(Blob { reader, size });
        }
        let tell = self.tell;
        let waiting = move |time| tell(&digest, Progress::Retrying(time));
        let body = self.registry.blob(self.repository, blob, Box::new(waiting));
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
