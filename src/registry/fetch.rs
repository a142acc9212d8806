//! Reading: manifests, small blobs, lists.

use super::address::{next_page, same_origin};
use super::answers::{Document, Wanted, document, repositories, tags};
use super::auth::encode;
use super::fault::{Fault, Reply};
use super::transport::Request;
use super::{Host, OwnWaiting, Registry, Waiting};
use crate::store::Digest;
use crate::store::document::{Descriptor, MANIFEST_TYPES, MAX_MANIFEST};
use crate::store::error::{Context, Result, invalid};
use ureq::http::Method;
use ureq::http::header::{ACCEPT, CONTENT_TYPE, LINK};

/// A list has no more parts.
const MAX_PAGES: usize = 10_000;
/// Nor does it name more.
const MAX_NAMES: usize = 1_000_000;
/// Nor is it larger.
const MAX_LIST: u64 = 64 << 20;
/// A part of a list is not larger.
const MAX_PAGE: u64 = 16 << 20;

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
        self.read(0, |host, patience| {
            let request = manifest_request(host, Method::GET, repository, wanted)?;
            let answer = host.send(&request, &scopes, patience, waiting)?;
            let header = |name: &str| answer.header(name).map(str::to_owned);
            let said = header("docker-content-digest");
            let media_type = header(CONTENT_TYPE.as_str()).unwrap_or_default();
            let data = answer.bytes(MAX_MANIFEST)?;
            Ok(document(said.as_deref(), &media_type, data, wanted)?)
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
        let read = |mirror: usize| -> Result<Vec<u8>> {
            let mut data = Vec::new();
            let own = Box::new(&waiting);
            let mut reader = self.blob(repository, descriptor, mirror, own);
            std::io::Read::read_to_end(&mut reader, &mut data)
                .context(|| "cannot read a blob".to_owned())?;
            let digest = Digest::of(&data);
            if digest != descriptor.digest {
                return invalid(format!("blob {} has digest {digest}", descriptor.digest));
            }
            Ok(data)
        };
        for mirror in 0..self.mirrors.len() {
            match read(mirror) {
                Ok(data) => return Ok(data),
                Err(e) => log::debug!("a mirror of {}: {e}", self.name()),
            }
        }
        read(self.mirrors.len())
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
        let scopes = [pull_scope(repository)];
        self.pages(&format!("{repository}/tags/list"), &scopes, tags)
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
        let scopes = ["registry:catalog:*".to_owned()];
        self.pages("_catalog", &scopes, repositories)
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
        names: impl Fn(&[u8]) -> Result<Vec<String>>,
    ) -> Reply<Vec<String>> {
        let first = self.host.url(path)?;
        let mut url = first.clone();
        let mut all = Vec::new();
        let mut left = MAX_LIST;
        for _ in 0..MAX_PAGES {
            let request = Request::get(url);
            let patience = super::Patience::Some;
            let answer = self
                .host
                .send(&request, scopes, patience, &super::in_silence)?;
            let next = match answer.header(LINK.as_str()) {
                Some(link) => next_page(&answer.url, link)?,
                None => None,
            };
            let page = answer.bytes(MAX_PAGE)?;
            let Some(rest) = left.checked_sub(page.len() as u64) else {
                break;
            };
            left = rest;
            all.extend(names(&page)?);
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
