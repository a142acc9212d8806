//! What `load` reads: an archive file, a stream, or a directory; as a table of
//! members by name. Names are keys only and never become paths.

use super::compressed::{begin, is_compressed, plain};
use super::error::{Context, Error, Result, invalid, show};
use super::staging::Staging;
use super::tarball::{self, Found, Headers, Kind, MAX_HEADER, padding};
use crate::sys::fs as sfs;
use crate::sys::tree::{self, Links};
use std::collections::HashMap;
use std::ffi::OsStr;
use std::fs::File;
use std::io::{Read, Write};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;

/// No archive of images has more members.
const MAX_MEMBERS: usize = 100_000;
/// Links in an archive lead to links, but not for long.
const MAX_LINKS: usize = 8;
/// The member of [`Archive::whole`].
pub const WHOLE: &str = "layer.tar";

/// Images in transit.
#[derive(Debug)]
pub enum Archive {
    /// A tar file.
    Tar(Arc<File>, HashMap<Vec<u8>, Entry>),
    /// An OCI layout in a directory.
    Dir(File),
}

/// A member of a tar file.
#[derive(Clone, Debug)]
pub enum Entry {
    /// Bytes of the file: offset and length.
    Data(u64, u64),
    /// The name of another member.
    Link(Vec<u8>),
}

/// A readable range of a file.
#[derive(Clone, Debug)]
pub struct Range {
    file: Arc<File>,
    pos: u64,
    end: u64,
}

impl Range {
    /// All of a file.
    ///
    /// # Errors
    /// As fstat(2).
    pub fn whole(file: File) -> std::io::Result<Range> {
        let end = file.metadata()?.len();
        Ok(Range {
            file: Arc::new(file),
            pos: 0,
            end,
        })
    }

    /// Bytes that are left.
    pub fn len(&self) -> u64 {
        self.end - self.pos
    }

    /// Is nothing left.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl Read for Range {
    fn read(&mut self, buf: &mut [u8]) -> std::io::Result<usize> {
        let want = usize::try_from(self.len()).unwrap_or(usize::MAX);
        let len = buf.len().min(want);
        let n = match buf.get_mut(..len) {
            Some(buf) if len > 0 => self.file.read_at(buf, self.pos)?,
            _ => 0,
        };
        self.pos += n as u64;
        Ok(n)
    }
}

impl Archive {
    /// Open what lies at `path`. Compressed archives are unpacked to staging.
    ///
    /// # Errors
    /// When it cannot be read or is no archive.
    pub fn open(path: &Path, staging: &Staging) -> Result<Archive> {
        let say = || format!("cannot open {}", path.display());
        let file = File::open(path).context(say)?;
        let meta = file.metadata().context(say)?;
        if meta.is_dir() {
            return Ok(Archive::Dir(file));
        }
        if !meta.is_file() {
            return Archive::from_stream(file, staging);
        }
        let mut magic = [0; 6];
        let n = file.read_at(&mut magic, 0).context(say)?;
        match is_compressed(magic.get(..n).unwrap_or_default()) {
            false => index(file),
            true => Archive::from_stream(file, staging),
        }
    }

    /// Read an archive from a stream, which need not be seekable.
    ///
    /// # Errors
    /// When it cannot be read or stored, or is no archive.
    pub fn from_stream(stream: impl Read + Send, staging: &Staging) -> Result<Archive> {
        let say = || "cannot read the archive".to_owned();
        let (magic, input) = begin(stream).context(say)?;
        index(spool(plain(&magic, input).context(say)?, staging)?)
    }

    /// An archive of which nothing is looked at: the whole file is its only
    /// member, [`WHOLE`].
    ///
    /// # Errors
    /// When the file cannot be looked at.
    pub fn whole(file: File) -> Result<Archive> {
        let meta = file.metadata();
        let size = meta
            .context(|| "cannot look at the archive".to_owned())?
            .len();
        let member = (WHOLE.as_bytes().to_vec(), Entry::Data(0, size));
        Ok(Archive::Tar(Arc::new(file), HashMap::from([member])))
    }

    /// Is there a member of that name.
    ///
    /// # Errors
    /// When it cannot be known.
    pub fn has(&self, name: &str) -> Result<bool> {
        match self.find(name) {
            Ok(_) => Ok(true),
            Err(Error::NotFound(_)) => Ok(false),
            Err(e) => Err(e),
        }
    }

    /// The member `name`, links followed within the archive.
    ///
    /// # Errors
    /// When there is none.
    pub fn find(&self, name: &str) -> Result<Range> {
        let absent =
            || Error::NotFound(format!("the archive has no \"{}\"", show(name.as_bytes())));
        let Some(mut key) = normal(name.as_bytes()) else {
            return invalid(format!(
                "\"{}\" is no name of a member",
                show(name.as_bytes())
            ));
        };
        match self {
            Archive::Dir(dir) => {
                use std::os::unix::ffi::OsStrExt;
                let say = || format!("cannot open {}", show(&key));
                let file = tree::open_file_beneath(dir, OsStr::from_bytes(&key), Links::InRoot);
                let Some(file) = sfs::absent(file).context(say)? else {
                    return Err(absent());
                };
                let end = file.metadata().context(say)?.len();
                Ok(Range {
                    file: Arc::new(file),
                    pos: 0,
                    end,
                })
            }
            Archive::Tar(file, table) => {
                for _ in 0..MAX_LINKS {
                    match table.get(&key).ok_or_else(absent)? {
                        Entry::Link(target) => key.clone_from(target),
                        Entry::Data(offset, size) => {
                            return Ok(Range {
                                file: Arc::clone(file),
                                pos: *offset,
                                end: offset + size,
                            });
                        }
                    }
                }
                invalid(format!(
                    "\"{}\": too many links in the archive",
                    show(name.as_bytes())
                ))
            }
        }
    }

    /// The whole of a member that is at most `max` bytes.
    ///
    /// # Errors
    /// When it is missing or larger.
    pub fn read(&self, name: &str, max: u64) -> Result<Vec<u8>> {
        let mut range = self.find(name)?;
        if range.len() > max {
            return invalid(format!(
                "\"{}\" has {} bytes, more than {max}",
                show(name.as_bytes()),
                range.len()
            ));
        }
        let mut data = Vec::new();
        range
            .read_to_end(&mut data)
            .context(|| format!("cannot read \"{}\"", show(name.as_bytes())))?;
        Ok(data)
    }
}

/// Write a stream to a file in staging.
///
/// # Errors
/// When it cannot be read or stored.
pub fn spool(mut input: impl Read, staging: &Staging) -> Result<File> {
    let say = || "cannot read the archive".to_owned();
    let path = staging.path().join("archive");
    let mut file = File::options()
        .read(true)
        .write(true)
        .create_new(true)
        .open(&path)
        .context(|| "cannot write to staging".to_owned())?;
    // A small stream can unpack to more than the disk has; the reserve
    // keeps the machine usable.
    let free = tree::free_bytes(&file).context(say)?;
    let limit = free.saturating_sub(free / 20);
    let mut buf = vec![0; 1 << 20];
    let mut total = 0u64;
    loop {
        let n = input.read(&mut buf).context(say)?;
        let data = buf.get(..n).unwrap_or_default();
        if data.is_empty() {
            return Ok(file);
        }
        total += n as u64;
        if total > limit {
            return invalid("the archive does not fit on the disk");
        }
        file.write_all(data)
            .context(|| "cannot write to staging".to_owned())?;
    }
}

/// A member's name without `.` and doubled `/`; none with `..`.
fn normal(name: &[u8]) -> Option<Vec<u8>> {
    let mut out: Vec<u8> = Vec::with_capacity(name.len());
    for part in name.split(|b| *b == b'/') {
        match part {
            b"" | b"." => {}
            b".." => return None,
            part => {
                if !out.is_empty() {
                    out.push(b'/');
                }
                out.extend_from_slice(part);
            }
        }
    }
    (!out.is_empty()).then_some(out)
}

/// Where a symlink at `key` leads within the archive.
fn resolve(key: &[u8], target: &[u8]) -> Option<Vec<u8>> {
    let mut parts: Vec<&[u8]> = key.split(|b| *b == b'/').collect();
    parts.pop();
    for part in target.split(|b| *b == b'/') {
        match part {
            b"" | b"." => {}
            b".." => drop(parts.pop()?),
            part => parts.push(part),
        }
    }
    normal(&parts.join(&b'/'))
}

/// Read the headers of a tar file; contents are passed over.
fn index(file: File) -> Result<Archive> {
    let mut table = HashMap::new();
    let mut headers = Headers::default();
    let say = || "cannot read the archive".to_owned();
    let end = file.metadata().context(say)?.len();
    let mut offset = 0u64;
    let mut buf = Vec::new();
    let mut need = 1024;
    loop {
        buf.resize(need, 0);
        let mut filled = 0;
        while let Some(rest) = buf.get_mut(filled..).filter(|r| !r.is_empty()) {
            match file.read_at(rest, offset + filled as u64).context(say)? {
                0 => break,
                n => filled += n,
            }
        }
        let data = buf.get(..filled).unwrap_or_default();
        if offset == 0 && !tarball::begins(data) {
            return invalid(
                "it is no tar archive, nor one that gzip, zstd, xz or bzip2 has compressed",
            );
        }
        match headers.next(data)? {
            Found::Need(n) if n > MAX_HEADER => {
                return invalid("bad tar archive: a header without end");
            }
            Found::Need(n) if n > filled && filled == need => need = n,
            Found::Need(_) if data.iter().all(|b| *b == 0) => break,
            Found::Need(_) => return invalid("the archive is truncated, or no archive"),
            Found::End(_) => break,
            Found::Skip(n) => offset += n as u64,
            Found::Member(n, member) => {
                need = 1024;
                offset += n as u64;
                let entry = normal(&member.path).and_then(|key| {
                    let entry = match &member.kind {
                        Kind::File => Entry::Data(offset, member.size),
                        Kind::Symlink(target) => Entry::Link(resolve(&key, target)?),
                        Kind::Hardlink(target) => Entry::Link(normal(target)?),
                        _ => return None,
                    };
                    Some((key, entry))
                });
                let next = offset.checked_add(member.size);
                match next {
                    Some(next) if next <= end => offset = next + padding(member.size),
                    _ => return invalid("the archive is truncated"),
                }
                if let Some((key, entry)) = entry {
                    table.insert(key, entry);
                }
                if table.len() > MAX_MEMBERS {
                    return invalid(format!("the archive has more than {MAX_MEMBERS} members"));
                }
            }
        }
    }
    if table.is_empty() {
        return invalid("the archive is empty");
    }
    Ok(Archive::Tar(Arc::new(file), table))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_stay_within_the_archive() {
        assert_eq!(normal(b"./a//b/").as_deref(), Some(&b"a/b"[..]));
        assert_eq!(normal(b"a/../b"), None);
        assert_eq!(normal(b"/"), None);
        assert_eq!(
            resolve(b"x/layer.tar", b"../y/layer.tar").as_deref(),
            Some(&b"y/layer.tar"[..])
        );
        assert_eq!(resolve(b"x/layer.tar", b"../../etc/passwd"), None);
    }
}
