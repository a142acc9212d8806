//! One more command in a container.

use super::harness::ready;
use std::io::Write;
use std::process::Stdio;

#[test]
fn commands_are_run_in_a_container_that_runs() {
    let Some(c) = ready() else { return };
    c.ok(&[
        "run", "-d", "--name", "box", "-e", "A=1", "box:1", "sleep", "1000",
    ]);
    let (code, out, err) = c.run(&[
        "exec",
        "box",
        "sh",
        "-c",
        "echo $A; pwd; echo e >&2; exit 6",
    ]);
    assert_eq!((code, out.as_str(), err.as_str()), (6, "1\n/\n", "e\n"));
    let script = "id -u; pwd; echo $A$B";
    let all = [
        "exec", "-u", "web", "-w", "/var/www", "-e", "A=2", "-e", "B=3", "box", "sh", "-c", script,
    ];
    assert_eq!(c.ok(&all), "33\n/var/www\n23\n");
    let file = c.bench.write("env", b"A=file\nB=file\n");
    let file = file.to_str().unwrap();
    let all = [
        "exec",
        "--env-file",
        file,
        "-e",
        "B=3",
        "box",
        "sh",
        "-c",
        "echo $A$B",
    ];
    assert_eq!(c.ok(&all), "file3\n");
    let mut child = c.command(&["exec", "-i", "box", "cat"]);
    let mut child = child
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(b"in\n").unwrap();
    assert_eq!(child.wait_with_output().unwrap().stdout, b"in\n");
    assert_eq!(c.ok(&["exec", "-t", "box", "tty"]), "/dev/pts/0\r\n");
    assert_eq!(
        c.ok(&[
            "exec",
            "-d",
            "box",
            "sh",
            "-c",
            "echo x > /made; sleep 1000"
        ]),
        ""
    );
    c.until("it is made", || {
        c.run(&["exec", "box", "cat", "/made"]).1 == "x\n"
    });
    // Its terminal stays though nobody looks at it, and takes what is written.
    let script = "sleep 1; seq 9999; tty > /later; sleep 1000";
    c.ok(&["exec", "-d", "-t", "box", "sh", "-c", script]);
    c.until("it went on", || {
        c.run(&["exec", "box", "cat", "/later"]).1 == "/dev/pts/0\n"
    });
    let id = c.told("box", "/Id");
    let keepers = || c.processes(&["keep-terminal", id.as_str().unwrap()]);
    assert_eq!(keepers().len(), 1);
    for (args, code, why) in [
        (&["nosuch"][..], 127, "executable file not found"),
        (&["/etc/motd"], 126, "permission denied"),
        (&["sh", "-c", "kill -9 $$"], 137, ""),
    ] {
        for more in [&[][..], &["-t"], &["-d"]] {
            let all = [&["exec"], more, &["box"], args].concat();
            let (got, _, err) = c.run(&all);
            if why.is_empty() && more == ["-d"] {
                continue;
            }
            assert_eq!(got, code, "{all:?}");
            // Said once, by whoever can.
            let lines = usize::from(!why.is_empty());
            let said = err.lines().count() == lines && err.contains(why);
            assert!(said, "{all:?}: {err}");
        }
    }
    // What the runtime says of its own is told once, too.
    let (code, out, err) = c.run(&["exec", "-w", "/none", "box", "true"]);
    assert_eq!(
        (code, out.as_str(), err.lines().count()),
        (1, "", 1),
        "{err}"
    );
    assert!(err.contains("/none"), "{err}");
    for args in [
        &["exec", "-u", "nobody", "box", "true"][..],
        &["exec", "-w", "/proc/self/fd/5", "box", "true"],
        &["exec", "-it", "box", "true"],
        &["exec", "none", "true"],
    ] {
        let (code, _, err) = c.run(args);
        assert!(
            code == 1 && err.starts_with("Error: "),
            "{args:?}: {code} {err}"
        );
    }
    // What runs beside it ends with it.
    let id = id.as_str().unwrap().to_owned();
    c.ok(&["rm", "-f", "box"]);
    c.until("nobody keeps a terminal", || {
        c.processes(&["keep-terminal", &id]).is_empty()
    });
    c.assert_nothing_is_left();
    let (code, _, err) = c.run(&["exec", "box", "true"]);
    assert!(code == 1 && err.contains("No such container"), "{err}");
}

#[test]
fn a_stopped_container_runs_nothing() {
    let Some(c) = ready() else { return };
    c.ok(&["run", "--name", "box", "box:1", "true"]);
    let (code, _, err) = c.run(&["exec", "box", "true"]);
    assert!(
        code == 1 && err.contains("container box is not running"),
        "{err}"
    );
}

#[test]
fn signals_reach_it() {
    let Some(c) = ready() else { return };
    c.ok(&["run", "-d", "--name", "box", "box:1", "sleep", "1000"]);
    let script = "trap 'exit 5' TERM; echo up > /up; while :; do sleep 0.1; done";
    let mut child = c
        .command(&["exec", "box", "sh", "-c", script])
        .spawn()
        .unwrap();
    c.until("it is up", || {
        c.run(&["exec", "box", "cat", "/up"]).1 == "up\n"
    });
    capas::sys::tree::kill(child.id(), 15).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(5));
}
