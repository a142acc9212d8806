//! Sockets of this machine that carry messages whole (`SOCK_SEQPACKET`), and
//! descriptors handed over by others.
//!
//! The address of a socket holds few bytes, a path may have thousands: names
//! are given relative to an open directory and go through `/proc/self/fd`.

use super::{Errno, Result};
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendFlags, SocketAddrUnix,
    SocketFlags, SocketType,
};
use std::io::IoSliceMut;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

/// No message is longer.
pub const MAX_MESSAGE: usize = 32 << 10;

/// One end of a connection. It never waits.
#[derive(Debug)]
pub struct Packets(OwnedFd);

/// What was received.
#[derive(Debug, PartialEq, Eq)]
pub enum Received {
    /// A message of that length.
    Message(usize),
    /// Nothing yet.
    Nothing,
    /// The other end is gone.
    End,
}

impl Packets {
    /// Both ends of a new connection.
    ///
    /// # Errors
    /// As socketpair(2).
    pub fn pair() -> Result<(Packets, Packets)> {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let kind = SocketType::SEQPACKET;
        let (a, b) = rustix::net::socketpair(AddressFamily::UNIX, kind, flags, None)?;
        Ok((Packets(a), Packets(b)))
    }

    /// Whoever listens at `name` in `dir`.
    ///
    /// # Errors
    /// As connect(2).
    pub fn connect(dir: impl AsFd, name: &str) -> Result<Packets> {
        let socket = socket(SocketType::SEQPACKET)?;
        rustix::net::connect(&socket, &address(&dir, name)?)?;
        rustix::io::ioctl_fionbio(&socket, true)?;
        Ok(Packets(socket))
    }

    /// A connection that was handed to this process.
    pub fn from_fd(fd: OwnedFd) -> Packets {
        Packets(fd)
    }

    /// For handing it to a child.
    pub fn into_fd(self) -> OwnedFd {
        self.0
    }

    /// Send a message whole; false when the other end is behind.
    ///
    /// # Errors
    /// `EPIPE` or `ECONNRESET` when nobody is there any more.
    pub fn send(&self, message: &[u8]) -> Result<bool> {
        match rustix::net::send(&self.0, message, SendFlags::NOSIGNAL) {
            Ok(_) => Ok(true),
            Err(Errno::AGAIN | Errno::INTR | Errno::NOBUFS) => Ok(false),
            Err(e) => Err(e),
        }
    }

    /// The next message.
    ///
    /// # Errors
    /// As recv(2).
    pub fn receive(&self, buf: &mut [u8]) -> Result<Received> {
        let mut receive = || rustix::net::recv(&self.0, &mut *buf, RecvFlags::empty());
        // One who left without reading all that we sent is told of once; what
        // it had said before is still there.
        let received = match receive() {
            Err(Errno::CONNRESET) => receive(),
            other => other,
        };
        match received {
            Ok((0, _)) | Err(Errno::CONNRESET) => Ok(Received::End),
            Ok((n, _)) => Ok(Received::Message(n)),
            Err(Errno::AGAIN | Errno::INTR) => Ok(Received::Nothing),
            Err(e) => Err(e),
        }
    }
}

impl AsFd for Packets {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// Where connections come in.
#[derive(Debug)]
pub struct Listener(OwnedFd);

impl Listener {
    /// Listen for messages at `name` in `dir`, which must not exist.
    ///
    /// # Errors
    /// As bind(2).
    pub fn packets(dir: impl AsFd, name: &str) -> Result<Listener> {
        Listener::bind(dir, name, SocketType::SEQPACKET)
    }

    /// Listen for whoever has a descriptor to hand over.
    ///
    /// # Errors
    /// As bind(2).
    pub fn descriptors(dir: impl AsFd, name: &str) -> Result<Listener> {
        Listener::bind(dir, name, SocketType::STREAM)
    }

    fn bind(dir: impl AsFd, name: &str, kind: SocketType) -> Result<Listener> {
        let socket = socket(kind)?;
        rustix::net::bind(&socket, &address(&dir, name)?)?;
        rustix::net::listen(&socket, 16)?;
        rustix::io::ioctl_fionbio(&socket, true)?;
        Ok(Listener(socket))
    }

    /// The next connection, if there is one.
    ///
    /// # Errors
    /// As accept(2).
    pub fn accept(&self) -> Result<Option<Packets>> {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        match rustix::net::accept_with(&self.0, flags) {
            Ok(socket) => Ok(Some(Packets(socket))),
            Err(Errno::AGAIN | Errno::INTR | Errno::CONNABORTED) => Ok(None),
            Err(e) => Err(e),
        }
    }

    /// The descriptor that the first caller hands over; it has called already.
    ///
    /// # Errors
    /// `EAGAIN` when nobody has called; `EBADMSG` when there was no descriptor.
    pub fn receive_descriptor(&self) -> Result<OwnedFd> {
        let socket = rustix::net::accept_with(&self.0, SocketFlags::CLOEXEC)?;
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let mut data = [0; 256];
        let flags = RecvFlags::CMSG_CLOEXEC;
        rustix::net::recvmsg(
            &socket,
            &mut [IoSliceMut::new(&mut data)],
            &mut control,
            flags,
        )?;
        let mut found = None;
        for message in control.drain() {
            if let RecvAncillaryMessage::ScmRights(fds) = message {
                found = found.or(fds.into_iter().next());
            }
        }
        found.ok_or(Errno::BADMSG)
    }
}

impl AsFd for Listener {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

fn socket(kind: SocketType) -> Result<OwnedFd> {
    rustix::net::socket_with(AddressFamily::UNIX, kind, SocketFlags::CLOEXEC, None)
}

fn address(dir: &impl AsFd, name: &str) -> Result<SocketAddrUnix> {
    let dir = dir.as_fd().as_raw_fd();
    SocketAddrUnix::new(format!("/proc/self/fd/{dir}/{name}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_arrive_whole_over_a_path_of_any_length() {
        let tmp = tempfile::tempdir().unwrap();
        let mut deep = tmp.path().to_owned();
        for _ in 0..10 {
            deep.push("a-directory-with-quite-a-long-name");
        }
        std::fs::create_dir_all(&deep).unwrap();
        let dir = std::fs::File::open(&deep).unwrap();
        let listener = Listener::packets(&dir, "s").unwrap();
        assert!(listener.accept().unwrap().is_none());
        let client = Packets::connect(&dir, "s").unwrap();
        let server = listener.accept().unwrap().unwrap();
        let mut buf = [0; 16];
        assert_eq!(server.receive(&mut buf).unwrap(), Received::Nothing);
        assert!(client.send(b"one").unwrap() && client.send(b"two").unwrap());
        assert_eq!(server.receive(&mut buf).unwrap(), Received::Message(3));
        assert_eq!(&buf[..3], b"one");
        assert_eq!(server.receive(&mut buf).unwrap(), Received::Message(3));
        // Last words are heard, even of one who did not listen.
        assert!(server.send(b"unread").unwrap() && client.send(b"last").unwrap());
        drop(client);
        assert_eq!(server.receive(&mut buf).unwrap(), Received::Message(4));
        assert_eq!(server.receive(&mut buf).unwrap(), Received::End);
        assert!(server.send(b"x").is_err());
    }
}
