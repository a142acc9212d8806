//! Files on their way to the upper: a large lower file that was opened for
//! writing is copied by chunks, as they are written, the others meanwhile.
//!
//! Until it is whole and on disk the copy has no name: nobody finds half a file
//! in the upper, and after a kill or a power cut the file has its old content.
//! To everything but opening, reading, writing and showing its attributes the
//! node is still in the lower: whatever else wants it in the upper waits for
//! the rest ([`Union::copy_up`]).

use super::{
    Union,
    chunks::Chunks,
    copy_up::Want,
    node::Node,
    state::{InUpper, LowerFile},
};
use crate::sys::{
    At, Errno, Result, copy,
    fs::{self, SetTime, Stat, Time},
    probe::Features,
    xattr,
};
use parking_lot::{Condvar, Mutex, MutexGuard};
use std::collections::VecDeque;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;

/// A copy under way.
#[derive(Debug)]
pub(super) struct Partial {
    from: OwnedFd,
    /// The copy, without a name.
    to: OwnedFd,
    /// What of the lower's data is in it. Leaf lock.
    chunks: Mutex<Chunks>,
    /// Held while the copy is written: filling in a chunk takes back what it
    /// does to the modification time. After `naming`, before `state`.
    quiet: Mutex<()>,
    /// The modification time where that could not be taken back. Leaf lock.
    mtime: Mutex<Option<Time>>,
    /// Why the rest could not be copied when it was tried.
    failed: Mutex<Option<Errno>>,
}

impl Partial {
    fn new(from: OwnedFd, to: OwnedFd, size: u64, chunk: u64) -> Partial {
        Partial {
            from,
            to,
            chunks: Mutex::new(Chunks::new(size, chunk)),
            quiet: Mutex::new(()),
            mtime: Mutex::new(None),
            failed: Mutex::new(None),
        }
    }

    /// Attributes of the copy, of which size, times and blocks are the file's.
    pub(super) fn stat(&self) -> Result<Stat> {
        let _quiet = self.quiet.lock();
        self.stat_quiet()
    }

    /// The same. The caller holds `quiet`.
    fn stat_quiet(&self) -> Result<Stat> {
        let stat = fs::stat_fd(&self.to)?;
        let mtime = self.mtime.lock().unwrap_or(stat.mtime);
        Ok(Stat { mtime, ..stat })
    }

    /// The copy once more, for when it is whole.
    pub(super) fn copy(&self) -> Result<OwnedFd> {
        fs::reopen(&self.to, libc::O_RDWR)
    }

    /// Keeps writers off; when the file was last written.
    pub(super) fn quiet(&self) -> Result<(MutexGuard<'_, ()>, Time)> {
        let quiet = self.quiet.lock();
        let mtime = self.stat_quiet()?.mtime;
        Ok((quiet, mtime))
    }

    /// pread(2).
    pub(super) fn read(&self, buf: &mut [u8], offset: u64) -> Result<usize> {
        let mut done = 0;
        while let Some(rest) = buf.get_mut(done..).filter(|rest| !rest.is_empty()) {
            let at = offset + done as u64;
            let (there, run) = self.chunks.lock().run(at, rest.len() as u64);
            let run = usize::try_from(run).unwrap_or(rest.len()).min(rest.len());
            let part = rest.get_mut(..run).unwrap_or_default();
            let from = if there { &self.to } else { &self.from };
            let n = fs::read_at(from, part, at)?;
            done += n;
            if n < run {
                break;
            }
        }
        Ok(done)
    }

    /// pwrite(2).
    pub(super) fn write(&self, data: &[u8], offset: u64) -> Result<usize> {
        if let Some(why) = *self.failed.lock() {
            return Err(why);
        }
        let _quiet = self.quiet.lock();
        let mut data = data;
        loop {
            let end = offset + data.len() as u64;
            // Chunks that are written over from end to end need not be there.
            let (touched, cut): (Vec<u64>, Vec<u64>) = {
                let chunks = self.chunks.lock();
                let missing = chunks.touched(offset, data.len() as u64);
                missing.filter(|n| !chunks.has(*n)).partition(|n| {
                    let bytes = chunks.bytes(*n);
                    offset <= bytes.start && bytes.end <= end
                })
            };
            for chunk in cut {
                self.fill(chunk)?;
            }
            let n = fs::write_at(&self.to, data, offset)?;
            *self.mtime.lock() = None;
            let whole = offset + n as u64;
            let mut chunks = self.chunks.lock();
            let mut torn = false;
            for chunk in touched {
                let bytes = chunks.bytes(chunk);
                if bytes.end <= whole {
                    chunks.set(chunk);
                } else {
                    torn |= bytes.start < whole;
                }
            }
            if !torn {
                return Ok(n);
            }
            // It ended within a chunk that is not there: the same once more,
            // which fills that one in first.
            data = data.get(..n).unwrap_or_default();
        }
    }

    /// Copy one chunk. The caller holds `quiet`.
    fn fill(&self, chunk: u64) -> Result<()> {
        let bytes = self.chunks.lock().bytes(chunk);
        let before = self.stat_quiet()?.mtime;
        let copied = copy::part(&self.from, &self.to, bytes.start, bytes.end);
        let to = At::Fd(self.to.as_fd());
        let times = fs::utimens(to, SetTime::Keep, SetTime::At(before));
        *self.mtime.lock() = times.is_err().then_some(before);
        copied?;
        self.chunks.lock().set(chunk);
        Ok(())
    }

    /// Copy all that is not there.
    pub(super) fn complete(&self) -> Result<()> {
        loop {
            let _quiet = self.quiet.lock();
            let Some(chunk) = self.chunks.lock().first_missing() else {
                return Ok(());
            };
            self.fill(chunk)?;
        }
    }
}

/// The nodes that are being copied, which live until that is done.
#[derive(Default)]
pub(super) struct Partials {
    list: Mutex<List>,
    more: Condvar,
}

#[derive(Default)]
struct List {
    nodes: Vec<Arc<Node>>,
    /// Not tried yet by who copies in the background.
    queue: VecDeque<Arc<Node>>,
    closed: bool,
}

impl Partials {
    fn add(&self, node: &Arc<Node>) {
        let mut list = self.list.lock();
        list.nodes.push(node.clone());
        list.queue.push_back(node.clone());
        self.more.notify_one();
    }

    pub(super) fn remove(&self, node: &Arc<Node>) {
        // What goes is dropped after the lock is released.
        let _gone: Vec<_> = {
            let mut list = self.list.lock();
            let is = |other: &mut Arc<Node>| Arc::ptr_eq(other, node);
            list.nodes.extract_if(.., is).collect()
        };
    }

    /// Waits for one to copy; none when no more will come.
    fn next(&self) -> Option<Arc<Node>> {
        let mut list = self.list.lock();
        loop {
            if list.closed {
                return None;
            }
            match list.queue.pop_front() {
                Some(node) => return Some(node),
                None => self.more.wait(&mut list),
            }
        }
    }

    /// No more come; what there is.
    fn close(&self) -> Vec<Arc<Node>> {
        let mut list = self.list.lock();
        list.closed = true;
        list.queue.clear();
        self.more.notify_all();
        list.nodes.clone()
    }

    fn is_closed(&self) -> bool {
        self.list.lock().closed
    }
}

impl Union {
    /// As [`Union::copy_up`] with [`Want::Data`], for who will write by
    /// [`Union::write`]: large files are not waited for.
    pub(super) fn copy_up_to_write(&self, node: &Arc<Node>) -> Result<Arc<Node>> {
        if self.options.lazy.is_none() {
            return self.copy_up(node, Want::Data);
        }
        self.upper()?;
        let node = node.latest();
        if node.partial().is_some() {
            return Ok(node);
        }
        {
            let _ticket = self.ticket(&node);
            let again = node.latest();
            if !Arc::ptr_eq(&again, &node) {
                return self.copy_up_to_write(&again);
            }
            let (have, partial) = {
                let state = node.state.lock();
                (state.upper, state.partial.is_some())
            };
            if partial {
                return Ok(node.clone());
            }
            if have == InUpper::No
                && let Some(partial) = self.begin(&node)?
            {
                node.state.lock().partial = Some(Arc::new(partial));
                let next = self.succeed(&node);
                self.partials.add(&next);
                if next.partial().is_none() {
                    // It was completed before it was there.
                    self.partials.remove(&next);
                }
                return Ok(next);
            }
        }
        self.copy_up(&node, Want::Data)
    }

    /// A copy that has nothing yet, with room for all; none where all should
    /// be copied at once.
    fn begin(&self, node: &Arc<Node>) -> Result<Option<Partial>> {
        let Some(lazy) = self.options.lazy else {
            return Ok(None);
        };
        let lower: Option<LowerFile> = {
            let state = node.state.lock();
            let named = state.link().is_some();
            state.lower().filter(|_| named)
        };
        let may = self.features.has(Features::TMPFILE) && !self.partials.is_closed();
        let Some(lower) = lower.filter(|lower| may && lower.data.is_none()) else {
            return Ok(None);
        };
        let dir = self.lower_dir(&lower.dir)?;
        let at = At::Name(dir.as_fd(), &lower.name);
        let stat = self.stat_lower(lower.dir.layer, at)?;
        let set_id = stat.mode & (libc::S_ISUID | libc::S_ISGID) != 0;
        let holes = stat.blocks.saturating_mul(512) < stat.size - stat.size / 8;
        if !stat.is_file()
            || stat.size < lazy.from.max(1)
            || stat.nlink != 1
            || set_id
            || holes
            || xattr::get(at, c"security.capability")?.is_some()
        {
            return Ok(None);
        }
        self.may_copy_up(lower.dir.layer, at, &stat)?;
        let from = self.open_lower(&lower)?;
        let mut staged = self.upper()?.work.file()?;
        let Some(to) = staged.take_fd() else {
            return Ok(None);
        };
        if self.features.has(Features::REFLINK) && copy::clone(&from, &to) {
            return Ok(None);
        }
        // So that no room is an error of the open, as it would be of a copy.
        match fs::fallocate(&to, 0, 0, stat.size) {
            Err(Errno::OPNOTSUPP) => return Ok(None),
            result => result?,
        }
        let (atime, mtime) = (SetTime::At(stat.atime), SetTime::At(stat.mtime));
        fs::utimens(At::Fd(to.as_fd()), atime, mtime)?;
        Ok(Some(Partial::new(from, to, stat.size, lazy.chunk)))
    }

    /// The node with all its data in the upper, for who reads or writes it in
    /// other ways than [`Union::read`] and [`Union::write`].
    pub(super) fn whole(&self, node: Arc<Node>) -> Result<Arc<Node>> {
        match node.partial() {
            Some(_) => self.copy_up(&node, Want::Data),
            None => Ok(node),
        }
    }

    /// Copies what is under way, until [`Union::settle`]: for a thread of its
    /// own.
    pub fn copy_in_background(&self) {
        while let Some(node) = self.partials.next() {
            // Only who has it open could miss the rest.
            if node.link().is_none() {
                self.partials.remove(&node);
            } else if let Err(why) = self.finish(&node) {
                log::warn!("cannot go on copying {:?}: {why}", self.path(node.id, None));
            }
        }
    }

    fn finish(&self, node: &Arc<Node>) -> Result<()> {
        let result = self.copy_up_aside(node, Want::Data).map(drop);
        if let Some(partial) = node.partial() {
            *partial.failed.lock() = result.err();
        }
        result
    }

    /// Nothing is under way afterwards, nor begins again.
    pub fn settle(&self) {
        for node in self.partials.close() {
            if node.link().is_none() {
                self.partials.remove(&node);
                continue;
            }
            // What failed once may have had a reason that is gone.
            if let Err(why) = self.finish(&node).or_else(|_| self.finish(&node)) {
                let path = self.path(node.id, None);
                log::error!("what was written to {path:?} is lost: {why}");
            }
        }
    }
}
