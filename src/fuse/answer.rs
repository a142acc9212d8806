//! Answers that carry nodes and attributes, for as long as the kernel may keep them.

use super::{
    adapter::Adapter,
    convert::{attr_ttl, file_attr},
    reply::Asked,
};
use crate::sys::Result;
use crate::union::{Attr, Changed};
use fuser::{FileAttr, Generation, INodeNo, ReplyAttr, ReplyEntry, ReplyWrite};
use std::time::Duration;

impl Adapter {
    /// An entry's attributes carry the kernel's number of the node in the
    /// place of `st_ino`: fuser has only one for both.
    pub(super) fn entry(&self, attr: &Attr) -> (FileAttr, Duration) {
        (file_attr(&attr.stat, attr.id), attr_ttl(attr, self.ttl))
    }

    pub(super) fn reply_entry(&self, asked: &Asked<'_>, result: Result<Attr>, reply: ReplyEntry) {
        asked.answer(result, reply, |reply, attr| {
            let (file, ttl) = self.entry(&attr);
            reply.entry_with_ttls(&ttl, &self.ttl, &file, Generation(0));
        });
    }

    pub(super) fn reply_attr(&self, asked: &Asked<'_>, result: Result<Attr>, reply: ReplyAttr) {
        asked.answer(result, reply, |reply, attr| {
            let ttl = if attr.volatile {
                Duration::ZERO
            } else {
                self.ttl
            };
            reply.attr(&ttl, &file_attr(&attr.stat, attr.stat.ino));
        });
    }

    pub(super) fn reply_written(
        &self,
        asked: &Asked<'_>,
        result: Result<Changed>,
        reply: ReplyWrite,
    ) {
        asked.answer(result, reply, |reply, done| {
            reply.written(u32::try_from(done.len).unwrap_or(u32::MAX));
        });
    }

    /// The kernel is told what a write did besides, before it has the answer.
    pub(super) fn changed(&self, node: INodeNo, result: Result<Changed>) -> Result<Changed> {
        result.inspect(|done| {
            if done.cleared {
                self.late.attributes_changed(node);
            }
        })
    }
}
