//! The house's rules that a grep can see.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

use std::path::{Path, PathBuf};

fn sources(dir: &Path, out: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            sources(&path, out);
        } else if path.extension().is_some_and(|e| e == "rs") {
            out.push(path);
        }
    }
}

/// Lines outside comments that hold one of `words`, in files outside `allowed`.
fn offenders(words: &[&str], allowed: &[&str]) -> Vec<String> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = Vec::new();
    sources(&root, &mut files);
    assert!(files.len() > 50, "the sources are not where they were");
    let mut found = Vec::new();
    for file in files {
        let name = file.strip_prefix(&root).unwrap().display().to_string();
        if allowed.iter().any(|a| name.starts_with(a)) {
            continue;
        }
        for (n, line) in std::fs::read_to_string(&file).unwrap().lines().enumerate() {
            let code = line.split("//").next().unwrap_or_default();
            if words.iter().any(|w| code.contains(w)) {
                found.push(format!("{name}:{}: {line}", n + 1));
            }
        }
    }
    found
}

#[test]
fn only_the_adapter_names_fuser() {
    let found = offenders(&["fuser::", "use fuser"], &["fuse/"]);
    assert_eq!(found, Vec::<String>::new());
}

#[test]
fn unsafe_stays_in_sys() {
    let found = offenders(&["unsafe ", "unsafe{"], &["sys/"]);
    assert_eq!(found, Vec::<String>::new());
}

#[test]
fn the_library_does_not_print() {
    let found = offenders(
        &["println!", "eprintln!", "print!(", "dbg!"],
        &["mount/check/tests.rs"],
    );
    assert_eq!(found, Vec::<String>::new());
}

#[test]
fn the_union_makes_no_system_calls_of_its_own() {
    let found = offenders(
        &["rustix::", "libc::syscall", "std::fs::"],
        &[
            "sys/",
            "store/",
            "layers/",
            "build/",
            "registry/",
            "config.rs",
            "container/",
            "cli/",
            "mount/",
            "bin/",
        ],
    );
    assert_eq!(found, Vec::<String>::new());
}
