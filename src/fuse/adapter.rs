//! One function a request.

use super::{
    backing::Backings,
    convert::{attr_ttl, caller, device, file_attr, file_type, set_time},
    reply::{Late, Op, empty, op, op_name, sized},
};
use crate::sys::{Errno as SysErrno, fs::Replace, probe::Features};
use crate::union::{Attr, Io, Make, Opened, SetAttr, Union};
use fuser::{
    BsdFileFlags, CopyFileRangeFlags, Errno, FileAttr, FileHandle, Filesystem, FopenFlags,
    Generation, INodeNo, InitFlags, IoctlFlags, KernelConfig, LockOwner, OpenFlags, RenameFlags,
    ReplyAttr, ReplyCreate, ReplyData, ReplyDirectory, ReplyEmpty, ReplyEntry, ReplyIoctl,
    ReplyLseek, ReplyOpen, ReplyStatfs, ReplyWrite, ReplyXattr, Request, TimeOrNow, WriteFlags,
};
use std::ffi::OsStr;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

/// For ever: only this mount changes the layers.
const NO_TIMEOUT: Duration = Duration::from_secs(u32::MAX as u64);
/// Largest write request, in bytes.
const MAX_WRITE: u32 = 1 << 20;

/// The ioctls that there are, by the numbers of 64-bit machines.
const GETFLAGS: u32 = 0x8008_6601;
const SETFLAGS: u32 = 0x4008_6602;
const FSGETXATTR: u32 = 0x801c_581f;
const FSSETXATTR: u32 = 0x401c_5820;

/// The union as fuser's trait.
pub(super) struct Adapter {
    union: Union,
    backings: Backings,
    ttl: Duration,
    no_opendir: bool,
    /// Idmapped mounts of this one are allowed.
    idmap: bool,
    late: Arc<Late>,
}

impl Adapter {
    pub(super) fn new(union: Union, idmap: bool) -> Adapter {
        Adapter {
            ttl: union.timeout().unwrap_or(NO_TIMEOUT),
            no_opendir: false,
            idmap,
            union,
            backings: Backings::new(),
            late: Arc::default(),
        }
    }

    pub(super) fn late(&self) -> Arc<Late> {
        self.late.clone()
    }

    /// An entry's attributes carry the kernel's number of the node in the
    /// place of `st_ino`: fuser has only one for both.
    fn entry(&self, attr: &Attr) -> (FileAttr, Duration) {
        (file_attr(&attr.stat, attr.id), attr_ttl(attr, self.ttl))
    }

    fn reply_entry(&self, result: crate::sys::Result<Attr>, reply: ReplyEntry, op: &Op<'_>) {
        match result {
            Ok(attr) => {
                op.done();
                let (file, ttl) = self.entry(&attr);
                reply.entry_with_ttls(&ttl, &self.ttl, &file, Generation(0));
            }
            Err(e) => reply.error(op.failed(e)),
        }
    }

    fn reply_attr(&self, attr: &Attr, reply: ReplyAttr) {
        let ttl = if attr.volatile {
            Duration::ZERO
        } else {
            self.ttl
        };
        reply.attr(&ttl, &file_attr(&attr.stat, attr.stat.ino));
    }

    fn open_flags(io: Io) -> FopenFlags {
        match io {
            Io::Cached { keep: true } => FopenFlags::FOPEN_KEEP_CACHE,
            _ => FopenFlags::empty(),
        }
    }
}

impl Filesystem for Adapter {
    fn init(&mut self, _req: &Request, config: &mut KernelConfig) -> io::Result<()> {
        let features = self.union.features();
        let mut want = InitFlags::FUSE_ATOMIC_O_TRUNC
            | InitFlags::FUSE_DONT_MASK
            | InitFlags::FUSE_PARALLEL_DIROPS
            | InitFlags::FUSE_ASYNC_DIO
            | InitFlags::FUSE_CACHE_SYMLINKS
            | InitFlags::FUSE_EXPORT_SUPPORT
            | InitFlags::FUSE_HAS_IOCTL_DIR
            | InitFlags::FUSE_EXPLICIT_INVAL_DATA;
        if self.idmap {
            want |= InitFlags::FUSE_ALLOW_IDMAP;
        }
        if self.union.options().acl {
            want |= InitFlags::FUSE_POSIX_ACL;
        }
        if features.has(Features::KILLPRIV) {
            want |= InitFlags::FUSE_HANDLE_KILLPRIV_V2;
        }
        if features.has(Features::NO_OPENDIR) {
            want |= InitFlags::FUSE_NO_OPENDIR_SUPPORT;
        }
        for flag in want.iter() {
            if config.add_capabilities(flag).is_err() {
                log::info!("the kernel has no {flag:?}");
            }
        }
        self.no_opendir = features.has(Features::NO_OPENDIR)
            && config
                .capabilities()
                .contains(InitFlags::FUSE_NO_OPENDIR_SUPPORT);
        let mut passthrough = features.has(Features::PASSTHROUGH);
        if passthrough {
            passthrough = config.add_capabilities(InitFlags::FUSE_PASSTHROUGH).is_ok()
                && config
                    .set_max_stack_depth(self.union.lowest_stack_depth())
                    .is_ok();
        }
        if !passthrough {
            self.union.disable_passthrough();
        }
        let _ = config.set_max_write(MAX_WRITE);
        let _ = config.set_max_background(64);
        Ok(())
    }

    fn destroy(&mut self) {
        self.union.close();
    }

    fn lookup(&self, _req: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        let result = match name.to_str() {
            Some(".") => self.union.reopen_node(parent.0),
            Some("..") => self.union.lookup_parent(parent.0),
            _ => self.union.lookup(parent.0, name),
        };
        match result {
            // Number 0: the kernel remembers that there is no such name.
            Err(SysErrno::NOENT) => reply.entry(
                &self.ttl,
                &file_attr(&crate::sys::fs::Stat::default(), 0),
                Generation(0),
            ),
            result => self.reply_entry(result, reply, &op_name("lookup", parent, name)),
        }
    }

    fn forget(&self, _req: &Request, ino: INodeNo, nlookup: u64) {
        if self.union.forget(ino.0, nlookup) {
            self.backings.forget(ino.0);
        }
    }

    fn getattr(&self, _req: &Request, ino: INodeNo, _fh: Option<FileHandle>, reply: ReplyAttr) {
        match self.union.getattr(ino.0) {
            Ok(attr) => self.reply_attr(&attr, reply),
            Err(e) => reply.error(op("getattr", ino).failed(e)),
        }
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
        match self.union.setattr(ino.0, set, caller(req)) {
            Ok(attr) => {
                if attr.of != ino.0 {
                    self.late.attributes_changed(INodeNo(attr.of));
                }
                self.reply_attr(&attr, reply);
            }
            Err(e) => reply.error(op("setattr", ino).failed(e)),
        }
    }

    fn readlink(&self, _req: &Request, ino: INodeNo, reply: ReplyData) {
        match self.union.readlink(ino.0) {
            Ok(target) => reply.data(target.as_encoded_bytes()),
            Err(e) => reply.error(op("readlink", ino).failed(e)),
        }
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
        self.reply_entry(result, reply, &op_name("mknod", parent, name));
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
        self.reply_entry(result, reply, &op_name("mkdir", parent, name));
    }

    fn unlink(&self, _req: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        let result = self.union.unlink(parent.0, name);
        empty(result, reply, &op_name("unlink", parent, name));
    }

    fn rmdir(&self, _req: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        let result = self.union.rmdir(parent.0, name);
        empty(result, reply, &op_name("rmdir", parent, name));
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
        self.reply_entry(result, reply, &op_name("symlink", parent, name));
    }

    fn rename(
        &self,
        _req: &Request,
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
        empty(result, reply, &op_name("rename", parent, name));
    }

    fn link(
        &self,
        _req: &Request,
        ino: INodeNo,
        newparent: INodeNo,
        newname: &OsStr,
        reply: ReplyEntry,
    ) {
        let result = self.union.link(ino.0, newparent.0, newname);
        self.reply_entry(result, reply, &op_name("link", newparent, newname));
    }

    fn open(&self, req: &Request, ino: INodeNo, flags: OpenFlags, reply: ReplyOpen) {
        let opened = match self.union.open_file(ino.0, flags.0, caller(req)) {
            Ok(opened) => opened,
            Err(e) => {
                if e == SysErrno::STALE {
                    // Descriptors of the old node are to ask for attributes.
                    self.late.attributes_changed(ino);
                }
                return reply.error(op("open", ino).failed(e));
            }
        };
        if opened.stale {
            self.late.attributes_changed(ino);
        }
        let Io::Passthrough { source } = opened.io else {
            return reply.opened(FileHandle(0), Self::open_flags(opened.io));
        };
        let backing = self
            .backings
            .get(&self.union, ino.0, source, |fd| reply.open_backing(fd));
        match backing {
            Ok(id) => reply.opened_passthrough(FileHandle(0), FopenFlags::empty(), &id),
            Err(why) => match self.without_passthrough(ino, &why) {
                Ok(opened) => reply.opened(FileHandle(0), Self::open_flags(opened.io)),
                Err(e) => reply.error(op("open", ino).failed(e)),
            },
        }
    }

    fn read(
        &self,
        _req: &Request,
        ino: INodeNo,
        _fh: FileHandle,
        offset: u64,
        size: u32,
        _flags: OpenFlags,
        _lock_owner: Option<LockOwner>,
        reply: ReplyData,
    ) {
        let mut buf = vec![0; size as usize];
        match self.union.read(ino.0, offset, &mut buf) {
            Ok(n) => reply.data(buf.get(..n).unwrap_or_default()),
            Err(e) => reply.error(op("read", ino).failed(e)),
        }
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
        match self.union.write(ino.0, offset, data, kill, caller(req)) {
            Ok(done) => {
                if done.cleared {
                    self.late.attributes_changed(ino);
                }
                reply.written(u32::try_from(done.len).unwrap_or(u32::MAX));
            }
            Err(e) => reply.error(op("write", ino).failed(e)),
        }
    }

    fn release(
        &self,
        _req: &Request,
        ino: INodeNo,
        _fh: FileHandle,
        _flags: OpenFlags,
        _lock_owner: Option<LockOwner>,
        _flush: bool,
        reply: ReplyEmpty,
    ) {
        let released = self.union.release(ino.0);
        if released.last {
            self.backings.idle(ino.0);
        }
        if released.stale {
            self.late.attributes_changed(ino);
        }
        reply.ok();
    }

    fn fsync(
        &self,
        _req: &Request,
        ino: INodeNo,
        _fh: FileHandle,
        datasync: bool,
        reply: ReplyEmpty,
    ) {
        empty(self.union.fsync(ino.0, datasync), reply, &op("fsync", ino));
    }

    fn opendir(&self, _req: &Request, _ino: INodeNo, _flags: OpenFlags, reply: ReplyOpen) {
        if self.no_opendir {
            // From now on the kernel opens directories without asking.
            reply.error(Errno::ENOSYS);
        } else {
            reply.opened(FileHandle(0), FopenFlags::FOPEN_KEEP_CACHE);
        }
    }

    fn readdir(
        &self,
        _req: &Request,
        ino: INodeNo,
        _fh: FileHandle,
        offset: u64,
        mut reply: ReplyDirectory,
    ) {
        let result = self.union.readdir(ino.0, offset, |e| {
            !reply.add(INodeNo(e.ino), e.next, file_type(e.kind), &e.name)
        });
        match result {
            Ok(()) => reply.ok(),
            Err(e) => reply.error(op("readdir", ino).failed(e)),
        }
    }

    fn fsyncdir(
        &self,
        _req: &Request,
        ino: INodeNo,
        _fh: FileHandle,
        datasync: bool,
        reply: ReplyEmpty,
    ) {
        let result = self.union.fsync(ino.0, datasync);
        empty(result, reply, &op("fsyncdir", ino));
    }

    fn statfs(&self, _req: &Request, ino: INodeNo, reply: ReplyStatfs) {
        match self.union.statfs() {
            Ok(s) => reply.statfs(
                s.blocks,
                s.free,
                s.available,
                s.files,
                s.files_free,
                s.block_size,
                s.name_max,
                s.fragment_size,
            ),
            Err(e) => reply.error(op("statfs", ino).failed(e)),
        }
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
        empty(result, reply, &op_name("setxattr", ino, name));
    }

    fn getxattr(&self, _req: &Request, ino: INodeNo, name: &OsStr, size: u32, reply: ReplyXattr) {
        let result = self.union.getxattr(ino.0, name);
        sized(result, size, reply, &op_name("getxattr", ino, name));
    }

    fn listxattr(&self, req: &Request, ino: INodeNo, size: u32, reply: ReplyXattr) {
        let result = self.union.listxattr(ino.0, caller(req));
        sized(result, size, reply, &op("listxattr", ino));
    }

    fn removexattr(&self, _req: &Request, ino: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        let result = self.union.removexattr(ino.0, name);
        empty(result, reply, &op_name("removexattr", ino, name));
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
        let result = self
            .union
            .create(parent.0, name, mode, umask, flags, caller(req));
        let (attr, opened) = match result {
            Ok(made) => made,
            Err(e) => return reply.error(op_name("create", parent, name).failed(e)),
        };
        let (file, ttl) = self.entry(&attr);
        let mut io = opened.io;
        if let Io::Passthrough { source } = io {
            let backing = self
                .backings
                .get(&self.union, attr.id, source, |fd| reply.open_backing(fd));
            match backing {
                Ok(id) => {
                    return reply.created_passthrough(
                        &ttl,
                        &file,
                        Generation(0),
                        FileHandle(0),
                        FopenFlags::empty(),
                        &id,
                    );
                }
                Err(why) => match self.without_passthrough(INodeNo(attr.id), &why) {
                    Ok(opened) => io = opened.io,
                    Err(e) => return reply.error(op_name("create", parent, name).failed(e)),
                },
            }
        }
        reply.created(
            &ttl,
            &file,
            Generation(0),
            FileHandle(0),
            Self::open_flags(io),
        );
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
            .fallocate(ino.0, mode, offset, length, caller(req))
            .map(|done| {
                if done.cleared {
                    self.late.attributes_changed(ino);
                }
            });
        empty(result, reply, &op("fallocate", ino));
    }

    fn lseek(
        &self,
        _req: &Request,
        ino: INodeNo,
        _fh: FileHandle,
        offset: i64,
        whence: i32,
        reply: ReplyLseek,
    ) {
        let result = u64::try_from(offset)
            .map_err(|_| SysErrno::NXIO)
            .and_then(|offset| self.union.lseek(ino.0, offset, whence));
        match result {
            Ok(at) => reply.offset(i64::try_from(at).unwrap_or(i64::MAX)),
            Err(e) => reply.error(op("lseek", ino).failed(e)),
        }
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
        match self.union.copy_file_range(from, to, len, caller(req)) {
            Ok(done) => {
                if done.cleared {
                    self.late.attributes_changed(ino_out);
                }
                reply.written(u32::try_from(done.len).unwrap_or(u32::MAX));
            }
            Err(e) => reply.error(op("copy_file_range", ino_in).failed(e)),
        }
    }

    fn ioctl(
        &self,
        _req: &Request,
        ino: INodeNo,
        _fh: FileHandle,
        _flags: IoctlFlags,
        cmd: u32,
        in_data: &[u8],
        _out_size: u32,
        reply: ReplyIoctl,
    ) {
        let result = match (cmd, in_data.first_chunk::<4>()) {
            (GETFLAGS, _) => self
                .union
                .get_flags(ino.0)
                .map(|f| f.to_le_bytes().to_vec()),
            (SETFLAGS, Some(flags)) => self
                .union
                .set_flags(ino.0, u32::from_ne_bytes(*flags))
                .map(|()| Vec::new()),
            (FSGETXATTR, _) => self.union.get_fsxattr(ino.0).map(|x| x.to_vec()),
            (FSSETXATTR, _) => match in_data.first_chunk() {
                Some(value) => self.union.set_fsxattr(ino.0, value).map(|()| Vec::new()),
                None => Err(SysErrno::INVAL),
            },
            _ => Err(SysErrno::NOTTY),
        };
        match result {
            Ok(data) => reply.ioctl(0, &data),
            Err(e) => reply.error(op("ioctl", ino).failed(e)),
        }
    }
}

impl Adapter {
    fn without_passthrough(&self, ino: INodeNo, why: &io::Error) -> crate::sys::Result<Opened> {
        log::debug!("no passthrough for {:#x}: {why}", ino.0);
        self.union.open_without_passthrough(ino.0)
    }
}
