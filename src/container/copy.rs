//! `cp`: from a container to here, or the reverse, always as an archive between,
//! with docker's rules of what the name of the copy is.

use super::changes::{join, split};
use super::find::{Found, Node, find, find_dir};
use super::pack::Packer;
use super::place::{Place, place};
use super::record::Record;
use super::view::{View, clean};
use super::{Containers, volume};
use crate::store::error::{Context, Error, Result, invalid, show};
use crate::sys::creds;
use crate::sys::fs::Stat;
use crate::sys::tree::Links;
use std::fs::File;
use std::io::{PipeWriter, Read, Write};
use std::path::Path;

/// What of a source is copied, and how.
#[derive(Clone, Copy, Debug, Default)]
pub struct How {
    /// Owners are kept.
    pub archive: bool,
    /// A source that is a symlink means what it leads to.
    pub follow: bool,
}

/// A path as it was given: what its end says.
struct Given {
    /// By its names alone.
    path: Vec<u8>,
    /// It must be a directory, and a link to one is followed.
    slash: bool,
    /// Only what is in it.
    content: bool,
}

impl Given {
    fn new(path: &[u8]) -> Given {
        let content = path.ends_with(b"/.") || path == b"." || clean(path).is_empty();
        Given {
            path: clean(path),
            slash: content || path.ends_with(b"/"),
            content,
        }
    }

    /// Of a path on this machine.
    fn here(path: &Path) -> Result<Given> {
        let bytes = path.as_os_str().as_encoded_bytes();
        let dir = std::env::current_dir().context(|| "cannot tell the directory".to_owned())?;
        let whole = match bytes.starts_with(b"/") {
            true => bytes.to_vec(),
            false => join(dir.as_os_str().as_encoded_bytes(), bytes),
        };
        Ok(Given {
            path: clean(&whole),
            ..Given::new(bytes)
        })
    }

    /// What the copy is called in a directory.
    fn name(&self) -> &[u8] {
        match self.content {
            true => b"",
            false => split(&self.path).1,
        }
    }

    fn shown(&self) -> String {
        format!("/{}", show(&self.path))
    }
}

impl Containers<'_> {
    /// Copy `from` of a container to `to` here; the bytes of the archive between.
    ///
    /// # Errors
    /// When there is no such thing, or it cannot be made there.
    pub fn copy_out(&self, record: &Record, from: &str, to: &Path, how: How) -> Result<u64> {
        let from = Given::new(from.as_bytes());
        // What is found in a view goes before it, which may be unmounted then.
        let (_view, node, stat) = self.source(record, &from, how)?;
        let to = Given::here(to)?;
        let root = machine()?;
        let absent = |dir: &[u8]| {
            Error::NotFound(format!(
                "invalid output path: directory \"/{}\" does not exist",
                show(dir)
            ))
        };
        let (base, name) = target(&root, &to, &to.path, (&stat, from.name()), &absent)?;
        if let Found::Here(_, there, _) = find(&root, &join(&base, &name), false)?
            && !there.is_dir()
            && !there.is_file()
        {
            return invalid(format!(
                "invalid output path: \"{}\" must be a directory or a regular file",
                to.shown()
            ));
        }
        let place = Place {
            root: &File::from(find_dir(&root, &base)?),
            base: Vec::new(),
            links: Links::Refuse,
            owner: owner(how, (creds::effective_uid(), creds::effective_gid())),
        };
        transfer(&place, |out| self.pack(record, &from, &node, &name, out))
    }

    /// Write `from` of a container to `out` as an archive.
    ///
    /// # Errors
    /// When there is no such thing, or it cannot be written.
    pub fn copy_to_archive(
        &self,
        record: &Record,
        from: &str,
        out: &mut dyn Write,
        how: How,
    ) -> Result<()> {
        let from = Given::new(from.as_bytes());
        let (_view, node, _) = self.source(record, &from, how)?;
        self.pack(record, &from, &node, from.name(), out)
    }

    /// Copy `from` here to `to` of a container; the bytes of the archive between.
    ///
    /// # Errors
    /// When there is no such thing, or it cannot be made there.
    pub fn copy_in(&self, record: &Record, from: &Path, to: &str, how: How) -> Result<u64> {
        let given = Given::here(from)?;
        let root = machine()?;
        let (node, stat) = match find(&root, &given.path, how.follow || given.slash)? {
            Found::Here(node, stat, _) => (node, stat),
            _ => {
                return Err(Error::NotFound(format!(
                    "lstat {}: no such file or directory",
                    given.shown()
                )));
            }
        };
        must_be_dir(&given, &stat)?;
        let to = Given::new(to.as_bytes());
        let (view, path) = self.destination(record, &to)?;
        let absent = |dir: &[u8]| not_in(record, &join(&view.at, dir));
        let (base, name) = target(&view.root, &to, &path, (&stat, given.name()), &absent)?;
        let place = Place {
            root: &view.root,
            base,
            links: Links::InRoot,
            owner: owner(how, (0, 0)),
        };
        transfer(&place, |out| {
            let mut packer = Packer::new(out, None);
            packer.add_tree(&name, node.at(), &|_| true)?;
            packer.finish().map(drop)
        })
    }

    /// Put what the archive `from` holds into the directory `to` of a container.
    ///
    /// # Errors
    /// When that is no directory, or a member cannot be made there.
    pub fn copy_from_archive(
        &self,
        record: &Record,
        from: impl Read,
        to: &str,
        how: How,
    ) -> Result<()> {
        let to = Given::new(to.as_bytes());
        let (view, path) = self.destination(record, &to)?;
        match find(&view.root, &path, true)? {
            Found::Here(_, stat, base) if stat.is_dir() => {
                let to = Place {
                    root: &view.root,
                    base,
                    links: Links::InRoot,
                    owner: owner(how, (0, 0)),
                };
                place(&to, from)
            }
            Found::Here(..) => invalid(format!(
                "destination \"{}:{}\" must be a directory",
                record.name,
                to.shown()
            )),
            _ => Err(not_in(record, &to.path)),
        }
    }

    fn source(&self, record: &Record, from: &Given, how: How) -> Result<(View, Node, Stat)> {
        let view = self.view_at(record, &from.path, false)?;
        let path = within(&view, &from.path);
        match find(&view.root, path, how.follow || from.slash)? {
            Found::Here(node, stat, _) => {
                must_be_dir(from, &stat)?;
                Ok((view, node, stat))
            }
            _ => Err(not_in(record, &from.path)),
        }
    }

    fn destination(&self, record: &Record, to: &Given) -> Result<(View, Vec<u8>)> {
        let view = self.view_at(record, &to.path, true)?;
        let path = within(&view, &to.path).to_vec();
        Ok((view, path))
    }

    /// Write what was found in a container, with what is mounted in it by its
    /// options.
    fn pack(
        &self,
        record: &Record,
        from: &Given,
        node: &Node,
        name: &[u8],
        out: &mut dyn Write,
    ) -> Result<()> {
        let mounts = record.settings.mounts.iter();
        let mounts = mounts.filter(|m| m.kind != volume::Kind::Tmpfs);
        let mounts: Vec<Vec<u8>> = mounts.map(|m| clean(m.target.as_bytes())).collect();
        let wanted = |path: &[u8]| mounts.contains(&join(&from.path, path));
        let mut packer = Packer::new(out, None);
        packer.add_tree(name, node.at(), &wanted)?;
        packer.finish().map(drop)
    }
}

/// The machine's own tree.
fn machine() -> Result<File> {
    File::open("/").context(|| "cannot open /".to_owned())
}

fn owner(how: How, otherwise: (u32, u32)) -> Option<(u32, u32)> {
    (!how.archive).then_some(otherwise)
}

/// A path in a view.
fn within<'a>(view: &View, path: &'a [u8]) -> &'a [u8] {
    let rest = path.strip_prefix(view.at.as_slice()).unwrap_or(path);
    rest.strip_prefix(b"/").unwrap_or(rest)
}

fn not_in(record: &Record, path: &[u8]) -> Error {
    Error::NotFound(format!(
        "Could not find the file /{} in container {}",
        show(path),
        record.name
    ))
}

fn must_be_dir(given: &Given, stat: &Stat) -> Result<()> {
    match given.slash && !stat.is_dir() {
        true => invalid(format!("{}: not a directory", given.shown())),
        false => Ok(()),
    }
}

/// The directory that a copy goes to, which is there, and its name in it; empty
/// for what goes into the directory itself. `path` is `to` in the tree `root`.
fn target(
    root: &File,
    to: &Given,
    path: &[u8],
    (source, called): (&Stat, &[u8]),
    absent: &dyn Fn(&[u8]) -> Error,
) -> Result<(Vec<u8>, Vec<u8>)> {
    match find(root, path, true)? {
        Found::Here(_, stat, at) if stat.is_dir() => Ok((at, called.to_vec())),
        Found::Here(..) if to.slash => invalid(format!("{}: not a directory", to.shown())),
        Found::Here(..) if source.is_dir() => {
            invalid(format!("{}: cannot copy directory to a file", to.shown()))
        }
        Found::Missing(..) if to.slash && !source.is_dir() => Err(Error::NotFound(format!(
            "{}: no such directory",
            to.shown()
        ))),
        Found::Here(_, _, at) => {
            let (dir, name) = split(&at);
            Ok((dir.to_vec(), name.to_vec()))
        }
        Found::Missing(dir, name) => Ok((dir, name)),
        Found::NoDirectory(dir) => Err(absent(&dir)),
    }
}

/// Let `pack` write an archive, and put it to its place as it comes.
fn transfer(to: &Place<'_>, pack: impl FnOnce(&mut dyn Write) -> Result<()> + Send) -> Result<u64> {
    let (reader, writer) = std::io::pipe().context(|| "cannot make a pipe".to_owned())?;
    let (packed, placed) = std::thread::scope(|scope| {
        let packing = scope.spawn(move || {
            let mut out = Counted(writer, 0);
            pack(&mut out).map(|()| out.1)
        });
        // The reader goes with it, so that nobody writes for nobody.
        let placed = place(to, reader);
        (packing.join(), placed)
    });
    match (packed, placed) {
        // What cannot be packed is no archive either.
        (Ok(Err(e)), Err(Error::Invalid(_))) => Err(e),
        (_, Err(e)) => Err(e),
        (Ok(packed), Ok(())) => packed,
        (Err(_), Ok(())) => invalid("the thread that reads the files failed"),
    }
}

struct Counted(PipeWriter, u64);

impl Write for Counted {
    fn write(&mut self, buf: &[u8]) -> std::io::Result<usize> {
        let n = self.0.write(buf)?;
        self.1 += n as u64;
        Ok(n)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.0.flush()
    }
}
