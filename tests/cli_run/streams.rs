//! What containers write and read.

use super::harness::ready;
use capas::sys::tree::kill;
use std::io::{Read, Write};
use std::process::Stdio;

#[test]
fn input_and_output_pass_whole() {
    let Some(c) = ready() else { return };
    let data: Vec<u8> = (0..3_000_000u32).flat_map(u32::to_le_bytes).collect();
    let mut child = c.command(&["run", "--rm", "-i", "box:1", "cat"]);
    let mut child = child
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut input = child.stdin.take().unwrap();
    let sent = data.clone();
    let writer = std::thread::spawn(move || input.write_all(&sent));
    let mut got = Vec::new();
    // Slowly at first: the command has to wait, and nothing is lost.
    std::thread::sleep(std::time::Duration::from_millis(300));
    child.stdout.take().unwrap().read_to_end(&mut got).unwrap();
    writer.join().unwrap().unwrap();
    assert!(got == data, "{} of {} bytes", got.len(), data.len());
    assert_eq!(child.wait().unwrap().code(), Some(0));
    // Without -i there is no input.
    assert_eq!(c.ok(&["run", "--rm", "box:1", "cat"]), "");
    c.assert_nothing_is_left();
}

#[test]
fn logs_are_kept_and_chosen_from() {
    let Some(c) = ready() else { return };
    let script = "echo one; sleep 0.2; echo err >&2; sleep 0.2; echo two; printf three";
    c.ok(&["run", "-d", "--name", "log", "box:1", "sh", "-c", script]);
    c.ok(&["wait", "log"]);
    let (code, out, err) = c.run(&["logs", "log"]);
    assert_eq!(
        (code, out.as_str(), err.as_str()),
        (0, "one\ntwo\nthree", "err\n")
    );
    // Where they go to one place, in their order.
    assert_eq!(c.seen(&["logs", "log"]), "one\nerr\ntwo\nthree");
    assert_eq!(c.ok(&["logs", "--tail", "2", "log"]), "two\nthree");
    assert_eq!(c.ok(&["logs", "--tail", "0", "log"]), "");
    assert_eq!(c.run(&["logs", "--tail", "-1", "log"]).1, out);
    assert_eq!(c.ok(&["logs", "-n", "1", "--since", "1h", "log"]), "three");
    assert_eq!(c.ok(&["logs", "--since", "2199-01-01", "log"]), "");
    assert_eq!(c.ok(&["logs", "--until", "2000-01-01", "log"]), "");
    let stamped = c.ok(&["logs", "-t", "--tail", "1", "log"]);
    let (time, text) = stamped.split_once(' ').unwrap();
    assert_eq!(
        (time.len(), text),
        ("2024-05-01T10:00:00.000000000Z".len(), "three")
    );
    // A line's own time is where it begins, and those of the same second before
    // are none of it.
    assert_eq!(c.ok(&["logs", "--since", time, "log"]), "three");
    assert_eq!(c.run(&["logs", "--until", time, "log"]).1, out);
    let stamped = c.run(&["logs", "-t", "log"]).1;
    let first = stamped.split(' ').next().unwrap();
    assert_eq!(c.run(&["logs", "--until", first, "log"]).1, "one\n");
    // Docker's own shape on the disk.
    let file = c.told("log", "/LogPath");
    let text = std::fs::read_to_string(file.as_str().unwrap()).unwrap();
    let first: serde_json::Value = serde_json::from_str(text.lines().next().unwrap()).unwrap();
    assert_eq!(
        (&first["log"], &first["stream"]),
        (&"one\n".into(), &"stdout".into())
    );
    for bad in [
        &["logs", "--tail", "x", "log"][..],
        &["logs", "--since", "soon", "log"],
        &["logs", "none"],
    ] {
        assert_eq!(c.run(bad).0, 1, "{bad:?}");
    }
}

#[test]
fn logs_are_followed_to_the_end() {
    let Some(c) = ready() else { return };
    let script = "for i in 1 2 3 4 5; do echo $i; sleep 0.2; done";
    c.ok(&["run", "-d", "--name", "log", "box:1", "sh", "-c", script]);
    assert_eq!(c.ok(&["logs", "-f", "log"]), "1\n2\n3\n4\n5\n");
    assert_eq!(c.ok(&["logs", "-f", "log"]), "1\n2\n3\n4\n5\n");
}

#[test]
fn several_attach_to_one() {
    let Some(c) = ready() else { return };
    c.ok(&[
        "run",
        "-d",
        "-i",
        "--name",
        "talk",
        "box:1",
        "sh",
        "-c",
        "while read x; do echo got $x; done; exit 6",
    ]);
    let attach = |more: &[&str]| {
        let args = [&["attach"][..], more, &["talk"]].concat();
        let mut command = c.command(&args);
        command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap()
    };
    let mut seeing = attach(&["--no-stdin"]);
    let mut typing = attach(&[]);
    let (send, seen) = std::sync::mpsc::channel();
    for stream in [seeing.stdout.take(), typing.stdout.take()] {
        let send = send.clone();
        std::thread::spawn(move || {
            let mut first = [0; 6];
            let mut stream = stream.unwrap();
            stream.read_exact(&mut first).unwrap();
            send.send(first).unwrap();
            stream.read_to_end(&mut Vec::new()).unwrap();
        });
    }
    let mut both = Vec::new();
    c.until("both see it", || {
        let _ = typing.stdin.as_mut().unwrap().write_all(b"a\n");
        both.extend(seen.try_iter());
        both.len() == 2
    });
    assert_eq!(both, [*b"got a\n"; 2]);
    // One who leaves does not end it, as it was made detached.
    drop(typing.stdin.take());
    std::thread::sleep(std::time::Duration::from_millis(300));
    assert!(c.ok(&["ps"]).contains("Up "));
    c.ok(&["kill", "talk"]);
    assert_eq!(typing.wait().unwrap().code(), Some(137));
    assert_eq!(seeing.wait().unwrap().code(), Some(137));
    let (code, _, err) = c.run(&["attach", "talk"]);
    assert!(
        code == 1 && err.contains("cannot attach to a stopped container"),
        "{err}"
    );
}

#[test]
fn start_attaches_too() {
    let Some(c) = ready() else { return };
    let (code, ..) = c.run(&[
        "run",
        "-i",
        "--name",
        "again",
        "box:1",
        "sh",
        "-c",
        "cat; echo end; exit 5",
    ]);
    assert_eq!(code, 5);
    let mut child = c.command(&["start", "-ai", "again"]);
    let mut child = child
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(b"typed\n").unwrap();
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.stdout, b"typed\nend\n");
    assert_eq!(output.status.code(), Some(5));
}

/// What was made for somebody who types ends when they have; what was made
/// detached does not.
#[test]
fn input_ends_where_it_was_made_for_one() {
    let Some(c) = ready() else { return };
    c.ok(&["create", "-i", "--name", "made", "box:1", "cat"]);
    for _ in 0..2 {
        let mut child = c.command(&["start", "-ai", "made"]);
        let mut child = child
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        child.stdin.take().unwrap().write_all(b"typed\n").unwrap();
        c.until("it has ended", || child.try_wait().unwrap().is_some());
        let output = child.wait_with_output().unwrap();
        assert_eq!(output.stdout, b"typed\n");
        assert_eq!(output.status.code(), Some(0));
    }
    c.ok(&["rm", "made"]);
    c.assert_nothing_is_left();
}

/// As docker does.
#[test]
fn start_attaches_to_one_that_runs_already() {
    let Some(c) = ready() else { return };
    let script = "while read x; do echo got $x; done; exit 6";
    c.ok(&[
        "create", "-i", "--name", "talk", "box:1", "sh", "-c", script,
    ]);
    c.ok(&["start", "talk"]);
    let mut child = c.command(&["start", "-ai", "talk"]);
    let mut child = child
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(b"it\n").unwrap();
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.stdout, b"got it\n");
    assert_eq!(output.status.code(), Some(6));
    c.ok(&["rm", "talk"]);
    c.assert_nothing_is_left();
}

/// As other programs in a pipe: `run … | head`.
#[test]
fn who_reads_no_more_is_told_nothing() {
    let Some(c) = ready() else { return };
    let script = "while :; do echo x; sleep 0.1; done";
    c.ok(&["run", "-d", "--name", "box", "box:1", "sh", "-c", script]);
    for args in [
        &["attach", "box"][..],
        &["run", "--name", "two", "box:1", "sh", "-c", script],
    ] {
        let mut command = c.command(args);
        let command = command.stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let mut out = child.stdout.take().unwrap();
        out.read_exact(&mut [0; 2]).unwrap();
        drop(out);
        let output = child.wait_with_output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(
            (output.status.code(), &*said),
            (Some(128 + 13), ""),
            "{args:?}"
        );
    }
    // They go on.
    assert_eq!(c.ok(&["ps", "-q"]).lines().count(), 2);
    c.ok(&["rm", "-f", "box", "two"]);
    c.assert_nothing_is_left();
}

#[test]
fn a_signal_that_is_not_handed_on_ends_only_who_looks() {
    let Some(c) = ready() else { return };
    let script = "trap 'exit 5' TERM; echo up; while :; do sleep 0.1; done";
    let mut run = c.command(&[
        "run",
        "--sig-proxy=false",
        "--name",
        "box",
        "box:1",
        "sh",
        "-c",
        script,
    ]);
    let mut run = run.stdout(Stdio::piped()).spawn().unwrap();
    run.stdout
        .as_mut()
        .unwrap()
        .read_exact(&mut [0; 3])
        .unwrap();
    kill(run.id(), 15).unwrap();
    assert_eq!(run.wait().unwrap().code(), Some(128 + 15));
    assert!(c.ok(&["ps"]).contains("Up "));
    let attach = |more: &[&str]| {
        let child = c
            .command(&[&["attach"], more, &["box"]].concat())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        // It holds its signals once it is connected.
        let status = format!("/proc/{}/status", child.id());
        c.until("it holds signals", || {
            let text = std::fs::read_to_string(&status).unwrap();
            let blocked = text.lines().find_map(|l| l.strip_prefix("SigBlk:\t"));
            u64::from_str_radix(blocked.unwrap(), 16).unwrap() & (1 << (15 - 1)) != 0
        });
        kill(child.id(), 15).unwrap();
        child
    };
    let mut aside = attach(&["--sig-proxy=false"]);
    assert_eq!(aside.wait().unwrap().code(), Some(128 + 15));
    assert!(c.ok(&["ps"]).contains("Up "));
    assert_eq!(attach(&[]).wait().unwrap().code(), Some(5));
    c.ok(&["rm", "box"]);
    c.assert_nothing_is_left();
}
