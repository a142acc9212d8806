//! The semantics table again without each ability, with other options, and
//! without privileges in a user namespace.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
#![allow(clippy::indexing_slicing, clippy::print_stderr, missing_docs)]

mod common;
mod direct;

use direct::{cases, variant::Variant};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};

const VARIANTS: &[&str] = &[
    "tmpfile",
    "whiteout_rename",
    "exchange",
    "reflink",
    "handles",
    "open_handles",
    "mknod",
    "trusted",
    "whiteout_rename+exchange+tmpfile",
    "mknod+whiteout_rename+exchange",
    // What is left then are `.wh.` marks.
    "xattr+trusted+mknod",
    "userxattr",
    "redirect_dir=off",
    "redirect_dir=follow",
    "metacopy=off",
    "index=off",
    "xino=on",
    "xino=off",
    "fsync=strict",
    "lazy",
    "lazy+reflink+metacopy=off",
    "userxattr+metacopy=off+redirect_dir=off",
    "catalog",
    "catalog+userxattr",
    "catalog+redirect_dir=off",
    "catalog+xino=on",
    "catalog+handles",
];

const IN_NAMESPACE: &[&str] = &[
    "userns",
    "userns+mknod",
    "userns+tmpfile+exchange",
    "userns+catalog",
];

/// All cases under all variants; how many ran, and what was wrong.
fn run(variants: &[&str], base: &Path) -> (usize, Vec<String>) {
    let next = AtomicUsize::new(0);
    let worker = || {
        let (mut done, mut wrong) = (0, Vec::new());
        while let Some(name) = variants.get(next.fetch_add(1, Ordering::Relaxed)) {
            let variant = Variant::named(name);
            for case in cases::all() {
                match case.run(&variant, base) {
                    Ok(ran) => done += usize::from(ran),
                    Err(e) => wrong.push(e),
                }
            }
        }
        (done, wrong)
    };
    std::thread::scope(|s| {
        let both = [s.spawn(worker), s.spawn(worker)];
        both.into_iter().map(|t| t.join().unwrap()).fold(
            (0, Vec::new()),
            |(n, mut all), (m, wrong)| {
                all.extend(wrong);
                (n + m, all)
            },
        )
    })
}

fn finish(variants: &[&str], (done, wrong): (usize, Vec<String>)) {
    eprintln!("{} variants, {done} cases right", variants.len());
    assert!(done > variants.len() * 30, "too few cases");
    assert!(
        wrong.is_empty(),
        "{} wrong:\n{}",
        wrong.len(),
        wrong.join("\n")
    );
}

#[test]
fn every_case_in_every_variant() {
    if direct::able() {
        finish(VARIANTS, run(VARIANTS, &std::env::temp_dir()));
    }
}

/// Runs again with the uppers on a file system without attributes, in a mount
/// namespace of its own.
#[test]
fn every_case_without_attributes() {
    const UPPERS: &str = "CAPAS_UPPERS_IN";
    const VARIANTS: &[&str] = &["ramfs", "ramfs+mknod"];
    if std::env::var_os(UPPERS).is_some() {
        return finish(VARIANTS, run(VARIANTS, &std::env::temp_dir()));
    }
    if !direct::able() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let out = Command::new("unshare")
        .args(["-m", "sh", "-c"])
        .arg("mount -t ramfs none \"$1\" && exec \"$2\" --exact every_case_without_attributes --nocapture")
        .arg("sh")
        .arg(dir.path())
        .arg(std::env::current_exe().unwrap())
        .env(UPPERS, dir.path())
        .env("RUST_BACKTRACE", "0")
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&out.stderr);
    assert!(out.status.success(), "{text}");
    assert!(text.contains("cases right"), "{text}");
}

/// Runs again in a user namespace of an unprivileged user.
#[test]
fn every_case_in_a_user_namespace() {
    const BASE: &str = "CAPAS_CASES_IN";
    if let Some(base) = std::env::var_os(BASE) {
        return finish(IN_NAMESPACE, run(IN_NAMESPACE, Path::new(&base)));
    }
    if !direct::able() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let open = std::fs::Permissions::from_mode(0o777);
    std::fs::set_permissions(dir.path(), open).unwrap();
    // Where the repository lies may be out of that user's reach.
    let program = dir.path().join("test");
    std::fs::copy(std::env::current_exe().unwrap(), &program).unwrap();
    let out = Command::new("setpriv")
        .args(["--reuid=65534", "--regid=65534", "--clear-groups"])
        .args(["unshare", "-Ur"])
        .arg(&program)
        .args(["--exact", "every_case_in_a_user_namespace", "--nocapture"])
        .env(BASE, dir.path())
        .env("RUST_BACKTRACE", "0")
        .current_dir("/")
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&out.stderr);
    assert!(out.status.success(), "{text}");
    assert!(text.contains("cases right"), "{text}");
}
