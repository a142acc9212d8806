//! Images with a configuration as one pleases.

use crate::program::Cli;
use crate::support::{Tar, diffs, entry, hex};
use capas::cli::units;
use serde_json::{Value, json};

/// The age of a time, as it is shown.
pub fn age(created: &str) -> String {
    units::ago(capas::store::time::parse(created).unwrap())
}

/// One layer with one file of so many bytes.
pub fn layer(name: &str, size: usize) -> Vec<u8> {
    Tar::new().file(name, &"x".repeat(size)).end()
}

/// Load an image of `layers` whose configuration is `config` with its layers
/// added; returns its id.
pub fn image(c: &Cli, mut config: Value, layers: &[Vec<u8>], names: &[&str]) -> String {
    let ids: Vec<String> = diffs(layers)
        .iter()
        .map(|d| format!("sha256:{d}"))
        .collect();
    config["rootfs"] = json!({"type": "layers", "diff_ids": ids});
    let config = config.to_string();
    let mut tar = Tar::new();
    let mut members = Vec::new();
    for (i, layer) in layers.iter().enumerate() {
        let name = format!("layer{i}.tar");
        tar.add(&entry(&name, b'0'), layer);
        members.push(name);
    }
    tar.file("config.json", &config);
    let manifest = json!([{"Config": "config.json", "RepoTags": names, "Layers": members}]);
    tar.file("manifest.json", &manifest.to_string());
    let path = c
        .bench
        .write(&format!("{}.tar", hex(config.as_bytes())), &tar.end());
    c.load_path(&path);
    hex(config.as_bytes())
}
