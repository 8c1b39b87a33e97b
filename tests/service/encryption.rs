//! TLS: the clients that are accepted, and certificates that are replaced while the service runs.

use std::{fs, path::Path};

use hypersender_grpc::server::TokenHash;
use tonic::{
    Status,
    transport::{Channel, Endpoint},
};

use crate::support::{Authority, CHAT, Client, Files, Launch, Service, about, connect};

async fn ask(channel: Channel) -> Result<(), Status> {
    Client::new(channel).get_profile_picture(about(CHAT)).await.map(drop)
}

#[tokio::test]
async fn a_client_that_trusts_the_certificate_gets_in_and_plain_text_does_not() {
    let (files, authority) = (Files::new(), Authority::new());
    let [cert, key] = files.identity(&authority.identity("localhost"));
    let service = Service::start(&["--tls-cert", &cert, "--tls-key", &key]).await;

    ask(connect(&service, &authority, None, &["h2"]).await.unwrap()).await.unwrap();
    assert!(connect(&service, &Authority::new(), None, &["h2"]).await.is_err(), "another authority");
    assert!(connect(&service, &authority, None, &["http/1.1"]).await.is_err(), "another protocol");
    let plain = Endpoint::from_shared(format!("http://{}", service.address())).unwrap().connect().await;
    assert!(plain.is_err() || ask(plain.unwrap()).await.is_err(), "plain text");
}

#[tokio::test]
async fn with_a_client_authority_only_its_clients_get_in() {
    let (files, authority) = (Files::new(), Authority::new());
    let [cert, key] = files.identity(&authority.identity("localhost"));
    let clients = Authority::new();
    let client_ca = files.write("ca.pem", &clients.pem());
    let service =
        Service::start(&["--tls-cert", &cert, "--tls-key", &key, "--tls-client-ca", &client_ca]).await;

    for (identity, let_in) in [
        (Some(clients.identity("crm.internal")), true),
        (Some(authority.identity("crm.internal")), false),
        (None, false),
    ] {
        // With TLS 1.3 a client learns only during its first call that its certificate is rejected.
        let asked = match connect(&service, &authority, identity.as_ref(), &["h2"]).await {
            Ok(channel) => ask(channel).await.is_ok(),
            Err(_) => false,
        };
        assert_eq!(asked, let_in);
    }
}

#[tokio::test]
async fn a_hangup_exchanges_certificates_and_open_connections_stay() {
    let (files, old, new) = (Files::new(), Authority::new(), Authority::new());
    let [cert, key] = files.identity(&old.identity("localhost"));
    let service = Service::start(&["--tls-cert", &cert, "--tls-key", &key]).await;
    let open = connect(&service, &old, None, &["h2"]).await.unwrap();

    // The end that rcgen gives a certificate unless it is set, 4096-01-01.
    let end = "hypersender_tls_certificate_not_after_timestamp_seconds";
    service.counted(end, 67_090_118_400.0).await;

    files.identity(&new.identity_until("localhost", 2050));
    service.signalled("HUP", "read the certificates again").await;
    // 2050-01-01
    service.counted(end, 2_524_608_000.0).await;
    ask(connect(&service, &new, None, &["h2"]).await.unwrap()).await.unwrap();
    ask(open).await.unwrap();

    fs::write(Path::new(&cert), "no certificate").unwrap();
    service.signalled("HUP", "kept the certificates that were read before").await;
    service.counted(end, 2_524_608_000.0).await;
    ask(connect(&service, &new, None, &["h2"]).await.unwrap()).await.unwrap();
}

/// Runs `health` and `get` against the service. Returns whether each exits with 0, and the output of `get`.
async fn ask_by_command(
    service: &Service,
    flags: &[&str],
    variables: &[(&str, &str)],
) -> ([bool; 2], String) {
    let address = service.address().to_string();
    let launch = |arguments: &[&str]| {
        Launch::of(arguments).flags(&["--address", &address]).flags(flags).variables(variables)
    };
    let health = launch(&["health"]).run().await;
    let get = launch(&["get", CHAT]).run().await;
    ([health.code == 0, get.code == 0], get.stdout + &get.stderr)
}

#[tokio::test]
async fn the_subcommands_speak_tls() {
    let (files, authority) = (Files::new(), Authority::new());
    let ca = files.write("ca.pem", &authority.pem());
    let [cert, key] = files.identity(&authority.identity("contacts.internal"));
    let service = Service::start(&["--tls-cert", &cert, "--tls-key", &key]).await;
    let other = files.write("other.pem", &Authority::new().pem());
    let domain = ["--tls-domain", "contacts.internal"];
    for (flags, variables, served) in [
        (&["--tls-ca", &ca, domain[0], domain[1]][..], &[][..], true),
        (&[], &[("HYPERSENDER_GRPC_TLS_CA", &*ca), ("HYPERSENDER_GRPC_TLS_DOMAIN", domain[1])], true),
        (&["--tls-ca", &ca], &[], false),
        (&["--tls-ca", &other, domain[0], domain[1]], &[], false),
        (&["--tls-ca", "/nonexistent", domain[0], domain[1]], &[], false),
        (&[], &[], false),
    ] {
        let (asked, said) = ask_by_command(&service, flags, variables).await;
        assert_eq!(asked, [served; 2], "{flags:?} {variables:?}: {said}");
    }
    let [cert, key] = files.identity(&authority.identity("127.0.0.1"));
    let service = Service::start(&["--tls-cert", &cert, "--tls-key", &key]).await;
    let (asked, said) = ask_by_command(&service, &["--tls-ca", &ca], &[]).await;
    assert_eq!(asked, [true; 2], "a certificate for the address needs no name: {said}");
}

#[tokio::test]
async fn the_subcommands_show_a_certificate() {
    let (files, authority) = (Files::new(), Authority::new());
    let ca = files.write("ca.pem", &authority.pem());
    let [cert, key] = files.identity(&authority.identity("127.0.0.1"));
    let service = Service::start(&["--tls-cert", &cert, "--tls-key", &key, "--tls-client-ca", &ca]).await;
    let identity = authority.identity("on-call.internal");
    let cert = files.write("client.pem", &identity.cert);
    let key = files.write("client-key.pem", &identity.key);
    let shown = ["--tls-client-cert", &cert, "--tls-client-key", &key];
    let (asked, said) = ask_by_command(&service, &[&["--tls-ca", &ca][..], &shown].concat(), &[]).await;
    assert_eq!(asked, [true; 2], "{said}");
    let (asked, said) = ask_by_command(&service, &["--tls-ca", &ca], &[]).await;
    assert_eq!(asked, [false; 2], "{said}");
    for incomplete in [&shown[..], &["--tls-ca", &ca, "--tls-client-cert", &cert]] {
        let ended = Launch::of(&["health"]).flags(incomplete).run().await;
        assert!(ended.code == 78 && ended.stderr.contains("not given, though"), "{incomplete:?}: {ended:?}");
    }
}

#[tokio::test]
async fn a_file_of_which_the_subcommands_would_read_a_part_is_a_fault() {
    let (files, authority) = (Files::new(), Authority::new());
    let ca = authority.pem();
    let [good, joined] = [("ca.pem", ca.clone()), ("joined.pem", ca.trim_end().to_owned() + &ca)]
        .map(|(name, text)| files.write(name, &text));
    let [cert, key] = files.identity(&authority.identity("localhost"));
    let encrypted = authority.identity("localhost").key.replace("PRIVATE KEY", "ENCRYPTED PRIVATE KEY");
    let encrypted = files.write("encrypted.pem", &encrypted);
    let other = files.write("other-key.pem", &authority.identity("localhost").key);
    for (flags, told) in [
        (&["--tls-ca", &joined][..], ["--tls-ca", "a block begins within the line"]),
        (&["--tls-ca", &key], ["--tls-ca", "holds no certificate"]),
        (&["--tls-ca", "/nonexistent"], ["--tls-ca", "/nonexistent: cannot read the file"]),
        (
            &["--tls-ca", &good, "--tls-client-cert", &joined, "--tls-client-key", &key],
            ["--tls-client-cert", "a block begins within the line"],
        ),
        (
            &["--tls-ca", &good, "--tls-client-cert", &cert, "--tls-client-key", &encrypted],
            ["--tls-client-key", "the key is encrypted; decrypt it with openssl pkey"],
        ),
        (
            &["--tls-ca", &good, "--tls-client-cert", &cert, "--tls-client-key", &other],
            ["--tls-client-cert", "not the certificate of the private key"],
        ),
    ] {
        for arguments in [&["health"][..], &["get", CHAT]] {
            let ended = Launch::of(arguments).flags(flags).run().await;
            assert_eq!(ended.code, 78, "{flags:?}: {ended:?}");
            assert!(told.iter().all(|word| ended.stderr.contains(word)), "{flags:?}: {ended:?}");
        }
    }
}

/// The errors that `health` and `get` print for a service that they cannot reach.
async fn unreachable(address: &str, flags: &[&str]) -> [String; 2] {
    let ask = async |arguments: &[&str], code| {
        let ended = Launch::of(arguments).flags(&["--address", address]).flags(flags).run().await;
        assert_eq!((ended.code, ended.stdout.as_str()), (code, ""), "{arguments:?} {flags:?}: {ended:?}");
        ended.stderr
    };
    [ask(&["health"], 1).await, ask(&["get", CHAT], 2).await]
}

#[tokio::test]
async fn a_question_that_does_not_get_through_says_what_to_change() {
    let (files, authority) = (Files::new(), Authority::new());
    let ca = files.write("ca.pem", &authority.pem());
    let other = Authority::new();
    let other_ca = files.write("other-ca.pem", &other.pem());
    let stranger = other.identity("stranger.internal");
    let stranger =
        [files.write("stranger.pem", &stranger.cert), files.write("stranger-key.pem", &stranger.key)];
    let [cert, key] = files.identity(&authority.identity("127.0.0.1"));
    let tls = ["--tls-cert", &cert, "--tls-key", &key];
    let plain = Service::start(&[]).await;
    let encrypted = Service::start(&tls).await;
    let choosy = Service::start(&[&tls[..], &["--tls-client-ca", &ca]].concat()).await;
    let silent = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let silent = silent.local_addr().unwrap();
    let gone = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let shown = ["--tls-client-cert", &stranger[0], "--tls-client-key", &stranger[1]];
    for (address, flags, told) in [
        (encrypted.address(), &[][..], "if that is the gRPC port of a service with TLS, add --tls-ca"),
        (plain.admin.unwrap(), &[], "no gRPC answer from"),
        (plain.address(), &["--tls-ca", &ca], "no TLS is spoken there; leave out --tls-ca"),
        (
            encrypted.address(),
            &["--tls-ca", &other_ca],
            "no authority in --tls-ca has signed the certificate",
        ),
        (
            encrypted.address(),
            &["--tls-ca", &ca, "--tls-domain", "contacts.internal"],
            "the certificate of the service has another name; say which by --tls-domain",
        ),
        (choosy.address(), &["--tls-ca", &ca], "add --tls-client-cert and --tls-client-key"),
        (
            choosy.address(),
            &[&["--tls-ca", &ca][..], &shown].concat(),
            "the service does not accept the certificate of --tls-client-cert",
        ),
        (silent, &["--timeout", "1s"], "within 1s"),
        (silent, &["--timeout", "1s", "--tls-ca", &ca], "within 1s"),
        (gone, &[], "Connection refused"),
        (gone, &["--tls-ca", &ca], "Connection refused"),
    ] {
        let address = address.to_string();
        for said in unreachable(&address, flags).await {
            assert!(said.contains(told) && said.contains(&address), "{flags:?}: {said}");
            assert!(!said.contains("transport error"), "{flags:?}: {said}");
        }
    }
}

#[tokio::test]
async fn get_shows_the_token_of_its_variable_or_file() {
    const TOKEN: &str = "Zq9mark-on-call";
    let (files, authority) = (Files::new(), Authority::new());
    let hash = TokenHash::of(TOKEN).0.map(|byte| format!("{byte:02x}")).concat();
    let callers = format!("[callers.on-call]\ntoken_sha256 = \"{hash}\"\ninstances = [\"*\"]\n");
    let callers = files.write("callers.toml", &callers);
    let ca = files.write("ca.pem", &authority.pem());
    let [cert, key] = files.identity(&authority.identity("localhost"));
    let tls = ["--tls-cert", &cert, "--tls-key", &key, "--listen", "0.0.0.0:0"];
    let service = Service::start(&[&tls[..], &["--callers-file", &callers]].concat()).await;
    let file = files.write("token", &format!("{TOKEN}\n"));
    let by_variable = ("HYPERSENDER_GRPC_TOKEN", TOKEN);
    let by_file = ("HYPERSENDER_GRPC_TOKEN_FILE", file.as_str());
    let flags = ["--tls-ca", &ca, "--tls-domain", "localhost"];
    for (variables, answered, words) in [
        (&[by_variable][..], true, "\"url\":"),
        (&[by_file], true, "\"url\":"),
        (&[], false, "CALLER_UNKNOWN"),
        (&[("HYPERSENDER_GRPC_TOKEN", "Zq9mark-other")], false, "CALLER_UNKNOWN"),
        (&[by_variable, by_file], false, "HYPERSENDER_GRPC_TOKEN: given twice"),
        (&[("HYPERSENDER_GRPC_TOKEN", "Zq9mark one")], false, "HYPERSENDER_GRPC_TOKEN: a token is"),
    ] {
        let (asked, said) = ask_by_command(&service, &flags, variables).await;
        assert_eq!(asked, [true, answered], "{variables:?}: {said}");
        assert!(said.contains(words) && !said.contains("warning"), "{variables:?}: {said}");
    }
    assert!(!service.logs().contains("in the clear"), "{}", service.logs());

    // The warning depends on the address alone, not on an answer.
    let away = ["get", CHAT, "--address", "192.0.2.1:1", "--timeout", "1ms"];
    let ended = Launch::of(&away).variable(by_variable.0, TOKEN).run().await;
    assert!(ended.code == 2 && ended.stderr.starts_with("warning: the token travels"), "{ended:?}");
    let flag = Launch::of(&["get", CHAT, "--token", "x"]).run().await;
    assert!(flag.stderr.contains("unexpected argument"), "{flag:?}");
}

#[tokio::test]
async fn the_sandbox_shows_a_call_that_fits_the_settings() {
    let (files, authority) = (Files::new(), Authority::new());
    let [cert, key] = files.identity(&authority.identity("localhost"));
    let ca = files.write("ca", &authority.pem());
    let hash = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08";
    let callers = format!("[callers.crm]\ntoken_sha256 = \"{hash}\"\ninstances = [\"*\"]\n");
    let callers = files.write("callers", &callers);
    let tls = ["--tls-cert", &cert, "--tls-key", &key];
    let mutual = [&tls[..], &["--tls-client-ca", &ca]].concat();
    let with_callers = [&tls[..], &["--callers-file", &callers]].concat();
    for (flags, call, is_open) in [
        (&[][..], "grpcurl -plaintext -d", true),
        (&tls[..], "grpcurl -insecure -d", true),
        (&mutual, "grpcurl -insecure -cert CERT.pem -key KEY.pem -d", false),
        (&with_callers, "grpcurl -insecure -H 'authorization: Bearer TOKEN' -d", false),
    ] {
        let launch = Launch::of(&["serve", "--sandbox", "--listen", "0.0.0.0:0", "--admin-listen", "off"]);
        let mut service = launch.flags(&["--log-format", "text"]).flags(flags).spawn();
        service.printed("More numbers to try").await;
        let printed = service.stdout();
        assert!(printed.contains(call) && printed.contains("' 127.0.0.1:"), "{flags:?}: {printed}");
        assert_eq!(service.logs().contains("everyone who reaches"), is_open, "{flags:?}: {}", service.logs());
        service.signal("INT").await;
        assert_eq!(service.exit_code().await, 0);
    }
}
