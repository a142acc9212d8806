//! Proxies that the environment names.

use crate::accounts::Person;
use crate::faults::{content, sample};
use crate::served::Served;
use crate::stub::Request;
use std::io::Write;
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

/// A proxy that connects everybody to one host, whatever is asked for; what was
/// asked for is noted.
fn proxy(to: &str) -> (String, Arc<Mutex<Vec<String>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let asked: Arc<Mutex<Vec<String>>> = Arc::default();
    let (to, noted) = (to.to_owned(), Arc::clone(&asked));
    std::thread::spawn(move || {
        for client in listener.incoming() {
            let mut client = client.unwrap();
            let Some(request) = Request::read(&client) else {
                continue;
            };
            noted.lock().unwrap().push(request.what);
            let server = TcpStream::connect(&to).unwrap();
            client.write_all(b"HTTP/1.1 200 X\r\n\r\n").unwrap();
            let pass = |from: &TcpStream, to: &TcpStream| {
                let (mut from, mut to) = (from.try_clone().unwrap(), to.try_clone().unwrap());
                std::thread::spawn(move || {
                    let _ = std::io::copy(&mut from, &mut to);
                    let _ = to.shutdown(Shutdown::Write);
                });
            };
            pass(&client, &server);
            pass(&server, &client);
        }
    });
    (url, asked)
}

#[test]
fn others_are_reached_by_the_proxy_and_this_machine_is_not() {
    let image = sample();
    let served = Served::start(content(&image), |_, _| None);
    let (url, asked) = proxy(&served.host);
    for variable in [
        "HTTPS_PROXY",
        "https_proxy",
        "HTTP_PROXY",
        "http_proxy",
        "ALL_PROXY",
    ] {
        let person = Person::new();
        let pull = |name: &str, unless: &str| {
            let mut command = person.capas();
            command.env(variable, &url).env("NO_PROXY", unless);
            crate::accounts::finish(command.args(["pull", "-q", "--insecure", name]), "")
        };
        let own = format!("{}/app:1", served.host);
        let done = pull(&own, "");
        assert_eq!((done.code, done.err.as_str()), (0, ""), "{variable}");
        assert!(asked.lock().unwrap().is_empty(), "{variable}");
        // There is no such host but for the proxy.
        let done = pull("registry.invalid/app:1", "");
        assert_eq!((done.code, done.err.as_str()), (0, ""), "{variable}");
        let all = std::mem::take(&mut *asked.lock().unwrap());
        let wanted = [
            "CONNECT registry.invalid:443",
            "CONNECT registry.invalid:80",
        ];
        assert!(
            !all.is_empty() && all.iter().all(|a| wanted.contains(&a.as_str())),
            "{all:?}"
        );
        let done = pull("registry.invalid/app:1", "x,.invalid");
        assert_eq!(done.code, 1);
        assert!(done.err.contains("no such host"), "{done:?}");
        assert!(asked.lock().unwrap().is_empty(), "{variable}");
    }
}
