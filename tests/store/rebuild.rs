//! A lost or damaged `index.json`, `oci-layout` or `capas.json`: what can be
//! known is made anew, what cannot is named.

use super::check::{loaded, run, sound};
use super::support::*;
use std::fs;
use std::path::PathBuf;

fn index(b: &Bench) -> PathBuf {
    b.store.root().join("index.json")
}

/// What `images` lists: names and ids.
fn listed(b: &Bench) -> Vec<String> {
    let format = "{{.Repository}}:{{.Tag}} {{.ID}}";
    let (code, text) = run(b, &["images", "--format", format]);
    assert_eq!(code, 0, "{text}");
    let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
    lines.sort();
    lines
}

/// A store with `x:1`, the same as `h.example/y:2`, another image `z:1`, and
/// one without a name; with their ids.
fn several() -> (Bench, [String; 3]) {
    let b = loaded();
    let z = [Tar::new().file("z", "z").end()];
    b.load(&docker_archive(&z, &diffs(&z), &["z:1"])).unwrap();
    let n = [Tar::new().file("n", "n").end()];
    b.load(&docker_archive(&n, &diffs(&n), &[])).unwrap();
    assert_eq!(run(&b, &["tag", "x:1", "h.example/y:2"]).0, 0);
    let id = |layers: &[Vec<u8>]| hex(config(&diffs(layers)).as_bytes())[..12].to_owned();
    let x = b.store.find_image("x:1").unwrap().0.id.short();
    (b, [x, id(&z), id(&n)])
}

#[test]
fn a_damaged_index_is_made_anew() {
    if !root() {
        return;
    }
    let (b, [x, z, n]) = several();
    let whole = fs::read(index(&b)).unwrap();
    let before = listed(&b);
    // An entry that can be read is as good as before, wherever the rest is cut;
    // what was past the cut has lost its name.
    let names = ["h.example/y:2", "x:1", "z:1"];
    let mut lost = 0;
    for cut in [0, 1, 2, 3, 4]
        .map(|i| whole.len() * i / 4)
        .into_iter()
        .chain([whole.len() - 3])
    {
        fs::write(index(&b), &whole[..cut]).unwrap();
        if cut == whole.len() {
            assert_eq!(listed(&b), before);
            continue;
        }
        let (code, text) = run(&b, &["images"]);
        assert_eq!(code, 1);
        assert!(
            text.contains("'capas check --repair' makes it anew"),
            "{text}"
        );
        assert_eq!(run(&b, &["check"]).0, 1);
        assert_eq!(fs::read(index(&b)).unwrap(), &whole[..cut]);
        let (code, text) = run(&b, &["check", "--repair"]);
        assert!(text.contains("damaged: index.json: "), "{text}");
        assert!(
            text.contains("repaired: index.json: 3 images are listed again"),
            "{text}"
        );
        let now = listed(&b);
        let kept: Vec<&str> = names
            .into_iter()
            .filter(|name| now.iter().any(|line| line.starts_with(&format!("{name} "))))
            .collect();
        for name in &kept {
            let line = before.iter().find(|l| l.starts_with(&format!("{name} ")));
            assert!(now.contains(line.unwrap()), "{now:?}");
        }
        lost = names.len() - kept.len();
        for id in [&x, &z, &n] {
            assert!(now.iter().any(|line| line.ends_with(id)), "{id}: {now:?}");
            let nameless = now.contains(&format!("<none>:<none> {id}"));
            let told = text.contains(&format!("damaged: image {id}: what it was called"));
            // The one that had no name is kept where its entry can be read.
            assert!(told == nameless || (id == &n && nameless), "{id}: {text}");
        }
        assert_eq!(
            code,
            i32::from(text.contains("what it was called")),
            "{text}"
        );
        sound(&b);
    }
    assert_eq!(lost, 0, "without its end nothing is lost");
}

#[test]
fn a_missing_index_gets_the_names_that_containers_know() {
    if !root() {
        return;
    }
    let (b, [x, z, n]) = several();
    for image in ["z:1", &x, &n] {
        assert_eq!(run(&b, &["create", image, "/bin/sh"]).0, 0);
    }
    let ids = |text: &str| {
        text.split_whitespace()
            .map(str::to_owned)
            .collect::<Vec<_>>()
    };
    let (_, inspected) = run(
        &b,
        &["inspect", "--format", "{{.Created}} {{.Size}}", "z:1"],
    );
    fs::remove_file(index(&b)).unwrap();
    let (code, text) = run(&b, &["images"]);
    assert_eq!(code, 1);
    assert!(
        text.contains("index.json is not there: 'capas check --repair' makes it anew"),
        "{text}"
    );
    // Nobody takes an unknown image for garbage.
    assert_eq!(run(&b, &["gc"]).0, 1);
    assert_eq!(run(&b, &["image", "prune", "-a", "-f"]).0, 1);
    let (code, text) = run(&b, &["check", "--repair"]);
    assert_eq!(code, 1, "{text}");
    let said: Vec<&str> = text.lines().filter(|l| l.contains(": image ")).collect();
    let mut wanted = [&x, &n].map(|id| {
        format!(
            "damaged: image {id}: what it was called is not known any more: \
             name it with 'capas tag {id} NAME'"
        )
    });
    wanted.sort();
    let mut sorted = said.clone();
    sorted.sort_unstable();
    assert_eq!(sorted, wanted, "{text}");
    let mut all = vec![
        format!("<none>:<none> {n}"),
        format!("<none>:<none> {x}"),
        format!("z:1 {z}"),
    ];
    all.sort();
    assert_eq!(listed(&b), all);
    let (_, again) = run(
        &b,
        &["inspect", "--format", "{{.Created}} {{.Size}}", "z:1"],
    );
    assert_eq!(ids(&again), ids(&inspected));
    sound(&b);
    assert_eq!(run(&b, &["create", "z:1", "/bin/sh"]).0, 0);
}

#[test]
fn a_name_whose_image_is_gone_is_told() {
    if !root() {
        return;
    }
    let (b, [.., z, _]) = several();
    let (image, _) = b.store.find_image("z:1").unwrap();
    fs::remove_file(b.store.blob(&image.manifest.digest)).unwrap();
    let text = fs::read_to_string(index(&b)).unwrap();
    fs::write(index(&b), text.replacen("schemaVersion", "schema", 1)).unwrap();
    let (code, text) = run(&b, &["check", "--repair"]);
    assert_eq!(code, 1);
    assert!(
        text.contains("damaged: name z:1: its image is not here any more"),
        "{text}"
    );
    assert!(listed(&b).iter().all(|line| !line.ends_with(&z)));
    sound_but_unused(&b);
}

/// Only what belonged to the lost image is left over.
fn sound_but_unused(b: &Bench) {
    let (code, text) = run(b, &["check"]);
    assert_eq!(code, 0, "{text}");
    assert!(text.contains(": 0 damaged, 0 repaired, "), "{text}");
}

#[test]
fn the_mark_of_the_layout_and_of_the_store_come_back() {
    if !root() {
        return;
    }
    let (b, _) = several();
    let before = listed(&b);
    let mark = b.store.root().join("oci-layout");
    for (content, why) in [
        (None, "is not there"),
        (Some("{"), "bad oci-layout"),
        (
            Some(r#"{"imageLayoutVersion":"2"}"#),
            "it is of version 2, not 1.0.0",
        ),
    ] {
        match content {
            Some(text) => fs::write(&mark, text).unwrap(),
            None => fs::remove_file(&mark).unwrap(),
        }
        let (code, text) = run(&b, &["check"]);
        assert!(code == 1 && text.contains(why), "{text}");
        let (code, text) = run(&b, &["check", "--repair"]);
        assert!(
            code == 0 && text.contains("repaired: oci-layout: "),
            "{text}"
        );
        sound(&b);
    }
    // Who does not know skeletons must not change the store: that stays so.
    assert_eq!(run(&b, &["prune", "--blobs", "-f"]).0, 0);
    fs::remove_file(b.store.root().join("capas.json")).unwrap();
    assert_eq!(listed(&b), before);
    sound(&b);
    let format = fs::read_to_string(b.store.root().join("capas.json")).unwrap();
    assert!(
        format.contains(r#""ro_compatible":["skeletons"]"#),
        "{format}"
    );
}

/// The tag has moved on since the container was made: what can be read goes
/// before what containers remember.
#[test]
fn a_name_that_is_listed_stays_where_it_is() {
    if !root() {
        return;
    }
    let (b, _) = several();
    assert_eq!(run(&b, &["create", "x:1", "/bin/sh"]).0, 0);
    assert_eq!(run(&b, &["tag", "z:1", "x:1"]).0, 0);
    let before = listed(&b);
    let whole = fs::read(index(&b)).unwrap();
    fs::write(index(&b), &whole[..whole.len() - 3]).unwrap();
    let (code, text) = run(&b, &["check", "--repair"]);
    assert_eq!((code, listed(&b)), (0, before), "{text}");
}

/// What cannot be read now is not known to be damaged, and is not replaced.
#[test]
fn an_index_that_cannot_be_read_is_left_alone() {
    if !root() {
        return;
    }
    let (b, _) = several();
    let aside = b.store.root().join("aside");
    fs::rename(index(&b), &aside).unwrap();
    std::os::unix::fs::symlink("index.json", index(&b)).unwrap();
    let (code, text) = run(&b, &["check", "--repair"]);
    assert_eq!(code, 1, "{text}");
    assert!(text.contains("Too many levels of symbolic links"), "{text}");
    assert!(!text.contains("damaged"), "{text}");
    assert!(index(&b).is_symlink());
    fs::rename(&aside, index(&b)).unwrap();
    sound(&b);
}
