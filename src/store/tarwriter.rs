//! A tar archive that is written, so that the same members give the same bytes:
//! owners by their numbers, times in whole seconds, nothing of this machine.

use super::error::{Context, Error, Result, invalid, show};
use super::tarball::{Kind, Member, padding};
use crate::sys::fs::Time;
use std::io::{Read, Write};
use tar_core::EntryType;
use tar_core::builder::EntryBuilder;

/// Writes members one after the other.
#[derive(Debug)]
pub struct TarWriter<W> {
    out: W,
}

fn say() -> String {
    "cannot write the archive".to_owned()
}

impl<W: Write> TarWriter<W> {
    /// Write to `out`.
    pub fn new(out: W) -> Self {
        TarWriter { out }
    }

    /// A directory without anything special; `name` without the slash that ends
    /// it in archives.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn dir(&mut self, name: &str) -> Result<()> {
        self.member(&plain(name, Kind::Dir, 0o755, 0), &mut std::io::empty())
    }

    /// A file without anything special; `content` is read to its end and must be
    /// `size` bytes.
    ///
    /// # Errors
    /// When it cannot be read or written, or has another size.
    pub fn file(&mut self, name: &str, size: u64, content: &mut dyn Read) -> Result<()> {
        self.member(&plain(name, Kind::File, 0o644, size), content)
    }

    /// Any member; of a file, `content` is read to its end and must be as long
    /// as the member says. Extended attributes that an archive cannot hold are
    /// left out, with a warning.
    ///
    /// # Errors
    /// When it cannot be read or written, or has another size.
    pub fn member(&mut self, member: &Member, content: &mut dyn Read) -> Result<()> {
        let bytes =
            header(member).map_err(|e| Error::Invalid(format!("{}: {e}", show(&member.path))))?;
        self.out.write_all(&bytes).context(say)?;
        if member.kind != Kind::File {
            return Ok(());
        }
        copy_exactly(content, member.size, &mut self.out, &show(&member.path))?;
        let pad = usize::try_from(padding(member.size)).unwrap_or_default();
        let zeros = [0; tar_core::HEADER_SIZE];
        self.out
            .write_all(zeros.get(..pad).unwrap_or_default())
            .context(say)
    }

    /// Write the mark of the end; gives back what was written to.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn finish(mut self) -> Result<W> {
        self.out
            .write_all(&[0; 2 * tar_core::HEADER_SIZE])
            .context(say)?;
        self.out.flush().context(say)?;
        Ok(self.out)
    }
}

fn plain(name: &str, kind: Kind, mode: u32, size: u64) -> Member {
    Member {
        path: name.as_bytes().to_vec(),
        kind,
        mode,
        uid: 0,
        gid: 0,
        mtime: Time::default(),
        size,
        xattrs: Vec::new(),
    }
}

/// A member's header, with the records before it that it needs.
fn header(member: &Member) -> tar_core::Result<Vec<u8>> {
    let mut entry = EntryBuilder::new_ustar();
    let kind = match &member.kind {
        Kind::File | Kind::Sparse(..) => EntryType::Regular,
        Kind::Dir => EntryType::Directory,
        Kind::Symlink(_) => EntryType::Symlink,
        Kind::Hardlink(_) => EntryType::Link,
        Kind::Char(..) => EntryType::Char,
        Kind::Block(..) => EntryType::Block,
        Kind::Fifo => EntryType::Fifo,
    };
    match &member.kind {
        Kind::Dir => entry.path([member.path.as_slice(), b"/"].concat()),
        _ => entry.path(&member.path),
    };
    entry.entry_type(kind);
    match &member.kind {
        Kind::Symlink(target) | Kind::Hardlink(target) => drop(entry.link_name(target)),
        Kind::Char(major, minor) | Kind::Block(major, minor) => {
            entry.device(*major, *minor)?;
        }
        _ => {}
    }
    let size = match member.kind {
        Kind::File => member.size,
        _ => 0,
    };
    entry.mode(member.mode)?;
    entry.uid(member.uid.into())?.gid(member.gid.into())?;
    entry.size(size)?;
    match u64::try_from(member.mtime.sec) {
        Ok(seconds) => drop(entry.mtime(seconds)?),
        Err(_) => {
            entry.mtime(0)?;
            entry.add_pax("mtime", member.mtime.sec.to_string());
        }
    }
    for (name, value) in &member.xattrs {
        match std::str::from_utf8(name) {
            Ok(name) if !name.contains('=') => {
                entry.add_pax(&format!("SCHILY.xattr.{name}"), value);
            }
            _ => log::warn!(
                "{}: extended attribute {} is left out: archives cannot name it",
                show(&member.path),
                show(name)
            ),
        }
    }
    Ok(entry.finish_bytes())
}

/// Copy `from` to its end, which must come after `size` bytes.
///
/// # Errors
/// When it cannot be read or written, or has another size.
pub fn copy_exactly(from: &mut dyn Read, size: u64, to: &mut impl Write, what: &str) -> Result<()> {
    let mut buf = vec![0; 256 << 10];
    let mut left = size;
    loop {
        let n = match from.read(&mut buf) {
            Err(e) if e.kind() == std::io::ErrorKind::Interrupted => continue,
            n => n.context(|| format!("cannot read {what}"))?,
        };
        match left.checked_sub(n as u64) {
            Some(rest) if n > 0 => left = rest,
            Some(0) => return Ok(()),
            _ => return invalid(format!("{what} has not the {size} bytes it should have")),
        }
        to.write_all(buf.get(..n).unwrap_or_default())
            .context(say)?;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::tarball::{Found, Headers, Kind};

    #[test]
    fn what_is_written_is_read() {
        let mut tar = TarWriter::new(Vec::new());
        let long = "n".repeat(200);
        tar.dir("blobs").unwrap();
        tar.file(&long, 3, &mut b"abc".as_slice()).unwrap();
        let bytes = tar.finish().unwrap();
        assert_eq!(bytes.len() % 512, 0);
        let mut headers = Headers::default();
        let Found::Member(n, dir) = headers.next(&bytes).unwrap() else {
            panic!("no member")
        };
        assert_eq!((dir.path.as_slice(), dir.kind), (&b"blobs/"[..], Kind::Dir));
        let Found::Member(more, file) = headers.next(&bytes[n..]).unwrap() else {
            panic!("no member")
        };
        assert_eq!((file.path, file.size), (long.into_bytes(), 3));
        assert_eq!(&bytes[n + more..n + more + 3], b"abc");
    }

    #[test]
    fn a_content_of_another_size_is_refused() {
        for content in [b"ab".as_slice(), b"abcd"] {
            let mut tar = TarWriter::new(Vec::new());
            let e = tar.file("f", 3, &mut { content }).unwrap_err().to_string();
            assert!(e.contains("3 bytes"), "{e}");
        }
    }
}
