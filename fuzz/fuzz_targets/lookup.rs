//! Layers with any marks: nothing outside of them is ever seen.
//!
//! A line makes one thing: the layer's number, the kind (`d`, `f`, `l` or `w`),
//! the path, and after each NUL the number of a mark and its value. What
//! stands before marks is a symlink's target where it begins with `>`.
#![no_main]

use capas::layer::marks::{Family, Mark};
use capas::layer::open::{OpenDir, OpenLayers};
use capas::store::discard::remove_tree;
use capas::sys::probe::Features;
use capas::sys::{At, fs as sfs, xattr};
use capas::union::Union;
use capas::union::options::{Fsync, Options};
use capas_fuzz::scratch;
use libfuzzer_sys::fuzz_target;
use std::ffi::{OsStr, OsString};
use std::fs::{self, File};
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, symlink};
use std::path::Path;

const LAYERS: [&str; 4] = ["lower0", "lower1", "lower2", "upper"];
const MARKS: [Mark; 8] = [
    Mark::Opaque,
    Mark::Redirect,
    Mark::Metacopy,
    Mark::Origin,
    Mark::Impure,
    Mark::Nlink,
    Mark::Whiteout,
    Mark::Plain,
];
const CANARY: &[u8] = b"not in any layer";

/// Make what a line says, if it can be; only directories are made ready for it.
fn make(base: &Path, line: &[u8]) {
    let [layer, kind, rest @ ..] = line else {
        return;
    };
    let root = base.join(LAYERS[usize::from(*layer) % LAYERS.len()]);
    let mut parts = rest.split(|b| *b == 0);
    let names: Vec<&OsStr> = parts
        .next()
        .unwrap_or_default()
        .split(|b| *b == b'/')
        .filter(|n| !matches!(*n, b"" | b"." | b"..") && n.len() <= 255)
        .take(4)
        .map(OsStr::from_bytes)
        .collect();
    let Some((name, above)) = names.split_last() else {
        return;
    };
    let mut dir = root;
    for name in above {
        dir.push(name);
        let _ = fs::create_dir(&dir);
        if !fs::symlink_metadata(&dir).is_ok_and(|m| m.is_dir()) {
            return;
        }
    }
    let path = dir.join(name);
    let mut parts = parts.peekable();
    let target = parts.next_if(|p| p.starts_with(b">"));
    match kind {
        b'f' if !path.is_symlink() => drop(fs::write(&path, "in")),
        b'l' => {
            let target = target.and_then(|t| t.get(1..)).unwrap_or(b"/");
            let _ = symlink(OsStr::from_bytes(target), &path);
        }
        b'w' => {
            let dir = File::open(&dir).expect("the directory");
            let _ = sfs::mknod(&dir, name, libc::S_IFCHR, 0);
        }
        _ => drop(fs::create_dir(&path)),
    }
    let dir = File::open(&dir).expect("the directory");
    for part in parts {
        let [mark, value @ ..] = part else { continue };
        let mark = MARKS[usize::from(*mark) % MARKS.len()];
        let family = [Family::Trusted, Family::User][usize::from(value.len() % 7 == 6)];
        let _ = xattr::set(At::Name(dir.as_fd(), name), mark.name(family), value, 0);
    }
}

/// Look at all there is, a few levels deep.
fn look(union: &Union, id: u64, depth: usize, left: &mut usize, outside: &[u64]) {
    let mut names: Vec<OsString> = ["a", "b", "l", ".wh.a"].map(OsString::from).into();
    let _ = union.readdir(id, 0, |entry| {
        names.push(entry.name.clone());
        names.len() < 64
    });
    for name in names.iter().filter(|n| *n != "." && *n != "..") {
        if *left == 0 {
            return;
        }
        *left -= 1;
        let Ok(attr) = union.lookup(id, name) else {
            continue;
        };
        assert!(!outside.contains(&attr.stat.ino), "{name:?} is outside");
        let _ = union.readlink(attr.id);
        let _ = union.getxattr(attr.id, OsStr::new("trusted.overlay.redirect"));
        let mut data = [0; 64];
        if let Ok(n) = union.read(attr.id, 0, &mut data) {
            assert_ne!(data.get(..n), Some(CANARY), "{name:?}");
        }
        if depth > 0 {
            look(union, attr.id, depth - 1, left, outside);
        }
        union.forget(attr.id, 1);
    }
}

fuzz_target!(|data: &[u8]| {
    let base = scratch().join("layers");
    for dir in LAYERS.iter().chain(&["work", "outside"]) {
        fs::create_dir_all(base.join(dir)).expect("a directory");
    }
    fs::write(base.join("outside/a"), CANARY).expect("a file");
    for line in data.split(|b| *b == b'\n').take(40) {
        make(&base, line);
    }
    let ino = |path: &Path| fs::metadata(path).expect("it is there").ino();
    let outside = ["", "..", "outside", "outside/a"].map(|p| ino(&base.join(p)));
    let open = |name: &str| OpenDir {
        fd: sfs::open_dir_path(rustix::fs::CWD, base.join(name).as_os_str()).expect("a layer"),
        path: name.into(),
        idmapped: false,
    };
    let upper = data.len() % 2 == 0;
    let layers = OpenLayers {
        lower: LAYERS[..3].iter().map(|name| open(name)).collect(),
        upper: upper.then(|| open("upper")),
        work: upper.then(|| open("work")),
        locks: Vec::new(),
        catalog: None,
    };
    let options = Options {
        fsync: Fsync::Volatile,
        ..Options::default()
    };
    let union = Union::open(layers, &options, Features::all()).expect("a union");
    let mut left = 300;
    look(&union, 1, 4, &mut left, &outside);
    union.close();
    drop(union);
    remove_tree(&base).expect("it goes away");
});
