//! From a skeleton and a tree to the archive.

use super::{BYTES, END, FILE, HEAD, MAGIC, STEP};
use crate::store::digest::Digest;
use crate::store::error::{Context, Error, Result, invalid};
use crate::store::tarball::MAX_PATH;
use crate::store::verify::Verified;
use crate::sys::tree::{self, Links};
use std::ffi::OsStr;
use std::fs::File;
use std::io::{BufReader, Read};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::FileExt;
use std::path::Path;

type Pieces = zstd::stream::read::Decoder<'static, BufReader<File>>;

/// What the next bytes are.
enum Now {
    /// That many of the skeleton.
    Bytes(usize),
    /// Of a file: from there, that many.
    File(File, u64, u64),
    /// No more.
    End,
}

/// A layer's uncompressed archive, made from its skeleton and tree as it is
/// read. At the end it is an error if the bytes were not those of the DiffID.
pub struct Rebuilt {
    size: u64,
    bytes: Verified<Raw>,
}

struct Raw {
    tree: File,
    pieces: Pieces,
    now: Now,
    diff_id: Digest,
}

/// The archive of the layer with that DiffID, from the skeleton in the file
/// `path` and the directory `tree`.
///
/// # Errors
/// [`Error::NotFound`] when there is no skeleton; else when it is damaged or of
/// another layer.
pub fn open(path: &Path, tree: &Path, diff_id: &Digest) -> Result<Rebuilt> {
    let say = || format!("cannot read {}", path.display());
    let mut file = match File::open(path) {
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => {
            return Err(Error::NotFound(format!("{} is not there", path.display())));
        }
        file => file.context(say)?,
    };
    let mut head = [0; HEAD];
    file.read_exact(&mut head).context(say)?;
    let (magic, rest) = head.split_at(MAGIC.len());
    let (id, size) = rest.split_at(32);
    if magic != MAGIC || id != diff_id.bytes() {
        return invalid(format!(
            "{} is not the skeleton of layer {diff_id}",
            path.display()
        ));
    }
    let size = u64::from_le_bytes(size.try_into().unwrap_or_default());
    let tree = File::open(tree).context(|| format!("cannot open {}", tree.display()))?;
    let pieces = zstd::stream::read::Decoder::new(file).context(say)?;
    let raw = Raw {
        tree,
        pieces,
        now: Now::Bytes(0),
        diff_id: *diff_id,
    };
    Ok(Rebuilt {
        size,
        bytes: Verified::new(raw, *diff_id, changed(diff_id)),
    })
}

fn changed(diff_id: &Digest) -> String {
    format!(
        "layer {diff_id} cannot be made again: its directory in the store was changed (try \"check\")"
    )
}

impl Rebuilt {
    /// Bytes of the archive.
    pub fn size(&self) -> u64 {
        self.size
    }
}

impl Read for Rebuilt {
    fn read(&mut self, buf: &mut [u8]) -> std::io::Result<usize> {
        self.bytes.read(buf)
    }
}

impl Read for Raw {
    fn read(&mut self, buf: &mut [u8]) -> std::io::Result<usize> {
        loop {
            match &mut self.now {
                _ if buf.is_empty() => return Ok(0),
                Now::Bytes(0) | Now::File(_, _, 0) => self.now = self.next()?,
                Now::End => return Ok(0),
                Now::Bytes(left) => {
                    let len = buf.len().min(*left);
                    let n = self.pieces.read(buf.get_mut(..len).unwrap_or_default())?;
                    if n == 0 {
                        return Err(damaged());
                    }
                    *left -= n;
                    return Ok(n);
                }
                Now::File(file, pos, left) => {
                    let len = buf.len().min(usize::try_from(*left).unwrap_or(usize::MAX));
                    let n = file.read_at(buf.get_mut(..len).unwrap_or_default(), *pos)?;
                    if n == 0 {
                        return Err(Error::Invalid(changed(&self.diff_id)).into());
                    }
                    *pos += n as u64;
                    *left -= n as u64;
                    return Ok(n);
                }
            }
        }
    }
}

impl Raw {
    fn next(&mut self) -> std::io::Result<Now> {
        match u8::from_le_bytes(self.number()?) {
            END => Ok(Now::End),
            BYTES => match u32::from_le_bytes(self.number()?) as usize {
                len if len <= STEP => Ok(Now::Bytes(len)),
                _ => Err(damaged()),
            },
            FILE => {
                let mut path = vec![0; u16::from_le_bytes(self.number()?).into()];
                if path.len() >= MAX_PATH {
                    return Err(damaged());
                }
                self.pieces.read_exact(&mut path)?;
                let pos = u64::from_le_bytes(self.number()?);
                let left = u64::from_le_bytes(self.number()?);
                let path = OsStr::from_bytes(&path);
                let file = tree::open_file_beneath(&self.tree, path, Links::InRoot);
                let gone = |_| Error::Invalid(changed(&self.diff_id));
                Ok(Now::File(file.map_err(gone)?, pos, left))
            }
            _ => Err(damaged()),
        }
    }

    fn number<const N: usize>(&mut self) -> std::io::Result<[u8; N]> {
        let mut bytes = [0; N];
        self.pieces.read_exact(&mut bytes)?;
        Ok(bytes)
    }
}

fn damaged() -> std::io::Error {
    Error::Invalid("the skeleton of the layer is damaged (try \"check\")".to_owned()).into()
}
