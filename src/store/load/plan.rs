//! What is taken in, as its documents say: nothing is believed but sizes
//! and digests that were checked.

use super::Source;
use crate::store::archive::Archive;
use crate::store::digest::Digest;
use crate::store::document::{
    CONTAINERD_NAME, Descriptor, DockerImage, ImageConfig, Index, MAX_CONFIG, MAX_MANIFEST,
    Manifest, Platform, REF_NAME, Top, parse, parse_top,
};
use crate::store::error::{Result, invalid};
use crate::store::pipeline::Blob;
use crate::store::platform;
use crate::store::reference::Reference;
use crate::store::repo_digest::RepoDigest;
use std::collections::HashMap;

/// How deep indexes may refer to indexes.
const MAX_NESTING: usize = 4;
/// All documents of the images of an archive, which are kept in memory, are not
/// larger. A small archive may name a large one often.
const MAX_DOCUMENTS: usize = 64 << 20;

/// An image as its documents describe it.
pub struct Plan {
    /// The configuration as it came.
    pub config_data: Vec<u8>,
    /// The same, read.
    pub config: ImageConfig,
    /// The manifest as it came; none in older docker archives.
    pub manifest: Option<(Descriptor, Vec<u8>)>,
    /// Bottom first.
    pub layers: Vec<PlannedLayer>,
    /// What it is to be called.
    pub names: Vec<Reference>,
    /// What a registry calls it, and the index that it was chosen from there.
    pub origin: Option<Origin>,
}

/// Where an image comes from.
pub struct Origin {
    /// The repository, and the digest of what its tag meant.
    pub digest: RepoDigest,
    /// That document, where it is not the image's own manifest.
    pub index: Option<Vec<u8>>,
}

/// A layer as the documents describe it.
#[derive(Clone, Debug)]
pub struct PlannedLayer {
    /// Digest of its uncompressed archive.
    pub diff_id: Digest,
    /// Digest, size and media type, where a manifest says them.
    pub described: Option<Descriptor>,
    /// What its source calls the blob.
    pub member: String,
}

/// The layers of an image by its two documents, bottom first.
///
/// # Errors
/// When they do not agree.
pub fn planned_layers(manifest: &Manifest, config: &ImageConfig) -> Result<Vec<PlannedLayer>> {
    let diff_ids = config.diff_ids();
    if diff_ids.len() != manifest.layers.len() {
        return invalid(format!(
            "the manifest has {} layers, the image configuration {}",
            manifest.layers.len(),
            diff_ids.len()
        ));
    }
    let layers = diff_ids.iter().zip(&manifest.layers);
    Ok(layers
        .map(|(diff_id, d)| PlannedLayer {
            diff_id: *diff_id,
            described: Some(d.clone()),
            member: blob_name(&d.digest),
        })
        .collect())
}

impl Source for Archive {
    fn workers(&self) -> usize {
        std::thread::available_parallelism().map_or(1, usize::from)
    }

    fn open(&self, layer: &PlannedLayer) -> Result<Blob<'_>> {
        let range = self.find(&layer.member)?;
        Ok(Blob {
            size: range.len(),
            reader: Box::new(range),
        })
    }
}

/// The images of an OCI layout.
pub(super) fn plan_oci(
    archive: &Archive,
    base: &str,
    wish: Option<&Platform>,
) -> Result<Vec<Plan>> {
    let index: Index = parse(&archive.read("index.json", MAX_MANIFEST)?, "index.json")?;
    let named = |d: &Descriptor| {
        d.annotation(REF_NAME)
            .or(d.annotation(CONTAINERD_NAME))
            .is_some()
    };
    // Nameless entries for several platforms are one image.
    let mut chosen: Vec<&Descriptor> = index.manifests.iter().filter(|d| named(d)).collect();
    let nameless: Vec<&Descriptor> = index.manifests.iter().filter(|d| !named(d)).collect();
    if nameless.len() > 1 && nameless.iter().all(|d| d.platform.is_some()) {
        chosen.extend(best_platform(&nameless, wish));
    } else {
        chosen.extend(nameless);
    }
    let mut plans: Vec<Plan> = Vec::new();
    let mut documents = Documents::default();
    let mut by_manifest: HashMap<Digest, usize> = HashMap::new();
    for top in chosen {
        let Some((descriptor, data, manifest)) = read_manifest(archive, top, wish, 0)? else {
            continue;
        };
        let names = name_of(top, base)?;
        if let Some(plan) = by_manifest
            .get(&descriptor.digest)
            .and_then(|i| plans.get_mut(*i))
        {
            plan.names.extend(names);
            continue;
        }
        let config_data = read_verified(archive, &manifest.config, MAX_CONFIG)?;
        documents.count(data.len() + config_data.len())?;
        let config = ImageConfig::parse(&config_data)?;
        let layers = planned_layers(&manifest, &config)?;
        by_manifest.insert(descriptor.digest, plans.len());
        plans.push(Plan {
            config_data,
            config,
            manifest: Some((descriptor, data)),
            layers,
            names,
            origin: None,
        });
    }
    Ok(plans)
}

/// Counts the documents that are kept in memory.
pub(super) struct Documents {
    left: usize,
}

impl Default for Documents {
    fn default() -> Documents {
        Documents {
            left: MAX_DOCUMENTS,
        }
    }
}

impl Documents {
    /// So many bytes more are kept.
    pub(super) fn count(&mut self, bytes: usize) -> Result<()> {
        match self.left.checked_sub(bytes) {
            Some(rest) => self.left = rest,
            None => {
                return invalid(format!(
                    "the documents of the images take more than {MAX_DOCUMENTS} bytes: put fewer images into one archive"
                ));
            }
        }
        Ok(())
    }
}

fn blob_name(digest: &Digest) -> String {
    format!("blobs/sha256/{}", digest.hex())
}

/// A small blob of the archive, as large and with the digest that was said.
fn read_verified(archive: &Archive, descriptor: &Descriptor, max: u64) -> Result<Vec<u8>> {
    let name = blob_name(&descriptor.digest);
    let data = archive.read(&name, max)?;
    if data.len() as u64 != descriptor.size {
        return invalid(format!(
            "blob {} has {} bytes, its descriptor says {}",
            descriptor.digest,
            data.len(),
            descriptor.size
        ));
    }
    let digest = Digest::of(&data);
    if digest != descriptor.digest {
        return invalid(format!("blob {} has digest {digest}", descriptor.digest));
    }
    Ok(data)
}

/// Follow indexes to the image for `wish` or else this machine; none for what
/// is no image.
fn read_manifest(
    archive: &Archive,
    descriptor: &Descriptor,
    wish: Option<&Platform>,
    nesting: usize,
) -> Result<Option<(Descriptor, Vec<u8>, Manifest)>> {
    if nesting > MAX_NESTING {
        return invalid("indexes refer to indexes too deeply");
    }
    if !descriptor.is_index() && !descriptor.is_manifest() {
        return Ok(None);
    }
    let data = read_verified(archive, descriptor, MAX_MANIFEST)?;
    match parse_top(&data)? {
        Top::Manifest(_) if descriptor.is_index() => {
            invalid(format!("{} should be an index", descriptor.digest))
        }
        Top::Index(_) if descriptor.is_manifest() => {
            invalid(format!("{} should be a manifest", descriptor.digest))
        }
        Top::Manifest(manifest) => {
            let clean = Descriptor {
                annotations: None,
                ..descriptor.clone()
            };
            Ok(Some((clean, data, manifest)))
        }
        Top::Index(index) => {
            let all: Vec<&Descriptor> = index.manifests.iter().collect();
            match best_platform(&all, wish) {
                Some(best) => read_manifest(archive, best, wish, nesting + 1),
                None => match wish {
                    Some(wish) => not_for(wish),
                    None => invalid(format!(
                        "the archive has no image for {}: choose one of its platforms with --platform",
                        Platform::host()
                    )),
                },
            }
        }
    }
}

/// The entry for `wish`, or this machine; the only one there is, whatever it
/// says.
fn best_platform<'a>(
    entries: &[&'a Descriptor],
    wish: Option<&Platform>,
) -> Option<&'a Descriptor> {
    match entries {
        [only] => Some(only),
        _ => platform::choose(entries, wish.unwrap_or(&Platform::host())),
    }
}

/// Docker's words.
fn not_for<T>(platform: &Platform) -> Result<T> {
    invalid(format!(
        "requested platform ({platform}) not found: image might be filtered out"
    ))
}

/// Is an image what was wished for.
pub(super) fn check_platform(config: &ImageConfig, wish: &Platform) -> Result<()> {
    match config.suits(wish) {
        true => Ok(()),
        false => not_for(wish),
    }
}

/// The names in an entry's annotations. A bare word is a tag by convention:
/// then the layout's own name is the repository, as in `umoci --image DIR:TAG`.
/// Programs that give an image another tag know that annotation alone and copy
/// the other, so where both differ it is the tag.
fn name_of(descriptor: &Descriptor, base: &str) -> Result<Vec<Reference>> {
    let tag = descriptor.annotation(REF_NAME);
    if let Some(name) = descriptor.annotation(CONTAINERD_NAME) {
        let name = Reference::parse(name)?;
        return Ok(vec![match tag {
            Some(tag) if !tag.contains(['/', ':']) => name.with_tag(tag)?,
            _ => name,
        }]);
    }
    let Some(name) = tag else {
        return Ok(Vec::new());
    };
    if name.contains(['/', ':']) {
        return Ok(vec![Reference::parse(name)?]);
    }
    let stem = [".tar", ".tar.gz", ".tgz", ".tar.zst"]
        .iter()
        .find_map(|suffix| base.strip_suffix(suffix))
        .unwrap_or(base);
    let repository = stem.to_lowercase();
    Ok(Reference::parse(&format!("{repository}:{name}"))
        .into_iter()
        .collect())
}

/// The images of a docker archive.
pub(super) fn plan_docker(archive: &Archive) -> Result<Vec<Plan>> {
    let data = archive.read("manifest.json", MAX_MANIFEST)?;
    let images: Vec<DockerImage> = parse(&data, "manifest.json")?;
    let mut plans = Vec::new();
    let mut documents = Documents::default();
    for image in images {
        let config_data = archive.read(&image.config, MAX_CONFIG)?;
        documents.count(config_data.len())?;
        let config = ImageConfig::parse(&config_data)?;
        let members = image.layers.unwrap_or_default();
        if members.len() != config.diff_ids().len() {
            return invalid(format!(
                "manifest.json has {} layers, the image configuration {}",
                members.len(),
                config.diff_ids().len()
            ));
        }
        let names = image.repo_tags.unwrap_or_default();
        let layers = config.diff_ids().iter().zip(members);
        let layers = layers
            .map(|(diff_id, member)| PlannedLayer {
                diff_id: *diff_id,
                described: None,
                member,
            })
            .collect();
        plans.push(Plan {
            names: names
                .iter()
                .map(|n| Reference::parse(n))
                .collect::<Result<_>>()?,
            config_data,
            config,
            manifest: None,
            layers,
            origin: None,
        });
    }
    Ok(plans)
}
