//! What is known is not done again; the same again is the same.

use super::fixture::ground;

const TEXT: &str = "FROM box:1 AS b\nCOPY a /a\nWORKDIR /w\nRUN cat /a > /w/b\nENV X=1\nFROM scratch\nCOPY --from=b /w /w\nLABEL l=m\n";

fn cached(said: &str) -> usize {
    said.lines().filter(|l| *l == " => CACHED").count()
}

#[test]
fn a_second_build_does_nothing_and_a_change_what_depends_on_it() {
    let Some(g) = ground() else { return };
    g.file("a", "1\n");
    assert_eq!(cached(&g.build("t:1", TEXT, &[])), 0);
    let first = g.id("t:1");
    let said = g.build("t:1", TEXT, &[]);
    assert_eq!(cached(&said), 4, "{said}");
    assert_eq!(g.id("t:1"), first);
    // Another time of a file is no change, another content is.
    g.file("a", "1\n");
    assert_eq!(cached(&g.build("t:1", TEXT, &[])), 4);
    g.file("a", "2\n");
    assert_eq!(cached(&g.build("t:1", TEXT, &[])), 0);
    assert_ne!(g.id("t:1"), first);
    // And another mode.
    super::fixture::mode(&g.at("a"), 0o600);
    assert_eq!(cached(&g.build("t:1", TEXT, &[])), 1);
    g.file("a", "1\n");
    super::fixture::mode(&g.at("a"), 0o644);
    assert_eq!(cached(&g.build("t:1", TEXT, &[])), 4);
    // What scripts tell docker's other builders.
    let more = [
        "--load",
        "--cache-from",
        "x",
        "--cache-from=type=registry,ref=y",
    ];
    assert_eq!(cached(&g.build("t:1", TEXT, &more)), 4);
    assert_eq!(cached(&g.build("t:1", TEXT, &["--no-cache"])), 0);
    // What a command does not see does not count.
    let text = TEXT.replace("ENV X=1", "ENV X=2");
    assert_eq!(cached(&g.build("t:1", &text, &[])), 4);
    let with_arg = "FROM box:1\nARG A\nRUN echo $A > /a\n";
    assert_eq!(
        cached(&g.build("t:2", with_arg, &["--build-arg", "A=1"])),
        0
    );
    assert_eq!(
        cached(&g.build("t:2", with_arg, &["--build-arg", "A=1"])),
        1
    );
    assert_eq!(
        cached(&g.build("t:2", with_arg, &["--build-arg", "A=2"])),
        0
    );
    assert_eq!(
        cached(&g.build(
            "t:2",
            with_arg,
            &["--build-arg", "A=1", "--build-arg", "http_proxy=x"]
        )),
        1
    );
    g.assert_nothing_is_left();
}

#[test]
fn proxies_of_dockers_file_are_for_commands_alone() {
    let Some(g) = ground() else { return };
    let docker = tempfile::tempdir().unwrap();
    let build = |config: &str, args: &[&str]| {
        std::fs::write(docker.path().join("config.json"), config).unwrap();
        let text = "FROM box:1\nRUN echo \"$http_proxy $HTTPS_PROXY\" > /seen\n";
        g.file("Dockerfile", text);
        let context = g.context.to_str().unwrap();
        let args = [&["build", "-t", "t:1"], args, &[context]].concat();
        let mut command = g.cli.command(&args);
        let out = command
            .env("DOCKER_CONFIG", docker.path())
            .output()
            .unwrap();
        assert!(out.status.success(), "{out:?}");
        cached(&String::from_utf8(out.stderr).unwrap())
    };
    let proxies =
        r#"{"proxies": {"default": {"httpProxy": "http://p", "httpsProxy": "http://s"}}}"#;
    assert_eq!(build(proxies, &[]), 0);
    assert_eq!(g.see("t:1", "cat /seen"), "http://p http://s\n");
    let config = g.told("t:1", "/Config").to_string();
    assert!(!config.to_lowercase().contains("proxy"), "{config}");
    // A step is not done again for them, and who gives one has that.
    assert_eq!(build("{}", &[]), 1);
    assert_eq!(
        build(proxies, &["--no-cache", "--build-arg", "http_proxy=mine"]),
        0
    );
    assert_eq!(g.see("t:1", "cat /seen"), "mine http://s\n");
    g.assert_nothing_is_left();
}

#[test]
fn what_was_done_before_an_error_is_known() {
    let Some(g) = ground() else { return };
    let (code, _, err) = g.try_build("FROM box:1\nRUN echo 1 > /1\nRUN false\n", &[]);
    assert_eq!((code, cached(&err)), (1, 0), "{err}");
    g.assert_nothing_is_left();
    let said = g.build("t:1", "FROM box:1\nRUN echo 1 > /1\nRUN true\n", &[]);
    assert_eq!(cached(&said), 1);
    // It is kept though no image has it, until it is asked for.
    g.cli.ok(&["rmi", "t:1"]);
    g.cli.ok(&["gc"]);
    assert_eq!(
        cached(&g.build("t:1", "FROM box:1\nRUN echo 1 > /1\n", &[])),
        1
    );
    g.cli.ok(&["rmi", "t:1"]);
    let df = g.cli.ok(&[
        "system",
        "df",
        "--format",
        "{{.Type}} {{.TotalCount}} {{.ReclaimableBytes}}",
    ]);
    let line = df.lines().find(|l| l.starts_with("Build Cache ")).unwrap();
    assert!(!line.ends_with(" 0") && !line.contains("Cache 0"), "{df}");
    let freed = g.cli.ok(&["builder", "prune", "-f"]);
    assert!(
        freed.starts_with("Total reclaimed space: ") && !freed.contains(": 0B"),
        "{freed}"
    );
    let df = g.cli.ok(&[
        "system",
        "df",
        "--format",
        "{{.Type}} {{.TotalCount}} {{.ReclaimableBytes}}",
    ]);
    assert!(df.contains("Build Cache 0 0\n"), "{df}");
    assert_eq!(
        cached(&g.build("t:1", "FROM box:1\nRUN echo 1 > /1\n", &[])),
        0
    );
    g.cli.ok(&["system", "prune", "-f"]);
    assert_eq!(
        cached(&g.build("t:1", "FROM box:1\nRUN echo 1 > /1\n", &[])),
        0
    );
    g.assert_nothing_is_left();
}

#[test]
fn the_same_build_has_the_same_digest_with_a_source_date() {
    let Some(g) = ground() else { return };
    g.file("a", "1\n").file("Dockerfile", TEXT);
    let context = g.context.to_str().unwrap().to_owned();
    let mut ids = Vec::new();
    for n in 0..2 {
        let mut command = g.cli.command(&["build", "-q", "--no-cache", &context]);
        command.env("SOURCE_DATE_EPOCH", "1700000000");
        let out = command.output().unwrap();
        assert!(out.status.success(), "{out:?}");
        ids.push(String::from_utf8(out.stdout).unwrap());
        if n == 0 {
            std::thread::sleep(std::time::Duration::from_millis(1100));
            g.file("a", "1\n");
        }
    }
    assert_eq!(ids[0], ids[1]);
    assert!(
        ids[0].starts_with("sha256:") && ids[0].len() == 72,
        "{ids:?}"
    );
    let image = ids[0].trim();
    assert_eq!(g.told(image, "/Created"), "2023-11-14T22:13:20Z");
    // Without one it is another image.
    let (_, other, _) = g.try_build(TEXT, &["-q", "--no-cache"]);
    assert_ne!(other, ids[0]);
}

#[test]
fn records_that_cannot_be_read_and_layers_that_are_lost_are_done_again() {
    let Some(g) = ground() else { return };
    let text = "FROM box:1\nRUN echo 1 > /1\nRUN echo 2 > /2\n";
    g.build("t:1", text, &[]);
    let dir = g.cli.bench.store.steps();
    let records: Vec<_> = std::fs::read_dir(&dir).unwrap().flatten().collect();
    assert_eq!(records.len(), 3);
    for record in &records {
        std::fs::write(record.path(), "{").unwrap();
    }
    let told = g.cli.ok(&["check", "--quick"]);
    assert_eq!(
        told.matches("it cannot be read, 'capas system prune' removes it")
            .count(),
        3,
        "{told}"
    );
    assert_eq!(cached(&g.build("t:1", text, &[])), 0);
    assert_eq!(cached(&g.build("t:1", text, &[])), 2);
    // A layer that is gone is a step that is not known.
    let top = g
        .told("t:1", "/RootFS/Layers/3")
        .as_str()
        .unwrap()
        .to_owned();
    let layer = g.cli.bench.store.layers().join(&top[7..]);
    std::fs::remove_dir_all(layer).unwrap();
    assert_eq!(cached(&g.build("t:2", text, &[])), 1);
    assert_eq!(g.see("t:2", "cat /1 /2"), "1\n2\n");
    g.cli.assert_nothing_is_left();
}

/// The trees of what no image has are looked at too.
#[test]
fn what_steps_have_made_is_checked() {
    let Some(g) = ground() else { return };
    let text = "FROM box:1\nRUN echo 1 > /1\nRUN busybox ln /bin/busybox /2\nRUN echo 3 > /3\n";
    g.build("t:1", text, &[]);
    let layer = |n: usize| {
        let diff = g.told("t:1", &format!("/RootFS/Layers/{n}"));
        let diff = diff.as_str().unwrap()[7..].to_owned();
        let store = &g.cli.bench.store;
        let tree = store.layers().join(&diff);
        (tree, store.root().join("blobs/sha256").join(&diff))
    };
    let (first, _) = layer(2);
    let (last, blob) = layer(4);
    g.cli.ok(&["rmi", "t:1"]);
    let sound = || {
        let (code, out, err) = g.cli.run(&["check"]);
        assert_eq!((code, err.as_str()), (0, ""), "{out}");
        assert!(
            out.contains(" 5 layers") && out.contains(": 0 damaged"),
            "{out}"
        );
    };
    sound();
    // What can be unpacked again is.
    std::fs::write(first.join("1"), "x\n").unwrap();
    let (code, out, _) = g.cli.run(&["check"]);
    assert!(code == 1 && out.contains("/1 "), "{out}");
    assert!(out.contains("damaged: build step "), "{out}");
    let (code, out, _) = g.cli.run(&["check", "--repair"]);
    assert!(code == 0 && out.contains("unpacked again"), "{out}");
    sound();
    assert_eq!(cached(&g.build("t:1", text, &[])), 3);
    g.cli.ok(&["rmi", "t:1"]);
    // What cannot is forgotten, and made by the next build.
    assert!(blob.exists() && last.exists());
    std::fs::write(&blob, "x").unwrap();
    let (code, out, _) = g.cli.run(&["check", "--repair"]);
    assert!(
        code == 0 && out.contains("the next build does it again"),
        "{out}"
    );
    g.cli.ok(&["gc"]);
    let (code, out, _) = g.cli.run(&["check"]);
    assert!(code == 0 && out.contains(" 4 layers"), "{out}");
    assert_eq!(cached(&g.build("t:1", text, &[])), 2);
    assert_eq!(g.see("t:1", "cat /1 /3"), "1\n3\n");
    // Where the base is gone, only what depends on it cannot be looked at.
    g.cli.ok(&["rmi", "t:1", "box:1"]);
    g.cli.ok(&["gc"]);
    let (code, out, _) = g.cli.run(&["check"]);
    assert!(code == 0 && out.contains(": 0 damaged"), "{out}");
    std::fs::write(first.join("1"), "x\n").unwrap();
    let (code, out, _) = g.cli.run(&["check"]);
    assert!(code == 1 && out.contains("/1 "), "{out}");
}
