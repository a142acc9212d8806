//! `save`: images out of the store, as an archive or an OCI layout.
//!
//! The default is what docker writes since version 25: an OCI layout that older
//! programs can read too, by `manifest.json` and `repositories`. The bytes
//! depend on the images and their order alone.
//!
//! A layer whose blob was dropped is written uncompressed, under its DiffID; the
//! manifest in the archive says so and is then another than the one in the
//! store. The image's id stays.

use super::blobs::{ImageLayer, Origin, layers_of};
use super::digest::Digest;
use super::document::{
    Annotations, CONTAINERD_NAME, Descriptor, DockerImage, ImageConfig, Index, MAX_CONFIG,
    MAX_MANIFEST, Platform, REF_NAME, parse,
};
use super::error::{Context, Error, Result, invalid};
use super::image::{Asked, Image, find, images};
use super::pipeline::Encoding;
use super::reference::{Name, Reference};
use super::tarwriter::{TarWriter, copy_exactly};
use super::{LAYOUT, Store, to_json};
use serde_json::Value;
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{Read, Write};
use std::path::Path;

/// Media type of an uncompressed layer in a manifest of docker's.
const DOCKER_PLAIN: &str = "application/vnd.docker.image.rootfs.diff.tar";

/// What is written besides the layout.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// `manifest.json` and `repositories`, as docker does.
    Docker,
    /// Nothing.
    Oci,
}

/// An image to be saved, and the names it is to have.
#[derive(Clone, Debug)]
pub struct Wanted {
    /// The image.
    pub image: Image,
    /// None for an image that was asked for by its id.
    pub names: Vec<Reference>,
}

/// A file of the layout.
enum Content {
    Data(Vec<u8>),
    Blob(Descriptor),
    /// The archive of a layer without a blob, and its size.
    Layer(ImageLayer, u64),
}

/// The files by their paths, in the order in which they are written.
type Files = BTreeMap<String, Content>;

impl Store {
    /// The images that `texts` ask for, each once: a name with its tag, all
    /// tags of a repository, or an id, which saves no name.
    ///
    /// # Errors
    /// When one is not there.
    pub fn wanted(&self, texts: &[String]) -> Result<Vec<Wanted>> {
        let index = self.read_index()?;
        let images = images(&index);
        let mut out: Vec<Wanted> = Vec::new();
        let mut add = |image: &Image, name: Option<&Reference>| {
            let at = out.iter().position(|w| w.image.id == image.id);
            let at = at.unwrap_or_else(|| {
                out.push(Wanted {
                    image: image.clone(),
                    names: Vec::new(),
                });
                out.len() - 1
            });
            if let (Some(wanted), Some(name)) = (out.get_mut(at), name)
                && !wanted.names.contains(name)
            {
                wanted.names.push(name.clone());
            }
        };
        for text in texts {
            let repository = match Name::parse(text) {
                Ok(name) if !name.tagged && name.digest.is_none() => Some(name.reference),
                _ => None,
            };
            let mut found = false;
            for image in &images {
                let tags = image.names.iter();
                for name in
                    tags.filter(|n| repository.as_ref().is_some_and(|r| r.same_repository(n)))
                {
                    found = true;
                    add(image, Some(name));
                }
            }
            if !found {
                match find(&index, text)? {
                    (image, Asked::Name(name)) if image.names.contains(&name) => {
                        add(&image, Some(&name));
                    }
                    (image, _) => add(&image, None),
                }
            }
        }
        Ok(out)
    }

    /// Are the images for that platform.
    ///
    /// # Errors
    /// [`Error::NotFound`] for the first that is not, in docker's words.
    pub fn wanted_for(&self, wanted: &[Wanted], platform: &Platform) -> Result<()> {
        for Wanted { image, names } in wanted {
            if !self.image_config(&image.id)?.0.suits(platform) {
                let name = match names.first() {
                    Some(name) => name.familiar_tagged(),
                    None => image.title(),
                };
                return Err(Error::NotFound(format!(
                    "no suitable export target found for platform {platform}: image with reference {name} was found but does not provide the specified platform ({platform})"
                )));
            }
        }
        Ok(())
    }

    /// Write images to `out` as a tar archive.
    ///
    /// # Errors
    /// When a blob is missing or damaged, or writing fails; then what was
    /// written is worth nothing.
    pub fn save(&self, wanted: &[Wanted], format: Format, out: impl Write) -> Result<()> {
        let _reading = self.lock_reading()?;
        let files = self.layout(wanted, format)?;
        let mut tar = TarWriter::new(out);
        tar.dir("blobs")?;
        tar.dir("blobs/sha256")?;
        for (name, content) in &files {
            let (size, mut bytes) = self.open_content(content)?;
            tar.file(name, size, &mut bytes)?;
        }
        tar.finish().map(drop)
    }

    /// Write images to the empty directory `dir` as an OCI layout.
    ///
    /// # Errors
    /// As [`Store::save`].
    pub fn save_dir(&self, wanted: &[Wanted], dir: &Path) -> Result<()> {
        let _reading = self.lock_reading()?;
        let files = self.layout(wanted, Format::Oci)?;
        let say = |path: &Path| format!("cannot write {}", path.display());
        let blobs = dir.join("blobs/sha256");
        fs::create_dir_all(&blobs).context(|| say(&blobs))?;
        for (name, content) in &files {
            let path = dir.join(name);
            let mut file = File::create_new(&path).context(|| say(&path))?;
            let (size, mut bytes) = self.open_content(content)?;
            copy_exactly(&mut bytes, size, &mut file, name)?;
        }
        let root = File::open(dir).context(|| say(dir))?;
        crate::sys::tree::sync_filesystem(&root).context(|| say(dir))
    }

    fn open_content<'a>(&self, content: &'a Content) -> Result<(u64, Box<dyn Read + 'a>)> {
        Ok(match content {
            Content::Data(data) => (data.len() as u64, Box::new(data.as_slice())),
            Content::Blob(blob) => (blob.size, Box::new(self.open_blob(blob)?)),
            Content::Layer(layer, size) => {
                let rebuilt = self.rebuild_layer(&layer.diff_id, &layer.chain_id)?;
                (*size, Box::new(rebuilt))
            }
        })
    }

    fn layout(&self, wanted: &[Wanted], format: Format) -> Result<Files> {
        let mut files = Files::new();
        let mut index = Index::default();
        let mut docker = Vec::new();
        let mut repositories: BTreeMap<String, BTreeMap<String, String>> = BTreeMap::new();
        for Wanted { image, names } in wanted {
            let (manifest, image) = self.add_image(image, names, &mut files)?;
            let top = image.layers.as_ref().and_then(|l| l.last());
            let top = top
                .and_then(|path| path.rsplit('/').next())
                .map(str::to_owned);
            for name in names {
                let mut annotations = Annotations::default();
                annotations.insert(CONTAINERD_NAME.to_owned(), name.to_string());
                annotations.insert(REF_NAME.to_owned(), name.tag().to_owned());
                index.manifests.push(Descriptor {
                    annotations: Some(annotations),
                    ..manifest.clone()
                });
                if let Some(top) = &top {
                    let tags = repositories.entry(name.familiar()).or_default();
                    tags.insert(name.tag().to_owned(), top.clone());
                }
            }
            if names.is_empty() {
                index.manifests.push(manifest);
            }
            docker.push(image);
        }
        let mut add = |name: &str, data: Vec<u8>| {
            files.insert(name.to_owned(), Content::Data(data));
        };
        add("index.json", to_json(&index)?);
        add("oci-layout", LAYOUT.to_vec());
        if format == Format::Docker {
            add("manifest.json", to_json(&docker)?);
            if !repositories.is_empty() {
                add("repositories", to_json(&repositories)?);
            }
        }
        Ok(files)
    }

    /// Add what belongs to an image; returns the descriptor of its manifest and
    /// its entry in `manifest.json`.
    fn add_image(
        &self,
        image: &Image,
        names: &[Reference],
        files: &mut Files,
    ) -> Result<(Descriptor, DockerImage)> {
        let mut descriptor = image.manifest.clone();
        let mut data = self.read_blob(&descriptor.digest, MAX_MANIFEST)?;
        let manifest = self.image_manifest(&descriptor)?;
        let config_data = self.read_blob(&manifest.config.digest, MAX_CONFIG)?;
        let mut blobs = Vec::new();
        for layer in layers_of(&manifest, &ImageConfig::parse(&config_data)?)? {
            let (blob, content) = self.blob_of(layer, &manifest.media_type)?;
            files.insert(path_of(&blob.digest), content);
            blobs.push(blob);
        }
        if blobs != manifest.layers {
            data = with_layers(&data, &blobs)?;
            descriptor.digest = Digest::of(&data);
            descriptor.size = data.len() as u64;
        }
        let config = path_of(&manifest.config.digest);
        files.insert(config.clone(), Content::Data(config_data));
        files.insert(path_of(&descriptor.digest), Content::Data(data));
        let tags: Vec<String> = names.iter().map(Reference::familiar_tagged).collect();
        Ok((
            descriptor,
            DockerImage {
                config,
                repo_tags: (!tags.is_empty()).then_some(tags),
                layers: Some(blobs.iter().map(|b| path_of(&b.digest)).collect()),
            },
        ))
    }

    /// The blob that stands for a layer: its own, the uncompressed archive, or
    /// another of the same layer.
    fn blob_of(
        &self,
        layer: ImageLayer,
        manifest: &Option<String>,
    ) -> Result<(Descriptor, Content)> {
        let size = match self.origin(&layer)? {
            Origin::Blob(blob) => return Ok((blob.clone(), Content::Blob(blob))),
            Origin::Tree(rebuilt) => rebuilt.size(),
        };
        if layer.blob.digest == layer.diff_id {
            return Ok((layer.blob.clone(), Content::Layer(layer, size)));
        }
        let docker = manifest.as_deref().is_some_and(|t| t.contains("docker"));
        let media_type = match docker {
            true => DOCKER_PLAIN,
            false => Encoding::Plain.media_type(),
        };
        let blob = Descriptor {
            media_type: media_type.to_owned(),
            digest: layer.diff_id,
            size,
            annotations: None,
            platform: None,
        };
        Ok((blob, Content::Layer(layer, size)))
    }
}

fn path_of(digest: &Digest) -> String {
    format!("blobs/sha256/{}", digest.hex())
}

/// A manifest with other blobs for its layers; all else stays as it is.
fn with_layers(data: &[u8], blobs: &[Descriptor]) -> Result<Vec<u8>> {
    let mut manifest: Value = parse(data, "manifest")?;
    let layers = serde_json::to_value(blobs)
        .map_err(|e| Error::Invalid(format!("cannot write as JSON: {e}")))?;
    match manifest.get_mut("layers") {
        Some(place) => *place = layers,
        None => return invalid("the manifest has no layers"),
    }
    to_json(&manifest)
}
