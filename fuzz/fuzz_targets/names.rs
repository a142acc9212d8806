//! References, digests, times, sizes; and what is shown of foreign text.
#![no_main]

use capas::cli::units;
use capas::layers::label::{label, one_line};
use capas::store::error::show;
use capas::store::{Digest, Name, Reference, time};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    for shown in [label(data), show(data)] {
        assert!(!shown.chars().any(char::is_control), "{shown:?}");
    }
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    assert!(!one_line(text).chars().any(char::is_control));
    if let Ok(digest) = Digest::parse(text) {
        assert_eq!(digest.to_string(), text);
    }
    match Name::parse(text) {
        Ok(name) => {
            let full = name.reference.to_string();
            // Two dots may stand in a tag, but nowhere else.
            let repository = name.reference.familiar();
            assert!(!repository.contains("..") && !full.contains("//"), "{full}");
            assert_eq!(Reference::parse(&full).ok().as_ref(), Some(&name.reference));
            let familiar = name.reference.familiar_tagged();
            assert_eq!(
                Reference::parse(&familiar).ok(),
                Some(name.reference),
                "{familiar}"
            );
        }
        Err(e) => assert!(!e.to_string().contains('\n')),
    }
    let _ = units::parse_size(text);
    if let Some(time) = time::parse(text) {
        let again = time::format(time, 0);
        if !again.starts_with('-') {
            assert_eq!(time::parse(&again), Some(time), "{again}");
        }
    }
});
