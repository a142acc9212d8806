//! `push`: what it prints, sends and does not send.

use crate::accounts::{ALICE, Guarded, Person, done, have, root};
use crate::images::{Image, Pack, docker_image, image, layer, noise};
use crate::served::{Content, Served, put};
use capas::store::Digest;
use serde_json::Value;
use std::fs;
use std::path::Path;
use std::process::Command;

/// The image in a store, pulled from a registry in memory.
fn pulled(person: &Person, image: &Image) {
    let mut content = Content::new();
    put(&mut content, image, "origin", "1");
    let served = Served::start(content, |_, _| None);
    let name = format!("{}/origin:1", served.host);
    let done = person.run(&["pull", "-q", &name], "");
    assert_eq!((done.code, done.err.as_str()), (0, ""));
}

/// Give the image one more name.
fn tag(person: &Person, image: &Image, name: &str) {
    let done = person.run(&["tag", &image.id().to_string(), name], "");
    assert_eq!((done.code, done.err.as_str()), (0, ""));
}

/// A manifest as skopeo gets it.
fn raw(host: &str, name: &str, creds: Option<&str>) -> Vec<u8> {
    let out = Command::new("skopeo")
        .args(["inspect", "--raw", "--tls-verify=false"])
        .args(creds.map(|c| format!("--creds={c}")))
        .arg(format!("docker://{host}/{name}"))
        .output()
        .unwrap();
    assert!(out.status.success(), "{out:?}");
    out.stdout
}

/// The lines of a push of two layers, each of which ends in that way; layers
/// come in any order after the first lines.
fn assert_said(out: &str, repository: &str, image: &Image, ends: &[&str], last: &str) {
    let lines: Vec<&str> = out.lines().collect();
    let ids: Vec<String> = image.diff_ids.iter().map(Digest::short).collect();
    assert_eq!(
        lines[..3],
        [
            format!("The push refers to repository [{repository}]"),
            format!("{}: Preparing", ids[1]),
            format!("{}: Preparing", ids[0]),
        ]
    );
    let mut middle = lines[3..5].to_vec();
    middle.sort_unstable();
    let mut wanted = [
        format!("{}: {}", ids[0], ends[0]),
        format!("{}: {}", ids[1], ends[1]),
    ];
    wanted.sort();
    assert_eq!(middle, wanted);
    assert_eq!(lines[5..], [last]);
}

#[test]
fn what_was_pulled_is_pushed_with_its_digests() {
    if !have(&["docker-registry", "skopeo"]) {
        return;
    }
    let registry = Guarded::start();
    let host = registry.host.as_str();
    let creds = format!("{}:{}", ALICE.0, ALICE.1);
    // The second layer goes in several parts.
    let images = [
        image(&[
            (layer("a", b"1"), Pack::Zstd),
            (layer("b", &noise(20 << 20, 5)), Pack::Gzip),
        ]),
        docker_image(&[
            (layer("a", b"2"), Pack::Gzip),
            (layer("b", b"3"), Pack::Gzip),
        ]),
    ];
    for (i, image) in images.iter().enumerate() {
        let person = Person::new();
        pulled(&person, image);
        let repository = format!("{host}/one{i}");
        tag(&person, image, &format!("{repository}:1"));
        tag(&person, image, &format!("{host}/two{i}:latest"));
        let to = format!("{repository}:1");
        let refused = person.run(&["push", &to], "");
        assert_eq!(refused.code, 1);
        assert!(
            refused.err.contains("authentication required"),
            "{refused:?}"
        );
        let login = ["login", "-u", ALICE.0, "--password-stdin", host];
        assert_eq!(person.run(&login, ALICE.1).code, 0);

        let (digest, size) = (image.digest(), image.manifest.len());
        let last = format!("1: digest: {digest} size: {size}");
        for ends in [["Pushed"; 2], ["Layer already exists"; 2]] {
            let pushed = person.run(&["push", &to], "");
            assert_eq!(pushed.err, "");
            assert_said(&pushed.out, &repository, image, &ends, &last);
        }
        assert_eq!(
            raw(host, &format!("one{i}:1"), Some(&creds)),
            image.manifest
        );
        let other = person.run(&["push", &format!("{host}/two{i}")], "");
        let rest = other
            .out
            .strip_prefix("Using default tag: latest\n")
            .unwrap();
        let mounted = format!("Mounted from one{i}");
        let last = format!("latest: digest: {digest} size: {size}");
        assert_said(
            rest,
            &format!("{host}/two{i}"),
            image,
            &[mounted.as_str(); 2],
            &last,
        );
        let pinned = format!("{repository}@{digest}");
        assert_eq!(person.run(&["inspect", &pinned], "").code, 0);
        assert_eq!(
            person.run(&["push", "-q", &to], ""),
            done(0, &format!("{to}\n"), "")
        );

        // Somebody else gets what was sent.
        let friend = Person::new();
        assert_eq!(friend.run(&login, ALICE.1).code, 0);
        let got = friend.run(&["pull", &to], "");
        assert!(got.out.contains(&format!("Digest: {digest}\n")), "{got:?}");
        for (digest, data) in image.blobs() {
            let blob = friend.path("store/blobs/sha256").join(digest.hex());
            assert_eq!(fs::read(blob).unwrap(), data);
        }
    }
}

#[test]
fn all_tags_and_what_cannot_be_pushed() {
    if !have(&["docker-registry", "skopeo"]) {
        return;
    }
    let registry = Guarded::open();
    let host = registry.host.as_str();
    let person = Person::new();
    let image = image(&[(layer("a", b"1"), Pack::Gzip)]);
    pulled(&person, &image);
    let name = format!("{host}/app");
    tag(&person, &image, &format!("{name}:1"));
    tag(&person, &image, &format!("{name}:2"));
    let id = image.diff_ids[0].short();
    let (digest, size) = (image.digest(), image.manifest.len());
    assert_eq!(
        person.run(&["push", "-a", &name], ""),
        done(
            0,
            &format!(
                "The push refers to repository [{name}]\n{id}: Preparing\n{id}: Pushed\n\
                 1: digest: {digest} size: {size}\n{id}: Preparing\n{id}: Layer already exists\n\
                 2: digest: {digest} size: {size}\n"
            ),
            ""
        )
    );
    assert_eq!(
        person.run(&["push", &format!("{name}:3")], ""),
        done(
            1,
            &format!("The push refers to repository [{name}]\n"),
            &format!("Error: tag does not exist: {name}:3\n")
        )
    );
    assert_eq!(
        person.run(&["push", "-a", &format!("{name}/none")], ""),
        done(
            1,
            &format!("The push refers to repository [{name}/none]\n"),
            &format!("Error: An image does not exist locally with the tag: {name}/none\n")
        )
    );
    assert_eq!(
        person.run(&["push", &format!("{name}@{digest}")], ""),
        done(1, "", "Error: cannot push a digest reference\n")
    );
    assert_eq!(
        person.run(&["push", "-a", &format!("{name}:1")], ""),
        done(1, "", "Error: tag can't be used with --all-tags/-a\n")
    );
}

#[test]
fn from_a_store_that_can_only_be_read_it_is_pushed_all_the_same() {
    if !have(&["docker-registry"]) {
        return;
    }
    let registry = Guarded::open();
    let person = Person::new();
    let image = image(&[(layer("a", b"1"), Pack::Gzip)]);
    pulled(&person, &image);
    let name = format!("{}/app:1", registry.host);
    tag(&person, &image, &name);
    let path = person.path("store/capas.json");
    let format = fs::read_to_string(&path).unwrap();
    let mut value: Value = serde_json::from_str(&format).unwrap();
    value["ro_compatible"] = serde_json::json!(["of-tomorrow"]);
    fs::write(&path, value.to_string()).unwrap();
    let pushed = person.run(&["push", &name], "");
    let last = format!(
        "1: digest: {} size: {}\n",
        image.digest(),
        image.manifest.len()
    );
    assert!(pushed.out.ends_with(&last), "{pushed:?}");
    let store = person.path("store").display().to_string();
    let warning = format!(
        "warning: {name} was pushed, but its digest is not noted here: the store {store} has \
         \"of-tomorrow\", which this program does not know, and can only be read: use a newer capas\n"
    );
    assert_eq!((pushed.code, pushed.err), (0, warning));
    let quiet = person.run(&["push", "-q", &name], "");
    assert_eq!((quiet.code, quiet.out), (0, format!("{name}\n")));
    fs::write(&path, format).unwrap();
    // It is there.
    let friend = Person::new();
    assert_eq!(friend.run(&["pull", "-q", &name], "").code, 0);
    if !root() {
        return;
    }
    // On a file system that can only be read.
    let other = format!("{}/other:1", registry.host);
    tag(&person, &image, &other);
    let script = format!(
        "mount --bind {store} {store} && mount -o remount,bind,ro {store} && exec {} push -q {other}",
        env!("CARGO_BIN_EXE_capas")
    );
    let mut command = person.command("unshare");
    let pushed = crate::accounts::finish(command.args(["-m", "sh", "-c", &script]), "");
    assert_eq!((pushed.code, pushed.out), (0, format!("{other}\n")));
    assert!(
        pushed.err.starts_with("warning: ") && pushed.err.lines().count() == 1,
        "{}",
        pushed.err
    );
    assert_eq!(friend.run(&["pull", "-q", &other], "").code, 0);
}

#[test]
fn a_layer_without_its_blob_is_compressed_again() {
    if !have(&["docker-registry", "skopeo"]) {
        return;
    }
    let (first, second) = (Guarded::open(), Guarded::open());
    let person = Person::new();
    let image = image(&[
        (layer("a", b"1"), Pack::Gzip),
        (layer("b", &noise(100_000, 6)), Pack::Zstd),
    ]);
    pulled(&person, &image);
    let names = [&first, &second].map(|r| format!("{}/app:1", r.host));
    names.iter().for_each(|name| tag(&person, &image, name));
    assert_eq!(person.run(&["push", "-q", &names[0]], "").code, 0);
    assert_eq!(person.run(&["prune", "--blobs", "-f"], "").code, 0);
    // Where the blobs are, nothing is made.
    assert_eq!(person.run(&["push", "-q", &names[0]], "").code, 0);
    assert_eq!(raw(&first.host, "app:1", None), image.manifest);
    let pushed = person.run(&["push", &names[1]], "");
    assert_eq!((pushed.code, pushed.err.as_str()), (0, ""));
    let manifest: Value = serde_json::from_slice(&raw(&second.host, "app:1", None)).unwrap();
    let kind = "application/vnd.oci.image.layer.v1.tar+gzip";
    assert_eq!(manifest["layers"][1]["mediaType"], kind);
    let friend = Person::new();
    assert_eq!(friend.run(&["pull", "-q", &names[1]], "").code, 0);
    let shown: Value = serde_json::from_str(&friend.run(&["inspect", &names[1]], "").out).unwrap();
    assert_eq!(shown[0]["Id"], image.id().to_string());
    assert_eq!(fs::read_dir(person.path("store/tmp")).unwrap().count(), 0);
}

#[test]
fn podman_pulls_what_was_pushed_and_pushes_what_is_pulled() {
    if !have(&["docker-registry", "skopeo", "podman", "runc"]) || !root() {
        return;
    }
    let registry = Guarded::open();
    let person = Person::new();
    let image = image(&[
        (layer("a", b"1"), Pack::Gzip),
        (layer("b", b"2"), Pack::Zstd),
    ]);
    pulled(&person, &image);
    let name = format!("{}/app:1", registry.host);
    tag(&person, &image, &name);
    assert_eq!(person.run(&["push", "-q", &name], "").code, 0);
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("scripts/podman-env");
    let store = tempfile::tempdir().unwrap();
    let podman = |args: &[&str]| {
        let out = Command::new(&script)
            .env("MOUNT_PROGRAM", env!("CARGO_BIN_EXE_capasfs"))
            .arg(store.path())
            .arg("podman")
            .args(args)
            .output()
            .unwrap();
        assert!(out.status.success(), "{out:?}");
        String::from_utf8(out.stdout).unwrap().trim().to_owned()
    };
    podman(&["pull", "-q", "--tls-verify=false", &name]);
    let seen = podman(&["inspect", "--format", "{{.Id}} {{.Digest}}", &name]);
    assert_eq!(seen, format!("{} {}", image.id().hex(), image.digest()));
    let back = format!("{}/back:1", registry.host);
    podman(&["tag", &name, &back]);
    podman(&["push", "-q", "--tls-verify=false", &back]);
    let friend = Person::new();
    let got = friend.run(&["pull", &back], "");
    assert_eq!((got.code, got.err.as_str()), (0, ""));
    let shown: Value = serde_json::from_str(&friend.run(&["inspect", &back], "").out).unwrap();
    assert_eq!(shown[0]["Id"], image.id().to_string());
}

#[test]
fn a_registry_at_an_ipv6_address_is_one_like_others() {
    if !have(&["docker-registry"]) {
        return;
    }
    let Some(registry) = Guarded::start_v6() else {
        return;
    };
    let host = registry.host.as_str();
    assert!(host.starts_with("[::1]:"), "{host}");
    let person = Person::new();
    let image = image(&[(layer("a", b"a"), Pack::Gzip)]);
    pulled(&person, &image);
    let login = ["login", "-u", ALICE.0, "--password-stdin", host];
    let done = person.run(&login, ALICE.1);
    assert_eq!((done.code, done.out.as_str()), (0, "Login Succeeded\n"));
    let name = format!("{host}/team/app:1");
    tag(&person, &image, &name);
    assert_eq!(
        person.run(&["push", "-q", &name], ""),
        crate::accounts::done(0, &format!("{name}\n"), "")
    );
    // Somebody else finds it by its name and by its digest.
    let other = Person::new();
    let again = ["login", "-u", ALICE.0, "--password-stdin", host];
    assert_eq!(other.run(&again, ALICE.1).code, 0);
    let pinned = format!("{host}/team/app@{}", image.digest());
    for (name, shown) in [(&name, &name), (&pinned, &pinned)] {
        let done = other.run(&["pull", "-q", name], "");
        assert_eq!((done.code, done.err.as_str()), (0, ""));
        assert_eq!(done.out, format!("{shown}\n"));
    }
    let format = "{{.Repository}} {{.Tag}} {{.Digest}}";
    assert_eq!(
        other.run(&["images", "--format", format], "").out,
        format!("{host}/team/app 1 {}\n", image.digest())
    );
    let found = other.run(
        &["search", "--format", "{{.Name}}", &format!("{host}/app")],
        "",
    );
    assert_eq!(found.out, format!("{host}/team/app\n"));
    let gone = other.run(&["rmi", &name], "");
    assert_eq!(gone.code, 0, "{gone:?}");
    assert_eq!(other.run(&["logout", host], "").code, 0);
}
