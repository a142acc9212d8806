//! The instructions that put files into the image without running anything:
//! `COPY`, `ADD` and `WORKDIR`.

use super::copy::{From, How, Layer, matching};
use super::dockerfile::{Copy, Instruction, Source};
use super::pattern::Patterns;
use super::stage::{Built, note};
use super::tree::Tree;
use super::{Build, context, owner};
use crate::store::digest::{Digest, Hasher};
use crate::store::error::{Context, Error, Result, invalid, show};
use crate::store::staging::Staging;
use crate::sys::tree::{self, Links};
use serde_json::json;
use std::time::Instant;

impl<'a> Build<'a> {
    pub(super) fn workdir(
        &mut self,
        built: &mut Built<'a>,
        instruction: &Instruction,
    ) -> Result<()> {
        let (dir, user) = (built.dir(), built.told("User"));
        let base = self.tree(&built.layers)?;
        let real = base.resolve(&dir, true)?;
        if real.path.starts_with(b"proc/") {
            return invalid(format!(
                "the working directory '{}' leads into /proc: name another",
                show(dir.as_bytes())
            ));
        }
        let owner = match user.as_str() {
            "" => (0, 0),
            user => owner::owner(&base, user)?,
        };
        let how = How {
            owner: Some(owner),
            now: self.now(),
            ..How::default()
        };
        let mut layer = Layer::new(&base, how);
        if !layer.make_dir(&dir)? {
            note(built, &instruction.text, "", None);
            return self.tell.end(Some(std::time::Duration::ZERO));
        }
        self.layer(built, instruction, &layer)
    }

    pub(super) fn copy(
        &mut self,
        at: usize,
        built: &mut Built<'a>,
        instruction: &Instruction,
        copy: &Copy,
    ) -> Result<()> {
        let words = built.words();
        let base = self.tree(&built.layers)?;
        let mut how = How {
            now: self.now(),
            ..How::default()
        };
        let mut from = None;
        for (name, value) in &copy.flags {
            let given = value.as_deref().map(|v| words.expand(v)).transpose()?;
            let keyword = if copy.add { "ADD" } else { "COPY" };
            match (name.as_str(), given) {
                ("from", Some(name)) if !copy.add => from = Some(name),
                ("chown", Some(text)) => how.owner = Some(owner::owner(&base, &text)?),
                ("chmod", Some(text)) => how.mode = Some(owner::mode(&text)?),
                ("exclude", Some(text)) => how.exclude.add(&text)?,
                // Layers are independent of those below as it is.
                ("link", _) => {}
                ("parents" | "checksum" | "keep-git-dir" | "unpack", _) => {
                    return invalid(format!("{keyword} --{name} is not done here"));
                }
                (name, Some(_)) => return invalid(format!("{keyword} has no option --{name}")),
                (name, None) => return invalid(format!("--{name} needs =VALUE")),
            }
        }
        let other = from.map(|name| self.tree_of(at, &name)).transpose()?;
        let sources = self.sources;
        let tree = other.as_ref().unwrap_or(&sources.tree);
        let mut archives: Vec<(Tree, Staging)> = Vec::new();
        let mut all = Vec::new();
        for source in &copy.sources {
            match source {
                Source::Document(document) => {
                    let content = document.content();
                    let content = match document.expands {
                        true => words.fill_in(&content)?,
                        false => content,
                    };
                    all.push(Some(From::Written(
                        document.name.clone(),
                        content.into_bytes(),
                    )));
                }
                Source::Path(path) => {
                    let path = words.expand(path)?;
                    if path.contains("://") || path.starts_with("git@") {
                        return invalid(format!(
                            "{}: ADD of a URL is not done here: fetch it in a RUN, or before the build",
                            show(path.as_bytes())
                        ));
                    }
                    for path in matching(tree, &path)? {
                        match copy
                            .add
                            .then(|| self.archive(tree, &path))
                            .transpose()?
                            .flatten()
                        {
                            Some(archive) => {
                                archives.push(archive);
                                all.push(None);
                            }
                            None => all.push(Some(From::Path(tree, path))),
                        }
                    }
                }
            }
        }
        let mut archives = archives.iter().map(|(tree, _)| From::All(tree));
        let all: Vec<From<'_>> = all
            .into_iter()
            .filter_map(|source| source.or_else(|| archives.next()))
            .collect();
        let target = words.expand(&copy.target)?;
        let target = match target.starts_with('/') {
            true => target,
            false => format!("{}/{target}", built.dir()),
        };
        let mut layer = Layer::new(&base, how);
        layer.copy(all, &target)?;
        self.layer(built, instruction, &layer)
    }

    /// What an archive of the context unpacks to; nothing for any other file.
    fn archive(&self, tree: &Tree, path: &str) -> Result<Option<(Tree, Staging)>> {
        let real = tree.resolve(path, true)?;
        if !real.stat.is_some_and(|s| s.is_file()) || tree.leaves_out(&real.path) {
            return Ok(None);
        }
        let (dir, name) = tree.locate(&real.path)?;
        let say = || format!("cannot read {}", show(path.as_bytes()));
        let file = tree::open_file_beneath(&dir, name, Links::Refuse).context(say)?;
        if !context::is_archive(&file, path)? {
            return Ok(None);
        }
        let staging = Staging::new(&self.containers.store().tmp())?;
        let to = staging.path().join("archive");
        context::unpack(file, &to)
            .map_err(|e| Error::Invalid(format!("{}: {e}", show(path.as_bytes()))))?;
        let tree = Tree::Directory {
            root: std::fs::File::open(&to).context(say)?,
            ignore: Patterns::default(),
            keeps_owners: true,
            called: "the archive",
        };
        Ok(Some((tree, staging)))
    }

    /// The layer that files make, unless it is known.
    fn layer(
        &mut self,
        built: &mut Built<'a>,
        instruction: &Instruction,
        layer: &Layer<'_>,
    ) -> Result<()> {
        let begun = Instant::now();
        let name = self.name(built, &json!({"files": content(layer)?}))?;
        if self.recall(built, &name, &instruction.text)? {
            return self.tell.end(None);
        }
        let latest = self.latest;
        self.add(built, &name, &instruction.text, |out| {
            layer.write(latest, out).map(drop)
        })?;
        self.tell.end(Some(begun.elapsed()))
    }
}

/// A digest of all that a layer holds but the times.
pub(super) fn content(layer: &Layer<'_>) -> Result<Digest> {
    Ok(layer.write(Some(0), Hasher::default())?.finish().0)
}
