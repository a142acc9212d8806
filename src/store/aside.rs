//! Layers unpacked in staging: how a tree begins, how it gets its final form,
//! and both for an archive that the store has.

use super::archive::Range;
use super::complete::complete;
use super::digest::Digest;
use super::error::{Context, Result, invalid};
use super::layer::LayerRecord;
use super::pipeline::{self, Blob, Job};
use super::unpack::{Limits, Unpacked, Unpacker};
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

/// Unpack a layer's archive once more, to the new directory `made`.
/// `blob` is its digest and size, where it must have one.
///
/// # Errors
/// When the archive is not what `blob` and `diff_id` say, cannot be
/// unpacked, or the disk is full.
pub fn unpack_again(
    made: &Path,
    (archive, blob): (File, Option<(Digest, u64)>),
    diff_id: Digest,
    chain: Digest,
    below: &[PathBuf],
) -> Result<LayerRecord> {
    let range = Range::whole(archive).context(|| "cannot read the layer".to_owned())?;
    let job = Job {
        source: Blob {
            size: range.len(),
            reader: Box::new(range),
        },
        expected: blob,
        diff_id,
        keep: None,
        cancel: &AtomicBool::new(false),
    };
    match pipeline::run(job, Some(unpacker(made)?))?.unpacked {
        Some(tree) => settle(made, tree, diff_id, chain, below),
        None => invalid("the layer was not unpacked"),
    }
}
