//! What images run on, and which of an index's images is meant.

use super::document::{Descriptor, ImageConfig, Platform, host_architecture};
use super::error::{Result, invalid, show};
use std::collections::BTreeSet;
use std::fmt;

/// Operating systems that a single word may name.
const SYSTEMS: [&str; 4] = ["linux", "windows", "darwin", "freebsd"];
/// Words that are no operating system where they stand alone.
const ARCHITECTURES: [&str; 17] = [
    "386", "aarch64", "amd64", "arm", "arm64", "armel", "armhf", "i386", "i686", "loong64",
    "mips64le", "ppc64le", "riscv64", "s390x", "wasm", "x86-64", "x86_64",
];

impl Platform {
    /// This machine.
    pub fn host() -> Platform {
        Platform {
            os: "linux".to_owned(),
            architecture: host_architecture().to_owned(),
            variant: None,
        }
    }

    /// `OS[/ARCHITECTURE[/VARIANT]]`, or an architecture alone, with the names that
    /// people use.
    ///
    /// # Errors
    /// For anything else.
    pub fn parse(text: &str) -> Result<Platform> {
        let word = |w: &&str| {
            let fine = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-' | b'.');
            !w.is_empty() && w.bytes().all(fine)
        };
        let lower = text.to_lowercase();
        let parts: Vec<&str> = lower.split('/').collect();
        let (os, architecture, variant) = match parts.as_slice() {
            [one] if SYSTEMS.contains(one) => (*one, host_architecture(), None),
            [one] if ARCHITECTURES.contains(one) => ("linux", *one, None),
            [os, architecture] => (*os, *architecture, None),
            [os, architecture, variant] => (*os, *architecture, Some(*variant)),
            _ => ("", "", None),
        };
        if !word(&os) || !word(&architecture) || variant.is_some_and(|v| !word(&v)) {
            return invalid(format!(
                "\"{}\" is no platform: give OS/ARCHITECTURE[/VARIANT], as linux/arm64",
                show(text.as_bytes())
            ));
        }
        let (architecture, implied) = match architecture {
            "x86_64" | "x86-64" => ("amd64", None),
            "aarch64" => ("arm64", None),
            "armhf" => ("arm", Some("v7")),
            "armel" => ("arm", Some("v6")),
            "i386" | "i686" => ("386", None),
            other => (other, None),
        };
        Ok(Platform {
            os: os.to_owned(),
            architecture: architecture.to_owned(),
            variant: variant.or(implied).map(str::to_owned),
        })
    }

    /// How well something made for `self` runs where `wish` is: the less the
    /// better; not at all.
    fn distance(&self, wish: &Platform) -> Option<u32> {
        if self.os != wish.os || self.architecture != wish.architecture {
            return None;
        }
        let usual = match wish.architecture.as_str() {
            "arm" => 7,
            "arm64" => 8,
            _ => 1,
        };
        let number = |variant: &Option<String>| match variant.as_deref() {
            None | Some("") => Some(usual),
            Some(v) => v.strip_prefix('v').and_then(|n| n.parse::<u32>().ok()),
        };
        match (number(&self.variant), number(&wish.variant)) {
            // Older variants run on newer ones.
            (Some(own), Some(wanted)) => wanted.checked_sub(own),
            _ => (self.variant == wish.variant).then_some(0),
        }
    }
}

impl ImageConfig {
    /// What the image says that it runs on.
    pub fn platform(&self) -> Platform {
        Platform {
            os: self.os.clone().unwrap_or_default(),
            architecture: self.architecture.clone().unwrap_or_default(),
            variant: self.variant.clone(),
        }
    }

    /// Does the image run where `wish` is, by its own word. Many images say no
    /// variant: then it is the one that is wished for.
    pub fn suits(&self, wish: &Platform) -> bool {
        let mut own = self.platform();
        own.variant = own.variant.or(wish.variant.clone());
        own.distance(wish).is_some()
    }
}

impl fmt::Display for Platform {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.os, self.architecture)?;
        match &self.variant {
            Some(variant) => write!(f, "/{variant}"),
            None => Ok(()),
        }
    }
}

/// The entry of an index that suits `wish` best; of equals the first.
pub fn choose<'a>(entries: &[&'a Descriptor], wish: &Platform) -> Option<&'a Descriptor> {
    let suiting = entries.iter().filter_map(|entry| {
        let distance = entry.platform.as_ref()?.distance(wish)?;
        Some((distance, *entry))
    });
    suiting
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, e)| e)
}

/// More platforms than these are not listed.
const OFFERED: usize = 16;

/// What there is for those who found nothing that suits: the end of a sentence.
pub fn offered(entries: &[&Descriptor]) -> String {
    let known = entries.iter().filter_map(|entry| entry.platform.as_ref());
    // Signatures and the like run nowhere.
    let known = known.filter(|platform| platform.os != "unknown");
    let names: BTreeSet<String> = known.map(|p| show(p.to_string().as_bytes())).collect();
    let first: Vec<&str> = names.iter().take(OFFERED).map(String::as_str).collect();
    match first.as_slice() {
        [] => String::new(),
        first if names.len() > OFFERED => format!(": there are {} and others", first.join(", ")),
        [one] => format!(": there is {one}"),
        first => format!(": there are {}", first.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::Digest;

    #[test]
    fn the_nearest_variant_is_chosen() {
        let entry = |text: &str| Descriptor {
            media_type: String::new(),
            digest: Digest::of(text.as_bytes()),
            size: 0,
            annotations: None,
            platform: Some(Platform::parse(text).unwrap()),
        };
        let all = [
            "unknown/unknown",
            "linux/arm/v5",
            "linux/arm/v6",
            "linux/arm/v7",
            "linux/arm64/v8",
            "linux/amd64",
            "linux/amd64/v3",
            "windows/amd64",
        ]
        .map(entry);
        let all: Vec<&Descriptor> = all.iter().collect();
        for (wish, found) in [
            ("linux/arm", Some("linux/arm/v7")),
            ("linux/arm/v6", Some("linux/arm/v6")),
            ("linux/arm/v8", Some("linux/arm/v7")),
            ("linux/armhf", Some("linux/arm/v7")),
            ("linux/arm64", Some("linux/arm64/v8")),
            ("linux/aarch64", Some("linux/arm64/v8")),
            ("linux/amd64", Some("linux/amd64")),
            ("linux/amd64/v2", Some("linux/amd64")),
            ("Linux/x86_64/v3", Some("linux/amd64/v3")),
            ("windows/amd64", Some("windows/amd64")),
            ("linux/s390x", None),
            ("linux/arm/v4", None),
            // An architecture alone is Linux's, as for docker.
            ("arm64", Some("linux/arm64/v8")),
            ("x86_64", Some("linux/amd64")),
            ("armel", Some("linux/arm/v6")),
            ("s390x", None),
        ] {
            let chosen = choose(&all, &Platform::parse(wish).unwrap());
            let chosen = chosen.map(|d| d.platform.clone().unwrap().to_string());
            assert_eq!(chosen.as_deref(), found, "{wish}");
        }
        for (text, whole) in [("arm64", "linux/arm64"), ("armhf", "linux/arm/v7")] {
            assert_eq!(Platform::parse(text).unwrap().to_string(), whole);
        }
        let own = format!("linux/{}", host_architecture());
        assert_eq!(Platform::parse("linux").unwrap().to_string(), own);
        for bad in ["", "box", "linux/", "linux/a/b/c", "li nux/a", "linux/arm/"] {
            assert!(Platform::parse(bad).is_err(), "{bad}");
        }
    }
}
