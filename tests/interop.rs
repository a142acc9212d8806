//! Other programs read what `capas save` writes, and `capas load` what they
//! write: podman, buildah, skopeo, umoci and containerd, with the same digests of
//! configurations, manifests and layers everywhere.
//!
//! containerd runs with a root, a state and an address of the test's own; podman
//! on a store of its own.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stderr,
    dead_code,
    missing_docs
)]

#[path = "store/support.rs"]
mod support;

use capas::store::Digest;
use capas::store::layer::chain_ids;
use serde_json::Value;
use std::fs;
use std::os::fd::AsFd;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::time::{Duration, Instant};
use support::{Bench, diffs, docker_archive, gzip, root};

const NAME: &str = "localhost/wild:1";

/// Can these tests run here; in CI they must.
fn ready() -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let found = |name: &str| std::env::split_paths(&path).any(|dir| dir.join(name).exists());
    let missing: Vec<&str> = ["podman", "buildah", "skopeo", "umoci", "containerd", "ctr"]
        .into_iter()
        .filter(|p| !found(p))
        .collect();
    if !missing.is_empty() {
        assert_ne!(
            std::env::var("CI").as_deref(),
            Ok("true"),
            "{missing:?} are missing (scripts/test installs them)"
        );
        eprintln!("SKIPPED: {missing:?} are missing (scripts/test installs them)");
        return false;
    }
    root()
}

/// Run a program, which must succeed; what it printed.
fn ok(command: &mut Command) -> String {
    let out = command.stdin(Stdio::null()).output().unwrap();
    assert!(
        out.status.success(),
        "{command:?}: {}\n{}{}",
        out.status,
        String::from_utf8_lossy(&out.stdout),
        String::from_utf8_lossy(&out.stderr)
    );
    String::from_utf8(out.stdout).unwrap()
}

/// Two layers as GNU tar writes them, with PAX headers.
fn layers() -> &'static [Vec<u8>; 2] {
    static LAYERS: OnceLock<[Vec<u8>; 2]> = OnceLock::new();
    LAYERS.get_or_init(|| {
        let dir = tempfile::tempdir().unwrap();
        let (base, top) = (dir.path().join("base"), dir.path().join("top"));
        let long = base.join("d".repeat(120));
        for dir in [
            &base.join("usr/bin"),
            &base.join("gone"),
            &long,
            &top.join("usr"),
        ] {
            fs::create_dir_all(dir).unwrap();
        }
        let su = base.join("usr/bin/su");
        fs::write(&su, vec![7; 200_000]).unwrap();
        fs::set_permissions(&su, fs::Permissions::from_mode(0o4755)).unwrap();
        fs::hard_link(&su, base.join("usr/bin/sudo")).unwrap();
        symlink("usr/bin", base.join("bin")).unwrap();
        fs::write(base.join("gone/file"), "").unwrap();
        let file = fs::File::create(long.join("f".repeat(120))).unwrap();
        let at = capas::sys::At::Fd(file.as_fd());
        capas::sys::xattr::set(at, c"user.note", b"kept", 0).unwrap();
        ok(Command::new("mknod")
            .arg(base.join("null"))
            .args(["c", "1", "3"]));
        fs::write(top.join(".wh.gone"), "").unwrap();
        fs::write(top.join("usr/file"), "two").unwrap();
        [base, top].map(|tree| {
            let out = dir.path().join("out.tar");
            ok(Command::new("tar")
                .args(["--format=posix", "--xattrs", "--xattrs-include=user.*"])
                .args(["--sort=name", "--numeric-owner", "-C"])
                .arg(tree)
                .arg("-cf")
                .arg(&out)
                .arg("."));
            fs::read(out).unwrap()
        })
    })
}

/// A store with an image of which everything is known.
struct Known {
    bench: Bench,
    id: Digest,
    diffs: Vec<Digest>,
}

impl Known {
    fn new() -> Known {
        let bench = Bench::new();
        let stored: Vec<Vec<u8>> = layers().iter().map(|l| gzip(l)).collect();
        let archive = docker_archive(&stored, &diffs(layers()), &[NAME]);
        let loaded = bench.load(&archive).unwrap();
        let diffs = layers().iter().map(|l| Digest::of(l)).collect();
        Known {
            id: loaded[0].id,
            bench,
            diffs,
        }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.bench.dir.path().join(name)
    }

    /// Save with the program itself.
    fn save(&self, format: &str, name: &str) -> PathBuf {
        let path = self.path(name);
        ok(Command::new(env!("CARGO_BIN_EXE_capas"))
            .arg("--root")
            .arg(self.bench.store.root())
            .args(["save", "--format", format, NAME, "-o"])
            .arg(&path));
        path
    }

    /// The three formats, as written with blobs and after they were dropped.
    fn saved(&self) -> Vec<(&'static str, PathBuf)> {
        let formats = ["docker-archive", "oci-archive", "oci-dir"];
        let mut all = Vec::new();
        for format in formats {
            all.push((format, self.save(format, &format!("with-{format}"))));
        }
        let dropped = self.bench.store.drop_blobs(false).unwrap();
        assert_eq!((dropped.blobs.len(), dropped.kept.len()), (2, 0));
        for format in formats {
            all.push((format, self.save(format, &format!("without-{format}"))));
        }
        all
    }

    /// What another program wrote is the same image: id and layers.
    fn is_loaded_from(&self, path: &Path, name: Option<&str>) -> Digest {
        let other = Bench::new();
        let loaded = other.store.load(path).unwrap();
        assert_eq!(loaded.len(), 1, "{}", path.display());
        assert_eq!(loaded[0].id, self.id, "{}", path.display());
        if let Some(name) = name {
            assert_eq!(loaded[0].names[0].to_string(), name);
        }
        let (image, _) = other.store.find_image(&self.id.to_string()).unwrap();
        let (config, _) = other.store.image_config(&image.id).unwrap();
        assert_eq!(config.diff_ids(), self.diffs);
        image.manifest.digest
    }
}

/// The manifest that a saved layout names, and its digest.
fn manifest_of(layout: &Path) -> (Digest, Value) {
    let read = |path: &str| -> Vec<u8> {
        if layout.is_dir() {
            return fs::read(layout.join(path)).unwrap();
        }
        let mut tar = Command::new("tar");
        let out = tar.arg("-xOf").arg(layout).arg(path).output().unwrap();
        assert!(out.status.success());
        out.stdout
    };
    let index: Value = serde_json::from_slice(&read("index.json")).unwrap();
    let digest = index["manifests"][0]["digest"].as_str().unwrap();
    let digest = Digest::parse(digest).unwrap();
    let data = read(&format!("blobs/sha256/{}", digest.hex()));
    assert_eq!(Digest::of(&data), digest);
    (digest, serde_json::from_slice(&data).unwrap())
}

struct Podman(tempfile::TempDir);

impl Podman {
    fn new() -> Podman {
        Podman(tempfile::tempdir().unwrap())
    }

    fn run(&self, args: &[&str]) -> String {
        self.command("podman", args)
    }

    /// A program that works on podman's store.
    fn command(&self, program: &str, args: &[&str]) -> String {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("scripts/podman-env");
        ok(Command::new(script)
            .arg(self.0.path())
            .arg(program)
            .args(args)
            .env("MOUNT_PROGRAM", env!("CARGO_BIN_EXE_capasfs")))
    }

    /// Id and layers of an image.
    fn image(&self, name: &str) -> (Digest, Vec<Digest>) {
        let out = self.run(&["image", "inspect", name]);
        let value: Value = serde_json::from_str(&out).unwrap();
        let layers = value[0]["RootFS"]["Layers"].as_array().unwrap();
        let layers = layers
            .iter()
            .map(|l| Digest::parse(l.as_str().unwrap()).unwrap());
        let id = value[0]["Id"].as_str().unwrap();
        (Digest::parse_hex(id).unwrap(), layers.collect())
    }
}

/// A path of which the program may make a name, which must not have capitals.
fn plain_link(program: &str, path: &str) -> PathBuf {
    let name = format!("capas-interop-{program}-{}", std::process::id());
    let link = std::env::temp_dir().join(name);
    symlink(path, &link).unwrap();
    link
}

#[test]
fn podman_runs_what_capas_builds() {
    if !ready() {
        return;
    }
    let bench = Bench::new();
    let path = |name: &str| bench.dir.path().join(name).to_str().unwrap().to_owned();
    let context = path("context");
    fs::create_dir(&context).unwrap();
    let busybox = ["/bin/busybox", "/usr/bin/busybox"];
    let busybox = busybox.iter().find(|p| Path::new(p).exists()).unwrap();
    fs::copy(busybox, Path::new(&context).join("busybox")).unwrap();
    let compiler =
        "#!/bin/busybox sh\nset -e\n[ \"$1 $2\" = 'main.c -o' ]\n/bin/busybox cp /bin/busybox $3\n";
    for (name, text) in [
        ("cc", compiler),
        ("main.c", "made of this\n"),
        (
            "Dockerfile",
            "FROM scratch AS tools\nCOPY busybox cc /bin/\nRUN [\"/bin/busybox\", \"ln\", \"-s\", \"busybox\", \"/bin/sh\"]\nFROM tools AS build\nWORKDIR /src\nCOPY main.c .\nRUN cc main.c -o program && /bin/busybox rm /bin/cc\nFROM scratch\nCOPY --from=build --chown=1:2 /src/program /bin/busybox\nCOPY --from=build /src/main.c /made-of\nCMD [\"/bin/busybox\", \"cat\", \"/made-of\"]\n",
        ),
    ] {
        fs::write(Path::new(&context).join(name), text).unwrap();
    }
    for name in ["cc", "busybox"] {
        let mode = fs::Permissions::from_mode(0o755);
        fs::set_permissions(Path::new(&context).join(name), mode).unwrap();
    }
    let capas = |args: &[&str]| {
        ok(Command::new(env!("CARGO_BIN_EXE_capas"))
            .env("CAPAS_ROOT", bench.store.root())
            .args(args))
    };
    let id = capas(&["build", "-q", "-t", "localhost/built:1", &context]);
    let out = path("built.tar");
    capas(&["save", "-o", &out, "localhost/built:1"]);
    let podman = Podman::new();
    podman.run(&["load", "-i", &out]);
    assert_eq!(podman.image("localhost/built:1").0.to_string(), id.trim());
    let said = podman.run(&["run", "--rm", "localhost/built:1"]);
    assert_eq!(said, "made of this\n");
    let stat = [
        "run",
        "--rm",
        "localhost/built:1",
        "/bin/busybox",
        "stat",
        "-c",
        "%u:%g",
    ];
    assert_eq!(
        podman.run(&[&stat[..], &["/bin/busybox"]].concat()),
        "1:2\n"
    );
}

#[test]
fn podman_reads_what_capas_saves_and_the_reverse() {
    if !ready() {
        return;
    }
    let known = Known::new();
    for (format, path) in known.saved() {
        let podman = Podman::new();
        let path = path.to_str().unwrap();
        let name = if format == "oci-dir" {
            let link = plain_link("podman", path);
            podman.run(&["load", "-i", link.to_str().unwrap()]);
            fs::remove_file(link).unwrap();
            known.id.hex()
        } else {
            podman.run(&["load", "-i", path]);
            NAME.to_owned()
        };
        let (id, diffs) = podman.image(&name);
        assert_eq!((id, &diffs), (known.id, &known.diffs), "{path}");
        if path.ends_with("with-docker-archive") {
            for format in ["docker-archive", "oci-archive", "oci-dir"] {
                let out = known.path(&format!("podman-{format}"));
                let to = out.to_str().unwrap();
                podman.run(&["save", "--format", format, "-o", to, NAME]);
                known.is_loaded_from(&out, Some(NAME));
            }
        }
    }
}

#[test]
fn buildah_reads_what_capas_saves_and_the_reverse() {
    if !ready() {
        return;
    }
    let known = Known::new();
    for (format, path) in known.saved() {
        let buildah = Podman::new();
        let link = plain_link("buildah", path.to_str().unwrap());
        let from = match format {
            "oci-dir" => format!("oci:{}:1", link.display()),
            format => format!("{format}:{}", link.display()),
        };
        let id = buildah.command("buildah", &["pull", "-q", &from]);
        fs::remove_file(link).unwrap();
        let id = Digest::parse_hex(id.trim()).unwrap();
        assert_eq!(id, known.id, "{from}");
        let (_, diffs) = buildah.image(&id.hex());
        assert_eq!(diffs, known.diffs, "{from}");
        if !path.ends_with("with-oci-archive") {
            continue;
        }
        for kind in ["oci-archive", "docker-archive", "oci"] {
            let out = known.path(&format!("buildah-{kind}"));
            let to = format!("{kind}:{}:{NAME}", out.display());
            buildah.command("buildah", &["push", "-q", &id.hex(), &to]);
            known.is_loaded_from(&out, Some(NAME));
        }
    }
}

/// The store is a layout itself, which need not be saved to be read.
#[test]
fn skopeo_and_umoci_read_the_store_itself() {
    if !ready() {
        return;
    }
    let known = Known::new();
    let store = known.bench.store.root().to_owned();
    let (image, _) = known.bench.store.find_image(NAME).unwrap();
    let from = format!("oci:{}:{NAME}", store.display());
    let raw = ok(Command::new("skopeo").args(["inspect", "--raw", &from]));
    assert_eq!(Digest::of(raw.as_bytes()), image.manifest.digest);
    let to = known.path("copy");
    ok(Command::new("skopeo")
        .args(["copy", "--preserve-digests", &from])
        .arg(format!("oci:{}:{NAME}", to.display())));
    assert_eq!(known.is_loaded_from(&to, Some(NAME)), image.manifest.digest);
    let listed = ok(Command::new("umoci").args(["list", "--layout"]).arg(&store));
    assert_eq!(listed.trim(), NAME);
}

#[test]
fn skopeo_reads_what_capas_saves_and_the_reverse() {
    if !ready() {
        return;
    }
    let known = Known::new();
    for (format, path) in known.saved() {
        let from = match format {
            "docker-archive" => format!("docker-archive:{}:{NAME}", path.display()),
            "oci-archive" => format!("oci-archive:{}:1", path.display()),
            _ => format!("oci:{}:1", path.display()),
        };
        let config = ok(Command::new("skopeo").args(["inspect", "--config", "--raw", &from]));
        assert_eq!(Digest::of(config.as_bytes()), known.id, "{from}");
        // Copied without change the manifest is the same; the archive of
        // docker's form is a layout too.
        let (digest, manifest) = manifest_of(&path);
        let from = from
            .replace("docker-archive:", "oci-archive:")
            .replace(NAME, "1");
        let to = known.path("copy");
        ok(Command::new("skopeo")
            .args(["copy", "--preserve-digests", &from])
            .arg(format!("oci:{}:{NAME}", to.display())));
        assert_eq!(manifest_of(&to).0, digest, "{from}");
        assert_eq!(known.is_loaded_from(&to, Some(NAME)), digest);
        for layer in manifest["layers"].as_array().unwrap() {
            let digest = layer["digest"].as_str().unwrap();
            let blob = to.join("blobs").join(digest.replace(':', "/"));
            assert_eq!(Digest::of(&fs::read(blob).unwrap()).to_string(), digest);
        }
        for (kind, name) in [("oci-archive", NAME), ("docker-archive", NAME)] {
            let out = known.path("copied.tar");
            ok(Command::new("skopeo")
                .args(["copy", &from])
                .arg(format!("{kind}:{}:{name}", out.display())));
            known.is_loaded_from(&out, Some(NAME));
            fs::remove_file(out).unwrap();
        }
        fs::remove_dir_all(to).unwrap();
    }
}

#[test]
fn umoci_reads_what_capas_saves_and_the_reverse() {
    if !ready() {
        return;
    }
    let known = Known::new();
    for (format, path) in known.saved() {
        let layout = match format {
            "oci-dir" => path,
            _ => {
                let dir = known.path("layout");
                fs::create_dir(&dir).unwrap();
                ok(Command::new("tar")
                    .arg("-xf")
                    .arg(&path)
                    .arg("-C")
                    .arg(&dir));
                dir
            }
        };
        let image = format!("{}:1", layout.display());
        // Unpacking compares the DiffIDs.
        let bundle = known.path("bundle");
        ok(Command::new("umoci")
            .args(["unpack", "--image", &image])
            .arg(&bundle));
        let rootfs = bundle.join("rootfs");
        assert_eq!(fs::read_to_string(rootfs.join("usr/file")).unwrap(), "two");
        assert!(!rootfs.join("gone").exists());
        fs::remove_dir_all(bundle).unwrap();
        // It adds a layer and a name, and both images come back.
        let (before, manifest) = manifest_of(&layout);
        ok(Command::new("umoci")
            .args(["insert", "--image", &image, "--tag", "2"])
            .arg(known.path("outside/canary"))
            .arg("/canary"));
        let other = Bench::new();
        let loaded = other.store.load(&layout).unwrap();
        assert_eq!(loaded.len(), 2);
        let first = loaded.iter().find(|l| l.id == known.id).unwrap();
        assert_eq!(first.names[0].to_string(), NAME);
        let (image, _) = other.store.find_image(NAME).unwrap();
        assert_eq!(image.manifest.digest, before);
        let second = loaded.iter().find(|l| l.id != known.id).unwrap();
        assert_eq!(second.names[0].to_string(), "localhost/wild:2");
        let (image, _) = other.store.find_image(&second.id.to_string()).unwrap();
        let layers = other.store.described_layers(&image).unwrap();
        assert_eq!(layers.len(), 3);
        let first: Vec<Digest> = layers.iter().take(2).map(|l| l.diff_id).collect();
        assert_eq!(first, known.diffs);
        let blob = manifest["layers"][0]["digest"].as_str().unwrap();
        assert_eq!(layers[0].blob.digest.to_string(), blob);
        if format != "oci-dir" {
            fs::remove_dir_all(layout).unwrap();
        }
    }
}

/// A containerd of the test's own; ended when dropped.
struct Containerd {
    dir: tempfile::TempDir,
    process: Child,
}

impl Containerd {
    fn new() -> Containerd {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name).display().to_string();
        let config = format!(
            "version = 2\nroot = \"{}\"\nstate = \"{}\"\n\
             disabled_plugins = [\"io.containerd.grpc.v1.cri\"]\n\
             [grpc]\naddress = \"{}\"\n[ttrpc]\naddress = \"{}\"\n",
            at("root"),
            at("state"),
            at("sock"),
            at("sock.ttrpc")
        );
        fs::write(dir.path().join("config.toml"), config).unwrap();
        let log = fs::File::create(dir.path().join("log")).unwrap();
        let process = Command::new("containerd")
            .arg("--config")
            .arg(dir.path().join("config.toml"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .unwrap();
        let daemon = Containerd { dir, process };
        let end = Instant::now() + Duration::from_secs(60);
        while !daemon.ctr(&["version"]).output().unwrap().status.success() {
            let log = fs::read_to_string(daemon.dir.path().join("log")).unwrap();
            assert!(Instant::now() < end, "containerd does not start: {log}");
            std::thread::sleep(Duration::from_millis(50));
        }
        daemon
    }

    fn ctr(&self, args: &[&str]) -> Command {
        let mut command = Command::new("ctr");
        command.arg("--address").arg(self.dir.path().join("sock"));
        command.args(args);
        command
    }
}

impl Drop for Containerd {
    fn drop(&mut self) {
        let _ = capas::sys::tree::kill(self.process.id(), 15);
        let _ = self.process.wait();
    }
}

#[test]
fn containerd_reads_what_capas_saves_and_the_reverse() {
    if !ready() {
        return;
    }
    let known = Known::new();
    let chain = chain_ids(&known.diffs)[1].to_string();
    for (format, path) in known.saved() {
        if format == "oci-dir" {
            continue;
        }
        let daemon = Containerd::new();
        let file = path.to_str().unwrap();
        // The snapshotter that needs nothing of the file system beneath; it
        // names what it unpacked by the chain of DiffIDs that it computed.
        ok(&mut daemon.ctr(&["images", "import", "--snapshotter", "native", file]));
        let images = ok(&mut daemon.ctr(&["images", "ls"]));
        let (digest, manifest) = manifest_of(&path);
        let line = images.lines().find(|l| l.starts_with(NAME)).unwrap();
        assert!(line.contains(&digest.to_string()), "{images}");
        let snapshots = ok(&mut daemon.ctr(&["snapshots", "--snapshotter", "native", "ls"]));
        assert!(snapshots.contains(&chain), "{snapshots}");
        let content = ok(&mut daemon.ctr(&["content", "ls", "-q"]));
        assert!(content.contains(&known.id.to_string()), "{content}");
        for layer in manifest["layers"].as_array().unwrap() {
            assert!(content.contains(layer["digest"].as_str().unwrap()));
        }
        let out = known.path("exported.tar");
        ok(&mut daemon.ctr(&["images", "export", out.to_str().unwrap(), NAME]));
        assert_eq!(known.is_loaded_from(&out, Some(NAME)), digest);
        fs::remove_file(out).unwrap();
    }
}
