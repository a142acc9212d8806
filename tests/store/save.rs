//! What is saved: its form, its bytes, and what a failure leaves.

use super::support::*;
use capas::store::Digest;
use capas::store::save::Format;
use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::{Command, Output};

fn capas(b: &Bench, args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_capas"))
        .arg("--root")
        .arg(b.store.root())
        .args(args)
        .current_dir(b.dir.path())
        .output()
        .unwrap()
}

/// Members of an archive: names in order, and contents.
fn members(tar: &[u8]) -> (Vec<String>, BTreeMap<String, Vec<u8>>) {
    let (mut names, mut contents) = (Vec::new(), BTreeMap::new());
    let mut at = 0;
    while tar[at] != 0 {
        let header = &tar[at..at + 512];
        let text = |from: usize, len: usize| {
            let field = &header[from..from + len];
            let end = field.iter().position(|b| *b == 0).unwrap_or(len);
            String::from_utf8(field[..end].to_vec()).unwrap()
        };
        let number = |from, len| u64::from_str_radix(text(from, len).trim(), 8).unwrap();
        assert_eq!(number(136, 12), 0, "the time is not the epoch's");
        assert_eq!((number(108, 8), number(116, 8)), (0, 0));
        let size = number(124, 12) as usize;
        names.push(text(0, 100));
        contents.insert(text(0, 100), tar[at + 512..at + 512 + size].to_vec());
        at += 512 + size.next_multiple_of(512);
    }
    assert_eq!(tar.len(), at + 1024);
    (names, contents)
}

pub fn save(b: &Bench, names: &[&str], format: Format) -> Vec<u8> {
    let texts: Vec<String> = names.iter().map(|n| (*n).to_owned()).collect();
    let mut out = Vec::new();
    let wanted = b.store.wanted(&texts).unwrap();
    b.store.save(&wanted, format, &mut out).unwrap();
    out
}

fn layers() -> [Vec<u8>; 3] {
    let layer = |text| Tar::new().dir("d/").file("d/f", text).end();
    [layer("base"), layer("one"), layer("two")]
}

/// Two images that share a layer; the first has two tags and another name.
fn bench() -> Bench {
    let b = Bench::new();
    let [base, one, two] = layers();
    let first = [base.clone(), one];
    let names = ["debian:12", "debian:latest", "h.example/x/y:z"];
    b.load(&docker_archive(&first, &diffs(&first), &names))
        .unwrap();
    let second = [gzip(&base), gzip(&two)];
    b.load(&docker_archive(&second, &diffs(&[base, two]), &[]))
        .unwrap();
    b
}

#[test]
fn the_archive_is_what_docker_writes() {
    let b = bench();
    let [base, one, two] = layers();
    let plain = config(&diffs(&[base.clone(), one.clone()]));
    let other = config(&diffs(&[base.clone(), two.clone()]));
    let other_id = hex(other.as_bytes());
    let tar = save(&b, &["debian", &other_id[..12]], Format::Docker);
    let (names, contents) = members(&tar);
    let mut sorted = names.clone();
    sorted.sort();
    assert_eq!(names, sorted);
    assert_eq!(names[..2], ["blobs/", "blobs/sha256/"]);
    let top = ["index.json", "manifest.json", "oci-layout", "repositories"];
    assert_eq!(names[names.len() - 4..], top);
    // Two of each: manifest, configuration, layers, where one is shared.
    assert_eq!(names.len() - 6, 2 + 2 + 4);
    for (name, data) in &contents {
        if let Some(digest) = name.strip_prefix("blobs/sha256/")
            && !digest.is_empty()
        {
            assert_eq!(hex(data), digest);
        }
    }
    let text = |name: &str| String::from_utf8(contents[name].clone()).unwrap();
    let path = |data: &[u8]| format!("\"blobs/sha256/{}\"", hex(data));
    assert_eq!(
        text("manifest.json").trim_end(),
        format!(
            r#"[{{"Config":{},"RepoTags":["debian:12","debian:latest"],"Layers":[{},{}]}},{{"Config":{},"RepoTags":null,"Layers":[{},{}]}}]"#,
            path(plain.as_bytes()),
            path(&base),
            path(&one),
            path(other.as_bytes()),
            path(&gzip(&base)),
            path(&gzip(&two)),
        )
    );
    assert_eq!(
        text("repositories").trim_end(),
        format!(r#"{{"debian":{{"12":"{0}","latest":"{0}"}}}}"#, hex(&one))
    );
    assert_eq!(text("oci-layout"), r#"{"imageLayoutVersion":"1.0.0"}"#);
    let index: serde_json::Value = serde_json::from_slice(&contents["index.json"]).unwrap();
    let entries = index["manifests"].as_array().unwrap();
    let annotations: Vec<String> = entries
        .iter()
        .map(|e| e["annotations"].to_string())
        .collect();
    assert_eq!(
        annotations,
        [
            r#"{"io.containerd.image.name":"docker.io/library/debian:12","org.opencontainers.image.ref.name":"12"}"#,
            r#"{"io.containerd.image.name":"docker.io/library/debian:latest","org.opencontainers.image.ref.name":"latest"}"#,
            "null",
        ]
    );
    assert_eq!(entries[0]["digest"], entries[1]["digest"]);
    // The OCI form is the same without docker's two files.
    let (oci, _) = members(&save(&b, &["debian", &other_id], Format::Oci));
    let mut names = names;
    names.retain(|n| n != "manifest.json" && n != "repositories");
    assert_eq!(oci, names);
}

#[test]
fn what_is_asked_for_is_saved_once() {
    let b = bench();
    let names = |asked: &[&str]| -> Vec<Vec<String>> {
        let texts: Vec<String> = asked.iter().map(|n| (*n).to_owned()).collect();
        let wanted = b.store.wanted(&texts).unwrap();
        let names = wanted.into_iter().map(|w| w.names);
        names
            .map(|n| n.iter().map(ToString::to_string).collect())
            .collect()
    };
    let id = b.store.find_image("debian").unwrap().0.id.to_string();
    let full = |n: &str| format!("docker.io/library/debian:{n}");
    assert_eq!(names(&["debian:12"]), [[full("12")]]);
    assert_eq!(names(&["debian"]), [[full("12"), full("latest")]]);
    assert_eq!(
        names(&["debian:latest", "debian", "debian:latest"]),
        [[full("latest"), full("12")]]
    );
    assert_eq!(names(&[&id]), [Vec::<String>::new()]);
    assert_eq!(names(&[&id, "h.example/x/y:z"]), [["h.example/x/y:z"]]);
    let e = b.store.wanted(&["debian:13".to_owned()]).unwrap_err();
    assert_eq!(e.to_string(), "No such image: debian:13");
}

#[test]
fn the_same_images_are_the_same_bytes() {
    let b = bench();
    let all: Vec<String> = b
        .store
        .images()
        .unwrap()
        .iter()
        .map(|i| i.id.hex())
        .collect();
    let asked = ["debian", "h.example/x/y", &all[0], &all[1]];
    for format in [Format::Docker, Format::Oci] {
        let tar = save(&b, &asked, format);
        assert_eq!(save(&b, &asked, format), tar);
        let again = Bench::new();
        again.load(&tar).unwrap();
        assert_eq!(save(&again, &asked, format), tar);
        // From a docker of before version 25's point of view, too.
        let (_, mut contents) = members(&tar);
        if format == Format::Docker {
            let mut old = Tar::new();
            contents.remove("index.json");
            for (name, data) in contents.iter().filter(|(n, _)| !n.ends_with('/')) {
                old.add(&entry(name, b'0'), data);
            }
            let old = Bench::new().load(&old.end()).unwrap();
            let mut ids: Vec<String> = old.iter().map(|l| l.id.hex()).collect();
            ids.sort();
            let mut all = all.clone();
            all.sort();
            assert_eq!(ids, all);
        }
    }
}

#[test]
fn a_directory_is_a_layout_and_is_not_overwritten() {
    let b = bench();
    let args = ["save", "--format", "oci-dir", "-o", "out", "debian"];
    let ok = |out: Output| assert!(out.status.success(), "{out:?}");
    ok(capas(&b, &args));
    let dir = b.dir.path().join("out");
    let again = Bench::new();
    let loaded = again.store.load(&dir).unwrap();
    assert_eq!(loaded[0].id, b.store.find_image("debian").unwrap().0.id);
    // Once more, and over a directory of somebody's: refused and left alone.
    let before = fs::read(dir.join("index.json")).unwrap();
    for target in ["out", "outside"] {
        let args = ["save", "--format", "oci-dir", "-o", target, "debian"];
        let out = capas(&b, &args);
        assert_eq!(out.status.code(), Some(1));
        let text = String::from_utf8(out.stderr).unwrap();
        assert!(text.contains("is there already and not empty"), "{text}");
    }
    assert_eq!(fs::read(dir.join("index.json")).unwrap(), before);
    b.untouched();
    fs::create_dir(b.dir.path().join("empty")).unwrap();
    ok(capas(
        &b,
        &["save", "--format", "oci-dir", "-o", "empty", "debian"],
    ));
    assert!(b.dir.path().join("empty/oci-layout").exists());
}

/// Names in a directory.
fn names(dir: &Path) -> Vec<String> {
    let entries = fs::read_dir(dir).unwrap();
    let mut names: Vec<String> = entries
        .map(|e| e.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

#[test]
fn a_failed_save_leaves_what_was_there() {
    let b = bench();
    let before = names(b.dir.path());
    // One byte of the shared layer is wrong.
    let [base, ..] = layers();
    let blob = b.store.blob(&Digest::of(&base));
    let mut bytes = fs::read(&blob).unwrap();
    bytes[700] ^= 1;
    fs::write(&blob, &bytes).unwrap();
    for (format, target) in [
        ("docker-archive", "new.tar"),
        ("oci-archive", "new.tar"),
        ("oci-dir", "new"),
    ] {
        let args = ["save", "--format", format, "-o", target, "debian"];
        let out = capas(&b, &args);
        assert_eq!(out.status.code(), Some(1));
        let text = String::from_utf8(out.stderr).unwrap();
        let want = format!("Error: blob {} is damaged\n", Digest::of(&base));
        assert_eq!(text, want);
        assert_eq!(names(b.dir.path()), before);
    }
    // Shorter, and then missing.
    fs::write(&blob, &bytes[..512]).unwrap();
    let out = capas(&b, &["save", "debian"]);
    let text = String::from_utf8(out.stderr).unwrap();
    assert!(text.contains("is damaged"), "{text}");
    fs::remove_file(&blob).unwrap();
    // The other image's, which would do as well.
    fs::remove_file(b.store.blob(&Digest::of(&gzip(&base)))).unwrap();
    let file = b.write("old.tar", b"old");
    let out = capas(&b, &["save", "-o", "old.tar", "debian"]);
    let text = String::from_utf8(out.stderr).unwrap();
    assert!(text.contains("neither its blob"), "{text}");
    assert_eq!(fs::read(file).unwrap(), b"old");
}

#[test]
fn a_file_is_replaced_and_a_device_written_to() {
    let b = bench();
    let file = b.write("out.tar", b"old");
    for target in ["out.tar", "/dev/null"] {
        let out = capas(&b, &["save", "-o", target, "debian"]);
        assert!(out.status.success(), "{out:?}");
    }
    let tar = save(&b, &["debian"], Format::Docker);
    assert_eq!(fs::read(file).unwrap(), tar);
    assert_eq!(
        names(b.dir.path()),
        ["archive.tar", "out.tar", "outside", "store"]
    );
    assert_eq!(capas(&b, &["save", "debian"]).stdout, tar);
    assert_eq!(capas(&b, &["save", "-o", "-", "debian"]).stdout, tar);
    let out = capas(&b, &["save", "-o", "outside", "debian"]);
    assert!(!out.status.success());
    let out = capas(&b, &["save", "-o", "nowhere/x.tar", "debian"]);
    assert!(!out.status.success());
}

#[test]
fn a_save_that_fails_or_dies_anywhere_leaves_the_old_file_or_the_new() {
    let b = bench();
    let tar = save(&b, &["debian"], Format::Docker);
    // No space, no files without a name, and death.
    for what in ["28", "95", "kill"] {
        for there in [false, true] {
            let mut points = 0;
            for nth in 1.. {
                let file = b.dir.path().join("out.tar");
                let _ = fs::remove_file(&file);
                if there {
                    fs::write(&file, "old").unwrap();
                }
                let before = names(b.dir.path());
                let out = Command::new(env!("CARGO_BIN_EXE_capas"))
                    .arg("--root")
                    .arg(b.store.root())
                    .args(["save", "debian", "-o"])
                    .arg(&file)
                    .env("CAPAS_FAIL", format!("{nth}:{what}"))
                    .output()
                    .unwrap();
                let is_new = fs::read(&file).is_ok_and(|data| data == tar);
                if out.status.success() {
                    assert!(is_new, "{nth}:{what}");
                    // Only the missing ability was got over.
                    if what != "95" || nth > 1 {
                        points = nth - 1;
                        break;
                    }
                    continue;
                }
                let is_old = fs::read(&file).map_or(!there, |data| data == b"old");
                assert!(is_old || is_new, "{nth}:{what}");
                // Killed between two names, the new file is there whole.
                let mut now = names(b.dir.path());
                if what == "kill" {
                    for name in now.iter().filter(|n| n.starts_with(".out.tar.")) {
                        let path = b.dir.path().join(name);
                        assert_eq!(fs::read(&path).unwrap(), tar);
                        fs::remove_file(path).unwrap();
                    }
                    now.retain(|n| !n.starts_with(".out.tar."));
                }
                now.retain(|n| there || n != "out.tar");
                assert_eq!(now, before, "{nth}:{what}");
            }
            assert!(points > 2, "only {points} points");
        }
    }
}

#[test]
fn an_image_for_another_platform_is_not_saved() {
    let b = Bench::new();
    b.image(&[Tar::new().file("f", "x").end()]).unwrap();
    let id = b.store.find_image("x:1").unwrap().0.id;
    let out = |args: &[&str]| capas(&b, &[&["save", "-o", "out.tar"], args].concat());
    for name in ["x:1", "x", &id.to_string()] {
        for fits in ["linux/amd64", "linux/x86_64", "linux/amd64/v2"] {
            let done = out(&["--platform", fits, name]);
            assert!(done.status.success(), "{done:?}");
            fs::remove_file(b.dir.path().join("out.tar")).unwrap();
        }
        let done = out(&["--platform", "linux/arm64", name]);
        let text = String::from_utf8(done.stderr).unwrap();
        assert_eq!(
            (done.status.code(), text.as_str()),
            (
                Some(1),
                "Error: no suitable export target found for platform linux/arm64: \
                 image with reference x:1 was found but does not provide the specified platform (linux/arm64)\n"
            )
        );
        assert!(!b.dir.path().join("out.tar").exists());
    }
}
