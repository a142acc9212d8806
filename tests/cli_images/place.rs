//! Where the store is, and that who only reads it waits for nobody.

use crate::program::Cli;
use crate::support::root;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// The store that a command uses in a shell whose environment is this alone.
fn used(shell: &[&str], environment: &[(&str, &Path)], args: &str) -> String {
    let program = env!("CARGO_BIN_EXE_capas");
    let script = format!("{program} {args} info | sed -n 's/^Store Root: //p'");
    let (first, rest) = shell.split_first().unwrap();
    let out = Command::new(first)
        .args(rest)
        .arg(script)
        .env_clear()
        .env("PATH", std::env::var_os("PATH").unwrap())
        .envs(environment.iter().copied())
        .output()
        .unwrap();
    assert!(out.status.success() && out.stderr.is_empty(), "{out:?}");
    String::from_utf8(out.stdout).unwrap().trim_end().to_owned()
}

#[test]
fn the_store_is_where_the_nearest_word_says() {
    let tmp = tempfile::tempdir().unwrap();
    let at = |name: &str| tmp.path().join(name);
    let config = at("config.toml");
    let in_config = at("configured");
    std::fs::write(&config, format!("root = {in_config:?}\n")).unwrap();
    let (by_option, by_variable, home, data) =
        (at("option"), at("variable"), at("home"), at("data"));
    let option = format!("--root {}", by_option.display());
    let sh = ["sh", "-c"];
    let all = [
        ("CAPAS_ROOT", by_variable.as_path()),
        ("CAPAS_CONFIG", &config),
        ("XDG_DATA_HOME", &data),
        ("HOME", &home),
    ];
    let is = |found: String, wanted: &Path| assert_eq!(Path::new(&found), wanted);
    is(used(&sh, &all, &option), &by_option);
    is(used(&sh, &all, ""), &by_variable);
    is(used(&sh, &all[1..], ""), &in_config);
    // The same file where it is looked for.
    let own = home.join(".config/capas/config.toml");
    std::fs::create_dir_all(own.parent().unwrap()).unwrap();
    std::fs::copy(&config, &own).unwrap();
    is(used(&sh, &all[2..], ""), &in_config);
    std::fs::remove_file(own).unwrap();
    if !root() {
        return;
    }
    // Root's own is the system's; a user's, also if he is called root, is his.
    let hidden = "mount -t tmpfs none /var/lib; exec";
    let out = Command::new("unshare")
        .args(["-m", "sh", "-c"])
        .arg(format!("{hidden} {} info", env!("CARGO_BIN_EXE_capas")))
        .env_remove("CAPAS_ROOT")
        .env("HOME", &home)
        .env("XDG_DATA_HOME", &data)
        .env("CAPAS_CONFIG", "/dev/null")
        .output()
        .unwrap();
    let text = String::from_utf8(out.stdout).unwrap();
    assert!(text.contains("\nStore Root: /var/lib/capas\n"), "{text}");
    let user = ["unshare", "-r", "sh", "-c"];
    is(used(&user, &all[2..], ""), &data.join("capas"));
    is(used(&user, &all[3..], ""), &home.join(".local/share/capas"));
    is(
        used(&user, &[("XDG_DATA_HOME", Path::new("")), all[3]], ""),
        &home.join(".local/share/capas"),
    );
}

#[test]
fn the_systems_file_goes_before_nothing_but_the_default() {
    if !root() {
        return;
    }
    let tmp = tempfile::tempdir().unwrap();
    let at = |name: &str| tmp.path().join(name);
    let home = at("home");
    let own = home.join(".config/capas/config.toml");
    std::fs::create_dir_all(own.parent().unwrap()).unwrap();
    // Nobody else sees what is in /etc there; programs need no more of it.
    let system = at("systems");
    let etc = at("etc.toml");
    std::fs::write(
        &etc,
        format!("root = {system:?}\nruntime = \"/bin/true\"\n"),
    )
    .unwrap();
    let info = |environment: &[(&str, &Path)]| {
        let script = format!(
            "mount -t tmpfs none /etc && mkdir /etc/capas && cp {} /etc/capas/config.toml && exec {} info",
            etc.display(),
            env!("CARGO_BIN_EXE_capas")
        );
        let out = Command::new("unshare")
            .args(["-m", "sh", "-c", &script])
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap())
            .env("HOME", &home)
            .envs(environment.iter().copied())
            .output()
            .unwrap();
        String::from_utf8([out.stdout, out.stderr].concat()).unwrap()
    };
    let says = |text: &str, store: &Path| {
        let line = format!("Store Root: {}", store.display());
        assert!(text.lines().any(|l| l.trim() == line), "{text}");
    };
    says(&info(&[]), &system);
    // The user's own goes before, value by value.
    std::fs::write(&own, format!("root = {:?}\n", at("mine"))).unwrap();
    let mine = info(&[]);
    says(&mine, &at("mine"));
    assert!(mine.contains("/bin/true"), "{mine}");
    // A file that is named is the only one.
    let named = at("named.toml");
    std::fs::write(&named, format!("root = {:?}\n", at("other"))).unwrap();
    let other = info(&[("CAPAS_CONFIG", &named)]);
    says(&other, &at("other"));
    assert!(!other.contains("/bin/true"), "{other}");
    let none = info(&[("CAPAS_CONFIG", &at("none"))]);
    let missing = format!(
        "Error: the configuration {} that CAPAS_CONFIG names is not there\n",
        at("none").display()
    );
    assert_eq!(none, missing);
    // What is wrong with it is told with its name.
    std::fs::write(&etc, "rot = 1\n").unwrap();
    let bad = info(&[]);
    assert!(
        bad.starts_with("Error: bad configuration /etc/capas/config.toml: line 1: "),
        "{bad}"
    );
}

#[test]
fn a_store_on_a_disk_that_is_only_read_is_read() {
    if !root() {
        return;
    }
    let c = Cli::new();
    c.load("x", &["x:1"]);
    c.ok(&["create", "--name", "box", "x:1", "/bin/sh"]);
    let saved = c.bench.dir.path().join("saved");
    let store = c.bench.store.root().display();
    let run = |args: &str| {
        let script = format!(
            "mount --bind {store} {store} && mount -o remount,bind,ro {store} && exec {} {args}",
            env!("CARGO_BIN_EXE_capas")
        );
        let out = Command::new("unshare")
            .args(["-m", "sh", "-c", &script])
            .env("CAPAS_ROOT", c.bench.store.root())
            .stdout(std::fs::File::create(&saved).unwrap())
            .output()
            .unwrap();
        (out.status.code(), String::from_utf8(out.stderr).unwrap())
    };
    for args in [
        "images",
        "inspect x:1 box",
        "history x:1",
        "layers x:1",
        "info",
        "ps -a",
        "system df -v",
        "save x:1",
    ] {
        assert_eq!(run(args), (Some(0), String::new()), "{args}");
    }
    let other = Cli::new();
    assert_eq!(other.load_path(&saved), "Loaded image: x:1\n");
    let (code, err) = run("doctor");
    let told = std::fs::read_to_string(&saved).unwrap();
    assert_eq!((code, err.as_str()), (Some(1), ""), "{told}");
    for line in [
        "ok      store: ",
        "FAILED  writing to the store: cannot make ",
    ] {
        let line = told.lines().find(|l| l.starts_with(line));
        assert!(line.is_some(), "{told}");
    }
    assert!(told.contains("\nok      open files: "), "{told}");
    let (code, err) = run("tag x:1 y:1");
    assert!(
        code == Some(1) && err.contains("Read-only file system"),
        "{err}"
    );
}

#[test]
fn readers_wait_for_nobody() {
    let c = Cli::new();
    c.load("x", &["x:1"]);
    c.ok(&["create", "--name", "box", "x:1", "/bin/sh"]);
    // Somebody changes names and somebody removes what nobody needs, at length.
    let _changing = c.bench.store.lock().unwrap();
    let _sweeping = c.bench.store.try_lock_sweeping().unwrap().unwrap();
    for args in [
        &["images"][..],
        &["images", "--filter", "label=none", "x"],
        &["inspect", "x:1"],
        &["inspect", "box"],
        &["history", "x:1"],
        &["ps", "-a", "-s"],
        &["system", "df", "-v"],
        &["info"],
    ] {
        let mut child = Command::new(env!("CARGO_BIN_EXE_capas"))
            .env("CAPAS_ROOT", c.bench.store.root())
            .args(args)
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        let since = Instant::now();
        let ended = loop {
            match child.try_wait().unwrap() {
                Some(status) => break Some(status),
                None if since.elapsed() > Duration::from_secs(60) => break None,
                None => std::thread::sleep(Duration::from_millis(5)),
            }
        };
        if ended.is_none() {
            child.kill().unwrap();
            child.wait().unwrap();
        }
        assert!(ended.is_some_and(|s| s.success()), "{args:?}: {ended:?}");
    }
}
