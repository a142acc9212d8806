//! Catalogs are in order. They are derived: one that is not is made again, here
//! or before the next mount, and a missing one is no damage.

use super::Check;
use super::images::{Owner, Placed};
use crate::catalog::Refusal;
use crate::store::error::Result;
use crate::store::layer::mounted;
use crate::sys::Errno;
use std::collections::HashSet;

impl Check<'_> {
    /// `layers` are those of all images, each image's bottom first.
    pub(super) fn catalogs(&mut self, layers: &[Placed]) -> Result<()> {
        let mut seen = HashSet::new();
        let mut records = Some(Vec::new());
        for (i, layer) in layers.iter().enumerate() {
            if layer.bottom {
                records = Some(Vec::new());
            }
            let found = self.store.find_layer(&layer.diff_id, &layer.chain);
            records = records.zip(found.ok().flatten()).map(|(mut all, one)| {
                all.push(one);
                all
            });
            let top = layers.get(i + 1).is_none_or(|next| next.bottom);
            // Of what is damaged enough was said.
            let Some(records) = records.as_ref().filter(|_| top && seen.insert(layer.chain)) else {
                continue;
            };
            let names = mounted(records);
            let path = self.store.catalog_file(&layer.chain);
            let Owner::Image(_, title) = &layer.owner else {
                continue;
            };
            let what = format!("the catalog of {title}");
            match self.store.catalog_fits(&path, &names) {
                Ok(()) | Err(Refusal::Unreadable(Errno::NOENT)) => continue,
                // Layers were put in their places since, or somebody else made
                // it: nothing is wrong.
                Err(Refusal::OtherLayers | Refusal::OtherRights) => {
                    if self.options.repair {
                        self.store.make_catalog(&path, &names)?;
                    }
                }
                Err(why) => {
                    self.damaged(&what, &why.to_string());
                    if self.options.repair {
                        self.store.make_catalog(&path, &names)?;
                        self.mended(1, &what, "made again from the layers");
                    }
                }
            }
        }
        Ok(())
    }
}
