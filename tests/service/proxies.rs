//! Hypersender behind an egress proxy: the requests to the proxy, and the secrets that the proxy, Hypersender
//! and the logs must not get.

use std::{io::Write, sync::Arc};

use tempfile::NamedTempFile;
use tonic::Code;

use crate::support::{
    Authority, CHAT, DOCUMENTED_ABSENCE, Fault, Launch, Proxy, Pushback, Reply, Service, Speech, Upstream,
    about,
};

const PROXY: &str = "HYPERSENDER_GRPC_UPSTREAM_PROXY";
const AUTH: &str = "HYPERSENDER_GRPC_UPSTREAM_PROXY_AUTH";
const AUTH_FILE: &str = "HYPERSENDER_GRPC_UPSTREAM_PROXY_AUTH_FILE";
/// A user, and a password with characters that need escapes in a URL.
const USER_AND_PASSWORD: &str = "someone:Zq9password@:/ %";
/// The header in which an HTTP proxy gets them.
const BASIC: &str = "proxy-authorization: Basic c29tZW9uZTpacTlwYXNzd29yZEA6LyAl";
const NOT_USED: &str = "set for a proxy and not used";
const ON_THIS_MACHINE: &str = "so the proxy is not used; see --upstream-proxy";

fn absence() -> Reply {
    Reply::json(200, DOCUMENTED_ABSENCE)
}

fn port(upstream: &Upstream) -> u16 {
    upstream.root().rsplit(':').next().unwrap().parse().unwrap()
}

/// An upstream over TLS, and the command that starts a service which trusts `authority`.
async fn encrypted(authority: &Authority) -> (Upstream, Launch, NamedTempFile) {
    let upstream = Upstream::start_tls([absence()], authority.server("localhost", false)).await;
    let file = authority.file();
    let launch = Service::asking(&upstream).variable("SSL_CERT_FILE", file.path().to_str().unwrap());
    (upstream, launch, file)
}

#[tokio::test]
async fn upstream_is_asked_through_the_proxy_which_alone_gets_its_password() {
    let authority = Authority::new();
    let tls = || Speech::Https(Arc::new(authority.server("localhost", false)));
    for (scheme, speech, told) in [
        ("http", Speech::Http, BASIC),
        ("https", tls(), BASIC),
        ("socks5", Speech::Socks, "someone Zq9password@:/ % an address"),
        ("socks5h", Speech::Socks, "someone Zq9password@:/ % localhost"),
    ] {
        let (upstream, launch, _file) = encrypted(&authority).await;
        let proxy = Proxy::start(speech, port(&upstream), None).await;
        let url = format!("{scheme}://localhost:{}", proxy.port());
        // With this setting, the common variables for proxies are ignored without a warning.
        let launch = launch.variable("HTTPS_PROXY", "http://127.0.0.1:1").variable(PROXY, &url);
        let service = launch.variable(AUTH, USER_AND_PASSWORD).start().await;
        service.client().await.get_profile_picture(about(CHAT)).await.unwrap();
        assert!(proxy.told()[0].contains(&told.to_ascii_lowercase()) || proxy.told()[0].contains(told));
        assert_eq!((proxy.told().len(), upstream.connections(), upstream.calls()), (1, 1, 1), "{scheme}");
        let headers = &upstream.asked()[0].headers;
        assert!(headers.iter().all(|(name, _)| !name.starts_with("proxy")), "{scheme}: {headers:?}");
        let basic = BASIC.rsplit(' ').next().unwrap();
        assert!(!service.logs().contains(basic), "{scheme}: as the proxy gets it");
        assert!(service.logs().contains(&url) && !service.logs().contains(NOT_USED), "{scheme}");
    }
}

#[tokio::test]
async fn the_password_can_come_from_a_file_or_not_at_all() {
    let authority = Authority::new();
    let mut secret = NamedTempFile::new().unwrap();
    writeln!(secret, "{USER_AND_PASSWORD}\r").unwrap();
    for (variable, value) in [(AUTH_FILE, secret.path().to_str().unwrap()), (AUTH_FILE, "")] {
        let (upstream, launch, _file) = encrypted(&authority).await;
        let proxy = Proxy::start(Speech::Http, port(&upstream), None).await;
        let launch = launch.variable(PROXY, format!("http://127.0.0.1:{}", proxy.port()));
        let service = launch.variable(variable, value).start().await;
        service.client().await.get_profile_picture(about(CHAT)).await.unwrap();
        let told = &proxy.told()[0];
        let is_told = told.contains(&BASIC.to_ascii_lowercase());
        assert_eq!((is_told, told.contains("authorization")), (!value.is_empty(), !value.is_empty()));
    }
}

#[tokio::test]
async fn a_proxy_that_fails_is_named_in_the_log() {
    let authority = Authority::new();
    for (refusal, told) in [
        (Some("407 Proxy Authentication Required"), "proxy authorization required"),
        (Some("403 Forbidden"), "unsuccessful"),
        (None, "Connection refused"),
    ] {
        let (upstream, launch, _file) = encrypted(&authority).await;
        let proxy = Proxy::start(Speech::Http, port(&upstream), refusal).await;
        let url = format!("http://127.0.0.1:{}", proxy.port());
        if refusal.is_none() {
            drop(proxy);
        }
        let launch = launch.variable(PROXY, &url).flags(&["--attempts", "1"]);
        let mut service = launch.start().await;
        let status = service.client().await.get_profile_picture(about(CHAT)).await.unwrap_err();
        assert_eq!(Fault::from(&status).reason, "UPSTREAM_UNAVAILABLE");
        service.signal("INT").await;
        assert_eq!(service.exit_code().await, 0);
        let logs = service.logs();
        let line = logs.lines().find(|line| line.contains("upstream cannot be reached")).unwrap();
        assert!(line.contains(&url) && line.contains(told), "{line}");
        assert_eq!(upstream.connections(), 0);
    }
}

#[tokio::test]
async fn plain_http_goes_to_the_proxy_with_its_password_unless_it_stays_on_this_machine() {
    for (reply, code) in [(absence(), None), (Reply::html(407), Some(Code::Unavailable))] {
        let proxy = Upstream::start([reply]).await;
        let launch = Service::asking_at("http://api.example.test/v2").flags(&["--allow-http"]);
        let launch = launch.variable(PROXY, proxy.root()).variable(AUTH, USER_AND_PASSWORD);
        let service = launch.start().await;
        let told = service.client().await.get_profile_picture(about(CHAT)).await;
        let fault = told.err().map(|status| Fault::from(&status));
        assert_eq!(fault.as_ref().map(|fault| fault.code), code);
        assert!(fault.is_none_or(|fault| fault.pushback == Pushback::Ms(1000)));
        let asked = proxy.asked();
        assert_eq!(asked.len(), 1, "nobody but the operator can mend it");
        assert!(asked[0].target.starts_with("http://api.example.test/v2/"), "{}", asked[0].target);
        assert!(asked[0].headers.iter().any(|(name, _)| name == "proxy-authorization"));
        assert!(!service.logs().contains(ON_THIS_MACHINE));
    }
    let (upstream, proxy) = (Upstream::start([absence()]).await, Upstream::start([absence()]).await);
    let launch = Service::asking(&upstream).variable(PROXY, proxy.root()).variable(AUTH, USER_AND_PASSWORD);
    let service = launch.start().await;
    service.client().await.get_profile_picture(about(CHAT)).await.unwrap();
    assert_eq!((upstream.calls(), proxy.calls()), (1, 0), "on this machine");
    assert!(upstream.asked()[0].headers.iter().all(|(name, _)| name != "proxy-authorization"));
    assert_eq!(service.logs().matches(ON_THIS_MACHINE).count(), 1);
}

#[tokio::test]
async fn a_proxy_that_is_not_used_needs_no_certificates_of_authorities() {
    let upstream = Upstream::start([absence()]).await;
    let launch = Service::asking(&upstream).variable(PROXY, "https://127.0.0.1:1");
    let service = launch.variable("SSL_CERT_FILE", "/nonexistent").start().await;
    service.client().await.get_profile_picture(about(CHAT)).await.unwrap();
    assert_eq!(service.logs().matches(ON_THIS_MACHINE).count(), 1);
}

#[tokio::test]
async fn variables_for_a_proxy_that_are_not_used_are_told_once_by_name() {
    for (variables, told) in [
        (&["HTTPS_PROXY"][..], Some("\"HTTPS_PROXY\"")),
        (&["https_proxy", "ALL_PROXY"], Some("\"https_proxy ALL_PROXY\"")),
        (&["NO_PROXY"], None),
    ] {
        let upstream = Upstream::start([absence()]).await;
        let mut launch = Service::asking(&upstream);
        for variable in variables {
            launch = launch.variable(variable, "http://someone:Zq9password@127.0.0.1:1");
        }
        let service = launch.start().await;
        service.client().await.get_profile_picture(about(CHAT)).await.unwrap();
        let logs = service.logs();
        let lines: Vec<_> = logs.lines().filter(|line| line.contains(NOT_USED)).collect();
        assert_eq!(lines.len(), usize::from(told.is_some()), "{variables:?}");
        assert!(told.is_none_or(|told| lines[0].contains(told) && lines[0].contains("--upstream-proxy")));
    }
}
