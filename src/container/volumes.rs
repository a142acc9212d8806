//! Volumes: directories of the store that containers mount and that outlive them.
//!
//! ```text
//! <root>/volumes/<name>/
//!   volume.json     what is known of it
//!   _data/          what is mounted
//!   filling         there while it is given what the image has in its place
//! ```
//!
//! A volume is in use as long as a container's record names it. It is made in
//! staging and renamed into place, and renamed away to be removed. Its directory
//! is locked by who fills it.

use super::{Containers, Record, name, volume::Kind};
use crate::store::error::{Context, Error, Result, invalid, show};
use crate::store::staging::{Making, Staging};
use crate::store::{Lock, document, read_file, sync_dir, to_json};
use crate::sys::{Errno, tree};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::os::unix::fs::DirBuilderExt;
use std::path::PathBuf;

/// What is known of a volume.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Volume {
    /// What it is called.
    pub name: String,
    /// Seconds since 1970.
    pub created: i64,
    /// `KEY` to `VALUE`.
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
    /// Nobody gave it a name.
    #[serde(default)]
    pub anonymous: bool,
}

/// No volume's record is larger.
const MAX_RECORD: u64 = 1 << 20;

/// Refuse what volumes cannot be called.
///
/// # Errors
/// In docker's words.
pub fn check_name(name: &str) -> Result<()> {
    match name::is_good(name) {
        true => Ok(()),
        false => invalid(format!(
            "create {0}: \"{0}\" includes invalid characters for a local volume name, only \"[a-zA-Z0-9][a-zA-Z0-9_.-]\" are allowed. If you intended to pass a host directory, use absolute path",
            show(name.as_bytes())
        )),
    }
}

impl Containers<'_> {
    fn volumes_dir(&self) -> PathBuf {
        self.store.root().join("volumes")
    }

    /// Where a volume is.
    pub fn volume_dir(&self, name: &str) -> PathBuf {
        self.volumes_dir().join(name)
    }

    /// What of a volume is mounted.
    pub fn volume_data(&self, name: &str) -> PathBuf {
        self.volume_dir(name).join("_data")
    }

    /// All volumes, by their names.
    ///
    /// # Errors
    /// When a record is damaged.
    pub fn volumes(&self) -> Result<Vec<Volume>> {
        let dir = self.volumes_dir();
        let entries = match fs::read_dir(&dir) {
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
            entries => entries.context(|| format!("cannot read {}", dir.display()))?,
        };
        let mut out = Vec::new();
        for entry in entries.flatten() {
            let name = entry.file_name();
            let Some(name) = name.to_str().filter(|n| name::is_good(n)) else {
                continue;
            };
            match self.volume(name) {
                Ok(volume) => out.push(volume),
                Err(Error::NotFound(_)) => {}
                Err(e) => return Err(e),
            }
        }
        out.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(out)
    }

    /// The volume of that name.
    ///
    /// # Errors
    /// When there is none, or its record is damaged.
    pub fn volume(&self, name: &str) -> Result<Volume> {
        let absent = || Error::NotFound(format!("get {}: no such volume", show(name.as_bytes())));
        if !name::is_good(name) {
            return Err(absent());
        }
        match read_file(&self.volume_dir(name).join("volume.json"), MAX_RECORD) {
            Err(Error::NotFound(_)) => Err(absent()),
            data => document::parse(&data?, &format!("record of volume {name}")),
        }
    }

    /// Make a volume, unless it is there.
    ///
    /// # Errors
    /// When the name is none, or it cannot be made.
    pub fn make_volume(&self, volume: &Volume) -> Result<()> {
        check_name(&volume.name)?;
        let place = self.volume_dir(&volume.name);
        if place.exists() {
            return Ok(());
        }
        let say = || format!("cannot make volume {}", volume.name);
        let staging = Staging::new(&self.store.tmp())?;
        let made = staging.subdir("volume")?;
        let data = made.join("_data");
        fs::DirBuilder::new()
            .mode(0o755)
            .create(&data)
            .context(say)?;
        fs::write(made.join("volume.json"), to_json(volume)?).context(say)?;
        match fs::DirBuilder::new().mode(0o700).create(self.volumes_dir()) {
            Err(e) if e.kind() != std::io::ErrorKind::AlreadyExists => return Err(e).context(say),
            _ => {}
        }
        let root = File::open(&made).context(say)?;
        tree::sync_filesystem(&root).context(say)?;
        match tree::rename(&made, &place) {
            // Another process was faster.
            Err(Errno::EXIST | Errno::NOTEMPTY) => return Ok(()),
            renamed => renamed.context(say)?,
        }
        sync_dir(&self.volumes_dir())
    }

    /// Make the volumes of a container that are not there.
    ///
    /// # Errors
    /// When one cannot be made.
    pub(super) fn make_volumes(&self, record: &Record) -> Result<()> {
        let mounts = record.settings.mounts.iter();
        for mount in mounts.filter(|m| m.kind == Kind::Volume) {
            self.make_volume(&Volume {
                name: mount.source.clone(),
                created: super::now_ns() / 1_000_000_000,
                labels: BTreeMap::new(),
                anonymous: mount.anonymous,
            })?;
        }
        Ok(())
    }

    /// The containers that name a volume.
    ///
    /// # Errors
    /// When a record is damaged: then nobody knows what it uses.
    pub fn volume_users(&self, name: &str) -> Result<Vec<Record>> {
        let mut all = self.list_whole()?;
        let uses = |m: &super::volume::Mount| m.kind == Kind::Volume && m.source == name;
        all.retain(|r| r.settings.mounts.iter().any(uses));
        Ok(all)
    }

    /// Remove a volume.
    ///
    /// # Errors
    /// When there is none, or a container uses it.
    pub fn remove_volume(&self, name: &str) -> Result<()> {
        let lock = self.store.lock()?;
        self.volume(name)?;
        let users = self.volume_users(name)?;
        if !users.is_empty() {
            let ids: Vec<&str> = users.iter().map(|r| r.id.as_str()).collect();
            return Err(Error::Conflict(format!(
                "remove {name}: volume is in use - [{}]",
                ids.join(", ")
            )));
        }
        let gone = self.discard_volume(name, &lock);
        drop(lock);
        gone.map(drop)
    }

    /// Remove the volumes of a container that nobody has named and no other
    /// container uses.
    ///
    /// # Errors
    /// When a record is damaged, or one cannot be moved away.
    pub(super) fn discard_anonymous(&self, record: &Record, lock: &Lock) -> Result<Vec<Discarded>> {
        let mut gone = Vec::new();
        for mount in record.settings.mounts.iter().filter(|m| m.anonymous) {
            let others = self.volume_users(&mount.source)?;
            if others.iter().all(|r| r.id == record.id) {
                match self.discard_volume(&mount.source, lock) {
                    Err(Error::System(_, e)) if e.kind() == std::io::ErrorKind::NotFound => {}
                    volume => gone.push(volume?),
                }
            }
        }
        Ok(gone)
    }

    fn discard_volume(&self, name: &str, _lock: &Lock) -> Result<Discarded> {
        let place = self.volume_dir(name);
        let dir = File::open(&place).context(|| format!("cannot remove volume {name}"))?;
        // Nobody uses it: who holds it just looks.
        let _ = dir.try_lock();
        let made = Making::again(&place, &self.store.tmp())?;
        Ok(Discarded {
            _made: made,
            _dir: dir,
        })
    }
}

/// A volume that goes with this, and is nobody else's garbage before.
pub(super) struct Discarded {
    _made: Making,
    _dir: File,
}
