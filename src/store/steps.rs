//! What steps of builds have made, so that the same step need not be done again:
//!
//! ```text
//! <root>/build/<hex>.json   what a step has made; named by the digest of all
//!                           that it was made of
//! <root>/build/mounts/<hex> what commands of builds keep for the next time
//! ```
//!
//! A record keeps its layer from being garbage. All of it can be removed at any
//! time at which nothing is being added: the next build does the steps again.

use super::digest::Digest;
use super::document::{self, Descriptor};
use super::error::{Context, Error, Result};
use super::gc::{Live, named, names};
use super::layer::LayerRecord;
use super::remove::User;
use super::staging::Staging;
use super::walk::Taken;
use super::{Store, read_file, remove_if_there, to_json};
use crate::sys::tree;
use serde::{Deserialize, Serialize};
use std::fs;
use std::os::unix::fs::DirBuilderExt;
use std::path::PathBuf;
use std::time::{SystemTime, UNIX_EPOCH};

/// No record is larger.
const MAX_RECORD: u64 = 1 << 20;

/// What a step has made.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StepRecord {
    /// When, RFC 3339.
    pub created: String,
    /// The instruction.
    pub made_by: String,
    /// Its layer; none of a step that changed no file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub layer: Option<StepLayer>,
}

/// A layer that a step has made.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StepLayer {
    /// Digest of the uncompressed archive.
    pub diff_id: Digest,
    /// The chain that it ends.
    pub chain_id: Digest,
    /// Its blob.
    pub blob: Descriptor,
}

/// What is kept for builds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StepUsage {
    /// How many steps are known.
    pub steps: usize,
    /// Bytes that go when they are forgotten.
    pub bytes: u64,
    /// How many of these are `blobs` and `layers`.
    pub in_layers: u64,
}

impl Store {
    /// Where it is written down what steps have made.
    pub fn steps(&self) -> PathBuf {
        self.root().join("build")
    }

    /// A directory that commands of builds keep, made if it is not there.
    ///
    /// # Errors
    /// When it cannot be made.
    pub fn step_mount(&self, name: &Digest) -> Result<PathBuf> {
        let path = self.steps().join("mounts").join(name.hex());
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o755)
            .create(&path)
            .context(|| format!("cannot make {}", path.display()))?;
        Ok(path)
    }

    /// When what a step has made was used last, in seconds since 1970: when its
    /// record was written or touched.
    pub fn step_used(&self, name: &Digest) -> i64 {
        let path = self.step_file(name);
        let when = fs::metadata(path).and_then(|m| m.modified()).ok();
        let since = when.and_then(|w| w.duration_since(UNIX_EPOCH).ok());
        since.map_or(0, |s| i64::try_from(s.as_secs()).unwrap_or(0))
    }

    fn step_file(&self, name: &Digest) -> PathBuf {
        self.steps().join(format!("{}.json", name.hex()))
    }

    /// What the step of that name has made, if all of it is still here.
    pub fn find_step(&self, name: &Digest) -> Option<(StepRecord, Option<LayerRecord>)> {
        let path = self.step_file(name);
        let data = read_file(&path, MAX_RECORD).ok()?;
        let record: StepRecord = document::parse(&data, "record of a step").ok()?;
        // What cannot be told is only shown wrong.
        let _ = fs::File::open(&path).and_then(|f| f.set_modified(SystemTime::now()));
        let Some(layer) = &record.layer else {
            return Some((record, None));
        };
        let tree = self.find_layer(&layer.diff_id, &layer.chain_id).ok()??;
        let blob = fs::metadata(self.blob(&layer.blob.digest));
        let is_here =
            blob.is_ok_and(|m| m.len() == layer.blob.size) || self.skeleton(&tree.name()).exists();
        is_here.then_some((record, Some(tree)))
    }

    /// Write down what a step has made, in place of what it made before; was there
    /// anything. The caller holds [`Store::lock_adding`].
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn note_step(&self, name: &Digest, record: &StepRecord, staging: &Staging) -> Result<bool> {
        let say = || "cannot write down what a step has made".to_owned();
        let made = staging.path().join(name.hex());
        fs::write(&made, to_json(record)?).context(say)?;
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(self.steps())
            .context(say)?;
        let path = self.step_file(name);
        let replaces = path.exists();
        tree::rename(&made, &path).context(say)?;
        Ok(replaces)
    }

    /// Forget what a step has made; fine if it is not known.
    ///
    /// # Errors
    /// When its record cannot be removed.
    pub fn forget_step(&self, name: &Digest) -> Result<()> {
        let path = self.step_file(name);
        remove_if_there(&path).context(|| format!("cannot remove {}", path.display()))
    }

    /// All that is known of steps; records that cannot be read are left out, as
    /// a build leaves them out too.
    ///
    /// # Errors
    /// When the directory cannot be read.
    pub fn step_records(&self) -> Result<Vec<(Digest, StepRecord)>> {
        let dir = self.steps();
        let entries = match fs::read_dir(&dir) {
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
            entries => entries.context(|| format!("cannot read {}", dir.display()))?,
        };
        let mut out = Vec::new();
        for entry in entries.flatten() {
            if let Some(name) = named(&entry.file_name())
                && let Ok(data) = read_file(&entry.path(), MAX_RECORD)
                && let Ok(record) = document::parse::<StepRecord>(&data, "record of a step")
            {
                out.push((name, record));
            }
        }
        out.sort_by(|(a, x), (b, y)| (&y.created, a).cmp(&(&x.created, b)));
        Ok(out)
    }

    /// Add to `live` what steps have made.
    pub(super) fn mark_steps(&self, live: &mut Live) -> Result<()> {
        for layer in self
            .step_records()?
            .into_iter()
            .filter_map(|(_, r)| r.layer)
        {
            live.blobs.insert(layer.blob.digest);
            live.layers.extend([layer.diff_id, layer.chain_id]);
        }
        Ok(())
    }

    /// What is kept for builds alone.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn step_usage(&self, users: &[User]) -> Result<StepUsage> {
        self.read_steadily(|| self.step_usage_now(users))
    }

    fn step_usage_now(&self, users: &[User]) -> Result<(StepUsage, Live)> {
        let mut usage = StepUsage {
            steps: self.step_records()?.len(),
            ..StepUsage::default()
        };
        let mut all = Live::default();
        self.mark_steps(&mut all)?;
        let used = self.live(users, |_| true)?;
        let mut taken = Taken::default();
        for name in names(&self.blobs(), |d, _| {
            !all.blobs.contains(d) || used.has_blob(d)
        })? {
            usage.in_layers += taken.add(&self.blobs().join(name))?;
        }
        let kept =
            |d: &Digest, name: &std::ffi::OsStr| !all.layers.contains(d) || used.has_layer(d, name);
        for name in names(&self.layers(), kept)? {
            usage.in_layers += taken.add(&self.layers().join(name))?;
        }
        usage.bytes = usage.in_layers + taken.add(&self.steps())?;
        Ok((usage, used))
    }

    /// Forget what steps have made, and what commands of builds keep; nothing
    /// while something is being added. What only they needed is garbage then.
    /// Returns what it took.
    ///
    /// # Errors
    /// When it cannot be removed.
    pub fn forget_steps(&self) -> Result<Option<u64>> {
        let Some(_sweeping) = self.try_lock_sweeping()? else {
            return Ok(None);
        };
        let dir = self.steps();
        let bytes = Taken::default().add(&dir)?;
        let trash = Staging::new(&self.tmp())?;
        match tree::rename(&dir, &trash.path().join("build")) {
            Ok(()) => Ok(Some(bytes)),
            Err(crate::sys::Errno::NOENT) => Ok(Some(0)),
            Err(e) => Err(Error::System(
                format!("cannot remove {}", dir.display()),
                e.into(),
            )),
        }
    }
}
