//! Where a command runs. A runtime that goes there before the old root is gone
//! could be led out of the container by the links of /proc (CVE-2024-21626), so
//! a way through them is refused before it is called, and where the command has
//! come to is looked at afterwards.

use crate::store::error::{Context, Result, invalid, show};
use crate::sys::tree::{self, Links};
use crate::sys::{At, Errno, place};
use std::collections::VecDeque;
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};

/// The kernel follows no more.
const MAX_LINKS: usize = 40;

/// Refuse a working directory that leads into /proc, by links of the image or
/// by itself. One that is not there is made by the runtime.
///
/// # Errors
/// When it does, is not absolute, or has too many links.
pub fn check(root: &File, dir: &str) -> Result<()> {
    must_be_absolute(dir)?;
    let mut left: VecDeque<OsString> = parts(Path::new(dir)).collect();
    let mut at = PathBuf::from("/");
    let mut links = 0;
    while let Some(part) = left.pop_front() {
        if part == ".." {
            at.pop();
            continue;
        }
        match link(root, &at, &part) {
            Some(target) => {
                links += 1;
                if links > MAX_LINKS {
                    return invalid(format!(
                        "the working directory '{}' has too many symbolic links",
                        show(dir.as_bytes())
                    ));
                }
                if target.is_absolute() {
                    at = PathBuf::from("/");
                }
                for part in parts(&target).collect::<Vec<_>>().into_iter().rev() {
                    left.push_front(part);
                }
            }
            None => at.push(part),
        }
        if at.starts_with("/proc") && !left.is_empty() {
            return invalid(format!(
                "the working directory '{}' leads into /proc: name another",
                show(dir.as_bytes())
            ));
        }
    }
    Ok(())
}

/// Refuse a process whose working directory is not in the tree mounted at
/// `root`, for which another mount may have changed the way after [`check`]. One
/// that has ended is fine.
///
/// # Errors
/// When it is outside.
pub fn verify(root: &Path, pid: u32) -> Result<()> {
    let say = || format!("cannot see where process {pid} works");
    let ended = [Errno::NOENT, Errno::SRCH, Errno::ACCESS];
    let dir = match place::open(Path::new(&format!("/proc/{pid}/cwd"))) {
        Err(e) if ended.contains(&e) => return Ok(()),
        dir => dir.context(say)?,
    };
    let top = place::top(&dir).context(say)?;
    let root = place::open(root).and_then(place::look).context(say)?;
    match top.identity == root.identity {
        true => Ok(()),
        false => invalid(
            "the working directory leads out of the container: the command was ended; name another",
        ),
    }
}

/// Refuse a path that does not say where it begins.
///
/// # Errors
/// In docker's words.
pub fn must_be_absolute(dir: &str) -> Result<()> {
    match dir.starts_with('/') && !dir.contains('\0') {
        true => Ok(()),
        false => invalid(format!(
            "the working directory '{}' is invalid, it needs to be an absolute path",
            show(dir.as_bytes())
        )),
    }
}

fn parts(path: &Path) -> impl Iterator<Item = OsString> + '_ {
    path.components().filter_map(|part| match part {
        Component::Normal(name) => Some(name.to_owned()),
        Component::ParentDir => Some(OsString::from("..")),
        Component::RootDir | Component::CurDir | Component::Prefix(_) => None,
    })
}

/// What the name `part` in the directory `at` of the tree links to.
fn link(root: &File, at: &Path, part: &OsStr) -> Option<PathBuf> {
    let inside = at.strip_prefix("/").unwrap_or(at);
    let dir = tree::open_dir_beneath(root, inside.as_os_str(), Links::InRoot).ok()?;
    let target = crate::sys::fs::readlink(At::Name(dir.as_fd(), part)).ok()?;
    Some(PathBuf::from(OsStr::from_bytes(target.as_bytes())))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    #[test]
    fn a_process_elsewhere_is_seen() {
        let dir = tempfile::tempdir().unwrap();
        let mut child = std::process::Command::new("sleep")
            .arg("1000")
            .current_dir(dir.path())
            .spawn()
            .unwrap();
        verify(Path::new("/"), child.id()).unwrap();
        let e = verify(dir.path(), child.id()).unwrap_err().to_string();
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(e.contains("leads out of the container"), "{e}");
        verify(dir.path(), child.id()).unwrap();
    }

    #[test]
    fn no_way_leads_into_proc() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        for name in ["proc", "srv/app", "dev"] {
            std::fs::create_dir_all(at(name)).unwrap();
        }
        symlink("/proc/self/fd", at("dev/fd")).unwrap();
        symlink("../../proc/self", at("srv/self")).unwrap();
        symlink("app", at("srv/current")).unwrap();
        symlink("loop", at("srv/loop")).unwrap();
        symlink("/outside/../srv", at("way")).unwrap();
        let root = File::open(dir.path()).unwrap();
        for good in [
            "/",
            "/srv/app",
            "/srv/current/new",
            "/way/app",
            "/proc",
            "/procedures",
            "/a//b/..",
        ] {
            check(&root, good).unwrap();
        }
        for bad in [
            "/proc/self/fd/8",
            "/proc/1/root",
            "/dev/fd/7",
            "/srv/self/cwd",
            "/srv/../proc/self",
            "/way/self/fd/3",
            "/srv/loop/x",
            "srv",
            "",
            "/a\0b",
        ] {
            assert!(check(&root, bad).is_err(), "{bad}");
        }
    }
}
