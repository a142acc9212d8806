//! What `index.json` lists is there and fits together.

use super::Check;
use crate::store::digest::Digest;
use crate::store::document::{
    Descriptor, ImageConfig, Index, MAX_CONFIG, MAX_MANIFEST, Manifest, Top, parse_top,
};
use crate::store::image::{Image, image_at};
use crate::store::layer::chain_ids;
use std::collections::HashSet;

/// Whose a layer is.
#[derive(Clone)]
pub(super) enum Owner {
    /// An image's: its id, and how people call it.
    Image(Digest, String),
    /// What a step of a build has made.
    Step(Digest),
    /// Below what a step has made, and an image's or another step's.
    Below,
}

/// A layer at its place in an image, or on what a step was done on.
pub(super) struct Placed {
    pub owner: Owner,
    pub blob: Descriptor,
    pub diff_id: Digest,
    pub chain: Digest,
    /// The first of those that are mounted together.
    pub bottom: bool,
}

impl Check<'_> {
    /// Check every entry; returns the layers of the images, each image's
    /// bottom first.
    pub(super) fn images(&mut self, index: &Index) -> Vec<Placed> {
        let mut seen = HashSet::new();
        let mut ids = HashSet::new();
        let mut layers = Vec::new();
        for entry in &index.manifests {
            if !seen.insert(entry.digest) {
                continue;
            }
            match image_at(entry) {
                Some(image) => {
                    ids.insert(image.id);
                    layers.extend(self.image(&image));
                }
                // What another program has listed here need only be whole.
                None => {
                    if let Some(why) = self.blob_is(&entry.digest, entry.size) {
                        self.damaged("an entry of index.json that is no image of ours", &why);
                    }
                }
            }
        }
        self.report.images = ids.len();
        layers
    }

    fn image(&mut self, image: &Image) -> Vec<Placed> {
        let (manifest, config) = match self.documents(image) {
            Ok(documents) => documents,
            Err(why) => {
                self.image_damaged(&image.id, &image.title(), &why);
                return Vec::new();
            }
        };
        let diffs = config.diff_ids();
        let layers = manifest.layers.into_iter().zip(diffs).zip(chain_ids(diffs));
        let placed = layers
            .enumerate()
            .map(|(n, ((blob, diff_id), chain))| Placed {
                owner: Owner::Image(image.id, image.title()),
                blob,
                diff_id: *diff_id,
                chain,
                bottom: n == 0,
            });
        placed.collect()
    }

    pub(super) fn documents(
        &mut self,
        image: &Image,
    ) -> std::result::Result<(Manifest, ImageConfig), String> {
        let text = |e: crate::store::Error| e.to_string();
        let top = &image.manifest;
        self.blob_is(&top.digest, top.size).map_or(Ok(()), Err)?;
        let data = self
            .store
            .read_blob(&top.digest, MAX_MANIFEST)
            .map_err(text)?;
        let Top::Manifest(manifest) = parse_top(&data).map_err(text)? else {
            return Err("its manifest is an index".to_owned());
        };
        let config = &manifest.config;
        self.blob_is(&config.digest, config.size)
            .map_or(Ok(()), Err)?;
        if manifest.config.digest != image.id {
            return Err(format!(
                "its manifest names another image: {}",
                manifest.config.digest
            ));
        }
        let data = self.store.read_blob(&image.id, MAX_CONFIG).map_err(text)?;
        let config = ImageConfig::parse(&data).map_err(text)?;
        if config.diff_ids().len() != manifest.layers.len() {
            return Err(format!(
                "its manifest has {} layers, its configuration {}",
                manifest.layers.len(),
                config.diff_ids().len()
            ));
        }
        Ok((manifest, config))
    }

    /// The first reason is the one that is kept.
    pub(super) fn image_damaged(&mut self, id: &Digest, title: &str, why: &str) {
        self.damaged(&format!("image {title}"), why);
        self.bad.entry(*id).or_insert_with(|| why.to_owned());
    }
}
