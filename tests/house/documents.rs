//! Documents: every cited rule exists, and every link between documents has a target.

use std::{collections::BTreeSet, fs, path::Path};

use super::text::texts;

/// The file with the numbered rules.
const RULES: &str = "docs/rules.md";
/// The numbers of the rules in a document, in order, from headings such as `### Rule 6. Title`.
fn defined(document: &str) -> Vec<usize> {
    let headings = document.lines().filter_map(|line| line.strip_prefix("### Rule "));
    headings.map(|heading| heading.split('.').next().unwrap().parse().unwrap()).collect()
}

/// The rules that a text cites, such as `rule 6` and `rules 5 to 7`, each with its line. A citation may
/// continue in the next line of a comment.
fn cited(text: &str) -> Vec<(usize, usize)> {
    let lines = text.lines().enumerate();
    let mut words = lines
        .flat_map(|(at, line)| {
            let line = line.trim_start().trim_start_matches(['/', '!', '#', '*']);
            line.split_whitespace().map(move |word| (at + 1, word))
        })
        .peekable();
    let mut cited = Vec::new();
    while let Some((line, word)) = words.next() {
        let word = word.trim_start_matches(|letter: char| !letter.is_alphanumeric()).to_ascii_lowercase();
        let several = word == "rules";
        let (mut last, mut range) = (None, false);
        while (several || word == "rule" && last.is_none())
            && let Some((_, next)) = words.peek().copied()
        {
            match next.trim_matches(|letter: char| !letter.is_alphanumeric()) {
                "to" => range = true,
                "and" | "or" => {}
                next => {
                    let Some(number) = number(next) else { break };
                    let first = last.filter(|_| range).map_or(number, |last: usize| last + 1);
                    cited.extend((first..=number).map(|number| (line, number)));
                    (last, range) = (Some(number), false);
                }
            }
            words.next();
            if next.ends_with(['.', ';', ':', ')']) {
                break;
            }
        }
    }
    cited
}

/// The number at the beginning of `word`. A longer number such as `3.4` does not count.
fn number(word: &str) -> Option<usize> {
    let digits = word.find(|letter: char| !letter.is_ascii_digit()).unwrap_or(word.len());
    let (number, rest) = word.split_at(digits);
    let goes_on = rest.starts_with(['.', ',']) || rest.chars().next().is_some_and(char::is_alphanumeric);
    number.parse().ok().filter(|_| !goes_on)
}

#[test]
fn every_rule_that_is_cited_exists() {
    let texts = texts(&["go", "java", "md", "mjs", "proto", "py", "rs", "toml", "ts"]);
    let rules = texts.iter().find(|text| text.path == Path::new(RULES)).expect(RULES);
    let defined = defined(&rules.text);
    assert_eq!(defined, (1..=defined.len()).collect::<Vec<_>>(), "the rules are numbered without a gap");

    let cited = texts.iter().flat_map(|text| cited(&text.text).into_iter().map(move |cited| (text, cited)));
    let cited: Vec<_> = cited.collect();
    let in_code = cited.iter().filter(|(text, _)| text.path.extension().is_some_and(|kind| kind == "rs"));
    assert!(in_code.count() > 3, "citations are not where they were");
    let missing = cited.iter().filter(|(_, (_, number))| !defined.contains(number));
    let missing =
        missing.map(|(text, (line, number))| format!("{}:{line}: rule {number}", text.path.display()));
    assert_eq!(missing.collect::<Vec<_>>(), Vec::<String>::new(), "{RULES} does not have them");
}

#[test]
fn every_link_between_documents_has_a_target() {
    let documents = texts(&["md"]);
    let mut links = 0;
    let mut dead = Vec::new();
    for document in &documents {
        for link in linked(&document.text).into_iter().filter(|link| !link.contains("://")) {
            links += 1;
            let (path, heading) = link.split_once('#').unwrap_or((link, ""));
            let folder = document.path.parent().unwrap();
            let target = if path.is_empty() { document.path.clone() } else { folder.join(path) };
            let target = Path::new(env!("CARGO_MANIFEST_DIR")).join(target);
            let found = match fs::read_to_string(&target) {
                Ok(text) => heading.is_empty() || headings(&text).contains(heading),
                // A folder or an image.
                Err(_) => heading.is_empty() && target.exists(),
            };
            if !found {
                dead.push(format!("{}: {link}", document.path.display()));
            }
        }
    }
    assert!(links > 20, "links are not where they were");
    assert_eq!(dead, Vec::<String>::new());
}

/// The lines of a document that are outside code fences.
fn prose(document: &str) -> impl Iterator<Item = &str> {
    document.split("```").step_by(2).flat_map(str::lines)
}

/// The targets of the links in a document.
fn linked(document: &str) -> Vec<&str> {
    prose(document)
        .flat_map(|line| line.split("](").skip(1))
        .filter_map(|rest| rest.split(')').next())
        .collect()
}

/// The anchors of the headings in a document.
pub fn headings(document: &str) -> BTreeSet<String> {
    let headings = prose(document).filter(|line| line.starts_with('#'));
    let spelt = headings.map(|heading| {
        let letters = heading.trim_start_matches('#').trim().chars().filter_map(|letter| match letter {
            ' ' => Some('-'),
            letter if letter.is_alphanumeric() || "-_".contains(letter) => Some(letter.to_ascii_lowercase()),
            _ => None,
        });
        letters.collect()
    });
    spelt.collect()
}

#[test]
fn citations_are_found_in_every_form() {
    for (text, expected) in [
        ("// as rule 6 says", &[6][..]),
        ("//! Rules 5 to 7, from all", &[5, 6, 7]),
        ("(rule 22)", &[22]),
        ("rules 5, 6 and 9 hold 3 times", &[5, 6, 9]),
        ("# under rule\n# 6.", &[6]),
        ("rule 6's reason, rule 7: that", &[6, 7]),
        ("rule 3, 4 of them", &[3]),
        ("one more rule. 6 of them", &[]),
        ("RFC 9113, 3.4; rule 3.4; rule six; a ruler 6; no rules (Rust)", &[]),
        ("rules 1 and 2. 3 more", &[1, 2]),
    ] {
        let numbers: Vec<_> = cited(text).into_iter().map(|(_, number)| number).collect();
        assert_eq!(numbers, expected, "{text}");
    }
    assert_eq!(cited("first\n// rule\n// 6"), [(2, 6)]);
    assert_eq!(defined("# Rules\n### Rule 1. One\ntext\n### Rule 2. Two: 3"), [1, 2]);
}

#[test]
fn links_and_headings_are_read_as_a_reader_of_markdown_does() {
    let document = "see [a](b.md#c-d), [e](f)\n```sh\n# no heading [g](h)\n```\n## 30 `Drain`, and so on\n";
    assert_eq!(linked(document), ["b.md#c-d", "f"]);
    assert_eq!(headings(document), BTreeSet::from(["30-drain-and-so-on".to_owned()]));
}
