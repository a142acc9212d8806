//! `check` finds every kind of damage, `--repair` mends what it can, and `gc`
//! says exactly what it frees.

use super::support::*;
use capas::store::Digest;
use capas::store::check::{Finding, Options};
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

fn capas(root: &Path, args: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_capas"));
    command.arg("--root").arg(root).args(args);
    command.output().unwrap()
}

/// Exit code and both outputs.
pub fn run(b: &Bench, args: &[&str]) -> (i32, String) {
    let out = capas(b.store.root(), args);
    let text = [out.stdout, out.stderr].concat();
    (out.status.code().unwrap(), String::from_utf8(text).unwrap())
}

pub fn sound(b: &Bench) {
    let (code, text) = run(b, &["check"]);
    assert_eq!(code, 0, "{text}");
    assert!(text.contains(": 0 damaged, 0 repaired, 0 unused"), "{text}");
    assert_eq!(text.lines().count(), 1, "{text}");
}

/// `check` says `words` and fails.
fn damaged(b: &Bench, words: &str) {
    let (code, text) = run(b, &["check"]);
    assert_eq!(code, 1, "{text}");
    assert!(text.contains(words), "\"{words}\" is not in: {text}");
}

fn repaired(b: &Bench) {
    let (code, text) = run(b, &["check", "--repair"]);
    assert_eq!(code, 0, "{text}");
    assert!(text.contains("repaired: "), "{text}");
    sound(b);
}

/// Layers with everything that a layer can hold, the second one right on top
/// of the first only.
fn layers() -> [Vec<u8>; 2] {
    let mut lower = Tar::new();
    lower.dir("d/").file("d/f", "words").hardlink("d/g", "d/f");
    lower.symlink("l", "d/f").file("gone", "x");
    lower.pax(&[
        ("SCHILY.xattr.user.note", b"\0binary\n"),
        ("mtime", b"-5.25"),
    ]);
    lower.file("attr", "x");
    lower.add(
        &Entry {
            mode: 0o4711,
            uid: 7,
            gid: 8,
            ..entry("suid", b'0')
        },
        b"#!",
    );
    lower.add(&entry("fifo", b'6'), b"");
    lower.add(
        &Entry {
            device: (1, 3),
            ..entry("null", b'3')
        },
        b"",
    );
    lower
        .dir("od/")
        .file("od/x", "x")
        .file("twice", "first")
        .file("twice", "second");
    lower.add(
        &Entry {
            mode: 0o1777,
            ..entry("implicit/", b'5')
        },
        b"",
    );
    let mut upper = Tar::new();
    upper.file(".wh.gone", "").file("od/.wh..wh..opq", "");
    upper
        .file("implicit/new", "x")
        .hardlink("h", "d/f")
        .file("big", &"0123456789abcdef".repeat(50_000));
    [lower.end(), upper.end()]
}

pub fn loaded() -> Bench {
    let b = Bench::new();
    b.image(&layers()).unwrap();
    b
}

#[test]
fn a_whole_store_passes() {
    if !root() {
        return;
    }
    let b = Bench::new();
    sound(&b);
    b.image(&layers()).unwrap();
    sound(&b);
    // The same image once more by another manifest, its layers compressed.
    let dir = b.dir.path().join("oci");
    oci_dir(&dir, &layers(), gzip, "y:1");
    b.store.load(&dir).unwrap();
    let (code, text) = run(&b, &["create", "--name", "box", "x:1"]);
    assert_eq!(code, 0, "{text}");
    sound(&b);
    let (_, text) = run(&b, &["check", "--quick"]);
    assert!(text.starts_with("1 images, 2 layers, 7 blobs, "), "{text}");
    assert!(
        text.contains("1 containers checked without their content: 0 damaged"),
        "{text}"
    );
    assert!(b.contents().iter().all(|n| !n.starts_with("tmp/")));
    fs::remove_file(
        b.store
            .root()
            .join("blobs/sha256")
            .join(hex(&gzip(&layers()[1]))),
    )
    .unwrap();
    damaged(&b, " is not there");
}

#[test]
fn every_difference_of_a_tree_is_found_and_mended() {
    if !root() {
        return;
    }
    let b = loaded();
    let (lower, upper) = (b.tree(0), b.tree(1));
    let at = |name: &str| lower.join(name);
    let keep_time = |path: PathBuf, change: &dyn Fn(&Path)| {
        let time = fs::metadata(&path).unwrap().modified().unwrap();
        change(&path);
        fs::File::open(&path).unwrap().set_modified(time).unwrap();
    };
    let xattr = |name: &str, value: &str, path: &Path| {
        let done = Command::new("setfattr")
            .args(["-h", "-n", name, "-v", value])
            .arg(path)
            .status();
        assert!(done.unwrap().success());
    };
    type Change<'a> = Box<dyn Fn() + 'a>;
    let changes: Vec<(&str, Change<'_>)> = vec![
        // One bit of a file, with its size and time as they were.
        (
            "/d/f has another content",
            Box::new(|| keep_time(at("d/f"), &|p| fs::write(p, "Words").unwrap())),
        ),
        (
            "/big has another content",
            Box::new(|| {
                keep_time(upper.join("big"), &|p| {
                    let mut data = fs::read(p).unwrap();
                    data[700_001] ^= 1;
                    fs::write(p, data).unwrap();
                })
            }),
        ),
        // As a power cut leaves files whose data was never written.
        (
            "/d/f has 0 bytes instead of 5",
            Box::new(|| keep_time(at("d/f"), &|p| fs::write(p, "").unwrap())),
        ),
        (
            "/suid has mode 711 instead of 4711",
            Box::new(|| {
                fs::set_permissions(at("suid"), fs::Permissions::from_mode(0o711)).unwrap()
            }),
        ),
        (
            "/attr has owner 1:0 instead of 0:0",
            Box::new(|| std::os::unix::fs::lchown(at("attr"), Some(1), None).unwrap()),
        ),
        (
            "/attr has time 0.000000000 instead of -6.750000000",
            Box::new(|| {
                fs::File::open(at("attr"))
                    .unwrap()
                    .set_modified(std::time::UNIX_EPOCH)
                    .unwrap()
            }),
        ),
        (
            "/attr has other extended attributes",
            Box::new(|| xattr("user.note", "other", &at("attr"))),
        ),
        (
            "/d has other extended attributes",
            Box::new(|| xattr("trusted.overlay.redirect", "/etc", &at("d"))),
        ),
        (
            "/od has other extended attributes",
            Box::new(|| {
                let done = Command::new("setfattr")
                    .args(["-x", "trusted.overlay.opaque"])
                    .arg(upper.join("od"))
                    .status();
                assert!(done.unwrap().success());
            }),
        ),
        (
            "/l has another content",
            Box::new(|| {
                fs::remove_file(at("l")).unwrap();
                symlink("d/g", at("l")).unwrap();
            }),
        ),
        (
            "/extra is not in the archive",
            Box::new(|| fs::write(at("extra"), "").unwrap()),
        ),
        (
            "/fifo is missing",
            Box::new(|| fs::remove_file(at("fifo")).unwrap()),
        ),
        (
            "/gone is missing",
            Box::new(|| fs::remove_file(upper.join("gone")).unwrap()),
        ),
        (
            "/gone has another type",
            Box::new(|| {
                fs::remove_file(upper.join("gone")).unwrap();
                fs::write(upper.join("gone"), "").unwrap();
            }),
        ),
        (
            "/d/g has 1 names instead of 2",
            Box::new(|| {
                fs::remove_file(at("d/g")).unwrap();
                fs::copy(at("d/f"), at("d/g")).unwrap();
            }),
        ),
        (
            "/implicit has mode 755 instead of 1777",
            Box::new(|| {
                fs::set_permissions(upper.join("implicit"), fs::Permissions::from_mode(0o755))
                    .unwrap()
            }),
        ),
        (
            "its tree is missing",
            Box::new(|| fs::remove_dir_all(&lower).unwrap()),
        ),
        (
            "its record is missing",
            Box::new(|| fs::remove_file(lower.with_extension("json")).unwrap()),
        ),
        (
            "bad layer record",
            Box::new(|| fs::write(lower.with_extension("json"), "{").unwrap()),
        ),
        (
            "its record says other things",
            Box::new(|| {
                let path = lower.with_extension("json");
                let text = fs::read_to_string(&path).unwrap();
                fs::write(
                    &path,
                    text.replace("\"root_opaque\":false", "\"root_opaque\":true"),
                )
                .unwrap();
            }),
        ),
    ];
    for (words, change) in changes {
        change();
        damaged(&b, words);
        repaired(&b);
    }
    // What was swapped out is not kept, and nothing is told twice over.
    for n in 0..50 {
        fs::write(at("d").join(n.to_string()), "").unwrap();
    }
    damaged(&b, "31 more differences");
    repaired(&b);
    assert!(b.contents().iter().all(|n| !n.starts_with("tmp/")));
}

#[test]
fn what_cannot_be_mended_marks_its_image() {
    if !root() {
        return;
    }
    let b = loaded();
    let other = [Tar::new().file("other", "x").end()];
    b.load(&docker_archive(&other, &diffs(&other), &["other:1"]))
        .unwrap();
    let blob = b.store.root().join("blobs/sha256").join(hex(&layers()[0]));
    let mut data = fs::read(&blob).unwrap();
    data[600] ^= 1;
    fs::write(&blob, &data).unwrap();
    damaged(
        &b,
        &format!("blob sha256:{}: its content has digest", hex(&layers()[0])),
    );
    damaged(&b, "damaged: image x:1: layer ");
    // A check alone changes nothing.
    assert!(run(&b, &["create", "--name", "box", "x:1"]).0 == 0);
    assert!(run(&b, &["rm", "box"]).0 == 0);
    // What depends on the lost layer is neither believed nor changed.
    fs::set_permissions(b.tree(0).join("d"), fs::Permissions::from_mode(0o700)).unwrap();
    let (code, text) = run(&b, &["check", "--repair"]);
    assert_eq!(code, 1, "{text}");
    assert!(
        text.contains("it depends on a layer that is damaged"),
        "{text}"
    );
    assert!(!blob.exists(), "what is surely wrong is not kept");
    let (_, text) = run(&b, &["images"]);
    assert!(
        text.contains("warning: image x:1 is damaged: layer "),
        "{text}"
    );
    assert_eq!(text.matches("warning").count(), 1, "{text}");
    for command in ["create", "run"] {
        let (code, text) = run(&b, &[command, "x:1", "true"]);
        assert!(
            code != 0 && text.contains("image x:1 is damaged: layer "),
            "{text}"
        );
        assert!(text.contains("then run 'capas check --repair'"), "{text}");
    }
    assert!(run(&b, &["create", "--name", "box", "other:1"]).0 == 0);
    // A second repair says the same.
    assert_eq!(run(&b, &["check", "--repair"]).0, 1);
    b.image(&layers()).unwrap();
    let (code, text) = run(&b, &["create", "x:1"]);
    assert!(code != 0, "only a check takes the mark away: {text}");
    let (code, text) = run(&b, &["check", "--repair"]);
    assert_eq!(code, 0, "{text}");
    assert_eq!(run(&b, &["create", "x:1"]).0, 0);
    sound(&b);
}

#[test]
fn documents_records_and_strays() {
    if !root() {
        return;
    }
    let b = loaded();
    assert_eq!(run(&b, &["create", "--name", "box", "x:1"]).0, 0);
    let (image, _) = b.store.find_image("x:1").unwrap();
    let container = || {
        fs::read_dir(b.store.containers())
            .unwrap()
            .next()
            .unwrap()
            .unwrap()
            .path()
    };
    let record = container().join("config.json");
    let index = b.store.root().join("index.json");
    let cut = |path: &Path| {
        let data = fs::read(path).unwrap();
        fs::write(path, &data[..data.len() / 2]).unwrap();
    };
    for (path, words) in [
        (b.store.blob(&image.id), "image x:1: blob sha256:"),
        (
            b.store.blob(&image.manifest.digest),
            "image x:1: blob sha256:",
        ),
        (index, "index.json: bad index.json"),
        (record, "bad record of container"),
    ] {
        let data = fs::read(&path).unwrap();
        cut(&path);
        damaged(&b, words);
        if path.starts_with(b.store.root().join("blobs")) {
            // Without their content the size tells.
            assert_eq!(run(&b, &["check", "--quick"]).0, 1);
            fs::remove_file(&path).unwrap();
            damaged(&b, "is not there");
        }
        fs::write(&path, data).unwrap();
        sound(&b);
    }
    fs::remove_dir(container().join("work")).unwrap();
    damaged(&b, "its directory work is missing");
    fs::create_dir(container().join("work")).unwrap();
    for name in [
        "blobs/sha256/x",
        "layers/README",
        "containers/mine",
        "notes",
        "blobs/sha512",
    ] {
        fs::write(b.store.root().join(name), "").unwrap();
        let (code, text) = run(&b, &["check"]);
        assert!(
            code == 0 && text.contains(&format!("unused: {name}: it is ")),
            "{text}"
        );
        fs::remove_file(b.store.root().join(name)).unwrap();
    }
    sound(&b);
}

#[test]
fn a_full_disk_is_no_damage() {
    if !root() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let mount = |args: &[&str]| {
        let done = Command::new("mount").args(args).arg(dir.path()).status();
        assert!(done.unwrap().success());
    };
    mount(&["-t", "tmpfs", "-o", "size=8m", "tmpfs"]);
    let root = dir.path().join("store");
    let layers = [Tar::new().file("f", &"x".repeat(2 << 20)).end()];
    let archive = dir.path().join("a.tar");
    fs::write(
        &archive,
        docker_archive(&[gzip(&layers[0])], &diffs(&layers), &["x:1"]),
    )
    .unwrap();
    let loaded = capas(&root, &["load", "-i", archive.to_str().unwrap()]);
    // Not enough for the layer once more.
    fs::write(dir.path().join("ballast"), vec![1; 5 << 20]).unwrap();
    let full = capas(&root, &["check", "--repair"]);
    fs::remove_file(dir.path().join("ballast")).unwrap();
    let now = capas(&root, &["check"]);
    assert!(
        Command::new("umount")
            .arg(dir.path())
            .status()
            .unwrap()
            .success()
    );
    assert!(loaded.status.success() && now.status.success());
    let text = String::from_utf8([full.stdout, full.stderr].concat()).unwrap();
    assert!(
        text.contains("does not fit on the disk: No space left"),
        "{text}"
    );
    assert!(
        full.status.code() == Some(1) && !text.contains("damaged: "),
        "{text}"
    );
}

#[test]
fn a_tree_that_is_mounted_is_not_touched() {
    if !root() {
        return;
    }
    let b = loaded();
    assert_eq!(run(&b, &["create", "--name", "box", "x:1"]).0, 0);
    let (code, text) = run(&b, &["mount", "box"]);
    assert_eq!(code, 0, "{text}");
    let file = b.tree(0).join("d/f");
    let before = fs::metadata(&file).unwrap().ino();
    fs::write(&file, "other").unwrap();
    let (code, text) = run(&b, &["check", "--repair"]);
    assert_eq!(code, 1, "{text}");
    assert!(text.contains("container box has it mounted"), "{text}");
    assert_eq!(fs::metadata(&file).unwrap().ino(), before);
    assert_eq!(run(&b, &["umount", "box"]).0, 0);
    repaired(&b);
    assert_eq!(fs::read_to_string(b.tree(0).join("d/f")).unwrap(), "words");
}

#[test]
fn a_layer_without_its_blob_is_held_to_its_skeleton() {
    if !root() {
        return;
    }
    let b = loaded();
    let blob = b.store.root().join("blobs/sha256").join(hex(&layers()[0]));
    let data = fs::read(&blob).unwrap();
    assert_eq!(run(&b, &["prune", "--blobs", "-f"]).0, 0);
    assert!(!blob.exists());
    sound(&b);
    assert_eq!(run(&b, &["check", "--quick"]).0, 0);
    // What the archive says of a file can be mended, its content cannot.
    let file = b.tree(0).join("d/f");
    fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
    damaged(&b, "/d/f has mode 600 instead of 644");
    repaired(&b);
    let skeleton = b.tree(0).with_extension("skel");
    let kept = fs::read(&skeleton).unwrap();
    for spoil in [&|| fs::write(&file, "Words").unwrap(), &|| {
        fs::remove_file(&file).unwrap()
    }] as [&dyn Fn(); 2]
    {
        spoil();
        damaged(&b, "damaged: image x:1: layer ");
        assert_eq!(run(&b, &["check", "--repair"]).0, 1);
        let (code, text) = run(&b, &["create", "x:1"]);
        assert!(code == 1 && text.contains("image x:1 is damaged"), "{text}");
    }
    // The blob comes back, and with it the tree.
    b.image(&layers()).unwrap();
    assert_eq!(fs::read(&blob).unwrap(), data);
    repaired(&b);
    // A blob that is damaged has its skeleton for a stand-in.
    fs::write(&blob, "x").unwrap();
    damaged(&b, "its content has digest");
    repaired(&b);
    assert!(!blob.exists());
    b.image(&layers()).unwrap();
    // A bad skeleton is of no use, but the blob is there.
    fs::write(&skeleton, &kept[..kept.len() / 2]).unwrap();
    damaged(&b, "its skeleton is damaged");
    repaired(&b);
    assert!(!skeleton.exists());
}

/// What du says of a path.
pub fn du(paths: &[PathBuf]) -> u64 {
    let out = Command::new("du")
        .args(["-x", "-c", "-s", "-B1"])
        .args(paths)
        .output()
        .unwrap();
    let text = String::from_utf8(out.stdout).unwrap();
    text.lines()
        .last()
        .unwrap()
        .split('\t')
        .next()
        .unwrap()
        .parse()
        .unwrap()
}

#[test]
fn gc_says_to_the_byte_what_it_frees() {
    let b = loaded();
    let size = || du(&[b.store.root().to_owned()]);
    let (code, text) = run(&b, &["gc", "--dry-run"]);
    assert!(
        code == 0 && text == "Reclaimable space: 0B (0 bytes)\n",
        "{text}"
    );
    // A load that died when all was in place but not listed.
    let kept = fs::read(b.store.root().join("index.json")).unwrap();
    let other = [Tar::new()
        .dir("d/")
        .file("d/a", &"x".repeat(9000))
        .hardlink("b", "d/a")
        .end()];
    b.load(&docker_archive(&other, &diffs(&other), &["other:1"]))
        .unwrap();
    fs::write(b.store.root().join("index.json"), kept).unwrap();
    let stale = b.store.tmp().join("0123456789abcdef");
    fs::create_dir(&stale).unwrap();
    fs::write(stale.join("archive"), vec![1; 5000]).unwrap();
    let before = size();
    let (_, dry) = run(&b, &["gc", "--dry-run"]);
    assert_eq!(size(), before, "a dry run removes nothing");
    let (code, told) = run(&b, &["gc"]);
    assert_eq!(code, 0, "{told}");
    let freed = format!(
        "Total reclaimed space: {} ({} bytes)",
        capas::cli::units::size(before - size()),
        before - size()
    );
    assert_eq!(told.lines().last().unwrap(), freed);
    assert_eq!(dry.replace("Reclaimable", "Total reclaimed"), told);
    assert_eq!(
        told.lines().count(),
        1 + 1 + 3 + 3,
        "staging, three blobs, a record, a catalog and a tree: {told}"
    );
    if root() {
        sound(&b);
    }
    // While something is added nothing is removed.
    let _adding = b.store.lock_adding().unwrap();
    let (code, told) = run(&b, &["gc"]);
    assert!(code == 1 && told.contains("try again"), "{told}");
}

/// What one check with `--repair` says where `during` is called with each
/// finding.
fn repaired_while(b: &Bench, during: impl Fn(&Finding)) -> Vec<Finding> {
    let options = Options {
        repair: true,
        ..Options::default()
    };
    let mut said = Vec::new();
    let claim = |_: &Digest| Ok(Box::new(()) as Box<dyn std::any::Any>);
    let report = b.store.check(options, Some(Vec::new()), &claim, &mut |f| {
        during(&f);
        said.push(f);
    });
    assert!(report.unwrap().sound, "{said:?}");
    said
}

#[test]
fn what_comes_while_a_repair_runs_stays() {
    let b = Bench::new();
    let layers = [Tar::new().file("f", "content").end()];
    let archive = docker_archive(&layers, &diffs(&layers), &["x:1"]);
    b.load(&archive).unwrap();
    let whole = b.contents();
    let (image, _) = b.store.find_image("x:1").unwrap();
    let blob = b.store.blob(&Digest::of(&layers[0]));
    // Something to find before anything is read.
    fs::write(b.store.root().join("letter"), "x").unwrap();
    let is_letter = |f: &Finding| matches!(f, Finding::Unused(what, _) if what == "letter");
    for lost in [&blob, &b.store.blob(&image.manifest.digest)] {
        fs::remove_file(lost).unwrap();
        let said = repaired_while(&b, |f| {
            if is_letter(f) {
                b.load(&archive).unwrap();
            }
        });
        assert_eq!(said.len(), 1, "{said:?}");
        assert_eq!(b.contents(), whole);
    }
    // Another content, another size: told, and then there is the right one.
    fs::write(&blob, "wrong").unwrap();
    let said = repaired_while(&b, |f| {
        if matches!(f, Finding::Damaged(..)) {
            b.load(&archive).unwrap();
        }
    });
    assert!(
        matches!(&said[1..], [Finding::Damaged(..), Finding::Repaired(_, how)] if how.contains("brought again")),
        "{said:?}"
    );
    assert_eq!(b.contents(), whole);
    assert_eq!(fs::read(&blob).unwrap(), layers[0]);
    b.store.refuse_damaged(&image).unwrap();
}

#[test]
fn an_image_that_is_damaged_stops_nobody() {
    if !root() {
        return;
    }
    for lost in ["manifest", "config", "both"] {
        let b = loaded();
        let other = [Tar::new().file("other", "words").end()];
        b.load(&docker_archive(&other, &diffs(&other), &["y:1"]))
            .unwrap();
        let (image, _) = b.store.find_image("x:1").unwrap();
        let (gone, _) = b.store.find_image("y:1").unwrap();
        if lost != "config" {
            fs::remove_file(b.store.blob(&image.manifest.digest)).unwrap();
        }
        if lost != "manifest" {
            fs::write(b.store.blob(&image.id), "damaged").unwrap();
        }
        let kept: Vec<String> = b.contents();
        let what = "warning: image x:1 is damaged: ";
        let remedy = ": what it may need is kept: load or pull it again, or remove it with 'capas rmi x:1'\n";
        let warned = |args: &[&str]| {
            let out = capas(b.store.root(), args);
            let err = String::from_utf8(out.stderr).unwrap();
            assert_eq!(out.status.code(), Some(0), "{lost} {args:?}: {err}");
            assert!(err.starts_with(what), "{lost} {args:?}: {err}");
            assert!(err.ends_with(remedy), "{lost} {args:?}: {err}");
            assert_eq!(err.lines().count(), 1, "{lost} {args:?}: {err}");
            String::from_utf8(out.stdout).unwrap()
        };
        for args in [
            ["system", "df"].as_slice(),
            &["system", "df", "-v"],
            &["gc", "--dry-run"],
            &["gc"],
            &["prune", "--blobs", "--dry-run"],
            &["container", "prune", "-f"],
            &["system", "prune", "-f"],
        ] {
            warned(args);
            assert_eq!(b.contents(), kept, "{lost} {args:?}");
        }
        for args in [["images"].as_slice(), &["images", "-f", "label=a"]] {
            let (code, text) = run(&b, args);
            assert_eq!(code, 0, "{lost} {args:?}: {text}");
        }
        let text = warned(&["rmi", "y:1"]);
        assert!(
            text.starts_with("Untagged: y:1\nDeleted: sha256:"),
            "{text}"
        );
        // What is known not to be the other's is gone.
        let layer = format!("layers/{}", diffs(&other)[0]);
        assert_eq!(b.contents().contains(&layer), lost != "manifest", "{lost}");
        let config = format!("blobs/sha256/{}", gone.id.hex());
        assert_eq!(b.contents().contains(&config), lost != "config", "{lost}");
        // With it all goes.
        let (code, text) = run(&b, &["rmi", "x:1"]);
        assert_eq!(code, 0, "{lost}: {text}");
        assert_eq!(b.contents(), Vec::<String>::new(), "{lost}");
    }
}

#[test]
fn blobs_that_a_damaged_image_may_need_stay() {
    if !root() {
        return;
    }
    for lost in ["manifest", "config"] {
        let b = loaded();
        let other = [Tar::new().file("other", "words").end()];
        b.load(&docker_archive(&other, &diffs(&other), &["y:1"]))
            .unwrap();
        let (image, _) = b.store.find_image("x:1").unwrap();
        let documents = [image.manifest.digest, image.id];
        let lost_blob = documents[usize::from(lost == "config")];
        let bytes = fs::read(b.store.blob(&lost_blob)).unwrap();
        fs::remove_file(b.store.blob(&lost_blob)).unwrap();
        let (code, text) = run(&b, &["prune", "--blobs", "-f"]);
        assert_eq!(code, 0, "{lost}: {text}");
        assert!(text.contains("warning: image x:1 is damaged: "), "{text}");
        let blob = |layer: &[u8]| b.store.blob(&Digest::of(layer)).exists();
        assert!(!blob(&other[0]), "{lost}: {text}");
        assert!(layers().iter().all(|l| blob(l)), "{lost}: {text}");
        fs::write(b.store.blob(&lost_blob), bytes).unwrap();
        sound(&b);
    }
}
