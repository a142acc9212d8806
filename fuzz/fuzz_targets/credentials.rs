//! Files of credentials in their three forms, what helpers answer, and names of
//! registries as people and such files write them.
#![no_main]

use capas::registry::credentials::file::{AuthFile, update_as};
use capas::registry::credentials::helper;
use capas::registry::credentials::key::{Server, covers, is_host};
use capas::registry::{Credentials, Secret};
use capas_fuzz::scratch;
use libfuzzer_sys::fuzz_target;
use std::fs;

fuzz_target!(|data: &[u8]| {
    let _ = helper::servers(data);
    if let Some(Some(login)) = helper::login(data) {
        assert!(format!("{login:?}").starts_with("Credentials("));
    }
    let text = String::from_utf8_lossy(data);
    match Server::parse(&text) {
        Ok(server) => {
            assert!(server.is(server.key()), "{server:?}");
            assert!(covers(server.key(), server.host(), server.path()).is_some());
            assert_eq!(
                is_host(server.key(), server.host()),
                server.path().is_empty()
            );
        }
        Err(e) => assert!(!e.to_string().contains('\n')),
    }
    let path = scratch().join("config.json");
    let server = Server::parse("h.example:5000/ns").expect("a server");
    for legacy in [false, true] {
        fs::write(&path, data).expect("a file");
        let file = match AuthFile::read(&path, legacy) {
            Ok(file) => file.expect("it is there"),
            Err(e) => {
                assert!(!e.to_string().contains('\n'), "{e}");
                continue;
            }
        };
        for (host, repository) in [("docker.io", "library/x"), ("h.example:5000", "ns/app")] {
            if let Ok((parts, whole)) = file.entries_for(host, repository) {
                for entry in parts.into_iter().chain(whole) {
                    if let Err(e) = file.login(entry) {
                        assert!(!e.to_string().contains('\n'), "{e}");
                    }
                }
            }
            let _ = file.helper(host);
        }
        // What is set is there afterwards, and goes away again.
        let login = Credentials {
            username: "me".to_owned(),
            secret: Secret::Password("secret:word".to_owned()),
        };
        if legacy || update_as(&path, legacy, |file| file.set(&server, Some(&login))).is_err() {
            continue;
        }
        let file = AuthFile::read(&path, legacy)
            .expect("it can be read")
            .expect("it is there");
        let (parts, _) = file.entries_for("h.example:5000", "ns").expect("entries");
        let found = file
            .login(parts.first().expect("the entry"))
            .expect("a login");
        assert_eq!(found, Some(login));
        update_as(&path, legacy, |file| file.remove(&server)).expect("it can be removed");
        let file = AuthFile::read(&path, legacy)
            .expect("it can be read")
            .expect("it is there");
        assert!(!file.has(&server));
    }
});
