//! What nobody refers to, and its removal.
//!
//! Roots are `index.json`, the containers' records and those of steps of builds:
//! everything that a manifest of the index reaches lives, every layer that a
//! container is mounted from, and every layer that a step has made. What is dead is found under `lock`, so that no name changes
//! meanwhile; it is moved to staging there, and deleted when the locks are
//! free again. Who adds blobs and layers holds `gc.lock` shared from the first
//! look at what is there already until its image is listed; so nothing that
//! somebody counts on is dead.
//!
//! An image whose manifest or configuration is lost does not stop this: of what
//! it may need nothing is dead. Its layers are known by its configuration, its
//! blobs by its manifest; without the one no layer is dead, without the other no
//! blob, until the image is whole again or removed.

use super::Store;
use super::catalog::SUFFIX;
use super::digest::Digest;
use super::document::{Descriptor, ImageConfig, MAX_CONFIG, MAX_MANIFEST, Top, parse_top};
use super::error::{Context, Error, Result};
use super::image::{Image, image_at, image_of};
use super::layer::chain_ids;
use super::remove::User;
use super::repo_digest::digests_of;
use super::staging::{Staging, stale};
use super::walk::Taken;
use crate::sys::tree;
use std::collections::HashSet;
use std::ffi::{OsStr, OsString};
use std::fs;
use std::path::Path;

/// Something that nobody refers to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Garbage {
    /// Where it is, or was, below the store's root.
    pub path: String,
    /// What it takes on the disk.
    pub bytes: u64,
}

/// The names of what is dead.
#[derive(Debug, Default)]
pub(super) struct Dead {
    /// In `blobs/sha256`.
    pub blobs: Vec<OsString>,
    /// In `layers`: records before directories and skeletons, which are
    /// garbage without.
    pub layers: Vec<OsString>,
    /// What is not dead.
    pub live: Live,
}

/// What the roots reach.
#[derive(Debug, Default)]
pub(super) struct Live {
    pub blobs: HashSet<Digest>,
    pub layers: HashSet<Digest>,
    /// Chains whose catalogs are of use: those of whole images.
    pub catalogs: HashSet<Digest>,
    /// Any blob may be needed, as a manifest is lost.
    pub any_blob: bool,
    /// Any layer may be needed, as a configuration is lost.
    pub any_layer: bool,
    /// The entries of the index of which something is lost, and what.
    pub damaged: Vec<(Descriptor, String)>,
}

impl Live {
    /// Is a blob of use to anybody.
    pub(super) fn has_blob(&self, digest: &Digest) -> bool {
        self.any_blob || self.blobs.contains(digest)
    }

    /// Is what `layers` has under this name, which begins with the digest, of
    /// use to anybody.
    pub(super) fn has_layer(&self, digest: &Digest, name: &OsStr) -> bool {
        self.any_layer
            || match name.as_encoded_bytes().ends_with(SUFFIX.as_bytes()) {
                true => self.catalogs.contains(digest),
                false => self.layers.contains(digest),
            }
    }
}

impl Store {
    /// Remove blobs and layers that neither an image nor one of the containers
    /// `users` refers to, and abandoned staging. Does nothing while something
    /// is being added: then it happens another time.
    ///
    /// # Errors
    /// When it cannot be known what is in use; then nothing is removed.
    pub fn sweep(&self, users: impl FnOnce() -> Result<Vec<User>>) -> Result<()> {
        self.remove_garbage(users, false).map(drop)
    }

    /// As [`Store::sweep`], and say what was removed; `None` while something is
    /// being added.
    ///
    /// # Errors
    /// As [`Store::sweep`].
    pub fn gc(&self, users: impl FnOnce() -> Result<Vec<User>>) -> Result<Option<Vec<Garbage>>> {
        self.remove_garbage(users, true)
    }

    /// What [`Store::gc`] would remove now.
    ///
    /// # Errors
    /// As [`Store::sweep`].
    pub fn garbage(&self, users: impl FnOnce() -> Result<Vec<User>>) -> Result<Vec<Garbage>> {
        let dead = {
            let _lock = self.lock()?;
            self.dead(&users()?)?
        };
        self.warn_of_damage(&dead.live);
        let mut out = Vec::new();
        for old in stale(&self.tmp())? {
            measure(&mut out, "tmp", &self.tmp(), old.name())?;
        }
        measure_all(&mut out, "blobs/sha256", &self.blobs(), &dead.blobs)?;
        measure_all(&mut out, "layers", &self.layers(), &dead.layers)?;
        Ok(out)
    }

    fn remove_garbage(
        &self,
        users: impl FnOnce() -> Result<Vec<User>>,
        tell: bool,
    ) -> Result<Option<Vec<Garbage>>> {
        let Some(sweeping) = self.try_lock_sweeping()? else {
            return Ok(None);
        };
        let mut out = Vec::new();
        for old in stale(&self.tmp())? {
            if tell {
                measure(&mut out, "tmp", &self.tmp(), old.name())?;
            }
            old.remove();
        }
        let trash = Staging::new(&self.tmp())?;
        let (blobs, layers) = (trash.subdir("blobs")?, trash.subdir("layers")?);
        let dead = {
            let _lock = self.lock()?;
            let dead = self.dead(&users()?)?;
            throw_away(&self.blobs(), &dead.blobs, &blobs)?;
            throw_away(&self.layers(), &dead.layers, &layers)?;
            dead
        };
        drop(sweeping);
        self.warn_of_damage(&dead.live);
        if tell {
            measure_all(&mut out, "blobs/sha256", &blobs, &dead.blobs)?;
            measure_all(&mut out, "layers", &layers, &dead.layers)?;
        }
        Ok(Some(out))
    }

    /// What is dead; the caller holds [`Store::lock`].
    pub(super) fn dead(&self, users: &[User]) -> Result<Dead> {
        let mut live = self.live(users, |_| true)?;
        self.mark_steps(&mut live)?;
        Ok(Dead {
            blobs: names(&self.blobs(), |d, _| live.has_blob(d))?,
            layers: names(&self.layers(), |d, name| live.has_layer(d, name))?,
            live,
        })
    }

    /// What the containers and those entries of the index reach that `counts`
    /// takes.
    pub(super) fn live(
        &self,
        users: &[User],
        counts: impl Fn(&Descriptor) -> bool,
    ) -> Result<Live> {
        let mut live = Live::default();
        live.layers
            .extend(users.iter().flat_map(|u| u.layers.iter()));
        live.catalogs.extend(users.iter().filter_map(|u| u.chain));
        let index = self.read_index()?;
        self.reach(index.manifests.iter().filter(|d| counts(d)), &mut live)?;
        Ok(live)
    }

    /// Add to `live` what entries of an index reach.
    pub(super) fn reach<'a>(
        &self,
        entries: impl Iterator<Item = &'a Descriptor>,
        live: &mut Live,
    ) -> Result<()> {
        let mut indexes = Vec::new();
        for descriptor in entries {
            self.mark(descriptor, live)?;
            // Indexes that images were chosen from; other platforms are not here.
            let digests = digests_of(descriptor);
            indexes.extend(digests.iter().map(|d| d.digest));
        }
        live.blobs.extend(indexes);
        Ok(())
    }

    /// Add to `live` what the entry of an index refers to.
    pub(super) fn mark(&self, descriptor: &Descriptor, live: &mut Live) -> Result<()> {
        if !live.blobs.insert(descriptor.digest)
            || !(descriptor.is_index() || descriptor.is_manifest())
        {
            return Ok(());
        }
        let data = self.read_blob(&descriptor.digest, MAX_MANIFEST);
        match if_whole(data.and_then(|data| parse_top(&data)))? {
            Ok(Top::Index(index)) => {
                for inner in &index.manifests {
                    // Other platforms of a foreign entry need not be here.
                    if self.blob(&inner.digest).exists() {
                        self.mark(inner, live)?;
                    }
                }
            }
            Ok(Top::Manifest(manifest)) => {
                live.blobs.extend(manifest.layers.iter().map(|l| l.digest));
                self.mark_layers(descriptor, &manifest.config.digest, live)?;
            }
            Err(why) => {
                live.any_blob = true;
                live.damaged.push((descriptor.clone(), why));
                match image_at(descriptor) {
                    Some(image) => self.mark_layers(descriptor, &image.id, live)?,
                    None => live.any_layer = true,
                }
            }
        }
        Ok(())
    }

    /// Add to `live` the layers of an entry of the index, by its configuration.
    fn mark_layers(&self, entry: &Descriptor, config: &Digest, live: &mut Live) -> Result<()> {
        live.blobs.insert(*config);
        match if_whole(self.read_blob(config, MAX_CONFIG))? {
            Ok(data) => {
                // Other things than images have other configurations.
                if let Ok(config) = ImageConfig::parse(&data) {
                    live.layers.extend(config.diff_ids());
                    let chains = chain_ids(config.diff_ids());
                    live.catalogs.extend(chains.last());
                    live.layers.extend(chains);
                }
            }
            Err(why) => {
                live.any_layer = true;
                live.damaged.push((entry.clone(), why));
            }
        }
        Ok(())
    }

    /// Name the images of which something is lost, each once, and what to do.
    pub(super) fn warn_of_damage(&self, live: &Live) {
        for (entry, why) in &live.damaged {
            match image_at(entry) {
                Some(image) => self.warn_of_image(&image, why),
                None => self.warn_once(
                    &entry.digest,
                    &format!(
                        "{}, which another program listed, is damaged: {why}: what it may need is kept",
                        entry.digest
                    ),
                ),
            }
        }
    }

    fn warn_of_image(&self, image: &Image, why: &str) {
        let title = image.title();
        let text = format!(
            "image {title} is damaged: {why}: what it may need is kept: load or pull it again, or remove it with 'capas rmi {title}'"
        );
        self.warn_once(&image.id, &text);
    }

    /// The configuration of an image; none where it is lost, which is told, or
    /// the image was removed meanwhile.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn config_if_whole(&self, image: &Image) -> Result<Option<(ImageConfig, Vec<u8>)>> {
        self.told_if_lost(image, self.image_config(&image.id))
    }

    /// The labels in it alone, for those who ask a thousand images.
    ///
    /// # Errors
    /// As [`Store::config_if_whole`].
    pub fn labels_if_whole(&self, image: &Image) -> Result<Option<serde_json::Value>> {
        self.told_if_lost(image, self.image_labels(&image.id))
    }

    fn told_if_lost<T>(&self, image: &Image, read: Result<T>) -> Result<Option<T>> {
        match if_whole(read)? {
            Ok(found) => Ok(Some(found)),
            Err(why) => {
                if image_of(&self.read_index()?, &image.id).is_some() {
                    self.warn_of_image(image, &why);
                }
                Ok(None)
            }
        }
    }
}

/// What was read, or why it is not what it must be: that says nothing about the
/// rest of the store.
pub(super) fn if_whole<T>(read: Result<T>) -> Result<std::result::Result<T, String>> {
    match read {
        Ok(read) => Ok(Ok(read)),
        Err(e @ (Error::NotFound(_) | Error::Invalid(_))) => Ok(Err(e.to_string())),
        Err(e) => Err(e),
    }
}

/// The digest that a blob, or what there is of a layer, is named by.
pub(super) fn named(name: &std::ffi::OsStr) -> Option<Digest> {
    let text = name.to_str()?;
    let plain = [".json", ".skel", SUFFIX]
        .iter()
        .find_map(|s| text.strip_suffix(s));
    Digest::parse_hex(plain.unwrap_or(text)).ok()
}

/// What is named in `dir` by a digest, and is not live.
pub(super) fn names(
    dir: &Path,
    is_live: impl Fn(&Digest, &OsStr) -> bool,
) -> Result<Vec<OsString>> {
    let say = || format!("cannot read {}", dir.display());
    let mut dead = Vec::new();
    for entry in fs::read_dir(dir).context(say)? {
        let name = entry.context(say)?.file_name();
        if named(&name).is_some_and(|d| !is_live(&d, &name)) {
            let record = Path::new(&name).extension().is_some_and(|e| e == "json");
            dead.push((!record, name));
        }
    }
    dead.sort();
    Ok(dead.into_iter().map(|(_, name)| name).collect())
}

fn throw_away(from: &Path, dead: &[OsString], trash: &Path) -> Result<()> {
    for name in dead {
        tree::rename(&from.join(name), &trash.join(name))
            .context(|| format!("cannot clean {}", from.display()))?;
    }
    Ok(())
}

fn measure_all(out: &mut Vec<Garbage>, shown: &str, dir: &Path, dead: &[OsString]) -> Result<()> {
    for name in dead {
        measure(out, shown, dir, name)?;
    }
    Ok(())
}

fn measure(out: &mut Vec<Garbage>, shown: &str, dir: &Path, name: &std::ffi::OsStr) -> Result<()> {
    out.push(Garbage {
        path: format!("{shown}/{}", name.display()),
        bytes: Taken::default().add(&dir.join(name))?,
    });
    Ok(())
}
