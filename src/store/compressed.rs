//! Archives that people have compressed in one of their ways: those of layers,
//! and bzip2 and xz.

use super::pipeline::{Encoding, decoder};
use bzip2::bufread::MultiBzDecoder;
use lzma_rust2::XzReader;
use std::io::{BufRead, BufReader, Cursor, Read, Result};

const XZ: &[u8] = b"\xfd7zXZ\0";
const BZIP2: &[u8] = b"BZh";
/// Bytes that tell how something is compressed.
const MAGIC: u64 = 6;
/// What xz may take to decode, in KiB: its own programs ask for a quarter of it.
const XZ_MEMORY: u32 = 256 << 10;

/// Is something compressed that begins with these bytes.
pub fn is_compressed(magic: &[u8]) -> bool {
    is_foreign(magic) || Encoding::of(magic) != Encoding::Plain
}

/// Is it compressed in a way that layers are not.
pub fn is_foreign(magic: &[u8]) -> bool {
    magic.starts_with(XZ) || magic.starts_with(BZIP2)
}

/// What a stream begins with, and all of it.
///
/// # Errors
/// When it cannot be read.
pub fn begin<'a>(mut stream: impl Read + Send + 'a) -> Result<(Vec<u8>, impl BufRead + Send + 'a)> {
    let mut magic = Vec::new();
    // A pipe may give it byte by byte.
    (&mut stream).take(MAGIC).read_to_end(&mut magic)?;
    let whole = Cursor::new(magic.clone()).chain(stream);
    Ok((magic, BufReader::with_capacity(1 << 20, whole)))
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
        magic if magic.starts_with(XZ) => {
            Ok(Box::new(XzReader::new_mem_limit(input, true, XZ_MEMORY)))
        }
        magic if magic.starts_with(BZIP2) => Ok(Box::new(MultiBzDecoder::new(input))),
        magic => decoder(Encoding::of(magic), input),
    }
}
