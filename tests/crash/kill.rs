//! kill -9 at random calls and at random times.

use super::*;
use crate::images::{Pack, image, layer, noise};
use crate::served::{Content, Served, put};
use std::fs;
use std::process::Stdio;
use std::time::{Duration, Instant};

/// A store to begin with, of which every attempt gets a copy.
struct Campaign<'a> {
    name: &'a str,
    args: Vec<&'a str>,
    /// Images that are there before and must be after.
    kept: BTreeSet<String>,
    /// What may be there too.
    may: BTreeSet<String>,
    /// What is refused when a killed command had done its work already.
    already: Option<&'a str>,
    /// A repeat takes away all that was left; else `gc` does.
    tidies: bool,
}

fn names(all: &[&str]) -> BTreeSet<String> {
    all.iter().map(|n| (*n).to_owned()).collect()
}

fn copy(from: &Path, to: &Path) {
    let _ = fs::remove_dir_all(to);
    let done = Command::new("cp").arg("-a").args([from, to]).status();
    assert!(done.unwrap().success());
}

impl Campaign<'_> {
    fn run(&self, template: &Path, dir: &Path) {
        if !support::root() {
            return;
        }
        let root = dir.join("store");
        let mut random = Random::new(self.name);
        // How many calls there are, by halving, and how long it takes.
        let (mut low, mut high) = (1, 4096);
        while low < high {
            let middle = u64::midpoint(low, high);
            copy(template, &root);
            match self.killed_at_call(&root, middle) {
                true => low = middle + 1,
                false => high = middle,
            }
        }
        let calls = low - 1;
        assert!((2..4000).contains(&calls), "{}: {calls} calls", self.name);
        copy(template, &root);
        let begun = Instant::now();
        capas(&root, &self.args);
        let time = begun.elapsed();
        let (mut killed, mut attempts) = (0, 0);
        while killed < points() {
            copy(template, &root);
            attempts += 1;
            let (when, hit) = match attempts % 2 {
                0 => {
                    let call = 1 + random.below(calls);
                    (format!("call {call}"), self.killed_at_call(&root, call))
                }
                _ => {
                    let micros = random.below(time.as_micros() as u64);
                    (format!("{micros} us"), self.killed_after(&root, micros))
                }
            };
            killed += u64::from(hit);
            assert!(attempts < 10 + 5 * points(), "only {killed} were killed");
            self.recovered(&root, &format!("{} killed at {when}", self.name));
        }
        eprintln!(
            "{}: {killed} kills in {attempts} attempts, of {calls} calls",
            self.name
        );
    }

    fn killed_at_call(&self, root: &Path, call: u64) -> bool {
        let mut command = command(root, &self.args);
        let out = command
            .env("CAPAS_FAIL", format!("{call}:kill"))
            .output()
            .unwrap();
        assert!(out.status.code().is_none_or(|c| c == 0), "{}", text(&out));
        !out.status.success()
    }

    fn killed_after(&self, root: &Path, micros: u64) -> bool {
        let mut command = command(root, &self.args);
        let mut child = command
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        std::thread::sleep(Duration::from_micros(micros));
        child.kill().unwrap();
        child.wait().unwrap().code().is_none()
    }

    fn recovered(&self, root: &Path, when: &str) {
        sound(root, when);
        let now = listed(root);
        assert!(now.is_superset(&self.kept), "{when}: {now:?}");
        let all: BTreeSet<String> = self.kept.union(&self.may).cloned().collect();
        assert!(now.is_subset(&all), "{when}: {now:?}");
        let again = command(root, &self.args).output().unwrap();
        let said = text(&again);
        let done = self.already.is_some_and(|a| said.contains(a));
        assert!(again.status.success() || done, "{when}, then again: {said}");
        let left = || {
            let entries = fs::read_dir(root.join("tmp")).unwrap();
            entries.map(|e| e.unwrap().file_name()).collect::<Vec<_>>()
        };
        if self.tidies {
            assert!(left().is_empty(), "{when}, after a repeat: {:?}", left());
        }
        capas(root, &["gc"]);
        assert!(left().is_empty(), "{when}: {:?}", left());
        let said = sound(root, when);
        assert!(said.contains(" 0 unused"), "{when}: {said}");
    }
}

/// A store with the images `old` and `other`, which share a layer.
fn template(dir: &Path) -> PathBuf {
    let root = dir.join("template");
    for name in ["old", "other"] {
        let path = archive(dir, name, 1, 20);
        capas(&root, &["load", "-q", "-i", path.to_str().unwrap()]);
    }
    root
}

#[test]
fn load() {
    let dir = scratch();
    let template = template(dir.path());
    let new = archive(dir.path(), "new", 1000, 100);
    let campaign = Campaign {
        name: "load",
        args: vec!["load", "-i", new.to_str().unwrap()],
        kept: names(&["old", "other"]),
        may: names(&["new"]),
        already: None,
        tidies: true,
    };
    campaign.run(&template, dir.path());
}

#[test]
fn load_over_a_name() {
    let dir = scratch();
    let template = template(dir.path());
    let new = dir.path().join("new");
    fs::create_dir(&new).unwrap();
    let new = archive(&new, "old", 1000, 50);
    let campaign = Campaign {
        name: "load over a name",
        args: vec!["load", "-i", new.to_str().unwrap()],
        kept: names(&["old", "other"]),
        // The image that had the name stays without it.
        may: names(&["<none>"]),
        already: None,
        tidies: true,
    };
    campaign.run(&template, dir.path());
}

#[test]
fn pull() {
    let dir = scratch();
    let template = template(dir.path());
    let lower = layer("a", &noise(100_000, 7));
    let new = image(&[(lower, Pack::Gzip), (layer("b", b"2"), Pack::Zstd)]);
    let mut content = Content::new();
    put(&mut content, &new, "app", "1");
    let served = Served::start(content, |_, _| None);
    let name = format!("{}/app", served.host);
    let full = format!("{name}:1");
    let campaign = Campaign {
        name: "pull",
        args: vec!["pull", "-q", &full],
        kept: names(&["old", "other"]),
        may: names(&[&name]),
        already: None,
        tidies: true,
    };
    campaign.run(&template, dir.path());
}

#[test]
fn tag() {
    let dir = scratch();
    let template = template(dir.path());
    let campaign = Campaign {
        name: "tag",
        args: vec!["tag", "old:1", "new:1"],
        kept: names(&["old", "other"]),
        may: names(&["new"]),
        already: None,
        tidies: false,
    };
    campaign.run(&template, dir.path());
}

#[test]
fn rmi() {
    let dir = scratch();
    let template = template(dir.path());
    let campaign = Campaign {
        name: "rmi",
        args: vec!["rmi", "old:1"],
        kept: names(&["other"]),
        may: names(&["old"]),
        already: Some("No such image"),
        tidies: false,
    };
    campaign.run(&template, dir.path());
}

#[test]
fn gc() {
    let dir = scratch();
    let template = template(dir.path());
    let index = fs::read(template.join("index.json")).unwrap();
    for name in ["dead", "gone"] {
        let path = archive(dir.path(), name, 2000, 20);
        capas(&template, &["load", "-q", "-i", path.to_str().unwrap()]);
    }
    fs::write(template.join("index.json"), index).unwrap();
    fs::create_dir(template.join("tmp/0123456789abcdef")).unwrap();
    fs::write(template.join("tmp/0123456789abcdef/f"), "x").unwrap();
    let campaign = Campaign {
        name: "gc",
        args: vec!["gc"],
        kept: names(&["old", "other"]),
        may: names(&[]),
        already: None,
        tidies: true,
    };
    campaign.run(&template, dir.path());
}

#[test]
fn repair() {
    let dir = scratch();
    let template = template(dir.path());
    // Every tree has lost something, and one its record.
    for entry in fs::read_dir(template.join("layers")).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            fs::write(path.join("stranger"), "x").unwrap();
            fs::remove_file(path.with_extension("json")).unwrap();
        }
    }
    let root = dir.path().join("store");
    let mut random = Random::new("check --repair");
    if !support::root() {
        return;
    }
    for _ in 0..points() {
        copy(&template, &root);
        let call = 1 + random.below(400);
        let mut command = command(&root, &["check", "--repair"]);
        let out = command
            .env("CAPAS_FAIL", format!("{call}:kill"))
            .output()
            .unwrap();
        assert!(out.status.code().is_none_or(|c| c == 0), "{}", text(&out));
        capas(&root, &["check", "--repair"]);
        let said = sound(&root, &format!("call {call}"));
        assert!(said.contains(" 0 unused"), "call {call}: {said}");
        assert_eq!(listed(&root), names(&["old", "other"]));
    }
}
