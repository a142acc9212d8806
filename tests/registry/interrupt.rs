//! A signal: nothing is left behind, and the command says so.

use crate::accounts::{Done, Guarded, Person, have, root};
use crate::images::{Image, Pack, image, layer, noise};
use crate::served::{Content, Reply, Served, put};
use capas::store::Digest;
use capas::sys::fail::HANGS;
use std::fs;
use std::io::{Read, Write};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

pub fn wait_for(what: impl Fn() -> bool) {
    let since = Instant::now();
    while !what() {
        assert!(since.elapsed() < Duration::from_secs(60));
        std::thread::sleep(Duration::from_millis(10));
    }
}

fn send(signal: &str, pid: u32) {
    let kill = Command::new("kill")
        .args(["-s", signal, &pid.to_string()])
        .status()
        .unwrap();
    assert!(kill.success());
}

/// Start the command, send the signal as soon as it is `busy`, and see it end
/// with these words. Of its input the archive comes, and then nothing more.
fn interrupt(
    command: &mut Command,
    input: &[u8],
    signal: &str,
    words: &str,
    busy: impl Fn(u32) -> bool,
) -> Done {
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = child.stdin.take().unwrap();
    stdin.write_all(input).unwrap();
    wait_for(|| busy(child.id()));
    send(signal, child.id());
    let out = child.wait_with_output().unwrap();
    drop(stdin);
    let done = Done {
        code: out.status.code().unwrap(),
        out: String::from_utf8_lossy(&out.stdout).into_owned(),
        err: String::from_utf8(out.stderr).unwrap(),
    };
    let code = if signal == "INT" { 130 } else { 143 };
    let said = format!("\ninterrupted: {words}\n");
    assert_eq!((done.code, done.err.as_str()), (code, said.as_str()));
    done
}

fn staged(person: &Person) -> bool {
    fs::read_dir(person.path("store/tmp")).is_ok_and(|d| d.flatten().next().is_some())
}

/// Has a thread come to the call where it is to hang.
fn hangs(pid: u32) -> bool {
    let Ok(threads) = fs::read_dir(format!("/proc/{pid}/task")) else {
        return false;
    };
    threads.flatten().any(|thread| {
        let name = fs::read_to_string(thread.path().join("comm")).unwrap_or_default();
        name.trim_end().as_bytes() == HANGS.to_bytes()
    })
}

fn names(dir: &Path) -> Vec<String> {
    let mut all: Vec<String> = fs::read_dir(dir)
        .unwrap()
        .map(|e| e.unwrap().file_name().into_string().unwrap())
        .collect();
    all.sort();
    all
}

/// An image that no buffer holds, and a registry with it.
fn large() -> (Image, Content) {
    let image = image(&[(layer("f", &noise(2_000_000, 4)), Pack::Gzip)]);
    let mut content = Content::new();
    put(&mut content, &image, "app", "1");
    (image, content)
}

/// Somebody who has that image as `app:1`.
fn owner() -> (Person, Image) {
    let (image, content) = large();
    let served = Served::start(content, |_, _| None);
    let person = Person::new();
    let name = format!("{}/app:1", served.host);
    assert_eq!(person.run(&["pull", "-q", &name], "").code, 0);
    assert_eq!(person.run(&["tag", &name, "app:1"], "").code, 0);
    (person, image)
}

/// Half of what is right, and then nothing more.
fn stall(ranged: bool, right: &Reply) -> Reply {
    if ranged {
        std::thread::sleep(Duration::from_secs(600));
    }
    Reply {
        length: Some(right.body.len() as u64),
        body: right.body[..1_200_000].to_vec(),
        ..right.clone()
    }
}

#[test]
fn what_comes_into_the_store_goes_again() {
    let (image, mut content) = large();
    let digest = Digest::of(&image.layers[0]).to_string();
    content.insert(
        "/f.tar.gz".to_owned(),
        ("x/y".to_owned(), image.layers[0].clone()),
    );
    let served = Served::start(content, move |asked, right| {
        let stalls = asked.what.ends_with(&digest) || asked.what.ends_with("/f.tar.gz");
        stalls.then(|| {
            let mut half = stall(asked.range.is_some(), right);
            half.headers.push(("etag".into(), "\"1\"".into()));
            half
        })
    });
    let (owner, _) = owner();
    let saved = owner.path("saved.tar");
    let args = ["save", "-o", saved.to_str().unwrap(), "app:1"];
    assert_eq!(owner.run(&args, "").code, 0);
    let saved = fs::read(saved).unwrap();
    let half = &saved[..saved.len() / 2];
    let name = format!("{}/app:1", served.host);
    let url = format!("http://{}/f.tar.gz", served.host);
    for signal in ["INT", "TERM"] {
        for (args, input, asked) in [
            (["pull", &name], &[][..], Some("/blobs/")),
            (["import", &url], &[], Some("/f.tar.gz")),
            (["import", "-"], &image.layers[0][..1_000_000], None),
            (["load", "-q"], half, None),
        ] {
            let before = asked.map_or(0, |part| served.count(part));
            let person = Person::new();
            let asked_twice = || asked.is_none_or(|part| served.count(part) >= before + 2);
            interrupt(
                person.capas().args(args),
                input,
                signal,
                "nothing was changed",
                |_| staged(&person) && asked_twice(),
            );
            assert_eq!(names(&person.path("store/tmp")), [""; 0], "{args:?}");
            assert_eq!(person.run(&["images", "-q"], "").out, "");
        }
    }
}

#[test]
fn what_is_saved_is_there_whole_or_as_it_was() {
    let (person, _) = owner();
    let to = person.path("to");
    fs::create_dir(&to).unwrap();
    let save = |more: &[&str], fail: &str, signal: &str, busy: &dyn Fn(u32) -> bool| {
        let mut command = person.capas();
        let command = command
            .args(["save", "app:1", "-o"])
            .arg(to.join("out"))
            .args(more)
            .env("CAPAS_FAIL", fail);
        interrupt(command, b"", signal, "nothing was changed", busy);
    };
    for signal in ["INT", "TERM"] {
        // Written, but not named: it hangs where it would be synced.
        save(&[], "2:hang", signal, &hangs);
        assert_eq!(names(&to), [""; 0]);
        fs::write(to.join("out"), "old").unwrap();
        save(&[], "2:hang", signal, &hangs);
        assert_eq!(names(&to), ["out"]);
        assert_eq!(fs::read(to.join("out")).unwrap(), b"old");
        fs::remove_file(to.join("out")).unwrap();
        save(&["--format", "oci-dir"], "1:hang", signal, &|pid| {
            // All is written, and only has no name.
            hangs(pid)
                && names(&to)
                    .iter()
                    .any(|n| to.join(n).join("index.json").exists())
        });
        assert_eq!(names(&to), [""; 0]);
    }
}

#[test]
fn a_file_system_without_nameless_files_keeps_no_half_ones() {
    if !root() || !have(&["umount"]) {
        return;
    }
    let (person, _) = owner();
    for dir in ["lower", "upper", "work", "merged"] {
        fs::create_dir(person.path(dir)).unwrap();
    }
    let mounted = person
        .command(env!("CARGO_BIN_EXE_capasfs"))
        .args(["-o", "lowerdir=lower,upperdir=upper,workdir=work", "merged"])
        .status()
        .unwrap();
    assert!(mounted.success());
    let to = person.path("merged");
    let mut command = person.capas();
    let command = command
        .args(["save", "app:1", "-o"])
        .arg(to.join("out"))
        .env("CAPAS_FAIL", "3:hang");
    interrupt(command, b"", "INT", "nothing was changed", |pid| {
        hangs(pid) && names(&to).iter().any(|name| name.starts_with(".out."))
    });
    let left = names(&to);
    let again = person.run(&["save", "app:1", "-o", "merged/out"], "");
    let after = names(&to);
    assert!(Command::new("umount").arg(&to).status().unwrap().success());
    assert_eq!(left, [""; 0]);
    assert_eq!((again.code, after), (0, vec!["out".to_owned()]));
}

#[test]
fn a_check_leaves_nothing_unpacked() {
    let (person, _) = owner();
    for signal in ["INT", "TERM"] {
        for args in [&["check"][..], &["check", "--repair"]] {
            let mut command = person.capas();
            let command = command.args(args).env("CAPAS_FAIL", "1:hang");
            interrupt(command, b"", signal, "the check is not complete", |pid| {
                hangs(pid) && staged(&person)
            });
            assert_eq!(names(&person.path("store/tmp")), [""; 0], "{args:?}");
        }
    }
    assert_eq!(person.run(&["check"], "").code, 0);
}

#[test]
fn what_is_removed_goes_whole_or_stays() {
    for signal in ["INT", "TERM"] {
        for (n, args) in [
            ["gc"].as_slice(),
            &["prune", "--blobs", "-f"],
            &["image", "prune", "-af"],
        ]
        .iter()
        .enumerate()
        {
            let (person, image) = owner();
            if n == 0 {
                // Garbage: what nobody lists any more.
                let index = person.path("store/index.json");
                fs::write(index, r#"{"schemaVersion":2,"manifests":[]}"#).unwrap();
            }
            let mut command = person.capas();
            let command = command.args(*args).env("CAPAS_FAIL", "2:hang");
            let words = "what was removed is gone, the rest stays";
            interrupt(command, b"", signal, words, hangs);
            assert_eq!(names(&person.path("store/tmp")), [""; 0], "{args:?}");
            assert_eq!(person.run(&["check"], "").code, 0, "{args:?}");
            let again = person.run(args, "");
            assert_eq!((again.code, again.err.as_str()), (0, ""), "{args:?}");
            let blob = Digest::of(&image.layers[0]).hex();
            assert!(!person.path("store/blobs/sha256").join(blob).exists());
        }
    }
}

#[test]
fn a_stream_that_ends_too_early_is_called_so() {
    let (person, _) = owner();
    for signal in ["INT", "TERM"] {
        let mut child = person
            .capas()
            .args(["save", "app:1"])
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut out = child.stdout.take().unwrap();
        out.read_exact(&mut [0]).unwrap();
        send(signal, child.id());
        // What was in the pipe already is not read before the end.
        let mut err = String::new();
        let mut said = child.stderr.take().unwrap();
        said.read_to_string(&mut err).unwrap();
        assert_eq!(err, "\ninterrupted: what was written is not complete\n");
        let code = child.wait().unwrap().code();
        assert_eq!(code, Some(if signal == "INT" { 130 } else { 143 }));
    }
}

#[test]
fn a_push_leaves_what_was_sent_and_says_so() {
    let (person, _) = owner();
    // The blob is made again, in staging, while it is sent.
    assert_eq!(person.run(&["prune", "--blobs", "-f"], "").code, 0);
    let served = Served::start(Content::new(), |asked, _| {
        if asked.what.starts_with("POST ") {
            std::thread::sleep(Duration::from_secs(600));
        }
        None
    });
    let name = format!("{}/app:1", served.host);
    assert_eq!(person.run(&["tag", "app:1", &name], "").code, 0);
    for (i, signal) in ["INT", "TERM"].iter().enumerate() {
        interrupt(
            person.capas().args(["push", "-q", &name]),
            b"",
            signal,
            "layers that were sent stay in the registry",
            |_| staged(&person) && served.count("POST ") > i,
        );
        assert!(!staged(&person));
    }
}

#[test]
fn a_terminal_shows_again_what_is_typed() {
    if !have(&["docker-registry", "script"]) {
        return;
    }
    let registry = Guarded::start();
    let person = Person::new();
    for signal in ["INT", "TERM"] {
        let line = format!(
            "sh -c 'echo $$ >pid; exec {} login -u bob {}'; echo code $?; stty -a",
            env!("CARGO_BIN_EXE_capas"),
            registry.host
        );
        let mut script = person
            .command("script")
            .args([
                "--quiet",
                "--echo",
                "always",
                "--command",
                &line,
                "/dev/null",
            ])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let keys = script.stdin.take().unwrap();
        let mut screen = script.stdout.take().unwrap();
        let mut shown = Vec::new();
        while !shown.ends_with(b"Password: ") {
            let mut byte = [0];
            screen.read_exact(&mut byte).unwrap();
            shown.push(byte[0]);
        }
        let pid = fs::read_to_string(person.path("pid")).unwrap();
        send(signal, pid.trim().parse().unwrap());
        screen.read_to_end(&mut shown).unwrap();
        drop(keys);
        script.wait().unwrap();
        let shown = String::from_utf8(shown).unwrap();
        let code = if signal == "INT" { 130 } else { 143 };
        let said = format!("Password: \r\ninterrupted: nothing was changed\r\ncode {code}\r\n");
        assert!(shown.starts_with(&said), "{shown}");
        assert!(
            shown.split_whitespace().any(|word| word == "echo"),
            "{shown}"
        );
    }
    assert!(!person.config().exists());
}

#[test]
fn a_helper_ends_with_the_command() {
    use std::os::unix::process::CommandExt;
    let served = Served::start(Content::new(), |_, _| {
        let challenge = ("www-authenticate", "Basic realm=\"x\"");
        Some(Reply::new(401, &[challenge], b""))
    });
    let name = format!("{}/app:1", served.host);
    let person = Person::new();
    person.helper("slow");
    let pid = person.path("helper");
    // A shell that waits for a program unblocks signals: it starts none. Who began
    // the tests may ignore some (nohup).
    let script = format!(
        "#!/bin/sh\necho $$ >{}\nexec env --default-signal=INT,TERM,HUP sleep 600\n",
        pid.display()
    );
    let path = person.write("bin/docker-credential-slow", &script);
    fs::set_permissions(path, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    person.write(".docker/config.json", r#"{"credsStore":"slow"}"#);
    for (signal, whole_group) in [
        ("INT", true),
        ("TERM", true),
        ("HUP", true),
        ("TERM", false),
        ("KILL", false),
    ] {
        let child = person
            .capas()
            .args(["pull", &name])
            .process_group(0)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn();
        let mut child = child.unwrap();
        wait_for(|| fs::read_to_string(&pid).is_ok_and(|text| text.ends_with('\n')));
        let helper = fs::read_to_string(&pid).unwrap();
        let helper = Path::new("/proc").join(helper.trim());
        fs::remove_file(&pid).unwrap();
        let whom = match whole_group {
            // As a terminal does.
            true => format!("-{}", child.id()),
            false => child.id().to_string(),
        };
        let kill = Command::new("kill")
            .args(["-s", signal, "--", &whom])
            .status();
        assert!(kill.unwrap().success());
        child.wait().unwrap();
        let sleeps = || {
            let stat = fs::read_to_string(helper.join("stat")).unwrap_or_default();
            !stat.is_empty() && !stat.contains(") Z ")
        };
        wait_for(|| !sleeps());
    }
}

#[test]
fn an_image_that_is_removed_leaves_nothing_half_gone() {
    for signal in ["INT", "TERM"] {
        let (person, image) = owner();
        let mut command = person.capas();
        let id = image.id().to_string();
        let command = command.args(["rmi", "-f", &id]).env("CAPAS_FAIL", "3:hang");
        let words = "what was removed is gone, the rest stays";
        let mut child = command
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        wait_for(|| hangs(child.id()));
        send(signal, child.id());
        let code = child.wait().unwrap().code();
        let mut err = String::new();
        child
            .stderr
            .take()
            .unwrap()
            .read_to_string(&mut err)
            .unwrap();
        assert_eq!(code, Some(if signal == "INT" { 130 } else { 143 }), "{err}");
        assert!(err.ends_with(&format!("\ninterrupted: {words}\n")), "{err}");
        assert_eq!(names(&person.path("store/tmp")), [""; 0]);
        assert_eq!(person.run(&["check"], "").code, 0);
        assert_eq!(person.run(&["gc"], "").code, 0);
        assert_eq!(person.run(&["images", "-q"], "").out, "");
    }
}
