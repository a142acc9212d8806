//! Layers on their way: several at a time, unpacked as they come, and how that
//! is shown.

use crate::accounts::{Person, have};
use crate::images::{Image, Pack, image, layer, noise};
use crate::interrupt::wait_for;
use crate::served::{Asked, Content, Reply, Served, put};
use capas::store::Digest;
use std::fs;
use std::io::Read;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};

/// Half of a blob, and the rest when nobody holds the gate.
fn held(asked: &Asked, right: &Reply, gate: &Arc<Mutex<()>>, large: usize) -> Option<Reply> {
    (asked.what.starts_with("GET ") && right.body.len() > large).then(|| Reply {
        hold: Some((right.body.len() - 100_000, Arc::clone(gate))),
        ..right.clone()
    })
}

/// A layer with a small file, and then a large one.
fn two_files(n: usize) -> Vec<u8> {
    let mut tar = layer(&format!("small{n}"), b"first");
    tar.truncate(1024);
    tar.extend(layer(&format!("large{n}"), &noise(1_300_000, n as u64)));
    tar
}

/// An image of several large layers, and a registry that has it, which stops
/// before the end of each while the gate is held.
fn slow(layers: usize) -> (Image, Served, Arc<Mutex<()>>) {
    let layers: Vec<_> = (0..layers).map(|n| (two_files(n), Pack::Gzip)).collect();
    let image = image(&layers);
    let mut content = Content::new();
    put(&mut content, &image, "app", "1");
    let gate = Arc::new(Mutex::new(()));
    let own = Arc::clone(&gate);
    let served = Served::start(content, move |asked, right| {
        held(asked, right, &own, 1_000_000)
    });
    (image, served, gate)
}

/// A command whose output is kept.
struct Running {
    child: Child,
    shown: Arc<Mutex<String>>,
    reader: std::thread::JoinHandle<()>,
}

impl Running {
    fn start(command: &mut Command) -> Running {
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::inherit())
            .spawn()
            .unwrap();
        let shown = Arc::new(Mutex::new(String::new()));
        let own = Arc::clone(&shown);
        let mut out = child.stdout.take().unwrap();
        let reader = std::thread::spawn(move || {
            let mut buf = [0; 4096];
            while let Ok(n @ 1..) = out.read(&mut buf) {
                own.lock()
                    .unwrap()
                    .push_str(&String::from_utf8_lossy(&buf[..n]));
            }
        });
        Running {
            child,
            shown,
            reader,
        }
    }

    fn shown(&self) -> String {
        self.shown.lock().unwrap().clone()
    }

    /// Exit code and all that was shown.
    fn end(mut self) -> (i32, String) {
        let code = self.child.wait().unwrap().code().unwrap();
        self.reader.join().unwrap();
        let shown = self.shown.lock().unwrap().clone();
        (code, shown)
    }
}

/// `capas` at a terminal of its own.
fn at_terminal(person: &Person, args: &[&str]) -> Command {
    let mut command = person.command("script");
    let line = format!(
        "stty cols 80 rows 24; exec {} {}",
        env!("CARGO_BIN_EXE_capas"),
        args.join(" ")
    );
    command
        .env("TERM", "xterm")
        .args(["-q", "-e", "-f", "-c", &line, "/dev/null"]);
    command
}

/// The files of that name in staging.
fn staged(person: &Person, name: &str) -> Vec<PathBuf> {
    let dirs = fs::read_dir(person.path("store/tmp"))
        .into_iter()
        .flatten()
        .flatten();
    let layers = dirs.flat_map(|d| fs::read_dir(d.path().join("layers")).into_iter().flatten());
    layers
        .flatten()
        .map(|layer| layer.path().join(name))
        .filter(|path| path.exists())
        .collect()
}

#[test]
fn three_layers_come_at_a_time_and_are_unpacked_meanwhile() {
    let (image, served, gate) = slow(5);
    let person = Person::new();
    let name = format!("{}/app:1", served.host);
    let closed = gate.lock().unwrap();
    let pull = Running::start(person.capas().args(["pull", &name]));
    let blobs = || {
        let all = served.asked();
        let digests: Vec<String> = image
            .layers
            .iter()
            .map(|l| Digest::of(l).to_string())
            .collect();
        all.iter()
            .filter(|a| digests.iter().any(|d| a.what.ends_with(d)))
            .count()
    };
    // None of them has ended, and of each the first file is there.
    for n in 0..3 {
        wait_for(|| staged(&person, &format!("small{n}")).len() == 1);
    }
    assert_eq!(blobs(), 3);
    let small = &staged(&person, "small0")[0];
    assert_eq!(fs::read(small).unwrap(), b"first");
    assert!(staged(&person, "small3").is_empty());
    let ids: Vec<String> = (0..5).map(|n| image.short(n)).collect();
    let fetched = |id: &String| format!("{id}: Pulling fs layer\n");
    let mut said = "1: Pulling from app\n".to_owned();
    said.extend(ids[..3].iter().map(fetched));
    for id in &ids[3..] {
        said.push_str(&format!("{}{id}: Waiting\n", fetched(id)));
    }
    wait_for(|| pull.shown() == said);
    drop(closed);
    let (code, shown) = pull.end();
    assert_eq!(code, 0);
    assert_eq!(shown.matches(": Pull complete\n").count(), 5);
    assert_eq!(blobs(), 5);
    assert_eq!(person.run(&["check"], "").code, 0);
}

/// The way in is closed, and who has one nevertheless changes no file outside.
#[test]
fn who_swaps_a_tree_while_it_is_unpacked_gains_nothing() {
    let (_, served, gate) = slow(1);
    let person = Person::new();
    let name = format!("{}/app:1", served.host);
    let closed = gate.lock().unwrap();
    let pull = Running::start(person.capas().args(["pull", "-q", &name]));
    wait_for(|| staged(&person, "small0").len() == 1);
    let tree = staged(&person, "small0")[0].parent().unwrap().to_owned();
    let staging = tree.parent().unwrap().parent().unwrap();
    for dir in [staging, &person.path("store/tmp"), &person.path("store")] {
        let mode = fs::metadata(dir).unwrap().permissions();
        assert_eq!(
            std::os::unix::fs::PermissionsExt::mode(&mode) & 0o777,
            0o700
        );
    }
    let outside = person.path("outside");
    fs::create_dir(&outside).unwrap();
    fs::rename(&tree, person.path("moved")).unwrap();
    std::os::unix::fs::symlink(&outside, &tree).unwrap();
    let before = fs::metadata(&outside).unwrap();
    drop(closed);
    let (code, _) = pull.end();
    let after = fs::metadata(&outside).unwrap();
    assert_eq!(fs::read_dir(&outside).unwrap().count(), 0);
    assert_eq!(
        (after.modified().unwrap(), after.permissions()),
        (before.modified().unwrap(), before.permissions())
    );
    assert!(person.path("moved/large0").exists());
    // A link is no layer, and whoever looks sees that.
    assert_eq!((code, person.run(&["check"], "").code), (0, 1));
}

#[test]
fn terminals_get_bars() {
    if !have(&["script", "stty"]) {
        return;
    }
    let (image, served, gate) = slow(2);
    let person = Person::new();
    let name = format!("{}/app:1", served.host);
    let closed = gate.lock().unwrap();
    let pull = Running::start(&mut at_terminal(&person, &["pull", &name]));
    let size = capas::cli::units::fine_size(image.layers[0].len() as u64);
    wait_for(|| {
        let shown = pull.shown();
        let ids = image.layers.iter().map(|l| Digest::of(l).short());
        ids.into_iter()
            .all(|id| shown.contains(&format!("{id}: Downloading [")))
            && shown.contains(&format!("/{size}"))
    });
    // The whole bar with its numbers, and never more than the width.
    let (_, bar) = pull
        .shown()
        .split_once(": Downloading [")
        .map(|(a, b)| (a.to_owned(), b.to_owned()))
        .unwrap();
    let (bar, rest) = bar.split_once("] ").unwrap();
    assert!(bar.trim_end().trim_start_matches('=') == ">", "{bar}");
    let numbers = rest.get(..16).unwrap().trim_start();
    let line = 14 + "Downloading [] ".len() + bar.len() + 9 + size.len();
    assert!(numbers.contains(&format!("/{size}")), "{numbers}");
    assert!(line <= 80, "{line}: {bar}");
    drop(closed);
    let (code, shown) = pull.end();
    assert_eq!(code, 0);
    for digest in image.layers.iter().map(|l| Digest::of(l).short()) {
        assert!(shown.contains(&format!("{digest}: Pull complete")));
    }
    assert!(
        !shown.contains("\u{1b}[2A") && !shown.contains('░'),
        "{shown:?}"
    );
    assert!(shown.ends_with(&format!(
        "\r\nStatus: Downloaded newer image for {name}\r\n{name}\r\n"
    )));

    // A load shows its bars in the same way, and both refuse what would only
    // make a mess.
    let archive = person.path("saved.tar");
    let archive = archive.to_str().unwrap();
    assert_eq!(person.run(&["save", "-o", archive, &name], "").code, 0);
    assert_eq!(person.run(&["rmi", &name], "").code, 0);
    let at = |args: &[&str]| Running::start(&mut at_terminal(&person, args)).end();
    let (code, shown) = at(&["load", "-i", archive]);
    assert_eq!(code, 0);
    for digest in image.diff_ids.iter().map(Digest::short) {
        assert!(
            shown.contains(&format!("{digest}: Loading layer [")),
            "{shown:?}"
        );
    }
    assert!(
        shown.ends_with(&format!("\r\nLoaded image: {name}\r\n")),
        "{shown:?}"
    );
    let (code, shown) = at(&["load", "-q", "-i", archive]);
    assert_eq!((code, shown), (0, format!("Loaded image: {name}\r\n")));
    let (code, shown) = at(&["save", &name]);
    let refused = "Error: cowardly refusing to save to a terminal. Use the -o flag or redirect\r\n";
    assert_eq!((code, shown.as_str()), (1, refused));
    let (code, shown) = at(&["load"]);
    let refused = "Error: requested load from stdin, but stdin is empty: give -i FILE\r\n";
    assert_eq!((code, shown.as_str()), (1, refused));
}

#[test]
fn a_push_has_bars_and_sends_five_layers_at_a_time() {
    if !have(&["script", "stty"]) {
        return;
    }
    let layers: Vec<_> = (0..7)
        .map(|n| (layer(&format!("f{n}"), &noise(9000, n)), Pack::Gzip))
        .collect();
    let image = image(&layers);
    let mut content = Content::new();
    put(&mut content, &image, "origin", "1");
    let gate = Arc::new(Mutex::new(()));
    let own = Arc::clone(&gate);
    let served = Served::start(content, move |asked, _| {
        let (method, path) = asked.what.split_once(' ').unwrap();
        if !path.starts_with("/v2/app/") {
            return None;
        }
        let upload = [("location", "/v2/app/blobs/uploads/1")];
        Some(match method {
            "POST" if path.contains("?mount=") => Reply::new(404, &[], b""),
            "POST" => Reply::new(202, &upload, b""),
            "PUT" => {
                drop(own.lock());
                Reply::new(201, &[], b"")
            }
            _ => Reply::new(404, &[], b""),
        })
    });
    let person = Person::new();
    let (origin, name) = (
        format!("{}/origin:1", served.host),
        format!("{}/app:1", served.host),
    );
    assert_eq!(person.run(&["pull", "-q", &origin], "").code, 0);
    assert_eq!(person.run(&["tag", &origin, &name], "").code, 0);
    let ids: Vec<String> = image.diff_ids.iter().rev().map(Digest::short).collect();
    let closed = gate.lock().unwrap();
    let push = Running::start(person.capas().args(["push", &name]));
    wait_for(|| served.count("PUT /v2/app/blobs/") == 5);
    let mut said = format!("The push refers to repository [{}/app]\n", served.host);
    ids.iter()
        .for_each(|id| said.push_str(&format!("{id}: Preparing\n")));
    ids[5..]
        .iter()
        .for_each(|id| said.push_str(&format!("{id}: Waiting\n")));
    wait_for(|| push.shown() == said);
    drop(closed);
    let (code, shown) = push.end();
    assert_eq!((code, shown.matches(": Pushed\n").count()), (0, 7));

    let (code, shown) = Running::start(&mut at_terminal(&person, &["push", &name])).end();
    assert_eq!(code, 0);
    for id in &ids {
        assert!(shown.contains(&format!("{id}: Pushed")), "{shown:?}");
    }
    let last = format!(
        "\r\n1: digest: {} size: {}\r\n",
        image.digest(),
        image.manifest.len()
    );
    assert!(shown.ends_with(&last), "{shown:?}");
}
