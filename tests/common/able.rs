//! Whether a test can run at all.

/// Whether the tests can run: they need root and `/dev/fuse`. Under `CI=true`
/// their absence is a failure, elsewhere the test says that it did not run.
pub fn able_to_mount() -> bool {
    let missing = if !rustix::process::geteuid().is_root() {
        "root"
    } else if !std::path::Path::new("/dev/fuse").exists() {
        "/dev/fuse"
    } else {
        return true;
    };
    if std::env::var("CI").is_ok_and(|v| v == "true") {
        panic!("this test needs {missing}");
    }
    eprintln!("SKIPPED: this test needs {missing}");
    false
}
