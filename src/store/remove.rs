//! Names and images go away; [`super::gc`] then removes what they leave.

use super::Store;
use super::digest::Digest;
use super::document::REF_NAME;
use super::error::{Error, Result};
use super::image::{Asked, ID, Image, entries_of, find};
use super::reference::Reference;
use super::repo_digest::{RepoDigest, set_digests};

/// A container, as far as images are concerned.
#[derive(Clone, Debug)]
pub struct User {
    /// The container's id.
    pub container: String,
    /// Its image.
    pub image: Digest,
    /// What it was asked for by when the container was made: a name or an id.
    pub called: String,
    /// The layers it is mounted from, by the names of their directories.
    pub layers: Vec<Digest>,
    /// The chain that they are.
    pub chain: Option<Digest>,
    /// Is it running.
    pub running: bool,
}

impl User {
    fn short(&self) -> &str {
        self.container.get(..12).unwrap_or(&self.container)
    }
}

/// What was done to an image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Removed {
    /// It lost a name.
    Name(Reference),
    /// It lost what a registry calls it.
    Digest(RepoDigest),
    /// It is gone.
    Image(Digest),
}

impl Store {
    /// Remove a name, or an image with all its names, by docker's rules.
    /// `users` is asked while nothing can change.
    ///
    /// # Errors
    /// When there is no such image, or it is in use.
    pub fn remove_image(
        &self,
        text: &str,
        force: bool,
        users: impl FnOnce() -> Result<Vec<User>>,
    ) -> Result<Vec<Removed>> {
        let _lock = self.lock()?;
        let mut index = self.read_index()?;
        let (image, asked) = find(&index, text)?;
        let users: Vec<User> = users()?
            .into_iter()
            .filter(|u| u.image == image.id)
            .collect();
        let mut removed = Vec::new();
        let delete = match &asked {
            Asked::Name(name) => by_name(&image, name, text, force, &users, &mut removed)?,
            Asked::Digest(digest) => by_digest(&image, digest, text, force, &users, &mut removed)?,
            Asked::Id => by_id(&image, force, &users, &mut removed)?,
        };
        let id = image.id;
        let mut image = image;
        image
            .digests
            .retain(|d| !removed.contains(&Removed::Digest(d.clone())));
        for gone in &removed {
            if let Removed::Name(name) = gone {
                let full = name.to_string();
                index
                    .manifests
                    .retain(|d| d.annotation(REF_NAME) != Some(&full));
            }
        }
        let text = id.to_string();
        let left = entries_of(&index, &text).next().is_some();
        if delete {
            index.manifests.retain(|d| d.annotation(ID) != Some(&text));
            removed.push(Removed::Image(id));
        } else if !left {
            index.manifests.push(image.entry(None));
        }
        set_digests(&mut index, &id, &image.digests);
        self.write_index(&index)?;
        Ok(removed)
    }
}

/// Is the image called by one tag at most, and by digests of one repository only.
fn is_called_once(image: &Image) -> bool {
    let names = image.names.iter().map(Reference::repository);
    let digests = image.digests.iter().map(|d| d.repository().clone());
    let mut all = names.chain(digests);
    let first = all.next();
    image.names.len() <= 1 && all.all(|other| Some(other) == first)
}

/// A name goes, and with the last one in a repository the digests there; with
/// the last thing it is called by the image does, unless it is in use.
fn by_name(
    image: &Image,
    name: &Reference,
    text: &str,
    force: bool,
    users: &[User],
    removed: &mut Vec<Removed>,
) -> Result<bool> {
    if let (false, true, Some(user)) = (force, is_called_once(image), users.first()) {
        return Err(in_use(image, text, user));
    }
    removed.push(Removed::Name(name.clone()));
    let mut others = image.names.iter().filter(|n| *n != name);
    let mut last = image.names.len() <= 1;
    if !others.any(|n| n.same_repository(name)) {
        let (here, elsewhere): (Vec<_>, Vec<_>) =
            image.digests.iter().cloned().partition(|d| d.is_in(name));
        removed.extend(here.into_iter().map(Removed::Digest));
        last &= elsewhere.is_empty();
    }
    Ok(last && !users.iter().any(|u| u.running))
}

/// What a registry calls it goes; with the last thing it is called by the image
/// does, unless it is in use.
fn by_digest(
    image: &Image,
    digest: &RepoDigest,
    text: &str,
    force: bool,
    users: &[User],
    removed: &mut Vec<Removed>,
) -> Result<bool> {
    if let (false, true, Some(user)) = (force, is_called_once(image), users.first()) {
        return Err(in_use(image, text, user));
    }
    let last = image.names.is_empty() && image.digests.iter().all(|d| d == digest);
    removed.push(Removed::Digest(digest.clone()));
    Ok(last && !users.iter().any(|u| u.running))
}

fn in_use(image: &Image, text: &str, user: &User) -> Error {
    Error::Conflict(format!(
        "conflict: unable to remove repository reference \"{text}\" (must force) - container {} is using its referenced image {}",
        user.short(),
        image.id.short()
    ))
}

/// An image goes with all that it is called, if that is one tag and what its
/// repository calls it.
fn by_id(image: &Image, force: bool, users: &[User], removed: &mut Vec<Removed>) -> Result<bool> {
    let refuse = |how: &str, why: String| {
        Err(Error::Conflict(format!(
            "conflict: unable to delete {} ({how}) - {why}",
            image.id.short()
        )))
    };
    if let Some(user) = users.iter().find(|u| u.running) {
        let why = format!("image is being used by running container {}", user.short());
        return refuse("cannot be forced", why);
    }
    if !force {
        if !is_called_once(image) {
            let why = "image is referenced in multiple repositories".to_owned();
            return refuse("must be forced", why);
        }
        if let Some(user) = users.first() {
            let why = format!("image is being used by stopped container {}", user.short());
            return refuse("must be forced", why);
        }
    }
    removed.extend(image.names.iter().cloned().map(Removed::Name));
    removed.extend(image.digests.iter().cloned().map(Removed::Digest));
    Ok(true)
}
