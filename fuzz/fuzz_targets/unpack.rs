//! A layer into a directory: nothing beside it is touched.
#![no_main]

use capas::store::discard::remove_tree;
use capas::store::unpack::{Limits, Unpacker};
use capas_fuzz::{reader, scratch, seal};
use libfuzzer_sys::fuzz_target;
use std::fs::{self, File};

fuzz_target!(|data: &[u8]| {
    let tar = seal(data);
    let dir = scratch();
    let tree = dir.join("tree");
    let canary = dir.join("canary");
    fs::create_dir(&tree).expect("a directory");
    fs::write(&canary, "untouched").expect("a file");
    let limits = Limits {
        members: 1000,
        bytes: 1 << 20,
        ..Limits::default()
    };
    let root = File::open(&tree).expect("the directory");
    let mut unpacker = Unpacker::new(&root, limits).expect("an unpacker");
    let mut reader = reader(&tar, 8);
    let run = || {
        while let Some(member) = reader.member()? {
            unpacker.add(&member, &mut reader)?;
        }
        unpacker.finish()
    };
    if let Err(e) = run() {
        assert!(!e.to_string().contains('\n'));
    }
    assert_eq!(fs::read(&canary).expect("the file"), b"untouched");
    let names = fs::read_dir(dir).expect("the directory").count();
    assert_eq!(names, 2, "something is beside the tree");
    remove_tree(&tree).expect("the tree goes away");
});
