//! What servers say, read: manifests, lists, tokens, refusals. No connection is
//! needed for that.

use crate::store::Digest;
use crate::store::document::{Descriptor, MANIFEST_TYPES, Top, parse, parse_top};
use crate::store::error::{Result, invalid, show};
use serde::Deserialize;
use std::time::{Duration, SystemTime};

/// How long a token lives that does not say.
const LIFETIME: u64 = 60;
/// No token is kept for longer.
const LONGEST: u64 = 1 << 24;

/// How a server wants to know us.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Challenge {
    /// By name and password.
    Basic,
    /// By a token.
    Bearer {
        /// The URL of who gives it.
        realm: String,
        /// What it is for there.
        service: String,
    },
}

/// The challenge that we answer best, and the scope it names.
pub fn challenge(values: &[String]) -> Option<(Challenge, String)> {
    let mut found = None;
    for value in values {
        for given in http_auth::parse_challenges(value).unwrap_or_default() {
            let param = |name: &str| {
                let value = given
                    .params
                    .iter()
                    .find(|(key, _)| key.eq_ignore_ascii_case(name));
                value.map(|(_, v)| v.to_unescaped())
            };
            if given.scheme.eq_ignore_ascii_case("bearer")
                && let Some(realm) = param("realm")
            {
                let bearer = Challenge::Bearer {
                    realm,
                    service: param("service").unwrap_or_default(),
                };
                return Some((bearer, param("scope").unwrap_or_default()));
            }
            if given.scheme.eq_ignore_ascii_case("basic") {
                found = Some((Challenge::Basic, String::new()));
            }
        }
    }
    found
}

/// What a token server gives.
#[derive(Debug)]
pub struct Token {
    /// What is sent to the registry.
    pub value: Option<String>,
    /// How long it is good.
    pub life: Duration,
    /// What gets other tokens, if it was asked for.
    pub refresh: Option<String>,
}

/// The answer of a token server. A token that could not stand in a header is
/// none.
///
/// # Errors
/// When it is none.
pub fn token(data: &[u8]) -> Result<Token> {
    #[derive(Deserialize)]
    struct Said {
        token: Option<String>,
        access_token: Option<String>,
        expires_in: Option<u64>,
        refresh_token: Option<String>,
    }
    let said: Said = parse(data, "answer of the token server")?;
    let value = said.token.or(said.access_token);
    Ok(Token {
        value: value.filter(|v| !v.is_empty() && v.bytes().all(|b| b.is_ascii_graphic())),
        life: Duration::from_secs(said.expires_in.unwrap_or(LIFETIME).min(LONGEST)),
        refresh: said.refresh_token.filter(|t| !t.is_empty()),
    })
}

/// What manifest is meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wanted<'a> {
    /// The one that has the tag now.
    Tag(&'a str),
    /// That one.
    Digest(Digest),
}

impl std::fmt::Display for Wanted<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Wanted::Tag(tag) => f.write_str(tag),
            Wanted::Digest(digest) => digest.fmt(f),
        }
    }
}

/// A manifest or an index as it came.
#[derive(Debug)]
pub struct Document {
    /// Its media type, digest and size.
    pub descriptor: Descriptor,
    /// Its bytes.
    pub data: Vec<u8>,
    /// The same, read.
    pub content: Top,
}

/// A manifest or an index. `said` is what the server calls it,
/// `media_type` what it says it is.
///
/// # Errors
/// When it is not what was asked for, not what the server calls it, or none.
pub fn document(
    said: Option<&str>,
    media_type: &str,
    data: Vec<u8>,
    wanted: Wanted<'_>,
) -> Result<Document> {
    let said = said.map(Digest::parse).transpose()?;
    let media_type = media_type.split(';').next().unwrap_or_default().trim();
    let digest = Digest::of(&data);
    let asked = match wanted {
        Wanted::Tag(_) => None,
        Wanted::Digest(digest) => Some(digest),
    };
    for expected in [said, asked].into_iter().flatten() {
        if expected != digest {
            return invalid(format!("the manifest has digest {digest}, not {expected}"));
        }
    }
    if is_first_schema(media_type, &data) {
        return invalid(
            "the image has a manifest of schema 1, which is not supported: it must be pushed anew by a newer program",
        );
    }
    let content = parse_top(&data)?;
    // Servers that know less call it anything; one that calls it another kind
    // of manifest would have two programs see two images.
    let own = content.media_type().to_owned();
    if MANIFEST_TYPES.contains(&media_type) && own != media_type {
        return invalid(format!(
            "the manifest calls itself {own}, the server calls it {media_type}"
        ));
    }
    let descriptor = Descriptor {
        media_type: own,
        digest,
        size: data.len() as u64,
        annotations: None,
        platform: None,
    };
    Ok(Document {
        descriptor,
        data,
        content,
    })
}

fn is_first_schema(media_type: &str, data: &[u8]) -> bool {
    #[derive(Deserialize)]
    struct Version {
        #[serde(rename = "schemaVersion")]
        schema: u32,
    }
    media_type.starts_with("application/vnd.docker.distribution.manifest.v1")
        || serde_json::from_slice::<Version>(data).is_ok_and(|v| v.schema == 1)
}

/// A part of a list of tags.
///
/// # Errors
/// When it is none.
pub fn tags(data: &[u8]) -> Result<Vec<String>> {
    #[derive(Deserialize)]
    struct Page {
        tags: Option<Vec<String>>,
    }
    Ok(parse::<Page>(data, "list of tags")?
        .tags
        .unwrap_or_default())
}

/// A part of a list of repositories.
///
/// # Errors
/// When it is none.
pub fn repositories(data: &[u8]) -> Result<Vec<String>> {
    #[derive(Deserialize)]
    struct Page {
        repositories: Option<Vec<String>>,
    }
    let page: Page = parse(data, "list of repositories")?;
    Ok(page.repositories.unwrap_or_default())
}

/// An image that was found.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct Hit {
    /// The repository, without the host.
    pub name: String,
    /// What its owner says of it.
    pub description: Option<String>,
    /// How many people like it.
    pub star_count: i64,
    /// Is it one of Docker Hub's own.
    pub is_official: bool,
}

/// The answer of an index that was searched.
///
/// # Errors
/// When it is none.
pub fn hits(data: &[u8]) -> Result<Vec<Hit>> {
    #[derive(Deserialize)]
    struct Found {
        results: Vec<Hit>,
    }
    Ok(parse::<Found>(data, "answer of the index")?.results)
}

#[derive(Deserialize)]
struct Errors {
    errors: Vec<OneError>,
}

#[derive(Deserialize)]
struct OneError {
    #[serde(default)]
    code: String,
    #[serde(default)]
    message: String,
}

/// What a server means that does not say why it does not let us in.
pub const UNAUTHORIZED: &str = "unauthorized: authentication required";

/// What a refusing server says, in one line: `manifest unknown: not known`.
pub fn refusal(status: u16, body: &[u8]) -> String {
    let says_nothing = || match status {
        401 => UNAUTHORIZED.to_owned(),
        _ => format!("the server answers {}", status_text(status)),
    };
    let Ok(Errors { errors }) = serde_json::from_slice::<Errors>(body) else {
        return says_nothing();
    };
    let one = |e: &OneError| {
        let code = e.code.to_lowercase().replace('_', " ");
        match (code.is_empty(), e.message.is_empty()) {
            (false, false) => format!("{code}: {}", e.message),
            (false, true) => code,
            _ => e.message.clone(),
        }
    };
    match errors.first() {
        Some(e) => show(one(e).as_bytes()),
        None => says_nothing(),
    }
}

fn status_text(status: u16) -> String {
    let name = ureq::http::StatusCode::from_u16(status)
        .ok()
        .and_then(|s| s.canonical_reason());
    match name {
        Some(name) => format!("{status} {name}"),
        None => status.to_string(),
    }
}

/// How long a server wants to be left alone: seconds, or a date, which counts
/// from the server's own `date` where it says one, as clocks differ.
pub fn retry_after(value: &str, date: Option<&str>) -> Option<Duration> {
    let value = value.trim();
    if !value.is_empty() && value.bytes().all(|b| b.is_ascii_digit()) {
        // More seconds than a number holds are a wish not to be asked again.
        return Some(Duration::from_secs(value.parse().unwrap_or(u64::MAX)));
    }
    let when = httpdate::parse_http_date(value).ok()?;
    let now = date.and_then(|d| httpdate::parse_http_date(d).ok());
    let now = now.unwrap_or_else(SystemTime::now);
    Some(when.duration_since(now).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn challenges_of_registries_are_understood() {
        let choose = |v: &[&str]| challenge(&v.iter().map(|v| (*v).to_owned()).collect::<Vec<_>>());
        let (bearer, scope) = choose(&[
            "Basic realm=\"x\"",
            "Bearer realm=\"https://t.example/token\",service=\"s\",scope=\"repository:a/b:pull,push\"",
        ])
        .unwrap();
        let realm = "https://t.example/token".to_owned();
        let service = "s".to_owned();
        assert_eq!(bearer, Challenge::Bearer { realm, service });
        assert_eq!(scope, "repository:a/b:pull,push");
        assert_eq!(choose(&["basic realm=x"]).unwrap().0, Challenge::Basic);
        assert!(choose(&["Negotiate", "Bearer", "\u{1}"]).is_none());
    }

    #[test]
    fn a_server_says_by_seconds_or_by_date_when_to_come_again() {
        let now = "Sun, 06 Nov 1994 08:49:37 GMT";
        for (value, seconds) in [
            ("7", Some(7)),
            (" 0 ", Some(0)),
            ("99999999999999999999", Some(u64::MAX)),
            ("Sun, 06 Nov 1994 08:50:07 GMT", Some(30)),
            ("Sunday, 06-Nov-94 08:50:07 GMT", Some(30)),
            ("Sun Nov  6 08:50:07 1994", Some(30)),
            // Gone by.
            ("Sat, 05 Nov 1994 08:49:37 GMT", Some(0)),
            ("", None),
            ("-1", None),
            ("1.5", None),
            ("soon", None),
            ("Sun, 32 Nov 1994 08:49:37 GMT", None),
        ] {
            let after = retry_after(value, Some(now));
            assert_eq!(after.map(|d| d.as_secs()), seconds, "{value}");
        }
        // Without a date of the server's, or with none that is one, ours counts.
        let soon = httpdate::fmt_http_date(SystemTime::now() + Duration::from_secs(60));
        for date in [None, Some("today")] {
            let after = retry_after(&soon, date).unwrap().as_secs();
            assert!((1..=60).contains(&after), "{after}");
        }
    }
}
