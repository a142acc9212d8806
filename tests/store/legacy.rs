//! Docker archives from before there was a manifest.json.

use super::load::{base, top};
use super::support::*;
use capas::store::load::Wish;
use serde_json::json;
use std::collections::BTreeMap;
use std::fs;

/// What docker wrote before version 1.10; the layers by id, bottom first, each
/// with what its `json` has besides.
fn old_archive(layers: &[(&str, serde_json::Value, Vec<u8>)], repositories: &str) -> Vec<u8> {
    let mut tar = Tar::new();
    for (id, json, layer) in layers {
        let mut json = json.clone();
        json["id"] = (*id).into();
        tar.dir(&format!("{id}/"));
        tar.file(&format!("{id}/VERSION"), "1.0");
        tar.file(&format!("{id}/json"), &json.to_string());
        tar.add(&entry(&format!("{id}/layer.tar"), b'0'), layer);
    }
    tar.file("repositories", repositories);
    tar.end()
}

#[test]
fn archives_of_dockers_first_years() {
    let b = Bench::new();
    let made = |command: &str| json!({"Cmd": ["/bin/sh", "-c", command]});
    let layers = [
        (
            "aa",
            json!({"created": "2014-01-01T00:00:00Z", "container_config": made("one"), "Size": 7}),
            base(),
        ),
        (
            "bb",
            json!({"parent": "aa", "created": "2014-02-01T00:00:00Z", "container_config": made("two"),
                "architecture": "amd64", "os": "linux", "config": {"Cmd": ["/bin/it"]}, "comment": "c",
                "docker_version": "1.8.3", "Size": 8}),
            top(),
        ),
    ];
    let names = r#"{"x": {"1": "bb", "2": "bb"}, "base": {"latest": "aa"}}"#;
    let archive = old_archive(&layers, names);
    let loaded = b.load(&archive).unwrap();
    let mut shown: Vec<Vec<String>> = loaded
        .iter()
        .map(|l| l.names.iter().map(|n| n.familiar_tagged()).collect())
        .collect();
    shown.sort();
    assert_eq!(shown, [vec!["base:latest"], vec!["x:1", "x:2"]]);
    let images = b.store.images().unwrap();
    let app = images.iter().find(|i| i.names.len() == 2).unwrap();
    let (config, data) = b.store.image_config(&app.id).unwrap();
    let wanted: Vec<String> = diffs(&[base(), top()])
        .iter()
        .map(|d| format!("sha256:{d}"))
        .collect();
    let ids: Vec<String> = config.diff_ids().iter().map(|d| d.to_string()).collect();
    assert_eq!(ids, wanted);
    let whole: serde_json::Value = serde_json::from_slice(&data).unwrap();
    assert_eq!(
        whole,
        json!({
            "created": "2014-02-01T00:00:00Z", "container_config": made("two"), "architecture": "amd64",
            "os": "linux", "config": {"Cmd": ["/bin/it"]}, "comment": "c", "docker_version": "1.8.3",
            "rootfs": {"type": "layers", "diff_ids": wanted},
            "history": [
                {"created": "2014-01-01T00:00:00Z", "created_by": "/bin/sh -c one"},
                {"created": "2014-02-01T00:00:00Z", "created_by": "/bin/sh -c two", "comment": "c"},
            ],
        })
    );
    assert_eq!(
        fs::read_to_string(b.tree(1).join("etc/motd")).unwrap(),
        "two"
    );
    // The shared layer once, and the same again is the same.
    assert_eq!(
        fs::read_dir(b.store.root().join("layers"))
            .unwrap()
            .filter(|e| e.as_ref().unwrap().path().is_dir())
            .count(),
        2
    );
    assert_eq!(b.load(&archive).unwrap()[0].id, loaded[0].id);
    let again = Bench::new();
    let stream = gzip(&archive);
    assert_eq!(
        again
            .store
            .load_stream(stream.as_slice(), Wish::default())
            .unwrap()
            .len(),
        2
    );

    let refused = |archive: &[u8], why: &str| Bench::new().refused(archive, why);
    let one = |json: serde_json::Value| [("aa", json, base())];
    refused(
        &old_archive(&one(json!({"parent": "aa"})), r#"{"x": {"1": "aa"}}"#),
        "layer aa is its own parent",
    );
    refused(
        &old_archive(&one(json!({"parent": "bb"})), r#"{"x": {"1": "aa"}}"#),
        "the archive has no \"bb/json\"",
    );
    refused(
        &old_archive(&one(json!({})), r#"{"x": {"1": "../aa"}}"#),
        "is no name of a member",
    );
    refused(
        &old_archive(&one(json!({})), r#"{"X": {"1": "aa"}}"#),
        "repository name must be lowercase",
    );
    refused(
        &old_archive(&one(json!({})), "{}"),
        "the archive holds no image",
    );
    refused(&old_archive(&one(json!({})), "[]"), "bad repositories");
    let long: Vec<(String, serde_json::Value)> = (0..2000)
        .map(|n| (format!("{n}"), json!({"parent": format!("{}", n + 1)})))
        .collect();
    let long: Vec<(&str, serde_json::Value, Vec<u8>)> = long
        .iter()
        .map(|(id, json)| (id.as_str(), json.clone(), base()))
        .collect();
    refused(
        &old_archive(&long, r#"{"x": {"1": "0"}}"#),
        "the image has more than ",
    );
    let heavy = json!({"comment": "x".repeat(7 << 20)});
    let heavy: Vec<(String, serde_json::Value)> =
        (0..10).map(|n| (format!("{n}"), heavy.clone())).collect();
    let names: BTreeMap<&str, _> = heavy
        .iter()
        .map(|(id, _)| (id.as_str(), id.as_str()))
        .collect();
    let names = json!({"x": names}).to_string();
    let heavy: Vec<(&str, serde_json::Value, Vec<u8>)> = heavy
        .iter()
        .map(|(id, json)| (id.as_str(), json.clone(), base()))
        .collect();
    refused(
        &old_archive(&heavy, &names),
        "put fewer images into one archive",
    );
}
