//! `system df` agrees with du.

use super::check::du;
use super::support::*;
use super::upkeep::{base_layer, capas, filled, load, ok, rows};
use serde_json::Value;
use std::fs;

#[test]
fn df_is_du_to_the_byte() {
    let b = filled();
    let root = b.store.root().to_owned();
    let agree = || {
        let rows = rows(&b);
        let bytes = |n: usize| rows[n]["Bytes"].as_u64().unwrap();
        assert_eq!(bytes(0), du(&[root.join("blobs"), root.join("layers")]));
        assert_eq!(bytes(1), du(&[root.join("containers")]));
        let usage = b.store.usage(&[]).unwrap();
        assert_eq!(usage.images, bytes(0));
        assert_eq!(
            usage.images + usage.containers + usage.other,
            du(std::slice::from_ref(&root))
        );
        rows
    };
    let before = agree();
    assert_eq!(before[0]["TotalCount"], "3");
    assert_eq!(before[0]["Active"], "0");
    ok(&b, &["create", "--name", "box", "one:1"]);
    fs::write(
        fs::read_dir(b.store.containers())
            .unwrap()
            .next()
            .unwrap()
            .unwrap()
            .path()
            .join("upper/f"),
        "x".repeat(50_000),
    )
    .unwrap();
    let after = agree();
    assert_eq!(
        (
            &after[0]["Active"],
            &after[1]["TotalCount"],
            &after[1]["Active"]
        ),
        (&"1".into(), &"1".into(), &"0".into())
    );
    let less = before[0]["ReclaimableBytes"].as_u64().unwrap()
        - after[0]["ReclaimableBytes"].as_u64().unwrap();
    assert!(less > 1_000_000, "the base is in use now: {less}");
    let table = ok(&b, &["system", "df"]);
    let lines: Vec<&str> = table.lines().collect();
    assert_eq!(
        lines[0].split_whitespace().collect::<Vec<_>>(),
        ["TYPE", "TOTAL", "ACTIVE", "SIZE", "RECLAIMABLE"]
    );
    let cells = |n: usize| lines[n].split_whitespace().collect::<Vec<_>>();
    assert_eq!(cells(1)[..3], ["Images", "3", "1"], "{table}");
    assert_eq!(cells(3), ["Local", "Volumes", "0", "0", "0B", "0B"]);
    if super::support::root() {
        // The mount is not the container's.
        ok(&b, &["mount", "box"]);
        agree();
        ok(&b, &["umount", "box"]);
    }
}

#[test]
fn df_column_by_column() {
    let b = filled();
    ok(&b, &["tag", "one:1", "one:2"]);
    let short = |name: &str| b.store.find_image(name).unwrap().0.id.short();
    let usage = b.store.usage(&[]).unwrap();
    let fine = capas::cli::units::fine_size;
    // The format docker has.
    let line = |cells: [&str; 5], width: usize| {
        let [kind, total, active, size, rest] = cells;
        format!("{kind:16}{total:10}{active:10}{size:width$}   {rest}\n")
    };
    let (size, none) = (fine(usage.images), fine(usage.containers));
    let width = size.len().max(none.len()).max(7);
    let percent = usage.reclaimable * 100 / usage.images;
    let free = format!("{} ({percent}%)", fine(usage.reclaimable));
    let held = match usage.containers {
        0 => "0B",
        _ => "0B (0%)",
    };
    assert_eq!(
        ok(&b, &["system", "df"]),
        [
            line(["TYPE", "TOTAL", "ACTIVE", "SIZE", "RECLAIMABLE"], width),
            line(["Images", "3", "0", &size, &free], width),
            line(["Containers", "0", "0", &none, held], width),
            line(["Local Volumes", "0", "0", "0B", "0B"], width),
            line(["Build Cache", "0", "0", "0B", "0B"], width),
        ]
        .concat()
    );
    // An image is there once, whatever its names.
    let text = ok(&b, &["system", "df", "-v"]);
    let part = |title: &str| -> Vec<Vec<&str>> {
        let rest = text.split_once(&format!("{title}\n\n")).unwrap().1;
        let lines = rest.lines().take_while(|l| !l.is_empty());
        lines
            .map(|l| {
                l.split("   ")
                    .map(str::trim)
                    .filter(|c| !c.is_empty())
                    .collect()
            })
            .collect()
    };
    let images = part("Images space usage:");
    assert_eq!(
        images[0],
        [
            "REPOSITORY",
            "TAG",
            "IMAGE ID",
            "CREATED",
            "SIZE",
            "SHARED SIZE",
            "UNIQUE SIZE",
            "CONTAINERS"
        ]
    );
    assert_eq!(images.len(), 4, "{text}");
    let one = images.iter().find(|row| row[0] == "one").unwrap();
    assert_eq!(
        (one[1], one[2], one[7]),
        ("1", short("one:1").as_str(), "0")
    );
    assert_eq!(
        part("Containers space usage:")[0],
        [
            "CONTAINER ID",
            "IMAGE",
            "COMMAND",
            "LOCAL VOLUMES",
            "SIZE",
            "CREATED",
            "STATUS",
            "NAMES"
        ]
    );
    assert_eq!(
        part("Local Volumes space usage:"),
        [["VOLUME NAME", "LINKS", "SIZE"]]
    );
    assert_eq!(
        part("Build cache usage: 0B"),
        [[
            "CACHE ID",
            "CACHE TYPE",
            "SIZE",
            "CREATED",
            "LAST USED",
            "USAGE",
            "SHARED"
        ]]
    );
}

#[test]
fn df_of_containers_and_as_a_value() {
    let b = filled();
    let id = ok(
        &b,
        &[
            "create",
            "--name",
            "box",
            "-v",
            "/data",
            "one:1",
            "/bin/sh",
            "-c",
            "exit  0; true",
        ],
    );
    let id = id.trim();
    let dir = b.store.containers().join(id);
    fs::write(dir.join("upper/f"), "x".repeat(50_000)).unwrap();
    let size = capas::cli::units::size(du(&[dir]));
    let text = ok(&b, &["system", "df", "-v"]);
    let rest = text.split_once("Containers space usage:\n\n").unwrap().1;
    let lines: Vec<&str> = rest.lines().take_while(|l| !l.is_empty()).collect();
    let all: Value =
        serde_json::from_str(&ok(&b, &["system", "df", "-v", "--format", "json"])).unwrap();
    let box_ = &all["Containers"][0];
    let place = |line: &str, part: &str| line.split(part).next().unwrap().chars().count();
    for (field, heading, want) in [
        ("ID", "CONTAINER ID", &id[..12]),
        ("Image", "IMAGE", "one:1"),
        ("Command", "COMMAND", "\"/bin/sh -c exit  0;…\""),
        ("LocalVolumes", "LOCAL VOLUMES", "1 "),
        ("Size", "SIZE", &size),
        ("Status", "STATUS", "Created"),
        ("Names", "NAMES", "box"),
    ] {
        assert_eq!(box_[field], want.trim_end(), "{field}");
        // The columns stand below their headings.
        let after = place(lines[0], heading);
        let cell: String = lines[1].chars().skip(after).collect();
        assert!(cell.starts_with(want), "{heading}: {lines:?}");
    }
    let images = all["Images"].as_array().unwrap();
    let one = images.iter().find(|i| i["Repository"] == "one").unwrap();
    let short = b.store.find_image("one:1").unwrap().0.id.short();
    assert_eq!(
        (&one["Tag"], &one["ID"], &one["Containers"]),
        (&"1".into(), &short.into(), &"1".into())
    );
    assert_eq!(
        ok(
            &b,
            &[
                "system",
                "df",
                "-v",
                "--format",
                "{{range .Images}}{{.Repository}} {{end}}{{len .Containers}} {{len .Volumes}} {{len .BuildCache}}"
            ]
        ),
        format!(
            "{}1 1 0\n",
            images
                .iter()
                .map(|i| format!("{} ", i["Repository"].as_str().unwrap()))
                .collect::<String>()
        )
    );
    assert_eq!(
        capas(&b, &["system", "df", "-v", "--format", "{{.None}}"], "").0,
        1
    );
}

#[test]
fn shared_layers_cost_once() {
    let b = Bench::new();
    let base = base_layer();
    let size = || du(&[b.store.root().join("blobs"), b.store.root().join("layers")]);
    let empty = size();
    load(
        &b,
        "one:1",
        &[base.clone(), Tar::new().file("one", "1").end()],
    );
    let one = size() - empty;
    load(&b, "two:1", &[base, Tar::new().file("two", "2").end()]);
    let two = size() - empty - one;
    assert!(one > 3_000_000 && two < 100_000, "{one} and {two}");
    let usage = b.store.image_usage().unwrap();
    let [first, second] = usage.as_slice() else {
        panic!("{usage:?}")
    };
    assert_eq!(first.shared, second.shared);
    // Directories of the store itself belong to nobody.
    assert_eq!(first.shared + first.unique + second.unique, one + two);
    let text = ok(&b, &["system", "df", "-v"]);
    assert!(
        text.contains("SHARED SIZE   UNIQUE SIZE   CONTAINERS"),
        "{text}"
    );
    let all = du(&[b.store.root().to_owned()]);
    assert!(text.contains(&format!("Store: {all} bytes")), "{text}");
}
