//! The members of an archive are put into a tree that is there: beneath its root,
//! by descriptors, as tar would, so that nothing outside is reached whatever the
//! archive and the tree say.

use super::changes::{join, split};
use crate::store::error::{Context, Error, Result, invalid, show};
use crate::store::tarball::{Kind, Member, Reader};
use crate::store::unpack::{components, is_kept};
use crate::sys::fs::{self as sfs, SetTime};
use crate::sys::tree::{self, Links, Node};
use crate::sys::{At, Errno, xattr};
use std::collections::BTreeMap;
use std::ffi::{CString, OsStr};
use std::fs::File;
use std::io::{Read, Seek, SeekFrom, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;

/// Bytes that are read at once.
const STEP: usize = 256 << 10;

/// Where members go.
#[derive(Debug)]
pub struct Place<'a> {
    /// Nothing outside of it is reached.
    pub root: &'a File,
    /// The directory of it that members' names begin in, which is there.
    pub base: Vec<u8>,
    /// Where symlinks on the way lead.
    pub links: Links,
    /// Who owns what is made; none: as the archive says.
    pub owner: Option<(u32, u32)>,
}

/// Put all members of the archive that `from` gives to their place.
///
/// # Errors
/// For a malformed archive, a member in whose place something of another kind
/// is, and when writing fails.
pub fn place(place: &Place<'_>, mut from: impl Read) -> Result<()> {
    let mut reader = Reader::new(|mut buf: Vec<u8>| {
        buf.resize(STEP, 0);
        let mut filled = 0;
        while let Some(rest) = buf.get_mut(filled..).filter(|r| !r.is_empty()) {
            match from.read(rest) {
                Ok(0) => break,
                Ok(n) => filled += n,
                Err(e) if e.kind() == std::io::ErrorKind::Interrupted => {}
                Err(e) => return Err(e),
            }
        }
        buf.truncate(filled);
        Ok(buf)
    });
    let mut dirs = BTreeMap::new();
    while let Some(member) = reader.member()? {
        let parts = components(&member.path, usize::MAX)?;
        let path = parts.join(&b'/');
        if path.is_empty() {
            // The directory is there already.
            continue;
        }
        let named = |e: Error| match e {
            Error::Invalid(m) => Error::Invalid(format!("{}: {m}", show(&path))),
            Error::System(m, io) => Error::System(format!("{}: {m}", show(&path)), io),
            other => other,
        };
        place.put(&path, &member, &mut reader).map_err(named)?;
        if member.kind == Kind::Dir {
            dirs.insert(path, member);
        }
    }
    // The deepest first: nothing has to pass one that is closed already, or
    // changes the time of one.
    for (path, member) in dirs.iter().rev() {
        let (dir, name) = split(path);
        let parent = place.parent(dir)?;
        place.attributes(At::Name(parent.as_fd(), OsStr::from_bytes(name)), member)?;
    }
    Ok(())
}

impl Place<'_> {
    /// The directory that members are in, made where it is not there.
    fn parent(&self, dir: &[u8]) -> Result<OwnedFd> {
        let open =
            |path: &[u8]| tree::open_dir_beneath(self.root, OsStr::from_bytes(path), self.links);
        let say = || "cannot open its directory".to_owned();
        let whole = match dir {
            [] => self.base.clone(),
            dir => join(&self.base, dir),
        };
        match open(&whole) {
            Err(Errno::NOENT) => {}
            found => return found.context(say),
        }
        let mut at = self.base.clone();
        for part in dir.split(|b| *b == b'/') {
            let above = open(&at).context(say)?;
            at = join(&at, part);
            match sfs::mkdir(&above, OsStr::from_bytes(part), 0o755) {
                Ok(()) | Err(Errno::EXIST) => {}
                Err(e) => return Err(e).context(say),
            }
        }
        open(&whole).context(say)
    }

    fn put<C>(&self, path: &[u8], member: &Member, reader: &mut Reader<C>) -> Result<()>
    where
        C: FnMut(Vec<u8>) -> std::io::Result<Vec<u8>>,
    {
        let (dir, leaf) = split(path);
        let parent = self.parent(dir)?;
        let name = OsStr::from_bytes(leaf);
        let there = sfs::absent(sfs::stat_at(&parent, name))
            .context(|| "cannot look at the name".to_owned())?;
        match there {
            Some(stat) if stat.is_dir() && member.kind == Kind::Dir => return Ok(()),
            Some(stat) if stat.is_dir() => {
                return invalid("cannot overwrite a directory with a non-directory");
            }
            Some(_) if member.kind == Kind::Dir => {
                return invalid("cannot overwrite a non-directory with a directory");
            }
            Some(_) => sfs::unlink(&parent, name, false)
                .context(|| "cannot replace what is there".to_owned())?,
            None => {}
        }
        let at = At::Name(parent.as_fd(), name);
        match &member.kind {
            Kind::File | Kind::Sparse(..) => {
                let file = tree::create_file(&parent, name, 0o600);
                let file = file.context(|| "cannot make it".to_owned())?;
                return self.fill(member, reader, file);
            }
            Kind::Dir => {
                return sfs::mkdir(&parent, name, 0o700).context(|| "cannot make it".to_owned());
            }
            Kind::Hardlink(target) => return self.link(target, &parent, name),
            Kind::Symlink(target) => sfs::symlink(OsStr::from_bytes(target), &parent, name),
            Kind::Char(..) | Kind::Block(..) if self.links == Links::Refuse => {
                return invalid("devices are not copied out of containers");
            }
            Kind::Char(major, minor) => {
                tree::make_node(&parent, name, Node::Char(*major, *minor), 0)
            }
            Kind::Block(major, minor) => {
                tree::make_node(&parent, name, Node::Block(*major, *minor), 0)
            }
            Kind::Fifo => tree::make_node(&parent, name, Node::Fifo, 0),
        }
        .context(|| "cannot make it".to_owned())?;
        self.attributes(at, member)
    }

    fn link(&self, target: &[u8], parent: &OwnedFd, name: &OsStr) -> Result<()> {
        let target = components(target, usize::MAX)?.join(&b'/');
        let (dir, leaf) = split(&target);
        let from = self.parent(dir)?;
        sfs::link(
            At::Name(from.as_fd(), OsStr::from_bytes(leaf)),
            parent,
            name,
        )
        .context(|| format!("cannot link it to {}", show(&target)))
    }

    fn fill<C>(&self, member: &Member, reader: &mut Reader<C>, mut file: File) -> Result<()>
    where
        C: FnMut(Vec<u8>) -> std::io::Result<Vec<u8>>,
    {
        let say = || "cannot write it".to_owned();
        match &member.kind {
            Kind::Sparse(size, chunks) => {
                for (offset, length) in chunks {
                    file.seek(SeekFrom::Start(*offset)).context(say)?;
                    reader.exactly(*length, |data| file.write_all(data).context(say))?;
                }
                file.set_len(*size).context(say)?;
            }
            _ => reader.exactly(member.size, |data| file.write_all(data).context(say))?,
        }
        self.attributes(At::Fd(file.as_fd()), member)
    }

    fn attributes(&self, at: At<'_>, member: &Member) -> Result<()> {
        let say = || format!("{}: cannot set its attributes", show(&member.path));
        let (uid, gid) = self.owner.unwrap_or((member.uid, member.gid));
        sfs::chown(at, Some(uid), Some(gid)).context(say)?;
        // What a container's user made gets no rights of ours on the machine.
        let given = self.owner.is_some() && self.links == Links::Refuse;
        let kept = |name: &[u8]| is_kept(name) && !(given && name.starts_with(b"security."));
        for (name, value) in member.xattrs.iter().filter(|(name, _)| kept(name)) {
            let Ok(c_name) = CString::new(name.as_slice()) else {
                return invalid("the name of an extended attribute holds a NUL");
            };
            match xattr::set(at, &c_name, value, 0) {
                Err(Errno::PERM | Errno::OPNOTSUPP) => log::warn!(
                    "{}: extended attribute {} cannot be kept here",
                    show(&member.path),
                    show(name)
                ),
                set => set.context(say)?,
            }
        }
        if !matches!(member.kind, Kind::Symlink(_)) {
            let rights = match member.kind {
                Kind::Dir => 0,
                _ if given => libc::S_ISUID | libc::S_ISGID,
                _ => 0,
            };
            sfs::chmod(at, member.mode & !rights).context(say)?;
        }
        let time = SetTime::At(member.mtime);
        sfs::utimens(at, time, time).context(say)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::tarwriter::TarWriter;
    use std::fs;
    use std::os::unix::fs::symlink;

    fn archive(members: &[(&str, Kind)]) -> Vec<u8> {
        let mut tar = TarWriter::new(Vec::new());
        for (path, kind) in members {
            let member = Member {
                path: path.as_bytes().to_vec(),
                kind: kind.clone(),
                mode: 0o755,
                uid: 0,
                gid: 0,
                mtime: sfs::Time { sec: 7, nsec: 0 },
                size: if *kind == Kind::File { 3 } else { 0 },
                xattrs: Vec::new(),
            };
            tar.member(&member, &mut b"abc".as_slice()).unwrap();
        }
        tar.finish().unwrap()
    }

    fn put(root: &std::path::Path, base: &str, links: Links, tar: &[u8]) -> Result<()> {
        let meta = fs::metadata(root).unwrap();
        let me = std::os::unix::fs::MetadataExt::uid(&meta);
        let group = std::os::unix::fs::MetadataExt::gid(&meta);
        let to = Place {
            root: &File::open(root).unwrap(),
            base: base.as_bytes().to_vec(),
            links,
            owner: Some((me, group)),
        };
        place(&to, tar)
    }

    #[test]
    fn links_lead_nowhere_outside() {
        let tmp = tempfile::tempdir().unwrap();
        let (root, out) = (tmp.path().join("root"), tmp.path().join("out"));
        fs::create_dir_all(root.join("usr/lib")).unwrap();
        fs::create_dir(&out).unwrap();
        symlink("usr/lib", root.join("lib")).unwrap();
        symlink(&out, root.join("outside")).unwrap();
        symlink("../../../../../../..", root.join("up")).unwrap();
        put(
            &root,
            "",
            Links::InRoot,
            &archive(&[("lib/f", Kind::File), ("lib/d/e/f", Kind::File)]),
        )
        .unwrap();
        assert_eq!(fs::read(root.join("usr/lib/d/e/f")).unwrap(), b"abc");
        // In the root the link leads to a directory that is not there.
        assert!(
            put(
                &root,
                "",
                Links::InRoot,
                &archive(&[("outside/f", Kind::File)])
            )
            .is_err()
        );
        put(&root, "up", Links::InRoot, &archive(&[("top", Kind::File)])).unwrap();
        assert!(root.join("top").exists());
        assert!(put(&root, "", Links::Refuse, &archive(&[("lib/g", Kind::File)])).is_err());
        let planted = [
            ("s", Kind::Symlink(out.as_os_str().as_bytes().to_vec())),
            ("s/f", Kind::File),
        ];
        assert!(put(&root, "", Links::Refuse, &archive(&planted)).is_err());
        let hard = [("h", Kind::Hardlink(b"../out/x".to_vec()))];
        assert!(put(&root, "", Links::InRoot, &archive(&hard)).is_err());
        assert!(put(&root, "", Links::InRoot, &archive(&[("../x", Kind::File)])).is_err());
        assert_eq!(fs::read_dir(&out).unwrap().count(), 0);
    }

    #[test]
    fn kinds_are_not_exchanged_and_files_are_replaced() {
        let tmp = tempfile::tempdir().unwrap();
        fs::create_dir(tmp.path().join("d")).unwrap();
        fs::write(tmp.path().join("f"), "old").unwrap();
        let put = |kind: Kind, name| put(tmp.path(), "", Links::Refuse, &archive(&[(name, kind)]));
        let e = put(Kind::File, "d").unwrap_err().to_string();
        assert_eq!(e, "d: cannot overwrite a directory with a non-directory");
        let e = put(Kind::Dir, "f").unwrap_err().to_string();
        assert_eq!(e, "f: cannot overwrite a non-directory with a directory");
        put(Kind::File, "f").unwrap();
        assert_eq!(fs::read(tmp.path().join("f")).unwrap(), b"abc");
        put(Kind::Dir, "d").unwrap();
        let time =
            std::os::unix::fs::MetadataExt::mtime(&fs::metadata(tmp.path().join("d")).unwrap());
        assert_eq!(time, 7);
    }
}
