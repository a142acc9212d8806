//! The writable layer, directory by directory, beside what the image has there.

use super::image::{Dir, Found, Image, OpenDir};
use super::{Change, Place, What, join};
use crate::layer::marks::{self, Belief, Family, Marks, Opaque};
use crate::store::error::{Context, Result, invalid, show};
use crate::store::unpack::{OPAQUE, WHITEOUT, privileged};
use crate::store::walk;
use crate::sys::fs::{self as sfs, Stat};
use crate::sys::tree::{self, Links};
use crate::sys::{At, dir};
use std::collections::BTreeSet;
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};

/// The family of marks that the driver writes for this process.
pub fn family() -> Family {
    match privileged() {
        true => Family::Trusted,
        false => Family::User,
    }
}

/// A directory that is still to be looked at.
struct Todo {
    path: Vec<u8>,
    /// The writable layer has it.
    upper: bool,
    /// Empty files in it may be whiteouts.
    xwhiteouts: bool,
    /// What the image has at this path.
    before: Option<Dir>,
    /// What of the image is seen in it.
    merged: Option<Dir>,
    /// What the image has at this path is not seen here: all that is has to be
    /// told.
    replaced: bool,
}

struct Walk<'a> {
    upper: &'a File,
    image: &'a Image,
    belief: Belief,
    todo: Vec<Todo>,
    out: Vec<Change>,
    scratch: Vec<u8>,
}

/// One directory that is being looked at.
struct Here {
    todo: Todo,
    before: Option<OpenDir>,
    merged: Option<OpenDir>,
}

impl Here {
    fn before(&self, name: &[u8]) -> Result<Found> {
        self.before
            .as_ref()
            .map_or(Ok(Found::Nothing), |d| d.find(name))
    }

    fn merged(&self, name: &[u8]) -> Result<Found> {
        self.merged
            .as_ref()
            .map_or(Ok(Found::Nothing), |d| d.find(name))
    }
}

/// All changes, in no order.
///
/// # Errors
/// When a tree cannot be read, or a mark leads nowhere.
pub fn walk(upper: &File, image: &Image) -> Result<Vec<Change>> {
    let stat = sfs::stat_fd(upper).context(|| "cannot look at the writable layer".to_owned())?;
    let top = image.top();
    let root = Place {
        layer: None,
        path: Vec::new(),
    };
    let mut walk = Walk {
        upper,
        image,
        belief: Belief {
            own: family(),
            foreign: false,
        },
        todo: Vec::new(),
        out: vec![Change {
            path: Vec::new(),
            what: What::Here {
                stat,
                attributes: root.clone(),
                data: root,
            },
            before: None,
            replaces: false,
        }],
        scratch: Vec::new(),
    };
    let marks = walk.marks(At::Fd(upper.as_fd()))?;
    walk.todo.push(Todo {
        path: Vec::new(),
        upper: true,
        xwhiteouts: marks.opaque == Opaque::Xwhiteouts,
        before: top.clone(),
        merged: top,
        replaced: false,
    });
    while let Some(todo) = walk.todo.pop() {
        let open = |dir: &Option<Dir>| dir.as_ref().map(|d| image.enter(d)).transpose();
        let here = Here {
            before: open(&todo.before)?,
            merged: open(&todo.merged)?,
            todo,
        };
        walk.dir(&here)?;
    }
    Ok(walk.out)
}

impl Walk<'_> {
    fn marks(&mut self, at: At<'_>) -> Result<Marks> {
        marks::read(at, self.belief, &mut self.scratch)
            .context(|| "cannot read the marks of the writable layer".to_owned())
    }

    fn dir(&mut self, here: &Here) -> Result<()> {
        // Names that are seen, or whose end is told.
        let mut told = BTreeSet::new();
        if here.todo.upper {
            self.upper_names(here, &mut told)?;
        }
        if !here.todo.replaced {
            return Ok(());
        }
        if let Some(merged) = &here.merged {
            for name in merged.names()? {
                if !told.contains(&name) {
                    self.only_image(here, name, &mut told)?;
                }
            }
        }
        if let Some(before) = &here.before {
            for name in before.names()? {
                if let Some(stat) = before.find(&name)?.stat()
                    && !told.contains(&name)
                {
                    let path = join(&here.todo.path, &name);
                    self.gone(path, What::GoneBefore, stat);
                }
            }
        }
        Ok(())
    }

    fn gone(&mut self, path: Vec<u8>, what: What, before: Stat) {
        self.out.push(Change {
            path,
            what,
            before: Some(before),
            replaces: false,
        });
    }

    /// What the writable layer has in a directory.
    fn upper_names(&mut self, here: &Here, told: &mut BTreeSet<Vec<u8>>) -> Result<()> {
        let path = &here.todo.path;
        let say = || format!("cannot read {} of the writable layer", show(path));
        let fd = tree::open_dir_beneath(self.upper, OsStr::from_bytes(path), Links::Refuse);
        // It may go while we look, where nobody keeps the container from it.
        let Some(fd) = sfs::absent(fd).context(say)? else {
            return Ok(());
        };
        let names = dir::open(&fd).and_then(walk::names).context(say)?;
        let mut hidden = BTreeSet::new();
        let mut seen = Vec::new();
        for name in names.into_iter().map(OsString::into_vec) {
            let at = At::Name(fd.as_fd(), OsStr::from_bytes(&name));
            let Some(stat) = sfs::absent(sfs::stat(at)).context(say)? else {
                continue;
            };
            if stat.is_whiteout() {
                hidden.insert(name);
                continue;
            }
            let marks = match stat.is_dir() || stat.is_file() {
                true => self.marks(at)?,
                false => Marks::default(),
            };
            let mark_file = stat.is_file() && !marks.plain;
            match name.strip_prefix(WHITEOUT) {
                Some(_) if name == OPAQUE && mark_file => {}
                Some(of) if mark_file => drop(hidden.insert(of.to_vec())),
                _ if here.todo.xwhiteouts && marks.whiteout && stat.is_file() => {
                    hidden.insert(name);
                }
                _ => seen.push((name, stat, marks)),
            }
        }
        for (name, stat, marks) in seen {
            let anew = hidden.remove(&name);
            self.upper_name(here, &fd, &name, stat, (&marks, anew))?;
            told.insert(name);
        }
        for name in hidden {
            if let Some(stat) = here.before(&name)?.stat() {
                let what = match here.todo.replaced {
                    true => What::GoneBefore,
                    false => What::Gone,
                };
                self.gone(join(path, &name), what, stat);
            }
            told.insert(name);
        }
        Ok(())
    }

    fn upper_name(
        &mut self,
        here: &Here,
        fd: &OwnedFd,
        name: &[u8],
        stat: Stat,
        (marks, anew): (&Marks, bool),
    ) -> Result<()> {
        let path = join(&here.todo.path, name);
        let before = here.before(name)?;
        let own = Place {
            layer: None,
            path: path.clone(),
        };
        let mut change = Change {
            path: path.clone(),
            what: What::Here {
                stat,
                attributes: own.clone(),
                data: own.clone(),
            },
            before: before.stat(),
            replaces: false,
        };
        if stat.is_dir() {
            let inner = sfs::open_dir_path(fd, OsStr::from_bytes(name));
            let Some(inner) =
                sfs::absent(inner).context(|| format!("cannot open {}", show(name)))?
            else {
                return Ok(());
            };
            let opaque = anew
                || marks.opaque == Opaque::Yes
                || is_plain_mark(self, &inner, OsStr::from_bytes(OPAQUE))?;
            let merged = match &marks.redirect {
                _ if opaque => Found::Nothing,
                Some(to) => self.redirected(here, to)?,
                None => here.merged(name)?,
            };
            let merged = match merged {
                Found::Dir(dir, _) => Some(dir),
                _ => None,
            };
            let before = match before {
                Found::Dir(dir, _) => Some(dir),
                _ => None,
            };
            let other = merged != before;
            change.replaces = !here.todo.replaced && other && before.is_some();
            self.todo.push(Todo {
                path,
                upper: true,
                xwhiteouts: marks.opaque == Opaque::Xwhiteouts,
                replaced: here.todo.replaced || other,
                before,
                merged,
            });
        } else if stat.is_file() && marks.metacopy {
            let place = match &marks.redirect {
                Some(to) => (self.redirected(here, to)?, target(here, to)),
                None => {
                    let dir = here.merged.as_ref().map(OpenDir::path);
                    (here.merged(name)?, join(dir.unwrap_or_default(), name))
                }
            };
            let (Found::Other(layer, lower), from) = place else {
                return invalid(format!("the data of {} is not in the image", show(&path)));
            };
            if !lower.is_file() {
                return invalid(format!("the data of {} is no file", show(&path)));
            }
            let data = Place {
                layer: Some(layer),
                path: from,
            };
            change.what = What::Here {
                stat,
                attributes: own,
                data,
            };
        }
        self.out.push(change);
        Ok(())
    }

    /// What a redirect that was found in `here` leads to.
    fn redirected(&self, here: &Here, to: &OsStr) -> Result<Found> {
        let bytes = to.as_bytes();
        match bytes.strip_prefix(b"/") {
            Some(path) if !odd(path) => self.image.find(path),
            None if !odd(bytes) && !bytes.contains(&b'/') => here.merged(bytes),
            _ => invalid(format!(
                "bad redirect {} in the writable layer",
                show(bytes)
            )),
        }
    }

    /// A name that only the image has, in a directory that is told whole.
    fn only_image(
        &mut self,
        here: &Here,
        name: Vec<u8>,
        told: &mut BTreeSet<Vec<u8>>,
    ) -> Result<()> {
        let Some(merged) = &here.merged else {
            return Ok(());
        };
        let before = here.before(&name)?;
        let path = join(&here.todo.path, &name);
        let place = |layer| Place {
            layer,
            path: join(merged.path(), &name),
        };
        let (layer, stat) = match merged.find(&name)? {
            Found::Nothing => return Ok(()),
            Found::Other(layer, stat) => (Some(layer), stat),
            Found::Dir(dir, stat) => {
                let layer = dir.layers.first().copied();
                self.todo.push(Todo {
                    path: path.clone(),
                    upper: false,
                    xwhiteouts: false,
                    before: match &before {
                        Found::Dir(dir, _) => Some(dir.clone()),
                        _ => None,
                    },
                    merged: Some(dir),
                    replaced: true,
                });
                (layer, stat)
            }
        };
        self.out.push(Change {
            path,
            what: What::Here {
                stat,
                attributes: place(layer),
                data: place(layer),
            },
            before: before.stat(),
            replaces: false,
        });
        told.insert(name);
        Ok(())
    }
}

/// Where a redirect leads, as a path from the root of the layers.
fn target(here: &Here, to: &OsStr) -> Vec<u8> {
    match to.as_bytes().strip_prefix(b"/") {
        Some(path) => path.to_vec(),
        None => {
            let dir = here.merged.as_ref().map(OpenDir::path);
            join(dir.unwrap_or_default(), to.as_bytes())
        }
    }
}

/// No names, but ways.
fn odd(path: &[u8]) -> bool {
    let mut parts = path.split(|b| *b == b'/');
    parts.any(|part| matches!(part, b"" | b"." | b".."))
}

/// Is there a file of that name which is a mark.
fn is_plain_mark(walk: &mut Walk<'_>, dir: &OwnedFd, name: &OsStr) -> Result<bool> {
    let at = At::Name(dir.as_fd(), name);
    let stat = sfs::absent(sfs::stat(at)).context(|| "cannot look for a mark".to_owned())?;
    match stat {
        Some(stat) if stat.is_file() => Ok(!walk.marks(at)?.plain),
        _ => Ok(false),
    }
}
