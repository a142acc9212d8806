//! A person with a home of her own, and a registry that wants to know who asks.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

/// Who is let in: name and password.
pub const ALICE: (&str, &str) = ("alice", "p:a ss");
pub const BOB: (&str, &str) = ("bob", "hunter2");

/// The same for the registry.
const HTPASSWD: &str = "alice:$2y$05$capasTestsOfRegistry..U7s3e3ZluEvJqkEPhuFi0oG4X8Fil0G
bob:$2y$05$capasTestsOfRegistry..yVKBuIDYftrCfckZZh197VywwQQh0iu
";

/// Are all these programs there; without one the test is skipped loudly, or
/// fails in CI.
pub fn have(programs: &[&str]) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let found = |name: &str| std::env::split_paths(&path).any(|dir| dir.join(name).exists());
    let missing: Vec<_> = programs.iter().filter(|p| !found(p)).collect();
    if !missing.is_empty() {
        assert!(
            std::env::var("CI").as_deref() != Ok("true"),
            "missing: {missing:?} (scripts/test installs them)"
        );
        eprintln!("SKIPPED: missing {missing:?} (scripts/test installs them)");
    }
    missing.is_empty()
}

/// Are we root; else as in [`have`].
pub fn root() -> bool {
    let root = fs::metadata("/proc/self").is_ok_and(|m| m.uid() == 0);
    if !root {
        assert!(std::env::var("CI").as_deref() != Ok("true"), "not root");
        eprintln!("SKIPPED: not root");
    }
    root
}

/// A configuration by which only Alice and Bob are let in.
pub fn passwords(dir: &Path) -> String {
    let path = dir.join("htpasswd");
    fs::write(&path, HTPASSWD).unwrap();
    let path = path.display();
    format!("auth:\n  htpasswd:\n    realm: test\n    path: {path}\n")
}

/// Debian's docker-registry on a port of this machine.
pub struct Guarded {
    process: Child,
    pub host: String,
    _dir: tempfile::TempDir,
}

impl Guarded {
    /// One that asks for a name and a password.
    pub fn start() -> Guarded {
        Guarded::with(passwords)
    }

    /// The same on the machine's own IPv6 address; none without one, loudly, or
    /// a failure in CI.
    pub fn start_v6() -> Option<Guarded> {
        match TcpListener::bind("[::1]:0") {
            Ok(_) => Some(Guarded::at("[::1]:0", passwords)),
            Err(e) => {
                assert!(std::env::var("CI").as_deref() != Ok("true"), "no ::1: {e}");
                eprintln!("SKIPPED: no ::1 on this machine: {e}");
                None
            }
        }
    }

    /// One that lets everybody in.
    pub fn open() -> Guarded {
        Guarded::with(|_| String::new())
    }

    /// One with more in its configuration, made from a directory of its own.
    pub fn with(more: impl FnOnce(&Path) -> String) -> Guarded {
        Guarded::at("127.0.0.1:0", more)
    }

    fn at(address: &str, more: impl FnOnce(&Path) -> String) -> Guarded {
        let dir = tempfile::tempdir().unwrap();
        let at = dir.path().display();
        let more = more(dir.path());
        let config = format!(
            "version: 0.1\nlog:\n  level: info\nstorage:\n  filesystem:\n    rootdirectory: {at}/data\n\
             http:\n  addr: \"{address}\"\n  secret: test\n{more}"
        );
        fs::write(dir.path().join("config.yml"), config).unwrap();
        let mut process = Command::new("docker-registry")
            .arg("serve")
            .arg(dir.path().join("config.yml"))
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(process.stderr.take().unwrap()).lines();
        let host = lines
            .by_ref()
            .find_map(|line| {
                let line = line.unwrap();
                let (_, rest) = line.split_once("listening on ")?;
                Some(rest.split(['"', ',']).next().unwrap().to_owned())
            })
            .expect("it says where it listens");
        // It must always find somebody who reads.
        std::thread::spawn(move || lines.for_each(drop));
        Guarded {
            process,
            host,
            _dir: dir,
        }
    }

    /// Put an image into the registry, by another program.
    pub fn fill(&self, person: &Person, repository: &str) {
        let layout = person.dir.path().join("layout");
        fs::create_dir_all(&layout).unwrap();
        let blobs = layout.join("blobs/sha256");
        fs::create_dir_all(&blobs).unwrap();
        let config =
            br#"{"architecture":"amd64","os":"linux","rootfs":{"type":"layers","diff_ids":[]}}"#;
        let put = |data: &[u8]| {
            let digest = capas::store::Digest::of(data);
            fs::write(blobs.join(digest.hex()), data).unwrap();
            format!(r#""digest":"{digest}","size":{}"#, data.len())
        };
        let manifest = format!(
            r#"{{"schemaVersion":2,"mediaType":"application/vnd.oci.image.manifest.v1+json","config":{{"mediaType":"application/vnd.oci.image.config.v1+json",{}}},"layers":[]}}"#,
            put(config)
        );
        let index = format!(
            r#"{{"schemaVersion":2,"manifests":[{{"mediaType":"application/vnd.oci.image.manifest.v1+json",{},"annotations":{{"org.opencontainers.image.ref.name":"x"}}}}]}}"#,
            put(manifest.as_bytes())
        );
        fs::write(layout.join("index.json"), index).unwrap();
        fs::write(
            layout.join("oci-layout"),
            r#"{"imageLayoutVersion":"1.0.0"}"#,
        )
        .unwrap();
        let done = Command::new("skopeo")
            .args([
                "copy",
                "--quiet",
                "--insecure-policy",
                "--dest-tls-verify=false",
            ])
            .args(["--dest-creds", &format!("{}:{}", ALICE.0, ALICE.1)])
            .arg(format!("oci:{}:x", layout.display()))
            .arg(format!("docker://{}/{repository}:1", self.host))
            .output()
            .unwrap();
        assert!(done.status.success(), "{done:?}");
    }
}

impl Drop for Guarded {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Somebody with a home, and nothing in the environment but that.
pub struct Person {
    pub dir: tempfile::TempDir,
}

/// How a command ended.
#[derive(Debug, PartialEq, Eq)]
pub struct Done {
    pub code: i32,
    pub out: String,
    pub err: String,
}

impl Person {
    pub fn new() -> Person {
        Person {
            dir: tempfile::tempdir().unwrap(),
        }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Docker's file.
    pub fn config(&self) -> PathBuf {
        self.path(".docker/config.json")
    }

    /// Write a file in her home.
    pub fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.path(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, text).unwrap();
        path
    }

    /// A command in her environment; her own programs are found first.
    pub fn command(&self, program: impl AsRef<std::ffi::OsStr>) -> Command {
        let mut path = vec![self.path("bin")];
        path.extend(std::env::split_paths(&std::env::var_os("PATH").unwrap()));
        let mut command = Command::new(program);
        command
            .env_clear()
            .env("PATH", std::env::join_paths(path).unwrap())
            .env("HOME", self.dir.path())
            .env("XDG_RUNTIME_DIR", self.path("run"))
            .env("CAPAS_ROOT", self.path("store"))
            .current_dir(self.dir.path());
        command
    }

    /// Podman, on a store of its own.
    pub fn podman(&self, args: &[&str], input: &str) -> Done {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("scripts/podman-env");
        let mut command = self.command(script);
        command.env("MOUNT_PROGRAM", "none");
        finish(
            command.arg(self.path("podman")).arg("podman").args(args),
            input,
        )
    }

    pub fn capas(&self) -> Command {
        self.command(env!("CARGO_BIN_EXE_capas"))
    }

    pub fn run(&self, args: &[&str], input: &str) -> Done {
        finish(self.capas().args(args), input)
    }

    /// A fake credential helper that keeps what it is given in files, and notes
    /// what it is asked.
    pub fn helper(&self, suffix: &str) {
        let script = r#"#!/bin/sh
said=$(cat)
echo "$1 $said" >>"$HOME/asked"
case $1 in
store) echo "$said" >"$HOME/kept" ;;
get)
    [ -e "$HOME/kept" ] || { echo "credentials not found in native keychain"; exit 1; }
    cat "$HOME/kept" ;;
erase) rm -f "$HOME/kept" ;;
list)
    [ ! -e "$HOME/no-list" ] || { echo "not implemented"; exit 1; }
    [ -e "$HOME/kept" ] || { echo '{}'; exit; }
    sed 's/.*"ServerURL":"\([^"]*\)","Username":"\([^"]*\)".*/{"\1":"\2"}/' "$HOME/kept" ;;
esac
"#;
        let path = self.path(&format!("bin/docker-credential-{suffix}"));
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        // Written by another process: a test beside us that forks while the
        // file is open for writing here would keep it busy.
        let mut cat = Command::new("sh")
            .args(["-c", "cat >\"$0\""])
            .arg(&path)
            .stdin(Stdio::piped())
            .spawn()
            .unwrap();
        cat.stdin
            .take()
            .unwrap()
            .write_all(script.as_bytes())
            .unwrap();
        assert!(cat.wait().unwrap().success());
        fs::set_permissions(&path, fs::Permissions::from_mode(0o700)).unwrap();
    }
}

/// Run a command with this on its standard input.
pub fn finish(command: &mut Command, input: &str) -> Done {
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // A command that does not want it may be gone already.
    let _ = child.stdin.take().unwrap().write_all(input.as_bytes());
    let out = child.wait_with_output().unwrap();
    Done {
        code: out.status.code().unwrap(),
        out: String::from_utf8(out.stdout).unwrap(),
        err: String::from_utf8(out.stderr).unwrap(),
    }
}

pub fn done(code: i32, out: &str, err: &str) -> Done {
    Done {
        code,
        out: out.to_owned(),
        err: err.to_owned(),
    }
}

/// The JSON in a file.
pub fn json(path: &Path) -> serde_json::Value {
    serde_json::from_slice(&fs::read(path).unwrap()).unwrap()
}
