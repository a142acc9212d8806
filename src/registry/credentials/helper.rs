//! Credential helpers: `docker-credential-SUFFIX get|store|erase|list`, which
//! speak JSON on their standard input and output.

use crate::registry::{Credentials, Secret};
use crate::store::error::{Context, Error, Result, invalid, show};
use crate::sys::process::ending_with_us;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::io::{ErrorKind, Read, Write};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

/// The user name that goes with an identity token.
const TOKEN: &str = "<token>";
/// How a helper says that it has nothing, in all its versions.
const NOT_FOUND: &str = "credentials not found";
/// A helper may have to ask somebody to unlock a key ring.
const PATIENCE: Duration = Duration::from_secs(120);
/// No answer is longer.
const MAX: u64 = 1 << 20;

/// A helper that a file names.
#[derive(Clone, Debug)]
pub struct Helper {
    program: String,
    from: String,
    patience: Duration,
}

/// What is said to `store`.
#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Request<'a> {
    #[serde(rename = "ServerURL")]
    server_url: &'a str,
    username: &'a str,
    secret: &'a str,
}

/// What `get` answers.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Answer {
    #[serde(default)]
    username: String,
    #[serde(default)]
    secret: String,
}

/// How a helper ended.
struct Ended {
    status: ExitStatus,
    out: Vec<u8>,
    err: Vec<u8>,
}

impl Helper {
    /// The helper that `from` calls `suffix`.
    ///
    /// # Errors
    /// For what is no plain word: it becomes the name of a program.
    pub fn new(suffix: &str, from: &Path) -> Result<Helper> {
        let word = |b: u8| b.is_ascii_alphanumeric() || b"-_.".contains(&b);
        if suffix.is_empty() || suffix.len() > 100 || !suffix.bytes().all(word) {
            return invalid(format!(
                "{}: \"{}\" is no name of a credential helper",
                from.display(),
                show(suffix.as_bytes())
            ));
        }
        Ok(Helper {
            program: format!("docker-credential-{suffix}"),
            from: from.display().to_string(),
            patience: PATIENCE,
        })
    }

    /// What it has for a server.
    ///
    /// # Errors
    /// When it cannot be run, fails, or answers nonsense; not when it has none.
    pub fn get(&self, url: &str) -> Result<Option<Credentials>> {
        let ended = self.run("get", url.as_bytes())?;
        if !ended.status.success() && ended.is_not_found() {
            return Ok(None);
        }
        let out = self.succeeded("get", &ended)?;
        match login(out) {
            Some(login) => Ok(login),
            None => self.nonsense("get"),
        }
    }

    /// Give it a login to keep.
    ///
    /// # Errors
    /// When it cannot be run or fails.
    pub fn store(&self, url: &str, login: &Credentials) -> Result<()> {
        let (username, secret) = match &login.secret {
            Secret::Password(password) => (login.username.as_str(), password),
            Secret::IdentityToken(token) => (TOKEN, token),
        };
        let request = crate::store::to_json(&Request {
            server_url: url,
            username,
            secret,
        })?;
        let ended = self.run("store", &request)?;
        self.succeeded("store", &ended).map(drop)
    }

    /// Let it forget a server; what it does not have is forgotten already.
    ///
    /// # Errors
    /// When it cannot be run or fails.
    pub fn erase(&self, url: &str) -> Result<()> {
        let ended = self.run("erase", url.as_bytes())?;
        if ended.is_not_found() {
            return Ok(());
        }
        self.succeeded("erase", &ended).map(drop)
    }

    /// The servers of which it has something.
    ///
    /// # Errors
    /// When it cannot be run, fails, or answers nonsense.
    pub fn list(&self) -> Result<Vec<String>> {
        let ended = self.run("list", b"")?;
        let out = self.succeeded("list", &ended)?;
        match servers(out) {
            Some(servers) => Ok(servers),
            None => self.nonsense("list"),
        }
    }

    fn nonsense<T>(&self, verb: &str) -> Result<T> {
        // What it said may hold a secret.
        invalid(format!(
            "{} {verb} answered what is no such answer",
            self.program
        ))
    }

    fn succeeded<'a>(&self, verb: &str, ended: &'a Ended) -> Result<&'a [u8]> {
        if ended.status.success() {
            return Ok(&ended.out);
        }
        // Helpers say why on standard output, what they run on the other.
        let said: Vec<String> = [&ended.out, &ended.err]
            .map(|said| show(said.trim_ascii()))
            .into_iter()
            .filter(|said| !said.is_empty())
            .collect();
        let said = match said.is_empty() {
            true => ended.status.to_string(),
            false => said.join("; "),
        };
        invalid(format!(
            "{} {verb}, which {} asks for, failed: {said}",
            self.program, self.from
        ))
    }

    fn run(&self, verb: &str, input: &[u8]) -> Result<Ended> {
        let say = || format!("cannot run {}", self.program);
        let spawned = ending_with_us(&mut Command::new(&self.program))
            .arg(verb)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn();
        let mut child = match spawned {
            Err(e) if e.kind() == ErrorKind::NotFound => {
                return Err(Error::NotFound(format!(
                    "{}, which {} asks for, is not in PATH: install it, or take it out of the file",
                    self.program, self.from
                )));
            }
            child => child.context(say)?,
        };
        let until = Instant::now() + self.patience;
        let ended = converse(&mut child, input, until);
        if !matches!(ended, Ok(Some(_))) {
            let _ = child.kill();
            let _ = child.wait();
        }
        match ended.context(say)? {
            Some(ended) => Ok(ended),
            None => invalid(format!(
                "{} {verb} has not answered within {} s",
                self.program,
                self.patience.as_secs()
            )),
        }
    }
}

impl Ended {
    fn is_not_found(&self) -> bool {
        let said = String::from_utf8_lossy(&self.out).to_lowercase();
        said.contains(NOT_FOUND)
    }
}

/// Say `input`, hear all answers; `None` if it takes longer than `until`.
fn converse(child: &mut Child, input: &[u8], until: Instant) -> std::io::Result<Option<Ended>> {
    // A helper that does not read must not hold us: the pipe is filled and
    // the ends are read by threads that are left alone when time is over.
    if let Some(mut stdin) = child.stdin.take() {
        let input = input.to_vec();
        std::thread::spawn(move || stdin.write_all(&input));
    }
    let out = listen(child.stdout.take());
    let err = listen(child.stderr.take());
    let mut heard = [Vec::new(), Vec::new()];
    for (channel, heard) in [out, err].into_iter().zip(&mut heard) {
        let left = until.saturating_duration_since(Instant::now());
        match channel.recv_timeout(left) {
            Ok(read) => *heard = read?,
            Err(_) => return Ok(None),
        }
    }
    // It has closed both, so it is about to end.
    loop {
        if let Some(status) = child.try_wait()? {
            let [out, err] = heard;
            return Ok(Some(Ended { status, out, err }));
        }
        if Instant::now() >= until {
            return Ok(None);
        }
        std::thread::sleep(Duration::from_millis(1));
    }
}

fn listen(from: Option<impl Read + Send + 'static>) -> Receiver<std::io::Result<Vec<u8>>> {
    let (send, receive) = channel();
    std::thread::spawn(move || {
        let mut heard = Vec::new();
        let read = match from {
            Some(from) => from.take(MAX).read_to_end(&mut heard),
            None => Ok(0),
        };
        // Nobody listens if time is over.
        let _ = send.send(read.map(|_| heard));
    });
    receive
}

/// The answer to `get`, unless it is nonsense; an empty one is no login.
pub fn login(answer: &[u8]) -> Option<Option<Credentials>> {
    let Answer { username, secret } = serde_json::from_slice(answer).ok()?;
    Some(match (username.as_str(), secret.is_empty()) {
        ("", true) => None,
        (TOKEN, _) => Some(Credentials {
            username: String::new(),
            secret: Secret::IdentityToken(secret),
        }),
        _ => Some(Credentials {
            username,
            secret: Secret::Password(secret),
        }),
    })
}

/// The answer to `list`, unless it is nonsense.
pub fn servers(answer: &[u8]) -> Option<Vec<String>> {
    let all: Option<BTreeMap<String, String>> = serde_json::from_slice(answer).ok()?;
    Some(all.unwrap_or_default().into_keys().collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    /// A helper that is this shell script, found by its path.
    fn helper(script: &str) -> (tempfile::TempDir, Helper) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("docker-credential-x");
        // Written by another process: a test beside us that forks while the
        // file is open for writing here would keep it busy.
        let made = std::process::Command::new("sh")
            .arg("-c")
            .arg("printf '#!/bin/sh\\n%s\\n' \"$1\" >\"$0\"")
            .arg(&path)
            .arg(script)
            .status()
            .unwrap();
        assert!(made.success());
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o700)).unwrap();
        let helper = Helper {
            program: path.to_str().unwrap().to_owned(),
            ..Helper::new("x", Path::new("/config.json")).unwrap()
        };
        (dir, helper)
    }

    #[test]
    fn answers_of_get() {
        let some = |username: &str, secret: Secret| {
            Some(Credentials {
                username: username.to_owned(),
                secret,
            })
        };
        for (script, want) in [
            (
                r#"echo '{"ServerURL":"h","Username":"u","Secret":"p:w"}'"#,
                some("u", Secret::Password("p:w".to_owned())),
            ),
            (
                r#"echo '{"Username":"<token>","Secret":"T"}'"#,
                some("", Secret::IdentityToken("T".to_owned())),
            ),
            ("echo '{}'", None),
            (
                "echo credentials not found in native keychain; exit 1",
                None,
            ),
        ] {
            let (_dir, helper) = helper(script);
            assert_eq!(helper.get("h").unwrap(), want, "{script}");
        }
    }

    #[test]
    fn failures_are_one_line_with_what_was_said() {
        for (script, said) in [
            (
                "echo locked; echo 'no agent' >&2; exit 3",
                "get, which /config.json asks for, failed: locked; no agent",
            ),
            ("exit 3", "failed: exit status: 3"),
            ("kill -9 $$", "failed: signal: 9"),
            ("printf 'a\\nb'; exit 1", "failed: a\\nb"),
            ("echo secret", "answered what is no such answer"),
        ] {
            let (_dir, helper) = helper(script);
            let error = helper.get("h").unwrap_err().to_string();
            assert!(error.contains(said), "{error}");
            assert!(
                !error.contains('\n') && !error.contains("secret"),
                "{error}"
            );
        }
        let absent = Helper::new("capas-no-such", Path::new("/config.json")).unwrap();
        assert_eq!(
            absent.get("h").unwrap_err().to_string(),
            "docker-credential-capas-no-such, which /config.json asks for, is not in PATH: install it, or take it out of the file"
        );
    }

    #[test]
    fn what_is_said_to_it() {
        let (dir, helper) = helper(r#"echo "$@" >"${0%/*}/verb"; cat >"${0%/*}/said""#);
        let said = || {
            let read = |name: &str| std::fs::read_to_string(dir.path().join(name)).unwrap();
            read("verb") + &read("said")
        };
        let login = |secret| Credentials {
            username: "u".to_owned(),
            secret,
        };
        helper
            .store("h", &login(Secret::Password("p\"w".to_owned())))
            .unwrap();
        assert_eq!(
            said(),
            "store\n{\"ServerURL\":\"h\",\"Username\":\"u\",\"Secret\":\"p\\\"w\"}\n"
        );
        helper
            .store("h", &login(Secret::IdentityToken("T".to_owned())))
            .unwrap();
        assert_eq!(
            said(),
            "store\n{\"ServerURL\":\"h\",\"Username\":\"<token>\",\"Secret\":\"T\"}\n"
        );
        helper.erase("https://index.docker.io/v1/").unwrap();
        assert_eq!(said(), "erase\nhttps://index.docker.io/v1/");
    }

    #[test]
    fn a_list_is_of_servers() {
        for (script, want) in [
            (
                r#"echo '{"h":"u","https://i":"v"}'"#,
                vec!["h", "https://i"],
            ),
            ("echo null", vec![]),
        ] {
            let (_dir, helper) = helper(script);
            assert_eq!(helper.list().unwrap(), want);
        }
        let (_dir, helper) = helper("echo '[1]'");
        assert!(helper.list().is_err());
    }

    #[test]
    fn one_that_hangs_or_never_stops_is_given_up() {
        for (script, word) in [
            ("sleep 60", "has not answered within"),
            ("exec >&- 2>&-; sleep 60", "has not answered within"),
            ("yes", "failed: y"),
        ] {
            let (_dir, mut helper) = helper(script);
            helper.patience =
                Duration::from_millis(if word.contains("within") { 300 } else { 20_000 });
            let began = Instant::now();
            let error = helper.get("h").unwrap_err().to_string();
            assert!(error.contains(word), "{script}: {error}");
            assert!(began.elapsed() < Duration::from_secs(30));
        }
    }

    #[test]
    fn a_name_is_a_plain_word() {
        for bad in ["", "a/b", "../x", "a b", "x\n", "ä"] {
            assert!(Helper::new(bad, Path::new("f")).is_err(), "{bad}");
        }
        assert!(Helper::new("ecr-login", Path::new("f")).is_ok());
    }
}
