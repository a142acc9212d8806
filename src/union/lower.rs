//! Finding a name in the stack of lower layers: whiteouts, opaque
//! directories, redirects and metacopies on the way down.

use super::{Union, dirs::LowerDir, stack::Stack, state::LowerFile};
use crate::layer::marks::{self, Marks, Opaque};
use crate::sys::{
    At, Errno, Result,
    fs::{self, Stat},
};
use std::ffi::{OsStr, OsString};
use std::os::fd::AsFd;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::sync::{Arc, OnceLock};

/// One name in one lower directory.
enum Hit {
    Whiteout,
    File(Stat, Marks),
    Dir(Stat, Marks),
}

/// A name in a stack of lower directories.
pub(super) enum InLowers {
    None,
    File(Stat, LowerFile),
    /// The stat of the topmost, and the stack.
    Dirs(Stat, Stack),
}

/// What to look for in the layers below.
#[derive(Clone, Debug)]
pub(super) enum Search {
    /// This name in the parents' directories.
    Name(OsString),
    /// This path from each layer's root.
    Path(OsString),
}

impl Search {
    /// What a redirect that was found in an upper layer says.
    pub(super) fn redirect(value: &OsStr) -> Result<Search> {
        check_redirect(value)?;
        Ok(match is_absolute(value) {
            true => Search::Path(value.to_owned()),
            false => Search::Name(value.to_owned()),
        })
    }

    /// The search below a directory or metacopy that has a redirect.
    fn redirected(&self, value: &OsStr) -> Result<Search> {
        match self {
            Search::Path(path) if !is_absolute(value) => {
                check_redirect(value)?;
                Ok(Search::Path(replace_last(path, value)))
            }
            _ => Search::redirect(value),
        }
    }
}

/// Layers come from anywhere: a redirect that the kernel would not take, be it
/// one that leads upwards or by way of a symlink out of the layer, is an error
/// of the layer. It is one name, or a path of names from the root.
fn check_redirect(value: &OsStr) -> Result<()> {
    let bytes = value.as_bytes();
    let names = bytes.strip_prefix(b"/");
    let separate = |b: &u8| names.is_some() && *b == b'/';
    let one = |name: &[u8]| !matches!(name, b"" | b"." | b"..") && !name.contains(&b'/');
    if names.unwrap_or(bytes).split(separate).all(one) {
        return Ok(());
    }
    log::warn!("a layer has a bad redirect: {value:?}");
    Err(Errno::IO)
}

/// The first of these directories, top first, in layer `from` or below.
fn first_from(parents: &[Arc<LowerDir>], from: u16) -> Option<&Arc<LowerDir>> {
    parents.get(parents.partition_point(|p| p.layer < from))
}

/// Does a redirect begin at the layers' roots.
fn is_absolute(redirect: &OsStr) -> bool {
    redirect.as_bytes().starts_with(b"/")
}

/// A path with another last name.
fn replace_last(path: &OsStr, name: &OsStr) -> OsString {
    let path = path.as_bytes();
    let cut = path.iter().rposition(|b| *b == b'/').map_or(0, |i| i + 1);
    let mut out = path.get(..cut).unwrap_or_default().to_vec();
    out.extend_from_slice(name.as_bytes());
    OsString::from_vec(out)
}

/// A path in one layer.
struct Walked {
    /// The directory and name that it ends at.
    place: Option<(Arc<LowerDir>, OsString)>,
    /// The path in the layers below: redirects on the way replace its front.
    below: OsString,
    /// Nothing of it is to be seen in the layers below.
    stop: bool,
}

impl Union {
    /// Search the lower layers from number `from` on.
    pub(super) fn find_lower(
        &self,
        parents: &[Arc<LowerDir>],
        mut search: Search,
        from: u16,
    ) -> Result<InLowers> {
        let mut top: Option<Stat> = None;
        let mut dirs: Vec<Arc<LowerDir>> = Vec::new();
        let mut next = from;
        let mut stop = false;
        while !stop {
            // The next directory to look in, and the name there.
            let (layer, place) = match &search {
                Search::Name(name) => match first_from(parents, next) {
                    Some(parent) => (parent.layer, Some((parent.clone(), name.clone()))),
                    None => break,
                },
                Search::Path(_) if usize::from(next) >= self.lowers.len() => break,
                Search::Path(path) => {
                    let walked = self.walk(next, path)?;
                    search = Search::Path(walked.below);
                    stop = walked.stop;
                    (next, walked.place)
                }
            };
            next = layer + 1;
            let Some((dir, name)) = place else { continue };
            match self.look(&dir, &name)? {
                None => {}
                Some(Hit::Whiteout) => break,
                Some(Hit::File(..)) if top.is_some() => break,
                Some(Hit::File(stat, marks)) => {
                    let file = LowerFile {
                        dir,
                        name: name.as_os_str().into(),
                        data: None,
                        known: None,
                    };
                    return self.with_data(parents, search, next, stat, marks, file);
                }
                Some(Hit::Dir(stat, marks)) => {
                    top = top.or(Some(stat));
                    stop |= marks.opaque == Opaque::Yes;
                    dirs.push(self.enter(dir, name, &marks));
                    if let Some(to) = self.followed(&marks) {
                        // An opaque directory on the way here hides its own
                        // path below, not this one.
                        stop &= !is_absolute(to);
                        search = search.redirected(to)?;
                    }
                }
            }
        }
        Ok(match top {
            Some(stat) => InLowers::Dirs(stat, Stack::Dirs(dirs)),
            None => InLowers::None,
        })
    }

    /// A lower file, and where its data is if it is a metacopy.
    fn with_data(
        &self,
        parents: &[Arc<LowerDir>],
        search: Search,
        next: u16,
        mut stat: Stat,
        marks: Marks,
        mut file: LowerFile,
    ) -> Result<InLowers> {
        if marks.metacopy && stat.is_file() {
            let search = match &marks.redirect {
                Some(to) => search.redirected(to)?,
                None => search,
            };
            match self.find_lower(parents, search, next)? {
                InLowers::File(below, data) if below.is_file() => {
                    stat.blocks = below.blocks;
                    file.data = Some(Box::new(data));
                }
                _ => {
                    log::warn!("metacopy {:?} has no data below", file.name);
                    return Err(Errno::IO);
                }
            }
        }
        Ok(InLowers::File(stat, file))
    }

    fn enter(&self, parent: Arc<LowerDir>, name: OsString, marks: &Marks) -> Arc<LowerDir> {
        Arc::new(LowerDir {
            layer: parent.layer,
            parent: Some(parent),
            name,
            serial: self.table.serial(),
            wh: OnceLock::new(),
            xwhiteouts: marks.opaque == Opaque::Xwhiteouts,
        })
    }

    /// Walk a path from a layer's root to its last name's directory.
    fn walk(&self, layer: u16, path: &OsStr) -> Result<Walked> {
        let mut walked = Walked {
            place: None,
            below: path.to_owned(),
            stop: false,
        };
        let Some(root) = self.roots.get(usize::from(layer)) else {
            return Ok(walked);
        };
        let names: Vec<&[u8]> = path
            .as_bytes()
            .split(|b| *b == b'/')
            .filter(|n| !n.is_empty())
            .collect();
        let Some((last, above)) = names.split_last() else {
            return Ok(walked);
        };
        let mut dir = root.clone();
        let mut below: Vec<u8> = Vec::new();
        for (at, name) in above.iter().enumerate() {
            let name = OsStr::from_bytes(name);
            let marks = match self.look(&dir, name)? {
                Some(Hit::Dir(_, marks)) => marks,
                hit => {
                    walked.stop |= hit.is_some();
                    // The redirects on the way so far hold below all the same.
                    for name in names.get(at..).unwrap_or_default() {
                        below.push(b'/');
                        below.extend_from_slice(name);
                    }
                    walked.below = OsString::from_vec(below);
                    return Ok(walked);
                }
            };
            walked.stop |= marks.opaque == Opaque::Yes;
            let to = self.followed(&marks);
            to.map(check_redirect).transpose()?;
            match to {
                Some(to) if is_absolute(to) => {
                    below = to.as_bytes().to_vec();
                    walked.stop = false;
                }
                to => {
                    below.push(b'/');
                    below.extend_from_slice(to.unwrap_or(name).as_bytes());
                }
            }
            dir = self.enter(dir, name.to_owned(), &marks);
        }
        below.push(b'/');
        below.extend_from_slice(last);
        walked.below = OsString::from_vec(below);
        walked.place = Some((dir, OsStr::from_bytes(last).to_owned()));
        Ok(walked)
    }

    /// One name in one lower directory.
    fn look(&self, dir: &Arc<LowerDir>, name: &OsStr) -> Result<Option<Hit>> {
        let fd = self.lower_dir(dir)?;
        let at = At::Name(fd.as_fd(), name);
        let Some(stat) = fs::absent(self.stat_lower(dir.layer, at))? else {
            let hidden = self.has_lower_wh(dir)? && self.is_wh_whiteout(fd.as_fd(), name)?;
            return Ok(hidden.then_some(Hit::Whiteout));
        };
        if stat.is_whiteout() {
            return Ok(Some(Hit::Whiteout));
        }
        let mut marks = Marks::default();
        if stat.is_dir() || stat.is_file() || marks::is_wh(name) {
            marks = self.marks(at, self.lower_belief, &stat)?;
        }
        if marks::is_wh(name) && !marks.plain {
            return Ok(None);
        }
        if !stat.is_dir() {
            if marks.whiteout && dir.xwhiteouts && stat.size == 0 {
                return Ok(Some(Hit::Whiteout));
            }
            return Ok(Some(Hit::File(stat, marks)));
        }
        if marks.opaque != Opaque::Yes
            && (self.has_wh_opaque(fd.as_fd(), name)?
                || (self.has_lower_wh(dir)? && self.is_wh_whiteout(fd.as_fd(), name)?))
        {
            marks.opaque = Opaque::Yes;
        }
        Ok(Some(Hit::Dir(stat, marks)))
    }

    fn has_lower_wh(&self, dir: &Arc<LowerDir>) -> Result<bool> {
        if let Some(known) = dir.wh.get() {
            return Ok(*known);
        }
        let found = super::lookup::has_wh(self.lower_dir(dir)?.as_fd())?;
        Ok(*dir.wh.get_or_init(|| found))
    }

    /// The redirect of a directory, if it counts: nothing is below an opaque
    /// one.
    fn followed<'m>(&self, marks: &'m Marks) -> Option<&'m OsStr> {
        let redirect = marks.redirect.as_deref()?;
        (self.follows_redirects() && marks.opaque != Opaque::Yes).then_some(redirect)
    }

    /// Are redirects of directories followed.
    pub(super) fn follows_redirects(&self) -> bool {
        self.options.redirect_dir != super::options::RedirectDir::NoFollow
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_relative_redirect_replaces_the_last_name() {
        let to = |search: &Search, value| match search.redirected(OsStr::new(value)).unwrap() {
            Search::Name(name) => format!("name {}", name.display()),
            Search::Path(path) => format!("path {}", path.display()),
        };
        let name = Search::Name("a".into());
        let path = Search::Path("/x/a".into());
        assert_eq!(to(&name, "b"), "name b");
        assert_eq!(to(&name, "/y/b"), "path /y/b");
        assert_eq!(to(&path, "b"), "path /x/b");
        assert_eq!(to(&path, "/b"), "path /b");
    }

    #[test]
    fn a_redirect_does_not_lead_out_of_its_layer() {
        for bad in [
            "", ".", "..", "../x", "a/b", "/", "//a", "/a/", "/a//b", "/..", "/a/./b",
        ] {
            for search in [Search::Name("a".into()), Search::Path("/x/a".into())] {
                let to = search.redirected(OsStr::new(bad));
                assert_eq!(to.err(), Some(Errno::IO), "{bad}");
            }
        }
    }
}
