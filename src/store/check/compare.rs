//! Two trees that ought to be the same.

use crate::store::error::{Context, Result, show};
use crate::store::walk::{descend, names};
use crate::sys::fs::{self as sfs, Stat};
use crate::sys::tree::{self, Links};
use crate::sys::{At, Errno, xattr};
use std::collections::{BTreeMap, HashMap};
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::Read;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// Bytes of two files that are looked at together.
const PIECE: usize = 256 << 10;

/// Call `each` with every place where the tree `found` differs from `right`,
/// and how. What takes memory is one directory's names and the numbers of
/// files that have several names.
///
/// # Errors
/// When `right` cannot be read, or anything for want of memory or descriptors.
pub fn compare(right: &Path, found: &Path, each: &mut dyn FnMut(&Path, &str)) -> Result<()> {
    let open = |path: &Path| File::open(path).context(|| format!("cannot read {}", path.display()));
    let (right_top, found_top) = (open(right)?, open(found)?);
    let mut trees = Trees {
        links: HashMap::new(),
        each,
    };
    let stats = [stat_top(&right_top)?, stat_top(&found_top)?];
    let tops = [At::Fd(right_top.as_fd()), At::Fd(found_top.as_fd())];
    trees.attributes(Path::new("/"), &stats, tops)?;
    let mut todo: Vec<Vec<OsString>> = vec![Vec::new()];
    while let Some(path) = todo.pop() {
        let shown: PathBuf = path.iter().collect();
        let pair = (descend(&right_top, &path), descend(&found_top, &path));
        let (right_dir, found_dir) = match pair {
            (Ok(right), Ok(found)) => (right, found),
            // Without privileges a closed directory is closed in both.
            (Err(Errno::ACCESS), Err(Errno::ACCESS)) => continue,
            (Err(e), _) => return Err(e).context(|| format!("cannot read {}", right.display())),
            (_, Err(e)) => {
                (trees.each)(&shown, &format!("cannot be read: {e}"));
                continue;
            }
        };
        for name in trees.directory(&shown, &right_dir, &found_dir)? {
            let mut below = path.clone();
            below.push(name);
            todo.push(below);
        }
    }
    Ok(())
}

fn stat_top(top: &File) -> Result<Stat> {
    sfs::stat_fd(top).context(|| "cannot read the layer".to_owned())
}

struct Trees<'a> {
    /// Files with several names: the one that stands for it in the other tree.
    links: HashMap<u64, u64>,
    each: &'a mut dyn FnMut(&Path, &str),
}

impl Trees<'_> {
    /// Compare the entries of one directory; returns the directories in it
    /// that both trees have.
    fn directory(
        &mut self,
        path: &Path,
        right: &OwnedFd,
        found: &OwnedFd,
    ) -> Result<Vec<OsString>> {
        let say = || format!("cannot read {}", show(path.as_os_str().as_bytes()));
        let mut all: BTreeMap<OsString, (bool, bool)> = BTreeMap::new();
        for name in names(right).context(say)? {
            all.entry(name).or_default().0 = true;
        }
        for name in names(found).context(say)? {
            all.entry(name).or_default().1 = true;
        }
        let mut dirs = Vec::new();
        for (name, there) in all {
            let inner = path.join(&name);
            match there {
                (true, false) => (self.each)(&inner, "is missing"),
                (false, _) => (self.each)(&inner, "is not in the archive"),
                (true, true) => {
                    if self.entry(&inner, right, found, &name)? {
                        dirs.push(name);
                    }
                }
            }
        }
        Ok(dirs)
    }

    /// True for two directories.
    fn entry(
        &mut self,
        path: &Path,
        right: &OwnedFd,
        found: &OwnedFd,
        name: &OsStr,
    ) -> Result<bool> {
        let say = || format!("cannot read {}", show(path.as_os_str().as_bytes()));
        let stats = [
            sfs::stat_at(right, name).context(say)?,
            sfs::stat_at(found, name).context(say)?,
        ];
        let at = [At::Name(right.as_fd(), name), At::Name(found.as_fd(), name)];
        let [r, f] = &stats;
        if r.kind() != f.kind() {
            (self.each)(path, "has another type");
            return Ok(false);
        }
        self.attributes(path, &stats, at)?;
        let content = match r.kind() {
            libc::S_IFREG if r.size != f.size => {
                let text = format!("has {} bytes instead of {}", f.size, r.size);
                (self.each)(path, &text);
                return Ok(false);
            }
            libc::S_IFREG if self.first_name(path, r, f) => same_content(right, found, name),
            libc::S_IFLNK => sfs::readlink(at[0]).and_then(|a| Ok(a == sfs::readlink(at[1])?)),
            libc::S_IFCHR | libc::S_IFBLK => Ok(r.rdev == f.rdev),
            _ => Ok(true),
        };
        match content {
            Ok(true) => {}
            Ok(false) => (self.each)(path, "has another content"),
            Err(e) => (self.each)(path, &format!("cannot be read: {e}")),
        }
        Ok(r.is_dir())
    }

    /// False for a further name of a file that was compared already.
    fn first_name(&mut self, path: &Path, right: &Stat, found: &Stat) -> bool {
        if right.nlink != found.nlink {
            let text = format!("has {} names instead of {}", found.nlink, right.nlink);
            (self.each)(path, &text);
        }
        if right.nlink == 1 {
            return true;
        }
        match self.links.insert(right.ino, found.ino) {
            None => true,
            Some(before) if before == found.ino => false,
            Some(_) => {
                (self.each)(path, "is a file of its own instead of a hard link");
                true
            }
        }
    }

    fn attributes(&mut self, path: &Path, stats: &[Stat; 2], at: [At<'_>; 2]) -> Result<()> {
        let [right, found] = stats;
        let mut wrong = Vec::new();
        if right.mode != found.mode {
            let bits = |s: &Stat| s.mode & 0o7777;
            wrong.push(format!(
                "mode {:o} instead of {:o}",
                bits(found),
                bits(right)
            ));
        }
        if (right.uid, right.gid) != (found.uid, found.gid) {
            let (r, f) = (right, found);
            wrong.push(format!(
                "owner {}:{} instead of {}:{}",
                f.uid, f.gid, r.uid, r.gid
            ));
        }
        // Marks have no time of their own: nobody sees them.
        let mark = right.is_whiteout()
            || path
                .file_name()
                .is_some_and(|n| n.as_bytes().starts_with(b".wh."));
        if right.mtime != found.mtime && !mark {
            wrong.push(format!(
                "time {}.{:09} instead of {}.{:09}",
                found.mtime.sec, found.mtime.nsec, right.mtime.sec, right.mtime.nsec
            ));
        }
        let say = || format!("cannot read {}", show(path.as_os_str().as_bytes()));
        let [r, f] = at;
        if attributes(r).context(say)? != attributes(f).context(say)? {
            wrong.push("other extended attributes".to_owned());
        }
        if !wrong.is_empty() {
            (self.each)(path, &format!("has {}", wrong.join(", ")));
        }
        Ok(())
    }
}

/// All extended attributes but the label, which the machine gives.
fn attributes(at: At<'_>) -> crate::sys::Result<BTreeMap<Vec<u8>, Option<Vec<u8>>>> {
    let mut list = Vec::new();
    xattr::list_into(at, &mut list)?;
    let own = xattr::names(&list).filter(|n| n.to_bytes() != b"security.selinux");
    own.map(|name| Ok((name.to_bytes().to_vec(), xattr::get(at, name)?)))
        .collect()
}

fn same_content(right: &OwnedFd, found: &OwnedFd, name: &OsStr) -> crate::sys::Result<bool> {
    let open = |dir| match tree::open_file_beneath(dir, name, Links::Refuse) {
        // Without privileges a closed file is closed in both.
        Err(Errno::ACCESS) => Ok(None),
        file => file.map(Some),
    };
    let (Some(mut right), Some(mut found)) = (open(right)?, open(found)?) else {
        return Ok(true);
    };
    let (mut a, mut b) = (Vec::with_capacity(PIECE), Vec::with_capacity(PIECE));
    loop {
        for (file, buf) in [(&mut right, &mut a), (&mut found, &mut b)] {
            buf.clear();
            file.by_ref()
                .take(PIECE as u64)
                .read_to_end(buf)
                .map_err(|e| Errno::from_io_error(&e).unwrap_or(Errno::IO))?;
        }
        if a != b {
            return Ok(false);
        }
        if a.is_empty() {
            return Ok(true);
        }
    }
}
