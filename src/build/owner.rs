//! `--chown`: names are those of the image's own files.

use super::tree::Tree;
use crate::container::user::{self, MAX_FILE};
use crate::store::error::{Context, Result, invalid};
use crate::sys::fs as sfs;
use crate::sys::tree::{self, Links};
use std::io::Read;

/// The owner that `user[:group]` is in an image. A number without a group is the
/// group too.
///
/// # Errors
/// For a name that the image does not know.
pub fn owner(image: &Tree, text: &str) -> Result<(u32, u32)> {
    if text.is_empty() {
        return invalid("--chown takes USER[:GROUP]");
    }
    let number = text.parse::<u32>().ok();
    if let Some(uid) = number {
        return Ok((uid, uid));
    }
    let numbers = text.split_once(':').map(|(u, g)| (u.parse(), g.parse()));
    if let Some((Ok(uid), Ok(gid))) = numbers {
        return Ok((uid, gid));
    }
    let ids = user::find(
        text,
        &read(image, "etc/passwd")?,
        &read(image, "etc/group")?,
    )?;
    Ok((ids.uid, ids.gid))
}

fn read(image: &Tree, path: &str) -> Result<String> {
    let found = image.resolve(path, true)?;
    if !found.stat.is_some_and(|s| s.is_file()) {
        return Ok(String::new());
    }
    let say = || format!("cannot read /{path} of the image");
    let (dir, name) = image.locate(&found.path)?;
    let file = sfs::absent(tree::open_file_beneath(dir, name, Links::Refuse)).context(say)?;
    let mut data = Vec::new();
    if let Some(file) = file {
        file.take(MAX_FILE).read_to_end(&mut data).context(say)?;
    }
    Ok(String::from_utf8_lossy(&data).into_owned())
}
