//! A blob as it comes. What was cut goes on where it stopped.

use super::fault::{Fault, Reply};
use super::fetch::pull_scope;
use super::retry::Failures;
use super::transport::{Answer, Request};
use super::{OwnWaiting, Registry};
use crate::store::document::Descriptor;
use crate::store::error::Error;
use std::io::{ErrorKind, Read};
use ureq::BodyReader;
use ureq::http::header::{CONTENT_LENGTH, RANGE};

/// Reads a blob to the length that its descriptor gives; a cut connection is
/// made again. Who reads compares the digest.
pub struct BlobReader<'a> {
    registry: &'a Registry,
    repository: String,
    descriptor: Descriptor,
    waiting: OwnWaiting<'a>,
    body: Option<BodyReader<'static>>,
    /// Bytes that were handed on.
    at: u64,
    failures: Failures,
}

impl Registry {
    /// A blob from its beginning; nothing is asked before it is read.
    pub fn blob<'a>(
        &'a self,
        repository: &str,
        descriptor: &Descriptor,
        waiting: OwnWaiting<'a>,
    ) -> BlobReader<'a> {
        BlobReader {
            registry: self,
            repository: repository.to_owned(),
            descriptor: descriptor.clone(),
            waiting,
            body: None,
            at: 0,
            failures: Failures::default(),
        }
    }
}

impl BlobReader<'_> {
    /// Ask for what is missing.
    fn open(&self) -> Reply<BodyReader<'static>> {
        let scopes = [pull_scope(&self.repository)];
        let path = format!("{}/blobs/{}", self.repository, self.descriptor.digest);
        self.registry.read(|host, patience| {
            let mut request = Request::get(host.url(&path)?);
            if self.at > 0 {
                let from = format!("bytes={}-", self.at);
                request.headers.push((RANGE.as_str(), from));
            }
            self.accept(host.send(&request, &scopes, patience, &*self.waiting)?)
        })
    }

    /// The body of an answer, at the place where we are.
    fn accept(&self, answer: Answer) -> Reply<BodyReader<'static>> {
        let size = self.descriptor.size;
        let number = |name: &str| answer.header(name).and_then(|v| v.parse::<u64>().ok());
        if answer.status == 206 {
            if answer.part_begins() != Some(self.at) {
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
        let passed = std::io::copy(&mut (&mut body).take(self.at), &mut std::io::sink());
        match passed {
            Ok(n) if n == self.at => Ok(body),
            _ => Err(cut()),
        }
    }

    fn next(&mut self, buf: &mut [u8]) -> Reply<usize> {
        let body = match &mut self.body {
            Some(body) => body,
            None => {
                let body = self.open()?;
                self.body.insert(body)
            }
        };
        let left = self.descriptor.size - self.at;
        // One byte more than there may be, to notice it.
        let most = usize::try_from(left.saturating_add(1)).unwrap_or(usize::MAX);
        let len = buf.len().min(most.max(1));
        let n = loop {
            match body.read(buf.get_mut(..len).unwrap_or_default()) {
                Err(e) if e.kind() == ErrorKind::Interrupted => {}
                Err(e) if left > 0 => {
                    return Err(Fault::Connection {
                        text: format!("the download broke off: {e}"),
                        hopeless: false,
                    });
                }
                // Nothing is missing that could have come.
                Err(_) => break 0,
                Ok(n) => break n,
            }
        };
        match n as u64 {
            0 if left > 0 => Err(cut()),
            n if n > left => Err(Fault::invalid(format!(
                "the server sends more than the {} bytes of the descriptor",
                self.descriptor.size
            ))),
            _ => Ok(n),
        }
    }
}

fn cut() -> Fault {
    Fault::Connection {
        text: "the download broke off".to_owned(),
        hopeless: false,
    }
}

impl Read for BlobReader<'_> {
    fn read(&mut self, buf: &mut [u8]) -> std::io::Result<usize> {
        if buf.is_empty() {
            return Ok(0);
        }
        let about = |f: Fault, d: &Descriptor| -> std::io::Error {
            let error: Error = f.about(&format!("cannot get blob {}", d.digest));
            error.into()
        };
        loop {
            // The end was seen, or the body holds no more than it may.
            if self.at == self.descriptor.size && self.body.is_none() {
                return Ok(0);
            }
            match self.next(buf) {
                Ok(0) => {
                    self.body = None;
                    return Ok(0);
                }
                Ok(n) => {
                    self.at += n as u64;
                    self.failures.came(n);
                    return Ok(n);
                }
                Err(fault) => {
                    self.body = None;
                    self.failures
                        .pause(fault, &*self.waiting)
                        .map_err(|f| about(f, &self.descriptor))?;
                }
            }
        }
    }
}

impl std::fmt::Debug for BlobReader<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("BlobReader")
            .field("digest", &self.descriptor.digest)
            .field("at", &self.at)
            .finish_non_exhaustive()
    }
}
