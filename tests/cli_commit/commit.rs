//! `commit`: the image shows what the container shows.

use super::common::tree::{DumpOptions, Mtime, below, compare, dump, escape};
use super::harness::{Cli, ready};
use super::support::{Entry, Tar, diffs, docker_archive, entry};
use capas::container::Containers;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::Command;

/// An image `odd:1` of two layers with all that a container can change.
pub fn odd_image(c: &Cli) {
    let mut lower = Tar::new();
    lower.dir("./");
    for dir in [
        "old",
        "old/sub",
        "old/sub/deep",
        "swap",
        "gone",
        "tree",
        "tree/in",
    ] {
        lower.dir(&format!("{dir}/"));
    }
    lower
        .file("old/a", "a")
        .file("old/sub/b", "b")
        .file("old/sub/deep/c", "c");
    lower
        .file("old/hidden", "no")
        .file("swap/x", "x")
        .file("swap/y", "y");
    lower
        .file("gone/f", "f")
        .file("big", &"0123456789".repeat(20_000));
    lower
        .file("data", "data")
        .file("tree/in/file", "file")
        .file("plain", "plain");
    lower
        .hardlink("tree/link", "tree/in/file")
        .symlink("symlink", "plain");
    lower.add(
        &Entry {
            mode: 0o4755,
            uid: 7,
            gid: 8,
            ..entry("suid", b'0')
        },
        b"suid",
    );
    let upper = Tar::new()
        .dir("old/")
        .file("old/.wh.hidden", "")
        .file("old/second", "2")
        .dir("old/sub/")
        .file("old/sub/late", "l")
        .end();
    let layers = [lower.end(), upper];
    let archive = docker_archive(&layers, &diffs(&layers), &["odd:1"]);
    c.bench.load(&archive).unwrap();
}

pub fn sh(dir: &str, script: &str) {
    let done = Command::new("sh")
        .args(["-ec", script])
        .current_dir(dir)
        .status();
    assert!(done.unwrap().success(), "{script}");
}

/// The tree of a container, and the seconds of its times; that of the root changes
/// with every name in it.
fn shown(c: &Cli, name: &str) -> (super::common::tree::Dump, Vec<String>) {
    let point = c.ok(&["mount", name]);
    let root = Path::new(point.trim_end());
    let options = DumpOptions {
        mtime: Mtime::Ignore,
        ..DumpOptions::default()
    };
    let dump = dump(root, &options);
    let times = dump
        .lines
        .keys()
        .filter(|path| path.as_slice() != b"/")
        .map(|path| {
            let word = escape(path);
            let time = below(root, &word).symlink_metadata().unwrap().mtime();
            format!("{word} {time}")
        });
    let times = times.collect();
    c.ok(&["umount", name]);
    (dump, times)
}

/// `image` shows what the container `name` shows.
fn assert_same(c: &Cli, name: &str, image: &str) {
    c.ok(&["create", "--name", "of-image", image, "x"]);
    let (wanted, got) = (shown(c, name), shown(c, "of-image"));
    if let Some(diff) = compare(&wanted.0, &got.0) {
        panic!("the image differs (- container, + image):\n{diff}");
    }
    assert_eq!(wanted.1, got.1);
    c.ok(&["rm", "of-image"]);
}

fn commit(c: &Cli, args: &[&str]) -> String {
    let id = c.ok(&[&["commit"], args].concat());
    assert!(id.starts_with("sha256:") && id.len() == 72, "{id}");
    id.trim_end().to_owned()
}

fn layers(c: &Cli, image: &str) -> Vec<serde_json::Value> {
    c.told(image, "/RootFS/Layers").as_array().unwrap().clone()
}

const CHANGES: &str = r#"
    mkdir new; echo n >new/f; mkfifo new/pipe; ln new/f new/hard; ln -s ../etc new/sym
    mknod new/dev c 1 3; truncate -s 1M new/sparse; chmod 2751 new; chown 3:4 new/f
    python3 -c 'import os
os.setxattr("new/f", "user.k", b"v\x00=")
os.setxattr("plain", "security.capability", bytes.fromhex("0100000202000000000000000000000000000000"))'
    touch -d @5 new/f; touch -h -d @-5 new/sym
    : >"$(printf 'new/%0150d' 1)"; : >"$(printf 'new/a\nb')"
    mv old moved; echo more >>moved/a; rm moved/sub/b; mkdir moved/sub/deep/more
    mkdir old; echo other >old/a
    rm -r swap; mkdir swap; echo 1 >swap/x
    rm -r gone; echo file >gone
    chmod 600 big; chown 9 data; mv data moved/sub/data2
    rm plain; mkdir plain; echo in >plain/f
    rm symlink; ln -s nowhere symlink
    chmod g-x suid; echo changed >tree/in/file
    mv tree/in tree/renamed; setfacl -m u:5:r tree/renamed 2>/dev/null || true
"#;

#[test]
fn the_image_shows_what_the_container_shows() {
    let Some(c) = ready() else { return };
    odd_image(&c);
    c.ok(&["create", "--name", "one", "odd:1", "x"]);
    let point = c.ok(&["mount", "one"]);
    sh(
        point.trim_end(),
        &CHANGES
            .replace("rm plain;", "rm plain; : >cap;")
            .replace("\"plain\"", "\"suid\""),
    );
    // Mounted, and not.
    commit(&c, &["one", "new:1"]);
    c.ok(&["umount", "one"]);
    commit(&c, &["one", "new:2"]);
    assert_eq!(layers(&c, "new:1"), layers(&c, "new:2"));
    assert_eq!(layers(&c, "new:1").len(), 3);
    assert_same(&c, "one", "new:1");
    c.ok(&["check"]);
    // On top of that.
    c.ok(&["create", "--name", "two", "new:1", "x"]);
    let point = c.ok(&["mount", "two"]);
    sh(
        point.trim_end(),
        "mv moved/sub swap/; rm -r old; mv swap old; rm new/hard; chmod 700 .",
    );
    commit(&c, &["two", "new:3"]);
    c.ok(&["umount", "two"]);
    assert_same(&c, "two", "new:3");
    c.ok(&["rm", "one", "two"]);
    c.ok(&["check"]);
    c.assert_nothing_is_left();
}

#[test]
fn a_layer_says_only_what_is_needed() {
    let Some(c) = ready() else { return };
    odd_image(&c);
    c.ok(&["create", "--name", "one", "odd:1", "x"]);
    let point = c.ok(&["mount", "one"]);
    // What comes and goes, and what there is no other of below.
    sh(
        point.trim_end(),
        "echo 1 >t; rm t; mkdir d; rm -r swap; mkdir swap; rm -r gone",
    );
    commit(&c, &["one", "new:1"]);
    c.ok(&["umount", "one"]);
    let blob = layers(&c, "new:1")[2]
        .as_str()
        .unwrap()
        .replace("sha256:", "");
    let blob = c.bench.store.blobs().join(blob);
    let listed = Command::new("tar").arg("tf").arg(blob).output().unwrap();
    let listed = String::from_utf8(listed.stdout).unwrap();
    let listed: Vec<&str> = listed.lines().collect();
    assert_eq!(listed, ["d/", ".wh.gone", "swap/", "swap/.wh..wh..opq"]);
}

#[test]
fn nothing_changed_makes_no_layer() {
    let Some(c) = ready() else { return };
    // What the runtime makes to mount things at is no change.
    c.ok(&[
        "run", "--name", "one", "-e", "A=b", "box:1", "sh", "-c", "true",
    ]);
    let id = commit(&c, &["-a", "me", "-m", "why", "one"]);
    assert_eq!(layers(&c, &id), layers(&c, "box:1"));
    let steps = c.ok(&[
        "history",
        "--no-trunc",
        "--format",
        "{{.CreatedBy}}|{{.Size}}|{{.Comment}}",
        &id,
    ]);
    assert_eq!(steps.lines().next(), Some("sh -c true|0B|why"));
    assert_eq!(c.told(&id, "/Author"), "me");
    assert_eq!(
        c.told(&id, "/Config/Cmd"),
        serde_json::json!(["sh", "-c", "true"])
    );
    assert_eq!(
        c.told(&id, "/Config/Env"),
        serde_json::json!(["PATH=/bin", "A=b"])
    );
    c.ok(&["rm", "one"]);
}

#[test]
fn instructions_change_the_image() {
    let Some(c) = ready() else { return };
    c.ok(&[
        "run",
        "--name",
        "one",
        "box:1",
        "sh",
        "-c",
        "echo hello >/greeting",
    ]);
    let changes = [
        "-c",
        "CMD [\"cat\", \"/greeting\"]",
        "-c",
        "ENV X=y",
        "-c",
        "EXPOSE 80",
    ];
    commit(&c, &[&changes[..], &["one", "hello:2"]].concat());
    assert_eq!(c.ok(&["run", "--rm", "hello:2"]), "hello\n");
    assert_eq!(
        c.told("hello:2", "/Config/ExposedPorts"),
        serde_json::json!({"80/tcp": {}})
    );
    for (bad, why) in [
        (&["none"][..], "No such container: none"),
        (&["-c", "RUN x", "one"], "change \"RUN x\""),
        (&["one", "UPPER"], "must be lowercase"),
    ] {
        let (code, out, err) = c.run(&[&["commit"], bad].concat());
        assert!(code == 1 && out.is_empty() && err.contains(why), "{err}");
    }
    c.ok(&["rm", "one"]);
    c.ok(&["check"]);
    c.assert_nothing_is_left();
}

#[test]
fn no_time_is_later_than_was_said() {
    let Some(c) = ready() else { return };
    let mut ids = Vec::new();
    for name in ["one", "two"] {
        c.ok(&[
            "run",
            "--name",
            name,
            "box:1",
            "sh",
            "-c",
            "mkdir /d; echo x >/d/f; touch -d '1980-01-02 00:00:00' /d/old",
        ]);
        let out = c
            .command(&["commit", name])
            .env("SOURCE_DATE_EPOCH", "1000000000")
            .output()
            .unwrap();
        ids.push(String::from_utf8(out.stdout).unwrap());
        std::thread::sleep(std::time::Duration::from_millis(1100));
    }
    assert!(ids[0].starts_with("sha256:") && ids[0] == ids[1], "{ids:?}");
    let id = ids[0].trim_end();
    assert_eq!(c.told(id, "/Created"), "2001-09-09T01:46:40Z");
    let times = c.ok(&[
        "run", "--rm", id, "stat", "-c", "%Y", "/d", "/d/f", "/d/old",
    ]);
    assert_eq!(times, "1000000000\n1000000000\n315619200\n");
    let bad = c
        .command(&["commit", "one"])
        .env("SOURCE_DATE_EPOCH", "soon")
        .output()
        .unwrap();
    assert!(
        String::from_utf8(bad.stderr)
            .unwrap()
            .contains("SOURCE_DATE_EPOCH=\"soon\"")
    );
    c.ok(&["rm", "one", "two"]);
}

#[test]
fn a_container_stands_still_as_long_as_somebody_wants_it_to() {
    let Some(c) = ready() else { return };
    let script = "i=0; while :; do i=$((i+1)); echo $i; sleep 0.01; done";
    c.ok(&["run", "-d", "--name", "one", "box:1", "sh", "-c", script]);
    let containers = Containers::new(&c.bench.store);
    let record = containers.find("one").unwrap();
    let lines = || c.ok(&["logs", "one"]).lines().count();
    let goes_on = || {
        let seen = lines();
        c.until("it goes on", || lines() > seen);
    };
    goes_on();
    let (first, second) = (containers.pause(&record), containers.pause(&record));
    for paused in [first.unwrap(), second.unwrap()] {
        let seen = lines();
        std::thread::sleep(std::time::Duration::from_millis(300));
        assert_eq!(lines(), seen);
        drop(paused);
    }
    goes_on();
    commit(&c, &["one", "running:1"]);
    commit(&c, &["-p=false", "one", "running:2"]);
    goes_on();
    // One that is killed wants nothing any more.
    let mut asker = c.command(&["commit", "one"]).spawn().unwrap();
    std::thread::sleep(std::time::Duration::from_millis(30));
    asker.kill().unwrap();
    asker.wait().unwrap();
    goes_on();
    c.ok(&["rm", "-f", "one"]);
}

#[test]
fn podman_shows_the_same() {
    let Some(c) = ready() else { return };
    let Some(podman) = super::podman::ready() else {
        return;
    };
    odd_image(&c);
    c.ok(&["create", "--name", "one", "odd:1", "x"]);
    let point = c.ok(&["mount", "one"]);
    sh(point.trim_end(), &CHANGES.replace("\"plain\"", "\"suid\""));
    commit(&c, &["one", "new:1"]);
    c.ok(&["umount", "one"]);
    let archive = c.bench.dir.path().join("new.tar");
    c.ok(&["save", "-o", archive.to_str().unwrap(), "new:1"]);
    podman.run(&["load", "-q", "-i", archive.to_str().unwrap()]);
    let root = podman.run(&["image", "mount", "docker.io/library/new:1"]);
    let options = DumpOptions::default();
    let mut theirs = dump(Path::new(root.trim_end()), &options);
    podman.run(&["image", "umount", "docker.io/library/new:1"]);
    let mut ours = shown(&c, "one").0;
    // podman gives a root no layer's attributes.
    for dump in [&mut ours, &mut theirs] {
        dump.lines.remove(b"/".as_slice());
    }
    if let Some(diff) = compare(&ours, &theirs) {
        panic!("podman shows another tree (- capas, + podman):\n{diff}");
    }
}
