//! Archives made byte by byte, so that they can be as wrong as a test needs.

use capas::store::Store;
use capas::store::load::Loaded;
use sha2::{Digest as _, Sha256};
use std::fs;
use std::io::Write;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

pub struct Tar(pub Vec<u8>);

pub struct Entry<'a> {
    pub name: &'a [u8],
    pub kind: u8,
    pub mode: u32,
    pub uid: u32,
    pub gid: u32,
    pub mtime: u64,
    pub link: &'a [u8],
    pub device: (u32, u32),
    /// Claimed size, where it is not the content's.
    pub size: Option<u64>,
}

pub fn entry(name: &str, kind: u8) -> Entry<'_> {
    Entry {
        name: name.as_bytes(),
        kind,
        mode: if kind == b'5' { 0o755 } else { 0o644 },
        uid: 0,
        gid: 0,
        mtime: 1_000_000_000,
        link: b"",
        device: (0, 0),
        size: None,
    }
}

impl Tar {
    pub fn new() -> Tar {
        Tar(Vec::new())
    }

    pub fn add(&mut self, e: &Entry<'_>, data: &[u8]) -> &mut Self {
        let mut h = [0u8; 512];
        let put = |h: &mut [u8; 512], at: usize, bytes: &[u8]| {
            h[at..at + bytes.len()].copy_from_slice(bytes);
        };
        let octal = |n: u64, width: usize| format!("{n:0width$o}\0", width = width - 1);
        put(&mut h, 0, e.name);
        put(&mut h, 100, octal(e.mode.into(), 8).as_bytes());
        put(&mut h, 108, octal(e.uid.into(), 8).as_bytes());
        put(&mut h, 116, octal(e.gid.into(), 8).as_bytes());
        let size = e.size.unwrap_or(data.len() as u64);
        put(&mut h, 124, octal(size, 12).as_bytes());
        put(&mut h, 136, octal(e.mtime, 12).as_bytes());
        h[156] = e.kind;
        put(&mut h, 157, e.link);
        put(&mut h, 257, b"ustar\x0000");
        put(&mut h, 329, octal(e.device.0.into(), 8).as_bytes());
        put(&mut h, 337, octal(e.device.1.into(), 8).as_bytes());
        h[148..156].fill(b' ');
        let sum: u32 = h.iter().map(|b| u32::from(*b)).sum();
        put(&mut h, 148, format!("{sum:06o}\0 ").as_bytes());
        self.0.extend_from_slice(&h);
        self.0.extend_from_slice(data);
        self.0.resize(self.0.len().next_multiple_of(512), 0);
        self
    }

    /// Make the header at `at` valid again after it was changed.
    pub fn checksum(&mut self, at: usize) {
        let h = &mut self.0[at..at + 512];
        h[148..156].fill(b' ');
        let sum: u32 = h.iter().map(|b| u32::from(*b)).sum();
        h[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    }

    pub fn dir(&mut self, name: &str) -> &mut Self {
        self.add(&entry(name, b'5'), b"")
    }

    pub fn file(&mut self, name: &str, data: &str) -> &mut Self {
        self.add(&entry(name, b'0'), data.as_bytes())
    }

    pub fn symlink(&mut self, name: &str, target: &str) -> &mut Self {
        let e = Entry {
            link: target.as_bytes(),
            ..entry(name, b'2')
        };
        self.add(&e, b"")
    }

    pub fn hardlink(&mut self, name: &str, target: &str) -> &mut Self {
        let e = Entry {
            link: target.as_bytes(),
            ..entry(name, b'1')
        };
        self.add(&e, b"")
    }

    /// Records for the next member.
    pub fn pax(&mut self, records: &[(&str, &[u8])]) -> &mut Self {
        let mut data = Vec::new();
        for (key, value) in records {
            data.extend_from_slice(&record(key, value));
        }
        self.add(&entry("pax", b'x'), &data)
    }

    pub fn end(&mut self) -> Vec<u8> {
        self.0.resize(self.0.len() + 1024, 0);
        std::mem::take(&mut self.0)
    }
}

fn record(key: &str, value: &[u8]) -> Vec<u8> {
    let body = key.len() + value.len() + 3;
    let mut len = body + 1;
    while len != body + len.to_string().len() {
        len = body + len.to_string().len();
    }
    let mut out = format!("{len} {key}=").into_bytes();
    out.extend_from_slice(value);
    out.push(b'\n');
    out
}

pub fn hex(data: &[u8]) -> String {
    Sha256::digest(data)
        .iter()
        .map(|b| format!("{b:02x}"))
        .collect()
}

pub fn gzip(data: &[u8]) -> Vec<u8> {
    let mut out = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    out.write_all(data).unwrap();
    out.finish().unwrap()
}

pub fn zstd(data: &[u8]) -> Vec<u8> {
    zstd::encode_all(data, 1).unwrap()
}

pub fn config(diffs: &[String]) -> String {
    let diffs: Vec<String> = diffs.iter().map(|d| format!("\"sha256:{d}\"")).collect();
    format!(
        r#"{{"created":"2024-05-01T10:00:00Z","architecture":"amd64","os":"linux","config":{{"Cmd":["/bin/sh"],"Env":["PATH=/bin"]}},"rootfs":{{"type":"layers","diff_ids":[{}]}}}}"#,
        diffs.join(",")
    )
}

/// A docker archive as `docker save` wrote it before version 25, or as one
/// pleases: `layers` are what is stored, `diffs` what the config says.
pub fn docker_archive(layers: &[Vec<u8>], diffs: &[String], names: &[&str]) -> Vec<u8> {
    archive_of(&config(diffs), layers, names)
}

/// The same with this config.
pub fn archive_of(config: &str, layers: &[Vec<u8>], names: &[&str]) -> Vec<u8> {
    let mut tar = Tar::new();
    let mut members = Vec::new();
    for (i, layer) in layers.iter().enumerate() {
        let name = format!("layer{i}/layer.tar");
        tar.dir(&format!("layer{i}/"));
        tar.add(&entry(&name, b'0'), layer);
        members.push(format!("\"{name}\""));
    }
    tar.file("config.json", config);
    let names: Vec<String> = names.iter().map(|n| format!("\"{n}\"")).collect();
    tar.file(
        "manifest.json",
        &format!(
            r#"[{{"Config":"config.json","RepoTags":[{}],"Layers":[{}]}}]"#,
            names.join(","),
            members.join(",")
        ),
    );
    tar.end()
}

pub fn diffs(layers: &[Vec<u8>]) -> Vec<String> {
    layers.iter().map(|l| hex(l)).collect()
}

/// An OCI layout; `wrap` compresses layers.
pub fn oci_dir(dir: &Path, layers: &[Vec<u8>], wrap: fn(&[u8]) -> Vec<u8>, name: &str) {
    let blobs = dir.join("blobs/sha256");
    fs::create_dir_all(&blobs).unwrap();
    let blob = |data: &[u8]| {
        fs::write(blobs.join(hex(data)), data).unwrap();
        format!(r#""digest":"sha256:{}","size":{}"#, hex(data), data.len())
    };
    let config = config(&diffs(layers));
    let layers: Vec<String> = layers
        .iter()
        .map(|l| {
            format!(
                r#"{{"mediaType":"application/vnd.oci.image.layer.v1.tar","{}}}"#,
                &blob(&wrap(l))[1..]
            )
        })
        .collect();
    let manifest = format!(
        r#"{{"schemaVersion":2,"mediaType":"application/vnd.oci.image.manifest.v1+json","config":{{"mediaType":"application/vnd.oci.image.config.v1+json",{}}},"layers":[{}]}}"#,
        blob(config.as_bytes()),
        layers.join(",")
    );
    let index = format!(
        r#"{{"schemaVersion":2,"manifests":[{{"mediaType":"application/vnd.oci.image.manifest.v1+json",{},"annotations":{{"org.opencontainers.image.ref.name":"{name}"}}}}]}}"#,
        blob(manifest.as_bytes())
    );
    fs::write(dir.join("index.json"), index).unwrap();
    fs::write(dir.join("oci-layout"), r#"{"imageLayoutVersion":"1.0.0"}"#).unwrap();
}

/// A store, and beside it things that nobody may touch.
pub struct Bench {
    pub dir: tempfile::TempDir,
    pub store: Store,
}

impl Bench {
    pub fn new() -> Bench {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("outside")).unwrap();
        fs::write(dir.path().join("outside/canary"), "untouched").unwrap();
        let store = Store::open(&dir.path().join("store")).unwrap();
        Bench { dir, store }
    }

    pub fn write(&self, name: &str, data: &[u8]) -> PathBuf {
        let path = self.dir.path().join(name);
        fs::write(&path, data).unwrap();
        path
    }

    pub fn load(&self, archive: &[u8]) -> capas::store::Result<Vec<Loaded>> {
        self.store.load(&self.write("archive.tar", archive))
    }

    /// Load layers as an image `x:1`.
    pub fn image(&self, layers: &[Vec<u8>]) -> capas::store::Result<Vec<Loaded>> {
        self.load(&docker_archive(layers, &diffs(layers), &["x:1"]))
    }

    /// The directory of the unpacked layer, whichever name it has.
    pub fn tree(&self, layer: usize) -> PathBuf {
        let (image, _) = self.store.find_image("x:1").unwrap();
        let (config, _) = self.store.image_config(&image.id).unwrap();
        let records = self.store.image_layers(&config).unwrap();
        self.store.layer_dir(&records[layer].name())
    }

    /// Everything in the store but what init makes.
    pub fn contents(&self) -> Vec<String> {
        let mut out = Vec::new();
        for dir in ["blobs/sha256", "layers", "tmp", "containers"] {
            for entry in fs::read_dir(self.store.root().join(dir)).unwrap() {
                out.push(format!("{dir}/{}", entry.unwrap().file_name().display()));
            }
        }
        out.sort();
        out
    }

    /// The archive is refused in one line that holds `word`; nothing is left.
    pub fn refused(&self, archive: &[u8], word: &str) {
        self.refuses(word, || self.load(archive));
    }

    /// `load` fails in one line that holds `word`, and neither the store nor
    /// anything around it is other than before.
    pub fn refuses(&self, word: &str, load: impl FnOnce() -> capas::store::Result<Vec<Loaded>>) {
        let before = self.snapshot();
        let error = load().unwrap_err().to_string();
        assert!(error.contains(word), "\"{word}\" is not in: {error}");
        assert!(!error.contains('\n'), "{error}");
        assert_eq!(self.snapshot(), before, "{error}");
    }

    /// All that is in the store and around it: names, types, modes, owners,
    /// sizes, contents; times too outside of the store. What is to be loaded
    /// and the lock file that the first load makes are left out.
    pub fn snapshot(&self) -> Vec<String> {
        let mut out = Vec::new();
        let mut todo = vec![self.dir.path().to_owned()];
        while let Some(dir) = todo.pop() {
            for entry in fs::read_dir(&dir).unwrap() {
                let path = entry.unwrap().path();
                if path.ends_with("archive.tar") || path.ends_with("store/gc.lock") {
                    continue;
                }
                let meta = fs::symlink_metadata(&path).unwrap();
                let content = match meta.file_type() {
                    t if t.is_dir() => {
                        todo.push(path.clone());
                        String::new()
                    }
                    t if t.is_file() => hex(&fs::read(&path).unwrap()),
                    t if t.is_symlink() => fs::read_link(&path).unwrap().display().to_string(),
                    _ => format!("device {}", meta.rdev()),
                };
                let time = match path.starts_with(self.store.root()) {
                    true => String::new(),
                    false => format!("{}.{}", meta.mtime(), meta.mtime_nsec()),
                };
                let (mode, uid, gid) = (meta.mode(), meta.uid(), meta.gid());
                let path = path.display();
                out.push(format!("{path} {mode:o} {uid}:{gid} {time} {content}"));
            }
        }
        out.sort();
        out
    }

    pub fn layer_refused(&self, layer: &[u8], word: &str) {
        let layers = [layer.to_vec()];
        self.refused(&docker_archive(&layers, &diffs(&layers), &["x:1"]), word);
    }

    pub fn untouched(&self) {
        let outside = self.dir.path().join("outside");
        let names: Vec<_> = fs::read_dir(&outside)
            .unwrap()
            .map(|e| e.unwrap().file_name())
            .collect();
        assert_eq!(names, ["canary"]);
        assert_eq!(
            fs::read_to_string(outside.join("canary")).unwrap(),
            "untouched"
        );
    }
}

/// Root is needed; without it the test is skipped loudly, or fails in CI.
pub fn root() -> bool {
    let root = rustix_free_euid() == 0;
    if !root {
        assert!(
            std::env::var("CI").as_deref() != Ok("true"),
            "this test needs root"
        );
        eprintln!("SKIPPED: this test needs root");
    }
    root
}

fn rustix_free_euid() -> u32 {
    capas::sys::creds::effective_uid()
}
