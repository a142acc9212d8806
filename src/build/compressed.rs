//! Archives that people have compressed in one of the ways that `ADD` knows: those
//! of layers, and bzip2 and xz.

use crate::store::pipeline::{Encoding, decoder};
use bzip2::bufread::MultiBzDecoder;
use lzma_rust2::XzReader;
use std::io::{BufRead, Read, Result};

const XZ: &[u8] = b"\xfd7zXZ\0";
const BZIP2: &[u8] = b"BZh";

/// Is something compressed that begins with these bytes.
pub fn is_compressed(magic: &[u8]) -> bool {
    magic.starts_with(XZ) || magic.starts_with(BZIP2) || Encoding::of(magic) != Encoding::Plain
}

/// What a stream holds that begins with `magic`.
///
/// # Errors
/// When the decoder cannot be made.
pub fn plain<'a>(
    magic: &[u8],
    input: impl BufRead + Send + 'a,
) -> Result<Box<dyn Read + Send + 'a>> {
    match magic {
        magic if magic.starts_with(XZ) => Ok(Box::new(XzReader::new(input, true))),
        magic if magic.starts_with(BZIP2) => Ok(Box::new(MultiBzDecoder::new(input))),
        magic => decoder(Encoding::of(magic), input),
    }
}
