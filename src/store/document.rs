//! The JSON documents of images, read with bounds and without trust.

use super::digest::Digest;
use super::error::{Error, Result, invalid};
use serde::de::{MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::Value;
use std::collections::BTreeMap;
use std::fmt;

/// No index or manifest is larger; the specification lets registries refuse
/// more than this.
pub const MAX_MANIFEST: u64 = 4 << 20;
/// No image configuration is larger.
pub const MAX_CONFIG: u64 = 8 << 20;
/// No image has more layers.
pub const MAX_LAYERS: usize = 1000;

/// Media type of an OCI manifest.
pub const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
/// Media type of an OCI image configuration.
pub const CONFIG: &str = "application/vnd.oci.image.config.v1+json";
/// What manifests of images call their configuration.
pub const IMAGE_CONFIGS: [&str; 2] = [CONFIG, "application/vnd.docker.container.image.v1+json"];
const INDEX: &str = "application/vnd.oci.image.index.v1+json";
const DOCKER_MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json";
const DOCKER_INDEX: &str = "application/vnd.docker.distribution.manifest.list.v2+json";

/// What registries may send as a manifest.
pub const MANIFEST_TYPES: [&str; 4] = [MANIFEST, INDEX, DOCKER_MANIFEST, DOCKER_INDEX];

/// Annotation: the name of an image in an index.
pub const REF_NAME: &str = "org.opencontainers.image.ref.name";
/// Annotation: the full name, as containerd and docker write it.
pub const CONTAINERD_NAME: &str = "io.containerd.image.name";

/// Notes to a document, in the order of their keys. There are few: a list is
/// cheaper than a tree where thousands of images are listed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Annotations(Vec<(String, String)>);

impl Annotations {
    fn find(&self, key: &str) -> std::result::Result<usize, usize> {
        self.0.binary_search_by(|(k, _)| k.as_str().cmp(key))
    }

    /// The value of a key.
    pub fn get(&self, key: &str) -> Option<&str> {
        let (_, value) = self.0.get(self.find(key).ok()?)?;
        Some(value)
    }

    /// Set the value of a key.
    pub fn insert(&mut self, key: String, value: String) {
        match self.find(&key) {
            Ok(at) => {
                if let Some((_, old)) = self.0.get_mut(at) {
                    *old = value;
                }
            }
            Err(at) => self.0.insert(at, (key, value)),
        }
    }

    /// Forget a key.
    pub fn remove(&mut self, key: &str) {
        if let Ok(at) = self.find(key) {
            self.0.remove(at);
        }
    }
}

impl Serialize for Annotations {
    fn serialize<S: Serializer>(&self, s: S) -> std::result::Result<S::Ok, S::Error> {
        s.collect_map(self.0.iter().map(|(key, value)| (key, value)))
    }
}

impl<'de> Deserialize<'de> for Annotations {
    fn deserialize<D: Deserializer<'de>>(d: D) -> std::result::Result<Self, D::Error> {
        struct Entries;
        impl<'de> Visitor<'de> for Entries {
            type Value = Annotations;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("annotations")
            }
            fn visit_map<A: MapAccess<'de>>(
                self,
                mut map: A,
            ) -> std::result::Result<Annotations, A::Error> {
                let mut all: Vec<(String, String)> = Vec::new();
                while let Some(entry) = map.next_entry()? {
                    all.push(entry);
                }
                if !all.is_sorted_by(|(a, _), (b, _)| a < b) {
                    // The last of a key counts, so it comes first here.
                    all.reverse();
                    all.sort_by(|(a, _), (b, _)| a.cmp(b));
                    all.dedup_by(|(a, _), (b, _)| a == b);
                }
                Ok(Annotations(all))
            }
        }
        d.deserialize_map(Entries)
    }
}

/// A reference to a blob.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Descriptor {
    /// What the blob is.
    #[serde(default)]
    pub media_type: String,
    /// Its address.
    pub digest: Digest,
    /// Its bytes.
    pub size: u64,
    /// What it is for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub annotations: Option<Annotations>,
    /// What it runs on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub platform: Option<Platform>,
}

impl Descriptor {
    /// One annotation.
    pub fn annotation(&self, key: &str) -> Option<&str> {
        self.annotations.as_ref()?.get(key)
    }

    /// Does it refer to an index of several images.
    pub fn is_index(&self) -> bool {
        matches!(self.media_type.as_str(), INDEX | DOCKER_INDEX)
    }

    /// Does it refer to one image.
    pub fn is_manifest(&self) -> bool {
        matches!(self.media_type.as_str(), MANIFEST | DOCKER_MANIFEST)
    }
}

/// Where an image runs.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Platform {
    /// As Go names it.
    #[serde(default)]
    pub architecture: String,
    /// As Go names it.
    #[serde(default)]
    pub os: String,
    /// For example `v7`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub variant: Option<String>,
}

/// Go's name of this machine's architecture.
pub fn host_architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        "x86" => "386",
        "powerpc64" => "ppc64le",
        "loongarch64" => "loong64",
        other => other,
    }
}

/// An image index: `index.json` and nested ones.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Index {
    /// 2.
    pub schema_version: u32,
    /// Optional in `index.json`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub media_type: Option<String>,
    /// The images.
    pub manifests: Vec<Descriptor>,
    /// Notes about the whole.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub annotations: Option<Annotations>,
}

impl Default for Index {
    fn default() -> Self {
        Index {
            schema_version: 2,
            media_type: Some(INDEX.to_owned()),
            manifests: Vec::new(),
            annotations: None,
        }
    }
}

/// An image manifest.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Manifest {
    /// 2.
    pub schema_version: u32,
    /// Docker's or OCI's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub media_type: Option<String>,
    /// The image configuration.
    pub config: Descriptor,
    /// Bottom first.
    pub layers: Vec<Descriptor>,
}

/// Either kind of document that a descriptor in an index may mean.
#[derive(Debug)]
pub enum Top {
    /// Several images.
    Index(Index),
    /// One image.
    Manifest(Manifest),
}

impl Top {
    /// The media type: its own word, or OCI's.
    pub fn media_type(&self) -> &str {
        match self {
            Top::Index(index) => index.media_type.as_deref().unwrap_or(INDEX),
            Top::Manifest(manifest) => manifest.media_type.as_deref().unwrap_or(MANIFEST),
        }
    }
}

/// Read an index or a manifest. A document that could be read as both is
/// refused: two programs would see two images under one digest.
///
/// # Errors
/// For what is neither, or both.
pub fn parse_top(data: &[u8]) -> Result<Top> {
    let value: Value = parse(data, "manifest")?;
    let has = |key: &str| value.get(key).is_some();
    let wrong = |kind: &[&str]| {
        value
            .get("mediaType")
            .and_then(Value::as_str)
            .is_some_and(|t| !kind.contains(&t))
    };
    match (has("manifests"), has("layers") || has("config")) {
        (true, true) => invalid("the manifest is an index and an image at once"),
        (true, false) if wrong(&[INDEX, DOCKER_INDEX]) => {
            invalid("the index calls itself something else")
        }
        (false, true) if wrong(&[MANIFEST, DOCKER_MANIFEST]) => {
            invalid("the manifest calls itself something else")
        }
        (true, false) => Ok(Top::Index(parse(data, "index")?)),
        (false, true) => {
            let manifest: Manifest = parse(data, "manifest")?;
            if manifest.layers.len() > MAX_LAYERS {
                return invalid(format!(
                    "the image has {} layers, more than {MAX_LAYERS}",
                    manifest.layers.len()
                ));
            }
            Ok(Top::Manifest(manifest))
        }
        (false, false) => invalid("the document is neither a manifest nor an index"),
    }
}

/// Read any JSON document. It must be UTF-8 throughout: what one reader passes
/// over, another one reads.
///
/// # Errors
/// Says which `kind` of document was bad.
pub fn parse<T: for<'de> Deserialize<'de>>(data: &[u8], kind: &str) -> Result<T> {
    let bad = |why: &dyn std::fmt::Display| Error::Invalid(format!("bad {kind}: {why}"));
    let text = std::str::from_utf8(data).map_err(|e| bad(&e))?;
    serde_json::from_str(text).map_err(|e| bad(&e))
}

/// What we need of an image configuration; all else stays in the blob.
#[derive(Clone, Debug, Deserialize)]
pub struct ImageConfig {
    /// RFC 3339.
    #[serde(default)]
    pub created: Option<String>,
    /// As Go names it.
    #[serde(default)]
    pub architecture: Option<String>,
    /// As Go names it.
    #[serde(default)]
    pub os: Option<String>,
    /// As Go names it.
    #[serde(default)]
    pub variant: Option<String>,
    /// How to run it.
    #[serde(default)]
    pub config: Option<RunConfig>,
    /// Its layers.
    pub rootfs: RootFs,
}

/// The layers of an image by the digest of their uncompressed content.
#[derive(Clone, Debug, Deserialize)]
pub struct RootFs {
    /// Bottom first.
    #[serde(default)]
    pub diff_ids: Option<Vec<Digest>>,
}

/// How to run an image.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct RunConfig {
    /// `user[:group]`, names or numbers.
    pub user: Option<String>,
    /// `KEY=VALUE`.
    pub env: Option<Vec<String>>,
    /// What is run.
    pub entrypoint: Option<Vec<String>>,
    /// Its default arguments, or the command.
    pub cmd: Option<Vec<String>>,
    /// Where it is run.
    pub working_dir: Option<String>,
    /// `KEY` to `VALUE`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub labels: Option<BTreeMap<String, String>>,
    /// Directories that are no part of the container's layer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub volumes: Option<BTreeMap<String, serde_json::Value>>,
    /// `PORT/PROTOCOL`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub exposed_ports: Option<BTreeMap<String, serde_json::Value>>,
    /// What asks the command to end, a name or a number.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stop_signal: Option<String>,
}

impl ImageConfig {
    /// Read and check a configuration.
    ///
    /// # Errors
    /// For bad JSON, or too many layers.
    pub fn parse(data: &[u8]) -> Result<ImageConfig> {
        let config: ImageConfig = parse(data, "image configuration")?;
        check_layers(config.diff_ids().len())?;
        Ok(config)
    }

    /// The layers' digests, bottom first.
    pub fn diff_ids(&self) -> &[Digest] {
        self.rootfs.diff_ids.as_deref().unwrap_or_default()
    }
}

/// May an image have so many layers.
///
/// # Errors
/// When it may not.
pub fn check_layers(number: usize) -> Result<()> {
    match number > MAX_LAYERS {
        true => invalid(format!("the image has more than {MAX_LAYERS} layers")),
        false => Ok(()),
    }
}

/// One image in a docker archive's `manifest.json`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct DockerImage {
    /// The member that holds the configuration.
    pub config: String,
    /// Names.
    #[serde(default)]
    pub repo_tags: Option<Vec<String>>,
    /// The members that hold the layers, bottom first.
    #[serde(default)]
    pub layers: Option<Vec<String>>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_document_of_two_kinds_is_refused() {
        let d = Digest::of(b"");
        let both = format!(
            r#"{{"schemaVersion":2,"manifests":[],"layers":[],"config":{{"digest":"{d}","size":0}}}}"#
        );
        assert!(
            parse_top(both.as_bytes())
                .unwrap_err()
                .to_string()
                .contains("at once")
        );
        let masked = format!(
            r#"{{"schemaVersion":2,"mediaType":"{INDEX}","layers":[],"config":{{"digest":"{d}","size":0}}}}"#
        );
        assert!(parse_top(masked.as_bytes()).is_err());
        assert!(parse_top(b"{}").is_err());
        assert!(parse_top(b"[1").is_err());
    }

    #[test]
    fn text_that_is_not_unicode_is_refused_where_nobody_reads_it() {
        let e = ImageConfig::parse(b"{\"rootfs\":{},\"author\":\"\xff\"}").unwrap_err();
        assert!(e.to_string().contains("utf-8"), "{e}");
    }

    #[test]
    fn annotations_are_in_order_and_the_last_of_a_key_counts() {
        let mut all: Annotations = parse(br#"{"b":"1","a":"2","b":"3","c":"4"}"#, "x").unwrap();
        assert_eq!(all.get("b"), Some("3"));
        all.insert("c".to_owned(), "5".to_owned());
        all.remove("b");
        all.remove("b");
        assert_eq!(all.get("b"), None);
        let text = serde_json::to_string(&all).unwrap();
        assert_eq!(text, r#"{"a":"2","c":"5"}"#);
    }

    #[test]
    fn nulls_of_docker_are_accepted() {
        let c = ImageConfig::parse(
            br#"{"rootfs":{"type":"layers","diff_ids":null},"config":{"Env":null,"Cmd":null}}"#,
        )
        .unwrap();
        assert!(c.diff_ids().is_empty());
    }
}
