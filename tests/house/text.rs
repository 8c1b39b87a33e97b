//! [`Text`]: a file of the repository that a person wrote.

use std::{
    fs,
    path::{Path, PathBuf},
};

/// The folders and files that people write. `target` is not among them.
const PLACES: [&str; 14] = [
    ".ci",
    ".deny.toml",
    ".github",
    "Cargo.toml",
    "Makefile",
    "README.md",
    "benches",
    "build.rs",
    "clients",
    "deploy",
    "docs",
    "proto",
    "src",
    "tests",
];
/// The code that `make generate` writes.
const GENERATED: [&str; 5] = [
    "clients/go/contact/reasons.gen.go",
    "clients/go/hypersender",
    "clients/python/hypersender/contact/errors.py",
    "clients/python/hypersender/contact/v1",
    "clients/typescript/src/gen",
];
/// The folders that npm and the TypeScript compiler fill.
const FILLED: [&str; 3] = ["node_modules", "dist", "test-dist"];
/// A longer file usually has two subjects and should become two files.
const LINES_MAX: usize = 400;

/// A file of text.
pub struct Text {
    /// The path from the root of the repository.
    pub path: PathBuf,
    pub text: String,
}

impl Text {
    /// The extension of the file, or an empty text.
    pub fn extension(&self) -> &str {
        extension(&self.path)
    }
}

fn extension(path: &Path) -> &str {
    path.extension().and_then(|extension| extension.to_str()).unwrap_or_default()
}

/// Every file below [`PLACES`] with one of these `extensions`. Folders that tools fill, such as `.venv`, are
/// not read.
pub fn texts(extensions: &[&str]) -> Vec<Text> {
    fn collect(path: PathBuf, extensions: &[&str], texts: &mut Vec<Text>) {
        let whole = Path::new(env!("CARGO_MANIFEST_DIR")).join(&path);
        if GENERATED.iter().any(|folder| path == Path::new(folder)) {
            return;
        }
        if whole.is_dir() {
            let names = fs::read_dir(whole).unwrap().map(|entry| entry.unwrap().file_name());
            let mut names: Vec<_> = names.filter_map(|name| name.into_string().ok()).collect();
            names.retain(|name| !name.starts_with('.') && !FILLED.contains(&name.as_str()));
            names.sort();
            for name in names {
                collect(path.join(name), extensions, texts);
            }
        } else if extensions.contains(&extension(&path)) {
            texts.push(Text { text: fs::read_to_string(whole).unwrap(), path });
        }
    }
    let mut texts = Vec::new();
    for place in PLACES {
        collect(place.into(), extensions, &mut texts);
    }
    texts
}

/// The same as `rules::length` for the other languages, with the tests.
#[test]
fn no_file_of_another_language_is_too_long() {
    let texts = texts(&["go", "java", "mjs", "py", "ts"]);
    assert!(texts.len() > 80, "the files are not where they were: {}", texts.len());
    let lines = texts.iter().map(|text| (text.path.display(), text.text.lines().count()));
    let long: Vec<_> = lines.filter(|(_, lines)| *lines >= LINES_MAX).collect();
    assert!(long.is_empty(), "files with {LINES_MAX} lines or more: {long:?}");
}
