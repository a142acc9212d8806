//! What a container has changed, as people are told.

use super::changes::{Change, What};
use super::{Containers, Record};
use crate::store::error::Result;

/// How a name has changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// The image does not have it.
    Added,
    /// The image has it, or another thing of that name; of a directory: it or
    /// something in it.
    Changed,
    /// The image alone has it.
    Deleted,
}

impl Containers<'_> {
    /// All names that a container has changed, in their order, without a leading
    /// slash. Of what is deleted only the topmost.
    ///
    /// # Errors
    /// When a tree cannot be read.
    pub fn diff(&self, record: &Record) -> Result<Vec<(Kind, Vec<u8>)>> {
        let changes = self.changes(record, &self.trees(record)?)?;
        let mut out = Vec::new();
        for (n, change) in changes.iter().enumerate() {
            if change.path.is_empty() {
                continue;
            }
            let below = [change.path.as_slice(), b"/"].concat();
            let next = changes.get(n + 1);
            let around = next.is_some_and(|c| c.path.starts_with(&below));
            let kind = match (&change.what, change.before) {
                (What::Gone | What::GoneBefore, _) => Kind::Deleted,
                (What::Here { .. }, None) => Kind::Added,
                (What::Here { .. }, Some(_)) if !around && is_as_before(change) => continue,
                (What::Here { .. }, Some(_)) => Kind::Changed,
            };
            out.push((kind, change.path.clone()));
        }
        Ok(out)
    }
}

/// Is it a directory that was only copied for something that is gone again.
fn is_as_before(change: &Change) -> bool {
    match (&change.what, &change.before) {
        (What::Here { stat, .. }, Some(before)) => {
            stat.is_dir()
                && !change.replaces
                && (stat.mode, stat.uid, stat.gid, stat.mtime)
                    == (before.mode, before.uid, before.gid, before.mtime)
        }
        _ => false,
    }
}
