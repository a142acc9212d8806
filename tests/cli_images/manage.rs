//! `rmi`, `image prune`, the groups, and what the program says of itself.

use crate::fixture::{image, layer};
use crate::program::Cli;
use capas::cli::units;
use serde_json::json;
use std::io::Write;
use std::process::{Command, Stdio};

/// Bytes of blobs and layers, by du.
fn taken(c: &Cli) -> u64 {
    let out = Command::new("du")
        .args(["-c", "-s", "--block-size=1", "blobs", "layers"])
        .current_dir(c.bench.store.root())
        .output()
        .unwrap();
    let text = String::from_utf8(out.stdout).unwrap();
    let total = text.lines().last().unwrap().split('\t').next().unwrap();
    total.parse().unwrap()
}

fn answered(c: &Cli, args: &[&str], answer: &str) -> String {
    let mut child = Command::new(env!("CARGO_BIN_EXE_capas"))
        .env("CAPAS_ROOT", c.bench.store.root())
        .args(args)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    child
        .stdin
        .take()
        .unwrap()
        .write_all(answer.as_bytes())
        .unwrap();
    let out = child.wait_with_output().unwrap();
    assert!(out.status.success());
    String::from_utf8(out.stdout).unwrap()
}

#[test]
fn prune_takes_what_nobody_uses() {
    let c = Cli::new();
    let one = |name: &str, year: u32, label: &str, names: &[&str]| {
        let config = json!({"created": format!("{year}-01-01T00:00:00Z"), "config": {"Labels": {"l": label}}});
        image(&c, config, &[layer(name, 20_000)], names)
    };
    let dangling = one("a", 2020, "a", &[]);
    let old = one("b", 2020, "b", &["b:1", "h.example/b:2"]);
    let young = one("c", 2023, "c", &["c:1"]);
    let used = one("d", 2020, "d", &["d:1"]);
    c.ok(&["create", "d:1", "/bin/sh"]);
    let question =
        "WARNING! This will remove all dangling images.\nAre you sure you want to continue? [y/N] ";
    assert_eq!(answered(&c, &["image", "prune"], "n\n"), question);
    assert_eq!(answered(&c, &["image", "prune"], ""), question);
    let freed = |args: &[&str], head: &str| {
        let before = taken(&c);
        let out = c.ok(args);
        let size = units::fine_size(before - taken(&c));
        assert_ne!(size, "0B");
        assert_eq!(out, format!("{head}\nTotal reclaimed space: {size}\n"));
    };
    freed(
        &["image", "prune", "-f"],
        &format!("Deleted Images:\ndeleted: sha256:{dangling}\n"),
    );
    assert_eq!(
        answered(
            &c,
            &["image", "prune", "-a", "--filter", "label=none"],
            "y\n"
        ),
        "WARNING! This will remove all images without at least one container associated to them.\n\
         Are you sure you want to continue? [y/N] Total reclaimed space: 0B\n"
    );
    freed(
        &[
            "image",
            "prune",
            "-af",
            "--filter",
            "until=2022-01-01",
            "--filter",
            "label!=c",
        ],
        &format!(
            "Deleted Images:\nuntagged: b:1\nuntagged: h.example/b:2\ndeleted: sha256:{old}\n"
        ),
    );
    freed(
        &["image", "prune", "--all", "--force"],
        &format!("Deleted Images:\nuntagged: c:1\ndeleted: sha256:{young}\n"),
    );
    assert_eq!(c.ok(&["images", "-q"]), format!("{}\n", &used[..12]));
    c.fails(
        &["image", "prune", "--filter", "dangling=true"],
        1,
        "Error: invalid filter 'dangling=true': give KEY=VALUE with one of label, label!, until\n",
    );
}

#[test]
fn rmi_by_digest_and_without_effect_of_no_prune() {
    let c = Cli::new();
    c.load("x", &["x:1", "x:2"]);
    let digest = c.bench.store.images().unwrap()[0].manifest.digest;
    assert_eq!(
        c.ok(&["image", "rm", "--no-prune", "x:2"]),
        "Untagged: x:2\n"
    );
    assert_eq!(
        c.ok(&["images", "-q", &format!("x@{digest}")]),
        c.ok(&["images", "-q"])
    );
    c.fails(&["image", "rm", "none"], 1, "Error: No such image: none\n");
}

#[test]
fn groups_are_the_short_commands() {
    let c = Cli::new();
    c.load("x", &["x:1"]);
    let id = c.ok(&["container", "create", "--name", "one", "x:1", "/bin/sh"]);
    for (long, short) in [
        (vec!["image", "ls"], vec!["images"]),
        (vec!["image", "list", "-q"], vec!["images", "-q"]),
        (vec!["image", "history", "x:1"], vec!["history", "x:1"]),
        (vec!["image", "inspect", "x:1"], vec!["inspect", "x:1"]),
        (vec!["container", "ls", "-aq"], vec!["ps", "-aq"]),
        (
            vec!["container", "ps", "-a", "--format", "{{.Names}}"],
            vec!["ps", "-a", "--format", "{{.Names}}"],
        ),
        (vec!["container", "inspect", "one"], vec!["inspect", "one"]),
    ] {
        assert_eq!(c.ok(&long), c.ok(&short), "{long:?}");
    }
    c.fails(
        &["image", "inspect", "one"],
        1,
        "Error: No such image: one\n",
    );
    c.fails(
        &["container", "inspect", "x:1"],
        1,
        "Error: No such container: x:1\n",
    );
    assert_eq!(c.run(&["container", "run", "none"]).code, 125);
    assert_eq!(c.run(&["image"]).code, 1);
    assert_eq!(c.ok(&["image", "tag", "x:1", "y:1"]), "");
    assert_eq!(c.ok(&["image", "rm", "y:1"]), "Untagged: y:1\n");
    let tar = c.bench.dir.path().join("out.tar");
    c.ok(&["image", "save", "-o", tar.to_str().unwrap(), "x:1"]);
    assert_eq!(
        c.ok(&["image", "load", "-i", tar.to_str().unwrap()]),
        "Loaded image: x:1\n"
    );
    assert_eq!(c.ok(&["container", "rm", id.trim_end()]), id);
}

#[test]
fn mistyped_commands_get_a_suggestion() {
    let c = Cli::new();
    for (args, word) in [
        (vec!["imags"], "'images'"),
        (vec!["image", "histroy"], "'history'"),
        (vec!["images", "--fromat", "json"], "'--format'"),
    ] {
        let done = c.run(&args);
        assert_eq!(done.code, 1, "{args:?}");
        assert!(
            done.err.contains("similar") && done.err.contains(word),
            "{}",
            done.err
        );
    }
    // What is in a group only is suggested there only.
    let done = c.run(&["imag"]);
    assert!(!done.err.contains("prune"), "{}", done.err);
    assert_eq!(c.run(&["image-prune", "-f"]).code, 1);
    assert!(!c.ok(&["completion", "bash"]).contains("image-prune)"));
}

#[test]
fn the_program_describes_itself() {
    let c = Cli::new();
    let version = env!("CARGO_PKG_VERSION");
    assert!(
        c.ok(&["version"])
            .starts_with(&format!("capas version {version}\n"))
    );
    assert_eq!(
        c.ok(&["version", "--format", "{{.Client.Version}}"]),
        format!("{version}\n")
    );
    let json: serde_json::Value = serde_json::from_str(&c.ok(&["version", "-f", "json"])).unwrap();
    assert_eq!(json["Client"]["Os"], "linux");
    assert_eq!(
        c.ok(&["version", "-f", "{{.Server.Version}} {{.Server.Os}}"]),
        format!("{version} linux\n")
    );
    for flag in ["-v", "-V", "--version"] {
        assert_eq!(c.ok(&[flag]), format!("capas {version}\n"));
    }
    for (shell, word) in [
        ("bash", "complete -F _capas"),
        ("zsh", "#compdef capas"),
        ("fish", "complete -c capas"),
    ] {
        let out = c.ok(&["completion", shell]);
        assert!(out.contains(word) && out.contains("history"), "{shell}");
    }
    let dir = c.bench.dir.path().join("man");
    assert_eq!(c.ok(&["man", dir.to_str().unwrap()]), "");
    let page = |name: &str| std::fs::read_to_string(dir.join(name)).unwrap();
    assert!(page("capas.1").contains("capas\\-images(1)"));
    assert!(page("capas-history.1").contains("no\\-trunc"));
    assert!(page("capas-image-prune.1").contains(".TH"));
    c.fails(
        &["man", "/dev/null"],
        1,
        "Error: cannot write manual pages to /dev/null: File exists (os error 17)\n",
    );
}

#[test]
fn it_is_installed_with_its_pages_and_completions() {
    if !crate::support::root() {
        return;
    }
    let tmp = tempfile::tempdir().unwrap();
    let (built, root) = (tmp.path().join("target"), tmp.path().join("root"));
    std::fs::create_dir_all(built.join("release")).unwrap();
    for program in [env!("CARGO_BIN_EXE_capas"), env!("CARGO_BIN_EXE_capasfs")] {
        let name = std::path::Path::new(program).file_name().unwrap();
        std::os::unix::fs::symlink(program, built.join("release").join(name)).unwrap();
    }
    let script = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("scripts/install");
    let out = Command::new(script)
        .arg("/opt/capas")
        .env("DESTDIR", &root)
        .env("CARGO_TARGET_DIR", &built)
        .env("CAPAS_BUILT", "1")
        .output()
        .unwrap();
    assert!(out.status.success(), "{out:?}");
    let version = Command::new(root.join("opt/capas/bin/capas"))
        .arg("version")
        .output()
        .unwrap();
    assert!(version.status.success() && version.stdout.starts_with(b"capas version "));
    for name in ["mount.capasfs", "mount.fuse.capasfs"] {
        let link = std::fs::read_link(root.join("sbin").join(name)).unwrap();
        assert_eq!(link.to_str(), Some("/opt/capas/bin/capasfs"));
    }
    assert!(root.join("opt/capas/bin/capasfs").exists());
    let share =
        |name: &str| std::fs::read_to_string(root.join("opt/capas/share").join(name)).unwrap();
    assert!(share("man/man1/capas-pull.1").contains(".TH"));
    assert!(share("bash-completion/completions/capas").contains("complete -F _capas"));
    assert!(share("zsh/site-functions/_capas").starts_with("#compdef capas"));
    assert!(share("fish/vendor_completions.d/capas.fish").contains("complete -c capas"));
}

/// A command whose output nobody reads: its exit code and its complaints.
fn unread(c: &Cli, args: &[&str]) -> (Option<i32>, String) {
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let out = Command::new(env!("CARGO_BIN_EXE_capas"))
        .env("CAPAS_ROOT", c.bench.store.root())
        .args(args)
        .stdout(writer)
        .output()
        .unwrap();
    (out.status.code(), String::from_utf8(out.stderr).unwrap())
}

#[test]
fn what_is_done_does_not_depend_on_who_reads_of_it() {
    let c = Cli::new();
    // More than a buffer holds.
    let names: Vec<String> = (0..300)
        .map(|n| format!("a-name-that-is-long:{n}"))
        .collect();
    let given: Vec<&str> = names.iter().map(String::as_str).collect();
    c.load("x", &given);
    c.load("y", &["y:1"]);
    for args in [
        &["images"][..],
        &["inspect", "y:1"],
        &["history", "y:1"],
        &["ps", "-a"],
        &["system", "df"],
        &["volume", "ls"],
    ] {
        assert_eq!(unread(&c, args), (Some(0), String::new()), "{args:?}");
    }
    let lost = "Error: cannot write the result: Broken pipe (os error 32)\n";
    let (code, err) = unread(&c, &[&["rmi"], &given[..]].concat());
    assert_eq!((code, err.as_str()), (Some(1), lost));
    assert_eq!(c.ok(&["images", "--format", "{{.Repository}}"]), "y\n");
    assert_eq!(c.ok(&["gc"]), "Total reclaimed space: 0B (0 bytes)\n");
    assert_eq!(unread(&c, &["check"]), (Some(1), lost.to_owned()));
    // Damage is told by the exit code, whoever reads.
    let tree = std::fs::read_dir(c.bench.store.root().join("layers")).unwrap();
    let tree = tree
        .map(|e| e.unwrap().path())
        .find(|p| p.is_dir())
        .unwrap();
    std::fs::remove_file(tree.join("file")).unwrap();
    assert_eq!(unread(&c, &["check"]), (Some(1), String::new()));
}
