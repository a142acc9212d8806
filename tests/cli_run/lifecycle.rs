//! A container from its start to its end, by the commands that people know.

use super::harness::ready;
use std::process::Stdio;
use std::time::Instant;

#[test]
fn a_detached_container_is_started_stopped_and_started_again() {
    let Some(c) = ready() else { return };
    let script = "trap 'echo bye; exit 3' TERM; echo up; while :; do sleep 0.1; done";
    let id = c.ok(&["run", "-d", "--name", "web", "box:1", "sh", "-c", script]);
    assert_eq!(id.trim_end().len(), 64);
    c.until("it is up", || c.ok(&["logs", "web"]) == "up\n");
    assert!(c.ok(&["ps"]).contains("Up "));
    assert_eq!(c.ok(&["stop", "web"]), "web\n");
    assert!(c.ok(&["ps", "-a"]).contains("Exited (3)"));
    assert_eq!(c.mounts(), 0);
    assert_eq!(c.ok(&["stop", "web"]), "web\n");
    assert_eq!(c.ok(&["logs", "web"]), "up\nbye\n");
    assert_eq!(c.ok(&["start", "web"]), "web\n");
    assert_eq!(c.ok(&["start", "web"]), "web\n");
    c.until("it is up again", || {
        c.ok(&["logs", "web"]) == "up\nbye\nup\n"
    });
    assert_eq!(c.ok(&["restart", "web"]), "web\n");
    assert!(c.ok(&["ps"]).contains("Up "));
    assert_eq!(c.told("web", "/State/Running"), true);
    // What scripts ask docker for, though there is not much of it here.
    let address = "{{.RestartCount}}{{.HostConfig.RestartPolicy.Name}}{{range .NetworkSettings.Networks}}[{{.IPAddress}}]{{end}}{{.NetworkSettings.IPAddress}}";
    assert_eq!(c.ok(&["inspect", "-f", address, "web"]), "0no[]\n");
    c.ok(&["kill", "-s", "SIGKILL", "web"]);
    assert!(c.ok(&["ps", "-a"]).contains("Exited (137)"));
    let (code, _, err) = c.run(&["kill", "web"]);
    assert!(code == 1 && err.contains("is not running"), "{err}");
    c.ok(&["rename", "web", "web2"]);
    assert_eq!(c.run(&["logs", "web"]).0, 1);
    c.ok(&["rm", "web2"]);
    c.assert_nothing_is_left();
}

#[test]
fn one_that_does_not_listen_is_killed_in_time() {
    let Some(c) = ready() else { return };
    c.ok(&["run", "-d", "--name", "deaf", "box:1", "sleep", "1000"]);
    let begun = Instant::now();
    c.ok(&["stop", "-t", "0", "deaf"]);
    assert!(begun.elapsed().as_secs() < 9, "it waited for ten seconds");
    assert!(c.ok(&["ps", "-a"]).contains("Exited (137)"));
    c.ok(&["start", "deaf"]);
    c.ok(&["rm", "-f", "deaf"]);
    c.assert_nothing_is_left();
}

#[test]
fn the_end_is_waited_for() {
    let Some(c) = ready() else { return };
    c.ok(&[
        "run",
        "-d",
        "--name",
        "job",
        "box:1",
        "sh",
        "-c",
        "sleep 1; exit 9",
    ]);
    let gone = c.ok(&["run", "-d", "--rm", "box:1", "sh", "-c", "sleep 1; exit 8"]);
    let waiting = c.command(&["wait", gone.trim_end()]);
    let waiting = { waiting }.stdout(Stdio::piped()).spawn().unwrap();
    assert_eq!(c.ok(&["wait", "job"]), "9\n");
    assert_eq!(c.ok(&["wait", "job"]), "9\n");
    // What is said of several comes in their order.
    let seen = c.seen(&["wait", "job", "none", "job"]);
    assert_eq!(seen, "9\nError: No such container: none\n9\n");
    let output = waiting.wait_with_output().unwrap();
    assert_eq!(output.stdout, b"8\n");
    c.ok(&["rm", "job"]);
    c.assert_nothing_is_left();
}

#[test]
fn names_are_unique_and_change() {
    let Some(c) = ready() else { return };
    c.ok(&["create", "--name", "one", "box:1", "true"]);
    c.ok(&["create", "--name", "two", "box:1", "true"]);
    for args in [
        &["create", "--name", "one", "box:1"][..],
        &["run", "--name", "one", "box:1"],
        &["rename", "two", "one"],
    ] {
        let (code, _, err) = c.run(args);
        let wanted = "Conflict. The container name \"/one\" is already in use by container";
        assert!(code != 0 && err.contains(wanted), "{err}");
    }
    assert_eq!(c.ok(&["rename", "two", "three"]), "");
    assert_eq!(c.run(&["rename", "three", "-x"]).0, 1);
    assert_eq!(c.ok(&["rm", "one", "three"]), "one\nthree\n");
    c.assert_nothing_is_left();
}

#[test]
fn ps_shows_what_is_asked_for() {
    let Some(c) = ready() else { return };
    c.ok(&[
        "create",
        "--name",
        "made",
        "--label",
        "k=v",
        "--label",
        "org.some-key=a,b=c",
        "box:1",
        "true",
    ]);
    c.ok(&["run", "--name", "done", "box:1", "true"]);
    c.run(&["run", "--name", "failed", "box:1", "sh", "-c", "exit 4"]);
    c.ok(&["run", "-d", "--name", "runs", "box:1", "sleep", "1000"]);
    let names = |args: &[&str]| {
        let all = [&["ps", "--format", "{{.Names}}"][..], args].concat();
        c.ok(&all)
            .split_whitespace()
            .map(str::to_owned)
            .collect::<Vec<_>>()
    };
    assert_eq!(names(&[]), ["runs"]);
    assert_eq!(names(&["-a"]), ["runs", "failed", "done", "made"]);
    assert_eq!(names(&["-n", "2"]), ["runs", "failed"]);
    assert_eq!(names(&["-n", "-1"]), ["runs"]);
    assert_eq!(names(&["-l"]), ["runs"]);
    for (filter, wanted) in [
        ("status=exited", &["failed", "done"][..]),
        ("status=created", &["made"]),
        ("exited=4", &["failed"]),
        ("name=one", &["done"]),
        ("name=^/?runs$", &["runs"]),
        ("name=^/made", &["made"]),
        ("name=^(made|done)$", &["done", "made"]),
        ("name=^un", &[]),
        ("status=dead", &[]),
        ("label=k=v", &["made"]),
        ("before=done", &["made"]),
        ("since=done", &["runs", "failed"]),
        ("ancestor=box:1", &["runs", "failed", "done", "made"]),
        ("network=host", &[]),
        ("network=none", &["runs", "failed", "done", "made"]),
        ("network=bridge", &[]),
    ] {
        assert_eq!(names(&["-a", "--filter", filter]), wanted, "{filter}");
    }
    let two = ["-f", "status=created", "-f", "status=paused"];
    assert_eq!(names(&two), ["made"]);
    for bad in [
        "status=odd",
        "colour=red",
        "exited=x",
        "since=none",
        "name=[",
        "publish=x",
        "expose=9-8",
    ] {
        assert_eq!(c.run(&["ps", "--filter", bad]).0, 1, "{bad}");
    }
    // A label by its key, above which docker writes the end of that.
    let columns =
        r#"table {{.Names}}\t{{.Label "k"}}\t{{.Label "none"}}\t{{$.Label "org.some-key"}}"#;
    let shown = c.ok(&["ps", "-f", "status=created", "--format", columns]);
    let table = "NAMES     k         none      some key\nmade      v                   a,b=c\n";
    assert_eq!(shown, table);
    let json = r#"{{json .Labels}} {{.Label "k" | upper}}"#;
    let shown = c.ok(&["ps", "-f", "name=made", "-a", "--format", json]);
    assert_eq!(shown, "\"k=v,org.some-key=a,b=c\" V\n");
    let whole = c.ok(&["ps", "--no-trunc", "--format", "{{.ID}} {{.Command}}"]);
    let id = c.told("runs", "/Id");
    assert_eq!(whole, format!("{} \"sleep 1000\"\n", id.as_str().unwrap()));
    let json: serde_json::Value = serde_json::from_str(&c.ok(&["ps", "--format", "json"])).unwrap();
    assert_eq!(json["State"], "running");
    // An image's are those of images made on it too, whether these have more
    // layers or only more to say.
    c.ok(&["commit", "-c", "LABEL a=b", "done", "label:1"]);
    c.ok(&["run", "--name", "writes", "label:1", "touch", "/new"]);
    c.ok(&["commit", "writes", "layer:1"]);
    c.ok(&["create", "--name", "last", "layer:1"]);
    c.ok(&["commit", "-c", "EXPOSE 80 53/udp", "last", "ports:1"]);
    c.ok(&["create", "--name", "ports", "ports:1"]);
    for (filter, fits) in [
        ("expose=80", true),
        ("expose=79-81/tcp", true),
        ("expose=80/udp", false),
        ("expose=50-60/udp", true),
        ("expose=81-90", false),
        ("publish=80", false),
    ] {
        assert_eq!(
            names(&["-a", "-f", filter]).len(),
            usize::from(fits),
            "{filter}"
        );
    }
    c.ok(&["rm", "ports"]);
    for (image, wanted) in [
        (
            "box:1",
            &["last", "writes", "runs", "failed", "done", "made"][..],
        ),
        ("label:1", &["last", "writes"]),
        ("layer:1", &["last"]),
        ("none:1", &[]),
    ] {
        let filter = format!("ancestor={image}");
        assert_eq!(names(&["-a", "-f", &filter]), wanted, "{filter}");
    }
}

#[test]
fn a_prune_goes_on_where_one_cannot_be_removed() {
    let Some(c) = ready() else { return };
    let ids: Vec<String> = ["one", "two", "three"]
        .iter()
        .map(|name| c.ok(&["create", "--name", name, "box:1"]))
        .collect();
    let point = c.ok(&["mount", "two"]);
    let used = std::fs::File::open(point.trim_end()).unwrap();
    let (code, out, err) = c.run(&["container", "prune", "-f"]);
    assert_eq!(code, 1);
    assert!(
        err.starts_with("Error: cannot unmount container two: "),
        "{err}"
    );
    let gone = format!("Deleted Containers:\n{}{}\n", ids[2], ids[0]);
    assert_eq!(out, gone);
    assert_eq!(c.ok(&["ps", "-aq", "--no-trunc"]), ids[1]);
    drop(used);
    let out = c.ok(&["container", "prune", "-f"]);
    assert!(
        out.starts_with(&format!("Deleted Containers:\n{}", ids[1])),
        "{out}"
    );
    c.assert_nothing_is_left();
}

/// It has ended before anybody could look at its process.
#[test]
fn the_end_of_a_short_command_is_waited_for() {
    let Some(c) = ready() else { return };
    let slow = "PATH=$PATH:/usr/sbin:/usr/local/sbin runc \"$@\"\n\
                code=$?\nsleep 0.4\nexit $code";
    let runtime = &c.runtime(slow);
    let args = ["run", "-d", "--name", "box", "box:1", "sh", "-c", "exit 7"];
    c.ok(&[&["--runtime", runtime][..], &args].concat());
    assert!(c.ok(&["ps", "-a"]).contains("Up "));
    assert_eq!(c.ok(&["wait", "box"]), "7\n");
    assert_eq!(c.mounts(), 0);
    c.ok(&["rm", "box"]);
    c.assert_nothing_is_left();
}

/// Whoever removes it: its monitor when it ends, or who asks for it by force.
#[test]
fn one_that_goes_when_it_ends_is_removed_by_force_too() {
    let Some(c) = ready() else { return };
    for n in 0..4 {
        c.ok(&[
            "run", "-d", "--rm", "--name", "box", "box:1", "sleep", "1000",
        ]);
        let end = match n % 2 {
            0 => &["rm", "-f", "box"][..],
            _ => &["stop", "-t", "0", "box"],
        };
        let said = c.run(end);
        assert_eq!(said, (0, "box\n".into(), String::new()), "{end:?}");
        c.assert_nothing_is_left();
    }
    // Started again it is the same, and goes at its end all the same.
    let script = "[ ! -e /first ] || echo again; echo x > /first; exec sleep 1000";
    let args = [
        "run", "-d", "--rm", "--name", "box", "box:1", "sh", "-c", script,
    ];
    let id = c.ok(&args);
    c.until("it has begun", || c.ok(&["diff", "box"]).contains("/first"));
    assert_eq!(c.ok(&["restart", "-t", "0", "box"]), "box\n");
    c.until("it is up again", || c.ok(&["logs", "box"]) == "again\n");
    assert_eq!(c.told("box", "/Id"), id.trim_end());
    c.ok(&["stop", "-t", "0", "box"]);
    c.assert_nothing_is_left();
}

#[test]
fn another_signal_asks_it_to_end() {
    let Some(c) = ready() else { return };
    let script = "trap 'exit 6' USR1; echo up; while :; do sleep 0.1; done";
    c.ok(&["run", "-d", "--name", "box", "box:1", "sh", "-c", script]);
    c.until("it is up", || c.ok(&["logs", "box"]) == "up\n");
    // However long it takes.
    c.ok(&["stop", "-t", "-1", "-s", "USR1", "box"]);
    assert_eq!(c.ok(&["wait", "box"]), "6\n");
    let (code, _, err) = c.run(&["stop", "-s", "ODD", "box"]);
    assert_eq!((code, err.as_str()), (1, "Error: invalid signal: ODD\n"));
    c.ok(&["rm", "box"]);
}

/// Not one after the other: who does not listen keeps no other one waiting.
#[test]
fn several_are_asked_to_end_at_once() {
    let Some(c) = ready() else { return };
    for name in ["deaf", "good"] {
        let script = "[ $0 = deaf ] || trap 'exit 3' TERM; echo up; while :; do sleep 0.1; done";
        c.ok(&[
            "run", "-d", "--name", name, "box:1", "sh", "-c", script, name,
        ]);
        c.until("it is up", || c.ok(&["logs", name]) == "up\n");
    }
    let stop = c
        .command(&["stop", "-t", "1000", "deaf", "none", "good"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    c.until("the other has ended", || {
        let told = c.ok(&["ps", "-a", "-f", "name=good", "--format", "{{.Status}}"]);
        told.starts_with("Exited (3)")
    });
    assert!(c.ok(&["ps"]).contains("deaf"));
    c.ok(&["kill", "deaf"]);
    let out = stop.wait_with_output().unwrap();
    assert_eq!(out.stdout, b"deaf\ngood\n");
    assert_eq!(out.stderr, b"Error: No such container: none\n");
    assert_eq!(out.status.code(), Some(1));
    c.ok(&["rm", "deaf", "good"]);
    c.assert_nothing_is_left();
}

/// What is started can be asked to end, also at once: the signal is the command's.
#[test]
fn what_is_started_is_the_command() {
    let Some(c) = ready() else { return };
    // The last step of a start takes its time.
    let slow = "PATH=$PATH:/usr/sbin:/usr/local/sbin\n\
                all=\"$*\"; case $all in *' run '*) ;; *) exec runc \"$@\";; esac\n\
                id=${all##* }; first=${all%% run *}; last=${all#* run --detach}\n\
                runc $first create $last || exit\n\
                (sleep 0.7; exec runc $first start $id) </dev/null >/dev/null 2>&1 &\n\
                exit 0";
    let runtime = &c.runtime(slow);
    let args = ["run", "-d", "--name", "box", "box:1", "sleep", "1000"];
    c.ok(&[&["--runtime", runtime][..], &args].concat());
    c.ok(&["kill", "-s", "TERM", "box"]);
    // The first process of a container takes no signal that it does not handle.
    std::thread::sleep(std::time::Duration::from_secs(1));
    assert!(c.ok(&["ps"]).contains("Up "), "{}", c.ok(&["ps", "-a"]));
    c.ok(&["rm", "-f", "box"]);
    c.assert_nothing_is_left();
}

/// As one after the other: who comes later finds that it runs.
#[test]
fn several_start_one() {
    let Some(c) = ready() else { return };
    let runtime = &c.runtime("case \"$*\" in *' run '*) sleep 0.5;; esac");
    c.ok(&["create", "--name", "box", "box:1", "sleep", "1000"]);
    let start = || {
        let mut command = c.command(&["--runtime", runtime, "start", "box"]);
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        command.spawn().unwrap()
    };
    let all = [start(), start(), start()];
    for child in all {
        let out = child.wait_with_output().unwrap();
        assert_eq!(String::from_utf8_lossy(&out.stderr), "");
        assert_eq!(out.stdout, b"box\n");
    }
    assert_eq!(c.ok(&["ps", "-q"]).lines().count(), 1);
    c.ok(&["rm", "-f", "box"]);
    c.assert_nothing_is_left();
}
