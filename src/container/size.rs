//! How much a container has written.

use crate::store::error::Result;
use crate::store::walk::walk;
use crate::sys::{At, xattr};
use std::collections::HashSet;
use std::ffi::CStr;
use std::os::fd::AsFd;
use std::path::Path;

/// The marks of a file whose data still lies in a lower layer.
const METACOPY: [&CStr; 2] = [c"trusted.overlay.metacopy", c"user.overlay.metacopy"];

/// Bytes of the files under `upper`, hard links counted once and holes not at
/// all. Directories, links and whiteouts count nothing.
///
/// # Errors
/// When the tree cannot be read.
pub fn written(upper: &Path) -> Result<u64> {
    let mut seen = HashSet::new();
    let mut total = 0u64;
    walk(upper, |dir, name, stat| {
        if stat.is_file() && (stat.nlink == 1 || seen.insert((stat.dev, stat.ino))) {
            let held = stat.size.min(stat.blocks.saturating_mul(512));
            let mut marks = METACOPY
                .iter()
                .map(|mark| xattr::get(At::Name(dir.as_fd(), name), mark));
            let only_marks = held < stat.size && marks.any(|mark| matches!(mark, Ok(Some(_))));
            total += if only_marks { 0 } else { held };
        }
        Ok(())
    })?;
    Ok(total)
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
