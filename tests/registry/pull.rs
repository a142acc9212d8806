//! `pull`: what it prints, gets and leaves.

use crate::accounts::{ALICE, Guarded, Person, done, finish, have, root};
use crate::images::{
    INDEX, Image, MANIFEST, Pack, described, docker_image, image, image_for, index, layer, layout,
    noise,
};
use crate::served::{Content, Served, put, put_top};
use capas::store::Digest;
use serde_json::{Value, json};
use std::fs;
use std::path::Path;
use std::process::Command;

/// Let skopeo put a layout's `x` into a registry.
pub fn skopeo_push(layout: &Path, to: &str, more: &[&str]) {
    let out = Command::new("skopeo")
        .args([
            "copy",
            "--quiet",
            "--insecure-policy",
            "--preserve-digests",
            "--dest-tls-verify=false",
        ])
        .args(more)
        .arg(format!("oci:{}:x", layout.display()))
        .arg(format!("docker://{to}"))
        .output()
        .unwrap();
    assert!(out.status.success(), "{out:?}");
}

fn three() -> [(Vec<u8>, Pack); 3] {
    [
        (layer("a", b"plain"), Pack::Plain),
        (layer("b", b"gzip"), Pack::Gzip),
        (layer("c", b"zstd"), Pack::Zstd),
    ]
}

fn write_layout(dir: &Path, image: &Image) {
    let blobs: Vec<&[u8]> = image.blobs().into_values().collect();
    layout(dir, &described(image.media_type, &image.manifest), &blobs);
}

#[test]
fn what_skopeo_pushed_is_pulled_with_dockers_words() {
    if !have(&["docker-registry", "skopeo"]) {
        return;
    }
    let registry = Guarded::start();
    let host = registry.host.as_str();
    let person = Person::new();
    let image = image(&three());
    write_layout(&person.path("x"), &image);
    let creds = format!("{}:{}", ALICE.0, ALICE.1);
    let to = format!("{host}/team/app:latest");
    skopeo_push(&person.path("x"), &to, &["--dest-creds", &creds]);

    let name = format!("{host}/team/app");
    let refused = person.run(&["pull", &name], "");
    assert_eq!(
        refused,
        done(
            1,
            "Using default tag: latest\n",
            &format!(
                "Error: cannot pull {to}: unauthorized: authentication required: try capas login {host}\n"
            )
        )
    );
    let login = ["login", "-u", ALICE.0, "--password-stdin", host];
    assert_eq!(person.run(&login, ALICE.1).code, 0);

    let pulled = person.run(&["pull", &name], "");
    assert_eq!((pulled.code, pulled.err.as_str()), (0, ""));
    let lines: Vec<&str> = pulled.out.lines().collect();
    assert_eq!(
        lines[..2],
        ["Using default tag: latest", "latest: Pulling from team/app"]
    );
    let ids: Vec<String> = (0..3).map(|i| image.short(i)).collect();
    for (i, id) in ids.iter().enumerate() {
        assert_eq!(lines[2 + i], format!("{id}: Pulling fs layer"));
        let own: Vec<&str> = lines
            .iter()
            .filter_map(|l| l.strip_prefix(id.as_str()))
            .collect();
        assert_eq!(
            own,
            [
                ": Pulling fs layer",
                ": Verifying Checksum",
                ": Download complete",
                ": Pull complete"
            ]
        );
    }
    let digest = image.digest();
    assert_eq!(
        lines[2 + 3 * 4..],
        [
            format!("Digest: {digest}"),
            format!("Status: Downloaded newer image for {name}:latest"),
            format!("{name}:latest"),
        ]
    );
    for (i, (file, text)) in [("a", "plain"), ("b", "gzip"), ("c", "zstd")]
        .iter()
        .enumerate()
    {
        let tree = person.path("store/layers").join(image.diff_ids[i].hex());
        assert_eq!(fs::read_to_string(tree.join(file)).unwrap(), *text);
    }

    // Again, by digest, quietly, and what is not there.
    assert_eq!(
        person.run(&["pull", &to], ""),
        done(
            0,
            &format!(
                "latest: Pulling from team/app\nDigest: {digest}\n\
                 Status: Image is up to date for {to}\n{to}\n"
            ),
            ""
        )
    );
    let pinned = format!("{name}@{digest}");
    assert_eq!(
        person.run(&["pull", &pinned], ""),
        done(
            0,
            &format!(
                "{pinned}: Pulling from team/app\nDigest: {digest}\n\
                 Status: Image is up to date for {pinned}\n{pinned}\n"
            ),
            ""
        )
    );
    assert_eq!(
        person.run(&["pull", "-q", &name], ""),
        done(0, &format!("{to}\n"), "")
    );
    assert_eq!(
        person.run(&["pull", &format!("{name}:9")], ""),
        done(
            1,
            "",
            &format!(
                "Error: manifest for {name}:9 not found: manifest unknown: manifest unknown\n"
            )
        )
    );
    let shown: Value = serde_json::from_str(&person.run(&["inspect", &pinned], "").out).unwrap();
    assert_eq!(shown[0]["Id"], image.id().to_string());
    assert_eq!(shown[0]["RepoDigests"], json!([pinned]));
    assert_eq!(
        person.run(&["rmi", &pinned], "").out,
        format!("Untagged: {pinned}\n")
    );
    assert_eq!(person.run(&["pull", "-q", &pinned], "").code, 0);
    assert_eq!(
        person.run(&["rmi", &to], "").out,
        format!(
            "Untagged: {to}\nUntagged: {pinned}\nDeleted: {}\n",
            image.id()
        )
    );
    let left = fs::read_dir(person.path("store/blobs/sha256")).unwrap();
    assert_eq!(left.count(), 0);
}

#[test]
fn an_image_of_many_platforms() {
    let platform = |arch: &str, variant: Option<&str>| match variant {
        Some(v) => json!({"os": "linux", "architecture": arch, "variant": v}),
        None => json!({"os": "linux", "architecture": arch}),
    };
    let make = |arch: &str, n: &str| image_for(arch, &[(layer(n, b"x"), Pack::Gzip)]);
    let host = capas::store::document::host_architecture();
    let (own, v6, v7) = (make(host, "own"), make("arm", "v6"), make("arm", "v7"));
    let unknown = make("unknown", "attestation");
    let all = [
        (
            &unknown,
            json!({"os": "unknown", "architecture": "unknown"}),
        ),
        (&v6, platform("arm", Some("v6"))),
        (&v7, platform("arm", Some("v7"))),
        (&own, platform(host, None)),
    ];
    let top = index(&all);
    let mut content = Content::new();
    for (image, _) in &all {
        put(&mut content, image, "multi", "ignored");
    }
    put_top(&mut content, INDEX, &top, "multi", "1");
    put(&mut content, &v7, "multi", "single");
    let served = Served::start(content, |_, _| None);
    let name = format!("{}/multi:1", served.host);
    let person = Person::new();
    let digest = Digest::of(&top);
    for (args, image) in [
        (&["pull", &name][..], &own),
        (&["pull", "--platform", "linux/arm/v6", &name], &v6),
        (&["pull", "--platform", "linux/arm", &name], &v7),
        (&["pull", &name], &own),
        // An architecture alone is Linux's; an empty word says nothing.
        (&["pull", "--platform", "armel", &name], &v6),
        (&["pull", "--platform", "", &name], &own),
    ] {
        let pulled = person.run(args, "");
        assert!(
            pulled.out.contains(&format!(
                "\nDigest: {digest}\nStatus: Downloaded newer image for {name}\n"
            )),
            "{pulled:?}"
        );
        let shown: Value = serde_json::from_str(&person.run(&["inspect", &name], "").out).unwrap();
        assert_eq!(shown[0]["Id"], image.id().to_string(), "{args:?}");
        let pinned = format!("{}/multi@{digest}", served.host);
        assert_eq!(shown[0]["RepoDigests"], json!([pinned]));
    }
    // The index stays with its image.
    let blob = person.path("store/blobs/sha256").join(digest.hex());
    assert_eq!(fs::read(&blob).unwrap(), top);
    let listed = person.run(&["images", "--digests"], "").out;
    assert!(listed.contains(&digest.to_string()), "{listed}");
    let own_name = format!("linux/{host}");
    let mut there = ["linux/arm/v6", "linux/arm/v7", &own_name];
    there.sort_unstable();
    assert_eq!(
        person.run(&["pull", "--platform", "linux/s390x", &name], ""),
        done(
            1,
            "",
            &format!(
                "Error: no matching manifest for linux/s390x in the manifest list entries: there are {}\n",
                there.join(", ")
            )
        )
    );
    // Docker's variable is for those who say nothing.
    let env = |value: &str, args: &[&str]| {
        let mut capas = person.capas();
        finish(capas.args(args).env("DOCKER_DEFAULT_PLATFORM", value), "")
    };
    for (value, args, image) in [
        ("linux/arm/v6", &["pull", "-q", &name][..], &v6),
        (
            "linux/arm/v6",
            &["pull", "-q", "--platform=arm", &name],
            &v7,
        ),
        ("linux/arm/v6", &["pull", "-q", "--platform=", &name], &own),
        ("arm", &["pull", "-q", &name], &v7),
        ("", &["pull", "-q", &name], &own),
    ] {
        assert_eq!(env(value, args), done(0, &format!("{name}\n"), ""));
        let shown = person.run(&["inspect", "-f", "{{.Id}}", &name], "").out;
        assert_eq!(shown.trim(), image.id().to_string(), "{value} {args:?}");
    }
    assert_eq!(
        env("a/b/c/d", &["pull", "-q", &name]),
        done(
            1,
            "",
            "Error: DOCKER_DEFAULT_PLATFORM: \"a/b/c/d\" is no platform: give OS/ARCHITECTURE[/VARIANT], as linux/arm64\n"
        )
    );
    let single = format!("{}/multi:single", served.host);
    assert_eq!(
        person.run(&["pull", "--platform", "linux/s390x", &single], ""),
        done(
            1,
            "",
            &format!(
                "Error: image with reference {single} was found but does not match the specified platform: wanted linux/s390x, actual: linux/arm\n"
            )
        )
    );
    for image in [&own, &v6, &v7] {
        let id = image.id().to_string();
        assert_eq!(person.run(&["rmi", "-f", &id], "").code, 0);
    }
    assert!(!blob.exists());
}

#[test]
fn what_is_no_image_is_called_so() {
    let chart = br#"{"name":"x","version":"1"}"#;
    let kind = "application/vnd.cncf.helm.config.v1+json";
    let manifest = |config: &[u8], kind: &str| {
        json!({"schemaVersion": 2, "mediaType": MANIFEST, "config": described(kind, config), "layers": []})
            .to_string()
            .into_bytes()
    };
    let mut content = Content::new();
    let config = "application/vnd.oci.image.config.v1+json";
    for (name, kind) in [("chart", kind), ("odd", config)] {
        let path = format!("/v2/{name}/blobs/{}", Digest::of(chart));
        content.insert(path, (String::new(), chart.to_vec()));
        put_top(&mut content, MANIFEST, &manifest(chart, kind), name, "1");
    }
    let served = Served::start(content, |_, _| None);
    let person = Person::new();
    let pull = |name: &str| person.run(&["pull", "-q", &format!("{}/{name}:1", served.host)], "");
    let chart = format!(
        "Error: {}/chart is no container image but {kind}: get it with the program that it is for\n",
        served.host
    );
    assert_eq!(pull("chart"), done(1, "", &chart));
    let odd = pull("odd");
    assert!(
        odd.err.starts_with("Error: bad image configuration: "),
        "{odd:?}"
    );
}

#[test]
fn entries_of_an_index_need_not_say_their_platform() {
    let host = capas::store::document::host_architecture();
    let own = image(&[(layer("own", b"x"), Pack::Gzip)]);
    let other = image_for("s390x", &[(layer("other", b"x"), Pack::Gzip)]);
    let entry = |data: &[u8], kind: &str| described(kind, data);
    let silent = |images: &[&Image]| {
        let entries: Vec<_> = images
            .iter()
            .map(|i| entry(&i.manifest, MANIFEST))
            .collect();
        json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": entries}).to_string()
    };
    let (only, both, wrong) = (silent(&[&own]), silent(&[&other, &own]), silent(&[&other]));
    let nested = json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": [entry(both.as_bytes(), INDEX)]}).to_string();
    let mut content = Content::new();
    for image in [&own, &other] {
        put(&mut content, image, "app", "ignored");
    }
    for (tag, top) in [
        ("only", &only),
        ("both", &both),
        ("wrong", &wrong),
        ("nested", &nested),
    ] {
        put_top(&mut content, INDEX, top.as_bytes(), "app", tag);
    }
    let served = Served::start(content, |_, _| None);
    let person = Person::new();
    let name = |tag: &str| format!("{}/app:{tag}", served.host);
    for (tag, image) in [
        ("only", &own),
        ("both", &own),
        ("nested", &own),
        ("wrong", &other),
    ] {
        let pulled = person.run(&["pull", "-q", &name(tag)], "");
        assert_eq!((pulled.code, pulled.err.as_str()), (0, ""), "{tag}");
        let shown = person
            .run(&["inspect", "-f", "{{.Id}}", &name(tag)], "")
            .out;
        assert_eq!(shown, format!("{}\n", image.id()), "{tag}");
    }
    let wish = |tag: &str, platform: &str| {
        person.run(&["pull", "-q", "--platform", platform, &name(tag)], "")
    };
    assert_eq!(wish("both", "linux/s390x").code, 0);
    for (tag, why) in [
        (
            "both",
            "no matching manifest for linux/arm in the manifest list entries".to_owned(),
        ),
        (
            "only",
            format!(
                "image with reference {} was found but does not match the specified platform: wanted linux/arm, actual: linux/{host}",
                name("only")
            ),
        ),
    ] {
        assert_eq!(
            wish(tag, "linux/arm"),
            done(1, "", &format!("Error: {why}\n")),
            "{tag}"
        );
    }
}

#[test]
fn what_was_lost_or_damaged_is_fetched_again() {
    let image = image(&[
        (layer("a", b"plain"), Pack::Plain),
        (layer("b", &noise(9000, 4)), Pack::Gzip),
    ]);
    let top = index(&[(
        &image,
        json!({"os": "linux", "architecture": capas::store::document::host_architecture()}),
    )]);
    let mut content = Content::new();
    put(&mut content, &image, "app", "ignored");
    put_top(&mut content, INDEX, &top, "app", "1");
    let served = Served::start(content, |_, _| None);
    let person = Person::new();
    let name = format!("{}/app:1", served.host);
    let pull = || {
        let pulled = person.run(&["pull", &name], "");
        assert_eq!(pulled.code, 0, "{pulled:?}");
        pulled.out.contains("Image is up to date")
    };
    assert!(!pull());
    assert!(pull());
    let blob = |digest: Digest| person.path("store/blobs/sha256").join(digest.hex());
    let check = |args: &[&str]| person.run(&[&["check"], args].concat(), "").code;
    // A document is good again after the pull, nothing else is needed.
    for digest in [image.digest(), image.id(), Digest::of(&top)] {
        let good = fs::read(blob(digest)).unwrap();
        let mut bad = good.clone();
        bad[10] ^= 1;
        fs::write(blob(digest), bad).unwrap();
        assert!(!pull());
        assert_eq!(fs::read(blob(digest)).unwrap(), good);
        fs::remove_file(blob(digest)).unwrap();
        assert!(!pull());
        assert_eq!(fs::read(blob(digest)).unwrap(), good);
        assert!(pull());
    }
    // A layer's blob goes by a repair, with its image marked.
    let layer = Digest::of(&image.layers[1]);
    fs::write(blob(layer), noise(image.layers[1].len(), 5)).unwrap();
    assert_eq!(check(&["--repair"]), 1);
    assert!(!blob(layer).exists());
    assert_eq!(person.run(&["create", &name, "x"], "").code, 1);
    let before = served.count(&layer.to_string());
    assert!(!pull());
    assert_eq!(served.count(&layer.to_string()), before + 1);
    assert_eq!(fs::read(blob(layer)).unwrap(), image.layers[1]);
    assert_eq!(check(&["--repair"]), 0);
    assert_eq!(check(&[]), 0);
    assert_eq!(person.run(&["create", &name, "x"], "").code, 0);
    assert!(pull());
}

#[test]
fn shared_layers_are_fetched_once() {
    let shared = (layer("base", &noise(50_000, 3)), Pack::Gzip);
    let one = image(&[shared.clone(), (layer("one", b"1"), Pack::Gzip)]);
    let two = docker_image(&[(shared.0, Pack::Gzip), (layer("two", b"2"), Pack::Gzip)]);
    let third = image(&[
        (layer("base", &noise(50_000, 3)), Pack::Zstd),
        (layer("three", b"3"), Pack::Gzip),
    ]);
    let mut content = Content::new();
    put(&mut content, &one, "one", "1");
    put(&mut content, &two, "two", "1");
    put(&mut content, &third, "three", "1");
    let served = Served::start(content, |_, _| None);
    let person = Person::new();
    let host = &served.host;
    assert_eq!(
        person
            .run(&["pull", "-q", &format!("{host}/one:1")], "")
            .code,
        0
    );
    for (name, image) in [("two", &two), ("three", &third)] {
        if name == "three" {
            // Another compression is another blob. It would be fetched for a
            // push to repeat its digest, but this store has given up on that.
            assert_eq!(person.run(&["prune", "--blobs", "-f"], "").code, 0);
        }
        let full = format!("{host}/{name}:1");
        let (old, new) = (image.short(0), image.short(1));
        assert_eq!(
            person.run(&["pull", &full], ""),
            done(
                0,
                &format!(
                    "1: Pulling from {name}\n{old}: Already exists\n{new}: Pulling fs layer\n\
                     {new}: Verifying Checksum\n{new}: Download complete\n{new}: Pull complete\n\
                     Digest: {}\nStatus: Downloaded newer image for {full}\n{full}\n",
                    image.digest()
                ),
                ""
            )
        );
        let fetched = served.count(&format!("/{name}/blobs/"));
        assert_eq!(fetched, 2, "the configuration and one layer");
    }
    // Here it has not.
    let other = Person::new();
    for name in ["one", "three"] {
        let got = other.run(&["pull", "-q", &format!("{host}/{name}:1")], "");
        assert_eq!((got.code, got.err.as_str()), (0, ""));
    }
    for (digest, data) in one.blobs().into_iter().chain(third.blobs()) {
        let blob = other.path("store/blobs/sha256").join(digest.hex());
        assert_eq!(fs::read(blob).unwrap(), data);
    }
    // All tags, one of them known under another name.
    let served = Served::start(
        {
            let mut content = Content::new();
            put(&mut content, &one, "all", "a");
            put(&mut content, &two, "all", "b");
            let tags = json!({"name": "all", "tags": ["a", "b"]}).to_string();
            content.insert(
                "/v2/all/tags/list".into(),
                ("application/json".into(), tags.into()),
            );
            content
        },
        |_, _| None,
    );
    let name = format!("{}/all", served.host);
    assert_eq!(
        person.run(&["pull", "-a", &name], ""),
        done(
            0,
            &format!(
                "a: Pulling from all\nDigest: {}\nb: Pulling from all\nDigest: {}\n\
                 Status: Downloaded newer image for {name}\n{name}\n",
                one.digest(),
                two.digest()
            ),
            ""
        )
    );
    assert_eq!(
        person.run(&["pull", "-a", &format!("{name}:b")], ""),
        done(1, "", "Error: tag can't be used with --all-tags/-a\n")
    );
}

#[test]
fn an_image_that_only_a_digest_names_is_one_like_others() {
    let image = image(&[(layer("a", b"1"), Pack::Gzip)]);
    let mut content = Content::new();
    put(&mut content, &image, "team/app", "1");
    let served = Served::start(content, |_, _| None);
    let person = Person::new();
    let repository = format!("{}/team/app", served.host);
    let pinned = format!("{repository}@{}", image.digest());
    let (id, short) = (image.id().to_string(), image.id().short());
    assert_eq!(person.run(&["pull", "-q", &pinned], "").code, 0);
    let line = "{{.Repository}} {{.Tag}} {{.ID}}";
    let shown = |more: &[&str]| {
        let args = [&["images", "--format", line], more].concat();
        person.run(&args, "").out
    };
    let by_digest = format!("{repository} <none> {short}\n");
    let reference = format!("reference={repository}");
    for more in [
        &[][..],
        &[repository.as_str()],
        &[pinned.as_str()],
        &["-f", &reference],
        &["-f", "dangling=true"],
        &["-f", "dangling=false"],
    ] {
        assert_eq!(shown(more), by_digest, "{more:?}");
    }
    assert_eq!(shown(&[&format!("{repository}:1")]), "");
    let columns = ["images", "--format", "{{.Tag}} {{.Digest}}"];
    assert_eq!(
        person.run(&columns, "").out,
        format!("<none> {}\n", image.digest())
    );

    // A name elsewhere is only a name: the image stays, in use or not.
    let tag = || assert_eq!(person.run(&["tag", &pinned, "my:1"], "").code, 0);
    tag();
    assert_eq!(shown(&[]), format!("my 1 {short}\n{by_digest}"));
    assert_eq!(person.run(&["create", "my:1", "/bin/sh"], "").code, 0);
    assert_eq!(
        person.run(&["rmi", "my:1"], ""),
        done(0, "Untagged: my:1\n", "")
    );
    assert_eq!(shown(&[]), by_digest);
    let refused = person.run(&["rmi", &pinned], "");
    assert!(
        refused.code == 1 && refused.err.contains("(must force) - container"),
        "{refused:?}"
    );
    assert_eq!(person.run(&["container", "prune", "-f"], "").code, 0);
    tag();
    assert_eq!(
        person.run(&["rmi", &id], ""),
        done(
            1,
            "",
            &format!(
                "Error: conflict: unable to delete {short} (must be forced) - image is referenced in multiple repositories\n"
            )
        )
    );
    let pruned = person.run(&["image", "prune", "-af"], "");
    assert!(
        pruned.out.starts_with(&format!(
            "Deleted Images:\nuntagged: my:1\nuntagged: {pinned}\ndeleted: {id}\n\n"
        )),
        "{pruned:?}"
    );
    assert_eq!(shown(&[]), "");
}

/// What is on another machine, in a network of its own.
const ELSEWHERE: &str = r#"
set -e
ip link set lo up
ip addr add 192.0.2.7/32 dev lo
cat >open.yml <<YML
version: 0.1
storage: {filesystem: {rootdirectory: data}}
http: {addr: "192.0.2.7:5000"}
YML
printf 'x:$2y$05$capasTestsOfRegistry..yVKBuIDYftrCfckZZh197VywwQQh0iu\n' >htpasswd
sed 's/:5000/:5001/' open.yml >closed.yml
echo 'auth: {htpasswd: {realm: x, path: htpasswd}}' >>closed.yml
for which in open closed; do
    docker-registry serve $which.yml >$which.log 2>&1 &
    registries="$registries $!"
    trap 'kill $registries' EXIT
    until grep -qs 'listening on' $which.log; do sleep 0.1; done
done
skopeo copy --quiet --insecure-policy --preserve-digests --dest-tls-verify=false oci:x:x docker://192.0.2.7:5000/app:1 2>skopeo.log
mkdir -p .docker
echo '{"auths": {"192.0.2.7:5001": {"auth": "eDpodW50ZXIy"}}}' >.docker/config.json
set +e
$CAPAS pull -q 192.0.2.7:5000/app:1
$CAPAS pull -q --insecure 192.0.2.7:5000/app:1
echo '[registries."192.0.2.7:5000"]
insecure = true' >c.toml
CAPAS_CONFIG=c.toml $CAPAS push -q 192.0.2.7:5000/app:1
$CAPAS import http://192.0.2.7:5000/v2/
$CAPAS import --insecure http://192.0.2.7:5000/v2/
$CAPAS pull -q --insecure 192.0.2.7:5001/app:1
"#;

#[test]
fn other_machines_need_tls_or_a_wish_and_get_no_password_without() {
    if !have(&["docker-registry", "skopeo", "unshare", "ip"]) || !root() {
        return;
    }
    let person = Person::new();
    write_layout(&person.path("x"), &image(&[(layer("a", b"1"), Pack::Gzip)]));
    let mut command = person.command("unshare");
    command
        .args(["-n", "sh", "-c", ELSEWHERE])
        .env("CAPAS", env!("CARGO_BIN_EXE_capas"));
    let at = "192.0.2.7";
    assert_eq!(
        finish(&mut command, ""),
        done(
            1,
            &format!(
                "{at}:5000/app:1\n{at}:5000/app:1\n\
                 Downloading from http://{at}:5000/v2/\nDownloading from http://{at}:5000/v2/\n"
            ),
            &format!(
                "Error: cannot pull {at}:5000/app:1: cannot reach {at}:5000: it does not speak TLS (--insecure allows that)\n\
                 Error: cannot get a file of {at}:5000: {at}:5000 would be spoken to without TLS: --insecure allows it\n\
                 Error: layer 44136fa355b3: the archive is truncated\n\
                 Error: cannot pull {at}:5001/app:1: {at}:5001 wants a password, which is not sent without TLS\n"
            )
        )
    );
}

#[test]
fn a_damaged_blob_of_the_store_is_fetched_again() {
    let image = image(&[(layer("f", &noise(300_000, 2)), Pack::Gzip)]);
    let mut content = Content::new();
    put(&mut content, &image, "app", "1");
    let served = Served::start(content, |_, _| None);
    let name = format!("{}/app:1", served.host);
    let person = Person::new();
    assert_eq!(person.run(&["pull", "-q", &name], "").code, 0);
    let digest = Digest::of(&image.layers[0]);
    let blob = person.path("store/blobs/sha256").join(digest.hex());
    let layer = person.path("store/layers").join(image.diff_ids[0].hex());
    for at in [50, 150_000] {
        let mut bytes = image.layers[0].clone();
        bytes[at] ^= 1;
        fs::write(&blob, bytes).unwrap();
        fs::remove_dir_all(&layer).unwrap();
        fs::remove_file(layer.with_extension("json")).unwrap();
        let done = person.run(&["pull", "-q", &name], "");
        assert_eq!((done.code, done.err.as_str()), (0, ""), "{at}");
        assert!(fs::read(&blob).unwrap() == image.layers[0]);
        assert_eq!(person.run(&["check"], "").code, 0);
    }
    assert_eq!(served.count(&digest.to_string()), 3);
}
