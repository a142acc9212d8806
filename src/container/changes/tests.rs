//! Every form of every mark, made by hand.

use super::*;
use crate::layer::marks::Mark;
use crate::sys::{At, xattr};
use std::fs;
use std::os::fd::AsFd;

struct Scene(tempfile::TempDir);

impl Scene {
    fn new(files: &[&str]) -> Scene {
        let scene = Scene(tempfile::tempdir().unwrap());
        for dir in ["upper", "top", "low"] {
            fs::create_dir(scene.at(dir)).unwrap();
        }
        scene.add(files);
        scene
    }

    fn at(&self, path: &str) -> PathBuf {
        self.0.path().join(path)
    }

    /// Files that hold their path, or directories with a slash at the end.
    fn add(&self, files: &[&str]) {
        for file in files {
            let path = self.at(file);
            if file.ends_with('/') {
                fs::create_dir_all(path).unwrap();
            } else {
                fs::create_dir_all(path.parent().unwrap()).unwrap();
                let empty = file.contains("/.wh.");
                fs::write(path, if empty { "" } else { file }).unwrap();
            }
        }
    }

    fn mark(&self, path: &str, mark: Mark, value: &str) {
        let file = File::open(self.at(path)).unwrap();
        let name = mark.name(family());
        xattr::set(At::Fd(file.as_fd()), name, value.as_bytes(), 0).unwrap();
    }

    /// A line a change: `-` gone, `~` gone with its directory, `!` a directory
    /// in place of another, and where data lies that is not where it is told.
    fn told(&self) -> Result<Vec<String>> {
        let layers = [self.at("top"), self.at("low")];
        let trees = Trees::open(&self.at("upper"), &layers)?;
        let lines = trees.changes()?.into_iter().skip(1).map(|change| {
            let path = String::from_utf8(change.path.clone()).unwrap();
            let new = if change.before.is_none() { " new" } else { "" };
            match &change.what {
                What::Gone => format!("-{path}"),
                What::GoneBefore => format!("~{path}"),
                What::Here { .. } if change.replaces => format!("!{path}"),
                What::Here { data, .. } => match data.layer {
                    None => format!("{path}{new}"),
                    Some(n) => {
                        let from = String::from_utf8(data.path.clone()).unwrap();
                        format!("{path}{new} from {n}:{from}")
                    }
                },
            }
        });
        Ok(lines.collect())
    }
}

#[test]
fn whiteouts_and_opaque_directories_in_all_their_forms() {
    let s = Scene::new(&[
        "low/a/x",
        "low/b/y",
        "low/c",
        "low/d/e",
        "low/f/g",
        "top/f/h",
        "top/.wh.c",
    ]);
    s.add(&[
        "upper/.wh.f",
        "upper/.wh.none",
        "upper/.wh.c",
        "upper/a/.wh..wh..opq",
        "upper/a/new",
    ]);
    s.add(&["upper/b/y", "upper/b/z", "upper/d/"]);
    s.mark("upper/b", Mark::Opaque, "x");
    s.mark("upper/b/y", Mark::Whiteout, "y");
    s.mark("upper/d", Mark::Opaque, "y");
    // A name that only looks like a whiteout.
    s.add(&["upper/b/.wh.z"]);
    s.mark("upper/b/.wh.z", Mark::Plain, "y");
    assert_eq!(
        s.told().unwrap(),
        [
            "!a",
            "a/new new",
            "~a/x",
            "b",
            "b/.wh.z new",
            "-b/y",
            "b/z new",
            "!d",
            "~d/e",
            "-f"
        ]
    );
    // A whiteout as a file beside what has taken the name.
    s.add(&["upper/f/i"]);
    let told = s.told().unwrap();
    assert_eq!(told.get(9..).unwrap(), ["!f", "~f/g", "~f/h", "f/i new"]);
}

#[test]
fn renamed_directories_are_told_whole() {
    let s = Scene::new(&[
        "low/d/one",
        "low/d/in/two",
        "low/d/in/gone",
        "top/d/three",
        "top/d/.wh.one",
        "low/e/f",
    ]);
    s.add(&["upper/.wh.d", "upper/new/in/four", "upper/new/in/.wh.gone"]);
    s.mark("upper/new", Mark::Redirect, "/d");
    let moved = [
        "-d",
        "new new",
        "new/in new",
        "new/in/four new",
        "new/in/two new from 1:d/in/two",
        "new/three new from 0:d/three",
    ];
    assert_eq!(s.told().unwrap(), moved);
    // From what was moved, by its old name there, and over another one.
    s.add(&["upper/new/.wh.in"]);
    fs::rename(s.at("upper/new/in"), s.at("upper/e")).unwrap();
    s.mark("upper/e", Mark::Redirect, "/d/in");
    assert_eq!(
        s.told().unwrap(),
        [
            "-d",
            "!e",
            "~e/f",
            "e/four new",
            "e/two new from 1:d/in/two",
            "new new",
            "new/three new from 0:d/three"
        ]
    );
    fs::rename(s.at("upper/e"), s.at("upper/new/renamed")).unwrap();
    s.mark("upper/new/renamed", Mark::Redirect, "in");
    let told = s.told().unwrap();
    assert!(
        told.contains(&"new/renamed/two new from 1:d/in/two".to_owned()),
        "{told:?}"
    );
    // Renamed away and back.
    s.add(&["upper/back/"]);
    s.add(&["low/back/f"]);
    s.mark("upper/back", Mark::Redirect, "/back");
    assert_eq!(s.told().unwrap().first().unwrap(), "back");
    for bad in ["../d", "/d/../e", "a/b", "/d//e", "."] {
        s.mark("upper/back", Mark::Redirect, bad);
        assert!(
            s.told().unwrap_err().to_string().contains("bad redirect"),
            "{bad}"
        );
    }
}

#[test]
fn data_is_where_the_marks_say() {
    let s = Scene::new(&[
        "low/f",
        "low/d/g",
        "top/d/",
        "upper/f",
        "upper/d/h",
        "upper/r/g",
    ]);
    s.mark("upper/f", Mark::Metacopy, "");
    s.mark("upper/d/h", Mark::Metacopy, "");
    s.mark("upper/d/h", Mark::Redirect, "g");
    s.mark("upper/r", Mark::Redirect, "/d");
    s.mark("upper/r/g", Mark::Metacopy, "");
    assert_eq!(
        s.told().unwrap(),
        [
            "d",
            "d/h new from 1:d/g",
            "f from 1:f",
            "r new",
            "r/g new from 1:d/g"
        ]
    );
    for (bad, why) in [
        ("/none", "is not in the image"),
        ("/d", "is not in the image"),
        ("/../f", "bad redirect"),
    ] {
        s.mark("upper/f", Mark::Redirect, bad);
        let e = s.told().unwrap_err().to_string();
        assert!(e.contains(why), "{bad}: {e}");
    }
}
