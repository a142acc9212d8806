//! Where credentials are kept.

use super::file::AuthFile;
use super::key::Server;
use crate::store::error::{Error, Result};
use crate::sys::creds;
use std::ffi::OsString;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

/// A file that may hold credentials.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// Its name.
    pub path: PathBuf,
    /// Of the form before 2015: entries at the top, nothing else.
    pub legacy: bool,
    /// Somebody named it, so that it is wrong if it cannot be read.
    named: bool,
}

impl Place {
    /// A file that somebody named.
    pub fn new(path: PathBuf, legacy: bool) -> Place {
        Place {
            path,
            legacy,
            named: true,
        }
    }

    /// What is in it, if it is there.
    ///
    /// # Errors
    /// When it is damaged; when it cannot be read, if it was named.
    pub fn read(&self) -> Result<Option<AuthFile>> {
        match AuthFile::read(&self.path, self.legacy) {
            // The default places are those of whoever HOME and XDG_* say.
            Err(Error::System(what, e))
                if !self.named && e.kind() == ErrorKind::PermissionDenied =>
            {
                log::warn!("{what}: {e}");
                Ok(None)
            }
            other => other,
        }
    }
}

/// Docker's configuration file, which holds more than credentials, as an
/// environment says.
pub fn docker_config(get: &dyn Fn(&str) -> Option<OsString>) -> Option<PathBuf> {
    let set = |name: &str| get(name).filter(|v| !v.is_empty()).map(PathBuf::from);
    set("DOCKER_CONFIG")
        .or_else(|| Some(set("HOME")?.join(".docker")))
        .map(|dir| dir.join("config.json"))
}

/// All of them.
#[derive(Clone, Debug)]
pub struct Places {
    /// In the order in which they are asked.
    pub list: Vec<Place>,
    /// Where a login goes that no file knows yet.
    pub docker: Option<PathBuf>,
    /// Where one for a part of a registry goes: docker would take it for the
    /// whole of it.
    pub config: Option<PathBuf>,
    /// The file that the command line names.
    pub asked_for: Option<PathBuf>,
}

impl Places {
    /// As this process's environment says.
    pub fn of_process(authfile: Option<&Path>) -> Places {
        let get = |name: &str| std::env::var_os(name);
        Places::from(&get, creds::effective_uid(), authfile)
    }

    /// As an environment says.
    fn from(get: &dyn Fn(&str) -> Option<OsString>, uid: u32, authfile: Option<&Path>) -> Places {
        let set = |name: &str| get(name).filter(|v| !v.is_empty()).map(PathBuf::from);
        if let Some(one) = authfile
            .map(Path::to_owned)
            .or_else(|| set("REGISTRY_AUTH_FILE"))
        {
            return Places {
                docker: Some(one.clone()),
                config: Some(one.clone()),
                asked_for: authfile.map(Path::to_owned),
                list: vec![Place::new(one, false)],
            };
        }
        let home = set("HOME");
        let in_home = |path: &str| home.as_ref().map(|home| home.join(path));
        let runtime = match set("XDG_RUNTIME_DIR") {
            Some(dir) => dir.join("containers"),
            None => Path::new("/run/containers").join(uid.to_string()),
        };
        let config = set("XDG_CONFIG_HOME")
            .or_else(|| in_home(".config"))
            .map(|dir| dir.join("containers/auth.json"));
        let docker = docker_config(get);
        let mut list = Vec::new();
        let mut add = |path: Option<PathBuf>, legacy: bool| {
            list.extend(path.map(|path| Place {
                path,
                legacy,
                named: false,
            }));
        };
        add(Some(runtime.join("auth.json")), false);
        add(config.clone(), false);
        add(docker.clone(), false);
        add(in_home(".dockercfg"), true);
        Places {
            list,
            docker,
            config,
            asked_for: None,
        }
    }

    /// Whoever names a file on the command line means one that is there.
    ///
    /// # Errors
    /// When it is not.
    pub fn check_asked_for(&self) -> Result<()> {
        match &self.asked_for {
            Some(path) if !path.exists() => Err(Error::NotFound(format!(
                "there are no credentials: {} is not there; capas login --authfile makes it",
                path.display()
            ))),
            _ => Ok(()),
        }
    }

    /// Where a new login goes.
    pub fn target(&self, server: &Server) -> Option<&Path> {
        let target = match server.path() {
            "" => &self.docker,
            _ => &self.config,
        };
        target.as_deref()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn paths(environment: &[(&str, &str)], authfile: Option<&str>) -> Vec<String> {
        let get = |name: &str| {
            let found = environment.iter().find(|(n, _)| *n == name);
            found.map(|(_, value)| OsString::from(value))
        };
        let places = Places::from(&get, 7, authfile.map(Path::new));
        let shown =
            |p: &Place| format!("{}{}", p.path.display(), if p.legacy { " old" } else { "" });
        places.list.iter().map(shown).collect()
    }

    #[test]
    fn the_order_is_that_of_containers() {
        let all = [
            ("HOME", "/h"),
            ("XDG_RUNTIME_DIR", "/r"),
            ("XDG_CONFIG_HOME", "/c"),
            ("DOCKER_CONFIG", "/d"),
        ];
        assert_eq!(
            paths(&all, None),
            [
                "/r/containers/auth.json",
                "/c/containers/auth.json",
                "/d/config.json",
                "/h/.dockercfg old"
            ]
        );
        assert_eq!(
            paths(&[("HOME", "/h"), ("XDG_RUNTIME_DIR", "")], None),
            [
                "/run/containers/7/auth.json",
                "/h/.config/containers/auth.json",
                "/h/.docker/config.json",
                "/h/.dockercfg old"
            ]
        );
        assert_eq!(paths(&[], None), ["/run/containers/7/auth.json"]);
        let named = [("HOME", "/h"), ("REGISTRY_AUTH_FILE", "/x/auth")];
        assert_eq!(paths(&named, None), ["/x/auth"]);
        assert_eq!(paths(&named, Some("/y")), ["/y"]);
    }
}
