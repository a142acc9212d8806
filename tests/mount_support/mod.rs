//! A tree to mount and the built program to mount it with.

// One test program stops before it would mount.
#[allow(unused_imports)]
pub use crate::common::able_to_mount;
use crate::common::lowers::{Fingerprint, age};
use std::cell::OnceCell;
use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

/// All that is to be mounted of a [`Tree`], on `@/m`.
pub const FULL: &str = "lowerdir=@/l1:@/l2,upperdir=@/u,workdir=@/w";

/// The built program.
pub const CAPASFS: &str = env!("CARGO_BIN_EXE_capasfs");

/// Directories `l1 l2 u w m` with `l1/one`, `l2/two`; unmounted when dropped,
/// after which the layers `l1` and `l2` must be what they were at the first call.
pub struct Tree {
    dir: tempfile::TempDir,
    before: OnceCell<[Fingerprint; 2]>,
}

impl Tree {
    pub fn new() -> Tree {
        let tree = Tree {
            dir: tempfile::tempdir().unwrap(),
            before: OnceCell::new(),
        };
        for dir in ["l1", "l2", "u", "w", "m"] {
            std::fs::create_dir(tree.path(dir)).unwrap();
        }
        std::fs::write(tree.path("l1/one"), "one").unwrap();
        std::fs::write(tree.path("l2/two"), "two").unwrap();
        tree
    }

    pub fn path(&self, name: impl AsRef<Path>) -> PathBuf {
        self.dir.path().join(name)
    }

    /// The layers as they are.
    fn lowers(&self) -> [Fingerprint; 2] {
        ["l1", "l2"].map(|name| Fingerprint::take(&self.path(name)))
    }

    /// From here on nobody may change the layers.
    fn seal(&self) {
        self.before.get_or_init(|| {
            for name in ["l1", "l2"] {
                age(&self.path(name));
            }
            self.lowers()
        });
    }

    /// After a script that changes the layers.
    pub fn prepared(self, script: &str) -> Tree {
        let done = Command::new("sh")
            .args(["-ec", script])
            .current_dir(self.dir.path())
            .status();
        assert!(done.unwrap().success(), "{script}");
        self
    }

    /// Text with `@` for the tree.
    pub fn text(&self, text: &str) -> String {
        text.replace('@', self.dir.path().to_str().unwrap())
    }

    /// A command of the shell that runs in the tree with capasfs as `$capasfs`
    /// and in PATH. It may not take longer than a minute.
    pub fn shell(&self, script: &str) -> Output {
        self.seal();
        let bin = Path::new(CAPASFS).parent().unwrap();
        let path = format!("{}:{}", bin.display(), std::env::var("PATH").unwrap());
        within(
            Command::new("sh")
                .args(["-ec", script])
                .env("capasfs", CAPASFS)
                .env("PATH", path)
                .current_dir(self.dir.path()),
        )
    }

    /// Runs capasfs in the tree.
    pub fn capasfs<S: AsRef<OsStr>>(&self, args: &[S]) -> Output {
        self.seal();
        within(
            Command::new(CAPASFS)
                .args(args)
                .current_dir(self.dir.path()),
        )
    }

    /// The line of /proc/self/mountinfo for `name` in the tree.
    pub fn mounted(&self, name: &str) -> Option<String> {
        let path = self.path(name);
        let info = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
        let found = info
            .lines()
            .rev()
            .find(|l| l.split(' ').nth(4) == path.to_str());
        found.map(str::to_owned)
    }

    /// The processes called capasfs that were given `marker` as an argument.
    pub fn daemons(&self, marker: &str) -> Vec<u32> {
        let marker = self.text(marker);
        let pids = std::fs::read_dir("/proc").unwrap();
        pids.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
            .filter(|pid: &u32| {
                let read =
                    |file: &str| std::fs::read(format!("/proc/{pid}/{file}")).unwrap_or_default();
                let args = read("cmdline");
                read("comm") == b"capasfs\n"
                    && String::from_utf8_lossy(&args)
                        .split('\0')
                        .any(|arg| arg == marker)
            })
            .collect()
    }
}

/// A mount of [`FULL`] on `m`.
impl Tree {
    /// Mounts with more options, as containers/storage does.
    pub fn mount(&self, more: &str) {
        let options = self.text(FULL) + more;
        ok(&self.capasfs(&["-o", &options, &self.text("@/m")]));
    }

    pub fn umount(&self) {
        ok(&within(Command::new("umount").arg(self.path("m"))));
    }

    /// The daemon of the only mount.
    pub fn daemon(&self) -> u32 {
        let all = self.daemons("@/m");
        assert_eq!(all.len(), 1, "{all:?}");
        all[0]
    }

    pub fn until_ended(&self) {
        until("the daemon's end", || self.daemons("@/m").is_empty());
    }
}

impl Drop for Tree {
    fn drop(&mut self) {
        while self.mounted("m").is_some() {
            let done = Command::new("umount")
                .arg("-l")
                .arg(self.path("m"))
                .status();
            if !done.is_ok_and(|status| status.success()) {
                break;
            }
        }
        if let (Some(before), false) = (self.before.get(), std::thread::panicking()) {
            for (was, is) in before.iter().zip(&self.lowers()) {
                assert_eq!(was.changes(is), None, "a lower layer was changed");
            }
        }
    }
}

/// Runs a command to the end of its output; a minute is the limit, because a
/// daemon that keeps a pipe open is one of the mistakes looked for.
pub fn within(command: &mut Command) -> Output {
    let child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let (send, receive) = std::sync::mpsc::channel();
    std::thread::spawn(move || send.send(child.wait_with_output()));
    match receive.recv_timeout(Duration::from_secs(60)) {
        Ok(output) => output.unwrap(),
        Err(_) => panic!("no end of output after a minute: {command:?}"),
    }
}

/// Waits until `done`, at most 20 seconds.
pub fn until(what: &str, mut done: impl FnMut() -> bool) {
    let end = Instant::now() + Duration::from_secs(20);
    while !done() {
        assert!(Instant::now() < end, "waited in vain: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

pub fn code(output: &Output) -> i32 {
    output.status.code().unwrap()
}

pub fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[track_caller]
pub fn ok(output: &Output) -> String {
    assert!(
        output.status.success(),
        "{}: {}",
        output.status,
        stderr(output)
    );
    String::from_utf8_lossy(&output.stdout).into_owned()
}
