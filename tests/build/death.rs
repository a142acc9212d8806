//! Whoever dies while something is built, nothing stays behind.

use super::fixture::{Ground, ground};
use capas::sys::tree::{SIGKILL, kill};
use std::process::{Child, Stdio};

const TEXT: &str = "FROM box:1\nRUN echo kept > /kept\nRUN echo up; sleep 1000\n";

/// A build whose command runs, and the process of its monitor.
fn building(g: &Ground) -> (Child, u32) {
    g.file("Dockerfile", TEXT);
    let child = g
        .cli
        .command(&["build", "-t", "t:1", g.context.to_str().unwrap()])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let of_ours = || g.cli.processes(&["monitor", g.cli.root()]);
    g.cli.until("the command runs", || {
        of_ours().len() == 1 && commands(g) == 1
    });
    (child, of_ours()[0])
}

/// How many commands of ours there are: the runtime knows them by our ids.
fn commands(g: &Ground) -> usize {
    let ids = std::fs::read_dir(g.cli.bench.store.containers()).unwrap();
    let alive = |id: &std::fs::DirEntry| {
        let pid = std::fs::read_to_string(id.path().join("bundle/pid")).unwrap_or_default();
        let line = std::fs::read_to_string(format!("/proc/{}/cmdline", pid.trim()));
        line.is_ok_and(|l| l.replace('\0', " ").contains("sleep 1000"))
    };
    ids.flatten().filter(alive).count()
}

fn ended(child: Child) -> (Option<i32>, String) {
    let out = child.wait_with_output().unwrap();
    (out.status.code(), String::from_utf8(out.stderr).unwrap())
}

/// All goes without another `capas`.
fn goes_by_itself(g: &Ground) {
    let containers = || {
        std::fs::read_dir(g.cli.bench.store.containers())
            .unwrap()
            .count()
    };
    g.cli.until("all goes", || {
        containers() == 0 && g.cli.mounts() == 0 && g.cli.processes(&[g.cli.root()]).is_empty()
    });
}

#[test]
fn a_build_that_is_killed_or_interrupted_takes_its_command_along() {
    let Some(g) = ground() else { return };
    for signal in [SIGKILL, 2, 15] {
        let (child, _) = building(&g);
        // What it writes is synced when it becomes a layer, and not before.
        let id = std::fs::read_dir(g.cli.bench.store.containers()).unwrap();
        let id = id.flatten().next().unwrap().file_name();
        let driver = ["volatile,", id.to_str().unwrap()];
        assert_eq!(g.cli.processes(&driver).len(), 1);
        // Nobody else sees it.
        assert_eq!(g.cli.ok(&["ps", "-aq"]), "");
        kill(child.id(), signal).unwrap();
        let (code, said) = ended(child);
        match signal {
            SIGKILL => assert_eq!(code, None),
            number => {
                assert_eq!(code, Some(128 + number));
                assert!(
                    said.ends_with("\ninterrupted: what was complete before stays\n")
                        || said.ends_with("\ninterrupted: nothing was changed\n"),
                    "{said}"
                );
            }
        }
        goes_by_itself(&g);
        // Staging of a process that was killed goes when something else is made.
        g.cli.ok(&["gc"]);
        g.assert_nothing_is_left();
    }
    // What was done before is known.
    let said = g.build("t:1", &TEXT.replace("; sleep 1000", ""), &[]);
    assert_eq!(
        said.lines().filter(|l| *l == " => CACHED").count(),
        1,
        "{said}"
    );
}

#[test]
fn a_build_says_that_its_monitor_or_driver_died() {
    let Some(g) = ground() else { return };
    for target in ["monitor", "driver"] {
        let (child, monitor) = building(&g);
        let pid = match target {
            "monitor" => monitor,
            _ => {
                let id = std::fs::read_dir(g.cli.bench.store.containers()).unwrap();
                let id = id.flatten().next().unwrap().file_name();
                g.cli.processes(&["lowerdir=", id.to_str().unwrap()])[0]
            }
        };
        kill(pid, SIGKILL).unwrap();
        let (code, said) = ended(child);
        let last = said.lines().last().unwrap_or_default();
        let why = match target {
            "monitor" => "the container's monitor ended unexpectedly",
            _ => "capasfs, which serves the container's root, has ended",
        };
        assert_eq!(code, Some(1));
        assert!(last.starts_with("Error: ") && last.ends_with(why), "{said}");
        goes_by_itself(&g);
        g.assert_nothing_is_left();
    }
}

#[test]
fn what_a_killed_build_and_its_killed_monitor_leave_goes_with_the_next_capas() {
    let Some(g) = ground() else { return };
    for next in [&["ps"][..], &["system", "prune", "-f"]] {
        let (child, monitor) = building(&g);
        // So that it does not see its monitor die.
        kill(child.id(), 19).unwrap();
        kill(monitor, SIGKILL).unwrap();
        kill(child.id(), SIGKILL).unwrap();
        ended(child);
        assert_eq!(commands(&g), 1);
        g.cli.ok(next);
        assert_eq!(commands(&g), 0);
        assert_eq!(g.cli.mounts(), 0);
        assert_eq!(
            std::fs::read_dir(g.cli.bench.store.containers())
                .unwrap()
                .count(),
            0
        );
        g.cli.ok(&["gc"]);
        g.assert_nothing_is_left();
    }
}
