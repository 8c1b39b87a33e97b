//! Variables and flags: the same rules hold for every subcommand and every type.

use std::fs;

use clap::CommandFactory;
use hypersender_grpc::config::Cli;
use tempfile::TempDir;

use crate::support::{Authority, CHAT, Launch, Service};

const LISTEN: &str = "HYPERSENDER_GRPC_LISTEN";

#[tokio::test]
async fn the_carriage_return_of_a_windows_line_is_part_of_no_value() {
    let directory = TempDir::new().unwrap();
    let write = |name: &str, text: &str| {
        let path = directory.path().join(name);
        fs::write(&path, text).unwrap();
        format!(" {}\r", path.display())
    };
    let authority = Authority::new();
    let identity = authority.identity("localhost");
    let (cert, key) = (write("cert.pem", &identity.cert), write("key.pem", &identity.key));
    let ca = write("ca.pem", &authority.pem());
    let callers = write(
        "callers.toml",
        "[callers.crm]\ncertificate = \"localhost\"\ninstances = [\"*\"]\n[callers.shop]\ntoken_sha256 = \
         \"9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08\"\ninstances = [\"*\"]\n",
    );
    let service = Launch::serve()
        .variable(LISTEN, "127.0.0.1:0\r")
        .variable("HYPERSENDER_GRPC_SANDBOX", "true\r")
        .variable("HYPERSENDER_GRPC_DEADLINE", "\t10s \r")
        .variable("HYPERSENDER_GRPC_INSTANCES_FILE", " \r")
        .variable("HYPERSENDER_GRPC_TLS_CERT", &cert)
        .variable("HYPERSENDER_GRPC_TLS_KEY", &key)
        .variable("HYPERSENDER_GRPC_TLS_CLIENT_CA", &ca)
        .variable("HYPERSENDER_GRPC_CALLERS_FILE", &callers)
        .start()
        .await;
    for arguments in [&["health"][..], &["get", CHAT]] {
        let ended = Launch::of(arguments)
            .variable(LISTEN, format!("localhost:{}\r", service.address().port()))
            .variable("HYPERSENDER_GRPC_TLS_CA", &ca)
            .variable("HYPERSENDER_GRPC_TLS_DOMAIN", "localhost\r")
            .variable("HYPERSENDER_GRPC_TLS_CLIENT_CERT", &cert)
            .variable("HYPERSENDER_GRPC_TLS_CLIENT_KEY", &key)
            .variable("HYPERSENDER_GRPC_TOKEN", "\r")
            .run()
            .await;
        assert_eq!(ended.code, 0, "{arguments:?}: {ended:?}");
    }
}

#[tokio::test]
async fn a_value_that_is_no_text_is_a_fault_by_name_in_every_subcommand() {
    let tokens = ["HYPERSENDER_WHATSAPP_API_KEY", "HYPERSENDER_WHATSAPP_API_KEY_FILE"];
    let caller = ["HYPERSENDER_GRPC_TOKEN", "HYPERSENDER_GRPC_TOKEN_FILE"];
    let collector = ["OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_SERVICE_NAME", "OTEL_TRACES_SAMPLER_ARG"];
    for subcommand in Cli::command().get_subcommands() {
        let variables = subcommand.get_arguments().filter_map(|argument| argument.get_env()?.to_str());
        let (arguments, others) = match subcommand.get_name() {
            "serve" => (&["serve"][..], [&tokens[..], &collector].concat()),
            "get" => (&["get", CHAT][..], caller.to_vec()),
            "sync" => (&["sync", "contacts.csv"][..], caller.to_vec()),
            name => (&[name][..], Vec::new()),
        };
        for variable in variables.chain(others) {
            let launch = Launch::of(arguments)
                .variable("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:4317")
                .variable("OTEL_TRACES_SAMPLER", "traceidratio");
            let ended = launch.bytes(variable, b"1|Zq9mark\xff").run().await;
            assert_eq!(ended.code, 78, "{arguments:?} {variable}: {ended:?}");
            let told = ended.stderr.lines().filter(|line| line.contains(variable)).collect::<Vec<_>>();
            assert!(told.iter().any(|line| line.ends_with(": not UTF-8 text")), "{variable}: {ended:?}");
            assert!(!ended.stderr.contains("Zq9mark"), "{variable}: {ended:?}");
        }
    }
}

#[tokio::test]
async fn the_faults_of_a_question_are_told_at_once_and_by_name() {
    for (arguments, variables, told) in [
        (
            &["health", "--address", "50051", "--timeout", "soon"][..],
            &[("HYPERSENDER_GRPC_TLS_DOMAIN", "a b")][..],
            "error: 4 settings at fault\n  \
             --address (HYPERSENDER_GRPC_LISTEN): \"50051\" is not a host and port such as 127.0.0.1:50051, \
             localhost:50051 or [::1]:50051\n  \
             --timeout: \"soon\" is not a duration such as 500ms, 10m or 1h 30m\n  \
             --tls-ca (HYPERSENDER_GRPC_TLS_CA): not given, though --tls-domain (HYPERSENDER_GRPC_TLS_DOMAIN) \
             is\n  \
             --tls-domain (HYPERSENDER_GRPC_TLS_DOMAIN): \"a b\" is not a name such as contacts.internal",
        ),
        (
            &["get", CHAT, "--tls-client-key", ""],
            &[("HYPERSENDER_GRPC_TOKEN", "Zq9mark one")],
            "error: 3 settings at fault\n  \
             --tls-client-cert (HYPERSENDER_GRPC_TLS_CLIENT_CERT): not given, though --tls-client-key \
             (HYPERSENDER_GRPC_TLS_CLIENT_KEY) is\n  \
             --tls-client-key (HYPERSENDER_GRPC_TLS_CLIENT_KEY): empty, where the path of a file should be\n  \
             HYPERSENDER_GRPC_TOKEN: a token is visible ASCII characters without blanks",
        ),
        (
            &["get", CHAT],
            &[("HYPERSENDER_GRPC_TOKEN", "'Zq9mark'")],
            "error: 1 setting at fault\n  HYPERSENDER_GRPC_TOKEN: in quotes, which are not part of a token; \
             docker's --env-file, for one, keeps them",
        ),
        (
            &["sandbox", "--listen", "localhost"],
            &[],
            "error: 1 setting at fault\n  --listen: \"localhost\" is not a loopback address and port such as \
             127.0.0.1:50080; the sandbox serves this machine alone",
        ),
    ] {
        let launch = Launch::of(arguments);
        let launch = variables.iter().fold(launch, |launch, (name, value)| launch.variable(name, value));
        let ended = launch.run().await;
        assert_eq!((ended.code, ended.stderr.as_str()), (78, told), "{arguments:?}");
    }
}

#[tokio::test]
async fn a_service_is_found_by_its_name() {
    let service: Service = Service::start(&[]).await;
    let address = format!("localhost:{}", service.address().port());
    for launch in [
        Launch::of(&["health", "--address", &address]),
        Launch::of(&["get", CHAT, "--address", &address]),
        Launch::of(&["get", CHAT]).variable(LISTEN, &address),
    ] {
        let ended = launch.run().await;
        assert_eq!(ended.code, 0, "{ended:?}");
    }
    // This name never exists (RFC 6761).
    let ended = Launch::of(&["health", "--address", "contacts.invalid:1"]).run().await;
    assert_eq!(ended.code, 1, "{ended:?}");
    let told = "error: cannot connect to contacts.invalid:1: the name does not resolve";
    assert!(ended.stderr.starts_with(told), "{ended:?}");
}
