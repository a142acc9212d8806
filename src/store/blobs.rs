//! The bytes of layers: from their blobs, or from skeletons and trees where
//! blobs have been dropped.

mod drop;

pub use drop::Dropped;

use super::Store;
use super::digest::Digest;
use super::document::{Descriptor, ImageConfig, MAX_CONFIG, Manifest};
use super::error::{Context, Error, Result, invalid};
use super::gc::{Live, if_whole};
use super::image::{Image, image_at};
use super::layer::chain_ids;
use super::pipeline::{Encoding, decoder};
use super::skeleton::{self, Rebuilt};
use super::verify::Verified;
use std::fs::{self, File};
use std::io::{BufReader, Read};
use std::path::PathBuf;

/// A layer of an image.
#[derive(Clone, Debug)]
pub struct ImageLayer {
    /// Digest of its uncompressed archive.
    pub diff_id: Digest,
    /// The chain that it ends.
    pub chain_id: Digest,
    /// The blob as the manifest has it, which need not be here.
    pub blob: Descriptor,
}

/// Where a layer's archive can be had from.
pub enum Origin {
    /// A blob that is here.
    Blob(Descriptor),
    /// Its tree.
    Tree(Rebuilt),
}

/// The layers of an image by its documents, bottom first.
///
/// # Errors
/// When the documents do not agree.
pub fn layers_of(manifest: &Manifest, config: &ImageConfig) -> Result<Vec<ImageLayer>> {
    let diffs = config.diff_ids();
    if diffs.len() != manifest.layers.len() {
        return invalid(format!(
            "the manifest has {} layers, the image configuration {}",
            manifest.layers.len(),
            diffs.len()
        ));
    }
    let chains = chain_ids(diffs);
    let layers = diffs.iter().zip(chains).zip(&manifest.layers);
    Ok(layers
        .map(|((diff_id, chain_id), blob)| ImageLayer {
            diff_id: *diff_id,
            chain_id,
            blob: blob.clone(),
        })
        .collect())
}

impl Store {
    /// The layers of an image, with what its manifest says of their blobs.
    ///
    /// # Errors
    /// When its documents are damaged or do not agree.
    pub fn described_layers(&self, image: &Image) -> Result<Vec<ImageLayer>> {
        let manifest = self.image_manifest(&image.manifest)?;
        let data = self.read_blob(&manifest.config.digest, MAX_CONFIG)?;
        layers_of(&manifest, &ImageConfig::parse(&data)?)
    }

    /// Is the blob here, as large as it should be.
    pub fn has_blob(&self, blob: &Descriptor) -> bool {
        fs::metadata(self.blob(&blob.digest)).is_ok_and(|m| m.len() == blob.size)
    }

    /// The bytes of a blob; reading ends in an error if they are not its.
    ///
    /// # Errors
    /// [`Error::NotFound`] when it is not here, else when it cannot be read or
    /// has another size.
    pub fn open_blob(&self, blob: &Descriptor) -> Result<Verified<File>> {
        let digest = blob.digest;
        let file = match File::open(self.blob(&digest)) {
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => {
                return Err(Error::NotFound(format!("blob {digest} is not here")));
            }
            file => file.context(|| format!("cannot open blob {digest}"))?,
        };
        let damaged = format!("blob {digest} is damaged");
        let meta = file
            .metadata()
            .context(|| format!("cannot look at blob {digest}"))?;
        if meta.len() != blob.size {
            return invalid(damaged);
        }
        Ok(Verified::new(file, digest, damaged))
    }

    /// A layer's uncompressed archive, made from its tree.
    ///
    /// # Errors
    /// [`Error::NotFound`] when the tree or its skeleton is not here.
    pub fn rebuild_layer(&self, diff_id: &Digest, chain_id: &Digest) -> Result<Rebuilt> {
        let Some(record) = self.find_layer(diff_id, chain_id)? else {
            return Err(Error::NotFound(format!(
                "layer {diff_id} is not in the store"
            )));
        };
        let name = record.name();
        skeleton::open(&self.skeleton(&name), &self.layer_dir(&name), diff_id)
    }

    /// Where a layer's archive can be had from, best first: its own blob, its
    /// tree, or the blob by which another image has the same layer.
    ///
    /// # Errors
    /// [`Error::NotFound`] when there is nothing.
    pub fn origin(&self, layer: &ImageLayer) -> Result<Origin> {
        if self.blob(&layer.blob.digest).exists() {
            return Ok(Origin::Blob(layer.blob.clone()));
        }
        match self.rebuild_layer(&layer.diff_id, &layer.chain_id) {
            Err(Error::NotFound(_)) => {}
            rebuilt => return Ok(Origin::Tree(rebuilt?)),
        }
        for other in self.all_layers()?.0 {
            if other.diff_id == layer.diff_id && self.has_blob(&other.blob) {
                return Ok(Origin::Blob(other.blob));
            }
        }
        Err(Error::NotFound(format!(
            "layer {} is not in the store: neither its blob {} nor a skeleton (pull or load the image again)",
            layer.diff_id, layer.blob.digest
        )))
    }

    /// A layer's uncompressed archive, wherever it can be had from. Reading
    /// ends in an error if the bytes are not those of the DiffID; who holds
    /// [`Store::lock_reading`] meanwhile does not lose it to a sweep.
    ///
    /// # Errors
    /// [`Error::NotFound`] when it cannot be had.
    pub fn open_layer(&self, layer: &ImageLayer) -> Result<Box<dyn Read + Send>> {
        let blob = match self.origin(layer)? {
            Origin::Tree(rebuilt) => return Ok(Box::new(rebuilt)),
            Origin::Blob(blob) => blob.digest,
        };
        let say = || format!("cannot read blob {blob}");
        let file = File::open(self.blob(&blob)).context(say)?;
        let mut input = BufReader::with_capacity(256 << 10, file);
        let encoding = Encoding::of(std::io::BufRead::fill_buf(&mut input).context(say)?);
        let plain = decoder(encoding, input).context(say)?;
        let damaged = format!("blob {blob} is damaged");
        Ok(Box::new(Verified::new(plain, layer.diff_id, damaged)))
    }

    /// The layers of all images, by all their manifests, and what those images
    /// may need whose documents are damaged.
    fn all_layers(&self) -> Result<(Vec<ImageLayer>, Live)> {
        let (mut out, mut doubtful) = (Vec::new(), Live::default());
        for entry in &self.read_index()?.manifests {
            let Some(image) = image_at(entry) else {
                continue;
            };
            match if_whole(self.described_layers(&image))? {
                Ok(layers) => out.extend(layers),
                Err(_) => self.mark(entry, &mut doubtful)?,
            }
        }
        Ok((out, doubtful))
    }

    /// Where the skeleton of the layer of that name is, if it has one.
    pub fn skeleton(&self, name: &Digest) -> PathBuf {
        self.layers().join(format!("{}.skel", name.hex()))
    }
}
