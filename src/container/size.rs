//! How much a container has written.

use crate::store::error::{Context, Result};
use crate::sys::fs as sfs;
use crate::sys::{At, dir, xattr};
use std::collections::HashSet;
use std::ffi::CStr;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

/// The marks of a file whose data still lies in a lower layer.
const METACOPY: [&CStr; 2] = [c"trusted.overlay.metacopy", c"user.overlay.metacopy"];

/// Bytes of the files under `upper`, hard links counted once and holes not at
/// all. Directories, links and whiteouts count nothing.
///
/// # Errors
/// When the tree cannot be read.
pub fn written(upper: &Path) -> Result<u64> {
    let say = || format!("cannot read {}", upper.display());
    let root = std::fs::File::open(upper).context(say)?;
    let mut seen = HashSet::new();
    let mut total = 0u64;
    // Breadth by descriptors would need as many as the tree is wide; names on
    // the way down are kept instead, one open directory at a time.
    let mut todo: Vec<Vec<std::ffi::OsString>> = vec![Vec::new()];
    while let Some(path) = todo.pop() {
        let Some(fd) = descend(&root, &path) else {
            continue;
        };
        let mut names = Vec::new();
        dir::read(&fd, 0, |entry| {
            names.push(entry.name.to_owned());
            true
        })
        .context(say)?;
        for name in names {
            let Some(stat) = sfs::absent(sfs::stat_at(&fd, &name)).context(say)? else {
                continue;
            };
            if stat.is_dir() {
                let mut below = path.clone();
                below.push(name);
                todo.push(below);
            } else if stat.is_file() && (stat.nlink == 1 || seen.insert((stat.dev, stat.ino))) {
                let held = stat.size.min(stat.blocks.saturating_mul(512));
                let only_marks = held < stat.size
                    && METACOPY.iter().any(|mark| {
                        matches!(xattr::get(At::Name(fd.as_fd(), &name), mark), Ok(Some(_)))
                    });
                total += if only_marks { 0 } else { held };
            }
        }
    }
    Ok(total)
}

/// The directory at the end of `path`; none when it has gone meanwhile.
fn descend(root: &std::fs::File, path: &[std::ffi::OsString]) -> Option<OwnedFd> {
    let mut fd = dir::open(root).ok()?;
    for name in path {
        fd = sfs::open_dir_path(&fd, name).ok()?;
    }
    dir::open(&fd).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    #[test]
    fn counts_what_files_take() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        assert_eq!(written(dir.path()).unwrap(), 0);
        std::fs::create_dir_all(at("a/b/c")).unwrap();
        symlink("nowhere", at("a/l")).unwrap();
        assert_eq!(written(dir.path()).unwrap(), 0);
        std::fs::write(at("a/b/c/f"), "00000000000000000\n").unwrap();
        std::fs::hard_link(at("a/b/c/f"), at("g")).unwrap();
        assert_eq!(written(dir.path()).unwrap(), 18);
        std::fs::File::create(at("hole"))
            .unwrap()
            .set_len(1 << 30)
            .unwrap();
        assert_eq!(written(dir.path()).unwrap(), 18);
    }
}
