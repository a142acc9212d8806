//! Removing trees that strangers made.

use super::walk::names;
use crate::sys::fs::{self as sfs, Replace, absent};
use crate::sys::{At, Errno, Result, dir};
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::os::fd::AsFd;
use std::path::Path;

/// Remove the directory `path` and all in it, whatever its depth and modes.
///
/// A directory that is not empty is first moved up to the top of the tree, so
/// that no more than two directories are ever open; symlinks are not followed.
///
/// # Errors
/// When something cannot be removed, a mount point for example.
pub fn remove_tree(path: &Path) -> std::io::Result<()> {
    let top = File::open(path)?;
    let mut moved = 0u64;
    loop {
        let names = names(&top)?;
        if names.is_empty() {
            break;
        }
        for name in names {
            if !remove_one(&top, &name)? {
                // Somebody else may be removing from it: a driver that ends.
                absent(empty(&top, &name, &mut moved))?;
            }
        }
    }
    std::fs::remove_dir(path)
}

/// Remove a file or an empty directory; false when it is not empty.
fn remove_one(dir: impl AsFd, name: &OsStr) -> Result<bool> {
    match sfs::unlink(dir.as_fd(), name, false) {
        Ok(()) | Err(Errno::NOENT) => return Ok(true),
        Err(Errno::ISDIR | Errno::PERM) => {}
        Err(e) => return Err(e),
    }
    match sfs::unlink(dir, name, true) {
        Ok(()) | Err(Errno::NOENT) => Ok(true),
        Err(Errno::NOTEMPTY | Errno::EXIST) => Ok(false),
        Err(e) => Err(e),
    }
}

/// Remove the directory `name`, after moving up what is not empty in it.
fn empty(top: &File, name: &OsStr, moved: &mut u64) -> Result<()> {
    let fd = sfs::open_dir_path(top, name)?;
    open_up(At::Fd(fd.as_fd()))?;
    let fd = dir::open(&fd)?;
    for inner in names(&fd)? {
        if remove_one(&fd, &inner)? {
            continue;
        }
        // It gets another parent, which changes what is in it.
        if absent(open_up(At::Name(fd.as_fd(), &inner)))?.is_none() {
            continue;
        }
        loop {
            *moved += 1;
            let new = OsString::from(format!("moved-{moved}"));
            match sfs::rename(&fd, &inner, top, &new, Replace::No) {
                Err(Errno::EXIST) => {}
                done => {
                    absent(done)?;
                    break;
                }
            }
        }
    }
    sfs::unlink(top, name, true)
}

/// Give ourselves the rights to a directory that its mode keeps from us.
fn open_up(at: At<'_>) -> Result<()> {
    if sfs::stat(at)?.mode & 0o700 != 0o700 {
        sfs::chmod(at, 0o700)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn trees_of_any_depth_go_and_nothing_else() {
        let tmp = tempfile::tempdir().unwrap();
        let kept = tmp.path().join("kept");
        std::fs::create_dir_all(kept.join("sub")).unwrap();
        let tree = tmp.path().join("tree");
        std::fs::create_dir(&tree).unwrap();
        std::os::unix::fs::symlink(&kept, tree.join("link")).unwrap();
        std::fs::create_dir(tree.join("moved-1")).unwrap();
        let mut fd = File::open(&tree).unwrap();
        let name = OsStr::new("a-directory-of-the-deep-kind");
        for depth in 0..3000 {
            sfs::mkdir(&fd, name, 0o700).unwrap();
            let file = File::from(sfs::open(&fd, name, 0, 0).unwrap());
            std::os::unix::fs::symlink("/", tree.join(format!("l{depth}"))).unwrap();
            crate::sys::tree::create_file(&file, OsStr::new("f"), 0o600).unwrap();
            if depth % 3 == 0 {
                sfs::mkdir(&file, OsStr::new("closed"), 0).unwrap();
            }
            fd = file;
        }
        drop(fd);
        remove_tree(&tree).unwrap();
        assert!(!tree.exists());
        assert!(kept.join("sub").exists());
    }

    #[test]
    fn several_remove_one_tree() {
        let tmp = tempfile::tempdir().unwrap();
        let tree = tmp.path().join("tree");
        for _ in 0..10 {
            for n in 0..200 {
                std::fs::create_dir_all(tree.join(format!("{n}/a/b/c"))).unwrap();
            }
            std::thread::scope(|scope| {
                let all: Vec<_> = (0..3).map(|_| scope.spawn(|| remove_tree(&tree))).collect();
                for one in all {
                    // Nobody gives up before it is gone.
                    let done = one.join().unwrap();
                    assert!(done.is_ok() || !tree.exists(), "{done:?}");
                }
            });
            assert!(!tree.exists());
        }
    }
}
