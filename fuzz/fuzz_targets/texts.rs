//! What people and their files give in words: templates, changes to a
//! configuration, platforms.
#![no_main]

use capas::cli::template::Template;
use capas::store::change::{Config, apply};
use capas::store::document::Platform;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    let value = serde_json::json!({
        "ID": "0123", "Size": 7, "Names": ["a", "b"], "Labels": {"k": "v"}, "None": null,
    });
    for parse in [Template::parse, Template::heading] {
        if let Ok(template) = parse(text) {
            let _ = template.render(&value);
        }
    }
    let mut config = Config::new();
    if let Err(e) = apply(&mut config, &[text.to_owned()]) {
        assert!(!e.to_string().contains('\n'), "{e}");
    }
    if let Err(e) = Platform::parse(text) {
        assert!(!e.to_string().contains('\n'), "{e}");
    }
});
