//! The operations of the campaign and the layers that each of them meets.

use crate::common::tree::Dump;
use crate::direct::{Rig, variant::Variant};
use capas::union::options::Fsync;
use std::path::Path;

const OPS: &str = include_str!("../cases/faults.ops");

const TOP: &str = r#"
/ dir mtime=1.000000001
/low dir 0755 mtime=2.000000002 user.k="dir"
/low/f file 0644 7:8 data="0123456789" mtime=3.000000003 user.k="v"
/low/big file 0600 size=5000 data=@4 mtime=4.000000004
/low/set file 6755 7:8 data="set" mtime=5.5 cap=0x0100000200040000000000000000000000000000
/low/acl file 0644 data="acl" acl=u::rw-,u:9:rw-,g::r--,m::rw-,o::r--
/low/sub dir 0750 mtime=6.000000006 user.k="sub"
/low/sub/x file data="x" mtime=6.5
/low/empty dir 0700
/low/h1 file data="hard" mtime=7.5
/low/h2 link /low/h1
/hl link /low/h1
/k1 file data="index" mtime=8.5
/k2 link /k1
/merged/gone file data="gone"
/merged/gonedir/a file
/merged/meta file 0644 data="metadata" mtime=9.5
/merged/up file data="old"
/mw/a file
/mw/b file
/rd/x file data="rd"
/rd/sub/y file
/low/pipe fifo
/sym symlink -> /low/f
/acl dir default=u::rwx,u:9:rwx,g::r-x,m::rwx,o::---
"#;

const BOTTOM: &str = r#"
/low/bottom file data="bottom"
/merged/b file data="b" mtime=10.5
/rd/z file data="z"
/opq/hidden file
"#;

const SETUP: &str = r#"
mkdir /pure 0755
create /pure/f 0644 "pure"
create /pure/set 0644 "set"
chown /pure/set 9:9
chmod /pure/set 6755
mkdir /pure/e 0700
utimens /pure/f 1.5 1.5
utimens /pure/set 1.5 1.5
unlink /merged/gone
unlink /merged/gonedir/a
rmdir /merged/gonedir
chmod /merged/meta 0640
write /merged/up 0 "new"
utimens /merged/up 2.5 2.5
unlink /mw/a
unlink /mw/b
rename /rd /merged/moved
unlink /opq/hidden
rmdir /opq
mkdir /opq 0711
chmod /k1 0640
create /upl1 0644 "upl"
link /upl1 /upl2
mkdir /merged/gonedirless 0755
"#;

pub struct Op {
    /// In several calls.
    pub parts: bool,
    /// All but the last are done before.
    pub steps: Vec<&'static str>,
}

impl Op {
    pub fn name(&self) -> String {
        self.steps.join(" ; ")
    }

    pub fn last(&self) -> &'static str {
        self.steps.last().unwrap()
    }
}

pub fn all_ops() -> Vec<Op> {
    OPS.lines()
        .filter(|l| !l.is_empty() && !l.starts_with('#'))
        .map(|l| Op {
            parts: l.starts_with("~ "),
            steps: l.trim_start_matches("~ ").split(" ; ").collect(),
        })
        .collect()
}

/// Layers with everything in them, as an earlier mount left them.
fn prepare(dir: &Path, variant: &Variant) {
    Rig::build(dir, &[TOP.into(), BOTTOM.into()], Some(""));
    let mut options = variant.options.clone();
    options.fsync = Fsync::Volatile;
    let rig = Rig::new(dir, options, variant.features);
    rig.open().unwrap();
    for line in SETUP.lines().filter(|l| !l.is_empty()) {
        // What a variant cannot do is not there in it.
        let done = rig.op(line);
        assert!(
            done.is_ok() || variant.name != "default",
            "{line}: {done:?}"
        );
    }
    rig.close();
}

/// The tree without what no operation promises: times of directories.
pub fn view(rig: &Rig) -> Dump {
    let mut dump = rig.view();
    for line in dump.lines.values_mut() {
        if line.starts_with("dir ") {
            let words: Vec<&str> = line
                .split(' ')
                .filter(|w| !w.starts_with("mtime="))
                .collect();
            *line = words.join(" ");
        }
    }
    dump
}

pub struct Bed {
    pub dir: tempfile::TempDir,
    pub rig: Rig,
}

/// On a tmpfs where there is one: syncs of a disk take most of the time, and
/// say nothing here. `CAPAS_TEST_DIR` is another place.
fn base() -> std::path::PathBuf {
    let shm = Path::new("/dev/shm");
    match std::env::var_os("CAPAS_TEST_DIR") {
        Some(dir) => dir.into(),
        None if shm.is_dir() => shm.into(),
        None => std::env::temp_dir(),
    }
}

pub fn bed(variant: &Variant) -> Bed {
    let dir = tempfile::Builder::new()
        .prefix("capas-fault.")
        .tempdir_in(base())
        .unwrap();
    prepare(dir.path(), variant);
    let rig = Rig::new(dir.path(), variant.options.clone(), variant.features);
    Bed { dir, rig }
}

pub fn before(rig: &Rig, op: &Op) {
    rig.open().unwrap();
    for step in &op.steps[..op.steps.len() - 1] {
        rig.op(step).unwrap();
    }
}
