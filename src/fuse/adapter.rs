//! One function a request: decode, ask the union, answer through [`Asked`].

use super::{
    backing::Backings,
    convert::{caller, device, file_attr, file_type, set_time},
    crew::Crew,
    habits::Habits,
    handshake,
    open::Way,
    reply::{Asked, Late},
};
use crate::sys::{Errno as SysErrno, fs::Replace};
use crate::union::{Make, SetAttr, Union};
use fuser::{
    BsdFileFlags, CopyFileRangeFlags, FileHandle, Filesystem, FopenFlags, Generation, INodeNo,
    IoctlFlags, KernelConfig, LockOwner, OpenFlags, RenameFlags, ReplyAttr, ReplyCreate, ReplyData,
    ReplyDirectory, ReplyDirectoryPlus, ReplyEmpty, ReplyEntry, ReplyIoctl, ReplyLseek, ReplyOpen,
    ReplyStatfs, ReplyWrite, ReplyXattr, Request, TimeOrNow, WriteFlags,
};
use std::ffi::OsStr;
use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

/// For ever: only this mount changes the layers.
const NO_TIMEOUT: Duration = Duration::from_secs(u32::MAX as u64);
/// Open directories have no state.
const NO_HANDLE: FileHandle = FileHandle(0);

/// The union as fuser's trait.
pub(super) struct Adapter {
    pub(super) union: Arc<Union>,
    pub(super) backings: Backings,
    pub(super) habits: Habits,
    pub(super) ttl: Duration,
    no_opendir: bool,
    /// Idmapped mounts of this one are allowed.
    idmap: bool,
    pub(super) late: Arc<Late>,
    crew: Arc<Crew>,
}

impl Adapter {
    pub(super) fn new(mut union: Union, idmap: bool, crew: Arc<Crew>) -> Adapter {
        let away = crew.clone();
        union.tell_of_waits(move || away.go_away());
        Adapter {
            ttl: union.timeout().unwrap_or(NO_TIMEOUT),
            no_opendir: false,
            idmap,
            union: Arc::new(union),
            backings: Backings::new(),
            habits: Habits::default(),
            late: Arc::default(),
            crew,
        }
    }

    pub(super) fn late(&self) -> Arc<Late> {
        self.late.clone()
    }

    /// Where requests come from and answers go to.
    pub(super) fn device(&self) -> &OwnedFd {
        self.crew.device()
    }

    pub(super) fn asked<'a>(
        &'a self,
        req: &Request,
        what: &'static str,
        node: INodeNo,
    ) -> Asked<'a> {
        Asked::of(&self.union, &self.crew, req, what, node)
    }
}

impl Filesystem for Adapter {
    fn init(&mut self, _req: &Request, config: &mut KernelConfig) -> io::Result<()> {
        // Nobody else has it before this.
        let union = Arc::get_mut(&mut self.union).ok_or(io::ErrorKind::ResourceBusy)?;
        self.no_opendir = handshake::shake(union, config, self.idmap);
        self.late.shaken(self.union.clone());
        Ok(())
    }

    fn destroy(&mut self) {
        self.union.close();
    }

    fn lookup(&self, req: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        let result = match name.to_str() {
            Some(".") => self.union.reopen_node(parent.0),
            Some("..") => self.union.lookup_parent(parent.0),
            _ => self.union.lookup(parent.0, name),
        };
        if result.is_ok_and(|attr| !attr.stat.is_dir()) {
            self.habits.looked(req.pid(), parent.0);
        }
        let asked = self.asked(req, "lookup", parent).name(name);
        if let Err(SysErrno::NOENT) = result {
            // Number 0: the kernel remembers that there is no such name.
            let nothing = file_attr(&crate::sys::fs::Stat::default(), 0);
            let _ = asked.logged(result);
            return reply.entry(&self.ttl, &nothing, Generation(0));
        }
        self.reply_entry(&asked, result, reply);
    }

    fn forget(&self, req: &Request, ino: INodeNo, nlookup: u64) {
        if let Some(handle) = self.union.forget(ino.0, nlookup) {
            self.backings.forget(handle);
        }
        let _ = self.asked(req, "forget", ino).logged(Ok(()));
    }

    fn getattr(&self, req: &Request, ino: INodeNo, _fh: Option<FileHandle>, reply: ReplyAttr) {
        let result = self.union.getattr(ino.0);
        self.reply_attr(&self.asked(req, "getattr", ino), result, reply);
    }

    fn setattr(
        &self,
        req: &Request,
        ino: INodeNo,
        mode: Option<u32>,
        uid: Option<u32>,
        gid: Option<u32>,
        size: Option<u64>,
        atime: Option<TimeOrNow>,
        mtime: Option<TimeOrNow>,
        _ctime: Option<SystemTime>,
        _fh: Option<FileHandle>,
        _crtime: Option<SystemTime>,
        _chgtime: Option<SystemTime>,
        _bkuptime: Option<SystemTime>,
        _flags: Option<BsdFileFlags>,
        reply: ReplyAttr,
    ) {
        let set = SetAttr {
            mode,
            uid,
            gid,
            size,
            atime: atime.map(set_time),
            mtime: mtime.map(set_time),
        };
        let result = self.union.setattr(ino.0, set, caller(req));
        let result = result.inspect(|attr| {
            if attr.of != ino.0 {
                self.late.attributes_changed(INodeNo(attr.of));
            }
        });
        self.reply_attr(&self.asked(req, "setattr", ino), result, reply);
    }

    fn readlink(&self, req: &Request, ino: INodeNo, reply: ReplyData) {
        let result = self.union.readlink(ino.0);
        self.asked(req, "readlink", ino)
            .answer(result, reply, |reply, target| {
                reply.data(target.as_encoded_bytes());
            });
    }

    fn mknod(
        &self,
        req: &Request,
        parent: INodeNo,
        name: &OsStr,
        mode: u32,
        umask: u32,
        rdev: u32,
        reply: ReplyEntry,
    ) {
        let what = match mode & libc::S_IFMT {
            0 | libc::S_IFREG => Make::File,
            kind => Make::Node(kind, device(rdev)),
        };
        let result = self
            .union
            .make(parent.0, name, what, mode, umask, caller(req));
        self.reply_entry(&self.asked(req, "mknod", parent).name(name), result, reply);
    }

    fn mkdir(
        &self,
        req: &Request,
        parent: INodeNo,
        name: &OsStr,
        mode: u32,
        umask: u32,
        reply: ReplyEntry,
    ) {
        let result = self
            .union
            .make(parent.0, name, Make::Dir, mode, umask, caller(req));
        self.reply_entry(&self.asked(req, "mkdir", parent).name(name), result, reply);
    }

    fn unlink(&self, req: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        let result = self.union.unlink(parent.0, name);
        self.asked(req, "unlink", parent)
            .name(name)
            .done(result, reply);
    }

    fn rmdir(&self, req: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        let result = self.union.rmdir(parent.0, name);
        self.asked(req, "rmdir", parent)
            .name(name)
            .done(result, reply);
    }

    fn symlink(
        &self,
        req: &Request,
        parent: INodeNo,
        name: &OsStr,
        target: &Path,
        reply: ReplyEntry,
    ) {
        let what = Make::Symlink(target.as_os_str());
        let result = self.union.make(parent.0, name, what, 0o777, 0, caller(req));
        self.reply_entry(
            &self.asked(req, "symlink", parent).name(name),
            result,
            reply,
        );
    }

    fn rename(
        &self,
        req: &Request,
        parent: INodeNo,
        name: &OsStr,
        newparent: INodeNo,
        newname: &OsStr,
        flags: RenameFlags,
        reply: ReplyEmpty,
    ) {
        let how = if flags.is_empty() {
            Ok(Replace::Yes)
        } else if flags == RenameFlags::RENAME_NOREPLACE {
            Ok(Replace::No)
        } else if flags == RenameFlags::RENAME_EXCHANGE {
            Ok(Replace::Exchange)
        } else {
            Err(SysErrno::INVAL)
        };
        let result =
            how.and_then(|how| self.union.rename(parent.0, name, newparent.0, newname, how));
        let asked = self.asked(req, "rename", parent).name(name);
        asked.to(newparent, newname).done(result, reply);
    }

    fn link(
        &self,
        req: &Request,
        ino: INodeNo,
        newparent: INodeNo,
        newname: &OsStr,
        reply: ReplyEntry,
    ) {
        let result = self.union.link(ino.0, newparent.0, newname);
        let asked = self.asked(req, "link", ino).to(newparent, newname);
        self.reply_entry(&asked, result, reply);
    }

    fn open(&self, req: &Request, ino: INodeNo, flags: OpenFlags, reply: ReplyOpen) {
        // From then on the kernel opens files without asking.
        let result = match self.union.opens_unasked() {
            true => Err(SysErrno::NOSYS),
            false => {
                let store = |data: &[u8]| self.late.content(ino, data);
                self.union.prefetch(ino.0, flags.0, store);
                self.open_way(ino, flags, caller(req), |fd| reply.open_backing(fd))
            }
        };
        self.asked(req, "open", ino)
            .answer(result, reply, |reply, way| match way {
                Way::Daemon(handle, flags) => reply.opened(handle, flags),
                Way::Kernel(handle, id) => {
                    reply.opened_passthrough(handle, FopenFlags::empty(), &id);
                }
            });
    }

    fn read(
        &self,
        req: &Request,
        ino: INodeNo,
        _fh: FileHandle,
        offset: u64,
        size: u32,
        _flags: OpenFlags,
        _lock_owner: Option<LockOwner>,
        reply: ReplyData,
    ) {
        let mut buf = vec![0; size as usize];
        let result = self.union.read(ino.0, offset, &mut buf);
        self.asked(req, "read", ino)
            .answer(result, reply, |reply, n| {
                reply.data(buf.get(..n).unwrap_or_default());
            });
    }

    fn write(
        &self,
        req: &Request,
        ino: INodeNo,
        _fh: FileHandle,
        offset: u64,
        data: &[u8],
        write_flags: WriteFlags,
        _flags: OpenFlags,
        _lock_owner: Option<LockOwner>,
        reply: ReplyWrite,
    ) {
        let kill = write_flags.contains(WriteFlags::FUSE_WRITE_KILL_SUIDGID);
        let result = self.union.write(ino.0, offset, data, kill, caller(req));
        let result = self.changed(ino, result);
        self.reply_written(&self.asked(req, "write", ino), result, reply);
    }

    fn release(
        &self,
        req: &Request,
        ino: INodeNo,
        fh: FileHandle,
        flags: OpenFlags,
        _lock_owner: Option<LockOwner>,
        _flush: bool,
        reply: ReplyEmpty,
    ) {
        let released = self.union.release(ino.0, fh.0, flags.0);
        if released.last {
            self.backings.idle(&self.union, ino.0, fh.0);
        }
        if released.stale {
            self.late.attributes_changed(ino);
        }
        self.asked(req, "release", ino).done(Ok(()), reply);
    }

    fn fsync(
        &self,
        req: &Request,
        ino: INodeNo,
        _fh: FileHandle,
        datasync: bool,
        reply: ReplyEmpty,
    ) {
        let result = self.union.fsync(ino.0, datasync);
        self.asked(req, "fsync", ino).done(result, reply);
    }

    fn opendir(&self, req: &Request, ino: INodeNo, _flags: OpenFlags, reply: ReplyOpen) {
        // From then on the kernel opens directories without asking.
        let result = match self.no_opendir {
            true => Err(SysErrno::NOSYS),
            false => Ok(FopenFlags::FOPEN_KEEP_CACHE),
        };
        self.asked(req, "opendir", ino)
            .answer(result, reply, |reply, flags| reply.opened(NO_HANDLE, flags));
    }

    fn readdir(
        &self,
        req: &Request,
        ino: INodeNo,
        _fh: FileHandle,
        offset: u64,
        mut reply: ReplyDirectory,
    ) {
        let result = self.union.readdir(ino.0, offset, |e| {
            !reply.add(INodeNo(e.ino), e.next, file_type(e.kind), &e.name)
        });
        self.asked(req, "readdir", ino)
            .answer(result, reply, |reply, ()| reply.ok());
    }

    fn readdirplus(
        &self,
        req: &Request,
        ino: INodeNo,
        _fh: FileHandle,
        offset: u64,
        reply: ReplyDirectoryPlus,
    ) {
        self.list(req, ino, offset, reply);
    }

    fn releasedir(
        &self,
        req: &Request,
        ino: INodeNo,
        _fh: FileHandle,
        _flags: OpenFlags,
        reply: ReplyEmpty,
    ) {
        self.asked(req, "releasedir", ino).done(Ok(()), reply);
    }

    fn fsyncdir(
        &self,
        req: &Request,
        ino: INodeNo,
        _fh: FileHandle,
        datasync: bool,
        reply: ReplyEmpty,
    ) {
        let result = self.union.fsync(ino.0, datasync);
        self.asked(req, "fsyncdir", ino).done(result, reply);
    }

    fn statfs(&self, req: &Request, ino: INodeNo, reply: ReplyStatfs) {
        let result = self.union.statfs();
        self.asked(req, "statfs", ino)
            .answer(result, reply, |reply, s| {
                reply.statfs(
                    s.blocks,
                    s.free,
                    s.available,
                    s.files,
                    s.files_free,
                    s.block_size,
                    s.name_max,
                    s.fragment_size,
                );
            });
    }

    fn setxattr(
        &self,
        req: &Request,
        ino: INodeNo,
        name: &OsStr,
        value: &[u8],
        flags: i32,
        _position: u32,
        reply: ReplyEmpty,
    ) {
        let result = self.union.setxattr(ino.0, name, value, flags, caller(req));
        self.asked(req, "setxattr", ino)
            .name(name)
            .done(result, reply);
    }

    fn getxattr(&self, req: &Request, ino: INodeNo, name: &OsStr, size: u32, reply: ReplyXattr) {
        let result = self.union.getxattr(ino.0, name);
        self.asked(req, "getxattr", ino)
            .name(name)
            .sized(result, size, reply);
    }

    fn listxattr(&self, req: &Request, ino: INodeNo, size: u32, reply: ReplyXattr) {
        let result = self.union.listxattr(ino.0, caller(req));
        self.asked(req, "listxattr", ino).sized(result, size, reply);
    }

    fn removexattr(&self, req: &Request, ino: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        let result = self.union.removexattr(ino.0, name);
        self.asked(req, "removexattr", ino)
            .name(name)
            .done(result, reply);
    }

    fn create(
        &self,
        req: &Request,
        parent: INodeNo,
        name: &OsStr,
        mode: u32,
        umask: u32,
        flags: i32,
        reply: ReplyCreate,
    ) {
        let made = self
            .union
            .create(parent.0, name, mode, umask, flags, caller(req));
        let result = made.and_then(|(attr, opened)| {
            let way = self.way(INodeNo(attr.id), opened, |fd| reply.open_backing(fd))?;
            Ok((attr, way))
        });
        let asked = self.asked(req, "create", parent).name(name);
        asked.answer(result, reply, |reply, (attr, way)| {
            let (file, ttl) = self.entry(&attr);
            let none = FopenFlags::empty();
            match way {
                Way::Daemon(handle, flags) => {
                    reply.created(&ttl, &file, Generation(0), handle, flags);
                }
                Way::Kernel(handle, id) => {
                    reply.created_passthrough(&ttl, &file, Generation(0), handle, none, &id);
                }
            }
        });
    }

    fn fallocate(
        &self,
        req: &Request,
        ino: INodeNo,
        _fh: FileHandle,
        offset: u64,
        length: u64,
        mode: i32,
        reply: ReplyEmpty,
    ) {
        let result = self
            .union
            .fallocate(ino.0, mode, offset, length, caller(req));
        let result = self.changed(ino, result).map(drop);
        self.asked(req, "fallocate", ino).done(result, reply);
    }

    fn lseek(
        &self,
        req: &Request,
        ino: INodeNo,
        _fh: FileHandle,
        offset: i64,
        whence: i32,
        reply: ReplyLseek,
    ) {
        let result = u64::try_from(offset)
            .map_err(|_| SysErrno::NXIO)
            .and_then(|offset| self.union.lseek(ino.0, offset, whence));
        self.asked(req, "lseek", ino)
            .answer(result, reply, |reply, at| {
                reply.offset(i64::try_from(at).unwrap_or(i64::MAX));
            });
    }

    fn copy_file_range(
        &self,
        req: &Request,
        ino_in: INodeNo,
        _fh_in: FileHandle,
        offset_in: u64,
        ino_out: INodeNo,
        _fh_out: FileHandle,
        offset_out: u64,
        len: u64,
        _flags: CopyFileRangeFlags,
        reply: ReplyWrite,
    ) {
        // The reply's size has 32 bits.
        let len = usize::try_from(len).unwrap_or(usize::MAX).min(1 << 30);
        let from = (ino_in.0, offset_in);
        let to = (ino_out.0, offset_out);
        let result = self.union.copy_file_range(from, to, len, caller(req));
        let result = self.changed(ino_out, result);
        self.reply_written(&self.asked(req, "copy_file_range", ino_out), result, reply);
    }

    fn ioctl(
        &self,
        req: &Request,
        ino: INodeNo,
        _fh: FileHandle,
        _flags: IoctlFlags,
        cmd: u32,
        in_data: &[u8],
        _out_size: u32,
        reply: ReplyIoctl,
    ) {
        let result = super::ioctl::answer(&self.union, ino.0, cmd, in_data);
        self.asked(req, "ioctl", ino)
            .answer(result, reply, |reply, data| reply.ioctl(0, &data));
    }
}
