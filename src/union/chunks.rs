//! Which parts of a file are there: one bit a chunk.

use std::ops::Range;

const BITS: u64 = u64::BITS as u64;

/// A file of `size` bytes in chunks, of which the last may be shorter. What lies
/// beyond belongs to no chunk and is always there.
#[derive(Debug)]
pub(super) struct Chunks {
    size: u64,
    chunk: u64,
    /// One bit a chunk that is there.
    words: Vec<u64>,
    /// How many are not.
    missing: u64,
}

impl Chunks {
    /// Nothing of it is there. A chunk has at least one byte.
    pub(super) fn new(size: u64, chunk: u64) -> Chunks {
        let chunk = chunk.max(1);
        let missing = size.div_ceil(chunk);
        let words = usize::try_from(missing.div_ceil(BITS)).unwrap_or(usize::MAX);
        Chunks {
            size,
            chunk,
            words: vec![0; words],
            missing,
        }
    }

    fn place(chunk: u64) -> (usize, u64) {
        let word = usize::try_from(chunk / BITS).unwrap_or(usize::MAX);
        (word, 1 << (chunk % BITS))
    }

    /// Is it there.
    pub(super) fn has(&self, chunk: u64) -> bool {
        let (word, bit) = Self::place(chunk);
        self.words.get(word).is_none_or(|word| word & bit != 0)
    }

    /// It is there from now on.
    pub(super) fn set(&mut self, chunk: u64) {
        let (word, bit) = Self::place(chunk);
        if let Some(word) = self.words.get_mut(word)
            && *word & bit == 0
            && chunk < self.size.div_ceil(self.chunk)
        {
            *word |= bit;
            self.missing -= 1;
        }
    }

    /// The first chunk that is not there.
    pub(super) fn first_missing(&self) -> Option<u64> {
        if self.missing == 0 {
            return None;
        }
        let at = self.words.iter().position(|word| *word != u64::MAX)?;
        let word = self.words.get(at)?;
        Some(at as u64 * BITS + u64::from(word.trailing_ones()))
    }

    /// The bytes of a chunk.
    pub(super) fn bytes(&self, chunk: u64) -> Range<u64> {
        let start = chunk.saturating_mul(self.chunk).min(self.size);
        start..start.saturating_add(self.chunk).min(self.size)
    }

    /// The chunks that have any of these bytes.
    pub(super) fn touched(&self, offset: u64, len: u64) -> Range<u64> {
        let end = offset.saturating_add(len).min(self.size);
        if offset >= end {
            return 0..0;
        }
        offset / self.chunk..end.div_ceil(self.chunk)
    }

    /// How many bytes from `offset` on are alike, at most `len`, and whether
    /// they are there.
    pub(super) fn run(&self, offset: u64, len: u64) -> (bool, u64) {
        if offset >= self.size {
            return (true, len);
        }
        let first = offset / self.chunk;
        let there = self.has(first);
        let mut end = self.bytes(first).end;
        let mut chunk = first + 1;
        while end < self.size && end - offset < len && self.has(chunk) == there {
            end = self.bytes(chunk).end;
            chunk += 1;
        }
        if there && end == self.size {
            return (true, len);
        }
        (there, len.min(end - offset))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_there_at_first_and_all_at_last() {
        for (size, chunk, count) in [
            (0, 4, 0),
            (1, 4, 1),
            (4, 4, 1),
            (5, 4, 2),
            (1000, 1, 1000),
            (64 * 7, 7, 64),
        ] {
            let mut chunks = Chunks::new(size, chunk);
            let mut bytes = 0;
            for n in 0..count {
                assert_eq!(chunks.missing, count - n);
                assert_eq!(chunks.first_missing(), Some(n));
                bytes += chunks.bytes(n).end - chunks.bytes(n).start;
                chunks.set(n);
                chunks.set(n);
            }
            assert_eq!((bytes, chunks.missing), (size, 0), "{size} by {chunk}");
            assert_eq!(chunks.first_missing(), None);
            assert_eq!(chunks.run(0, 10), (true, 10));
        }
    }

    #[test]
    fn what_is_beyond_is_no_chunk() {
        let mut chunks = Chunks::new(10, 4);
        for n in [3, 63, 64, u64::MAX] {
            chunks.set(n);
        }
        assert_eq!(chunks.missing, 3);
        assert_eq!(chunks.touched(10, 5), 0..0);
        assert_eq!(chunks.touched(9, 5), 2..3);
        assert_eq!(chunks.touched(0, u64::MAX), 0..3);
        assert_eq!(chunks.touched(3, 2), 0..2);
        assert_eq!(chunks.touched(4, 0), 0..0);
        assert_eq!(chunks.run(10, 7), (true, 7));
        assert_eq!(chunks.run(u64::MAX, 7), (true, 7));
        assert_eq!(chunks.run(8, 7), (false, 2));
        chunks.set(2);
        assert_eq!(chunks.run(8, 7), (true, 7));
    }

    /// Against one flag a byte.
    #[test]
    fn runs_are_those_of_single_bytes() {
        let mut seed = 7_u64;
        let mut random = |below: u64| {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (seed >> 33) % below
        };
        for _ in 0..200 {
            let (size, chunk) = (1 + random(600), 1 + random(9));
            let mut chunks = Chunks::new(size, chunk);
            let mut there = vec![false; usize::try_from(size).unwrap()];
            for _ in 0..60 {
                let (offset, len) = (random(size + 5), 1 + random(40));
                for n in chunks.touched(offset, len) {
                    let bytes = chunks.bytes(n);
                    assert!(bytes.start < offset + len && bytes.end > offset);
                    if random(3) == 0 {
                        chunks.set(n);
                        for byte in bytes {
                            there[usize::try_from(byte).unwrap()] = true;
                        }
                    }
                }
                let (is, run) = chunks.run(offset, len);
                assert!((1..=len).contains(&run));
                for byte in offset..offset + run {
                    let byte = there.get(usize::try_from(byte).unwrap());
                    assert_eq!(byte.copied().unwrap_or(true), is);
                }
                let left = there.chunks(usize::try_from(chunk).unwrap());
                assert_eq!(left.filter(|c| !c[0]).count() as u64, chunks.missing);
                let first = there.iter().position(|t| !t).map(|at| at as u64 / chunk);
                assert_eq!(first, chunks.first_missing());
            }
        }
    }
}
