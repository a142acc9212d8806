//! From lower layers to their catalog, through the code that serves them
//! without one.

use super::super::{
    Union,
    dirs::LowerDir,
    lower::{InLowers, Search},
    merged::LowerName,
    open::SetupError,
    options::{Options, Xino},
    state::LowerFile,
};
use super::{identity, seen};
use crate::catalog::{Built, Draft, Inode, TooLarge, What};
use crate::layer::marks::Family;
use crate::layer::open::{OpenDir, OpenLayers};
use crate::layer::seal::seal;
use crate::sys::{At, Errno, fs, fs::Stat, probe::Features, xattr};
use std::collections::{HashMap, VecDeque};
use std::ffi::CString;
use std::fmt;
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;
use std::sync::Arc;

/// Why layers have no catalog.
#[derive(Debug)]
pub enum BuildError {
    /// They cannot be merged at all.
    Setup(SetupError),
    /// They cannot be read.
    Layers(Errno),
    /// They have more entries than a catalog holds.
    TooLarge,
    /// Something is mounted in one of them.
    Mounted,
}

impl fmt::Display for BuildError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            BuildError::Setup(error) => write!(f, "{error}"),
            BuildError::Layers(errno) => write!(f, "cannot read the layers: {errno}"),
            BuildError::TooLarge => write!(f, "too many entries for a catalog"),
            BuildError::Mounted => write!(f, "another file system is mounted in a layer"),
        }
    }
}

impl std::error::Error for BuildError {}

impl From<Errno> for BuildError {
    fn from(errno: Errno) -> BuildError {
        BuildError::Layers(errno)
    }
}

impl From<TooLarge> for BuildError {
    fn from(_: TooLarge) -> BuildError {
        BuildError::TooLarge
    }
}

type Result<T> = std::result::Result<T, BuildError>;

/// The catalog of these layers, top first, for mounts with these options. Where
/// layers can be sealed no access time changes; else it may be that of symlinks.
///
/// # Errors
/// When the layers cannot be read, or a catalog cannot hold what they have.
pub fn build(mut lower: Vec<OpenDir>, options: &Options, allowed: Features) -> Result<Vec<u8>> {
    seal(lower.iter_mut().collect(), allowed);
    let layers = OpenLayers {
        lower,
        upper: None,
        work: None,
        locks: Vec::new(),
        catalog: None,
    };
    // Numbers are written down as the layers have them.
    let options = Options {
        xino: Xino::Off,
        ..options.clone()
    };
    let union = Union::open(layers, &options, allowed).map_err(BuildError::Setup)?;
    let layers: Vec<_> = union.lowers.iter().map(identity).collect();
    let builder = Builder {
        draft: Draft::new(union.reading()?, &layers),
        union: &union,
        places: HashMap::new(),
        linked: HashMap::new(),
        waiting: VecDeque::new(),
    };
    builder.run()
}

impl Union {
    /// How this mount reads lowers.
    pub(super) fn reading(&self) -> crate::sys::Result<Built> {
        Ok(Built {
            userxattr: self.belief.own == Family::User,
            no_redirects: !self.follows_redirects(),
            seen: seen(&self.lowers)?,
        })
    }
}

/// As long as the target of a symlink may not be.
const MOST_TARGET: usize = 4096;

/// Does an error say something about one inode, and nothing about the others.
fn is_of_one(errno: Errno) -> bool {
    use Errno as E;
    matches!(
        errno,
        E::IO | E::UCLEAN | E::TOOBIG | E::RANGE | E::ACCESS | E::PERM | E::NAMETOOLONG
    )
}

struct Builder<'a> {
    union: &'a Union,
    draft: Draft,
    /// By the directories' serials.
    places: HashMap<u64, u32>,
    /// Inodes with several names, by layer and number.
    linked: HashMap<(u16, u64), u32>,
    /// Directories whose entries are still to be given.
    waiting: VecDeque<Vec<Arc<LowerDir>>>,
}

impl Builder<'_> {
    fn run(mut self) -> Result<Vec<u8>> {
        let root = self.union.root.state.lock().lowers.clone();
        let top = root.top().ok_or(Errno::INVAL)?;
        let stat = fs::stat_fd(&*self.union.lower_dir(top)?)?;
        self.dir(stat, self.union.dirs_of(&root))?;
        while let Some(stack) = self.waiting.pop_front() {
            self.draft.next_dir();
            let mut names = self.union.lower_names(&stack)?;
            names.sort_unstable_by(|a, b| a.name.cmp(&b.name));
            for name in names {
                let inode = match self.name(&stack, &name)? {
                    Some(inode) => inode,
                    // Listed all the same: its own lookup says what is wrong.
                    None => self.draft.inode(&Inode {
                        stat: Stat {
                            ino: name.ino,
                            mode: name.kind,
                            ..Stat::default()
                        },
                        layer: name.layer,
                        xattrs: None,
                        what: What::Live,
                    })?,
                };
                self.draft.entry(name.name.as_bytes(), inode);
            }
        }
        Ok(self.draft.finish())
    }

    /// The inode of a name; `None` if that cannot be looked up or written down.
    fn name(&mut self, stack: &[Arc<LowerDir>], name: &LowerName) -> Result<Option<u32>> {
        let search = Search::Name(name.name.to_os_string());
        let found = match self.union.find_lower(stack, search, name.layer) {
            Ok(InLowers::Dirs(stat, stack)) => self.dir(stat, self.union.dirs_of(&stack)),
            Ok(InLowers::File(stat, file)) => self.file(stat, &file),
            Ok(InLowers::None) => return Ok(None),
            Err(e) => Err(e.into()),
        };
        match found {
            Err(BuildError::Layers(e)) if is_of_one(e) => Ok(None),
            found => found.map(Some),
        }
    }

    /// One file system a layer: else numbers would not be what is listed.
    fn on_layer(&self, layer: u16, stat: &Stat) -> Result<()> {
        let layer = self.union.lowers.get(usize::from(layer));
        match layer.is_some_and(|l| l.dev == stat.dev) {
            true => Ok(()),
            false => Err(BuildError::Mounted),
        }
    }

    fn dir(&mut self, stat: Stat, dirs: Vec<Arc<LowerDir>>) -> Result<u32> {
        let top = dirs.first().ok_or(Errno::INVAL)?.clone();
        self.on_layer(top.layer, &stat)?;
        let stack: Vec<u32> = dirs.iter().map(|dir| self.place(dir)).collect();
        let fd = self.union.lower_dir(&top)?;
        let inode = Inode {
            stat,
            layer: top.layer,
            xattrs: self.xattrs(At::Fd(fd.as_fd()))?,
            what: What::Dir(0),
        };
        self.waiting.push_back(dirs);
        Ok(self.draft.dir(inode, &stack)?)
    }

    fn file(&mut self, stat: Stat, file: &LowerFile) -> Result<u32> {
        let layer = file.dir.layer;
        self.on_layer(layer, &stat)?;
        let shared = (stat.nlink > 1 && file.data.is_none()).then_some((layer, stat.ino));
        if let Some(known) = shared.and_then(|key| self.linked.get(&key)) {
            return Ok(*known);
        }
        let dir = self.union.lower_dir(&file.dir)?;
        let at = At::Name(dir.as_fd(), &file.name);
        let what = match (stat.kind(), &file.data) {
            (libc::S_IFREG, Some(_)) => {
                let data = file.data();
                let parent = self.place(&data.dir);
                let name = data.name.as_bytes();
                What::Metacopy(self.draft.file_place(data.dir.layer, parent, name))
            }
            (libc::S_IFREG, None) => What::File,
            (libc::S_IFLNK, _) => match fs::readlink(at)?.as_bytes() {
                target if (1..MOST_TARGET).contains(&target.len()) => self.draft.symlink(target),
                _ => return Err(Errno::TOOBIG.into()),
            },
            _ => What::Special,
        };
        let inode = Inode {
            stat,
            layer,
            xattrs: self.xattrs(at)?,
            what,
        };
        let number = self.draft.inode(&inode)?;
        if let Some(key) = shared {
            self.linked.insert(key, number);
        }
        Ok(number)
    }

    fn xattrs(&mut self, at: At<'_>) -> Result<Option<u32>> {
        let mut list = Vec::new();
        xattr::list_into(at, &mut list)?;
        let mut found: Vec<(CString, Vec<u8>)> = Vec::new();
        for name in xattr::names(&list) {
            if let Some(value) = xattr::get(at, name)? {
                found.push((name.to_owned(), value));
            }
        }
        let list: Vec<_> = found
            .iter_mut()
            .map(|(name, value)| (name.as_c_str(), std::mem::take(value)))
            .collect();
        Ok(self.draft.xattrs(&list))
    }

    /// The number of a directory's place, and of those above it.
    fn place(&mut self, dir: &Arc<LowerDir>) -> u32 {
        let mut missing = Vec::new();
        let mut at = dir;
        let mut number = loop {
            if let Some(known) = self.places.get(&at.serial) {
                break *known;
            }
            let Some(parent) = &at.parent else {
                break u32::from(at.layer);
            };
            missing.push(at);
            at = parent;
        };
        while let Some(dir) = missing.pop() {
            let name = dir.name.as_bytes();
            number = self
                .draft
                .dir_place(dir.layer, number, name, dir.xwhiteouts);
            self.places.insert(dir.serial, number);
        }
        number
    }
}
