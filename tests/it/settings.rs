//! Settings: every fault is told at once and before the port opens, and nothing secret with it.

use std::{fs, net::TcpListener};

use clap::CommandFactory;
use hypersender_grpc::config::Cli;
use tempfile::TempDir;

use crate::support::{CHAT, DOCUMENTED_ABSENCE, INSTANCE, Launch, Reply, Service, Upstream, about};

const KEY: &str = "HYPERSENDER_WHATSAPP_API_KEY";
const KEY_FILE: &str = "HYPERSENDER_WHATSAPP_API_KEY_FILE";
/// Looks like nothing else, so that it is found wherever it leaks.
const MARKED: &str = "7|Zq9mark-token";

/// What `serve` says that does not start: on a port that is taken, so that the exit code would be 1 if the port were opened
/// before the settings are checked.
async fn refused(flags: &[&str], variables: &[(&str, &str)]) -> String {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let launch = Launch::of(&["serve"])
        .variable("HYPERSENDER_GRPC_LISTEN", taken.local_addr().unwrap().to_string())
        .flags(flags);
    let launch = variables.iter().fold(launch, |launch, (name, value)| launch.variable(name, value));
    let ended = launch.run().await;
    assert_eq!((ended.code, ended.stdout.as_str()), (78, ""), "{ended:?}");
    ended.stderr
}

/// One fault and no other, told in these words.
async fn check(flags: &[&str], variables: &[(&str, &str)], words: &[&str]) {
    let told = refused(flags, variables).await;
    assert!(told.starts_with("error: 1 setting at fault\n"), "{told}");
    for word in words {
        assert!(told.contains(word), "{word:?} is not in {told}");
    }
    assert!(!told.contains(MARKED), "{told}");
}

/// With a token, so that nothing else is at fault.
async fn check_flag(flag: &str, value: &str, variable: &str) {
    let flag_is_value = format!("{flag}={value}");
    let names = format!("{flag} ({variable}): ");
    check(&[&flag_is_value], &[(KEY, MARKED)], &[&names]).await;
    check(&[], &[(KEY, MARKED), (variable, value)], &[&names]).await;
}

#[tokio::test]
async fn a_fault_is_told_by_flag_and_variable() {
    check_flag("--deadline", "31s", "HYPERSENDER_GRPC_DEADLINE").await;
    check_flag("--deadline", "soon", "HYPERSENDER_GRPC_DEADLINE").await;
    check_flag("--deadline", "0", "HYPERSENDER_GRPC_DEADLINE").await;
    check_flag("--deadline", "5", "HYPERSENDER_GRPC_DEADLINE").await;
    check_flag("--attempts", "0", "HYPERSENDER_GRPC_ATTEMPTS").await;
    check_flag("--attempts", "6", "HYPERSENDER_GRPC_ATTEMPTS").await;
    check_flag("--attempts", "-1", "HYPERSENDER_GRPC_ATTEMPTS").await;
    check_flag("--attempt-timeout", "16s", "HYPERSENDER_GRPC_ATTEMPT_TIMEOUT").await;
    check_flag("--retry-budget", "1.5", "HYPERSENDER_GRPC_RETRY_BUDGET").await;
    check_flag("--retry-budget", "NaN", "HYPERSENDER_GRPC_RETRY_BUDGET").await;
    check_flag("--retry-after-max", "2h", "HYPERSENDER_GRPC_RETRY_AFTER_MAX").await;
    check_flag("--cache-ttl", "11d", "HYPERSENDER_GRPC_CACHE_TTL").await;
    check_flag("--cache-absent-ttl", "1 fortnight", "HYPERSENDER_GRPC_CACHE_ABSENT_TTL").await;
    check_flag("--cache-entries", "many", "HYPERSENDER_GRPC_CACHE_ENTRIES").await;
    check_flag("--cache-bytes", "2TiB", "HYPERSENDER_GRPC_CACHE_BYTES").await;
    check_flag("--stale-if-error", "-1s", "HYPERSENDER_GRPC_STALE_IF_ERROR").await;
    check_flag("--rate", "inf", "HYPERSENDER_GRPC_RATE").await;
    check_flag("--burst", "1.5", "HYPERSENDER_GRPC_BURST").await;
    check_flag("--upstream-concurrency", "0", "HYPERSENDER_GRPC_UPSTREAM_CONCURRENCY").await;
    check_flag("--flights", "0", "HYPERSENDER_GRPC_FLIGHTS").await;
    check_flag("--sandbox", "perhaps", "HYPERSENDER_GRPC_SANDBOX").await;
    check_flag("--log", "hypersender=loud", "HYPERSENDER_GRPC_LOG").await;
    check_flag("--log-format", "xml", "HYPERSENDER_GRPC_LOG_FORMAT").await;
    check_flag("--link-hosts", "https://a.net", "HYPERSENDER_GRPC_LINK_HOSTS").await;
    check_flag("--instance", "a/b", "HYPERSENDER_WHATSAPP_INSTANCE_ID").await;
    check_flag("--instances-file", "/nonexistent/instances", "HYPERSENDER_GRPC_INSTANCES_FILE").await;
}

#[tokio::test]
async fn an_address_to_listen_on_is_an_ip_and_a_port() {
    for address in ["localhost:50051", "50051", "127.0.0.1", "127.0.0.1:70000", "::1:50051"] {
        let names = "--listen (HYPERSENDER_GRPC_LISTEN): ";
        check(&["--listen", address], &[(KEY, MARKED)], &[names]).await;
    }
}

#[tokio::test]
async fn a_root_of_the_api_is_safe_for_the_token() {
    for url in [
        "app.hypersender.com",
        "ftp://app.hypersender.com",
        "https://",
        "https://user:word@app.hypersender.com/",
        "https://app.hypersender.com/?a=b",
        "https://app.hypersender.com/#a",
        "http://app.hypersender.com/api",
        "http://192.168.0.7/api",
        "http://localhost.example.com/api",
        "http://127.0.0.1.example.com/api",
    ] {
        check_flag("--base-url", url, "HYPERSENDER_WHATSAPP_BASE_URL").await;
    }
    let told = refused(&["--base-url", "http://host/"], &[(KEY, MARKED)]).await;
    assert!(told.contains("--allow-http"), "{told}");
    let told = refused(&["--base-url", "https://user:secret-word@host/"], &[(KEY, MARKED)]).await;
    assert!(!told.contains("secret-word"), "{told}");
}

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
async fn all_faults_are_told_at_once() {
    let flags = ["--base-url", "http://host/", "--attempts", "9", "--cache-ttl", "long", "--rate", "x"];
    let variables = [
        ("HYPERSENDER_GRPC_DEADLINE", "1h"),
        ("HYPERSENDER_WHATSAPP_INSTANCE_ID", "a b"),
        (KEY, MARKED),
        (KEY_FILE, "/nonexistent/token"),
    ];
    let told = refused(&flags, &variables).await;
    assert!(told.starts_with("error: 7 settings at fault\n"), "{told}");
    for name in [
        "--base-url (HYPERSENDER_WHATSAPP_BASE_URL): ",
        "--attempts (HYPERSENDER_GRPC_ATTEMPTS): ",
        "--cache-ttl (HYPERSENDER_GRPC_CACHE_TTL): ",
        "--rate (HYPERSENDER_GRPC_RATE): ",
        "--deadline (HYPERSENDER_GRPC_DEADLINE): ",
        "--instance (HYPERSENDER_WHATSAPP_INSTANCE_ID): ",
        "HYPERSENDER_WHATSAPP_API_KEY: given twice",
    ] {
        assert!(told.contains(name), "{name:?} is not in {told}");
    }
    assert!(!told.contains(MARKED), "{told}");
}

#[tokio::test]
async fn a_token_is_needed_and_never_told() {
    check(&[], &[], &[KEY, KEY_FILE, "--sandbox"]).await;
    check(&[], &[(KEY, "")], &[KEY]).await;
    check(&[], &[(KEY, &format!("{MARKED} {MARKED}"))], &["HYPERSENDER_WHATSAPP_API_KEY: "]).await;
    check(&[], &[(KEY, &format!("{MARKED}ü"))], &["HYPERSENDER_WHATSAPP_API_KEY: "]).await;
    check(&[], &[(KEY_FILE, "/nonexistent/token")], &["HYPERSENDER_WHATSAPP_API_KEY_FILE: "]).await;
    let directory = TempDir::new().unwrap();
    let file = |text: &str| {
        let path = directory.path().join("token");
        fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    };
    check(&[], &[(KEY_FILE, &file(""))], &["HYPERSENDER_WHATSAPP_API_KEY_FILE: "]).await;
    check(&[], &[(KEY_FILE, &file(" \n"))], &["HYPERSENDER_WHATSAPP_API_KEY_FILE: "]).await;
    let two_lines = file(&format!("{MARKED}\n{MARKED}\n"));
    check(&[], &[(KEY_FILE, &two_lines)], &["HYPERSENDER_WHATSAPP_API_KEY_FILE: "]).await;
    check(&[], &[(KEY_FILE, &two_lines), (KEY, MARKED)], &["given twice"]).await;
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
        assert!(entry.contains(&format!("[env: {}=]", variable.display())), "{entry}");
        for default in setting.get_default_values() {
            assert!(entry.contains(&format!("[default: {}]", default.display())), "{entry}");
        }
    }
    assert!(settings.len() > 20);
}
