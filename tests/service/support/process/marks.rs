//! The marks of secrets: texts in the tokens, numbers and links of all tests that occur nowhere else.

use tonic::Status;

/// Part of every token of a test.
pub const TOKEN: &str = "Zq9mark";
/// The token that the sandbox accepts.
const SANDBOX_TOKEN: &str = "sandbox-token";

/// The first digits of the phone numbers of the tests.
const NUMBERS: [&str; 3] = ["1555123", "4917099", "100875997589545"];
/// Parts of links. Each link has several of them, so that half a link is found, too.
const LINKS: [&str; 9] =
    ["://pps.", "/v/t61", "?oe=", "&oe=", "oh=01_", "01_Q5Aa", "778899001122", "374498176", "default-avatar"];
/// Messages of Hypersender, and a password in a URL.
const WORDS: [&str; 3] = ["Upstream speaks", "Marked words of upstream", "Zq9password"];

/// The first line with the mark of a token.
pub fn token_in(text: &str) -> Option<&str> {
    line_with(text, [TOKEN, SANDBOX_TOKEN].into_iter().flat_map(forms))
}

/// The first line with any mark.
pub fn any_in(text: &str) -> Option<&str> {
    let coded = [TOKEN, SANDBOX_TOKEN].into_iter().chain(NUMBERS).flat_map(forms);
    line_with(text, coded.chain([&LINKS[..], &WORDS].concat().into_iter().map(str::to_owned)))
}

/// Panics if the message, the metadata or the details of a status contain a mark.
#[track_caller]
pub fn assert_none_in(status: &Status) {
    let text = format!("{status:?} {}", String::from_utf8_lossy(status.details()));
    assert_eq!(any_in(&text), None, "a secret is in a status");
}

/// The mark itself, and its bytes as hexadecimal and as decimal numbers, the forms of a debug output.
fn forms(mark: &str) -> [String; 3] {
    let bytes = |form: fn(u8) -> String| mark.bytes().map(form).collect::<Vec<_>>();
    [mark.to_owned(), bytes(|byte| format!("{byte:02x}")).concat(), bytes(|byte| byte.to_string()).join(", ")]
}

fn line_with(text: &str, marks: impl Iterator<Item = String>) -> Option<&str> {
    let marks: Vec<_> = marks.collect();
    text.lines().find(|line| marks.iter().any(|mark| line.contains(mark)))
}
