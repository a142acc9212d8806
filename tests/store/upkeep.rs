//! `prune` frees what it says.

use super::check::du;
use super::support::*;
use serde_json::Value;
use std::io::Write;
use std::process::{Command, Stdio};

/// Exit code, standard output and standard error.
pub fn capas(b: &Bench, args: &[&str], answer: &str) -> (i32, String, String) {
    let mut child = Command::new(env!("CARGO_BIN_EXE_capas"))
        .arg("--root")
        .arg(b.store.root())
        .args(args)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // Who asks nothing may be gone already.
    let _ = child.stdin.take().unwrap().write_all(answer.as_bytes());
    let out = child.wait_with_output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (
        out.status.code().unwrap(),
        text(out.stdout),
        text(out.stderr),
    )
}

pub fn ok(b: &Bench, args: &[&str]) -> String {
    let (code, out, err) = capas(b, args, "");
    assert_eq!(code, 0, "{args:?}: {err}");
    out
}

pub fn load(b: &Bench, name: &str, layers: &[Vec<u8>]) {
    b.load(&docker_archive(layers, &diffs(layers), &[name]))
        .unwrap();
}

pub fn rows(b: &Bench) -> Vec<Value> {
    let text = ok(b, &["system", "df", "--format", "json"]);
    text.lines()
        .map(|l| serde_json::from_str(l).unwrap())
        .collect()
}

pub fn base_layer() -> Vec<u8> {
    let mut tar = Tar::new();
    tar.dir("d/");
    for n in 0..30 {
        tar.file(&format!("d/{n}"), &"base".repeat(n * 1000));
    }
    tar.hardlink("d/again", "d/29").end()
}

/// A store with two images on one base, and one of its own.
pub fn filled() -> Bench {
    let b = Bench::new();
    let base = base_layer();
    load(
        &b,
        "one:1",
        &[base.clone(), Tar::new().file("one", "1").end()],
    );
    load(&b, "two:1", &[base, Tar::new().file("two", "2").end()]);
    load(
        &b,
        "three:1",
        &[Tar::new().file("three", &"3".repeat(70_000)).end()],
    );
    b
}

#[test]
fn prune_frees_what_it_says() {
    let b = filled();
    let size = || du(&[b.store.root().to_owned()]);
    let id = ok(&b, &["create", "--name", "box", "one:1"])
        .trim()
        .to_owned();
    // An image that lost its name, and one that keeps it.
    load(&b, "three:1", &[Tar::new().file("new", "3").end()]);
    let before = size();
    let (code, out, _) = capas(&b, &["system", "prune"], "n\n");
    assert_eq!(code, 0);
    assert!(
        out.starts_with(
            "WARNING! This will remove:\n  - all stopped containers\n  - all dangling images\n"
        ),
        "{out}"
    );
    assert!(
        out.ends_with("Are you sure you want to continue? [y/N] "),
        "{out}"
    );
    assert_eq!(size(), before);
    let (code, out, err) = capas(&b, &["system", "prune"], "y\n");
    assert_eq!((code, err.as_str()), (0, ""));
    assert!(
        out.contains(&format!(
            "Deleted Containers:\n{id}\n\nDeleted Images:\ndeleted: sha256:"
        )),
        "{out}"
    );
    let freed = capas::cli::units::fine_size(before - size());
    assert!(
        out.ends_with(&format!("Total reclaimed space: {freed}\n")),
        "{freed}: {out}"
    );
    assert_eq!(ok(&b, &["images", "-q"]).lines().count(), 3);
    assert_eq!(
        ok(&b, &["system", "prune", "-f"]),
        "Total reclaimed space: 0B\n"
    );
    // Only what no container uses.
    ok(&b, &["create", "--name", "box", "one:1"]);
    let before = size();
    assert_eq!(
        ok(
            &b,
            &[
                "system",
                "prune",
                "-a",
                "-f",
                "--filter",
                "until=2020-01-01"
            ]
        ),
        "Total reclaimed space: 0B\n"
    );
    assert_eq!(
        ok(
            &b,
            &["system", "prune", "-a", "-f", "--filter", "label=none"]
        ),
        "Total reclaimed space: 0B\n"
    );
    let out = ok(
        &b,
        &[
            "system",
            "prune",
            "-af",
            "--filter",
            "label!=none",
            "--filter",
            "until=2024-06-01",
        ],
    );
    assert!(!out.contains("Deleted Containers"), "{out}");
    assert!(
        out.contains("untagged: two:1\ndeleted: sha256:") && out.contains("untagged: three:1\n"),
        "{out}"
    );
    let freed = capas::cli::units::fine_size(before - size());
    assert!(
        out.ends_with(&format!("Total reclaimed space: {freed}\n")),
        "{freed}: {out}"
    );
    assert!(ok(&b, &["images"]).contains("one"));
    let out = ok(&b, &["container", "prune", "-f"]);
    assert!(out.starts_with("Deleted Containers:\n"), "{out}");
    let (code, _, err) = capas(&b, &["system", "prune", "-f", "--filter", "colour=red"], "");
    assert!(
        code == 1 && err.contains("invalid filter 'colour=red'"),
        "{err}"
    );
    if root() {
        let (code, out, _) = capas(&b, &["check"], "");
        assert!(code == 0 && out.contains(" 0 unused"), "{out}");
    }
}

#[test]
fn containers_are_pruned_by_their_own_labels() {
    let b = filled();
    let create = |name: &str, more: &[&str]| {
        let args = [&["create", "--name", name], more, &["one:1"]].concat();
        ok(&b, &args).trim().to_owned()
    };
    let kept = create("kept", &["--label", "keep=yes"]);
    let gone = create("gone", &[]);
    // What the image says of itself is nobody's business, even if it is gone.
    ok(&b, &["rmi", "-f", "one:1"]);
    let out = ok(&b, &["container", "prune", "-f", "--filter", "label!=keep"]);
    assert!(
        out.starts_with(&format!("Deleted Containers:\n{gone}\n\n")),
        "{out}"
    );
    let left = || ok(&b, &["ps", "-aq", "--no-trunc"]);
    assert_eq!(left(), format!("{kept}\n"));
    let prune = ["system", "prune", "-f", "--filter"];
    ok(&b, &[&prune[..], &["label=keep=no"]].concat());
    assert_eq!(left(), format!("{kept}\n"));
    ok(&b, &[&prune[..], &["label=keep"]].concat());
    assert_eq!(left(), "");
}

#[test]
fn blobs_are_pruned_after_a_question() {
    let b = Bench::new();
    let big = Tar::new().file("big", &"3".repeat(300_000)).end();
    load(&b, "one:1", &[big]);
    let size = || du(&[b.store.root().to_owned()]);
    let before = size();
    let blob = b
        .store
        .described_layers(&b.store.images().unwrap()[0])
        .unwrap()[0]
        .blob
        .digest;
    let question = "WARNING! This will remove the compressed layers of all images.\n\
         Images that are saved after that have their layers uncompressed, those that are pushed have them compressed again, under other digests.\n\
         Are you sure you want to continue? [y/N] ";
    let asked = |answer: &str| capas(&b, &["prune", "--blobs"], answer);
    assert_eq!(asked("n\n"), (0, question.to_owned(), String::new()));
    let taken = du(&[b.store.blob(&blob)]);
    let most = capas::cli::units::fine_size(taken);
    assert_eq!(
        ok(&b, &["prune", "--blobs", "--dry-run"]),
        format!("Would delete: {blob}\nReclaimable space, at most: {most}\n")
    );
    assert_eq!(size(), before);
    let (code, out, err) = asked("y\n");
    let freed = capas::cli::units::fine_size(before - size());
    let told = format!("{question}Deleted: {blob}\nTotal reclaimed space: {freed}\n");
    assert_eq!((code, out, err), (0, told, String::new()));
    assert_eq!(
        ok(&b, &["prune", "--blobs", "-f"]),
        "Total reclaimed space: 0B\n"
    );
    assert_eq!(capas(&b, &["prune"], "").0, 1);
}
