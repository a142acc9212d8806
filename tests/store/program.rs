//! The program on a store of its own.

use super::support::{self, Bench, Tar, diffs, docker_archive, hex};
use std::path::{Path, PathBuf};
use std::process::Command;

pub struct Cli {
    pub bench: Bench,
}

pub struct Done {
    pub code: i32,
    pub out: String,
    pub err: String,
}

impl Cli {
    pub fn new() -> Cli {
        Cli {
            bench: Bench::new(),
        }
    }

    pub fn run(&self, args: &[&str]) -> Done {
        let out = Command::new(env!("CARGO_BIN_EXE_capas"))
            .env("CAPAS_ROOT", self.bench.store.root())
            .args(args)
            .output()
            .unwrap();
        Done {
            code: out.status.code().unwrap(),
            out: String::from_utf8(out.stdout).unwrap(),
            err: String::from_utf8(out.stderr).unwrap(),
        }
    }

    pub fn ok(&self, args: &[&str]) -> String {
        let done = self.run(args);
        assert_eq!((done.code, done.err.as_str()), (0, ""), "{args:?}");
        done.out
    }

    pub fn fails(&self, args: &[&str], code: i32, err: &str) -> String {
        let done = self.run(args);
        assert_eq!((done.code, done.err.as_str()), (code, err), "{args:?}");
        done.out
    }

    pub fn archive(&self, content: &str, names: &[&str]) -> PathBuf {
        let layers = [Tar::new().file("file", content).end()];
        let archive = docker_archive(&layers, &diffs(&layers), names);
        self.bench
            .write(&format!("{}.tar", hex(&archive)), &archive)
    }

    pub fn load(&self, content: &str, names: &[&str]) -> String {
        self.load_path(&self.archive(content, names))
    }

    pub fn load_path(&self, path: &Path) -> String {
        self.ok(&["load", "-i", path.to_str().unwrap()])
    }

    /// Id of the image of [`Cli::archive`].
    pub fn id(&self, content: &str) -> String {
        let layers = [Tar::new().file("file", content).end()];
        hex(support::config(&diffs(&layers)).as_bytes())
    }
}
