//! The passwd and group files of an image, and who is asked for: three parts
//! with NUL between.
#![no_main]

use capas::container::user::resolve;
use capas_fuzz::scratch;
use libfuzzer_sys::fuzz_target;
use std::fs::{self, File};

fuzz_target!(|data: &[u8]| {
    let mut parts = data.splitn(3, |b| *b == 0);
    let user = String::from_utf8_lossy(parts.next().unwrap_or_default());
    let etc = scratch().join("etc");
    let _ = fs::create_dir(&etc);
    fs::write(etc.join("passwd"), parts.next().unwrap_or_default()).expect("passwd");
    fs::write(etc.join("group"), parts.next().unwrap_or_default()).expect("group");
    let root = File::open(scratch()).expect("the root");
    match resolve(&root, &user) {
        Ok(ids) => assert_eq!(ids.groups.first(), Some(&ids.gid)),
        Err(e) => assert!(!e.to_string().contains('\n')),
    }
});
