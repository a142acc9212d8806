//! A counter of system calls, with which tests let the Nth one fail or hang, or
//! the process die just before it, and see which were made in what order: of
//! those that change a file system, or else of those that only read.
//! Costs one relaxed load when not armed.

use super::{Errno, Result};
use parking_lot::Mutex;
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicU8, AtomicU64, Ordering::SeqCst};

/// Which kind of calls is counted: none, or one of these two.
static ARMED: AtomicU8 = AtomicU8::new(0);
const CHANGING: u8 = 1;
const READING: u8 = 2;
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
/// What was seen since [`arm`].
static CALLS: Mutex<Vec<&'static str>> = Mutex::new(Vec::new());

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

/// Start counting changing calls from zero; number `nth` (from 1) meets
/// `action`.
pub fn arm(nth: u64, action: Action) {
    start(CHANGING, nth, action);
}

/// As [`arm`] for calls that open, look and read.
pub fn arm_reads(nth: u64, action: Action) {
    start(READING, nth, action);
}

fn start(calls: u8, nth: u64, action: Action) {
    COUNT.store(0, SeqCst);
    CALLS.lock().clear();
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
    ARMED.store(calls, SeqCst);
}

/// Stop, and say how many calls were seen since [`arm`] or [`arm_reads`].
pub fn disarm() -> u64 {
    ARMED.store(0, SeqCst);
    COUNT.load(SeqCst)
}

/// The calls that were counted, each by its name, in order.
pub fn calls() -> Vec<&'static str> {
    CALLS.lock().clone()
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
pub(super) fn hit(call: &'static str) -> Result<()> {
    if ARMED.load(std::sync::atomic::Ordering::Relaxed) == CHANGING {
        return hit_armed(call);
    }
    Ok(())
}

/// Passed by every wrapper that is about to open, look or read.
#[inline]
pub(super) fn hit_read(call: &'static str) -> Result<()> {
    if ARMED.load(std::sync::atomic::Ordering::Relaxed) == READING {
        return hit_armed(call);
    }
    Ok(())
}

#[cold]
fn hit_armed(call: &'static str) -> Result<()> {
    CALLS.lock().push(call);
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
