//! `GET /`: a page for browsers, the old server's greeting for everyone else.

use hyper::{
    HeaderMap, StatusCode,
    header::{ACCEPT, CONTENT_SECURITY_POLICY, HeaderValue, REFERRER_POLICY, VARY},
};
use serde_json::json;

use super::{
    answer::{Answer, json as json_response, typed},
    catalogue::ROUTES,
};

const NAME: &str = "ml-ids";
const VERSION: &str = env!("CARGO_PKG_VERSION");

/// The page loads nothing, runs nothing, and sits in nobody's frame.
const POLICY: &str = "default-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

pub(crate) fn index(headers: &HeaderMap) -> Answer {
    let mut response = if wants_html(headers) {
        let mut page = typed(StatusCode::OK, "text/html; charset=utf-8", page().into_bytes());
        page.headers_mut().insert(CONTENT_SECURITY_POLICY, HeaderValue::from_static(POLICY));
        page.headers_mut().insert(REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
        page
    } else {
        let greeting = json!({ "message": "Inference server is running.", "name": NAME, "version": VERSION });
        json_response(StatusCode::OK, &greeting)
    };
    response.headers_mut().insert(VARY, HeaderValue::from_static("accept"));
    response
}

/// Whether HTML is asked for by name; `*/*`, which every script sends, is not enough.
fn wants_html(headers: &HeaderMap) -> bool {
    headers.get_all(ACCEPT).iter().filter_map(|value| value.to_str().ok()).flat_map(|value| value.split(',')).any(
        |range| {
            let mut parts = range.split(';').map(str::trim);
            let html = parts.next().is_some_and(|media| media.eq_ignore_ascii_case("text/html"));
            let refused = parts.filter_map(|part| part.strip_prefix("q=")).any(|q| q.parse() == Ok(0.0));
            html && !refused
        },
    )
}

fn page() -> String {
    let entries: String = ROUTES
        .iter()
        .map(|route| {
            let (method, path, summary) = (&route.method, route.path, route.summary);
            if method == hyper::Method::GET {
                format!("<li><a href=\"{path}\">{method} {path}</a>: {summary}</li>\n")
            } else {
                format!("<li>{method} {path}: {summary}</li>\n")
            }
        })
        .collect();
    format!(
        "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width\">\n<title>{NAME} {VERSION}</title>\n</head>\n<body>\n\
         <h1>{NAME} {VERSION}</h1>\n<p>Inference server is running.</p>\n<ul>\n{entries}</ul>\n</body>\n</html>\n"
    )
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
}
