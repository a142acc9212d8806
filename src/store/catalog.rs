//! The merged catalogs of images' layers (`layers/<chain id>.cat`, see
//! [`crate::catalog`]).
//!
//! A catalog is derived from trees in their places, since it knows them by
//! their inodes. It is made when an image is listed, and again before a mount
//! that finds it missing or not fitting: after a layer was repaired, or the
//! store copied. Nothing is lost without one.

use super::digest::Digest;
use super::error::{Context, Result};
use super::staging::Staging;
use super::{Store, sync_dir};
use crate::catalog::Refusal;
use crate::layer::open::{OpenDir, OpenFile};
use crate::sys::probe::Features;
use crate::sys::{self, tree};
use crate::union::{catalog, options::Options};
use rustix::fs::CWD;
use std::fs;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

/// What a catalog's file name ends with.
pub(super) const SUFFIX: &str = ".cat";

impl Store {
    /// Where the catalog of a chain of layers is.
    pub fn catalog_file(&self, chain: &Digest) -> PathBuf {
        self.layers().join(format!("{}{SUFFIX}", chain.hex()))
    }

    /// The catalog of a chain, whose layers are mounted from these directories,
    /// top first. It is made if there is none that fits; `None` if that cannot
    /// be done.
    pub fn ready_catalog(&self, chain: &Digest, layers: &[Digest]) -> Option<PathBuf> {
        let path = self.catalog_file(chain);
        if let Err(why) = self.catalog_fits(&path, layers) {
            log::info!("a catalog of the layers {chain} is made: {why}");
            if let Err(e) = self.make_catalog(&path, layers) {
                log::info!("there is no catalog of the layers {chain}: {e}");
                return None;
            }
        }
        Some(path)
    }

    /// Can a mount of these layers use the catalog; else why not.
    pub(super) fn catalog_fits(
        &self,
        path: &Path,
        layers: &[Digest],
    ) -> std::result::Result<(), Refusal> {
        let file = sys::fs::open(CWD, path.as_os_str(), libc::O_RDONLY, 0);
        let file = OpenFile {
            fd: file.map_err(Refusal::Unreadable)?,
            path: path.to_owned(),
        };
        let dirs = self.layer_dirs(layers).map_err(Refusal::Unreadable)?;
        catalog::fits(&file, dirs)
    }

    /// Write the catalog of these layers in place of the one that is there.
    pub(super) fn make_catalog(&self, path: &Path, layers: &[Digest]) -> Result<()> {
        let say = || format!("cannot write {}", path.display());
        let _adding = self.lock_adding()?;
        let dirs = self.layer_dirs(layers);
        let dirs = dirs.context(|| "cannot open the layers".to_owned())?;
        let made = catalog::build(dirs, &Options::default(), Features::all());
        let made = made.map_err(|e| std::io::Error::other(e.to_string()));
        let made = made.context(|| "cannot make the catalog".to_owned())?;
        let staging = Staging::new(&self.tmp())?;
        let aside = staging.path().join("catalog");
        let mut options = fs::OpenOptions::new();
        let options = options.write(true).create_new(true).mode(0o400);
        let mut file = options.open(&aside).context(say)?;
        file.write_all(&made).context(say)?;
        sys::fs::sync(&file, true).context(say)?;
        tree::rename(&aside, path).context(say)?;
        sync_dir(&self.layers())
    }

    fn layer_dirs(&self, layers: &[Digest]) -> sys::Result<Vec<OpenDir>> {
        let open = |name: &Digest| {
            let path = self.layer_dir(name);
            Ok(OpenDir {
                fd: sys::fs::open_dir_path(CWD, path.as_os_str())?,
                path,
                idmapped: false,
            })
        };
        layers.iter().map(open).collect()
    }
}
