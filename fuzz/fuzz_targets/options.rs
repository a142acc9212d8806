//! Arguments and options of a mount, as users and other programs type them.
#![no_main]

use capas::mount::args::{Call, parse};
use capas::mount::options::interpret;
use libfuzzer_sys::fuzz_target;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;

fuzz_target!(|data: &[u8]| {
    // One argument a line.
    let typed = data
        .split(|b| *b == b'\n')
        .map(|a| OsStr::from_bytes(a).to_owned());
    let argv = std::iter::once("capasfs".into()).chain(typed);
    if let Ok(Call::Mount(typed)) = parse(argv)
        && let Ok((spec, warnings)) = interpret(typed)
    {
        assert!(!spec.lower.is_empty());
        assert_eq!(spec.upper.is_some(), spec.work.is_some());
        assert!(warnings.iter().all(|w| !w.contains('\n')));
    }
});
