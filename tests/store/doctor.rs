//! `info` and `doctor` tell what is there.

use super::support::*;
use super::upkeep::{capas, filled, ok};
use serde_json::Value;
use std::fs;
use std::process::Command;

/// Each line is there, in this order, and is right: what must be with this
/// kernel is, and what is missing says its cost.
fn assert_doctor(out: &str) {
    let release = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap();
    let mut numbers = release.split(['.', '-']).map(|n| n.parse().unwrap_or(0u32));
    let kernel = (numbers.next().unwrap(), numbers.next().unwrap());
    let always = (0, 0);
    let perhaps = (u32::MAX, 0);
    let daemon = "data of large files passes through the daemon (Linux 6.9 has it)";
    let lines = [
        ("kernel", release.trim(), "", always),
        ("user", "root", "", always),
        ("CAP_SYS_ADMIN", "there", "", always),
        ("CAP_DAC_READ_SEARCH", "there", "", always),
        ("/dev/fuse", "can be opened", "", always),
        (
            "fusermount3",
            "/",
            "only root can mount (install fuse3)",
            perhaps,
        ),
        ("FUSE protocol", "7.", "", always),
        ("FUSE passthrough", "offered", daemon, (6, 9)),
        (
            "FUSE killpriv_v2",
            "offered",
            "writes by unprivileged users are checked by the daemon (5.12)",
            (5, 12),
        ),
        (
            "FUSE no_opendir",
            "offered",
            "opening a directory takes a message (5.1)",
            (5, 1),
        ),
        ("FUSE posix_acl", "offered", "no POSIX ACLs (4.9)", (4, 9)),
        (
            "FUSE allow_idmap",
            "offered",
            "no idmapped mounts of containers' roots (6.12)",
            (6, 12),
        ),
        ("mounting with capasfs", "works", "", always),
        ("store", "/", "", always),
        (
            "trusted.* attributes",
            "there",
            "marks are user.overlay.* attributes or files",
            perhaps,
        ),
        (
            "user.* attributes",
            "there",
            "images with such attributes lose them",
            perhaps,
        ),
        (
            "whiteouts (devices 0:0)",
            "there",
            "whiteouts are attributes or .wh. files",
            perhaps,
        ),
        (
            "RENAME_WHITEOUT",
            "there",
            "a rename of a lower file is two steps",
            perhaps,
        ),
        (
            "RENAME_EXCHANGE",
            "there",
            "damaged layers cannot be swapped by 'capas check --repair'",
            perhaps,
        ),
        (
            "O_TMPFILE",
            "there",
            "copied files have a name in the work directory meanwhile",
            perhaps,
        ),
        (
            "reflink",
            "there",
            "a file that is changed is copied, not shared (btrfs and xfs have it)",
            perhaps,
        ),
        (
            "file handles",
            "there",
            "inode numbers of copied files change with a new mount",
            perhaps,
        ),
        ("runtime runc", "/", "", perhaps),
        ("runtime crun", "/", "", perhaps),
        ("cgroups", "can be written", "", perhaps),
        (
            "pasta",
            "there",
            "no published ports and no private networks: install passt",
            perhaps,
        ),
        ("open files", "at most ", "at most ", perhaps),
        ("free space", "", "", perhaps),
    ];
    let mut shown = out.lines();
    for (what, good, cost, since) in lines {
        let line = shown.next().unwrap();
        let is = |word: &str, why: &str| line.starts_with(&format!("{word:8}{what}: {why}"));
        let right = match kernel >= since {
            true => is("ok", good),
            false => is("ok", good) || is("missing", cost),
        };
        assert!(right, "{line}");
    }
    assert_eq!(shown.collect::<Vec<_>>(), ["Containers can be run."]);
}

#[test]
fn info_and_doctor_say_what_there_is() {
    let b = filled();
    let info: Value = serde_json::from_str(&ok(&b, &["info", "--format", "json"])).unwrap();
    assert_eq!(info["Images"], 3);
    assert_eq!(info["Driver"], "capasfs");
    assert_eq!(info["StoreRoot"], b.store.root().to_str().unwrap());
    let release = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap();
    assert_eq!(info["KernelVersion"], release.trim());
    let words = |key: &str| {
        let all = info[key].as_array().unwrap().iter();
        all.map(|w| w.as_str().unwrap())
            .collect::<Vec<_>>()
            .join(" ")
    };
    ok(&b, &["create", "--name", "box", "one:1"]);
    let lines = [
        format!("Version: {}", env!("CARGO_PKG_VERSION")),
        format!("Store Root: {}", b.store.root().display()),
        format!(
            "Backing Filesystem: {}",
            info["BackingFilesystem"].as_str().unwrap()
        ),
        "Images: 3".to_owned(),
        "Containers: 1".to_owned(),
        " Running: 0".to_owned(),
        " Stopped: 1".to_owned(),
        "Storage Driver: capasfs".to_owned(),
        format!(" Features: {}", words("Features")),
        format!(" Missing: {}", words("MissingFeatures"))
            .trim_end()
            .to_owned(),
        format!(
            "Runtime: {}",
            info["Runtime"]
                .as_str()
                .unwrap_or("none, so no container runs")
        ),
        format!("Kernel Version: {}", release.trim()),
        format!("Architecture: {}", std::env::consts::ARCH),
    ];
    assert_eq!(ok(&b, &["info"]), lines.join("\n") + "\n");
    assert!(words("Features").contains("tmpfile"), "{info}");
    assert_eq!(
        ok(&b, &["info", "-f", "{{.Images}} {{.Driver}}"]),
        "3 capasfs\n"
    );
    // What scripts ask docker for.
    let page = std::fs::read_to_string("/proc/meminfo").unwrap();
    let kilobytes = page
        .split_whitespace()
        .nth(1)
        .unwrap()
        .parse::<u64>()
        .unwrap();
    assert_eq!(
        ok(
            &b,
            &["info", "-f", "{{.DockerRootDir}} {{.MemTotal}} {{.Name}}"]
        ),
        format!(
            "{} {} {}",
            b.store.root().display(),
            kilobytes * 1024,
            fs::read_to_string("/proc/sys/kernel/hostname").unwrap()
        )
    );
    assert!(
        info["NCPU"].as_u64().unwrap() > 0 && info["OperatingSystem"].is_string(),
        "{info}"
    );
    if !root() {
        return;
    }
    let (code, out, _) = capas(&b, &["doctor"], "");
    assert_eq!(code, 0, "{out}");
    assert_doctor(&out);
    // What the kernel offers and does not give to who is only called root.
    let out = Command::new("unshare")
        .args(["-r", "-m", env!("CARGO_BIN_EXE_capas"), "--root"])
        .arg(b.store.root())
        .arg("doctor")
        .output()
        .unwrap();
    let text = String::from_utf8(out.stdout).unwrap();
    for line in [
        "missing user: root of a user namespace: no passthrough, no devices, marks are user.overlay.* attributes\n",
        "missing FUSE passthrough: data of large files passes through the daemon (",
        "missing trusted.* attributes: marks are user.overlay.* attributes or files\n",
        "ok      mounting with capasfs: works\n",
    ] {
        assert!(text.contains(line), "\"{line}\" is not in: {text}");
    }
    // Without a runtime, or without the driver, nothing runs.
    let (code, out, _) = capas(&b, &["--runtime", "/nowhere", "doctor"], "");
    assert!(
        code == 1 && out.contains("FAILED  runtime: no runtime starts"),
        "{out}"
    );
    let out = Command::new(env!("CARGO_BIN_EXE_capas"))
        .arg("--root")
        .arg(b.store.root())
        .arg("doctor")
        .env("CAPAS_CAPASFS", "/bin/false")
        .output()
        .unwrap();
    let text = String::from_utf8(out.stdout).unwrap();
    assert!(
        out.status.code() == Some(1) && text.contains("FAILED  mounting with capasfs: "),
        "{text}"
    );
    assert_eq!(fs::read_dir(b.store.tmp()).unwrap().count(), 0);
}
