//! A test program again, as the root of a user namespace.

use super::live::capasfs;
use super::sys::user_namespace;
use std::os::unix::fs::PermissionsExt;
use std::process::{Command, Output};

/// Runs this test program with `args` and `env` as the root of a user namespace of an
/// unprivileged user with 65,536 ids, in a mount namespace of its own: marks are
/// `user.overlay.*` there, and nothing goes past the daemon.
pub fn again(args: &[&str], env: &[(&str, String)]) -> Output {
    let dir = tempfile::tempdir().unwrap();
    std::fs::set_permissions(dir.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
    // Where the repository lies may be out of that user's reach.
    std::fs::copy(std::env::current_exe().unwrap(), dir.path().join("test")).unwrap();
    std::fs::copy(capasfs(), dir.path().join("capasfs")).unwrap();
    let mut holder = user_namespace(0, 100_000, 65_536);
    let script = r#"
        cd "$1"; mknod -m 666 fuse c 10 229; mkdir tmp; chown 100000:100000 tmp
        export TOP="$1" CAPAS_PROGRAM="$1/capasfs" TMPDIR=/mnt RUST_BACKTRACE=0
        there=$2 mounts=$3; shift 3
        # Other tests' mounts are not kept by a copy of the namespace.
        awk -v top="$mounts/" 'index($2, top) == 1 { print $2 }' /proc/self/mounts | tac |
            xargs -r -d '\n' umount -l 2>/dev/null || true
        exec nsenter --target "$there" --user --setuid 0 --setgid 0 \
            unshare --mount --propagation private sh -ec '
            mount --bind "$TOP/fuse" /dev/fuse; mount --bind "$TOP/tmp" /mnt; exec "$TOP/test" "$@"
            ' sh "$@""#;
    let out = Command::new("unshare")
        .args([
            "--mount",
            "--propagation",
            "private",
            "sh",
            "-ec",
            script,
            "sh",
        ])
        .arg(dir.path())
        .arg(holder.id().to_string())
        .arg(std::env::temp_dir())
        .args(args)
        .envs(env.iter().map(|(name, value)| (name, value)))
        .output();
    holder.kill().unwrap();
    holder.wait().unwrap();
    out.unwrap()
}

/// The same, which must succeed; what it printed.
pub fn succeeds(args: &[&str], env: &[(&str, String)]) -> String {
    let out = again(args, env);
    let said = String::from_utf8_lossy(&out.stdout).into_owned();
    let errors = String::from_utf8_lossy(&out.stderr);
    assert!(out.status.success(), "{said}{errors}");
    format!("in a user namespace: {said}{errors}")
}
