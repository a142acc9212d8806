//! Writing: blobs and manifests. Only the registry itself is written to.

use super::auth::encode;
use super::fault::{Fault, Reply};
use super::fetch::pull_scope;
use super::retry::{Patience, pause, retry};
use super::transport::Request;
use super::{Registry, Waiting, in_silence};
use crate::store::Digest;
use crate::store::document::Descriptor;
use crate::store::error::{Context, Result};
use std::io::Read;
use ureq::http::Method;
use ureq::http::header::{CONTENT_RANGE, CONTENT_TYPE};

/// Bytes that are sent at once, unless the registry wants more.
const CHUNK: u64 = 8 << 20;
/// What it may want.
const MAX_CHUNK: u64 = 64 << 20;

/// What became of the wish to upload a blob.
#[derive(Debug)]
pub enum Begun {
    /// It is there now, taken from another repository.
    Mounted,
    /// It is to be sent there.
    Upload(Upload),
}

/// A place to send a blob to.
#[derive(Debug)]
pub struct Upload {
    location: String,
    chunk: u64,
}

/// The rights to read and write a repository.
pub fn push_scope(repository: &str) -> Vec<String> {
    vec![format!("repository:{repository}:pull,push")]
}

impl Registry {
    /// Ask for a place to send a blob to, or to take it from the repository
    /// `from`.
    ///
    /// # Errors
    /// When the registry does not allow it.
    pub fn begin(&self, repository: &str, digest: &Digest, from: Option<&str>) -> Result<Begun> {
        retry(Patience::Some, &in_silence, || {
            self.begin_once(repository, digest, from)
        })
        .map_err(|f| f.about(&format!("cannot write to {}/{repository}", self.name())))
    }

    fn begin_once(&self, repository: &str, digest: &Digest, from: Option<&str>) -> Reply<Begun> {
        let mut scopes = push_scope(repository);
        let mut path = format!("{repository}/blobs/uploads/");
        if let Some(from) = from {
            let digest = encode(&digest.to_string());
            path.push_str(&format!("?mount={digest}&from={}", encode(from)));
            scopes.push(pull_scope(from));
        }
        let request = Request::new(Method::POST, self.host.url(&path)?);
        let answer = self
            .host
            .send(&request, &scopes, Patience::None, &in_silence)?;
        if answer.status == 201 && from.is_some() {
            return Ok(Begun::Mounted);
        }
        let least = answer
            .header("oci-chunk-min-length")
            .and_then(|v| v.parse().ok())
            .unwrap_or(0);
        Ok(Begun::Upload(Upload {
            location: answer.location()?,
            chunk: CHUNK.max(least).min(MAX_CHUNK),
        }))
    }

    /// Give back a place that nothing is sent to.
    ///
    /// # Errors
    /// When the registry does not take it back.
    pub fn cancel(&self, repository: &str, upload: &Upload) -> Result<()> {
        let request = Request::new(Method::DELETE, upload.location.clone());
        let scopes = push_scope(repository);
        self.host
            .send(&request, &scopes, Patience::None, &in_silence)
            .map(drop)
            .map_err(|f| f.about("cannot end an upload"))
    }

    /// Send a blob; `open` gives its bytes, perhaps again. `sent` is told how
    /// many bytes have arrived.
    ///
    /// # Errors
    /// When the registry does not take it.
    pub fn upload(
        &self,
        repository: &str,
        upload: Upload,
        descriptor: &Descriptor,
        open: impl Fn() -> Result<Box<dyn Read>>,
        sent: &dyn Fn(u64),
        waiting: Waiting<'_>,
    ) -> Result<()> {
        let mut upload = Some(upload);
        let mut failed = 0;
        loop {
            let act = || {
                let upload = match upload.take() {
                    Some(upload) => upload,
                    None => match self.begin_once(repository, &descriptor.digest, None)? {
                        Begun::Upload(upload) => upload,
                        Begun::Mounted => return Ok(()),
                    },
                };
                self.send_blob(repository, upload, descriptor, open()?, sent)
            };
            let mut act = act;
            match act() {
                Ok(()) => return Ok(()),
                Err(fault) => {
                    failed += 1;
                    pause(fault, failed, waiting)
                        .map_err(|f| f.about(&format!("cannot send blob {}", descriptor.digest)))?;
                }
            }
        }
    }

    fn send_blob(
        &self,
        repository: &str,
        upload: Upload,
        descriptor: &Descriptor,
        mut source: Box<dyn Read>,
        sent: &dyn Fn(u64),
    ) -> Reply<()> {
        let scopes = push_scope(repository);
        let mut location = upload.location;
        let mut at = 0u64;
        let mut chunk = Vec::new();
        loop {
            chunk.clear();
            (&mut source)
                .take(upload.chunk)
                .read_to_end(&mut chunk)
                .context(|| "cannot read a blob".to_owned())?;
            let end = at + chunk.len() as u64;
            let last = end >= descriptor.size || chunk.is_empty();
            let (method, url) = if last {
                let joint = if location.contains('?') { '&' } else { '?' };
                let digest = encode(&descriptor.digest.to_string());
                (Method::PUT, format!("{location}{joint}digest={digest}"))
            } else {
                (Method::PATCH, location.clone())
            };
            let mut request = Request {
                body: &chunk,
                ..Request::new(method, url)
            };
            let kind = "application/octet-stream".to_owned();
            request.headers.push((CONTENT_TYPE.as_str(), kind));
            if !chunk.is_empty() {
                let range = format!("{at}-{}", end - 1);
                request.headers.push((CONTENT_RANGE.as_str(), range));
            }
            let answer = self
                .host
                .send(&request, &scopes, Patience::None, &in_silence)?;
            sent(end);
            if last {
                return Ok(());
            }
            location = answer.location()?;
            at = end;
        }
    }

    /// Write a manifest under a tag or under its digest.
    ///
    /// # Errors
    /// When the registry does not take it, or calls it something else.
    pub fn put_manifest(
        &self,
        repository: &str,
        name: &str,
        descriptor: &Descriptor,
        data: &[u8],
    ) -> Result<()> {
        let act = || {
            let path = format!("{repository}/manifests/{name}");
            let mut request = Request {
                body: data,
                ..Request::new(Method::PUT, self.host.url(&path)?)
            };
            let kind = descriptor.media_type.clone();
            request.headers.push((CONTENT_TYPE.as_str(), kind));
            let scopes = push_scope(repository);
            let answer = self
                .host
                .send(&request, &scopes, Patience::Some, &in_silence)?;
            match answer.header("docker-content-digest") {
                Some(said) if Digest::parse(said)? != descriptor.digest => {
                    Err(Fault::invalid("the registry stored another manifest"))
                }
                _ => Ok(()),
            }
        };
        act().map_err(|f| f.about(&format!("cannot write the manifest {repository}:{name}")))
    }
}
