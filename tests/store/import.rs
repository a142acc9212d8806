//! Archives of root filesystems become images.

use super::support::*;
use serde_json::Value;
use std::fs::{self, File};
use std::io::Write;
use std::path::Path;
use std::process::{Command, Output, Stdio};

fn capas(b: &Bench, args: &[&str], stdin: Stdio) -> Output {
    Command::new(env!("CARGO_BIN_EXE_capas"))
        .arg("--root")
        .arg(b.store.root())
        .args(args)
        .current_dir(b.dir.path())
        .stdin(stdin)
        .output()
        .unwrap()
}

fn import(b: &Bench, args: &[&str], stdin: Stdio) -> String {
    let out = capas(b, &[&["import"], args].concat(), stdin);
    assert!(out.status.success(), "{args:?}: {out:?}");
    assert!(out.stderr.is_empty(), "{args:?}: {out:?}");
    let id = String::from_utf8(out.stdout).unwrap();
    id.strip_suffix('\n').unwrap().to_owned()
}

fn refused(b: &Bench, args: &[&str], word: &str) {
    let before = b.contents();
    let out = capas(b, &[&["import"], args].concat(), Stdio::null());
    let text = String::from_utf8(out.stderr).unwrap();
    assert_eq!(out.status.code(), Some(1), "{args:?}: {text}");
    assert!(text.contains(word) && text.lines().count() == 1, "{text}");
    assert_eq!(b.contents(), before);
    b.untouched();
}

fn rootfs() -> Vec<u8> {
    Tar::new()
        .dir("./")
        .dir("./bin/")
        .file("./bin/sh", "#!")
        .end()
}

fn config(b: &Bench, id: &str) -> Value {
    let (image, _) = b.store.find_image(id).unwrap();
    serde_json::from_slice(&b.store.image_config(&image.id).unwrap().1).unwrap()
}

fn file(path: &Path) -> Stdio {
    File::open(path).unwrap().into()
}

#[test]
fn every_form_gives_the_same_layer() {
    let b = Bench::new();
    let tar = rootfs();
    let diff = format!("sha256:{}", hex(&tar));
    for (name, data) in [
        ("a.tar", tar.clone()),
        ("a.tar.gz", gzip(&tar)),
        ("a.tar.zst", zstd(&tar)),
    ] {
        let path = b.write(name, &data);
        let (read, mut write) = std::io::pipe().unwrap();
        let piped = std::thread::scope(|scope| {
            let data = &data;
            scope.spawn(move || write.write_all(data).unwrap());
            import(&b, &["-"], read.into())
        });
        for id in [
            import(&b, &[name, "x:1"], Stdio::null()),
            import(&b, &["-", "x:1"], file(&path)),
            piped,
        ] {
            assert_eq!(
                config(&b, &id)["rootfs"]["diff_ids"],
                serde_json::json!([diff])
            );
            // The blob is kept as it came.
            let (image, _) = b.store.find_image(&id).unwrap();
            let layers = b.store.described_layers(&image).unwrap();
            assert_eq!(layers[0].blob.digest.hex(), hex(&data), "{name}");
            assert!(b.store.has_blob(&layers[0].blob));
        }
    }
    assert_eq!(fs::read_to_string(b.tree(0).join("bin/sh")).unwrap(), "#!");
}

#[test]
fn the_image_says_what_was_asked_for() {
    let b = Bench::new();
    b.write("a.tar", &rootfs());
    let id = import(&b, &["a.tar"], Stdio::null());
    let plain = config(&b, &id);
    assert_eq!(plain["config"], serde_json::json!({}));
    assert_eq!(plain["history"][0]["comment"], "Imported from -");
    assert_eq!(plain["history"][0]["created"], plain["created"]);
    let created = plain["created"].as_str().unwrap();
    let now = capas::cli::units::now();
    let made = capas::store::time::parse(created).unwrap();
    assert!((made..made + 60).contains(&now), "{created}");
    let host = capas::store::document::host_architecture();
    assert_eq!(
        (&plain["os"], &plain["architecture"], &plain["variant"]),
        (&"linux".into(), &host.into(), &serde_json::Value::Null)
    );
    let other = import(&b, &["--platform", "linux/arm/v7", "a.tar"], Stdio::null());
    let other = config(&b, &other);
    assert_eq!(
        (&other["os"], &other["architecture"], &other["variant"]),
        (&"linux".into(), &"arm".into(), &"v7".into())
    );
    refused(&b, &["--platform", "a/b/c/d", "a.tar"], "is no platform");
    let variable = Command::new(env!("CARGO_BIN_EXE_capas"))
        .arg("--root")
        .arg(b.store.root())
        .args(["import", "a.tar"])
        .current_dir(b.dir.path())
        .env("DOCKER_DEFAULT_PLATFORM", "riscv64")
        .output()
        .unwrap();
    let id = String::from_utf8(variable.stdout).unwrap();
    assert_eq!(config(&b, id.trim())["architecture"], "riscv64");
    let args = [
        "-c",
        r#"CMD ["/bin/sh"]"#,
        "--change",
        "ENV A=1\nENV B=$A",
        "-m",
        "a message",
        "a.tar",
        "h.example/rootfs",
    ];
    import(&b, &args, Stdio::null());
    let config = config(&b, "h.example/rootfs:latest");
    let want = serde_json::json!({"Cmd": ["/bin/sh"], "Env": ["A=1", "B=1"]});
    assert_eq!(config["config"], want);
    assert_eq!(config["history"][0]["comment"], "a message");
}

/// An archive in xz that wants 4 GiB of memory to be read.
fn greedy() -> Vec<u8> {
    let crc = |data: &[u8]| {
        let mut crc = flate2::Crc::new();
        crc.update(data);
        crc.sum().to_le_bytes()
    };
    let mut out = super::packed::xz();
    // The size of the dictionary stands in the header of the block, behind that
    // of the stream; a checksum ends that.
    let block = &mut out[12..24];
    assert_eq!(block[..5], [2, 0, 0x21, 1, 0x1c]);
    block[4] = 40;
    let sum = crc(&block[..8]);
    block[8..].copy_from_slice(&sum);
    out
}

#[test]
fn what_layers_are_not_compressed_with_is_read_too() {
    let b = Bench::new();
    let tar = rootfs();
    let mut packed = bzip2::write::BzEncoder::new(Vec::new(), bzip2::Compression::fast());
    packed.write_all(&tar).unwrap();
    let packed = packed.finish().unwrap();
    let path = b.write("a.tar.bz2", &packed);
    let (read, mut write) = std::io::pipe().unwrap();
    let piped = std::thread::scope(|scope| {
        // Byte by byte, as slow pipes give it.
        scope.spawn(move || {
            for byte in packed {
                write.write_all(&[byte]).unwrap();
            }
        });
        import(&b, &["-"], read.into())
    });
    let diff = format!("sha256:{}", hex(&tar));
    for id in [
        import(&b, &["a.tar.bz2"], Stdio::null()),
        import(&b, &["-"], file(&path)),
        piped,
    ] {
        let config = config(&b, &id);
        assert_eq!(config["rootfs"]["diff_ids"], serde_json::json!([diff]));
        // The blob is one that every program reads.
        let (image, _) = b.store.find_image(&id).unwrap();
        let layers = b.store.described_layers(&image).unwrap();
        assert_eq!(layers[0].blob.digest.hex(), hex(&tar));
    }
    b.write("b.tar.xz", &super::packed::xz());
    let id = import(&b, &["b.tar.xz", "packed:1"], Stdio::null());
    assert_eq!(config(&b, &id)["os"], "linux");
    let layers = capas(&b, &["layers", "--tree", "packed:1"], Stdio::null());
    let text = String::from_utf8(layers.stdout).unwrap();
    assert!(text.lines().any(|l| l.ends_with(" f")), "{text}");
}

#[test]
fn what_is_no_root_filesystem_is_refused() {
    let b = Bench::new();
    b.write("a.tar", &rootfs());
    b.write("text", b"a letter to somebody\n");
    b.write("empty", b"");
    b.write("a.tar.xz", b"\xfd7zXZ\0\0\0");
    b.write("a.tar.bz2", b"BZh91AY&SY");
    b.write("a.tar.lz4", b"\x04\x22\x4d\x18");
    b.write("greedy.tar.xz", &greedy());
    b.write("cut.tar.gz", &gzip(&rootfs())[..60]);
    b.write("evil.tar", &Tar::new().file("../outside/canary", "x").end());
    b.write("device.tar", &Tar::new().add(&entry("d", b'3'), b"").end());
    for (args, word) in [
        (["a.tar", "Upper"].as_slice(), "must be lowercase"),
        (&["-c", "RUN x", "a.tar"], "not one of CMD"),
        (&["nowhere.tar"], "No such file"),
        (&["outside"], "Is a directory"),
        (&["text"], "truncated"),
        (&["empty"], "is empty"),
        (&["a.tar.xz"], "cannot read the archive"),
        (&["a.tar.bz2"], "cannot read the archive"),
        (&["a.tar.lz4"], "lz4 -dc FILE | capas import -"),
        (&["greedy.tar.xz"], "memory"),
        (&["cut.tar.gz"], "cannot read the archive"),
        (&["evil.tar"], "leads out of the layer"),
        (&["device.tar"], "would be a whiteout"),
    ] {
        refused(&b, args, word);
    }
}
