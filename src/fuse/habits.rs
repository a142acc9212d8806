//! Who looks at what it lists.
//!
//! Attributes with a listing save a lookup for each name to who asks for them
//! (`ls -l`, `find -size`, `cp -r`), and cost everybody else a node for each name.
//! The kernel cannot tell, and asks for them wherever a listing begins. So a
//! process gets bare names until it has looked up half of those that it was
//! given; and again for one directory in so many, to see that it still does.
//! Directories do not count: who walks a tree has to look them up.

use parking_lot::Mutex;
use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

/// Listings and processes that are remembered.
const LISTED: usize = 16;
const KNOWN: usize = 16;
/// One directory in so many is a test.
const TEST: u32 = 32;

/// Bare names that a process was given.
#[derive(Debug)]
struct Listed {
    process: u32,
    dir: u64,
    names: u32,
    looked: u32,
}

/// A process that looks at what it lists.
#[derive(Debug)]
struct Looker {
    process: u32,
    /// Directories since it was tested last.
    given: u32,
    /// A test has not been passed yet.
    tested: bool,
}

#[derive(Debug, Default)]
struct Known {
    listed: VecDeque<Listed>,
    lookers: VecDeque<Looker>,
}

/// What processes did after they had listed directories. A leaf lock.
#[derive(Debug, Default)]
pub(super) struct Habits {
    known: Mutex<Known>,
    /// Is any listing remembered; lookups look here first.
    any: AtomicBool,
}

impl Habits {
    /// Is a process that lists a directory to be given attributes.
    pub(super) fn wants(&self, process: u32) -> bool {
        let mut known = self.known.lock();
        let Some(at) = known.lookers.iter().position(|l| l.process == process) else {
            return false;
        };
        let Some(looker) = known.lookers.get_mut(at) else {
            return false;
        };
        looker.given += 1;
        if looker.given < TEST {
            return true;
        }
        looker.given = 0;
        if std::mem::replace(&mut looker.tested, true) {
            known.lookers.remove(at);
        }
        false
    }

    /// A process was given this many bare names that are no directories.
    pub(super) fn listed(&self, process: u32, dir: u64, names: u32) {
        let mut known = self.known.lock();
        if names == 0 {
            known.passed(process, false);
            return;
        }
        known.listed.truncate(LISTED - 1);
        known.listed.push_front(Listed {
            process,
            dir,
            names,
            looked: 0,
        });
        self.any.store(true, Relaxed);
    }

    /// A process has looked up a name that is no directory.
    pub(super) fn looked(&self, process: u32, dir: u64) {
        if !self.any.load(Relaxed) {
            return;
        }
        let mut known = self.known.lock();
        let mut all = known.listed.iter_mut().enumerate();
        let Some((at, listed)) = all.find(|(_, l)| l.process == process && l.dir == dir) else {
            return;
        };
        listed.looked += 1;
        if listed.looked >= listed.names.div_ceil(2) {
            known.listed.remove(at);
            self.any.store(!known.listed.is_empty(), Relaxed);
            known.passed(process, true);
        }
    }
}

impl Known {
    /// A process has done as those do that want attributes. One that was not
    /// known for it becomes so, if `new`.
    fn passed(&mut self, process: u32, new: bool) {
        if let Some(looker) = self.lookers.iter_mut().find(|l| l.process == process) {
            looker.tested = false;
        } else if new {
            self.lookers.truncate(KNOWN - 1);
            self.lookers.push_front(Looker {
                process,
                given: 0,
                tested: false,
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_looks_at_half_of_the_names_gets_attributes() {
        let habits = Habits::default();
        assert!(!habits.wants(1));
        habits.listed(1, 10, 3);
        habits.looked(2, 10);
        habits.looked(1, 11);
        habits.looked(1, 10);
        assert!(!habits.wants(1), "one of three, and others' lookups");
        habits.looked(1, 10);
        assert!(habits.wants(1) && !habits.wants(2));
    }

    #[test]
    fn who_stops_looking_gets_no_more() {
        let habits = Habits::default();
        habits.listed(1, 10, 1);
        habits.looked(1, 10);
        let until_test = |habits: &Habits| (1..10 * TEST).find(|_| !habits.wants(1));
        assert_eq!(until_test(&habits), Some(TEST));
        habits.listed(1, 11, 1);
        habits.looked(1, 11);
        assert_eq!(until_test(&habits), Some(TEST), "the test was passed");
        habits.listed(1, 12, 0);
        assert_eq!(until_test(&habits), Some(TEST), "there was none");
        habits.listed(1, 13, 5);
        assert_eq!(until_test(&habits), Some(TEST));
        assert_eq!(until_test(&habits), Some(1), "it is not known any more");
    }

    #[test]
    fn little_is_remembered() {
        let habits = Habits::default();
        for n in 0..100 {
            habits.listed(n, 1, 1);
            habits.looked(n, 1);
            habits.listed(n, 2, 1);
        }
        let known = habits.known.lock();
        assert_eq!((known.lookers.len(), known.listed.len()), (KNOWN, LISTED));
    }
}
