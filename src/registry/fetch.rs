//! Reading: manifests, small blobs, lists.

use super::auth::encode;
use super::fault::{Fault, Reply};
use super::transport::{Answer, Request, join, same_origin};
use super::{Host, OwnWaiting, Registry, Waiting};
use crate::store::Digest;
use crate::store::document::{Descriptor, MANIFEST_TYPES, MAX_MANIFEST, Top, parse, parse_top};
use crate::store::error::{Context, Result, invalid};
use serde::Deserialize;
use ureq::http::Method;
use ureq::http::header::{ACCEPT, CONTENT_TYPE, LINK};

/// A list has no more parts.
const MAX_PAGES: usize = 10_000;
/// Nor does it name more.
const MAX_NAMES: usize = 1_000_000;
/// A part of a list is not larger.
const MAX_PAGE: u64 = 16 << 20;

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

/// The right to read a repository.
pub(super) fn pull_scope(repository: &str) -> String {
    format!("repository:{repository}:pull")
}

impl Registry {
    /// A manifest or an index.
    ///
    /// # Errors
    /// When it is not there, not what was asked for, or no manifest.
    pub fn manifest(
        &self,
        repository: &str,
        wanted: Wanted<'_>,
        waiting: Waiting<'_>,
    ) -> Result<Document> {
        let scopes = [pull_scope(repository)];
        self.read(|host, patience| {
            let request = manifest_request(host, Method::GET, repository, wanted)?;
            document(host.send(&request, &scopes, patience, waiting)?, wanted)
        })
        .map_err(|f| {
            let called = self.called(repository, wanted);
            let what = match f.status() {
                Some(404) => format!("manifest for {called} not found"),
                _ => format!("cannot pull {called}"),
            };
            f.about(&what)
        })
    }

    /// The digest of a manifest, as the server says without sending it; none if
    /// it has none or does not say.
    ///
    /// # Errors
    /// When the server cannot be asked.
    pub fn manifest_digest(&self, repository: &str, wanted: Wanted<'_>) -> Result<Option<Digest>> {
        let scopes = [pull_scope(repository)];
        let found = self.read(|host, patience| {
            let request = manifest_request(host, Method::HEAD, repository, wanted)?;
            let answer = host.send(&request, &scopes, patience, &super::in_silence)?;
            Ok(said_digest(&answer)?)
        });
        match found {
            Err(fault) if fault.status() == Some(404) => Ok(None),
            other => other.map_err(|f| f.about(&self.called(repository, wanted))),
        }
    }

    /// A blob that is read whole into memory.
    ///
    /// # Errors
    /// When it is not there, not what its descriptor says, or larger than `max`.
    pub fn small_blob(
        &self,
        repository: &str,
        descriptor: &Descriptor,
        max: u64,
        waiting: OwnWaiting<'_>,
    ) -> Result<Vec<u8>> {
        if descriptor.size > max {
            return invalid(format!(
                "blob {} has {} bytes, more than {max}",
                descriptor.digest, descriptor.size
            ));
        }
        let mut data = Vec::new();
        let mut reader = self.blob(repository, descriptor, waiting);
        std::io::Read::read_to_end(&mut reader, &mut data)
            .context(|| "cannot read a blob".to_owned())?;
        let digest = Digest::of(&data);
        if digest != descriptor.digest {
            return invalid(format!("blob {} has digest {digest}", descriptor.digest));
        }
        Ok(data)
    }

    /// Has the registry itself a blob in that repository.
    ///
    /// # Errors
    /// When it cannot be asked.
    pub fn has_blob(&self, repository: &str, digest: &Digest, scopes: &[String]) -> Result<bool> {
        let act = || {
            let url = self.host.url(&format!("{repository}/blobs/{digest}"))?;
            let request = Request::new(Method::HEAD, url);
            let patience = super::Patience::Some;
            self.host
                .send(&request, scopes, patience, &super::in_silence)
        };
        match act() {
            Ok(_) => Ok(true),
            Err(fault) if fault.status() == Some(404) => Ok(false),
            Err(fault) => Err(fault.about(&format!("cannot look for blob {digest}"))),
        }
    }

    /// All tags of a repository.
    ///
    /// # Errors
    /// When there is no such repository, or the answer is bad.
    pub fn tags(&self, repository: &str) -> Result<Vec<String>> {
        #[derive(Deserialize)]
        struct Page {
            tags: Option<Vec<String>>,
        }
        let scopes = [pull_scope(repository)];
        self.pages(&format!("{repository}/tags/list"), &scopes, |data| {
            Ok(parse::<Page>(data, "list of tags")?.tags)
        })
        .map_err(|f| {
            f.about(&format!(
                "cannot list the tags of {}/{repository}",
                self.name()
            ))
        })
    }

    /// All repositories, where the registry lists them.
    ///
    /// # Errors
    /// When it does not.
    pub fn catalog(&self) -> Result<Vec<String>> {
        #[derive(Deserialize)]
        struct Page {
            repositories: Option<Vec<String>>,
        }
        let scopes = ["registry:catalog:*".to_owned()];
        self.pages("_catalog", &scopes, |data| {
            Ok(parse::<Page>(data, "list of repositories")?.repositories)
        })
        .map_err(|f| f.about(&format!("cannot list the repositories of {}", self.name())))
    }

    fn called(&self, repository: &str, wanted: Wanted<'_>) -> String {
        let joint = match wanted {
            Wanted::Tag(_) => ':',
            Wanted::Digest(_) => '@',
        };
        format!("{}/{repository}{joint}{wanted}", self.name())
    }

    /// A list in parts, each of which says where the next is.
    fn pages(
        &self,
        path: &str,
        scopes: &[String],
        names: impl Fn(&[u8]) -> Result<Option<Vec<String>>>,
    ) -> Reply<Vec<String>> {
        let first = self.host.url(path)?;
        let mut url = first.clone();
        let mut all = Vec::new();
        for _ in 0..MAX_PAGES {
            let request = Request::get(url);
            let patience = super::Patience::Some;
            let answer = self
                .host
                .send(&request, scopes, patience, &super::in_silence)?;
            let next = next_page(&answer)?;
            all.extend(names(&answer.bytes(MAX_PAGE)?)?.unwrap_or_default());
            match next {
                None => return Ok(all),
                Some(next) if same_origin(&first, &next) => url = next,
                Some(_) => return Err(Fault::invalid("the list goes on at another host")),
            }
            if all.len() > MAX_NAMES {
                break;
            }
        }
        Err(Fault::invalid("the list has no end"))
    }
}

/// Where a list goes on: `Link: </v2/…>; rel="next"`.
fn next_page(answer: &Answer) -> Reply<Option<String>> {
    let Some(link) = answer.header(LINK.as_str()) else {
        return Ok(None);
    };
    let parts = link.strip_prefix('<').and_then(|l| l.split_once('>'));
    match parts {
        Some((to, rest)) if rest.contains("next") => join(&answer.url, to).map(Some),
        _ => Ok(None),
    }
}

fn manifest_request(
    host: &Host,
    method: Method,
    repository: &str,
    wanted: Wanted<'_>,
) -> Reply<Request<'static>> {
    let url = host.url(&format!(
        "{repository}/manifests/{}",
        match wanted {
            Wanted::Tag(tag) => encode(tag),
            Wanted::Digest(digest) => digest.to_string(),
        }
    ))?;
    let mut request = Request::new(method, url);
    request
        .headers
        .push((ACCEPT.as_str(), MANIFEST_TYPES.join(", ")));
    Ok(request)
}

/// What the server calls what it sends.
fn said_digest(answer: &Answer) -> Result<Option<Digest>> {
    match answer.header("docker-content-digest") {
        Some(text) => Digest::parse(text).map(Some),
        None => Ok(None),
    }
}

fn document(answer: Answer, wanted: Wanted<'_>) -> Reply<Document> {
    let said = said_digest(&answer)?;
    let media_type = answer
        .header(CONTENT_TYPE.as_str())
        .and_then(|t| t.split(';').next())
        .unwrap_or_default()
        .trim()
        .to_owned();
    let data = answer.bytes(MAX_MANIFEST)?;
    let digest = Digest::of(&data);
    let asked = match wanted {
        Wanted::Tag(_) => None,
        Wanted::Digest(digest) => Some(digest),
    };
    for expected in [said, asked].into_iter().flatten() {
        if expected != digest {
            return Err(Fault::invalid(format!(
                "the manifest has digest {digest}, not {expected}"
            )));
        }
    }
    if is_first_schema(&media_type, &data) {
        return Err(Fault::invalid(
            "the image has a manifest of schema 1, which is not supported: it must be pushed anew by a newer program",
        ));
    }
    let content = parse_top(&data)?;
    // Servers that know less call it anything; one that calls it another kind
    // of manifest would have two programs see two images.
    let own = content.media_type().to_owned();
    if MANIFEST_TYPES.contains(&media_type.as_str()) && own != media_type {
        return Err(Fault::invalid(format!(
            "the manifest calls itself {own}, the server calls it {media_type}"
        )));
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
