//! Servers and networks that fail, and servers that are up to something.

use crate::accounts::{Done, Person};
use crate::images::{Image, MANIFEST, Pack, image, index, layer, noise};
use crate::served::{Asked, Content, Reply, Served, put, put_top};
use capas::store::Digest;
use serde_json::json;
use std::fs;

pub fn sample() -> Image {
    image(&[(layer("f", &noise(300_000, 1)), Pack::Gzip)])
}

pub fn content(image: &Image) -> Content {
    let mut content = Content::new();
    put(&mut content, image, "app", "1");
    content
}

fn is_blob(asked: &Asked, image: &Image) -> bool {
    asked
        .what
        .ends_with(&format!("blobs/{}", Digest::of(&image.layers[0])))
}

/// Serve the image with a twist and pull it.
fn pull(
    image: &Image,
    twist: impl Fn(&Asked, &Reply) -> Option<Reply> + Send + Sync + 'static,
) -> (Person, Served, Done) {
    let served = Served::start(content(image), twist);
    let person = Person::new();
    let done = person.run(&["pull", &format!("{}/app:1", served.host)], "");
    (person, served, done)
}

/// It worked, and what is in the store is the image.
fn assert_pulled(person: &Person, image: &Image, done: &Done, between: &str) {
    assert_eq!(done.err, "");
    let id = image.short(0);
    let name = done.out.lines().last().unwrap().to_owned();
    let want = format!(
        "1: Pulling from app\n{id}: Pulling fs layer\n{between}{id}: Verifying Checksum\n\
         {id}: Download complete\n{id}: Pull complete\nDigest: {}\n\
         Status: Downloaded newer image for {name}\n{name}\n",
        image.digest()
    );
    assert_eq!(done.out, want);
    let tree = person.path("store/layers").join(image.diff_ids[0].hex());
    assert_eq!(
        fs::read(tree.join("f")).unwrap().len(),
        300_000,
        "the layer is unpacked"
    );
    for (digest, data) in image.blobs() {
        let blob = person.path("store/blobs/sha256").join(digest.hex());
        assert_eq!(fs::read(blob).unwrap(), data);
    }
}

/// It failed with one line that has this part, and left nothing.
pub fn assert_refused(person: &Person, done: &Done, part: &str) {
    assert_eq!(done.code, 1, "{done:?}");
    assert!(done.err.starts_with("Error: "), "{done:?}");
    assert_eq!(done.err.lines().count(), 1, "{done:?}");
    assert!(done.err.contains(part), "{part}: {done:?}");
    for dir in ["blobs/sha256", "layers", "tmp"] {
        let left = fs::read_dir(person.path("store").join(dir)).unwrap();
        assert_eq!(left.count(), 0, "{dir} after {part}");
    }
    assert_eq!(person.run(&["images", "-q"], "").out, "");
}

#[test]
fn a_cut_download_goes_on_where_it_stopped() {
    let image = sample();
    let (half, full) = (100_001, image.layers[0].len());
    let twisted = image.clone();
    let (person, served, done) = pull(&image, move |asked, right| {
        (is_blob(asked, &twisted) && asked.before < 2).then(|| Reply {
            body: right.body[..half].to_vec(),
            length: Some(right.body.len() as u64),
            ..right.clone()
        })
    });
    let id = image.short(0);
    let once = format!("{id}: Retrying in 1 second\n");
    assert_pulled(&person, &image, &done, &[once.clone(), once].concat());
    let ranges: Vec<Option<String>> = served
        .asked()
        .into_iter()
        .filter(|a| is_blob(a, &image))
        .map(|a| a.range)
        .collect();
    assert!(full > 2 * half);
    let from = |n: usize| Some(format!("bytes={n}-"));
    assert_eq!(ranges, [None, from(half), from(2 * half)]);
}

#[test]
fn a_server_that_knows_no_ranges_begins_anew() {
    let image = sample();
    let twisted = image.clone();
    let (person, _served, done) = pull(&image, move |asked, _| {
        let blob = &twisted.layers[0];
        let sent = match asked.before {
            0 => 70_000,
            _ => blob.len(),
        };
        is_blob(asked, &twisted).then(|| Reply {
            length: Some(blob.len() as u64),
            ..Reply::new(200, &[], &blob[..sent])
        })
    });
    let retry = format!("{}: Retrying in 1 second\n", image.short(0));
    assert_pulled(&person, &image, &done, &retry);
}

#[test]
fn another_part_than_was_asked_for_is_refused() {
    let image = sample();
    let twisted = image.clone();
    let (person, _served, done) = pull(&image, move |asked, right| {
        if !is_blob(asked, &twisted) {
            return None;
        }
        let blob = &twisted.layers[0];
        Some(match asked.before {
            0 => Reply {
                length: Some(blob.len() as u64),
                ..Reply::new(200, &[], &blob[..5000])
            },
            _ => Reply {
                headers: vec![("content-range".into(), "bytes 0-9/10".into())],
                ..right.clone()
            },
        })
    });
    assert_refused(&person, &done, "another part than was asked for");
}

#[test]
fn busy_and_broken_servers_are_asked_again() {
    let image = sample();
    let twisted = image.clone();
    let (person, served, done) = pull(&image, move |asked, _| match asked.before {
        0 if is_blob(asked, &twisted) => Some(Reply::new(429, &[("retry-after", "1")], b"")),
        0 if asked.what.ends_with("manifests/1") => Some(Reply::new(500, &[], b"<html>")),
        1 if asked.what.ends_with("manifests/1") => Some(Reply::new(503, &[], b"")),
        1 if is_blob(asked, &twisted) => Some(Reply::new(
            503,
            &[
                ("date", "Sun, 06 Nov 1994 08:49:37 GMT"),
                ("retry-after", "Sun, 06 Nov 1994 08:49:39 GMT"),
            ],
            b"",
        )),
        _ => None,
    });
    let id = image.short(0);
    let retry = format!("{id}: Retrying in 1 second\n{id}: Retrying in 2 seconds\n");
    assert_pulled(&person, &image, &done, &retry);
    assert_eq!(served.count("/manifests/1"), 3);
}

#[test]
fn a_server_that_stays_broken_is_given_up() {
    let image = sample();
    let (person, served, done) = pull(&image, |asked, _| {
        asked
            .what
            .contains("/manifests/")
            .then(|| Reply::new(500, &[("retry-after", "0")], b""))
    });
    assert_refused(
        &person,
        &done,
        "the server answers 500 Internal Server Error",
    );
    assert_eq!(served.count("/manifests/"), 5);
    let (person, served, done) = pull(&image, |_, _| {
        Some(Reply::new(429, &[("retry-after", "86400")], b""))
    });
    assert_refused(&person, &done, "asked again in 86400 seconds");
    assert_eq!(served.asked().len(), 1);
    let dates = [
        ("date", "Sun, 06 Nov 1994 08:49:37 GMT"),
        ("retry-after", "Mon, 07 Nov 1994 08:49:37 GMT"),
    ];
    let (person, served, done) = pull(&image, move |_, _| Some(Reply::new(503, &dates, b"")));
    assert_refused(&person, &done, "asked again in 86400 seconds");
    assert_eq!(served.asked().len(), 1);
}

#[test]
fn blobs_are_what_their_descriptors_say() {
    let image = sample();
    let changed = |change: fn(&mut Vec<u8>)| {
        let image = image.clone();
        move |asked: &Asked, right: &Reply| {
            is_blob(asked, &image).then(|| {
                let mut reply = right.clone();
                change(&mut reply.body);
                reply
            })
        }
    };
    let (person, _s, done) = pull(&image, changed(|b| *b.last_mut().unwrap() ^= 1));
    assert_refused(&person, &done, "does not have a matching checksum");
    // Nothing but the digest sees the time in its header.
    let (person, _s, done) = pull(&image, changed(|b| b[4] ^= 1));
    assert_refused(&person, &done, "the layer's blob has digest");
    let other = noise(image.layers[0].len(), 9);
    let twisted = image.clone();
    let (person, _s, done) = pull(&image, move |asked, _| {
        is_blob(asked, &twisted).then(|| Reply::new(200, &[], &other))
    });
    assert_refused(&person, &done, "bad tar archive");
    let (person, _s, done) = pull(&image, changed(|b| b.push(0)));
    assert_refused(&person, &done, "bytes, the descriptor says");
    let (person, _s, done) = pull(&image, changed(|b| b.truncate(9)));
    assert_refused(&person, &done, "sends 9 bytes, the descriptor says");
    // Without a length it is only seen at the end.
    let twisted = image.clone();
    let (person, _s, done) = pull(&image, move |asked, right| {
        is_blob(asked, &twisted).then(|| Reply {
            endless: true,
            ..right.clone()
        })
    });
    assert_refused(&person, &done, "more than the");
    let twisted = image.clone();
    let (person, _s, done) = pull(&image, move |asked, right| {
        let config = format!("blobs/{}", twisted.id());
        asked.what.ends_with(&config).then(|| {
            let mut reply = right.clone();
            reply.body[20] ^= 1;
            reply
        })
    });
    assert_refused(&person, &done, "has digest");
}

#[test]
fn manifests_are_bounded_and_what_they_are_called() {
    let image = sample();
    let manifest = |asked: &Asked| asked.what.contains("/manifests/");
    let (person, _s, done) = pull(&image, move |asked, right| {
        manifest(asked).then(|| Reply {
            body: [right.body.as_slice(), &vec![b' '; 5 << 20]].concat(),
            headers: Vec::new(),
            ..right.clone()
        })
    });
    assert_refused(&person, &done, "answers with more than 4194304 bytes");
    let (person, _s, done) = pull(&image, move |asked, _| {
        manifest(asked).then(|| Reply {
            endless: true,
            ..Reply::new(200, &[], b"{\"a\":")
        })
    });
    assert_refused(&person, &done, "answers with more than 4194304 bytes");
    for (said, part) in [
        ("sha256:../../../etc/passwd", "is no sha256 digest"),
        ("latest", "is no digest"),
        (
            "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
            "not sha256:e3b0c4",
        ),
    ] {
        let (person, _s, done) = pull(&image, move |asked, right| {
            manifest(asked).then(|| Reply {
                headers: vec![
                    ("content-type".into(), MANIFEST.into()),
                    ("docker-content-digest".into(), said.into()),
                ],
                ..right.clone()
            })
        });
        assert_refused(&person, &done, part);
    }
    let bodies = [
        (
            json!({"schemaVersion": 1, "name": "app", "fsLayers": []}).to_string(),
            "schema 1, which is not supported",
        ),
        ("{}".to_owned(), "neither a manifest nor an index"),
        (
            json!({"schemaVersion": 2, "manifests": [], "layers": []}).to_string(),
            "at once",
        ),
        (
            String::from_utf8(image.manifest.clone())
                .unwrap()
                .replace(&Digest::of(&image.layers[0]).hex(), "../../x"),
            "is no sha256 digest",
        ),
        (
            String::from_utf8(image.manifest.clone()).unwrap().replace(
                &Digest::of(&image.layers[0]).to_string(),
                &format!("sha512:{}", "0".repeat(128)),
            ),
            "digest algorithm sha512 is not supported: images are named by sha256 here",
        ),
    ];
    for (body, part) in bodies {
        let (person, _s, done) = pull(&image, move |asked, _| {
            manifest(asked).then(|| Reply::new(200, &[], body.as_bytes()))
        });
        assert_refused(&person, &done, part);
    }
    let (person, _s, done) = pull(&image, move |asked, right| {
        let kind = ("content-type", crate::images::INDEX);
        manifest(asked).then(|| Reply::new(200, &[kind], &right.body))
    });
    assert_refused(&person, &done, "the server calls it");
}

#[test]
fn an_index_gets_what_it_names() {
    let image = sample();
    let host = capas::store::document::host_architecture();
    let top = index(&[(&image, json!({"os": "linux", "architecture": host}))]);
    let mut content = content(&image);
    put_top(&mut content, crate::images::INDEX, &top, "app", "2");
    let other = crate::images::image(&[(layer("g", b"x"), Pack::Plain)]);
    let served = Served::start(content, move |asked, _| {
        asked
            .what
            .contains("/manifests/sha256:")
            .then(|| Reply::new(200, &[("content-type", MANIFEST)], &other.manifest))
    });
    let person = Person::new();
    let done = person.run(&["pull", &format!("{}/app:2", served.host)], "");
    assert_refused(&person, &done, "the manifest has digest");
}

/// Someone with a password for `host`.
fn with_password(host: &str) -> Person {
    let person = Person::new();
    let auth = json!({"auths": {host: {"auth": "bWU6aGlkZGVu"}}});
    person.write(".docker/config.json", &auth.to_string());
    person
}

const KEY: &str = "Basic bWU6aGlkZGVu";

fn challenge(text: &str) -> Option<Reply> {
    Some(Reply::new(401, &[("www-authenticate", text)], b""))
}

#[test]
fn credentials_stay_with_the_host_they_are_for() {
    let image = sample();
    // A storage elsewhere, which asks for credentials too.
    let blob = image.layers[0].clone();
    let elsewhere = Served::start(Content::new(), move |asked, _| match asked.what.as_str() {
        "GET /open" => Some(Reply::new(200, &[], &blob)),
        _ => challenge("Basic realm=\"more\""),
    });
    for (path, works) in [("open", true), ("closed", false)] {
        let twisted = image.clone();
        let to = format!("http://{}/{path}", elsewhere.host);
        let served = Served::start(content(&image), move |asked, _| {
            if asked.authorization.as_deref() != Some(KEY) {
                return challenge("Basic realm=\"x\"");
            }
            is_blob(asked, &twisted).then(|| Reply::new(307, &[("location", &to)], b""))
        });
        let person = with_password(&served.host);
        let done = person.run(&["pull", "-q", &format!("{}/app:1", served.host)], "");
        match works {
            true => assert_eq!((done.code, done.err.as_str()), (0, "")),
            false => assert_refused(&person, &done, "authentication required"),
        }
    }
    assert_eq!(elsewhere.asked().len(), 2);
    assert!(elsewhere.asked().iter().all(|a| a.authorization.is_none()));
}

/// `urls` of a layer may name any host; a token went there once
/// (CVE-2020-15157).
#[test]
fn layers_are_not_fetched_from_where_a_manifest_says() {
    let mut image = sample();
    let blob = image.layers[0].clone();
    let elsewhere = Served::start(Content::new(), move |_, _| {
        Some(Reply::new(200, &[], &blob))
    });
    let mut manifest: serde_json::Value = serde_json::from_slice(&image.manifest).unwrap();
    let foreign = "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip";
    manifest["layers"][0]["mediaType"] = foreign.into();
    manifest["layers"][0]["urls"] = json!([format!("http://{}/layer", elsewhere.host)]);
    image.manifest = manifest.to_string().into_bytes();
    let mut content = content(&image);
    let path = format!("/v2/app/blobs/{}", Digest::of(&image.layers[0]));
    content.remove(&path).unwrap();
    let served = Served::start(content, |_, _| None);
    let person = with_password(&served.host);
    let done = person.run(&["pull", "-q", &format!("{}/app:1", served.host)], "");
    assert_refused(&person, &done, "blob unknown");
    assert!(elsewhere.asked().is_empty());
    // One that the registry has is a layer like others.
    let served = Served::start(self::content(&image), |_, _| None);
    let done = person.run(&["pull", &format!("{}/app:1", served.host)], "");
    assert_pulled(&person, &image, &done, "");
}

#[test]
fn nothing_secret_goes_without_tls() {
    let image = sample();
    // 192.0.2.1 is nobody's.
    let served = Served::start(content(&image), |_, _| {
        challenge("Bearer realm=\"http://192.0.2.1/token\",service=\"s\"")
    });
    let person = with_password(&served.host);
    let done = person.run(&["pull", &format!("{}/app:1", served.host)], "");
    assert_refused(
        &person,
        &done,
        "names a token server without TLS: 192.0.2.1",
    );
    for to in ["http://192.0.2.1/x", "//192.0.2.1/x"] {
        let (person, _served, done) = pull(&image, move |asked, _| {
            asked
                .what
                .contains("/manifests/")
                .then(|| Reply::new(307, &[("location", to)], b""))
        });
        assert_refused(&person, &done, "192.0.2.1 would be spoken to without TLS");
    }
}

#[test]
fn redirects_have_an_end() {
    let image = sample();
    let (person, served, done) = pull(&image, |asked, _| {
        let next = format!("/v2/app/manifests/1?n={}", asked.what.len());
        asked
            .what
            .contains("/manifests/")
            .then(|| Reply::new(302, &[("location", &next)], b""))
    });
    assert_refused(&person, &done, "redirects more than 5 times");
    assert_eq!(served.asked().len(), 6);
}

#[test]
fn mirrors_are_asked_first_and_not_believed() {
    let image = sample();
    let other = crate::images::image(&[(layer("g", b"x"), Pack::Gzip)]);
    let empty = Served::start(Content::new(), |_, _| Some(Reply::new(500, &[], b"")));
    let twisted = image.clone();
    let lying = Served::start(content(&image), move |asked, _| {
        is_blob(asked, &twisted).then(|| Reply::new(404, &[], &other.layers[0]))
    });
    let real = Served::start(content(&image), |_, _| None);
    let person = with_password(&real.host);
    let config = format!(
        "[registries.\"{}\"]\nmirrors = [\"http://{}\", \"http://{}\"]\n",
        real.host, empty.host, lying.host
    );
    person.write(".config/capas/config.toml", &config);
    let done = person.run(&["pull", &format!("{}/app:1", real.host)], "");
    assert_pulled(&person, &image, &done, "");
    assert_eq!(empty.asked().len(), 3);
    assert_eq!(real.asked().len(), 1);
    assert_eq!(real.count("/blobs/"), 1);
    for mirror in [&empty, &lying] {
        assert!(mirror.asked().iter().all(|a| a.authorization.is_none()));
    }
    person.write(".config/capas/config.toml", "[registries.x]\nmirors = []\n");
    let done = person.run(&["images"], "");
    assert!(done.err.contains("unknown field `mirors`"), "{done:?}");
}

#[test]
fn a_blob_is_asked_for_as_often_as_a_manifest() {
    let image = sample();
    let twisted = image.clone();
    let (person, served, done) = pull(&image, move |asked, _| {
        is_blob(asked, &twisted).then(|| Reply::new(503, &[("retry-after", "0")], b""))
    });
    assert_refused(&person, &done, "the server answers 503 Service Unavailable");
    assert_eq!(
        served.count(&format!("/blobs/{}", Digest::of(&image.layers[0]))),
        5
    );
}

#[test]
fn what_a_mirror_sends_wrongly_comes_from_the_next() {
    let image = sample();
    let wrong = |change: fn(&mut Reply)| {
        let twisted = image.clone();
        Served::start(content(&image), move |asked, right| {
            let config = format!("/blobs/{}", twisted.id());
            let blob = is_blob(asked, &twisted) || asked.what.ends_with(&config);
            blob.then(|| {
                let mut reply = right.clone();
                change(&mut reply);
                reply
            })
        })
    };
    let changed = wrong(|r| *r.body.last_mut().unwrap() ^= 1);
    let cut = wrong(|r| {
        let length = r.length.unwrap_or(r.body.len() as u64);
        r.body.truncate(100.min(r.body.len() / 2));
        r.length = Some(length);
        r.headers.clear();
    });
    let long = wrong(|r| r.body.push(0));
    let real = Served::start(content(&image), |_, _| None);
    for mirrors in [&[&changed][..], &[&changed, &long], &[&cut]] {
        let person = Person::new();
        let urls: Vec<String> = mirrors
            .iter()
            .map(|m| format!("\"http://{}\"", m.host))
            .collect();
        let config = format!(
            "[registries.\"{}\"]\nmirrors = [{}]\n",
            real.host,
            urls.join(", ")
        );
        person.write(".config/capas/config.toml", &config);
        let done = person.run(&["pull", "-q", &format!("{}/app:1", real.host)], "");
        assert_eq!((done.code, done.err.as_str()), (0, ""));
        assert_eq!(person.run(&["check"], "").code, 0);
        let blob = Digest::of(&image.layers[0]).to_string();
        assert!(mirrors.iter().all(|m| m.count(&blob) > 0));
    }
    assert_eq!(real.count(&Digest::of(&image.layers[0]).to_string()), 3);
}
