//! Archives that are too much, cut short, or not what they say.

use super::support::*;
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
        let error = b.load(&whole[..len]).unwrap_err().to_string();
        assert!(!error.contains('\n'), "{error}");
        assert_eq!(b.contents(), Vec::<String>::new());
    }
    b.refused(&vec![b'?'; 100_000], "tar");
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
            let error = b.store.load(&dir).unwrap_err().to_string();
            assert!(
                error.contains("digest") || error.contains("bytes") || error.contains("layer"),
                "{error}"
            );
            assert_eq!(b.contents(), Vec::<String>::new());
        }
        // Missing altogether.
        let dir = b.dir.path().join(format!("gone{i}"));
        oci_dir(&dir, std::slice::from_ref(&layer), gzip, "t");
        fs::remove_file(dir.join("blobs/sha256").join(name)).unwrap();
        assert!(
            b.store
                .load(&dir)
                .unwrap_err()
                .to_string()
                .contains("has no")
        );
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
    assert!(
        b.store
            .load(&dir)
            .unwrap_err()
            .to_string()
            .contains("neither")
    );
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
    assert!(
        passed > 50 && passed < 1450,
        "{passed} of 1500 were accepted"
    );
    b.untouched();
}
