//! The merged catalog of the lower layers: made from them ([`build`]), and used
//! in their place.

mod build;
mod serve;

pub use build::{BuildError, build};
pub(super) use serve::Merged;
pub use serve::fits;

use crate::catalog::{LayerId, Seen, check::checksum};
use crate::layer::Layer;
use crate::sys::{Result, creds};

/// What a catalog knows a layer by.
fn identity(layer: &Layer) -> LayerId {
    LayerId {
        uuid: layer.uuid,
        ino: layer.ino,
        ctime: layer.ctime,
    }
}

/// What this process sees of layers.
fn seen(layers: &[Layer]) -> Result<Seen> {
    // Maps are lines of numbers: none ends where another begins.
    let mut owners = creds::owner_maps()?.join(&0);
    for layer in layers {
        owners.extend_from_slice(&layer.uid.to_le_bytes());
        owners.extend_from_slice(&layer.gid.to_le_bytes());
    }
    Ok(Seen {
        trusted: creds::trusted(),
        owners: u32::from_le_bytes(checksum(&owners)),
    })
}
