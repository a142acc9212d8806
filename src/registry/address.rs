//! Addresses as servers give them: where something is, and whether that is the
//! same place.

use crate::store::error::{Result, invalid, show};
use crate::store::reference::host_and_port;
use std::net::IpAddr;
use ureq::http::Uri;

/// `host[:port]` of a URL, for messages and comparisons.
pub fn host_of(url: &str) -> String {
    let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
    let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
    // Nobody's name and password are part of where something is.
    let host = authority.rsplit('@').next().unwrap_or_default();
    show(host.as_bytes())
}

/// Are scheme, host and port the same.
pub fn same_origin(a: &str, b: &str) -> bool {
    let origin = |url: &str| {
        let uri: Uri = url.parse().ok()?;
        let scheme = uri.scheme_str()?.to_owned();
        let port = uri
            .port_u16()
            .unwrap_or(if scheme == "https" { 443 } else { 80 });
        Some((scheme, uri.host()?.to_ascii_lowercase(), port))
    };
    matches!((origin(a), origin(b)), (Some(a), Some(b)) if a == b)
}

/// A `Location` or `Link` relative to where it was given.
///
/// # Errors
/// For what is no address of a host, and one with somebody's name in it.
pub fn join(base: &str, to: &str) -> Result<String> {
    let bad = || {
        invalid(format!(
            "{} leads to a bad address: \"{}\"",
            host_of(base),
            show(to.as_bytes())
        ))
    };
    let Some((scheme, rest)) = base.split_once("://") else {
        return bad();
    };
    let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
    let path = rest.get(authority.len()..).unwrap_or_default();
    let path = path.split(['?', '#']).next().unwrap_or_default();
    let joined = if to.starts_with("https://") || to.starts_with("http://") {
        to.to_owned()
    } else if to.starts_with("//") {
        format!("{scheme}:{to}")
    } else if to.starts_with('/') {
        format!("{scheme}://{authority}{to}")
    } else if to.starts_with('?') {
        format!("{scheme}://{authority}{path}{to}")
    } else {
        let dir = path.rsplit_once('/').map_or("", |(dir, _)| dir);
        format!("{scheme}://{authority}{dir}/{to}")
    };
    let joined = joined.split('#').next().unwrap_or_default().to_owned();
    match joined.parse::<Uri>() {
        Ok(uri)
            if uri.host().is_some_and(|h| !h.is_empty())
                && uri.authority().is_some_and(|a| !a.as_str().contains('@')) =>
        {
            Ok(joined)
        }
        _ => bad(),
    }
}

/// Where a list goes on, by the header `Link: </v2/…>; rel="next"` of a part
/// of it that came from `base`.
///
/// # Errors
/// When that is no address.
pub fn next_page(base: &str, link: &str) -> Result<Option<String>> {
    let parts = link.strip_prefix('<').and_then(|l| l.split_once('>'));
    match parts {
        Some((to, rest)) if rest.contains("next") => join(base, to).map(Some),
        _ => Ok(None),
    }
}

/// What is in the brackets of an IPv6 host.
pub fn address_of(host: &str) -> Option<&str> {
    host.strip_prefix('[')?.strip_suffix(']')
}

/// Is it a name or number of this machine itself.
pub fn is_loopback(authority: &str) -> bool {
    let (host, _) = host_and_port(authority);
    let host = address_of(host).unwrap_or(host);
    host.eq_ignore_ascii_case("localhost")
        || host.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_joined_and_compared() {
        let base = "https://h.example/v2/x/blobs/uploads/?a=b";
        for (to, full) in [
            ("https://o.example/p", "https://o.example/p"),
            ("/v2/y?z=1", "https://h.example/v2/y?z=1"),
            ("id?s=1", "https://h.example/v2/x/blobs/uploads/id?s=1"),
            ("?c", "https://h.example/v2/x/blobs/uploads/?c"),
            ("//o.example/q", "https://o.example/q"),
            ("/p#f", "https://h.example/p"),
        ] {
            assert_eq!(join(base, to).unwrap(), full);
        }
        for bad in ["https://u:p@h.example/", "https:///x", "/a b", "/\n"] {
            assert!(join(base, bad).is_err(), "{bad}");
        }
        assert!(same_origin("https://h/", "https://H:443/x"));
        for other in ["http://h/", "https://h:444/", "https://h.i/", "x"] {
            assert!(!same_origin("https://h/", other), "{other}");
        }
        assert_eq!(host_of("https://u:secret@h:1/p"), "h:1");
    }
}
