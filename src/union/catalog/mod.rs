//! The merged catalog of the lower layers: made from them ([`build`]), and used
//! in their place.

mod build;
mod serve;

pub use build::{BuildError, build};
pub(super) use serve::Merged;

use crate::catalog::LayerId;
use crate::layer::Layer;

/// What a catalog knows a layer by.
fn identity(layer: &Layer) -> LayerId {
    LayerId {
        uuid: layer.uuid,
        ino: layer.ino,
        ctime: layer.ctime,
    }
}
