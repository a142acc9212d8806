//! Volumes: named, anonymous, the image's; they outlive containers.

use super::harness::{Cli, ready};
use std::path::PathBuf;

fn data(c: &Cli, name: &str) -> PathBuf {
    c.ok(&["volume", "inspect", "-f", "{{.Mountpoint}}", name])
        .trim_end()
        .into()
}

fn names(c: &Cli) -> Vec<String> {
    let all = c.ok(&["volume", "ls", "-q"]);
    all.lines().map(str::to_owned).collect()
}

#[test]
fn a_named_volume_is_shared_and_stays() {
    let Some(c) = ready() else { return };
    assert_eq!(
        c.ok(&["volume", "create", "--label", "k=v", "data"]),
        "data\n"
    );
    assert_eq!(c.ok(&["volume", "create", "data"]), "data\n");
    c.ok(&[
        "run",
        "--rm",
        "-v",
        "data:/d",
        "box:1",
        "sh",
        "-c",
        "echo 1 >/d/f",
    ]);
    assert_eq!(
        c.ok(&["run", "--rm", "-v", "data:/e:ro", "box:1", "cat", "/e/f"]),
        "1\n"
    );
    let (code, ..) = c.run(&["run", "--rm", "-v", "data:/e:ro", "box:1", "touch", "/e/g"]);
    assert_ne!(code, 0);
    assert_eq!(std::fs::read(data(&c, "data").join("f")).unwrap(), b"1\n");
    assert_eq!(
        c.ok(&["volume", "ls"]),
        "DRIVER    VOLUME NAME\nlocal     data\n"
    );
    let all: serde_json::Value =
        serde_json::from_str(&c.ok(&["volume", "inspect", "data"])).unwrap();
    assert_eq!(
        (&all[0]["Labels"]["k"], &all[0]["Driver"]),
        (&"v".into(), &"local".into())
    );

    let id = c.ok(&[
        "create", "--name", "one", "-v", "data:/d", "-v", "other:/o", "box:1", "true",
    ]);
    let (code, _, err) = c.run(&["volume", "rm", "data"]);
    let wanted = format!(
        "Error: remove data: volume is in use - [{}]\n",
        id.trim_end()
    );
    assert_eq!((code, err), (1, wanted));
    assert_eq!(c.told("one", "/Mounts/0/Name"), "data");
    assert_eq!(
        c.told("one", "/HostConfig/Binds"),
        serde_json::json!(["data:/d", "other:/o"])
    );
    assert_eq!(c.ok(&["ps", "-aq", "--filter", "volume=data"]).len(), 13);
    assert_eq!(
        c.ok(&["volume", "prune", "-af"]),
        "Total reclaimed space: 0B\n"
    );
    c.ok(&["rm", "-v", "one"]);
    assert_eq!(names(&c), ["data", "other"]);
    assert_eq!(c.ok(&["volume", "ls", "-q", "-f", "label=k"]), "data\n");
    assert_eq!(
        c.ok(&[
            "volume",
            "ls",
            "-q",
            "-f",
            "dangling=true",
            "-f",
            "name=the"
        ]),
        "other\n"
    );
    assert_eq!(
        c.ok(&["volume", "prune", "-f"]),
        "Total reclaimed space: 0B\n"
    );
    assert_eq!(c.ok(&["volume", "rm", "other"]), "other\n");
    let pruned = c.ok(&["volume", "prune", "-a", "-f"]);
    assert!(
        pruned.starts_with("Deleted Volumes:\ndata\n\nTotal reclaimed space: "),
        "{pruned}"
    );
    for args in [
        &["volume", "rm", "none"][..],
        &["volume", "inspect", "none"],
        &["volume", "rm", "../x"],
    ] {
        let (code, _, err) = c.run(args);
        assert!(code == 1 && err.contains("no such volume"), "{err}");
    }
    assert_eq!(c.run(&["volume", "rm", "-f", "none"]).0, 0);
    let (code, _, err) = c.run(&["volume", "create", "a/b"]);
    assert!(
        code == 1 && err.contains("includes invalid characters"),
        "{err}"
    );
    c.ok(&["check"]);
    c.assert_nothing_is_left();
}

#[test]
fn what_nobody_has_named_goes_where_that_is_asked_for() {
    let Some(c) = ready() else { return };
    c.image("vol:1", &["VOLUME /etc", "CMD true"]);
    // The image's is filled with what it has there, and goes with --rm.
    assert_eq!(
        c.ok(&["run", "--rm", "vol:1", "cat", "/etc/motd"]),
        "upper\n"
    );
    assert_eq!(names(&c), [""; 0]);
    c.ok(&[
        "run",
        "--name",
        "one",
        "-v",
        "/anon",
        "vol:1",
        "sh",
        "-c",
        "echo 1 >/anon/f",
    ]);
    assert_eq!(names(&c).len(), 2);
    assert!(names(&c).iter().all(|n| n.len() == 64));
    c.ok(&["start", "-a", "one"]);
    c.ok(&["rm", "one"]);
    assert_eq!(names(&c).len(), 2);
    let kept = names(&c)
        .into_iter()
        .find(|n| data(&c, n).join("f").exists())
        .unwrap();
    c.ok(&[
        "create",
        "--name",
        "two",
        "-v",
        &format!("{kept}:/x"),
        "vol:1",
    ]);
    assert!(
        c.ok(&["volume", "prune", "-f"])
            .contains("Deleted Volumes:")
    );
    // It was given by its name: it is that container's no more than another's.
    c.ok(&["rm", "-v", "two"]);
    assert_eq!(names(&c), [kept]);
    let df = c.ok(&["system", "df"]);
    assert!(
        df.lines()
            .any(|l| l.starts_with("Local Volumes   1         0 ")),
        "{df}"
    );
    assert!(
        c.ok(&["system", "prune", "-f", "--volumes"])
            .contains("Deleted Volumes:")
    );
    assert_eq!(names(&c), [""; 0]);
    c.ok(&["create", "--name", "three", "vol:1"]);
    c.ok(&["rm", "-v", "three"]);
    assert_eq!(names(&c), [""; 0]);
    c.assert_nothing_is_left();
}

#[test]
fn an_empty_volume_begins_with_what_the_image_has() {
    let Some(c) = ready() else { return };
    let motd = ["cat", "/etc/motd"];
    let run = |volume: &str, command: &[&str]| {
        let args = [&["run", "--rm", "-v", volume, "box:1"], command].concat();
        c.ok(&args)
    };
    assert_eq!(run("full:/etc", &motd), "upper\n");
    run("full:/etc", &["sh", "-c", "echo changed >/etc/motd"]);
    assert_eq!(run("full:/etc", &motd), "changed\n");
    assert_eq!(
        run("bare:/etc:nocopy", &["ls", "/etc"]),
        "hostname\nhosts\nresolv.conf\n"
    );
    // A filling that was cut off is done again, unless somebody uses it.
    let volume = data(&c, "full").parent().unwrap().to_owned();
    c.ok(&[
        "run",
        "-d",
        "--name",
        "uses",
        "-v",
        "full:/etc:nocopy",
        "box:1",
        "sleep",
        "1000",
    ]);
    std::fs::write(volume.join("filling"), "").unwrap();
    assert_eq!(run("full:/etc", &motd), "changed\n");
    c.ok(&["rm", "-f", "uses"]);
    std::fs::write(volume.join("filling"), "").unwrap();
    assert_eq!(run("full:/etc", &motd), "upper\n");
    // Nor does a mark outlive somebody who copies nothing, and whose files are
    // no half of a copy.
    std::fs::write(volume.join("filling"), "").unwrap();
    run("full:/etc:nocopy", &["sh", "-c", "echo mine >/etc/motd"]);
    assert_eq!(run("full:/etc", &motd), "mine\n");
    assert!(!volume.join("filling").exists());
    c.ok(&["volume", "rm", "full", "bare"]);
    c.assert_nothing_is_left();
}

#[test]
fn many_who_make_one_volume_at_once_see_it_full() {
    let Some(c) = ready() else { return };
    let run = || c.ok(&["run", "--rm", "-v", "new:/etc", "box:1", "cat", "/etc/motd"]);
    std::thread::scope(|scope| {
        let all: Vec<_> = (0..4).map(|_| scope.spawn(run)).collect();
        for one in all {
            assert_eq!(one.join().unwrap(), "upper\n");
        }
    });
    c.ok(&["volume", "rm", "new"]);
    c.assert_nothing_is_left();
}

#[test]
fn what_volumes_take_is_told_one_by_one() {
    let Some(c) = ready() else { return };
    c.ok(&["volume", "create", "--label", "k=v", "bare"]);
    c.ok(&[
        "run",
        "--name",
        "one",
        "-v",
        "used:/d",
        "box:1",
        "sh",
        "-c",
        "seq 9999 >/d/f",
    ]);
    let df = |format: &str| c.ok(&["system", "df", "-v", "--format", format]);
    let all: serde_json::Value = serde_json::from_str(&df("json")).unwrap();
    let volumes = all["Volumes"].as_array().unwrap();
    let of = |name: &str| volumes.iter().find(|v| v["Name"] == name).unwrap();
    let point = data(&c, "used").display().to_string();
    for (name, field, value) in [
        ("used", "Links", "1"),
        ("bare", "Links", "0"),
        ("bare", "Labels", "k=v"),
        ("used", "Driver", "local"),
        ("used", "Scope", "local"),
        ("used", "Mountpoint", &point),
    ] {
        assert_eq!(of(name)[field], value, "{name} {field}");
    }
    // The table and the objects say the same.
    let table = c.ok(&["system", "df", "-v"]);
    let row = ["used", "1", of("used")["Size"].as_str().unwrap()];
    let same = |line: &str| line.split_whitespace().eq(row);
    assert!(table.lines().any(same), "{table}");
    assert_eq!(df("{{len .Volumes}}"), "2\n");
    c.ok(&["rm", "one"]);
    c.ok(&["volume", "rm", "used", "bare"]);
}
