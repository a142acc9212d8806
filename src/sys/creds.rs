//! Rights of this process, and groups of those who call.

use super::{Errno, Result, check};

/// Is process `pid` in group `gid`. False when the
/// process is gone or not to be seen.
pub fn has_group(pid: u32, gid: u32) -> bool {
    let Ok(status) = std::fs::read_to_string(format!("/proc/{pid}/status")) else {
        return false;
    };
    let field = |name| status.lines().find_map(|line| line.strip_prefix(name));
    let has = |ids: &str| ids.split_whitespace().any(|g| g.parse() == Ok(gid));
    // Real, effective, saved and file system group; the last one counts.
    let own = field("Gid:").and_then(|ids| ids.split_whitespace().last());
    own.is_some_and(has) || field("Groups:").is_some_and(has)
}

/// Has process `pid` capability number `cap`, in this process's own user
/// namespace. False when the process is gone or not to be seen.
pub fn capable(pid: u32, cap: u32) -> bool {
    let namespace = |who: &str| std::fs::read_link(format!("/proc/{who}/ns/user")).ok();
    let ours = namespace("self");
    if ours.is_none() || namespace(&pid.to_string()) != ours {
        return false;
    }
    let Ok(status) = std::fs::read_to_string(format!("/proc/{pid}/status")) else {
        return false;
    };
    status
        .lines()
        .find_map(|line| line.strip_prefix("CapEff:"))
        .and_then(|set| u64::from_str_radix(set.trim(), 16).ok())
        .is_some_and(|set| set & (1 << cap) != 0)
}

/// Is process `pid`, which waits for us, in chown(2) or one of its kin. True
/// where that cannot be seen.
pub fn in_chown(pid: u32) -> bool {
    let Ok(call) = std::fs::read_to_string(format!("/proc/{pid}/syscall")) else {
        return true;
    };
    let number = call.split(' ').next().and_then(|n| n.parse().ok());
    number.is_none_or(|n: libc::c_long| {
        [
            libc::SYS_chown,
            libc::SYS_fchown,
            libc::SYS_lchown,
            libc::SYS_fchownat,
        ]
        .contains(&n)
    })
}

/// Effective user id of this process.
pub fn effective_uid() -> u32 {
    rustix::process::geteuid().as_raw()
}

/// Effective group id of this process.
pub fn effective_gid() -> u32 {
    rustix::process::getegid().as_raw()
}

const LINUX_CAPABILITY_VERSION_3: u32 = 0x2008_0522;

#[repr(C)]
struct CapHeader {
    version: u32,
    pid: i32,
}

#[repr(C)]
#[derive(Clone, Copy, Default)]
struct CapData {
    effective: u32,
    permitted: u32,
    inheritable: u32,
}

/// This thread without `CAP_FSETID`, until dropped.
///
/// The kernel writes to a passthrough file with the rights of the thread that
/// registered it: registered like this, a write clears set-id bits that the
/// file has got meanwhile, as a write by an unprivileged user must.
pub struct WithoutFsetid(Option<[CapData; 2]>);

impl WithoutFsetid {
    /// Give the capability up. Does nothing where there is none to give up.
    pub fn new() -> WithoutFsetid {
        let Ok(old) = capget() else {
            return WithoutFsetid(None);
        };
        let mut new = old;
        if let Some(low) = new.first_mut() {
            low.effective &= !(1 << cap::FSETID);
        }
        WithoutFsetid(capset(&new).ok().map(|()| old))
    }
}

impl Default for WithoutFsetid {
    fn default() -> Self {
        Self::new()
    }
}

impl Drop for WithoutFsetid {
    fn drop(&mut self) {
        if let Some(old) = &self.0
            && let Err(e) = capset(old)
        {
            log::warn!("cannot take CAP_FSETID back: {e}");
        }
    }
}

fn header() -> CapHeader {
    CapHeader {
        version: LINUX_CAPABILITY_VERSION_3,
        pid: 0,
    }
}

fn capget() -> Result<[CapData; 2]> {
    let mut header = header();
    let mut data = [CapData::default(); 2];
    // SAFETY: version 3 writes two CapData.
    check(unsafe { libc::syscall(libc::SYS_capget, &raw mut header, data.as_mut_ptr()) })?;
    Ok(data)
}

fn capset(data: &[CapData; 2]) -> Result<()> {
    let mut header = header();
    // SAFETY: version 3 reads two CapData.
    check(unsafe { libc::syscall(libc::SYS_capset, &raw mut header, data.as_ptr()) }).map(drop)
}

/// Does this process hold capability number `cap` in its effective set.
pub fn has_capability(cap: u32) -> bool {
    let Ok(data) = capget() else { return false };
    data.get((cap / 32) as usize)
        .is_some_and(|d| d.effective & (1 << (cap % 32)) != 0)
}

/// Capability numbers of capabilities(7) that are asked for.
pub mod cap {
    /// `open_by_handle_at`.
    pub const DAC_READ_SEARCH: u32 = 2;
    /// Set-id bits stay over a write.
    pub const FSETID: u32 = 4;
    /// `trusted.*` attributes, mounts, passthrough.
    pub const SYS_ADMIN: u32 = 21;
    /// Limits above those that were given.
    pub const SYS_RESOURCE: u32 = 24;
}

/// How many descriptors this process may have open (the soft limit).
pub fn open_files_limit() -> usize {
    let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile);
    limit
        .current
        .map_or(usize::MAX, |n| usize::try_from(n).unwrap_or(usize::MAX))
}

/// What the user namespace of the process makes of owners: the maps of users and
/// groups, as the kernel shows them.
///
/// # Errors
/// As read(2), for one without `/proc`.
pub fn owner_maps() -> Result<[Vec<u8>; 2]> {
    let read = |name| {
        let map = std::fs::read(format!("/proc/self/{name}"));
        map.map_err(|e| Errno::from_io_error(&e).unwrap_or(Errno::IO))
    };
    Ok([read("uid_map")?, read("gid_map")?])
}

/// May the process see and set `trusted.*` attributes, and use passthrough.
pub fn trusted() -> bool {
    has_capability(cap::SYS_ADMIN) && in_first_user_namespace()
}

/// Does the process run in the first user namespace: `trusted.*` attributes
/// and passthrough need that.
pub fn in_first_user_namespace() -> bool {
    std::fs::read_to_string("/proc/self/uid_map").is_ok_and(|map| {
        map.split_whitespace()
            .map(str::parse::<u64>)
            .eq([Ok(0), Ok(0), Ok(u64::from(u32::MAX))])
    })
}
