//! Images on disk.
//!
//! ```text
//! <root>/                  0700
//!   capas.json             format version and features
//!   oci-layout, index.json the images: an OCI image layout, readable by others
//!   blobs/sha256/<hex>     manifests, configurations, layers as they came
//!   layers/<hex>/          a layer unpacked, never written again
//!   layers/<hex>.json      what is known of it; a directory without is garbage
//!   layers/<hex>.cat       what an image's layers merge to, see `catalog`
//!   layers/<hex>.skel      its archive without the files' contents, see `skeleton`
//!   build/                 what steps of builds have made, see `steps`
//!   containers/<id>/       see `container`
//!   volumes/<name>/        see `container::volumes`
//!   tmp/<random>/          staging, see `staging`
//!   lock                   held to change index.json or any container's record
//!   gc.lock                shared: blobs and layers are being added;
//!                          exclusive: what nobody refers to is being removed
//! ```
//!
//! A layer's `<hex>` is its DiffID where the unpacked tree depends on the
//! layer alone, so that all images share it. Where the layer left things to
//! the layers below it (a parent directory without an entry of its own, a hard
//! link to a file of an earlier layer) it is the ChainID: such a tree is right
//! on top of that chain only.
//!
//! A layer's blob may be missing where every tree of that layer has a skeleton:
//! then its uncompressed archive is made from both when it is asked for, and
//! has the DiffID. Manifests name the blob as before. See `blobs`.
//!
//! `capas.json` names the features that a store uses. A program that does not
//! know one of them ignores it if it is `compatible`, only reads if it is
//! `ro_compatible`, and refuses the store if it is `incompatible`.
//!
//! Locks are taken in the order `gc.lock`, `lock`; readers take none, as every
//! file they read is replaced by rename and never changed. Roots of garbage
//! collection are `index.json`, the containers' records and those of steps; [`gc`] says how
//! what they do not reach is found and removed.
//!
//! An image is listed only when all it needs is on the disk: everything is
//! written to staging, one `syncfs` makes it durable, then names are moved
//! into place, their directories synced, and at last `index.json` replaced.

pub mod archive;
pub mod aside;
pub mod blobs;
pub mod catalog;
pub mod change;
pub mod check;
pub mod complete;
pub mod compressed;
pub mod digest;
pub mod discard;
pub mod document;
pub mod error;
pub mod gc;
pub mod image;
pub mod layer;
pub mod load;
pub mod pax;
pub mod pipeline;
pub mod platform;
pub mod read;
pub mod reference;
pub mod remove;
pub mod repo_digest;
pub mod save;
pub mod skeleton;
pub mod staging;
pub mod steps;
pub mod tag;
pub mod tarball;
pub mod tarwriter;
pub mod time;
pub mod unpack;
pub mod usage;
pub mod verify;
pub mod walk;

pub use digest::Digest;
pub use error::{Context, Error, Result};
pub use read::read_file;
pub use reference::{Name, Reference};

use crate::sys::fs as sfs;
use crate::sys::tree;
use document::Index;
use error::invalid;
use serde::{Deserialize, Serialize};
use std::collections::HashSet;
use std::fs::{self, File};
use std::io::{ErrorKind, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Mutex;

/// The one version of the layout there is.
const VERSION: u32 = 1;

/// The content of `oci-layout`.
const LAYOUT: &[u8] = br#"{"imageLayoutVersion":"1.0.0"}"#;

/// No `index.json` is larger.
const MAX_INDEX: u64 = 64 << 20;

/// All that is in a store's root, at any time.
const NAMES: [&str; 14] = [
    "lock",
    "gc.lock",
    "oci-layout",
    "oci-layout.new",
    "index.json",
    "index.json.new",
    "blobs",
    "layers",
    "build",
    "containers",
    "volumes",
    "tmp",
    "capas.json",
    "capas.json.new",
];

/// The content of `capas.json`.
#[derive(Serialize, Deserialize)]
struct Format {
    version: u32,
    /// Features that need not be known.
    #[serde(default)]
    compatible: Vec<String>,
    /// Features without which a program must not change the store.
    #[serde(default)]
    ro_compatible: Vec<String>,
    /// Features without which a program must not touch the store.
    #[serde(default)]
    incompatible: Vec<String>,
}

/// Feature: blobs of layers may be missing where there are skeletons. Who does
/// not know it would leave skeletons behind.
const SKELETONS: &str = "skeletons";

/// An open image store.
#[derive(Debug)]
pub struct Store {
    root: PathBuf,
    /// A feature because of which the store is only read.
    foreign: Option<String>,
    /// What was warned of already.
    warned: Mutex<HashSet<Digest>>,
}

/// A held lock, released when dropped.
#[derive(Debug)]
pub struct Lock(#[allow(dead_code, reason = "held for its lock")] File);

impl Store {
    /// Open the store at `root`; make it where there is nothing yet.
    ///
    /// # Errors
    /// For a directory that holds other things, or a store of a format that
    /// this program does not know.
    pub fn open(root: &Path) -> Result<Store> {
        let say = |what: &str| format!("cannot {what} the store {}", root.display());
        make_dir(root).context(|| say("make"))?;
        let root = root.canonicalize().context(|| say("find"))?;
        let mut store = Store {
            root,
            foreign: None,
            warned: Mutex::default(),
        };
        match store.read_format() {
            Ok(format) => store.check_format(format)?,
            Err(Error::NotFound(_)) => store.init()?,
            Err(e) => return Err(e),
        }
        Ok(store)
    }

    fn read_format(&self) -> Result<Format> {
        document::parse(
            &read_file(&self.root.join("capas.json"), 1 << 16)?,
            "capas.json",
        )
    }

    fn check_format(&mut self, format: Format) -> Result<()> {
        if format.version != VERSION {
            return invalid(format!(
                "the store {} has format {}, this program knows {VERSION}: use a newer capas",
                self.root.display(),
                format.version
            ));
        }
        if let Some(feature) = format.incompatible.first() {
            return invalid(format!(
                "the store {} needs \"{}\", which this program does not know: use a newer capas",
                self.root.display(),
                error::show(feature.as_bytes())
            ));
        }
        self.foreign = format.ro_compatible.into_iter().find(|f| f != SKELETONS);
        Ok(())
    }

    /// From now on programs must know the feature to change the store; the
    /// caller holds [`Store::lock`].
    fn use_feature(&self, feature: &str) -> Result<()> {
        let mut format = self.read_format()?;
        if format.ro_compatible.iter().any(|f| f == feature) {
            return Ok(());
        }
        format.ro_compatible.push(feature.to_owned());
        replace_file(&self.root.join("capas.json"), &to_json(&format)?)
    }

    fn writable(&self) -> Result<()> {
        match &self.foreign {
            None => Ok(()),
            Some(feature) => invalid(format!(
                "the store {} has \"{}\", which this program does not know, and can only be read: use a newer capas",
                self.root.display(),
                error::show(feature.as_bytes())
            )),
        }
    }

    fn init(&self) -> Result<()> {
        let say = || format!("cannot make the store {}", self.root.display());
        for entry in fs::read_dir(&self.root).context(say)?.flatten() {
            if !entry
                .file_name()
                .to_str()
                .is_some_and(|n| NAMES.contains(&n))
            {
                return invalid(format!(
                    "{} is not an image store and not empty",
                    self.root.display()
                ));
            }
        }
        fs::set_permissions(
            &self.root,
            std::os::unix::fs::PermissionsExt::from_mode(0o700),
        )
        .context(say)?;
        let _lock = self.lock()?;
        if self.root.join("capas.json").exists() {
            return Ok(());
        }
        for dir in ["blobs", "blobs/sha256", "layers", "containers", "tmp"] {
            make_dir(&self.root.join(dir)).context(say)?;
        }
        // Layers and containers are made there. Without the flag they are only
        // made more slowly.
        if let Ok(tmp) = File::open(self.tmp()) {
            let _ = tree::spread_subdirs(&tmp);
        }
        replace_file(&self.root.join("oci-layout"), LAYOUT)?;
        // A store that has lost its capas.json has images.
        if !self.root.join("index.json").try_exists().context(say)? {
            self.write_index(&Index::default())?;
        }
        let mut skeletons = false;
        for entry in fs::read_dir(self.layers()).context(say)? {
            let name = PathBuf::from(entry.context(say)?.file_name());
            skeletons |= name.extension().is_some_and(|e| e == "skel");
        }
        let format = Format {
            version: VERSION,
            compatible: Vec::new(),
            ro_compatible: skeletons
                .then(|| SKELETONS.to_owned())
                .into_iter()
                .collect(),
            incompatible: Vec::new(),
        };
        replace_file(&self.root.join("capas.json"), &to_json(&format)?)
    }

    /// Where the store is, absolute.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Where blobs are.
    pub fn blobs(&self) -> PathBuf {
        self.root.join("blobs/sha256")
    }

    /// Where layers are.
    pub fn layers(&self) -> PathBuf {
        self.root.join("layers")
    }

    /// Where containers are.
    pub fn containers(&self) -> PathBuf {
        self.root.join("containers")
    }

    /// Where staging is.
    pub fn tmp(&self) -> PathBuf {
        self.root.join("tmp")
    }

    /// Where the blob of that digest is, if it is here.
    pub fn blob(&self, digest: &Digest) -> PathBuf {
        self.blobs().join(digest.hex())
    }

    /// Wait for the right to change names and records.
    ///
    /// # Errors
    /// When the lock file cannot be used, or the store can only be read.
    pub fn lock(&self) -> Result<Lock> {
        self.writable()?;
        let file = self.lock_file("lock")?;
        file.lock().context(|| "cannot lock the store".to_owned())?;
        Ok(Lock(file))
    }

    /// Keep others from removing what seems unused while adding.
    ///
    /// # Errors
    /// When the lock file cannot be used, or the store can only be read.
    pub fn lock_adding(&self) -> Result<Lock> {
        self.writable()?;
        self.lock_reading()
    }

    /// Keep others from removing what is being read for long. What is opened
    /// at once needs no lock.
    ///
    /// # Errors
    /// When the lock file cannot be used.
    pub fn lock_reading(&self) -> Result<Lock> {
        let file = match self.lock_file("gc.lock") {
            // Where nothing can be written nothing needs to be made.
            Err(Error::System(_, e)) if e.kind() == ErrorKind::ReadOnlyFilesystem => {
                let path = self.root.join("gc.lock");
                File::open(&path).context(|| format!("cannot open {}", path.display()))?
            }
            file => file?,
        };
        file.lock_shared()
            .context(|| "cannot lock the store".to_owned())?;
        Ok(Lock(file))
    }

    /// The right to remove what nobody refers to, unless somebody is adding.
    ///
    /// # Errors
    /// When the lock file cannot be used, or the store can only be read.
    pub fn try_lock_sweeping(&self) -> Result<Option<Lock>> {
        self.writable()?;
        let file = self.lock_file("gc.lock")?;
        match file.try_lock() {
            Ok(()) => Ok(Some(Lock(file))),
            Err(fs::TryLockError::WouldBlock) => Ok(None),
            Err(fs::TryLockError::Error(e)) => {
                Err(Error::System("cannot lock the store".to_owned(), e))
            }
        }
    }

    /// Remove what processes that are gone have left in staging; a store that
    /// can only be read stays as it is.
    ///
    /// # Errors
    /// When staging cannot be read.
    pub fn tidy(&self) -> Result<()> {
        match self.writable() {
            Ok(()) => staging::remove_stale(&self.tmp()),
            Err(_) => Ok(()),
        }
    }

    fn lock_file(&self, name: &str) -> Result<File> {
        let path = self.root.join(name);
        fs::OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(&path)
            .context(|| format!("cannot open {}", path.display()))
    }

    /// All that is listed.
    ///
    /// # Errors
    /// When `index.json` is damaged.
    pub fn read_index(&self) -> Result<Index> {
        let data = read_file(&self.root.join("index.json"), MAX_INDEX);
        let index = data.and_then(|data| document::parse(&data, "index.json"));
        let try_this = |m| format!("{m}: 'capas check --repair' makes it anew");
        index.map_err(|e| match e {
            Error::Invalid(m) => Error::Invalid(try_this(m)),
            Error::NotFound(m) => Error::NotFound(try_this(m)),
            e => e,
        })
    }

    /// Read without a lock what the index lists; `read` also gives what it has
    /// seen to live. Where something of that was not there, the index may have
    /// been replaced and garbage removed meanwhile: then it is read again. What
    /// is damaged is told.
    fn read_steadily<T>(&self, read: impl Fn() -> Result<(T, gc::Live)>) -> Result<T> {
        let path = self.root.join("index.json");
        let stamp = || fs::metadata(&path).map(|m| (m.ino(), m.ctime(), m.ctime_nsec()));
        let say = || format!("cannot read {}", path.display());
        loop {
            let before = stamp().context(say)?;
            let (got, live) = read()?;
            if live.damaged.is_empty() || stamp().context(say)? == before {
                self.warn_of_damage(&live);
                return Ok(got);
            }
        }
    }

    /// Warn of what has this digest, the first time.
    fn warn_once(&self, digest: &Digest, text: &str) {
        let new = self.warned.lock().is_ok_and(|mut w| w.insert(*digest));
        if new {
            log::warn!("{text}");
        }
    }

    /// Replace `index.json`; the caller holds [`Store::lock`].
    fn write_index(&self, index: &Index) -> Result<()> {
        replace_file(&self.root.join("index.json"), &to_json(index)?)
    }

    /// The content of a small blob, checked against its digest.
    ///
    /// # Errors
    /// When it is missing, too large or damaged.
    pub fn read_blob(&self, digest: &Digest, max: u64) -> Result<Vec<u8>> {
        let data = read_file(&self.blob(digest), max)?;
        if Digest::of(&data) != *digest {
            return invalid(format!("blob {digest} is damaged"));
        }
        Ok(data)
    }
}

/// A value as JSON with a newline.
///
/// # Errors
/// When it has no JSON form.
pub fn to_json(value: &impl Serialize) -> Result<Vec<u8>> {
    let mut out = serde_json::to_vec(value)
        .map_err(|e| Error::Invalid(format!("cannot write as JSON: {e}")))?;
    out.push(b'\n');
    Ok(out)
}

fn make_dir(path: &Path) -> std::io::Result<()> {
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path)
}

/// Put a new content in place of a file so that a crash leaves the old or the
/// new one. Callers hold the lock that covers the file, as the name of the
/// half-made one is fixed.
///
/// # Errors
/// When the directory cannot be written.
pub fn replace_file(path: &Path, data: &[u8]) -> Result<()> {
    replace(path, data, true)?;
    sync_dir(path.parent().unwrap_or(Path::new("/")))
}

/// As [`replace_file`] for what means nothing after a restart of the machine:
/// the disk is not waited for, and readers must bear a damaged file.
///
/// # Errors
/// When the directory cannot be written.
pub fn replace_volatile(path: &Path, data: &[u8]) -> Result<()> {
    replace(path, data, false)
}

fn replace(path: &Path, data: &[u8], durable: bool) -> Result<()> {
    let say = || format!("cannot write {}", path.display());
    let mut new = path.as_os_str().to_owned();
    new.push(".new");
    let mut file = fs::OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(&new)
        .context(say)?;
    file.write_all(data).context(say)?;
    if durable {
        sfs::sync(&file, false).context(say)?;
    }
    tree::rename(Path::new(&new), path).context(say)
}

/// Remove a file, if it is there.
///
/// # Errors
/// As unlink(2) otherwise.
pub fn remove_if_there(path: &Path) -> std::io::Result<()> {
    match fs::remove_file(path) {
        Err(e) if e.kind() != ErrorKind::NotFound => Err(e),
        _ => Ok(()),
    }
}

/// Make the names in a directory durable.
///
/// # Errors
/// As fsync(2).
pub fn sync_dir(path: &Path) -> Result<()> {
    let say = || format!("cannot sync {}", path.display());
    sfs::sync_dir(File::open(path).context(say)?).context(say)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn foreign_directories_and_newer_stores_are_refused() {
        let tmp = tempfile::tempdir().unwrap();
        fs::write(tmp.path().join("letter.txt"), "x").unwrap();
        let e = Store::open(tmp.path()).unwrap_err().to_string();
        assert!(e.contains("is not an image store"), "{e}");
        let root = tmp.path().join("new");
        Store::open(&root).unwrap();
        Store::open(&root).unwrap();
        for (format, word) in [
            (r#"{"version":2}"#, "format 2"),
            (r#"{"version":1,"incompatible":["catalogs"]}"#, "catalogs"),
            (
                r#"{"version":1,"incompatible":["c\u001b[1m"]}"#,
                "\"c\\u{1b}[1m\"",
            ),
        ] {
            fs::write(root.join("capas.json"), format).unwrap();
            let e = Store::open(&root).unwrap_err().to_string();
            assert!(e.contains(word), "{e}");
        }
    }

    #[test]
    fn features_of_newer_programs_keep_what_they_must_from_being_written() {
        let tmp = tempfile::tempdir().unwrap();
        let root = tmp.path().join("store");
        Store::open(&root).unwrap();
        let write = |format: &str| {
            fs::write(root.join("capas.json"), format).unwrap();
            Store::open(&root).unwrap()
        };
        let store = write(r#"{"version":1,"compatible":["hints"]}"#);
        {
            let _lock = store.lock().unwrap();
            store.use_feature(SKELETONS).unwrap();
            store.use_feature(SKELETONS).unwrap();
        }
        let format = store.read_format().unwrap();
        assert_eq!(format.ro_compatible, [SKELETONS]);
        assert_eq!(format.compatible, ["hints"]);
        Store::open(&root).unwrap().lock().unwrap();

        let store = write(r#"{"version":1,"ro_compatible":["skeletons","packs"]}"#);
        assert_eq!(store.images().unwrap().len(), 0);
        drop(store.lock_reading().unwrap());
        for refused in [
            store.lock().map(drop),
            store.lock_adding().map(drop),
            store.try_lock_sweeping().map(drop),
        ] {
            let e = refused.unwrap_err().to_string();
            assert!(e.contains("\"packs\"") && e.contains("only be read"), "{e}");
        }
    }
}
