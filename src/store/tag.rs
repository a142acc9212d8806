//! One more name for an image.

use super::document::{Index, REF_NAME};
use super::error::{Result, invalid, show};
use super::image::{assign, entries_of, find};
use super::reference::Name;
use super::{Digest, Store};

/// Annotation: when the entry got its name, RFC 3339.
const TAGGED: &str = "io.capas.image.tagged";

impl Store {
    /// Give the image `source` the name `text` too, taking it from the image
    /// that has it; `now` is kept as the time of it.
    ///
    /// # Errors
    /// When there is no such image, and for what is no name of a tag.
    pub fn tag(&self, source: &str, text: &str, now: &str) -> Result<()> {
        let name = Name::parse(text)?;
        if name.digest.is_some() {
            return invalid("refusing to create a tag with a digest reference");
        }
        let hex = |s: &str| s.len() == 64 && s.bytes().all(|b| b.is_ascii_hexdigit());
        if name.reference.familiar() == "sha256" || hex(&name.reference.familiar()) {
            return invalid(format!(
                "refusing to create the tag \"{}\", which would read as an id: give another name",
                show(text.as_bytes())
            ));
        }
        let _lock = self.lock()?;
        let mut index = self.read_index()?;
        let (image, _) = find(&index, source)?;
        assign(&mut index, &image, Some(&name.reference));
        let full = name.reference.to_string();
        for entry in &mut index.manifests {
            if entry.annotation(REF_NAME) == Some(&full)
                && let Some(annotations) = &mut entry.annotations
            {
                annotations.insert(TAGGED.to_owned(), now.to_owned());
            }
        }
        self.write_index(&index)
    }
}

/// When an image last got a name by [`Store::tag`].
pub fn last_tagged<'a>(index: &'a Index, id: &Digest) -> Option<&'a str> {
    entries_of(index, &id.to_string())
        .filter_map(|e| e.annotation(TAGGED))
        .max()
}
