//! A counter of mutating system calls, with which tests let the Nth one fail
//! or hang, or the process die just before it. Costs one relaxed load when not armed.

use super::{Errno, Result};
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicU64, Ordering::SeqCst};

static ARMED: AtomicBool = AtomicBool::new(false);
static COUNT: AtomicU64 = AtomicU64::new(0);
static FAIL_AT: AtomicU64 = AtomicU64::new(0);
/// An errno to return, 0 = die as by SIGKILL, or [`HANG`].
static ACTION: AtomicI32 = AtomicI32::new(0);
/// What a thread is called that hangs.
pub const HANGS: &std::ffi::CStr = c"hangs";
/// No errno.
const HANG: i32 = -1;
/// All calls from the chosen one on meet the action.
static STAYS: AtomicBool = AtomicBool::new(false);

/// What happens at the chosen call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// The call is not made and gives this error.
    Error(Errno),
    /// So do all that follow, as on a file system that has become read-only.
    ErrorFrom(Errno),
    /// The process is killed before the call.
    Kill,
    /// The call is never made and the thread stays there, named [`HANGS`].
    Hang,
    /// Nothing: calls are only counted.
    Count,
}

/// Start counting from zero; call number `nth` (from 1) meets `action`.
pub fn arm(nth: u64, action: Action) {
    COUNT.store(0, SeqCst);
    FAIL_AT.store(if action == Action::Count { 0 } else { nth }, SeqCst);
    ACTION.store(
        match action {
            Action::Error(e) | Action::ErrorFrom(e) => e.raw_os_error(),
            Action::Kill | Action::Count => 0,
            Action::Hang => HANG,
        },
        SeqCst,
    );
    STAYS.store(matches!(action, Action::ErrorFrom(_)), SeqCst);
    ARMED.store(true, SeqCst);
}

/// Stop, and say how many mutating calls were seen since [`arm`].
pub fn disarm() -> u64 {
    ARMED.store(false, SeqCst);
    COUNT.load(SeqCst)
}

/// Arm from the environment: `CAPAS_FAIL=N:kill`, `N:hang` or `N:ERRNO`.
pub fn arm_from_env() {
    let Ok(text) = std::env::var("CAPAS_FAIL") else {
        return;
    };
    let Some((nth, what)) = text.split_once(':') else {
        return;
    };
    let Ok(nth) = nth.parse() else { return };
    match (what, what.parse::<i32>()) {
        ("kill", _) => arm(nth, Action::Kill),
        ("hang", _) => arm(nth, Action::Hang),
        (_, Ok(raw)) => arm(nth, Action::Error(Errno::from_raw_os_error(raw))),
        _ => {}
    }
}

/// Passed by every wrapper that is about to change a file system.
#[inline]
pub(super) fn hit() -> Result<()> {
    if ARMED.load(std::sync::atomic::Ordering::Relaxed) {
        return hit_armed();
    }
    Ok(())
}

#[cold]
fn hit_armed() -> Result<()> {
    let n = COUNT.fetch_add(1, SeqCst) + 1;
    let at = FAIL_AT.load(SeqCst);
    if at == 0 || n < at || (n > at && !STAYS.load(SeqCst)) {
        return Ok(());
    }
    match ACTION.load(SeqCst) {
        action @ (0 | HANG) => {
            if action == HANG {
                // Only who watches needs the name.
                let _ = rustix::thread::set_name(HANGS);
            } else {
                // SAFETY: kill and getpid have no memory effects; the process ends.
                unsafe {
                    libc::kill(libc::getpid(), libc::SIGKILL);
                }
            }
            loop {
                std::thread::park();
            }
        }
        raw => Err(Errno::from_raw_os_error(raw)),
    }
}
