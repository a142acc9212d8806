//! What a layer left to the layers below it.
//!
//! Some tools write archives without entries for parent directories. Made with
//! default attributes such a directory would change the mode and owner of the
//! one below it, `/tmp` for example; so it takes those of the one below. Some
//! write a hard link to a file of an earlier layer; that file is copied.

use super::error::{Context, Error, Result, invalid, show};
use super::unpack::{Unpacked, components, is_kept, is_opaque, privileged};
use crate::sys::fs::{self as sfs, SetTime, Stat};
use crate::sys::tree::{self, Links};
use crate::sys::{At, Errno, copy, xattr};
use std::collections::HashMap;
use std::ffi::OsStr;
use std::fs::File;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// Settle what `unpacked` left open in the tree `layer`, with the directories
/// of the layers below it, top first.
///
/// # Errors
/// When a hard link's target is nowhere, and when writing fails.
pub fn complete(layer: &Path, unpacked: &mut Unpacked, below: &[&Path]) -> Result<()> {
    let open = |path: &Path| {
        File::open(path).context(|| format!("cannot open the layer {}", path.display()))
    };
    let layer = open(layer)?;
    let below = below.iter().map(|p| open(p)).collect::<Result<Vec<_>>>()?;
    let links = std::mem::take(&mut unpacked.links);
    let mut copied: HashMap<&[u8], &[u8]> = HashMap::new();
    for (path, target) in &links {
        let in_link = |e| in_path(path, e);
        match copied.get(target.as_slice()) {
            Some(first) => link(&layer, first, path).map_err(in_link)?,
            None => {
                unpacked.size += copy_up(&layer, path, target, &below).map_err(in_link)?;
                copied.insert(target, path);
            }
        }
    }
    for path in unpacked.implicit.iter().rev() {
        inherit(&layer, path, &below).map_err(|e| in_path(path, e))?;
    }
    Ok(())
}

fn in_path(path: &[u8], e: Error) -> Error {
    match e {
        Error::Invalid(m) => Error::Invalid(format!("{}: {m}", show(path))),
        Error::System(m, io) => Error::System(format!("{}: {m}", show(path)), io),
        other => other,
    }
}

fn split(path: &[u8]) -> (&OsStr, &OsStr) {
    let (dir, name) = match path.iter().rposition(|b| *b == b'/') {
        Some(slash) => (path.get(..slash), path.get(slash + 1..)),
        None => (None, Some(path)),
    };
    (
        OsStr::from_bytes(dir.unwrap_or_default()),
        OsStr::from_bytes(name.unwrap_or_default()),
    )
}

/// The directory and name of `path` in the layer.
fn place<'a>(layer: &File, path: &'a [u8]) -> Result<(OwnedFd, &'a OsStr)> {
    let (dir, name) = split(path);
    let dir = tree::open_dir_beneath(layer, dir, Links::InRoot)
        .context(|| "cannot open its directory".to_owned())?;
    Ok((dir, name))
}

fn link(layer: &File, first: &[u8], path: &[u8]) -> Result<()> {
    let (from, old) = place(layer, first)?;
    let (to, new) = place(layer, path)?;
    let before = sfs::stat_fd(&to).context(|| "cannot look at its directory".to_owned())?;
    match sfs::link(At::Name(from.as_fd(), old), &to, new) {
        Ok(()) => restore_time(&to, &before),
        // A later member of the archive has the name.
        Err(Errno::EXIST) => Ok(()),
        Err(e) => Err(e).context(|| "cannot link it".to_owned()),
    }
}

/// A name that is added to a finished directory leaves its time as it was.
fn restore_time(dir: &OwnedFd, before: &Stat) -> Result<()> {
    let time = SetTime::At(before.mtime);
    sfs::utimens(At::Fd(dir.as_fd()), time, time)
        .context(|| "cannot set the time of its directory".to_owned())
}

/// Copy a file of a lower layer; returns its size.
fn copy_up(layer: &File, path: &[u8], target: &[u8], below: &[File]) -> Result<u64> {
    let Some((from, stat)) = find(below, target)? else {
        return invalid(format!(
            "the target of the hard link, {}, is not in the image",
            show(target)
        ));
    };
    if !stat.is_file() {
        return invalid("a hard link to something of an earlier layer that is no file");
    }
    let say = || "cannot copy the link's target".to_owned();
    let (from_dir, from_name) = (&from, split(target).1);
    let source = tree::open_file_beneath(from_dir, from_name, Links::Refuse).context(say)?;
    let (dir, name) = place(layer, path)?;
    let before = sfs::stat_fd(&dir).context(say)?;
    let file = match tree::create_file(&dir, name, 0o600) {
        Err(Errno::EXIST) => return Ok(0),
        file => file.context(say)?,
    };
    copy::data(&source, &file, stat.size, true).context(say)?;
    set_attributes(At::Fd(source.as_fd()), At::Fd(file.as_fd()), &stat)?;
    restore_time(&dir, &before)?;
    Ok(stat.size)
}

/// Give a directory the attributes of the one it will be merged with.
fn inherit(layer: &File, path: &[u8], below: &[File]) -> Result<()> {
    let Some((parent, stat)) = find(below, path)? else {
        return Ok(());
    };
    if !stat.is_dir() {
        return Ok(());
    }
    let (dir, name) = place(layer, path)?;
    let from = At::Name(parent.as_fd(), split(path).1);
    set_attributes(from, At::Name(dir.as_fd(), name), &stat)
}

fn set_attributes(from: At<'_>, to: At<'_>, stat: &Stat) -> Result<()> {
    let say = || "cannot set its attributes".to_owned();
    match sfs::chown(to, Some(stat.uid), Some(stat.gid)) {
        Err(Errno::PERM | Errno::INVAL) if !privileged() => {}
        other => other.context(say)?,
    }
    let mut list = Vec::new();
    xattr::list_into(from, &mut list).context(say)?;
    for name in xattr::names(&list) {
        if is_kept(name.to_bytes())
            && let Some(value) = xattr::get(from, name).context(say)?
        {
            xattr::set(to, name, &value, 0).context(say)?;
        }
    }
    sfs::chmod(to, stat.mode & 0o7777).context(say)?;
    let time = SetTime::At(stat.mtime);
    sfs::utimens(to, time, time).context(say)
}

/// What the layers below show at `path`: its parent in the layer that has it,
/// and its attributes.
fn find(below: &[File], path: &[u8]) -> Result<Option<(OwnedFd, Stat)>> {
    let parts = components(path, usize::MAX)?;
    for layer in below {
        match find_in(layer, &parts).context(|| "cannot look into a lower layer".to_owned())? {
            Answer::Here(parent, stat) => return Ok(Some((parent, stat))),
            Answer::Hidden => return Ok(None),
            Answer::Below => {}
        }
    }
    Ok(None)
}

enum Answer {
    Here(OwnedFd, Stat),
    /// Neither here nor, for this layer's sake, anywhere below.
    Hidden,
    /// Not here.
    Below,
}

fn find_in(layer: &File, parts: &[&[u8]]) -> crate::sys::Result<Answer> {
    let mut dir = tree::open_dir_beneath(layer, OsStr::new(""), Links::Refuse)?;
    let mut opaque = false;
    for (i, part) in parts.iter().enumerate() {
        let name = OsStr::from_bytes(part);
        let stat = match sfs::absent(sfs::stat_at(&dir, name))? {
            Some(stat) if stat.is_whiteout() => return Ok(Answer::Hidden),
            Some(stat) => stat,
            None => {
                let mark = [b".wh.".as_slice(), part].concat();
                let hidden = opaque || sfs::stat_at(&dir, OsStr::from_bytes(&mark)).is_ok();
                return Ok(if hidden {
                    Answer::Hidden
                } else {
                    Answer::Below
                });
            }
        };
        if i + 1 == parts.len() {
            return Ok(Answer::Here(dir, stat));
        }
        if !stat.is_dir() {
            return Ok(Answer::Hidden);
        }
        dir = sfs::open_dir_path(&dir, name)?;
        opaque |= is_opaque(dir.as_fd());
    }
    Ok(Answer::Below)
}
