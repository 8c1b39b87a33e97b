//! The rules of the house that no compiler checks. The tests read the sources and the documents.

#![allow(clippy::unwrap_used, reason = "a test may; clippy spares only the test functions themselves")]

mod alerts;
mod columns;
mod documents;
mod matches;
mod packages;
mod reasons;
mod rules;
mod source;
mod text;

use std::{fs, path::Path};

use self::source::Source;

/// Every source below `directory`, with its path from there.
fn sources(directory: &str) -> Vec<Source> {
    fn collect(root: &Path, directory: &Path, sources: &mut Vec<Source>) {
        for entry in fs::read_dir(directory).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                collect(root, &path, sources);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let name = path.strip_prefix(root).unwrap().to_str().unwrap();
                sources.push(Source::new(name, &fs::read_to_string(&path).unwrap()));
            }
        }
    }
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join(directory);
    let mut sources = Vec::new();
    collect(&root, &root, &mut sources);
    sources.sort_by(|one, other| one.name.cmp(&other.name));
    assert!(sources.len() > 10, "{directory} has sources");
    sources
}

#[test]
fn the_sources_keep_the_rules() {
    let mut sources = sources("src");
    let tests: Vec<_> = sources.iter().flat_map(|source| source.tests.clone()).collect();
    sources.retain(|source| !tests.iter().any(|test| source.module.starts_with(test)));
    let mut faults: Vec<String> = rules::EACH.iter().flat_map(|rule| sources.iter().flat_map(rule)).collect();
    faults.extend(rules::circles(&sources));
    faults.extend(self::sources("tests").iter().flat_map(rules::builders));
    faults.extend(rules::reach(&sources));
    assert!(faults.is_empty(), "\n{}", faults.join("\n"));
}

/// This rule holds for files that contain only tests, too.
#[test]
fn no_file_is_too_long() {
    let sources = [sources("src"), sources("tests")].concat();
    let faults: Vec<_> = sources.iter().flat_map(rules::length).collect();
    assert!(faults.is_empty(), "\n{}", faults.join("\n"));
}
