//! One layer from its blob, wherever that comes from, to its tree: one thread reads, hashes and inflates,
//! the other hashes the uncompressed bytes, parses and writes. Layers do not
//! depend on each other here, so several run at once.

use super::digest::{Digest, Hasher};
use super::error::{Context, Error, Result, invalid};
use super::tarball::Reader;
use super::unpack::{Unpacked, Unpacker};
use flate2::bufread::MultiGzDecoder;
use std::fs::File;
use std::io::{BufRead, BufReader, Cursor, Read, Write};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

/// A buffer between the two threads; a whole number of tar blocks.
const BUFFER: usize = 1 << 20;
/// Buffers on the way.
const DEPTH: usize = 8;
/// Nothing honest is compressed more than this, and only what is large matters.
const MAX_RATIO: u64 = 4096;
const RATIO_FROM: u64 = 256 << 20;

/// Bytes that tell how a layer is compressed.
const MAGIC: u64 = 4;

/// How a layer is compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Encoding {
    /// Not at all.
    Plain,
    /// gzip, perhaps of several members.
    Gzip,
    /// zstd, perhaps of several frames.
    Zstd,
}

impl Encoding {
    /// Told from the first bytes, as names and media types are often wrong.
    pub fn of(magic: &[u8]) -> Encoding {
        match magic {
            [0x1f, 0x8b, ..] => Encoding::Gzip,
            [0x28, 0xb5, 0x2f, 0xfd, ..] | [0x50..=0x5f, 0x2a, 0x4d, 0x18, ..] => Encoding::Zstd,
            _ => Encoding::Plain,
        }
    }

    /// The media type of such a layer.
    pub fn media_type(self) -> &'static str {
        match self {
            Encoding::Plain => "application/vnd.oci.image.layer.v1.tar",
            Encoding::Gzip => "application/vnd.oci.image.layer.v1.tar+gzip",
            Encoding::Zstd => "application/vnd.oci.image.layer.v1.tar+zstd",
        }
    }
}

/// What comes out of an encoded stream.
///
/// # Errors
/// When the decoder cannot be made.
pub fn decoder<'a>(
    encoding: Encoding,
    input: impl BufRead + Send + 'a,
) -> std::io::Result<Box<dyn Read + Send + 'a>> {
    Ok(match encoding {
        Encoding::Plain => Box::new(input),
        Encoding::Gzip => Box::new(MultiGzDecoder::new(input)),
        Encoding::Zstd => Box::new(zstd::stream::read::Decoder::with_buffer(input)?),
    })
}

/// A layer's blob.
pub struct Blob<'a> {
    /// Its bytes.
    pub reader: Box<dyn Read + Send + 'a>,
    /// How many there are, or should be.
    pub size: u64,
}

/// One layer to be taken in.
pub struct Job<'a> {
    /// Its blob.
    pub source: Blob<'a>,
    /// What the manifest says of the blob.
    pub expected: Option<(Digest, u64)>,
    /// What the image configuration says of the uncompressed bytes.
    pub diff_id: Digest,
    /// Where the blob is to be kept.
    pub keep: Option<&'a Path>,
    /// Set when another layer failed.
    pub cancel: &'a AtomicBool,
}

/// A layer that was read to its end and is what it claimed to be.
#[derive(Debug)]
pub struct Done {
    /// Digest and size of the blob.
    pub blob: (Digest, u64),
    /// How it is compressed.
    pub encoding: Encoding,
    /// What was unpacked, if it was.
    pub unpacked: Option<Unpacked>,
}

/// Passes on what is read, hashed and kept on the way.
struct Tee<'a> {
    source: Box<dyn Read + Send + 'a>,
    size: u64,
    hasher: Option<Hasher>,
    keep: Option<File>,
}

impl Read for Tee<'_> {
    fn read(&mut self, buf: &mut [u8]) -> std::io::Result<usize> {
        let n = self.source.read(buf)?;
        let data = buf.get(..n).unwrap_or_default();
        if let Some(hasher) = &mut self.hasher {
            hasher.update(data);
        }
        if let Some(keep) = &mut self.keep {
            keep.write_all(data)
                .context(|| "cannot write to the store".to_owned())?;
        }
        Ok(n)
    }
}

type Piece = std::io::Result<Vec<u8>>;

/// Read the blob, check it, keep it, and unpack it with `unpacker`.
///
/// # Errors
/// For a blob or tree that is not what it claims, and when writing fails.
pub fn run(mut job: Job<'_>, unpacker: Option<Unpacker>) -> Result<Done> {
    if let Some((_, size)) = job.expected
        && size != job.source.size
    {
        return invalid(format!(
            "the layer has {} bytes, its descriptor says {size}",
            job.source.size
        ));
    }
    let mut magic = Vec::new();
    let mut source = job.source.reader;
    (&mut source)
        .take(MAGIC)
        .read_to_end(&mut magic)
        .context(|| "cannot read the layer".to_owned())?;
    let encoding = Encoding::of(&magic);
    let keep = match job.keep.take() {
        Some(path) => Some(
            File::options()
                .write(true)
                .create_new(true)
                .open(path)
                .context(|| format!("cannot write {}", path.display()))?,
        ),
        None => None,
    };
    let tee = Tee {
        source: Box::new(Cursor::new(magic).chain(source)),
        size: job.source.size,
        // The blob of a plain layer is what the other thread hashes anyway.
        hasher: (encoding != Encoding::Plain).then(Hasher::default),
        keep,
    };
    let (full_in, full_out) = sync_channel::<Piece>(DEPTH);
    let (empty_in, empty_out) = sync_channel::<Vec<u8>>(DEPTH);
    let cancel = job.cancel;
    let (hashes, result) = std::thread::scope(|scope| {
        let producer = scope.spawn(move || produce(tee, encoding, &full_in, &empty_out, cancel));
        let result = consume(&full_out, &empty_in, unpacker);
        // A producer that waits for room ends when nobody listens.
        drop(full_out);
        (producer.join(), result)
    });
    let (diff, unpacked) = result?;
    let blob = match hashes {
        Ok(Some(blob)) => blob,
        Ok(None) => diff,
        Err(_) => return invalid("the layer's reader failed"),
    };
    if let Some((expected, _)) = job.expected
        && expected != blob.0
    {
        return invalid(format!(
            "the layer's blob has digest {}, its descriptor says {expected}",
            blob.0
        ));
    }
    if diff.0 != job.diff_id {
        return invalid(format!(
            "the layer's content has digest {}, the image says {}",
            diff.0, job.diff_id
        ));
    }
    Ok(Done {
        blob,
        encoding,
        unpacked,
    })
}

/// Send the uncompressed bytes in full buffers, then an empty one. Returns
/// digest and size of the blob if it was hashed here.
fn produce(
    tee: Tee<'_>,
    encoding: Encoding,
    full: &SyncSender<Piece>,
    empty: &Receiver<Vec<u8>>,
    cancel: &AtomicBool,
) -> Option<(Digest, u64)> {
    // The end of the stream is told after the blob's digest is complete, as
    // data after the compressed stream belongs to the blob too.
    let sent = pump(tee, encoding, full, empty, cancel);
    match sent {
        Ok(hash) => {
            let _ = full.send(Ok(Vec::new()));
            hash
        }
        Err(Some(e)) => {
            let _ = full.send(Err(e));
            None
        }
        Err(None) => None,
    }
}

/// `Err(None)`: nobody listens any more.
fn pump(
    tee: Tee<'_>,
    encoding: Encoding,
    full: &SyncSender<Piece>,
    empty: &Receiver<Vec<u8>>,
    cancel: &AtomicBool,
) -> std::result::Result<Option<(Digest, u64)>, Option<std::io::Error>> {
    let size = tee.size;
    let mut tee = BufReader::with_capacity(256 << 10, tee);
    let mut total = 0u64;
    {
        // Plain bytes go from the file to the buffers without a copy between.
        let mut input: Box<dyn Read + Send + '_> = match encoding {
            Encoding::Plain => Box::new(tee.get_mut()),
            _ => decoder(encoding, &mut tee)?,
        };
        loop {
            let mut buf = empty.try_recv().unwrap_or_default();
            buf.resize(BUFFER, 0);
            let mut filled = 0;
            while let Some(rest) = buf.get_mut(filled..).filter(|r| !r.is_empty()) {
                match input.read(rest) {
                    Ok(0) => break,
                    Ok(n) => filled += n,
                    Err(e) if e.kind() == std::io::ErrorKind::Interrupted => {}
                    Err(e) => return Err(Some(e)),
                }
            }
            if filled == 0 {
                break;
            }
            buf.truncate(filled);
            total += filled as u64;
            if cancel.load(Ordering::Relaxed) {
                return Err(None);
            }
            full.send(Ok(buf)).map_err(|_| None)?;
            if total > RATIO_FROM && total / size.max(1) > MAX_RATIO {
                let e = Error::Invalid(format!(
                    "the layer is compressed more than {MAX_RATIO} times, which nothing honest is"
                ));
                return Err(Some(e.into()));
            }
        }
    }
    let _ = std::io::copy(&mut tee, &mut std::io::sink())?;
    let tee = tee.into_inner();
    Ok(tee.hasher.map(Hasher::finish))
}

/// Hash and unpack; returns digest and size of the uncompressed bytes.
fn consume(
    full: &Receiver<Piece>,
    empty: &SyncSender<Vec<u8>>,
    unpacker: Option<Unpacker>,
) -> Result<((Digest, u64), Option<Unpacked>)> {
    let mut hasher = Hasher::default();
    let mut next = |used: Vec<u8>| -> Piece {
        // A buffer more than the pool holds is freed.
        drop(empty.try_send(used));
        match full.recv() {
            Ok(Ok(buf)) => {
                hasher.update(&buf);
                Ok(buf)
            }
            Ok(Err(e)) => Err(e),
            Err(_) => Err(std::io::Error::other("the reader stopped")),
        }
    };
    let unpacked = match unpacker {
        Some(mut unpacker) => {
            let mut reader = Reader::new(&mut next);
            while let Some(member) = reader.member()? {
                unpacker.add(&member, &mut reader)?;
            }
            Some(unpacker.finish()?)
        }
        None => {
            let mut buf = Vec::new();
            loop {
                buf = next(buf).context(|| "cannot read the layer".to_owned())?;
                if buf.is_empty() {
                    break None;
                }
            }
        }
    };
    Ok((hasher.finish(), unpacked))
}
