//! What a build may copy from: the directory that it is told, without what
//! `.dockerignore` leaves out, or an archive on standard input. And where its
//! Dockerfile is.

use super::dockerfile::MAX_FILE;
use super::pattern::Patterns;
use super::tree::Tree;
use crate::store::aside;
use crate::store::compressed::{begin, is_compressed, plain};
use crate::store::error::{Context as _, Error, Result, invalid, show};
use crate::store::staging::Staging;
use crate::store::tarball::Reader;
use crate::store::{Store, read_file};
use crate::sys::tree::{self, Links};
use std::fs::File;
use std::io::{BufReader, Cursor, Read};
use std::path::{Path, PathBuf};

/// What the build's directory is called in errors.
const CALLED: &str = "the build context";
/// What a build reads that names no file; else in small letters.
const DOCKERFILE: &str = "Dockerfile";
/// As much as tells what a stream is.
const MAGIC: u64 = 512;
/// How an archive is read.
const PIECE: usize = 1 << 20;

/// Where a build's files are.
#[derive(Debug)]
pub struct Sources {
    /// What can be copied.
    pub tree: Tree,
    /// Where that is, for what is mounted.
    pub dir: PathBuf,
    /// What the Dockerfile is called in errors.
    pub name: PathBuf,
    /// What is in it.
    pub text: String,
    _unpacked: Option<Staging>,
}

/// Find the files of a build: `context` is a directory or `-`, `file` the
/// Dockerfile or `-`.
///
/// # Errors
/// When one of them is not there or cannot be read.
pub fn open(
    store: &Store,
    context: &str,
    file: Option<&Path>,
    stdin: &mut (dyn Read + Send),
) -> Result<Sources> {
    let from_stdin = file.is_some_and(|f| f == Path::new("-"));
    if context.contains("://") || context.starts_with("git@") {
        return invalid(format!(
            "{}: a build context is a directory, or - for an archive on standard input: fetch it first",
            show(context.as_bytes())
        ));
    }
    let mut unpacked = None;
    let mut text = None;
    let dir = match context {
        "-" if from_stdin => {
            return invalid(
                "standard input cannot be the Dockerfile and the build context at once",
            );
        }
        "-" => {
            let staging = Staging::new(&store.tmp())?;
            let dir = staging.path().join("context");
            let mut magic = Vec::new();
            let say = || "cannot read standard input".to_owned();
            (&mut *stdin)
                .take(MAGIC)
                .read_to_end(&mut magic)
                .context(say)?;
            let is_archive =
                is_compressed(&magic) || magic.get(257..262) == Some(b"ustar".as_slice());
            let stream = Cursor::new(magic).chain(&mut *stdin);
            if is_archive {
                unpack(stream, &dir).map_err(|e| Error::Invalid(format!("{CALLED}: {e}")))?;
            } else {
                // A Dockerfile alone, which has nothing to copy.
                text = Some(("-".into(), read_text(stream, Path::new("-"))?));
                std::fs::create_dir(&dir).context(|| format!("cannot make {}", dir.display()))?;
            }
            unpacked = Some(staging);
            dir
        }
        path => PathBuf::from(path),
    };
    let root = match std::fs::metadata(&dir) {
        Ok(there) if !there.is_dir() => {
            return invalid(format!("{CALLED} {} is not a directory", dir.display()));
        }
        _ => File::open(&dir),
    };
    let root = root.context(|| format!("cannot open {CALLED} {}", dir.display()))?;
    let dir = std::path::absolute(&dir).context(|| "cannot find this directory".to_owned())?;
    let (name, text) = match (text, file) {
        (Some(found), _) => found,
        (None, Some(_)) if from_stdin => {
            let name = PathBuf::from("-");
            let text = read_text(stdin, &name)?;
            (name, text)
        }
        // In an archive names are its own.
        (None, Some(file)) if unpacked.is_none() => (file.to_owned(), read_path(file)?),
        (None, file) => {
            let shown = |inside: &Path| match context {
                "-" | "." => inside.to_owned(),
                context => Path::new(context).join(inside),
            };
            let read = |inside: &Path| {
                let name = shown(inside);
                let text = match read_inside(&root, inside, &name) {
                    // A link of the machine's may lead out of the directory.
                    Err(Error::NotFound(_))
                        if unpacked.is_none() && dir.join(inside).is_symlink() =>
                    {
                        read_path(&dir.join(inside))?
                    }
                    text => text?,
                };
                Ok((name, text))
            };
            match (file, read(file.unwrap_or(Path::new(DOCKERFILE)))) {
                (None, Err(e @ Error::NotFound(_))) => {
                    read(Path::new(&DOCKERFILE.to_lowercase())).map_err(|_| e)
                }
                (_, found) => found,
            }?
        }
    };
    let mut beside = name.clone().into_os_string();
    beside.push(".dockerignore");
    let beside = Path::new(&beside);
    let found = match (&unpacked, from_stdin) {
        (_, true) => None,
        // Of what an archive holds nothing is followed out of it.
        (Some(_), false) => inside(&root, beside)?,
        (None, false) => match read_file(beside, MAX_FILE) {
            Ok(data) => Some(data),
            Err(Error::NotFound(_)) => None,
            Err(e) => return Err(e),
        },
    };
    let ignore = match found {
        Some(data) => patterns(data, beside)?,
        None => ignore(&root)?,
    };
    Ok(Sources {
        tree: Tree::Directory {
            root,
            ignore,
            keeps_owners: false,
            called: CALLED,
        },
        dir,
        name,
        text,
        _unpacked: unpacked,
    })
}

/// The Dockerfile that comes on standard input.
///
/// # Errors
/// When it cannot be read, or is none.
pub fn read_text(stream: impl Read, name: &Path) -> Result<String> {
    let mut data = Vec::new();
    let say = || format!("cannot read {}", name.display());
    stream
        .take(MAX_FILE + 1)
        .read_to_end(&mut data)
        .context(say)?;
    as_text(data, name)
}

fn as_text(data: Vec<u8>, name: &Path) -> Result<String> {
    if data.len() as u64 > MAX_FILE {
        return invalid(format!(
            "{} is larger than {MAX_FILE} bytes: it is no Dockerfile",
            name.display()
        ));
    }
    match String::from_utf8(data) {
        Ok(text) if !text.contains('\0') => Ok(text),
        _ => invalid(format!("{} is no text", name.display())),
    }
}

fn read_path(path: &Path) -> Result<String> {
    match read_file(path, MAX_FILE) {
        Ok(data) => as_text(data, path),
        Err(Error::NotFound(_)) => no_dockerfile(&path.display().to_string()),
        Err(e) => Err(e),
    }
}

fn no_dockerfile<T>(what: &str) -> Result<T> {
    Err(Error::NotFound(format!(
        "there is no Dockerfile {what}: name it with -f"
    )))
}

/// A Dockerfile in the context.
fn read_inside(root: &File, path: &Path, shown: &Path) -> Result<String> {
    match tree::open_file_beneath(root, path.as_os_str(), Links::InRoot) {
        Ok(file) => read_text(file, shown),
        Err(crate::sys::Errno::NOENT) => no_dockerfile(&shown.display().to_string()),
        Err(crate::sys::Errno::INVAL) => invalid(format!("{} is no regular file", shown.display())),
        Err(e) => Err(e).context(|| format!("cannot read {}", shown.display())),
    }
}

/// What of the context does not count, by its own file.
fn ignore(root: &File) -> Result<Patterns> {
    let name = Path::new(".dockerignore");
    match inside(root, name)? {
        Some(data) => patterns(data, name),
        None => Ok(Patterns::default()),
    }
}

/// A file of the context, if it is there.
fn inside(root: &File, name: &Path) -> Result<Option<Vec<u8>>> {
    match tree::open_file_beneath(root, name.as_os_str(), Links::InRoot) {
        Ok(file) => Ok(Some(read_text(file, name)?.into_bytes())),
        Err(crate::sys::Errno::NOENT) => Ok(None),
        Err(e) => Err(e).context(|| format!("cannot read {}", name.display())),
    }
}

fn patterns(data: Vec<u8>, name: &Path) -> Result<Patterns> {
    let text = as_text(data, name)?;
    Patterns::read(&text).map_err(|e| Error::Invalid(format!("{}: {e}", name.display())))
}

/// Unpack an archive, perhaps compressed, to the new directory `to`.
///
/// # Errors
/// When it is none, or holds what must not be made.
pub fn unpack(stream: impl Read + Send, to: &Path) -> Result<()> {
    let say = || "cannot read the archive".to_owned();
    let (magic, input) = begin(stream).context(say)?;
    let mut plain = plain(&magic, input).context(say)?;
    let mut unpacker = aside::unpacker(to)?;
    let mut reader = Reader::new(move |mut buf: Vec<u8>| {
        buf.resize(PIECE, 0);
        let mut filled = 0;
        while let Some(rest) = buf.get_mut(filled..).filter(|r| !r.is_empty()) {
            match plain.read(rest)? {
                0 => break,
                n => filled += n,
            }
        }
        buf.truncate(filled);
        Ok(buf)
    });
    while let Some(member) = reader.member()? {
        unpacker.add(&member, &mut reader)?;
    }
    let done = unpacker.finish()?;
    match done.links.first() {
        None => Ok(()),
        Some((name, target)) => invalid(format!(
            "{} is a hard link to {}, which is not there",
            show(name),
            show(target)
        )),
    }
}

/// Is a file an archive that `ADD` unpacks.
///
/// # Errors
/// When it cannot be read.
pub fn is_archive(file: &File, name: &str) -> Result<bool> {
    let say = || format!("cannot read {}", show(name.as_bytes()));
    let mut magic = Vec::new();
    let mut again = file.try_clone().context(say)?;
    std::io::Seek::rewind(&mut again).context(say)?;
    (&mut again)
        .take(MAGIC)
        .read_to_end(&mut magic)
        .context(say)?;
    std::io::Seek::rewind(&mut again).context(say)?;
    let ustar = |data: &[u8]| data.get(257..262) == Some(b"ustar".as_slice());
    let found = match is_compressed(&magic) {
        false => ustar(&magic),
        true => {
            // What is compressed may be anything.
            let mut head = Vec::new();
            let plain = plain(&magic, BufReader::new(&again)).context(say)?;
            let read = plain.take(MAGIC).read_to_end(&mut head);
            read.is_ok() && ustar(&head)
        }
    };
    std::io::Seek::rewind(&mut again).context(say)?;
    Ok(found)
}
