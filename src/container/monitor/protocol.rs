//! What a monitor and those attached to its container say to each other: one
//! byte of what it is, then the rest of the message.

use crate::sys::packets::MAX_MESSAGE;

/// Bytes of a stream that one message holds.
pub const CHUNK: usize = MAX_MESSAGE - 1;

/// What is said to a monitor. The first message of a connection is
/// [`Request::Attach`]; without it nothing but the container's end is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Request<'a> {
    /// Which streams are wanted.
    Attach {
        /// What the container writes.
        output: bool,
        /// What it reads comes from here.
        input: bool,
    },
    /// For its standard input.
    Input(&'a [u8]),
    /// No more of that.
    EndOfInput,
    /// Rows and columns of the terminal.
    Size(u16, u16),
    /// The command is to stand still as long as this connection lasts.
    Pause,
}

impl Request<'_> {
    /// As a message.
    pub fn encode(&self) -> Vec<u8> {
        match self {
            Request::Attach { output, input } => vec![b'A', (*output).into(), (*input).into()],
            Request::Input(data) => [b"I", *data].concat(),
            Request::EndOfInput => vec![b'E'],
            Request::Size(rows, columns) => {
                let mut out = vec![b'W'];
                out.extend(rows.to_be_bytes());
                out.extend(columns.to_be_bytes());
                out
            }
            Request::Pause => vec![b'P'],
        }
    }

    /// Of a message; none for one that is not known.
    pub fn decode(message: &[u8]) -> Option<Request<'_>> {
        match message {
            [b'A', output, input] => Some(Request::Attach {
                output: *output != 0,
                input: *input != 0,
            }),
            [b'I', data @ ..] => Some(Request::Input(data)),
            [b'E'] => Some(Request::EndOfInput),
            [b'P'] => Some(Request::Pause),
            [b'W', a, b, c, d] => Some(Request::Size(
                u16::from_be_bytes([*a, *b]),
                u16::from_be_bytes([*c, *d]),
            )),
            _ => None,
        }
    }
}

/// What a monitor says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event<'a> {
    /// From the container's standard output, or its terminal.
    Output(&'a [u8]),
    /// From its standard error.
    Error(&'a [u8]),
    /// Its command runs, and its process is written down.
    Started,
    /// Its command stands still.
    Paused,
    /// Its command could not be started: exit code and why.
    Failed(u8, &'a str),
    /// Something beside the point did not work.
    Warning(&'a str),
    /// It has ended with this code, and everything is written down.
    Exited(u8),
}

impl Event<'_> {
    /// As a message.
    pub fn encode(&self) -> Vec<u8> {
        let text = |kind: &[u8], text: &str| {
            let bytes = text.as_bytes();
            [kind, bytes.get(..CHUNK - 1).unwrap_or(bytes)].concat()
        };
        match self {
            Event::Output(data) => [b"o", *data].concat(),
            Event::Error(data) => [b"e", *data].concat(),
            Event::Started => b"s".to_vec(),
            Event::Paused => b"p".to_vec(),
            Event::Failed(code, why) => text(&[b'f', *code], why),
            Event::Warning(what) => text(b"w", what),
            Event::Exited(code) => vec![b'x', *code],
        }
    }

    /// Of a message; none for one that is not known.
    pub fn decode(message: &[u8]) -> Option<Event<'_>> {
        let text = |bytes| std::str::from_utf8(bytes).unwrap_or("(not to be shown)");
        match message {
            [b'o', data @ ..] => Some(Event::Output(data)),
            [b'e', data @ ..] => Some(Event::Error(data)),
            [b's'] => Some(Event::Started),
            [b'p'] => Some(Event::Paused),
            [b'f', code, why @ ..] => Some(Event::Failed(*code, text(why))),
            [b'w', what @ ..] => Some(Event::Warning(text(what))),
            [b'x', code] => Some(Event::Exited(*code)),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_go_both_ways() {
        for request in [
            Request::Attach {
                output: true,
                input: false,
            },
            Request::Input(b"abc"),
            Request::EndOfInput,
            Request::Size(24, 300),
            Request::Pause,
        ] {
            assert_eq!(Request::decode(&request.encode()), Some(request));
        }
        for event in [
            Event::Output(b"abc"),
            Event::Error(b""),
            Event::Started,
            Event::Paused,
            Event::Failed(127, "nö"),
            Event::Warning("w"),
            Event::Exited(3),
        ] {
            assert_eq!(Event::decode(&event.encode()), Some(event));
        }
        for bad in [&b""[..], b"?", b"W12", b"x", b"s1"] {
            assert_eq!(Request::decode(bad), None);
            assert_eq!(Event::decode(bad), None);
        }
        let long = "x".repeat(100_000);
        assert!(Event::Warning(&long).encode().len() <= MAX_MESSAGE);
    }
}
