//! One file of credentials: docker's `config.json`, containers' `auth.json`,
//! and the old `.dockercfg`.
//!
//! It belongs to other programs too. So it is changed under a lock on its
//! directory, replaced as a whole, and all that is not about the login stays.

use super::helper::Helper;
use super::key::{self, Server};
use crate::registry::{Credentials, Secret};
use crate::store::error::{Context, Error, Result, invalid, show};
use crate::store::staging::random_hex;
use crate::store::{read_file, sync_dir};
use crate::sys::{Errno, tree};
use base64::Engine as _;
use base64::alphabet::STANDARD;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use serde::Serialize as _;
use serde_json::{Map, Value};
use std::fs::{self, File};
use std::io::{ErrorKind, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// No such file is larger.
const MAX: u64 = 4 << 20;
/// No chain of symlinks is longer.
const MAX_LINKS: usize = 16;

/// Base64 as all write it, padded or not.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// What is in the file.
#[derive(Clone)]
pub struct AuthFile {
    path: PathBuf,
    top: Map<String, Value>,
    legacy: bool,
}

impl AuthFile {
    /// Read a file, if it is there.
    ///
    /// # Errors
    /// When it cannot be read or is no file of credentials.
    pub fn read(path: &Path, legacy: bool) -> Result<Option<AuthFile>> {
        let data = match read_file(path, MAX) {
            Err(Error::NotFound(_)) => return Ok(None),
            Err(Error::System(_, e)) if e.kind() == ErrorKind::NotADirectory => return Ok(None),
            data => data?,
        };
        let file = AuthFile {
            path: path.to_owned(),
            top: Map::new(),
            legacy,
        };
        if data.trim_ascii().is_empty() {
            return Ok(Some(file));
        }
        match serde_json::from_slice(&data) {
            Ok(Value::Object(top)) => Ok(Some(AuthFile { top, ..file })),
            Ok(_) => file.damaged("it is no JSON object"),
            Err(e) => file.damaged(&e.to_string()),
        }
    }

    fn damaged<T>(&self, why: &str) -> Result<T> {
        invalid(format!(
            "{} is no file of credentials: {why}",
            self.path.display()
        ))
    }

    /// The entries; `null` is none.
    fn auths(&self) -> Result<Option<&Map<String, Value>>> {
        if self.legacy {
            return Ok(Some(&self.top));
        }
        match self.top.get("auths") {
            None | Some(Value::Null) => Ok(None),
            Some(Value::Object(auths)) => Ok(Some(auths)),
            Some(_) => self.damaged("\"auths\" is no object"),
        }
    }

    fn keys(&self) -> impl Iterator<Item = &str> {
        let auths = self.auths().ok().flatten();
        auths.into_iter().flat_map(Map::keys).map(String::as_str)
    }

    /// The keys that speak for a repository: those for a part of the host,
    /// longest path first, and those for the whole of it, as we would spell it
    /// first.
    ///
    /// # Errors
    /// When the entries are damaged.
    pub fn entries_for(&self, host: &str, repository: &str) -> Result<(Vec<&str>, Vec<&str>)> {
        self.auths()?;
        let mut parts = Vec::new();
        let mut whole = Vec::new();
        for entry in self.keys() {
            match key::covers(entry, host, repository) {
                Some(0) => whole.push(entry),
                Some(length) if !self.legacy => parts.push((length, entry)),
                _ => {}
            }
        }
        parts.sort_by_key(|(length, _)| std::cmp::Reverse(*length));
        whole.sort_by_key(|entry| (*entry != host, *entry != key::HUB));
        Ok((parts.into_iter().map(|(_, entry)| entry).collect(), whole))
    }

    /// What an entry holds; the empty ones that docker leaves hold nothing.
    ///
    /// # Errors
    /// When it is damaged.
    pub fn login(&self, entry: &str) -> Result<Option<Credentials>> {
        let value = self.auths()?.and_then(|auths| auths.get(entry));
        let fields = match value {
            None | Some(Value::Null) => return Ok(None),
            Some(Value::Object(fields)) => fields,
            // Other settings of the old form's users.
            Some(_) if self.legacy => return Ok(None),
            Some(_) => return self.bad(entry, "it is no object"),
        };
        let text = |name: &str| match fields.get(name) {
            None | Some(Value::Null) => Ok(""),
            Some(Value::String(text)) => Ok(text.as_str()),
            Some(_) => self.bad(entry, &format!("\"{name}\" is no text")),
        };
        let (mut username, mut password) =
            (text("username")?.to_owned(), text("password")?.to_owned());
        let auth = text("auth")?;
        if !auth.is_empty() {
            let Ok(bytes) = BASE64.decode(auth.trim()) else {
                return self.bad(entry, "\"auth\" is no base64");
            };
            let Ok(decoded) = String::from_utf8(bytes) else {
                return self.bad(entry, "\"auth\" is no text");
            };
            let Some((user, pass)) = decoded.split_once(':') else {
                return self.bad(entry, "\"auth\" is not USER:PASSWORD");
            };
            // Old programs have filled it up with zeros.
            (username, password) = (user.to_owned(), pass.trim_matches('\0').to_owned());
        }
        let token = text("identitytoken")?;
        if !token.is_empty() {
            return Ok(Some(Credentials {
                username,
                secret: Secret::IdentityToken(token.to_owned()),
            }));
        }
        if username.is_empty() && password.is_empty() {
            return Ok(None);
        }
        Ok(Some(Credentials {
            username,
            secret: Secret::Password(password),
        }))
    }

    fn bad<T>(&self, entry: &str, why: &str) -> Result<T> {
        invalid(format!(
            "{}: the entry \"{}\" is damaged: {why}; log in again",
            self.path.display(),
            show(entry.as_bytes())
        ))
    }

    /// The helper that the file has for a host.
    ///
    /// # Errors
    /// When what it names cannot be a helper.
    pub fn helper(&self, host: &str) -> Result<Option<Helper>> {
        if self.legacy {
            return Ok(None);
        }
        let suffix = match self.own_helper(host)? {
            Some(own) => Some(own),
            None => self.text("credsStore", self.top.get("credsStore"))?,
        };
        match suffix {
            // An empty name keeps a host out of the general store.
            None | Some("") => Ok(None),
            Some(suffix) => Helper::new(suffix, &self.path).map(Some),
        }
    }

    fn own_helper(&self, host: &str) -> Result<Option<&str>> {
        let helpers = match self.top.get("credHelpers") {
            None | Some(Value::Null) => return Ok(None),
            Some(Value::Object(helpers)) => helpers,
            Some(_) => return self.damaged("\"credHelpers\" is no object"),
        };
        let own = helpers.iter().find(|(entry, _)| key::is_host(entry, host));
        self.text("credHelpers", own.map(|(_, suffix)| suffix))
    }

    fn text<'a>(&self, name: &str, value: Option<&'a Value>) -> Result<Option<&'a str>> {
        match value {
            None | Some(Value::Null) => Ok(None),
            Some(Value::String(text)) => Ok(Some(text)),
            Some(_) => self.damaged(&format!("\"{name}\" names no helper")),
        }
    }

    /// The helper that a login to the server is kept by. Helpers know nothing
    /// of parts of a registry.
    ///
    /// # Errors
    /// As [`AuthFile::helper`].
    pub fn helper_for(&self, server: &Server) -> Result<Option<Helper>> {
        match server.path() {
            "" => self.helper(server.host()),
            _ => Ok(None),
        }
    }

    /// Does the file send just this server to a helper.
    ///
    /// # Errors
    /// As [`AuthFile::helper`].
    pub fn has_own_helper(&self, server: &Server) -> Result<bool> {
        Ok(!self.legacy && server.path().is_empty() && self.own_helper(server.host())?.is_some())
    }

    /// Is there an entry for exactly this server.
    pub fn has(&self, server: &Server) -> bool {
        self.keys().any(|entry| server.is(entry))
    }

    /// Make the only entry for the server; without a login an empty one. It
    /// keeps the spelling that it has.
    ///
    /// # Errors
    /// When the entries are damaged.
    pub fn set(&mut self, server: &Server, login: Option<&Credentials>) -> Result<()> {
        let old = self.keys().find(|entry| server.is(entry));
        let entry = old.unwrap_or(server.key()).to_owned();
        self.remove(server)?;
        let auths = match self.top.entry("auths").or_insert(Value::Null) {
            Value::Object(auths) => auths,
            empty => {
                *empty = Value::Object(Map::new());
                match empty {
                    Value::Object(auths) => auths,
                    _ => return Ok(()),
                }
            }
        };
        auths.insert(entry, Value::Object(login.map(fields).unwrap_or_default()));
        Ok(())
    }

    /// Remove every entry for the server; was there one.
    ///
    /// # Errors
    /// When the entries are damaged.
    pub fn remove(&mut self, server: &Server) -> Result<bool> {
        self.auths()?;
        let auths = match self.legacy {
            true => Some(&mut self.top),
            false => self.top.get_mut("auths").and_then(Value::as_object_mut),
        };
        let Some(auths) = auths else { return Ok(false) };
        let before = auths.len();
        auths.retain(|entry, _| !server.is(entry));
        Ok(auths.len() < before)
    }
}

/// An entry as docker writes it.
fn fields(login: &Credentials) -> Map<String, Value> {
    let (password, token) = match &login.secret {
        Secret::Password(password) => (password.as_str(), None),
        Secret::IdentityToken(token) => ("", Some(token)),
    };
    let auth = BASE64.encode(format!("{}:{password}", login.username));
    let mut out = Map::new();
    out.insert("auth".to_owned(), Value::String(auth));
    if let Some(token) = token {
        out.insert("identitytoken".to_owned(), Value::String(token.clone()));
    }
    out
}

/// Change a file, or make it. It is written only if something has changed.
///
/// # Errors
/// Those of `change`; when the file is damaged or cannot be written.
pub fn update<T>(path: &Path, change: impl FnOnce(&mut AuthFile) -> Result<T>) -> Result<T> {
    update_as(path, false, change)
}

/// As [`update`], of a file of the old form if `legacy`.
///
/// # Errors
/// As [`update`].
pub fn update_as<T>(
    path: &Path,
    legacy: bool,
    change: impl FnOnce(&mut AuthFile) -> Result<T>,
) -> Result<T> {
    let say = || format!("cannot write {}", path.display());
    // A symlink stays one: what it leads to is replaced.
    let target = target(path).context(say)?;
    let dir = match target.parent() {
        Some(dir) if !dir.as_os_str().is_empty() => dir,
        _ => Path::new("."),
    };
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(dir)
        .context(say)?;
    let held = File::open(dir).context(say)?;
    // Some network file systems cannot lock a directory; then the last of two
    // logins at the same moment wins, and the file is whole all the same.
    let _ = held.lock();
    let mut file = AuthFile::read(path, legacy)?.unwrap_or_else(|| AuthFile {
        path: path.to_owned(),
        top: Map::new(),
        legacy,
    });
    let before = file.top.clone();
    let result = change(&mut file)?;
    if file.top != before {
        replace(&target, dir, &to_text(&file.top)?).context(say)?;
        sync_dir(dir)?;
    }
    Ok(result)
}

fn to_text(top: &Map<String, Value>) -> Result<Vec<u8>> {
    let mut out = Vec::new();
    let indent = serde_json::ser::PrettyFormatter::with_indent(b"\t");
    let mut serializer = serde_json::Serializer::with_formatter(&mut out, indent);
    top.serialize(&mut serializer)
        .map_err(|e| Error::Invalid(format!("cannot write as JSON: {e}")))?;
    out.push(b'\n');
    Ok(out)
}

/// Where a chain of symlinks ends, whether there is something or not.
fn target(path: &Path) -> std::io::Result<PathBuf> {
    let mut path = path.to_owned();
    for _ in 0..MAX_LINKS {
        match fs::read_link(&path) {
            Ok(link) => path = path.parent().unwrap_or(Path::new("/")).join(link),
            Err(e) if matches!(e.kind(), ErrorKind::InvalidInput | ErrorKind::NotFound) => {
                return Ok(path);
            }
            Err(e) => return Err(e),
        }
    }
    Err(Errno::LOOP.into())
}

/// The new content under a name that nobody can have foreseen, then in place
/// of the old. It stays with its owner where we may give it to him, and nobody
/// else may read it.
fn replace(path: &Path, dir: &Path, data: &[u8]) -> std::io::Result<()> {
    let new = dir.join(format!(".capas-{}", random_hex(8)?));
    let write = || {
        let mut file = fs::OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&new)?;
        let (old, ours) = (fs::metadata(path), file.metadata()?);
        if let Ok(old) = old
            && (old.uid(), old.gid()) != (ours.uid(), ours.gid())
        {
            // Who may not give it away may have it.
            let _ = std::os::unix::fs::fchown(&file, Some(old.uid()), Some(old.gid()));
        }
        file.write_all(data)?;
        file.sync_all()?;
        tree::rename(&new, path).map_err(std::io::Error::from)
    };
    write().inspect_err(|_| {
        let _ = fs::remove_file(&new);
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::{PermissionsExt, symlink};

    fn file(text: &str) -> AuthFile {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("config.json");
        fs::write(&path, text).unwrap();
        AuthFile::read(&path, false).unwrap().unwrap()
    }

    fn password(text: &str, entry: &str) -> Option<(String, String)> {
        let login = file(text).login(entry).unwrap()?;
        match login.secret {
            Secret::Password(password) => Some((login.username, password)),
            Secret::IdentityToken(token) => Some((login.username, format!("token {token}"))),
        }
    }

    #[test]
    fn entries_in_all_their_forms() {
        let text = r#"{"auths":{
            "colon":{"auth":"dXNlcjpwOmE6c3M="},
            "unpadded":{"auth":"dXNlcjpwOmE6c3M"},
            "zeros":{"auth":"dTpwAAA="},
            "token":{"auth":"dTo=","identitytoken":"T"},
            "token-alone":{"identitytoken":"T"},
            "fields":{"username":"u","password":"p"},
            "both":{"auth":"dTpw","username":"x","password":"y"},
            "empty":{},"null":null,"nothing":{"auth":""},"colon-alone":{"auth":"Og=="},
            "email":{"email":"x@y"}}}"#;
        let some = |user: &str, secret: &str| Some((user.to_owned(), secret.to_owned()));
        for (entry, want) in [
            ("colon", some("user", "p:a:ss")),
            ("unpadded", some("user", "p:a:ss")),
            ("zeros", some("u", "p")),
            ("token", some("u", "token T")),
            ("token-alone", some("", "token T")),
            ("fields", some("u", "p")),
            ("both", some("u", "p")),
            ("empty", None),
            ("null", None),
            ("nothing", None),
            ("colon-alone", None),
            ("email", None),
            ("absent", None),
        ] {
            assert_eq!(password(text, entry), want, "{entry}");
        }
    }

    #[test]
    fn garbage_gives_one_line_that_names_the_file() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("config.json");
        let host = Server::parse("h").unwrap();
        for (text, word) in [
            ("[", "EOF while parsing"),
            ("[]", "no JSON object"),
            ("\u{1}\n\n\u{2}", "expected value"),
            (r#"{"auths":[]}"#, "\"auths\" is no object"),
            (r#"{"auths":{"h":7}}"#, "it is no object"),
            (r#"{"auths":{"h":{"auth":7}}}"#, "\"auth\" is no text"),
            (r#"{"auths":{"h":{"auth":"%"}}}"#, "no base64"),
            (r#"{"auths":{"h":{"auth":"/w=="}}}"#, "\"auth\" is no text"),
            (
                r#"{"auths":{"h":{"auth":"dXNlcg=="}}}"#,
                "not USER:PASSWORD",
            ),
            (r#"{"credHelpers":"x"}"#, "\"credHelpers\" is no object"),
            (
                r#"{"credHelpers":{"h":1}}"#,
                "\"credHelpers\" names no helper",
            ),
            (r#"{"credsStore":{}}"#, "\"credsStore\" names no helper"),
            (r#"{"credsStore":"../x"}"#, "no name of a credential helper"),
        ] {
            fs::write(&path, text).unwrap();
            let error = AuthFile::read(&path, false)
                .and_then(|file| super::super::find_in(&file.unwrap(), "h", ""))
                .unwrap_err()
                .to_string();
            assert!(error.contains(word), "{text}: {error}");
            assert!(error.contains(path.to_str().unwrap()), "{error}");
            assert!(!error.contains('\n'), "{error}");
            // Nor is such a file written over.
            let broken =
                !text.contains("\"h\":") && !text.contains("creds") && !text.contains("Helpers");
            if broken {
                assert!(update(&path, |f| f.set(&host, None)).is_err(), "{text}");
            }
            assert_eq!(fs::read_to_string(&path).unwrap(), text);
        }
        for empty in ["", " \n"] {
            assert_eq!(file(empty).keys().count(), 0);
        }
        fs::write(&path, vec![b' '; 5 << 20]).unwrap();
        let error = AuthFile::read(&path, false).err().unwrap().to_string();
        assert!(error.contains("is larger than"), "{error}");
    }

    #[test]
    fn the_order_of_entries() {
        let f = file(
            r#"{"auths":{"h":{},"h/a":{},"h/a/b":{},"h/b":{},"https://h/v1/":{},
                "index.docker.io":{},"https://index.docker.io/v1/":{},"docker.io":{}}}"#,
        );
        let (parts, whole) = f.entries_for("h", "a/b/c").unwrap();
        assert_eq!(parts, ["h/a/b", "h/a"]);
        assert_eq!(whole, ["h", "https://h/v1/"]);
        let (parts, whole) = f.entries_for("docker.io", "library/x").unwrap();
        assert!(parts.is_empty());
        assert_eq!(whole, ["docker.io", key::HUB, "index.docker.io"]);
    }

    #[test]
    fn the_old_form_has_hosts_alone() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(".dockercfg");
        fs::write(
            &path,
            r#"{"h":{"auth":"dTpw"},"h/a":{"auth":"eDp5"},"credsStore":"x","n":1}"#,
        )
        .unwrap();
        let f = AuthFile::read(&path, true).unwrap().unwrap();
        let (parts, whole) = f.entries_for("h", "a").unwrap();
        assert_eq!((parts.len(), whole), (0, vec!["h"]));
        assert_eq!(f.login("h").unwrap().unwrap().username, "u");
        assert!(f.helper("h").unwrap().is_none());
        assert!(f.login("n").unwrap().is_none());
    }

    #[test]
    fn what_is_not_ours_stays() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("real/config.json");
        fs::create_dir(dir.path().join("real")).unwrap();
        let text = r#"{"psFormat":"x","auths":{"other":{"auth":"dTpw","email":"e"},"h":{"auth":"eDp5"}},"plugins":{"a":[1,{"b":null}]}}"#;
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
        let link = dir.path().join("link");
        symlink("real/config.json", &link).unwrap();
        let server = Server::parse("h").unwrap();
        let login = Credentials {
            username: "me".to_owned(),
            secret: Secret::IdentityToken("T".to_owned()),
        };
        update(&link, |f| f.set(&server, Some(&login))).unwrap();
        assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
        assert_eq!(
            fs::metadata(&path).unwrap().permissions().mode() & 0o777,
            0o600
        );
        let read = AuthFile::read(&link, false).unwrap().unwrap();
        assert_eq!(read.login("h").unwrap(), Some(login));
        update(&link, |f| f.remove(&server)).unwrap();
        let mut want: Value = serde_json::from_str(text).unwrap();
        want["auths"].as_object_mut().unwrap().remove("h");
        let now: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
        assert_eq!(now, want);
        // Nothing half-made is left, and nothing is written in vain.
        assert_eq!(fs::read_dir(dir.path().join("real")).unwrap().count(), 1);
        let before = fs::metadata(&path).unwrap().ino();
        update(&link, |f| f.remove(&server)).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().ino(), before);
    }

    #[test]
    fn a_file_is_made_with_its_directory_and_through_a_dangling_link() {
        let dir = tempfile::tempdir().unwrap();
        let server = Server::parse("").unwrap();
        let path = dir.path().join("a/b/config.json");
        update(&path, |f| f.set(&server, None)).unwrap();
        assert_eq!(
            fs::read_to_string(&path).unwrap(),
            "{\n\t\"auths\": {\n\t\t\"https://index.docker.io/v1/\": {}\n\t}\n}\n"
        );
        assert_eq!(
            fs::metadata(dir.path().join("a"))
                .unwrap()
                .permissions()
                .mode()
                & 0o777,
            0o700
        );
        let link = dir.path().join("link");
        symlink("a/later.json", &link).unwrap();
        update(&link, |f| f.set(&server, None)).unwrap();
        assert!(dir.path().join("a/later.json").exists());
        symlink("round", dir.path().join("round")).unwrap();
        assert!(update(&dir.path().join("round"), |f| f.set(&server, None)).is_err());
    }

    #[test]
    fn logins_at_the_same_time_all_stay() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("config.json");
        std::thread::scope(|scope| {
            for n in 0..16 {
                let path = &path;
                scope.spawn(move || {
                    let server = Server::parse(&format!("h{n}")).unwrap();
                    update(path, |f| f.set(&server, None)).unwrap();
                });
            }
        });
        let read = AuthFile::read(&path, false).unwrap().unwrap();
        assert_eq!(read.keys().count(), 16);
    }
}
