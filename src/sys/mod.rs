//! The only place for `unsafe` and for system calls: descriptors in and out.
//!
//! Wrappers take `impl AsFd` and one name, add `O_CLOEXEC`, never follow a
//! symlink in the last part, and return [`Errno`]. Every wrapper that changes
//! a file system passes the counter of [`fail`] first, which tests use to make the Nth
//! such call fail, or the process die there.
#![allow(unsafe_code)]

pub mod child;
pub mod copy;
pub mod creds;
pub mod dir;
pub mod fail;
pub mod flags;
pub mod fs;
pub mod handle;
pub mod map;
pub mod mount;
pub mod offer;
pub mod packets;
pub mod place;
pub mod probe;
pub mod process;
pub mod signal;
pub mod stream;
pub mod terminal;
pub mod tree;
pub mod xattr;

pub use rustix::io::Errno;

/// What every wrapper here returns.
pub type Result<T> = std::result::Result<T, Errno>;

/// Where an operation on an inode finds it.
#[derive(Clone, Copy, Debug)]
pub enum At<'a> {
    /// One name in an open directory; a symlink there is not followed.
    Name(std::os::fd::BorrowedFd<'a>, &'a std::ffi::OsStr),
    /// The inode that is open itself, `O_PATH` included.
    Fd(std::os::fd::BorrowedFd<'a>),
}

/// The return value of a raw system call as a result.
fn check(ret: libc::c_long) -> Result<u64> {
    if ret < 0 {
        Err(Errno::from_io_error(&std::io::Error::last_os_error()).unwrap_or(Errno::IO))
    } else {
        Ok(ret.unsigned_abs())
    }
}

/// A name as the kernel wants it; `EINVAL` for one with a NUL.
fn c_name(name: &std::ffi::OsStr) -> Result<std::ffi::CString> {
    use std::os::unix::ffi::OsStrExt;
    std::ffi::CString::new(name.as_bytes()).map_err(|_| Errno::INVAL)
}
