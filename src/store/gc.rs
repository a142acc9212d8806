//! What nobody refers to, and its removal.
//!
//! Roots are `index.json`, the containers' records and those of steps of builds:
//! everything that a manifest of the index reaches lives, every layer that a
//! container is mounted from, and every layer that a step has made. What is dead is found under `lock`, so that no name changes
//! meanwhile; it is moved to staging there, and deleted when the locks are
//! free again. Who adds blobs and layers holds `gc.lock` shared from the first
//! look at what is there already until its image is listed; so nothing that
//! somebody counts on is dead.

use super::Store;
use super::catalog::SUFFIX;
use super::digest::Digest;
use super::document::{Descriptor, ImageConfig, MAX_CONFIG, MAX_MANIFEST, Top, parse_top};
use super::error::{Context, Result};
use super::image::digests_of;
use super::layer::chain_ids;
use super::remove::User;
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

/// The names of what is dead, or of what lives.
#[derive(Debug, Default)]
pub(super) struct Dead {
    /// In `blobs/sha256`.
    pub blobs: Vec<OsString>,
    /// In `layers`: records before directories and skeletons, which are
    /// garbage without.
    pub layers: Vec<OsString>,
}

/// What the roots reach.
#[derive(Debug, Default)]
pub(super) struct Live {
    pub blobs: HashSet<Digest>,
    pub layers: HashSet<Digest>,
    /// Chains whose catalogs are of use: those of whole images.
    pub catalogs: HashSet<Digest>,
}

impl Live {
    /// Is what `layers` has under this name, which begins with the digest, of
    /// use to anybody.
    pub(super) fn has_layer(&self, digest: &Digest, name: &OsStr) -> bool {
        match name.as_encoded_bytes().ends_with(SUFFIX.as_bytes()) {
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
            blobs: names(&self.blobs(), |d, _| live.blobs.contains(d))?,
            layers: names(&self.layers(), |d, name| live.has_layer(d, name))?,
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
        let mut indexes = Vec::new();
        for descriptor in self.read_index()?.manifests.iter().filter(|d| counts(d)) {
            self.mark(descriptor, &mut live)?;
            // Indexes that images were chosen from; other platforms are not here.
            let digests = digests_of(descriptor);
            indexes.extend(digests.iter().map(|d| d.digest));
        }
        live.blobs.extend(indexes);
        Ok(live)
    }

    /// Add to `live` what the entry of an index refers to.
    pub(super) fn mark(&self, descriptor: &Descriptor, live: &mut Live) -> Result<()> {
        if !live.blobs.insert(descriptor.digest)
            || !(descriptor.is_index() || descriptor.is_manifest())
        {
            return Ok(());
        }
        match parse_top(&self.read_blob(&descriptor.digest, MAX_MANIFEST)?)? {
            Top::Index(index) => {
                for inner in &index.manifests {
                    // Other platforms of a foreign entry need not be here.
                    if self.blob(&inner.digest).exists() {
                        self.mark(inner, live)?;
                    }
                }
            }
            Top::Manifest(manifest) => {
                live.blobs.insert(manifest.config.digest);
                live.blobs.extend(manifest.layers.iter().map(|l| l.digest));
                let data = self.read_blob(&manifest.config.digest, MAX_CONFIG)?;
                if let Ok(config) = ImageConfig::parse(&data) {
                    live.layers.extend(config.diff_ids());
                    let chains = chain_ids(config.diff_ids());
                    live.catalogs.extend(chains.last());
                    live.layers.extend(chains);
                }
            }
        }
        Ok(())
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
