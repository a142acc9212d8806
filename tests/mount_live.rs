//! capasfs from the call to the end of the mount: readiness, streams, locks,
//! signals, and every program that may stand in between.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    missing_docs
)]
#![allow(clippy::print_stderr, clippy::print_stdout, dead_code)]

mod common;
mod mount_support;

use mount_support::{CAPASFS, FULL, Tree, able_to_mount, code, ok, stderr, until};
use std::fs;
use std::io::Read;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

fn signal(pid: u32, name: &str) {
    assert!(
        Command::new("kill")
            .args(["-s", name, &pid.to_string()])
            .status()
            .unwrap()
            .success()
    );
}

#[test]
fn returns_when_usable_and_only_then() {
    if !able_to_mount() {
        return;
    }
    let tree = Tree::new();
    tree.mount("");
    assert_eq!(fs::read(tree.path("m/one")).unwrap(), b"one");
    assert_eq!(fs::read(tree.path("m/two")).unwrap(), b"two");
    fs::write(tree.path("m/new"), "new").unwrap();
    assert_eq!(fs::read(tree.path("u/new")).unwrap(), b"new");
    let kind = ok(&tree.shell("stat -f -c %t m"));
    assert_eq!(kind.trim(), "65735546", "containers/storage looks for this");
    let line = tree.mounted("m").unwrap();
    assert!(line.contains(" - fuse.capasfs capasfs rw,"), "{line}");
    tree.umount();
    tree.until_ended();
    assert_eq!(fs::read(tree.path("u/new")).unwrap(), b"new");
}

#[test]
fn a_failure_behind_the_fork_reaches_the_caller() {
    if !able_to_mount() {
        return;
    }
    let tree = Tree::new();
    // The kernel refuses a type of this length.
    let subtype = "x".repeat(5000);
    let options = tree.text(FULL) + ",subtype=" + &subtype;
    let said = tree.capasfs(&["-o", &options, "m"]);
    let line = stderr(&said);
    assert_eq!(code(&said), 32, "{line}");
    assert!(line.starts_with("capasfs: cannot mount at "), "{line}");
    assert_eq!(line.matches('\n').count(), 1, "{line}");
    assert_eq!(tree.mounted("m"), None);
    // And the next one finds nothing in its way.
    tree.mount("");
}

/// `output()` reads both pipes to their end, which never comes if the daemon
/// keeps one open, be it under another number.
#[test]
fn no_stream_of_the_caller_stays_open() {
    if !able_to_mount() {
        return;
    }
    let tree = Tree::new();
    let options = tree.text(FULL);
    let start = Instant::now();
    // By its whole path: other tests' are called `m`, too.
    let point = tree.text("@/m");
    ok(&tree.shell(&format!("exec $capasfs -o {options} {point} 7>&1 8>&2")));
    assert!(start.elapsed() < Duration::from_secs(30));
    let pid = tree.daemons("@/m")[0];
    for fd in 0..3 {
        let link = fs::read_link(format!("/proc/{pid}/fd/{fd}")).unwrap();
        assert_eq!(link.to_str(), Some("/dev/null"));
    }
    for fd in fs::read_dir(format!("/proc/{pid}/fd")).unwrap() {
        let link = fs::read_link(fd.unwrap().path()).unwrap();
        assert!(!link.to_str().unwrap().starts_with("pipe:"), "{link:?}");
    }
    assert_eq!(
        fs::read_link(format!("/proc/{pid}/cwd")).unwrap().to_str(),
        Some("/")
    );
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    assert!(
        status.contains("Umask:\t0000") && status.contains("Groups:\t \n"),
        "{status}"
    );
}

#[test]
fn umount_and_mount_in_quick_succession() {
    if !able_to_mount() {
        return;
    }
    let tree = Tree::new();
    for round in 0..20 {
        tree.mount("");
        fs::write(tree.path(format!("m/{round}")), "").unwrap();
        tree.umount();
        assert!(tree.path(format!("u/{round}")).exists());
    }
    tree.until_ended();
}

#[test]
fn sigterm_unmounts_and_frees_the_upper() {
    if !able_to_mount() {
        return;
    }
    for name in ["TERM", "INT", "HUP"] {
        let tree = Tree::new();
        tree.mount("");
        fs::write(tree.path("m/new"), "new").unwrap();
        signal(tree.daemon(), name);
        tree.until_ended();
        assert_eq!(tree.mounted("m"), None);
        assert_eq!(fs::read(tree.path("u/new")).unwrap(), b"new");
        tree.mount("");
        assert_eq!(fs::read(tree.path("m/new")).unwrap(), b"new");
    }
}

#[test]
fn sigterm_lets_those_with_open_files_finish() {
    if !able_to_mount() {
        return;
    }
    let tree = Tree::new();
    tree.mount("");
    let mut file = fs::File::open(tree.path("m/one")).unwrap();
    let pid = tree.daemon();
    signal(pid, "TERM");
    until("the mount's disappearance", || tree.mounted("m").is_none());
    let mut text = String::new();
    file.read_to_string(&mut text).unwrap();
    assert_eq!((text.as_str(), tree.daemon()), ("one", pid));
    drop(file);
    tree.until_ended();
}

#[test]
fn a_second_signal_ends_it_at_once() {
    if !able_to_mount() {
        return;
    }
    let tree = Tree::new();
    tree.mount("");
    let file = fs::File::open(tree.path("m/one")).unwrap();
    let pid = tree.daemon();
    signal(pid, "TERM");
    until("the mount's disappearance", || tree.mounted("m").is_none());
    let start = Instant::now();
    signal(pid, "TERM");
    tree.until_ended();
    assert!(start.elapsed() < Duration::from_secs(3));
    drop(file);
}

/// Nothing but the process holds the lock, and what it left at the mountpoint
/// is told apart from a missing directory.
#[test]
fn after_a_killed_daemon() {
    if !able_to_mount() {
        return;
    }
    let tree = Tree::new();
    tree.mount("");
    signal(tree.daemon(), "KILL");
    tree.until_ended();
    let said = tree.capasfs(&["-o", &tree.text(FULL), &tree.text("@/m")]);
    assert_eq!(code(&said), 32);
    assert!(
        stderr(&said).contains("has lost its server; umount it first"),
        "{}",
        stderr(&said)
    );
    tree.umount();
    tree.mount("");
    assert_eq!(fs::read(tree.path("m/one")).unwrap(), b"one");
}

#[test]
fn in_the_foreground_it_stays_until_the_end() {
    if !able_to_mount() {
        return;
    }
    for end in ["INT", "umount"] {
        let tree = Tree::new();
        let options = tree.text(FULL);
        let mut child = Command::new(CAPASFS)
            .args(["-f", "-o", &options])
            .arg(tree.path("m"))
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        until("the mount", || tree.path("m/one").exists());
        assert_eq!(child.try_wait().unwrap(), None);
        match end {
            "umount" => tree.umount(),
            name => signal(child.id(), name),
        }
        let status = child.wait().unwrap();
        assert!(status.success(), "{status}");
        assert_eq!(tree.mounted("m"), None);
    }
}

#[test]
fn debug_logs_to_standard_error_and_a_file_takes_the_log() {
    if !able_to_mount() {
        return;
    }
    let tree = Tree::new();
    tree.mount(
        ",log=@/log,log_level=info"
            .replace('@', &tree.text("@"))
            .as_str(),
    );
    signal(tree.daemon(), "TERM");
    tree.until_ended();
    let log = fs::read_to_string(tree.path("log")).unwrap();
    assert!(
        log.lines()
            .any(|l| l.ends_with("info: signal 15: unmounting")),
        "{log}"
    );
    let options = tree.text(FULL);
    let out = tree.shell(&format!(
        "$capasfs -d -o {options} m & while ! test -e m/one; do sleep 0.01; done; \
         ! test -e m/none; umount m; wait $!"
    ));
    ok(&out);
    assert!(
        stderr(&out).contains("capasfs: debug: "),
        "{}",
        stderr(&out)
    );
}

#[test]
fn flags_and_names_reach_the_kernel() {
    if !able_to_mount() {
        return;
    }
    let tree = Tree::new();
    tree.mount(",ro,nosuid,nodev,noexec,noatime,fsname=a b,subtype=sub,context=\"a:b:c1,c2\"");
    let line = tree.mounted("m").unwrap();
    assert!(line.contains(" ro,nosuid,nodev,noexec,noatime "), "{line}");
    assert!(line.contains(r" - fuse.sub a\040b ro,"), "{line}");
    assert!(fs::write(tree.path("m/x"), "").is_err());
}

/// The kernel lets everybody in for `allow_root`; the rest is our doing.
#[test]
fn allow_root_keeps_others_out() {
    if !able_to_mount() {
        return;
    }
    let tree = Tree::new();
    ok(&tree.shell("chmod 755 ."));
    let nobody = "setpriv --reuid 65534 --regid 65534 --clear-groups cat m/one";
    for (option, may) in [("allow_root", false), ("allow_other", true)] {
        tree.mount(&format!(",{option}"));
        assert_eq!(fs::read(tree.path("m/one")).unwrap(), b"one");
        assert_eq!(tree.shell(nobody).status.success(), may, "{option}");
        tree.umount();
    }
}

#[test]
fn private_is_cut_off_from_propagation() {
    if !able_to_mount() {
        return;
    }
    let tree = Tree::new();
    let script = "mount --make-shared -t tmpfs t m && mkdir m/p m/s && \
        $capasfs -o lowerdir=l1,private m/p && $capasfs -o lowerdir=l1 m/s && \
        grep -E ' [^ ]*/m/[ps] ' /proc/self/mountinfo; umount m/p m/s; umount m";
    let out = ok(&tree.shell(&format!(
        "unshare -m sh -ec '{}'",
        script.replace('\'', "\"'\"")
    )));
    let lines: Vec<_> = out.lines().collect();
    assert_eq!(lines.len(), 2, "{out}");
    assert!(!lines[0].contains(" shared:"), "{out}");
    assert!(lines[1].contains(" shared:"), "{out}");
}

#[test]
fn without_an_upper_it_is_read_only_and_locks_nothing() {
    if !able_to_mount() {
        return;
    }
    let tree = Tree::new();
    tree.mount("");
    fs::create_dir(tree.path("m2")).unwrap();
    // The diff of a running container: its upper is another mount's lower.
    ok(&tree.capasfs(&["-o", "lowerdir=u:l1", "m2"]));
    assert_eq!(fs::read(tree.path("m2/one")).unwrap(), b"one");
    let error = fs::write(tree.path("m2/x"), "").unwrap_err();
    assert_eq!(error.raw_os_error(), Some(30), "EROFS");
    ok(&tree.shell("umount m2"));
}

/// `-o OPTS TARGET`, the working directory being the storage's home, with the
/// strings that podman sends.
#[test]
fn as_a_mount_program() {
    if !able_to_mount() {
        return;
    }
    let tree = Tree::new();
    fs::create_dir_all(tree.path("l")).unwrap();
    for (link, dir) in [("l/AAA", "../l1"), ("l/BBB", "../l2")] {
        std::os::unix::fs::symlink(dir, tree.path(link)).unwrap();
    }
    for more in [
        "",
        ",volatile",
        ",uidmapping=:0:100000:65536,gidmapping=:0:100000:65536",
    ] {
        let options = tree.text("lowerdir=@/l/AAA:@/l/BBB,upperdir=@/u,workdir=@/w,") + more;
        let said = tree.capasfs(&["-o", &options, &tree.text("@/m")]);
        assert_eq!((ok(&said), stderr(&said)), (String::new(), String::new()));
        assert_eq!(fs::read(tree.path("m/two")).unwrap(), b"two");
        // As the driver unmounts.
        ok(&tree.shell("fusermount3 -u m"));
        tree.until_ended();
    }
}

#[test]
fn five_hundred_layers_in_more_than_64_kib() {
    if !able_to_mount() {
        return;
    }
    let tree = Tree::new();
    let pad = "x".repeat(100);
    let layers: Vec<_> = (0..500)
        .map(|n| tree.path(format!("{pad}/{n}/diff")))
        .collect();
    for (n, layer) in layers.iter().enumerate() {
        fs::create_dir_all(layer).unwrap();
        fs::write(layer.join(format!("f{n}")), n.to_string()).unwrap();
    }
    let layers: Vec<_> = layers.iter().map(|l| l.to_str().unwrap()).collect();
    let options = format!(
        "lowerdir={},{}",
        layers.join(":"),
        tree.text("upperdir=@/u,workdir=@/w")
    );
    assert!(options.len() > 50 << 10);
    let options = options + ",comment=" + &"y".repeat(14 << 10);
    assert!(options.len() > 64 << 10, "{}", options.len());
    ok(&tree.capasfs(&["-o", &options, "m"]));
    for n in [0, 250, 499] {
        assert_eq!(
            fs::read_to_string(tree.path(format!("m/f{n}"))).unwrap(),
            n.to_string()
        );
    }
}

#[test]
fn with_few_descriptors() {
    if !able_to_mount() {
        return;
    }
    let tree = Tree::new();
    for n in 0..600 {
        fs::create_dir_all(tree.path(format!("l1/{n}/d"))).unwrap();
        fs::write(tree.path(format!("l1/{n}/d/f")), "x").unwrap();
    }
    let options = tree.text(FULL);
    ok(&tree.shell(&format!("ulimit -n 256; exec $capasfs -o {options} m")));
    let found = ok(&tree.shell("find m -name f -exec cat {} + | wc -c"));
    assert_eq!(found.trim(), "600");
}

#[test]
fn commas_colons_quotes_and_any_byte_in_paths() {
    if !able_to_mount() {
        return;
    }
    use std::os::unix::ffi::OsStrExt;
    let tree = Tree::new();
    for (name, escaped) in [
        (&b"a,b:c d"[..], &br"a\,b\:c d"[..]),
        (br"back\slash", br"back\\slash"),
        (b"quo\"te", b"quo\"te"),
        (b"\xff\xfe", b"\xff\xfe"),
    ] {
        let name = std::ffi::OsStr::from_bytes(name);
        fs::create_dir_all(tree.path(name).join("l")).unwrap();
        fs::create_dir_all(tree.path(name).join("u")).unwrap();
        fs::create_dir_all(tree.path(name).join("w")).unwrap();
        fs::write(tree.path(name).join("l/seen"), "").unwrap();
        let dir = [b"@/".as_slice(), escaped].concat();
        let dir = dir.strip_prefix(b"@/").unwrap();
        let options = [
            b"lowerdir=",
            dir,
            b"/l:l1,upperdir=",
            dir,
            b"/u,workdir=",
            dir,
            b"/w",
        ]
        .concat();
        ok(&tree.capasfs(&[
            std::ffi::OsStr::new("-o"),
            std::ffi::OsStr::from_bytes(&options),
            "m".as_ref(),
        ]));
        assert!(
            tree.path("m/seen").exists() && tree.path("m/one").exists(),
            "{name:?}"
        );
        tree.umount();
    }
}

#[test]
fn a_mountpoint_that_is_a_lower() {
    if !able_to_mount() {
        return;
    }
    let tree = Tree::new();
    fs::write(tree.path("m/below"), "below").unwrap();
    ok(&tree.capasfs(&["-o", "lowerdir=m:l1,upperdir=u,workdir=w", "m"]));
    assert_eq!(fs::read(tree.path("m/below")).unwrap(), b"below");
    assert_eq!(fs::read(tree.path("m/one")).unwrap(), b"one");
    fs::write(tree.path("m/below"), "above").unwrap();
    tree.umount();
    assert_eq!(fs::read(tree.path("m/below")).unwrap(), b"below");
}

/// As in kernel overlayfs: a layer is a directory of one file system, so the
/// root of the system can be a lower of a mount whose upper lies on a tmpfs
/// somewhere in it, and the mountpoint too.
#[test]
fn what_is_mounted_below_a_layer_is_no_part_of_it() {
    if !able_to_mount() {
        return;
    }
    let tree = Tree::new().prepared("mkdir l1/sub t");
    let out = tree.shell(
        "exec unshare -m sh -ec '\n\
         mount -t tmpfs t l1/sub; touch l1/sub/hidden; mount -t tmpfs t t; mkdir t/u t/w t/l; touch t/l/three\n\
         $capasfs -o lowerdir=.:t/l,upperdir=t/u,workdir=t/w m\n\
         cd m; find . | sort; cd ..; echo new >m/l2/two; cat t/u/l2/two; umount m'",
    );
    let want = ". ./l1 ./l1/one ./l1/sub ./l2 ./l2/two ./m ./t ./three ./u ./w";
    assert_eq!(
        ok(&out),
        want.replace(' ', "\n") + "\nnew\n",
        "{}",
        stderr(&out)
    );
}

/// Where the system's log is a socket of ours.
#[test]
fn the_system_log_takes_the_log() {
    if !able_to_mount() {
        return;
    }
    let tree = Tree::new();
    fs::create_dir(tree.path("dev")).unwrap();
    let socket = std::os::unix::net::UnixDatagram::bind(tree.path("socket")).unwrap();
    std::os::unix::fs::symlink(tree.path("socket"), tree.path("dev/log")).unwrap();
    socket
        .set_read_timeout(Some(Duration::from_secs(20)))
        .unwrap();
    ok(&tree.shell(
        "exec unshare -m sh -ec 'mount -t overlay -o lowerdir=dev:/dev overlay /dev\n\
         $capasfs -f -o lowerdir=l1:l2,log=syslog,log_level=info m & until test -e m/one; do sleep 0.01; done\n\
         kill $!; wait $!'",
    ));
    let mut buf = [0; 4096];
    let line = loop {
        let n = socket.recv(&mut buf).unwrap();
        let line = String::from_utf8_lossy(&buf[..n]).into_owned();
        if line.contains("signal") {
            break line;
        }
    };
    // Facility "daemon", severity "informational".
    assert!(line.starts_with("<30>capasfs["), "{line}");
    assert!(line.ends_with("]: signal 15: unmounting"), "{line}");
}
