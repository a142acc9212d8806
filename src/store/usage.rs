//! What the store takes on the disk.

use super::Store;
use super::catalog::SUFFIX;
use super::digest::Digest;
use super::document::Descriptor;
use super::error::Result;
use super::gc::{self, Live};
use super::image::{Image, images};
use super::remove::User;
use super::walk::Taken;
use std::collections::{BTreeMap, HashMap, HashSet};

/// Bytes on the disk, as `du -x` counts them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// `blobs` and `layers`.
    pub images: u64,
    /// What of `images` no container needs.
    pub reclaimable: u64,
    /// `containers`.
    pub containers: u64,
    /// The rest: the index, locks, staging and the root directory itself.
    pub other: u64,
}

/// What one image takes.
#[derive(Clone, Debug)]
pub struct ImageUsage {
    /// Which.
    pub image: Image,
    /// Bytes that another image needs too.
    pub shared: u64,
    /// Bytes that go with it.
    pub unique: u64,
}

impl Store {
    /// What all takes, to the byte.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn usage(&self, users: &[User]) -> Result<Usage> {
        self.read_steadily(|| self.usage_now(users))
    }

    fn usage_now(&self, users: &[User]) -> Result<(Usage, Live)> {
        let mut taken = Taken::default();
        let images = taken.add(&self.root().join("blobs"))? + taken.add(&self.layers())?;
        let containers = taken.add(&self.containers())?;
        let all = Taken::default().add(self.root())?;
        let used: HashSet<_> = users.iter().map(|u| u.image).collect();
        let index = self.read_index()?;
        let kept: HashSet<_> = super::image::images(&index)
            .into_iter()
            .filter(|i| used.contains(&i.id))
            .map(|i| i.manifest.digest)
            .collect();
        let mut live = self.live(users, |d| kept.contains(&d.digest))?;
        for entry in index.manifests.iter().filter(|d| !kept.contains(&d.digest)) {
            let mut other = Live::default();
            self.mark(entry, &mut other)?;
            live.any_blob |= other.any_blob;
            live.any_layer |= other.any_layer;
            live.damaged.append(&mut other.damaged);
        }
        let mut reclaimable = 0;
        let blobs = gc::names(&self.blobs(), |d, _| live.has_blob(d))?;
        let layers = gc::names(&self.layers(), |d, name| live.has_layer(d, name))?;
        for (dir, names) in [(self.blobs(), blobs), (self.layers(), layers)] {
            for name in names {
                reclaimable += Taken::default().add(&dir.join(name))?;
            }
        }
        let usage = Usage {
            images,
            reclaimable,
            containers,
            other: all.saturating_sub(images + containers),
        };
        Ok((usage, live))
    }

    /// What each image takes.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn image_usage(&self) -> Result<Vec<ImageUsage>> {
        self.read_steadily(|| self.image_usage_now())
    }

    fn image_usage_now(&self) -> Result<(Vec<ImageUsage>, Live)> {
        let index = self.read_index()?;
        let mut by_manifest: HashMap<Digest, Vec<&Descriptor>> = HashMap::new();
        for entry in &index.manifests {
            by_manifest.entry(entry.digest).or_default().push(entry);
        }
        let mut all_live = Live::default();
        let mut needs = Vec::new();
        let mut count: BTreeMap<String, usize> = BTreeMap::new();
        for image in images(&index) {
            let mut live = Live::default();
            let entries = by_manifest.get(&image.manifest.digest);
            self.reach(entries.into_iter().flatten().copied(), &mut live)?;
            let mut own = Vec::new();
            let kinds: [(_, &[&str], _); 3] = [
                ("blobs/sha256", &[""], &live.blobs),
                ("layers", &["", ".json", ".skel"], &live.layers),
                ("layers", &[SUFFIX], &live.catalogs),
            ];
            for (dir, suffixes, live) in kinds {
                for digest in live {
                    own.extend(
                        suffixes
                            .iter()
                            .map(|s| format!("{dir}/{}{s}", digest.hex())),
                    );
                }
            }
            for name in &own {
                *count.entry(name.clone()).or_default() += 1;
            }
            needs.push((image, own));
            all_live.damaged.append(&mut live.damaged);
        }
        let mut sizes = BTreeMap::new();
        for name in count.keys() {
            sizes.insert(name.clone(), Taken::default().add(&self.root().join(name))?);
        }
        let usage = needs.into_iter().map(|(image, own)| {
            let (mut shared, mut unique) = (0, 0);
            for name in own {
                let size = sizes.get(&name).copied().unwrap_or(0);
                match count.get(&name) {
                    Some(1) => unique += size,
                    _ => shared += size,
                }
            }
            ImageUsage {
                image,
                shared,
                unique,
            }
        });
        Ok((usage.collect(), all_live))
    }
}
