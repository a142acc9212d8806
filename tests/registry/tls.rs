//! TLS: whom we believe, and that what began with it is not continued without.

use crate::accounts::{ALICE, Done, Guarded, Person, done, finish, have};
use crate::images::{Image, Pack, image, layer};
use crate::served::{Content, Reply, Served, put};
use crate::tokens::openssl;
use capas::store::Digest;
use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use serde_json::json;
use std::fs;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

/// An authority, and a server with a certificate from it.
struct Authority(tempfile::TempDir);

impl Authority {
    /// The server is known by this: `IP:127.0.0.1`, `DNS:localhost`.
    fn of(known_as: &str) -> Authority {
        let own = Authority(tempfile::tempdir().unwrap());
        let config = format!(
            "[req]\ndistinguished_name = name\n[name]\n\
             [ca]\nbasicConstraints = critical, CA:TRUE\n\
             [server]\nbasicConstraints = critical, CA:FALSE\nsubjectAltName = {known_as}\n"
        );
        fs::write(own.path("openssl.cnf"), config).unwrap();
        own.certificate("ca", &[]);
        let (cert, key) = (own.text("ca.pem"), own.text("ca.key"));
        own.certificate("server", &["-CA", &cert, "-CAkey", &key]);
        own
    }

    fn certificate(&self, section: &str, by: &[&str]) {
        let words = "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2";
        let mut args: Vec<&str> = words.split(' ').collect();
        let subject = format!("/CN=tests {section}");
        let (cert, key) = (format!("{section}.pem"), format!("{section}.key"));
        let (cert, key, config) = (self.text(&cert), self.text(&key), self.text("openssl.cnf"));
        args.extend(["-subj", &subject, "-out", &cert, "-keyout", &key]);
        args.extend(["-config", &config, "-extensions", section]);
        args.extend(by);
        openssl(&args, b"");
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn text(&self, name: &str) -> String {
        self.path(name).to_str().unwrap().to_owned()
    }

    /// For a server in memory.
    fn config(&self) -> Arc<ServerConfig> {
        let cert = CertificateDer::from_pem_file(self.path("server.pem")).unwrap();
        let key = PrivateKeyDer::from_pem_file(self.path("server.key")).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![cert], key)
            .unwrap();
        Arc::new(config)
    }

    /// A command of someone who believes this authority, and no other.
    fn run(&self, person: &Person, args: &[&str], input: &str) -> Done {
        let mut command = person.capas();
        command.env("SSL_CERT_FILE", self.path("ca.pem")).args(args);
        finish(&mut command, input)
    }
}

fn sample() -> (Image, Content) {
    let image = image(&[(layer("a", b"1"), Pack::Gzip)]);
    let mut content = Content::new();
    put(&mut content, &image, "app", "1");
    (image, content)
}

#[test]
fn a_registry_of_this_machine_may_speak_tls() {
    if !have(&["docker-registry", "openssl"]) {
        return;
    }
    let authority = Authority::of("IP:127.0.0.1");
    let (cert, key) = (authority.text("server.pem"), authority.text("server.key"));
    let registry = Guarded::with(|dir| {
        let tls = format!("  tls:\n    certificate: {cert}\n    key: {key}\n");
        tls + &crate::accounts::passwords(dir)
    });
    let (image, content) = sample();
    let origin = Served::start(content, |_, _| None);
    let person = Person::new();
    let run = |args: &[&str], input: &str| authority.run(&person, args, input);
    let first = format!("{}/app:1", origin.host);
    let name = format!("{}/team/app:1", registry.host);
    assert_eq!(run(&["pull", "-q", &first], "").err, "");
    assert_eq!(run(&["tag", &first, &name], "").err, "");
    let login = ["login", "-u", ALICE.0, "--password-stdin", &registry.host];
    assert_eq!(run(&login, ALICE.1).out, "Login Succeeded\n");
    assert_eq!(
        run(&["push", "-q", &name], ""),
        done(0, &format!("{name}\n"), "")
    );
    assert_eq!(run(&["rmi", "-f", &image.id().to_string()], "").code, 0);
    assert_eq!(
        run(&["pull", "-q", &name], ""),
        done(0, &format!("{name}\n"), "")
    );
    // Who does not know the authority gets nothing from it, and gives nothing.
    let text = format!(
        "Error: cannot pull {name}: cannot reach {}: its certificate is not believed: UnknownIssuer \
         (authorities are the machine's, or those in the file that SSL_CERT_FILE names)\n",
        registry.host
    );
    for more in [&[][..], &["--insecure"]] {
        let args = [&["pull", "-q", name.as_str()], more].concat();
        assert_eq!(person.run(&args, ""), done(1, "", &text), "{more:?}");
    }
}

#[test]
fn a_certificate_for_another_host_is_refused() {
    if !have(&["openssl"]) {
        return;
    }
    let authority = Authority::of("DNS:registry.example");
    let (_, content) = sample();
    let served = Served::speaking(Some(authority.config()), content, |_, _| None);
    let person = Person::new();
    let name = format!("{}/app:1", served.host);
    let refused = authority.run(&person, &["pull", "-q", &name], "");
    assert_eq!(refused.code, 1);
    assert!(
        refused
            .err
            .contains("certificate not valid for name \"127.0.0.1\""),
        "{refused:?}"
    );
    assert_eq!(served.asked().len(), 0);
}

#[test]
fn what_began_with_tls_is_not_continued_without() {
    if !have(&["openssl"]) {
        return;
    }
    let authority = Authority::of("IP:127.0.0.1");
    let (image, content) = sample();
    let plain = Served::start(content.clone(), |_, _| None);
    let (elsewhere, blob) = (plain.host.clone(), Digest::of(&image.layers[0]));
    let served = Served::speaking(Some(authority.config()), content, move |asked, _| {
        let to = |path: &str| format!("http://{elsewhere}{path}");
        match asked.what.as_str() {
            what if what.starts_with("GET ") && what.ends_with(&blob.to_string()) => {
                let location = to(what.strip_prefix("GET ").unwrap());
                Some(Reply::new(307, &[("location", &location)], b""))
            }
            what if what.starts_with("POST ") => {
                let location = to("/v2/app/blobs/uploads/1");
                Some(Reply::new(202, &[("location", &location)], b""))
            }
            _ => None,
        }
    });
    let person = Person::new();
    let (from, to) = (&served.host, &plain.host);
    let why = format!("{from} leads to {to} without TLS, which is not followed");
    let name = format!("{from}/app:1");
    let pulled = authority.run(&person, &["pull", "-q", &name], "");
    let layer = image.diff_ids[0].short();
    assert_eq!(
        pulled,
        done(
            1,
            "",
            &format!("Error: layer {layer}: cannot get blob {blob}: {why}\n")
        )
    );
    assert_eq!(plain.asked().len(), 0);
    // The same for a blob on its way there.
    let own = format!("{to}/app:1");
    assert_eq!(person.run(&["pull", "-q", &own], "").code, 0);
    let before = plain.asked().len();
    let name = format!("{from}/new:1");
    assert_eq!(person.run(&["tag", &own, &name], "").code, 0);
    let pushed = authority.run(&person, &["push", "-q", &name], "");
    let text = format!("Error: cannot write to {from}/new: {why}\n");
    assert_eq!(pushed, done(1, "", &text));
    assert_eq!(plain.asked().len(), before);
}

#[test]
fn tokens_come_over_tls() {
    if !have(&["openssl"]) {
        return;
    }
    let authority = Authority::of("IP:127.0.0.1");
    let (_, content) = sample();
    let host = Arc::new(Mutex::new(String::new()));
    let own = Arc::clone(&host);
    let served = Served::speaking(Some(authority.config()), content, move |asked, _| {
        let key = asked.authorization.as_deref();
        match (asked.what.starts_with("GET /token?"), key) {
            (true, Some("Basic bWU6aGlkZGVu")) => {
                Some(Reply::new(200, &[], br#"{"token":"good"}"#))
            }
            (false, Some("Bearer good")) => None,
            _ => {
                let text = format!("Bearer realm=\"https://{}/token\"", own.lock().unwrap());
                Some(Reply::new(401, &[("www-authenticate", &text)], b""))
            }
        }
    });
    host.lock().unwrap().clone_from(&served.host);
    let person = Person::new();
    let auth = json!({"auths": {&served.host: {"auth": "bWU6aGlkZGVu"}}});
    person.write(".docker/config.json", &auth.to_string());
    let name = format!("{}/app:1", served.host);
    let pulled = authority.run(&person, &["pull", "-q", &name], "");
    assert_eq!(pulled, done(0, &format!("{name}\n"), ""));
    assert_eq!(served.count("/token"), 1);
    // Somebody who does not know the authority does not even ask.
    let before = served.asked().len();
    assert_eq!(person.run(&["pull", "-q", &name], "").code, 1);
    assert_eq!(served.asked().len(), before);
}
