//! Names and values of the attributes by which layers are marked.
#![no_main]

use capas::layer::acl;
use capas::layer::marks::{self, Family, Stored};
use capas::layer::owner::Owner;
use libfuzzer_sys::fuzz_target;
use std::ffi::{CString, OsStr};
use std::os::unix::ffi::OsStrExt;

fuzz_target!(|data: &[u8]| {
    if let Some((handle, uuid)) = marks::origin::decode(data) {
        let again = marks::origin::encode(&handle, uuid).expect("it came from there");
        assert_eq!(marks::origin::decode(&again), Some((handle, uuid)));
    }
    if let Some((upper, difference)) = marks::nlink::decode(data) {
        let again = match upper {
            true => marks::nlink::upper(difference),
            false => marks::nlink::lower(difference),
        };
        assert_eq!(marks::nlink::decode(&again), Some((upper, difference)));
    }
    if let Some(owner) = Owner::parse(data) {
        assert_eq!(Owner::parse(owner.format().as_bytes()), Some(owner));
    }
    for mode in [0, 0o777, 0o640] {
        let _ = acl::inherit(data, mode);
    }
    let name = OsStr::from_bytes(data);
    if let Some(mark) = marks::wh_name(name) {
        assert!(marks::is_wh(&mark));
    }
    // A caller gets back what it gave, and cannot make a mark.
    let Ok(plain) = CString::new(data) else {
        return;
    };
    for family in [Family::Trusted, Family::User] {
        match marks::to_stored(name) {
            Stored::Escaped(stored) => {
                assert_eq!(marks::to_shown(&stored, family).as_deref(), Some(data));
            }
            Stored::Same => assert_eq!(marks::to_shown(&plain, family).as_deref(), Some(data)),
            Stored::Refused => {}
        }
    }
});
