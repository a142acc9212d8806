//! A store with a small image, and `capas` on it.

use super::support::{self, Bench, Entry, Tar, diffs, docker_archive, entry};
use rustix::fs::inotify;
use std::collections::BTreeSet;
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::Mutex;
use std::time::{Duration, Instant};

/// How long anything may take on a busy machine.
pub const PATIENCE: Duration = Duration::from_secs(60);

const APPLETS: [&str; 25] = [
    "sh", "echo", "cat", "ls", "true", "id", "sleep", "touch", "rm", "mkdir", "pwd", "env", "stat",
    "kill", "readlink", "ln", "stty", "tty", "dd", "head", "seq", "httpd", "wget", "ps",
    "hostname",
];

pub struct Cli {
    pub bench: Bench,
    /// Tells of each container that is made.
    watch: OwnedFd,
    ids: Mutex<BTreeSet<String>>,
    layers: [Vec<u8>; 2],
}

/// A store with the image `box:1`, or nothing where the test cannot run.
pub fn ready() -> Option<Cli> {
    let found = |paths: &[&str]| paths.iter().map(PathBuf::from).find(|p| p.exists());
    let busybox = found(&["/bin/busybox", "/usr/bin/busybox"]);
    let runc = found(&["/usr/sbin/runc", "/usr/bin/runc", "/usr/local/sbin/runc"]);
    let missing = match (&busybox, &runc) {
        (None, _) => Some("busybox"),
        (_, None) => Some("runc"),
        _ if !Path::new("/dev/fuse").exists() => Some("/dev/fuse"),
        _ => None,
    };
    if let Some(what) = missing {
        assert!(
            std::env::var("CI").as_deref() != Ok("true"),
            "this test needs {what}"
        );
        eprintln!("SKIPPED: this test needs {what}");
        return None;
    }
    if !support::root() {
        return None;
    }
    let busybox = std::fs::read(busybox.unwrap()).unwrap();
    let mut lower = Tar::new();
    lower
        .dir("./")
        .dir("bin/")
        .dir("etc/")
        .dir("var/")
        .dir("var/www/");
    lower.add(
        &Entry {
            mode: 0o1777,
            ..entry("tmp/", b'5')
        },
        b"",
    );
    lower.add(
        &Entry {
            mode: 0o755,
            ..entry("bin/busybox", b'0')
        },
        &busybox,
    );
    for name in APPLETS {
        lower.hardlink(&format!("bin/{name}"), "bin/busybox");
    }
    lower.file(
        "etc/passwd",
        "root:x:0:0:root:/root:/bin/sh\nweb:x:33:33:web:/var/www:/bin/sh\n",
    );
    lower.file("etc/group", "root:x:0:\nweb:x:33:\nextra:x:44:web\n");
    lower.file("etc/motd", "lower\n").file("etc/gone", "");
    let upper = Tar::new()
        .dir("etc/")
        .file("etc/motd", "upper\n")
        .file("etc/.wh.gone", "")
        .end();
    let layers = [lower.end(), upper];
    let bench = Bench::new();
    let watch = inotify::init(inotify::CreateFlags::NONBLOCK).unwrap();
    let moved = inotify::WatchFlags::MOVED_TO;
    inotify::add_watch(&watch, bench.store.containers(), moved).unwrap();
    let cli = Cli {
        bench,
        watch,
        ids: Mutex::default(),
        layers,
    };
    cli.bench
        .load(&docker_archive(
            &cli.layers,
            &diffs(&cli.layers),
            &["box:1"],
        ))
        .unwrap();
    Some(cli)
}

/// Is there what connects private networks.
pub fn pasta() -> bool {
    let there = capas::container::network::program().is_ok();
    if !there {
        assert!(
            std::env::var("CI").as_deref() != Ok("true"),
            "this test needs pasta"
        );
        eprintln!("SKIPPED: this test needs pasta");
    }
    there
}

impl Cli {
    /// A runtime that does this first (`sh`) and then what runc does: its path.
    pub fn runtime(&self, first: &str) -> String {
        let text =
            format!("#!/bin/sh\n{first}\nPATH=$PATH:/usr/sbin:/usr/local/sbin exec runc \"$@\"\n");
        let path = self.bench.write("a-runtime", text.as_bytes());
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
        path.to_str().unwrap().to_owned()
    }

    pub fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_capas"));
        command
            .env("CAPAS_ROOT", self.bench.store.root())
            .args(args)
            .stdin(Stdio::null());
        command
    }

    pub fn run(&self, args: &[&str]) -> (i32, String, String) {
        let Output {
            status,
            stdout,
            stderr,
        } = self.command(args).output().unwrap();
        (
            status.code().unwrap(),
            String::from_utf8(stdout).unwrap(),
            String::from_utf8(stderr).unwrap(),
        )
    }

    /// The same in a mount namespace of its own, which `script` changes before.
    pub fn run_where(&self, script: &str, args: &[&str]) -> (i32, String, String) {
        let command = self.command(args);
        let script = format!("{script}; exec \"$@\"");
        let Output {
            status,
            stdout,
            stderr,
        } = Command::new("unshare")
            .args(["-m", "sh", "-c", &script, "sh"])
            .arg(command.get_program())
            .args(command.get_args())
            .envs(command.get_envs().filter_map(|(k, v)| Some((k, v?))))
            .stdin(Stdio::null())
            .output()
            .unwrap();
        (
            status.code().unwrap(),
            String::from_utf8(stdout).unwrap(),
            String::from_utf8(stderr).unwrap(),
        )
    }

    /// What it writes where both streams go to one place.
    pub fn seen(&self, args: &[&str]) -> String {
        let (mut reader, writer) = std::io::pipe().unwrap();
        let mut command = self.command(args);
        command.stdout(writer.try_clone().unwrap()).stderr(writer);
        let mut child = command.spawn().unwrap();
        drop(command);
        let text = std::io::read_to_string(&mut reader).unwrap();
        child.wait().unwrap();
        text
    }

    pub fn ok(&self, args: &[&str]) -> String {
        let (code, out, err) = self.run(args);
        assert_eq!((code, err.as_str()), (0, ""), "{args:?}");
        out
    }

    pub fn spawn(&self, args: &[&str]) -> Child {
        let child = self.command(args).stdout(Stdio::null()).spawn().unwrap();
        let begun = Instant::now();
        while !self.ok(&["ps"]).contains("Up ") {
            assert!(begun.elapsed() < PATIENCE, "does not start");
            std::thread::sleep(Duration::from_millis(50));
        }
        child
    }

    /// What `inspect` says of a container at a JSON pointer.
    pub fn told(&self, name: &str, pointer: &str) -> serde_json::Value {
        let all: serde_json::Value = serde_json::from_str(&self.ok(&["inspect", name])).unwrap();
        all[0].pointer(pointer).unwrap().clone()
    }

    /// The number of a container's first process.
    pub fn pid(&self, name: &str) -> u32 {
        let pid = self.told(name, "/State/Pid").as_u64().unwrap();
        u32::try_from(pid).unwrap()
    }

    /// Processes whose command line holds all of `words`, zombies left out.
    pub fn processes(&self, words: &[&str]) -> Vec<u32> {
        let mut found = Vec::new();
        for entry in std::fs::read_dir("/proc").unwrap().flatten() {
            let Ok(pid) = entry.file_name().to_string_lossy().parse() else {
                continue;
            };
            let line = std::fs::read(entry.path().join("cmdline")).unwrap_or_default();
            let line = String::from_utf8_lossy(&line).replace('\0', " ");
            if !line.is_empty() && words.iter().all(|w| line.contains(w)) {
                found.push(pid);
            }
        }
        found
    }

    /// The monitor of a container.
    pub fn monitor(&self, name: &str) -> u32 {
        let id = self.told(name, "/Id");
        let found = self.processes(&["monitor", self.root(), id.as_str().unwrap()]);
        assert_eq!(found.len(), 1);
        found[0]
    }

    pub fn root(&self) -> &str {
        self.bench.store.root().to_str().unwrap()
    }

    /// The ids of all containers that were made so far.
    fn ids(&self) -> BTreeSet<String> {
        let mut room = [MaybeUninit::uninit(); 64 << 10];
        let mut reader = inotify::Reader::new(&self.watch, &mut room);
        let mut ids = self.ids.lock().unwrap();
        while let Ok(event) = reader.next() {
            assert!(!event.events().contains(inotify::ReadFlags::QUEUE_OVERFLOW));
            ids.insert(event.file_name().unwrap().to_str().unwrap().to_owned());
        }
        ids.clone()
    }

    /// Processes in the control groups or with the mounts of a container.
    fn members(&self, id: &str) -> Vec<u32> {
        let ours = std::fs::read_link("/proc/self/ns/mnt").unwrap();
        let all = std::fs::read_dir("/proc").unwrap().flatten();
        let member = |pid: &u32| {
            let has = |file: &str| {
                let text = std::fs::read_to_string(format!("/proc/{pid}/{file}"));
                text.is_ok_and(|text| text.contains(id))
            };
            let elsewhere = || {
                let theirs = std::fs::read_link(format!("/proc/{pid}/ns/mnt"));
                theirs.is_ok_and(|theirs| theirs != ours)
            };
            has("cgroup") || elsewhere() && has("mountinfo")
        };
        let pids = all.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
        pids.filter(member).collect()
    }

    /// Nothing of any container is there any more: mounts, processes, what
    /// runtimes know, control groups, directories.
    pub fn assert_nothing_is_left(&self) {
        assert_eq!(self.ok(&["ps", "-aq"]), "");
        assert_eq!(self.mounts(), 0);
        self.until("processes end", || {
            self.processes(&[self.root()]).is_empty()
        });
        let groups: Vec<PathBuf> = match std::fs::read_dir("/sys/fs/cgroup") {
            Ok(all) => all.flatten().map(|e| e.path().join("capas")).collect(),
            Err(_) => Vec::new(),
        };
        let one = PathBuf::from("/sys/fs/cgroup/capas");
        for id in self.ids() {
            self.until("its processes end", || self.members(&id).is_empty());
            let known = PathBuf::from("/run/capas/runtime");
            for dir in groups.iter().chain([&one, &known]) {
                assert!(!dir.join(&id).exists(), "{} has {id}", dir.display());
            }
        }
        let entries = |dir: std::path::PathBuf| std::fs::read_dir(dir).unwrap().count();
        assert_eq!(entries(self.bench.store.containers()), 0);
        assert_eq!(entries(self.bench.store.tmp()), 0);
    }

    /// Wait until something is so.
    pub fn until(&self, what: &str, mut so: impl FnMut() -> bool) {
        let begun = Instant::now();
        while !so() {
            assert!(
                begun.elapsed() < PATIENCE,
                "it does not come to it that {what}"
            );
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Another image `name` of the same layers, made by whoever wrote this
    /// object of its configuration.
    pub fn foreign_image(&self, name: &str, config: &str) {
        let diffs = diffs(&self.layers);
        let whole = support::config(&diffs);
        let (before, after) = (
            whole.split("\"config\":").next().unwrap(),
            whole.split(",\"rootfs\":").nth(1).unwrap(),
        );
        let whole = format!("{before}\"config\":{config},\"rootfs\":{after}");
        let archive = support::archive_of(&whole, &self.layers, &[name]);
        self.bench.load(&archive).unwrap();
    }

    /// Another image `name`, of the same tree, with changes of its configuration.
    pub fn image(&self, name: &str, changes: &[&str]) {
        let archive = self.bench.dir.path().join("image.tar");
        let (code, out, _) = self.run(&["run", "-d", "--name", "for-an-image", "box:1", "true"]);
        assert_eq!(code, 0, "{out}");
        self.ok(&["wait", "for-an-image"]);
        let root = self.ok(&["mount", "for-an-image"]);
        let tar = Command::new("tar")
            .args(["-C", root.trim_end(), "-cf", archive.to_str().unwrap(), "."])
            .status();
        assert!(tar.unwrap().success());
        self.ok(&["umount", "for-an-image"]);
        self.ok(&["rm", "for-an-image"]);
        let mut args = vec!["import"];
        for change in changes {
            args.extend(["-c", change]);
        }
        args.extend([archive.to_str().unwrap(), name]);
        self.ok(&args);
    }

    pub fn mounts(&self) -> usize {
        let table = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
        let root = self.bench.store.root().to_str().unwrap().to_owned();
        table.lines().filter(|l| l.contains(&root)).count()
    }
}

impl Drop for Cli {
    fn drop(&mut self) {
        if let Ok(out) = self.command(&["ps", "-aq"]).output() {
            for id in String::from_utf8_lossy(&out.stdout).lines() {
                let _ = self.command(&["rm", "-f", id]).output();
            }
        }
    }
}
