//! Small images, made here, in memory and as OCI layouts.

use capas::store::Digest;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::fs;
use std::io::Write;
use std::path::Path;

pub const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
pub const INDEX: &str = "application/vnd.oci.image.index.v1+json";
pub const DOCKER_MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json";

/// A tar archive with one file.
pub fn layer(name: &str, data: &[u8]) -> Vec<u8> {
    let mut h = [0u8; 512];
    let mut put = |at: usize, bytes: &[u8]| h[at..at + bytes.len()].copy_from_slice(bytes);
    put(0, name.as_bytes());
    put(100, b"0000644\0");
    put(108, b"0000000\0");
    put(116, b"0000000\0");
    put(124, format!("{:011o}\0", data.len()).as_bytes());
    put(136, b"07346545000\0");
    put(148, b"        ");
    put(156, b"0");
    put(257, b"ustar\x0000");
    let sum: u32 = h.iter().map(|b| u32::from(*b)).sum();
    h[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    let mut out = h.to_vec();
    out.extend_from_slice(data);
    out.resize(out.len().next_multiple_of(512) + 1024, 0);
    out
}

/// Bytes that do not compress, the same every time.
pub fn noise(len: usize, seed: u64) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let next = |_| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()[3]
    };
    (0..len).map(next).collect()
}

/// How a layer is packed.
#[derive(Clone, Copy)]
pub enum Pack {
    Plain,
    Gzip,
    Zstd,
}

pub fn pack(layer: &[u8], how: Pack) -> Vec<u8> {
    match how {
        Pack::Plain => layer.to_vec(),
        Pack::Gzip => {
            let mut out = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
            out.write_all(layer).unwrap();
            out.finish().unwrap()
        }
        Pack::Zstd => zstd::encode_all(layer, 1).unwrap(),
    }
}

/// An image with all that belongs to it.
#[derive(Clone)]
pub struct Image {
    pub media_type: &'static str,
    pub manifest: Vec<u8>,
    pub config: Vec<u8>,
    /// Blobs of layers, bottom first.
    pub layers: Vec<Vec<u8>>,
    pub diff_ids: Vec<Digest>,
}

/// A descriptor.
pub fn described(media_type: &str, data: &[u8]) -> Value {
    json!({"mediaType": media_type, "digest": Digest::of(data).to_string(), "size": data.len()})
}

/// An image for `architecture` in OCI's form.
pub fn image_for(architecture: &str, layers: &[(Vec<u8>, Pack)]) -> Image {
    build(architecture, layers, MANIFEST, |pack| match pack {
        Pack::Plain => "application/vnd.oci.image.layer.v1.tar",
        Pack::Gzip => "application/vnd.oci.image.layer.v1.tar+gzip",
        Pack::Zstd => "application/vnd.oci.image.layer.v1.tar+zstd",
    })
}

/// An image for this machine in OCI's form.
pub fn image(layers: &[(Vec<u8>, Pack)]) -> Image {
    image_for(capas::store::document::host_architecture(), layers)
}

/// The same in docker's form, which has no zstd.
pub fn docker_image(layers: &[(Vec<u8>, Pack)]) -> Image {
    let host = capas::store::document::host_architecture();
    build(
        host,
        layers,
        DOCKER_MANIFEST,
        |_| "application/vnd.docker.image.rootfs.diff.tar.gzip",
    )
}

fn build(
    architecture: &str,
    layers: &[(Vec<u8>, Pack)],
    media_type: &'static str,
    layer_type: impl Fn(Pack) -> &'static str,
) -> Image {
    let diff_ids: Vec<Digest> = layers.iter().map(|(l, _)| Digest::of(l)).collect();
    let config = json!({
        "architecture": architecture, "os": "linux", "created": "2020-01-02T03:04:05Z",
        "config": {"Cmd": ["/bin/sh"]},
        "rootfs": {"type": "layers", "diff_ids": diff_ids},
    });
    let config = config.to_string().into_bytes();
    let blobs: Vec<Vec<u8>> = layers.iter().map(|(l, how)| pack(l, *how)).collect();
    let list: Vec<Value> = blobs
        .iter()
        .zip(layers)
        .map(|(blob, (_, how))| described(layer_type(*how), blob))
        .collect();
    let config_type = match media_type {
        MANIFEST => "application/vnd.oci.image.config.v1+json",
        _ => "application/vnd.docker.container.image.v1+json",
    };
    let manifest = json!({
        "schemaVersion": 2, "mediaType": media_type,
        "config": described(config_type, &config), "layers": list,
    });
    Image {
        media_type,
        manifest: manifest.to_string().into_bytes(),
        config,
        layers: blobs,
        diff_ids,
    }
}

impl Image {
    /// The same, made in 2001: so many years ago have two digits for long.
    pub fn aged(mut self) -> Image {
        let swap = |data: &[u8], from: &str, to: &str| {
            let text = String::from_utf8(data.to_vec()).unwrap();
            assert!(text.contains(from));
            text.replace(from, to).into_bytes()
        };
        let before = self.id().to_string();
        self.config = swap(&self.config, "2020-01-02T", "2001-01-02T");
        self.manifest = swap(&self.manifest, &before, &self.id().to_string());
        self
    }

    pub fn digest(&self) -> Digest {
        Digest::of(&self.manifest)
    }

    pub fn id(&self) -> Digest {
        Digest::of(&self.config)
    }

    /// How people are shown the blob of a layer.
    pub fn short(&self, layer: usize) -> String {
        Digest::of(&self.layers[layer]).short()
    }

    /// All of it by digest.
    pub fn blobs(&self) -> BTreeMap<Digest, &[u8]> {
        let all = [&self.manifest, &self.config].into_iter();
        all.chain(&self.layers)
            .map(|b| (Digest::of(b), b.as_slice()))
            .collect()
    }
}

/// An index of images by platform, as it lies in a registry.
pub fn index(images: &[(&Image, Value)]) -> Vec<u8> {
    let entry = |(image, platform): &(&Image, Value)| {
        let mut entry = described(image.media_type, &image.manifest);
        entry["platform"] = platform.clone();
        entry
    };
    let all: Vec<Value> = images.iter().map(entry).collect();
    json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": all})
        .to_string()
        .into_bytes()
}

/// Write an OCI layout with one thing in it, called `x`.
pub fn layout(dir: &Path, top: &Value, blobs: &[&[u8]]) {
    let to = dir.join("blobs/sha256");
    fs::create_dir_all(&to).unwrap();
    for blob in blobs {
        fs::write(to.join(Digest::of(blob).hex()), blob).unwrap();
    }
    let mut top = top.clone();
    top["annotations"] = json!({"org.opencontainers.image.ref.name": "x"});
    let index = json!({"schemaVersion": 2, "manifests": [top]});
    fs::write(dir.join("index.json"), index.to_string()).unwrap();
    fs::write(dir.join("oci-layout"), r#"{"imageLayoutVersion":"1.0.0"}"#).unwrap();
}
