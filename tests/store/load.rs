//! Formats, sharing, platforms.

use super::support::*;
use capas::store::load::Wish;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

type Wrap = fn(&[u8]) -> Vec<u8>;

pub fn base() -> Vec<u8> {
    Tar::new()
        .dir("bin/")
        .file("bin/sh", "#!")
        .dir("etc/")
        .file("etc/motd", "one")
        .add(
            &Entry {
                mode: 0o1777,
                ..entry("tmp/", b'5')
            },
            b"",
        )
        .end()
}

pub fn top() -> Vec<u8> {
    Tar::new()
        .dir("etc/")
        .file("etc/motd", "two")
        .file("etc/.wh.passwd", "")
        .end()
}

#[test]
fn every_format_gives_the_same_layers() {
    let layers = [base(), top()];
    let mut ids = Vec::new();
    let wraps: [(&str, Wrap); 3] = [("plain", |d| d.to_vec()), ("gzip", gzip), ("zstd", zstd)];
    for (name, wrap) in wraps {
        let b = Bench::new();
        let dir = b.dir.path().join("debian");
        oci_dir(&dir, &layers, wrap, "12");
        let loaded = b.store.load(&dir).unwrap();
        assert_eq!(loaded[0].names[0].familiar_tagged(), "debian:12", "{name}");
        ids.push(loaded[0].id);
        // The layout as a tar archive, and that compressed, through a pipe.
        let mut tar = Tar::new();
        add_tree(&mut tar, &dir, "");
        let tar = tar.end();
        let again = b.store.load(&b.write("debian.tar", &tar)).unwrap();
        assert_eq!(again[0].id, loaded[0].id);
        for stream in [tar.clone(), gzip(&tar), zstd(&tar), bzip2(&tar)] {
            let b = Bench::new();
            let loaded = b
                .store
                .load_stream(stream.as_slice(), Wish::default())
                .unwrap();
            assert_eq!(loaded[0].id, ids[0]);
            assert_eq!(loaded[0].names, []);
        }
        // Docker's older form.
        let b = Bench::new();
        let stored: Vec<Vec<u8>> = layers.iter().map(|l| wrap(l)).collect();
        let loaded = b
            .load(&docker_archive(
                &stored,
                &diffs(&layers),
                &["x:1", "h.example/y"],
            ))
            .unwrap();
        assert_eq!(loaded[0].id, ids[0]);
        assert_eq!(loaded[0].names.len(), 2);
        assert_eq!(
            fs::read_to_string(b.tree(1).join("etc/motd")).unwrap(),
            "two"
        );
    }
    assert!(ids.iter().all(|id| *id == ids[0]));
}

fn bzip2(data: &[u8]) -> Vec<u8> {
    let mut out = bzip2::write::BzEncoder::new(Vec::new(), bzip2::Compression::fast());
    std::io::Write::write_all(&mut out, data).unwrap();
    out.finish().unwrap()
}

/// gzip of several members, as eStargz has one for each file.
fn gzip_members(data: &[u8]) -> Vec<u8> {
    data.chunks(700).flat_map(gzip).collect()
}

/// zstd of several frames with others between that are to be skipped, as
/// zstd:chunked has them.
fn zstd_frames(data: &[u8]) -> Vec<u8> {
    let skipped = b"\x5a\x2a\x4d\x18\x04\0\0\0\x28\xb5\x2f\xfd".as_slice();
    let frames = data
        .chunks(700)
        .flat_map(|part| [skipped, &zstd(part)].concat());
    frames.chain(skipped.iter().copied()).collect()
}

/// The parts that some programs look into are nothing to those who do not.
#[test]
fn layers_of_several_compressed_parts_are_whole() {
    for wrap in [gzip_members as Wrap, zstd_frames, |data| {
        let frames = zstd_frames(data);
        frames[12..].to_vec()
    }] {
        let b = Bench::new();
        let dir = b.dir.path().join("parts");
        oci_dir(&dir, &[base(), top()], wrap, "x");
        assert_eq!(b.store.load(&dir).unwrap().len(), 1);
        let plain = Bench::new();
        plain.image(&[base(), top()]).unwrap();
        let layers = |b: &Bench| {
            let mut all: Vec<String> = b.contents();
            all.retain(|n| n.starts_with("layers/"));
            assert!(!all.is_empty());
            all
        };
        assert_eq!(layers(&b), layers(&plain));
        let blob = hex(&wrap(&top()));
        let kept = b.store.root().join("blobs/sha256").join(blob);
        assert_eq!(fs::read(kept).unwrap(), wrap(&top()));
    }
}

fn add_tree(tar: &mut Tar, dir: &Path, prefix: &str) {
    let mut entries: Vec<_> = fs::read_dir(dir).unwrap().map(Result::unwrap).collect();
    entries.sort_by_key(fs::DirEntry::file_name);
    for e in entries {
        let name = format!("{prefix}{}", e.file_name().to_str().unwrap());
        if e.file_type().unwrap().is_dir() {
            add_tree(tar, &e.path(), &format!("{name}/"));
        } else {
            tar.add(&entry(&name, b'0'), &fs::read(e.path()).unwrap());
        }
    }
}

#[test]
fn legacy_archives_link_their_layers() {
    let b = Bench::new();
    let layer = base();
    let mut tar = Tar::new();
    tar.add(&entry("a/layer.tar", b'0'), &layer);
    tar.symlink("b/layer.tar", "../a/layer.tar");
    let config = config(&diffs(&[layer.clone(), layer]));
    tar.file("c.json", &config);
    tar.file(
        "manifest.json",
        r#"[{"Config":"c.json","RepoTags":null,"Layers":["a/layer.tar","b/layer.tar"]}]"#,
    );
    let loaded = b.load(&tar.end()).unwrap();
    assert_eq!(loaded[0].id.hex(), hex(config.as_bytes()));
}

#[test]
fn layers_are_unpacked_once_and_go_with_their_last_image() {
    let b = Bench::new();
    let (one, two) = ([base()], [base(), top()]);
    b.load(&docker_archive(&one, &diffs(&one), &["one"]))
        .unwrap();
    let ino = |b: &Bench| {
        let dir = b.store.layers().join(hex(&base()));
        fs::metadata(dir).unwrap().ino()
    };
    let first = ino(&b);
    b.load(&docker_archive(&two, &diffs(&two), &["two"]))
        .unwrap();
    assert_eq!(ino(&b), first);
    // Two layers with a record each; two catalogs, configs, manifests, blobs.
    assert_eq!(b.contents().len(), 4 + 8);
    let none = || Ok(Vec::new());
    b.store.remove_image("one", false, none).unwrap();
    b.store.sweep(none).unwrap();
    assert_eq!(ino(&b), first);
    assert_eq!(b.contents().len(), 4 + 5);
    b.store.remove_image("two", false, none).unwrap();
    b.store.sweep(none).unwrap();
    assert_eq!(b.contents(), Vec::<String>::new());
}

#[test]
fn a_layer_that_is_here_is_not_read_again() {
    let b = Bench::new();
    b.image(&[base()]).unwrap();
    // The archive's copy has other bytes of the same length, which would be
    // refused if anybody looked at them.
    let mut other = base();
    other[600] ^= 1;
    let archive = docker_archive(&[other], &diffs(&[base()]), &["y"]);
    assert_eq!(b.load(&archive).unwrap()[0].names[0].familiar(), "y");
}

#[test]
fn one_layer_in_two_compressions_keeps_both_blobs() {
    let b = Bench::new();
    let dir = b.dir.path().join("both");
    let index = dir.join("index.json");
    let mut manifests = Vec::new();
    for (wrap, name) in [(gzip as Wrap, "gzip"), (zstd, "zstd")] {
        oci_dir(&dir, &[base(), top()], wrap, name);
        let json: serde_json::Value = serde_json::from_slice(&fs::read(&index).unwrap()).unwrap();
        manifests.push(json["manifests"][0].clone());
    }
    let both = serde_json::json!({ "schemaVersion": 2, "manifests": manifests });
    fs::write(&index, both.to_string()).unwrap();
    assert_eq!(b.store.load(&dir).unwrap().len(), 2);
    for entry in fs::read_dir(dir.join("blobs/sha256")).unwrap() {
        let entry = entry.unwrap();
        let kept = b.store.root().join("blobs/sha256").join(entry.file_name());
        assert_eq!(fs::read(kept).unwrap(), fs::read(entry.path()).unwrap());
    }
}

/// A layout with an image for each of two platforms under one name.
fn two_platforms(dir: &Path) -> [String; 2] {
    let ids = ["amd64", "arm64"].map(|arch| {
        let layer = Tar::new().file("arch", arch).end();
        let one = dir.join(arch);
        oci_dir(&one, std::slice::from_ref(&layer), gzip, "x");
        let config = config(&diffs(&[layer]));
        if arch == "amd64" {
            return hex(config.as_bytes());
        }
        // The support's configuration is for amd64: make it the other's.
        let other = config.replace("amd64", arch);
        let blobs = one.join("blobs/sha256");
        let index: serde_json::Value =
            serde_json::from_slice(&fs::read(one.join("index.json")).unwrap()).unwrap();
        let digest = index["manifests"][0]["digest"].as_str().unwrap()[7..].to_owned();
        let manifest = fs::read_to_string(blobs.join(&digest)).unwrap();
        let manifest = manifest
            .replace(&hex(config.as_bytes()), &hex(other.as_bytes()))
            .replace(&config.len().to_string(), &other.len().to_string());
        fs::write(blobs.join(hex(other.as_bytes())), &other).unwrap();
        fs::write(blobs.join(hex(manifest.as_bytes())), &manifest).unwrap();
        let text = fs::read_to_string(one.join("index.json")).unwrap();
        let text = text.replace(&digest, &hex(manifest.as_bytes()));
        fs::write(one.join("index.json"), text).unwrap();
        hex(other.as_bytes())
    });
    let all = dir.join("blobs/sha256");
    fs::create_dir_all(&all).unwrap();
    let mut entries = Vec::new();
    for arch in ["amd64", "arm64"] {
        for blob in fs::read_dir(dir.join(arch).join("blobs/sha256")).unwrap() {
            let blob = blob.unwrap();
            fs::copy(blob.path(), all.join(blob.file_name())).unwrap();
        }
        let index: serde_json::Value =
            serde_json::from_slice(&fs::read(dir.join(arch).join("index.json")).unwrap()).unwrap();
        let mut entry = index["manifests"][0].clone();
        entry.as_object_mut().unwrap().remove("annotations");
        entry["platform"] = serde_json::json!({"os": "linux", "architecture": arch});
        entries.push(entry);
    }
    let media_type = "application/vnd.oci.image.index.v1+json";
    let inner = serde_json::json!({
        "schemaVersion": 2, "mediaType": media_type, "manifests": entries,
    })
    .to_string();
    fs::write(all.join(hex(inner.as_bytes())), &inner).unwrap();
    let index = serde_json::json!({"schemaVersion": 2, "manifests": [{
        "mediaType": media_type,
        "digest": format!("sha256:{}", hex(inner.as_bytes())),
        "size": inner.len(),
        "annotations": {"io.containerd.image.name": "docker.io/library/x:1"},
    }]});
    fs::write(dir.join("index.json"), index.to_string()).unwrap();
    ids
}

#[test]
fn one_platform_of_several_is_loaded() {
    let b = Bench::new();
    let dir = b.dir.path().join("both");
    let [amd64, arm64] = two_platforms(&dir);
    let capas = |args: &[&str]| {
        std::process::Command::new(env!("CARGO_BIN_EXE_capas"))
            .arg("--root")
            .arg(b.store.root())
            .args(["load", "-i"])
            .arg(&dir)
            .args(args)
            .output()
            .unwrap()
    };
    for (platform, id) in [("linux/arm64", &arm64), ("linux/amd64", &amd64)] {
        // Quiet means without progress, as docker has it.
        let out = capas(&["-q", "--platform", platform]);
        let text = String::from_utf8(out.stdout).unwrap();
        assert!(text.ends_with("Loaded image: x:1\n"), "{text}");
        assert_eq!(b.store.find_image("x:1").unwrap().0.id.hex(), *id);
    }
    for (platform, word) in [
        (
            "linux/s390x",
            "Error: requested platform (linux/s390x) not found: image might be filtered out\n",
        ),
        ("linux//", "is no platform"),
    ] {
        let out = capas(&["--platform", platform]);
        let text = String::from_utf8(out.stderr).unwrap();
        assert!(
            out.status.code() == Some(1) && text.contains(word),
            "{text}"
        );
    }
    // The only image there is, for another platform than was asked for.
    let layer = [Tar::new().file("f", "x").end()];
    let path = b.write("one.tar", &docker_archive(&layer, &diffs(&layer), &["y:1"]));
    let arm = capas::store::document::Platform::parse("linux/arm64").unwrap();
    let wish = Wish {
        platform: Some(&arm),
        ..Wish::default()
    };
    let e = b.store.load_as(&path, wish).unwrap_err().to_string();
    assert_eq!(
        e,
        "requested platform (linux/arm64) not found: image might be filtered out"
    );
    assert!(b.store.find_image("y:1").is_err());
}

#[test]
fn progress_is_told_to_the_last_byte() {
    let b = Bench::new();
    let layers = [base(), top()];
    let path = b.write("x.tar", &docker_archive(&layers, &diffs(&layers), &["x:1"]));
    let told = std::sync::Mutex::new(std::collections::BTreeMap::new());
    let tell = |layer: &capas::store::Digest, at, size| {
        let before = told.lock().unwrap().insert(layer.hex(), (at, size));
        assert!(before.is_none_or(|(was, _)| was <= at));
    };
    let wish = Wish {
        tell: Some(&tell),
        ..Wish::default()
    };
    b.store.load_as(&path, wish).unwrap();
    let told = told.into_inner().unwrap();
    assert_eq!(told.len(), 2);
    for layer in layers {
        let size = layer.len() as u64;
        assert_eq!(told[&hex(&layer)], (size, size));
    }
}
