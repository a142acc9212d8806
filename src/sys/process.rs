//! Becoming a daemon: fork, readiness, signals, limits.

use super::{Errno, Result, check};
use rustix::pipe::PipeFlags;
use std::io::{Read, Write};
use std::os::fd::{AsFd, FromRawFd, OwnedFd, RawFd};
use std::path::Path;

/// What the serving process is called in /proc and ps, whatever link it was
/// started by.
pub const NAME: &str = "capasfs";

/// What [`fork`] returned, on either side.
pub enum Fork {
    /// The process that was started: it waits for the child's word.
    Parent(Waiting),
    /// The process that goes on to serve.
    Child(Report),
}

/// The parent's end: what becomes of the child.
pub struct Waiting {
    pipe: std::fs::File,
    child: libc::pid_t,
}

/// The child's end. Dropped without a word it counts as a failure.
pub struct Report(std::fs::File);

/// How the child fared until it was ready or gave up.
#[derive(Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It serves.
    Ready,
    /// It gave up, with an exit code and one line.
    Failed(u8, String),
    /// It ended without a word; how, in words.
    Died(String),
}

/// The process that has started this one, and, as that may be the one that it was
/// forked from, who has started that.
pub fn callers() -> impl Iterator<Item = u32> {
    let started = rustix::process::getppid().map(|pid| pid.as_raw_nonzero().get().cast_unsigned());
    std::iter::successors(started, |pid| {
        let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
        let line = status.lines().find_map(|line| line.strip_prefix("PPid:"))?;
        line.trim().parse().ok().filter(|above| *above != 0)
    })
    .take(2)
}

/// Forks. Refused with `EINVAL` when the process has other threads, because
/// their locks would stay held in the child for ever.
pub fn fork() -> Result<Fork> {
    let threads = std::fs::read_dir("/proc/self/task").map_or(1, Iterator::count);
    if threads != 1 {
        return Err(Errno::INVAL);
    }
    let (read, write) = rustix::pipe::pipe_with(PipeFlags::CLOEXEC)?;
    // SAFETY: the process has one thread, as just counted, so the child's copy
    // of the address space holds no lock that nobody will release.
    let child = unsafe { libc::fork() };
    check(child.into())?;
    if child == 0 {
        drop(read);
        Ok(Fork::Child(Report(write.into())))
    } else {
        drop(write);
        let pipe = read.into();
        Ok(Fork::Parent(Waiting { pipe, child }))
    }
}

impl Waiting {
    /// Waits until the child has spoken or ended.
    pub fn outcome(mut self) -> Outcome {
        let mut said = Vec::new();
        let read = self.pipe.read_to_end(&mut said);
        match said.split_first() {
            Some((0, _)) => Outcome::Ready,
            Some((code, text)) => {
                Outcome::Failed(*code, String::from_utf8_lossy(text).into_owned())
            }
            None => Outcome::Died(match read {
                Ok(_) => self.how_it_ended(),
                Err(error) => error.to_string(),
            }),
        }
    }

    fn how_it_ended(&self) -> String {
        let pid = rustix::process::Pid::from_raw(self.child);
        match rustix::process::waitpid(pid, rustix::process::WaitOptions::empty()) {
            Ok(Some((_, status))) => match (status.terminating_signal(), status.exit_status()) {
                (Some(signal), _) => format!("killed by signal {signal}"),
                (None, Some(code)) => format!("ended with code {code}"),
                (None, None) => "ended".to_owned(),
            },
            Ok(None) => "ended".to_owned(),
            Err(error) => error.to_string(),
        }
    }
}

impl Report {
    /// Tells the parent that the mount is usable. An error means that nobody
    /// waits for it any more.
    pub fn ready(mut self) -> std::io::Result<()> {
        self.0.write_all(&[0])
    }

    /// Tells the parent why not; `code` is its exit code and not 0.
    pub fn failed(mut self, code: u8, text: &str) -> std::io::Result<()> {
        let mut said = vec![code.max(1)];
        said.extend_from_slice(text.as_bytes());
        self.0.write_all(&said)
    }
}

/// A session of its own, `/` as the working directory. Fails for the leader of
/// a process group, which a just forked child is not.
pub fn leave_session() -> Result<()> {
    rustix::process::setsid()?;
    rustix::process::chdir(c"/")
}

/// What a file server needs of its process, in the foreground too: modes as
/// the caller says them, no group that a caller might borrow, as many
/// descriptors as allowed, and big buffers given back to the system.
pub fn prepare_to_serve() {
    if let Ok(name) = std::ffi::CString::new(NAME) {
        let _ = rustix::thread::set_name(&name);
    }
    rustix::process::umask(rustix::fs::Mode::empty());
    if rustix::process::geteuid().is_root() {
        // A user namespace may forbid it, and then there are none to borrow.
        // SAFETY: an empty list; no pointer is read.
        unsafe { libc::setgroups(0, std::ptr::null()) };
    }
    raise_descriptor_limit();
    // fuser takes 16 MiB a thread. Once one such block was freed, glibc would
    // serve the next from the heap and fill it with zeros, which makes it real
    // memory; a fixed threshold keeps it untouched pages. And a heap for each
    // thread would hold much that is free while another grows.
    #[cfg(target_env = "gnu")]
    // SAFETY: sets two numbers in the allocator; no pointer is involved.
    unsafe {
        libc::mallopt(libc::M_MMAP_THRESHOLD, 1 << 20);
        libc::mallopt(libc::M_ARENA_MAX, 1);
    };
}

/// Gives memory that was freed back to the system, where the allocator keeps it.
pub fn give_back_memory() {
    #[cfg(target_env = "gnu")]
    // SAFETY: no pointer is involved; what is in use is not touched.
    unsafe {
        libc::malloc_trim(0)
    };
}

/// As many descriptors as the hard limit allows.
pub fn raise_descriptor_limit() {
    let mut limit = rustix::process::getrlimit(rustix::process::Resource::Nofile);
    limit.current = limit.maximum;
    // What cannot be raised is lived with: descriptors are a cache here.
    let _ = rustix::process::setrlimit(rustix::process::Resource::Nofile, limit);
}

/// Standard input, output and error become /dev/null, so that no pipe of the
/// caller stays open.
pub fn detach_stdio() -> Result<()> {
    use rustix::fs::{Mode, OFlags};
    let null = rustix::fs::open(c"/dev/null", OFlags::RDWR | OFlags::CLOEXEC, Mode::empty())?;
    rustix::stdio::dup2_stdin(&null)?;
    rustix::stdio::dup2_stdout(&null)?;
    rustix::stdio::dup2_stderr(&null)
}

/// Closes every descriptor above standard error but `keep`. Only for the
/// start of `main`, before the process has opened anything itself.
pub fn close_inherited(keep: Option<RawFd>) {
    let keep = keep
        .and_then(|fd| u32::try_from(fd).ok())
        .filter(|fd| *fd > 2);
    let close = |first: u32, last: u32| {
        if first <= last {
            // SAFETY: at the start of main no object of ours owns any of these
            // descriptors (the function's contract); before Linux 5.9 the call
            // fails and they stay open.
            unsafe { libc::syscall(libc::SYS_close_range, first, last, 0u32) };
        }
    };
    match keep {
        None => close(3, u32::MAX),
        Some(fd) => {
            close(3, fd - 1);
            close(fd.saturating_add(1), u32::MAX);
        }
    }
}

/// A descriptor that somebody opened for us before the program started.
pub fn take_inherited(fd: RawFd) -> Result<OwnedFd> {
    if fd <= 2 {
        return Err(Errno::BADF);
    }
    // SAFETY: F_GETFD reads a flag of the number's entry, if there is one.
    check(unsafe { libc::fcntl(fd, libc::F_GETFD) }.into())?;
    // SAFETY: it is open, as just seen, and came by inheritance, so no object
    // of this process owns it.
    let fd = unsafe { OwnedFd::from_raw_fd(fd) };
    rustix::io::fcntl_setfd(&fd, rustix::io::FdFlags::CLOEXEC)?;
    Ok(fd)
}

/// Enters a mount namespace given as its file or as a process id, keeping the
/// working directory where the path leads there too. Only while the process
/// has one thread.
pub fn enter_mount_namespace(namespace: &Path) -> Result<()> {
    use rustix::fs::{Mode, OFlags};
    use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
    let is_pid = namespace
        .to_str()
        .is_some_and(|s| s.bytes().all(|b| b.is_ascii_digit()));
    let path = match is_pid {
        true => Path::new("/proc").join(namespace).join("ns/mnt"),
        false => namespace.to_owned(),
    };
    let file = rustix::fs::open(&path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?;
    let here = std::env::current_dir();
    move_into_link_name_space(file.as_fd(), Some(LinkNameSpaceType::Mount))?;
    if let Ok(here) = here {
        // Setns put us into the root; relative paths are a courtesy.
        let _ = rustix::process::chdir(&here);
    }
    Ok(())
}

/// The signals that ask a daemon to end.
const ENDING: [libc::c_int; 3] = [libc::SIGTERM, libc::SIGINT, libc::SIGHUP];

/// Lets a command that is started end with us: it gets the signals that this
/// process holds back, and SIGTERM when the thread that starts it is no more,
/// whatever ended it.
pub fn ending_with_us(command: &mut std::process::Command) -> &mut std::process::Command {
    use rustix::process::{Signal, getpid, getppid, set_parent_process_death_signal};
    use std::os::unix::process::CommandExt;
    let us = getpid();
    let prepare = move || {
        set_parent_process_death_signal(Some(Signal::TERM))?;
        if getppid() != Some(us) {
            // We have ended already.
            return Err(Errno::SRCH.into());
        }
        let mut none = std::mem::MaybeUninit::<libc::sigset_t>::uninit();
        // SAFETY: sigemptyset initialises the set that the other call reads.
        let done = unsafe {
            libc::sigemptyset(none.as_mut_ptr());
            libc::pthread_sigmask(libc::SIG_SETMASK, none.as_ptr(), std::ptr::null_mut())
        };
        match done {
            0 => Ok(()),
            error => Err(std::io::Error::from_raw_os_error(error)),
        }
    };
    // SAFETY: between fork and exec it only makes calls that may be made there,
    // and allocates nothing.
    unsafe { command.pre_exec(prepare) }
}

/// Signals as something to read.
#[derive(Debug)]
pub struct Signals(OwnedFd);

impl Signals {
    /// SIGTERM, SIGINT and SIGHUP.
    pub fn block() -> Result<Signals> {
        Signals::hold(&ENDING)
    }

    /// Blocks the signals in this thread and all that it starts later, so that
    /// they are only seen by [`Signals::wait`]. Call it before any thread.
    pub fn hold(signals: &[libc::c_int]) -> Result<Signals> {
        let mut set = std::mem::MaybeUninit::<libc::sigset_t>::uninit();
        // SAFETY: sigemptyset initialises the set that the other calls take;
        // all of them only read or write it.
        let fd = unsafe {
            libc::sigemptyset(set.as_mut_ptr());
            for signal in signals {
                libc::sigaddset(set.as_mut_ptr(), *signal);
            }
            libc::pthread_sigmask(libc::SIG_BLOCK, set.as_ptr(), std::ptr::null_mut());
            libc::signalfd(-1, set.as_ptr(), libc::SFD_CLOEXEC)
        };
        check(fd.into())?;
        // SAFETY: a descriptor that was just made and that nobody else has.
        Ok(Signals(unsafe { OwnedFd::from_raw_fd(fd) }))
    }

    /// Waits for the next one and returns its number.
    pub fn wait(&self) -> Result<i32> {
        let mut info = [0u8; size_of::<libc::signalfd_siginfo>()];
        loop {
            match rustix::io::read(&self.0, &mut info) {
                Err(Errno::INTR) => {}
                Err(error) => return Err(error),
                Ok(_) => {
                    // ssi_signo is the first field of signalfd_siginfo.
                    let number = info.first_chunk::<4>().copied().unwrap_or_default();
                    return Ok(i32::from_ne_bytes(number));
                }
            }
        }
    }
}

impl Signals {
    /// Waits for another one, but not longer than `patience`; did one come.
    pub fn again_within(&self, patience: std::time::Duration) -> bool {
        use rustix::event::{PollFd, PollFlags, Timespec, poll};
        let timeout = Timespec::try_from(patience).ok();
        let mut fds = [PollFd::new(&self.0, PollFlags::IN)];
        matches!(poll(&mut fds, timeout.as_ref()), Ok(1..))
    }
}

/// Is there something to read now.
pub fn is_readable(fd: impl std::os::fd::AsFd) -> bool {
    use rustix::event::{PollFd, PollFlags, Timespec, poll};
    let mut fds = [PollFd::new(&fd, PollFlags::IN)];
    matches!(poll(&mut fds, Some(&Timespec::default())), Ok(1..))
}

impl AsFd for Signals {
    fn as_fd(&self) -> std::os::fd::BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// Standard input becomes /dev/null; what it was is returned.
pub fn take_stdin() -> Result<OwnedFd> {
    use rustix::fs::{Mode, OFlags};
    let taken = rustix::io::fcntl_dupfd_cloexec(rustix::stdio::stdin(), 3)?;
    let null = rustix::fs::open(c"/dev/null", OFlags::RDWR | OFlags::CLOEXEC, Mode::empty())?;
    rustix::stdio::dup2_stdin(&null)?;
    Ok(taken)
}

/// What the process is called in ps; the first 15 bytes count.
pub fn set_name(name: &std::ffi::CStr) {
    let _ = rustix::thread::set_name(name);
}

/// Ends the process at once. Every descriptor closes, so locks are released
/// and a FUSE connection that is still in use ends with `ENOTCONN`.
pub fn exit_now(code: i32) -> ! {
    // SAFETY: _exit runs no handler and touches no memory of ours.
    unsafe { libc::_exit(code) }
}

/// User and group that the process runs for, as seen in its user namespace.
pub fn real_ids() -> (u32, u32) {
    (
        rustix::process::getuid().as_raw(),
        rustix::process::getgid().as_raw(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_called_comes_first() {
        let callers: Vec<u32> = callers().collect();
        let parent = std::os::unix::process::parent_id();
        assert_eq!(callers.first(), Some(&parent));
        assert!(callers.len() <= 2, "{callers:?}");
    }

    #[test]
    fn fork_is_refused_beside_other_threads() {
        let (send, receive) = std::sync::mpsc::channel::<()>();
        let other = std::thread::spawn(move || receive.recv());
        assert!(matches!(fork(), Err(Errno::INVAL)));
        drop(send);
        let _ = other.join().unwrap();
    }

    /// Both ends, with a child that is no child of ours.
    fn ends() -> (Waiting, Report) {
        let (read, write) = rustix::pipe::pipe_with(PipeFlags::CLOEXEC).unwrap();
        let pipe = read.into();
        (
            Waiting {
                pipe,
                child: libc::pid_t::MAX,
            },
            Report(write.into()),
        )
    }

    #[test]
    fn what_is_reported_arrives() {
        let (waiting, report) = ends();
        report.ready().unwrap();
        assert_eq!(waiting.outcome(), Outcome::Ready);
        let (waiting, report) = ends();
        report.failed(32, "no such layer").unwrap();
        assert_eq!(
            waiting.outcome(),
            Outcome::Failed(32, "no such layer".into())
        );
        let (waiting, report) = ends();
        drop(report);
        assert!(matches!(waiting.outcome(), Outcome::Died(_)));
        let (waiting, report) = ends();
        drop(waiting);
        assert!(report.ready().is_err(), "nobody waits");
    }

    #[test]
    fn only_descriptors_that_exist_are_taken_over() {
        for number in [-1, 0, 2, 1_000_000] {
            assert_eq!(take_inherited(number).unwrap_err(), Errno::BADF);
        }
    }
}
