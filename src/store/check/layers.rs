//! Layers are what their archives say.

use super::compare::compare;
use super::images::Placed;
use super::{Check, Finding};
use crate::store::digest::Digest;
use crate::store::document::Descriptor;
use crate::store::error::{Context, Error, Result, show};
use crate::store::layer::LayerRecord;
use crate::store::{document, read_file, replace_file, sync_dir, to_json};
use crate::sys::fs::{self as sfs, Replace};
use crate::sys::tree;
use std::collections::HashMap;
use std::ffi::OsStr;
use std::fs::File;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// Differences of one layer that are told one by one.
const TOLD: usize = 20;

/// A layer that was dealt with.
enum Verdict {
    /// Right, or right again: what it is.
    Right(LayerRecord),
    /// Not right, and told; why, for the images that need it.
    Wrong(String),
}

/// The layers below the one that is looked at.
#[derive(Default)]
struct Below {
    /// Top first.
    dirs: Vec<PathBuf>,
    /// One of them is not right, so nobody knows what depends on them.
    broken: bool,
}

impl Check<'_> {
    pub(super) fn layers(&mut self, layers: &[Placed]) -> Result<()> {
        // By DiffID where the layer depends on nothing below, else by ChainID.
        let mut done: HashMap<Digest, Verdict> = HashMap::new();
        let mut below = Below::default();
        for layer in layers {
            if layer.bottom {
                below = Below::default();
            }
            if !self.is_dropped(layer)
                && let Some(why) = self.wrong_blob(&layer.blob)?
            {
                self.layer_damaged(layer, &why);
                below.broken = true;
                continue;
            }
            let name = [layer.diff_id, layer.chain]
                .into_iter()
                .find(|n| done.contains_key(n));
            let name = match name {
                Some(name) => name,
                None => {
                    let verdict = self.layer(layer, &below)?;
                    let name = match &verdict {
                        Verdict::Right(record) => record.name(),
                        Verdict::Wrong(_) => layer.chain,
                    };
                    done.insert(name, verdict);
                    name
                }
            };
            match done.get(&name) {
                Some(Verdict::Right(record)) => {
                    if record.root_opaque {
                        below = Below::default();
                    }
                    let dir = self.store.layer_dir(&record.name());
                    below.dirs.insert(0, dir);
                }
                Some(Verdict::Wrong(why)) => {
                    below.broken = true;
                    self.layer_damaged(layer, why);
                }
                None => {}
            }
        }
        self.report.layers = done.len();
        Ok(())
    }

    fn layer_damaged(&mut self, layer: &Placed, why: &str) {
        let why = format!("layer {}: {why}", layer.diff_id.short());
        self.image_damaged(&layer.image, &layer.title, &why);
    }

    /// Is the blob not here because the tree does without.
    fn is_dropped(&self, layer: &Placed) -> bool {
        !self.store.blob(&layer.blob.digest).exists()
            && self
                .store
                .rebuild_layer(&layer.diff_id, &layer.chain)
                .is_ok()
    }

    /// Why a layer's blob is of no use, if it is not.
    fn wrong_blob(&mut self, blob: &Descriptor) -> Result<Option<String>> {
        let Some(why) = self.blob_is(&blob.digest, blob.size) else {
            return Ok(None);
        };
        let removed = self.options.repair
            && !self.good.contains(&blob.digest)
            && self.remove_blob(&blob.digest)?;
        Ok(Some(match removed {
            true => format!("{why}, and was removed"),
            false => why,
        }))
    }

    fn layer(&mut self, layer: &Placed, below: &Below) -> Result<Verdict> {
        if self.options.quick {
            return Ok(match self.store.find_layer(&layer.diff_id, &layer.chain) {
                Ok(Some(record)) => Verdict::Right(record),
                Ok(None) => Verdict::Wrong("it is not unpacked".to_owned()),
                Err(e) => Verdict::Wrong(e.to_string()),
            });
        }
        let made = self.staging.path().join(layer.chain.hex());
        let (id, chain) = (layer.diff_id, layer.chain);
        let right = self
            .store
            .unpack_again(&made, &layer.blob, id, chain, &below.dirs);
        let right = match right {
            Ok(record) if record.chain_id.is_none() || !below.broken => record,
            // Want of room or of rights says nothing about the layer.
            Err(e @ Error::System(..)) => return Err(e),
            Err(e) if !below.broken => {
                return Ok(Verdict::Wrong(format!("it cannot be unpacked: {e}")));
            }
            Ok(_) | Err(_) => {
                remove(&made)?;
                let why = "it depends on a layer that is damaged";
                return Ok(Verdict::Wrong(why.to_owned()));
            }
        };
        let what = format!("layer {}", right.name());
        let before = self.left;
        let wrong_record = self.record(&right, &what);
        let wrong_tree = self.tree(&right, &made, &what)?;
        let verdict = match (wrong_record, wrong_tree) {
            (false, false) => Verdict::Right(right),
            _ if !self.options.repair => Verdict::Wrong("its tree or record is damaged".to_owned()),
            (_, tree) => match self.mend(&right, &made, tree) {
                Ok(()) => {
                    self.left = before;
                    let done = "unpacked again from its blob".to_owned();
                    self.found(Finding::Repaired(what, done));
                    Verdict::Right(right)
                }
                Err(Error::Conflict(why)) => Verdict::Wrong(why),
                Err(e) => return Err(e),
            },
        };
        remove(&made)?;
        Ok(verdict)
    }

    /// Is the record other than it must be.
    fn record(&mut self, right: &LayerRecord, what: &str) -> bool {
        let path = self.record_path(right);
        let found = read_file(&path, 1 << 20)
            .and_then(|data| document::parse::<LayerRecord>(&data, "layer record"));
        let why = match found {
            Ok(record) if record == *right => return false,
            Ok(_) => "its record says other things than its archive".to_owned(),
            Err(Error::NotFound(_)) => "its record is missing".to_owned(),
            Err(e) => e.to_string(),
        };
        self.damaged(what, &why);
        true
    }

    fn record_path(&self, record: &LayerRecord) -> PathBuf {
        let name = format!("{}.json", record.name().hex());
        self.store.layers().join(name)
    }

    /// Is the tree other than it must be.
    fn tree(&mut self, right: &LayerRecord, made: &Path, what: &str) -> Result<bool> {
        let dir = self.store.layer_dir(&right.name());
        if !std::fs::symlink_metadata(&dir).is_ok_and(|m| m.is_dir()) {
            self.damaged(what, "its tree is missing");
            return Ok(true);
        }
        let mut count = 0usize;
        compare(made, &dir, &mut |path, why| {
            count += 1;
            if count <= TOLD {
                let path = show(path.as_os_str().as_bytes());
                self.damaged(what, &format!("/{} {why}", path.trim_start_matches('/')));
            }
        })?;
        if let Some(more) = count.checked_sub(TOLD).filter(|n| *n > 0) {
            self.damaged(what, &format!("{more} more differences"));
        }
        Ok(count > 0)
    }

    /// Put the tree `made` in place of the one that is there, if `tree` says
    /// so, and the record. What was there is removed with the staging.
    fn mend(&self, record: &LayerRecord, made: &Path, tree: bool) -> Result<()> {
        let layers = self.store.layers();
        let say = || format!("cannot write layer {}", record.name());
        let from = File::open(self.staging.path()).context(say)?;
        let to = File::open(&layers).context(say)?;
        tree::sync_filesystem(&from).context(say)?;
        let _lock = self.store.lock()?;
        let _claim = match tree {
            true => Some((self.claim)(&record.name())?),
            false => None,
        };
        replace_file(&self.record_path(record), &to_json(record)?)?;
        if tree {
            let old = made.file_name().unwrap_or_default();
            let hex = record.name().hex();
            let new = OsStr::new(&hex);
            let there = sfs::absent(sfs::stat_at(&to, new)).context(say)?;
            let how = match there {
                Some(_) => Replace::Exchange,
                None => Replace::No,
            };
            sfs::rename(&from, old, &to, new, how).context(say)?;
        }
        sync_dir(&layers)
    }
}

/// Remove what was unpacked, or what it was swapped for.
fn remove(made: &Path) -> Result<()> {
    match std::fs::symlink_metadata(made) {
        Ok(meta) if meta.is_dir() => crate::store::discard::remove_tree(made),
        Ok(_) => std::fs::remove_file(made),
        Err(_) => Ok(()),
    }
    .context(|| format!("cannot remove {}", made.display()))
}
