//! What registries call an image, as it stands in `index.json`.

use super::digest::Digest;
use super::document::{Descriptor, Index};
use super::image::ID;
use super::reference::{Name, Reference};

/// Annotation: what registries call the image, `repository@digest` separated by
/// blanks. The digest is that of the document that the tag meant, an index
/// where it was one; such an index is kept as a blob. Every entry of an image
/// carries all of them.
const DIGESTS: &str = "io.capas.image.digests";

/// What a registry calls an image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RepoDigest {
    /// The repository, with the default tag.
    repository: Reference,
    /// What its manifest or index has there.
    pub digest: Digest,
}

impl RepoDigest {
    /// In the repository of that name.
    pub fn new(repository: &Reference, digest: Digest) -> RepoDigest {
        RepoDigest {
            repository: repository.repository(),
            digest,
        }
    }

    /// Is it in the repository of that name.
    pub fn is_in(&self, name: &Reference) -> bool {
        self.repository.same_repository(name)
    }

    /// The repository.
    pub fn repository(&self) -> &Reference {
        &self.repository
    }

    /// As people write it: `debian@sha256:…`.
    pub fn familiar(&self) -> String {
        format!("{}@{}", self.repository.familiar(), self.digest)
    }
}

impl std::fmt::Display for RepoDigest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (domain, path) = (self.repository.domain(), self.repository.path());
        write!(f, "{domain}/{path}@{}", self.digest)
    }
}

/// What registries call the image of an entry.
pub(super) fn digests_of(entry: &Descriptor) -> Vec<RepoDigest> {
    let words = entry.annotation(DIGESTS).unwrap_or_default();
    words
        .split_ascii_whitespace()
        .filter_map(|text| match Name::parse(text) {
            Ok(Name {
                reference,
                digest: Some(digest),
                ..
            }) => Some(RepoDigest::new(&reference, digest)),
            _ => None,
        })
        .collect()
}

/// Write down what registries call an image.
pub(super) fn set_digests(index: &mut Index, id: &Digest, digests: &[RepoDigest]) {
    let id = id.to_string();
    let text: Vec<String> = digests.iter().map(RepoDigest::to_string).collect();
    for entry in &mut index.manifests {
        if entry.annotation(ID) == Some(&id) {
            let annotations = entry.annotations.get_or_insert_default();
            match text.is_empty() {
                true => annotations.remove(DIGESTS),
                false => annotations.insert(DIGESTS.to_owned(), text.join(" ")),
            }
        }
    }
}
