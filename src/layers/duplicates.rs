//! Files whose content is in the layers more than once.
//!
//! Only files of one size can be equal, and of those only the ones that begin
//! alike are read to their end.

use super::analysis::{Node, path};
use super::merge::Content;
use crate::store::digest::{Digest, Hasher};
use crate::store::error::{Context, Result, show};
use crate::sys::Errno;
use crate::sys::tree::{self, Links};
use std::collections::HashMap;
use std::ffi::OsStr;
use std::fs::File;
use std::io::Read;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::FileExt;

/// How much of its beginning tells files apart, mostly.
const HEAD: usize = 4096;

/// Bytes of files that another file holds too: of each content, all copies but
/// one. Files that may not be read are taken to be unlike all others.
///
/// # Errors
/// When a layer cannot be read.
pub(super) fn bytes(nodes: &[Node], files: &[Content], layers: &[File]) -> Result<u64> {
    let mut by_size: Vec<&Content> = files.iter().filter(|f| f.size > 0).collect();
    by_size.sort_by_key(|f| f.size);
    let mut total = 0u64;
    for alike in by_size.chunk_by(|a, b| a.size == b.size) {
        if alike.len() < 2 {
            continue;
        }
        let mut heads: HashMap<Digest, Vec<&Content>> = HashMap::new();
        for file in alike {
            if let Some(head) = read(nodes, file, layers, head)? {
                heads.entry(head).or_default().push(file);
            }
        }
        for same in heads.into_values().filter(|same| same.len() > 1) {
            let size = same.first().map_or(0, |f| f.size);
            if size <= HEAD as u64 {
                total += size * (same.len() as u64 - 1);
                continue;
            }
            let mut copies: HashMap<Digest, u64> = HashMap::new();
            for file in same {
                if let Some(digest) = read(nodes, file, layers, whole)? {
                    *copies.entry(digest).or_default() += 1;
                }
            }
            total += copies.values().map(|n| size * (n - 1)).sum::<u64>();
        }
    }
    Ok(total)
}

fn read(
    nodes: &[Node],
    file: &Content,
    layers: &[File],
    take: fn(&File) -> std::io::Result<Digest>,
) -> Result<Option<Digest>> {
    let path = path(nodes, file.node);
    let say = || format!("cannot read /{} of a layer", show(&path));
    let Some(layer) = layers.get(file.layer as usize) else {
        return Ok(None);
    };
    match tree::open_file_beneath(layer, OsStr::from_bytes(&path), Links::Refuse) {
        Ok(file) => take(&file).context(say).map(Some),
        Err(Errno::ACCESS | Errno::PERM) => Ok(None),
        Err(e) => Err(e).context(say),
    }
}

fn head(file: &File) -> std::io::Result<Digest> {
    let mut buf = [0; HEAD];
    let mut filled = 0;
    while let Some(rest) = buf.get_mut(filled..).filter(|r| !r.is_empty()) {
        match file.read_at(rest, filled as u64)? {
            0 => break,
            n => filled += n,
        }
    }
    Ok(Digest::of(buf.get(..filled).unwrap_or_default()))
}

fn whole(mut file: &File) -> std::io::Result<Digest> {
    let mut hasher = Hasher::default();
    let mut buf = vec![0; 256 << 10];
    loop {
        match file.read(&mut buf)? {
            0 => return Ok(hasher.finish().0),
            n => hasher.update(buf.get(..n).unwrap_or_default()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layers::merge::Builder;
    use std::fs;

    #[test]
    fn copies_of_all_but_one_count() {
        let dir = tempfile::tempdir().unwrap();
        let large = vec![b'l'; 3 * HEAD];
        let mut end = large.clone();
        *end.last_mut().unwrap() = b'x';
        for (name, data) in [
            ("a", &b"small"[..]),
            ("b", b"small"),
            ("c", b"other"),
            ("l1", &large),
            ("l2", &large),
            ("l3", &end),
            ("l4", &large),
            ("none1", b""),
            ("none2", b""),
        ] {
            fs::write(dir.path().join(name), data).unwrap();
        }
        fs::hard_link(dir.path().join("c"), dir.path().join("h")).unwrap();
        let layer = File::open(dir.path()).unwrap();
        let mut builder = Builder::new();
        builder.add(&layer, false).unwrap();
        let (nodes, files, _) = builder.finish();
        let total = bytes(&nodes, &files, std::slice::from_ref(&layer)).unwrap();
        assert_eq!(total, 5 + 2 * large.len() as u64);
    }
}
