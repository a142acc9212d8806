//! Bearer tokens: a token server with docker-registry, and tokens that run out.

use crate::accounts::{ALICE, Guarded, Person, have};
use crate::images::{Pack, image, layer};
use crate::pull::skopeo_push;
use crate::served::{Content, Reply, Served, put};
use base64::Engine as _;
use base64::prelude::{BASE64_STANDARD, BASE64_URL_SAFE_NO_PAD};
use capas::store::Digest;
use serde_json::json;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{SystemTime, UNIX_EPOCH};

pub fn openssl(args: &[&str], input: &[u8]) -> Vec<u8> {
    let mut child = Command::new("openssl")
        .args(args)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(input).unwrap();
    let out = child.wait_with_output().unwrap();
    assert!(out.status.success(), "{args:?}");
    out.stdout
}

/// A token that docker-registry believes, signed with the key in `dir`.
fn signed(dir: &Path, scopes: &[Scope]) -> String {
    let cert = fs::read_to_string(dir.join("cert.pem")).unwrap();
    let der: String = cert.lines().filter(|l| !l.starts_with('-')).collect();
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap()
        .as_secs();
    let access: Vec<_> = scopes
        .iter()
        .map(|s| json!({"type": s.kind, "name": s.name, "actions": s.actions}))
        .collect();
    let head = json!({"typ": "JWT", "alg": "RS256", "x5c": [der]});
    let claims = json!({
        "iss": "tests", "sub": "alice", "aud": "service", "jti": "1",
        "iat": now - 10, "nbf": now - 10, "exp": now + 300, "access": access,
    });
    let part = |v: &serde_json::Value| BASE64_URL_SAFE_NO_PAD.encode(v.to_string());
    let text = format!("{}.{}", part(&head), part(&claims));
    let key = dir.join("key.pem");
    let sign = ["dgst", "-sha256", "-sign", key.to_str().unwrap()];
    let signature = openssl(&sign, text.as_bytes());
    format!("{text}.{}", BASE64_URL_SAFE_NO_PAD.encode(signature))
}

fn decoded(text: &str) -> String {
    text.replace("%3A", ":")
        .replace("%2F", "/")
        .replace("%2C", ",")
        .replace("%2A", "*")
}

/// A registry that believes the tokens of a server of its own: everybody may
/// pull `public`, Alice may do all.
pub struct Tokens {
    pub registry: Guarded,
    /// Answers at `/token`.
    pub server: Served,
    _keys: tempfile::TempDir,
}

impl Tokens {
    pub fn start() -> Tokens {
        let keys = tempfile::tempdir().unwrap();
        let dir: PathBuf = keys.path().to_owned();
        let (key, cert) = (dir.join("key.pem"), dir.join("cert.pem"));
        let (key, cert) = (key.to_str().unwrap(), cert.to_str().unwrap());
        let mut request: Vec<&str> = "req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=tests"
            .split(' ')
            .collect();
        request.extend(["-keyout", key, "-out", cert]);
        openssl(&request, b"");
        let account = format!(
            "Basic {}",
            BASE64_STANDARD.encode(format!("{}:{}", ALICE.0, ALICE.1))
        );
        let signer = dir.clone();
        let server = Served::start(Content::new(), move |asked, _| {
            let alice = match asked.authorization.as_deref() {
                None => false,
                Some(key) if key == account => true,
                Some(_) => return Some(Reply::new(401, &[], b"")),
            };
            let query = asked.what.split_once('?').unwrap().1;
            let scopes = query.split('&').filter_map(|p| p.strip_prefix("scope="));
            let allowed: Vec<Scope> = scopes.map(|s| Scope::allowed(&decoded(s), alice)).collect();
            let token = signed(&signer, &allowed);
            let body = json!({"access_token": token, "expires_in": 300}).to_string();
            Some(Reply::new(
                200,
                &[("content-type", "application/json")],
                body.as_bytes(),
            ))
        });
        let realm = format!("http://{}/token", server.host);
        let registry = Guarded::with(|_| {
            format!(
                "auth:\n  token:\n    realm: {realm}\n    service: service\n    issuer: tests\n    rootcertbundle: {cert}\n"
            )
        });
        Tokens {
            registry,
            server,
            _keys: keys,
        }
    }
}

/// What a token gives a right to.
struct Scope {
    kind: String,
    name: String,
    actions: Vec<String>,
}

impl Scope {
    /// Of `kind:name:action,action` what is granted.
    fn allowed(text: &str, alice: bool) -> Scope {
        let mut parts = text.splitn(3, ':').map(str::to_owned);
        let mut next = || parts.next().unwrap();
        let (kind, name, wanted) = (next(), next(), next());
        let granted = |a: &&str| alice || (name == "public" && *a == "pull");
        let actions = wanted.split(',').filter(granted).map(str::to_owned);
        Scope {
            actions: actions.collect(),
            kind,
            name,
        }
    }
}

#[test]
fn a_registry_with_a_token_server() {
    if !have(&["docker-registry", "skopeo", "openssl"]) {
        return;
    }
    let tokens = Tokens::start();
    let Tokens {
        registry, server, ..
    } = &tokens;
    let host = registry.host.as_str();
    let person = Person::new();
    let image = image(&[
        (layer("a", b"1"), Pack::Gzip),
        (layer("b", b"2"), Pack::Zstd),
    ]);
    let blobs: Vec<&[u8]> = image.blobs().into_values().collect();
    let top = crate::images::described(image.media_type, &image.manifest);
    crate::images::layout(&person.path("x"), &top, &blobs);
    for name in ["public", "private"] {
        let to = format!("{host}/{name}:1");
        let creds = format!("{}:{}", ALICE.0, ALICE.1);
        skopeo_push(&person.path("x"), &to, &["--dest-creds", &creds]);
    }
    let before = server.asked().len();
    let public = format!("{host}/public:1");
    assert_eq!(
        person.run(&["pull", "-q", &public], "").out,
        format!("{public}\n")
    );
    // One token is enough for all of it.
    assert_eq!(server.asked().len(), before + 1);
    let private = format!("{host}/private:1");
    let refused = person.run(&["pull", "-q", &private], "");
    assert_eq!(refused.code, 1);
    assert!(
        refused.err.contains("authentication required"),
        "{refused:?}"
    );
    let login =
        |secret: &str| person.run(&["login", "-u", "alice", "--password-stdin", host], secret);
    assert_eq!(login("wrong").code, 1);
    assert_eq!(login(ALICE.1).code, 0);
    let pulled = person.run(&["pull", &private], "");
    assert!(
        pulled
            .out
            .contains(&format!("Digest: {}\n", image.digest())),
        "{pulled:?}"
    );
    let pushed = person.run(&["push", "-q", &private], "");
    assert_eq!((pushed.code, pushed.err.as_str()), (0, ""));
}

#[test]
fn a_token_that_runs_out_is_got_anew() {
    let image = image(&[(layer("a", b"1"), Pack::Gzip)]);
    let mut content = Content::new();
    put(&mut content, &image, "app", "1");
    // The registry forgets a token as soon as a blob was fetched with it.
    let valid = Arc::new(Mutex::new((0, false)));
    let host = Arc::new(Mutex::new(String::new()));
    let (state, own) = (Arc::clone(&valid), Arc::clone(&host));
    let served = Served::start(content, move |asked, _| {
        let mut state = state.lock().unwrap();
        if asked.what.starts_with("GET /token?") {
            *state = (state.0 + 1, true);
            let body = json!({"token": format!("t{}", state.0), "expires_in": 60}).to_string();
            return Some(Reply::new(200, &[], body.as_bytes()));
        }
        let key = format!("Bearer t{}", state.0);
        if !state.1 || asked.authorization.as_deref() != Some(&key) {
            let text = format!(
                "Bearer realm=\"http://{}/token?fixed=1\",service=\"s\",scope=\"repository:app:pull\"",
                own.lock().unwrap()
            );
            return Some(Reply::new(401, &[("www-authenticate", &text)], b""));
        }
        if asked.what.contains("/blobs/") {
            state.1 = false;
        }
        None
    });
    host.lock().unwrap().clone_from(&served.host);
    let person = Person::new();
    let name = format!("{}/app:1", served.host);
    let pulled = person.run(&["pull", "-q", &name], "");
    assert_eq!((pulled.code, pulled.err.as_str()), (0, ""));
    let tokens: Vec<String> = served
        .asked()
        .into_iter()
        .filter(|a| a.what.contains("/token"))
        .map(|a| a.what)
        .collect();
    assert_eq!(tokens.len(), 2);
    let query = "GET /token?fixed=1&service=s&scope=repository%3Aapp%3Apull";
    assert!(tokens.iter().all(|t| t == query), "{tokens:?}");
}

#[test]
fn an_identity_token_is_exchanged() {
    let image = image(&[(layer("a", b"1"), Pack::Gzip)]);
    let mut content = Content::new();
    put(&mut content, &image, "app", "1");
    let host = Arc::new(Mutex::new(String::new()));
    let own = Arc::clone(&host);
    let served = Served::start(content, move |asked, _| {
        match (asked.what.as_str(), asked.authorization.as_deref()) {
            ("POST /token", None) => Some(Reply::new(200, &[], br#"{"token":"good"}"#)),
            (_, Some("Bearer good")) => None,
            _ => {
                let text = format!(
                    "Bearer realm=\"http://{}/token\",service=\"the service\"",
                    own.lock().unwrap()
                );
                Some(Reply::new(401, &[("www-authenticate", &text)], b""))
            }
        }
    });
    host.lock().unwrap().clone_from(&served.host);
    let person = Person::new();
    let auth = json!({"auths": {&served.host: {"identitytoken": "long-lived"}}});
    person.write(".docker/config.json", &auth.to_string());
    let name = format!("{}/app:1", served.host);
    let pulled = person.run(&["pull", "-q", &name], "");
    assert_eq!((pulled.code, pulled.err.as_str()), (0, ""));
    let forms: Vec<_> = served.asked();
    let forms = forms.iter().filter(|a| a.what == "POST /token");
    let forms: Vec<&[u8]> = forms.map(|a| a.body.as_slice()).collect();
    let form = "service=the%20service&grant_type=refresh_token&client_id=capas\
                &refresh_token=long-lived&scope=repository%3Aapp%3Apull";
    assert_eq!(forms, [form.as_bytes()]);
    assert_eq!(served.count(&Digest::of(&image.layers[0]).to_string()), 1);
}

#[test]
fn a_token_is_got_anew_before_it_runs_out() {
    let image = image(&[(layer("a", b"1"), Pack::Gzip)]);
    let mut content = Content::new();
    put(&mut content, &image, "app", "1");
    let host = Arc::new(Mutex::new(String::new()));
    let own = Arc::clone(&host);
    let served = Served::start(content, move |asked, _| {
        if asked.what.starts_with("GET /token?") {
            let body = json!({"token": format!("t{}", asked.before), "expires_in": 1});
            return Some(Reply::new(200, &[], body.to_string().as_bytes()));
        }
        // Every token is good here; only its time has passed after this.
        match asked.authorization.as_deref() {
            Some("Bearer t0") => std::thread::sleep(std::time::Duration::from_millis(1100)),
            Some(_) => {}
            None => {
                let text = format!("Bearer realm=\"http://{}/token\"", own.lock().unwrap());
                return Some(Reply::new(401, &[("www-authenticate", &text)], b""));
            }
        }
        None
    });
    host.lock().unwrap().clone_from(&served.host);
    let person = Person::new();
    let name = format!("{}/app:1", served.host);
    let pulled = person.run(&["pull", "-q", &name], "");
    assert_eq!((pulled.code, pulled.err.as_str()), (0, ""));
    let keys: Vec<Option<String>> = served
        .asked()
        .into_iter()
        .map(|a| a.authorization)
        .collect();
    let bearer = |n: usize| Some(format!("Bearer t{n}"));
    // The question, a token, one answer with it; a new token before the next.
    assert_eq!(keys[..5], [None, None, bearer(0), None, bearer(1)]);
}

/// A token server that leads elsewhere does not get our secrets there.
#[test]
fn secrets_do_not_follow_a_token_server_elsewhere() {
    let image = image(&[(layer("a", b"1"), Pack::Gzip)]);
    let elsewhere = Served::start(Content::new(), |_, _| {
        Some(Reply::new(200, &[], br#"{"token": "for-all"}"#))
    });
    let to = format!("http://{}/token", elsewhere.host);
    let server = Served::start(Content::new(), move |_, _| {
        Some(Reply::new(307, &[("location", &to)], b""))
    });
    let realm = format!("Bearer realm=\"http://{}/token\"", server.host);
    let mut content = Content::new();
    put(&mut content, &image, "app", "1");
    let registry = Served::start(content, move |asked, _| {
        let known = asked.authorization.as_deref() == Some("Bearer for-all");
        (!known).then(|| Reply::new(401, &[("www-authenticate", &realm)], b""))
    });
    let name = format!("{}/app:1", registry.host);
    for (entry, works) in [
        (json!({"auth": BASE64_STANDARD.encode("me:hidden")}), true),
        (json!({"identitytoken": "hidden"}), false),
    ] {
        let person = Person::new();
        let auths = json!({"auths": {registry.host.as_str(): entry}});
        person.write(".docker/config.json", &auths.to_string());
        let done = person.run(&["pull", "-q", &name], "");
        assert_eq!(done.code == 0, works, "{done:?}");
    }
    let asked = server.asked();
    assert!(
        asked[0]
            .authorization
            .as_deref()
            .unwrap()
            .starts_with("Basic ")
    );
    assert!(String::from_utf8_lossy(&asked.last().unwrap().body).contains("refresh_token=hidden"));
    let others = elsewhere.asked();
    assert!(!others.is_empty());
    for asked in others {
        assert!(asked.what.starts_with("GET ") && asked.authorization.is_none());
        assert!(asked.body.is_empty() && !asked.what.contains("hidden"));
    }
}
