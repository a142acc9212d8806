//! What the fuzz targets share.

use capas::store::tarball::Reader;
use std::sync::OnceLock;

/// Make the headers of an archive valid again, wherever one seems to be:
/// chance never finds a checksum.
pub fn seal(data: &[u8]) -> Vec<u8> {
    let mut tar = data.to_vec();
    for block in tar.as_chunks_mut::<512>().0 {
        if &block[257..262] == b"ustar" {
            block[148..156].fill(b' ');
            let sum: u32 = block.iter().map(|b| u32::from(*b)).sum();
            block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
        }
    }
    tar
}

/// A reader of an archive that comes in pieces of so many blocks.
pub fn reader(
    tar: &[u8],
    blocks: usize,
) -> Reader<impl FnMut(Vec<u8>) -> std::io::Result<Vec<u8>>> {
    let mut pieces = tar.chunks(blocks * 512);
    Reader::new(move |_| Ok(pieces.next().unwrap_or_default().to_vec()))
}

/// A directory for the whole run.
pub fn scratch() -> &'static std::path::Path {
    static DIR: OnceLock<std::path::PathBuf> = OnceLock::new();
    DIR.get_or_init(|| tempfile::tempdir().expect("a temporary directory").keep())
}
