//! File handles and file system ids: what origins and the index are made of.

use super::{At, Errno, Result, c_name, check, fail::hit_read};
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};

/// A file handle as name_to_handle_at(2) gives it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Handle {
    /// The file system's own type number.
    pub kind: i32,
    /// Its bytes, at most 128.
    pub bytes: Vec<u8>,
}

impl Handle {
    /// The inode number in it, by the kinds that file systems export
    /// (include/linux/exportfs.h), for those who may not open it.
    pub fn ino(&self) -> Option<u64> {
        const INO32_GEN: i32 = 1;
        const BTRFS: i32 = 0x4d;
        const INO64_GEN: i32 = 0x81;
        match (self.kind, self.bytes.len()) {
            (INO32_GEN, 8) => {
                let ino = self.bytes.first_chunk::<4>()?;
                Some(u32::from_ne_bytes(*ino).into())
            }
            // tmpfs: the generation comes first.
            (INO32_GEN, 12) => {
                let ino = self.bytes.get(4..)?.first_chunk::<8>()?;
                Some(u64::from_ne_bytes(*ino))
            }
            (BTRFS | INO64_GEN, _) => {
                let ino = self.bytes.first_chunk::<8>()?;
                Some(u64::from_ne_bytes(*ino))
            }
            _ => None,
        }
    }
}

const MAX_HANDLE: usize = 128;

#[repr(C)]
struct RawHandle {
    len: u32,
    kind: i32,
    bytes: [u8; MAX_HANDLE],
}

/// The handle of an inode.
///
/// # Errors
/// As name_to_handle_at(2); `EOPNOTSUPP` where the file system has none.
pub fn encode(at: At<'_>) -> Result<Handle> {
    hit_read("name_to_handle_at")?;
    let mut raw = RawHandle {
        len: MAX_HANDLE as u32,
        kind: 0,
        bytes: [0; MAX_HANDLE],
    };
    let mut mount_id: libc::c_int = 0;
    let (dir, name, flags) = match at {
        At::Name(dir, name) => (dir, c_name(name)?, 0),
        At::Fd(fd) => (fd, std::ffi::CString::default(), libc::AT_EMPTY_PATH),
    };
    // SAFETY: `raw` says how many bytes follow its header and has them;
    // `name` is NUL-terminated; all outlive the call.
    check(unsafe {
        libc::syscall(
            libc::SYS_name_to_handle_at,
            dir.as_raw_fd(),
            name.as_ptr(),
            &raw mut raw,
            &raw mut mount_id,
            flags,
        )
    })?;
    let bytes = raw.bytes.get(..raw.len as usize).ok_or(Errno::OVERFLOW)?;
    Ok(Handle {
        kind: raw.kind,
        bytes: bytes.to_vec(),
    })
}

/// Open the inode of a handle, on the file system where `mount` (a readable
/// descriptor, not `O_PATH`) lies.
///
/// # Errors
/// As open_by_handle_at(2): `ESTALE`, and `EPERM` without
/// `CAP_DAC_READ_SEARCH`.
pub fn open(mount: impl AsFd, handle: &Handle, flags: i32) -> Result<OwnedFd> {
    hit_read("open_by_handle_at")?;
    let mut raw = RawHandle {
        len: handle.bytes.len() as u32,
        kind: handle.kind,
        bytes: [0; MAX_HANDLE],
    };
    raw.bytes
        .get_mut(..handle.bytes.len())
        .ok_or(Errno::INVAL)?
        .copy_from_slice(&handle.bytes);
    // SAFETY: `raw` is a file_handle whose length lies within its bytes.
    let fd = check(unsafe {
        libc::syscall(
            libc::SYS_open_by_handle_at,
            mount.as_fd().as_raw_fd(),
            &raw mut raw,
            flags | libc::O_CLOEXEC,
        )
    })?;
    let fd = i32::try_from(fd).map_err(|_| Errno::BADF)?;
    // SAFETY: the kernel has just given this descriptor to us alone.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// `FS_IOC_GETFSUUID`, Linux 6.9: `_IOR(0x15, 0, struct fsuuid2)`.
const FS_IOC_GETFSUUID: libc::c_ulong = 0x8011_1500;

#[repr(C)]
struct FsUuid {
    len: u8,
    uuid: [u8; 16],
}

/// The UUID that the kernel has for the file system of a readable directory;
/// zeros where it has none or does not tell.
pub fn fs_uuid(dir: impl AsFd) -> [u8; 16] {
    let mut raw = FsUuid {
        len: 0,
        uuid: [0; 16],
    };
    // SAFETY: the ioctl writes one `struct fsuuid2`, which `raw` is.
    let ret = unsafe { libc::ioctl(dir.as_fd().as_raw_fd(), FS_IOC_GETFSUUID as _, &raw mut raw) };
    if ret == 0 && raw.len == 16 {
        raw.uuid
    } else {
        [0; 16]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::MetadataExt;

    #[test]
    fn numbers_in_handles_are_those_of_stat() {
        for dir in [std::env::temp_dir(), "/dev/shm".into()] {
            let Ok(file) = tempfile::tempfile_in(&dir) else {
                continue;
            };
            let handle = encode(At::Fd(file.as_fd())).unwrap();
            if let Some(ino) = handle.ino() {
                assert_eq!(ino, file.metadata().unwrap().ino(), "{}", dir.display());
            }
        }
    }
}
