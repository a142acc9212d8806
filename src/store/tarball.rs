//! The members of a tar archive, read once and from one point of view.
//!
//! tar-core parses headers; what it is lenient about is refused here, so that
//! no other program could see other members in the same bytes.

use super::error::{Context, Error, Result, invalid, show};
use super::pax;
use crate::sys::fs::Time;
use tar_core::parse::{Limits, ParseEvent, ParsedEntry, Parser};
use tar_core::{EntryType, HEADER_SIZE, Header, SparseEntry};

/// Longest path of a member, and deepest.
pub const MAX_PATH: usize = 4096;
/// No header with its records and maps takes more; without this bound a few
/// bytes could ask for all the memory.
pub const MAX_HEADER: usize = 4 << 20;
/// One block of an archive.
const BLOCK: u64 = HEADER_SIZE as u64;

/// What a member is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A regular file.
    File,
    /// A regular file of this size, stored without its holes.
    Sparse(u64, Vec<(u64, u64)>),
    /// A directory.
    Dir,
    /// A symbolic link.
    Symlink(Vec<u8>),
    /// Another name of an earlier member.
    Hardlink(Vec<u8>),
    /// A character device.
    Char(u32, u32),
    /// A block device.
    Block(u32, u32),
    /// A named pipe.
    Fifo,
}

/// One member.
#[derive(Clone, Debug)]
pub struct Member {
    /// As in the archive, not to be used as a path.
    pub path: Vec<u8>,
    /// What it is.
    pub kind: Kind,
    /// Permission bits.
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Last change.
    pub mtime: Time,
    /// Bytes of content that follow in the archive.
    pub size: u64,
    /// Extended attributes.
    pub xattrs: Vec<(Vec<u8>, Vec<u8>)>,
}

/// What a [`Headers`] found at the start of some bytes.
#[derive(Debug)]
pub enum Found {
    /// It takes at least so many bytes to tell.
    Need(usize),
    /// A member, whose content begins after so many bytes.
    Member(usize, Box<Member>),
    /// Nothing of interest; go on after so many bytes.
    Skip(usize),
    /// The end of the archive, after so many bytes.
    End(usize),
}

/// Reads headers.
#[derive(Debug)]
pub struct Headers(Parser);

impl Default for Headers {
    fn default() -> Self {
        let mut parser = Parser::new(Limits {
            max_path_len: Some(MAX_PATH as u32),
            ..Limits::default()
        });
        // Numbers in PAX records are read here, where negative times are
        // allowed and all else is stricter; an empty path is the root.
        parser.set_ignore_pax_errors(true);
        parser.set_allow_empty_path(true);
        Headers(parser)
    }
}

impl Headers {
    /// Read the header at the start of `data`.
    ///
    /// # Errors
    /// For a malformed archive.
    pub fn next(&mut self, data: &[u8]) -> Result<Found> {
        check_sizes(data)?;
        let bad = |e: &dyn std::fmt::Display| Error::Invalid(format!("bad tar archive: {e}"));
        match self.0.parse(data).map_err(|e| bad(&e))? {
            ParseEvent::NeedData { min_bytes } => Ok(Found::Need(min_bytes)),
            ParseEvent::End { consumed } => Ok(Found::End(consumed)),
            ParseEvent::GlobalExtensions { consumed, pax_data } => {
                for record in pax::records(pax_data)? {
                    if matches!(record.key, b"path" | b"linkpath" | b"size")
                        || record.key.starts_with(b"GNU.sparse.")
                    {
                        return invalid(format!(
                            "a global PAX header sets {}, which programs read differently",
                            show(record.key)
                        ));
                    }
                }
                Ok(Found::Skip(consumed))
            }
            ParseEvent::Entry { consumed, entry } => {
                let member = member(&entry, None)?;
                Ok(Found::Member(consumed, Box::new(member)))
            }
            ParseEvent::SparseEntry {
                consumed,
                entry,
                sparse_map,
                real_size,
            } => {
                let member = member(&entry, Some((real_size, sparse_map)))?;
                Ok(Found::Member(consumed, Box::new(member)))
            }
        }
    }
}

/// Look at the sizes of a member's headers before the parser does, which drops
/// the high bits of numbers that do not fit and adds without checking.
fn check_sizes(data: &[u8]) -> Result<()> {
    let mut rest = data;
    let mut total = 0u64;
    while let Some((header, after)) = rest.split_at_checked(HEADER_SIZE) {
        for field in [
            header.get(124..136),
            header.get(108..116),
            header.get(116..124),
        ] {
            // Base 256: a number of 64 bits, and not negative.
            let (first, rest) = match field.unwrap_or_default() {
                [first, rest @ ..] => (*first, rest),
                [] => (0, [].as_slice()),
            };
            let (high, _) = rest.split_at(rest.len().saturating_sub(8));
            let fits = first < 0x80 || (first == 0x80 && high.iter().all(|b| *b == 0));
            if !fits {
                return invalid("bad tar archive: a number is too large");
            }
        }
        if !matches!(header.get(156), Some(b'x' | b'g' | b'L' | b'K')) {
            break;
        }
        let size = match <&[u8; HEADER_SIZE]>::try_from(header) {
            Ok(header) => Header::from_bytes(header).entry_size(),
            Err(_) => break,
        };
        let size = size.map_err(|e| Error::Invalid(format!("bad tar archive: {e}")))?;
        total = total.saturating_add(size);
        if total > Limits::default().max_metadata_size.into() {
            return invalid("bad tar archive: metadata exceeds limit");
        }
        let step = usize::try_from(size + padding(size)).unwrap_or(usize::MAX);
        rest = after.get(step..).unwrap_or_default();
    }
    Ok(())
}

/// Can an archive begin like this: with a header whose sum is right, or as an empty
/// one does.
pub fn begins(data: &[u8]) -> bool {
    match data.first_chunk::<HEADER_SIZE>() {
        Some(header) if header.iter().any(|b| *b != 0) => {
            Header::from_bytes(header).verify_checksum().is_ok()
        }
        _ => true,
    }
}

/// Content is padded to whole blocks.
pub fn padding(size: u64) -> u64 {
    size.wrapping_neg() % BLOCK
}

fn member(entry: &ParsedEntry<'_>, sparse: Option<(u64, Vec<SparseEntry>)>) -> Result<Member> {
    let path = entry.path.to_vec();
    let in_path = |e: Error| Error::Invalid(format!("{}: {e}", show(&path)));
    let id = |n: u64, what: &str| {
        u32::try_from(n).map_err(|_| in_path(Error::Invalid(format!("{what} {n} is too large"))))
    };
    let header_mtime = i64::from_ne_bytes(entry.mtime.to_ne_bytes());
    let mut member = Member {
        kind: Kind::File,
        mode: entry.mode & 0o7777,
        uid: id(entry.uid, "uid")?,
        gid: id(entry.gid, "gid")?,
        mtime: Time {
            sec: header_mtime,
            nsec: 0,
        },
        size: entry.size,
        xattrs: Vec::new(),
        path: path.clone(),
    };
    pax_records(entry, sparse.is_some(), &mut member).map_err(in_path)?;
    if path.contains(&0) {
        return invalid(format!("{}: the name holds a NUL", show(&path)));
    }
    let target = || match entry.link_target.as_deref() {
        Some(t) if t.contains(&0) => Err(in_path(Error::Invalid("the target holds a NUL".into()))),
        Some(t) if t.len() < MAX_PATH => Ok(t.to_vec()),
        Some(_) => Err(in_path(Error::Invalid("the target is too long".into()))),
        None => Err(in_path(Error::Invalid("the link has no target".into()))),
    };
    let device = || match (entry.dev_major, entry.dev_minor) {
        (Some(major), Some(minor)) if major < 1 << 12 && minor < 1 << 20 => Ok((major, minor)),
        _ => Err(in_path(Error::Invalid("bad device number".into()))),
    };
    let old_style_dir = entry.header.as_bytes().get(156) == Some(&0) && path.ends_with(b"/");
    member.kind = match (entry.entry_type, sparse) {
        (_, Some((size, map))) => check_sparse(size, &map, entry.size).map_err(in_path)?,
        (EntryType::Regular, None) if old_style_dir => Kind::Dir,
        (EntryType::Regular | EntryType::Continuous, None) => Kind::File,
        (EntryType::Directory, None) => Kind::Dir,
        (EntryType::Symlink, None) => Kind::Symlink(target()?),
        (EntryType::Link, None) => Kind::Hardlink(target()?),
        (EntryType::Char, None) => device().map(|(a, b)| Kind::Char(a, b))?,
        (EntryType::Block, None) => device().map(|(a, b)| Kind::Block(a, b))?,
        (EntryType::Fifo, None) => Kind::Fifo,
        (other, None) => {
            return invalid(format!(
                "{}: member type \"{}\" is not supported",
                show(&path),
                show(&[other.as_byte()])
            ));
        }
    };
    if !matches!(member.kind, Kind::File | Kind::Sparse(..)) && member.size != 0 {
        return invalid(format!(
            "{}: a member without content claims {} bytes, which programs read differently",
            show(&path),
            member.size
        ));
    }
    Ok(member)
}

/// Take from the records what tar-core leaves, and check what it took.
fn pax_records(entry: &ParsedEntry<'_>, sparse: bool, member: &mut Member) -> Result<()> {
    let mut sparse_1 = false;
    let mut size = false;
    for record in pax::records(entry.pax.unwrap_or_default())? {
        match record.key {
            b"size" => {
                size = true;
                pax::number(&record)?;
            }
            b"uid" | b"gid" => drop(pax::number(&record)?),
            b"mtime" => member.mtime = pax::time(&record)?,
            b"GNU.sparse.major" => sparse_1 = pax::number(&record)? == 1,
            key if key.starts_with(b"GNU.sparse.") && !sparse => {
                // Announces a sparse file that the parser did not find.
                if !matches!(record.key, b"GNU.sparse.name" | b"GNU.sparse.minor") {
                    return invalid("sparse records without a sparse map");
                }
            }
            key => {
                if let Some(name) = key.strip_prefix(b"SCHILY.xattr.") {
                    member.xattrs.push((name.to_vec(), record.value.to_vec()));
                }
            }
        }
    }
    if sparse && sparse_1 && size {
        return invalid("a sparse map together with a PAX size, which programs read differently");
    }
    Ok(())
}

/// Chunks must follow each other, lie in the file, and add up to the content.
fn check_sparse(size: u64, map: &[SparseEntry], stored: u64) -> Result<Kind> {
    let mut end = 0u64;
    let mut sum = 0u64;
    let mut chunks = Vec::with_capacity(map.len());
    for chunk in map {
        let next = chunk.offset.checked_add(chunk.length);
        match next {
            Some(next) if chunk.offset >= end && next <= size => end = next,
            _ => return invalid("the sparse map overlaps or leaves the file"),
        }
        sum += chunk.length;
        if chunk.length > 0 {
            chunks.push((chunk.offset, chunk.length));
        }
    }
    if sum != stored || i64::try_from(size).is_err() {
        return invalid("the sparse map does not fit its content");
    }
    Ok(Kind::Sparse(size, chunks))
}

/// Reads an archive's members and contents in order.
///
/// `chunks` gives the next buffer for the one that is used up; an empty one
/// ends the archive.
pub struct Reader<C> {
    chunks: C,
    headers: Headers,
    buf: Vec<u8>,
    pos: usize,
    /// Content and padding of the current member that have not been read.
    left: u64,
    pad: u64,
}

impl<C: FnMut(Vec<u8>) -> std::io::Result<Vec<u8>>> Reader<C> {
    /// Read an archive from its start.
    pub fn new(chunks: C) -> Self {
        Reader {
            chunks,
            headers: Headers::default(),
            buf: Vec::new(),
            pos: 0,
            left: 0,
            pad: 0,
        }
    }

    /// The next member; what is left of the one before is skipped.
    ///
    /// # Errors
    /// For a malformed or truncated archive, and data after its end.
    pub fn member(&mut self) -> Result<Option<Box<Member>>> {
        if !self.skip(self.left)? {
            return invalid("the archive is truncated");
        }
        // Some writers end with the last content, without its padding; what
        // is missing is shown by the digest.
        if !self.skip(self.pad)? {
            return Ok(None);
        }
        (self.left, self.pad) = (0, 0);
        loop {
            let data = self.buf.get(self.pos..).unwrap_or_default();
            match self.headers.next(data)? {
                Found::Need(n) if n <= data.len() || n > MAX_HEADER => {
                    return invalid("bad tar archive: a header without end");
                }
                Found::Need(_) => {
                    if !self.grow()? {
                        let rest = self.buf.get(self.pos..).unwrap_or_default();
                        // Some writers leave the end marker out.
                        return match rest.iter().all(|b| *b == 0) {
                            true => Ok(None),
                            false => invalid("the archive is truncated"),
                        };
                    }
                }
                Found::Skip(n) => self.pos += n,
                Found::Member(n, member) => {
                    self.pos += n;
                    self.left = member.size;
                    self.pad = padding(member.size);
                    return Ok(Some(member));
                }
                Found::End(n) => {
                    self.pos += n;
                    self.only_zeros()?;
                    return Ok(None);
                }
            }
        }
    }

    /// The next buffer, in place of one that is used up.
    fn refill(&mut self) -> Result<bool> {
        let used = std::mem::take(&mut self.buf);
        self.pos = 0;
        self.buf = (self.chunks)(used).context(|| "cannot read the layer".to_owned())?;
        Ok(!self.buf.is_empty())
    }

    /// The next buffer behind what is left of this one. Buffers hold whole
    /// blocks, so this copies only where a header of several blocks straddles.
    fn grow(&mut self) -> Result<bool> {
        let mut rest = self.buf.get(self.pos..).unwrap_or_default().to_vec();
        if rest.is_empty() {
            return self.refill();
        }
        let more = self.refill()?;
        rest.append(&mut self.buf);
        self.buf = rest;
        Ok(more)
    }

    /// Hand the next `count` bytes of the member's content to `each`.
    ///
    /// # Errors
    /// For a truncated archive, and those of `each`.
    pub fn exactly(
        &mut self,
        mut count: u64,
        mut each: impl FnMut(&[u8]) -> Result<()>,
    ) -> Result<()> {
        if count > self.left {
            return invalid("the member has less content than it says");
        }
        while count > 0 {
            if self.pos == self.buf.len() && !self.refill()? {
                return invalid("the archive is truncated");
            }
            let rest = self.buf.get(self.pos..).unwrap_or_default();
            let want = usize::try_from(count).unwrap_or(usize::MAX);
            let piece = rest.get(..want).unwrap_or(rest);
            let len = piece.len();
            each(piece)?;
            self.pos += len;
            self.left -= len as u64;
            count -= len as u64;
        }
        Ok(())
    }

    /// False when the archive ends before.
    fn skip(&mut self, mut count: u64) -> Result<bool> {
        while count > 0 {
            if self.pos == self.buf.len() && !self.refill()? {
                return Ok(false);
            }
            let here = ((self.buf.len() - self.pos) as u64).min(count);
            self.pos += here as usize;
            count -= here;
        }
        Ok(true)
    }

    fn only_zeros(&mut self) -> Result<()> {
        loop {
            let rest = self.buf.get(self.pos..).unwrap_or_default();
            if rest.iter().any(|b| *b != 0) {
                return invalid("data after the end of the archive");
            }
            self.pos = self.buf.len();
            if !self.refill()? {
                return Ok(());
            }
        }
    }
}
