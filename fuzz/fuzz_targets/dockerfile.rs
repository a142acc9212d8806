//! Dockerfiles, `.dockerignore` and what stands in their words.
#![no_main]

use capas::build::dockerfile::{Kind, parse, parse_trigger};
use capas::build::pattern::{Pattern, Patterns};
use capas::build::{lines, mounts};
use capas::store::change::{Changer, Config, Words};
use libfuzzer_sys::fuzz_target;
use std::path::Path;

fuzz_target!(|data: &[u8]| {
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    for escape in ['\\', '`'] {
        let blanked = lines::blank_documents(text, escape);
        assert_eq!(blanked.len(), text.len());
        let words = Words {
            variables: vec!["A=1".to_owned(), "EMPTY=".to_owned()],
            escape,
        };
        let read = [words.expand(text), words.fill_in(text), words.split(text).map(|w| w.concat())];
        for e in read.into_iter().filter_map(Result::err) {
            assert!(!e.to_string().contains('\n'), "{e}");
        }
    }
    match parse(Path::new("Dockerfile"), text) {
        Err(e) => assert!(!e.to_string().contains('\n'), "{e}"),
        Ok(file) => {
            let all = file.stages.iter().flat_map(|s| &s.instructions);
            let (mut changer, mut config) = (Changer::new(file.escape), Config::new());
            for instruction in all {
                assert!(instruction.line > 0);
                match &instruction.kind {
                    Kind::Config(keyword, rest) => {
                        let _ = changer.apply(&mut config, keyword, rest);
                        if keyword == "ONBUILD" {
                            let _ = parse_trigger(rest, file.escape);
                        }
                    }
                    Kind::Run(run) => {
                        for (_, value) in &run.flags {
                            let _ = mounts::parse(value.as_deref().unwrap_or_default(), "/");
                        }
                    }
                    _ => {}
                }
            }
        }
    }
    let (first, rest) = text.split_once('\n').unwrap_or((text, "a/b"));
    if let Ok(pattern) = Pattern::deep(first.as_bytes()) {
        let _ = pattern.matches(rest.as_bytes());
    }
    match Patterns::read(text) {
        Ok(patterns) => drop(patterns.leave_out(rest.as_bytes())),
        Err(e) => assert!(!e.to_string().contains('\n'), "{e}"),
    }
});
