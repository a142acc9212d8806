//! The instructions that put files into the image without running anything:
//! `COPY`, `ADD` and `WORKDIR`.

use super::copy::{From, How, Layer, matching, missing};
use super::dockerfile::{Copy, Instruction, Source};
use super::mode::Mode;
use super::pattern::Patterns;
use super::stage::{Built, note};
use super::tree::Tree;
use super::{Build, context, owner};
use crate::store::digest::{Digest, Hasher};
use crate::store::error::{Context, Error, Result, invalid, show};
use crate::store::staging::Staging;
use crate::sys::tree::{self, Links};
use serde_json::json;
use std::io::Seek;
use std::os::unix::fs::OpenOptionsExt;
use std::time::{Duration, Instant, UNIX_EPOCH};

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
        let (mut from, mut checksum, mut unpack) = (None, None, None);
        for (name, value) in &copy.flags {
            let given = value.as_deref().map(|v| words.expand(v)).transpose()?;
            let keyword = if copy.add { "ADD" } else { "COPY" };
            match (name.as_str(), given) {
                ("from", Some(name)) if !copy.add => from = Some(name),
                ("chown", Some(text)) => how.owner = Some(owner::owner(&base, &text)?),
                ("chmod", Some(text)) => how.mode = Some(Mode::parse(&text)?),
                ("checksum", Some(text)) if copy.add => checksum = Some(Digest::parse(&text)?),
                ("unpack", given) if copy.add => unpack = Some(yes(name, given.as_deref())?),
                ("parents", given) if !copy.add => how.parents = yes(name, given.as_deref())?,
                ("exclude", Some(text)) => how.exclude.add(&text)?,
                // Layers are independent of those below as it is.
                ("link", _) => {}
                ("keep-git-dir", _) if copy.add => return invalid(NO_GIT),
                (name, Some(_)) => return invalid(format!("{keyword} has no option --{name}")),
                (name, None) => return invalid(format!("--{name} needs =VALUE")),
            }
        }
        let other = from.map(|name| self.tree_of(at, &name)).transpose()?;
        let sources = self.sources;
        let tree = other.as_ref().unwrap_or(&sources.tree);
        // What is unpacked or comes from elsewhere, and which file of it is meant.
        let mut made: Vec<(Tree, Staging, Option<String>)> = Vec::new();
        let mut all = Vec::new();
        let mut fits_nothing = None;
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
                    if copy.add && is_remote(&path) {
                        if checksum.is_some() && copy.sources.len() > 1 {
                            return invalid("--checksum is that of one URL: give no other source");
                        }
                        let (tree, staging, name) = self.fetch(&path, checksum.as_ref())?;
                        made.push(match unpack {
                            Some(true) => match self.archive(&tree, &name)? {
                                Some((tree, staging)) => (tree, staging, None),
                                None => (tree, staging, Some(name)),
                            },
                            _ => (tree, staging, Some(name)),
                        });
                        all.push(None);
                        continue;
                    }
                    if checksum.is_some() {
                        return invalid(format!(
                            "--checksum is that of a URL, which {} is not",
                            show(path.as_bytes())
                        ));
                    }
                    let unpacks = copy.add && unpack != Some(false);
                    let found = matching(tree, &path)?;
                    if found.is_empty() {
                        fits_nothing.get_or_insert(path);
                    }
                    for path in found {
                        match unpacks.then(|| self.archive(tree, &path)).transpose()? {
                            Some(Some((tree, staging))) => {
                                made.push((tree, staging, None));
                                all.push(None);
                            }
                            _ => all.push(Some(From::Path(tree, path))),
                        }
                    }
                }
            }
        }
        // A pattern that fits nothing is one that need not, beside what is there.
        if let (Some(path), true) = (fits_nothing, all.is_empty()) {
            return missing(tree, &path);
        }
        let mut made = made.iter().map(|(tree, _, name)| match name {
            Some(name) => From::Path(tree, name.clone()),
            None => From::All(tree),
        });
        let all: Vec<From<'_>> = all
            .into_iter()
            .filter_map(|source| source.or_else(|| made.next()))
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

    /// Get a file by its URL: the tree that it is in, and its name.
    fn fetch(&mut self, url: &str, checksum: Option<&Digest>) -> Result<(Tree, Staging, String)> {
        let path = url.split(['?', '#']).next().unwrap_or_default();
        let git = path.starts_with("git@") || path.ends_with(".git");
        let http = path
            .strip_prefix("http://")
            .or(path.strip_prefix("https://"));
        let Some(rest) = http.filter(|_| !git) else {
            return invalid(NO_GIT);
        };
        let name = rest
            .split_once('/')
            .and_then(|(_, path)| path.rsplit('/').next());
        let Some(name) = name.filter(|n| !matches!(*n, "" | "." | "..")) else {
            return invalid(format!(
                "{}: a URL must end with the name of a file",
                show(url.as_bytes())
            ));
        };
        let staging = Staging::new(&self.containers.store().tmp())?;
        let dir = staging.path().join("fetched");
        let say = || format!("cannot write {}", show(name.as_bytes()));
        std::fs::create_dir(&dir).context(say)?;
        let mut file = std::fs::OpenOptions::new()
            .read(true)
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(dir.join(name))
            .context(say)?;
        let changed = self.tell.fetch(url, &mut file)?;
        if let Some(seconds) = changed.and_then(|s| u64::try_from(s).ok()) {
            let when = UNIX_EPOCH + Duration::from_secs(seconds);
            file.set_modified(when).context(say)?;
        }
        if let Some(wanted) = checksum {
            file.rewind().context(say)?;
            let mut hasher = Hasher::default();
            std::io::copy(&mut file, &mut hasher).context(say)?;
            let (digest, _) = hasher.finish();
            if digest != *wanted {
                return invalid(format!(
                    "{}: its digest is {digest}, and should be {wanted}",
                    show(url.as_bytes())
                ));
            }
        }
        let tree = Tree::Directory {
            root: std::fs::File::open(&dir).context(say)?,
            ignore: Patterns::default(),
            keeps_owners: false,
            called: "what was fetched",
        };
        Ok((tree, staging, name.to_owned()))
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
        let files = content(layer)?;
        let name = self.name(built, &json!({"files": files}))?;
        if self.recall(built, &name, &instruction.text)? {
            return self.tell.end(None);
        }
        let latest = self.latest;
        self.add(built, &name, &instruction.text, |out| {
            layer.write(latest, out)?;
            // They are read twice: what was not the same is known by no name.
            match content(layer)? == files {
                true => Ok(()),
                false => invalid("a file was changed while it was copied: build again"),
            }
        })?;
        self.tell.end(Some(begun.elapsed()))
    }
}

const NO_GIT: &str =
    "ADD of a git repository is not done here: clone it in a RUN, or before the build";

/// Is it no file of the build context.
fn is_remote(path: &str) -> bool {
    path.contains("://") || path.starts_with("git@")
}

/// What an option says that is on or off.
fn yes(name: &str, given: Option<&str>) -> Result<bool> {
    match given {
        None | Some("true" | "1") => Ok(true),
        Some("false" | "0") => Ok(false),
        Some(other) => invalid(format!(
            "--{name}={}: it is true or false",
            show(other.as_bytes())
        )),
    }
}

/// A digest of all that a layer holds but the times.
pub(super) fn content(layer: &Layer<'_>) -> Result<Digest> {
    Ok(layer.write(Some(0), Hasher::default())?.finish().0)
}
