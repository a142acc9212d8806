//! The images that are listed: found by name or id, with what is known of them.
//!
//! `index.json` has one descriptor per name, and one without a name for an
//! image that has none. What people see in lists is kept in annotations, so
//! that listing reads one file.

use super::digest::Digest;
use super::document::{
    Annotations, Descriptor, ImageConfig, Index, MAX_CONFIG, MAX_MANIFEST, Manifest, REF_NAME, Top,
    parse_top,
};
use super::error::{Error, Result, invalid, show};
use super::layer::{LayerRecord, chain_ids};
use super::reference::{Name, Reference};
use super::repo_digest::{RepoDigest, digests_of, set_digests};
use super::{Store, document};

/// Annotation: the image's id. An entry without it is not ours to list, as its
/// layers are not unpacked.
pub(super) const ID: &str = "io.capas.image.id";
const CREATED: &str = "io.capas.image.created";
/// Annotation: what is wrong with the image. Only [`super::check`] sets it and
/// takes it away; all names of the image carry it.
pub(super) const DAMAGED: &str = "io.capas.image.damaged";
const SIZE: &str = "io.capas.image.size";

/// An image that is listed.
#[derive(Clone, Debug)]
pub struct Image {
    /// Digest of its configuration.
    pub id: Digest,
    /// Its manifest.
    pub manifest: Descriptor,
    /// Its names.
    pub names: Vec<Reference>,
    /// What registries call it.
    pub digests: Vec<RepoDigest>,
    /// RFC 3339, if it is known.
    pub created: Option<String>,
    /// Bytes of its layers' files.
    pub size: u64,
}

/// How an image was asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Asked {
    /// By that name.
    Name(Reference),
    /// By what a registry calls it.
    Digest(RepoDigest),
    /// By its id, or the beginning of it.
    Id,
}

impl Image {
    /// A descriptor for `index.json`.
    pub fn entry(&self, name: Option<&Reference>) -> Descriptor {
        let mut annotations = Annotations::default();
        if let Some(name) = name {
            annotations.insert(REF_NAME.to_owned(), name.to_string());
        }
        annotations.insert(ID.to_owned(), self.id.to_string());
        annotations.insert(SIZE.to_owned(), self.size.to_string());
        if let Some(created) = &self.created {
            annotations.insert(CREATED.to_owned(), created.clone());
        }
        Descriptor {
            annotations: Some(annotations),
            ..self.manifest.clone()
        }
    }

    /// What the registry of a name calls it, last asked first.
    pub fn digest_in(&self, name: &Reference) -> Option<&RepoDigest> {
        self.digests.iter().find(|d| d.is_in(name))
    }

    /// Its first name, or its short id.
    pub fn title(&self) -> String {
        match self.names.first() {
            Some(name) => name.familiar_tagged(),
            None => self.id.short(),
        }
    }
}

/// The images of an index, in its order.
pub fn images(index: &Index) -> Vec<Image> {
    gather(index.manifests.iter())
}

/// One image of an index.
pub(super) fn image_of(index: &Index, id: &Digest) -> Option<Image> {
    gather(entries_of(index, &id.to_string())).pop()
}

/// The entries of an image, whose id is given as a text.
pub(super) fn entries_of<'a>(index: &'a Index, id: &str) -> impl Iterator<Item = &'a Descriptor> {
    let all = index.manifests.iter();
    all.filter(move |entry| entry.annotation(ID) == Some(id))
}

/// The image of one entry: an image may be here by several manifests, for
/// example with its layers compressed and not.
pub(super) fn image_at(entry: &Descriptor) -> Option<Image> {
    gather(std::iter::once(entry)).pop()
}

/// The images that some entries list.
fn gather<'a>(entries: impl Iterator<Item = &'a Descriptor>) -> Vec<Image> {
    let mut out: Vec<Image> = Vec::new();
    let mut places: std::collections::HashMap<Digest, usize> = std::collections::HashMap::new();
    for entry in entries {
        let Some(Ok(id)) = entry.annotation(ID).map(Digest::parse) else {
            continue;
        };
        let name = entry
            .annotation(REF_NAME)
            .and_then(|n| Reference::parse(n).ok());
        let place = *places.entry(id).or_insert(out.len());
        if place == out.len() {
            out.push(Image {
                id,
                manifest: Descriptor {
                    media_type: entry.media_type.clone(),
                    digest: entry.digest,
                    size: entry.size,
                    annotations: None,
                    platform: entry.platform.clone(),
                },
                names: Vec::new(),
                digests: digests_of(entry),
                created: entry.annotation(CREATED).map(str::to_owned),
                size: entry
                    .annotation(SIZE)
                    .and_then(|s| s.parse().ok())
                    .unwrap_or(0),
            });
        }
        if let Some(image) = out.get_mut(place) {
            image.names.extend(name);
        }
    }
    out
}

/// The images with which something is wrong, and what.
pub fn damages(index: &Index) -> std::collections::HashMap<Digest, &str> {
    let all = index.manifests.iter().filter_map(|entry| {
        let why = entry.annotation(DAMAGED)?;
        Some((Digest::parse(entry.annotation(ID)?).ok()?, why))
    });
    all.collect()
}

/// What is wrong with an image, if that was found out.
pub fn damage<'a>(index: &'a Index, id: &Digest) -> Option<&'a str> {
    entries_of(index, &id.to_string()).find_map(|d| d.annotation(DAMAGED))
}

/// Write down what is wrong with an image, or that nothing is any more.
/// Returns whether that is new.
pub(super) fn set_damage(index: &mut Index, id: &Digest, why: Option<&str>) -> bool {
    let id = id.to_string();
    let mut changed = false;
    for entry in &mut index.manifests {
        if entry.annotation(ID) != Some(&id) || entry.annotation(DAMAGED) == why {
            continue;
        }
        let annotations = entry.annotations.get_or_insert_default();
        match why {
            Some(why) => annotations.insert(DAMAGED.to_owned(), why.to_owned()),
            None => annotations.remove(DAMAGED),
        }
        changed = true;
    }
    changed
}

/// List an image under `name`, which is taken from another that has it. An
/// image that loses its last name stays, nameless. Returns that image's id.
pub fn assign(index: &mut Index, image: &Image, name: Option<&Reference>) -> Option<Digest> {
    let mut digests = image.digests.clone();
    if let Some(known) = image_of(index, &image.id) {
        let new = known
            .digests
            .into_iter()
            .filter(|d| !image.digests.contains(d));
        digests.extend(new);
    }
    let damaged = damage(index, &image.id).map(str::to_owned);
    let robbed = list(index, image, name);
    set_digests(index, &image.id, &digests);
    if damaged.is_some() {
        set_damage(index, &image.id, damaged.as_deref());
    }
    robbed
}

fn list(index: &mut Index, image: &Image, name: Option<&Reference>) -> Option<Digest> {
    let mut robbed = None;
    if let Some(name) = name {
        let full = name.to_string();
        let taken = index
            .manifests
            .iter()
            .position(|d| d.annotation(REF_NAME) == Some(&full));
        if let Some(at) = taken {
            let mut old = index.manifests.remove(at);
            let id = old.annotation(ID).and_then(|id| Digest::parse(id).ok());
            if let Some(id) = id.filter(|id| *id != image.id) {
                let listed = index
                    .manifests
                    .iter()
                    .any(|d| d.annotation(ID) == old.annotation(ID));
                if !listed {
                    if let Some(annotations) = &mut old.annotations {
                        annotations.remove(REF_NAME);
                    }
                    index.manifests.push(old);
                    robbed = Some(id);
                }
            }
        }
    }
    let id = image.id.to_string();
    // A name replaces the nameless entry; without a name any entry is enough.
    let listed = |d: &Descriptor| d.annotation(ID) == Some(&id);
    match name {
        Some(_) => index
            .manifests
            .retain(|d| !(listed(d) && d.annotation(REF_NAME).is_none())),
        None if index.manifests.iter().any(listed) => return robbed,
        None => {}
    }
    index.manifests.push(image.entry(name));
    robbed
}

/// What is read of a configuration where only labels are asked for.
#[derive(serde::Deserialize)]
struct Labelled {
    config: Option<Labels>,
}

#[derive(Default, serde::Deserialize)]
struct Labels {
    #[serde(rename = "Labels", default)]
    labels: serde_json::Value,
}

impl Store {
    /// All images.
    ///
    /// # Errors
    /// When the index is damaged.
    pub fn images(&self) -> Result<Vec<Image>> {
        Ok(images(&self.read_index()?))
    }

    /// Write down what a registry calls an image from now on.
    ///
    /// # Errors
    /// When the index cannot be read or written.
    pub fn note_digest(&self, image: &Image, digest: RepoDigest) -> Result<()> {
        let _lock = self.lock()?;
        let mut index = self.read_index()?;
        match image_of(&index, &image.id) {
            Some(listed) if !listed.digests.contains(&digest) => {
                let mut digests = vec![digest];
                digests.extend(listed.digests);
                set_digests(&mut index, &image.id, &digests);
                self.write_index(&index)
            }
            _ => Ok(()),
        }
    }

    /// Refuse an image that was found to be damaged.
    ///
    /// # Errors
    /// [`Error::Conflict`], which says what to do.
    pub fn refuse_damaged(&self, image: &Image) -> Result<()> {
        match damage(&self.read_index()?, &image.id) {
            Some(why) => Err(Error::Conflict(format!(
                "image {} is damaged: {}: load or pull it again, then run 'capas check --repair'",
                image.title(),
                show(why.as_bytes())
            ))),
            None => Ok(()),
        }
    }

    /// The image of that name or id.
    ///
    /// # Errors
    /// When there is none, or several.
    pub fn find_image(&self, text: &str) -> Result<(Image, Asked)> {
        find(&self.read_index()?, text)
    }

    /// The configuration of an image, and its bytes.
    ///
    /// # Errors
    /// When its blob is damaged.
    pub fn image_config(&self, id: &Digest) -> Result<(ImageConfig, Vec<u8>)> {
        let data = self.read_blob(id, MAX_CONFIG)?;
        Ok((ImageConfig::parse(&data)?, data))
    }

    /// The labels in the configuration of an image; null without any.
    ///
    /// # Errors
    /// When its blob is damaged.
    pub fn image_labels(&self, id: &Digest) -> Result<serde_json::Value> {
        let data = self.read_blob(id, MAX_CONFIG)?;
        let Labelled { config } = document::parse(&data, "image configuration")?;
        Ok(config.unwrap_or_default().labels)
    }

    /// The manifest of an image.
    ///
    /// # Errors
    /// When its blob is damaged.
    pub fn image_manifest(&self, descriptor: &Descriptor) -> Result<Manifest> {
        match parse_top(&self.read_blob(&descriptor.digest, MAX_MANIFEST)?)? {
            Top::Manifest(manifest) => Ok(manifest),
            Top::Index(_) => invalid("an index where an image's manifest should be"),
        }
    }

    /// The unpacked layers of an image, bottom first.
    ///
    /// # Errors
    /// When one is missing.
    pub fn image_layers(&self, config: &ImageConfig) -> Result<Vec<LayerRecord>> {
        let diffs = config.diff_ids();
        let chains = chain_ids(diffs);
        diffs
            .iter()
            .zip(&chains)
            .map(|(diff, chain)| {
                self.find_layer(diff, chain)?
                    .ok_or_else(|| Error::NotFound(format!("layer {diff} is not in the store")))
            })
            .collect()
    }
}

/// Find an image as docker does: by name first, then by id.
///
/// # Errors
/// When there is none, or several.
pub fn find(index: &Index, text: &str) -> Result<(Image, Asked)> {
    let absent = || Error::NotFound(format!("No such image: {}", show(text.as_bytes())));
    let of = |id: Digest, asked| image_of(index, &id).map(|i| (i, asked)).ok_or_else(absent);
    let id_of = |d: &Descriptor| Digest::parse(d.annotation(ID)?).ok();
    if let Ok(name) = Name::parse(text)
        && !text.starts_with("sha256:")
    {
        // Beside a digest a tag means nothing.
        if let Some(digest) = name.digest {
            let images = images(index);
            let wanted = RepoDigest::new(&name.reference, digest);
            if let Some(image) = images.iter().find(|i| i.digests.contains(&wanted)) {
                return Ok((image.clone(), Asked::Digest(wanted)));
            }
            // What never was in a registry has digests too.
            let is_it = |i: &&Image| {
                (i.manifest.digest == digest || i.id == digest)
                    && i.names.iter().any(|n| wanted.is_in(n))
            };
            let image = images.iter().find(is_it).cloned();
            return image.map(|i| (i, Asked::Id)).ok_or_else(absent);
        }
        // Names are written in full, so only one entry needs to be read.
        let full = name.reference.to_string();
        let mut named = index
            .manifests
            .iter()
            .filter(|d| d.annotation(REF_NAME) == Some(&full));
        if let Some(id) = named.find_map(id_of) {
            return of(id, Asked::Name(name.reference));
        }
    }
    let hex = text.strip_prefix("sha256:").unwrap_or(text);
    if hex.is_empty() || hex.len() > 64 || !hex.bytes().all(|b| b.is_ascii_hexdigit()) {
        return Err(absent());
    }
    let begins = |d: &&Descriptor| {
        let id = d.annotation(ID).and_then(|id| id.strip_prefix("sha256:"));
        id.is_some_and(|id| id.starts_with(hex))
    };
    let mut found = index.manifests.iter().filter(begins).filter_map(id_of);
    let first = found.next().ok_or_else(absent)?;
    if found.any(|other| other != first) {
        return invalid(format!(
            "several images begin with {hex}: give more of the id"
        ));
    }
    of(first, Asked::Id)
}

/// The value of an image's configuration as it came, for those who show it.
///
/// # Errors
/// When it is no JSON.
pub fn raw_config(data: &[u8]) -> Result<serde_json::Value> {
    document::parse(data, "image configuration")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn image(n: u8) -> Image {
        let id = Digest::of(&[n]);
        Image {
            id,
            manifest: Descriptor {
                media_type: document::MANIFEST.to_owned(),
                digest: Digest::of(&[n, n]),
                size: 2,
                annotations: None,
                platform: None,
            },
            names: Vec::new(),
            digests: Vec::new(),
            created: None,
            size: 7,
        }
    }

    #[test]
    fn a_name_that_is_taken_leaves_a_nameless_image() {
        let mut index = Index::default();
        let (a, b) = (image(1), image(2));
        let name = Reference::parse("x:1").unwrap();
        assert_eq!(assign(&mut index, &a, Some(&name)), None);
        assert_eq!(assign(&mut index, &a, Some(&name)), None);
        assert_eq!(images(&index).len(), 1);
        assert_eq!(assign(&mut index, &b, Some(&name)), Some(a.id));
        let all = images(&index);
        assert_eq!(all.len(), 2);
        assert_eq!(all.iter().find(|i| i.id == a.id).unwrap().names, []);
        assert_eq!(find(&index, "x:1").unwrap().0.id, b.id);
        assert_eq!(find(&index, &a.id.hex()[..5]).unwrap().0.id, a.id);
        assert_eq!(find(&index, &a.id.to_string()).unwrap().1, Asked::Id);
        // A name again, and the nameless entry is gone.
        assign(&mut index, &a, Some(&Reference::parse("y").unwrap()));
        assert_eq!(index.manifests.len(), 2);
        assert!(find(&index, "z").is_err());
    }

    #[test]
    fn the_beginning_of_an_id_must_be_that_of_one_image() {
        let mut index = Index::default();
        let first = |n: u8| image(n).id.hex()[..1].to_owned();
        // Some two of so many begin with the same.
        let other = (2..=255).find(|n| first(*n) == first(1)).unwrap();
        let (a, b) = (image(1), image(other));
        assign(&mut index, &a, Some(&Reference::parse("x:1").unwrap()));
        // One image with several names is one.
        assign(&mut index, &a, Some(&Reference::parse("y:1").unwrap()));
        assert_eq!(find(&index, &first(1)).unwrap().0.id, a.id);
        assign(&mut index, &b, None);
        let e = find(&index, &first(1)).unwrap_err().to_string();
        let begin = first(1);
        assert_eq!(
            e,
            format!("several images begin with {begin}: give more of the id")
        );
        let (hex_a, hex_b) = (a.id.hex(), b.id.hex());
        let differ = hex_a
            .bytes()
            .zip(hex_b.bytes())
            .position(|(x, y)| x != y)
            .unwrap();
        assert!(find(&index, &hex_a[..differ]).is_err());
        for image in [&a, &b] {
            let hex = image.id.hex();
            assert_eq!(find(&index, &hex[..=differ]).unwrap().0.id, image.id);
            let long = format!("sha256:{}", &hex[..=differ]);
            assert_eq!(find(&index, &long).unwrap().0.id, image.id);
        }
        // What a name could be is one, if there is such a name.
        assign(
            &mut index,
            &b,
            Some(&Reference::parse(&hex_a[..12]).unwrap()),
        );
        assert_eq!(find(&index, &hex_a[..12]).unwrap().0.id, b.id);
    }

    #[test]
    fn what_registries_call_an_image_stays_with_it() {
        let mut index = Index::default();
        let name = |n: &str| Reference::parse(n).unwrap();
        let called = |n: &str, b: &[u8]| RepoDigest::new(&name(n), Digest::of(b));
        let mut a = image(1);
        a.digests = vec![called("x", b"index")];
        assign(&mut index, &a, Some(&name("x:1")));
        a.digests = vec![called("h.example/y", b"other")];
        assign(&mut index, &a, Some(&name("h.example/y:2")));
        // The tag goes to another image, the digest stays.
        assign(&mut index, &image(2), Some(&name("x:1")));
        let text = format!("x@{}", Digest::of(b"index"));
        let (found, asked) = find(&index, &text).unwrap();
        assert_eq!((found.id, found.names.len()), (a.id, 1));
        assert_eq!(asked, Asked::Digest(called("x", b"index")));
        assert_eq!(found.digests[1].familiar(), text);
        assert_eq!(found.digest_in(&name("x:9")).unwrap().familiar(), text);
        // Without a name, and asked for by digest alone.
        a.digests = vec![called("x", b"third")];
        assign(&mut index, &a, None);
        assert_eq!(images(&index)[0].digests.len(), 3);
        for other in [
            format!("y@{}", Digest::of(b"index")),
            format!("x@{}", Digest::of(b"no")),
        ] {
            assert!(find(&index, &other).is_err(), "{other}");
        }
    }

    #[test]
    fn what_is_wrong_with_an_image_stays_with_every_name() {
        let mut index = Index::default();
        let name = |n: &str| Reference::parse(n).unwrap();
        assign(&mut index, &image(1), Some(&name("x:1")));
        assign(&mut index, &image(2), Some(&name("y:1")));
        assert!(set_damage(&mut index, &image(1).id, Some("a blob is lost")));
        assert!(!set_damage(
            &mut index,
            &image(1).id,
            Some("a blob is lost")
        ));
        // The same name again, and another one.
        assign(&mut index, &image(1), Some(&name("x:1")));
        assign(&mut index, &image(1), Some(&name("x:2")));
        let marked = |d: &&Descriptor| d.annotation(DAMAGED).is_some();
        assert_eq!(index.manifests.iter().filter(marked).count(), 2);
        assert_eq!(damage(&index, &image(1).id), Some("a blob is lost"));
        assert_eq!(damage(&index, &image(2).id), None);
        assert!(set_damage(&mut index, &image(1).id, None));
        assert_eq!(index.manifests.iter().filter(marked).count(), 0);
    }
}
