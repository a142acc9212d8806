//! The configuration file, TOML:
//!
//! ```toml
//! root = "/srv/capas"
//! runtime = "crun"
//!
//! [registries."docker.io"]
//! mirrors = ["https://mirror.example"]
//!
//! [registries."registry.example:5000"]
//! insecure = true
//! ```
//!
//! `/etc/capas/config.toml` is read first, then the user's own under
//! `$XDG_CONFIG_HOME`, whose values go before; `CAPAS_CONFIG` names one file
//! that is read instead of both.

use crate::store::error::{Error, Result, invalid, show};
use crate::store::read_file;
use serde::Deserialize;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// The system's file.
const SYSTEM: &str = "/etc/capas/config.toml";
/// No configuration is larger.
const MAX_FILE: u64 = 1 << 20;

/// What the files say.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Where images and containers are kept.
    pub root: Option<PathBuf>,
    /// The OCI runtime, a name or a path.
    pub runtime: Option<PathBuf>,
    /// How registries are reached, by the host in an image's name.
    #[serde(default)]
    pub registries: BTreeMap<String, RegistryConfig>,
}

/// How one registry is reached.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RegistryConfig {
    /// Asked before it, in this order: `https://host[:port]`.
    #[serde(default)]
    pub mirrors: Vec<String>,
    /// It may be spoken to without TLS; by default only if it is on this
    /// machine.
    pub insecure: Option<bool>,
}

impl Config {
    /// Read the files there are.
    ///
    /// # Errors
    /// For a file that cannot be read or has a key that is not known.
    pub fn load() -> Result<Config> {
        let set = |name: &str| std::env::var_os(name).filter(|v| !v.is_empty());
        if let Some(path) = set("CAPAS_CONFIG") {
            let path = Path::new(&path);
            return Config::read(path).map_err(|e| match e {
                Error::NotFound(_) => Error::NotFound(format!(
                    "the configuration {} that CAPAS_CONFIG names is not there",
                    path.display()
                )),
                e => e,
            });
        }
        let mut config = Config::read_if_there(Path::new(SYSTEM))?;
        let own = match (set("XDG_CONFIG_HOME"), set("HOME")) {
            (Some(dir), _) => Some(PathBuf::from(dir)),
            (None, Some(home)) => Some(PathBuf::from(home).join(".config")),
            (None, None) => None,
        };
        if let Some(dir) = own {
            config.override_with(Config::read_if_there(&dir.join("capas/config.toml"))?);
        }
        Ok(config)
    }

    fn read_if_there(path: &Path) -> Result<Config> {
        match Config::read(path) {
            Err(Error::NotFound(_)) => Ok(Config::default()),
            other => other,
        }
    }

    fn read(path: &Path) -> Result<Config> {
        Config::parse(&read_file(path, MAX_FILE)?, path)
    }

    /// What a file at `path` says.
    ///
    /// # Errors
    /// For what is no TOML, and a key that is not known.
    pub fn parse(data: &[u8], path: &Path) -> Result<Config> {
        let bad = |why: &str| invalid(format!("bad configuration {}: {why}", path.display()));
        let Ok(text) = std::str::from_utf8(data) else {
            return bad("it is not UTF-8");
        };
        match toml::from_str(text) {
            Ok(config) => Ok(config),
            Err(e) => {
                let line = e.span().map_or(0, |s| {
                    let before = text.get(..s.start).unwrap_or_default();
                    before.matches('\n').count() + 1
                });
                bad(&format!("line {line}: {}", show(e.message().as_bytes())))
            }
        }
    }

    fn override_with(&mut self, own: Config) {
        self.root = own.root.or(self.root.take());
        self.runtime = own.runtime.or(self.runtime.take());
        self.registries.extend(own.registries);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_users_file_goes_before_and_unknown_keys_are_told() {
        let tmp = tempfile::tempdir().unwrap();
        let path = tmp.path().join("config.toml");
        let write = |text: &str| std::fs::write(&path, text).unwrap();
        write("root = \"/a\"\nruntime = \"crun\"\n[registries.\"h\"]\ninsecure = true\n");
        let mut config = Config::read(&path).unwrap();
        write("root = \"/b\"\n[registries.\"i\"]\nmirrors = [\"https://m\"]\n");
        config.override_with(Config::read(&path).unwrap());
        assert_eq!(config.root.as_deref(), Some(Path::new("/b")));
        assert_eq!(config.runtime.as_deref(), Some(Path::new("crun")));
        assert_eq!(config.registries["h"].insecure, Some(true));
        assert_eq!(config.registries["i"].mirrors, ["https://m"]);
        for (text, part) in [
            ("root = \"/a\"\nrot = 1\n", "line 2: unknown field `rot`"),
            (
                "[registries.\"h\"]\nmirror = []\n",
                "unknown field `mirror`",
            ),
            ("root = [\n", "line "),
        ] {
            write(text);
            let e = Config::read(&path).unwrap_err().to_string();
            assert!(e.contains(part), "{e}");
        }
        let none = Config::read_if_there(&tmp.path().join("none")).unwrap();
        assert_eq!(none, Config::default());
    }
}
