//! What replies have in common: every one goes out through [`Asked`], which
//! logs what was asked and what came of it.

use super::{convert::errno, crew::Crew};
use crate::sys::{Errno as SysErrno, Result};
use crate::union::{Union, why};
use fuser::{
    Errno, INodeNo, Notifier, ReplyAttr, ReplyCreate, ReplyData, ReplyDirectory,
    ReplyDirectoryPlus, ReplyEmpty, ReplyEntry, ReplyIoctl, ReplyLseek, ReplyOpen, ReplyStatfs,
    ReplyWrite, ReplyXattr, Request,
};
use std::cell::Cell;
use std::ffi::OsStr;
use std::fmt;
use std::sync::{Arc, OnceLock};

/// What is known only after the handshake.
#[derive(Default)]
pub(super) struct Late {
    notifier: OnceLock<Notifier>,
    union: OnceLock<Arc<Union>>,
}

impl Late {
    pub(super) fn set(&self, notifier: Notifier) {
        let _ = self.notifier.set(notifier);
    }

    pub(super) fn shaken(&self, union: Arc<Union>) {
        let _ = self.union.set(union);
    }

    /// What is served.
    pub(super) fn union(&self) -> Option<Arc<Union>> {
        self.union.get().cloned()
    }

    /// The kernel keeps the mode over a write that made us clear set-id bits.
    /// Attributes only, which takes no lock that a request could hold.
    pub(super) fn attributes_changed(&self, node: INodeNo) {
        if let Some(notifier) = self.notifier.get()
            && let Err(e) = notifier.inval_inode(node, -1, 0)
        {
            log::warn!("cannot tell the kernel of changed attributes: {e}");
        }
    }

    /// The kernel is given all the content of a file that nobody has open, for
    /// its page cache. It may do without.
    pub(super) fn content(&self, node: INodeNo, data: &[u8]) {
        if let Some(notifier) = self.notifier.get()
            && let Err(e) = notifier.store(node, 0, data)
        {
            log::debug!("the kernel does not take content: {e}");
        }
    }
}

/// A reply that can say no.
pub(super) trait Refuse {
    fn refuse(self, errno: Errno);
}

macro_rules! refuse {
    ($($reply:ty)*) => {
        $(impl Refuse for $reply {
            fn refuse(self, errno: Errno) {
                self.error(errno);
            }
        })*
    };
}

refuse!(ReplyAttr ReplyCreate ReplyData ReplyDirectory ReplyEmpty ReplyEntry ReplyIoctl);
refuse!(ReplyDirectoryPlus ReplyLseek ReplyOpen ReplyStatfs ReplyWrite ReplyXattr);

/// Tells the crew of the end of a request, after its answer.
struct Turn<'a> {
    crew: &'a Arc<Crew>,
    /// Somebody waits for the answer.
    waited: bool,
    /// The thread that asked; 0 where that says nothing.
    caller: u32,
    /// Others waited too, when it was about to be given.
    others: Cell<Option<bool>>,
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        self.crew.answered(self.others.get());
    }
}

/// A request, and how it is answered.
pub(super) struct Asked<'a> {
    union: &'a Union,
    /// Ends with the request.
    turn: Turn<'a>,
    what: &'static str,
    node: u64,
    name: Option<&'a OsStr>,
    to: Option<(u64, &'a OsStr)>,
}

impl<'a> Asked<'a> {
    /// It is about a node.
    pub(super) fn of(
        union: &'a Union,
        crew: &'a Arc<Crew>,
        req: &Request,
        what: &'static str,
        node: INodeNo,
    ) -> Asked<'a> {
        let waited = !matches!(what, "forget" | "release");
        // Of reads and writes one caller may have several under way.
        let several = matches!(what, "read" | "write");
        Asked {
            union,
            turn: Turn {
                crew,
                waited,
                caller: if several { 0 } else { req.pid() },
                others: Cell::new(None),
            },
            what,
            node: node.0,
            name: None,
            to: None,
        }
    }

    /// It is about a name in the node.
    pub(super) fn name(self, name: &'a OsStr) -> Asked<'a> {
        Asked {
            name: Some(name),
            ..self
        }
    }

    /// It also has a new place.
    pub(super) fn to(self, parent: INodeNo, name: &'a OsStr) -> Asked<'a> {
        Asked {
            to: Some((parent.0, name)),
            ..self
        }
    }

    /// Logs the result: one line a request, at debug; a failure that is not
    /// the caller's doing is a warning, with paths in the place of numbers.
    pub(super) fn logged<T>(&self, result: Result<T>) -> Result<T> {
        if self.turn.waited {
            self.turn
                .others
                .set(Some(self.turn.crew.others_wait(self.turn.caller)));
        }
        // Taken from each request, also where it was got over.
        let why = why::take();
        match &result {
            Ok(_) => log::debug!("{self}: ok"),
            Err(e) if is_answer(*e, self.union.read_only()) => log::debug!("{self}: {e}"),
            Err(e) => {
                let why = why.map_or(String::new(), |why| format!(" ({why})"));
                log::warn!("{}: {e}{why}", InPaths(self));
            }
        }
        result
    }

    /// Logs the result and sends it: a success by `accept`.
    pub(super) fn answer<T, R: Refuse>(
        &self,
        result: Result<T>,
        reply: R,
        accept: impl FnOnce(R, T),
    ) {
        match self.logged(result) {
            Ok(value) => accept(reply, value),
            Err(e) => reply.refuse(errno(e)),
        }
    }

    /// [`Asked::answer`] where there is nothing to say on success.
    pub(super) fn done(&self, result: Result<()>, reply: ReplyEmpty) {
        self.answer(result, reply, |reply, ()| reply.ok());
    }

    /// [`Asked::answer`] with as much as the caller has room for, or with the
    /// size if it has none.
    pub(super) fn sized(&self, result: Result<Vec<u8>>, room: u32, reply: ReplyXattr) {
        let result = result.and_then(|value| match room {
            0 => Ok(value),
            room if value.len() <= room as usize => Ok(value),
            _ => Err(SysErrno::RANGE),
        });
        self.answer(result, reply, |reply, value| match room {
            0 => reply.size(u32::try_from(value.len()).unwrap_or(u32::MAX)),
            _ => reply.data(&value),
        });
    }
}

/// By the kernel's numbers, which cost nothing.
impl fmt::Display for Asked<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {:#x}", self.what, self.node)?;
        if let Some(name) = self.name {
            write!(f, " {name:?}")?;
        }
        if let Some((parent, name)) = self.to {
            write!(f, " to {parent:#x} {name:?}")?;
        }
        Ok(())
    }
}

/// By paths in the mount.
struct InPaths<'a>(&'a Asked<'a>);

impl fmt::Display for InPaths<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let asked = self.0;
        let place = asked.union.path(asked.node, asked.name);
        write!(f, "{} {}", asked.what, place.display())?;
        if let Some((parent, name)) = asked.to {
            let place = asked.union.path(parent, Some(name));
            write!(f, " to {}", place.display())?;
        }
        Ok(())
    }
}

/// Is this what a file system says to a caller that asks for what there is not
/// or may not be. Everything else is worth a warning: no room, a layer that
/// fails, too few descriptors, and whatever nobody thought of. `EACCES` is the
/// kernel's to give to callers: here it is a layer that lets us not in.
fn is_answer(e: SysErrno, read_only: bool) -> bool {
    matches!(
        e,
        SysErrno::AGAIN
            | SysErrno::BADF
            | SysErrno::BUSY
            | SysErrno::EXIST
            | SysErrno::FBIG
            | SysErrno::INTR
            | SysErrno::INVAL
            | SysErrno::ISDIR
            | SysErrno::LOOP
            | SysErrno::MLINK
            | SysErrno::NAMETOOLONG
            | SysErrno::NODATA
            | SysErrno::NOENT
            | SysErrno::NOSYS
            | SysErrno::NOTDIR
            | SysErrno::NOTEMPTY
            | SysErrno::NOTTY
            | SysErrno::NXIO
            | SysErrno::OPNOTSUPP
            | SysErrno::OVERFLOW
            | SysErrno::PERM
            | SysErrno::RANGE
            | SysErrno::STALE
            | SysErrno::TOOBIG
            | SysErrno::TXTBSY
            | SysErrno::XDEV
    ) || (e == SysErrno::ROFS && read_only)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whose_fault_it_is() {
        for e in [SysErrno::NOENT, SysErrno::PERM, SysErrno::STALE] {
            assert!(is_answer(e, false), "{e}");
        }
        for e in [
            SysErrno::IO,
            SysErrno::NOSPC,
            SysErrno::DQUOT,
            SysErrno::ACCESS,
        ] {
            assert!(!is_answer(e, true), "{e}");
        }
        // An upper that went read-only under us is no answer.
        assert!(is_answer(SysErrno::ROFS, true) && !is_answer(SysErrno::ROFS, false));
    }
}
