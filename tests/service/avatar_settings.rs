//! The settings of the avatars as the running service uses them: port, root, keys and certificates. Invalid
//! ones are in `bad_configurations`.

use std::net::TcpListener;

use reqwest::{Certificate, Client};

use crate::support::{Authority, CHAT, Files, INSTANCE, Reply, Service, Upstream, about};

const LISTEN: &str = "HYPERSENDER_GRPC_AVATARS_LISTEN";
const URL: &str = "HYPERSENDER_GRPC_AVATARS_URL";
const KEY: &str = "HYPERSENDER_GRPC_AVATARS_KEY";
const FREE: &str = "127.0.0.1:0";
const ROOT: &str = "https://avatars.example.com/images";
const OLD: &str = "6f1d2a9b8c7e5f40312233445566778899aabbccddeeff001122334455667788";
const NEW: &str = "AQIDBAUGBwgJCgsMDQ4PEBESExQVFhcYGRobHB0eHyA=";

/// A service with its sandbox and with these keys.
async fn with_keys(keys: &str) -> Service {
    Service::sandboxed().variables(&[(LISTEN, FREE), (URL, ROOT), (KEY, keys)]).start().await
}

/// The address of the image of a contact.
async fn avatar_url(service: &Service) -> String {
    let answer = service.client().await.get_profile_picture(about(CHAT)).await.unwrap();
    answer.into_inner().profile_picture.unwrap().avatar_url
}

/// The same below [`ROOT`].
async fn address(service: &Service) -> String {
    let url = avatar_url(service).await;
    url.strip_prefix(ROOT).unwrap_or_else(|| panic!("{url}")).to_owned()
}

/// The status of the response to `path` on the port of the avatars.
async fn status(service: &Service, path: &str) -> u16 {
    let port = service.avatars.unwrap();
    reqwest::get(format!("http://{port}{path}")).await.unwrap().status().as_u16()
}

#[tokio::test]
async fn the_first_key_makes_addresses_and_every_key_opens_them() {
    let [first, replica] = [with_keys(OLD).await, with_keys(&format!("{OLD}\n{NEW}")).await];
    let [rotated, finished] = [with_keys(&format!("{NEW}\n{OLD}")).await, with_keys(NEW).await];
    let [old, new] = [address(&first).await, address(&rotated).await];
    assert_eq!(address(&replica).await, old, "replicas make the same addresses");
    assert_eq!(address(&finished).await, new);
    for (service, of_old, of_new) in
        [(&first, 200, 404), (&replica, 200, 200), (&rotated, 200, 200), (&finished, 404, 200)]
    {
        assert_eq!((status(service, &old).await, status(service, &new).await), (of_old, of_new));
    }
}

#[tokio::test]
async fn a_sandbox_needs_no_settings_and_says_where_its_page_is() {
    let service = Service::sandboxed().variable(LISTEN, FREE).start().await;
    let root = format!("http://{}/", service.avatars.unwrap());
    service.printed(&format!("Open {root} in a browser")).await;
    let url = avatar_url(&service).await;
    assert!(url.starts_with(&format!("{root}avatars/")), "{url}");
    let image = reqwest::get(&url).await.unwrap();
    assert_eq!(
        (image.status().as_u16(), &image.headers()["avatar-status"]),
        (200, &"present".parse().unwrap())
    );
    assert_eq!(status(&service, "/").await, 200);
}

#[tokio::test]
async fn a_port_in_use_ends_the_start_except_with_a_sandbox() {
    let taken = TcpListener::bind(FREE).unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let service = Service::sandboxed().variable(LISTEN, &address).start().await;
    assert_ne!(service.avatars.unwrap().to_string(), address);
    assert!(service.logs().contains("with the sandbox a free one is taken"), "{}", service.logs());

    let upstream = Upstream::start([Reply::status(404)]).await;
    let launch = Service::asking(&upstream).variables(&[(LISTEN, &address), (URL, ROOT), (KEY, OLD)]);
    let ended = launch.run().await;
    let message = format!("cannot listen on {address}");
    assert!(ended.code == 1 && ended.stderr.contains(&message) && ended.stderr.contains(LISTEN), "{ended:?}");
}

#[tokio::test]
async fn avatars_are_off_unless_they_are_asked_for() {
    let upstream = Upstream::start([Reply::status(404)]).await;
    for launch in [
        // An empty variable counts as unset.
        Service::asking(&upstream).variable(LISTEN, ""),
        Service::asking(&upstream).variable(LISTEN, "off"),
        Service::sandboxed().variable(LISTEN, "off"),
        Service::sandboxed().variable(LISTEN, "").flags(&["--credentials", "passthrough"]),
    ] {
        assert_eq!(launch.start().await.avatars, None);
    }
}

/// A client that trusts `authority`, and has no certificate of its own.
fn trusting(authority: &Authority) -> Client {
    let certificate = Certificate::from_pem(authority.pem().as_bytes()).unwrap();
    Client::builder().tls_certs_only([certificate]).build().unwrap()
}

#[tokio::test]
async fn the_port_has_the_certificate_of_grpc_and_asks_browsers_for_none() {
    let (files, old, new) = (Files::new(), Authority::new(), Authority::new());
    let [cert, key] = files.identity(&old.identity("localhost"));
    let ca = files.write("ca.pem", &Authority::new().pem());
    let launch = Service::sandboxed().variable(LISTEN, FREE);
    let tls = ["--tls-cert", &cert, "--tls-key", &key, "--tls-client-ca", &ca];
    let service = launch.flags(&tls).start().await;
    let page = format!("https://localhost:{}/", service.avatars.unwrap().port());
    assert_eq!(trusting(&old).get(&page).send().await.unwrap().status(), 200);
    assert!(trusting(&new).get(&page).send().await.is_err(), "another authority");
    assert!(service.stdout().contains("Open https://127.0.0.1:"), "{}", service.stdout());

    files.identity(&new.identity("localhost"));
    service.signalled("HUP", "read the certificates again").await;
    assert_eq!(trusting(&new).get(&page).send().await.unwrap().status(), 200);
}

#[tokio::test]
async fn tokens_that_travel_in_the_clear_to_the_port_are_warned_of() {
    const WARNING: &str = "travel in the clear to the port of the avatars; see --tls-cert";
    let files = Files::new();
    let hash = "941aa06230ab13406106f3d7f5aee6d5a11dd39c009de0c6c4608e5aa3b27b1c";
    let callers = format!("[callers.crm]\ntoken_sha256 = \"{hash}\"\ninstances = [\"{INSTANCE}\"]\n");
    let callers = files.write("callers.toml", &callers);
    let [cert, key] = files.identity(&Authority::new().identity("localhost"));
    let (everywhere, callers) = ("0.0.0.0:0", ["--callers-file", &callers]);
    let addresses = [(URL, ROOT), (KEY, OLD)];
    for (listen, flags, warned) in [
        (FREE, &callers[..], false),
        (everywhere, &callers, true),
        (everywhere, &[&callers[..], &["--tls-cert", &cert, "--tls-key", &key]].concat(), false),
        (everywhere, &[], false),
    ] {
        let upstream = Upstream::start([Reply::status(404)]).await;
        let launch = Service::asking(&upstream).variable(LISTEN, listen).variables(&addresses);
        let mut service = launch.flags(flags).start().await;
        // The log is complete once the process has ended.
        service.signal("INT").await;
        assert_eq!(service.exit_code().await, 0, "{}", service.logs());
        assert_eq!(service.logs().contains(WARNING), warned, "{listen} {flags:?}");
    }
}
