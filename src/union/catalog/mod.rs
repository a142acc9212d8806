//! The merged catalog of the lower layers: made from them ([`build`]).

mod build;

pub use build::{BuildError, build};

use crate::catalog::LayerId;
use crate::layer::Layer;
use crate::sys::{Result, fs};

/// What a catalog knows a layer by.
fn identity(layer: &Layer) -> Result<LayerId> {
    let stat = fs::stat_fd(&layer.root)?;
    Ok(LayerId {
        uuid: layer.uuid,
        ino: stat.ino,
        ctime: stat.ctime,
    })
}
