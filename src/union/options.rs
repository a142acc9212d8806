//! What a mount asks of the union: plain data, made by `mount`'s parser.
//!
//! Names and values are those of kernel overlayfs (Documentation/filesystems/
//! overlayfs.rst) where it has the option, and of fuse-overlayfs where not.

use std::time::Duration;

/// `redirect_dir=`: may a directory that lies in a lower layer be renamed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum RedirectDir {
    /// Redirects are made and followed.
    #[default]
    On,
    /// Redirects are followed but not made: such a rename gives `EXDEV`.
    Follow,
    /// Redirects are neither made nor followed.
    NoFollow,
}

/// `xino=`: how inode numbers of layers on several filesystems are kept apart.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Xino {
    /// Composite numbers where the layers lie on more than one filesystem.
    #[default]
    Auto,
    /// Composite numbers always.
    On,
    /// The numbers of the layers as they are; duplicates are possible.
    Off,
}

/// `fsync=`: what is written through before a copied-up name appears.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Fsync {
    /// The data of copied-up files.
    #[default]
    Auto,
    /// As `Auto`, and metadata-only copies and directories too.
    Strict,
    /// Nothing, and calls of fsync by applications do nothing either.
    Volatile,
}

/// `open=`: does the kernel ask before it opens a file.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Opening {
    /// Where files can be read and written past the daemon, which needs the
    /// question.
    #[default]
    Auto,
    /// Always.
    Message,
    /// Never: files are read and written through the daemon, and copied up by
    /// the first write.
    Zero,
}

/// `lazy_copy_up=`: which lower files are copied up while they are in use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lazy {
    /// Those of at least so many bytes.
    pub from: u64,
    /// So many bytes at a time, at least 1.
    pub chunk: u64,
}

impl Default for Lazy {
    fn default() -> Self {
        Lazy {
            from: 8 << 20,
            chunk: 1 << 20,
        }
    }
}

/// `xattr_permissions=`: where owner and mode of files are kept.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum XattrPermissions {
    /// In the inode.
    #[default]
    Off,
    /// In `user.fuseoverlayfs.override_stat`.
    Private,
    /// In `user.containers.override_stat`, as containers/storage does.
    Containers,
}

/// One run of an id mapping: ids `inside..inside+count` of those who use the
/// mount are stored as `outside..outside+count`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IdRange {
    /// First id as seen through the mount.
    pub inside: u32,
    /// First id as stored in the layers.
    pub outside: u32,
    /// How many ids.
    pub count: u32,
}

/// Overlay semantics of one mount.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// Renames of lower directories.
    pub redirect_dir: RedirectDir,
    /// Copy up only metadata where no data changes.
    pub metacopy: bool,
    /// Keep hard links of lower files together over copy-up.
    pub index: bool,
    /// Inode numbers over several filesystems.
    pub xino: Xino,
    /// Private xattrs are `user.overlay.*` instead of `trusted.overlay.*`.
    pub userxattr: bool,
    /// What is synced when.
    pub fsync: Fsync,
    /// Whether the kernel asks before it opens a file.
    pub open: Opening,
    /// Large files that are copied up while they are in use; none = no file.
    pub lazy: Option<Lazy>,
    /// Owner ids, empty = as stored.
    pub uid_map: Vec<IdRange>,
    /// Group ids, empty = as stored.
    pub gid_map: Vec<IdRange>,
    /// Everything is shown as owned by this user.
    pub squash_uid: Option<u32>,
    /// Everything is shown as owned by this group.
    pub squash_gid: Option<u32>,
    /// Where owner and mode are kept.
    pub xattr_permissions: XattrPermissions,
    /// `st_nlink` of every directory is 1.
    pub static_nlink: bool,
    /// POSIX ACLs are honoured (`noacl` turns this off).
    pub acl: bool,
    /// How long the kernel may cache names and attributes; `None` = for ever.
    pub timeout: Option<Duration>,
}

impl Default for Options {
    fn default() -> Self {
        Options {
            redirect_dir: RedirectDir::On,
            metacopy: true,
            index: true,
            xino: Xino::Auto,
            userxattr: false,
            fsync: Fsync::Auto,
            open: Opening::Auto,
            lazy: None,
            uid_map: Vec::new(),
            gid_map: Vec::new(),
            squash_uid: None,
            squash_gid: None,
            xattr_permissions: XattrPermissions::Off,
            static_nlink: false,
            acl: true,
            timeout: None,
        }
    }
}
