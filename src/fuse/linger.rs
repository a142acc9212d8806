//! Whether the reader waits awake for the next request (`busy_poll=`).
//!
//! Who sleeps is woken on a processor that was idle meanwhile, which takes longer
//! than most requests do. So while a caller sends one request after the other,
//! the reader looks for the next one for a moment before it sleeps. That moment is
//! lost where the caller has something else to do first, and where it runs on the
//! same processor and waits for the reader to leave it: so the reader goes on
//! with it only while it is mostly of use.

use std::time::{Duration, Instant};

/// A request that came in time counts this much, up to [`FULL`], and a moment that
/// was lost that much in the other direction: two of three have to be of use.
const GAIN: u8 = 1;
const LOSS: u8 = 2;
const FULL: u8 = 8;
/// Where it was of no use, it is tried again at every so many requests.
const AGAIN: u8 = 32;

/// A reader's experience with it.
#[derive(Debug)]
pub(super) struct Linger {
    moment: Duration,
    credit: u8,
    /// Requests since it was done last.
    since: u8,
}

impl Linger {
    /// For so long at most; zero = never.
    pub(super) fn new(moment: Duration) -> Linger {
        Linger {
            moment,
            credit: FULL,
            since: 0,
        }
    }

    /// A request is answered: looks for the next, if that is worth it. One that
    /// is there already says nothing of how others come.
    pub(super) fn wait(&mut self, is_there: impl Fn() -> bool) {
        if self.moment.is_zero() {
            return;
        }
        self.since = self.since.saturating_add(1);
        if self.credit == 0 && self.since < AGAIN {
            return;
        }
        if is_there() {
            return;
        }
        self.since = 0;
        let begun = Instant::now();
        while !is_there() {
            if begun.elapsed() >= self.moment {
                self.credit = self.credit.saturating_sub(LOSS);
                return;
            }
        }
        self.credit = (self.credit + GAIN).min(FULL);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::Cell;

    const MOMENT: Duration = Duration::from_micros(50);

    /// How often it looked after one request, of which another comes in time
    /// or not.
    fn looks(linger: &mut Linger, comes: bool) -> u32 {
        let looks = Cell::new(0);
        linger.wait(|| {
            looks.set(looks.get() + 1);
            comes && looks.get() > 1
        });
        looks.get()
    }

    #[test]
    fn it_is_done_while_it_is_of_use() {
        let mut linger = Linger::new(MOMENT);
        for n in 0..1000 {
            assert!(looks(&mut linger, n % 4 != 0) > 0, "{n}");
        }
    }

    #[test]
    fn it_is_left_where_it_is_of_none_and_tried_again() {
        let mut linger = Linger::new(MOMENT);
        let lost = (0..1000).filter(|_| looks(&mut linger, false) > 0).count();
        assert_eq!(lost, 4 + 996 / usize::from(AGAIN));
        // A burst that comes later finds it again.
        let missed = (0..1000).filter(|_| looks(&mut linger, true) == 0).count();
        assert!(missed < usize::from(AGAIN), "{missed}");
    }

    /// Of a caller on the same processor there are always two.
    #[test]
    fn what_is_there_already_is_no_reason() {
        let mut linger = Linger::new(MOMENT);
        let mut lost = 0;
        for n in 0..1000 {
            match n % 3 {
                0 => lost += u32::from(looks(&mut linger, false) > 0),
                _ => linger.wait(|| true),
            }
        }
        assert!(lost < 50, "{lost}");
        (0..1000).for_each(|_| linger.wait(|| true));
    }

    /// Mostly in vain is in vain.
    #[test]
    fn every_other_time_is_not_enough() {
        let mut linger = Linger::new(MOMENT);
        let done = (0..1000)
            .filter(|n| looks(&mut linger, n % 2 == 0) > 0)
            .count();
        assert!(done < 200, "{done}");
    }

    #[test]
    fn never_is_never() {
        let mut linger = Linger::new(Duration::ZERO);
        assert_eq!(looks(&mut linger, true), 0);
    }
}
