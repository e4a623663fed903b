//! The page at `/`: one HTML document with its styles and scripts inside, and the policy that lets nothing else run.
//!
//! There is no build step: [`page`] puts the parts together when the first browser asks. Scripts are one file an idea;
//! together they are one strict-mode function, so that they share names with each other and with nobody else.

#[cfg(test)]
mod words;

use std::{io::Write as _, sync::LazyLock};

use base64::{Engine as _, prelude::BASE64_STANDARD};
use bytes::Bytes;
use flate2::{Compression, write::GzEncoder};
use sha2::{Digest as _, Sha256};

const SKELETON: &str = include_str!("page.html");
const STYLES: [&str; 2] = [include_str!("uplot/uPlot.min.css"), include_str!("page.css")];
/// What draws the charts; its licence is beside it.
const CHARTS: &str = include_str!("uplot/uPlot.iife.min.js");
const SCRIPTS: [&str; 10] = [
    include_str!("script/core.js"),
    include_str!("script/words.js"),
    include_str!("script/api.js"),
    include_str!("script/charts.js"),
    include_str!("script/alerts.js"),
    include_str!("script/detail.js"),
    include_str!("script/flows.js"),
    include_str!("script/health.js"),
    include_str!("script/model.js"),
    include_str!("script/main.js"),
];

/// The page, ready to be sent.
#[derive(Debug)]
pub(crate) struct Page {
    /// The document.
    pub(crate) html: Bytes,
    /// The same, gzip; `None` if it could not be packed.
    pub(crate) packed: Option<Bytes>,
    /// Its entity tag, weak: it holds for both.
    pub(crate) tag: String,
    /// Its `Content-Security-Policy`: the style and the script above by their hashes, requests to this server, images in
    /// the document, and nothing else.
    pub(crate) policy: String,
}

/// The page, put together once.
pub(crate) fn page() -> &'static Page {
    static PAGE: LazyLock<Page> = LazyLock::new(Page::new);
    &PAGE
}

impl Page {
    fn new() -> Self {
        let style = STYLES.concat();
        let script = format!("{CHARTS}\n(() => {{\n\"use strict\";\n{}}})();\n", SCRIPTS.concat());
        let policy = format!(
            "default-src 'none'; script-src '{}'; style-src '{}'; connect-src 'self'; img-src data:; base-uri 'none'; \
             form-action 'none'; frame-ancestors 'none'",
            hashed(&script),
            hashed(&style),
        );
        let html = SKELETON
            .replace("{version}", env!("CARGO_PKG_VERSION"))
            .replace("/*{style}*/", &style)
            .replace("/*{script}*/", &script);
        let tag = Sha256::digest(&html).iter().take(8).map(|byte| format!("{byte:02x}")).collect::<String>();
        Self { packed: packed(html.as_bytes()), html: html.into(), tag: format!("W/\"{tag}\""), policy }
    }
}

/// How a policy names what stands between a pair of tags.
fn hashed(text: &str) -> String {
    format!("sha256-{}", BASE64_STANDARD.encode(Sha256::digest(text)))
}

fn packed(html: &[u8]) -> Option<Bytes> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
    encoder.write_all(html).and_then(|()| encoder.finish()).ok().map(Bytes::from)
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;

    use super::*;

    /// What stands between a pair of tags, once.
    fn between<'a>(html: &'a str, open: &str, close: &str) -> &'a str {
        assert_eq!(html.matches(open).count(), 1, "{open} stands once");
        let (_, rest) = html.split_once(open).unwrap();
        rest.split_once(close).unwrap().0
    }

    #[test]
    fn the_policy_names_the_style_and_the_script_as_they_stand_in_the_document() {
        let page = page();
        let html = std::str::from_utf8(&page.html).unwrap();
        // A browser hashes what it has read, in which line ends are line feeds.
        assert!(!html.contains('\r'));
        for (directive, open, close) in [("script-src", "<script>", "</script>"), ("style-src", "<style>", "</style>")]
        {
            let expected = format!("{directive} '{}'", hashed(between(html, open, close)));
            assert!(page.policy.contains(&expected), "{expected} is not in {}", page.policy);
        }
        assert!(page.policy.starts_with("default-src 'none'; ") && !page.policy.contains("unsafe"));
    }

    #[test]
    fn the_document_is_whole_and_names_nothing_elsewhere() {
        let html = std::str::from_utf8(&page().html).unwrap();
        assert!(html.contains(env!("CARGO_PKG_VERSION")) && html.ends_with("</html>\n"));
        for left in ["{version}", "{style}", "{script}", " style=\"", " onclick=\""] {
            let ours = html.replace(CHARTS, "");
            assert!(!ours.contains(left), "{left}");
        }
        // The names of SVG's and HTML's vocabularies are no addresses.
        let addresses = html.match_indices("http").filter(|(at, _)| {
            let rest = &html[*at..];
            (rest.starts_with("http://") || rest.starts_with("https://"))
                && !rest[4..].trim_start_matches('s').starts_with("://www.w3.org/")
        });
        let addresses: Vec<&str> = addresses.map(|(at, _)| &html[at..at + 60]).collect();
        assert!(
            addresses.iter().all(|address| address.starts_with("https://github.com/leeoniya/uPlot")),
            "{addresses:?}"
        );
    }

    #[test]
    fn gzip_holds_the_same_and_is_small() {
        let page = page();
        let mut unpacked = Vec::new();
        let packed = page.packed.as_ref().unwrap();
        flate2::read::GzDecoder::new(&**packed).read_to_end(&mut unpacked).unwrap();
        assert!(unpacked == page.html);
        assert!(packed.len() < 64 << 10, "{} bytes", packed.len());
    }

    #[test]
    fn the_vendored_files_are_those_that_their_note_names() {
        let note = include_str!("uplot/README.md");
        for text in [CHARTS, STYLES[0]] {
            let sum: String = Sha256::digest(text).iter().map(|byte| format!("{byte:02x}")).collect();
            assert!(note.contains(&sum), "{sum}");
        }
    }
}
