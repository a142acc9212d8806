//! Manifests, indexes, configurations, docker's list of images; and what is
//! shown of a configuration.
#![no_main]

use capas::store::document::{DockerImage, ImageConfig, Index, MAX_LAYERS, Top, parse, parse_top};
use capas::store::image;
use capas::store::layer::chain_ids;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    match parse_top(data) {
        Ok(Top::Manifest(manifest)) => {
            assert!(manifest.layers.len() <= MAX_LAYERS);
            let again = serde_json::to_vec(&manifest).expect("it can be written");
            assert!(matches!(parse_top(&again), Ok(Top::Manifest(_))));
        }
        Ok(Top::Index(index)) => {
            let again = serde_json::to_vec(&index).expect("it can be written");
            assert!(matches!(parse_top(&again), Ok(Top::Index(_))));
        }
        Err(e) => assert!(!e.to_string().contains('\n'), "{e}"),
    }
    if let Ok(index) = parse::<Index>(data, "index") {
        let images = image::images(&index);
        assert!(images.len() <= index.manifests.len());
    }
    if let Ok(config) = ImageConfig::parse(data) {
        assert_eq!(chain_ids(config.diff_ids()).len(), config.diff_ids().len());
        image::raw_config(data).expect("what is a configuration is JSON");
    }
    let _ = parse::<Vec<DockerImage>>(data, "manifest.json");
});
