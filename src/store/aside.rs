//! Layers unpacked in staging: how a tree begins, how it gets its final form,
//! and both for a blob that the store has.

use super::Store;
use super::archive::Range;
use super::complete::complete;
use super::digest::Digest;
use super::document::Descriptor;
use super::error::{Context, Result, invalid};
use super::layer::LayerRecord;
use super::pipeline::{self, Job};
use super::tarwriter::copy_exactly;
use super::unpack::{Limits, Unpacked, Unpacker};
use crate::sys::fs as sfs;
use crate::sys::tree;
use std::fs::{self, File};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;

/// What writes a tree to the new directory `path`. The disk is never filled.
///
/// # Errors
/// When the directory cannot be made.
pub fn unpacker(path: &Path) -> Result<Unpacker> {
    let say = || format!("cannot make {}", path.display());
    fs::DirBuilder::new()
        .mode(0o700)
        .create(path)
        .context(say)?;
    let root = File::open(path).context(say)?;
    let free = tree::free_bytes(&root).context(say)?;
    let limits = Limits {
        bytes: free.saturating_sub(free / 20),
        ..Limits::default()
    };
    Unpacker::new(&root, limits)
}

/// Give the tree at `made` its final form on the layers `below` it, top first.
///
/// # Errors
/// When it refers to something that is not below, and when writing fails.
pub fn settle(
    made: &Path,
    mut tree: Unpacked,
    diff_id: Digest,
    chain: Digest,
    below: &[PathBuf],
) -> Result<LayerRecord> {
    let dependent = !tree.implicit.is_empty() || !tree.links.is_empty();
    if dependent {
        let dirs: Vec<&Path> = below.iter().map(PathBuf::as_path).collect();
        complete(made, &mut tree, &dirs)?;
    }
    Ok(LayerRecord {
        diff_id,
        chain_id: dependent.then_some(chain),
        size: tree.size,
        members: tree.members,
        root_entry: tree.root_entry,
        root_opaque: tree.root_opaque,
    })
}

impl Store {
    /// Unpack a layer once more, to the new directory `made`: from its blob, or
    /// where that was dropped from the archive that its tree gives.
    ///
    /// # Errors
    /// When the blob is not what `blob` and `diff_id` say, cannot be made or
    /// unpacked, or the disk is full.
    pub fn unpack_again(
        &self,
        made: &Path,
        blob: &Descriptor,
        diff_id: Digest,
        chain: Digest,
        below: &[PathBuf],
    ) -> Result<LayerRecord> {
        let path = self.blob(&blob.digest);
        let say = || format!("cannot read {}", path.display());
        let (file, expected) = match File::open(&path) {
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => {
                (self.spool_layer(&diff_id, &chain)?, None)
            }
            file => (file.context(say)?, Some((blob.digest, blob.size))),
        };
        let done = pipeline::run(
            Job {
                source: Range::whole(file).context(say)?,
                expected,
                diff_id,
                keep: None,
                cancel: &AtomicBool::new(false),
            },
            Some(unpacker(made)?),
        )?;
        match done.unpacked {
            Some(tree) => settle(made, tree, diff_id, chain, below),
            None => invalid("the layer was not unpacked"),
        }
    }

    /// The archive that a layer's tree gives, in a file without a name.
    fn spool_layer(&self, diff_id: &Digest, chain: &Digest) -> Result<File> {
        let mut archive = self.rebuild_layer(diff_id, chain)?;
        let say = || "cannot write to staging".to_owned();
        let tmp = File::open(self.tmp()).context(say)?;
        let mut file = File::from(sfs::open_tmpfile(&tmp).context(say)?);
        let size = archive.size();
        copy_exactly(&mut archive, size, &mut file, "the layer's archive")?;
        Ok(file)
    }
}
