//! `system df` agrees with du, `prune` frees what it says, `info` and `doctor`
//! tell what is there.

use super::check::du;
use super::support::*;
use serde_json::Value;
use std::fs;
use std::io::Write;
use std::process::{Command, Stdio};

/// Exit code, standard output and standard error.
fn capas(b: &Bench, args: &[&str], answer: &str) -> (i32, String, String) {
    let mut child = Command::new(env!("CARGO_BIN_EXE_capas"))
        .arg("--root")
        .arg(b.store.root())
        .args(args)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // Who asks nothing may be gone already.
    let _ = child.stdin.take().unwrap().write_all(answer.as_bytes());
    let out = child.wait_with_output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (
        out.status.code().unwrap(),
        text(out.stdout),
        text(out.stderr),
    )
}

fn ok(b: &Bench, args: &[&str]) -> String {
    let (code, out, err) = capas(b, args, "");
    assert_eq!(code, 0, "{args:?}: {err}");
    out
}

fn load(b: &Bench, name: &str, layers: &[Vec<u8>]) {
    b.load(&docker_archive(layers, &diffs(layers), &[name]))
        .unwrap();
}

fn rows(b: &Bench) -> Vec<Value> {
    let text = ok(b, &["system", "df", "--format", "json"]);
    text.lines()
        .map(|l| serde_json::from_str(l).unwrap())
        .collect()
}

fn base_layer() -> Vec<u8> {
    let mut tar = Tar::new();
    tar.dir("d/");
    for n in 0..30 {
        tar.file(&format!("d/{n}"), &"base".repeat(n * 1000));
    }
    tar.hardlink("d/again", "d/29").end()
}

/// A store with two images on one base, and one of its own.
fn filled() -> Bench {
    let b = Bench::new();
    let base = base_layer();
    load(
        &b,
        "one:1",
        &[base.clone(), Tar::new().file("one", "1").end()],
    );
    load(&b, "two:1", &[base, Tar::new().file("two", "2").end()]);
    load(
        &b,
        "three:1",
        &[Tar::new().file("three", &"3".repeat(70_000)).end()],
    );
    b
}

#[test]
fn df_is_du_to_the_byte() {
    let b = filled();
    let root = b.store.root().to_owned();
    let agree = || {
        let rows = rows(&b);
        let bytes = |n: usize| rows[n]["Bytes"].as_u64().unwrap();
        assert_eq!(bytes(0), du(&[root.join("blobs"), root.join("layers")]));
        assert_eq!(bytes(1), du(&[root.join("containers")]));
        let usage = b.store.usage(&[]).unwrap();
        assert_eq!(usage.images, bytes(0));
        assert_eq!(
            usage.images + usage.containers + usage.other,
            du(std::slice::from_ref(&root))
        );
        rows
    };
    let before = agree();
    assert_eq!(before[0]["TotalCount"], "3");
    assert_eq!(before[0]["Active"], "0");
    ok(&b, &["create", "--name", "box", "one:1"]);
    fs::write(
        fs::read_dir(b.store.containers())
            .unwrap()
            .next()
            .unwrap()
            .unwrap()
            .path()
            .join("upper/f"),
        "x".repeat(50_000),
    )
    .unwrap();
    let after = agree();
    assert_eq!(
        (
            &after[0]["Active"],
            &after[1]["TotalCount"],
            &after[1]["Active"]
        ),
        (&"1".into(), &"1".into(), &"0".into())
    );
    let less = before[0]["ReclaimableBytes"].as_u64().unwrap()
        - after[0]["ReclaimableBytes"].as_u64().unwrap();
    assert!(less > 1_000_000, "the base is in use now: {less}");
    let table = ok(&b, &["system", "df"]);
    let lines: Vec<&str> = table.lines().collect();
    assert_eq!(
        lines[0].split_whitespace().collect::<Vec<_>>(),
        ["TYPE", "TOTAL", "ACTIVE", "SIZE", "RECLAIMABLE"]
    );
    let cells = |n: usize| lines[n].split_whitespace().collect::<Vec<_>>();
    assert_eq!(cells(1)[..3], ["Images", "3", "1"], "{table}");
    assert_eq!(cells(3), ["Local", "Volumes", "0", "0", "0B", "0B"]);
    if super::support::root() {
        // The mount is not the container's.
        ok(&b, &["mount", "box"]);
        agree();
        ok(&b, &["umount", "box"]);
    }
}

#[test]
fn df_column_by_column() {
    let b = filled();
    ok(&b, &["tag", "one:1", "one:2"]);
    let short = |name: &str| b.store.find_image(name).unwrap().0.id.short();
    let usage = b.store.usage(&[]).unwrap();
    let fine = capas::cli::units::fine_size;
    // The format docker has.
    let line = |cells: [&str; 5], width: usize| {
        let [kind, total, active, size, rest] = cells;
        format!("{kind:16}{total:10}{active:10}{size:width$}   {rest}\n")
    };
    let (size, none) = (fine(usage.images), fine(usage.containers));
    let width = size.len().max(none.len()).max(7);
    let percent = usage.reclaimable * 100 / usage.images;
    let free = format!("{} ({percent}%)", fine(usage.reclaimable));
    let held = match usage.containers {
        0 => "0B",
        _ => "0B (0%)",
    };
    assert_eq!(
        ok(&b, &["system", "df"]),
        [
            line(["TYPE", "TOTAL", "ACTIVE", "SIZE", "RECLAIMABLE"], width),
            line(["Images", "3", "0", &size, &free], width),
            line(["Containers", "0", "0", &none, held], width),
            line(["Local Volumes", "0", "0", "0B", "0B"], width),
            line(["Build Cache", "0", "0", "0B", "0B"], width),
        ]
        .concat()
    );
    // An image is there once, whatever its names.
    let text = ok(&b, &["system", "df", "-v"]);
    let part = |title: &str| -> Vec<Vec<&str>> {
        let rest = text.split_once(&format!("{title}\n\n")).unwrap().1;
        let lines = rest.lines().take_while(|l| !l.is_empty());
        lines
            .map(|l| {
                l.split("   ")
                    .map(str::trim)
                    .filter(|c| !c.is_empty())
                    .collect()
            })
            .collect()
    };
    let images = part("Images space usage:");
    assert_eq!(
        images[0],
        [
            "REPOSITORY",
            "TAG",
            "IMAGE ID",
            "CREATED",
            "SIZE",
            "SHARED SIZE",
            "UNIQUE SIZE",
            "CONTAINERS"
        ]
    );
    assert_eq!(images.len(), 4, "{text}");
    let one = images.iter().find(|row| row[0] == "one").unwrap();
    assert_eq!(
        (one[1], one[2], one[7]),
        ("1", short("one:1").as_str(), "0")
    );
    assert_eq!(
        part("Containers space usage:")[0],
        [
            "CONTAINER ID",
            "IMAGE",
            "COMMAND",
            "LOCAL VOLUMES",
            "SIZE",
            "CREATED",
            "STATUS",
            "NAMES"
        ]
    );
    assert_eq!(
        part("Local Volumes space usage:"),
        [["VOLUME NAME", "LINKS", "SIZE"]]
    );
    assert_eq!(
        part("Build cache usage: 0B"),
        [[
            "CACHE ID",
            "CACHE TYPE",
            "SIZE",
            "CREATED",
            "LAST USED",
            "USAGE",
            "SHARED"
        ]]
    );
}

#[test]
fn df_of_containers_and_as_a_value() {
    let b = filled();
    let id = ok(
        &b,
        &[
            "create",
            "--name",
            "box",
            "-v",
            "/data",
            "one:1",
            "/bin/sh",
            "-c",
            "exit  0; true",
        ],
    );
    let id = id.trim();
    let dir = b.store.containers().join(id);
    fs::write(dir.join("upper/f"), "x".repeat(50_000)).unwrap();
    let size = capas::cli::units::size(du(&[dir]));
    let text = ok(&b, &["system", "df", "-v"]);
    let rest = text.split_once("Containers space usage:\n\n").unwrap().1;
    let lines: Vec<&str> = rest.lines().take_while(|l| !l.is_empty()).collect();
    let all: Value =
        serde_json::from_str(&ok(&b, &["system", "df", "-v", "--format", "json"])).unwrap();
    let box_ = &all["Containers"][0];
    let place = |line: &str, part: &str| line.split(part).next().unwrap().chars().count();
    for (field, heading, want) in [
        ("ID", "CONTAINER ID", &id[..12]),
        ("Image", "IMAGE", "one:1"),
        ("Command", "COMMAND", "\"/bin/sh -c exit  0;…\""),
        ("LocalVolumes", "LOCAL VOLUMES", "1 "),
        ("Size", "SIZE", &size),
        ("Status", "STATUS", "Created"),
        ("Names", "NAMES", "box"),
    ] {
        assert_eq!(box_[field], want.trim_end(), "{field}");
        // The columns stand below their headings.
        let after = place(lines[0], heading);
        let cell: String = lines[1].chars().skip(after).collect();
        assert!(cell.starts_with(want), "{heading}: {lines:?}");
    }
    let images = all["Images"].as_array().unwrap();
    let one = images.iter().find(|i| i["Repository"] == "one").unwrap();
    let short = b.store.find_image("one:1").unwrap().0.id.short();
    assert_eq!(
        (&one["Tag"], &one["ID"], &one["Containers"]),
        (&"1".into(), &short.into(), &"1".into())
    );
    assert_eq!(
        ok(
            &b,
            &[
                "system",
                "df",
                "-v",
                "--format",
                "{{range .Images}}{{.Repository}} {{end}}{{len .Containers}} {{len .Volumes}} {{len .BuildCache}}"
            ]
        ),
        format!(
            "{}1 0 0\n",
            images
                .iter()
                .map(|i| format!("{} ", i["Repository"].as_str().unwrap()))
                .collect::<String>()
        )
    );
    assert_eq!(
        capas(&b, &["system", "df", "-v", "--format", "{{.None}}"], "").0,
        1
    );
}

#[test]
fn shared_layers_cost_once() {
    let b = Bench::new();
    let base = base_layer();
    let size = || du(&[b.store.root().join("blobs"), b.store.root().join("layers")]);
    let empty = size();
    load(
        &b,
        "one:1",
        &[base.clone(), Tar::new().file("one", "1").end()],
    );
    let one = size() - empty;
    load(&b, "two:1", &[base, Tar::new().file("two", "2").end()]);
    let two = size() - empty - one;
    assert!(one > 3_000_000 && two < 100_000, "{one} and {two}");
    let usage = b.store.image_usage().unwrap();
    let [first, second] = usage.as_slice() else {
        panic!("{usage:?}")
    };
    assert_eq!(first.shared, second.shared);
    // Directories of the store itself belong to nobody.
    assert_eq!(first.shared + first.unique + second.unique, one + two);
    let text = ok(&b, &["system", "df", "-v"]);
    assert!(
        text.contains("SHARED SIZE   UNIQUE SIZE   CONTAINERS"),
        "{text}"
    );
    let all = du(&[b.store.root().to_owned()]);
    assert!(text.contains(&format!("Store: {all} bytes")), "{text}");
}

#[test]
fn prune_frees_what_it_says() {
    let b = filled();
    let size = || du(&[b.store.root().to_owned()]);
    let id = ok(&b, &["create", "--name", "box", "one:1"])
        .trim()
        .to_owned();
    // An image that lost its name, and one that keeps it.
    load(&b, "three:1", &[Tar::new().file("new", "3").end()]);
    let before = size();
    let (code, out, _) = capas(&b, &["system", "prune"], "n\n");
    assert_eq!(code, 0);
    assert!(
        out.starts_with(
            "WARNING! This will remove:\n  - all stopped containers\n  - all dangling images\n"
        ),
        "{out}"
    );
    assert!(
        out.ends_with("Are you sure you want to continue? [y/N] "),
        "{out}"
    );
    assert_eq!(size(), before);
    let (code, out, err) = capas(&b, &["system", "prune"], "y\n");
    assert_eq!((code, err.as_str()), (0, ""));
    assert!(
        out.contains(&format!(
            "Deleted Containers:\n{id}\n\nDeleted Images:\ndeleted: sha256:"
        )),
        "{out}"
    );
    let freed = capas::cli::units::fine_size(before - size());
    assert!(
        out.ends_with(&format!("Total reclaimed space: {freed}\n")),
        "{freed}: {out}"
    );
    assert_eq!(ok(&b, &["images", "-q"]).lines().count(), 3);
    assert_eq!(
        ok(&b, &["system", "prune", "-f"]),
        "Total reclaimed space: 0B\n"
    );
    // Only what no container uses.
    ok(&b, &["create", "--name", "box", "one:1"]);
    let before = size();
    assert_eq!(
        ok(
            &b,
            &[
                "system",
                "prune",
                "-a",
                "-f",
                "--filter",
                "until=2020-01-01"
            ]
        ),
        "Total reclaimed space: 0B\n"
    );
    assert_eq!(
        ok(
            &b,
            &["system", "prune", "-a", "-f", "--filter", "label=none"]
        ),
        "Total reclaimed space: 0B\n"
    );
    let out = ok(
        &b,
        &[
            "system",
            "prune",
            "-af",
            "--filter",
            "label!=none",
            "--filter",
            "until=2024-06-01",
        ],
    );
    assert!(!out.contains("Deleted Containers"), "{out}");
    assert!(
        out.contains("untagged: two:1\ndeleted: sha256:") && out.contains("untagged: three:1\n"),
        "{out}"
    );
    let freed = capas::cli::units::fine_size(before - size());
    assert!(
        out.ends_with(&format!("Total reclaimed space: {freed}\n")),
        "{freed}: {out}"
    );
    assert!(ok(&b, &["images"]).contains("one"));
    let out = ok(&b, &["container", "prune", "-f"]);
    assert!(out.starts_with("Deleted Containers:\n"), "{out}");
    let (code, _, err) = capas(&b, &["system", "prune", "-f", "--filter", "colour=red"], "");
    assert!(
        code == 1 && err.contains("invalid filter 'colour=red'"),
        "{err}"
    );
    if root() {
        let (code, out, _) = capas(&b, &["check"], "");
        assert!(code == 0 && out.contains(" 0 unused"), "{out}");
    }
}

#[test]
fn containers_are_pruned_by_their_own_labels() {
    let b = filled();
    let create = |name: &str, more: &[&str]| {
        let args = [&["create", "--name", name], more, &["one:1"]].concat();
        ok(&b, &args).trim().to_owned()
    };
    let kept = create("kept", &["--label", "keep=yes"]);
    let gone = create("gone", &[]);
    // What the image says of itself is nobody's business, even if it is gone.
    ok(&b, &["rmi", "-f", "one:1"]);
    let out = ok(&b, &["container", "prune", "-f", "--filter", "label!=keep"]);
    assert!(
        out.starts_with(&format!("Deleted Containers:\n{gone}\n\n")),
        "{out}"
    );
    let left = || ok(&b, &["ps", "-aq", "--no-trunc"]);
    assert_eq!(left(), format!("{kept}\n"));
    let prune = ["system", "prune", "-f", "--filter"];
    ok(&b, &[&prune[..], &["label=keep=no"]].concat());
    assert_eq!(left(), format!("{kept}\n"));
    ok(&b, &[&prune[..], &["label=keep"]].concat());
    assert_eq!(left(), "");
}

#[test]
fn blobs_are_pruned_after_a_question() {
    let b = Bench::new();
    let big = Tar::new().file("big", &"3".repeat(300_000)).end();
    load(&b, "one:1", &[big]);
    let size = || du(&[b.store.root().to_owned()]);
    let before = size();
    let blob = b
        .store
        .described_layers(&b.store.images().unwrap()[0])
        .unwrap()[0]
        .blob
        .digest;
    let question = "WARNING! This will remove the compressed layers of all images.\n\
         Images that are saved after that have their layers uncompressed, those that are pushed have them compressed again, under other digests.\n\
         Are you sure you want to continue? [y/N] ";
    let asked = |answer: &str| capas(&b, &["prune", "--blobs"], answer);
    assert_eq!(asked("n\n"), (0, question.to_owned(), String::new()));
    let taken = du(&[b.store.blob(&blob)]);
    let most = capas::cli::units::fine_size(taken);
    assert_eq!(
        ok(&b, &["prune", "--blobs", "--dry-run"]),
        format!("Would delete: {blob}\nReclaimable space, at most: {most}\n")
    );
    assert_eq!(size(), before);
    let (code, out, err) = asked("y\n");
    let freed = capas::cli::units::fine_size(before - size());
    let told = format!("{question}Deleted: {blob}\nTotal reclaimed space: {freed}\n");
    assert_eq!((code, out, err), (0, told, String::new()));
    assert_eq!(
        ok(&b, &["prune", "--blobs", "-f"]),
        "Total reclaimed space: 0B\n"
    );
    assert_eq!(capas(&b, &["prune"], "").0, 1);
}

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
