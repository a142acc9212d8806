//! Bytes that are checked while they are read.

use super::digest::{Digest, Hasher};
use super::error::Error;
use std::io::Read;

/// Passes on what it reads; at the end it is an error if the bytes were not
/// those of the digest. Who does not read to the end knows nothing.
pub struct Verified<R> {
    inner: R,
    hasher: Option<Hasher>,
    digest: Digest,
    failed: bool,
    /// What to say of other bytes.
    wrong: String,
}

impl<R: Read> Verified<R> {
    /// Read `inner`, which must have that digest; else the error is `wrong`.
    pub fn new(inner: R, digest: Digest, wrong: String) -> Self {
        Verified {
            inner,
            hasher: Some(Hasher::default()),
            digest,
            failed: false,
            wrong,
        }
    }
}

impl<R: Read> Read for Verified<R> {
    fn read(&mut self, buf: &mut [u8]) -> std::io::Result<usize> {
        let n = self.inner.read(buf)?;
        if let Some(hasher) = &mut self.hasher {
            hasher.update(buf.get(..n).unwrap_or_default());
        }
        if n == 0
            && !buf.is_empty()
            && let Some(hasher) = self.hasher.take()
        {
            self.failed = hasher.finish().0 != self.digest;
        }
        // Whoever reads on after the end is told again.
        match n == 0 && self.failed {
            true => Err(Error::Invalid(self.wrong.clone()).into()),
            false => Ok(n),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wrong_bytes_end_in_an_error() {
        let read = |data: &[u8]| {
            let mut out = Vec::new();
            Verified::new(data, Digest::of(b"right"), "wrong".to_owned())
                .read_to_end(&mut out)
                .map(|_| out)
        };
        assert_eq!(read(b"right").unwrap(), b"right");
        assert!(read(b"write").is_err());
        assert!(read(b"").is_err());
    }
}
