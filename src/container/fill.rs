//! A new volume of a container begins with what the image has in its place.

use super::{Containers, Record, Status, volume};
use crate::layer::work;
use crate::store::error::{Context, Result};
use crate::store::{remove_if_there, walk};
use crate::sys::fs::{self as sfs, SetTime, Stat};
use crate::sys::tree::{self, Kind, Links};
use crate::sys::{At, Errno, copy, dir, xattr};
use std::ffi::OsStr;
use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd};

impl Containers<'_> {
    /// Make the volumes of a container that are not there yet, and give those
    /// that are empty what the image has in their place; `root` is the mounted
    /// root.
    ///
    /// # Errors
    /// When one cannot be made.
    pub fn fill_volumes(&self, record: &Record, root: &File) -> Result<()> {
        self.make_volumes(record)?;
        let volumes = record.settings.mounts.iter();
        for volume in volumes.filter(|m| m.kind == volume::Kind::Volume) {
            let say = || format!("cannot fill the volume for {}", volume.target);
            let inside = OsStr::new(volume.target.trim_start_matches('/'));
            let from = match tree::open_dir_beneath(root, inside, Links::InRoot) {
                Ok(from) => Some(from).filter(|_| !volume.no_copy),
                Err(Errno::NOENT | Errno::NOTDIR) => None,
                Err(e) => return Err(e).context(say),
            };
            self.fill(record, &volume.source, from.as_ref().map(AsFd::as_fd))
                .context(say)?;
        }
        Ok(())
    }

    /// Copy `from` to a volume that is empty. Others may have it mounted by now,
    /// so it is filled where it is; one who waits for its lock finds it full. Who
    /// has nothing to copy only sees that no half of another's copy is in it, lest
    /// what is written now be taken for that.
    fn fill(
        &self,
        record: &Record,
        name: &str,
        from: Option<BorrowedFd<'_>>,
    ) -> std::io::Result<()> {
        let dir = File::open(self.volume_dir(name))?;
        dir.lock()?;
        let to = File::open(self.volume_data(name))?;
        let mark = self.volume_dir(name).join("filling");
        if mark.exists() && self.runs_nowhere_else(record, name)? {
            // Whoever filled it was killed, and what it copied is not all.
            work::clear(&to)?;
        }
        if let Some(from) = from
            && walk::names(dir::open(&to)?)?.is_empty()
        {
            File::create(&mark)?;
            copy_dir(from, to.as_fd())?;
            tree::sync_filesystem(&to)?;
        }
        remove_if_there(&mark)
    }

    /// Is no other container running that has the volume.
    fn runs_nowhere_else(&self, record: &Record, name: &str) -> std::io::Result<bool> {
        let users = self.volume_users(name)?;
        let mut others = users.iter().filter(|r| r.id != record.id);
        Ok(!others.any(|r| self.status(r).0 == Status::Running))
    }
}

/// Copy what is in a directory, and its own attributes.
fn copy_dir(from: BorrowedFd<'_>, to: BorrowedFd<'_>) -> crate::sys::Result<()> {
    for name in walk::names(dir::open(from)?)? {
        let source = At::Name(from, &name);
        let stat = sfs::stat(source)?;
        match tree::kind_of(&stat) {
            Kind::Dir => {
                sfs::mkdir(to, &name, 0o700)?;
                let inner = sfs::open_dir_path(from, &name)?;
                copy_dir(inner.as_fd(), sfs::open_dir_path(to, &name)?.as_fd())?;
                continue;
            }
            Kind::File => {
                let data = tree::open_file_beneath(from, &name, Links::Refuse)?;
                copy::data(data, tree::create_file(to, &name, 0o600)?, stat.size, true)?;
            }
            Kind::Symlink => sfs::symlink(&sfs::readlink(source)?, to, &name)?,
            Kind::Other => sfs::mknod(to, &name, stat.mode, stat.rdev)?,
        }
        attributes(source, At::Name(to, &name), &stat)?;
    }
    attributes(At::Fd(from), At::Fd(to), &sfs::stat(At::Fd(from))?)
}

fn attributes(from: At<'_>, to: At<'_>, stat: &Stat) -> crate::sys::Result<()> {
    sfs::chown(to, Some(stat.uid), Some(stat.gid))?;
    let mut list = Vec::new();
    xattr::list_into(from, &mut list)?;
    for name in xattr::names(&list) {
        if let Some(value) = xattr::get(from, name)? {
            xattr::set(to, name, &value, 0)?;
        }
    }
    if tree::kind_of(stat) != Kind::Symlink {
        sfs::chmod(to, stat.mode & 0o7777)?;
    }
    sfs::utimens(to, SetTime::At(stat.atime), SetTime::At(stat.mtime))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};

    #[test]
    fn a_tree_is_copied_with_its_attributes() {
        let tmp = tempfile::tempdir().unwrap();
        let at = |name: &str| tmp.path().join(name);
        fs::create_dir_all(at("from/a/b")).unwrap();
        fs::write(at("from/a/b/f"), "data").unwrap();
        symlink("../f", at("from/a/l")).unwrap();
        let mode = fs::Permissions::from_mode(0o2750);
        fs::set_permissions(at("from/a"), mode).unwrap();
        fs::create_dir(at("to")).unwrap();
        let open = |name: &str| File::open(at(name)).unwrap();
        copy_dir(open("from").as_fd(), open("to").as_fd()).unwrap();
        assert_eq!(fs::read(at("to/a/b/f")).unwrap(), b"data");
        assert_eq!(fs::read_link(at("to/a/l")).unwrap().as_os_str(), "../f");
        for name in ["a", "a/b", "a/b/f"] {
            let meta = |base: &str| fs::symlink_metadata(at(base).join(name)).unwrap();
            let (from, to) = (meta("from"), meta("to"));
            assert_eq!(
                (from.mode(), from.mtime()),
                (to.mode(), to.mtime()),
                "{name}"
            );
        }
    }
}
