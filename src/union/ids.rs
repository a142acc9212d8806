//! Translation between the ids in the layers and the ids that callers see.

use crate::sys::{Errno, Result};
use crate::union::options::{IdRange, Options};

/// What an id without a mapping is shown as.
pub const OVERFLOW_ID: u32 = 65534;

/// One direction each, for users or for groups.
#[derive(Clone, Debug, Default)]
pub struct IdMap {
    ranges: Vec<IdRange>,
    squash: Option<u32>,
}

impl IdMap {
    /// The mapping of users.
    pub fn users(options: &Options) -> IdMap {
        IdMap {
            ranges: options.uid_map.clone(),
            squash: options.squash_uid,
        }
    }

    /// The mapping of groups.
    pub fn groups(options: &Options) -> IdMap {
        IdMap {
            ranges: options.gid_map.clone(),
            squash: options.squash_gid,
        }
    }

    /// An id of a layer as callers see it; [`OVERFLOW_ID`] if it has none.
    pub fn shown(&self, stored: u32) -> u32 {
        if let Some(id) = self.squash {
            return id;
        }
        if self.ranges.is_empty() {
            return stored;
        }
        self.ranges
            .iter()
            .find_map(|r| offset(stored, r.outside, r.count).map(|o| r.inside.wrapping_add(o)))
            .unwrap_or(OVERFLOW_ID)
    }

    /// An id of a caller as a layer stores it.
    ///
    /// # Errors
    /// `EOVERFLOW` for an id without a mapping: never the nearest one.
    pub fn stored(&self, shown: u32) -> Result<u32> {
        if self.ranges.is_empty() {
            return Ok(shown);
        }
        self.ranges
            .iter()
            .find_map(|r| offset(shown, r.inside, r.count).map(|o| r.outside.wrapping_add(o)))
            .ok_or(Errno::OVERFLOW)
    }

    /// Are chown and the owners of new files without effect.
    pub fn squashes(&self) -> bool {
        self.squash.is_some()
    }

    /// Is every id shown as it is stored.
    pub fn is_identity(&self) -> bool {
        self.squash.is_none() && self.ranges.is_empty()
    }
}

fn offset(id: u32, start: u32, count: u32) -> Option<u32> {
    id.checked_sub(start).filter(|o| *o < count)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(ranges: &[(u32, u32, u32)]) -> IdMap {
        IdMap {
            ranges: ranges
                .iter()
                .map(|&(inside, outside, count)| IdRange {
                    inside,
                    outside,
                    count,
                })
                .collect(),
            squash: None,
        }
    }

    #[test]
    fn both_ways_and_the_gaps() {
        let m = map(&[(0, 100_000, 1000), (1000, 5, 1)]);
        for (shown, stored) in [(0, 100_000), (999, 100_999), (1000, 5)] {
            assert_eq!(m.stored(shown), Ok(stored));
            assert_eq!(m.shown(stored), shown);
        }
        assert_eq!(m.stored(1001), Err(Errno::OVERFLOW));
        assert_eq!(m.shown(101_000), OVERFLOW_ID);
        assert_eq!(m.shown(0), OVERFLOW_ID);
    }

    #[test]
    fn none_is_identity_and_squash_wins() {
        let none = map(&[]);
        assert_eq!((none.shown(7), none.stored(7)), (7, Ok(7)));
        let squashed = IdMap {
            squash: Some(0),
            ..map(&[(0, 100_000, 1)])
        };
        assert_eq!(squashed.shown(12345), 0);
    }
}
