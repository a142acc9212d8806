//! Tests straight on the union, without a mount: layers in a temporary
//! directory, operations as text, and what the union shows as a tree.

// Each test program uses its own part of these helpers.
#![allow(dead_code)]

pub mod cases;
pub mod ops;
pub mod variant;
pub mod view;

use crate::common::lowers::Fingerprint;
use crate::common::tree;
use capas::layer::open::{OpenDir, OpenFile, OpenLayers};
use capas::sys::{Errno, probe::Features};
use capas::union::{Union, catalog, options::Options};
use rustix::fs::{AtFlags, CWD, Timespec, Timestamps, UTIME_OMIT};
use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::path::{Path, PathBuf};

/// Layers, and the union of them.
pub struct Rig {
    /// Holds `lower0` (the top one) and so on, `upper`, `work`.
    pub dir: PathBuf,
    pub options: Options,
    pub features: Features,
    union: RefCell<Option<Union>>,
    /// Numbers that a kernel would hold, each as often as it was looked up.
    held: RefCell<Vec<u64>>,
    labels: RefCell<HashMap<String, u64>>,
    /// What the last open of a node answered as its handle.
    handles: RefCell<HashMap<u64, u64>>,
    lowers: usize,
    /// When the trees were made.
    pub since: i64,
    before: Vec<Fingerprint>,
    has_upper: Cell<bool>,
    /// A catalog of the lowers, where there is to be one.
    pub catalog: Option<PathBuf>,
}

/// `{x*N}` is x repeated N times.
pub fn expand(text: &str) -> String {
    let mut out = String::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('{') {
        let (inside, after) = after.split_once('}').expect("a closing brace");
        let (what, n) = inside.rsplit_once('*').expect("{text*N}");
        out.push_str(before);
        out.push_str(&what.repeat(n.parse().unwrap()));
        rest = after;
    }
    out + rest
}

/// Access times in the future, which `relatime` leaves alone.
fn read_lately(dir: &Path, at: i64) {
    for e in crate::common::sys::list(dir).unwrap() {
        let path = dir.join(&e.name);
        if e.kind == 'd' {
            read_lately(&path, at);
        } else {
            set_atime(&path, at);
        }
    }
    set_atime(dir, at);
}

fn set_atime(path: &Path, at: i64) {
    let times = Timestamps {
        last_access: Timespec {
            tv_sec: at,
            tv_nsec: 0,
        },
        last_modification: Timespec {
            tv_sec: 0,
            tv_nsec: UTIME_OMIT,
        },
    };
    rustix::fs::utimensat(CWD, path, &times, AtFlags::SYMLINK_NOFOLLOW).unwrap();
}

/// Where `upper` and `work` of the layers in `dir` are: there too, unless
/// `CAPAS_UPPERS_IN` is a directory on another file system.
pub fn upper_root(dir: &Path) -> PathBuf {
    match std::env::var_os("CAPAS_UPPERS_IN") {
        Some(other) => Path::new(&other).join(dir.file_name().unwrap()),
        None => dir.to_owned(),
    }
}

fn open_file(path: &Path) -> OpenFile {
    OpenFile {
        fd: std::fs::File::open(path).unwrap().into(),
        path: path.to_owned(),
    }
}

fn open_in(dir: &Path, name: &str) -> OpenDir {
    use rustix::fs::OFlags;
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    OpenDir {
        // Not by ours, whose calls are made to fail.
        fd: rustix::fs::open(dir.join(name), flags, rustix::fs::Mode::empty()).unwrap(),
        path: name.into(),
        idmapped: false,
    }
}

/// Seconds since 1970.
pub fn now() -> i64 {
    let now = std::time::SystemTime::now();
    let since = now.duration_since(std::time::UNIX_EPOCH).unwrap();
    i64::try_from(since.as_secs()).unwrap()
}

impl Rig {
    /// Make the trees below `dir`, lowers top first.
    pub fn build(dir: &Path, lowers: &[String], upper: Option<&str>) {
        for (i, spec) in lowers.iter().enumerate() {
            let lower = dir.join(format!("lower{i}"));
            std::fs::create_dir(&lower).unwrap();
            tree::build(&lower, &expand(spec));
            read_lately(&lower, now() + 3600);
        }
        if let Some(spec) = upper {
            let root = upper_root(dir);
            std::fs::create_dir_all(root.join("upper")).unwrap();
            std::fs::create_dir(root.join("work")).unwrap();
            tree::build(&root.join("upper"), &expand(spec));
        }
    }

    /// The union of what [`Rig::build`] made.
    pub fn new(dir: &Path, options: Options, features: Features) -> Rig {
        let lowers = (0..).take_while(|i| dir.join(format!("lower{i}")).exists());
        let lowers = lowers.count();
        let before = (0..lowers).map(|i| Fingerprint::take(&dir.join(format!("lower{i}"))));
        Rig {
            dir: dir.to_owned(),
            options,
            features,
            union: RefCell::new(None),
            held: RefCell::default(),
            labels: RefCell::default(),
            handles: RefCell::default(),
            lowers,
            since: now() - 600,
            before: before.collect(),
            has_upper: Cell::new(upper_root(dir).join("upper").exists()),
            catalog: None,
        }
    }

    /// From now on opened with a catalog of its lowers.
    pub fn catalogued(mut self) -> Rig {
        let made = catalog::build(self.lowers(), &self.options, self.features).unwrap();
        let path = self.dir.join("catalog");
        std::fs::write(&path, made).unwrap();
        self.catalog = Some(path);
        self
    }

    /// The lower layers, opened.
    pub fn lowers(&self) -> Vec<OpenDir> {
        let lower = |i| open_in(&self.dir, &format!("lower{i}"));
        (0..self.lowers).map(lower).collect()
    }

    /// Start it.
    pub fn open(&self) -> Result<(), String> {
        let open = |name: &str| open_in(&upper_root(&self.dir), name);
        let upper = self.has_upper.get();
        let layers = OpenLayers {
            lower: self.lowers(),
            upper: upper.then(|| open("upper")),
            work: upper.then(|| open("work")),
            locks: Vec::new(),
            catalog: self.catalog.as_deref().map(open_file),
        };
        let union = Union::open(layers, &self.options, self.features);
        *self.union.borrow_mut() = Some(union.map_err(|e| e.to_string())?);
        Ok(())
    }

    /// Is it running with a catalog.
    pub fn uses_catalog(&self) -> bool {
        self.with(Union::has_catalog)
    }

    /// Is it running.
    pub fn is_open(&self) -> bool {
        self.union.borrow().is_some()
    }

    /// End it as a clean unmount does.
    pub fn close(&self) {
        self.held.borrow_mut().clear();
        if let Some(union) = self.union.borrow_mut().take() {
            union.close();
        }
    }

    /// End it and start it again.
    pub fn remount(&self) {
        self.close();
        self.open().unwrap_or_else(|e| panic!("{e}"));
    }

    /// Use the union.
    pub fn with<T>(&self, f: impl FnOnce(&Union) -> T) -> T {
        f(self.union.borrow().as_ref().expect("it is open"))
    }

    /// The number of a path, looked up part by part as the kernel does.
    pub fn id(&self, path: &str) -> Result<u64, Errno> {
        let mut id = 1;
        for part in path.split('/').filter(|p| !p.is_empty()) {
            let name = tree::unescape(part);
            id = self.child(id, &name)?;
        }
        Ok(id)
    }

    /// Look up one name; it stays known until [`Rig::forget`].
    pub fn child(&self, id: u64, name: &[u8]) -> Result<u64, Errno> {
        use std::os::unix::ffi::OsStrExt;
        let name = std::ffi::OsStr::from_bytes(name);
        let attr = self.with(|u| u.lookup(id, name))?;
        self.held.borrow_mut().push(attr.id);
        Ok(attr.id)
    }

    /// A number that an operation has made known.
    pub fn hold(&self, id: u64) {
        self.held.borrow_mut().push(id);
    }

    /// The kernel drops its caches.
    pub fn forget(&self) {
        for id in self.held.borrow_mut().drain(..) {
            self.with(|u| u.forget(id, 1));
        }
    }

    /// What differs in the lowers from what was built, if anything.
    pub fn lowers_changed(&self) -> Option<String> {
        self.before.iter().enumerate().find_map(|(i, before)| {
            let now = Fingerprint::take(&self.dir.join(format!("lower{i}")));
            before.changes(&now)
        })
    }

    /// What is in the work directory, which should be nothing.
    pub fn leftovers(&self) -> Vec<String> {
        let dir = upper_root(&self.dir).join("work/work");
        let Ok(entries) = std::fs::read_dir(dir) else {
            return Vec::new();
        };
        entries
            .map(|e| e.unwrap().file_name().to_string_lossy().into_owned())
            .collect()
    }

    /// Names in the hard link index.
    pub fn index(&self) -> Vec<std::ffi::OsString> {
        let Ok(entries) = std::fs::read_dir(self.dir.join("work/index")) else {
            return Vec::new();
        };
        entries.map(|e| e.unwrap().file_name()).collect()
    }
}

impl Drop for Rig {
    fn drop(&mut self) {
        self.close();
    }
}

/// These tests need root: marks are trusted attributes. Under `CI=true` its
/// absence is a failure.
pub fn able() -> bool {
    if rustix::process::geteuid().is_root() {
        return true;
    }
    assert!(
        std::env::var("CI").as_deref() != Ok("true"),
        "this test needs root"
    );
    eprintln!("SKIPPED: this test needs root");
    false
}
