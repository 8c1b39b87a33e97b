//! [`Source`]: a source file without comments, string literals and tests, and with all of its paths.

/// A path from the root of the crate: `["stack", "cache", "Serve"]`.
pub type Names = Vec<String>;

/// One file.
#[derive(Clone, Debug)]
pub struct Source {
    /// The path below `src`, such as `stack/cache.rs`.
    pub name: String,
    /// The number of lines before the tests.
    pub lines: usize,
    /// The code before the tests.
    pub code: String,
    /// The path of the module.
    pub module: Names,
    /// The paths into this crate that begin with `crate::`, `self::` or `super::`, and the re-exports of
    /// children.
    pub paths: Vec<Named>,
    /// The child modules that are declared for tests only.
    pub tests: Vec<Names>,
}

/// A path in a source.
#[derive(Clone, Debug, PartialEq)]
pub struct Named {
    pub path: Names,
    /// Whether the path is in a `pub use`, which makes it available here.
    pub passed_on: bool,
}

impl Source {
    pub fn new(name: &str, text: &str) -> Self {
        let stem = name.strip_suffix(".rs").unwrap_or(name);
        let module: Names = match stem {
            "lib" => Vec::new(),
            stem => stem.split('/').map(str::to_owned).collect(),
        };
        let (code, tests) = without_tests(&bare(text), &module);
        let paths = paths(&code, &module);
        Self { name: name.to_owned(), lines: code.lines().count(), code, module, paths, tests }
    }

    /// Whether the code contains `word` as a whole word.
    pub fn has_word(&self, word: &str) -> bool {
        words(&self.code, word).next().is_some()
    }
}

/// The code before the tests, without the declarations of children for tests only, and those children.
fn without_tests(code: &str, module: &[String]) -> (String, Vec<Names>) {
    let mut parts = code.split("#[cfg(test)]");
    let mut kept = parts.next().unwrap_or_default().to_owned();
    let mut tests = Vec::new();
    for part in parts {
        let part = part.trim_start();
        let item =
            ["pub ", "pub(super) "].into_iter().find_map(|seen| part.strip_prefix(seen)).unwrap_or(part);
        let declared = item.strip_prefix("mod ").and_then(|rest| rest.split_once(';'));
        match declared {
            Some((name, rest)) if name.chars().all(is_name) => {
                tests.push([module, &[name.to_owned()]].concat());
                kept.push_str(rest);
            }
            _ => break,
        }
    }
    (kept, tests)
}

fn is_name(character: char) -> bool {
    character.is_alphanumeric() || character == '_'
}

/// The positions of `word` in `code`. Parts of longer names do not count.
pub fn words<'a>(code: &'a str, word: &'a str) -> impl Iterator<Item = usize> + 'a {
    code.match_indices(word).map(|(at, _)| at).filter(move |&at| {
        let before = code[..at].chars().next_back();
        let after = code[at + word.len()..].chars().next();
        let open = |side: Option<char>, edge: Option<char>| {
            !edge.is_some_and(is_name) || side.is_none_or(|side| !is_name(side))
        };
        open(before, word.chars().next()) && open(after, word.chars().next_back())
    })
}

/// The code without comments and without the content of quotes. The line breaks stay.
fn bare(text: &str) -> String {
    let mut bare = String::new();
    let mut rest = text;
    while let Some(next) = rest.chars().next() {
        let skipped = match next {
            '/' if rest.starts_with("//") => rest.find('\n').unwrap_or(rest.len()),
            '/' if rest.starts_with("/*") => rest.find("*/").map_or(rest.len(), |end| end + 2),
            '"' => quoted(rest),
            'r' if !bare.ends_with(is_name) => raw(rest),
            '\'' => character(rest),
            _ => 0,
        };
        let taken = if skipped == 0 { next.len_utf8() } else { skipped };
        let (part, after) = rest.split_at(taken);
        if skipped == 0 {
            bare.push_str(part);
        } else {
            bare.extend(part.chars().filter(|&character| character == '\n'));
        }
        rest = after;
    }
    bare
}

/// The number of bytes of the string literal at the beginning of `rest`.
fn quoted(rest: &str) -> usize {
    let mut escaped = false;
    for (at, character) in rest.char_indices().skip(1) {
        match character {
            '"' if !escaped => return at + 1,
            character => escaped = character == '\\' && !escaped,
        }
    }
    rest.len()
}

/// The same for `r"..."` and `r#"..."#`, or 0.
fn raw(rest: &str) -> usize {
    let hashes = rest[1..].chars().take_while(|&character| character == '#').count();
    if !rest[1 + hashes..].starts_with('"') {
        return 0;
    }
    let end = format!("\"{}", "#".repeat(hashes));
    let begin = hashes + 2;
    rest[begin..].find(&end).map_or(rest.len(), |at| begin + at + end.len())
}

/// The same for a character literal, or 0 for a lifetime.
fn character(rest: &str) -> usize {
    let mut characters = rest.char_indices().skip(1);
    match (characters.next(), characters.next()) {
        (Some((_, '\\')), Some((at, next))) => {
            rest[at + next.len_utf8()..].find('\'').map_or(0, |end| at + next.len_utf8() + end + 1)
        }
        (Some(_), Some((at, '\''))) => at + 1,
        _ => 0,
    }
}

/// The beginnings of paths into this crate. The last one is the beginning of a re-export.
const ROOTS: [&str; 5] = ["crate::", "hypersender_grpc::", "self::", "super::", "pub use "];

fn paths(code: &str, module: &[String]) -> Vec<Named> {
    let begins = ROOTS.iter().flat_map(|root| words(code, root).map(move |at| (at, *root)));
    let mut begins: Vec<_> = begins.filter(|(at, _)| !code[..*at].ends_with("::")).collect();
    begins.sort_unstable();
    let (mut all, mut end) = (Vec::new(), 0);
    for (at, root) in begins {
        let tree = if root == "super::" { &code[at..] } else { &code[at + root.len()..] };
        let has_root = |tree: &str| ROOTS.iter().any(|root| tree.starts_with(root));
        // A path inside a tree is read with the tree. A re-export with another beginning is read at that
        // beginning.
        if at < end || (root == "pub use " && has_root(tree)) {
            continue;
        }
        let base = if root == "crate::" || root == "hypersender_grpc::" { &[] } else { module };
        let mut leaves = Vec::new();
        end = code.len() - leaves_of(tree, base, &mut leaves).len();
        let passed_on = root == "pub use " || code[..at].ends_with("pub use ");
        all.extend(leaves.into_iter().map(|path| Named { path, passed_on }));
    }
    all
}

/// Collects the paths of a tree such as `a::{b, c::{self, d}}`, each with `base` in front. Returns the rest
/// after the tree.
fn leaves_of<'a>(tree: &'a str, base: &[String], leaves: &mut Vec<Names>) -> &'a str {
    let tree = tree.trim_start();
    if let Some(mut rest) = tree.strip_prefix('{') {
        loop {
            rest = rest.trim_start_matches(|character: char| character.is_whitespace() || character == ',');
            if rest.is_empty() || rest.starts_with('}') {
                return rest.get(1..).unwrap_or_default();
            }
            let before = rest.len();
            rest = leaves_of(rest, base, leaves);
            // This skips ` as name` and any text that is no path.
            rest = &rest[rest.find([',', '}']).unwrap_or(rest.len())..];
            if rest.len() == before {
                return rest;
            }
        }
    }
    let end = tree.find(|character| !is_name(character)).unwrap_or(tree.len());
    let (name, rest) = tree.split_at(end);
    let mut path = base.to_vec();
    match name {
        "super" => drop(path.pop()),
        "self" | "" => {}
        name => path.push(name.to_owned()),
    }
    match rest.strip_prefix("::") {
        Some(rest) if !rest.starts_with('<') => leaves_of(rest, &path, leaves),
        _ => {
            leaves.push(path);
            rest
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check_paths(name: &str, code: &str, expected: &[&str]) {
        let source = Source::new(name, code);
        let paths: Vec<_> = source.paths.iter().map(|named| named.path.join("::")).collect();
        assert_eq!(paths, expected, "{code}");
    }

    #[test]
    fn paths_are_told_from_the_root() {
        check_paths("a.rs", "use crate::b::C;", &["b::C"]);
        check_paths("a.rs", "use crate::{b::C, d::{self, E as F}, g};", &["b::C", "d", "d::E", "g"]);
        check_paths("a.rs", "fn f() { let x = crate::b::C { d, ..e }; }", &["b::C"]);
        check_paths("a.rs", "use crate::{\n    b::{C, D},\n};\nuse std::fmt;", &["b::C", "b::D"]);
        check_paths("a/b.rs", "use super::c::D;", &["a::c::D"]);
        check_paths("a/b/c.rs", "use super::super::d;", &["a::d"]);
        check_paths("a/b.rs", "use super::{super::c, d};", &["c", "a::d"]);
        check_paths("a.rs", "pub use self::b::*; pub use c::D;", &["a::b", "a::c::D"]);
        check_paths("main.rs", "hypersender_grpc::a::run()", &["a::run"]);
        check_paths("a.rs", "use mycrate::b; pub(super) fn f() {}", &[]);
        check_paths("a.rs", "crate::b::c::<D>()", &["b::c"]);
        check_paths("a.rs", "crate::b::", &["b"]);
        check_paths("a.rs", "use crate::{", &[]);
    }

    #[test]
    fn comments_texts_and_tests_are_no_code() {
        for code in [
            "// crate::b\n",
            "//! crate::b",
            "/* crate::b\n */",
            "let x = \"crate::b\";",
            "let x = \"\\\"crate::b\";",
            "let x = r\"\\\"; // crate::b",
            "let x = r##\"\"# crate::b\"##;",
            "let x = '\"'; // crate::b \"",
            "let x = '\\''; // crate::b",
            "let x = '\\u{22}'; /* crate::b */",
            "#[cfg(test)]\nmod tests { use crate::b; }",
        ] {
            check_paths("a.rs", code, &[]);
        }
        check_paths("a.rs", "fn f<'a>(x: &'a str) -> &'a crate::B { \"'\" }", &["B"]);
        check_paths("a.rs", "let x = b'\"'; crate::b();", &["b"]);
        let source =
            Source::new("a.rs", "let x = \"one\ntwo\";\n// three\nfour\n#[cfg(test)]\nmod tests {}\n");
        assert_eq!(source.lines, 4);
        let source = Source::new(
            "a/b.rs",
            "#[cfg(test)]\npub(super) mod c;\none.two();\n#[cfg(test)]\nmod d { three(); }",
        );
        assert_eq!(source.tests, [["a", "b", "c"]]);
        assert!(source.has_word("two") && !source.has_word("three"));
    }
}
