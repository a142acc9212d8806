//! `layers`: exact figures of an image whose layers are known byte by byte.

use super::program::{Cli, Done};
use super::support::{Tar, config, diffs, docker_archive, entry};
use std::fs;
use std::io::Write;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// Three layers: files, then changes and whiteouts, then an opaque directory.
fn image(c: &Cli) -> [String; 3] {
    let text = |c: char, n: usize| c.to_string().repeat(n);
    let mut one = Tar::new();
    one.dir("a/")
        .file("a/one", &text('x', 1000))
        .file("a/two", &text('y', 200));
    one.dir("b/").file("b/x", &text('z', 300));
    one.dir("etc/").file("etc/conf", &text('c', 400));
    one.file("hl1", &text('h', 500))
        .hardlink("hl2", "hl1")
        .symlink("sym", "a/one");
    let mut two = Tar::new();
    two.dir("a/").file("a/one", &text('X', 1100));
    two.dir("b/").file("b/.wh.x", "").file(".wh.hl1", "");
    two.dir("etc/").file("etc/copy", &text('c', 400));
    let mut bad = entry("", b'0');
    bad.name = b"bad\x1b[1m\xff";
    two.add(&bad, b"1234567");
    let mut three = Tar::new();
    three
        .dir("a/")
        .file("a/.wh..wh..opq", "")
        .file("a/three", &text('t', 50));
    three
        .dir("etc/")
        .file("etc/conf", &text('c', 400))
        .file(".wh.hl2", "");
    let layers = [one.end(), two.end(), three.end()];
    let history = r#""history":[
        {"created_by":"/bin/sh -c #(nop) ADD file:0123456789abcdef in / which is long"},
        {"created_by":"ENV A=b","empty_layer":true},
        {"created_by":"RUN one\n\ttwo \u001b[2J"},
        {"created_by":"COPY . ."}],"rootfs""#;
    let ids = diffs(&layers);
    let config = config(&ids).replacen(r#""rootfs""#, history, 1);
    let mut tar = Tar::new();
    for (i, layer) in layers.iter().enumerate() {
        tar.add(&entry(&format!("{i}.tar"), b'0'), layer);
    }
    tar.file("c.json", &config);
    tar.file(
        "manifest.json",
        r#"[{"Config":"c.json","RepoTags":["x:1"],"Layers":["0.tar","1.tar","2.tar"]}]"#,
    );
    let path = c.bench.write("three.tar", &tar.end());
    c.ok(&["load", "-q", "-i", path.to_str().unwrap()]);
    ids.try_into().unwrap()
}

#[test]
fn a_table_and_what_is_wasted() {
    let c = Cli::new();
    let [one, two, three] = image(&c).map(|id| id[..12].to_owned());
    assert_eq!(
        c.ok(&["layers", "x:1"]),
        format!(
            "\
#   LAYER          SIZE     ADDED   CHANGED   REMOVED   COMMAND
1   {one}   2.4kB    +10     ~0        -0        /bin/sh -c #(nop) ADD file:0123456789abcdef …
2   {two}   1.51kB   +2      ~1        -2        RUN one two \\u{{1b}}[2J
3   {three}   450B     +1      ~1        -3        COPY . .

Total:        4.36kB
Wasted:       3.5kB under 5 paths, 178.85% of what lies above the lowest layer
Duplicated:   800B
Efficiency:   0.1967

WASTED   TIMES   PATH
2.1kB    2       /a/one
500B     1       /hl2
400B     1       /etc/conf
300B     1       /b/x
200B     1       /a/two
"
        )
    );
    let whole = c.ok(&["layers", "--no-trunc", "--format", "table", "x:1"]);
    assert!(
        whole.contains("ADD file:0123456789abcdef in / which is long\n"),
        "{whole}"
    );
    c.fails(&["layers", "y"], 1, "Error: No such image: y\n");
    c.fails(
        &["layers", "--interactive", "x:1"],
        1,
        "Error: --interactive needs a terminal: use --format or --tree\n",
    );
}

#[test]
fn trees() {
    let c = Cli::new();
    image(&c);
    assert_eq!(c.ok(&["layers", "--tree", "--layer", "2", "x:1"]), TREE_2);
    assert_eq!(c.ok(&["layers", "--tree", "--layer", "3", "x:1"]), TREE_3);
    assert_eq!(c.ok(&["layers", "--tree", "x:1"]), TREE);
    c.fails(
        &["layers", "--tree", "--layer", "4", "x:1"],
        1,
        "Error: the image has 3 layers\n",
    );
}

const TREE_2: &str = "   1.51kB  /
    1.1kB    a/
C   1.1kB      one
       0B    b/
D    300B      x
A      7B    bad\\u{1b}[1m\\xff
     400B    etc/
A    400B      copy
D      0B    hl1
";
const TREE_3: &str = "     450B  /
      50B    a/
D   1.1kB      one
A     50B      three
D    200B      two
     400B    etc/
C    400B      conf
D    500B    hl2
";
const TREE: &str = "     857B  /
      50B    a/
      50B      three
       0B    b/
       7B    bad\\u{1b}[1m\\xff
     800B    etc/
     400B      conf
     400B      copy
       0B    sym@
";

#[test]
fn json() {
    let c = Cli::new();
    let ids = image(&c);
    let all = c.ok(&[
        "layers", "--format", "json", "--tree", "--layer", "2", "x:1",
    ]);
    let v: serde_json::Value = serde_json::from_str(&all).unwrap();
    assert_eq!(v["names"], serde_json::json!(["x:1"]));
    assert_eq!(v["total"], 4357);
    assert_eq!(v["wasted"], 3500);
    assert_eq!(v["duplicated"], 800);
    assert!((v["efficiency"].as_f64().unwrap() - (1.0 - 3500.0 / 4357.0)).abs() < 1e-9);
    assert!((v["wastedPercent"].as_f64().unwrap() - 100.0 * 3500.0 / 1957.0).abs() < 1e-9);
    assert_eq!(
        v["layers"][1],
        serde_json::json!({
            "number": 2,
            "diffId": format!("sha256:{}", ids[1]),
            "command": "RUN one two \\u{1b}[2J",
            "size": 1507,
            "wastes": 1300,
            "added": {"entries": 2, "bytes": 407},
            "changed": {"entries": 1, "bytes": 1100},
            "removed": {"entries": 2, "bytes": 300},
        })
    );
    assert_eq!(
        v["waste"][0],
        serde_json::json!({"path": "/a/one", "bytes": 2100, "times": 2})
    );
    let bad = serde_json::json!(
        {"path": "/bad\\u{1b}[1m\\xff", "kind": "file", "size": 7, "status": "added"}
    );
    let tree = v["tree"].as_array().unwrap();
    assert!(tree.contains(&bad), "{all}");
    assert_eq!(tree.len(), 9);
    let plain: serde_json::Value =
        serde_json::from_str(&c.ok(&["layers", "--format=json", "x:1"])).unwrap();
    assert_eq!(plain.get("tree"), None);
}

#[test]
fn a_check_says_which_limits_are_missed() {
    let c = Cli::new();
    image(&c);
    let low = "efficiency is 0.1967, less than 0.9: 3.5kB of 4.36kB are wasted\n";
    c.fails(&["layers", "--check", "x:1"], 2, low);
    c.ok(&["layers", "--check", "--min-efficiency", "0.19", "x:1"]);
    c.ok(&["layers", "--check", "--max-wasted", "3.5kB", "x:1"]);
    let all = [
        "layers",
        "--check",
        "--min-efficiency=0.5",
        "--max-wasted=3KiB",
        "--max-wasted-percent=10",
        "x:1",
    ];
    let lines = "efficiency is 0.1967, less than 0.5: 3.5kB of 4.36kB are wasted\n\
                 3.5kB are wasted, more than 3.07kB\n\
                 178.85% of what lies above the lowest layer are wasted, more than 10%\n";
    assert_eq!(c.fails(&all, 2, lines), "");
    for bad in [
        "--min-efficiency=2",
        "--max-wasted=much",
        "--max-wasted-percent=-1",
    ] {
        let done: Done = c.run(&["layers", "--check", bad, "x:1"]);
        assert_eq!(done.code, 1);
        assert!(done.err.contains("is needed"), "{}", done.err);
    }
    // Limits without a check would be forgotten silently.
    assert_eq!(c.run(&["layers", "--max-wasted=1", "x:1"]).code, 1);
    // An image without layers wastes nothing.
    let path = c
        .bench
        .write("none.tar", &docker_archive(&[], &[], &["none:1"]));
    c.ok(&["load", "-q", "-i", path.to_str().unwrap()]);
    let all = [
        "layers",
        "--check",
        "--min-efficiency=1",
        "--max-wasted-percent=0",
        "none:1",
    ];
    assert_eq!(c.ok(&all), "");
}

/// Through a terminal of its own: what `script` records ends with the terminal
/// as it was, whether the user leaves or a signal comes.
#[test]
fn the_terminal_is_left_as_it_was() {
    let c = Cli::new();
    image(&c);
    for (key, code) in [("qq", 0), ("\x03", 0), ("kill", 143)] {
        let log = c
            .bench
            .dir
            .path()
            .join(format!("typescript{code}{}", key.len()));
        let shell = format!(
            "stty cols 100 rows 30; echo $$ >pid; exec '{}' layers x:1",
            env!("CARGO_BIN_EXE_capas"),
        );
        let mut script = Command::new("timeout")
            .args(["60", "script", "-qfec", &shell])
            .arg(&log)
            .current_dir(c.bench.dir.path())
            .env("CAPAS_ROOT", c.bench.store.root())
            .env("TERM", "xterm")
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        let shown = || String::from_utf8_lossy(&fs::read(&log).unwrap_or_default()).into_owned();
        let until = Instant::now() + Duration::from_secs(60);
        while !shown().contains("efficiency") {
            assert!(Instant::now() < until, "nothing was drawn: {}", shown());
            std::thread::sleep(Duration::from_millis(20));
        }
        match key {
            "kill" => {
                let pid = fs::read_to_string(c.bench.dir.path().join("pid")).unwrap();
                let kill = Command::new("kill").args(["-TERM", pid.trim()]).status();
                assert!(kill.unwrap().success());
            }
            key => script
                .stdin
                .as_mut()
                .unwrap()
                .write_all(key.as_bytes())
                .unwrap(),
        }
        assert_eq!(script.wait().unwrap().code(), Some(code), "{key}");
        let shown = shown();
        let enter = shown.find("\x1b[?1049h").expect("no alternate screen");
        let leave = shown
            .rfind("\x1b[?1049l")
            .expect("the screen was not given back");
        assert!(enter < leave, "{shown}");
    }
}
