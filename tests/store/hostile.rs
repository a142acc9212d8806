//! Archives that want something else than to be images.

use super::support::*;
use capas::store::tarball::Reader;
use capas::store::unpack::{Limits, Unpacker};
use std::fs;

#[test]
fn names_that_lead_out() {
    let b = Bench::new();
    let out = |name: &str| Tar::new().file(name, "x").end();
    b.layer_refused(&out("../outside/new"), "..");
    b.layer_refused(&out("a/../../outside/new"), "..");
    b.layer_refused(&out("a/b/.."), "..");
    let pax = |path: &[u8]| Tar::new().pax(&[("path", path)]).file("fine", "x").end();
    b.layer_refused(&pax(b"../outside/pax"), "..");
    b.layer_refused(&pax(b"a\0b"), "NUL");
    b.layer_refused(&pax("n".repeat(256).as_bytes()), "too long");
    b.layer_refused(&pax("d/".repeat(3000).as_bytes()), "path exceeds limit");
    b.layer_refused(&pax("d/".repeat(300).as_bytes()), "deep");
}

#[test]
fn absolute_names_lie_in_the_layer() {
    let b = Bench::new();
    let target = b.dir.path().join("outside/new");
    let layer = Tar::new().file(target.to_str().unwrap(), "x").end();
    b.image(&[layer]).unwrap();
    assert!(b.tree(0).join(target.strip_prefix("/").unwrap()).exists());
    b.untouched();
}

#[test]
fn symlinks_lead_nowhere_outside() {
    let b = Bench::new();
    let outside = b.dir.path().join("outside");
    let outside = outside.to_str().unwrap();
    let through = |target: &str| Tar::new().symlink("l", target).file("l/new", "x").end();
    // In the layer there is no such directory.
    b.layer_refused(&through(outside), "symlink");
    b.layer_refused(&through("../../../../outside"), "symlink");
    b.layer_refused(&through("l"), "symlink");
    let file = Tar::new()
        .file("f", "")
        .symlink("l", "f")
        .file("l/new", "x")
        .end();
    b.layer_refused(&file, "not a directory");
    b.layer_refused(&through("/proc/self/cwd"), "symlink");
    // A file through a symlink replaces the symlink, not what it leads to.
    let canary = format!("{outside}/canary");
    let layer = Tar::new().symlink("c", &canary).file("c", "mine").end();
    b.image(&[layer]).unwrap();
    assert_eq!(fs::read(b.tree(0).join("c")).unwrap(), b"mine");
    b.untouched();
    // Within the layer symlinks are followed as in a chroot.
    let layer = Tar::new()
        .dir("usr/lib/")
        .symlink("lib", "/usr/lib")
        .file("lib/x", "in")
        .end();
    b.image(&[layer]).unwrap();
    assert_eq!(fs::read(b.tree(0).join("usr/lib/x")).unwrap(), b"in");
}

#[test]
fn hard_links_lead_nowhere_outside() {
    let b = Bench::new();
    let canary = b.dir.path().join("outside/canary");
    let link = |target: &str| Tar::new().dir("d/").hardlink("h", target).end();
    b.layer_refused(&link(canary.to_str().unwrap()), "not in the image");
    b.layer_refused(&link("../outside/canary"), "..");
    b.layer_refused(&link("d"), "directory");
    b.layer_refused(&link("h"), "itself");
    b.layer_refused(&link("."), "root");
    b.layer_refused(&link("later"), "not in the image");
    let whiteout = Tar::new().file(".wh.w", "").hardlink("h", "w").end();
    b.layer_refused(&whiteout, "whiteout");
    b.layer_refused(&link("d/.wh.x"), "whiteout");
    // To a symlink: the symlink gets a second name; it is not followed.
    let layer = Tar::new()
        .symlink("s", canary.to_str().unwrap())
        .hardlink("h", "s")
        .file("h", "mine")
        .end();
    b.image(&[layer]).unwrap();
    b.untouched();
    // Through a symlink to a directory outside.
    let layer = Tar::new()
        .symlink("s", canary.parent().unwrap().to_str().unwrap())
        .hardlink("h", "s/canary")
        .end();
    b.layer_refused(&layer, "not in the image");
}

#[test]
fn the_root_is_a_directory() {
    let b = Bench::new();
    for name in [".", "./", "/", "./."] {
        let layer = Tar::new().symlink(name, "/").file("etc/x", "x").end();
        b.layer_refused(&layer, "root");
    }
    b.layer_refused(&Tar::new().file("./", "x").end(), "root");
    b.layer_refused(&Tar::new().hardlink(".", "x").end(), "root");
    let empty = Tar::new().pax(&[("path", b"")]).symlink("x", "/").end();
    b.layer_refused(&empty, "root");
}

#[test]
fn of_several_entries_the_last_wins_but_keeps_nothing_secret() {
    let b = Bench::new();
    let layer = Tar::new()
        .file("f", "first")
        .file("f", "last")
        .symlink("d", "/")
        .dir("d/")
        .file("d/in", "x")
        .dir("e/")
        .file("e", "file")
        .end();
    b.image(&[layer]).unwrap();
    assert_eq!(fs::read(b.tree(0).join("f")).unwrap(), b"last");
    assert!(b.tree(0).join("d/in").exists());
    assert!(fs::metadata(b.tree(0).join("e")).unwrap().is_file());
    let swap = Tar::new()
        .dir("d/")
        .file("d/f", "")
        .symlink("d", "/")
        .file("d/g", "")
        .end();
    b.layer_refused(&swap, "replace a directory");
}

#[test]
fn whiteouts_of_nothing() {
    let b = Bench::new();
    for name in [
        ".wh.",
        "d/.wh.",
        ".wh..",
        ".wh...",
        ".wh..wh.x",
        ".wh..wh..wh.",
        ".wh..wh.plnk",
    ] {
        b.layer_refused(&Tar::new().file(name, "").end(), "whiteout");
    }
    b.layer_refused(&Tar::new().dir(".wh.d/").end(), "whiteout");
    b.layer_refused(&Tar::new().file(".wh.f", "content").end(), "whiteout");
    b.layer_refused(&Tar::new().file(".wh.d/f", "").end(), "reserved");
    let through = Tar::new()
        .dir("real/")
        .symlink("l", "real")
        .file("l/.wh.x", "")
        .end();
    b.layer_refused(&through, "symlink");
    let opaque = Tar::new()
        .dir("real/")
        .symlink("l", "real")
        .file("l/.wh..wh..opq", "")
        .end();
    b.layer_refused(&opaque, "symlink");
    let device = Tar::new().add(&entry("w", b'3'), b"").end();
    b.layer_refused(&device, "0:0");
}

#[test]
fn archives_that_programs_read_differently() {
    let b = Bench::new();
    // The size of the header against that of the PAX record: the record counts,
    // and what it hides from others is content here.
    let hidden = Tar::new().file("hidden", "evil").end();
    let mut tar = Tar::new();
    tar.pax(&[("size", hidden.len().to_string().as_bytes())]);
    tar.add(
        &Entry {
            size: Some(0),
            ..entry("outer", b'0')
        },
        &hidden,
    );
    b.image(&[tar.end()]).unwrap();
    assert!(!b.tree(0).join("hidden").exists());
    assert_eq!(fs::read(b.tree(0).join("outer")).unwrap(), hidden);

    let pax = |records: &[(&str, &[u8])]| Tar::new().pax(records).file("f", "x").end();
    for bad in ["-1", "x", "", "1 ", "99999999999999999999999"] {
        b.layer_refused(&pax(&[("size", bad.as_bytes())]), "bad PAX size");
        b.layer_refused(&pax(&[("uid", bad.as_bytes())]), "bad PAX uid");
    }
    b.layer_refused(&pax(&[("mtime", b"soon")]), "bad PAX time");
    b.layer_refused(&pax(&[("uid", b"4294967296")]), "too large");
    let raw = |data: &[u8]| {
        let mut tar = Tar::new();
        tar.add(&entry("pax", b'x'), data);
        tar.file("f", "x").end()
    };
    for data in [
        &b"nonsense"[..],
        b"99 path=short\n",
        b"11 path=a\n\n\n",
        b"9 path=a\n\0\0\0",
    ] {
        b.layer_refused(&raw(data), "PAX");
    }
    let mut global = Tar::new();
    global.add(&entry("g", b'g'), b"16 path=../evil\n");
    b.layer_refused(&global.file("f", "x").end(), "global");
    // Members without content that claim some.
    for kind in [b'1', b'2', b'5', b'6'] {
        let e = Entry {
            link: b"x",
            size: Some(512),
            ..entry("m", kind)
        };
        b.layer_refused(
            &Tar::new().file("x", "").add(&e, &[0; 512]).end(),
            "without content",
        );
    }
    let mut after = Tar::new().file("f", "x").end();
    after.extend_from_slice(&Tar::new().file("hidden", "evil").end());
    b.layer_refused(&after, "after the end");
    b.layer_refused(
        &Tar::new().add(&entry("v", b'V'), b"").end(),
        "not supported",
    );
}

#[test]
fn sparse_maps_that_lie() {
    let b = Bench::new();
    let sparse = |map: &str, size: &str, data: &str| {
        Tar::new()
            .pax(&[
                ("GNU.sparse.size", size.as_bytes()),
                ("GNU.sparse.map", map.as_bytes()),
            ])
            .file("s", data)
            .end()
    };
    b.layer_refused(&sparse("0,3", "2", "abc"), "leaves the file");
    b.layer_refused(&sparse("5,3,4,1", "100", "abcd"), "overlaps");
    b.layer_refused(&sparse("0,3", "100", "abcd"), "does not fit");
    b.layer_refused(
        &sparse("18446744073709551615,3", "100", "abc"),
        "leaves the file",
    );
    b.layer_refused(
        &sparse("0,3", "18446744073709551615", "abc"),
        "does not fit",
    );
    b.layer_refused(&sparse("0,3,9", "100", "abc"), "odd number");
    let many: Vec<String> = (0..20_001).map(|n| format!("{n},1")).collect();
    b.layer_refused(
        &sparse(&many.join(","), "90000", &"x".repeat(20_001)),
        "too many sparse",
    );
}

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
