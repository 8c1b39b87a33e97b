//! The rules. Each one returns the faults of one source, or of all sources together.

use std::collections::{BTreeMap, BTreeSet};

use super::{
    matches,
    source::{Names, Source, words},
};

/// A rule about one source.
pub type Rule = fn(&Source) -> Vec<String>;

/// All rules about one source.
pub const EACH: [Rule; 9] = [rooms, length, unwraps, chains, process, upstream, codes, builders, variants];

/// The rooms that each room may import.
const ROOMS: [(&str, &[&str]); 10] = [
    ("domain", &[]),
    ("telemetry", &["domain"]),
    ("stack", &["domain", "telemetry"]),
    ("grpc", &["domain", "telemetry", "stack"]),
    ("server", &["domain", "telemetry", "stack", "grpc"]),
    ("avatars", &["domain", "telemetry", "stack", "grpc", "server"]),
    // The help text contains the sandbox's numbers.
    ("config", &["domain", "telemetry", "stack", "grpc", "server", "avatars", "sandbox"]),
    ("commands", &["domain", "telemetry", "stack", "grpc", "server", "avatars", "config", "sandbox"]),
    ("main", &["domain", "telemetry", "stack", "grpc", "server", "config", "commands"]),
    ("sandbox", &["telemetry"]),
];
const LINES_MAX: usize = 400;

fn fault(source: &Source, text: impl std::fmt::Display) -> String {
    format!("{}: {text}", source.name)
}

/// Rooms import leftwards only.
fn rooms(source: &Source) -> Vec<String> {
    let Some(room) = source.module.first() else {
        return Vec::new();
    };
    let Some((_, allowed)) = ROOMS.iter().find(|(name, _)| name == room) else {
        return vec![fault(source, "is a room of which the import rule says nothing")];
    };
    let others = source.paths.iter().filter_map(|named| named.path.first());
    let others: BTreeSet<_> = others.filter(|other| *other != room).collect();
    let others = others.into_iter().filter(|other| ROOMS.iter().any(|(name, _)| name == other));
    let wrong = others.filter(|other| !allowed.contains(&other.as_str()));
    wrong.map(|other| fault(source, format!("{room} may not import {other}"))).collect()
}

/// A longer file usually has two subjects and should become two files.
pub fn length(source: &Source) -> Vec<String> {
    let long = source.lines >= LINES_MAX;
    long.then(|| fault(source, format!("has {} lines before its tests", source.lines))).into_iter().collect()
}

fn unwraps(source: &Source) -> Vec<String> {
    let unwraps = source.code.contains(".unwrap()");
    unwraps.then(|| fault(source, "unwraps; expect states why it cannot fail")).into_iter().collect()
}

/// A logged error must include its sources, because its own text often lacks the cause.
fn chains(source: &Source) -> Vec<String> {
    let dropped = source.code.contains("%error");
    dropped
        .then(|| fault(source, "logs an error without its causes; see telemetry::chain"))
        .into_iter()
        .collect()
}

/// A fault for each `forbidden` word in a source outside `places`.
fn only_in(source: &Source, places: &[&str], forbidden: &[&str], why: &str) -> Vec<String> {
    let at_home = places.iter().any(|place| {
        let rest = source.name.strip_prefix(place);
        rest.is_some_and(|rest| rest == ".rs" || rest.starts_with('/'))
    });
    let found = forbidden.iter().filter(|word| !at_home && source.has_word(word));
    found.map(|word| fault(source, format!("has {word}, but {why}"))).collect()
}

fn process(source: &Source) -> Vec<String> {
    let words = ["env::", "process::exit", "process::abort", "std::process::Command"];
    only_in(source, &["main", "commands"], &words, "only main and commands touch the process")
}

fn upstream(source: &Source) -> Vec<String> {
    // The exporter of traces and the download of images need an HTTP client, too, and the page of the sandbox
    // asks the sandbox on loopback.
    let places = ["stack/upstream", "telemetry/traces/http", "avatars/fetch", "avatars/page/control"];
    only_in(source, &places, &["reqwest"], "only stack/upstream calls Hypersender")
}

/// Telemetry may name codes but not choose them, and a client reads the codes of a service.
/// `Status::not_found("...")` chooses a code, too.
fn codes(source: &Source) -> Vec<String> {
    let why = "only grpc/status chooses codes";
    let places = ["grpc/status", "telemetry/codes", "commands/look_ups"];
    let mut faults = only_in(source, &places, &["Code::"], why);
    let made = words(&source.code, "Status::").any(|at| {
        let next = source.code[at + "Status::".len()..].chars().next();
        next.is_some_and(char::is_lowercase)
    });
    if made && source.name != "grpc/status.rs" {
        faults.push(fault(source, format!("makes a status, but {why}")));
    }
    faults
}

/// Two files order layers. Tests use the stacks of these files, so that they test the production order.
pub fn builders(source: &Source) -> Vec<String> {
    let may = ["stack.rs", "server/calls.rs"].contains(&source.name.as_str());
    let orders = !may && source.has_word("ServiceBuilder");
    orders.then(|| fault(source, "orders layers; stack.rs and server/calls.rs do")).into_iter().collect()
}

fn variants(source: &Source) -> Vec<String> {
    let found = matches::wildcards(source).into_iter();
    found
        .map(|pattern| fault(source, format!("matches {pattern} and has a wildcard for other errors")))
        .collect()
}

/// No source outside a module imports from the module's children.
pub fn reach(sources: &[Source]) -> Vec<String> {
    let (modules, passed_on) = (modules(sources), passed_on(sources));
    let mut faults = Vec::new();
    for source in sources {
        for path in source.paths.iter().map(|named| &named.path) {
            let past = (2..=path.len()).any(|length| {
                let (module, parent) = (&path[..length], &path[..length - 1]);
                // A parent may re-export a function with the name of the module.
                let namesake = module == path && passed_on.contains_key(path);
                modules.contains(module) && !source.module.starts_with(parent) && !namesake
            });
            if past {
                faults.push(fault(source, format!("{} reaches past a parent", path.join("::"))));
            }
        }
    }
    faults
}

/// Siblings must not import each other in a circle.
pub fn circles(sources: &[Source]) -> Vec<String> {
    let modules = modules(sources);
    let passed_on = passed_on(sources);
    let mut uses: BTreeMap<Names, BTreeSet<Names>> = BTreeMap::new();
    for source in sources {
        for named in source.paths.iter().filter(|named| !named.passed_on) {
            let path = passed_on.get(&named.path).unwrap_or(&named.path);
            let common = path.iter().zip(&source.module).take_while(|(one, other)| one == other).count();
            let sibling = path.get(..=common).filter(|sibling| common > 0 && modules.contains(*sibling));
            if let (Some(from), Some(to)) = (source.module.get(..=common), sibling) {
                uses.entry(from.to_vec()).or_default().insert(to.to_vec());
            }
        }
    }
    let in_circle = uses.keys().filter(|module| reaches(&uses, module, module, &mut BTreeSet::new()));
    in_circle.map(|module| format!("{} is in a circle of siblings", module.join("::"))).collect()
}

fn reaches(
    uses: &BTreeMap<Names, BTreeSet<Names>>,
    from: &Names,
    to: &Names,
    seen: &mut BTreeSet<Names>,
) -> bool {
    let next = uses.get(from).into_iter().flatten();
    next.into_iter().any(|next| next == to || (seen.insert(next.clone()) && reaches(uses, next, to, seen)))
}

fn modules(sources: &[Source]) -> BTreeSet<Names> {
    sources.iter().map(|source| source.module.clone()).collect()
}

/// The re-exports of parents: from the name in the parent to the name in the child.
fn passed_on(sources: &[Source]) -> BTreeMap<Names, Names> {
    let all = sources.iter().flat_map(|source| {
        let named = source.paths.iter().filter(|named| named.passed_on);
        named.filter_map(|named| {
            let short = source.module.iter().chain(named.path.last()).cloned().collect();
            named.path.starts_with(&source.module).then(|| (short, named.path.clone()))
        })
    });
    all.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Whether `rule` finds a fault in `code` when it stands in the file `name`.
    fn check(rule: Rule, name: &str, code: &str, expected: bool) {
        let faults = rule(&Source::new(name, code));
        assert_eq!(!faults.is_empty(), expected, "{name}: {code}: {faults:?}");
    }

    #[test]
    fn a_room_imports_leftwards() {
        check(rooms, "stack/cache.rs", "use crate::domain::Key;", false);
        check(rooms, "stack/cache.rs", "use crate::stack::clock::Clock;", false);
        check(rooms, "stack/cache.rs", "use crate::{domain::Key, grpc::Health};", true);
        check(rooms, "stack/cache.rs", "use super::super::grpc::Health;", true);
        check(rooms, "domain/link.rs", "fn f() { crate::telemetry::start() }", true);
        check(rooms, "domain.rs", "use crate::sandbox::Sandbox;", true);
        check(rooms, "config/flags.rs", "use crate::sandbox;", false);
        check(rooms, "commands/sync.rs", "use crate::avatars::Fetcher;", false);
        check(rooms, "server/calls.rs", "use crate::avatars::Fetcher;", true);
        check(rooms, "avatars/fetch.rs", "use crate::config::Settings;", true);
        check(rooms, "commands/serve.rs", "use crate::sandbox::Sandbox;", false);
        check(rooms, "commands.rs", "use crate::main::x;", true);
        check(rooms, "sandbox/reply.rs", "use crate::telemetry;", false);
        check(rooms, "sandbox/reply.rs", "use crate::domain::Key;", true);
        check(rooms, "main.rs", "fn main() { hypersender_grpc::commands::run() }", false);
        check(rooms, "main.rs", "fn main() { hypersender_grpc::sandbox::run() }", true);
        check(rooms, "helpers.rs", "", true);
        check(rooms, "lib.rs", "pub mod commands;", false);
        check(rooms, "domain/link.rs", "#[cfg(test)]\nmod tests { use crate::stack; }", false);
    }

    #[test]
    fn a_file_is_short() {
        check(length, "a.rs", &"x\n".repeat(399), false);
        check(length, "a.rs", &"x\n".repeat(400), true);
        let tests = format!("{}#[cfg(test)]\nmod tests {{\n{}}}", "x\n".repeat(399), "x\n".repeat(99));
        check(length, "a.rs", &tests, false);
    }

    #[test]
    fn nothing_unwraps_outside_tests() {
        check(unwraps, "a.rs", "x.unwrap();", true);
        check(unwraps, "a.rs", "x.unwrap_or(y); // .unwrap()", false);
        check(unwraps, "a.rs", "#[cfg(test)]\nmod tests { fn f() { x.unwrap() } }", false);
    }

    #[test]
    fn an_error_is_logged_with_its_causes() {
        check(chains, "a.rs", "warn!(%error, \"x\");", true);
        check(chains, "a.rs", "warn!(address, error = %error, \"x\");", true);
        check(chains, "a.rs", "warn!(error = chain(&error), \"%error\");", false);
    }

    #[test]
    fn the_process_belongs_to_main_and_commands() {
        for code in ["std::env::var(x)", "use std::env;\nenv::args()", "process::exit(1)"] {
            check(process, "server.rs", code, true);
            check(process, "commandsome.rs", code, true);
            check(process, "main.rs", code, false);
            check(process, "commands/serve.rs", code, false);
        }
        check(process, "server.rs", "env!(\"X\"); my_env::x; process::ExitCode", false);
    }

    #[test]
    fn only_upstream_knows_the_http_client() {
        check(upstream, "stack/retry.rs", "use reqwest::Client;", true);
        check(upstream, "stack/retry.rs", "// reqwest\nlet x = \"reqwest\";", false);
        check(upstream, "telemetry/traces/http.rs", "use reqwest::Client;", false);
        check(upstream, "avatars/fetch.rs", "use reqwest::Client;", false);
        check(upstream, "avatars.rs", "use reqwest::Client;", true);
        check(upstream, "stack/upstream.rs", "use reqwest::Client;", false);
        check(upstream, "stack/upstream/wire.rs", "use reqwest::Client;", false);
        check(upstream, "sandbox.rs", "#[cfg(test)]\nmod tests { use reqwest::Client; }", false);
    }

    #[test]
    fn only_status_chooses_codes() {
        check(codes, "grpc/service.rs", "Code::Internal", true);
        check(codes, "grpc/service.rs", "tonic::Code::Internal", true);
        check(codes, "grpc/service.rs", "Status::internal(x)", true);
        check(codes, "grpc/service.rs", "StatusCode::OK; ExitCode::SUCCESS; x: Status", false);
        check(codes, "grpc/service.rs", "ServingStatus::Serving", false);
        check(codes, "commands/look_ups.rs", "Code::Unavailable => true", false);
        check(codes, "commands/look_ups.rs", "Status::internal(x)", true);
        check(codes, "grpc/status.rs", "Status::new(Code::Internal, x)", false);
    }

    #[test]
    fn only_two_files_order_layers() {
        check(builders, "commands/serve.rs", "tower::ServiceBuilder::new()", true);
        check(builders, "stack/cache.rs", "use tower::ServiceBuilder;", true);
        check(builders, "stack.rs", "tower::ServiceBuilder::new()", false);
        check(builders, "server/calls.rs", "use tower::{Service, ServiceBuilder};", false);
        check(builders, "server.rs", "// ServiceBuilder\nlet x = MyServiceBuilder;", false);
    }

    #[test]
    fn a_match_over_errors_names_every_variant() {
        check(variants, "stack/retry.rs", "match x { LookupError::Internal => 1, _ => 2 }", true);
        check(variants, "stack/retry.rs", "match x { LookupError::Internal => 1, E::A => 2 }", false);
    }

    fn sources(files: &[(&str, &str)]) -> Vec<Source> {
        files.iter().map(|(name, code)| Source::new(name, code)).collect()
    }

    #[test]
    fn only_a_parent_reaches_into_its_children() {
        let found = |name, code| {
            let others = [("a.rs", "mod b;"), ("a/b.rs", "mod c;"), ("a/b/c.rs", ""), ("d.rs", "")];
            let mut files = others.to_vec();
            files.push((name, code));
            !reach(&sources(&files)).is_empty()
        };
        assert!(found("e.rs", "use crate::a::b::C;"));
        assert!(found("e.rs", "use crate::a::{b, X};"));
        assert!(found("a/x.rs", "use super::b::c::D;"));
        assert!(!found("e.rs", "use crate::a::C; use crate::d::E;"));
        assert!(!found("a/x.rs", "use super::b::D;"));
        assert!(!found("a/b/x.rs", "use super::c::D; use crate::a::b::c;"));
        let [module, user] = [("a/b.rs", "pub fn b() {}"), ("e.rs", "use crate::a::b;")];
        assert!(reach(&sources(&[("a.rs", "pub use b::b;"), module, user])).is_empty());
        assert!(!reach(&sources(&[("a.rs", "mod b;"), module, user])).is_empty());
    }

    #[test]
    fn siblings_make_no_circle() {
        let found = |files: &[_]| !circles(&sources(files)).is_empty();
        let [one, other] = [("a/b.rs", "use super::c::C;"), ("a/c.rs", "use super::b::B;")];
        assert!(found(&[("a.rs", ""), one, other]));
        assert!(!found(&[("a.rs", ""), one, ("a/c.rs", "use super::B;")]));
        // A name that the parent re-exports counts as the child's.
        let parent = ("a.rs", "pub use self::{b::B, c::C};");
        assert!(found(&[parent, ("a/b.rs", "use super::C;"), ("a/c.rs", "use super::B;")]));
        assert!(!found(&[parent, ("a/b.rs", "use super::C;"), ("a/c.rs", "")]));
        assert!(found(&[("a.rs", ""), one, ("a/c.rs", ""), ("a/c/d.rs", "use crate::a::b::B;")]));
        let third = ("a/d.rs", "use super::b::B;");
        assert!(found(&[("a.rs", ""), one, ("a/c.rs", "use super::d::D;"), third]));
    }
}
