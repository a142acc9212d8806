//! Extended attributes of anything, names and values as bytes.

use super::{
    At, Errno, Result, c_name, check,
    fail::{hit, hit_read},
    fs::proc_path,
};
use std::ffi::{CStr, CString, OsStr};
use std::os::fd::{AsRawFd, BorrowedFd};
use std::os::unix::ffi::OsStrExt;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

/// The *xattrat(2) calls of Linux 6.13; numbers are the same everywhere.
const SYS_SETXATTRAT: libc::c_long = 463;
const SYS_GETXATTRAT: libc::c_long = 464;
const SYS_LISTXATTRAT: libc::c_long = 465;
const SYS_REMOVEXATTRAT: libc::c_long = 466;

static NO_XATTRAT: AtomicBool = AtomicBool::new(false);

/// Where the attribute's inode is, in the forms that the kernel has.
enum Target<'a> {
    /// For the *xattrat calls.
    At(BorrowedFd<'a>, CString),
    /// A path for l*xattr.
    Path(CString),
    /// A magic link: a path for the following variants.
    Magic(CString),
}

fn target(at: At<'_>) -> Result<Target<'_>> {
    match at {
        At::Name(dir, name) if !NO_XATTRAT.load(Relaxed) => Ok(Target::At(dir, c_name(name)?)),
        At::Name(dir, name) => path_target(dir, name),
        // The *xattrat calls refuse O_PATH descriptors.
        At::Fd(fd) => Ok(Target::Magic(c_name(OsStr::new(&proc_path(fd)))?)),
    }
}

fn path_target<'a>(dir: BorrowedFd<'_>, name: &OsStr) -> Result<Target<'a>> {
    let mut path = proc_path(dir).into_bytes();
    path.push(b'/');
    path.extend_from_slice(name.as_bytes());
    Ok(Target::Path(CString::new(path).map_err(|_| Errno::INVAL)?))
}

#[repr(C)]
struct XattrArgs {
    value: u64,
    size: u32,
    flags: u32,
}

/// Runs `call` on `at`; where the kernel lacks the *xattrat calls, again by path.
fn on_target(at: At<'_>, call: impl Fn(&Target<'_>) -> Result<u64>) -> Result<u64> {
    let first = target(at)?;
    match (call(&first), at, &first) {
        (Err(Errno::NOSYS), At::Name(dir, name), Target::At(..)) => {
            NO_XATTRAT.store(true, Relaxed);
            call(&path_target(dir, name)?)
        }
        (result, ..) => result,
    }
}

/// Read one attribute into `buf`; its length. An empty `buf` asks for the
/// length only.
///
/// # Errors
/// As getxattr(2): `ENODATA`, `ERANGE`, `EOPNOTSUPP`.
pub fn get_into(at: At<'_>, name: &CStr, buf: &mut [u8]) -> Result<usize> {
    hit_read("getxattr")?;
    let ptr = buf.as_mut_ptr();
    let len = buf.len();
    on_target(at, |t| {
        let ret = match t {
            Target::At(dir, path) => {
                let mut args = XattrArgs {
                    value: ptr as u64,
                    size: len.min(u32::MAX as usize) as u32,
                    flags: 0,
                };
                // SAFETY: strings are NUL-terminated; `args` points to `len`
                // writable bytes of `buf`, which is borrowed for the call.
                unsafe {
                    libc::syscall(
                        SYS_GETXATTRAT,
                        dir.as_raw_fd(),
                        path.as_ptr(),
                        libc::AT_SYMLINK_NOFOLLOW,
                        name.as_ptr(),
                        &raw mut args,
                        size_of::<XattrArgs>(),
                    )
                }
            }
            // SAFETY: as above, `ptr` and `len` are those of `buf`.
            Target::Path(path) => unsafe {
                libc::lgetxattr(path.as_ptr(), name.as_ptr(), ptr.cast(), len) as libc::c_long
            },
            // SAFETY: as above.
            Target::Magic(path) => unsafe {
                libc::getxattr(path.as_ptr(), name.as_ptr(), ptr.cast(), len) as libc::c_long
            },
        };
        check(ret)
    })
    .map(|n| n as usize)
}

/// One attribute's value; `None` if there is none or the file system has none.
///
/// # Errors
/// As getxattr(2), but for `ENODATA` and `EOPNOTSUPP`.
pub fn get(at: At<'_>, name: &CStr) -> Result<Option<Vec<u8>>> {
    let mut buf = vec![0; 256];
    loop {
        match get_into(at, name, &mut buf) {
            Ok(n) => {
                buf.truncate(n);
                return Ok(Some(buf));
            }
            Err(Errno::NODATA | Errno::OPNOTSUPP) => return Ok(None),
            Err(Errno::RANGE) => {
                let n = get_into(at, name, &mut [])?;
                buf.resize(n.max(buf.len()) + 256, 0);
            }
            Err(e) => return Err(e),
        }
    }
}

/// The names of all attributes, each followed by a NUL, appended to `out`
/// after it was cleared. Empty where the file system has none.
///
/// # Errors
/// As listxattr(2), but for `EOPNOTSUPP`.
pub fn list_into(at: At<'_>, out: &mut Vec<u8>) -> Result<()> {
    out.clear();
    out.resize(out.capacity().max(1024), 0);
    loop {
        match list_raw(at, out) {
            Ok(n) => {
                out.truncate(n);
                return Ok(());
            }
            Err(Errno::OPNOTSUPP | Errno::NODATA) => {
                out.clear();
                return Ok(());
            }
            Err(Errno::RANGE) => {
                let n = list_raw(at, &mut [])?;
                out.resize(n.max(out.len()) + 256, 0);
            }
            Err(e) => return Err(e),
        }
    }
}

fn list_raw(at: At<'_>, buf: &mut [u8]) -> Result<usize> {
    hit_read("listxattr")?;
    let ptr = buf.as_mut_ptr();
    let len = buf.len();
    on_target(at, |t| {
        let ret = match t {
            // SAFETY: `path` is NUL-terminated, `ptr` and `len` are those of
            // `buf`, which is borrowed for the call.
            Target::At(dir, path) => unsafe {
                libc::syscall(
                    SYS_LISTXATTRAT,
                    dir.as_raw_fd(),
                    path.as_ptr(),
                    libc::AT_SYMLINK_NOFOLLOW,
                    ptr,
                    len,
                )
            },
            // SAFETY: as above.
            Target::Path(path) => unsafe {
                libc::llistxattr(path.as_ptr(), ptr.cast(), len) as libc::c_long
            },
            // SAFETY: as above.
            Target::Magic(path) => unsafe {
                libc::listxattr(path.as_ptr(), ptr.cast(), len) as libc::c_long
            },
        };
        check(ret)
    })
    .map(|n| n as usize)
}

/// The names in a list as [`list_into`] makes it.
pub fn names(list: &[u8]) -> impl Iterator<Item = &CStr> {
    list.split_inclusive(|b| *b == 0)
        .filter_map(|n| CStr::from_bytes_with_nul(n).ok())
        .filter(|n| !n.is_empty())
}

/// Set one attribute; `flags` are 0, `XATTR_CREATE` or `XATTR_REPLACE`.
///
/// # Errors
/// As setxattr(2).
pub fn set(at: At<'_>, name: &CStr, value: &[u8], flags: i32) -> Result<()> {
    hit("setxattr")?;
    on_target(at, |t| {
        let ret = match t {
            Target::At(dir, path) => {
                let args = XattrArgs {
                    value: value.as_ptr() as u64,
                    size: u32::try_from(value.len()).map_err(|_| Errno::TOOBIG)?,
                    flags: flags.unsigned_abs(),
                };
                // SAFETY: strings are NUL-terminated; `args` points to the
                // bytes of `value`, borrowed for the call and only read.
                unsafe {
                    libc::syscall(
                        SYS_SETXATTRAT,
                        dir.as_raw_fd(),
                        path.as_ptr(),
                        libc::AT_SYMLINK_NOFOLLOW,
                        name.as_ptr(),
                        &raw const args,
                        size_of::<XattrArgs>(),
                    )
                }
            }
            // SAFETY: as above.
            Target::Path(path) => unsafe {
                libc::lsetxattr(
                    path.as_ptr(),
                    name.as_ptr(),
                    value.as_ptr().cast(),
                    value.len(),
                    flags,
                )
                .into()
            },
            // SAFETY: as above.
            Target::Magic(path) => unsafe {
                libc::setxattr(
                    path.as_ptr(),
                    name.as_ptr(),
                    value.as_ptr().cast(),
                    value.len(),
                    flags,
                )
                .into()
            },
        };
        check(ret)
    })
    .map(drop)
}

/// Remove one attribute.
///
/// # Errors
/// As removexattr(2): `ENODATA`, `EOPNOTSUPP`.
pub fn remove(at: At<'_>, name: &CStr) -> Result<()> {
    hit("removexattr")?;
    on_target(at, |t| {
        let ret = match t {
            // SAFETY: both strings are NUL-terminated and outlive the call.
            Target::At(dir, path) => unsafe {
                libc::syscall(
                    SYS_REMOVEXATTRAT,
                    dir.as_raw_fd(),
                    path.as_ptr(),
                    libc::AT_SYMLINK_NOFOLLOW,
                    name.as_ptr(),
                )
            },
            // SAFETY: as above.
            Target::Path(path) => unsafe {
                libc::lremovexattr(path.as_ptr(), name.as_ptr()).into()
            },
            // SAFETY: as above.
            Target::Magic(path) => unsafe {
                libc::removexattr(path.as_ptr(), name.as_ptr()).into()
            },
        };
        check(ret)
    })
    .map(drop)
}
