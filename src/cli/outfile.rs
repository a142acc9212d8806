//! Files that a command makes for its user: there as a whole or not at all.

use crate::store::error::{Context, Error, Result, invalid};
use crate::store::staging::{self, Making, random_hex};
use crate::sys::fs::{self as sfs, Replace};
use crate::sys::{At, Errno, tree};
use std::ffi::{OsStr, OsString};
use std::fs::{self, File};
use std::io::{BufWriter, IsTerminal, Write};
use std::os::fd::AsFd;
use std::path::Path;

/// Let `fill` write the file `path`. It has no name before it is complete and
/// on the disk, and replaces what was there; a device or pipe is written to.
///
/// # Errors
/// Those of `fill`, and when the file cannot be made.
pub fn write(path: &Path, fill: impl FnOnce(&mut dyn Write) -> Result<()>) -> Result<()> {
    let say = || format!("cannot write {}", path.display());
    match fs::metadata(path) {
        Ok(meta) if meta.is_dir() => {
            return invalid(format!("{} is a directory: give a file", path.display()));
        }
        Ok(meta) if !meta.is_file() => {
            let file = File::options().write(true).open(path).context(say)?;
            return fill_file(&file, fill, say);
        }
        _ => {}
    }
    let (dir, name) = split(path)?;
    let aside = aside(name)?;
    let unnamed = match sfs::open_tmpfile(&dir) {
        Ok(file) => Some(File::from(file)),
        // Not every file system has files without names.
        Err(Errno::OPNOTSUPP | Errno::ISDIR | Errno::INVAL) => None,
        Err(e) => return Err(e).context(say),
    };
    if let Some(file) = &unnamed {
        fill_file(file, fill, say)?;
        sfs::sync(file, false).context(say)?;
        let mut interrupts = staging::committing();
        let at = At::Fd(file.as_fd());
        let named = match sfs::link(at, &dir, name) {
            Err(Errno::EXIST) => {
                sfs::link(at, &dir, &aside).context(say)?;
                replace(&dir, &aside, name)
            }
            other => other,
        };
        named.and_then(|()| sfs::sync_dir(&dir)).context(say)?;
        interrupts.changed();
        return Ok(());
    }
    let make = |_: &Path| tree::create_file(&dir, &aside, 0o600);
    let (_made, file) = Making::new(&path.with_file_name(&aside), make).context(say)?;
    fill_file(&file, fill, say)?;
    sfs::sync(&file, false).context(say)?;
    let mut interrupts = staging::committing();
    let named = sfs::rename(&dir, &aside, &dir, name, Replace::Yes);
    named.and_then(|()| sfs::sync_dir(&dir)).context(say)?;
    interrupts.changed();
    Ok(())
}

/// Let `fill` write into the directory `path`, which must not exist or be
/// empty, and gets its name when it is complete.
///
/// # Errors
/// Those of `fill`, and when the directory holds something or cannot be made.
pub fn write_dir(path: &Path, fill: impl FnOnce(&Path) -> Result<()>) -> Result<()> {
    let say = || format!("cannot make {}", path.display());
    match fs::read_dir(path) {
        Ok(mut entries) => {
            if entries.next().is_some() {
                return Err(Error::Conflict(format!(
                    "{} is there already and not empty: give another directory",
                    path.display()
                )));
            }
        }
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => {}
        Err(e) => return Err(e).context(say),
    }
    let (dir, name) = split(path)?;
    let aside = aside(name)?;
    let (made, ()) =
        Making::new(&path.with_file_name(&aside), |path| fs::create_dir(path)).context(say)?;
    fill(made.path())?;
    // An empty directory is replaced, any other refused.
    let mut interrupts = staging::committing();
    let named = sfs::rename(&dir, &aside, &dir, name, Replace::Yes);
    named.and_then(|()| sfs::sync_dir(&dir)).context(say)?;
    interrupts.changed();
    Ok(())
}

/// Let `aside` take the place of `name`, or go.
fn replace(dir: &File, aside: &OsStr, name: &OsStr) -> crate::sys::Result<()> {
    let done = sfs::rename(dir, aside, dir, name, Replace::Yes);
    if done.is_err() {
        let _ = sfs::unlink(dir, aside, false);
    }
    done
}

/// Refuse to write an archive where people would read it.
///
/// # Errors
/// When standard output is a terminal.
pub fn refuse_terminal() -> Result<()> {
    match std::io::stdout().is_terminal() {
        true => invalid("cowardly refusing to save to a terminal. Use the -o flag or redirect"),
        false => Ok(()),
    }
}

fn split(path: &Path) -> Result<(File, &OsStr)> {
    let Some(name) = path.file_name() else {
        return invalid(format!("{} is no name for a file", path.display()));
    };
    let parent = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    let dir = File::open(parent).context(|| format!("cannot open {}", parent.display()))?;
    Ok((dir, name))
}

/// A name beside `name` that nobody else has.
fn aside(name: &OsStr) -> Result<OsString> {
    let mut out = OsString::from(".");
    out.push(name);
    out.push(format!(".{}", random_hex(4)?));
    Ok(out)
}

fn fill_file(
    file: &File,
    fill: impl FnOnce(&mut dyn Write) -> Result<()>,
    say: impl Fn() -> String,
) -> Result<()> {
    let mut out = BufWriter::with_capacity(1 << 20, file);
    fill(&mut out)?;
    out.flush().context(say)
}
