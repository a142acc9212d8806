//! What registries, token servers and indexes answer, and where they lead.
#![no_main]

use capas::registry::Wanted;
use capas::registry::address::{host_of, is_loopback, join, next_page, same_origin};
use capas::registry::answers::{
    Challenge, challenge, document, hits, refusal, repositories, tags, token,
};
use capas::store::{Digest, Error};
use http::Uri;
use libfuzzer_sys::fuzz_target;

fn one_line(e: &Error) {
    assert!(!e.to_string().chars().any(char::is_control), "{e:?}");
}

/// What is a host to us is the same to who connects to it.
fn same_host(url: &str) {
    let host = host_of(url);
    assert!(!host.chars().any(char::is_control));
    if let Ok(uri) = url.parse::<Uri>()
        && let Some(to) = uri.authority()
        && is_loopback(&host)
    {
        assert!(is_loopback(to.host()), "{url:?} is {host:?}, not {to:?}");
    }
}

fuzz_target!(|data: &[u8]| {
    match token(data) {
        Ok(token) => {
            let plain = |v: &String| !v.is_empty() && v.bytes().all(|b| b.is_ascii_graphic());
            assert!(token.value.iter().all(plain));
        }
        Err(e) => one_line(&e),
    }
    for e in [tags(data).err(), repositories(data).err(), hits(data).err()] {
        e.iter().for_each(one_line);
    }
    for status in [404, 429, 999] {
        let text = refusal(status, data);
        assert!(!text.chars().any(char::is_control), "{text:?}");
    }
    let digest = Digest::of(data);
    for wanted in [Wanted::Tag("x"), Wanted::Digest(digest)] {
        match document(None, "", data.to_vec(), wanted) {
            Ok(found) => {
                assert_eq!(found.descriptor.digest, digest);
                assert_eq!(found.descriptor.size, data.len() as u64);
            }
            Err(e) => one_line(&e),
        }
    }
    let other = Wanted::Digest(Digest::of(b"other"));
    assert!(document(None, "", data.to_vec(), other).is_err());

    let text = String::from_utf8_lossy(data);
    let lines: Vec<String> = text.lines().map(str::to_owned).collect();
    if let Some((Challenge::Bearer { realm, .. }, _)) = challenge(&lines) {
        same_host(&realm);
    }
    let (base, to) = text.split_once('\n').unwrap_or((&text, "/v2/"));
    same_host(base);
    let _ = document(Some(base), to, to.into(), Wanted::Tag("x"));
    match join(base, to) {
        Ok(url) => {
            same_host(&url);
            let authority = url.parse::<Uri>().ok().and_then(|u| u.authority().cloned());
            assert!(authority.is_some_and(|a| !a.host().is_empty() && !a.as_str().contains('@')));
            if to.starts_with('/') && !to.starts_with("//") {
                assert_eq!(same_origin(base, &url), same_origin(base, base), "{url}");
            }
        }
        Err(e) => one_line(&e),
    }
    let _ = next_page(base, to);
});
