//! The checks that keep other sites away from a port on loopback.
//!
//! - A page of another site can send requests to this machine. Its browser says so in `Sec-Fetch-Site`, which
//!   scripts cannot set.
//! - A site can also let its own name resolve to this machine (DNS rebinding), so that its requests count as
//!   its own. They still carry the name of the site in `Host`.

use std::net::{Ipv4Addr, Ipv6Addr};

use axum::{
    Json,
    extract::Request,
    http::{
        HeaderMap, StatusCode, Uri,
        header::{CACHE_CONTROL, HOST, REFERRER_POLICY, X_CONTENT_TYPE_OPTIONS},
    },
    middleware::Next,
    response::{IntoResponse, Response},
};

const FETCH_SITE: &str = "sec-fetch-site";

/// Refuses requests for another name than one of this machine.
pub async fn loopback(request: Request, next: Next) -> Response {
    if is_for_loopback(request.uri(), request.headers()) {
        return next.run(request).await;
    }
    // A page of another site may be able to read this text, so it says nothing about the request.
    let text = "With its sandbox, this port answers requests for localhost, 127.0.0.1 and [::1] only.\n";
    let headers =
        [(CACHE_CONTROL, "no-store"), (X_CONTENT_TYPE_OPTIONS, "nosniff"), (REFERRER_POLICY, "no-referrer")];
    (StatusCode::MISDIRECTED_REQUEST, headers, text).into_response()
}

/// Refuses actions that the page itself has not sent. A client without `Sec-Fetch-Site` is no current browser
/// and can use the endpoints of the sandbox itself.
pub async fn same_origin(request: Request, next: Next) -> Response {
    let mut sites = request.headers().get_all(FETCH_SITE).iter();
    if sites.next().is_some_and(|site| site == "same-origin") && sites.next().is_none() {
        return next.run(request).await;
    }
    refusal(
        StatusCode::FORBIDDEN,
        "Sec-Fetch-Site: only the page itself may act, with same-origin; without a browser, see `hypersender-grpc \
         sandbox --help`",
    )
}

/// The answer to an action that is not taken.
pub fn refusal(status: StatusCode, text: &str) -> Response {
    (status, Json(serde_json::json!({ "error": text }))).into_response()
}

/// Whether every name that the request gives to this server is one of this machine, and there is one. HTTP/2
/// has the name in the URI, and HTTP/1.1 may have it there as well.
fn is_for_loopback(uri: &Uri, headers: &HeaderMap) -> bool {
    let mut hosts = headers.get_all(HOST).iter();
    let (host, further) = (hosts.next(), hosts.next());
    let in_header = host.map(|host| host.to_str().is_ok_and(is_loopback));
    let in_uri = uri.authority().map(|authority| is_loopback(authority.as_str()));
    match (in_header, in_uri, further) {
        (Some(header), uri, None) => header && uri.unwrap_or(true),
        (None, Some(uri), None) => uri,
        (None, None, None) | (_, _, Some(_)) => false,
    }
}

/// Whether `authority`, a host with or without a port, is a name of this machine. Names below `localhost` are
/// none: another program may serve pages under them.
fn is_loopback(authority: &str) -> bool {
    // The brackets of an IPv6 address enclose further colons.
    let end = authority.rfind(']').map_or(0, |bracket| bracket + 1);
    let (host, port) = match authority[end..].split_once(':') {
        Some((rest, port)) => (&authority[..end + rest.len()], Some(port)),
        None => (authority, None),
    };
    if port.is_some_and(|port| port.parse::<u16>().is_err()) {
        return false;
    }
    if let Some(address) = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')) {
        return address.parse::<Ipv6Addr>().is_ok_and(|address| {
            address.is_loopback() || address.to_ipv4_mapped().is_some_and(|address| address.is_loopback())
        });
    }
    let name = host.strip_suffix('.').unwrap_or(host);
    name.eq_ignore_ascii_case("localhost") || host.parse::<Ipv4Addr>().is_ok_and(|host| host.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(host: &str, expected: bool) {
        assert_eq!(is_loopback(host), expected, "{host}");
    }

    #[test]
    fn only_names_of_this_machine_are_loopback() {
        for host in [
            "localhost",
            "localhost:8080",
            "LOCALHOST:1",
            "localhost.",
            "localhost.:8080",
            "127.0.0.1",
            "127.0.0.1:8080",
            "127.0.0.2",
            "127.255.255.254:1",
            "[::1]",
            "[::1]:8080",
            "[0:0:0:0:0:0:0:1]",
            "[::ffff:127.0.0.1]:80",
        ] {
            check(host, true);
        }
        for host in [
            "",
            ":8080",
            "attacker.example",
            "attacker.example:8080",
            "localhost.attacker.example",
            "127.0.0.1.attacker.example",
            "attacker.localhost",
            "0.0.0.0",
            "0.0.0.0:8080",
            "10.0.0.1",
            "169.254.169.254",
            "[::]",
            "[::2]",
            "[fe80::1]",
            "::1",
            "127.1",
            "0x7f000001",
            "2130706433",
            "0177.0.0.1",
            "127.0.0.1@attacker.example",
            "attacker.example@127.0.0.1",
            "localhost attacker.example",
            "localhost,attacker.example",
            "localhost/",
            "localhost..",
            "localhost:80:80",
            "[::1",
            "[::1]x",
            "[127.0.0.1]",
            "ⓛocalhost",
        ] {
            check(host, false);
        }
    }

    #[test]
    fn every_name_in_a_request_counts_and_there_is_one() {
        for (uri, hosts, expected) in [
            ("/", &["localhost"][..], true),
            ("http://127.0.0.1:8080/", &[], true),
            ("http://127.0.0.1:8080/", &["localhost:8080"], true),
            ("/", &[], false),
            ("/", &["localhost", "localhost"], false),
            ("/", &["localhost", "attacker.example"], false),
            ("http://attacker.example/", &["localhost"], false),
            ("http://localhost/", &["attacker.example"], false),
            ("http://attacker.example/", &[], false),
        ] {
            let mut headers = HeaderMap::new();
            for host in hosts {
                headers.append(HOST, host.parse().unwrap());
            }
            assert_eq!(is_for_loopback(&uri.parse().unwrap(), &headers), expected, "{uri} {hosts:?}");
        }
    }
}
