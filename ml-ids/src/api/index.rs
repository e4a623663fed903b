//! `GET /`: the page for browsers, the old server's greeting for everyone else.

use hyper::{
    HeaderMap, StatusCode,
    header::{
        ACCEPT, ACCEPT_ENCODING, CACHE_CONTROL, CONTENT_ENCODING, CONTENT_SECURITY_POLICY, ETAG, HeaderName,
        HeaderValue, REFERRER_POLICY, VARY,
    },
};
use serde_json::json;

use super::{
    answer::{Answer, json as json_response, typed},
    content::Content,
    fixed::{is_known, unchanged},
};
use crate::page::page;

const NAME: &str = "ml-ids";
const VERSION: &str = env!("CARGO_PKG_VERSION");

pub(crate) fn index(headers: &HeaderMap) -> Answer {
    let mut response = if wants_html(headers) {
        html(headers)
    } else {
        let greeting = json!({ "message": "Inference server is running.", "name": NAME, "version": VERSION });
        json_response(StatusCode::OK, &greeting)
    };
    response.headers_mut().insert(VARY, HeaderValue::from_static("accept, accept-encoding"));
    response
}

/// Whether HTML is asked for by name; `*/*`, which every script sends, is not enough.
pub(super) fn wants_html(headers: &HeaderMap) -> bool {
    takes(headers, ACCEPT, "text/html")
}

/// The page, as text or gzip, or 304 for a browser that has it.
fn html(headers: &HeaderMap) -> Answer {
    let page = page();
    let mut answer = if is_known(headers, &page.tag) {
        unchanged()
    } else if let Some(packed) = page.packed.as_ref().filter(|_| takes(headers, ACCEPT_ENCODING, "gzip")) {
        let mut answer = typed(StatusCode::OK, MEDIA, Content::Whole(packed.clone()));
        answer.headers_mut().insert(CONTENT_ENCODING, HeaderValue::from_static("gzip"));
        answer
    } else {
        typed(StatusCode::OK, MEDIA, Content::Whole(page.html.clone()))
    };
    let own = [(ETAG, &*page.tag), (CONTENT_SECURITY_POLICY, &*page.policy)];
    for (name, value) in own.into_iter().chain(SENT_ALONG) {
        if let Ok(value) = HeaderValue::from_str(value) {
            answer.headers_mut().insert(name, value);
        }
    }
    answer
}

const MEDIA: &str = "text/html; charset=utf-8";
/// It may be kept, but another version of the program may answer next time; and whoever is asked for something from it
/// does not learn where the sensor is.
const SENT_ALONG: [(HeaderName, &str); 2] = [(CACHE_CONTROL, "no-cache"), (REFERRER_POLICY, "no-referrer")];

/// Whether a header that lists what is taken names `wanted`, and not as what is refused.
fn takes(headers: &HeaderMap, header: HeaderName, wanted: &str) -> bool {
    let values = headers.get_all(header).into_iter().filter_map(|value| value.to_str().ok());
    values.flat_map(|value| value.split(',')).any(|range| {
        let mut parts = range.split(';').map(str::trim);
        let is_named = parts.next().is_some_and(|name| name.eq_ignore_ascii_case(wanted));
        let refused = parts.filter_map(|part| part.strip_prefix("q=")).any(|q| q.parse() == Ok(0.0));
        is_named && !refused
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_who_names_html_gets_the_page() {
        let wants =
            |accept: &'static str| wants_html(&HeaderMap::from_iter([(ACCEPT, HeaderValue::from_static(accept))]));
        assert!(wants("text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"));
        assert!(!wants("*/*"));
        assert!(!wants("application/json"));
        assert!(!wants("text/html;q=0, application/json"));
        assert!(!wants_html(&HeaderMap::new()));
    }

    fn asked(fields: &[(HeaderName, &'static str)]) -> Answer {
        index(&fields.iter().map(|(name, value)| (name.clone(), HeaderValue::from_static(value))).collect())
    }

    #[test]
    fn the_page_comes_packed_for_who_takes_it_and_not_again_for_who_has_it() {
        let plain = asked(&[(ACCEPT, "text/html")]);
        assert_eq!(plain.headers()["content-type"], MEDIA);
        assert_eq!(plain.headers()["x-content-type-options"], "nosniff");
        assert_eq!(plain.headers()["cache-control"], "no-cache");
        assert!(!plain.headers().contains_key(CONTENT_ENCODING));
        let packed = asked(&[(ACCEPT, "text/html"), (ACCEPT_ENCODING, "br, gzip")]);
        assert_eq!(packed.headers()[CONTENT_ENCODING], "gzip");
        let refused = asked(&[(ACCEPT, "text/html"), (ACCEPT_ENCODING, "gzip;q=0")]);
        assert!(!refused.headers().contains_key(CONTENT_ENCODING));
        let tag = page().tag.as_str();
        let again = asked(&[(ACCEPT, "text/html"), (hyper::header::IF_NONE_MATCH, tag)]);
        assert_eq!((again.status(), &again.headers()[ETAG]), (StatusCode::NOT_MODIFIED, &plain.headers()[ETAG]));
        assert!(again.headers().contains_key(CONTENT_SECURITY_POLICY));
        assert_eq!(asked(&[]).headers()["content-type"], "application/json");
    }
}
