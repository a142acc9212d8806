//! A file by its URL, with the care that registries are treated with.

use super::OwnWaiting;
use super::address::host_of;
use super::fault::{Fault, Reply};
use super::resume::Resumed;
use super::retry::{Patience, retry};
use super::transport::{Answer, Request, Transport};
use crate::store::error::{Result, invalid};
use std::io::Read;
use ureq::BodyReader;
use ureq::http::Uri;
use ureq::http::header::{CONTENT_LENGTH, ETAG, IF_RANGE, LAST_MODIFIED, RANGE};

/// A file that comes from a server. Where the server says which version of the
/// file it sends, a cut connection is made again and goes on where it stopped.
pub struct Download {
    place: Place,
    /// How large the file is, if the server says it.
    pub size: Option<u64>,
    /// When it was changed last, in seconds since 1970, if the server says it.
    pub changed: Option<i64>,
    body: Resumed<'static>,
}

/// Where a file is.
struct Place {
    transport: Transport,
    url: String,
    /// What the server calls this version of the file.
    version: String,
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
    let size = length(&answer);
    let changed = answer.header(LAST_MODIFIED.as_str()).and_then(|text| {
        let when = httpdate::parse_http_date(text).ok()?;
        let since = when.duration_since(std::time::UNIX_EPOCH).ok()?;
        i64::try_from(since.as_secs()).ok()
    });
    let version = version.unwrap_or_default().to_owned();
    let body = answer.into_body();
    let body = match version.is_empty() {
        true => Resumed::once(body, size, waiting),
        false => Resumed::new(Some(body), size, waiting),
    };
    Ok(Download {
        size,
        changed,
        place: Place {
            transport,
            url: url.to_owned(),
            version,
        },
        body,
    })
}

fn length(answer: &Answer) -> Option<u64> {
    answer.header(CONTENT_LENGTH.as_str())?.parse().ok()
}

fn about(fault: Fault, url: &str) -> crate::store::Error {
    fault.about(&format!("cannot get a file of {}", host_of(url)))
}

impl Place {
    /// Ask for the rest of the same version.
    fn go_on(&self, at: u64) -> Reply<BodyReader<'static>> {
        let mut request = Request::get(self.url.clone());
        request
            .headers
            .push((RANGE.as_str(), format!("bytes={at}-")));
        request
            .headers
            .push((IF_RANGE.as_str(), self.version.clone()));
        let answer = self.transport.exchange(&request, None)?.checked()?;
        match answer.part_begins() == Some(at) {
            true => Ok(answer.into_body()),
            false => Err(Fault::invalid(
                "the download broke off, and the server does not send the rest of the same file",
            )),
        }
    }
}

impl Read for Download {
    fn read(&mut self, buf: &mut [u8]) -> std::io::Result<usize> {
        let place = &self.place;
        let read = self.body.read(buf, |at| place.go_on(at));
        Ok(read.map_err(|f| about(f, &place.url))?)
    }
}

impl std::fmt::Debug for Download {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Download")
            .field("at", &self.body.at())
            .field("size", &self.size)
            .finish_non_exhaustive()
    }
}
