//! The arms of `match` expressions, for the rule that a match over an error has no wildcard.

use super::source::{Source, words};

/// The enums of errors. A match over one of them names every variant, so that a new variant must be decided
/// everywhere.
const ERRORS: [&str; 3] = ["LookupError", "Refusal", "FetchError"];

/// The matches of a source that name a variant of an error and have a wildcard for the others.
pub fn wildcards(source: &Source) -> Vec<String> {
    let aliases = words(&source.code, " as ").filter_map(|at| {
        let (before, after) = (&source.code[..at], &source.code[at + " as ".len()..]);
        let alias = after.split(|letter: char| !letter.is_alphanumeric()).next()?;
        ERRORS.iter().any(|error| before.ends_with(error)).then_some(alias)
    });
    let names: Vec<_> = ERRORS.into_iter().chain(aliases).map(|name| format!("{name}::")).collect();
    let found = words(&source.code, "match ").filter_map(|at| {
        let patterns = patterns(&source.code[at..]);
        // A guard may name an error in a match over something else.
        let without_guard = |pattern: &str| pattern.split(" if ").next().unwrap_or_default().to_owned();
        let names_error = |pattern: &&&str| {
            let pattern = without_guard(pattern);
            names.iter().any(|name| words(&pattern, name).next().is_some())
        };
        let error = patterns.iter().find(names_error)?;
        let is_wildcard = |pattern: &&str| ["_", "Err(_)", "Some(_)"].contains(pattern);
        patterns.iter().any(is_wildcard).then(|| (*error).to_owned())
    });
    found.collect()
}

/// The patterns of a `match` that begins the code, each with its guard.
fn patterns(code: &str) -> Vec<&str> {
    let Some(begin) = code.find('{') else { return Vec::new() };
    let mut rest = &code[begin + 1..];
    let mut patterns = Vec::new();
    while let Some(arrow) = outside(rest, "=>") {
        patterns.push(rest[..arrow].trim().trim_start_matches('|').trim());
        let body = rest[arrow + "=>".len()..].trim_start();
        let end = if body.starts_with('{') { block(body) } else { outside(body, ",") };
        let Some(end) = end else { break };
        rest = body[end..].trim_start().trim_start_matches(',');
    }
    patterns
}

/// The position of `wanted` in the code, outside all brackets and before the end of the enclosing block.
fn outside(code: &str, wanted: &str) -> Option<usize> {
    let mut depth = 0;
    for (at, letter) in code.char_indices() {
        match letter {
            _ if depth == 0 && code[at..].starts_with(wanted) => return Some(at),
            '(' | '[' | '{' => depth += 1,
            ')' | ']' | '}' if depth == 0 => return None,
            ')' | ']' | '}' => depth -= 1,
            _ => {}
        }
    }
    None
}

/// The length of the block at the beginning of the code.
fn block(code: &str) -> Option<usize> {
    let mut depth = 0;
    for (at, letter) in code.char_indices() {
        match letter {
            '{' => depth += 1,
            '}' if depth == 1 => return Some(at + 1),
            '}' => depth -= 1,
            _ => {}
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wildcard_beside_a_variant_of_an_error_is_found() {
        let check = |arms: &str, found: bool| {
            let code = format!("use LookupError as E;\nfn f() {{ match error(|x| x) {{ {arms} }} }}");
            assert_eq!(!wildcards(&Source::new("a.rs", &code)).is_empty(), found, "{arms}");
        };
        check("LookupError::A => 1, _ => 2", true);
        check("Err(Refusal::A { x, .. }) => { f(a, b) } Err(_) => 2, Ok(x) => x,", true);
        check("E::A | E::B => g(|_| 1, [2, 3]), E::C(_) => { 1 } _ => 2", true);
        check("Ok(_) => 1, Err(x) => match x { E::A => 1, _ => 2 }", true);
        check("LookupError::A => 1, LookupError::B(_) => match x { Some(1) => 1, _ => 2 }", false);
        check("LookupError::A => 1, error if error.again() => 2, LookupError::B => 3", false);
        check("Some(1) => LookupError::A, _ => LookupError::B", false);
        check("MyLookupError::A => 1, _ => 2", false);
        check("_ if x == LookupError::A => 1, Code::Ok => 2, _ => 3", false);
    }
}
