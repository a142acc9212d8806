//! A server that answers what a test says.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpListener;
use std::sync::{Arc, Mutex};

/// What it was asked.
#[derive(Clone, Debug)]
pub struct Asked {
    /// `GET /path?query`.
    pub what: String,
    pub authorization: Option<String>,
}

/// What it answers: a status, headers, a body.
pub type Answer = (u16, Vec<(&'static str, String)>, String);

pub struct Stub {
    /// `127.0.0.1:PORT`.
    pub host: String,
    asked: Arc<Mutex<Vec<Asked>>>,
}

impl Stub {
    /// Serve for the rest of the test. `answer` gets the own host too.
    pub fn start(answer: impl Fn(&str, &Asked) -> Answer + Send + Sync + 'static) -> Stub {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let host = listener.local_addr().unwrap().to_string();
        let asked = Arc::new(Mutex::new(Vec::new()));
        let stub = Stub {
            host: host.clone(),
            asked: Arc::clone(&asked),
        };
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let mut stream = stream.unwrap();
                let Some(request) = Request::read(&stream) else {
                    continue;
                };
                let one = Asked {
                    authorization: request.header("authorization"),
                    what: request.what,
                };
                let (status, headers, body) = answer(&host, &one);
                asked.lock().unwrap().push(one);
                let mut text = format!(
                    "HTTP/1.1 {status} X\r\nconnection: close\r\ncontent-length: {}\r\n",
                    body.len()
                );
                for (name, value) in headers {
                    text.push_str(&format!("{name}: {value}\r\n"));
                }
                let _ = stream.write_all(format!("{text}\r\n{body}").as_bytes());
            }
        });
        stub
    }

    /// All that it was asked, in order.
    pub fn asked(&self) -> Vec<Asked> {
        self.asked.lock().unwrap().clone()
    }
}

/// A request as it comes over a connection.
pub struct Request {
    /// `GET /path?query`.
    pub what: String,
    headers: String,
    pub body: Vec<u8>,
}

impl Request {
    /// The whole request; none where nothing comes, or what is none.
    pub fn read(stream: impl Read) -> Option<Request> {
        let mut lines = BufReader::new(stream);
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            if lines.read_line(&mut head).unwrap_or(0) == 0 {
                return None;
            }
        }
        let (what, headers) = head.split_once(" HTTP/1.1\r\n")?;
        let mut request = Request {
            what: what.to_owned(),
            headers: headers.to_owned(),
            body: Vec::new(),
        };
        let length = request.header("content-length");
        request.body = vec![0; length.map_or(0, |l| l.parse().unwrap())];
        lines.read_exact(&mut request.body).ok()?;
        Some(request)
    }

    pub fn header(&self, name: &str) -> Option<String> {
        self.headers.lines().find_map(|line| {
            let (key, value) = line.split_once(": ")?;
            key.eq_ignore_ascii_case(name).then(|| value.to_owned())
        })
    }
}
