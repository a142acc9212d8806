//! `images`: which images, in which order, and the filters.

use crate::fixture::{age, image, layer};
use crate::program::Cli;
use serde_json::json;

/// Four images, a year apart, and their ids.
fn four(c: &Cli) -> [String; 4] {
    let one = |year: u32, labels: serde_json::Value, names: &[&str]| {
        let config = json!({"created": format!("{year}-05-01T10:00:00Z"), "os": "linux", "config": {"Labels": labels}});
        image(c, config, &[layer("file", 10)], names)
    };
    [
        one(2020, json!(null), &["old:1"]),
        one(
            2021,
            json!({"stage": "test", "v": "1"}),
            &["h.example/team/app:1", "app:1"],
        ),
        one(2022, json!({"stage": "live"}), &[]),
        one(2023, json!({"stage": "test"}), &["app:2", "app:latest"]),
    ]
}

#[test]
fn newest_first_with_columns() {
    let c = Cli::new();
    let ids = four(&c);
    let years: Vec<String> = (2020..2024)
        .map(|y| age(&format!("{y}-05-01T10:00:00Z")))
        .collect();
    let width = years.iter().map(String::len).max().unwrap();
    let line = |name: &str, tag: &str, n: usize| {
        format!(
            "{name:21}{tag:10}{:15}{:width$}   10B\n",
            &ids[n][..12],
            years[n]
        )
    };
    assert_eq!(
        c.ok(&["images"]),
        format!(
            "{:21}{:10}{:15}{:width$}   SIZE\n{}{}{}{}{}{}",
            "REPOSITORY",
            "TAG",
            "IMAGE ID",
            "CREATED",
            line("app", "2", 3),
            line("app", "latest", 3),
            line("<none>", "<none>", 2),
            line("h.example/team/app", "1", 1),
            line("app", "1", 1),
            line("old", "1", 0),
        )
    );
    assert_eq!(c.ok(&["images", "-a"]), c.ok(&["images", "--all"]));
    assert_eq!(c.ok(&["images", "-aq"]), c.ok(&["images", "-q"]));
}

#[test]
fn filters() {
    let c = Cli::new();
    let ids = four(&c);
    let short = |n: usize| &ids[n][..12];
    let shown = |args: &[&str]| {
        let format = ["images", "--format", "{{.Repository}}:{{.Tag}}"];
        c.ok(&[&format, args].concat()).replace('\n', " ")
    };
    let filtered = |filters: &[&str]| {
        let args: Vec<&str> = filters.iter().flat_map(|f| ["-f", f]).collect();
        shown(&args)
    };
    for (filters, want) in [
        (vec!["dangling=true"], "<none>:<none> "),
        (
            vec!["dangling=false", "label=stage"],
            "app:2 app:latest h.example/team/app:1 app:1 ",
        ),
        (
            vec!["label=stage=test", "label=v"],
            "h.example/team/app:1 app:1 ",
        ),
        (vec!["label=stage=none"], ""),
        (
            vec!["before=app:2"],
            "<none>:<none> h.example/team/app:1 app:1 old:1 ",
        ),
        (
            vec!["since=old:1", "before=app:2"],
            "<none>:<none> h.example/team/app:1 app:1 ",
        ),
        (vec![&format!("since={}", short(2))], "app:2 app:latest "),
        (vec!["until=2021-05-01"], "old:1 "),
        (
            vec!["until=1h", "dangling=0"],
            "app:2 app:latest h.example/team/app:1 app:1 old:1 ",
        ),
        (vec!["reference=app"], "app:2 app:latest app:1 "),
        (vec!["reference=app:l*"], "app:latest "),
        (vec!["reference=*"], "app:2 app:latest app:1 old:1 "),
        (vec!["reference=*/*/app"], "h.example/team/app:1 "),
        (vec!["reference=o?d", "reference=app:[0-1]"], "app:1 old:1 "),
    ] {
        assert_eq!(filtered(&filters), want, "{filters:?}");
    }
    for (name, want) in [
        ("app", "app:2 app:latest app:1 "),
        ("app:1", "app:1 "),
        ("docker.io/library/app", "app:2 app:latest app:1 "),
        ("h.example/*/app", "h.example/team/app:1 "),
        ("a*", "app:2 app:latest app:1 "),
        ("none", ""),
    ] {
        assert_eq!(shown(&[name]), want, "{name}");
    }
    // As for docker, the argument is one more pattern.
    assert_eq!(shown(&["-f", "reference=old", "app:2"]), "app:2 old:1 ");
    for (filter, error) in [
        (
            "colour=red",
            "invalid filter 'colour=red': give KEY=VALUE with one of before, dangling, label, reference, since, until",
        ),
        (
            "dangling",
            "invalid filter 'dangling': give KEY=VALUE with one of before, dangling, label, reference, since, until",
        ),
        (
            "dangling=maybe",
            "invalid filter 'dangling=maybe': it is true or false",
        ),
        ("since=none", "No such image: none"),
        ("reference=[", "bad pattern \"[\": invalid range pattern"),
        (
            "until=soon",
            "invalid filter 'until=soon': give a duration as 24h, a time as 2024-05-01T10:00:00, or seconds since 1970",
        ),
    ] {
        c.fails(&["images", "-f", filter], 1, &format!("Error: {error}\n"));
    }
}

#[test]
fn flags_take_values_as_dockers_do() {
    let c = Cli::new();
    let id = image(&c, json!({}), &[layer("a", 1)], &["a:1"]);
    let short = &id[..12];
    let format = ["--format", "{{.ID}}"];
    let shown = |args: &[&str]| c.ok(&[&["images"], args].concat());
    let long = format!("sha256:{id}\n");
    let short = format!("{short}\n");
    for (args, out) in [
        (&["-q", "--no-trunc=false"][..], &short),
        (&["-q", "--no-trunc=true"], &long),
        (&["-aq=1", "--no-trunc=T"], &long),
        (&["-qa", "--no-trunc=0"], &short),
        (&["-qa=false"], &short),
        (
            &["-q", "-q=false", "-q", "--no-trunc", "--no-trunc=0"],
            &short,
        ),
        (&["--format", "{{.Tag}}", "--format", "{{.ID}}"], &short),
    ] {
        assert_eq!(&shown(args), out, "{args:?}");
    }
    assert_eq!(shown(&[&["-q=false"], &format[..]].concat()), short);
    let table = shown(&["-q=false"]);
    assert!(table.starts_with("REPOSITORY "), "{table}");
    let wrong = c.run(&["images", "--no-trunc=maybe"]);
    assert_eq!(wrong.code, 1);
    let first = "error: invalid argument \"maybe\" for \"--no-trunc\" flag: strconv.ParseBool: \
                 parsing \"maybe\": invalid syntax";
    assert_eq!(wrong.err.lines().next(), Some(first));
}
