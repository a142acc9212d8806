//! podman and buildah with capasfs as their `mount_program`.
//!
//! `CAPAS_TEST_MOUNT_PROGRAM` puts another program in its place (`none`:
//! kernel overlayfs), which tells a wrong test from a wrong driver (`none` fails
//! the diff of a replaced directory: podman then takes a shortcut of its own,
//! which misses it). Each test
//! has a store of its own, and ends by comparing the image's layers with what
//! they were and by looking for mounts left behind.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stderr,
    missing_docs
)]

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{MetadataExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::OnceLock;

const IMAGE: &str = "localhost/base:1";
const APPLETS: &[&str] = &[
    "cat", "chmod", "echo", "id", "ls", "mkdir", "mv", "rm", "rmdir", "sh", "sleep", "stat",
    "test", "touch", "wc",
];

/// Why these tests cannot run here, if they cannot.
fn missing() -> Option<&'static str> {
    let found = |name: &str| {
        let path = std::env::var_os("PATH").unwrap_or_default();
        std::env::split_paths(&path).any(|dir| dir.join(name).exists())
    };
    let root = fs::metadata("/proc/self").is_ok_and(|m| m.uid() == 0);
    if !root {
        Some("they need root")
    } else if !Path::new("/dev/fuse").exists() {
        Some("there is no /dev/fuse")
    } else if !["podman", "buildah", "runc", "jq"].iter().all(|p| found(p)) {
        Some("podman, buildah, runc or jq is missing (scripts/test installs them)")
    } else if !Path::new("/bin/busybox").exists() {
        Some("busybox-static is missing (scripts/test installs it)")
    } else {
        None
    }
}

fn script(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("scripts")
        .join(name)
}

fn tar(tree: &Path, out: &Path) {
    let status = Command::new("tar")
        .args(["--sort=name", "--numeric-owner", "--owner=0", "--group=0"])
        .arg("-C")
        .arg(tree)
        .arg("-cf")
        .arg(out)
        .arg(".")
        .status()
        .unwrap();
    assert!(status.success());
}

/// Two layers: busybox with some files, and one that removes `/etc/gone` and
/// replaces `/data/replaced`.
fn image() -> &'static Path {
    static ARCHIVE: OnceLock<PathBuf> = OnceLock::new();
    ARCHIVE.get_or_init(|| {
        let tmp = tempfile::tempdir().unwrap();
        let base = tmp.path().join("base");
        for dir in ["bin", "etc", "data/sub", "data/replaced/old", "tmp", "srv"] {
            fs::create_dir_all(base.join(dir)).unwrap();
        }
        fs::copy("/bin/busybox", base.join("bin/busybox")).unwrap();
        for applet in APPLETS {
            symlink("busybox", base.join("bin").join(applet)).unwrap();
        }
        fs::write(base.join("etc/gone"), "gone\n").unwrap();
        // What podman would otherwise make, and so change /etc.
        for file in ["hosts", "hostname", "resolv.conf"] {
            fs::write(base.join("etc").join(file), "").unwrap();
        }
        symlink("/proc/mounts", base.join("etc/mtab")).unwrap();
        fs::write(base.join("data/f"), "lower\n".repeat(100)).unwrap();
        fs::write(base.join("data/sub/g"), "g\n").unwrap();
        // Above every threshold between small and large files.
        fs::write(base.join("data/big"), vec![7; 300_000]).unwrap();
        let top = tmp.path().join("top");
        fs::create_dir_all(top.join("etc")).unwrap();
        fs::write(top.join("etc/.wh.gone"), "").unwrap();
        fs::create_dir_all(top.join("data/replaced")).unwrap();
        fs::write(top.join("data/replaced/.wh..wh..opq"), "").unwrap();
        fs::write(top.join("data/replaced/new"), "new\n").unwrap();
        let layers = [tmp.path().join("base.tar"), tmp.path().join("top.tar")];
        tar(&base, &layers[0]);
        tar(&top, &layers[1]);
        let out = Path::new(env!("CARGO_TARGET_TMPDIR")).join("runtimes-image.tar");
        let made = Command::new(script("make-image"))
            .arg(IMAGE)
            .arg(&out)
            .args(&layers)
            .output()
            .unwrap();
        assert!(made.status.success(), "{made:?}");
        out
    })
}

/// Everything about a tree that a union may not change.
fn snapshot(dir: &Path, prefix: &Path, into: &mut BTreeMap<PathBuf, String>) {
    for entry in fs::read_dir(dir).unwrap() {
        let entry = entry.unwrap();
        let (path, name) = (entry.path(), prefix.join(entry.file_name()));
        let meta = fs::symlink_metadata(&path).unwrap();
        let content = if meta.is_file() {
            format!("{:?}", fs::read(&path).unwrap())
        } else if meta.is_symlink() {
            format!("{:?}", fs::read_link(&path).unwrap())
        } else {
            String::new()
        };
        let line = format!(
            "{:o} {}:{} {} {} {}.{} {content}",
            meta.mode(),
            meta.uid(),
            meta.gid(),
            meta.rdev(),
            meta.size(),
            meta.mtime(),
            meta.mtime_nsec(),
        );
        into.insert(name.clone(), line);
        if meta.is_dir() {
            snapshot(&path, &name, into);
        }
    }
}

struct Store {
    dir: tempfile::TempDir,
    layers: BTreeMap<PathBuf, String>,
}

impl Store {
    /// A store that holds the image, or `None` where the tests cannot run.
    fn new() -> Option<Store> {
        if let Some(why) = missing() {
            assert_ne!(
                std::env::var("CI").as_deref(),
                Ok("true"),
                "the tests of the runtimes cannot run: {why}"
            );
            eprintln!("SKIPPED: the tests of the runtimes do not run: {why}");
            return None;
        }
        let mut store = Store {
            dir: tempfile::tempdir().unwrap(),
            layers: BTreeMap::new(),
        };
        store.ok(&["podman", "load", "-q", "-i", image().to_str().unwrap()]);
        store.layers = store.image_layers();
        assert!(store.layers.len() > 20, "no layers in the store");
        Some(store)
    }

    /// The trees of the base image's layers.
    fn image_layers(&self) -> BTreeMap<PathBuf, String> {
        let mut all = BTreeMap::new();
        let known: Vec<PathBuf> = self.layers.keys().cloned().collect();
        for entry in fs::read_dir(self.dir.path().join("graph/overlay")).unwrap() {
            let diff = entry.unwrap().path().join("diff");
            let id = diff.parent().unwrap().file_name().unwrap().to_owned();
            let of_image = known.is_empty() || known.iter().any(|path| path.starts_with(&id));
            if diff.is_dir() && of_image {
                snapshot(&diff, Path::new(&id), &mut all);
            }
        }
        all
    }

    fn run(&self, args: &[&str]) -> Output {
        let program = std::env::var_os("CAPAS_TEST_MOUNT_PROGRAM")
            .unwrap_or_else(|| env!("CARGO_BIN_EXE_capasfs").into());
        Command::new(script("podman-env"))
            .arg(self.dir.path())
            .args(args)
            .env("MOUNT_PROGRAM", program)
            .stdin(std::process::Stdio::null())
            .output()
            .unwrap()
    }

    fn ok(&self, args: &[&str]) -> String {
        let output = self.run(args);
        assert!(
            output.status.success(),
            "{args:?}: {}\nstdout: {}\nstderr: {}",
            output.status,
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr)
        );
        String::from_utf8(output.stdout).unwrap()
    }

    /// Runs a shell in a new container of `image` that is removed afterwards.
    fn sh(&self, image: &str, command: &str) -> String {
        self.ok(&["podman", "run", "--rm", image, "sh", "-ec", command])
    }

    fn diff(&self, what: &str) -> Vec<String> {
        let mut lines: Vec<String> = self
            .ok(&["podman", "diff", what])
            .lines()
            .map(str::to_owned)
            .collect();
        lines.sort();
        lines
    }

    fn mounts(&self) -> Vec<String> {
        let below = format!("{}/", self.dir.path().to_str().unwrap());
        let table = fs::read_to_string("/proc/self/mounts").unwrap();
        table
            .lines()
            .filter_map(|line| line.split(' ').nth(1))
            .filter(|point| point.starts_with(&below) && point.ends_with("/merged"))
            .map(str::to_owned)
            .collect()
    }

    /// What every test ends with.
    fn finish(self) {
        self.ok(&["podman", "rm", "--all", "--force", "--time", "0"]);
        assert_eq!(self.mounts(), Vec::<String>::new(), "mounts left behind");
        let after = self.image_layers();
        for (path, before) in &self.layers {
            assert!(after.get(path) == Some(before), "layer changed at {path:?}");
        }
        assert_eq!(after.len(), self.layers.len(), "entries added to a layer");
    }
}

impl Drop for Store {
    fn drop(&mut self) {
        let below = format!("{}/", self.dir.path().to_str().unwrap());
        let table = fs::read_to_string("/proc/self/mounts").unwrap_or_default();
        let points = table.lines().filter_map(|line| line.split(' ').nth(1));
        for point in points.filter(|point| point.starts_with(&below)) {
            let _ = Command::new("umount").args(["-l", point]).status();
        }
    }
}

#[test]
fn run_sees_the_layers_merged() {
    let Some(store) = Store::new() else { return };
    assert_eq!(
        store.sh(
            IMAGE,
            "ls /data/replaced; test ! -e /etc/gone; wc -l < /data/f"
        ),
        "new\n100\n"
    );
    assert!(
        store
            .ok(&["podman", "info"])
            .contains("graphDriverName: overlay")
    );
    store.finish();
}

#[test]
fn diff_and_commit_of_a_container() {
    let Some(store) = Store::new() else { return };
    let change = "echo new > /data/new; rm /data/f; echo x >> /data/big; chmod 700 /data/sub; \
                  touch /srv/x; rm -r /data/replaced; mkdir /data/replaced; cat /data/big > /dev/null";
    store.ok(&["podman", "run", "--name", "c", IMAGE, "sh", "-ec", change]);
    let expected = [
        "A /data/new",
        "A /srv/x",
        "C /data",
        "C /data/big",
        "C /data/replaced",
        "C /data/sub",
        "C /srv",
        "D /data/f",
        "D /data/replaced/new",
    ];
    assert_eq!(store.diff("c"), expected);
    store.ok(&["podman", "commit", "-q", "c", "localhost/committed"]);
    assert_eq!(store.diff("localhost/committed"), expected);
    let view = "ls /data /data/replaced; wc -c < /data/big; stat -c %a /data/sub";
    assert_eq!(
        store.sh("localhost/committed", view),
        "/data:\nbig\nnew\nreplaced\nsub\n\n/data/replaced:\n300002\n700\n"
    );
    store.finish();
}

#[test]
fn reading_changes_nothing() {
    let Some(store) = Store::new() else { return };
    let read = "cat /data/f /data/big /bin/busybox > /dev/null; ls -lR /data > /dev/null";
    store.ok(&["podman", "run", "--name", "c", IMAGE, "sh", "-ec", read]);
    assert_eq!(store.diff("c"), Vec::<String>::new());
    store.finish();
}

#[test]
fn build_with_run_and_copy() {
    let Some(store) = Store::new() else { return };
    let context = tempfile::tempdir().unwrap();
    fs::write(context.path().join("file"), "copied\n").unwrap();
    fs::write(
        context.path().join("Containerfile"),
        format!(
            "FROM {IMAGE}\n\
             COPY file /srv/copied\n\
             RUN echo built > /data/built && rm /data/f && chmod 600 /data/big && mv /data/sub /data/moved\n\
             RUN rm -r /data/moved && mkdir /data/moved && echo again > /data/f\n\
             RUN test -z \"$(ls /data/moved)\" && test ! -e /data/sub && cat /srv/copied /data/f\n"
        ),
    )
    .unwrap();
    let log = store.ok(&[
        "podman",
        "build",
        "-t",
        "localhost/built",
        context.path().to_str().unwrap(),
    ]);
    assert!(log.contains("copied\nagain\n"), "{log}");
    let view = "ls /data; cat /data/built /data/f; stat -c '%a %s' /data/big; ls /data/moved";
    assert_eq!(
        store.sh("localhost/built", view),
        "big\nbuilt\nf\nmoved\nreplaced\nbuilt\nagain\n600 300000\n"
    );
    store.finish();
}

#[test]
fn exec_and_cp_in_a_running_container() {
    let Some(store) = Store::new() else { return };
    let file = store.dir.path().join("file");
    fs::write(&file, "from outside\n").unwrap();
    store.ok(&["podman", "run", "-d", "--name", "c", IMAGE, "sleep", "600"]);
    store.ok(&["podman", "cp", file.to_str().unwrap(), "c:/data/in"]);
    let inside = "cat /data/in; echo inside > /data/out; echo more >> /data/f; wc -l < /data/f";
    assert_eq!(
        store.ok(&["podman", "exec", "c", "sh", "-ec", inside]),
        "from outside\n101\n"
    );
    let back = store.dir.path().join("back");
    store.ok(&["podman", "cp", "c:/data/out", back.to_str().unwrap()]);
    assert_eq!(fs::read_to_string(back).unwrap(), "inside\n");
    assert!(!store.run(&["podman", "rmi", IMAGE]).status.success());
    store.finish();
}

#[test]
fn removing_the_image_removes_its_layers() {
    let Some(store) = Store::new() else { return };
    store.sh(IMAGE, "echo x > /data/f");
    store.ok(&["podman", "rmi", IMAGE]);
    assert!(store.image_layers().is_empty());
    assert_eq!(store.mounts(), Vec::<String>::new());
}

#[test]
fn read_only_container() {
    let Some(store) = Store::new() else { return };
    let output = store.run(&[
        "podman",
        "run",
        "--rm",
        "--read-only",
        IMAGE,
        "sh",
        "-c",
        "wc -l < /data/f; echo x > /data/x",
    ]);
    assert!(!output.status.success());
    assert_eq!(String::from_utf8_lossy(&output.stdout), "100\n");
    let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(stderr.contains("Read-only file system"), "{stderr}");
    store.finish();
}

#[test]
fn overlay_volume() {
    let Some(store) = Store::new() else { return };
    // A colon in the path has to survive podman's and the driver's escaping;
    // podman itself takes none in -v, so it comes by --volume's source only.
    let volume = store.dir.path().join("volume");
    fs::create_dir(&volume).unwrap();
    fs::write(volume.join("v"), "v\n").unwrap();
    let spec = format!("{}:/v:O", volume.display());
    let command = "cat /v/v; echo w > /v/w; echo changed > /v/v; cat /v/v; rm /v/v; ls /v";
    assert_eq!(
        store.ok(&[
            "podman", "run", "--rm", "-v", &spec, IMAGE, "sh", "-ec", command
        ]),
        "v\nchanged\nw\n"
    );
    assert_eq!(fs::read_to_string(volume.join("v")).unwrap(), "v\n");
    assert!(!volume.join("w").exists());
    store.finish();
}

#[test]
fn user_namespace() {
    let Some(store) = Store::new() else { return };
    let command = "stat -c '%u:%g %n' /data /data/f; echo x > /data/x; echo y >> /data/f; \
                   stat -c %u:%g /data/x /data/f";
    assert_eq!(
        store.ok(&[
            "podman",
            "run",
            "--rm",
            "--uidmap",
            "0:100000:65536",
            "--gidmap",
            "0:100000:65536",
            IMAGE,
            "sh",
            "-ec",
            command
        ]),
        "0:0 /data\n0:0 /data/f\n0:0\n0:0\n"
    );
    store.finish();
}

#[test]
fn buildah_from_run_commit() {
    let Some(store) = Store::new() else { return };
    store.ok(&["buildah", "from", "--name", "b", IMAGE]);
    let command = "echo b > /data/b; rm -r /data/sub; mkdir /data/sub; echo h > /data/sub/h";
    store.ok(&["buildah", "run", "b", "--", "sh", "-ec", command]);
    store.ok(&["buildah", "commit", "-q", "b", "localhost/buildah"]);
    store.ok(&["buildah", "rm", "b"]);
    // Twice: what the first mount leaves may not change what the second sees.
    for _ in 0..2 {
        assert_eq!(
            store.sh("localhost/buildah", "cat /data/b; ls /data/sub"),
            "b\nh\n"
        );
    }
    store.finish();
}
