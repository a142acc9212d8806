//! A blob as it comes. What was cut goes on where it stopped.

use super::fault::{Fault, Reply};
use super::fetch::pull_scope;
use super::resume::{Resumed, cut};
use super::transport::{Answer, Request};
use super::{OwnWaiting, Patience, Registry, in_silence};
use crate::store::document::Descriptor;
use std::io::Read;
use ureq::BodyReader;
use ureq::http::header::{CONTENT_LENGTH, RANGE};

/// Reads a blob to the length that its descriptor gives; a cut connection is
/// made again. Who reads compares the digest.
pub struct BlobReader<'a> {
    place: Place<'a>,
    body: Resumed<'a>,
}

/// Where a blob is.
struct Place<'a> {
    registry: &'a Registry,
    repository: String,
    descriptor: Descriptor,
    /// Mirrors that are not asked.
    passed: usize,
}

impl Registry {
    /// A blob from its beginning; nothing is asked before it is read. The first
    /// `passed` mirrors are not asked.
    pub fn blob<'a>(
        &'a self,
        repository: &str,
        descriptor: &Descriptor,
        passed: usize,
        waiting: OwnWaiting<'a>,
    ) -> BlobReader<'a> {
        BlobReader {
            place: Place {
                registry: self,
                repository: repository.to_owned(),
                descriptor: descriptor.clone(),
                passed,
            },
            body: Resumed::new(None, Some(descriptor.size), waiting),
        }
    }
}

impl Place<'_> {
    /// Ask for what is missing, once: who reads counts the failures.
    fn open(&self, at: u64) -> Reply<BodyReader<'static>> {
        let scopes = [pull_scope(&self.repository)];
        let path = format!("{}/blobs/{}", self.repository, self.descriptor.digest);
        self.registry.read(self.passed, |host, _| {
            let mut request = Request::get(host.url(&path)?);
            if at > 0 {
                let from = format!("bytes={at}-");
                request.headers.push((RANGE.as_str(), from));
            }
            let answer = host.send(&request, &scopes, Patience::None, &in_silence)?;
            self.accept(answer, at)
        })
    }

    /// The body of an answer, at the place where we are.
    fn accept(&self, answer: Answer, at: u64) -> Reply<BodyReader<'static>> {
        let size = self.descriptor.size;
        let number = |name: &str| answer.header(name).and_then(|v| v.parse::<u64>().ok());
        if answer.status == 206 {
            if answer.part_begins() != Some(at) {
                return Err(Fault::invalid(
                    "the server sends another part than was asked for",
                ));
            }
            return Ok(answer.into_body());
        }
        if let Some(length) = number(CONTENT_LENGTH.as_str())
            && length != size
        {
            return Err(Fault::invalid(format!(
                "the server sends {length} bytes, the descriptor says {size}"
            )));
        }
        // It knows no parts and begins anew. What we had once is passed over;
        // if it is not the same again, the digest will tell.
        let mut body = answer.into_body();
        let passed = std::io::copy(&mut (&mut body).take(at), &mut std::io::sink());
        match passed {
            Ok(n) if n == at => Ok(body),
            _ => Err(cut("")),
        }
    }
}

impl Read for BlobReader<'_> {
    fn read(&mut self, buf: &mut [u8]) -> std::io::Result<usize> {
        let place = &self.place;
        let read = self.body.read(buf, |at| place.open(at));
        let digest = place.descriptor.digest;
        Ok(read.map_err(|f| f.about(&format!("cannot get blob {digest}")))?)
    }
}

impl std::fmt::Debug for BlobReader<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("BlobReader")
            .field("digest", &self.place.descriptor.digest)
            .field("at", &self.body.at())
            .finish_non_exhaustive()
    }
}
