//! Image names: `[domain/]path[:tag][@digest]`, with docker's defaults.

use super::digest::Digest;
use super::error::{Result, invalid, show};
use std::fmt;
use std::net::Ipv6Addr;

const DEFAULT_DOMAIN: &str = "docker.io";
const DEFAULT_TAG: &str = "latest";
const OFFICIAL: &str = "library/";

/// A repository and a tag, complete: `docker.io/library/debian:latest`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Reference {
    domain: String,
    path: String,
    tag: String,
}

/// A name as people give it, before the default tag.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Name {
    /// With the tag that was given, or `latest`.
    pub reference: Reference,
    /// Was a tag given.
    pub tagged: bool,
    /// The digest that was given.
    pub digest: Option<Digest>,
}

impl Name {
    /// Read a name by docker's rules.
    ///
    /// # Errors
    /// For anything that is no name.
    pub fn parse(text: &str) -> Result<Name> {
        let bad = |why: &str| {
            invalid(format!(
                "invalid reference format: \"{}\": {why}",
                show(text.as_bytes())
            ))
        };
        let (rest, digest) = match text.split_once('@') {
            Some((rest, digest)) => (rest, Some(Digest::parse(digest)?)),
            None => (text, None),
        };
        let slash = rest.rfind('/').map_or(0, |i| i + 1);
        let last = rest.get(slash..).unwrap_or_default();
        let (repository, tag) = match last.find(':') {
            Some(colon) => (
                rest.get(..slash + colon).unwrap_or_default(),
                last.get(colon + 1..),
            ),
            None => (rest, None),
        };
        if tag.is_some_and(|t| !is_tag(t)) {
            return bad("the tag is not allowed");
        }
        let (domain, path) = match repository.split_once('/') {
            Some((first, path)) if is_domain(first) => (first, path.to_owned()),
            _ if repository.contains('/') => (DEFAULT_DOMAIN, repository.to_owned()),
            _ => (DEFAULT_DOMAIN, format!("{OFFICIAL}{repository}")),
        };
        let domain = if domain == "index.docker.io" {
            DEFAULT_DOMAIN
        } else {
            domain
        };
        let path = if domain == DEFAULT_DOMAIN && !path.contains('/') {
            format!("{OFFICIAL}{path}")
        } else {
            path
        };
        if path.bytes().any(|b| b.is_ascii_uppercase()) && is_path(&path.to_lowercase()) {
            return bad("repository name must be lowercase");
        }
        if !is_path(&path) || domain.len() + path.len() > 254 {
            return bad("the repository name is not allowed");
        }
        Ok(Name {
            reference: Reference {
                domain: domain.to_owned(),
                path,
                tag: tag.unwrap_or(DEFAULT_TAG).to_owned(),
            },
            tagged: tag.is_some(),
            digest,
        })
    }
}

impl Reference {
    /// A name with a tag, or with the default tag; no digest.
    ///
    /// # Errors
    /// As [`Name::parse`], and for a name with a digest.
    pub fn parse(text: &str) -> Result<Reference> {
        match Name::parse(text)? {
            Name {
                digest: None,
                reference,
                ..
            } => Ok(reference),
            _ => invalid(format!("\"{}\" holds a digest", show(text.as_bytes()))),
        }
    }

    /// The registry's host.
    pub fn domain(&self) -> &str {
        &self.domain
    }

    /// The repository in its registry: `library/debian`.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// The repository as people write it: `debian`, `user/app`, `host/app`.
    pub fn familiar(&self) -> String {
        // A path that begins as a host does would be read as one.
        let first = self.path.split('/').next().unwrap_or_default();
        if self.domain != DEFAULT_DOMAIN || is_domain(first) {
            return format!("{}/{}", self.domain, self.path);
        }
        self.path
            .strip_prefix(OFFICIAL)
            .filter(|short| !short.contains('/'))
            .unwrap_or(&self.path)
            .to_owned()
    }

    /// The tag.
    pub fn tag(&self) -> &str {
        &self.tag
    }

    /// The repository, with the default tag.
    pub fn repository(&self) -> Reference {
        Reference {
            tag: DEFAULT_TAG.to_owned(),
            ..self.clone()
        }
    }

    /// The same repository with another tag.
    ///
    /// # Errors
    /// For a tag that is none.
    pub fn with_tag(&self, tag: &str) -> Result<Reference> {
        Reference::parse(&format!("{}/{}:{tag}", self.domain, self.path))
    }

    /// [`Reference::familiar`] with the tag.
    pub fn familiar_tagged(&self) -> String {
        format!("{}:{}", self.familiar(), self.tag)
    }

    /// Same repository, whatever the tag.
    pub fn same_repository(&self, other: &Reference) -> bool {
        self.domain == other.domain && self.path == other.path
    }
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}:{}", self.domain, self.path, self.tag)
    }
}

/// The first part of a name is a host only if it cannot be a user's name:
/// `localhost`, or a name or an address with a dot, a port or brackets.
pub fn is_domain(part: &str) -> bool {
    let (host, port) = host_and_port(part);
    let port_ok = port.is_none_or(|p| !p.is_empty() && p.bytes().all(|b| b.is_ascii_digit()));
    if let Some(address) = host.strip_prefix('[') {
        let address = address.strip_suffix(']').map(str::parse::<Ipv6Addr>);
        return port_ok && matches!(address, Some(Ok(_)));
    }
    let shape = host.split('.').all(|label| {
        !label.is_empty()
            && !label.starts_with('-')
            && !label.ends_with('-')
            && label
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || b == b'-')
    });
    shape && port_ok && (part.contains(['.', ':']) || part == "localhost")
}

/// `HOST[:PORT]` in its parts. The host is not checked; an IPv6 address keeps
/// its brackets.
pub fn host_and_port(authority: &str) -> (&str, Option<&str>) {
    let host = match authority.find(']') {
        Some(end) if authority.starts_with('[') => end + 1,
        _ => authority.find(':').unwrap_or(authority.len()),
    };
    let (host, rest) = authority.split_at(host);
    match rest {
        "" => (host, None),
        rest => (host, Some(rest.strip_prefix(':').unwrap_or_default())),
    }
}

/// Lower-case words joined by one `.`, one or two `_`, or any `-`; `/` between.
fn is_path(path: &str) -> bool {
    path.split('/').all(|part| is_component(part.as_bytes()))
}

fn is_component(mut rest: &[u8]) -> bool {
    let word = |b: &u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    loop {
        let end = rest.iter().position(|b| !word(b)).unwrap_or(rest.len());
        let (first, after) = rest.split_at(end);
        if first.is_empty() || after.is_empty() {
            return !first.is_empty();
        }
        let end = after.iter().position(word).unwrap_or(after.len());
        let (joint, after) = after.split_at(end);
        if !matches!(joint, b"." | b"_" | b"__") && !joint.iter().all(|b| *b == b'-') {
            return false;
        }
        rest = after;
    }
}

fn is_tag(tag: &str) -> bool {
    let bytes = tag.as_bytes();
    let word = |b: &u8| b.is_ascii_alphanumeric() || *b == b'_';
    bytes.len() <= 128
        && bytes.first().is_some_and(word)
        && bytes.iter().all(|b| word(b) || matches!(b, b'.' | b'-'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_as_docker_reads_them() {
        for (text, full, familiar) in [
            ("debian", "docker.io/library/debian:latest", "debian"),
            ("debian:12", "docker.io/library/debian:12", "debian"),
            ("me/app", "docker.io/me/app:latest", "me/app"),
            (
                "docker.io/debian",
                "docker.io/library/debian:latest",
                "debian",
            ),
            ("localhost/x:1", "localhost/x:1", "localhost/x"),
            (
                "docker.io/h.example/x",
                "docker.io/h.example/x:latest",
                "docker.io/h.example/x",
            ),
            (
                "localhost:5000/x",
                "localhost:5000/x:latest",
                "localhost:5000/x",
            ),
            (
                "h.example/a/b__c--d.e:T_1.0-x",
                "h.example/a/b__c--d.e:T_1.0-x",
                "h.example/a/b__c--d.e",
            ),
            (
                "[::1]:5000/team/app:1",
                "[::1]:5000/team/app:1",
                "[::1]:5000/team/app",
            ),
            (
                "[2001:DB8::7]/app",
                "[2001:DB8::7]/app:latest",
                "[2001:DB8::7]/app",
            ),
            (
                "Host.Example/app",
                "Host.Example/app:latest",
                "Host.Example/app",
            ),
        ] {
            let r = Reference::parse(text).unwrap();
            assert_eq!(r.to_string(), full);
            assert_eq!(r.familiar(), familiar);
            assert_eq!(Reference::parse(full).unwrap(), r);
        }
        for bad in [
            "",
            "-x",
            "x-",
            "Debian",
            "a//b",
            "a/../b",
            "x:",
            "x:.t",
            "x:a b",
            "a___b",
            "a..b",
            "/x",
            "x/",
            "x@sha256:1",
            "x\ny",
            "[::1]",
            "[::1]:5000",
            "::1/x",
            "[::1/x",
            "[]/x",
            "[::1]5000/x",
            "[::1]:/x",
            "[::1]:a/x",
            "[1:2]/x",
            "[fe80::1%eth0]/x",
            "x[::1]:5000/x",
        ] {
            assert!(Name::parse(bad).is_err(), "{bad}");
        }
    }
}
