//! A layer's archive without the contents of its files: what it takes to make
//! the identical archive again from the unpacked tree.
//!
//! ```text
//! layers/<hex>.skel   magic, DiffID (32 bytes), length of the archive (u64)
//!                     then compressed with zstd, piece after piece:
//!                       1 u32 bytes          as they stand in the archive
//!                       2 u16 path u64 u64   of the file at that path of the
//!                                            tree, from there, so many bytes
//!                       0                    the end
//! ```
//!
//! Numbers are little-endian. Headers, records, padding and whatever else an
//! archive holds are kept as bytes, so that nothing has to be understood to be
//! written again; only what a regular file of the tree really has is left out.
//! What unpacking dropped, escaped or replaced is therefore here.
//!
//! A skeleton is believed only as far as the digest goes: [`Rebuilt`] ends in
//! an error where its bytes are not those of the DiffID.

mod make;
mod rebuild;

pub use make::make;
pub use rebuild::{Rebuilt, open};

/// The first bytes, with the format's version.
const MAGIC: [u8; 16] = *b"capas-skeleton1\n";
/// Of magic, DiffID and length.
const HEAD: usize = 16 + 32 + 8;
const END: u8 = 0;
const BYTES: u8 = 1;
const FILE: u8 = 2;
/// Bytes that are moved at once.
const STEP: usize = 64 << 10;

#[cfg(test)]
mod tests;
