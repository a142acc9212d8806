//! One HTTP exchange: connection, time limits, redirects, bounds.

use super::address::{host_of, is_loopback, join, same_origin};
use super::answers::{refusal, retry_after};
use super::fault::{Fault, Reply};
use crate::store::error::show;
use std::io::{ErrorKind, Read};
use std::sync::OnceLock;
use std::time::Duration;
use ureq::http::header::{AUTHORIZATION, CONTENT_RANGE, DATE, LOCATION, RETRY_AFTER};
use ureq::http::{HeaderMap, Method};
use ureq::tls::{RootCerts, TlsConfig};
use ureq::{Agent, BodyReader};

/// Longest wait for a connection.
const CONNECT: Duration = Duration::from_secs(30);
/// Longest wait for any next byte, and for the head of an answer: a registry
/// moves a large blob to its place before it answers.
const IDLE: Duration = Duration::from_secs(120);
/// Redirects that are followed.
const MAX_REDIRECTS: usize = 5;
/// What is read of an error's text.
const MAX_ERROR: u64 = 64 << 10;

/// A request as it is sent, perhaps several times.
#[derive(Debug)]
pub(super) struct Request<'a> {
    pub method: Method,
    pub url: String,
    pub headers: Vec<(&'static str, String)>,
    /// What it carries; for `POST`, `PUT` and `PATCH`.
    pub body: &'a [u8],
}

impl Request<'_> {
    /// A `GET` without more.
    pub fn get(url: String) -> Request<'static> {
        Request::new(Method::GET, url)
    }

    /// A request without a body.
    pub fn new(method: Method, url: String) -> Request<'static> {
        Request {
            method,
            url,
            headers: Vec::new(),
            body: &[],
        }
    }
}

/// A server's answer, its body still to be read.
pub(super) struct Answer {
    pub status: u16,
    pub headers: HeaderMap,
    /// Where it came from in the end.
    pub url: String,
    body: BodyReader<'static>,
}

impl Answer {
    /// A header that is there once and is text.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }

    /// Only if the server did as asked.
    pub fn checked(self) -> Reply<Answer> {
        if (200..300).contains(&self.status) {
            return Ok(self);
        }
        let after = self
            .header(RETRY_AFTER.as_str())
            .and_then(|v| retry_after(v, self.header(DATE.as_str())));
        let status = self.status;
        let mut body = Vec::new();
        // A text that cannot be read is as good as none.
        let _ = self.body.take(MAX_ERROR).read_to_end(&mut body);
        Err(Fault::Status {
            status,
            text: refusal(status, &body),
            after,
        })
    }

    /// Where the part of a file that it holds begins; none for a whole file.
    pub fn part_begins(&self) -> Option<u64> {
        if self.status != 206 {
            return None;
        }
        let range = self.header(CONTENT_RANGE.as_str())?;
        range
            .strip_prefix("bytes ")?
            .split('-')
            .next()?
            .parse()
            .ok()
    }

    /// The whole body, of at most `max` bytes.
    pub fn bytes(self, max: u64) -> Reply<Vec<u8>> {
        let mut data = Vec::new();
        let read = self.body.take(max + 1).read_to_end(&mut data);
        read.map_err(|e| Fault::Connection {
            text: format!("{}: the answer broke off: {e}", host_of(&self.url)),
            hopeless: false,
            tls: false,
        })?;
        if data.len() as u64 > max {
            return Err(Fault::invalid(format!(
                "{} answers with more than {max} bytes",
                host_of(&self.url)
            )));
        }
        Ok(data)
    }

    /// The body, for who bounds it himself.
    pub fn into_body(self) -> BodyReader<'static> {
        self.body
    }

    /// Where `Location` leads, as a whole URL; never from TLS to none.
    pub fn location(&self) -> Reply<String> {
        let Some(to) = self.header(LOCATION.as_str()) else {
            return Err(Fault::invalid(format!(
                "{} gives no location",
                host_of(&self.url)
            )));
        };
        let next = join(&self.url, to)?;
        if self.url.starts_with("https://") && !next.starts_with("https://") {
            return Err(Fault::invalid(format!(
                "{} leads to {} without TLS, which is not followed",
                host_of(&self.url),
                host_of(&next)
            )));
        }
        Ok(next)
    }
}

/// Connections to servers.
pub(super) struct Transport {
    /// Plain HTTP may leave this machine.
    insecure: bool,
}

impl Transport {
    pub fn new(insecure: bool) -> Transport {
        Transport { insecure }
    }

    /// Send a request and follow redirects of reading ones. `key` is the value
    /// of `Authorization`; only the host of the request's own URL sees it.
    pub fn exchange(&self, request: &Request<'_>, key: Option<&str>) -> Reply<Answer> {
        let mut url = request.url.clone();
        let mut key = key;
        for _ in 0..=MAX_REDIRECTS {
            let answer = self.once(request, &url, key)?;
            let reading = matches!(request.method, Method::GET | Method::HEAD);
            if !reading || !matches!(answer.status, 301 | 302 | 303 | 307 | 308) {
                return Ok(answer);
            }
            let next = answer.location()?;
            if !same_origin(&url, &next) {
                key = None;
            }
            url = next;
        }
        Err(Fault::invalid(format!(
            "{} redirects more than {MAX_REDIRECTS} times",
            host_of(&request.url)
        )))
    }

    fn once(&self, request: &Request<'_>, url: &str, key: Option<&str>) -> Reply<Answer> {
        let host = host_of(url);
        if !url.starts_with("https://") && !self.insecure && !is_loopback(&host) {
            return Err(Fault::invalid(format!(
                "{host} would be spoken to without TLS: --insecure allows it"
            )));
        }
        let mut builder = ureq::http::Request::builder()
            .method(request.method.clone())
            .uri(url);
        for (name, value) in &request.headers {
            builder = builder.header(*name, value);
        }
        if let Some(key) = key {
            builder = builder.header(AUTHORIZATION, key);
        }
        let bad = |e: ureq::http::Error| Fault::invalid(format!("{host}: bad request: {e}"));
        let agent = agent(is_loopback(&host));
        let sends = matches!(request.method, Method::POST | Method::PUT | Method::PATCH);
        let done = if sends {
            agent.run(builder.body(request.body).map_err(bad)?)
        } else {
            agent.run(builder.body(()).map_err(bad)?)
        };
        let response = done.map_err(|e| lost(&host, &e))?;
        let (parts, body) = response.into_parts();
        Ok(Answer {
            status: parts.status.as_u16(),
            headers: parts.headers,
            url: url.to_owned(),
            body: body.into_reader(),
        })
    }
}

/// Connections are shared by all of the process; those to this machine use no
/// proxy.
fn agent(loopback: bool) -> &'static Agent {
    static OUTWARDS: OnceLock<Agent> = OnceLock::new();
    static INWARDS: OnceLock<Agent> = OnceLock::new();
    let make = || {
        let tls = TlsConfig::builder()
            .root_certs(RootCerts::PlatformVerifier)
            .build();
        let config = Agent::config_builder()
            .http_status_as_error(false)
            .max_redirects(0)
            .tls_config(tls)
            .user_agent(concat!("capas/", env!("CARGO_PKG_VERSION")))
            .timeout_connect(Some(CONNECT))
            .timeout_resolve(Some(CONNECT))
            .timeout_per_read(Some(IDLE))
            .timeout_per_write(Some(IDLE))
            .timeout_recv_response(Some(IDLE))
            .max_idle_connections_per_host(8);
        if loopback { config.proxy(None) } else { config }
            .build()
            .new_agent()
    };
    if loopback {
        INWARDS.get_or_init(make)
    } else {
        OUTWARDS.get_or_init(make)
    }
}

/// How errors of resolving a name begin, and those that are none of the name.
const LOOKUP: &str = "failed to lookup address information: ";
const PASSING: [&str; 3] = ["Temporary failure", "Try again", "System error"];

fn no_such_host(host: &str) -> Fault {
    Fault::Connection {
        text: format!("cannot reach {host}: no such host"),
        hopeless: true,
        tls: false,
    }
}

/// A failed exchange as a fault.
fn lost(host: &str, e: &ureq::Error) -> Fault {
    let mut tls = false;
    let (text, hopeless) = match e {
        ureq::Error::HostNotFound => return no_such_host(host),
        ureq::Error::Timeout(_) => ("no answer in time".to_owned(), false),
        ureq::Error::Io(e) if e.kind() == ErrorKind::ConnectionRefused => {
            ("connection refused".to_owned(), true)
        }
        ureq::Error::Tls(_) | ureq::Error::Rustls(_) => (e.to_string(), true),
        // What rustls does not like comes as an error of reading.
        ureq::Error::Io(io) if io.to_string().contains("corrupt message") => (
            "it does not speak TLS (--insecure allows that)".to_owned(),
            true,
        ),
        ureq::Error::Io(io) => {
            tls = io.kind() == ErrorKind::InvalidData;
            let text = io.to_string();
            if let Some(why) = text.strip_prefix(LOOKUP)
                && !PASSING.iter().any(|p| why.starts_with(p))
            {
                return no_such_host(host);
            }
            match text.strip_prefix("invalid peer certificate: ") {
                Some(why) => (
                    format!(
                        "its certificate is not believed: {why} (authorities are the machine's, or those in the file that SSL_CERT_FILE names)"
                    ),
                    true,
                ),
                None => (e.to_string(), tls),
            }
        }
        ureq::Error::Http(_) | ureq::Error::BadUri(_) | ureq::Error::InvalidProxyUrl => {
            (e.to_string(), true)
        }
        _ => (e.to_string(), false),
    };
    Fault::Connection {
        text: format!("cannot reach {host}: {}", show(text.as_bytes())),
        hopeless,
        tls,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_http_does_not_leave_the_machine_unasked() {
        let url = "http://192.0.2.1/v2/".to_owned();
        let fault = Transport::new(false).exchange(&Request::get(url), None);
        let text = fault.err().unwrap().to_string();
        assert!(text.contains("without TLS"), "{text}");
    }
}
