//! [`Document`]: the page as one file of HTML, and the policy that lets a browser run this script, use this
//! style, and nothing else.

use aws_lc_rs::digest::{SHA256, digest};
use axum::{
    http::{
        HeaderValue,
        header::{CONTENT_SECURITY_POLICY, CONTENT_TYPE},
    },
    response::{IntoResponse, Response},
};
use base64::{Engine, engine::general_purpose::STANDARD};
use bytes::Bytes;

const HTML: &str = include_str!("index.html");
const STYLE: &str = include_str!("page.css");
const SCRIPT: &str = include_str!("page.js");

/// The page, ready to be sent.
pub struct Document {
    html: Bytes,
    policy: HeaderValue,
}

impl Document {
    /// Puts the style and the script into the HTML, and computes the policy from their hashes.
    pub fn new() -> Self {
        let html = HTML.replacen("{style}", STYLE, 1).replacen("{script}", SCRIPT, 1);
        let policy = format!(
            "default-src 'none'; img-src 'self'; connect-src 'self'; script-src '{}'; style-src '{}'; base-uri \
             'none'; form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'",
            hash(SCRIPT),
            hash(STYLE)
        );
        let policy = HeaderValue::try_from(policy).expect("words and hashes may stand in a header");
        Self { html: html.into(), policy }
    }

    /// The answer with the page.
    pub fn answer(&self) -> Response {
        let headers = [
            (CONTENT_TYPE, HeaderValue::from_static("text/html; charset=utf-8")),
            (CONTENT_SECURITY_POLICY, self.policy.clone()),
        ];
        (headers, self.html.clone()).into_response()
    }
}

/// The hash of the text of an element, in the form of a policy.
fn hash(text: &str) -> String {
    format!("sha256-{}", STANDARD.encode(digest(&SHA256, text.as_bytes())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_policy_allows_exactly_the_texts_of_the_page() {
        let document = Document::new();
        let html = std::str::from_utf8(&document.html).unwrap();
        let policy = document.policy.to_str().unwrap();
        for (element, directive) in [("script", "script-src"), ("style", "style-src")] {
            let (_, rest) = html.split_once(&format!("<{element}>")).unwrap();
            let (text, rest) = rest.split_once(&format!("</{element}>")).unwrap();
            assert!(policy.contains(&format!("{directive} '{}'", hash(text))), "{element}");
            assert!(!rest.contains(&format!("<{element}")), "one {element} only");
        }
        // A browser reads a line break of two characters as one, and the hash would be another.
        assert!(!html.contains('\r'));
    }

    #[test]
    fn the_page_needs_nothing_from_elsewhere() {
        let document = Document::new();
        let html = std::str::from_utf8(&document.html).unwrap();
        for forbidden in
            ["src=\"http", "href=\"http", "@import", "url(", " style=\"", " onclick", "innerHTML"]
        {
            assert!(!html.contains(forbidden), "{forbidden}");
        }
    }
}
