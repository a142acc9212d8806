//! Where a registry is, and whether it may be spoken to without TLS.

use super::address::{address_of, is_loopback};
use super::fault::{Fault, Reply};
use super::transport::{Request, Transport};
use crate::config::RegistryConfig;
use crate::store::error::{Result, invalid, show};
use crate::store::reference::host_and_port;
use std::net::Ipv6Addr;
use std::sync::OnceLock;

/// Docker's registry has another host than its names.
const DOCKER: (&str, &str) = ("docker.io", "registry-1.docker.io");

/// What is spoken to a host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Speech {
    Tls,
    Plain,
    /// TLS, and plain HTTP if there is none.
    Either,
}

/// A host of the API.
#[derive(Debug)]
pub(super) struct Endpoint {
    /// As in image names.
    name: String,
    /// `host[:port]`.
    authority: String,
    speech: Speech,
    origin: OnceLock<String>,
}

impl Endpoint {
    /// The host that image names call `name`.
    pub fn of(name: &str, insecure: bool, config: Option<&RegistryConfig>) -> Result<Endpoint> {
        let authority = if name == DOCKER.0 { DOCKER.1 } else { name };
        check_authority(authority)?;
        let configured = config.and_then(|c| c.insecure);
        let speech = match insecure || configured.unwrap_or_else(|| is_loopback(authority)) {
            true => Speech::Either,
            false => Speech::Tls,
        };
        Ok(Endpoint::new(name, authority, speech))
    }

    /// A mirror by its URL.
    pub fn mirror(url: &str) -> Result<Endpoint> {
        let trimmed = url.trim_end_matches('/');
        let (speech, authority) = match trimmed.split_once("://") {
            Some(("https", authority)) => (Speech::Tls, authority),
            Some(("http", authority)) => (Speech::Plain, authority),
            _ => {
                return invalid(format!(
                    "bad mirror \"{}\" in the configuration: give https://HOST[:PORT]",
                    show(url.as_bytes())
                ));
            }
        };
        check_authority(authority)?;
        Ok(Endpoint::new(authority, authority, speech))
    }

    fn new(name: &str, authority: &str, speech: Speech) -> Endpoint {
        Endpoint {
            name: name.to_owned(),
            authority: authority.to_owned(),
            speech,
            origin: OnceLock::new(),
        }
    }

    /// As in image names.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// May plain HTTP be spoken to hosts that are not on this machine.
    pub fn insecure(&self) -> bool {
        match self.speech {
            Speech::Tls => false,
            Speech::Plain | Speech::Either => !is_loopback(&self.authority),
        }
    }

    /// `scheme://host[:port]`; finds out which scheme where both are allowed.
    pub fn origin(&self, transport: &Transport) -> Reply<&str> {
        if let Some(origin) = self.origin.get() {
            return Ok(origin);
        }
        let with = |scheme: &str| format!("{scheme}://{}", self.authority);
        let origin = match self.speech {
            Speech::Tls => with("https"),
            Speech::Plain => with("http"),
            Speech::Either => {
                let probe = Request::get(format!("{}/v2/", with("https")));
                match transport.exchange(&probe, None) {
                    Err(Fault::Connection { tls: false, .. }) => with("http"),
                    _ => with("https"),
                }
            }
        };
        Ok(self.origin.get_or_init(|| origin))
    }

    /// Is `url` on this host, spoken to as we do.
    pub fn is_at(&self, url: &str) -> bool {
        self.origin.get().is_some_and(|origin| {
            url.strip_prefix(origin.as_str())
                .is_some_and(|rest| rest.starts_with('/'))
        })
    }

    /// Would what is sent to `url` go over the network in the clear.
    pub fn is_plain(&self, url: &str) -> bool {
        url.starts_with("http://") && !is_loopback(&self.authority)
    }
}

/// `host[:port]` and nothing that would make another URL of it.
fn check_authority(authority: &str) -> Result<()> {
    let (host, port) = host_and_port(authority);
    let fine = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-');
    let host_fine = match address_of(host) {
        Some(address) => address.parse::<Ipv6Addr>().is_ok(),
        None => !host.is_empty() && host.bytes().all(fine),
    };
    if host_fine && port.is_none_or(|p| p.parse::<u16>().is_ok()) {
        return Ok(());
    }
    invalid(format!(
        "\"{}\" is no HOST[:PORT]",
        show(authority.as_bytes())
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_http_is_for_this_machine_or_by_wish() {
        let config = |insecure| RegistryConfig {
            mirrors: Vec::new(),
            insecure: Some(insecure),
        };
        for (name, wish, config, speech) in [
            ("docker.io", false, None, Speech::Tls),
            ("h.example:5000", false, None, Speech::Tls),
            ("h.example:5000", true, None, Speech::Either),
            ("h.example", false, Some(config(true)), Speech::Either),
            ("localhost:5000", false, None, Speech::Either),
            ("127.9.0.1", false, Some(config(true)), Speech::Either),
            ("[::1]:80", false, None, Speech::Either),
            ("[0:0:0:0:0:0:0:1]", false, None, Speech::Either),
            ("[2001:db8::1]:80", false, None, Speech::Tls),
            ("[2001:db8::1]:80", true, None, Speech::Either),
            ("[::ffff:192.0.2.1]", false, None, Speech::Tls),
            ("localhost", false, Some(config(false)), Speech::Tls),
            ("localhost.example", false, None, Speech::Tls),
            ("127.0.0.1.example", false, None, Speech::Tls),
        ] {
            let endpoint = Endpoint::of(name, wish, config.as_ref()).unwrap();
            assert_eq!(endpoint.speech, speech, "{name}");
            // A registry on this machine does not open the way to others.
            let opens = speech == Speech::Either && !is_loopback(name);
            assert_eq!(endpoint.insecure(), opens, "{name}");
        }
        let docker = Endpoint::of("docker.io", false, None).unwrap();
        assert_eq!(docker.authority, "registry-1.docker.io");
        for bad in [
            "m.example",
            "ftp://m",
            "https://m/path",
            "https://u@m",
            "",
            "https://[::1",
            "https://[::1]80",
            "https://[]:80",
            "https://m:",
            "https://m:99999",
            "https://a:b:c",
        ] {
            assert!(Endpoint::mirror(bad).is_err(), "{bad}");
        }
    }
}
