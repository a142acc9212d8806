//! Whoever dies, states are told truthfully and nothing stays behind.

use super::harness::{Cli, ready};
use capas::sys::tree::{SIGKILL, kill};
use std::os::unix::fs::PermissionsExt;

fn running(c: &Cli, more: &[&str]) -> (u32, u32) {
    let args = [
        &["run", "-d", "--name", "box"][..],
        more,
        &["box:1", "sleep", "1000"],
    ]
    .concat();
    c.ok(&args);
    (c.monitor("box"), c.pid("box"))
}

#[test]
fn a_container_without_its_monitor_is_told_truthfully() {
    let Some(c) = ready() else { return };
    let (monitor, pid) = running(&c, &[]);
    kill(monitor, SIGKILL).unwrap();
    c.until("the monitor is gone", || {
        c.processes(&["monitor", c.root()]).is_empty()
    });
    // It still runs, and is told so; its streams are lost.
    assert!(c.ok(&["ps"]).contains("Up "));
    assert_eq!(c.pid("box"), pid);
    assert_eq!(c.ok(&["exec", "box", "echo", "there"]), "there\n");
    let (code, _, err) = c.run(&["attach", "box"]);
    assert!(
        code == 1 && err.contains("monitor of container box has died"),
        "{err}"
    );
    assert_eq!(c.run(&["rm", "box"]).0, 1);
    kill(pid, SIGKILL).unwrap();
    assert_eq!(c.ok(&["wait", "box"]), "255\n");
    assert!(c.ok(&["ps", "-a"]).contains("Exited (255)"));
    assert_eq!(c.mounts(), 0);
    // It can be started again as any other.
    c.ok(&["start", "box"]);
    assert!(c.ok(&["ps"]).contains("Up "));
    c.ok(&["rm", "-f", "box"]);
    c.assert_nothing_is_left();
}

#[test]
fn a_container_without_its_monitor_is_stopped_and_removed() {
    let Some(c) = ready() else { return };
    for more in [&[][..], &["--rm"]] {
        let (monitor, _) = running(&c, more);
        kill(monitor, SIGKILL).unwrap();
        c.ok(&["stop", "-t", "0", "box"]);
        let told = c.ok(&["ps", "-a", "--format", "{{.Status}}"]);
        match more {
            [] => assert!(told.starts_with("Exited (255)"), "{told}"),
            _ => assert_eq!(told, ""),
        }
        assert_eq!(c.mounts(), 0);
        c.run(&["rm", "-f", "box"]);
        c.assert_nothing_is_left();
    }
}

#[test]
fn a_container_whose_monitor_and_command_die_is_cleaned_up_by_the_next() {
    let Some(c) = ready() else { return };
    let (monitor, pid) = running(&c, &["--rm"]);
    kill(monitor, SIGKILL).unwrap();
    kill(pid, SIGKILL).unwrap();
    c.until("it is gone", || c.ok(&["ps", "-aq"]).is_empty());
    c.assert_nothing_is_left();
}

#[test]
fn a_container_ends_with_its_driver() {
    let Some(c) = ready() else { return };
    running(&c, &[]);
    let id = c.told("box", "/Id");
    let driver = c.processes(&["lowerdir=", id.as_str().unwrap()]);
    assert_eq!(driver.len(), 1);
    kill(driver[0], SIGKILL).unwrap();
    c.until("it has ended", || c.ok(&["ps", "-q"]).is_empty());
    assert!(c.ok(&["ps", "-a"]).contains("Exited (137)"));
    let why = c.told("box", "/State/Error");
    assert!(why.as_str().unwrap().contains("capasfs"), "{why}");
    assert_eq!(c.mounts(), 0);
    c.ok(&["start", "box"]);
    c.ok(&["rm", "-f", "box"]);
    c.assert_nothing_is_left();
}

/// It makes the groups before it writes down that there is a container.
#[test]
fn a_runtime_that_dies_leaves_no_control_groups() {
    let Some(c) = ready() else { return };
    if !capas::container::cgroup::usable().unwrap() {
        eprintln!("SKIPPED: control groups cannot be used here");
        return;
    }
    // In one of them is what it has started so far.
    let text = "#!/bin/sh\nfor id; do :; done\ncase \" $* \" in *' run '*) ;; *) exit 0 ;; esac\n\
                for dir in /sys/fs/cgroup /sys/fs/cgroup/*/; do\n\
                [ -e $dir/cgroup.procs ] || continue\n\
                mkdir -p $dir/capas/$id\nlast=$dir/capas/$id\ndone\n\
                sleep 1000 </dev/null >/dev/null 2>&1 & echo $! >$last/cgroup.procs\n\
                kill -9 $$\n";
    let runtime = c.bench.dir.path().join("dying-runtime");
    std::fs::write(&runtime, text).unwrap();
    std::fs::set_permissions(&runtime, std::fs::Permissions::from_mode(0o755)).unwrap();
    let runtime = runtime.to_str().unwrap();
    let (code, _, err) = c.run(&[
        "--runtime",
        runtime,
        "run",
        "--name",
        "box",
        "box:1",
        "true",
    ]);
    assert!(code == 125 && err.contains("the runtime ended"), "{err}");
    c.ok(&["rm", "box"]);
    c.assert_nothing_is_left();
}

#[test]
fn a_monitor_that_is_asked_to_end_stops_its_container() {
    let Some(c) = ready() else { return };
    let script = "trap 'exit 4' TERM; echo up; while :; do sleep 0.1; done";
    c.ok(&["run", "-d", "--name", "box", "box:1", "sh", "-c", script]);
    c.until("it is up", || c.ok(&["logs", "box"]) == "up\n");
    kill(c.monitor("box"), 15).unwrap();
    assert_eq!(c.ok(&["wait", "box"]), "4\n");
}
