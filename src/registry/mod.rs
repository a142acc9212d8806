//! A client for image registries (the OCI distribution API).
//!
//! ```text
//!  pull, push                 images, from and to the store
//!  fetch, blob, upload        manifests, lists; a blob as it comes; blobs as they go
//!  download                   any file by its URL, for `import`
//!  Registry ── Host…          mirrors first, for reading, then the registry itself
//!                │
//!             endpoint         where it is, and whether without TLS
//!             auth             challenges, tokens by scope
//!             retry, resume    how often, how long; where a cut body goes on
//!             answers          what servers say; address, where they lead
//!             transport        one exchange: redirects, bounds
//! ```
//!
//! What is never done, whatever a server says:
//!
//! - credentials and tokens go to the host that they are for and to the token
//!   server it names, not to hosts we are redirected to;
//! - they go over plain HTTP to this machine only;
//! - a connection that is encrypted is not continued by one that is not;
//! - nothing is read without a bound, and no manifest or blob is used before its
//!   digest was compared.

pub mod address;
pub mod answers;
mod auth;
mod blob;
pub mod credentials;
mod download;
mod endpoint;
mod fault;
mod fetch;
mod pull;
mod push;
mod resume;
mod retry;
pub mod search;
mod transport;
mod upload;

pub use answers::{Document, Wanted};
pub use auth::{Credentials, Secret};
pub use blob::BlobReader;
pub use download::{Download, download};
pub use pull::{Found, Progress, Tell};
pub use push::{Pushed, Sending, TellSending};
pub use upload::Begun;

use crate::config::Config;
use crate::store::error::Result;
use auth::Auth;
use endpoint::Endpoint;
use fault::Reply;
use retry::Patience;
use std::sync::Arc;
use std::time::Duration;
use transport::{Answer, Request, Transport};

/// Asks for the credentials of a host, for a repository there if one is meant:
/// `(host, repository)`. The host is written as in image names.
pub type Keeper = Arc<dyn Fn(&str, Option<&str>) -> Result<Option<Credentials>> + Send + Sync>;

/// Is told how long we wait before another attempt.
pub type Waiting<'a> = &'a (dyn Fn(Duration) + Sync);

/// The same, for who waits long.
pub type OwnWaiting<'a> = Box<dyn Fn(Duration) + Send + Sync + 'a>;

/// For those who have nobody to tell.
pub fn in_silence(_: Duration) {}

/// One registry, as it is called in image names.
pub struct Registry {
    name: String,
    /// Mirrors, for reading only, and at last the registry itself.
    mirrors: Vec<Host>,
    host: Host,
}

/// One server that answers for a registry.
struct Host {
    endpoint: Endpoint,
    transport: Transport,
    auth: Auth,
}

impl Registry {
    /// The registry that image names call `name`. `insecure` allows plain HTTP
    /// as the configuration may.
    ///
    /// # Errors
    /// For a mirror that is no URL of a host.
    pub fn new(name: &str, config: &Config, insecure: bool, keeper: Keeper) -> Result<Registry> {
        let own = config.registries.get(name);
        let host = Host::new(Endpoint::of(name, insecure, own)?, &keeper);
        let mut mirrors = Vec::new();
        for url in own.map_or(&[][..], |c| &c.mirrors) {
            mirrors.push(Host::new(Endpoint::mirror(url)?, &keeper));
        }
        Ok(Registry {
            name: name.to_owned(),
            mirrors,
            host,
        })
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Is it there and lets us in. Returns a token to keep instead of a password,
    /// where the server gives such to whom it knows.
    ///
    /// # Errors
    /// When it is not reached, is no registry, or does not take the credentials.
    pub fn login(&self) -> Result<Option<String>> {
        let what = format!("login to {} failed", self.name);
        self.host.login().map_err(|f| f.about(&what))
    }

    /// How many mirrors are asked before the registry itself.
    pub fn mirrors(&self) -> usize {
        self.mirrors.len()
    }

    /// Let the mirrors try, but for the first `passed`, then the registry
    /// itself, whose error is told.
    fn read<T>(&self, passed: usize, act: impl Fn(&Host, Patience) -> Reply<T>) -> Reply<T> {
        for mirror in self.mirrors.iter().skip(passed) {
            match act(mirror, Patience::None) {
                Ok(done) => return Ok(done),
                Err(fault) => log::debug!("mirror {}: {fault}", mirror.endpoint.name()),
            }
        }
        act(&self.host, Patience::Some)
    }
}

impl Host {
    fn new(endpoint: Endpoint, keeper: &Keeper) -> Host {
        Host {
            transport: Transport::new(endpoint.insecure()),
            auth: Auth::new(endpoint.name(), Arc::clone(keeper)),
            endpoint,
        }
    }

    /// A URL of the API: `path` begins after `/v2/`.
    fn url(&self, path: &str) -> Reply<String> {
        let origin = self.endpoint.origin(&self.transport)?;
        Ok(format!("{origin}/v2/{path}"))
    }

    /// Send a request, with the rights to `scopes`, as often as patience allows.
    fn send(
        &self,
        request: &Request<'_>,
        scopes: &[String],
        patience: Patience,
        waiting: Waiting<'_>,
    ) -> Reply<Answer> {
        retry::retry(patience, waiting, || self.send_once(request, scopes))
    }

    fn send_once(&self, request: &Request<'_>, scopes: &[String]) -> Reply<Answer> {
        let ours = self.endpoint.is_at(&request.url);
        let key = if ours {
            self.auth.header(&self.transport, scopes)?
        } else {
            None
        };
        let answer = self.transport.exchange(request, key.as_deref())?;
        // Another host that we were led to may not ask for anything.
        if answer.status != 401 || !ours || !self.endpoint.is_at(&answer.url) {
            return answer.checked();
        }
        let plain = self.endpoint.is_plain(&answer.url);
        self.auth
            .challenged(answer, scopes, plain, key.as_deref())?;
        let key = self.auth.header(&self.transport, scopes)?;
        let answer = self.transport.exchange(request, key.as_deref())?;
        answer.checked().map_err(|f| self.auth.advise(f, scopes))
    }

    fn login(&self) -> Reply<Option<String>> {
        let request = Request::get(self.url("")?);
        self.send(&request, &[], Patience::None, &in_silence)?;
        self.auth.identity_token(&self.transport)
    }
}

impl std::fmt::Debug for Registry {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Registry")
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}
