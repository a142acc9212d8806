//! The configuration file, and the registries it speaks of.
#![no_main]

use capas::config::Config;
use capas::registry::Registry;
use libfuzzer_sys::fuzz_target;
use std::path::Path;
use std::sync::Arc;

fuzz_target!(|data: &[u8]| {
    let config = match Config::parse(data, Path::new("config.toml")) {
        Ok(config) => config,
        Err(e) => {
            assert!(!e.to_string().chars().any(char::is_control), "{e}");
            return;
        }
    };
    for name in config.registries.keys() {
        if let Err(e) = Registry::new(name, &config, false, Arc::new(|_, _| Ok(None))) {
            assert!(!e.to_string().chars().any(char::is_control), "{e}");
        }
    }
});
