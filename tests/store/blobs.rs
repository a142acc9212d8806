//! Blobs of layers are dropped, and the layers' archives come back to the bit.

use super::save::save;
use super::support::*;
use capas::store::document::{Descriptor, ImageConfig, Top, parse_top};
use capas::store::load::{Plan, PlannedLayer, Source, planned_layers};
use capas::store::pipeline::Blob;
use capas::store::save::Format;
use capas::store::{Digest, Reference, Store};
use std::ffi::OsStr;
use std::fs;
use std::io::Read;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, PermissionsExt, symlink};
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};

/// The uncompressed archives of an image's layers, as the store gives them.
fn archives(store: &Store, image: &str) -> Vec<Vec<u8>> {
    let (image, _) = store.find_image(image).unwrap();
    let layers = store.described_layers(&image).unwrap();
    let read = layers.iter().map(|layer| {
        let mut out = Vec::new();
        let mut tar = store.open_layer(layer).unwrap();
        tar.read_to_end(&mut out).unwrap();
        out
    });
    read.collect()
}

/// Blobs of layers in the store.
fn blobs(b: &Bench, image: &str) -> usize {
    let (image, _) = b.store.find_image(image).unwrap();
    let layers = b.store.described_layers(&image).unwrap();
    layers.iter().filter(|l| b.store.has_blob(&l.blob)).count()
}

fn load(b: &Bench, layers: &[Vec<u8>], wrap: fn(&[u8]) -> Vec<u8>, name: &str) {
    let stored: Vec<Vec<u8>> = layers.iter().map(|l| wrap(l)).collect();
    b.load(&docker_archive(&stored, &diffs(layers), &[name]))
        .unwrap();
}

/// Everything that programs put into archives, and unpacking cannot keep.
fn wild_tree(dir: &Path) {
    fs::create_dir_all(dir.join("bin")).unwrap();
    fs::create_dir_all(dir.join("usr/lib")).unwrap();
    let mut noise = vec![0; 70_001];
    capas::sys::tree::random(&mut noise).unwrap();
    fs::write(dir.join("bin/x"), &noise).unwrap();
    fs::hard_link(dir.join("bin/x"), dir.join("bin/y")).unwrap();
    fs::write(dir.join("bin/empty"), "").unwrap();
    fs::set_permissions(dir.join("bin/x"), fs::Permissions::from_mode(0o4711)).unwrap();
    symlink("../usr/lib", dir.join("bin/lib")).unwrap();
    fs::write(dir.join(OsStr::from_bytes(b"\xff\xfe\n")), "no UTF-8").unwrap();
    let long = "n".repeat(220);
    fs::create_dir(dir.join(&long)).unwrap();
    fs::write(dir.join(&long).join(&long), "long").unwrap();
    symlink(format!("/{long}/{long}"), dir.join("far")).unwrap();
    let sparse = fs::File::create(dir.join("sparse")).unwrap();
    sparse.set_len(500_000).unwrap();
    for at in [0, 200_000, 270_000, 499_995] {
        sparse.write_all_at(b"data!", at).unwrap();
    }
    let node = |name: &str, kind: &[&str]| {
        let made = Command::new("mknod")
            .arg(dir.join(name))
            .args(kind)
            .status();
        assert!(made.unwrap().success());
    };
    node("null", &["c", "1", "3"]);
    node("disk", &["b", "8", "1"]);
    node("pipe", &["p"]);
    for (file, name, value) in [
        ("bin/x", c"user.note", b"kept".as_slice()),
        ("usr", c"trusted.overlay.opaque", b"y"),
        ("usr/lib", c"user.overlay.redirect", b"/x\0y\n"),
    ] {
        let file = fs::File::open(dir.join(file)).unwrap();
        let at = capas::sys::At::Fd(std::os::fd::AsFd::as_fd(&file));
        capas::sys::xattr::set(at, name, value, 0).unwrap();
    }
    fs::write(dir.join("usr/.wh.gone"), "").unwrap();
    let touched = Command::new("touch")
        .args(["-d", "@1234567890.123456789"])
        .arg(dir.join("bin/y"))
        .status();
    assert!(touched.unwrap().success());
    let old = Command::new("touch")
        .args(["-d", "@-5.25", "-h"])
        .arg(dir.join("far"))
        .status();
    assert!(old.unwrap().success());
}

/// The tree as every program at hand would archive it.
fn wild_archives(dir: &Path) -> Vec<(String, Vec<u8>)> {
    let tree = dir.join("wild");
    wild_tree(&tree);
    let out = dir.join("wild.tar");
    let mut all = Vec::new();
    let mut run = |what: &str, program: &str, args: &[&str]| {
        let done = Command::new(program)
            .args(args)
            .current_dir(&tree)
            .output()
            .unwrap_or_else(|e| panic!("{program}: {e} (scripts/test installs it)"));
        assert!(done.status.success(), "{what}: {done:?}");
        all.push((what.to_owned(), fs::read(&out).unwrap()));
    };
    let to = out.to_str().unwrap();
    let xattrs = ["--xattrs", "--xattrs-include=*"];
    for format in ["posix", "gnu"] {
        let format = format!("--format={format}");
        let name = format!("tar {format}");
        run(&name, "tar", &[&format, "-cf", to, "."]);
        let sparse = [&[format.as_str(), "-S", "-cf", to], &xattrs[..], &["."]].concat();
        run(&format!("{name} -S"), "tar", &sparse);
    }
    for version in ["0.0", "0.1", "1.0"] {
        let version = format!("--sparse-version={version}");
        let args = ["--format=posix", "-S", &version, "-b", "1", "-cf", to, "."];
        run(&version, "tar", &args);
    }
    run("bsdtar", "bsdtar", &["--format=pax", "-cf", to, "."]);
    run(
        "bsdtar gnutar",
        "bsdtar",
        &["--format=gnutar", "-cf", to, "."],
    );
    for format in ["PAX", "GNU"] {
        let script = format!(
            "import sys, tarfile\n\
             t = tarfile.open(sys.argv[1], 'w', format=tarfile.{format}_FORMAT)\n\
             t.add('.')\n\
             t.close()\n"
        );
        run(&format!("python {format}"), "python3", &["-c", &script, to]);
    }
    all
}

#[test]
fn archives_of_every_program_come_back_to_the_bit() {
    if !root() {
        return;
    }
    let tmp = tempfile::tempdir().unwrap();
    for (what, tar) in wild_archives(tmp.path()) {
        let b = Bench::new();
        let layers = [tar.clone()];
        load(&b, &layers, gzip, "x:1");
        let id = b.store.find_image("x:1").unwrap().0.id;
        let dropped = b.store.drop_blobs(false).unwrap();
        assert_eq!((dropped.blobs.len(), dropped.kept.len()), (1, 0), "{what}");
        assert_eq!(blobs(&b, "x:1"), 0, "{what}");
        // No content of a file is kept twice.
        let skeleton = |e: fs::DirEntry| {
            let is_one = e.path().extension().is_some_and(|e| e == "skel");
            is_one.then(|| e.metadata().unwrap().len())
        };
        let layers_dir = fs::read_dir(b.store.layers()).unwrap();
        let size: u64 = layers_dir.filter_map(|e| skeleton(e.unwrap())).sum();
        assert!((1..5000).contains(&size), "{what}: {size}");
        assert!(archives(&b.store, "x:1") == layers, "{what}");
        let saved = save(&b, &["x:1"], Format::Docker);
        let again = Bench::new();
        assert_eq!(again.load(&saved).unwrap()[0].id, id, "{what}");
        assert!(archives(&again.store, "x:1") == layers, "{what}");
        assert!(save(&again, &["x:1"], Format::Docker) == saved, "{what}");
    }
}

#[test]
fn what_a_tree_does_not_hold_is_kept_with_the_skeleton() {
    let twice = Tar::new()
        .file("a", "first")
        .file("a", "second, longer")
        .file("b", "goes")
        .symlink("b", "a")
        .dir("d/")
        .symlink("l", "d")
        .file("l/f", "through a link")
        .add(&entry("./odd//name", b'0'), b"odd")
        .end();
    // No mark of the end, and no padding after the last content.
    let mut cut = Tar::new().file("x", "last").0.clone();
    cut.truncate(512 + 4);
    // A block more than other archives have, of zeros as it must be.
    let mut long = Tar::new().file("x", "y").end();
    long.resize(long.len() + 512 * 37, 0);
    for tar in [twice, cut, long] {
        let b = Bench::new();
        load(&b, std::slice::from_ref(&tar), zstd, "x:1");
        b.store.drop_blobs(false).unwrap();
        assert_eq!(blobs(&b, "x:1"), 0);
        assert_eq!(archives(&b.store, "x:1"), [tar]);
    }
}

/// The second layer's tree depends on the one below: two trees of one DiffID.
fn chained(b: &Bench) -> Vec<Vec<u8>> {
    let top = Tar::new().file("d/no/entries", "for parents").end();
    let below = |mode| {
        let dir = Entry {
            mode,
            ..entry("d/", b'5')
        };
        Tar::new().add(&dir, b"").end()
    };
    load(b, &[below(0o700), top.clone()], gzip, "x:1");
    load(b, &[below(0o755), top.clone()], gzip, "y:1");
    vec![below(0o700), top]
}

#[test]
fn every_tree_of_a_layer_has_its_skeleton() {
    let b = Bench::new();
    let layers = chained(&b);
    let before = b.contents();
    let would = b.store.drop_blobs(true).unwrap();
    assert_eq!(b.contents(), before);
    let dropped = b.store.drop_blobs(false).unwrap();
    assert_eq!(dropped.blobs, would.blobs);
    assert_eq!(dropped.blobs.len(), 3);
    let skeletons = b.contents().iter().filter(|n| n.ends_with(".skel")).count();
    assert_eq!(skeletons, 4);
    assert_eq!(archives(&b.store, "x:1"), layers);
    // One image goes, the other's layers stay whole; then nothing is left.
    b.store.remove_image("x:1", false, || Ok(vec![])).unwrap();
    b.store.sweep(|| Ok(vec![])).unwrap();
    assert_eq!(archives(&b.store, "y:1")[1], layers[1]);
    b.store.remove_image("y:1", false, || Ok(vec![])).unwrap();
    b.store.sweep(|| Ok(vec![])).unwrap();
    assert_eq!(b.contents(), Vec::<String>::new());
}

#[test]
fn a_changed_tree_gives_an_error_and_never_other_bytes() {
    let b = Bench::new();
    let layers = [Tar::new().file("f", "content").end()];
    load(&b, &layers, gzip, "x:1");
    b.store.drop_blobs(false).unwrap();
    let file = b.tree(0).join("f");
    let out = b.dir.path().join("out.tar");
    for content in ["contenT", "short", "longer than it was"] {
        fs::write(&file, content).unwrap();
        let wanted = b.store.wanted(&["x:1".to_owned()]).unwrap();
        let saved = b.store.save(&wanted, Format::Docker, Vec::new());
        let text = saved.unwrap_err().to_string();
        assert!(
            text.contains("its directory in the store was changed"),
            "{text}"
        );
        let run = Command::new(env!("CARGO_BIN_EXE_capas"))
            .arg("--root")
            .arg(b.store.root())
            .args(["save", "x:1", "-o"])
            .arg(&out)
            .output()
            .unwrap();
        assert_eq!(run.status.code(), Some(1));
        assert!(!out.exists());
    }
    fs::write(&file, "content").unwrap();
    assert_eq!(archives(&b.store, "x:1"), layers);
    // Loaded again it has its blob; a tree that was changed before blobs are
    // dropped costs room, not bytes.
    load(&b, &layers, gzip, "x:1");
    assert_eq!(blobs(&b, "x:1"), 1);
    fs::write(&file, "contenT").unwrap();
    b.store.drop_blobs(false).unwrap();
    assert_eq!(blobs(&b, "x:1"), 0);
    assert_eq!(archives(&b.store, "x:1"), layers);
}

#[test]
fn an_image_of_two_manifests_loses_the_blobs_of_both() {
    let b = Bench::new();
    let layers = [Tar::new().file("f", "content").end()];
    load(&b, &layers, gzip, "x:1");
    load(&b, &layers, zstd, "y:1");
    assert_eq!(b.store.images().unwrap().len(), 1);
    let dropped = b.store.drop_blobs(false).unwrap();
    assert_eq!(dropped.blobs.len(), 2);
    assert_eq!(archives(&b.store, "y:1"), layers);
}

#[test]
fn an_image_without_its_blob_is_saved_by_another_of_the_same_layer() {
    let b = Bench::new();
    let layers = [Tar::new().file("f", "content").end()];
    load(&b, &layers, gzip, "x:1");
    load(&b, &layers, zstd, "y:1");
    let other = [layers[0].clone(), Tar::new().file("g", "more").end()];
    load(&b, &other, |l| l.to_vec(), "z:1");
    for wrap in [gzip, zstd] {
        fs::remove_file(b.store.blob(&Digest::of(&wrap(&layers[0])))).unwrap();
        assert_eq!(archives(&b.store, "x:1"), layers);
        let again = Bench::new();
        let loaded = again.load(&save(&b, &["x:1"], Format::Docker)).unwrap();
        assert_eq!(loaded[0].id, b.store.find_image("x:1").unwrap().0.id);
    }
    // The last one may go when the tree is as good.
    assert_eq!(b.store.drop_blobs(false).unwrap().blobs.len(), 2);
    assert_eq!(archives(&b.store, "x:1"), layers);
    assert_eq!(archives(&b.store, "z:1"), other);
}

/// A registry with one blob.
struct Remote(Vec<u8>, AtomicUsize);

impl Source for Remote {
    fn workers(&self) -> usize {
        1
    }

    fn open(&self, _: &PlannedLayer) -> capas::store::Result<Blob<'_>> {
        self.1.fetch_add(1, Ordering::Relaxed);
        Ok(Blob {
            size: self.0.len() as u64,
            reader: Box::new(self.0.as_slice()),
        })
    }

    fn wants_blobs(&self) -> bool {
        false
    }
}

#[test]
fn a_layer_by_another_blob_outlives_the_image_that_had_it() {
    for dropped in [false, true] {
        another_blob(dropped);
    }
}

/// `dropped`: the layer's first blob, so that its archive comes from the tree.
fn another_blob(dropped: bool) {
    let b = Bench::new();
    let layers = [Tar::new().file("f", "content").end()];
    load(&b, &layers, gzip, "x:1");
    // The same layer by another blob, in an image that comes without it.
    let config_data = config(&diffs(&layers)).replace("/bin/sh", "/bin/ash");
    let blob = zstd(&layers[0]);
    let manifest = serde_json::json!({
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": {
            "mediaType": "application/vnd.oci.image.config.v1+json",
            "digest": format!("sha256:{}", hex(config_data.as_bytes())),
            "size": config_data.len(),
        },
        "layers": [{
            "mediaType": "application/vnd.oci.image.layer.v1.tar+zstd",
            "digest": format!("sha256:{}", hex(&blob)),
            "size": blob.len(),
        }],
    })
    .to_string()
    .into_bytes();
    let descriptor = Descriptor {
        media_type: "application/vnd.oci.image.manifest.v1+json".to_owned(),
        digest: Digest::of(&manifest),
        size: manifest.len() as u64,
        annotations: None,
        platform: None,
    };
    let config = ImageConfig::parse(config_data.as_bytes()).unwrap();
    let Ok(Top::Manifest(parsed)) = parse_top(&manifest) else {
        panic!("no manifest")
    };
    let plan = Plan {
        layers: planned_layers(&parsed, &config).unwrap(),
        config_data: config_data.into_bytes(),
        config,
        manifest: Some((descriptor, manifest)),
        names: vec![Reference::parse("y:1").unwrap()],
        origin: None,
    };
    if dropped {
        b.store.drop_blobs(false).unwrap();
    }
    let remote = Remote(blob, AtomicUsize::new(0));
    b.store.take_in(&remote, vec![plan]).unwrap();
    // What the tree can give is not fetched.
    assert_eq!(remote.1.load(Ordering::Relaxed), usize::from(!dropped));
    assert_eq!(blobs(&b, "y:1"), usize::from(!dropped));
    b.store.remove_image("x:1", false, || Ok(vec![])).unwrap();
    b.store.sweep(|| Ok(vec![])).unwrap();
    assert_eq!(archives(&b.store, "y:1"), layers);
}

#[test]
fn a_damaged_blob_stays_and_is_named() {
    let b = Bench::new();
    let layers = [Tar::new().file("f", "content").end()];
    load(&b, &layers, gzip, "x:1");
    let digest = Digest::of(&gzip(&layers[0]));
    let mut bytes = fs::read(b.store.blob(&digest)).unwrap();
    // The checksum at the end: what comes out of it is what it should be, but
    // for the error.
    let checksum = bytes.len() - 8;
    bytes[checksum] ^= 1;
    fs::write(b.store.blob(&digest), &bytes).unwrap();
    let dropped = b.store.drop_blobs(false).unwrap();
    assert!(dropped.blobs.is_empty());
    assert_eq!(dropped.kept.len(), 1);
    assert_eq!(dropped.kept[0].0, digest);
    assert!(b.store.blob(&digest).exists());
    assert!(b.contents().iter().all(|n| !n.ends_with(".skel")));
}

#[test]
fn blobs_of_other_programs_entries_stay() {
    let b = Bench::new();
    let layers = [Tar::new().file("f", "content").end()];
    load(&b, &layers, gzip, "x:1");
    // The same manifest under an entry that is not ours, as umoci would add it.
    let path = b.store.root().join("index.json");
    let mut index: serde_json::Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    let manifest = &index["manifests"][0];
    let data = fs::read(
        b.store
            .blob(&Digest::parse(manifest["digest"].as_str().unwrap()).unwrap()),
    );
    let mut other: serde_json::Value = serde_json::from_slice(&data.unwrap()).unwrap();
    other["annotations"] = serde_json::json!({"by": "another"});
    let other = other.to_string();
    fs::write(b.store.blob(&Digest::of(other.as_bytes())), &other).unwrap();
    let entry = serde_json::json!({
        "mediaType": manifest["mediaType"],
        "digest": Digest::of(other.as_bytes()).to_string(),
        "size": other.len(),
    });
    index["manifests"].as_array_mut().unwrap().push(entry);
    fs::write(&path, index.to_string()).unwrap();
    let dropped = b.store.drop_blobs(false).unwrap();
    assert!(dropped.blobs.is_empty());
    assert_eq!(blobs(&b, "x:1"), 1);
}

#[test]
fn dropping_waits_for_nobody_and_breaks_nobody() {
    let b = Bench::new();
    let layers = [Tar::new().file("f", "content").end()];
    load(&b, &layers, gzip, "x:1");
    let reading = b.store.lock_reading().unwrap();
    let text = b.store.drop_blobs(false).unwrap_err().to_string();
    assert!(text.contains("try again"), "{text}");
    assert_eq!(blobs(&b, "x:1"), 1);
    drop(reading);
    assert_eq!(b.store.drop_blobs(false).unwrap().blobs.len(), 1);
    // Nothing more to do.
    assert!(b.store.drop_blobs(false).unwrap().blobs.is_empty());
}

#[test]
fn a_prune_that_dies_or_fails_anywhere_loses_nothing() {
    for what in ["kill", "28"] {
        let mut points = 0;
        for nth in 1.. {
            let b = Bench::new();
            let layers = chained(&b);
            let run = |fail: Option<String>| {
                Command::new(env!("CARGO_BIN_EXE_capas"))
                    .arg("--root")
                    .arg(b.store.root())
                    .args(["prune", "--blobs", "-f"])
                    .env_remove("CAPAS_FAIL")
                    .envs(fail.map(|f| ("CAPAS_FAIL", f)))
                    .output()
                    .unwrap()
            };
            let hit = run(Some(format!("{nth}:{what}")));
            assert_eq!(archives(&b.store, "x:1"), layers, "{nth}:{what}");
            assert_eq!(archives(&b.store, "y:1")[1], layers[1], "{nth}:{what}");
            let again = run(None);
            assert!(again.status.success(), "{nth}:{what}: {again:?}");
            assert_eq!(blobs(&b, "x:1") + blobs(&b, "y:1"), 0, "{nth}:{what}");
            assert_eq!(archives(&b.store, "x:1"), layers, "{nth}:{what}");
            assert!(b.contents().iter().all(|n| !n.starts_with("tmp/")));
            if hit.status.success() {
                points = nth - 1;
                break;
            }
        }
        assert!(points > 10, "only {points} points");
    }
}

#[test]
fn a_skeleton_that_goes_before_the_blob_does_keeps_the_blob() {
    let b = Bench::new();
    let layers = [Tar::new().file("f", "content").end()];
    load(&b, &layers, gzip, "x:1");
    let skeletons = || -> Vec<String> {
        let all = b.contents().into_iter();
        all.filter(|n| n.ends_with(".skel")).collect()
    };
    let reading = b.store.lock_reading().unwrap();
    std::thread::scope(|s| {
        let pruned = s.spawn(|| b.store.drop_blobs(false));
        while skeletons().is_empty() {
            std::thread::yield_now();
        }
        // As when the image is removed and loaded again before the prune gets
        // its lock: the tree and the blob are there, the skeleton is not.
        for name in skeletons() {
            fs::remove_file(b.store.root().join(name)).unwrap();
        }
        drop(reading);
        assert!(pruned.join().unwrap().unwrap().blobs.is_empty());
    });
    assert_eq!(blobs(&b, "x:1"), 1);
    assert_eq!(archives(&b.store, "x:1"), layers);
}
