//! Machines that lack something, and stores that are damaged.

use super::harness::ready;
use std::process::Stdio;

/// There, but nobody may make any.
const NO_GROUPS: &str = "for dir in /sys/fs/cgroup /sys/fs/cgroup/*/; do \
                         mount -o remount,bind,ro $dir 2>/dev/null; done";

#[test]
fn without_control_groups_it_runs_without_limits_and_says_so() {
    let Some(c) = ready() else { return };
    let run = |more: &[&str]| {
        let args = [&["run", "--rm"][..], more, &["box:1", "echo", "there"]].concat();
        c.run_where(NO_GROUPS, &args)
    };
    let (code, out, err) = run(&[]);
    assert_eq!((code, out.as_str()), (0, "there\n"), "{err}");
    assert_eq!(
        err,
        "warning: cgroups cannot be used here: the container runs without limits\n"
    );
    for (options, name) in [
        (["-m", "64m"], "--memory"),
        (["--cpus", "1"], "--cpus"),
        (["--pids-limit", "9"], "--pids-limit"),
    ] {
        let (code, out, err) = run(&options);
        assert_eq!((code, out.as_str()), (125, ""), "{err}");
        let said = format!("Error: {name} cannot be had: ");
        assert!(err.starts_with(&said) && err.lines().count() == 1, "{err}");
    }
    let (code, _, err) = run(&["--read-only"]);
    assert!(
        code == 125 && err.contains("--read-only cannot be had"),
        "{err}"
    );
    c.assert_nothing_is_left();
}

#[test]
fn without_pasta_it_is_told_what_to_install() {
    let Some(c) = ready() else { return };
    // A device is no program.
    let script = "for dir in /usr/local/sbin /usr/local/bin /usr/sbin /usr/bin /sbin /bin; do \
                  [ ! -e $dir/pasta ] || mount --bind /dev/null $dir/pasta; done";
    for options in [&["-p", "80"][..], &["--network", "private"]] {
        let args = [&["run", "--rm"][..], options, &["box:1", "true"]].concat();
        let (code, out, err) = c.run_where(script, &args);
        assert_eq!((code, out.as_str()), (125, ""), "{err}");
        assert!(
            err.contains("need pasta, which is not here: install the package passt"),
            "{err}"
        );
        assert_eq!(err.lines().count(), 1, "{err}");
    }
    c.assert_nothing_is_left();
}

/// Else there would be no way to get room again.
#[test]
fn what_fills_the_disk_can_be_removed() {
    let Some(c) = ready() else { return };
    let image = c.bench.dir.path().join("box.tar");
    c.ok(&["save", "-o", image.to_str().unwrap(), "box:1"]);
    let small = c.bench.dir.path().join("small");
    std::fs::create_dir(&small).unwrap();
    let script = format!(
        "mount -t tmpfs -o size=24m,nr_inodes=1000 none {small}
        capas() {{ {capas} --root {small} \"$@\"; }}
        capas load -q -i {image} >/dev/null
        capas run -d --name one box:1 sleep 1000 >/dev/null
        capas create --name two -v /v box:1 >/dev/null
        capas create --name three box:1 >/dev/null
        dd if=/dev/zero of={small}/fill bs=64k 2>/dev/null
        (cd {small}; seq 1000 | xargs touch 2>/dev/null)
        ! mkdir {small}/none 2>/dev/null || echo there is room
        capas rm -f one
        capas rm -v two
        capas container prune -f >/dev/null
        grep {small}/containers /proc/mounts",
        small = small.display(),
        image = image.display(),
        capas = env!("CARGO_BIN_EXE_capas"),
    );
    let args = ["--root", small.to_str().unwrap(), "ps", "-aq"];
    let (code, out, err) = c.run_where(&script, &args);
    assert_eq!((code, err.as_str()), (0, ""), "{out}");
    assert_eq!(out, "one\ntwo\n");
    c.assert_nothing_is_left();
}

#[test]
fn a_damaged_record_stops_nobody_else() {
    let Some(c) = ready() else { return };
    let id = c.ok(&["create", "--name", "bad", "box:1", "true"]);
    c.ok(&["create", "--name", "good", "box:1", "echo", "fine"]);
    let dir = c.bench.store.containers().join(id.trim_end());
    let whole = std::fs::read(dir.join("config.json")).unwrap();
    std::fs::write(dir.join("config.json"), "{").unwrap();
    let warned = |err: &str| {
        err.contains("a container is left out: ")
            && err.contains(id.trim_end())
            && err.lines().count() == 1
    };
    let (code, out, err) = c.run(&["ps", "-a", "--format", "{{.Names}}"]);
    assert_eq!((code, out.as_str()), (0, "good\n"), "{err}");
    assert!(warned(&err), "{err}");
    let (code, out, err) = c.run(&["start", "-a", "good"]);
    assert_eq!((code, out.as_str()), (0, "fine\n"), "{err}");
    assert!(warned(&err), "{err}");
    assert_eq!(c.run(&["run", "--rm", "box:1", "true"]).0, 0);
    // What it uses nobody knows, so nothing is taken from it.
    let (code, _, err) = c.run(&["rmi", "-f", "box:1"]);
    assert!(code == 1 && err.contains(id.trim_end()), "{err}");
    std::fs::write(dir.join("config.json"), whole).unwrap();
    assert_eq!(c.ok(&["ps", "-aq"]).lines().count(), 2);
    c.ok(&["rm", "bad", "good"]);
    c.assert_nothing_is_left();
}

/// Who is attached and takes nothing keeps nobody from the container.
#[test]
fn one_who_stands_still_holds_nothing() {
    let Some(c) = ready() else { return };
    c.ok(&[
        "run",
        "-d",
        "-i",
        "--name",
        "box",
        "box:1",
        "sh",
        "-c",
        "read x; seq 1 1000000",
    ]);
    let mut attached = c.command(&["attach", "box"]);
    let attached = attached
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn();
    let mut attached = attached.unwrap();
    let mut typed = attached.stdin.take().unwrap();
    std::io::Write::write_all(&mut typed, b"go\n").unwrap();
    c.until("it writes", || {
        !c.ok(&["logs", "--tail", "1", "box"]).is_empty()
    });
    capas::sys::tree::kill(attached.id(), 19).unwrap();
    // Until its own pipe, the socket and the command's pipe are full.
    let mut before = String::new();
    c.until("nothing is taken any more", || {
        std::thread::sleep(std::time::Duration::from_millis(200));
        let now = c.ok(&["logs", "--tail", "1", "box"]);
        let same = now == before;
        before = now;
        same
    });
    c.ok(&["kill", "box"]);
    assert_eq!(c.ok(&["wait", "box"]), "137\n");
    c.ok(&["rm", "box"]);
    attached.kill().unwrap();
    attached.wait().unwrap();
    c.assert_nothing_is_left();
}
