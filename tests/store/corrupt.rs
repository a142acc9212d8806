//! Archives that are too much, cut short, or not what they say.

use super::support::*;
use capas::store::load::Wish;
use capas::store::tarball::Reader;
use capas::store::unpack::{Limits, Unpacker};
use std::fs;

#[test]
fn bombs() {
    let b = Bench::new();
    // A PAX record of many megabytes, in few compressed bytes.
    let big = vec![b'a'; 3 << 20];
    let layer = Tar::new().pax(&[("comment", &big)]).file("f", "x").end();
    let archive = docker_archive(&[gzip(&layer)], &diffs(&[layer]), &["x:1"]);
    b.refused(&archive, "metadata exceeds limit");
    // A record whose size, added to the one before, wraps around.
    let mut tar = Tar::new();
    tar.pax(&[("comment", &[b'c'; 2000])]);
    let at = tar.0.len();
    tar.add(&entry("long", b'L'), b"");
    tar.0[at + 124..at + 136].copy_from_slice(&[
        0x80, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xfe, 0x00,
    ]);
    tar.checksum(at);
    b.layer_refused(&tar.file("f", "x").end(), "metadata exceeds limit");
    // Sizes that do not fit, in whose low bits another one is hidden.
    for high in [[0x80, 0, 0, 1], [0x81, 0, 0, 0], [0xff, 0xff, 0xff, 0xff]] {
        let mut tar = Tar::new();
        tar.file("f", "x");
        tar.0[124..128].copy_from_slice(&high);
        tar.0[128..136].copy_from_slice(&1u64.to_be_bytes());
        tar.checksum(0);
        b.layer_refused(&tar.end(), "too large");
    }
    // Sparse extension blocks that say there is another one, for ever.
    let mut tar = Tar::new();
    tar.add(&entry("s", b'S'), b"");
    tar.0[257..265].copy_from_slice(b"ustar  \0");
    tar.0[482] = 1;
    tar.0[483..495].copy_from_slice(b"00000000000\0");
    tar.checksum(0);
    let mut block = [0; 512];
    block[504] = 1;
    for _ in 0..20_000 {
        tar.0.extend_from_slice(&block);
    }
    b.layer_refused(&tar.end(), "without end");
    // A size that no disk has.
    let pax = Tar::new()
        .pax(&[("size", b"4611686018427387904")])
        .file("f", "x")
        .end();
    b.layer_refused(&pax, "does not fit");
    let mut records = Vec::new();
    let value = vec![b'v'; 100_000];
    records.push(("SCHILY.xattr.user.big", value.as_slice()));
    b.layer_refused(
        &Tar::new().pax(&records).file("f", "x").end(),
        "extended attribute",
    );
    // Documents of many megabytes.
    let mut tar = Tar::new();
    tar.file("manifest.json", &" ".repeat(5 << 20));
    b.refused(&tar.end(), "more than");
    let mut tar = Tar::new();
    tar.file("c.json", &" ".repeat(9 << 20));
    tar.file("manifest.json", r#"[{"Config":"c.json","Layers":[]}]"#);
    b.refused(&tar.end(), "more than");
    let mut tar = Tar::new();
    tar.file("manifest.json", &"[".repeat(100_000));
    b.refused(&tar.end(), "bad manifest.json");
}

#[test]
fn bombs_of_attributes_holes_and_members() {
    let b = Bench::new();
    // Each small enough, together more than a header may be.
    let value = vec![b'v'; 60_000];
    let names: Vec<String> = (0..30).map(|n| format!("SCHILY.xattr.user.{n}")).collect();
    let records: Vec<(&str, &[u8])> = names.iter().map(|n| (n.as_str(), &value[..])).collect();
    let many = Tar::new().pax(&records).file("f", "x").end();
    b.layer_refused(&many, "metadata exceeds limit");
    // A file of nothing but a hole, larger than any disk.
    let hole = Tar::new()
        .pax(&[
            ("GNU.sparse.size", b"9223372036854775807"),
            ("GNU.sparse.map", b"0,0"),
        ])
        .file("s", "")
        .end();
    b.layer_refused(&hole, "s: cannot write it");
    // Depth that comes by links, one level each.
    let mut tar = Tar::new();
    tar.dir(&"d/".repeat(40)).symlink("l0", &"d/".repeat(40));
    for n in 1..12 {
        tar.symlink(&format!("l{n}"), &format!("l{}/{}", n - 1, "d/".repeat(40)));
    }
    b.layer_refused(&tar.file("l11/f", "x").end(), "symlink");
    // An archive of more members than any image has.
    let mut archive = Tar::new();
    for n in 0..=100_000 {
        archive.file(&n.to_string(), "");
    }
    b.refused(&archive.end(), "more than 100000 members");
    // Manifests and indexes in an OCI layout.
    for name in ["index.json", "manifest"] {
        let dir = b.dir.path().join(name);
        let layer = Tar::new().file("f", "x").end();
        oci_dir(&dir, &[layer], gzip, "t");
        let mut index = fs::read_to_string(dir.join("index.json")).unwrap();
        let digest = index.find("sha256:").unwrap() + 7;
        let blob = dir.join("blobs/sha256").join(&index[digest..digest + 64]);
        let mut manifest = fs::read(&blob).unwrap();
        let size = format!("\"size\":{}", manifest.len());
        if name == "index.json" {
            index.push_str(&" ".repeat(5 << 20));
        } else {
            manifest.resize(5 << 20, b' ');
            let new = hex(&manifest);
            fs::write(dir.join("blobs/sha256").join(&new), &manifest).unwrap();
            index.replace_range(digest..digest + 64, &new);
            index = index.replace(&size, &format!("\"size\":{}", manifest.len()));
        }
        fs::write(dir.join("index.json"), index).unwrap();
        b.refuses("more than 4194304", || b.store.load(&dir));
    }
}

#[test]
fn documents_of_two_kinds() {
    type Change = fn(&str) -> String;
    let b = Bench::new();
    let layer = Tar::new().file("f", "x").end();
    let with = |n: u8, change: Change| {
        let dir = b.dir.path().join(format!("kind{n}"));
        oci_dir(&dir, std::slice::from_ref(&layer), gzip, "t");
        let index = fs::read_to_string(dir.join("index.json")).unwrap();
        let at = index.find("sha256:").unwrap() + 7;
        let old = index[at..at + 64].to_owned();
        let blobs = dir.join("blobs/sha256");
        let manifest = fs::read_to_string(blobs.join(&old)).unwrap();
        let changed = change(&manifest);
        let index = index.replace(&old, &hex(changed.as_bytes())).replace(
            &format!("\"size\":{}", manifest.len()),
            &format!("\"size\":{}", changed.len()),
        );
        fs::write(blobs.join(hex(changed.as_bytes())), &changed).unwrap();
        fs::write(dir.join("index.json"), index).unwrap();
        dir
    };
    let both = with(0, |m| m.replacen('{', "{\"manifests\":[],", 1));
    b.refuses("at once", || b.store.load(&both));
    let masked = with(1, |m| m.replacen("image.manifest.v1", "image.index.v1", 1));
    b.refuses("calls itself something else", || b.store.load(&masked));
    let index = with(2, |_| r#"{"schemaVersion":2,"manifests":[]}"#.to_owned());
    b.refuses("should be a manifest", || b.store.load(&index));
    // Digests that are none, in the places that a manifest has for them.
    let bad: [(u8, Change, &str); 3] = [
        (
            3,
            |m| swap(m, "sha256:../../../outside/canary"),
            "no sha256 digest",
        ),
        (4, |m| swap(m, "md5:00"), "no digest"),
        (5, |m| swap(m, ""), "no digest"),
    ];
    for (n, change, word) in bad {
        let dir = with(n, change);
        b.refuses(word, || b.store.load(&dir));
    }
}

/// The manifest with its first digest replaced.
fn swap(manifest: &str, digest: &str) -> String {
    let at = manifest.find("sha256:").unwrap();
    format!("{}{digest}{}", &manifest[..at], &manifest[at + 71..])
}

#[test]
fn counts_have_limits() {
    let unpack = |limits: Limits, tar: &[u8]| {
        let dir = tempfile::tempdir().unwrap();
        let root = fs::File::open(dir.path()).unwrap();
        let mut unpacker = Unpacker::new(&root, limits).unwrap();
        let mut data = Some(tar.to_vec());
        let mut reader = Reader::new(|_| Ok(data.take().unwrap_or_default()));
        let mut run = || {
            while let Some(member) = reader.member()? {
                unpacker.add(&member, &mut reader)?;
            }
            capas::store::Result::Ok(())
        };
        run().unwrap_err().to_string()
    };
    let tar = Tar::new()
        .dir("a/")
        .dir("a/b/")
        .file("a/b/c", "content")
        .end();
    let limits = Limits::default();
    assert!(
        unpack(
            Limits {
                members: 2,
                ..limits
            },
            &tar
        )
        .contains("more than 2 members")
    );
    assert!(unpack(Limits { bytes: 6, ..limits }, &tar).contains("does not fit"));
    assert!(unpack(Limits { depth: 2, ..limits }, &tar).contains("deep"));
    assert!(unpack(Limits { names: 3, ..limits }, &tar).contains("memory"));
    // What directories keep until the end counts, what is left out does not.
    let mut tar = Tar::new();
    let (left_out, kept) = ([b'v'; 5000], [b'v'; 500]);
    tar.pax(&[("SCHILY.xattr.trusted.overlay.opaque", &left_out)]);
    tar.dir("a/");
    for name in ["b/", "c/"] {
        tar.pax(&[("SCHILY.xattr.user.note", &kept)]).dir(name);
    }
    let names = 1000;
    let text = unpack(Limits { names, ..limits }, &tar.end());
    assert!(
        text.starts_with("c/: ") && text.contains("memory"),
        "{text}"
    );
}

#[test]
fn ratios_have_limits() {
    let b = Bench::new();
    // 300 MiB of zeros in one zstd frame of some kilobytes.
    let mut layer = Tar::new();
    let size = 300u64 << 20;
    layer.add(
        &Entry {
            size: Some(size),
            ..entry("zeros", b'0')
        },
        b"",
    );
    let mut tar = layer.end();
    tar.truncate(512);
    tar.resize(512 + usize::try_from(size).unwrap() + 1024, 0);
    let archive = docker_archive(&[zstd(&tar)], &diffs(&[tar]), &["x:1"]);
    b.refused(&archive, "compressed more than");
}

#[test]
fn truncated_and_corrupt_streams() {
    let b = Bench::new();
    let layer = Tar::new()
        .dir("d/")
        .file("d/f", &"content ".repeat(1000))
        .file("g", "x")
        .end();
    for wrap in [gzip as fn(&[u8]) -> Vec<u8>, zstd] {
        let whole = wrap(&layer);
        for len in [1, 5, 20, whole.len() / 2, whole.len() - 1] {
            let archive = docker_archive(
                &[whole[..len].to_vec()],
                &diffs(std::slice::from_ref(&layer)),
                &["x:1"],
            );
            b.refused(&archive, "layer ");
        }
        for at in [12, whole.len() / 2, whole.len() - 2] {
            let mut bad = whole.clone();
            bad[at] ^= 0x55;
            let archive = docker_archive(&[bad], &diffs(std::slice::from_ref(&layer)), &["x:1"]);
            b.refused(&archive, "layer ");
        }
    }
    for len in [100, 512, 700, 4000] {
        let cut = layer[..len].to_vec();
        b.refused(
            &docker_archive(
                std::slice::from_ref(&cut),
                &diffs(std::slice::from_ref(&layer)),
                &["x:1"],
            ),
            "layer ",
        );
        if len != 512 {
            b.layer_refused(&cut, "truncated");
        }
    }
    let mut bad = layer.clone();
    bad[3] ^= 1;
    b.layer_refused(&bad, "checksum");
    let whole = docker_archive(
        std::slice::from_ref(&layer),
        &diffs(std::slice::from_ref(&layer)),
        &["x:1"],
    );
    for len in [0, 100, 1000, 5000, whole.len() / 2] {
        b.refused(&whole[..len], "");
        // The same from a pipe, which ends wherever its writer does; and
        // compressed as a whole.
        b.refuses("", || b.store.load_stream(&whole[..len], Wish::default()));
        let packed = gzip(&whole);
        let cut = packed.len() * len / whole.len();
        b.refuses("", || b.store.load_stream(&packed[..cut], Wish::default()));
    }
    // Another file altogether.
    let no = "it is no tar archive, nor one that gzip, zstd, xz or bzip2 has compressed";
    for other in [&b"PK\x03\x04 and so on ".repeat(50)[..], &[b'?'; 100_000]] {
        b.refused(other, no);
        b.refused(&gzip(other), no);
    }
}

#[test]
fn digests_and_sizes_are_checked() {
    let b = Bench::new();
    let layer = Tar::new().file("f", "x").end();
    let wrong = hex(b"something else");
    b.refused(
        &docker_archive(std::slice::from_ref(&layer), &[wrong], &["x:1"]),
        "the image says",
    );
    for bad in [
        "sha256:../../outside",
        "sha512:00",
        "latest",
        "",
        "sha256:ABCD",
    ] {
        let mut tar = Tar::new();
        tar.add(&entry("l.tar", b'0'), &layer);
        tar.file(
            "c.json",
            &format!(r#"{{"rootfs":{{"diff_ids":["{bad}"]}}}}"#),
        );
        tar.file(
            "manifest.json",
            r#"[{"Config":"c.json","Layers":["l.tar"]}]"#,
        );
        b.refused(&tar.end(), "image configuration");
    }
    // Every blob of an OCI layout, changed in content and in length.
    let names: Vec<_> = {
        let dir = b.dir.path().join("names");
        oci_dir(&dir, std::slice::from_ref(&layer), gzip, "t");
        fs::read_dir(dir.join("blobs/sha256"))
            .unwrap()
            .map(|e| e.unwrap().file_name())
            .collect()
    };
    assert_eq!(names.len(), 3);
    for (i, name) in names.iter().enumerate() {
        for longer in [false, true] {
            let dir = b.dir.path().join(format!("oci{i}{longer}"));
            oci_dir(&dir, std::slice::from_ref(&layer), gzip, "t");
            let path = dir.join("blobs/sha256").join(name);
            let mut data = fs::read(&path).unwrap();
            if longer {
                data.push(b'\n');
            } else {
                let last = data.len() - 1;
                data[last] ^= 1;
            }
            fs::write(&path, data).unwrap();
            b.refuses("", || b.store.load(&dir));
            let error = b.store.load(&dir).unwrap_err().to_string();
            assert!(
                error.contains("digest") || error.contains("bytes") || error.contains("layer"),
                "{error}"
            );
        }
        // Missing altogether.
        let dir = b.dir.path().join(format!("gone{i}"));
        oci_dir(&dir, std::slice::from_ref(&layer), gzip, "t");
        fs::remove_file(dir.join("blobs/sha256").join(name)).unwrap();
        b.refuses("has no", || b.store.load(&dir));
    }
    b.untouched();
}

#[test]
fn names_in_manifests_are_names_of_members() {
    let b = Bench::new();
    fs::write(b.dir.path().join("outside/canary"), "untouched").unwrap();
    let with = |config: &str, layer: &str| {
        let mut tar = Tar::new();
        tar.symlink("esc", "../../../../etc/passwd");
        tar.file("c.json", &support_config());
        tar.file(
            "manifest.json",
            &format!(r#"[{{"Config":"{config}","RepoTags":["x:1"],"Layers":["{layer}"]}}]"#),
        );
        tar.end()
    };
    b.refused(&with("../outside/canary", "l"), "is no name");
    b.refused(&with("/etc/passwd", "l"), "has no");
    b.refused(&with("c.json", "../../etc/passwd"), "is no name");
    b.refused(&with("c.json", "esc"), "has no");
    b.refused(&with("esc", "l"), "has no");
    // Links that lead round and round.
    let mut tar = Tar::new();
    tar.symlink("a", "b").symlink("b", "a");
    tar.file("manifest.json", r#"[{"Config":"a","Layers":[]}]"#);
    b.refused(&tar.end(), "too many links");
    // Names that are none.
    let layer = Tar::new().file("f", "x").end();
    for name in ["../x", "X:1", "x:../y", "a b"] {
        let archive = docker_archive(
            std::slice::from_ref(&layer),
            &diffs(std::slice::from_ref(&layer)),
            &[name],
        );
        b.refused(&archive, "invalid reference format");
    }
    // A layout in a directory does not lead out of it either.
    let dir = b.dir.path().join("oci");
    fs::create_dir(&dir).unwrap();
    std::os::unix::fs::symlink("/etc/passwd", dir.join("index.json")).unwrap();
    b.refuses("neither", || b.store.load(&dir));
}

fn support_config() -> String {
    config(&[hex(b"")])
}

#[test]
fn images_and_layers_must_agree() {
    let b = Bench::new();
    let layer = Tar::new().file("f", "x").end();
    let mut two = diffs(std::slice::from_ref(&layer));
    two.push(hex(b"other"));
    b.refused(&docker_archive(&[layer], &two, &["x:1"]), "layers");
    let many: Vec<String> = (0..1001).map(|n| hex(&[n as u8])).collect();
    b.refused(&docker_archive(&[], &many, &["x:1"]), "1000 layers");
}

#[test]
fn any_change_of_a_header_is_an_error_or_another_layer() {
    let whole = Tar::new()
        .dir("d/")
        .pax(&[("mtime", b"1.5"), ("SCHILY.xattr.user.x", b"y")])
        .file("d/f", "content")
        .symlink("l", "d")
        .hardlink("h", "d/f")
        .file("d/.wh.g", "")
        .end();
    let b = Bench::new();
    let mut state = 0x2545_f491_4f6c_dd1du64;
    let mut random = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        usize::try_from(state % (1 << 30)).unwrap()
    };
    let mut passed = 0;
    for round in 0..500 {
        let mut tar = Tar(whole.clone());
        let headers = tar.0.len() / 512 - 2;
        for _ in 0..=random() % 4 {
            let at = random() % headers * 512;
            tar.0[at + random() % 512] = u8::try_from(random() % 256).unwrap();
            tar.checksum(at);
        }
        let path = b.dir.path().join(format!("outside-{round}"));
        fs::create_dir(&path).unwrap();
        fs::create_dir(path.join("tree")).unwrap();
        let root = fs::File::open(path.join("tree")).unwrap();
        let mut unpacker = Unpacker::new(&root, Limits::default()).unwrap();
        let mut data = Some(std::mem::take(&mut tar.0));
        let mut reader = Reader::new(|_| Ok(data.take().unwrap_or_default()));
        let run = || -> capas::store::Result<()> {
            while let Some(member) = reader.member()? {
                unpacker.add(&member, &mut reader)?;
            }
            unpacker.finish().map(drop)
        };
        match run() {
            Ok(()) => passed += 1,
            Err(e) => assert!(!e.to_string().contains('\n'), "{e}"),
        }
        let beside: Vec<_> = fs::read_dir(&path).unwrap().collect();
        assert_eq!(beside.len(), 1, "something is outside of the tree");
        capas::store::discard::remove_tree(&path).unwrap();
    }
    assert!((20..480).contains(&passed), "{passed} of 500 were accepted");
    b.untouched();
}

#[test]
fn documents_of_an_archive_have_limits() {
    let b = Bench::new();
    // One configuration that many images name.
    let big = config(&[]).replace("/bin/sh", &"x".repeat(7 << 20));
    let one = r#"{"Config":"config.json","RepoTags":[],"Layers":[]}"#;
    let mut tar = Tar::new();
    tar.file("config.json", &big)
        .file("manifest.json", &format!("[{}]", [one; 20].join(",")));
    b.refused(&tar.end(), "documents of the images take more than");
    // And many manifests.
    let dir = b.dir.path().join("oci");
    oci_dir(&dir, &[], gzip, "t");
    let blobs = dir.join("blobs/sha256");
    fs::write(blobs.join(hex(big.as_bytes())), &big).unwrap();
    let entries: Vec<String> = (0..20)
        .map(|n| {
            let manifest = format!(
                r#"{{"schemaVersion":2,"annotations":{{"n":"{n}"}},"config":{{"mediaType":"application/vnd.oci.image.config.v1+json","digest":"sha256:{}","size":{}}},"layers":[]}}"#,
                hex(big.as_bytes()),
                big.len()
            );
            fs::write(blobs.join(hex(manifest.as_bytes())), &manifest).unwrap();
            format!(
                r#"{{"mediaType":"application/vnd.oci.image.manifest.v1+json","digest":"sha256:{}","size":{},"annotations":{{"org.opencontainers.image.ref.name":"x/y:{n}"}}}}"#,
                hex(manifest.as_bytes()),
                manifest.len()
            )
        })
        .collect();
    let index = format!(
        r#"{{"schemaVersion":2,"manifests":[{}]}}"#,
        entries.join(",")
    );
    fs::write(dir.join("index.json"), index).unwrap();
    b.refuses("documents of the images take more than", || {
        b.store.load(&dir)
    });
}
