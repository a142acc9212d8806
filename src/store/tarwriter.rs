//! A tar archive that is written: plain directories and files, all times 0, so
//! that the same content gives the same bytes.

use super::error::{Context, Error, Result, invalid};
use super::tarball::padding;
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

    /// A directory; `name` without the slash that ends it in archives.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn dir(&mut self, name: &str) -> Result<()> {
        self.header(&format!("{name}/"), EntryType::Directory, 0o755, 0)
    }

    /// A file with what `content` gives, which is read to its end and must be
    /// `size` bytes.
    ///
    /// # Errors
    /// When it cannot be read or written, or has another size.
    pub fn file(&mut self, name: &str, size: u64, content: &mut dyn Read) -> Result<()> {
        self.header(name, EntryType::Regular, 0o644, size)?;
        copy_exactly(content, size, &mut self.out, name)?;
        let pad = usize::try_from(padding(size)).unwrap_or_default();
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

    fn header(&mut self, name: &str, kind: EntryType, mode: u32, size: u64) -> Result<()> {
        let mut entry = EntryBuilder::new_ustar();
        entry.path(name).entry_type(kind);
        let filled = || -> tar_core::Result<Vec<u8>> {
            entry.mode(mode)?.uid(0)?.gid(0)?.size(size)?.mtime(0)?;
            Ok(entry.finish_bytes())
        };
        let bytes = { filled }().map_err(|e| Error::Invalid(format!("{name}: {e}")))?;
        self.out.write_all(&bytes).context(say)
    }
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
