//! `import` of what is at a URL.

use crate::accounts::{Done, Person, done};
use crate::images::{Pack, layer, noise, pack};
use crate::served::{Asked, Content, Reply, Served};
use std::fs;

const PATH: &str = "/files/rootfs.tar.gz";

/// The archive, large enough to be cut.
fn archive() -> Vec<u8> {
    pack(&layer("f", &noise(300_000, 3)), Pack::Gzip)
}

/// Import what a server sends.
fn import(
    twist: impl Fn(&Asked, &Reply) -> Option<Reply> + Send + Sync + 'static,
) -> (Person, Served, Done) {
    let kind = "application/octet-stream".to_owned();
    let served = Served::start(Content::from([(PATH.to_owned(), (kind, archive()))]), twist);
    let person = Person::new();
    let url = format!("http://{}{PATH}", served.host);
    let done = person.run(&["import", &url, "rootfs:1"], "");
    (person, served, done)
}

fn assert_imported(person: &Person, served: &Served, done: &Done, waits: &str) {
    let url = format!("http://{}{PATH}", served.host);
    let id = person.run(&["images", "-q", "--no-trunc"], "").out;
    assert_eq!(
        (done.code, done.err.as_str(), done.out.as_str()),
        (
            0,
            "",
            format!("Downloading from {url}\n{waits}{id}").as_str()
        )
    );
    let history = [
        "history",
        "--no-trunc",
        "--format",
        "{{.Comment}}",
        "rootfs:1",
    ];
    assert_eq!(
        person.run(&history, "").out,
        format!("Imported from {url}\n")
    );
    let whole = capas::store::Digest::of(&layer("f", &noise(300_000, 3)));
    let tree = person.path("store/layers").join(whole.hex());
    assert_eq!(fs::read(tree.join("f")).unwrap(), noise(300_000, 3));
}

/// Refused in one line that says so, and nothing is left.
fn assert_refused(person: &Person, done: &Done, words: &str) {
    assert_eq!((done.code, done.err.lines().count()), (1, 1), "{done:?}");
    assert!(done.err.contains(words), "{done:?}");
    for dir in ["tmp", "blobs/sha256", "layers"] {
        let left = fs::read_dir(person.path("store").join(dir)).unwrap();
        assert_eq!(left.count(), 0, "{dir}");
    }
}

/// The first half, where the whole was asked for.
fn half(asked: &Asked, right: &Reply, headers: &[(&str, &str)]) -> Option<Reply> {
    asked.range.is_none().then(|| {
        let whole = right.body.len();
        let mut reply = Reply::new(200, headers, &right.body[..whole / 2]);
        reply.length = Some(whole as u64);
        reply
    })
}

#[test]
fn a_url_gives_the_same_as_its_file() {
    let (person, served, done) = import(|_, _| None);
    assert_imported(&person, &served, &done, "");
    let local = person.path("a.tar.gz");
    fs::write(&local, archive()).unwrap();
    let again = person.run(&["import", local.to_str().unwrap(), "local:1"], "");
    assert_eq!(again.code, 0);
    let layers = |name: &str| {
        let format = "{{.RootFS.Layers}}";
        person.run(&["inspect", "--format", format, name], "").out
    };
    assert_eq!(layers("rootfs:1"), layers("local:1"));
    // The message is that of who imports, if he gives one.
    let url = format!("http://{}{PATH}", served.host);
    assert_eq!(
        person.run(&["import", "-m", "mine", &url, "m:1"], "").code,
        0
    );
    let history = ["history", "--format", "{{.Comment}}", "m:1"];
    assert_eq!(person.run(&history, "").out, "mine\n");
}

#[test]
fn busy_servers_are_asked_again_and_redirects_followed() {
    let led_to = |place: &'static str| {
        import(move |asked, _| match asked.before {
            0 if asked.what.ends_with(PATH) => Some(Reply::new(503, &[("retry-after", "1")], b"")),
            1 if asked.what.ends_with(PATH) => Some(Reply::new(302, &[("location", place)], b"")),
            _ => None,
        })
    };
    let (person, served, done) = led_to(PATH);
    let waits = "rootfs.tar.gz: Retrying in 1 second\n";
    assert_imported(&person, &served, &done, waits);
    let (person, _served, done) = led_to("/nowhere");
    assert_refused(&person, &done, "blob unknown: it is not here");
}

#[test]
fn a_cut_download_goes_on_with_the_same_file_only() {
    for header in [
        ("etag", "\"one\""),
        ("last-modified", "Sun, 06 Nov 1994 08:49:37 GMT"),
    ] {
        let (person, served, done) = import(move |asked, right| half(asked, right, &[header]));
        let waits = "rootfs.tar.gz: Retrying in 1 second\n";
        assert_imported(&person, &served, &done, waits);
        assert_eq!(served.asked()[1].if_range.as_deref(), Some(header.1));
    }
    // It says no version, or only a weak one.
    for headers in [&[][..], &[("etag", "W/\"one\"")]] {
        let (person, served, done) = import(move |asked, right| half(asked, right, headers));
        assert_refused(&person, &done, ": the download broke off");
        assert_eq!(done.out.lines().count(), 1, "{done:?}");
        assert_eq!(served.asked().len(), 1);
    }
    // Another version is there meanwhile, and sent whole.
    let (person, _served, done) = import(|asked, right| {
        half(asked, right, &[("etag", "\"one\"")])
            .or_else(|| Some(Reply::new(200, &[("etag", "\"two\"")], &right.body[..10])))
    });
    assert_refused(&person, &done, "does not send the rest of the same file");
    // It breaks off each time.
    let (person, served, done) = import(|_, right| {
        let mut reply = Reply::new(200, &[("etag", "\"one\"")], &right.body[..0]);
        reply.length = Some(right.body.len() as u64);
        Some(reply)
    });
    assert_refused(&person, &done, "does not send the rest of the same file");
    assert_eq!(served.asked().len(), 2);
}

#[test]
fn what_is_no_url_of_a_file_is_not_asked_for() {
    let person = Person::new();
    for (url, why) in [
        (
            "http://192.0.2.1/a.tar",
            "cannot get a file of 192.0.2.1: 192.0.2.1 would be spoken to without TLS: --insecure allows it",
        ),
        (
            "https://me:secret@h.example/a.tar",
            "a URL with a name or a password in it is not used: get the file by another program and give \"-\"",
        ),
        ("http://", "bad URL of "),
        ("http:///a.tar", "bad URL of "),
        ("http://a b/c", "bad URL of a b"),
    ] {
        let done = person.run(&["import", url], "");
        assert_refused(&person, &done, why);
        assert!(!done.err.contains("secret"));
    }
    assert_eq!(
        person.run(&["import", "ftp://h/a"], ""),
        done(
            1,
            "",
            "Error: cannot open ftp://h/a: No such file or directory (os error 2)\n"
        )
    );
}
