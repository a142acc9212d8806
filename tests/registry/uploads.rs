//! What `push` does when registries are busy, picky, or go away.

use crate::accounts::{Done, Person, done};
use crate::images::{Image, Pack, image, layer, noise};
use crate::served::{Asked, Content, Reply, Served, put};
use capas::store::Digest;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard};

/// What has come to a registry.
#[derive(Default)]
struct Kept {
    uploads: Vec<Vec<u8>>,
    blobs: BTreeMap<String, Vec<u8>>,
    manifest: Vec<u8>,
}

/// A registry that takes what comes, but for what `fault` answers first, in
/// which HOST is its own. There are tokens at `/token`. The image is in it as `origin:1`, and somebody has it as `app:1` of the same.
struct Taking {
    served: Served,
    kept: Arc<Mutex<Kept>>,
    person: Person,
    name: String,
}

impl Taking {
    fn new(
        image: &Image,
        fault: impl Fn(&Asked) -> Option<Reply> + Send + Sync + 'static,
    ) -> Taking {
        let mut content = Content::new();
        put(&mut content, image, "origin", "1");
        put(&mut content, image, "second", "1");
        let kept = Arc::new(Mutex::new(Kept::default()));
        let own = Arc::clone(&kept);
        let host = Arc::new(Mutex::new(String::new()));
        let own_host = Arc::clone(&host);
        let served = Served::start(content, move |asked, _| {
            if asked.what.starts_with("GET /token") {
                return Some(Reply::new(200, &[], br#"{"token":"some"}"#));
            }
            let ours = asked.what.contains("/v2/app/");
            let mut reply =
                ours.then(|| fault(asked).unwrap_or_else(|| own.lock().unwrap().take(asked)))?;
            for (_, value) in &mut reply.headers {
                *value = value.replace("HOST", &own_host.lock().unwrap());
            }
            Some(reply)
        });
        host.lock().unwrap().clone_from(&served.host);
        let person = Person::new();
        let origin = format!("{}/origin:1", served.host);
        let name = format!("{}/app:1", served.host);
        assert_eq!(person.run(&["pull", "-q", &origin], "").code, 0);
        assert_eq!(person.run(&["tag", &origin, &name], "").code, 0);
        Taking {
            served,
            kept,
            person,
            name,
        }
    }

    fn push(&self) -> Done {
        self.person.run(&["push", &self.name], "")
    }

    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap()
    }

    /// All of the image is there, as it was.
    fn assert_taken(&self, image: &Image) {
        let kept = self.kept();
        assert_eq!(kept.manifest, image.manifest);
        for data in image.layers.iter().chain([&image.config]) {
            assert!(kept.blobs.get(&Digest::of(data).to_string()) == Some(data));
        }
    }

    /// The parts in which bytes came: method, range and number.
    fn parts(&self, of: usize) -> Vec<(String, String, usize)> {
        let asked = self.served.asked().into_iter();
        asked
            .filter(|a| a.what.contains(&format!("/uploads/{of}?n=1")))
            .map(|a| {
                let method = a.what.split(' ').next().unwrap().to_owned();
                (method, a.content_range.unwrap_or_default(), a.body.len())
            })
            .collect()
    }
}

impl Kept {
    /// As a registry should.
    fn take(&mut self, asked: &Asked) -> Reply {
        let (method, path) = asked.what.split_once(' ').unwrap();
        let upload = path
            .split_once("/uploads/")
            .and_then(|(_, n)| n.split('?').next().unwrap().parse::<usize>().ok());
        let at = |n: usize| format!("/v2/app/blobs/uploads/{n}?n=1");
        match (method, upload) {
            ("HEAD", _) => {
                let digest = path.rsplit('/').next().unwrap();
                let status = if self.blobs.contains_key(digest) {
                    200
                } else {
                    404
                };
                Reply::new(status, &[], b"")
            }
            ("POST", _) => {
                self.uploads.push(Vec::new());
                let location = at(self.uploads.len() - 1);
                Reply::new(202, &[("location", &location)], b"")
            }
            ("PATCH", Some(n)) => {
                self.uploads[n].extend(&asked.body);
                Reply::new(202, &[("location", &at(n))], b"")
            }
            ("PUT", Some(n)) => {
                self.uploads[n].extend(&asked.body);
                let data = std::mem::take(&mut self.uploads[n]);
                let said = path.split_once("&digest=").unwrap().1.replace("%3A", ":");
                if said != Digest::of(&data).to_string() {
                    let text = br#"{"errors":[{"code":"DIGEST_INVALID","message":"no"}]}"#;
                    return Reply::new(400, &[], text);
                }
                self.blobs.insert(said, data);
                Reply::new(201, &[], b"")
            }
            ("DELETE", Some(_)) => Reply::new(204, &[], b""),
            ("PUT", None) => {
                self.manifest.clone_from(&asked.body);
                Reply::new(201, &[], b"")
            }
            _ => Reply::new(405, &[], b""),
        }
    }
}

/// So many bytes that do not compress, in one layer.
fn sized(bytes: usize) -> Image {
    image(&[(layer("f", &noise(bytes, 7)), Pack::Plain)])
}

/// Nothing can be taken from elsewhere: the way of an upload is what matters.
fn no_mount(asked: &Asked) -> Option<Reply> {
    let mounts = asked.what.contains("?mount=");
    mounts.then(|| Reply::new(404, &[], b""))
}

#[test]
fn large_layers_go_in_parts() {
    const MIB: usize = 1 << 20;
    let image = sized(10 * MIB);
    let all = image.layers[0].len();
    for (least, part) in [
        (None, 8 * MIB),
        (Some(9 * MIB), 9 * MIB),
        (Some(1 << 40), 64 * MIB),
    ] {
        let taking = Taking::new(&image, move |asked| {
            no_mount(asked).or_else(|| {
                let least =
                    least.filter(|_| asked.what.starts_with("POST ") && asked.before == 0)?;
                let headers = [
                    ("location", "/v2/app/blobs/uploads/0?n=1"),
                    ("oci-chunk-min-length", &least.to_string()),
                ];
                Some(Reply::new(202, &headers, b""))
            })
        });
        if least.is_some() {
            taking.kept().uploads.push(Vec::new());
        }
        let pushed = taking.push();
        assert_eq!((pushed.code, pushed.err.as_str()), (0, ""));
        taking.assert_taken(&image);
        let mut want = Vec::new();
        for from in (0..all).step_by(part) {
            let end = all.min(from + part);
            let method = if end == all { "PUT" } else { "PATCH" };
            want.push((method.to_owned(), format!("{from}-{}", end - 1), end - from));
        }
        assert_eq!(taking.parts(0), want, "{least:?}");
    }
}

#[test]
fn busy_registries_get_it_again() {
    let image = sized(9 << 20);
    let layer = Digest::of(&image.layers[0]).to_string().replace(':', "%3A");
    // Each step fails once: the beginning, a part, and the end, whose answer is
    // lost.
    let steps = Mutex::new(0);
    let taking = Taking::new(&image, move |asked| {
        let mut step = steps.lock().unwrap();
        let (what, of_layer) = (&asked.what, asked.what.contains(&layer));
        let fault = match *step {
            0 if what.starts_with("POST ") && !what.contains("mount") => {
                Reply::new(429, &[("retry-after", "1")], b"")
            }
            1 if what.starts_with("PATCH ") => Reply::new(503, &[], b"<html>"),
            2 if what.starts_with("PUT ") && of_layer => Reply::default(),
            3 if what.contains("/manifests/") => Reply::new(500, &[], b""),
            _ => return no_mount(asked),
        };
        *step += 1;
        Some(fault)
    });
    let pushed = taking.push();
    let id = image.diff_ids[0].short();
    let (digest, size) = (image.digest(), image.manifest.len());
    let repository = taking.name.strip_suffix(":1").unwrap();
    assert_eq!(
        pushed,
        done(
            0,
            &format!(
                "The push refers to repository [{repository}]\n{id}: Preparing\n\
                 {id}: Retrying in 1 second\n{id}: Retrying in 2 seconds\n{id}: Pushed\n\
                 1: digest: {digest} size: {size}\n"
            ),
            ""
        )
    );
    taking.assert_taken(&image);
    // From the beginning each time, as what was there is not known.
    let first = ("PATCH".to_owned(), format!("0-{}", (8 << 20) - 1), 8 << 20);
    for upload in 0..3 {
        assert_eq!(taking.parts(upload)[0], first, "{upload}");
    }
    assert_eq!(taking.served.count("PUT /v2/app/manifests/1"), 2);
}

#[test]
fn what_registries_refuse_is_told_and_not_tried_again() {
    let image = sized(1000);
    let refused = |fault: fn(&Asked) -> Option<Reply>, why: &str| {
        let taking = Taking::new(&image, fault);
        let pushed = taking.push();
        assert_eq!(pushed.code, 1, "{pushed:?}");
        assert_eq!(pushed.err.lines().count(), 1, "{pushed:?}");
        assert!(pushed.err.contains(why), "{why}: {pushed:?}");
        taking
    };
    let taking = refused(
        |asked| {
            let manifest = asked.what.contains("/manifests/");
            let other = Digest::of(b"other").to_string();
            let reply = || Reply::new(201, &[("docker-content-digest", &other)], b"");
            manifest.then(reply).or_else(|| no_mount(asked))
        },
        "the registry stored another manifest",
    );
    // It is not in that repository, as far as we know.
    let digests = taking
        .person
        .run(&["inspect", "-f", "{{.RepoDigests}}", &taking.name], "");
    assert!(!digests.out.contains("/app@"), "{digests:?}");
    let taking = refused(
        |asked| {
            let last = asked.what.starts_with("PUT ") && asked.what.contains("/uploads/");
            let text = br#"{"errors":[{"code":"DIGEST_INVALID","message":"provided digest did not match"}]}"#;
            last.then(|| Reply::new(400, &[], text))
                .or_else(|| no_mount(asked))
        },
        "provided digest did not match",
    );
    assert_eq!(taking.served.count("PUT /v2/app/blobs/uploads/"), 1);
    refused(
        |asked| {
            let begins = asked.what.starts_with("POST ");
            begins.then(|| Reply::new(202, &[], b""))
        },
        "gives no location",
    );
    let taking = refused(
        |asked| {
            let begins = asked.what.starts_with("POST ");
            begins.then(|| Reply::new(429, &[("retry-after", "86400")], b""))
        },
        "asked again in 86400 seconds",
    );
    assert!(taking.kept().blobs.is_empty());
}

#[test]
fn a_mount_that_is_refused_is_an_upload() {
    let image = sized(1000);
    // A place to send it to instead, which is used.
    let taking = Taking::new(&image, |_| None);
    assert_eq!(taking.push().code, 0);
    taking.assert_taken(&image);
    let digest = Digest::of(&image.layers[0]).to_string().replace(':', "%3A");
    let asked = format!("POST /v2/app/blobs/uploads/?mount={digest}&from=origin");
    assert_eq!(taking.served.count(&asked), 1);
    // One more for the configuration.
    assert_eq!(taking.served.count("POST "), 2);
    // Not even that: who may write here may not read there.
    let taking = Taking::new(&image, |asked| {
        let challenge = ("www-authenticate", "Bearer realm=\"http://HOST/token\"");
        let allowed = asked.authorization.is_some() && !asked.what.contains("?mount=");
        (!allowed).then(|| Reply::new(401, &[challenge], b""))
    });
    let pushed = taking.push();
    assert_eq!((pushed.code, pushed.err.as_str()), (0, ""));
    taking.assert_taken(&image);
    assert_eq!(taking.served.count("?mount="), 2);
}

#[test]
fn places_that_are_not_used_are_given_back() {
    let image = sized(1000);
    let digest = Digest::of(&image.layers[0]).to_string().replace(':', "%3A");
    let mut content = Content::new();
    put(&mut content, &image, "elsewhere", "1");
    let elsewhere = Served::start(content, |_, _| None);
    for mounts in [false, true] {
        // A mount from the repository that is asked last.
        let taking = Taking::new(&image, move |asked| {
            let last = mounts && asked.what.ends_with("&from=origin");
            last.then(|| Reply::new(201, &[], b""))
        });
        for name in [
            format!("{}/second:1", taking.served.host),
            format!("{}/elsewhere:1", elsewhere.host),
        ] {
            assert_eq!(taking.person.run(&["pull", "-q", &name], "").code, 0);
        }
        let pushed = taking.push();
        assert_eq!((pushed.code, pushed.err.as_str()), (0, ""));
        for from in ["origin", "second"] {
            let asked = format!("?mount={digest}&from={from}");
            assert_eq!(taking.served.count(&asked), 1, "{from}");
        }
        // Names of repositories of other registries are not told.
        assert_eq!(taking.served.count("elsewhere"), 0);
        assert_eq!(taking.served.count("DELETE "), 1);
        let given_back = "DELETE /v2/app/blobs/uploads/0?n=1";
        assert_eq!(taking.served.count(given_back), 1, "{mounts}");
        if !mounts {
            taking.assert_taken(&image);
        }
    }
}
