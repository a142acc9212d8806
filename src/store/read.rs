//! Small files in one piece.

use super::error::{Context, Error, Result, invalid};
use std::fs::File;
use std::io::{ErrorKind, Read};
use std::path::Path;

/// A whole file of at most `max` bytes.
///
/// # Errors
/// [`Error::NotFound`] when it is not there; else when it cannot be read.
pub fn read_file(path: &Path, max: u64) -> Result<Vec<u8>> {
    let say = || format!("cannot read {}", path.display());
    let mut file = match File::open(path) {
        Err(e) if e.kind() == ErrorKind::NotFound => {
            return Err(Error::NotFound(format!("{} is not there", path.display())));
        }
        file => file.context(say)?,
    };
    // Room for all of it at once, and to see the end.
    let meta = file.metadata().context(say)?;
    let room = usize::try_from(meta.len().min(max)).unwrap_or(0) + 1;
    let mut data = vec![0; room];
    let first = loop {
        match file.read(&mut data) {
            Err(e) if e.kind() == ErrorKind::Interrupted => {}
            n => break n.context(say)?,
        }
    };
    data.truncate(first);
    // Where all is there that a file is said to have nobody need ask for more.
    if !meta.is_file() || first as u64 != meta.len() {
        let rest = (max + 1).saturating_sub(first as u64);
        file.take(rest).read_to_end(&mut data).context(say)?;
    }
    if data.len() as u64 > max {
        return invalid(format!("{} is larger than {max} bytes", path.display()));
    }
    Ok(data)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::io::Write;

    #[test]
    fn files_of_all_kinds_are_read_to_their_end() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        for size in [0, 1, 9, 10, 11, 5000] {
            fs::write(&path, vec![b'x'; size]).unwrap();
            match read_file(&path, 10) {
                Ok(data) => assert!(size <= 10 && data == vec![b'x'; size], "{size}"),
                Err(e) => {
                    let text = e.to_string();
                    assert!(
                        size > 10 && text.ends_with("is larger than 10 bytes"),
                        "{text}"
                    );
                }
            }
        }
        // What does not say how long it is.
        let proc = Path::new("/proc/self/limits");
        assert_eq!(read_file(proc, 1 << 20).unwrap(), fs::read(proc).unwrap());
        assert!(read_file(proc, 10).is_err());
        let (reader, mut writer) = std::io::pipe().unwrap();
        let fd = std::os::fd::AsRawFd::as_raw_fd(&reader);
        let pipe = format!("/proc/self/fd/{fd}");
        let written = std::thread::spawn(move || {
            for part in [&b"one "[..], b"two ", b"three"] {
                writer.write_all(part).unwrap();
                std::thread::sleep(std::time::Duration::from_millis(20));
            }
        });
        assert_eq!(read_file(Path::new(&pipe), 100).unwrap(), b"one two three");
        written.join().unwrap();
        assert!(matches!(
            read_file(&dir.path().join("none"), 1),
            Err(Error::NotFound(_))
        ));
        assert!(matches!(read_file(dir.path(), 1), Err(Error::System(..))));
    }
}
