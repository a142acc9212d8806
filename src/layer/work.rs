//! The work directory: what is made aside here appears in the upper by one
//! link or rename, or is removed again when dropped.

use crate::sys::{
    At, Errno, Result, dir,
    fs::{self, Replace},
    probe::Features,
};
use parking_lot::Mutex;
use std::ffi::{OsStr, OsString};
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// The work directory of a mount, `WORKDIR/work`.
#[derive(Debug)]
pub struct Work {
    dir: OwnedFd,
    features: Features,
    salt: u32,
    next: AtomicU64,
    /// A whiteout that was made here, of which more are hard links: an inode for
    /// each would be many times the work on ext4. Leaf lock.
    whiteout: Mutex<Option<Arc<OwnedFd>>>,
}

/// What may be at the place where something is installed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Onto {
    /// Nothing: `EEXIST` otherwise.
    Nothing,
    /// A whiteout or another non-directory, replaced in one step.
    File,
    /// A directory or, for a directory, a whiteout: exchanged, and what was
    /// there is removed with all that is in it.
    Anything,
}

/// Something in the work directory that has not been installed.
#[derive(Debug)]
pub struct Staged<'w> {
    work: &'w Work,
    /// The file without a name, or open under its name.
    fd: Option<OwnedFd>,
    name: Option<OsString>,
    is_dir: bool,
}

impl Work {
    /// Take over `WORKDIR/work`, which must be empty.
    pub fn new(dir: OwnedFd, features: Features) -> Work {
        let mut salt = [0; 4];
        if crate::sys::tree::random(&mut salt).is_err() {
            salt = std::process::id().to_le_bytes();
        }
        Work {
            dir,
            features,
            salt: u32::from_le_bytes(salt),
            next: AtomicU64::new(1),
            whiteout: Mutex::default(),
        }
    }

    /// A name that nobody has: kernel overlayfs too removes what begins with
    /// `#` from work and index directories.
    fn temp_name(&self) -> OsString {
        let n = self.next.fetch_add(1, Relaxed);
        format!("#{:x}.{n:x}", self.salt).into()
    }

    fn named<'w>(
        &'w self,
        is_dir: bool,
        make: impl Fn(&OsStr) -> Result<Option<OwnedFd>>,
    ) -> Result<Staged<'w>> {
        loop {
            let name = self.temp_name();
            match make(&name) {
                Ok(fd) => {
                    return Ok(Staged {
                        work: self,
                        fd,
                        name: Some(name),
                        is_dir,
                    });
                }
                Err(Errno::EXIST) => {}
                Err(e) => return Err(e),
            }
        }
    }

    /// An empty regular file, open for reading and writing, mode 0600.
    ///
    /// # Errors
    /// As open(2).
    pub fn file(&self) -> Result<Staged<'_>> {
        if self.features.has(Features::TMPFILE) {
            return Ok(self.nameless(fs::open_tmpfile(&self.dir)?));
        }
        let flags = libc::O_CREAT | libc::O_EXCL | libc::O_RDWR;
        self.named(false, |name| {
            fs::open(&self.dir, name, flags, 0o600).map(Some)
        })
    }

    /// A file of the work directory's file system without a name.
    pub fn nameless(&self, fd: OwnedFd) -> Staged<'_> {
        Staged {
            work: self,
            fd: Some(fd),
            name: None,
            is_dir: false,
        }
    }

    /// An empty directory, mode 0700.
    ///
    /// # Errors
    /// As mkdir(2).
    pub fn dir(&self) -> Result<Staged<'_>> {
        self.named(true, |name| {
            fs::mkdir(&self.dir, name, 0o700).map(|()| None)
        })
    }

    /// A symlink.
    ///
    /// # Errors
    /// As symlink(2).
    pub fn symlink(&self, target: &OsStr) -> Result<Staged<'_>> {
        self.named(false, |name| {
            fs::symlink(target, &self.dir, name).map(|()| None)
        })
    }

    /// A FIFO, socket or device node, with no permissions yet.
    ///
    /// # Errors
    /// As mknod(2).
    pub fn node(&self, kind: u32, rdev: u64) -> Result<Staged<'_>> {
        self.named(false, |name| {
            fs::mknod(&self.dir, name, kind, rdev).map(|()| None)
        })
    }

    /// A whiteout device.
    ///
    /// # Errors
    /// As mknod(2).
    pub fn whiteout(&self) -> Result<Staged<'_>> {
        self.named(false, |name| {
            self.make_whiteout(&self.dir, name).map(|()| None)
        })
    }

    /// Make a whiteout device where nothing is. The caller sees to it that the
    /// name stands still.
    ///
    /// # Errors
    /// As mknod(2).
    pub fn make_whiteout(&self, dir: impl AsFd, name: &OsStr) -> Result<()> {
        let known = self.whiteout.lock().clone();
        if let Some(known) = known {
            match fs::link(At::Fd(known.as_fd()), &dir, name) {
                // Its last name is gone, it has as many as it can have, or the
                // file system has no links.
                Err(e) if e != Errno::EXIST => {}
                result => return result,
            }
        }
        fs::mknod(&dir, name, libc::S_IFCHR, 0)?;
        let made = fs::open_path(&dir, name).ok().map(Arc::new);
        // What was kept is closed after the lock is released.
        let _old = std::mem::replace(&mut *self.whiteout.lock(), made);
        Ok(())
    }

    /// Another name for an inode.
    ///
    /// # Errors
    /// As link(2).
    pub fn link(&self, at: At<'_>) -> Result<Staged<'_>> {
        self.named(false, |name| fs::link(at, &self.dir, name).map(|()| None))
    }

    /// Take a directory and all in it out of the upper in one step, and
    /// remove it here.
    ///
    /// # Errors
    /// As rename(2).
    pub fn take(&self, from: impl AsFd, name: &OsStr) -> Result<()> {
        let temp = self.temp_name();
        // Nothing has that name, whatever the file system can tell of it.
        fs::rename(from, name, &self.dir, &temp, Replace::Yes)?;
        if let Err(e) = remove(&self.dir, &temp) {
            log::warn!("cannot empty the work directory: {e}");
        }
        Ok(())
    }

    /// Remove everything in the directory, whatever its name.
    ///
    /// # Errors
    /// As unlink(2), for what could not be removed.
    pub fn clear(&self) -> Result<()> {
        clear(self.dir.as_fd())
    }
}

/// Remove everything in a directory, without recursion on the stack.
///
/// # Errors
/// The first error of a removal.
pub fn clear(top: impl AsFd) -> Result<()> {
    // Each round removes what is empty at the bottom of one branch, so the
    // number of open descriptors does not grow with the depth.
    loop {
        let mut fd = dir::open(&top)?;
        let mut parent: Option<(OwnedFd, OsString)> = None;
        loop {
            let mut child = None;
            let mut result = Ok(());
            let names = list(&fd)?;
            for name in names {
                result = fs::unlink(&fd, &name, false);
                if matches!(result, Err(Errno::ISDIR | Errno::PERM)) {
                    result = fs::unlink(&fd, &name, true);
                }
                match result {
                    Ok(()) | Err(Errno::NOENT) => result = Ok(()),
                    Err(Errno::NOTEMPTY) => {
                        child = Some(name);
                        result = Ok(());
                        break;
                    }
                    Err(_) => break,
                }
            }
            result?;
            match child {
                None if parent.is_none() => return Ok(()),
                None => break,
                Some(name) => {
                    let next = fs::open(&fd, &name, libc::O_RDONLY | libc::O_DIRECTORY, 0)?;
                    parent = Some((fd, name));
                    fd = next;
                }
            }
        }
        if let Some((above, name)) = parent {
            fs::unlink(above, &name, true)?;
        }
    }
}

fn list(fd: &OwnedFd) -> Result<Vec<OsString>> {
    let mut names = Vec::new();
    dir::read(fd, 0, |e| {
        names.push(e.name.to_owned());
        true
    })?;
    Ok(names)
}

impl Staged<'_> {
    /// Where it is now, for attributes.
    pub fn at(&self) -> At<'_> {
        match (&self.name, &self.fd) {
            (Some(name), _) => At::Name(self.work.dir.as_fd(), name),
            (None, Some(fd)) => At::Fd(fd.as_fd()),
            // Not reached: it has a name or a descriptor.
            (None, None) => At::Name(self.work.dir.as_fd(), OsStr::new("")),
        }
    }

    /// The open file, if it is one.
    pub fn fd(&self) -> Option<&OwnedFd> {
        self.fd.as_ref()
    }

    /// The open file, to be kept though it gets no name.
    pub fn take_fd(&mut self) -> Option<OwnedFd> {
        self.fd.take()
    }

    /// Put it in place. The descriptor of a file is given back, still open.
    ///
    /// # Errors
    /// As link(2) and rename(2); it is then removed.
    pub fn install(mut self, to: impl AsFd, name: &OsStr, onto: Onto) -> Result<Option<OwnedFd>> {
        if self.name.is_none() && onto == Onto::Nothing {
            fs::link(self.at(), to, name)?;
            return Ok(self.fd.take());
        }
        if self.name.is_none() {
            let staged = self.work.link(self.at())?;
            staged.install(to, name, onto)?;
            return Ok(self.fd.take());
        }
        let Some(temp) = self.name.take() else {
            return Err(Errno::INVAL);
        };
        let result = self.rename_from(&temp, &to, name, onto);
        if let Err(e) = result {
            self.name = Some(temp);
            return Err(e);
        }
        Ok(self.fd.take())
    }

    fn rename_from(&self, temp: &OsStr, to: &impl AsFd, name: &OsStr, onto: Onto) -> Result<()> {
        let dir = &self.work.dir;
        match onto {
            Onto::Nothing => match fs::rename(dir, temp, to, name, Replace::No) {
                // The file system has no RENAME_NOREPLACE.
                Err(Errno::INVAL) => {
                    if fs::absent(fs::stat_at(to, name))?.is_some() {
                        return Err(Errno::EXIST);
                    }
                    fs::rename(dir, temp, to, name, Replace::Yes)
                }
                result => result,
            },
            Onto::File if !self.is_dir => fs::rename(dir, temp, to, name, Replace::Yes),
            Onto::File | Onto::Anything => {
                if self.work.features.has(Features::EXCHANGE) {
                    fs::rename(dir, temp, to, name, Replace::Exchange)?;
                    // What was replaced is in the work directory now. It is
                    // out of sight: failing to remove it harms nobody.
                    if let Err(e) = remove(dir, temp) {
                        log::warn!("cannot empty the work directory: {e}");
                    }
                    return Ok(());
                }
                let old = self.work.temp_name();
                fs::rename(to, name, dir, &old, Replace::Yes)?;
                if let Err(e) = fs::rename(dir, temp, to, name, Replace::Yes) {
                    fs::rename(dir, &old, to, name, Replace::Yes)?;
                    return Err(e);
                }
                if let Err(e) = remove(dir, &old) {
                    log::warn!("cannot empty the work directory: {e}");
                }
                Ok(())
            }
        }
    }
}

/// Remove a name whatever it is.
///
/// # Errors
/// As unlink(2).
fn remove(parent: &OwnedFd, name: &OsStr) -> Result<()> {
    match fs::unlink(parent, name, false) {
        Err(Errno::ISDIR | Errno::PERM) => {}
        result => return result,
    }
    match fs::unlink(parent, name, true) {
        Err(Errno::NOTEMPTY) => {
            clear(fs::open_dir_path(parent, name)?)?;
            fs::unlink(parent, name, true)
        }
        result => result,
    }
}

impl Drop for Staged<'_> {
    fn drop(&mut self) {
        if let Some(name) = self.name.take()
            && let Err(e) = remove(&self.work.dir, &name)
        {
            log::warn!("cannot remove {name:?} from the work directory: {e}");
        }
    }
}
