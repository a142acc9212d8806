//! A directory to build from.

use super::harness::{Cli, ready};
use std::path::{Path, PathBuf};

pub struct Ground {
    pub cli: Cli,
    pub context: PathBuf,
}

/// A store with the image `box:1`, and an empty build context.
pub fn ground() -> Option<Ground> {
    let cli = ready()?;
    let context = cli.bench.dir.path().join("context");
    std::fs::create_dir(&context).unwrap();
    Some(Ground { cli, context })
}

impl Ground {
    pub fn file(&self, path: &str, content: &str) -> &Ground {
        let path = self.context.join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, content).unwrap();
        self
    }

    pub fn at(&self, path: &str) -> PathBuf {
        self.context.join(path)
    }

    /// Build `dockerfile` with more arguments; exit code, standard output and
    /// error.
    pub fn try_build(&self, dockerfile: &str, args: &[&str]) -> (i32, String, String) {
        self.file("Dockerfile", dockerfile);
        let context = self.context.to_str().unwrap();
        let all = [&["build"], args, &[context]].concat();
        self.cli.run(&all)
    }

    /// Build an image that is called `name`; what was said on the way.
    pub fn build(&self, name: &str, dockerfile: &str, args: &[&str]) -> String {
        let all = [&["-t", name], args].concat();
        let (code, out, err) = self.try_build(dockerfile, &all);
        assert_eq!(code, 0, "{err}");
        assert!(out.starts_with("Successfully built "), "{out}");
        err
    }

    /// What a command in a container of an image writes.
    pub fn see(&self, image: &str, command: &str) -> String {
        self.cli.ok(&[
            "run",
            "--rm",
            "--entrypoint",
            "",
            image,
            "sh",
            "-c",
            command,
        ])
    }

    pub fn id(&self, image: &str) -> String {
        self.cli
            .ok(&["inspect", "-f", "{{.Id}}", image])
            .trim()
            .to_owned()
    }

    /// Of an image, `pointer` of its `inspect`.
    pub fn told(&self, image: &str, pointer: &str) -> serde_json::Value {
        self.cli.told(image, pointer)
    }

    /// Nothing is left of any build but what is known of its steps.
    pub fn assert_nothing_is_left(&self) {
        self.cli.assert_nothing_is_left();
        assert_eq!(self.cli.ok(&["check", "--quick"]).lines().count(), 1);
    }
}

pub fn mode(path: &Path, mode: u32) {
    let mode = std::os::unix::fs::PermissionsExt::from_mode(mode);
    std::fs::set_permissions(path, mode).unwrap();
}
