//! How many of the session's threads read requests.
//!
//! The kernel wakes waiting readers in turn, so with two of them each request
//! of a single caller wakes another thread, on another processor if that is
//! idle, which costs more than most requests do. So one thread reads while it
//! keeps up. The others rest at the end of a request that they have answered
//! already: the kernel does not see it. They are called when requests wait, and
//! before work that may take long.
//!
//! The first to answer a request never rests; when it ends, so do all.

use super::linger::Linger;
use crate::sys::process::is_readable;
use parking_lot::{Condvar, Mutex};
use std::cell::RefCell;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{
    AtomicU32, AtomicUsize,
    Ordering::{Relaxed, SeqCst},
};
use std::time::Duration;

/// At every so many requests the first reader looks whether others wait.
const LOOK: u32 = 8;
/// After so many requests of one caller nobody else is looked for.
const ALONE: u32 = 16;
/// After so many answers, with no other waiting each time, a helper rests.
const QUIET: u32 = 32;

/// The threads of a session.
pub(super) struct Crew {
    device: OwnedFd,
    /// How long the first reader looks for the next request before it sleeps.
    busy_poll: Duration,
    /// Whose request was answered last.
    caller: AtomicU32,
    /// Threads that have answered a request.
    members: AtomicUsize,
    /// Those of them that do what may take long. Raised before it is looked who
    /// rests, and looked at after it is raised who rests: one sees the other.
    away: AtomicUsize,
    /// Those of them that rest: exact under the lock.
    resting: AtomicUsize,
    /// How many are called and not up yet; none rests once it is over.
    called: Mutex<Called>,
    call: Condvar,
}

#[derive(Default)]
struct Called {
    count: usize,
    over: bool,
}

/// This thread's part in a crew.
struct Member {
    crew: Arc<Crew>,
    first: bool,
    away: bool,
    answered: u32,
    /// Requests of one caller, none of another's between them.
    alone: u32,
    quiet: u32,
    linger: Linger,
}

impl Drop for Member {
    /// The thread ends. Those that rest would never learn that the session is
    /// over, and the session waits for them.
    fn drop(&mut self) {
        self.crew.called.lock().over = true;
        self.crew.call.notify_all();
    }
}

thread_local! {
    static MEMBER: RefCell<Option<Member>> = const { RefCell::new(None) };
}

impl Crew {
    /// The crew that reads from `device`, looking for the next request for
    /// `busy_poll` before it sleeps.
    pub(super) fn new(device: OwnedFd, busy_poll: Duration) -> Arc<Crew> {
        Arc::new(Crew {
            device,
            busy_poll,
            caller: AtomicU32::new(0),
            members: AtomicUsize::new(0),
            away: AtomicUsize::new(0),
            resting: AtomicUsize::new(0),
            called: Mutex::default(),
            call: Condvar::new(),
        })
    }

    pub(super) fn device(&self) -> &OwnedFd {
        &self.device
    }

    fn with_member<T>(self: &Arc<Crew>, act: impl FnOnce(&mut Member) -> T) -> T {
        MEMBER.with_borrow_mut(|member| {
            act(member.get_or_insert_with(|| Member {
                crew: self.clone(),
                first: self.members.fetch_add(1, Relaxed) == 0,
                away: false,
                answered: 0,
                alone: 0,
                quiet: 0,
                linger: Linger::new(self.busy_poll),
            }))
        })
    }

    /// The request at hand may take long: somebody else is to read.
    pub(super) fn go_away(self: &Arc<Crew>) {
        self.with_member(|member| {
            if !std::mem::replace(&mut member.away, true) {
                self.away.fetch_add(1, SeqCst);
            }
        });
        self.call_one();
    }

    /// Are other requests waiting; asked before the answer to one whose caller
    /// waits, as that caller then has no other. (After it he has at once.) What
    /// waits beside a single `caller` is nobody's, such as a FORGET, which the kernel
    /// puts behind requests.
    pub(super) fn others_wait(self: &Arc<Crew>, caller: u32) -> bool {
        let same = self.caller.swap(caller, Relaxed) == caller && caller != 0;
        let looks = self.with_member(|member| {
            member.answered = member.answered.wrapping_add(1);
            member.alone = if same {
                member.alone.saturating_add(1)
            } else {
                0
            };
            let due = !member.first
                || (member.answered.is_multiple_of(LOOK) && self.resting.load(Relaxed) > 0);
            due && member.alone < ALONE
        });
        looks && is_readable(&self.device)
    }

    /// A request is answered: `wait` says whether others waited before, if that
    /// was asked.
    pub(super) fn answered(self: &Arc<Crew>, wait: Option<bool>) {
        let rests = self.with_member(|member| {
            if std::mem::take(&mut member.away) {
                self.away.fetch_sub(1, Relaxed);
            }
            member.quiet = match wait {
                Some(true) => 0,
                Some(false) => member.quiet.saturating_add(1),
                None => member.quiet,
            };
            let rests = !member.first && member.quiet >= QUIET && self.away.load(Relaxed) == 0;
            if rests {
                member.quiet = 0;
            }
            rests
        });
        if rests {
            self.rest();
        } else if wait == Some(true) {
            self.call_one();
        } else {
            self.linger();
        }
    }

    /// Others sleep at once: of several that wait the kernel wakes any.
    fn linger(self: &Arc<Crew>) {
        self.with_member(|member| {
            if member.first {
                member.linger.wait(|| is_readable(&self.device));
            }
        });
    }

    fn call_one(&self) {
        if self.resting.load(SeqCst) == 0 {
            return;
        }
        let mut called = self.called.lock();
        if self.resting.load(SeqCst) > called.count {
            called.count += 1;
            self.call.notify_one();
        }
    }

    fn rest(&self) {
        let mut called = self.called.lock();
        self.resting.fetch_add(1, SeqCst);
        // Who went away just before may not have seen that this one rests.
        if self.away.load(SeqCst) == 0 {
            while !called.over && called.count == 0 {
                self.call.wait(&mut called);
            }
            called.count = called.count.saturating_sub(1);
        }
        self.resting.fetch_sub(1, SeqCst);
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use std::io::{Read, Write};
    use std::thread;
    use std::time::Instant;

    fn until(mut what: impl FnMut() -> bool) {
        let end = Instant::now() + Duration::from_secs(20);
        while !what() {
            assert!(Instant::now() < end, "waited in vain");
            thread::yield_now();
        }
    }

    /// A session's threads over a pipe: each byte is a request.
    struct Bed {
        crew: Arc<Crew>,
        pipe: std::io::PipeWriter,
        /// Bytes that went into the pipe, and that came out.
        written: usize,
        read: Arc<AtomicUsize>,
        threads: Vec<thread::JoinHandle<()>>,
    }

    fn bed(count: usize) -> Bed {
        let (reader, pipe) = std::io::pipe().unwrap();
        let crew = Crew::new(reader.try_clone().unwrap().into(), Duration::ZERO);
        let read = Arc::new(AtomicUsize::new(0));
        let threads = (0..count).map(|_| {
            let (crew, mut reader) = (crew.clone(), reader.try_clone().unwrap());
            let read = read.clone();
            thread::spawn(move || {
                let mut byte = [0];
                while reader.read(&mut byte).unwrap() == 1 {
                    let before = read.fetch_add(1, SeqCst);
                    if byte == *b"w" {
                        crew.go_away();
                        // Until another one has read what comes next.
                        until(|| read.load(SeqCst) > before + 1);
                    }
                    crew.answered(Some(crew.others_wait(0)));
                }
            })
        });
        Bed {
            threads: threads.collect(),
            crew,
            pipe,
            written: 0,
            read,
        }
    }

    impl Bed {
        fn quiet(&mut self) {
            let all = self.threads.len() - 1;
            let crew = self.crew.clone();
            until(|| {
                self.write(b"r");
                thread::sleep(Duration::from_micros(200));
                crew.resting.load(Relaxed) == all
            });
            self.emptied();
        }

        fn write(&mut self, requests: &[u8]) {
            self.written += requests.len();
            self.pipe.write_all(requests).unwrap();
        }

        fn emptied(&self) {
            until(|| self.read.load(SeqCst) == self.written);
        }
    }

    #[test]
    fn one_reads_while_little_is_to_do_and_all_end() {
        let mut bed = bed(3);
        bed.quiet();
        let Bed { pipe, threads, .. } = bed;
        drop(pipe);
        threads.into_iter().for_each(|t| t.join().unwrap());
    }

    /// What waits beside one caller is a FORGET of its own doing.
    #[test]
    fn beside_a_single_caller_nobody_waits() {
        let (reader, mut pipe) = std::io::pipe().unwrap();
        pipe.write_all(b"f").unwrap();
        let crew = Crew::new(reader.into(), Duration::ZERO);
        crew.resting.store(1, Relaxed);
        let found = |caller| (0..LOOK).any(|_| crew.others_wait(caller));
        assert!(found(7));
        while crew.with_member(|member| member.alone) < ALONE {
            crew.others_wait(7);
        }
        assert!(!found(7));
        assert!(found(8), "another caller");
        for _ in 0..2 * ALONE {
            crew.others_wait(0);
        }
        assert!(found(0), "one that may have several under way");
    }

    /// One that had found itself without work when the other went away.
    #[test]
    fn none_rests_while_another_is_away() {
        let bed = bed(2);
        bed.crew.away.fetch_add(1, SeqCst);
        let (send, rested) = std::sync::mpsc::channel();
        let crew = bed.crew.clone();
        thread::spawn(move || {
            crew.rest();
            send.send(()).unwrap();
        });
        rested.recv_timeout(Duration::from_secs(20)).unwrap();
        let Bed { pipe, threads, .. } = bed;
        drop(pipe);
        threads.into_iter().for_each(|t| t.join().unwrap());
    }

    #[test]
    fn who_expects_to_wait_calls_another() {
        let mut bed = bed(2);
        bed.quiet();
        bed.write(b"wr");
        bed.emptied();
        let Bed { pipe, threads, .. } = bed;
        drop(pipe);
        threads.into_iter().for_each(|t| t.join().unwrap());
    }
}
