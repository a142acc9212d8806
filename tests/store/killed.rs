//! A load that fails or dies anywhere leaves nothing listed and nothing in the
//! way of the next one.

use super::support::*;
use std::path::Path;
use std::process::{Command, Output};

fn archive(words: &str, name: &str) -> Vec<u8> {
    let lower = Tar::new()
        .dir("d/")
        .file("d/f", words)
        .symlink("l", "d")
        .file("d/.wh.g", "")
        .hardlink("m", "d/f")
        .end();
    let layers = [lower, Tar::new().file("d/h", words).end()];
    docker_archive(&layers, &diffs(&layers), &[name])
}

fn capas(root: &Path, args: &[&str], fail: Option<String>) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_capas"));
    command
        .arg("--root")
        .arg(root)
        .args(args)
        .env_remove("CAPAS_FAIL");
    command.envs(fail.map(|f| ("CAPAS_FAIL", f)));
    command.output().unwrap()
}

fn listed(root: &Path) -> Vec<String> {
    let out = capas(root, &["images"], None);
    assert!(out.status.success());
    let text = String::from_utf8(out.stdout).unwrap();
    let names = text
        .lines()
        .skip(1)
        .map(|l| l.split_whitespace().next().unwrap().to_owned());
    let mut names: Vec<String> = names.collect();
    names.sort();
    names
}

/// Let call after call meet `what` until a load comes through.
fn campaign(what: &str) -> u64 {
    let b = Bench::new();
    let root = b.store.root().to_owned();
    b.load(&archive("old", "old")).unwrap();
    let clean = b.contents();
    let path = b.write("new.tar", &archive("new", "new"));
    let path = path.to_str().unwrap();
    for nth in 1.. {
        let hit = capas(&root, &["load", "-i", path], Some(format!("{nth}:{what}")));
        if hit.status.success() {
            assert_eq!(listed(&root), ["new", "old"]);
            return nth - 1;
        }
        if what != "kill" {
            // An error is told, and what was staged is taken away at once.
            let text = String::from_utf8(hit.stderr).unwrap();
            assert!(
                text.starts_with("Error: ") && text.lines().count() == 1,
                "{nth}: {text}"
            );
            assert!(b.contents().iter().all(|n| !n.starts_with("tmp/")), "{nth}");
        }
        let now = listed(&root);
        assert!(now == ["old"] || now == ["new", "old"], "{nth}: {now:?}");
        let again = capas(&root, &["load", "-i", path], None);
        assert!(
            again.status.success(),
            "{nth}: {}",
            String::from_utf8_lossy(&again.stderr)
        );
        assert_eq!(listed(&root), ["new", "old"], "{nth}");
        let tree = b.store.find_image("new").unwrap().0;
        let (config, _) = b.store.image_config(&tree.id).unwrap();
        let record = &b.store.image_layers(&config).unwrap()[0];
        let dir = b.store.layer_dir(&record.name());
        assert_eq!(std::fs::read_to_string(dir.join("d/f")).unwrap(), "new");
        assert!(capas(&root, &["rmi", "new"], None).status.success());
        assert_eq!(b.contents(), clean, "{nth}");
    }
    unreachable!()
}

#[test]
fn a_load_that_is_killed_leaves_nothing_in_the_way() {
    let points = campaign("kill");
    assert!(points > 30, "only {points} points");
}

#[test]
fn a_load_that_fails_takes_back_what_it_did() {
    // No space left, at every call.
    let points = campaign("28");
    assert!(points > 30, "only {points} points");
}
