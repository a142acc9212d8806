//! Who we are at a registry: the files and helpers in which docker, podman and
//! their kin keep that, read and written as they do.
//!
//! One file named by `--authfile` or `REGISTRY_AUTH_FILE` stands alone. Else
//! these are asked in containers' order, the first that knows the registry
//! answers:
//!
//! ```text
//! $XDG_RUNTIME_DIR/containers/auth.json     else /run/containers/<uid>/auth.json
//! $XDG_CONFIG_HOME/containers/auth.json     else ~/.config/containers/auth.json
//! $DOCKER_CONFIG/config.json                else ~/.docker/config.json
//! ~/.dockercfg                              entries only, no helpers
//! ```
//!
//! Within a file: entries for a part of the registry, the longest path first;
//! then the helper that `credHelpers` has for the host, else `credsStore`; then
//! the entry for the whole host. Docker Hub has many names, all of them mean
//! `docker.io` here.
//!
//! A login is written where it will be found: into the file that has an entry
//! for the same thing now, else into docker's own. What we do not understand
//! in a file stays in it.

pub mod file;
pub mod helper;
pub mod key;
pub mod places;

use super::{Credentials, Keeper};
use crate::store::error::{Result, invalid};
use file::AuthFile;
pub use key::Server;
use places::{Place, Places};
use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

/// Where a login was kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Kept {
    /// By a helper.
    Helper,
    /// Readable, in this file.
    File(PathBuf),
}

/// All that is kept for this user.
#[derive(Clone, Debug)]
pub struct Keyring {
    places: Places,
}

impl Keyring {
    /// The files of this process's environment, or this one file alone.
    pub fn new(authfile: Option<&Path>) -> Keyring {
        Keyring {
            places: Places::of_process(authfile),
        }
    }

    /// What is known for a repository, or for a whole registry if that is
    /// empty.
    ///
    /// # Errors
    /// When a file is damaged, or a helper fails.
    pub fn find(&self, host: &str, repository: &str) -> Result<Option<Credentials>> {
        for place in &self.places.list {
            let Some(file) = place.read()? else { continue };
            if let Some(login) = find_in(&file, host, repository)? {
                return Ok(Some(login));
            }
        }
        Ok(None)
    }

    /// To be asked by a registry's client, which does so for every request: each
    /// question is answered once and remembered, since a helper may take long.
    pub fn keeper(self) -> Keeper {
        let known = Mutex::new(HashMap::new());
        Arc::new(move |host, repository| {
            let question = (host.to_owned(), repository.unwrap_or_default().to_owned());
            let mut known = known.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some(answer) = known.get(&question) {
                return Ok(Option::clone(answer));
            }
            self.places.check_asked_for()?;
            let answer = self.find(&question.0, &question.1)?;
            known.insert(question, answer.clone());
            Ok(answer)
        })
    }

    /// Keep a login.
    ///
    /// # Errors
    /// When there is no place for it, or it cannot be written.
    pub fn keep(&self, server: &Server, login: &Credentials) -> Result<Kept> {
        let path = match self.holder(server)? {
            Some(place) => place.path.clone(),
            None => match self.places.target(server) {
                Some(path) => path.to_owned(),
                None => {
                    return invalid(
                        "no place for credentials: set HOME or DOCKER_CONFIG, or give --authfile",
                    );
                }
            },
        };
        file::update(&path, |file| {
            if let Some(helper) = file.helper_for(server)? {
                helper.store(server.key(), login)?;
                // Docker leaves an empty entry for what a helper holds.
                file.set(server, None)?;
                return Ok(Kept::Helper);
            }
            file.set(server, Some(login))?;
            Ok(Kept::File(path.clone()))
        })
    }

    /// The place whose file speaks of exactly this server.
    fn holder(&self, server: &Server) -> Result<Option<&Place>> {
        for place in self.places.list.iter().filter(|p| !p.legacy) {
            if let Some(file) = place.read()?
                && (file.has(server) || file.has_own_helper(server)?)
            {
                return Ok(Some(place));
            }
        }
        Ok(None)
    }

    /// Forget a login wherever it is kept; was there one.
    ///
    /// # Errors
    /// When a file cannot be rewritten, or a helper fails.
    pub fn forget(&self, server: &Server) -> Result<bool> {
        let mut found = false;
        let mut failed = None;
        for place in &self.places.list {
            match forget_at(place, server) {
                Ok(here) => found |= here,
                // What others have is forgotten all the same.
                Err(e) => failed = failed.or(Some(e)),
            }
        }
        failed.map_or(Ok(found), Err)
    }
}

fn forget_at(place: &Place, server: &Server) -> Result<bool> {
    let Some(file) = place.read()? else {
        return Ok(false);
    };
    let mut found = false;
    if file.has(server) {
        found = file::update_as(&place.path, place.legacy, |file| file.remove(server))?;
    }
    if let Some(helper) = file.helper_for(server)? {
        let urls = match helper.list() {
            Ok(all) => all.into_iter().filter(|url| server.is(url)).collect(),
            // Not all can list, and they say so in words of their own.
            Err(_) => key::helper_keys(server.host())
                .into_iter()
                .map(str::to_owned)
                .collect::<Vec<_>>(),
        };
        for url in urls {
            helper.erase(&url)?;
            found = true;
        }
    }
    Ok(found)
}

fn find_in(file: &AuthFile, host: &str, repository: &str) -> Result<Option<Credentials>> {
    let (parts, whole) = file.entries_for(host, repository)?;
    for key in parts {
        if let Some(login) = file.login(key)? {
            return Ok(Some(login));
        }
    }
    if let Some(helper) = file.helper(host)? {
        for url in key::helper_keys(host) {
            if let Some(login) = helper.get(url)? {
                return Ok(Some(login));
            }
        }
    }
    for key in whole {
        if let Some(login) = file.login(key)? {
            return Ok(Some(login));
        }
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::registry::Secret;
    use std::fs;

    /// Two files, asked in this order.
    fn two(first: &str, second: &str) -> (tempfile::TempDir, Keyring) {
        let dir = tempfile::tempdir().unwrap();
        let mut list = Vec::new();
        for (name, text) in [("a.json", first), ("b.json", second)] {
            let path = dir.path().join(name);
            if !text.is_empty() {
                fs::write(&path, text).unwrap();
            }
            list.push(Place::new(path, false));
        }
        let places = Places {
            docker: Some(dir.path().join("b.json")),
            config: None,
            asked_for: None,
            list,
        };
        (dir, Keyring { places })
    }

    fn user(c: &Keyring, host: &str, repository: &str) -> Option<String> {
        c.find(host, repository).unwrap().map(|l| l.username)
    }

    fn login(username: &str) -> Credentials {
        Credentials {
            username: username.to_owned(),
            secret: Secret::Password("p:w".to_owned()),
        }
    }

    #[test]
    fn the_first_file_that_knows_the_registry_answers() {
        let (_dir, c) = two(
            r#"{"auths":{"h:1":{"username":"a","password":"x"},"empty":{}}}"#,
            r#"{"auths":{"h:1":{"username":"b","password":"x"},"empty":{"username":"c","password":"x"}}}"#,
        );
        assert_eq!(user(&c, "h:1", "ns/r").as_deref(), Some("a"));
        assert_eq!(user(&c, "empty", "r").as_deref(), Some("c"));
        assert_eq!(user(&c, "h", "r"), None);
    }

    #[test]
    fn a_login_is_kept_where_it_is_found() {
        let (dir, c) = two(
            r#"{"auths":{"docker.io":{"username":"a","password":"x"}}}"#,
            "",
        );
        let hub = Server::parse("").unwrap();
        let first = dir.path().join("a.json");
        let second = dir.path().join("b.json");
        assert_eq!(
            c.keep(&hub, &login("new")).unwrap(),
            Kept::File(first.clone())
        );
        assert_eq!(c.find("docker.io", "").unwrap(), Some(login("new")));
        assert_eq!(
            fs::read_to_string(&first).unwrap(),
            "{\n\t\"auths\": {\n\t\t\"docker.io\": {\n\t\t\t\"auth\": \"bmV3OnA6dw==\"\n\t\t}\n\t}\n}\n"
        );
        let other = Server::parse("https://h.example/v2/").unwrap();
        assert_eq!(c.keep(&other, &login("o")).unwrap(), Kept::File(second));
        assert_eq!(user(&c, "h.example", "x").as_deref(), Some("o"));
        assert!(c.forget(&hub).unwrap());
        assert!(!c.forget(&hub).unwrap());
        assert_eq!(c.find("docker.io", "").unwrap(), None);
        assert_eq!(user(&c, "h.example", "x").as_deref(), Some("o"));
    }

    #[test]
    fn a_login_is_forgotten_in_every_file() {
        let entry = r#"{"auths":{"https://h/v1/":{"username":"a","password":"x"}}}"#;
        let (_dir, c) = two(entry, entry);
        assert!(c.forget(&Server::parse("h").unwrap()).unwrap());
        assert_eq!(c.find("h", "").unwrap(), None);
    }
}
