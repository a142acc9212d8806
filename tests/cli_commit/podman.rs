//! podman on a store of its own.

use std::path::Path;
use std::process::Command;

pub struct Podman(tempfile::TempDir);

/// None, loudly, where it is not there.
pub fn ready() -> Option<Podman> {
    if Command::new("podman").arg("--version").output().is_err() {
        assert!(
            std::env::var("CI").as_deref() != Ok("true"),
            "this test needs podman"
        );
        eprintln!("SKIPPED: this test needs podman");
        return None;
    }
    Some(Podman(tempfile::tempdir().unwrap()))
}

impl Podman {
    pub fn run(&self, args: &[&str]) -> String {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("scripts/podman-env");
        let out = Command::new(script)
            .arg(self.0.path())
            .arg("podman")
            .args(args)
            .env("MOUNT_PROGRAM", env!("CARGO_BIN_EXE_capasfs"))
            .output()
            .unwrap();
        let err = String::from_utf8_lossy(&out.stderr).into_owned();
        assert!(out.status.success(), "podman {args:?}: {err}");
        String::from_utf8(out.stdout).unwrap()
    }
}
