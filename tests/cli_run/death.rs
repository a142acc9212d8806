//! Whoever dies, states are told truthfully and nothing stays behind.

use super::harness::{Cli, ready};
use capas::sys::tree::{SIGKILL, kill};
use std::path::{Path, PathBuf};

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
    kill(driver(&c), SIGKILL).unwrap();
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
    let text = "for id; do :; done\ncase \" $* \" in *' run '*) ;; *) exit 0 ;; esac\n\
                for dir in /sys/fs/cgroup /sys/fs/cgroup/*/; do\n\
                [ -e $dir/cgroup.procs ] || continue\n\
                mkdir -p $dir/capas/$id\nlast=$dir/capas/$id\ndone\n\
                sleep 1000 </dev/null >/dev/null 2>&1 & echo $! >$last/cgroup.procs\n\
                kill -9 $$\n";
    let runtime = &c.runtime(text);
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

/// The driver of the container `box`.
fn driver(c: &Cli) -> u32 {
    let id = c.told("box", "/Id");
    let found = c.processes(&["lowerdir=", id.as_str().unwrap()]);
    assert_eq!(found.len(), 1);
    found[0]
}

#[test]
fn a_root_that_was_mounted_before_is_the_monitors_too() {
    let Some(c) = ready() else { return };
    c.ok(&["create", "--name", "box", "box:1", "sleep", "1000"]);
    let root = c.ok(&["mount", "box"]);
    let motd = std::path::Path::new(root.trim_end()).join("etc/motd");
    std::fs::write(&motd, "from outside\n").unwrap();
    // What is dead is not shown as good, and mounted again.
    kill(driver(&c), SIGKILL).unwrap();
    c.until("the mount is dead", || std::fs::read(&motd).is_err());
    assert_eq!(c.ok(&["mount"]), "");
    assert_eq!(c.ok(&["mount", "box"]), root);
    assert_eq!(std::fs::read(&motd).unwrap(), b"from outside\n");
    // Its user is told where it is in use.
    let opened = std::fs::File::open(&motd).unwrap();
    let (code, _, err) = c.run(&["start", "box"]);
    assert!(code == 1 && err.contains("cannot unmount"), "{err}");
    drop(opened);
    c.ok(&["start", "box"]);
    assert_eq!(c.ok(&["exec", "box", "cat", "/etc/motd"]), "from outside\n");
    kill(driver(&c), SIGKILL).unwrap();
    c.until("it has ended", || c.ok(&["ps", "-q"]).is_empty());
    c.ok(&["rm", "box"]);
    c.assert_nothing_is_left();
}

#[test]
fn a_runtime_that_dies_while_it_cleans_up_is_asked_again() {
    let Some(c) = ready() else { return };
    let dies =
        "case \" $* \" in *\" delete \"*) [ -e $0.died ] || { >$0.died; kill -9 $$; };; esac";
    let runtime = &c.runtime(dies);
    c.run(&[
        "--runtime",
        runtime,
        "run",
        "--name",
        "box",
        "box:1",
        "true",
    ]);
    assert!(Path::new(&format!("{runtime}.died")).exists());
    c.ok(&["rm", "box"]);
    c.assert_nothing_is_left();
}

/// As if the way had been changed behind the check, by a runtime that lets
/// itself be led.
#[test]
fn a_command_that_works_outside_is_ended() {
    let Some(c) = ready() else { return };
    let seconds = "73125";
    let text = format!(
        "for word; do case $word in run|exec) [ -e \"$0.$word\" ] || continue\n\
         (cd /; exec sleep {seconds}) </dev/null >/dev/null 2>&1 & echo $! >pid\nexit 0 ;; esac; done"
    );
    let runtime = &c.runtime(&text);
    let misled = |word: &str| format!("{runtime}.{word}");
    let refused = |args: &[&str], expected: i32| {
        let (code, _, err) = c.run(args);
        assert_eq!(code, expected, "{args:?}: {err}");
        assert!(err.contains("leads out of the container"), "{err}");
        c.until("it was ended", || {
            c.processes(&["sleep", seconds]).is_empty()
        });
    };
    let run = ["--runtime", runtime, "run", "--rm", "box:1", "true"];
    c.ok(&run);
    std::fs::write(misled("run"), "").unwrap();
    refused(&run, 125);
    c.assert_nothing_is_left();
    std::fs::remove_file(misled("run")).unwrap();
    let args = ["run", "-d", "--name", "box", "box:1", "sleep", "1000"];
    c.ok(&[&["--runtime", runtime][..], &args].concat());
    c.ok(&["exec", "box", "true"]);
    std::fs::write(misled("exec"), "").unwrap();
    refused(&["exec", "box", "true"], 1);
    refused(&["exec", "-d", "box", "true"], 1);
    c.ok(&["rm", "-f", "box"]);
    c.assert_nothing_is_left();
}

/// Where it is said that a container stands still, and what is said there then.
fn freezers(id: &str) -> impl Iterator<Item = (PathBuf, &'static str)> {
    let all = [
        (format!("freezer/capas/{id}/freezer.state"), "FROZEN"),
        (format!("capas/{id}/cgroup.freeze"), "1"),
    ];
    let all = all.map(|(path, word)| (Path::new("/sys/fs/cgroup").join(path), word));
    all.into_iter().filter(|(path, _)| path.exists())
}

/// Neither the monitor nor whoever wanted it to stand still is there to let it
/// go on.
#[test]
fn one_that_was_paused_by_two_who_died_goes_on() {
    let Some(c) = ready() else { return };
    if !capas::container::cgroup::usable().unwrap() {
        eprintln!("SKIPPED: control groups cannot be used here");
        return;
    }
    let script = "dd if=/dev/zero of=/big bs=1M seek=400 count=0; \
                  while :; do echo x >> /lines; sleep 0.01; done";
    c.ok(&["run", "-d", "--name", "box", "box:1", "sh", "-c", script]);
    let id = c.told("box", "/Id").as_str().unwrap().to_owned();
    let lines = c.bench.store.containers().join(&id).join("upper/lines");
    let count = || std::fs::metadata(&lines).map_or(0, |m| m.len());
    let goes_on = || {
        let seen = count();
        c.until("it goes on", || count() > seen);
    };
    let frozen = || {
        freezers(&id).any(|(path, word)| {
            std::fs::read_to_string(path).is_ok_and(|text| text.trim_end() == word)
        })
    };
    goes_on();
    let monitor = c.monitor("box");
    let mut commit = c.command(&["commit", "box"]).spawn().unwrap();
    // It is told so once the monitor has done it, and begins to read then.
    let files = format!("/proc/{}/fd", commit.id());
    let reads = || {
        let all = std::fs::read_dir(&files).unwrap().flatten();
        let mut all = all.filter_map(|e| std::fs::read_link(e.path()).ok());
        all.any(|file| file.ends_with("upper/big"))
    };
    c.until("it stands still", || frozen() && reads());
    kill(monitor, SIGKILL).unwrap();
    c.until("the monitor is gone", || {
        c.processes(&["monitor", c.root()]).is_empty()
    });
    // Whoever looks now does not disturb the commit.
    assert!(c.ok(&["ps"]).contains("Up "));
    assert!(frozen() && commit.try_wait().unwrap().is_none());
    commit.kill().unwrap();
    commit.wait().unwrap();
    assert!(frozen());
    assert!(c.ok(&["ps"]).contains("Up "));
    assert!(!frozen());
    goes_on();
    c.ok(&["rm", "-f", "box"]);
    c.assert_nothing_is_left();
}

/// As a runtime that is killed while it pauses or resumes leaves it.
#[test]
fn one_that_was_left_standing_still_ends() {
    let Some(c) = ready() else { return };
    if !capas::container::cgroup::usable().unwrap() {
        eprintln!("SKIPPED: control groups cannot be used here");
        return;
    }
    for end in [&["rm", "-f", "box"][..], &["stop", "-t", "0", "box"]] {
        running(&c, &[]);
        let id = c.told("box", "/Id");
        let id = id.as_str().unwrap();
        assert!(freezers(id).any(|(path, word)| std::fs::write(path, word).is_ok()));
        c.ok(end);
        c.run(&["rm", "box"]);
        c.assert_nothing_is_left();
    }
}
