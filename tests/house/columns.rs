//! Comments are at most as wide as the code. The formatters wrap code only, so a test checks the comments.

use super::text::texts;

/// The `max_width` of rustfmt.
const COLUMNS_MAX: usize = 110;
/// The width of a tab, for Go and make.
const TAB: usize = 4;

/// The lines of a file that are comments or, in Python, part of a text in triple quotes. Each line comes with
/// its number.
fn comments<'a>(text: &'a str, extension: &str) -> Vec<(usize, &'a str)> {
    let marks: &[_] = match extension {
        "rs" | "go" | "proto" => &["//"],
        // A line of a comment that describes a declaration begins with an asterisk.
        "java" | "mjs" | "ts" => &["//", "/*", "*"],
        _ => &["#"],
    };
    let mut in_quotes = false;
    let lines = text.lines().enumerate().filter(|(_, line)| {
        let was_in_quotes = in_quotes;
        let is_marked = marks.iter().any(|mark| line.trim_start().starts_with(mark));
        let quotes = line.matches("\"\"\"").count();
        in_quotes ^= extension == "py" && quotes % 2 == 1;
        let is_docstring = extension == "py" && line.trim_start().starts_with("\"\"\"");
        is_marked || is_docstring || was_in_quotes
    });
    lines.map(|(at, line)| (at + 1, line)).collect()
}

fn columns(line: &str) -> usize {
    line.chars().map(|letter| if letter == '\t' { TAB } else { 1 }).sum()
}

#[test]
fn comments_fit_the_width_of_the_code() {
    let texts = texts(&["", "go", "java", "mjs", "proto", "py", "rs", "toml", "ts", "yaml"]);
    assert!(texts.len() > 200, "the files are not where they were: {}", texts.len());
    let wide = texts.iter().flat_map(|text| {
        let comments = comments(&text.text, text.extension()).into_iter();
        let wide = comments.filter(|(_, line)| columns(line) > COLUMNS_MAX);
        wide.map(move |(at, line)| format!("{}:{at}: {} columns", text.path.display(), columns(line)))
    });
    let wide: Vec<_> = wide.collect();
    assert!(wide.is_empty(), "comments with more than {COLUMNS_MAX} columns:\n{}", wide.join("\n"));
}

#[test]
fn comments_are_found_in_every_language() {
    let found = |text, extension| comments(text, extension).into_iter().map(|(at, _)| at).collect::<Vec<_>>();
    assert_eq!(found("//! a\ncode // b\n    /// c", "rs"), [1, 3]);
    assert_eq!(found("code\n# a\n\t# b", ""), [2, 3]);
    assert_eq!(found("\"\"\"a\nb\n\"\"\"\ncode\n# c\n    \"\"\"d\"\"\"\ncode", "py"), [1, 2, 3, 5, 6]);
    assert_eq!(found("/**\n * a\n */\ncode /* b */\n  // c", "ts"), [1, 2, 3, 5]);
    assert_eq!(columns("\t// ä"), 8);
}
