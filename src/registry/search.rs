//! Looking for images: the index that Docker Hub and some others have (its
//! first API), else the registry's own list of repositories.

pub use super::answers::Hit;
use super::answers::hits;
use super::auth::encode;
use super::fault::Fault;
use super::retry::Patience;
use super::transport::Request;
use super::{Keeper, Registry, in_silence};
use crate::config::Config;
use crate::store::error::Result as StoreResult;

/// Where Docker Hub's images are looked for.
const HUB_INDEX: &str = "index.docker.io";
/// An answer of an index is not larger.
const MAX_ANSWER: u64 = 8 << 20;

/// The images of the registry `name` for `term`, in its order.
///
/// # Errors
/// When it cannot be asked or lets nobody look.
pub fn search(
    name: &str,
    term: &str,
    limit: usize,
    config: &Config,
    insecure: bool,
    keeper: Keeper,
) -> StoreResult<Vec<Hit>> {
    if name == "docker.io" {
        let hub = Registry::new(HUB_INDEX, config, false, keeper)?;
        let found = hub.ask_index(term, limit);
        return found.map_err(|f| f.about("cannot search Docker Hub"));
    }
    let registry = Registry::new(name, config, insecure, keeper)?;
    match registry.ask_index(term, limit) {
        Ok(hits) => Ok(hits),
        // It answers, but not like an index.
        Err(Fault::Status { .. } | Fault::Final(_)) => {
            let term = term.to_lowercase();
            let names = registry.catalog()?.into_iter();
            let fits = names.filter(|name| name.to_lowercase().contains(&term));
            let hit = |name| Hit {
                name,
                ..Hit::default()
            };
            Ok(fits.take(limit).map(hit).collect())
        }
        Err(fault) => Err(fault.about(&format!("cannot search {name}"))),
    }
}

impl Registry {
    fn ask_index(&self, term: &str, limit: usize) -> Result<Vec<Hit>, Fault> {
        let origin = self.host.endpoint.origin(&self.host.transport)?;
        let url = format!("{origin}/v1/search?q={}&n={limit}", encode(term));
        let answer = self
            .host
            .send(&Request::get(url), &[], Patience::None, &in_silence)?;
        Ok(hits(&answer.bytes(MAX_ANSWER)?)?)
    }
}
