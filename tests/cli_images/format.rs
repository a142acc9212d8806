//! `--format` of `images` and `ps`.

use crate::fixture::age;
use crate::program::Cli;
use serde_json::{Value, json};

/// Of the test images.
const CREATED: &str = "2024-05-01T10:00:00Z";

#[test]
fn images() {
    let c = Cli::new();
    c.load(&"x".repeat(1234), &["x:1", "h.example/app:2"]);
    let id = c.id(&"x".repeat(1234));
    let short = &id[..12];
    let digest = c.bench.store.images().unwrap()[0].manifest.digest;
    let out = c.ok(&["images", "--format", "json", "x"]);
    assert_eq!(out.lines().count(), 1);
    assert_eq!(
        serde_json::from_str::<Value>(&out).unwrap(),
        json!({
            "Containers": "N/A",
            "CreatedAt": "2024-05-01 10:00:00 +0000 UTC",
            "CreatedSince": age(CREATED),
            "Digest": digest.to_string(),
            "ID": short,
            "Repository": "x",
            "SharedSize": "N/A",
            "Size": "1.23kB",
            "Tag": "1",
            "UniqueSize": "N/A",
            "VirtualSize": "1.23kB",
        })
    );
    // Docker's keys come sorted.
    assert!(
        out.starts_with(r#"{"Containers":"N/A","CreatedAt":"#),
        "{out}"
    );
    assert_eq!(
        c.ok(&["images", "--format", "{{.Repository}}:{{.Tag}}"]),
        "x:1\nh.example/app:2\n"
    );
    assert_eq!(
        c.ok(&[
            "images",
            "--no-trunc",
            "--format",
            "table {{.ID}}\\t{{.Repository}}"
        ]),
        format!(
            "{:71}   REPOSITORY\nsha256:{id}   x\nsha256:{id}   h.example/app\n",
            "IMAGE ID"
        )
    );
    assert_eq!(
        c.ok(&[
            "images",
            "--format",
            "table {{.Size}} {{.CreatedAt}}",
            "none"
        ]),
        "SIZE CREATED AT\n"
    );
    assert_eq!(
        c.ok(&[
            "images",
            "--format",
            r#"{{json .Tag}}\t{{upper .Repository}}\t{{join (split .Repository ".") "-"}}"#,
            "x"
        ]),
        "\"1\"\tX\tx\n"
    );
    for (format, why) in [
        (
            "{{.Nme}}",
            "there is no \"Nme\", only Containers, CreatedAt, CreatedSince, Digest, ID, Repository, SharedSize, Size, Tag, UniqueSize, VirtualSize",
        ),
        ("{{.ID", "1:6: unclosed action"),
    ] {
        let error = format!("Error: bad template \"{format}\": {why}\n");
        c.fails(&["images", "--format", format], 1, &error);
    }
    // With a format, `-q` changes nothing; without, it prints ids.
    assert_eq!(c.ok(&["images", "-q", "x"]), format!("{short}\n"));
    assert_eq!(c.ok(&["images", "-q", "--format", "{{.Tag}}", "x"]), "1\n");
    assert_eq!(
        c.ok(&["images", "--digests", "x"]),
        format!(
            "{:13}{:10}{:74}{:15}{:w$}   SIZE\n{:13}{:10}{digest}   {short}   {}   1.23kB\n",
            "REPOSITORY",
            "TAG",
            "DIGEST",
            "IMAGE ID",
            "CREATED",
            "x",
            "1",
            age(CREATED),
            w = age(CREATED).len(),
        )
    );
}

#[test]
fn ps() {
    let c = Cli::new();
    c.load(&"x".repeat(1234), &["x:1"]);
    let id = c.ok(&[
        "create",
        "--name",
        "one",
        "x:1",
        "/bin/a-long-command",
        "with\twords",
    ]);
    let id = id.trim_end();
    let out = c.ok(&["ps", "-a", "--format", "json"]);
    let row: Value = serde_json::from_str(&out).unwrap();
    assert_eq!(row["ID"], id[..12]);
    assert_eq!(row["Command"], "\"/bin/a-long-command…\"");
    assert_eq!(row["Names"], "one");
    assert_eq!(row["State"], "created");
    assert_eq!(row["Status"], "Created");
    assert_eq!(row["Networks"], "none");
    assert_eq!(row["Size"], "0B (virtual 1.23kB)");
    assert_eq!(row.as_object().unwrap().len(), 14);
    assert_eq!(
        c.ok(&[
            "ps",
            "-a",
            "--format",
            "table {{.Names}}\\t{{.Image}}\\t{{.Size}}"
        ]),
        "NAMES     IMAGE     SIZE\none       x:1       0B (virtual 1.23kB)\n"
    );
    assert_eq!(
        c.ok(&["ps", "-a", "--no-trunc", "--format", "{{.ID}} {{.Command}}"]),
        format!("{id} \"/bin/a-long-command with\\twords\"\n")
    );
    assert_eq!(
        c.ok(&["ps"]),
        "CONTAINER ID   IMAGE     COMMAND   CREATED   STATUS    PORTS     NAMES\n"
    );
}

#[test]
fn dockers_file_says_what_its_user_wants_to_see() {
    let c = Cli::new();
    c.load("x", &["x:1"]);
    c.ok(&["create", "--name", "box", "x:1", "/bin/sh"]);
    let dir = c.bench.dir.path().join("docker");
    std::fs::create_dir(&dir).unwrap();
    let run = |config: &str, args: &[&str]| {
        std::fs::write(dir.join("config.json"), config).unwrap();
        let out = std::process::Command::new(env!("CARGO_BIN_EXE_capas"))
            .env("CAPAS_ROOT", c.bench.store.root())
            .env("DOCKER_CONFIG", &dir)
            .args(args)
            .output()
            .unwrap();
        assert!(out.status.success(), "{out:?}");
        let text = |bytes| String::from_utf8(bytes).unwrap();
        (text(out.stdout), text(out.stderr))
    };
    let formats =
        r#"{"imagesFormat": "table {{.Tag}}\\t{{.Repository}}", "psFormat": "{{.Names}}"}"#;
    for (args, want) in [
        (
            &["images"][..],
            "TAG       REPOSITORY\n1         x\n".to_owned(),
        ),
        (&["ps", "-a"], "box\n".to_owned()),
        // Who says what he wants gets that.
        (&["images", "-q"], format!("{}\n", &c.id("x")[..12])),
        (&["images", "--format", "{{.Repository}}"], "x\n".to_owned()),
        (&["ps", "-a", "--format", "{{.Image}}"], "x:1\n".to_owned()),
    ] {
        assert_eq!(run(formats, args), (want, String::new()), "{args:?}");
    }
    let plain = (c.ok(&["images"]), String::new());
    assert_eq!(run("{}", &["images"]), plain);
    let (out, err) = run("{", &["images"]);
    assert!(
        out == plain.0 && err.contains("is not read for its imagesFormat"),
        "{err}"
    );
    // Containers are told of proxies, unless they are told otherwise.
    let proxies = r#"{"proxies": {"default": {"httpProxy": "http://p:1", "noProxy": "a,b"},
        "tcp://other": {"httpsProxy": "http://q:1"}}}"#;
    let env = "{{range .Config.Env}}{{println .}}{{end}}";
    let make = [
        "create",
        "--name",
        "two",
        "-e",
        "http_proxy=mine",
        "-e",
        "NO_PROXY=",
        "x:1",
        "/bin/sh",
    ];
    run(proxies, &make);
    let mut seen: Vec<String> = c
        .ok(&["inspect", "-f", env, "two"])
        .lines()
        .map(str::to_owned)
        .collect();
    seen.retain(|line| line.to_lowercase().contains("_proxy"));
    seen.sort();
    assert_eq!(
        seen,
        [
            "HTTP_PROXY=http://p:1",
            "NO_PROXY=",
            "http_proxy=mine",
            "no_proxy=a,b"
        ]
    );
    std::fs::write(dir.join("config.json"), r#"{"detachKeys": "odd"}"#).unwrap();
    let odd = std::process::Command::new(env!("CARGO_BIN_EXE_capas"))
        .env("CAPAS_ROOT", c.bench.store.root())
        .env("DOCKER_CONFIG", &dir)
        .args(["attach", "box"])
        .output()
        .unwrap();
    let err = String::from_utf8(odd.stderr).unwrap();
    assert!(err.contains("invalid detach keys"), "{err}");
}
