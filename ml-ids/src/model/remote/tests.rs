//! What servers do to those who ask them for a model.

use std::{
    io::Write as _,
    sync::{Arc, Mutex},
    thread,
    time::Duration,
};

use super::{
    AwsKey, FetchError, Fetched, Fetcher, Mark, Patience, RemoteOptions, S3Options,
    site::{Site, answer},
};
use crate::model::{Secret, Source};

const MAX: u64 = 100_000;

fn fetcher() -> Fetcher {
    let patience = Patience {
        connect: Duration::from_secs(5),
        read: Duration::from_millis(300),
        total: Duration::from_millis(1500),
    };
    Fetcher::new(RemoteOptions { patience, ..RemoteOptions::default() })
}

fn fetch_known(url: &str, known: Option<&Mark>) -> Result<Fetched, FetchError> {
    fetcher().fetch(&url.parse::<Source>().unwrap(), known, MAX, &|_, _| {})
}

fn fetch(url: &str) -> Result<Fetched, FetchError> {
    fetch_known(url, None)
}

fn body(fetched: Fetched) -> (Vec<u8>, Option<Mark>) {
    match fetched {
        Fetched::Bytes { bytes, mark, .. } => (bytes.into_owned(), mark),
        Fetched::Unchanged => panic!("unchanged"),
    }
}

#[test]
fn a_body_without_a_length_is_read_to_its_end_and_counted() {
    let site = Site::saying("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n");
    let counted = Mutex::new(0);
    let source: Source = site.url("/m").parse().unwrap();
    let fetched = fetcher().fetch(&source, None, MAX, &|received, _| *counted.lock().unwrap() = received).unwrap();
    assert_eq!(body(fetched).0, b"abcde");
    assert_eq!(*counted.lock().unwrap(), 5);
}

#[test]
fn an_endless_body_ends_at_the_limit() {
    let endless = |head: &'static str, piece: &'static [u8]| {
        Site::start(move |_, stream| {
            let _ = stream.write_all(head.as_bytes());
            while stream.write_all(piece).is_ok() {}
        })
    };
    for site in [
        endless("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n", b"4\r\nmore\r\n"),
        endless("HTTP/1.1 200 OK\r\n\r\n", b"and more"),
        endless("HTTP/1.1 200 OK\r\ncontent-length: 99999999999999\r\n\r\n", b"and more"),
    ] {
        let error = fetch(&site.url("/m")).unwrap_err();
        assert!(matches!(error, FetchError::TooLarge { limit: MAX, .. }), "{error}");
    }
}

#[test]
fn a_head_without_an_end_is_given_up() {
    let site = Site::start(|_, stream| {
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\n");
        while stream.write_all(b"x-more: and more\r\n").is_ok() {}
    });
    let error = fetch(&site.url("/m")).unwrap_err();
    assert!(error.is_away(), "{error}");
}

#[test]
fn a_body_that_breaks_off_is_no_model() {
    for text in [
        "HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nshort",
        "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nshort\r\n",
        "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n",
    ] {
        let error = fetch(&Site::saying(text).url("/m")).unwrap_err();
        assert!(error.is_away() && error.to_string().contains("broke off"), "{error}");
    }
}

#[test]
fn a_server_that_says_nothing_or_too_little_at_a_time_is_given_up() {
    let silent = Site::start(|_, _| thread::sleep(Duration::from_secs(3)));
    let error = fetch(&silent.url("/m")).unwrap_err();
    assert!(error.is_away() && error.to_string().contains("in time"), "{error}");
    // Each piece comes soon enough, and all of them too late.
    let slow = Site::start(|_, stream| {
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 10000\r\n\r\n");
        while stream.write_all(b"x").is_ok() {
            thread::sleep(Duration::from_millis(50));
        }
    });
    let error = fetch(&slow.url("/m")).unwrap_err();
    assert!(error.is_away(), "{error}");
}

#[test]
fn nobody_there_is_said_so() {
    let gone = Site::saying("").address;
    let error = fetch(&format!("http://{gone}/m")).unwrap_err();
    assert!(error.is_away() && error.to_string().contains("cannot be reached"), "{error}");
    let garbage = Site::saying("220 mail.example ready\r\n");
    assert!(fetch(&garbage.url("/m")).unwrap_err().is_away());
}

#[test]
fn a_web_page_is_no_model() {
    let site = Site::saying(answer("200 OK", "content-type: text/html; charset=utf-8\r\n", b"<html>sign in</html>"));
    let error = fetch(&site.url("/m")).unwrap_err();
    assert!(matches!(error, FetchError::Page { .. }), "{error}");
}

#[test]
fn a_password_goes_to_its_own_host_only() {
    let other = Site::saying(answer("200 OK", "", b"model"));
    let to = other.url("/there");
    let first = Site::start(move |head, stream| {
        let location = if head.starts_with("GET /a ") { "/b".to_owned() } else { to.clone() };
        let _ = stream.write_all(&answer("302 Found", &format!("location: {location}\r\n"), b""));
    });
    let url = first.url("/a").replace("http://", "http://ann:hunter2@");
    assert_eq!(body(fetch(&url).unwrap()).0, b"model");
    let told: Vec<bool> =
        first.heads().iter().map(|head| head.contains("authorization: Basic YW5uOmh1bnRlcjI=")).collect();
    assert_eq!(told, [true, true], "{:?}", first.heads());
    let heads = other.heads();
    assert!(heads.len() == 1 && !heads[0].to_lowercase().contains("authorization"), "{heads:?}");
}

#[test]
fn redirects_in_a_circle_and_to_plain_http_over_a_network_are_not_followed() {
    let circle = Site::saying(answer("302 Found", "location: /m\r\n", b""));
    let error = fetch(&circle.url("/m")).unwrap_err();
    assert!(matches!(error, FetchError::Redirect { .. }), "{error}");
    assert!(circle.heads().len() <= 5, "{} requests", circle.heads().len());
    let plain = Site::saying(answer("302 Found", "location: http://192.0.2.1/m\r\n", b""));
    let error = fetch(&plain.url("/m")).unwrap_err();
    assert!(matches!(&error, FetchError::PlainHttp(_)), "{error}");
    assert!(error.to_string().contains("--model-insecure-http"), "{error}");
    for odd in ["", "location: \r\n", "location: file:///etc/passwd\r\n", "location: m\r\n"] {
        let error = fetch(&Site::saying(answer("301 Moved", odd, b"")).url("/m")).unwrap_err();
        assert!(matches!(error, FetchError::Redirect { .. }), "{odd}: {error}");
    }
}

#[test]
fn a_refusal_is_told_in_the_servers_words_with_what_to_do() {
    let refused = |status, text: &str| fetch(&Site::saying(answer(status, "", text.as_bytes())).url("/m")).unwrap_err();
    let error = refused("404 Not Found", r#"{"message":"no such model"}"#);
    assert!(!error.is_away() && error.to_string().contains("404: no such model"), "{error}");
    let error = refused("503 Service Unavailable", "<html>try later</html>");
    assert!(error.is_away() && error.to_string().contains("answers 503; the server has a fault"), "{error}");
    let error = refused("403 Forbidden", "\u{1b}[2Jgo away");
    assert!(!error.to_string().contains('\u{1b}'), "{error}");
}

#[test]
fn what_has_not_changed_is_not_fetched_again() {
    let site = Site::start(|head, stream| {
        let known = head.contains("if-none-match: \"one\"");
        let status = if known { "304 Not Modified" } else { "200 OK" };
        let _ = stream.write_all(&answer(status, "etag: \"one\"\r\n", if known { b"" } else { b"model" }));
    });
    let (_, mark) = body(fetch(&site.url("/m")).unwrap());
    assert!(matches!(fetch_known(&site.url("/m"), mark.as_ref()).unwrap(), Fetched::Unchanged));
    // One that does not know the header, but gives the tag.
    let simple = Site::saying(answer("200 OK", "etag: \"one\"\r\n", b"model"));
    assert!(matches!(fetch_known(&simple.url("/m"), mark.as_ref()).unwrap(), Fetched::Unchanged));
    // One with a date only.
    let dated = Site::saying(answer("200 OK", "last-modified: Wed, 25 Nov 2026 10:00:00 GMT\r\n", b"model"));
    let (_, mark) = body(fetch(&dated.url("/m")).unwrap());
    assert_eq!(body(fetch_known(&dated.url("/m"), mark.as_ref()).unwrap()).0, b"model");
    assert!(dated.heads()[1].contains("if-modified-since: Wed, 25 Nov 2026"), "{:?}", dated.heads());
}

#[test]
fn a_signed_request_is_not_redirected() {
    let other = Arc::new(Site::saying(answer("200 OK", "", b"model")));
    let to = other.url("/there");
    let s3 = Site::start(move |_, stream| {
        let _ = stream.write_all(&answer("307 Temporary Redirect", &format!("location: {to}\r\n"), b""));
    });
    let key = AwsKey { id: "AKID".to_owned(), secret: Secret::new("hush".to_owned()), session: None };
    let s3_options = S3Options { endpoint: Some(s3.url("").parse().unwrap()), region: None, key: Some(key) };
    let fetcher = Fetcher::new(RemoteOptions { s3: s3_options, ..RemoteOptions::default() });
    let source: Source = "s3://bucket/key".parse().unwrap();
    let error = fetcher.fetch(&source, None, MAX, &|_, _| {}).unwrap_err();
    assert!(matches!(error, FetchError::Redirect { .. }), "{error}");
    assert!(s3.heads()[0].contains("authorization: AWS4-HMAC-SHA256 Credential=AKID/"), "{:?}", s3.heads());
    assert!(other.heads().is_empty());
}

#[test]
fn a_changed_file_is_read_again_and_an_unchanged_one_is_not() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("m.onnx");
    std::fs::write(&path, "one").unwrap();
    let source = Source::File(path.clone());
    let fetch = |known: Option<&Mark>| fetcher().fetch(&source, known, MAX, &|_, _| {}).unwrap();
    let (_, mark) = body(fetch(None));
    assert!(matches!(fetch(mark.as_ref()), Fetched::Unchanged));
    std::fs::write(&path, "three").unwrap();
    assert_eq!(body(fetch(mark.as_ref())).0, b"three");
}
