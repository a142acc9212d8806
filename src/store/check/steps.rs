//! What steps of builds have made, and no image has.

use super::Check;
use super::images::{Owner, Placed};
use crate::store::digest::Digest;
use crate::store::error::Result;
use std::collections::HashMap;

/// A layer as far as it is known: its place in the list that it is in.
type Known = HashMap<Digest, (Option<Digest>, usize)>;

impl Check<'_> {
    /// The layers of steps beside `images`, each with those below it. What a step
    /// was done on may be gone; then only what depends on nothing can be looked
    /// at.
    pub(super) fn steps(&mut self, images: &[Placed]) -> Result<Vec<Placed>> {
        let mut all: Vec<Placed> = Vec::new();
        let mut known = Known::new();
        let mut below = None;
        for (at, layer) in images.iter().enumerate() {
            let on = below.filter(|_| !layer.bottom);
            known.entry(layer.chain).or_insert((on, at));
            below = Some(layer.chain);
        }
        for (name, record) in self.store.step_records()? {
            if let Some(layer) = record.layer
                && !known.contains_key(&layer.chain_id)
            {
                known.insert(layer.chain_id, (None, images.len() + all.len()));
                all.push(Placed {
                    owner: Owner::Step(name),
                    blob: layer.blob,
                    diff_id: layer.diff_id,
                    chain: layer.chain_id,
                    bottom: false,
                });
            }
        }
        let chains: Vec<Digest> = known.keys().copied().collect();
        for step in all.iter().filter(|step| step.chain != step.diff_id) {
            let on = chains
                .iter()
                .find(|on| on.chain(step.diff_id) == step.chain);
            if let Some(entry) = known.get_mut(&step.chain) {
                entry.0 = on.copied();
            }
        }
        let mut out = Vec::new();
        for step in &all {
            out.extend(self.stack(step, images, &all, &known));
        }
        Ok(out)
    }

    /// A step's layer with those below it, bottom first; nothing where one is not
    /// known that it depends on.
    fn stack(
        &self,
        step: &Placed,
        images: &[Placed],
        steps: &[Placed],
        known: &Known,
    ) -> Vec<Placed> {
        let mut out: Vec<Placed> = Vec::new();
        let mut at = Some(step.chain);
        while let Some((below, place)) = at.and_then(|chain| known.get(&chain)) {
            let found = images.get(*place);
            let found = found.or_else(|| steps.get(place.checked_sub(images.len())?));
            let Some(layer) = found else {
                return Vec::new();
            };
            out.push(Placed {
                owner: match out.is_empty() {
                    true => layer.owner.clone(),
                    false => Owner::Below,
                },
                blob: layer.blob.clone(),
                diff_id: layer.diff_id,
                chain: layer.chain,
                bottom: below.is_none(),
            });
            at = *below;
        }
        out.reverse();
        let whole = out
            .first()
            .is_some_and(|first| first.chain == first.diff_id);
        let alone = || {
            let found = self.store.find_layer(&step.diff_id, &step.chain);
            found.is_ok_and(|record| record.is_some_and(|r| r.chain_id.is_none()))
        };
        match whole {
            true => out,
            false if alone() => out
                .pop()
                .into_iter()
                .map(|layer| Placed {
                    bottom: true,
                    ..layer
                })
                .collect(),
            false => Vec::new(),
        }
    }

    /// The step has to be done again.
    pub(super) fn step_damaged(&mut self, name: &Digest, why: &str) -> Result<()> {
        let what = format!("build step {}", name.short());
        self.damaged(&what, why);
        if self.options.repair && !self.options.quick {
            self.store.forget_step(name)?;
            self.mended(1, &what, "forgotten, the next build does it again");
        }
        Ok(())
    }
}
