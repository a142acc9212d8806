//! A file by its URL, with the care that registries are treated with.

use super::OwnWaiting;
use super::address::host_of;
use super::fault::{Fault, Reply};
use super::retry::{Failures, Patience, retry};
use super::transport::{Answer, Request, Transport};
use crate::store::error::{Result, invalid};
use std::io::{ErrorKind, Read};
use ureq::BodyReader;
use ureq::http::Uri;
use ureq::http::header::{CONTENT_LENGTH, ETAG, IF_RANGE, LAST_MODIFIED, RANGE};

/// A file that comes from a server. Where the server says which version of the
/// file it sends, a cut connection is made again and goes on where it stopped.
pub struct Download {
    transport: Transport,
    url: String,
    /// How large the file is, if the server says it.
    pub size: Option<u64>,
    /// What the server calls this version of the file.
    version: Option<String>,
    body: Option<BodyReader<'static>>,
    /// Bytes that were handed on.
    at: u64,
    failures: Failures,
    waiting: OwnWaiting<'static>,
}

/// Ask for the file at `url`; plain HTTP is spoken to other machines only if
/// `insecure`.
///
/// # Errors
/// For what is no URL of a file, and when the server does not give it.
pub fn download(url: &str, insecure: bool, waiting: OwnWaiting<'static>) -> Result<Download> {
    let named = url.parse::<Uri>().ok().and_then(|uri| {
        let authority = uri.authority()?.as_str();
        (!uri.host()?.is_empty()).then(|| authority.contains('@'))
    });
    match named {
        None => return invalid(format!("bad URL of {}", host_of(url))),
        Some(true) => {
            return invalid(
                "a URL with a name or a password in it is not used: get the file by another program and give \"-\"",
            );
        }
        Some(false) => {}
    }
    let transport = Transport::new(insecure);
    let first = || {
        transport
            .exchange(&Request::get(url.to_owned()), None)?
            .checked()
    };
    let answer = retry(Patience::Some, &*waiting, first).map_err(|f| about(f, url))?;
    let etag = answer.header(ETAG.as_str());
    let version = etag.filter(|tag| !tag.starts_with("W/"));
    let version = version.or(answer.header(LAST_MODIFIED.as_str()));
    Ok(Download {
        size: length(&answer),
        version: version.map(str::to_owned),
        transport,
        url: url.to_owned(),
        body: Some(answer.into_body()),
        at: 0,
        failures: Failures::default(),
        waiting,
    })
}

fn length(answer: &Answer) -> Option<u64> {
    answer.header(CONTENT_LENGTH.as_str())?.parse().ok()
}

fn about(fault: Fault, url: &str) -> crate::store::Error {
    fault.about(&format!("cannot get a file of {}", host_of(url)))
}

impl Download {
    /// Ask for the rest of the same version.
    fn go_on(&self, version: &str) -> Reply<BodyReader<'static>> {
        let mut request = Request::get(self.url.clone());
        let from = format!("bytes={}-", self.at);
        request.headers.push((RANGE.as_str(), from));
        request
            .headers
            .push((IF_RANGE.as_str(), version.to_owned()));
        let answer = self.transport.exchange(&request, None)?.checked()?;
        match answer.part_begins() {
            Some(at) if at == self.at => Ok(answer.into_body()),
            _ => Err(Fault::invalid(
                "the download broke off, and the server does not send the rest of the same file",
            )),
        }
    }

    fn next(&mut self, buf: &mut [u8]) -> Reply<usize> {
        let body = match (&mut self.body, &self.version) {
            (Some(body), _) => body,
            (None, Some(version)) => {
                let body = self.go_on(version)?;
                self.body.insert(body)
            }
            (None, None) => return Err(Fault::invalid("the download broke off")),
        };
        loop {
            match body.read(buf) {
                Err(e) if e.kind() == ErrorKind::Interrupted => {}
                Ok(0) if self.size.is_some_and(|size| self.at < size) => break,
                Ok(n) => return Ok(n),
                Err(_) => break,
            }
        }
        Err(Fault::Connection {
            text: "the download broke off".to_owned(),
            hopeless: false,
        })
    }
}

impl Read for Download {
    fn read(&mut self, buf: &mut [u8]) -> std::io::Result<usize> {
        if buf.is_empty() {
            return Ok(0);
        }
        loop {
            match self.next(buf) {
                Ok(n) => {
                    self.at += n as u64;
                    self.failures.came(n);
                    return Ok(n);
                }
                Err(fault) => {
                    self.body = None;
                    self.failures
                        .pause(fault, &*self.waiting)
                        .map_err(|f| about(f, &self.url))?;
                }
            }
        }
    }
}

impl std::fmt::Debug for Download {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Download")
            .field("at", &self.at)
            .field("size", &self.size)
            .finish_non_exhaustive()
    }
}
