//! What the mounted tests share: directory trees as text, fixtures with
//! layers and a mount, a watchdog, and the system calls `std` lacks.

// Each test program uses its own part of these helpers.
#![allow(dead_code)]

mod able;
pub mod fixture;
pub mod flatten;
pub mod live;
pub mod lowers;
pub mod namespace;
pub mod sys;
// The fixture format is also used by other test programs than these.
#[allow(unused_imports)]
pub mod tree;

// Nor do all of them mount.
#[allow(unused_imports)]
pub use able::able_to_mount;

/// The next number of a splitmix64 sequence.
pub fn splitmix(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut z = *state;
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// Bytes `off..off+len` of the endless pattern number `seed`.
pub fn pattern(seed: u64, off: u64, len: usize) -> Vec<u8> {
    let mut out = Vec::with_capacity(len + 16);
    let mut word = off / 8;
    while out.len() < len + 8 {
        let mut state = seed.wrapping_mul(0x1_0000_0001).wrapping_add(word);
        out.extend_from_slice(&splitmix(&mut state).to_le_bytes());
        word += 1;
    }
    let skip = (off % 8) as usize;
    out.drain(..skip);
    out.truncate(len);
    out
}

/// A number that differs when the bytes differ (not a cryptographic one).
#[derive(Clone, Copy)]
pub struct Hash(u64);

impl Hash {
    /// The hash of nothing.
    pub fn new() -> Self {
        Hash(0xcbf2_9ce4_8422_2325)
    }

    /// Takes more bytes in; only the last call may have a length that is not a multiple of 8.
    pub fn update(&mut self, data: &[u8]) {
        let mut h = self.0;
        let mut words = data.chunks_exact(8);
        for w in &mut words {
            let mut b = [0u8; 8];
            b.copy_from_slice(w);
            h = (h ^ u64::from_le_bytes(b)).wrapping_mul(0x2127_599b_f432_5c37);
            h ^= h >> 29;
        }
        for &b in words.remainder() {
            h = (h ^ u64::from(b)).wrapping_mul(0x0100_0000_01b3);
        }
        self.0 = h;
    }

    /// The number.
    pub fn finish(self) -> u64 {
        self.0
    }
}
