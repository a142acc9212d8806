//! A pull that dies anywhere leaves nothing in the way of the next one.

use crate::accounts::Person;
use crate::images::{Image, Pack, image, layer, noise};
use crate::served::{Content, Served, put};
use std::fs;

fn listed(person: &Person) -> Vec<String> {
    let out = person.run(&["images"], "").out;
    let tags = out.lines().skip(1);
    let mut tags: Vec<String> = tags
        .map(|l| l.split_whitespace().nth(1).unwrap().to_owned())
        .collect();
    tags.sort();
    tags
}

fn assert_whole(person: &Person, image: &Image) {
    for (digest, data) in image.blobs() {
        let blob = person.path("store/blobs/sha256").join(digest.hex());
        assert_eq!(fs::read(blob).unwrap(), data);
    }
    for diff_id in &image.diff_ids {
        let layer = person.path("store/layers").join(diff_id.hex());
        assert!(layer.is_dir() && layer.with_extension("json").exists());
    }
}

#[test]
fn a_killed_pull_can_be_repeated() {
    let old = image(&[(layer("old", b"1"), Pack::Gzip)]);
    let new = image(&[
        (layer("a", &noise(100_000, 7)), Pack::Gzip),
        (layer("b", b"2"), Pack::Zstd),
    ]);
    let mut content = Content::new();
    put(&mut content, &old, "app", "old");
    put(&mut content, &new, "app", "new");
    let served = Served::start(content, |_, _| None);
    let name = |tag: &str| format!("{}/app:{tag}", served.host);
    let mut deaths = 0;
    for nth in 1.. {
        let person = Person::new();
        assert_eq!(person.run(&["pull", "-q", &name("old")], "").code, 0);
        let hit = person
            .capas()
            .args(["pull", "-q", &name("new")])
            .env("CAPAS_FAIL", format!("{nth}:kill"))
            .output()
            .unwrap();
        if hit.status.success() {
            break;
        }
        deaths += 1;
        let now = listed(&person);
        assert!(now == ["old"] || now == ["new", "old"], "{nth}: {now:?}");
        assert_whole(&person, &old);
        let again = person.run(&["pull", "-q", &name("new")], "");
        assert_eq!((again.code, again.err.as_str()), (0, ""), "{nth}");
        assert_eq!(listed(&person), ["new", "old"]);
        assert_whole(&person, &new);
        // Also where the pull had nothing to do any more.
        assert_eq!(fs::read_dir(person.path("store/tmp")).unwrap().count(), 0);
    }
    assert!(deaths >= 20, "{deaths} places to die in");
}
