//! Is the store what it says it is.
//!
//! Every blob is hashed; every document is read, and everything that it refers
//! to looked for; every layer is unpacked once more from its archive, in
//! staging, and compared with its tree entry by entry. So one program says what
//! a layer looks like, and what replaces a damaged tree is at hand. That takes
//! the room of the largest layer (twice where a skeleton is in place of its
//! blob), and no more memory than loading it.
//!
//! While a check runs nothing is removed (it holds `gc.lock` shared), and
//! images can be added. It changes nothing but with [`Options::repair`]: a
//! layer's tree and record come from its blob, swapped in by one rename, but
//! for a tree that a container has mounted; a layer's blob that is not what
//! its name says is taken away, as the next load or pull brings it again. An
//! image that stays damaged is marked in `index.json`, and no container is
//! made from it; a later repair that finds it right takes the mark away. How a
//! lost `index.json` is made anew is said in `index`.

mod blobs;
mod catalogs;
mod compare;
mod images;
mod index;
mod layers;
mod steps;

use super::Store;
use super::digest::Digest;
use super::document::Index;
use super::error::{Context, Error, Result, show};
use super::gc::named;
use super::image::set_damage;
use super::remove::User;
use super::staging::{self, Staging, remove_stale};
use std::any::Any;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::ffi::OsString;
use std::fs;
use std::path::Path;

/// What to do.
#[derive(Clone, Copy, Debug, Default)]
pub struct Options {
    /// Read no content: what is there and how large it is.
    pub quick: bool,
    /// Mend what can be mended, and mark what cannot.
    pub repair: bool,
}

/// Something that was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Finding {
    /// It is not as it must be: what, and how.
    Damaged(String, String),
    /// It was damaged, and is no more: what, and what was done.
    Repaired(String, String),
    /// Nobody refers to it, or nobody knows it: what, and why it is there.
    Unused(String, String),
}

/// How many of each were looked at, and what was found.
#[derive(Clone, Copy, Debug, Default)]
pub struct Report {
    /// Images that are listed.
    pub images: usize,
    /// Blobs.
    pub blobs: usize,
    /// Layers of these images, and of steps of builds.
    pub layers: usize,
    /// Containers.
    pub containers: usize,
    /// Findings of damage, also of what was mended then.
    pub damaged: usize,
    /// What was mended.
    pub repaired: usize,
    /// What nobody uses.
    pub unused: usize,
    /// Nothing is damaged, or not any more.
    pub sound: bool,
}

impl Report {
    /// Count a finding.
    pub fn count(&mut self, finding: &Finding) {
        match finding {
            Finding::Damaged(..) => self.damaged += 1,
            Finding::Repaired(..) => self.repaired += 1,
            Finding::Unused(..) => self.unused += 1,
        }
    }
}

/// Keeps a layer from being mounted, or says who has it mounted. Called while
/// the store's `lock` is held.
pub type Claim<'a> = dyn Fn(&Digest) -> Result<Box<dyn Any>> + 'a;

/// A check that is under way.
struct Check<'a> {
    store: &'a Store,
    options: Options,
    claim: &'a Claim<'a>,
    tell: &'a mut dyn FnMut(Finding),
    report: Report,
    staging: Staging,
    /// Blobs that are there and right, as far as was looked.
    good: HashSet<Digest>,
    /// Blobs that are there and not right, as they were then.
    wrong: HashMap<Digest, Option<blobs::Stamp>>,
    /// Images that are not right, and why.
    bad: BTreeMap<Digest, String>,
    /// Findings of damage that nothing was done about.
    left: usize,
}

/// What the store held at one moment.
struct Seen {
    index: Result<Index>,
    blobs: Vec<OsString>,
    layers: Vec<OsString>,
    /// What nobody refers to; none where that cannot be known.
    dead: Option<HashSet<OsString>>,
}

impl Store {
    /// Look at everything but the containers, of which `users` tells what is
    /// known (none: a record is damaged, so nobody knows what is in use). Each
    /// finding goes to `tell`.
    ///
    /// # Errors
    /// When the check itself cannot go on, for want of room for example.
    pub fn check(
        &self,
        options: Options,
        users: Option<Vec<User>>,
        claim: &Claim<'_>,
        tell: &mut dyn FnMut(Finding),
    ) -> Result<Report> {
        let _adding = self.lock_adding()?;
        remove_stale(&self.tmp())?;
        let mut check = Check {
            store: self,
            options,
            claim,
            tell,
            report: Report::default(),
            staging: Staging::new(&self.tmp())?,
            good: HashSet::new(),
            wrong: HashMap::new(),
            bad: BTreeMap::new(),
            left: 0,
        };
        let seen = check.look(users.as_deref())?;
        check.strays(&seen)?;
        for name in &seen.blobs {
            check.blob(name);
        }
        check.marker()?;
        let index = match seen.index {
            Ok(index) => Some(index),
            // Want of room or of rights says nothing about it.
            Err(e @ Error::System(..)) => return Err(e),
            Err(e) => {
                check.damaged("index.json", &e.to_string());
                match options.repair {
                    true => Some(check.list_again(&users.unwrap_or_default())?),
                    false => None,
                }
            }
        };
        if let Some(index) = index {
            let mut layers = check.images(&index);
            let of_images = layers.len();
            layers.extend(check.steps(&layers)?);
            check.layers(&layers)?;
            layers.truncate(of_images);
            check.catalogs(&layers)?;
            check.mark(&index)?;
        }
        // Damage that concerns no image is never mended here.
        let mut report = check.report;
        report.sound = check.bad.is_empty() && check.left == 0;
        Ok(report)
    }
}

impl Check<'_> {
    fn found(&mut self, finding: Finding) {
        self.report.count(&finding);
        (self.tell)(finding);
    }

    fn damaged(&mut self, what: &str, why: &str) {
        self.left += 1;
        self.found(Finding::Damaged(what.to_owned(), why.to_owned()));
    }

    /// `count` findings are settled.
    fn mended(&mut self, count: usize, what: &str, how: &str) {
        staging::committing().changed();
        self.left = self.left.saturating_sub(count);
        self.found(Finding::Repaired(what.to_owned(), how.to_owned()));
    }

    fn look(&self, users: Option<&[User]>) -> Result<Seen> {
        let _lock = self.store.lock()?;
        let dead = users.and_then(|users| self.store.dead(users).ok());
        Ok(Seen {
            index: self.store.read_index(),
            blobs: list(&self.store.blobs())?,
            layers: list(&self.store.layers())?,
            dead: dead.map(|d| d.blobs.into_iter().chain(d.layers).collect()),
        })
    }

    /// What is there and belongs to nothing.
    fn strays(&mut self, seen: &Seen) -> Result<()> {
        let nobody = "nobody refers to it, 'capas gc' removes it";
        let nobodys = "it is not the store's, remove it by hand";
        for (dir, all) in [("blobs/sha256", &seen.blobs), ("layers", &seen.layers)] {
            for name in all {
                let shown = format!("{dir}/{}", show(name.as_encoded_bytes()));
                let half_made = Path::new(name).extension().is_some_and(|e| e == "new");
                let why = match (named(name), &seen.dead) {
                    (None, _) if half_made => "a replacement of a file that was not finished",
                    (None, _) => nobodys,
                    (Some(_), Some(dead)) if dead.contains(name) => nobody,
                    (Some(_), _) => continue,
                };
                self.found(Finding::Unused(shown, why.to_owned()));
            }
        }
        let steps = self.store.steps();
        let known: HashSet<_> = self
            .store
            .step_records()?
            .into_iter()
            .map(|(n, _)| n)
            .collect();
        let there = match steps.exists() {
            true => list(&steps)?,
            false => Vec::new(),
        };
        for name in there.iter().filter(|n| *n != "mounts") {
            let why = match named(name) {
                Some(digest) if known.contains(&digest) => continue,
                Some(_) => "it cannot be read, 'capas system prune' removes it",
                None => nobodys,
            };
            let shown = format!("build/{}", show(name.as_encoded_bytes()));
            self.found(Finding::Unused(shown, why.to_owned()));
        }
        for (dir, known) in [
            (self.store.root().to_owned(), super::NAMES.as_slice()),
            (self.store.root().join("blobs"), &["sha256"]),
        ] {
            for name in list(&dir)? {
                if !known.iter().any(|k| *k == name) {
                    let path = dir.join(&name);
                    let shown = path.strip_prefix(self.store.root()).unwrap_or(&path);
                    let shown = show(shown.as_os_str().as_encoded_bytes());
                    self.found(Finding::Unused(shown, nobodys.to_owned()));
                }
            }
        }
        Ok(())
    }

    /// Write down which images are damaged, and which are no more.
    fn mark(&mut self, seen: &Index) -> Result<()> {
        if !self.options.repair || self.options.quick {
            return Ok(());
        }
        let _lock = self.store.lock()?;
        let mut index = self.store.read_index()?;
        let mut changed = false;
        // What was listed meanwhile was not looked at.
        for image in super::image::images(seen) {
            let why = self.bad.get(&image.id).map(String::as_str);
            changed |= set_damage(&mut index, &image.id, why);
        }
        match changed {
            true => self.store.write_index(&index),
            false => Ok(()),
        }
    }
}

/// The names in a directory, sorted.
fn list(dir: &Path) -> Result<Vec<OsString>> {
    let say = || format!("cannot read {}", dir.display());
    let mut out = Vec::new();
    for entry in fs::read_dir(dir).context(say)? {
        out.push(entry.context(say)?.file_name());
    }
    out.sort();
    Ok(out)
}
