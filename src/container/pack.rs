//! A container's files as an archive: a layer of the image specification, made
//! of what was changed. The same content gives the same bytes.

use super::changes::{Change, Trees, What, family, join};
use crate::layer::marks;
use crate::store::error::{Context, Result, show};
use crate::store::tarball::{Kind, Member};
use crate::store::tarwriter::TarWriter;
use crate::store::unpack::{OPAQUE, WHITEOUT, is_kept};
use crate::store::walk;
use crate::sys::fs::{self as sfs, Stat, Time};
use crate::sys::tree::{self, Links, device_numbers};
use crate::sys::{At, dir, xattr};
use std::collections::HashMap;
use std::ffi::OsStr;
use std::io::{Read, Write};
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;

/// How changes become a layer.
#[derive(Clone, Copy, Debug)]
pub struct LayerWish {
    /// Mode, owner and group of the root without the layer, which gives others.
    pub root: (u32, u32, u32),
    /// No time is later than this.
    pub latest: Option<i64>,
}

/// Write the layer that `changes` of `trees` make; gives back `out`.
///
/// # Errors
/// When a tree cannot be read, or `out` not written.
pub fn write_layer<W: Write>(
    trees: &Trees,
    changes: &[Change],
    wish: LayerWish,
    out: W,
) -> Result<W> {
    let mut packer = Packer::new(out, wish.latest);
    for change in changes {
        let (stat, attributes, data) = match &change.what {
            What::GoneBefore => continue,
            What::Gone => {
                packer.mark(&whiteout(&change.path))?;
                continue;
            }
            What::Here {
                stat,
                attributes,
                data,
            } => (stat, attributes, data),
        };
        let mut names = change.path.split(|&b| b == b'/');
        if names.any(|name| name.starts_with(WHITEOUT)) {
            log::warn!(
                "{} is left out: names that begin with .wh. mean something else in images",
                show(&change.path)
            );
            continue;
        }
        let (dir, name) = trees.locate(attributes)?;
        let at = At::Name(dir.as_fd(), name);
        if change.path.is_empty() && !packer.root_differs(stat, at, wish.root)? {
            continue;
        }
        packer.add(&change.path, stat, at, || {
            let (dir, name) = trees.locate(data)?;
            open(At::Name(dir.as_fd(), name))
        })?;
        if change.replaces {
            packer.mark(&[&change.path, b"/".as_slice(), OPAQUE].concat())?;
        }
    }
    packer.finish()
}

/// The name that says that `path` is gone.
fn whiteout(path: &[u8]) -> Vec<u8> {
    let at = path.iter().rposition(|b| *b == b'/').map_or(0, |at| at + 1);
    let (dir, name) = path.split_at(at);
    [dir, WHITEOUT, name].concat()
}

/// The regular file that is there, if it is still there.
fn open(at: At<'_>) -> Result<Option<std::fs::File>> {
    let opened = match at {
        At::Name(dir, name) => tree::open_file_beneath(dir, name, Links::Refuse),
        At::Fd(fd) => sfs::reopen(fd, libc::O_RDONLY).map(Into::into),
    };
    sfs::absent(opened).context(|| "cannot open it".to_owned())
}

/// Writes files of a tree to an archive.
#[derive(Debug)]
pub struct Packer<W> {
    tar: TarWriter<W>,
    latest: Option<i64>,
    family: marks::Family,
    /// The first name of each file that has several.
    links: HashMap<(u64, u64), Vec<u8>>,
}

impl<W: Write> Packer<W> {
    /// Write to `out`; no time is later than `latest`.
    pub fn new(out: W, latest: Option<i64>) -> Packer<W> {
        Packer {
            tar: TarWriter::new(out),
            latest,
            family: family(),
            links: HashMap::new(),
        }
    }

    /// Write the mark of the end; gives back what was written to.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn finish(self) -> Result<W> {
        self.tar.finish()
    }

    /// Add a member that is in no tree, with its content.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn member(&mut self, member: &Member, content: &mut dyn Read) -> Result<()> {
        self.tar.member(member, content)
    }

    fn mark(&mut self, path: &[u8]) -> Result<()> {
        let member = Member {
            path: path.to_vec(),
            kind: Kind::File,
            mode: 0o600,
            uid: 0,
            gid: 0,
            mtime: Time::default(),
            size: 0,
            xattrs: Vec::new(),
        };
        self.tar.member(&member, &mut std::io::empty())
    }

    /// Has a root other attributes than are known of it; its time does not
    /// count, which each new name in it changes.
    fn root_differs(&self, stat: &Stat, at: At<'_>, known: (u32, u32, u32)) -> Result<bool> {
        let has = (stat.mode & 0o7777, stat.uid, stat.gid);
        Ok(has != known || !self.xattrs(at)?.is_empty())
    }

    /// Add what is at `at`, with what `data` opens if it is a regular file; one
    /// that is gone by then is left out.
    ///
    /// # Errors
    /// When it cannot be read or written.
    pub fn add(
        &mut self,
        path: &[u8],
        stat: &Stat,
        at: At<'_>,
        data: impl FnOnce() -> Result<Option<std::fs::File>>,
    ) -> Result<()> {
        let name = show(path);
        let key = (stat.dev, stat.ino);
        let linked = !stat.is_dir() && stat.nlink > 1;
        let first = self.links.get(&key).filter(|_| linked);
        let (major, minor) = device_numbers(stat.rdev);
        let mut content: Option<std::fs::File> = None;
        let mut size = 0;
        let kind = match (first, stat.kind()) {
            (Some(first), _) => Kind::Hardlink(first.clone()),
            (None, libc::S_IFDIR) => Kind::Dir,
            (None, libc::S_IFLNK) => {
                let target =
                    sfs::absent(sfs::readlink(at)).context(|| format!("cannot read {name}"))?;
                let Some(target) = target else { return Ok(()) };
                Kind::Symlink(target.as_bytes().to_vec())
            }
            (None, libc::S_IFCHR) => Kind::Char(major, minor),
            (None, libc::S_IFBLK) => Kind::Block(major, minor),
            (None, libc::S_IFIFO) => Kind::Fifo,
            (None, libc::S_IFSOCK) => {
                log::warn!("{name} is left out: it is a socket, which archives cannot hold");
                return Ok(());
            }
            (None, _) => {
                let Some(file) = data()? else { return Ok(()) };
                let now = sfs::stat_fd(&file).context(|| format!("cannot look at {name}"))?;
                size = now.size;
                content = Some(file);
                Kind::File
            }
        };
        let sec = match self.latest {
            Some(latest) => stat.mtime.sec.min(latest),
            None => stat.mtime.sec,
        };
        let member = Member {
            path: match path {
                [] => b".".to_vec(),
                path => path.to_vec(),
            },
            mode: stat.mode & 0o7777,
            uid: stat.uid,
            gid: stat.gid,
            mtime: Time { sec, nsec: 0 },
            size,
            xattrs: match kind {
                Kind::Hardlink(_) => Vec::new(),
                _ => self.xattrs(at)?,
            },
            kind,
        };
        // One that grows meanwhile is as long as it was.
        match content {
            Some(file) => self.tar.member(&member, &mut file.take(size))?,
            None => self.tar.member(&member, &mut std::io::empty())?,
        }
        if linked && !self.links.contains_key(&key) {
            self.links.insert(key, member.path);
        }
        Ok(())
    }

    /// Add what is at `top`, and if it is a directory all that is in it, under the
    /// name `path`. What is mounted there is left out, unless `wanted` says of
    /// its path in the directory that it is not.
    ///
    /// # Errors
    /// When it cannot be read or written.
    pub fn add_tree(
        &mut self,
        path: &[u8],
        top: At<'_>,
        wanted: &dyn Fn(&[u8]) -> bool,
    ) -> Result<()> {
        let say = |path: &[u8]| format!("cannot read {}", show(path));
        let stat = sfs::stat(top).context(|| say(path))?;
        self.add(path, &stat, top, || open(top))?;
        if !stat.is_dir() {
            return Ok(());
        }
        let root = match top {
            At::Name(dir, name) => sfs::open_dir_path(dir, name),
            At::Fd(_) => sfs::path_of(top),
        };
        let root = root.context(|| say(path))?;
        // Names on the way are kept, not descriptors: a tree may be deep.
        let mut todo = vec![(Vec::new(), stat.dev)];
        while let Some((below, device)) = todo.pop() {
            let at = OsStr::from_bytes(&below);
            let Some(fd) = sfs::absent(tree::open_dir_beneath(&root, at, Links::Refuse))
                .context(|| say(&below))?
            else {
                continue;
            };
            let mut names = dir::open(&fd)
                .and_then(walk::names)
                .context(|| say(&below))?;
            names.sort_unstable();
            let mut inner = Vec::new();
            for name in names {
                let at = At::Name(fd.as_fd(), &name);
                let Some(stat) = sfs::absent(sfs::stat(at)).context(|| say(&below))? else {
                    continue;
                };
                let place = join(&below, name.as_bytes());
                self.add(&join(path, &place), &stat, at, || open(at))?;
                if stat.is_dir() && (stat.dev == device || wanted(&place)) {
                    inner.push((place, stat.dev));
                }
            }
            todo.extend(inner.into_iter().rev());
        }
        Ok(())
    }

    /// Extended attributes as the container sees them, in their order; without
    /// those that are about this machine.
    fn xattrs(&self, at: At<'_>) -> Result<Vec<(Vec<u8>, Vec<u8>)>> {
        let say = || "cannot read extended attributes".to_owned();
        let mut list = Vec::new();
        if sfs::absent(xattr::list_into(at, &mut list))
            .context(say)?
            .is_none()
        {
            return Ok(Vec::new());
        }
        let mut out = Vec::new();
        for stored in xattr::names(&list) {
            let Some(shown) = marks::to_shown(stored, self.family).filter(|n| is_kept(n)) else {
                continue;
            };
            if let Some(value) = xattr::get(at, stored).context(say)? {
                out.push((shown, value));
            }
        }
        out.sort();
        Ok(out)
    }
}
