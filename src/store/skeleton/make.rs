//! From an archive and its tree to a skeleton.

use super::{BYTES, END, FILE, HEAD, MAGIC, STEP};
use crate::store::digest::{Digest, Hasher};
use crate::store::error::{Context, Error, Result, invalid};
use crate::store::tarball::{Found, Headers, Kind, MAX_HEADER, Member};
use crate::store::unpack::components;
use crate::sys::tree::{self, Links};
use std::ffi::OsStr;
use std::fs::File;
use std::io::{Read, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::FileExt;

/// Write to `out`, which is empty, the skeleton of the uncompressed archive
/// `tar`, whose layer was unpacked to the directory `tree`.
///
/// # Errors
/// When the archive is not that of the DiffID, and when reading or writing
/// fails.
pub fn make(tar: impl Read, tree: &File, diff_id: &Digest, out: &File) -> Result<()> {
    out.write_all_at(&[0; HEAD], 0).context(say)?;
    let mut place = out;
    std::io::Seek::seek(&mut place, std::io::SeekFrom::Start(HEAD as u64)).context(say)?;
    let encoder = zstd::stream::write::Encoder::new(place, 3).context(say)?;
    let mut maker = Maker {
        input: Input {
            tar,
            hasher: Hasher::default(),
            buf: Vec::new(),
            pos: 0,
            ended: false,
        },
        tree,
        out: encoder,
        raw: Vec::new(),
    };
    maker.members()?;
    maker.flush()?;
    maker.put(&[END])?;
    maker.out.finish().context(say)?;
    let (digest, size) = maker.input.hasher.finish();
    if digest != *diff_id {
        return invalid(format!("the archive has digest {digest}, not {diff_id}"));
    }
    let head = [
        MAGIC.as_slice(),
        diff_id.bytes().as_slice(),
        &size.to_le_bytes(),
    ]
    .concat();
    out.write_all_at(&head, 0).context(say)
}

fn say() -> String {
    "cannot write the skeleton of the layer".to_owned()
}

/// The archive, some of it looked at.
struct Input<R> {
    tar: R,
    hasher: Hasher,
    buf: Vec<u8>,
    pos: usize,
    ended: bool,
}

impl<R: Read> Input<R> {
    fn data(&self) -> &[u8] {
        self.buf.get(self.pos..).unwrap_or_default()
    }

    /// Have at least `want` bytes, unless the archive ends before.
    fn fill(&mut self, want: usize) -> Result<()> {
        if self.data().len() >= want || self.ended {
            return Ok(());
        }
        self.buf.drain(..self.pos);
        self.pos = 0;
        while self.buf.len() < want && !self.ended {
            let at = self.buf.len();
            self.buf.resize(at + STEP, 0);
            let room = self.buf.get_mut(at..).unwrap_or_default();
            let n = match self.tar.read(room) {
                Err(e) if e.kind() == std::io::ErrorKind::Interrupted => {
                    self.buf.truncate(at);
                    continue;
                }
                n => n.context(|| "cannot read the layer".to_owned())?,
            };
            self.buf.truncate(at + n);
            self.hasher.update(self.buf.get(at..).unwrap_or_default());
            self.ended = n == 0;
        }
        Ok(())
    }
}

struct Maker<'a, R> {
    input: Input<R>,
    tree: &'a File,
    out: zstd::stream::write::Encoder<'static, &'a File>,
    /// Bytes that are not written yet.
    raw: Vec<u8>,
}

impl<R: Read> Maker<'_, R> {
    fn members(&mut self) -> Result<()> {
        let mut headers = Headers::default();
        let mut want = tar_core::HEADER_SIZE;
        loop {
            self.input.fill(want)?;
            match headers.next(self.input.data())? {
                Found::Need(n) if n > MAX_HEADER => {
                    return invalid("bad tar archive: a header without end");
                }
                Found::Need(_) if self.input.ended => break,
                Found::Need(n) => want = n.max(want + tar_core::HEADER_SIZE),
                Found::Skip(n) => self.keep(n)?,
                Found::End(_) => break,
                Found::Member(n, member) => {
                    want = tar_core::HEADER_SIZE;
                    self.keep(n)?;
                    self.content(&member)?;
                    let padding = crate::store::tarball::padding(member.size);
                    self.keep_all(padding)?;
                }
            }
        }
        self.keep_all(u64::MAX)
    }

    fn content(&mut self, member: &Member) -> Result<()> {
        let whole = [(0, member.size)];
        let chunks = match &member.kind {
            Kind::File => whole.as_slice(),
            Kind::Sparse(_, chunks) => chunks.as_slice(),
            _ => return Ok(()),
        };
        let path = components(&member.path, usize::MAX)?.join(&b'/');
        let found = match member.size {
            0 => None,
            _ => self.open(&path),
        };
        let Some(file) = found else {
            return self.keep_all(member.size);
        };
        for (offset, length) in chunks {
            self.chunk(&path, &file, *offset, *length)?;
        }
        Ok(())
    }

    /// The file of the tree that a member became, if there is one that can be
    /// read: a later member may have replaced it.
    fn open(&self, path: &[u8]) -> Option<File> {
        let file = tree::open_file_beneath(self.tree, OsStr::from_bytes(path), Links::InRoot);
        file.ok()
    }

    /// One stretch of content: a reference as far as the file agrees, bytes
    /// from there on.
    fn chunk(&mut self, path: &[u8], file: &File, offset: u64, length: u64) -> Result<()> {
        let mut same = 0u64;
        let most = usize::try_from(length).unwrap_or(STEP).min(STEP);
        let mut have = vec![0; most];
        while same < length {
            self.input.fill(1)?;
            let data = self.input.data();
            let left = usize::try_from(length - same).unwrap_or(usize::MAX);
            let len = data.len().min(left).min(STEP);
            let (piece, buf) = (data.get(..len), have.get_mut(..len));
            let (Some(piece), Some(buf)) = (piece, buf) else {
                break;
            };
            let equal = len > 0 && file.read_exact_at(buf, offset + same).is_ok() && piece == &*buf;
            if !equal {
                break;
            }
            self.input.pos += len;
            same += len as u64;
        }
        if same > 0 {
            self.flush()?;
            let len = u16::try_from(path.len())
                .map_err(|_| Error::Invalid("the name is too long".to_owned()))?;
            self.put(&[FILE])?;
            self.put(&len.to_le_bytes())?;
            self.put(path)?;
            self.put(&offset.to_le_bytes())?;
            self.put(&same.to_le_bytes())?;
        }
        self.keep_all(length - same)
    }

    /// The next `count` bytes, which are all there, as they are.
    fn keep(&mut self, count: usize) -> Result<()> {
        let data = self.input.data();
        self.raw
            .extend_from_slice(data.get(..count).unwrap_or(data));
        self.input.pos += count.min(data.len());
        match self.raw.len() > STEP {
            true => self.flush(),
            false => Ok(()),
        }
    }

    /// As [`Maker::keep`] for more than may be there.
    fn keep_all(&mut self, mut count: u64) -> Result<()> {
        while count > 0 {
            self.input.fill(1)?;
            let here = self.input.data().len();
            if here == 0 {
                return Ok(());
            }
            let len = usize::try_from(count).unwrap_or(usize::MAX).min(here);
            self.keep(len)?;
            count -= len as u64;
        }
        Ok(())
    }

    fn flush(&mut self) -> Result<()> {
        let raw = std::mem::take(&mut self.raw);
        for piece in raw.chunks(STEP) {
            self.put(&[BYTES])?;
            self.put(&u32::try_from(piece.len()).unwrap_or_default().to_le_bytes())?;
            self.put(piece)?;
        }
        Ok(())
    }

    fn put(&mut self, data: &[u8]) -> Result<()> {
        self.out.write_all(data).context(say)
    }
}
