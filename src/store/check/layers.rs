//! Layers are what their archives say.

use super::Check;
use super::compare::compare;
use super::images::{Owner, Placed};
use crate::store::aside::unpack_again;
use crate::store::digest::Digest;
use crate::store::error::{Context, Error, Result, invalid, show};
use crate::store::layer::LayerRecord;
use crate::store::{
    document, read_file, remove_if_there, replace_file, staging, sync_dir, to_json,
};
use crate::sys::fs::{self as sfs, Replace};
use crate::sys::tree;
use std::collections::{HashMap, HashSet};
use std::ffi::OsStr;
use std::fs::File;
use std::io::{Read, Write};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// Differences of one layer that are told one by one.
const TOLD: usize = 20;

/// A layer's archive, and the digest and size that it must have as a blob.
type Archive = (File, Option<(Digest, u64)>);

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
        if self.options.quick {
            return self.quick_layers(layers);
        }
        // By DiffID where the layer depends on nothing below, else by ChainID.
        let mut done: HashMap<Digest, Verdict> = HashMap::new();
        let mut below = Below::default();
        for layer in layers {
            if layer.bottom {
                below = Below::default();
            }
            let archive = match self.archive(layer)? {
                Ok(archive) => archive,
                Err(why) => {
                    self.layer_damaged(layer, &why)?;
                    below.broken = true;
                    continue;
                }
            };
            let name = [layer.diff_id, layer.chain]
                .into_iter()
                .find(|n| done.contains_key(n));
            let name = match name {
                Some(name) => name,
                None => {
                    let verdict = self.layer(layer, archive, &below)?;
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
                    self.layer_damaged(layer, why)?;
                }
                None => {}
            }
        }
        self.report.layers = done.len();
        Ok(())
    }

    /// Is every layer unpacked, and has a blob or a skeleton.
    fn quick_layers(&mut self, layers: &[Placed]) -> Result<()> {
        let mut seen = HashSet::new();
        for layer in layers {
            seen.insert(layer.chain);
            let wrong = match self.store.find_layer(&layer.diff_id, &layer.chain) {
                Ok(Some(record)) => self
                    .blob_is(&layer.blob.digest, layer.blob.size)
                    .filter(|_| !self.store.skeleton(&record.name()).exists()),
                Ok(None) => Some("it is not unpacked".to_owned()),
                Err(e) => Some(e.to_string()),
            };
            if let Some(why) = wrong {
                self.layer_damaged(layer, &why)?;
            }
        }
        self.report.layers = seen.len();
        Ok(())
    }

    fn layer_damaged(&mut self, layer: &Placed, why: &str) -> Result<()> {
        let why = format!("layer {}: {why}", layer.diff_id.short());
        match &layer.owner {
            Owner::Image(id, title) => self.image_damaged(id, title, &why),
            Owner::Step(name) => self.step_damaged(name, &why)?,
            Owner::Below => {}
        }
        Ok(())
    }

    /// A layer's archive: its blob, or where there is a skeleton in its place
    /// what that and the tree give, which is right if it can be had at all.
    /// Else why there is none.
    fn archive(&mut self, layer: &Placed) -> Result<std::result::Result<Archive, String>> {
        let blob = &layer.blob;
        let path = self.store.blob(&blob.digest);
        let mut wrong = self.blob_is(&blob.digest, blob.size);
        let there = path.exists() && !self.good.contains(&blob.digest);
        let removed = self.options.repair && there && self.remove_blob(&blob.digest)?;
        if self.good.contains(&blob.digest) && !removed {
            // It may have come after the first look.
            wrong = self.blob_is(&blob.digest, blob.size);
        }
        let Some(why) = wrong else {
            let file = File::open(&path).context(|| format!("cannot read blob {}", blob.digest))?;
            return Ok(Ok((file, Some((blob.digest, blob.size)))));
        };
        Ok(match self.rebuild(layer)? {
            Ok(file) => {
                if removed {
                    self.mended(
                        1,
                        &format!("blob {}", blob.digest),
                        "its wrong content was removed, its skeleton takes its place",
                    );
                }
                Ok((file, None))
            }
            Err(Error::NotFound(_)) if removed => {
                if matches!(layer.owner, Owner::Step(_)) {
                    // Nothing needs it once the step is forgotten.
                    let blob = format!("blob {}", blob.digest);
                    self.mended(1, &blob, "its wrong content was removed");
                }
                Err(format!("{why}, and was removed"))
            }
            Err(Error::NotFound(_)) => Err(why),
            Err(e) => Err(e.to_string()),
        })
    }

    /// The archive from skeleton and tree, in staging.
    fn rebuild(&self, layer: &Placed) -> Result<Result<File>> {
        let mut rebuilt = match self.store.rebuild_layer(&layer.diff_id, &layer.chain) {
            Ok(rebuilt) => rebuilt,
            Err(e) => return Ok(Err(e)),
        };
        let path = self.staging.path().join("archive");
        let say = || format!("cannot write {}", path.display());
        let mut file = File::options()
            .read(true)
            .write(true)
            .create(true)
            .truncate(true)
            .open(&path)
            .context(say)?;
        let mut buf = vec![0; 1 << 20];
        loop {
            match rebuilt.read(&mut buf) {
                Ok(0) => return Ok(Ok(file)),
                Ok(n) => file
                    .write_all(buf.get(..n).unwrap_or_default())
                    .context(say)?,
                // A file of the tree is missing or too short, or the skeleton bad.
                Err(e) => return Ok(invalid(e.to_string())),
            }
        }
    }

    /// A skeleton beside a blob must give the same archive; one that does not
    /// can be made again.
    fn skeleton(&mut self, layer: &Placed, what: &str) -> Result<()> {
        let why = match self.rebuild(layer)? {
            Ok(_) | Err(Error::NotFound(_)) => return Ok(()),
            Err(e) => e,
        };
        self.damaged(what, &format!("its skeleton is damaged: {why}"));
        if self.options.repair
            && let Some(record) = self.store.find_layer(&layer.diff_id, &layer.chain)?
        {
            let path = self.store.skeleton(&record.name());
            let _lock = self.store.lock()?;
            remove_if_there(&path).context(|| format!("cannot remove {}", path.display()))?;
            self.mended(1, what, "its skeleton was removed, it has its blob");
        }
        Ok(())
    }

    fn layer(&mut self, layer: &Placed, archive: Archive, below: &Below) -> Result<Verdict> {
        let made = self.staging.path().join(layer.chain.hex());
        let (id, chain) = (layer.diff_id, layer.chain);
        let (_, blob) = &archive;
        let by_blob = blob.is_some();
        let right = unpack_again(&made, archive, id, chain, &below.dirs);
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
                    let count = self.left.saturating_sub(before);
                    self.mended(count, &what, "unpacked again from its archive");
                    Verdict::Right(right)
                }
                Err(Error::Conflict(why)) => Verdict::Wrong(why),
                Err(e) => return Err(e),
            },
        };
        remove(&made)?;
        if by_blob && matches!(verdict, Verdict::Right(_)) {
            self.skeleton(layer, &what)?;
        }
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
            // Where nobody knows who has it mounted, somebody may have.
            true => Some((self.claim)(&record.name()).map_err(|e| Error::Conflict(e.to_string()))?),
            false => None,
        };
        let _interrupts = staging::committing();
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
