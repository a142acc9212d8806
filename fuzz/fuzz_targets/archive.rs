//! The members of an image archive by name, compressed ones too.
#![no_main]

use capas::store::archive::Archive;
use capas::store::staging::Staging;
use capas_fuzz::{scratch, seal};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let tar = seal(data);
    let staging = Staging::new(scratch()).expect("staging");
    let Ok(archive) = Archive::from_stream(tar.as_slice(), &staging) else {
        return;
    };
    let Archive::Tar(file, table) = &archive else {
        panic!("a stream became a directory");
    };
    let end = file.metadata().expect("its size").len();
    for name in table.keys() {
        let Ok(name) = std::str::from_utf8(name) else {
            continue;
        };
        if let Ok(range) = archive.find(name) {
            assert!(range.len() <= end);
            let data = archive.read(name, end).expect("what is there can be read");
            assert_eq!(data.len() as u64, range.len());
        }
    }
    for name in ["index.json", "manifest.json", "../x", ""] {
        let _ = archive.has(name);
    }
});
