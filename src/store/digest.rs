//! Content addresses. A digest is parsed to bytes once; file names are made
//! from the bytes, never from the text that came from outside.

use super::error::{Result, invalid, show};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use sha2::{Digest as _, Sha256};
use std::fmt;

/// A SHA-256 digest.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Digest([u8; 32]);

impl Digest {
    /// `sha256:` and 64 lower-case hex digits, nothing else.
    ///
    /// # Errors
    /// For any other text.
    pub fn parse(text: &str) -> Result<Digest> {
        match text.split_once(':') {
            Some(("sha256", hex)) => Digest::parse_hex(hex),
            Some((algorithm @ ("sha384" | "sha512"), _)) => invalid(format!(
                "digest algorithm {algorithm} is not supported: images are named by sha256 here"
            )),
            _ => invalid(format!("\"{}\" is no digest", show(text.as_bytes()))),
        }
    }

    /// 64 lower-case hex digits.
    ///
    /// # Errors
    /// For any other text.
    pub fn parse_hex(hex: &str) -> Result<Digest> {
        let nibble = |b: u8| match b {
            b'0'..=b'9' => Some(b - b'0'),
            b'a'..=b'f' => Some(b - b'a' + 10),
            _ => None,
        };
        let mut out = [0; 32];
        let (pairs, rest) = hex.as_bytes().as_chunks::<2>();
        let ok = pairs.len() == out.len()
            && rest.is_empty()
            && out.iter_mut().zip(pairs).all(|(o, [high, low])| {
                match (nibble(*high), nibble(*low)) {
                    (Some(high), Some(low)) => {
                        *o = high << 4 | low;
                        true
                    }
                    _ => false,
                }
            });
        if ok {
            Ok(Digest(out))
        } else {
            invalid(format!("\"{}\" is no sha256 digest", show(hex.as_bytes())))
        }
    }

    /// The digest of `data`.
    pub fn of(data: &[u8]) -> Digest {
        Digest(Sha256::digest(data).into())
    }

    /// The 32 bytes.
    pub fn bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// The 64 hex digits.
    pub fn hex(&self) -> String {
        text(&self.digits()).to_owned()
    }

    /// The first 12 hex digits, as people are shown them.
    pub fn short(&self) -> String {
        let mut hex = self.hex();
        hex.truncate(12);
        hex
    }

    /// Lists of images print thousands: so without the machinery of `fmt`.
    fn digits(&self) -> [u8; 64] {
        let digit = |n: u8| if n < 10 { b'0' + n } else { b'a' + n - 10 };
        let mut out = [0; 64];
        for (pair, b) in out.as_chunks_mut().0.iter_mut().zip(self.0) {
            *pair = [digit(b >> 4), digit(b & 15)];
        }
        out
    }

    /// The chain id of a layer on top of a chain.
    pub fn chain(self, layer: Digest) -> Digest {
        Digest::of(format!("{self} {layer}").as_bytes())
    }
}

/// Digits as text.
fn text(digits: &[u8]) -> &str {
    std::str::from_utf8(digits).unwrap_or_default()
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("sha256:")?;
        f.write_str(text(&self.digits()))
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Serialize for Digest {
    fn serialize<S: Serializer>(&self, s: S) -> std::result::Result<S::Ok, S::Error> {
        s.serialize_str(&self.to_string())
    }
}

impl<'de> Deserialize<'de> for Digest {
    fn deserialize<D: Deserializer<'de>>(d: D) -> std::result::Result<Self, D::Error> {
        struct Text;
        impl serde::de::Visitor<'_> for Text {
            type Value = Digest;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a digest")
            }
            fn visit_str<E: serde::de::Error>(self, text: &str) -> std::result::Result<Digest, E> {
                Digest::parse(text).map_err(E::custom)
            }
        }
        d.deserialize_str(Text)
    }
}

/// Hashes what passes and counts it.
#[derive(Clone, Default)]
pub struct Hasher {
    sha: Sha256,
    size: u64,
}

impl Hasher {
    /// Take more bytes.
    pub fn update(&mut self, data: &[u8]) {
        self.sha.update(data);
        self.size += data.len() as u64;
    }

    /// Digest and number of bytes.
    pub fn finish(self) -> (Digest, u64) {
        (Digest(self.sha.finalize().into()), self.size)
    }
}

impl std::io::Write for Hasher {
    fn write(&mut self, data: &[u8]) -> std::io::Result<usize> {
        self.update(data);
        Ok(data.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_digests_are_digests() {
        let hex = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
        let d = Digest::parse(&format!("sha256:{hex}")).unwrap();
        assert_eq!(d, Digest::of(b""));
        assert_eq!(d.hex(), hex);
        assert_eq!(d.short(), "e3b0c44298fc");
        for bad in [
            String::new(),
            hex.to_owned(),
            format!("sha256:{}", hex.to_uppercase()),
            format!("sha256:{hex}0"),
            format!("sha256:../{hex}"),
            "sha256:../../etc/passwd".to_owned(),
            format!("sha512:{hex}{hex}"),
            format!("md5:{hex}"),
        ] {
            assert!(Digest::parse(&bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn chain_ids_follow_the_image_specification() {
        let (a, b) = (Digest::of(b"a"), Digest::of(b"b"));
        assert_eq!(a.chain(b), Digest::of(format!("{a} {b}").as_bytes()));
    }
}
