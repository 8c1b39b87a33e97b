//! `check-config`: the settings that `serve` would use, without secrets; and the texts that are made from the
//! definition of the command line.

use clap::CommandFactory;
use hypersender_grpc::config::Cli;

use crate::support::{Authority, Ended, Files, INSTANCE, Launch};

const MARKED: &str = "7|Zq9mark-token";
const KEY: &str = "HYPERSENDER_WHATSAPP_API_KEY";

async fn check(flags: &[&str], variables: &[(&str, &str)]) -> Ended {
    Launch::of(&["check-config"]).flags(flags).variables(variables).run().await
}

#[tokio::test]
async fn each_setting_is_printed_with_its_source() {
    let ended = check(
        &["--rate", "7", "--link-hosts", "*.whatsapp.net"],
        &[
            (KEY, MARKED),
            ("HYPERSENDER_WHATSAPP_INSTANCE_ID", INSTANCE),
            ("HYPERSENDER_GRPC_CACHE_TTL", "1h 30m"),
        ],
    )
    .await;
    assert_eq!((ended.code, ended.stderr.as_str()), (0, ""));
    for line in [
        "--rate=7  # command line",
        "--link-hosts='*.whatsapp.net'  # command line",
        "--cache-ttl='1h 30m'  # HYPERSENDER_GRPC_CACHE_TTL",
        "--listen=127.0.0.1:50051  # default",
        "# --tls-cert is not set",
        "# HYPERSENDER_WHATSAPP_API_KEY is set",
        "# tokens of Hypersender: one for any instance, 0 for listed instances",
        "# callers: everyone who reaches the port",
        "# certificate: none, plain text",
        "# traces: off",
    ] {
        assert!(ended.stdout.lines().any(|found| found == line), "{line} is not in {}", ended.stdout);
    }
    let command = Cli::command();
    let settings = command.find_subcommand("serve").unwrap().get_arguments();
    for flag in
        settings.filter(|setting| setting.get_env().is_some()).filter_map(|setting| setting.get_long())
    {
        let is_of_flag =
            |line: &str| line.starts_with(&format!("--{flag}=")) || line == format!("# --{flag} is not set");
        assert_eq!(ended.stdout.lines().filter(|line| is_of_flag(line)).count(), 1, "{flag}");
    }
}

#[tokio::test]
async fn the_flags_that_are_printed_give_the_same_settings() {
    let given = [("HYPERSENDER_GRPC_CACHE_TTL", "1h 30m"), ("HYPERSENDER_GRPC_SANDBOX", "on")];
    let first = check(&["--rate", "7"], &given).await;
    let flags = first.stdout.lines().filter(|line| line.starts_with("--"));
    let flags: Vec<_> = flags.map(|line| line.split("  # ").next().unwrap().replace('\'', "")).collect();
    let flags: Vec<_> = flags.iter().map(String::as_str).collect();
    let second = check(&flags, &[]).await;
    let settings = |ended: &Ended| -> Vec<String> {
        ended.stdout.lines().map(|line| line.split("  # ").next().unwrap().to_owned()).collect()
    };
    assert_eq!(second.code, 0, "{second:?}");
    assert_eq!(settings(&first), settings(&second));
}

#[tokio::test]
async fn files_are_read_and_counted() {
    let (authority, files) = (Authority::new(), Files::new());
    let [cert, key] = files.identity(&authority.identity("localhost"));
    let hash = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08";
    let callers =
        files.write("callers", &format!("[callers.crm]\ntoken_sha256 = \"{hash}\"\ninstances = [\"*\"]\n"));
    let instances =
        format!("[instances.shop]\ntoken = \"{MARKED}\"\n[instances.desk]\ntoken = \"{MARKED}\"\n");
    let instances = files.write("instances", &instances);
    let flags =
        ["--tls-cert", &cert, "--tls-key", &key, "--callers-file", &callers, "--instances-file", &instances];
    let ended = check(&flags, &[]).await;
    assert_eq!(ended.code, 0, "{ended:?}");
    for line in [
        "# tokens of Hypersender: 2 for listed instances",
        "# callers: 1",
        // The end that rcgen gives a certificate unless it is set.
        "# certificate: ends 4096-01-01T00:00:00Z",
    ] {
        assert!(ended.stdout.lines().any(|found| found == line), "{line} is not in {}", ended.stdout);
    }
}

#[tokio::test]
async fn faults_and_secrets() {
    let faults = check(&["--rate", "x", "--burst", "y"], &[(KEY, MARKED)]).await;
    assert_eq!((faults.code, faults.stdout.as_str()), (78, ""));
    for flag in ["--rate", "--burst"] {
        assert!(faults.stderr.contains(flag), "{faults:?}");
    }
    let store = format!("redis://someone:{MARKED}@127.0.0.1:6379");
    let ended = check(
        &["--sandbox"],
        &[
            ("HYPERSENDER_GRPC_STORE", store.replace('|', "%7C").as_str()),
            ("HYPERSENDER_GRPC_CASHE_TTL", "1h"),
            ("HYPERSENDER_GRPC_TOKEN", MARKED),
        ],
    )
    .await;
    assert_eq!(ended.code, 0, "{ended:?}");
    assert!(
        ended.stdout.contains("--store='redis://***@127.0.0.1:6379'  # HYPERSENDER_GRPC_STORE"),
        "{ended:?}"
    );
    assert!(ended.stderr.contains("HYPERSENDER_GRPC_CASHE_TTL: no such setting"), "{ended:?}");
    assert!(!format!("{ended:?}").contains("Zq9mark"), "{ended:?}");
}

#[tokio::test]
async fn shells_get_completions_and_man_gets_pages() {
    for (shell, word) in [("bash", "complete -F"), ("zsh", "#compdef"), ("fish", "complete -c")] {
        let ended = Launch::of(&["completions", shell]).variable(KEY, MARKED).run().await;
        assert_eq!((ended.code, ended.stderr.as_str()), (0, ""), "{shell}");
        assert!(ended.stdout.contains(word) && ended.stdout.contains("cache-ttl"), "{}", ended.stdout);
        assert!(!ended.stdout.contains("Zq9mark"), "{shell}");
    }
    for (arguments, title) in [
        (&["man"][..], ".TH hypersender-grpc 1"),
        (&["man", "serve"], ".TH hypersender-grpc-serve 1"),
        (&["man", "check-config"], ".TH hypersender-grpc-check-config 1"),
    ] {
        let ended = Launch::of(arguments).variable("HYPERSENDER_GRPC_LOG", "Zq9mark").run().await;
        assert_eq!((ended.code, ended.stderr.as_str()), (0, ""), "{arguments:?}");
        assert!(ended.stdout.contains(title) && !ended.stdout.contains("Zq9mark"), "{}", ended.stdout);
    }
    let ended = Launch::of(&["man", "nothing"]).run().await;
    assert!(ended.code == 1 && ended.stderr.contains("serve, check-config, get"), "{ended:?}");
}
