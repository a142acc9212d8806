//! The names of a merged directory, and their order.

use super::positions::{Positions, Start};
use std::collections::{BTreeMap, HashMap};
use std::ffi::OsStr;
use std::sync::Arc;

/// What the upper has under a name of the lowers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Cover {
    Nothing,
    Whiteout,
    Entry,
}

/// A name that the lowers list.
#[derive(Debug)]
pub(super) struct LowerName {
    pub name: Arc<OsStr>,
    pub ino: u64,
    pub kind: u32,
    /// The topmost layer that has it.
    pub layer: u16,
    pub cover: Cover,
}

/// Place, name, and the lower's number and type where they hold.
type Slot = (u64, Arc<OsStr>, Option<(u64, u32)>);

/// One step of a listing: `.` (0) or `..` (1), or a name.
pub(super) enum Step {
    Dot(usize),
    Name(Arc<OsStr>, Option<(u64, u32)>),
}

/// The names of a merged directory.
#[derive(Debug, Default)]
pub(super) struct Listing {
    pub lower: Vec<LowerName>,
    places: HashMap<Arc<OsStr>, usize>,
    upper: BTreeMap<u64, Arc<OsStr>>,
    numbers: HashMap<Arc<OsStr>, u64>,
    next: u64,
    pub positions: Positions,
}

impl Listing {
    /// One more name of the lowers, which they have not shown yet.
    pub(super) fn add(&mut self, name: LowerName) {
        self.places.insert(name.name.clone(), self.lower.len());
        self.lower.push(name);
    }

    /// Do the lowers have a name, be it covered.
    pub(super) fn shows(&self, name: &OsStr) -> bool {
        self.places.contains_key(name)
    }

    /// The upper has this under a name now.
    pub(super) fn set(&mut self, name: &OsStr, cover: Cover) {
        if let Some(place) = self.places.get(name) {
            if let Some(lower) = self.lower.get_mut(*place) {
                lower.cover = cover;
            }
            return;
        }
        match (cover, self.numbers.get(name)) {
            (Cover::Entry, None) => {
                let name: Arc<OsStr> = name.into();
                self.upper.insert(self.next, name.clone());
                self.numbers.insert(name, self.next);
                self.next += 1;
            }
            (Cover::Nothing | Cover::Whiteout, Some(number)) => {
                self.upper.remove(number);
                self.numbers.remove(name);
            }
            _ => {}
        }
    }

    /// How many names come before those that only the upper has.
    pub(super) fn lowers(&self) -> u64 {
        self.lower.len() as u64
    }

    /// The entries at place `from` and after, at most `most`.
    fn slice(&self, from: u64, most: usize) -> Vec<Slot> {
        let count = self.lowers();
        let start = usize::try_from(from).unwrap_or(usize::MAX);
        let lower = self
            .lower
            .iter()
            .enumerate()
            .skip(start)
            .filter(|(_, l)| l.cover != Cover::Whiteout)
            .map(|(i, l)| {
                let known = (l.cover == Cover::Nothing).then_some((l.ino, l.kind));
                (i as u64, l.name.clone(), known)
            });
        let upper = self
            .upper
            .range(from.saturating_sub(count)..)
            .map(|(n, name)| (count + n, name.clone(), None));
        lower.chain(upper).take(most).collect()
    }

    /// What comes from `start` on, which is moved behind it, and the positions
    /// behind each; nothing at the end.
    pub(super) fn part(&self, start: &mut Start, most: usize) -> Vec<(u64, Step)> {
        let slots = self.slice(start.place, most);
        let mut steps = Vec::with_capacity(slots.len() + 2);
        let mut dots_before = |place: u64, steps: &mut Vec<(u64, Step)>| {
            for (which, shown) in start.shown.iter_mut().enumerate() {
                let (before, behind) = self.positions.dot(which);
                if !*shown && before <= place {
                    steps.push((behind, Step::Dot(which)));
                    *shown = true;
                }
            }
        };
        if slots.is_empty() {
            dots_before(u64::MAX, &mut steps);
        }
        for (place, name, known) in slots {
            dots_before(place, &mut steps);
            let behind = self.positions.behind(place, self.lowers());
            steps.push((behind, Step::Name(name, known)));
            start.place = place + 1;
        }
        steps
    }

    /// The topmost lower layer that shows a name, covered or not.
    pub(super) fn layer(&self, name: &OsStr) -> Option<u16> {
        let place = self.places.get(name)?;
        self.lower.get(*place).map(|l| l.layer)
    }

    /// Does nothing show.
    pub(super) fn is_empty(&self) -> bool {
        self.upper.is_empty() && self.lower.iter().all(|l| l.cover == Cover::Whiteout)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(l: &Listing, from: u64) -> Vec<(u64, String)> {
        l.slice(from, 100)
            .into_iter()
            .map(|(p, n, _)| (p, n.to_string_lossy().into_owned()))
            .collect()
    }

    #[test]
    fn positions_outlive_changes() {
        let mut l = Listing::default();
        for (i, n) in ["a", "b"].iter().enumerate() {
            l.add(LowerName {
                name: OsStr::new(n).into(),
                ino: 1,
                kind: libc::S_IFREG,
                layer: i as u16,
                cover: Cover::Nothing,
            });
        }
        for n in ["x", "y", "z"] {
            l.set(OsStr::new(n), Cover::Entry);
        }
        assert_eq!(l.layer(OsStr::new("b")), Some(1));
        assert_eq!(l.layer(OsStr::new("x")), None);
        let all = names(&l, 0);
        assert_eq!(all.len(), 5);
        l.set(OsStr::new("a"), Cover::Whiteout);
        l.set(OsStr::new("x"), Cover::Nothing);
        l.set(OsStr::new("new"), Cover::Entry);
        l.set(OsStr::new("b"), Cover::Entry);
        assert_eq!(
            names(&l, 0),
            [(1, "b"), (3, "y"), (4, "z"), (5, "new")].map(|(p, n)| (p, n.to_owned()))
        );
        assert_eq!(names(&l, 4)[0].1, "z");
        for n in ["b", "y", "z", "new"] {
            l.set(OsStr::new(n), Cover::Whiteout);
        }
        assert!(l.is_empty());
    }
}
