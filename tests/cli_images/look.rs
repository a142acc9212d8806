//! `history`, `inspect` and `tag`.

use crate::fixture::{age, image, layer};
use crate::program::Cli;
use serde_json::{Value, json};

const BEFORE: &str = "2020-05-01T10:00:00Z";
const AFTER: &str = "2021-05-01T10:00:00.5Z";

/// Two layers, and steps that made none.
fn built(c: &Cli) -> String {
    let config = json!({
        "created": AFTER, "architecture": "arm", "variant": "v7", "os": "linux", "os.version": "7",
        "author": "me", "comment": "all done",
        "config": {"Cmd": ["/bin/sh"], "Labels": {"stage": "test"}, "StopSignal": "SIGINT"},
        "history": [
            {"created": "1970-01-01T00:00:00Z", "created_by": "ADD\tfile\u{1b}[31m", "comment": "base"},
            {"created": BEFORE, "created_by": "ENV A=b", "empty_layer": true},
            {"created": AFTER, "created_by": format!("RUN {}", "x".repeat(60))},
            {"created_by": "CMD", "empty_layer": true},
        ],
    });
    image(
        c,
        config,
        &[layer("a", 1234), layer("b", 7)],
        &["x:1", "y:1"],
    )
}

#[test]
fn history_column_by_column() {
    let c = Cli::new();
    let id = built(&c);
    let (before, after) = (age(BEFORE), age(AFTER));
    let width = before.len().max(after.len());
    let cut = format!("RUN {}…", "x".repeat(40));
    assert_eq!(
        c.ok(&["history", "x:1"]),
        format!(
            "\
IMAGE          {:width$}   CREATED BY                                      SIZE      COMMENT
{}   {:width$}   CMD                                             0B        
<missing>      {after:width$}   {cut}   7B        
<missing>      {before:width$}   ENV A=b                                         0B        
<missing>      {:width$}   ADD file\\u{{1b}}[31m                              1.23kB    base
",
            "CREATED",
            &id[..12],
            "N/A",
            "N/A",
        )
    );
    assert_eq!(
        c.ok(&[
            "history",
            "--human=false",
            "--no-trunc",
            "--format",
            "{{.ID}} {{.CreatedAt}} {{.CreatedBy}} {{.Size}}",
            "x:1"
        ]),
        format!(
            "sha256:{id} N/A CMD 0\n<missing> 2021-05-01T10:00:00Z RUN {} 7\n<missing> {BEFORE} ENV A=b 0\n<missing> 1970-01-01T00:00:00Z ADD file\\u{{1b}}[31m 1234\n",
            "x".repeat(60)
        )
    );
    assert!(
        c.ok(&["history", "-H=false", "x:1"])
            .starts_with("IMAGE          CREATED AT             CREATED BY ")
    );
    assert_eq!(c.ok(&["history", "-H", "x:1"]), c.ok(&["history", "x:1"]));
    assert_eq!(
        c.ok(&["history", "-q", "x:1"]),
        format!("{}\n<missing>\n<missing>\n<missing>\n", &id[..12])
    );
    let json = c.ok(&["history", "--format", "json", "x:1"]);
    let top: Value = serde_json::from_str(json.lines().next().unwrap()).unwrap();
    assert_eq!(
        top,
        json!({"Comment": "", "CreatedAt": "N/A", "CreatedBy": "CMD", "CreatedSince": "N/A", "ID": id[..12], "Size": "0B"})
    );
    c.fails(&["history", "none"], 1, "Error: No such image: none\n");
}

#[test]
fn a_history_that_says_too_little() {
    let c = Cli::new();
    let id = image(
        &c,
        json!({"os": "linux"}),
        &[layer("a", 3), layer("b", 5)],
        &["x:1"],
    );
    assert_eq!(
        c.ok(&["history", "x:1"]),
        format!(
            "\
IMAGE          CREATED   CREATED BY   SIZE      COMMENT
{}   N/A                    5B        
<missing>      N/A                    3B        
",
            &id[..12]
        )
    );
    // Nor are layers made up for steps that have none.
    let steps = json!([{"created_by": "one"}, {"created_by": "two"}]);
    image(
        &c,
        json!({"os": "linux", "history": steps}),
        &[layer("a", 3)],
        &["y:1"],
    );
    assert_eq!(
        c.ok(&["history", "--format", "{{.CreatedBy}} {{.Size}}", "y:1"]),
        "two N/A\none 3B\n"
    );
}

#[test]
fn inspect_of_an_image() {
    let c = Cli::new();
    let id = built(&c);
    let all: Value = serde_json::from_str(&c.ok(&["inspect", "x:1"])).unwrap();
    let shown = &all[0];
    for (key, want) in [
        ("Id", json!(format!("sha256:{id}"))),
        ("RepoTags", json!(["x:1", "y:1"])),
        ("Comment", json!("all done")),
        ("Created", json!(AFTER)),
        ("Author", json!("me")),
        ("Architecture", json!("arm")),
        ("Variant", json!("v7")),
        ("Os", json!("linux")),
        ("OsVersion", json!("7")),
        ("Size", json!(1241)),
        ("Metadata", json!({"LastTagTime": "0001-01-01T00:00:00Z"})),
        (
            "Config",
            json!({
                "User": "", "ExposedPorts": null, "Env": null, "Entrypoint": null, "Volumes": null,
                "WorkingDir": "", "OnBuild": null, "Cmd": ["/bin/sh"], "Labels": {"stage": "test"},
                "StopSignal": "SIGINT",
            }),
        ),
    ] {
        assert_eq!(shown[key], want, "{key}");
    }
    assert!(shown["RepoDigests"].is_array());
    for (format, want) in [
        ("{{.Id}} {{.Size}}", format!("sha256:{id} 1241\n")),
        ("{{.ID}}", format!("sha256:{id}\n")),
        ("{{json .RepoTags}}", "[\"x:1\",\"y:1\"]\n".to_owned()),
        (
            r#"{{index .Config.Labels "stage"}}{{index .Config.Labels "none"}}"#,
            "test\n".to_owned(),
        ),
        (
            "{{range $k, $v := .Config.Labels}}{{$k}}={{$v}} {{end}}",
            "stage=test \n".to_owned(),
        ),
        (
            r#"{{join .Config.Cmd " "}} {{.Config.Env}} {{len .RootFS.Layers}}"#,
            "/bin/sh [] 2\n".to_owned(),
        ),
        (r"{{.Os}}\t{{.Architecture}}", "linux\\tarm\n".to_owned()),
    ] {
        assert_eq!(c.ok(&["inspect", "-f", format, "x:1"]), want, "{format}");
    }
    assert!(
        !c.ok(&["inspect", "-f", "{{json .}}", "x:1"])
            .contains("\"ID\"")
    );
    let none = c.run(&["inspect", "-f", "{{.ID}} {{.None}}", "x:1"]);
    assert!(none.code == 1 && none.out.is_empty(), "{}", none.err);
    let listed = c.bench.store.images().unwrap().remove(0);
    let manifest = std::fs::read(c.bench.store.blob(&listed.manifest.digest)).unwrap();
    assert_eq!(
        shown["Descriptor"],
        json!({
            "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "digest": format!("sha256:{}", crate::support::hex(&manifest)),
            "size": manifest.len(),
        })
    );
    // Only containers have more sizes.
    let sized = c.run(&["inspect", "-s", "-f", "{{.Os}}", "x:1"]);
    assert_eq!(
        (sized.code, sized.out.as_str(), sized.err.as_str()),
        (0, "linux\n", "WARNING: --size ignored for image\n")
    );
    let container = c.ok(&["create", "x:1", "/bin/sh"]);
    assert_eq!(
        c.ok(&["inspect", "-s", "-f", "{{.ID}}", container.trim()]),
        container
    );
    // Where the image says nothing, its last step may.
    let steps = json!([{"comment": "first"}, {"comment": "last", "empty_layer": true}]);
    image(
        &c,
        json!({"os": "linux", "history": steps}),
        &[layer("a", 1)],
        &["z:1"],
    );
    assert_eq!(c.ok(&["inspect", "-f", "{{.Comment}}", "z:1"]), "last\n");
    let compact = c.ok(&["inspect", "--format", "json", "x:1"]);
    assert_eq!(compact.lines().count(), 1);
    assert_eq!(serde_json::from_str::<Value>(&compact).unwrap(), all);
}

#[test]
fn inspect_by_type_and_what_is_missing() {
    let c = Cli::new();
    built(&c);
    let id = c.ok(&["create", "--name", "yy", "x:1", "/bin/sh"]);
    let shown = |kind: &[&str]| c.ok(&[&["inspect", "-f", "{{.Id}}"], kind, &["yy"]].concat());
    assert_eq!(shown(&[]), id);
    assert_eq!(shown(&["--type", "container"]), id);
    c.fails(
        &["inspect", "--type", "image", "yy"],
        1,
        "Error: No such image: yy\n",
    );
    c.ok(&["tag", "x:1", "yy"]);
    assert_eq!(shown(&[]), id);
    assert!(shown(&["--type=image"]).starts_with("sha256:"));
    // A volume's name goes last.
    let name = |of: &[&str]| c.ok(&[&["inspect", "-f", "{{.Name}} {{.Driver}}"], of].concat());
    c.ok(&["volume", "create", "data"]);
    assert_eq!(name(&["data"]), "data local\n");
    assert_eq!(
        c.ok(&["inspect", "data"]),
        c.ok(&["volume", "inspect", "data"])
    );
    c.ok(&["tag", "x:1", "data"]);
    assert!(
        c.ok(&["inspect", "-f", "{{.Id}}", "data"])
            .starts_with("sha256:")
    );
    assert_eq!(name(&["--type=volume", "data"]), "data local\n");
    for (args, error) in [
        (vec!["inspect", "none"], "No such object: none"),
        (
            vec!["inspect", "--type", "image", "none"],
            "No such image: none",
        ),
        (
            vec!["inspect", "--type", "container", "none"],
            "No such container: none",
        ),
        (
            vec!["inspect", "--type", "volume", "yy"],
            "get yy: no such volume",
        ),
    ] {
        assert_eq!(c.fails(&args, 1, &format!("Error: {error}\n")), "[]\n");
    }
    // One that is missing does not hide the others.
    let out = c.fails(
        &["inspect", "-f", "{{.Os}}", "none", "x:1"],
        1,
        "Error: No such object: none\n",
    );
    assert_eq!(out, "linux\n");
    c.fails(
        &["inspect", "-f", "{{.Config.Lables}}", "x:1"],
        1,
        "Error: bad template \"{{.Config.Lables}}\": there is no \"Lables\"\n",
    );
    let data = c.ok(&[
        "inspect",
        "-f",
        "{{range $k, $v := .GraphDriver.Data}}{{$k}} {{end}}",
        "yy",
    ]);
    assert_eq!(data, "LowerDir MergedDir UpperDir WorkDir \n");
}

#[test]
fn templates_may_ask_for_what_an_image_does_not_have() {
    let c = Cli::new();
    let config = json!({"os": "linux", "config": {"Labels": {"l": "<no value>"}}});
    image(&c, config, &[layer("a", 3), layer("b", 4)], &["full:1"]);
    image(&c, json!({"os": "linux"}), &[layer("a", 3)], &["bare:1"]);
    let shown = |format: &str, name: &str| c.ok(&["inspect", "-f", format, name]);
    for (format, want) in [
        ("<{{.Config.StopSignal}}>", "<>"),
        (
            "{{.Config.Healthcheck}} {{json .Config.Healthcheck}}",
            "<nil> null",
        ),
        ("{{if .Config.Healthcheck}}yes{{else}}no{{end}}", "no"),
        (
            "{{.Config.Env}}{{.Config.Shell}}{{.Config.Labels}}",
            "[][]map[]",
        ),
        (
            "{{json .Config.Env}} {{json .Config.Shell}} {{json .Config.Labels}}",
            "null null null",
        ),
        ("{{len .Config.Env}}{{range .Config.Env}}x{{end}}", "0"),
        ("{{.Config.Healthcheck}} {{.ID | len}}", "<nil> 71"),
        ("{{.Manifests}} {{.Identity}}", "[] <nil>"),
        // Scripts know by this that there is no such label.
        ("{{.Config.Labels.other}}", "<no value>"),
    ] {
        assert_eq!(shown(format, "bare:1"), format!("{want}\n"), "{format}");
    }
    // A text of the image's own stays what it is.
    assert_eq!(shown("{{.Config.Labels.l}}", "full:1"), "<no value>\n");
    let other = r#"{{.Config.Labels.other}}|{{index .Config.Labels "other"}}|{{if .Config.Labels.other}}y{{end}}"#;
    assert_eq!(shown(other, "full:1"), "<no value>||\n");
    // They are not made up where all is asked for.
    let all = shown("{{json .Config}}", "bare:1");
    assert!(
        all.contains("\"Env\":null") && !all.contains("Healthcheck"),
        "{all}"
    );
    let none = c.run(&["inspect", "-f", "{{.Config.StopSignals}}", "bare:1"]);
    assert_eq!((none.code, none.out.as_str()), (1, ""));

    // The topmost layer is the upper one, those below the lower ones.
    let dirs = shown(
        "{{.GraphDriver.Data.UpperDir}} {{.GraphDriver.Data.LowerDir}}",
        "full:1",
    );
    let (upper, lower) = dirs.trim_end().split_once(' ').unwrap();
    for (dir, file) in [(upper, "b"), (lower, "a")] {
        assert!(std::path::Path::new(dir).join(file).is_file(), "{dirs}");
    }
    for (format, want) in [
        (
            "{{.GraphDriver.Data.LowerDir}}|{{.GraphDriver.Data.MergedDir}}",
            "|",
        ),
        (
            "{{range $k, $v := .GraphDriver.Data}}{{$k}} {{end}}",
            "LowerDir MergedDir UpperDir WorkDir ",
        ),
    ] {
        assert_eq!(shown(format, "bare:1"), format!("{want}\n"));
    }
    // And of containers.
    let id = c.ok(&["create", "bare:1", "/bin/sh"]);
    let format =
        "{{.State.Health}} {{.Config.Healthcheck}} {{.Config.Entrypoint}} {{.Config.Volumes}}";
    assert_eq!(shown(format, id.trim()), "<nil> <nil> [] map[]\n");
}

#[test]
fn tag_is_silent_and_takes_the_name() {
    let c = Cli::new();
    let id = built(&c);
    let other = image(&c, json!({"os": "linux"}), &[layer("c", 1)], &["other:1"]);
    let names = || {
        let mut all: Vec<String> = c
            .ok(&["images", "--format", "{{.Repository}}:{{.Tag}} {{.ID}}"])
            .lines()
            .map(str::to_owned)
            .collect();
        all.sort();
        all
    };
    let (id, other) = (&id[..12], &other[..12]);
    assert_eq!(c.ok(&["tag", "x:1", "z"]), "");
    assert_eq!(c.ok(&["tag", id, "other:1"]), "");
    assert_eq!(
        names(),
        [
            format!("<none>:<none> {other}"),
            format!("other:1 {id}"),
            format!("x:1 {id}"),
            format!("y:1 {id}"),
            format!("z:latest {id}"),
        ]
    );
    // A nameless image gets one; the same name again changes nothing.
    c.ok(&["tag", other, "w:1"]);
    c.ok(&["tag", "w:1", "w:1"]);
    assert!(names().contains(&format!("w:1 {other}")));
    assert_eq!(names().len(), 5);
    let time = c.ok(&["inspect", "-f", "{{.Metadata.LastTagTime}}", "x:1"]);
    let time = capas::store::time::parse(time.trim_end()).unwrap();
    assert!(
        (0..60).contains(&(capas::cli::units::now() - time)),
        "{time}"
    );
    for (source, target, error) in [
        ("none", "a", "No such image: none"),
        (
            "x:1",
            "a@sha256:0123456789012345678901234567890123456789012345678901234567890123",
            "refusing to create a tag with a digest reference",
        ),
        (
            "x:1",
            "Upper",
            "invalid reference format: \"Upper\": repository name must be lowercase",
        ),
        (
            "x:1",
            "sha256:abc",
            "refusing to create the tag \"sha256:abc\", which would read as an id: give another name",
        ),
    ] {
        c.fails(&["tag", source, target], 1, &format!("Error: {error}\n"));
    }
    assert_eq!(names().len(), 5);
}
