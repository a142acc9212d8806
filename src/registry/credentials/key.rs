//! What an entry is for: a registry, or a part of its repositories. The same
//! registry is spelt in many ways.

use crate::store::error::{Result, invalid, show};

/// What docker calls its own registry in files and to helpers.
pub const HUB: &str = "https://index.docker.io/v1/";

const HUB_HOST: &str = "docker.io";

/// A registry, or a part of its repositories.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Server {
    host: String,
    path: String,
    key: String,
}

/// One name for each host.
fn canonical(host: &str) -> String {
    let host = host.to_ascii_lowercase();
    match host.as_str() {
        "index.docker.io" | "registry-1.docker.io" => HUB_HOST.to_owned(),
        _ => host,
    }
}

/// Host and path of a key as any program may have written it.
fn split(key: &str) -> (String, &str) {
    let bare = ["https://", "http://"]
        .iter()
        .find_map(|scheme| key.strip_prefix(scheme));
    let (host, path) = bare
        .unwrap_or(key)
        .split_once('/')
        .unwrap_or((bare.unwrap_or(key), ""));
    let path = path.trim_end_matches('/');
    // The path of a URL is that of the API, not of a repository.
    let path = match bare.is_some() || matches!(path, "v1" | "v2") {
        true => "",
        false => path,
    };
    (canonical(host), path)
}

impl Server {
    /// What a person gives to `login`: a host, a URL of it, or a host and a
    /// path; nothing is Docker Hub.
    ///
    /// # Errors
    /// For what is no host.
    pub fn parse(text: &str) -> Result<Server> {
        let text = match text.trim() {
            "" => HUB_HOST,
            text => text,
        };
        let (host, path) = split(text);
        let allowed = |b: u8| b.is_ascii_alphanumeric() || b"._-:[]".contains(&b);
        let good = |part: &str| part.bytes().all(|b| allowed(b) && !b"[]:".contains(&b));
        let parts_good =
            path.is_empty() || path.split('/').all(|part| !part.is_empty() && good(part));
        if host.is_empty() || !host.bytes().all(allowed) || !parts_good {
            return invalid(format!(
                "\"{}\" is no registry: give HOST or HOST:PORT",
                show(text.as_bytes())
            ));
        }
        let key = match (host.as_str(), path) {
            (HUB_HOST, "") => HUB.to_owned(),
            (host, "") => host.to_owned(),
            (host, path) => format!("{host}/{path}"),
        };
        Ok(Server {
            path: path.to_owned(),
            host,
            key,
        })
    }

    /// Host and port; Docker Hub is `docker.io`.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// The repositories that are meant, empty for all.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// As it is written into files and told to helpers, and to people too, as
    /// docker does.
    pub fn key(&self) -> &str {
        &self.key
    }

    /// Does a key in a file mean the same.
    pub fn is(&self, key: &str) -> bool {
        let (host, path) = split(key);
        host == self.host && path == self.path
    }
}

/// Does a key mean this host as a whole.
pub fn is_host(key: &str, host: &str) -> bool {
    let (of_key, path) = split(key);
    path.is_empty() && of_key == canonical(host)
}

/// The length of the path for which a key speaks, if it speaks for this
/// repository: 0 for a whole host.
pub fn covers(key: &str, host: &str, repository: &str) -> Option<usize> {
    let (of_key, path) = split(key);
    if of_key != canonical(host) {
        return None;
    }
    let below = repository.strip_prefix(path);
    let covered = path.is_empty() || below.is_some_and(|b| b.is_empty() || b.starts_with('/'));
    covered.then_some(path.len())
}

/// Under which names a helper may have a host: docker's, then podman's.
pub fn helper_keys(host: &str) -> Vec<&str> {
    match canonical(host).as_str() {
        HUB_HOST => vec![HUB, HUB_HOST],
        _ => vec![host],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn servers_as_people_give_them() {
        for (text, host, path, key) in [
            ("", "docker.io", "", HUB),
            ("docker.io", "docker.io", "", HUB),
            ("index.docker.io", "docker.io", "", HUB),
            (HUB, "docker.io", "", HUB),
            ("H.Example:5000/", "h.example:5000", "", "h.example:5000"),
            ("https://h.example/v2/", "h.example", "", "h.example"),
            (
                "http://localhost:5000",
                "localhost:5000",
                "",
                "localhost:5000",
            ),
            ("[::1]:5000", "[::1]:5000", "", "[::1]:5000"),
            (
                "h.example/ns/repo",
                "h.example",
                "ns/repo",
                "h.example/ns/repo",
            ),
            ("docker.io/me", "docker.io", "me", "docker.io/me"),
        ] {
            let server = Server::parse(text).unwrap();
            assert_eq!(
                (server.host(), server.path(), server.key()),
                (host, path, key),
                "{text}"
            );
            assert!(server.is(key), "{text}");
        }
        for bad in [
            "/", "a b", "h/../x y", "h//x", "ä", "https://", "u:p@h", "h\n",
        ] {
            // A newline at the end is trimmed, one inside is not.
            let bad = bad.replace('\n', "\nx");
            assert!(Server::parse(&bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn the_longest_path_speaks() {
        for (key, depth) in [
            ("h:5000", Some(0)),
            ("http://h:5000", Some(0)),
            ("https://h:5000/v1/", Some(0)),
            ("h:5000/v2", Some(0)),
            ("h:5000/ns", Some(2)),
            ("h:5000/ns/", Some(2)),
            ("h:5000/ns/repo", Some(7)),
            ("h:5000/ns/rep", None),
            ("h:5000/ns/repo/x", None),
            ("h", None),
            ("h:5001", None),
        ] {
            assert_eq!(covers(key, "h:5000", "ns/repo"), depth, "{key}");
        }
        for hub in [HUB, "docker.io", "index.docker.io", "registry-1.docker.io"] {
            assert_eq!(covers(hub, "docker.io", "library/x"), Some(0), "{hub}");
        }
        assert_eq!(
            covers("docker.io/library", "docker.io", "library/x"),
            Some(7)
        );
    }
}
