//! What a registry or an archive may ask of us without end.

use crate::accounts::Person;
use crate::faults::{assert_refused, content, sample};
use crate::images::{INDEX, Image, Pack, described, image_for, index, layer, layout};
use crate::served::{Asked, Content, Reply, Served, put, put_top};
use serde_json::{Value, json};

#[test]
fn lists_have_an_end() {
    let page = |size: usize| {
        move |asked: &Asked, _: &Reply| {
            let n = asked.what.len();
            let link = format!("</v2/app/tags/list?n={}>; rel=\"next\"", "1".repeat(n));
            let body = json!({"name": "app", "tags": ["t".repeat(size)]}).to_string();
            Some(Reply::new(200, &[("link", &link)], body.as_bytes()))
        }
    };
    let served = Served::start(Content::new(), page(15 << 20));
    let person = Person::new();
    let done = person.run(&["pull", "-a", &format!("{}/app", served.host)], "");
    assert_refused(&person, &done, "the list has no end");
    assert!(served.asked().len() < 10);
    let served = Served::start(Content::new(), page(17 << 20));
    let done = person.run(&["pull", "-a", &format!("{}/app", served.host)], "");
    assert_refused(&person, &done, "answers with more than 16777216 bytes");
    let served = Served::start(Content::new(), |_, _| {
        let link = "<http://127.0.0.2:1/v2/app/tags/list?n=1>; rel=\"next\"";
        Some(Reply::new(
            200,
            &[("link", link)],
            br#"{"name":"app","tags":["1"]}"#,
        ))
    });
    let done = person.run(&["pull", "-a", &format!("{}/app", served.host)], "");
    assert_refused(&person, &done, "the list goes on at another host");
    // Short names, so that there are more than anybody wants before it is long.
    let names = json!({"name": "app", "tags": vec!["t"; 600_000]}).to_string();
    let served = Served::start(Content::new(), move |asked, _| {
        let link = format!("</v2/app/tags/list?n=1{}>; rel=\"next\"", asked.before);
        Some(Reply::new(200, &[("link", &link)], names.as_bytes()))
    });
    let done = person.run(&["pull", "-a", &format!("{}/app", served.host)], "");
    assert_refused(&person, &done, "the list has no end");
    assert_eq!(served.asked().len(), 2);
}

/// Indexes in indexes, so many, around an image; the outermost last.
fn nested(image: &Image, depth: usize) -> Vec<Vec<u8>> {
    let host = capas::store::document::host_architecture();
    let platform = json!({"os": "linux", "architecture": host});
    let mut all = vec![index(&[(image, platform.clone())])];
    for n in 1..depth {
        let mut entry = described(INDEX, &all[n - 1]);
        entry["platform"] = platform.clone();
        let next = json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": [entry]});
        all.push(next.to_string().into_bytes());
    }
    all
}

#[test]
fn indexes_do_not_refer_to_indexes_without_end() {
    let image = sample();
    for (depth, works) in [(4, true), (5, false)] {
        let mut content = content(&image);
        let indexes = nested(&image, depth);
        for index in &indexes {
            put_top(&mut content, INDEX, index, "app", "2");
        }
        let served = Served::start(content, |_, _| None);
        let person = Person::new();
        let pulled = person.run(&["pull", "-q", &format!("{}/app:2", served.host)], "");
        // The same in a directory.
        let mut blobs: Vec<&[u8]> = image.blobs().into_values().collect();
        blobs.extend(indexes.iter().map(Vec::as_slice));
        let top = described(INDEX, indexes.last().unwrap());
        layout(&person.path("x"), &top, &blobs);
        let other = Person::new();
        let dir = person.path("x").display().to_string();
        let loaded = other.run(&["load", "-q", "-i", &dir], "");
        for (person, done) in [(&person, &pulled), (&other, &loaded)] {
            match works {
                true => assert_eq!((done.code, done.err.as_str()), (0, "")),
                false => assert_refused(person, done, "indexes refer to indexes too deeply"),
            }
        }
    }
}

#[test]
fn not_every_entry_of_an_index_is_looked_into() {
    let own = sample();
    let others: Vec<Image> = (0..16u8)
        .map(|n| image_for("s390x", &[(layer("f", &[n]), Pack::Gzip)]))
        .collect();
    let entry = |image: &Image| described(image.media_type, &image.manifest);
    let mut content = content(&own);
    for image in &others {
        put(&mut content, image, "app", "ignored");
    }
    for (tag, before) in [("near", 15), ("far", 16)] {
        let mut entries: Vec<Value> = others[..before].iter().map(entry).collect();
        entries.push(entry(&own));
        let top = json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": entries});
        put_top(&mut content, INDEX, top.to_string().as_bytes(), "app", tag);
    }
    let served = Served::start(content, |_, _| None);
    let person = Person::new();
    let pull = |tag: &str| person.run(&["pull", "-q", &format!("{}/app:{tag}", served.host)], "");
    let far = pull("far");
    assert_refused(&person, &far, "no matching manifest for linux/");
    assert_eq!(pull("near").code, 0);
}
