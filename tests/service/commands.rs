//! The subcommands as a person at a terminal uses them.

use serde_json::Value;

use crate::support::{Files, Launch, Reply, Service, Upstream, closed_address, link};

/// Runs the binary to its end and returns the exit code, standard output and standard error.
async fn run(arguments: &[&str], variables: &[(&str, &str)]) -> (i32, String, String) {
    let ended = Launch::of(arguments).variables(variables).run().await;
    (ended.code, ended.stdout, ended.stderr)
}

#[tokio::test]
async fn get_prints_the_answer_as_json() {
    let fresh = link("374498176", 24 * 60 * 60);
    let upstream = Upstream::start([Reply::picture(&fresh)]).await;
    let service = Service::asking(&upstream).start().await;
    let address = service.address().to_string();
    for (arguments, variables) in [
        (&["get", "15551230001", "--address", &address][..], vec![]),
        (&["get", "15551230001"], vec![("HYPERSENDER_GRPC_LISTEN", address.as_str())]),
        (&["get", "+15551230001", "--instance", "shop", "--address", &address], vec![]),
    ] {
        let (code, stdout, stderr) = run(arguments, &variables).await;
        assert_eq!((code, stderr.as_str()), (0, ""), "{arguments:?}");
        let json: Value = serde_json::from_str(&stdout).unwrap();
        let picture = &json["profilePicture"];
        assert_eq!(picture["chatId"], "15551230001", "{json}");
        assert_eq!(picture["state"], "PROFILE_PICTURE_STATE_PRESENT", "{json}");
        assert_eq!(picture["url"], fresh.as_str(), "{json}");
        assert!(picture["fetchTime"].as_str().unwrap().ends_with('Z'), "{json}");
        assert!(json["cacheInfo"]["ttl"].as_str().unwrap().ends_with('s'), "{json}");
    }
}

#[tokio::test]
async fn get_tells_an_error_on_standard_error() {
    let upstream = Upstream::start([Reply::status(429).header("Retry-After", 7)]).await;
    let service = Service::asking(&upstream).start().await;
    let address = service.address().to_string();
    let closed = closed_address().await;
    for (arguments, expected, words) in [
        (["get", "somebody", "--address", &address], 1, &["InvalidArgument", "CHAT_ID_INVALID"][..]),
        (["get", "15551230001", "--address", &address], 1, &["ResourceExhausted", "ask again in "]),
        (["get", "15551230001", "--address", &closed], 2, &["cannot connect", "refused"]),
    ] {
        let (code, stdout, stderr) = run(&arguments, &[]).await;
        assert_eq!((code, stdout.as_str()), (expected, ""), "{arguments:?}");
        assert!(stderr.starts_with("error: "), "{stderr}");
        for word in words {
            assert!(stderr.contains(word), "{word:?} is not in {stderr}");
        }
    }
}

#[tokio::test]
async fn get_exits_alike_for_one_contact_and_for_several() {
    let files = Files::new();
    let hash = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08";
    let callers = format!("[callers.crm]\ntoken_sha256 = \"{hash}\"\ninstances = [\"*\"]\n");
    let callers = files.write("callers.toml", &callers);
    let (open, closed) = (Service::start(&[]).await, Service::start(&["--callers-file", &callers]).await);
    let [open, closed] = [&open, &closed].map(|service| service.address().to_string());
    for (address, contact, instance, expected, reason) in [
        (&open, "15551230001", "", 0, ""),
        (&open, "15551230006", "", 1, "NOT_ON_WHATSAPP"),
        (&open, "somebody", "", 1, "CHAT_ID_INVALID"),
        (&open, "15551230001", "not an instance", 2, "INSTANCE_INVALID"),
        (&open, "15551230007", "", 2, "UPSTREAM_CREDENTIALS_REJECTED"),
        (&closed, "15551230001", "", 2, "CALLER_UNKNOWN"),
    ] {
        for contacts in [&[contact][..], &[contact, contact]] {
            let command = [&["get", "--address", address, "--instance", instance], contacts].concat();
            let (code, stdout, stderr) = run(&command, &[]).await;
            assert_eq!(code, expected, "{contacts:?}: {stderr}");
            assert!((stdout + &stderr).contains(reason), "{contacts:?}: {stderr}");
        }
    }
}

#[tokio::test]
async fn health_is_an_exit_code() {
    let upstream = Upstream::start([Reply::cut()]).await;
    let service = Service::asking(&upstream).start().await;
    let address = service.address().to_string();
    let check = ["health", "--address", &address];
    let (code, stdout, _) = run(&check, &[]).await;
    assert_eq!((code, stdout.as_str()), (0, "SERVING"));
    let unspecified = address.replace("127.0.0.1", "0.0.0.0");
    assert_eq!(run(&["health"], &[("HYPERSENDER_GRPC_LISTEN", &unspecified)]).await.0, 0);

    service.signal("TERM").await;
    let mut last = 0;
    while last == 0 {
        last = run(&check, &[]).await.0;
    }
    assert_eq!(last, 1);
    let closed = closed_address().await;
    let (code, _, stderr) = run(&["health", "--address", &closed], &[]).await;
    assert!(code == 1 && stderr.starts_with("error: cannot connect to"), "{stderr}");
}

#[tokio::test]
async fn the_sandbox_prints_variables_that_a_service_can_use() {
    let mut sandbox = Launch::of(&["sandbox", "--listen", "127.0.0.1:0"]).spawn();
    sandbox.printed("HYPERSENDER_WHATSAPP_INSTANCE_ID").await;
    let mut launch = Launch::serve();
    for line in sandbox.stdout().lines() {
        let (name, value) = line.split_once('=').unwrap();
        launch = launch.variable(name, value);
    }
    let service = launch.start().await;
    let address = service.address().to_string();
    let (code, stdout, stderr) = run(&["get", "15551230001", "--address", &address], &[]).await;
    assert!(code == 0 && stdout.contains("/v/t61.24694-24/"), "{stdout}{stderr}");
    let (code, _, stderr) = run(&["get", "15551230006", "--address", &address], &[]).await;
    assert!(code == 1 && stderr.contains("NOT_ON_WHATSAPP"), "{stderr}");
    sandbox.signal("INT").await;
    assert_eq!(sandbox.exit_code().await, 0);
}

#[tokio::test]
async fn the_sandbox_serves_this_machine_alone() {
    let (code, stdout, stderr) = run(&["sandbox", "--listen", "0.0.0.0:0"], &[]).await;
    assert!(code == 78 && stdout.is_empty() && stderr.contains("loopback"), "{stderr}");
    let (code, stdout, _) = run(&["sandbox", "--help"], &[]).await;
    assert!(code == 0 && stdout.contains("15551230006"), "{stdout}");
}

#[tokio::test]
async fn a_service_with_its_sandbox_says_what_to_try() {
    for launch in [Service::sandboxed(), Launch::serve().variable("HYPERSENDER_GRPC_SANDBOX", "true")] {
        let service = launch.start().await;
        let line = service.printed("grpcurl").await;
        let address = service.address().to_string();
        let call = format!("{address} hypersender.contact.v1.ContactService/GetProfilePicture");
        assert!(line.contains("15551230001") && line.ends_with(&call), "{line}");
        let (code, stdout, stderr) = run(&["get", "15551230001", "--address", &address], &[]).await;
        assert!(code == 0 && stdout.contains("/v/t61.24694-24/"), "{stdout}{stderr}");
    }
}
