//! The packages of the clients: they name every reason, have the committed service config and one version,
//! and stay small.

use std::{collections::BTreeSet, fs, path::Path};

use super::{
    reasons::{documented, is_name},
    text::{Text, texts},
};

/// The lines of the hand-written code of a package, without blank lines, comments and imports. A package adds
/// to the library of gRPC what every caller needs, and no more.
const LINES_MAX: usize = 600;
const VECTORS: &str = include_str!("../../clients/vectors/errors.json");
/// The codes of gRPC that are not the name of a reason, too.
const CODES: [&str; 14] = [
    "ABORTED",
    "ALREADY_EXISTS",
    "CANCELLED",
    "DATA_LOSS",
    "FAILED_PRECONDITION",
    "INVALID_ARGUMENT",
    "NOT_FOUND",
    "OUT_OF_RANGE",
    "PERMISSION_DENIED",
    "RESOURCE_EXHAUSTED",
    "UNAUTHENTICATED",
    "UNAVAILABLE",
    "UNIMPLEMENTED",
    "UNKNOWN",
];

/// A package of a language.
struct Package {
    /// The folder with the code.
    folder: &'static str,
    extension: &'static str,
    /// The file that names every reason, and no other.
    reasons: &'static str,
    /// The copy of `clients/service_config.json`.
    service_config: &'static str,
    /// The file or folder that states the version, and the text before it.
    version: (&'static str, &'static str),
}

const PACKAGES: [Package; 3] = [
    Package {
        folder: "clients/go/contact",
        extension: "go",
        reasons: "clients/go/contact/reasons.gen.go",
        service_config: "clients/go/contact/service_config.json",
        version: ("clients/go/contact", "ersion = \""),
    },
    Package {
        folder: "clients/python/hypersender/contact",
        extension: "py",
        reasons: "clients/python/hypersender/contact/errors.py",
        service_config: "clients/python/hypersender/contact/service_config.json",
        version: ("clients/python/hypersender/contact", "VERSION = \""),
    },
    Package {
        folder: "clients/typescript/src",
        extension: "ts",
        reasons: "clients/typescript/src/gen/reason.ts",
        service_config: "clients/typescript/src/gen/service_config.ts",
        version: ("clients/typescript/package.json", "\n  \"version\": \""),
    },
];

/// The same as [`Package::version`]. Java has no package, only generated code.
const JAVA_VERSION: (&str, &str) = ("clients/java/pom.xml", "contact</artifactId>\n  <version>");

impl Package {
    /// The hand-written code, without tests.
    fn code(&self) -> Vec<Text> {
        let mut code = texts(&[self.extension]);
        code.retain(|text| text.path.starts_with(self.folder) && !is_test(text));
        code
    }
}

fn is_test(text: &Text) -> bool {
    text.path.to_str().is_some_and(|path| path.ends_with("_test.go") || path.ends_with(".test.ts"))
}

/// The text of a file, or none if it is missing.
fn file(path: &str) -> String {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(path)).unwrap_or_default()
}

/// The texts in quotes of either kind. Each one is on one line.
fn quoted(code: &str) -> BTreeSet<&str> {
    let in_quotes = |quote| code.lines().flat_map(move |line| line.split(quote).skip(1).step_by(2));
    in_quotes('"').chain(in_quotes('\'')).collect()
}

/// The versions in quotes, such as `"1.2.3"` and `"name/1.2.3"`.
fn versions(code: &str) -> BTreeSet<&str> {
    let last = quoted(code).into_iter().filter_map(|text| text.rsplit('/').next());
    last.filter(|text| is_version(text)).collect()
}

fn is_version(text: &str) -> bool {
    let is_number = |part: &str| !part.is_empty() && part.bytes().all(|letter| letter.is_ascii_digit());
    text.split('.').count() == 3 && text.split('.').all(is_number)
}

/// The text without white space and backslashes. A copy in TypeScript is a text in quotes.
fn packed(text: &str) -> String {
    text.chars().filter(|letter| !letter.is_whitespace() && *letter != '\\').collect()
}

/// The faults of all packages together.
fn check(faults: impl Fn(&Package, &[Text]) -> Vec<String>) {
    let found = PACKAGES.iter().flat_map(|package| {
        let code = package.code();
        let missing = code.is_empty().then(|| "has no code".to_owned());
        let faults = missing.into_iter().chain(faults(package, &code));
        faults.map(|fault| format!("{} {fault}", package.folder)).collect::<Vec<_>>()
    });
    let found: Vec<_> = found.collect();
    assert!(found.is_empty(), "\n{}", found.join("\n"));
}

#[test]
fn every_package_names_every_reason_and_no_other() {
    let reasons: BTreeSet<_> = documented().into_iter().map(|(_, reason)| reason).collect();
    assert!(reasons.len() > 25, "{reasons:?}");
    check(|package, _| {
        let list = file(package.reasons);
        let named = quoted(&list);
        let missing = reasons.difference(&named).map(|reason| format!("does not name {reason}"));
        let unknown = named.difference(&reasons).filter(|word| is_name(word) && !CODES.contains(word));
        missing.chain(unknown.map(|word| format!("names {word}, which no error has"))).collect()
    });
}

#[test]
fn every_error_has_a_row_in_the_vectors() {
    let vectors: serde_json::Value = serde_json::from_str(VECTORS).unwrap();
    let rows = vectors["errors"].as_array().unwrap();
    let has =
        |code: &str, reason: &str| rows.iter().any(|row| row["code"] == code && row["reason"] == reason);
    let missing: Vec<_> = documented().into_iter().filter(|(code, reason)| !has(code, reason)).collect();
    assert!(missing.is_empty(), "clients/vectors/errors.json does not have {missing:?}");
}

#[test]
fn every_package_has_the_committed_service_config() {
    let config = packed(include_str!("../../clients/service_config.json"));
    check(|package, _| {
        let copy = packed(&file(package.service_config));
        // TypeScript has the copy in a file of code.
        let is_equal = copy == config || package.extension == "ts" && copy.contains(&config);
        let fault = format!("has another service config in {}: make generate", package.service_config);
        (!is_equal).then_some(fault).into_iter().collect()
    });
}

/// The manifest of the TypeScript package is the measure.
#[test]
fn all_packages_have_one_version() {
    let files = texts(&["go", "json", "py", "xml"]);
    let stated = |(place, before): (&str, &str)| {
        let files = files.iter().filter(|text| text.path.starts_with(place) && !is_test(text));
        let mut stated =
            files.filter_map(|text| text.text.split_once(before)?.1.split(['"', '<', '-']).next());
        stated.find(|version| is_version(version)).unwrap_or_default()
    };
    let version = stated(PACKAGES[2].version);
    assert!(is_version(version), "{version}");
    assert_eq!(stated(JAVA_VERSION), version, "{}", JAVA_VERSION.0);
    check(|package, code| {
        let mut versions: BTreeSet<_> = code.iter().flat_map(|text| versions(&text.text)).collect();
        versions.insert(stated(package.version));
        versions.remove(version);
        versions.into_iter().map(|other| format!("has the version '{other}' and not {version}")).collect()
    });
}

/// The ten lines of a language are tested as those of its package.
#[test]
fn the_first_page_has_the_ten_lines_of_the_packages() {
    let page = file("clients/README.md");
    for (language, package) in [("go", "go"), ("python", "python"), ("js", "typescript")] {
        let fence = format!("\n```{language}\n");
        let (_, block) = page.split_once(&fence).unwrap_or_else(|| panic!("no block of {language}"));
        let (block, _) = block.split_once("```").unwrap();
        let readme = file(&format!("clients/{package}/README.md"));
        assert!(readme.contains(&format!("{fence}{block}")), "clients/{package}/README.md has other lines");
    }
}

/// The number of lines that are neither blank nor part of a comment, a docstring or an import.
fn lines_of_code(text: &str) -> usize {
    let (mut count, mut end) = (0, None);
    for line in text.lines().map(str::trim) {
        if let Some(mark) = end {
            if line.ends_with(mark) || (mark == "from" && line.contains(" from ")) {
                end = None;
            }
            continue;
        }
        let is_import = line.starts_with("import ") || line.starts_with("from ");
        let opened =
            [("/*", "*/"), ("\"\"\"", "\"\"\"")].into_iter().find(|(start, _)| line.starts_with(start));
        match opened {
            Some((start, mark)) if line.len() == start.len() || !line.ends_with(mark) => end = Some(mark),
            Some(_) => {}
            None if is_import && line.ends_with('(') => end = Some(")"),
            None if is_import && line.ends_with('{') => end = Some("from"),
            None if is_import || line.is_empty() || line.starts_with("//") || line.starts_with('#') => {}
            None => count += 1,
        }
    }
    count
}

#[test]
fn the_code_of_every_package_is_short() {
    check(|_, code| {
        let lines: usize = code.iter().map(|text| lines_of_code(&text.text)).sum();
        (lines >= LINES_MAX).then(|| format!("has {lines} lines")).into_iter().collect()
    });
}

/// Nothing is published, so that these commands fail or, worse, find a package of somebody else. With the
/// release files as its proxy, Go finds the module there.
#[test]
fn no_document_installs_by_name() {
    let commands = ["go get github.com/hypersender", "pip install hypersender", "npm install @hypersender"];
    let fails = |block: &str| {
        commands.iter().any(|command| block.contains(command)) && !block.contains("GOPROXY=\"file://")
    };
    let found = texts(&["md"]).into_iter().filter(|text| text.text.split("```").any(fails));
    let found: Vec<_> = found.map(|text| text.path).collect();
    assert!(found.is_empty(), "{found:?}");
}

#[test]
fn lines_of_code_are_counted_in_every_language() {
    for (text, lines) in [
        ("import (\n\t\"fmt\"\n)\n\n// Doc.\nfunc a() {\n\treturn\n}\n", 3),
        (
            "\"\"\"Doc.\"\"\"\nfrom a import (\n    b,\n)\nimport c\n\nclass D:\n    \"\"\"Doc.\n\n    More.\n    \"\"\"\n    x = 1  # y\n",
            2,
        ),
        (
            "import {\n  a,\n} from 'b';\nimport { c } from 'd';\n/**\n * Doc.\n */\nexport class E {\n  /** Doc. */\n  f = 1; // g\n}\n",
            3,
        ),
    ] {
        assert_eq!(lines_of_code(text), lines, "{text}");
    }
}

#[test]
fn quotes_and_versions_are_found_in_every_language() {
    assert_eq!(
        quoted("A = \"ONE\" // \"TWO\"\nclass B(C, reason=\"D\"): x"),
        BTreeSet::from(["ONE", "TWO", "D"])
    );
    assert_eq!(quoted("A: 'ONE',"), BTreeSet::from(["ONE"]));
    let code = "const v = \"0.1.0\"; agent('name/0.2.0'); host(\"127.0.0.1\"); other(\"1.2\", \"a.b.c\")";
    assert_eq!(versions(code), BTreeSet::from(["0.1.0", "0.2.0"]));
}
