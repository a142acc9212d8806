//! From opened directories to a union that can be served.

use super::{
    Union, Upper,
    dirs::{DirFds, LowerDir},
    file::OpenFiles,
    ids::IdMap,
    ino::Inos,
    links::Links,
    options::Options,
    partial::Partials,
    stack::Stack,
    state::{InUpper, State},
    table::Table,
};
use crate::layer::{
    Layer,
    marks::{self, Belief, Family},
    open::OpenLayers,
    tell_apart,
    work::{self, Work},
};
use crate::sys::{At, Errno, Result, creds, fs, probe::Features};
use parking_lot::{Mutex, RwLock};
use std::ffi::{OsStr, OsString};
use std::fmt;
use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;
use std::sync::{Arc, OnceLock};

/// Why a union could not be set up.
#[derive(Debug)]
pub struct SetupError {
    what: &'static str,
    path: PathBuf,
    errno: Errno,
}

impl fmt::Display for SetupError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let path = self.path.display();
        if self.errno == Errno::UCLEAN {
            return write!(
                f,
                "{} {path}: a volatile mount of it was not ended cleanly: \
                 its upper may be half written; remove work/{INCOMPAT} there to use it all the same",
                self.what
            );
        }
        write!(f, "{} {path}: {}", self.what, self.errno)
    }
}

impl std::error::Error for SetupError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&self.errno)
    }
}

fn failed(what: &'static str, path: &std::path::Path) -> impl FnOnce(Errno) -> SetupError + use<> {
    let path = path.to_owned();
    move |errno| SetupError { what, path, errno }
}

/// Kernel overlayfs's mark, `work/incompat/volatile`: a volatile mount was not
/// ended cleanly, so what is in the upper may be half written.
const INCOMPAT: &str = "incompat";
const VOLATILE: &str = "volatile";

impl Union {
    /// Take over the directories. `allowed` less what cannot be done here is
    /// what is used.
    ///
    /// # Errors
    /// Says which directory, and why.
    pub fn open(
        layers: OpenLayers,
        options: &Options,
        allowed: Features,
    ) -> std::result::Result<Union, SetupError> {
        let mut features = crate::sys::probe::probe(allowed, None);
        let reads_all = features.has(Features::OPEN_HANDLES);
        let mut lowers = Vec::with_capacity(layers.lower.len());
        for dir in layers.lower {
            let why = failed("cannot use lower layer", &dir.path);
            let other = lowers.last().filter(|_| reads_all);
            lowers.push(Layer::beside(dir, other).map_err(why)?);
        }
        tell_apart(&mut lowers);
        let mut upper = None;
        let mut index = None;
        if let (Some(up), Some(work)) = (layers.upper, layers.work) {
            let why = failed("cannot use work directory", &work.path);
            let (dir, found) = prepare_work(&work.fd, options, allowed).map_err(why)?;
            features = found;
            let attributes = features.has(Features::TRUSTED) || features.has(Features::XATTR);
            if options.index && attributes && features.has(Features::HANDLES) {
                let why = failed("cannot use index directory", &work.path);
                index = Some(open_index(&work.fd).map_err(why)?);
            }
            warn_of_upper(features, &up.path);
            let why = failed("cannot use upper layer", &up.path);
            upper = Some(Upper {
                layer: Layer::new(up).map_err(why)?,
                work: Work::new(dir, features),
                _locks: layers.locks,
            });
        }
        let own = if options.userxattr || !features.has(Features::TRUSTED) {
            Family::User
        } else {
            Family::Trusted
        };
        let devices: Vec<u64> = upper
            .iter()
            .map(|u| u.layer.dev)
            .chain(lowers.iter().map(|l| l.dev))
            .collect();
        let table = Arc::new(Table::default());
        let roots = (0..lowers.len()).map(|i| root_dir(&table, i)).collect();
        let inos = Inos::new(options.xino, &devices);
        let mut union = Union {
            belief: Belief {
                own,
                foreign: false,
            },
            lower_belief: Belief { own, foreign: true },
            features,
            uids: IdMap::users(options),
            gids: IdMap::groups(options),
            ids_lack: !crate::sys::creds::in_first_user_namespace(),
            options: options.clone(),
            root: table.insert(0, libc::S_IFDIR, true, State::default()),
            upper,
            lowers,
            roots,
            catalog: None,
            links: index,
            inos,
            table,
            opens_unasked: false,
            waits: None,
            topology: RwLock::new(()),
            creating: Mutex::new(()),
            fds: DirFds::new(budget() / 2),
            ends: super::list_real::Ends::new(),
            files: OpenFiles::new(budget() / 4),
            partials: Partials::default(),
        };
        if let Some(file) = &layers.catalog {
            union.adopt(file);
        }
        union.open_root().map_err(|errno| SetupError {
            what: "cannot read the root of",
            path: union
                .upper
                .as_ref()
                .map(|u| u.layer.path.clone())
                .unwrap_or_default(),
            errno,
        })?;
        union.clean_index();
        Ok(union)
    }

    /// Which roots are merged, and the number of the merged one.
    fn open_root(&mut self) -> Result<()> {
        let mut state = State::default();
        let mut stat = None;
        if let Some(upper) = &self.upper {
            let at = At::Fd(upper.layer.root.as_fd());
            let s = fs::stat(at)?;
            let marks = self.marks(at, self.belief, &s)?;
            state.upper = InUpper::Data;
            state.impure = marks.impure;
            stat = Some(s);
        }
        if let (None, Some(layer)) = (stat, self.lowers.first()) {
            stat = Some(fs::stat_fd(&layer.root)?);
        }
        state.lowers = match self.known_root() {
            Some(known) => known,
            None => Stack::Dirs(self.merged_roots()?),
        };
        let s = stat.ok_or(Errno::INVAL)?;
        let ino = self.inos.map(s.dev, s.ino);
        self.root = self.table.insert(ino, libc::S_IFDIR, true, state);
        Ok(())
    }

    /// The layers' roots, down to one that hides those below.
    fn merged_roots(&self) -> Result<Vec<Arc<LowerDir>>> {
        let mut roots = self.roots.clone();
        for (i, layer) in self.lowers.iter().enumerate() {
            let wh = OsStr::new(marks::WH_OPAQUE);
            if fs::absent(fs::stat_at(&*layer.root, wh))?.is_some() {
                roots.truncate(i + 1);
                break;
            }
        }
        Ok(roots)
    }

    /// Remove index entries whose last name is gone: a kill between the
    /// removal of the name and that of the entry leaves them.
    fn clean_index(&self) {
        let Some(links) = &self.links else { return };
        for name in links.all() {
            let at = links.at(&name);
            let stale = name.as_encoded_bytes().starts_with(b"#")
                || fs::stat(at).is_ok_and(|stat| {
                    let marks = self.marks(at, self.belief, &stat).unwrap_or_default();
                    let nlink = marks.nlink.as_deref().and_then(marks::nlink::decode);
                    matches!(nlink, Some((true, diff)) if i64::from(stat.nlink) + diff <= 0)
                });
            if stale && let Err(e) = links.remove(&name) {
                log::warn!("cannot remove stale index entry {name:?}: {e}");
            }
        }
    }

    /// End cleanly: copies under way are completed, the work directory is
    /// emptied, a volatile upper may be used again.
    pub fn close(&self) {
        self.settle();
        let Some(upper) = &self.upper else { return };
        if let Err(e) = upper.work.clear() {
            log::warn!("cannot empty the work directory: {e}");
        }
    }
}

/// One line on what an upper cannot keep.
fn warn_of_upper(features: Features, path: &std::path::Path) {
    let attributes = features.has(Features::TRUSTED) || features.has(Features::XATTR);
    let path = path.display();
    if !attributes {
        let whiteouts = if features.has(Features::MKNOD) {
            ""
        } else {
            ", whiteouts are .wh. files"
        };
        log::warn!(
            "upper {path} has no extended attributes: renames of lower directories give EXDEV, \
             hard links of lower files part, inode numbers change at copy-up{whiteouts}"
        );
    } else if !features.has(Features::MKNOD) {
        log::warn!(
            "upper {path} takes no whiteout devices: whiteouts are attributes on empty files"
        );
    }
}

fn root_dir(table: &Arc<Table>, index: usize) -> Arc<LowerDir> {
    Arc::new(LowerDir {
        layer: u16::try_from(index).unwrap_or(u16::MAX),
        parent: None,
        name: OsString::new(),
        serial: table.serial(),
        wh: OnceLock::new(),
        xwhiteouts: false,
    })
}

/// Make and empty `WORKDIR/work`, and see what the upper's file system can.
fn prepare_work(
    base: &OwnedFd,
    options: &Options,
    allowed: Features,
) -> Result<(OwnedFd, Features)> {
    let name = OsStr::new("work");
    match fs::mkdir(base, name, 0o700) {
        Ok(()) | Err(Errno::EXIST) => {}
        Err(e) => return Err(e),
    }
    let dir = fs::open_dir_path(base, name)?;
    if let Some(marks) = fs::absent(fs::open_dir_path(&dir, OsStr::new(INCOMPAT)))?
        && fs::absent(fs::stat_at(&marks, OsStr::new(VOLATILE)))?.is_some()
    {
        return Err(Errno::UCLEAN);
    }
    work::clear(&dir)?;
    let features = crate::sys::probe::probe(allowed, Some(&dir));
    if options.fsync == super::options::Fsync::Volatile {
        let incompat = OsStr::new(INCOMPAT);
        fs::mkdir(&dir, incompat, 0o700)?;
        fs::mkdir(
            fs::open_dir_path(&dir, incompat)?,
            OsStr::new(VOLATILE),
            0o700,
        )?;
    }
    Ok((dir, features))
}

fn open_index(base: &OwnedFd) -> Result<Links> {
    let name = OsStr::new("index");
    match fs::mkdir(base, name, 0o700) {
        Ok(()) | Err(Errno::EXIST) => {}
        Err(e) => return Err(e),
    }
    Links::open(fs::open_dir_path(base, name)?)
}

/// How many descriptors the caches may hold.
fn budget() -> usize {
    let limit = creds::open_files_limit();
    (limit / 2).clamp(16, 8192)
}
