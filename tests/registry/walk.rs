//! The image commands one after another, as people use them: what they print,
//! column by column, and their exit codes, are the same with a registry that
//! lets everybody in, one with passwords, and one with tokens.

use crate::accounts::{ALICE, Guarded, Person, have};
use crate::images::{Image, Pack, image, layer};
use crate::served::{Content, Served, put};
use crate::tokens::Tokens;
use capas::cli::units;
use capas::store::Digest;
use std::fmt::Write;

/// What was typed and what came.
struct Transcript<'a> {
    person: &'a Person,
    /// What is other each time, and what stands for it.
    names: Vec<(String, &'static str)>,
    text: String,
}

impl Transcript<'_> {
    fn run(&mut self, line: &str) {
        self.run_with(line, "");
    }

    /// Run a command line, in which names stand for what they mean.
    fn run_with(&mut self, line: &str, input: &str) {
        let mut real = line.to_owned();
        for (meant, name) in &self.names {
            real = real.replace(name, meant);
        }
        let args: Vec<&str> = real.split(' ').collect();
        let done = self.person.run(&args, input);
        let _ = write!(self.text, "$ capas {line}\n{}{}", done.out, done.err);
        if line.starts_with("create ") {
            let id = done.out.trim_end();
            self.names.push((id.to_owned(), "CONTAINER"));
            self.names.push((id[..12].to_owned(), "BOX"));
        }
        if line.starts_with("import ") && done.code == 0 {
            let id = done.out.trim_end();
            self.names.push((id.to_owned(), "IMPORTED"));
            self.names.push((id[7..19].to_owned(), "NEW"));
            let index = crate::accounts::json(&self.person.path("store/index.json"));
            let mut entries = index["manifests"].as_array().unwrap().iter();
            let ours = |e: &&serde_json::Value| e["annotations"]["io.capas.image.id"] == id;
            let manifest = entries.find(ours).unwrap()["digest"].as_str().unwrap();
            self.names.push((manifest.to_owned(), "MANIFEST"));
        }
        if done.code != 0 {
            let _ = writeln!(self.text, "[{}]", done.code);
        }
    }

    /// The text with the stand-ins. Columns are as wide as what they hold, so
    /// the stand-in for the registry is as long as it is.
    fn end(self) -> String {
        let mut text = self.text;
        for (real, name) in &self.names {
            let width = real.len();
            text = text.replace(real, &format!("{name:_<width$}"));
        }
        text
    }
}

/// An image of one layer, from elsewhere, as `origin:1`, and the archive of a
/// root filesystem.
fn owner(image: &Image) -> Person {
    let mut content = Content::new();
    put(&mut content, image, "origin", "1");
    let person = Person::new();
    bring(&person, content, "origin");
    std::fs::write(person.path("rootfs.tar"), layer("etc", b"root")).unwrap();
    person
}

/// Give somebody an image from elsewhere.
fn bring(person: &Person, content: Content, name: &str) {
    let served = Served::start(content, |_, _| None);
    let (from, to) = (format!("{}/{name}:1", served.host), format!("{name}:1"));
    assert_eq!(person.run(&["pull", "-q", &from], "").code, 0);
    assert_eq!(person.run(&["tag", &from, &to], "").code, 0);
    assert_eq!(person.run(&["rmi", &from], "").code, 0);
}

/// Six layers, of which the last four have the same file again and again.
fn six() -> Image {
    let name = |n: usize| {
        if n < 2 {
            format!("f{n}")
        } else {
            "same".to_owned()
        }
    };
    let layers: Vec<_> = (0..6)
        .map(|n| (layer(&name(n), &[b'0' + n as u8; 1000]), Pack::Gzip))
        .collect();
    image(&layers).aged()
}

fn transcript<'a>(person: &'a Person, image: &Image, host: &str) -> Transcript<'a> {
    let age = units::ago(capas::store::time::parse("2001-01-02T03:04:05Z").unwrap());
    Transcript {
        person,
        names: vec![
            (host.to_owned(), "HOST"),
            (image.digest().to_string(), "DIGEST"),
            (image.id().to_string(), "IMAGE_ID"),
            (image.id().short(), "SHORT"),
            (image.short(0), "BLOB"),
            (Digest::short(&image.diff_ids[0]), "LAYER"),
            (age, "AGE"),
        ],
        text: String::new(),
    }
}

/// All commands, by somebody who is let in.
fn walk(host: &str, password: bool) {
    let image = image(&[(layer("a", b"1234567"), Pack::Gzip)]).aged();
    let person = owner(&image);
    if password {
        let mut t = transcript(&person, &image, host);
        t.run("pull HOST/team/app");
        t.run("tag origin:1 HOST/team/app");
        t.run("push HOST/team/app");
        t.run("rmi HOST/team/app");
        t.run("search HOST/app");
        t.run_with(
            &format!("login -u {} --password-stdin HOST", ALICE.0),
            "wrong",
        );
        assert_same(&t.end(), include_str!("walk/refused.txt"), "refused");
        let login = ["login", "-u", ALICE.0, "--password-stdin", host];
        let done = person.run(&login, ALICE.1);
        assert_eq!((done.code, done.out.as_str()), (0, "Login Succeeded\n"));
    }
    let mut t = transcript(&person, &image, host);
    for line in include_str!("walk/commands.txt").lines() {
        t.run(line);
    }
    assert_same(&t.end(), include_str!("walk/done.txt"), "done");
    let six = six();
    let mut content = Content::new();
    put(&mut content, &six, "six", "1");
    bring(&person, content, "six");
    let mut t = transcript(&person, &six, host);
    for line in include_str!("walk/layers.txt").lines() {
        t.run(line);
    }
    assert_same(
        &t.end(),
        include_str!("walk/layers-done.txt"),
        "layers-done",
    );
    if password {
        let mut t = transcript(&person, &image, host);
        t.run("logout HOST");
        t.run("logout HOST");
        t.run("pull -q HOST/team/app");
        assert_same(&t.end(), include_str!("walk/logout.txt"), "logout");
    }
}

/// Fails with the first line that differs.
fn assert_same(is: &str, should: &str, name: &str) {
    for (n, (is, should)) in is.lines().zip(should.lines()).enumerate() {
        assert_eq!(is, should, "{name}.txt:{}", n + 1);
    }
    assert_eq!(is.lines().count(), should.lines().count(), "{name}.txt");
}

#[test]
fn with_a_registry_that_lets_everybody_in() {
    if have(&["docker-registry"]) {
        walk(&Guarded::open().host, false);
    }
}

#[test]
fn with_a_registry_that_wants_passwords() {
    if have(&["docker-registry"]) {
        walk(&Guarded::start().host, true);
    }
}

#[test]
fn with_a_registry_that_wants_tokens() {
    if have(&["docker-registry", "openssl"]) {
        walk(&Tokens::start().registry.host, true);
    }
}
