//! What replies have in common: the log line, the errno, sizes.

use super::convert::errno;
use crate::sys::Errno as SysErrno;
use fuser::{Errno, INodeNo, Notifier, ReplyEmpty, ReplyXattr};
use std::ffi::OsStr;
use std::sync::OnceLock;

/// What is known only after the handshake.
#[derive(Default)]
pub(super) struct Late(OnceLock<Notifier>);

impl Late {
    pub(super) fn set(&self, notifier: Notifier) {
        let _ = self.0.set(notifier);
    }

    /// The kernel keeps the mode over a write that made us clear set-id bits.
    /// Attributes only, which takes no lock that a request could hold.
    pub(super) fn attributes_changed(&self, node: INodeNo) {
        if let Some(notifier) = self.0.get()
            && let Err(e) = notifier.inval_inode(node, -1, 0)
        {
            log::warn!("cannot tell the kernel of changed attributes: {e}");
        }
    }
}

/// A request, for the one line that a failure is worth.
pub(super) struct Op<'a> {
    name: &'static str,
    id: u64,
    arg: Option<&'a OsStr>,
}

impl Op<'_> {
    /// It succeeded.
    pub(super) fn done(&self) {
        log::debug!(
            "{} {:#x} {:?}: ok",
            self.name,
            self.id,
            self.arg.unwrap_or_default()
        );
    }

    /// The errno to reply. Failures that are nobody's normal answer are
    /// warned about.
    pub(super) fn failed(&self, e: SysErrno) -> Errno {
        let arg = self.arg.unwrap_or_default();
        if matches!(
            e,
            SysErrno::IO
                | SysErrno::NOSPC
                | SysErrno::DQUOT
                | SysErrno::MFILE
                | SysErrno::NFILE
                | SysErrno::NOMEM
        ) {
            log::warn!("{} {:#x} {arg:?}: {e}", self.name, self.id);
        } else {
            log::debug!("{} {:#x} {arg:?}: {e}", self.name, self.id);
        }
        errno(e)
    }
}

pub(super) fn op(name: &'static str, id: INodeNo) -> Op<'static> {
    Op {
        name,
        id: id.0,
        arg: None,
    }
}

pub(super) fn op_name<'a>(name: &'static str, id: INodeNo, arg: &'a OsStr) -> Op<'a> {
    Op {
        name,
        id: id.0,
        arg: Some(arg),
    }
}

pub(super) fn empty(result: crate::sys::Result<()>, reply: ReplyEmpty, op: &Op<'_>) {
    match result {
        Ok(()) => {
            op.done();
            reply.ok();
        }
        Err(e) => reply.error(op.failed(e)),
    }
}

pub(super) fn sized(
    result: crate::sys::Result<Vec<u8>>,
    size: u32,
    reply: ReplyXattr,
    op: &Op<'_>,
) {
    match result {
        Ok(value) if size == 0 => reply.size(u32::try_from(value.len()).unwrap_or(u32::MAX)),
        Ok(value) if value.len() <= size as usize => reply.data(&value),
        Ok(_) => reply.error(Errno::ERANGE),
        Err(e) => reply.error(op.failed(e)),
    }
}
