//! Positions in the listing of a directory that is not one real directory.
//!
//! The names of the lowers come first, in an order that never changes, then those
//! that only the upper has, by number. What is written down is where each comes in
//! that order (its *place*); what callers get is a position.

use std::collections::HashSet;

/// How positions and places belong together.
#[derive(Debug, Default)]
pub(super) enum Positions {
    /// `.` and `..` are at 0 and 1, the names behind them by their places.
    #[default]
    Places,
    /// As the only lower has them: it was listed with its own cookies before it
    /// was copied up, and who has begun so goes on.
    Cookies(Cookies),
}

/// Those of one real directory.
#[derive(Debug, Default)]
pub(super) struct Cookies {
    /// Behind each name, by its place.
    behind: Vec<u64>,
    /// `.` and `..`: how many names come before, and the cookie behind it.
    dots: [(u64, u64); 2],
    /// Where to go on from a cookie: its place, and which of the two dots are shown
    /// already. Sorted.
    known: Vec<(u64, u64, [bool; 2])>,
    /// Positions of dots that the lower does not list, and then those of names that
    /// only the upper has, lie behind this one.
    base: u64,
}

/// Where to go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Start {
    pub place: u64,
    /// `.` and `..` that were shown.
    pub shown: [bool; 2],
}

/// `.` and `..` come first.
pub(super) const DOTS: u64 = 2;
/// More names than any upper directory ever has.
const ROOM: u32 = 40;

/// Where all cookies are less, positions of ours can be so, too.
const FEW: u64 = 1 << 30;

/// Takes down the cookies of a directory in the order of its entries.
#[derive(Debug, Default)]
pub(super) struct Taking {
    cookies: Cookies,
    shown: [bool; 2],
}

impl Taking {
    pub(super) fn name(&mut self, cookie: u64) {
        self.cookies.behind.push(cookie);
        self.known(cookie);
    }

    /// `.` is 0, `..` is 1.
    pub(super) fn dot(&mut self, which: usize, cookie: u64) {
        let place = self.cookies.behind.len() as u64;
        if let (Some(dot), Some(shown)) =
            (self.cookies.dots.get_mut(which), self.shown.get_mut(which))
        {
            (*dot, *shown) = ((place, cookie), true);
        }
        self.known(cookie);
    }

    fn known(&mut self, cookie: u64) {
        let place = self.cookies.behind.len() as u64;
        self.cookies.known.push((cookie, place, self.shown));
    }

    pub(super) fn done(mut self) -> Positions {
        let cookies = &mut self.cookies;
        let last = cookies.known.iter().map(|(c, ..)| *c).max();
        cookies.base = match last.unwrap_or_default() {
            // Old 32-bit programs take no position from 2^31 on.
            last if last < FEW => last,
            _ => {
                let parts = cookies.known.iter().map(|(c, ..)| c >> ROOM);
                let taken: HashSet<u64> = parts.collect();
                (1..).find(|part| !taken.contains(part)).unwrap_or(1) << ROOM
            }
        };
        // Not every file system lists `.` and `..`, and none a directory that was
        // removed: then they come first, at positions of ours.
        let unseen = self.shown.map(|seen| !seen);
        for (_, _, shown) in &mut cookies.known {
            shown
                .iter_mut()
                .zip(unseen)
                .for_each(|(shown, unseen)| *shown |= unseen);
        }
        let dots = cookies.dots.iter_mut().zip(unseen);
        for (which, (dot, _)) in (1..).zip(dots).filter(|(_, (_, unseen))| *unseen) {
            *dot = (0, cookies.base + which);
            cookies.known.push((dot.1, 0, [true, which > 1]));
        }
        // Of two entries with one cookie the first: better twice than not at all.
        cookies.known.sort_unstable();
        Positions::Cookies(self.cookies)
    }
}

impl Positions {
    /// Where to go on from a position; `lowers` names come before those of the upper.
    pub(super) fn start(&self, position: u64, lowers: u64) -> Start {
        let cookies = match self {
            Positions::Places => {
                return Start {
                    place: position.saturating_sub(DOTS),
                    shown: [position > 0, position > 1],
                };
            }
            Positions::Cookies(cookies) => cookies,
        };
        if position == 0 {
            return Start {
                place: 0,
                shown: [false; 2],
            };
        }
        let at = cookies.known.partition_point(|(c, ..)| *c < position);
        match cookies.known.get(at).filter(|(c, ..)| *c == position) {
            Some((_, place, shown)) => Start {
                place: *place,
                shown: *shown,
            },
            None => Start {
                place: match position.checked_sub(cookies.base + DOTS) {
                    Some(number) if number < 1 << ROOM => lowers.saturating_add(number),
                    // Nobody was told of it.
                    _ => u64::MAX,
                },
                shown: [true; 2],
            },
        }
    }

    /// The position behind what is at `place`.
    pub(super) fn behind(&self, place: u64, lowers: u64) -> u64 {
        let cookies = match self {
            Positions::Places => return DOTS + place + 1,
            Positions::Cookies(cookies) => cookies,
        };
        let at = usize::try_from(place).unwrap_or(usize::MAX);
        match cookies.behind.get(at) {
            Some(cookie) => *cookie,
            None => cookies.base + DOTS + place.saturating_sub(lowers) + 1,
        }
    }

    /// Before which place `.` (0) or `..` (1) comes, and the position behind it.
    pub(super) fn dot(&self, which: usize) -> (u64, u64) {
        match self {
            Positions::Places => (0, which as u64 + 1),
            Positions::Cookies(cookies) => cookies.dots.get(which).copied().unwrap_or_default(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn taken() -> Positions {
        let mut taking = Taking::default();
        taking.name(900);
        taking.dot(0, 5 << ROOM);
        taking.name(7);
        taking.dot(1, 1 << ROOM);
        taking.name(i64::MAX as u64);
        taking.done()
    }

    #[test]
    fn a_listing_goes_on_at_each_cookie() {
        let positions = taken();
        let start = |position| {
            let start = positions.start(position, 3);
            (start.place, start.shown)
        };
        assert_eq!(start(0), (0, [false, false]));
        assert_eq!(start(900), (1, [false, false]));
        assert_eq!(start(5 << ROOM), (1, [true, false]));
        assert_eq!(start(7), (2, [true, false]));
        assert_eq!(start(1 << ROOM), (2, [true, true]));
        assert_eq!(start(i64::MAX as u64), (3, [true, true]));
        assert_eq!(start(901), (u64::MAX, [true, true]));
        let behind = [0, 1, 2].map(|place| positions.behind(place, 3));
        assert_eq!(behind, [900, 7, i64::MAX as u64]);
        assert_eq!(
            [0, 1].map(|dot| positions.dot(dot)),
            [(1, 5 << ROOM), (2, 1 << ROOM)]
        );
    }

    #[test]
    fn names_of_the_upper_have_positions_that_no_cookie_is() {
        let positions = taken();
        for place in 3..10 {
            let behind = positions.behind(place, 3);
            // The parts of 0, 1 and 5 are taken.
            assert_eq!(behind >> ROOM, 2);
            let start = positions.start(behind, 3);
            assert_eq!((start.place, start.shown), (place + 1, [true; 2]));
        }
    }

    #[test]
    fn small_cookies_have_small_positions_behind_them() {
        let mut taking = Taking::default();
        taking.dot(0, 1);
        taking.dot(1, 2);
        taking.name(40);
        taking.name(FEW - 1);
        let positions = taking.done();
        for place in 2..10 {
            let behind = positions.behind(place, 2);
            assert!((FEW..FEW + 20).contains(&behind), "{behind}");
            let start = positions.start(behind, 2);
            assert_eq!((start.place, start.shown), (place + 1, [true; 2]));
        }
        assert_eq!(positions.start(FEW - 1, 2).place, 2);
    }

    #[test]
    fn a_directory_that_lists_no_dots() {
        let start = |positions: &Positions, position, lowers| {
            let start = positions.start(position, lowers);
            (start.place, start.shown)
        };
        let mut taking = Taking::default();
        taking.name(3);
        for (positions, lowers) in [(Taking::default().done(), 0), (taking.done(), 1)] {
            assert_eq!(start(&positions, 0, lowers), (0, [false; 2]));
            let [first, second] = [0, 1].map(|dot| positions.dot(dot).1);
            assert_eq!(start(&positions, first, lowers), (0, [true, false]));
            assert_eq!(start(&positions, second, lowers), (0, [true; 2]));
            for place in lowers..5 {
                let behind = positions.behind(place, lowers);
                assert_eq!(start(&positions, behind, lowers), (place + 1, [true; 2]));
            }
            if lowers > 0 {
                assert_eq!(start(&positions, 3, lowers), (1, [true; 2]));
            }
        }
    }
}
