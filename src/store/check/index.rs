//! `index.json` and `oci-layout` made anew from what else there is.
//!
//! Every image is known by its manifest, which is among the blobs. Its names
//! are in `index.json` alone: entries that can still be read are kept, other
//! images get the names that containers were made by. An image whose names
//! nobody knows is listed without, and said to be so.

use super::Check;
use crate::store::digest::Digest;
use crate::store::document::{Descriptor, Index, MAX_MANIFEST, REF_NAME, Top, parse, parse_top};
use crate::store::error::{Error, Result, show};
use crate::store::image::{self, Image};
use crate::store::reference::Reference;
use crate::store::remove::User;
use crate::store::{LAYOUT, MAX_INDEX, read_file, replace_file};
use serde::Deserialize;
use std::collections::BTreeMap;

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Layout {
    image_layout_version: String,
}

impl Check<'_> {
    /// Is `oci-layout` what readers of the layout look for.
    pub(super) fn marker(&mut self) -> Result<()> {
        let path = self.store.root().join("oci-layout");
        let read = read_file(&path, 1 << 16).and_then(|data| parse::<Layout>(&data, "oci-layout"));
        let wrong = match read {
            Ok(layout) if layout.image_layout_version == "1.0.0" => return Ok(()),
            Ok(layout) => format!(
                "it is of version {}, not 1.0.0",
                show(layout.image_layout_version.as_bytes())
            ),
            Err(e @ Error::System(..)) => return Err(e),
            Err(e) => e.to_string(),
        };
        self.damaged("oci-layout", &wrong);
        if self.options.repair {
            let lock = self.store.lock()?;
            replace_file(&path, LAYOUT)?;
            drop(lock);
            self.mended(1, "oci-layout", "it was written again");
        }
        Ok(())
    }

    /// List the images again whose index cannot be read.
    pub(super) fn list_again(&mut self, users: &[User]) -> Result<Index> {
        let lock = self.store.lock()?;
        // Somebody may have been faster.
        match self.store.read_index() {
            Ok(index) => return Ok(index),
            Err(e @ Error::System(..)) => return Err(e),
            Err(_) => {}
        }
        let (mut index, mut names) = self.readable()?;
        let found = self.manifests()?;
        let kept = image::images(&index);
        // A name that was kept may be another image's since the container was made.
        let is_kept = |name: &Reference| kept.iter().any(|i| i.names.contains(name));
        for user in users {
            if let Some(name) = named_by(user).filter(|name| !is_kept(name)) {
                names.entry(name).or_insert(user.image);
            }
        }
        let mut lost = Vec::new();
        for image in &found {
            if image::image_of(&index, &image.id).is_some() {
                continue;
            }
            let own = names.iter().filter(|(_, id)| **id == image.id);
            let own: Vec<Reference> = own.map(|(name, _)| name.clone()).collect();
            for name in &own {
                image::assign(&mut index, image, Some(name));
            }
            if own.is_empty() {
                image::assign(&mut index, image, None);
                lost.push(image.id);
            }
        }
        self.store.write_index(&index)?;
        drop(lock);
        let all = image::images(&index);
        let how = format!(
            "{} images are listed again, {} by what could be read of it",
            all.len(),
            kept.len()
        );
        self.mended(1, "index.json", &how);
        for (name, id) in names {
            let is = all.iter().find(|i| i.names.contains(&name));
            let name = name.familiar_tagged();
            match is {
                Some(image) if image.id == id => {}
                _ => self.damaged(&format!("name {name}"), "its image is not here any more"),
            }
        }
        for id in lost {
            let why = format!(
                "what it was called is not known any more: name it with 'capas tag {} NAME'",
                id.short()
            );
            self.damaged(&format!("image {}", id.short()), &why);
        }
        Ok(index)
    }

    /// The entries that can still be read and are of images that are here, and
    /// the names of other images in such entries.
    fn readable(&mut self) -> Result<(Index, BTreeMap<Reference, Digest>)> {
        let path = self.store.root().join("index.json");
        let data = match read_file(&path, MAX_INDEX) {
            Err(e @ Error::System(..)) => return Err(e),
            read => read.unwrap_or_default(),
        };
        let text = String::from_utf8_lossy(&data);
        let mut index = Index::default();
        let mut names = BTreeMap::new();
        for entry in entries(&text) {
            let whole = match image::image_at(&entry) {
                Some(image) => {
                    let whole = self.documents(&image).is_ok();
                    for name in image.names.iter().filter(|_| !whole) {
                        names.insert(name.clone(), image.id);
                    }
                    whole && (!image.names.is_empty() || entry.annotation(REF_NAME).is_none())
                }
                None => self.blob_is(&entry.digest, entry.size).is_none(),
            };
            let name = entry.annotation(REF_NAME);
            let twice = |old: &Descriptor| name.is_some() && old.annotation(REF_NAME) == name;
            if whole && !index.manifests.iter().any(twice) {
                index.manifests.push(entry);
            }
        }
        Ok((index, names))
    }

    /// The images by the manifests among the blobs.
    fn manifests(&mut self) -> Result<Vec<Image>> {
        let mut digests: Vec<Digest> = self.good.iter().copied().collect();
        digests.sort();
        let mut out = Vec::new();
        for digest in &digests {
            // Layers are no documents, and mostly larger.
            let Ok(data) = self.store.read_blob(digest, MAX_MANIFEST) else {
                continue;
            };
            let Ok(Top::Manifest(manifest)) = parse_top(&data) else {
                continue;
            };
            let media_type = Top::Manifest(manifest.clone()).media_type().to_owned();
            let mut image = Image {
                id: manifest.config.digest,
                manifest: Descriptor {
                    media_type,
                    digest: *digest,
                    size: data.len() as u64,
                    annotations: None,
                    platform: None,
                },
                names: Vec::new(),
                digests: Vec::new(),
                created: None,
                size: 0,
            };
            if let Ok((_, config)) = self.documents(&image) {
                let layers = self.store.image_layers(&config).unwrap_or_default();
                image.size = layers.iter().map(|l| l.size).sum();
                image.created = config.created;
                out.push(image);
            }
        }
        Ok(out)
    }
}

/// The name that a container was made by, unless that was an id.
fn named_by(user: &User) -> Option<Reference> {
    let text = user.called.as_str();
    let is_id = text.starts_with("sha256:") || user.image.hex().starts_with(text);
    Reference::parse(text).ok().filter(|_| !is_id)
}

/// All that looks like an entry in a text that may be cut or altered anywhere.
fn entries(text: &str) -> Vec<Descriptor> {
    let mut out = Vec::new();
    let mut rest = text;
    while let Some(at) = rest.find('{') {
        rest = rest.get(at..).unwrap_or_default();
        let mut read = serde_json::Deserializer::from_str(rest).into_iter::<Descriptor>();
        let past = match read.next() {
            Some(Ok(entry)) => {
                out.push(entry);
                read.byte_offset()
            }
            _ => 1,
        };
        rest = rest.get(past..).unwrap_or_default();
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_are_read_out_of_what_is_left() {
        let digest = Digest::of(b"x");
        let one = |n: u64| format!(r#"{{"mediaType":"m","digest":"{digest}","size":{n}}}"#);
        let sizes = |text: &str| -> Vec<u64> { entries(text).iter().map(|e| e.size).collect() };
        let whole = format!(
            r#"{{"schemaVersion":2,"manifests":[{},{},{}]}}"#,
            one(1),
            one(2),
            one(3)
        );
        assert_eq!(sizes(&whole), [1, 2, 3]);
        for cut in 0..whole.len() {
            let left = sizes(&whole[..cut]);
            assert_eq!(left, &[1, 2, 3][..left.len()], "{cut}");
            let left = sizes(&whole[cut..]);
            assert_eq!(left, &[1, 2, 3][3 - left.len()..], "{cut}");
        }
        let torn = whole.replacen("\"size\":2", "\"size\":\0", 1);
        assert_eq!(sizes(&torn), [1, 3]);
        assert_eq!(sizes(""), [0; 0]);
    }
}
