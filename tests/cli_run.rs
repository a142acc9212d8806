//! Containers that are mounted by capasfs and run by a real runtime.
//!
//! These need root, runc, a static busybox and capasfs itself.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stderr,
    dead_code,
    missing_docs
)]

#[path = "cli_run/bad_input.rs"]
mod bad_input;
#[path = "cli_run/campaign.rs"]
mod campaign;
#[path = "cli_run/death.rs"]
mod death;
#[path = "cli_run/exec.rs"]
mod exec;
#[path = "cli_run/harness.rs"]
mod harness;
#[path = "cli_run/hostile.rs"]
mod hostile;
#[path = "cli_run/lacking.rs"]
mod lacking;
#[path = "cli_run/lifecycle.rs"]
mod lifecycle;
#[path = "cli_run/options.rs"]
mod options;
#[path = "cli_run/story.rs"]
mod story;
#[path = "cli_run/streams.rs"]
mod streams;
#[path = "store/support.rs"]
mod support;
#[path = "cli_run/terminal.rs"]
mod terminal;
#[path = "cli_run/volumes.rs"]
mod volumes;

use harness::ready;
use std::path::Path;
use std::time::{Duration, Instant};

#[test]
fn a_container_is_mounted_changed_and_unmounted() {
    let Some(c) = ready() else { return };
    c.ok(&["create", "--name", "one", "box:1"]);
    let point = c.ok(&["mount", "one"]);
    let point = Path::new(point.trim_end());
    assert_eq!(c.ok(&["mount", "one"]).trim_end(), point.to_str().unwrap());
    assert_eq!(
        std::fs::read_to_string(point.join("etc/motd")).unwrap(),
        "upper\n"
    );
    assert!(!point.join("etc/gone").exists());
    std::fs::write(point.join("file.txt"), "00000000000000000\n").unwrap();
    std::fs::remove_file(point.join("etc/passwd")).unwrap();
    assert!(c.ok(&["mount"]).contains(point.to_str().unwrap()));
    assert_eq!(c.ok(&["umount", "one"]), "one\n");
    assert_eq!(c.mounts(), 0);
    assert!(c.ok(&["ps", "-as"]).contains("18B (virtual"));
    let point2 = c.ok(&["mount", "one"]);
    assert_eq!(Path::new(point2.trim_end()), point);
    assert!(!point.join("etc/passwd").exists() && point.join("file.txt").exists());
    c.ok(&["rm", "one"]);
    assert_eq!(c.mounts(), 0);
}

#[test]
fn run_gives_the_commands_output_and_exit_code() {
    let Some(c) = ready() else { return };
    let (code, out, err) = c.run(&[
        "run",
        "--name",
        "rr",
        "box:1",
        "sh",
        "-c",
        "echo out; echo err >&2; exit 7",
    ]);
    assert_eq!((code, out.as_str(), err.as_str()), (7, "out\n", "err\n"));
    assert!(c.ok(&["ps", "-a"]).contains("Exited (7)"));
    assert_eq!(c.mounts(), 0);
    assert_eq!(c.ok(&["rm", "rr"]), "rr\n");
    let out = c.ok(&[
        "run",
        "--rm",
        "-u",
        "web",
        "-e",
        "X=y",
        "-w",
        "/var/www",
        "box:1",
        "sh",
        "-c",
        "id; pwd; env",
    ]);
    for line in [
        "uid=33(web) gid=33(web) groups=33(web),44(extra)",
        "/var/www",
        "X=y",
        "HOME=/var/www",
    ] {
        assert!(out.lines().any(|l| l == line), "{line} not in {out}");
    }
    assert_eq!(
        c.ok(&[
            "run",
            "--rm",
            "--entrypoint",
            "/bin/echo",
            "box:1",
            "-n",
            "-x"
        ]),
        "-x"
    );
    // What comes after the image is the command's, whatever it is.
    let echo = ["run", "--rm", "--entrypoint", "echo", "box:1"];
    for (args, said) in [
        (&["--", "-n", "x"][..], "-- -n x\n"),
        (&["-e", "--rm", "--name", "x"], "--rm --name x\n"),
        (&["-it", "--help"], "-it --help\n"),
    ] {
        assert_eq!(c.ok(&[&echo[..], args].concat()), said);
    }
    assert_eq!(c.ok(&["ps", "-aq"]), "");
    for network in ["none", "host"] {
        let out = c.ok(&[
            "run",
            "--rm",
            "--network",
            network,
            "box:1",
            "cat",
            "/proc/net/dev",
            "/etc/hosts",
        ]);
        assert!(out.contains("lo:") && out.contains("localhost"), "{out}");
    }
    // In the machine's network it is called as that is.
    let own = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap();
    let run = |more: &[&str]| {
        let all = [
            &["run", "--rm", "--network", "host"][..],
            more,
            &["box:1", "hostname"],
        ];
        c.ok(&all.concat())
    };
    assert_eq!(run(&[]), own);
    assert_eq!(run(&["-h", "tower"]), "tower\n");
}

#[test]
fn what_cannot_start_has_dockers_exit_codes() {
    let Some(c) = ready() else { return };
    for (args, code) in [
        (&["nosuch"][..], 127),
        (&["/no/such"], 127),
        (&["/etc/motd"], 126),
        (&["/etc"], 126),
        (&["sh", "-c", "exit 3"], 3),
        (&["sh", "-c", "nosuch"], 127),
    ] {
        let all = [&["run", "--rm", "box:1"][..], args].concat();
        assert_eq!(c.run(&all).0, code, "{args:?}");
    }
    let (code, _, err) = c.run(&["run", "--rm", "-u", "nobody", "box:1", "true"]);
    assert_eq!(code, 125);
    assert_eq!(
        err,
        "Error: unable to find user nobody: no matching entries in passwd file\n"
    );
    assert_eq!(
        c.run(&["--runtime", "nosuch", "run", "--rm", "box:1", "true"])
            .0,
        125
    );
    // What could not start is removed all the same where that was asked.
    assert_eq!(c.ok(&["ps", "-aq"]), "");
    assert_eq!(c.mounts(), 0);
}

#[test]
fn a_running_container_is_guarded() {
    let Some(c) = ready() else { return };
    let mut child = c.spawn(&["run", "--name", "rr", "box:1", "sleep", "1000"]);
    let (code, _, err) = c.run(&["rm", "rr"]);
    assert!(code == 1 && err.contains("container is running"), "{err}");
    let id = c.ok(&["images", "-q"]);
    let (code, _, err) = c.run(&["rmi", "-f", id.trim_end()]);
    assert!(
        code == 1 && err.contains("cannot be forced) - image is being used by running container"),
        "{err}"
    );
    assert_eq!(c.run(&["umount", "rr"]).0, 1);
    c.ok(&["rm", "-f", "rr"]);
    assert_eq!(child.wait().unwrap().code(), Some(137));
    assert_eq!((c.ok(&["ps", "-aq"]).as_str(), c.mounts()), ("", 0));
}

#[test]
fn signals_reach_the_command() {
    let Some(c) = ready() else { return };
    let script = "trap 'exit 5' TERM; while :; do sleep 0.1; done";
    let mut child = c.spawn(&["run", "--name", "rr", "box:1", "sh", "-c", script]);
    // The shell needs a moment to set its trap.
    std::thread::sleep(Duration::from_millis(500));
    capas::sys::tree::kill(child.id(), 15).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(5));
    assert!(c.ok(&["ps", "-a"]).contains("Exited (5)"));
}

#[test]
fn a_killed_capas_leaves_a_container_that_is_told_truthfully() {
    let Some(c) = ready() else { return };
    let mut child = c.spawn(&["run", "--name", "rr", "box:1", "sleep", "1000"]);
    capas::sys::tree::kill(child.id(), capas::sys::tree::SIGKILL).unwrap();
    child.wait().unwrap();
    // The container and its monitor live on.
    assert!(c.ok(&["ps"]).contains("Up "));
    assert_eq!(c.run(&["rm", "rr"]).0, 1);
    let pid = c.pid("rr");
    capas::sys::tree::kill(pid, capas::sys::tree::SIGKILL).unwrap();
    let begun = Instant::now();
    while c.ok(&["ps"]).contains("Up ") {
        assert!(begun.elapsed() < Duration::from_secs(10));
        std::thread::sleep(Duration::from_millis(20));
    }
    assert!(c.ok(&["ps", "-a"]).contains("Exited (137)"));
    c.ok(&["rm", "rr"]);
    c.assert_nothing_is_left();
}

/// crun wants one hierarchy of version 2, which not every machine has: here it
/// gets one in a mount namespace of its own.
#[test]
fn crun_runs_a_container_too() {
    let Some(cli) = ready() else { return };
    if !Path::new("/usr/bin/crun").exists() {
        assert!(
            std::env::var("CI").as_deref() != Ok("true"),
            "this test needs crun"
        );
        eprintln!("SKIPPED: this test needs crun");
        return;
    }
    let script = "umount -R /sys/fs/cgroup 2>/dev/null; mount -t cgroup2 none /sys/fs/cgroup";
    let run = |args: &[&str]| cli.run_where(script, args);
    let script = "cat /etc/motd; echo new >/new; exit 7";
    let crun = [
        "run",
        "--name",
        "crun-one",
        "--runtime",
        "crun",
        "box:1",
        "sh",
        "-c",
        script,
    ];
    assert_eq!(run(&crun), (7, "upper\n".into(), String::new()));
    let listed = cli.ok(&["ps", "-a"]);
    assert!(listed.contains("Exited (7)"), "{listed}");
    let (code, _, said) = run(&["run", "--rm", "--runtime", "crun", "box:1", "/none"]);
    assert_eq!(code, 127, "{said}");
}
