//! Settings: their sources, and the agreement of code, help and documentation. Invalid settings are in
//! `bad_configurations`.

use std::fs;

use clap::{CommandFactory, FromArgMatches};
use hypersender_grpc::{
    avatars,
    config::{Cli, Command},
    server, stack, telemetry,
};
use tempfile::TempDir;

use crate::support::{CHAT, DOCUMENTED_ABSENCE, INSTANCE, Launch, Reply, Service, Upstream, about};

const KEY: &str = "HYPERSENDER_WHATSAPP_API_KEY";
const KEY_FILE: &str = "HYPERSENDER_WHATSAPP_API_KEY_FILE";
/// The variables that belong to no flag. Each comes with a second one, with `_FILE` at its end, that names a
/// file.
const WITHOUT_FLAG: [&str; 5] = [
    KEY,
    "HYPERSENDER_GRPC_UPSTREAM_PROXY_AUTH",
    "HYPERSENDER_GRPC_STORE_PASSWORD",
    "HYPERSENDER_GRPC_AVATARS_KEY",
    "HYPERSENDER_GRPC_TOKEN",
];
/// The variable that belongs to no flag and is no secret.
const STORE_USERNAME: &str = "HYPERSENDER_GRPC_STORE_USERNAME";
const OPERATING: &str = include_str!("../../docs/operating.md");
const SYNC: &str = include_str!("../../docs/sync.md");
/// A token that occurs nowhere else, so that it is found wherever it leaks.
const MARKED: &str = "7|Zq9mark-token";

#[tokio::test]
async fn http_is_allowed_on_loopback_or_when_it_is_asked_for() {
    for (url, flags) in [
        ("http://127.0.0.1:9/", &[][..]),
        ("http://127.8.8.8:9/", &[]),
        ("http://localhost:9/", &[]),
        ("http://[::1]:9/", &[]),
        ("http://192.168.0.7/", &["--allow-http"]),
        ("http://192.168.0.7/", &["--allow-http", "true"]),
    ] {
        Service::asking_at(url).flags(flags).start().await;
    }
}

#[tokio::test]
async fn without_https_no_certificates_of_authorities_are_needed() {
    let directory = TempDir::new().unwrap();
    let nothing = directory.path().to_str().unwrap();
    let none = |launch: Launch| {
        let missing = format!("{nothing}/missing");
        launch.variable("SSL_CERT_FILE", missing).variable("SSL_CERT_DIR", nothing)
    };
    let upstream = Upstream::start([Reply::json(200, DOCUMENTED_ABSENCE)]).await;
    for launch in [Service::asking(&upstream), Service::sandboxed()] {
        let traces = ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:9");
        let service = none(launch).variable(traces.0, traces.1).start().await;
        service.client().await.get_profile_picture(about(CHAT)).await.unwrap();
    }
    let ended = none(Service::asking_at("https://127.0.0.1:9/")).run().await;
    assert!(ended.code == 78 && ended.stderr.contains("install ca-certificates"), "{ended:?}");
}

#[tokio::test]
async fn there_is_no_flag_for_a_token() {
    for flag in ["--api-key", "--token", "--whatsapp-api-key"] {
        let ended = Launch::of(&["serve", flag, "x"]).run().await;
        assert!(ended.code != 0 && ended.stderr.contains("unexpected argument"), "{ended:?}");
    }
}

#[tokio::test]
async fn a_token_comes_from_its_variable_or_its_file_without_the_blanks_around_it() {
    let directory = TempDir::new().unwrap();
    let path = directory.path().join("token");
    fs::write(&path, format!("  {MARKED}\r\n")).unwrap();
    let padded = format!(" {MARKED}\n");
    for (name, value) in [(KEY, MARKED), (KEY, &padded), (KEY_FILE, path.to_str().unwrap())] {
        let upstream = Upstream::start([Reply::json(200, DOCUMENTED_ABSENCE)]).await;
        let launch = Launch::serve()
            .variable(name, value)
            .variable("HYPERSENDER_WHATSAPP_INSTANCE_ID", INSTANCE)
            .variable("HYPERSENDER_WHATSAPP_BASE_URL", upstream.base_url());
        let service = launch.start().await;
        service.client().await.get_profile_picture(about(CHAT)).await.unwrap();
        let headers = &upstream.asked()[0].headers;
        assert!(headers.contains(&("authorization".into(), format!("Bearer {MARKED}"))), "{name} {value:?}");
    }
}

#[tokio::test]
async fn an_empty_variable_counts_as_unset() {
    let upstream = Upstream::start([Reply::json(200, DOCUMENTED_ABSENCE)]).await;
    let ports = ["--listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0"];
    let mut launch = Service::asking(&upstream).flags(&ports).variable(KEY_FILE, "");
    let command = Cli::command();
    let serve = command.find_subcommand("serve").unwrap();
    for variable in serve.get_arguments().filter_map(|argument| argument.get_env()?.to_str()) {
        if !variable.starts_with("HYPERSENDER_WHATSAPP_") {
            launch = launch.variable(variable, "");
        }
    }
    let service = launch.start().await;
    service.client().await.get_profile_picture(about(CHAT)).await.unwrap();
}

#[tokio::test]
async fn a_variable_that_is_no_setting_is_warned_of() {
    let upstream = Upstream::start([Reply::status(404)]).await;
    let launch = Service::asking(&upstream)
        .variable("HYPERSENDER_GRPC_CASHE_TTL", "1h")
        .variable("HYPERSENDER_GRPC_API_KEY", MARKED)
        .variable("HYPERSENDER_GRPC_CACHE_TTL", "1h")
        .variable("SOMETHING_ELSE", "x");
    let service = launch.start().await;
    let logs = service.logs();
    let warnings: Vec<_> = logs.lines().filter(|line| line.contains(r#""level":"WARN""#)).collect();
    assert_eq!(warnings.len(), 2, "{logs}");
    for name in ["HYPERSENDER_GRPC_CASHE_TTL", "HYPERSENDER_GRPC_API_KEY"] {
        assert!(warnings.iter().any(|line| line.contains(&format!(r#""variable":"{name}""#))), "{logs}");
    }
    assert!(!logs.contains(MARKED), "{logs}");
}

#[tokio::test]
async fn what_kubernetes_says_of_a_service_of_that_name_is_no_setting() {
    let mut launch = Service::sandboxed();
    for (service, ip, shown) in [
        ("HYPERSENDER_GRPC", "10.96.0.12", "10.96.0.12"),
        ("HYPERSENDER_GRPC_ADMIN", "fd00::12", "[fd00::12]"),
        ("HYPERSENDER_GRPC_CACHE_2", "10.96.0.13", "10.96.0.13"),
    ] {
        let url = format!("tcp://{shown}:50051");
        for (name, value) in [
            ("SERVICE_HOST", ip),
            ("SERVICE_PORT", "50051"),
            ("SERVICE_PORT_GRPC", "50051"),
            ("SERVICE_PORT_METRICS_HTTP", "9090"),
            ("PORT", &url),
            ("PORT_50051_TCP", &url),
            ("PORT_50051_TCP_PROTO", "tcp"),
            ("PORT_50051_TCP_PORT", "50051"),
            ("PORT_50051_TCP_ADDR", ip),
        ] {
            launch = launch.variable(&format!("{service}_{name}"), value);
        }
    }
    let typos = [
        ("HYPERSENDER_GRPC_LISTEN_PORT", "50051"),
        ("HYPERSENDER_GRPC_PORTS", "tcp://10.96.0.12:50051"),
        ("HYPERSENDER_GRPC_ADMIN_HOST", "10.96.0.12"),
        ("HYPERSENDER_GRPC_SERVICE_NAME", "pictures"),
        ("HYPERSENDER_GRPC_PORT_TCP", "tcp://10.96.0.12:50051"),
    ];
    launch = launch.variables(&typos);
    let logs = launch.start().await.logs();
    let warned: Vec<_> = logs.lines().filter(|line| line.contains("no such setting")).collect();
    assert_eq!(warned.len(), typos.len(), "{logs}");
    for (name, _) in typos {
        assert!(warned.iter().any(|line| line.contains(&format!(r#""variable":"{name}""#))), "{logs}");
    }
}

#[tokio::test]
async fn every_subcommand_has_help() {
    for arguments in [&["--help"][..], &["serve", "--help"], &["serve", "-h"], &["--version"], &["help"]] {
        assert_eq!(Launch::of(arguments).run().await.code, 0, "{arguments:?}");
    }
    for subcommand in Cli::command().get_subcommands() {
        let ended = Launch::of(&[subcommand.get_name(), "--help"]).run().await;
        assert_eq!(ended.code, 0, "{ended:?}");
    }
    assert_ne!(Launch::of(&[]).run().await.code, 0);
}

#[tokio::test]
async fn the_help_of_serve_tells_flag_variable_and_default_of_every_setting() {
    let help = Launch::of(&["serve", "--help"]).run().await.stdout;
    for name in [KEY, KEY_FILE] {
        assert!(help.contains(name), "{name}");
    }
    let command = Cli::command();
    let serve = command.find_subcommand("serve").unwrap();
    let settings: Vec<_> = serve.get_arguments().filter(|argument| argument.get_id() != "help").collect();
    for setting in &settings {
        let flag = setting.get_long().unwrap();
        let variable = setting.get_env().unwrap_or_else(|| panic!("--{flag} has no variable"));
        let entry = help.split("\n      --").find(|entry| entry.starts_with(&format!("{flag} ")));
        let entry = entry.unwrap_or_else(|| panic!("--{flag} is not in the help"));
        assert!(setting.get_help().is_some(), "--{flag}");
        // The value of a variable that may hold a password is not printed.
        let shown = if setting.is_hide_env_values_set() { "" } else { "=" };
        assert!(entry.contains(&format!("[env: {}{shown}]", variable.display())), "{entry}");
        for default in setting.get_default_values().iter().filter(|default| !default.is_empty()) {
            assert!(entry.contains(&format!("[default: {}]", default.display())), "{entry}");
        }
    }
    assert!(settings.len() > 20);
}

#[tokio::test]
async fn no_help_prints_a_password_of_the_store() {
    let url = format!("redis://someone:{MARKED}@127.0.0.1:6379");
    for flag in ["--help", "-h", "--no-such-flag"] {
        let launch = Launch::of(&["serve", flag]).variable("HYPERSENDER_GRPC_STORE", url.as_str());
        let ended = launch.variable("HYPERSENDER_GRPC_STORE_PASSWORD", MARKED).run().await;
        assert!(!ended.stdout.contains("Zq9mark") && !ended.stderr.contains("Zq9mark"), "{flag}: {ended:?}");
    }
}

#[test]
fn a_flag_that_is_left_out_sets_the_default_of_its_settings() {
    let command = Cli::command();
    // The environment of the test run does not count.
    let command = command.mut_subcommands(|serve| serve.mut_args(|setting| setting.env(None::<&str>)));
    let matches = command.try_get_matches_from(["hypersender-grpc", "serve", "--sandbox"]).unwrap();
    let Command::Serve(flags) = Cli::from_arg_matches(&matches).unwrap().command else {
        panic!("serve is another subcommand");
    };
    let (settings, logs) = flags.check(&Vec::new()).unwrap();
    assert_eq!(format!("{:?}", settings.stack), format!("{:?}", stack::Settings::default()));
    assert_eq!(format!("{:?}", settings.attempt), format!("{:?}", stack::UpstreamSettings::default()));
    assert_eq!(format!("{:?}", settings.server), format!("{:?}", server::Settings::default()));
    assert_eq!(format!("{logs:?}"), format!("{:?}", telemetry::Settings::default()));
    let avatars = settings.avatars.expect("the sandbox has avatars");
    assert_eq!(format!("{:?}", avatars.settings), format!("{:?}", avatars::Settings::default()));
    assert!(settings.traces.is_none(), "{:?}", settings.traces);
    assert!(settings.store.is_none(), "{:?}", settings.store);
}

/// The rows of settings in `docs/operating.md` and `docs/sync.md`: flag, variable and default, as they are
/// written there.
fn documented_settings() -> Vec<(&'static str, &'static str, &'static str)> {
    let lines = OPERATING.lines().chain(SYNC.lines()).filter(|line| line.starts_with("| `--"));
    let rows = lines.map(|line| {
        let cells: Vec<_> = line.trim_matches('|').split(" | ").map(str::trim).collect();
        let name = |cell: &'static str| cell.split('`').nth(1).unwrap_or(cell);
        (name(cells[0]), name(cells[1]), cells[2])
    });
    rows.collect()
}

#[test]
fn the_documentation_has_flag_variable_and_default_of_every_setting_and_no_other() {
    let documented = documented_settings();
    let command = Cli::command();
    let settings: Vec<_> = ["serve", "get", "sync", "health"]
        .into_iter()
        .flat_map(|name| command.find_subcommand(name).unwrap().get_arguments())
        .filter_map(|setting| Some((format!("--{}", setting.get_long()?), setting)))
        .collect();
    for (flag, setting) in &settings {
        let variable = setting.get_env().map_or("-", |name| name.to_str().unwrap());
        let row = documented.iter().find(|row| (row.0, row.1) == (flag, variable));
        let (_, _, told) = row.unwrap_or_else(|| panic!("no row has {flag} and {variable}"));
        for default in setting.get_default_values().iter().filter(|default| !default.is_empty()) {
            assert_eq!(*told, format!("`{}`", default.display()), "{flag}");
        }
    }
    for (flag, variable, _) in &documented {
        let is_setting = |(name, setting): &(String, &clap::Arg)| {
            name == flag && setting.get_env().map_or("-", |name| name.to_str().unwrap()) == *variable
        };
        assert!(settings.iter().any(is_setting), "{flag} with {variable} is no setting");
    }
    assert!(documented.len() > 40, "the tables are not where they were");
}

#[test]
fn the_documentation_has_every_variable_without_a_flag_and_names_no_variable_that_is_not_read() {
    let row = format!("| `{STORE_USERNAME}` | - |");
    assert!(OPERATING.lines().any(|line| line.starts_with(&row)), "no row begins with {row}");
    for variable in WITHOUT_FLAG {
        let row = format!("| `{variable}` | `{variable}_FILE` |");
        assert!(OPERATING.lines().any(|line| line.starts_with(&row)), "no row begins with {row}");
    }
    let command = Cli::command();
    let arguments = command.get_subcommands().flat_map(clap::Command::get_arguments);
    let mut read: Vec<_> = arguments.filter_map(|argument| argument.get_env()?.to_str()).collect();
    let files = WITHOUT_FLAG.map(|variable| format!("{variable}_FILE"));
    read.push(STORE_USERNAME);
    read.extend(WITHOUT_FLAG.into_iter().chain(files.iter().map(String::as_str)));
    for (document, text) in [
        ("README.md", include_str!("../../README.md")),
        ("clients/README.md", include_str!("../../clients/README.md")),
        ("docs/avatars.md", include_str!("../../docs/avatars.md")),
        ("docs/cache.md", include_str!("../../docs/cache.md")),
        ("docs/errors.md", include_str!("../../docs/errors.md")),
        ("docs/mesh.md", include_str!("../../docs/mesh.md")),
        ("docs/replicas.md", include_str!("../../docs/replicas.md")),
        ("docs/security.md", include_str!("../../docs/security.md")),
        ("docs/sync.md", SYNC),
        ("docs/operating.md", OPERATING),
        ("docs/rules.md", include_str!("../../docs/rules.md")),
    ] {
        let words = text.split(|letter: char| !letter.is_ascii_alphanumeric() && letter != '_');
        // A name that ends in `_` stands for all variables with this beginning.
        let names = words.filter(|word| word.starts_with("HYPERSENDER_") && !word.ends_with('_'));
        let unread: Vec<_> = names.filter(|name| !read.contains(name)).collect();
        assert_eq!(unread, Vec::<&str>::new(), "{document} names variables that nothing reads");
    }
}
