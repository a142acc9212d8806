//! `cp` and `export`.

use super::harness::{Cli, ready};
use std::fs;
use std::io::{Read, Write};
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// A container `one`, and a directory here with a file, a directory and links.
fn scene(c: &Cli, running: bool) -> PathBuf {
    let script = "mkdir -p /d/sub; echo in >/d/sub/f; echo top >/top; chmod 640 /top; ln -s /d /to-d; ln -s /../../../../etc/passwd /evil; exec sleep 1000";
    let script = script.replace("; ln -s", "; busybox ln -s");
    c.ok(&[
        "run", "-d", "--name", "one", "-v", "/vol", "box:1", "busybox", "sh", "-c", &script,
    ]);
    let made = || c.run(&["exec", "one", "busybox", "readlink", "/evil"]).0 == 0;
    c.until("the files are there", made);
    if !running {
        c.ok(&["stop", "-t", "0", "one"]);
    }
    let here = c.bench.dir.path().join("here");
    fs::create_dir_all(here.join("d/in")).unwrap();
    fs::write(here.join("d/in/f"), "here").unwrap();
    fs::write(here.join("file"), "file").unwrap();
    std::os::unix::fs::chown(here.join("file"), Some(12), Some(13)).unwrap();
    fs::set_permissions(here.join("file"), fs::Permissions::from_mode(0o4711)).unwrap();
    symlink("file", here.join("link")).unwrap();
    here
}

fn cp(c: &Cli, here: &Path, args: &[&str]) -> (i32, String) {
    let mut command = c.command(&[&["cp"], args].concat());
    let out = command.current_dir(here).output().unwrap();
    let err = String::from_utf8(out.stderr).unwrap();
    (out.status.code().unwrap(), err)
}

/// `FILE CONTENT` of all files below, and of links where they lead.
fn tree(dir: &Path) -> Vec<String> {
    let mut out = Vec::new();
    let mut todo = vec![dir.to_owned()];
    while let Some(at) = todo.pop() {
        let meta = fs::symlink_metadata(&at).unwrap();
        let name = at.strip_prefix(dir).unwrap().display().to_string();
        if meta.is_dir() {
            todo.extend(fs::read_dir(&at).unwrap().map(|e| e.unwrap().path()));
        } else if meta.is_symlink() {
            out.push(format!(
                "{name} -> {}",
                fs::read_link(&at).unwrap().display()
            ));
        } else {
            out.push(format!(
                "{name} {}",
                fs::read_to_string(&at).unwrap().trim_end()
            ));
        }
    }
    out.sort();
    out
}

fn names_are_dockers(running: bool) {
    let Some(c) = ready() else { return };
    let here = scene(&c, running);
    let out = here.join("out");
    let fresh = || {
        let _ = fs::remove_dir_all(&out);
        fs::create_dir(&out).unwrap();
    };
    // From the container: source, target, what is there then.
    for (from, to, wanted) in [
        ("one:/top", "out/new", &["new top"][..]),
        ("one:top", "out", &["top top"]),
        ("one:/top", "out/", &["top top"]),
        ("one:/d", "out", &["d/sub/f in"]),
        ("one:/d/", "out", &["d/sub/f in"]),
        ("one:/d/.", "out", &["sub/f in"]),
        ("one:/d", "out/new", &["new/sub/f in"]),
        ("one:/d/.", "out/new", &["new/sub/f in"]),
        ("one:/to-d", "out", &["to-d -> /d"]),
        ("one:/to-d/sub/f", "out", &["f in"]),
        ("one:/to-d/", "out", &["to-d/sub/f in"]),
        ("one:/evil", "out", &["evil -> /../../../../etc/passwd"]),
        ("one:/evil/../d/../top", "out", &["top top"]),
    ] {
        fresh();
        assert_eq!(
            cp(&c, &here, &[from, to]),
            (0, String::new()),
            "{from} {to}"
        );
        assert_eq!(tree(&out), wanted, "{from} {to}");
    }
    fresh();
    assert_eq!(cp(&c, &here, &["-L", "one:/to-d", "out"]).0, 0);
    assert_eq!(tree(&out), ["to-d/sub/f in"]);
    // The container's links stay in it: this is its own passwd.
    assert_eq!(cp(&c, &here, &["-L", "one:/evil", "out/passwd"]).0, 0);
    assert!(
        fs::read_to_string(out.join("passwd"))
            .unwrap()
            .contains("web:x:33")
    );
    // What is there already is replaced, and what is beside it stays.
    fresh();
    fs::create_dir_all(out.join("d/sub")).unwrap();
    fs::write(out.join("d/sub/f"), "old").unwrap();
    fs::write(out.join("d/sub/g"), "stays").unwrap();
    assert_eq!(cp(&c, &here, &["one:/d", "out"]).0, 0);
    assert_eq!(tree(&out), ["d/sub/f in", "d/sub/g stays"]);

    // To the container, and back to see it.
    for (from, to, look, wanted) in [
        ("file", "one:/new", "/new", &["x file"][..]),
        ("file", "one:/d", "/d/file", &["x file"]),
        ("file", "one:/to-d/second", "/d/second", &["x file"]),
        ("link", "one:/d/l", "/d/l", &["x -> file"]),
        ("d", "one:/d", "/d/d", &["x/in/f here"]),
        ("d/.", "one:/fresh", "/fresh", &["x/in/f here"]),
        ("./d/.", "one:/d/sub/", "/d/sub", &["x/f in", "x/in/f here"]),
        ("file", "one:/vol/v", "/vol/v", &["x file"]),
        ("file", "one:/evil", "/etc/passwd", &["x file"]),
    ] {
        assert_eq!(
            cp(&c, &here, &[from, to]),
            (0, String::new()),
            "{from} {to}"
        );
        fresh();
        let back = format!("one:{look}");
        assert_eq!(
            cp(&c, &here, &[&back, "out/x"]),
            (0, String::new()),
            "{from} {to}"
        );
        assert_eq!(tree(&out), wanted, "{from} {to}");
    }
    assert!(fs::read_to_string("/etc/passwd").unwrap().contains("root:"));
    // Refused, and nothing changed.
    fresh();
    for (args, why) in [
        (
            &["one:/none", "out"][..],
            "Could not find the file /none in container one",
        ),
        (
            &["one:/d/none/x", "out"],
            "Could not find the file /d/none/x in container one",
        ),
        (&["one:/top/", "out"], "/top: not a directory"),
        (&["one:/top", "none/new"], "invalid output path: directory"),
        (&["one:/top", "out/none/"], "out/none: no such directory"),
        (&["one:/d", "file"], "cannot copy directory"),
        (
            &["one:/top", "/dev/null"],
            "\"/dev/null\" must be a directory or a regular file",
        ),
        (&["none", "one:/x"], "no such file or directory"),
        (
            &["file", "one:/none/x"],
            "Could not find the file /none in container one",
        ),
        (&["file", "one:/none/"], "/none: no such directory"),
        (&["d", "one:/top"], "/top: cannot copy directory"),
        (&["file", "two:/x"], "No such container: two"),
        (
            &["one:/a", "one:/b"],
            "copying between containers is not supported",
        ),
        (&["a", "b"], "must specify at least one container source"),
    ] {
        let (code, err) = cp(&c, &here, args);
        assert!(code == 1 && err.contains(why), "{args:?}: {err}");
    }
    assert_eq!(tree(&out), Vec::<String>::new());
    assert_eq!(fs::metadata("/dev/null").unwrap().rdev(), 0x103);
    assert_eq!(c.mounts(), usize::from(running));
    c.ok(&["rm", "-f", "one"]);
    c.assert_nothing_is_left();
}

#[test]
fn names_are_dockers_with_a_stopped_container() {
    names_are_dockers(false);
}

#[test]
fn names_are_dockers_with_a_running_container() {
    names_are_dockers(true);
}

#[test]
fn several_copy_from_a_stopped_container_at_once() {
    let Some(c) = ready() else { return };
    let here = scene(&c, false);
    let copy = |n: usize| cp(&c, &here, &["one:/d", &format!("copy{n}")]);
    std::thread::scope(|scope| {
        let all: Vec<_> = (0..6).map(|n| scope.spawn(move || copy(n))).collect();
        for one in all {
            assert_eq!(one.join().unwrap(), (0, String::new()));
        }
    });
    assert_eq!(c.mounts(), 0);
    // What was mounted before stays so.
    c.ok(&["mount", "one"]);
    assert_eq!(copy(7), (0, String::new()));
    assert_eq!(c.mounts(), 1);
    c.ok(&["umount", "one"]);
    c.ok(&["rm", "one"]);
}

#[test]
fn owners_are_kept_where_that_is_asked_for() {
    let Some(c) = ready() else { return };
    let here = scene(&c, true);
    let owner = |path: &str| c.ok(&["exec", "one", "stat", "-c", "%u:%g %a", path]);
    cp(&c, &here, &["file", "one:/plain"]);
    cp(&c, &here, &["-a", "file", "one:/kept"]);
    assert_eq!(owner("/plain"), "0:0 4711\n");
    assert_eq!(owner("/kept"), "12:13 4711\n");
    cp(&c, &here, &["-a", "one:/kept", "back"]);
    cp(&c, &here, &["one:/kept", "ours"]);
    let owner = |name: &str| fs::metadata(here.join(name)).unwrap().uid();
    assert_eq!((owner("back"), owner("ours")), (12, 0));
    // What a container's user made gets no rights of root on the machine.
    let mode = |name: &str| fs::metadata(here.join(name)).unwrap().mode() & 0o7777;
    assert_eq!((mode("back"), mode("ours")), (0o4711, 0o711));
    c.ok(&[
        "exec", "one", "busybox", "mknod", "-m", "666", "/disk", "b", "7", "0",
    ]);
    for more in [&[][..], &["-a"]] {
        let (code, said) = cp(&c, &here, &[more, &["one:/disk", "disk"]].concat());
        assert_eq!(code, 1, "{said}");
        assert!(
            said.contains("devices are not copied out of containers"),
            "{said}"
        );
        assert!(!here.join("disk").exists());
    }
    c.ok(&["rm", "-f", "one"]);
}

#[test]
fn archives_go_through_standard_streams() {
    let Some(c) = ready() else { return };
    let here = scene(&c, true);
    let out = c.command(&["cp", "one:/d", "-"]).output().unwrap();
    assert!(out.status.success());
    let list = |tar: &[u8]| {
        let mut child = Command::new("tar")
            .arg("t")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        child.stdin.take().unwrap().write_all(tar).unwrap();
        String::from_utf8(child.wait_with_output().unwrap().stdout).unwrap()
    };
    assert_eq!(list(&out.stdout), "d/\nd/sub/\nd/sub/f\n");
    let send = |to: &str, tar: &[u8]| {
        let mut child = c
            .command(&["cp", "-", to])
            .stdin(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let _ = child.stdin.take().unwrap().write_all(tar);
        let out = child.wait_with_output().unwrap();
        (out.status.code(), String::from_utf8(out.stderr).unwrap())
    };
    assert_eq!(send("one:/tmp", &out.stdout), (Some(0), String::new()));
    assert_eq!(c.ok(&["exec", "one", "cat", "/tmp/d/sub/f"]), "in\n");
    let (code, err) = send("one:/top", &out.stdout);
    assert!(
        code == Some(1) && err.contains("destination \"one:/top\" must be a directory"),
        "{err}"
    );
    let (code, err) = send(
        "one:/tmp",
        b"this is no archive, whatever else it is......................."
            .repeat(20)
            .as_slice(),
    );
    assert!(code == Some(1) && err.contains("bad tar archive"), "{err}");
    // A link that an archive brings leads nowhere outside.
    let tar = Command::new("sh")
        .args([
            "-c",
            "ln -s ../../../../../../../../.. up; tar c up --transform=s,up,l, ; ",
        ])
        .current_dir(&here)
        .output()
        .unwrap();
    assert_eq!(send("one:/tmp", &tar.stdout).0, Some(0));
    let tar = Command::new("tar")
        .args(["c", "--transform=s,file,l/planted,", "file"])
        .current_dir(&here)
        .output()
        .unwrap();
    assert_eq!(send("one:/tmp", &tar.stdout).0, Some(0));
    assert_eq!(c.ok(&["exec", "one", "cat", "/planted"]), "file");
    assert!(!Path::new("/planted").exists());
    c.ok(&["rm", "-f", "one"]);
}

#[test]
fn a_root_that_is_not_written_is_not_copied_to() {
    let Some(c) = ready() else { return };
    c.ok(&[
        "create",
        "--name",
        "one",
        "--read-only",
        "-v",
        "/vol",
        "box:1",
        "true",
    ]);
    let here = c.bench.dir.path().to_owned();
    fs::write(here.join("file"), "x").unwrap();
    let (code, err) = cp(&c, &here, &["file", "one:/x"]);
    assert_eq!(
        (code, err.as_str()),
        (1, "Error: container rootfs is marked read-only\n")
    );
    assert_eq!(cp(&c, &here, &["file", "one:/vol"]), (0, String::new()));
    c.ok(&["rm", "one"]);
}

#[test]
fn an_export_is_the_whole_root() {
    let Some(c) = ready() else { return };
    c.ok(&[
        "run",
        "--name",
        "one",
        "-v",
        "/vol",
        "box:1",
        "sh",
        "-c",
        "echo 1 >/new; echo 2 >/vol/not; rm /etc/passwd",
    ]);
    let file = c.bench.dir.path().join("root.tar");
    c.ok(&["export", "-o", file.to_str().unwrap(), "one"]);
    let piped = c.command(&["export", "one"]).output().unwrap();
    assert_eq!(fs::read(&file).unwrap(), piped.stdout);
    assert_eq!(c.mounts(), 0);
    c.ok(&[
        "import",
        "-c",
        "CMD cat /new /etc/motd",
        file.to_str().unwrap(),
        "flat:1",
    ]);
    assert_eq!(c.ok(&["run", "--rm", "flat:1"]), "1\nupper\n");
    c.ok(&["create", "--name", "two", "flat:1"]);
    let diff = c.ok(&["diff", "two"]);
    assert_eq!(diff, "");
    let (code, _, err) = c.run(&["export", "none"]);
    assert_eq!(
        (code, err.as_str()),
        (1, "Error: No such container: none\n")
    );
    c.ok(&["rm", "one", "two"]);
    c.assert_nothing_is_left();
}

#[test]
fn an_export_that_is_killed_leaves_no_mount() {
    let Some(c) = ready() else { return };
    let id = c.ok(&["create", "--name", "one", "box:1"]);
    let mut export = c.command(&["export", "one"]);
    let mut export = export.stdout(Stdio::piped()).spawn().unwrap();
    // The rest does not fit into the pipe.
    let mut stream = export.stdout.take().unwrap();
    stream.read_exact(&mut [0]).unwrap();
    assert!(!c.processes(&["lowerdir=", id.trim_end()]).is_empty());
    export.kill().unwrap();
    export.wait().unwrap();
    assert_eq!(c.mounts(), 0);
    c.until("its driver has ended", || {
        c.processes(&["lowerdir=", id.trim_end()]).is_empty()
    });
    c.ok(&["rm", "one"]);
    c.assert_nothing_is_left();
}

#[test]
fn a_mount_whose_driver_died_is_none() {
    let Some(c) = ready() else { return };
    let id = c.ok(&["create", "--name", "one", "box:1"]);
    let mount_and_kill = || {
        let point = c.ok(&["mount", "one"]);
        let motd = Path::new(point.trim_end()).join("etc/motd");
        for driver in c.processes(&["lowerdir=", id.trim_end()]) {
            capas::sys::tree::kill(driver, capas::sys::tree::SIGKILL).unwrap();
        }
        c.until("the mount is dead", || fs::read(&motd).is_err());
    };
    mount_and_kill();
    let here = c.bench.dir.path().to_owned();
    assert_eq!(
        cp(&c, &here, &["one:/etc/motd", "motd"]),
        (0, String::new())
    );
    assert_eq!(fs::read(here.join("motd")).unwrap(), b"upper\n");
    assert_eq!(c.mounts(), 0);
    mount_and_kill();
    c.ok(&["commit", "one", "new:1"]);
    c.ok(&["rm", "one"]);
    c.assert_nothing_is_left();
}
