//! What we ask of the kernel before the first request.

use crate::sys::probe::Features;
use crate::union::{Union, options::Opening};
use fuser::{InitFlags, KernelConfig};
use std::time::Duration;

/// Largest write request, in bytes.
const MAX_WRITE: u32 = 1 << 20;

/// Agree with the kernel on how to talk, within what the union may use. True
/// if the kernel can be told to open directories without asking.
pub(super) fn shake(union: &mut Union, config: &mut KernelConfig, idmap: bool) -> bool {
    let features = union.features();
    let zero = union.options().open == Opening::Zero;
    let mut passthrough = features.has(Features::PASSTHROUGH) && !zero;
    if passthrough {
        passthrough = config.add_capabilities(InitFlags::FUSE_PASSTHROUGH).is_ok()
            && config
                .set_max_stack_depth(union.lowest_stack_depth())
                .is_ok();
    }
    if !passthrough {
        union.disable_passthrough();
        let may = union.options().open != Opening::Message;
        let no_open = InitFlags::FUSE_NO_OPEN_SUPPORT;
        if may && config.add_capabilities(no_open).is_ok() {
            union.open_unasked();
        } else if zero {
            log::warn!("open=zero: the kernel asks all the same");
        }
    }
    let mut want = InitFlags::FUSE_DONT_MASK
        | InitFlags::FUSE_PARALLEL_DIROPS
        | InitFlags::FUSE_ASYNC_DIO
        | InitFlags::FUSE_CACHE_SYMLINKS
        | InitFlags::FUSE_EXPORT_SUPPORT
        | InitFlags::FUSE_HAS_IOCTL_DIR
        | InitFlags::FUSE_EXPLICIT_INVAL_DATA;
    // Would tell the kernel that opening a file has cut it off already.
    if !union.opens_unasked() {
        want |= InitFlags::FUSE_ATOMIC_O_TRUNC;
    }
    // Of attributes that do not hold nobody has anything.
    if union.timeout() != Some(Duration::ZERO) {
        want |= InitFlags::FUSE_DO_READDIRPLUS | InitFlags::FUSE_READDIRPLUS_AUTO;
    }
    if idmap {
        want |= InitFlags::FUSE_ALLOW_IDMAP;
    }
    if union.options().acl {
        want |= InitFlags::FUSE_POSIX_ACL;
    }
    if features.has(Features::KILLPRIV) {
        want |= InitFlags::FUSE_HANDLE_KILLPRIV_V2;
    }
    if features.has(Features::NO_OPENDIR) {
        want |= InitFlags::FUSE_NO_OPENDIR_SUPPORT;
    }
    let mut agreed = InitFlags::empty();
    for flag in want.iter() {
        match config.add_capabilities(flag) {
            Ok(()) => agreed |= flag,
            Err(_) => log::info!("the kernel has no {flag:?}"),
        }
    }
    let no_opendir = features.has(Features::NO_OPENDIR)
        && config
            .capabilities()
            .contains(InitFlags::FUSE_NO_OPENDIR_SUPPORT);
    agreed.set(InitFlags::FUSE_PASSTHROUGH, passthrough);
    agreed.set(InitFlags::FUSE_NO_OPEN_SUPPORT, union.opens_unasked());
    log::debug!("agreed with the kernel: {agreed:?}");
    let _ = config.set_max_write(MAX_WRITE);
    let _ = config.set_max_background(64);
    no_opendir
}
