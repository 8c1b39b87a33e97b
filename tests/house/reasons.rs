//! The reasons of errors: the code, the proto and `docs/errors.md` have the same ones, with the same gRPC
//! codes.

use std::collections::BTreeSet;

const STATUS: &str = include_str!("../../src/grpc/status.rs");
const PROTO: &str = include_str!("../../proto/hypersender/contact/v1/contact_service.proto");
const ERRORS: &str = include_str!("../../docs/errors.md");

/// A reason that the code gives, and its gRPC code where the code is written next to it.
type Given = (Option<String>, String);

/// The reasons in `src/grpc/status.rs`: the texts in capitals that follow a code in a pair.
fn given(source: &str) -> BTreeSet<Given> {
    let code = source.split("#[cfg(test)]").next().unwrap_or_default();
    let pairs = code.match_indices(", \"").filter_map(|(at, comma)| {
        let (reason, _) = code[at + comma.len()..].split_once('"')?;
        let is_reason = reason.chars().all(|letter| letter.is_ascii_uppercase() || letter == '_');
        let (_, first) = code[..at].rsplit_once('(')?;
        let name = first.strip_prefix("Code::").map(screaming);
        (is_reason && (name.is_some() || first == "code")).then(|| (name, reason.to_owned()))
    });
    pairs.collect()
}

/// `NotFound` as `NOT_FOUND`.
fn screaming(name: &str) -> String {
    let parts = name.chars().flat_map(|letter| [letter.is_uppercase().then_some('_'), Some(letter)]);
    parts.flatten().skip(1).collect::<String>().to_uppercase()
}

/// The code and the reason of each row of a table whose first columns they are.
fn rows(document: &str) -> Vec<(&str, &str)> {
    let rows = document.lines().filter_map(|line| {
        let mut cells = line.strip_prefix("| ")?.split(" | ");
        Some((cells.next()?, cells.next()?))
    });
    rows.filter(|(code, reason)| [code, reason].iter().all(|cell| is_name(cell))).collect()
}

/// The code and the reason of each error in `docs/errors.md`.
pub fn documented() -> Vec<(&'static str, &'static str)> {
    rows(ERRORS)
}

/// The codes and the reasons in the comments of a proto: paragraphs that begin with a code and a colon.
fn paragraphs(proto: &str) -> Vec<(String, String)> {
    let joined = proto.replace("\n  // ", " ");
    let paragraphs = joined.split("\n  //").filter_map(|paragraph| paragraph.trim().split_once(": "));
    let pairs = paragraphs.filter(|(code, _)| is_name(code)).flat_map(|(code, text)| {
        // The next line without a comment ends the paragraph.
        let text = text.lines().next().unwrap_or_default();
        let words = text.split(|letter: char| !letter.is_alphanumeric() && letter != '_');
        words.filter(|word| is_name(word)).map(move |word| (code.to_owned(), word.to_owned()))
    });
    pairs.collect()
}

/// Whether a word is in capitals, like codes and reasons. `HTTP` and `API` are too short.
pub fn is_name(word: &str) -> bool {
    word.len() > 5 && word.chars().all(|letter| letter.is_ascii_uppercase() || letter == '_')
}

#[test]
fn every_reason_is_documented_with_its_code() {
    let given = given(STATUS);
    assert!(given.len() > 20, "{given:?}");
    let (rows, paragraphs) = (rows(ERRORS), paragraphs(PROTO));
    let paragraphs: Vec<_> =
        paragraphs.iter().map(|(code, reason)| (code.as_str(), reason.as_str())).collect();
    for (place, documented) in [("the proto", &paragraphs), ("docs/errors.md", &rows)] {
        let missing = given.iter().filter(|(code, reason)| {
            let has =
                |pair: &(&str, &str)| pair.1 == reason && code.as_ref().is_none_or(|code| code == pair.0);
            !documented.iter().any(has)
        });
        let missing: Vec<_> = missing.collect();
        assert!(missing.is_empty(), "{place} does not have {missing:?}");
    }
}

#[test]
fn every_documented_reason_is_given_with_that_code() {
    let given = given(STATUS);
    let (rows, paragraphs) = (rows(ERRORS), paragraphs(PROTO));
    let paragraphs: Vec<_> =
        paragraphs.iter().map(|(code, reason)| (code.as_str(), reason.as_str())).collect();
    for (place, documented) in [("the proto", paragraphs), ("docs/errors.md", rows)] {
        assert!(documented.len() > 25, "the reasons of {place} are not where they were: {documented:?}");
        let unknown = documented.iter().filter(|(code, reason)| {
            let is = |other: &Given| other.1 == *reason && other.0.as_ref().is_none_or(|name| name == code);
            !given.iter().any(is)
        });
        let unknown: Vec<_> = unknown.collect();
        assert!(unknown.is_empty(), "{place} has reasons that the service does not give: {unknown:?}");
    }
}

#[test]
fn codes_and_reasons_are_found_in_every_form() {
    let code = r#"E::A => (Code::NotFound, "NOT_ON_WHATSAPP"), (code, "TOKEN_BAD"), f("x", "NOT_A_PAIR")
        (Code::Ok, "lower") #[cfg(test)] (Code::Internal, "IN_A_TEST")"#;
    let known = |name: Option<&str>, reason: &str| (name.map(str::to_owned), reason.to_owned());
    let expected = [known(None, "TOKEN_BAD"), known(Some("NOT_FOUND"), "NOT_ON_WHATSAPP")];
    assert_eq!(given(code), BTreeSet::from(expected));
    assert_eq!(
        rows("| code | reason |\n| --- | --- |\n| A_CODE | A_REASON | x |\n"),
        [("A_CODE", "A_REASON")]
    );
    let proto = "\n  // Text.\n  //\n  // A_CODE: ONE_REASON (of HTTP), TWO_REASONS\n  // and more.\n  rpc NO_REASON\n  // B: X\n";
    let pair = |reason: &str| ("A_CODE".to_owned(), reason.to_owned());
    assert_eq!(paragraphs(proto), [pair("ONE_REASON"), pair("TWO_REASONS")]);
}
