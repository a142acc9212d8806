//! A registry in memory that does wrong where a test wants it to.

use crate::images::Image;
use crate::stub::Request;
use capas::store::Digest;
use rustls::{ServerConfig, ServerConnection, StreamOwned};
use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::TcpListener;
use std::sync::{Arc, Mutex};

/// What it was asked.
#[derive(Clone, Debug)]
pub struct Asked {
    /// `GET /path?query`.
    pub what: String,
    pub authorization: Option<String>,
    pub range: Option<String>,
    pub if_range: Option<String>,
    pub content_range: Option<String>,
    pub body: Vec<u8>,
    /// How often the same was asked before.
    pub before: usize,
}

/// An answer.
#[derive(Clone, Debug, Default)]
pub struct Reply {
    /// 0: it hangs up without a word.
    pub status: u16,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
    /// Another length than the body's is said.
    pub length: Option<u64>,
    /// After so many bytes of the body it waits until nobody holds this.
    pub hold: Option<(usize, Arc<Mutex<()>>)>,
    /// The body is repeated until the other side has had enough.
    pub endless: bool,
}

impl Reply {
    pub fn new(status: u16, headers: &[(&str, &str)], body: &[u8]) -> Reply {
        let own = |(k, v): &(&str, &str)| ((*k).to_owned(), (*v).to_owned());
        Reply {
            status,
            headers: headers.iter().map(own).collect(),
            body: body.to_vec(),
            ..Reply::default()
        }
    }
}

/// What lies there: media type and bytes by path.
pub type Content = BTreeMap<String, (String, Vec<u8>)>;

/// An image in a repository under a tag.
pub fn put(content: &mut Content, image: &Image, repository: &str, tag: &str) {
    let kind = image.media_type.to_owned();
    put_top(content, &kind, &image.manifest, repository, tag);
    for (digest, data) in image.blobs() {
        let path = format!("/v2/{repository}/blobs/{digest}");
        let kind = "application/octet-stream".to_owned();
        content.insert(path, (kind, data.to_vec()));
    }
}

/// A manifest or index in a repository under a tag and its digest.
pub fn put_top(content: &mut Content, kind: &str, data: &[u8], repository: &str, tag: &str) {
    let digest = Digest::of(data).to_string();
    for name in [tag, &digest] {
        let path = format!("/v2/{repository}/manifests/{name}");
        content.insert(path, (kind.to_owned(), data.to_vec()));
    }
}

pub struct Served {
    /// `127.0.0.1:PORT`.
    pub host: String,
    asked: Arc<Mutex<Vec<Asked>>>,
}

impl Served {
    /// Serve for the rest of the test. `twist` may answer in place of what
    /// would be right, which it gets.
    pub fn start(
        content: Content,
        twist: impl Fn(&Asked, &Reply) -> Option<Reply> + Send + Sync + 'static,
    ) -> Served {
        Served::speaking(None, content, twist)
    }

    /// The same, with TLS where there is a configuration for it.
    pub fn speaking(
        tls: Option<Arc<ServerConfig>>,
        content: Content,
        twist: impl Fn(&Asked, &Reply) -> Option<Reply> + Send + Sync + 'static,
    ) -> Served {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let host = listener.local_addr().unwrap().to_string();
        let asked = Arc::new(Mutex::new(Vec::new()));
        let shared = Arc::new((content, twist, Arc::clone(&asked)));
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let shared = Arc::clone(&shared);
                let tls = tls.clone();
                std::thread::spawn(move || {
                    let (content, twist, asked) = &*shared;
                    let stream = stream.unwrap();
                    match tls {
                        None => serve(stream, content, twist, asked),
                        Some(config) => {
                            let own = ServerConnection::new(config).unwrap();
                            serve(StreamOwned::new(own, stream), content, twist, asked);
                        }
                    }
                });
            }
        });
        Served { host, asked }
    }

    /// All that it was asked, in order.
    pub fn asked(&self) -> Vec<Asked> {
        self.asked.lock().unwrap().clone()
    }

    /// How often it was asked for that.
    pub fn count(&self, part: &str) -> usize {
        self.asked()
            .iter()
            .filter(|a| a.what.contains(part))
            .count()
    }
}

fn serve(
    mut stream: impl Read + Write,
    content: &Content,
    twist: &impl Fn(&Asked, &Reply) -> Option<Reply>,
    asked: &Mutex<Vec<Asked>>,
) {
    let Some(request) = Request::read(&mut stream) else {
        return;
    };
    let one = {
        let mut all = asked.lock().unwrap();
        let one = Asked {
            authorization: request.header("authorization"),
            range: request.header("range"),
            if_range: request.header("if-range"),
            content_range: request.header("content-range"),
            before: all.iter().filter(|a| a.what == request.what).count(),
            what: request.what,
            body: request.body,
        };
        all.push(one.clone());
        one
    };
    let right = right(content, &one);
    let reply = twist(&one, &right).unwrap_or(right);
    if reply.status == 0 {
        return;
    }
    let mut text = format!("HTTP/1.1 {} X\r\nconnection: close\r\n", reply.status);
    if !reply.endless {
        let length = reply.length.unwrap_or(reply.body.len() as u64);
        text.push_str(&format!("content-length: {length}\r\n"));
    }
    for (name, value) in &reply.headers {
        text.push_str(&format!("{name}: {value}\r\n"));
    }
    text.push_str("\r\n");
    let _ = stream.write_all(text.as_bytes());
    if one.what.starts_with("HEAD ") {
        return;
    }
    let mut body = reply.body.as_slice();
    if let Some((at, gate)) = &reply.hold {
        let (first, rest) = body.split_at(*at);
        let _ = stream.write_all(first).and_then(|()| stream.flush());
        // One that failed lets go as well.
        drop(gate.lock());
        body = rest;
    }
    while stream.write_all(body).is_ok() && reply.endless {}
}

fn right(content: &Content, asked: &Asked) -> Reply {
    let path = asked.what.split(' ').nth(1).unwrap();
    if path == "/v2/" {
        return Reply::new(200, &[], b"{}");
    }
    let Some((kind, data)) = content.get(path) else {
        let code = match path.contains("/manifests/") {
            true => "MANIFEST_UNKNOWN",
            false => "BLOB_UNKNOWN",
        };
        let body = format!(r#"{{"errors":[{{"code":"{code}","message":"it is not here"}}]}}"#);
        return Reply::new(404, &[], body.as_bytes());
    };
    let digest = Digest::of(data).to_string();
    let mut reply = Reply::new(
        200,
        &[("content-type", kind), ("docker-content-digest", &digest)],
        data,
    );
    if let Some(from) = &asked.range {
        let from = from.strip_prefix("bytes=").unwrap();
        let from: usize = from.strip_suffix('-').unwrap().parse().unwrap();
        reply.status = 206;
        let range = format!("bytes {from}-{}/{}", data.len() - 1, data.len());
        reply.headers.push(("content-range".to_owned(), range));
        reply.body = data[from..].to_vec();
    }
    reply
}
