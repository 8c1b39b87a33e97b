//! [`names_one_host`]: the check of `Host` and `:authority` (RFC 9112 section 3.2, RFC 9113 section 8.3.1).
//!
//! A request that names two hosts, or none, may be read as one for another host by a proxy in front, so it is
//! refused. Not here: which host it is, which only the page of the sandbox cares about.

use std::net::Ipv6Addr;

use http::{HeaderValue, Version, header::HOST, request::Parts, uri::Authority};

/// Whether the request names the host that it is for, and names one only.
pub fn names_one_host(head: &Parts) -> bool {
    let mut hosts = head.headers.get_all(HOST).iter().map(HeaderValue::as_bytes);
    let authority = head.uri.authority().map(|authority| authority.as_str().as_bytes());
    match (hosts.next(), hosts.next(), authority) {
        (_, Some(_), _) => false,
        (None, None, None) => head.version < Version::HTTP_11,
        // In HTTP/1, `Host` is needed besides an absolute URI.
        (None, None, Some(authority)) => head.version != Version::HTTP_11 && is_host(authority),
        (Some(host), None, Some(authority)) if head.version >= Version::HTTP_2 => {
            host.eq_ignore_ascii_case(authority) && is_host(authority)
        }
        // In HTTP/1, an absolute URI takes the place of `Host`, whatever that says.
        (Some(host), None, Some(authority)) => is_host(host) && is_host(authority),
        (Some(host), None, None) => is_host(host),
    }
}

/// Whether this is a host with or without a port. The standard allows an empty one, too, for an address
/// without a host, which no address of an image is.
fn is_host(text: &[u8]) -> bool {
    let Ok(authority) = Authority::try_from(text) else { return false };
    let (text, host) = (authority.as_str(), authority.host());
    let is_address = match host.strip_prefix('[').and_then(|host| host.strip_suffix(']')) {
        Some(address) => address.parse::<Ipv6Addr>().is_ok(),
        None => !host.is_empty(),
    };
    let is_port = |port: &str| {
        let is_number = port.bytes().all(|byte| byte.is_ascii_digit());
        is_number && (port.is_empty() || port.parse::<u16>().is_ok())
    };
    // A user in front of the host leaves a rest that is no port.
    let rest = text.strip_prefix(host);
    is_address && rest.is_some_and(|rest| rest.is_empty() || rest.strip_prefix(':').is_some_and(is_port))
}

#[cfg(test)]
mod tests {
    use http::Request;

    use super::*;

    #[test]
    fn a_request_names_one_host() {
        use Version as V;
        for (version, uri, hosts, expected) in [
            (V::HTTP_11, "/", &["a.example"][..], true),
            (V::HTTP_11, "/", &["a.example:8080"], true),
            (V::HTTP_11, "/", &["[::1]:8080"], true),
            (V::HTTP_11, "/", &["a.example:"], true),
            (V::HTTP_11, "/", &["a.example:65535"], true),
            (V::HTTP_11, "/", &["[::1]"], true),
            (V::HTTP_11, "/", &["127.0.0.1:80"], true),
            (V::HTTP_11, "/", &[""], false),
            (V::HTTP_11, "/", &[":80"], false),
            (V::HTTP_11, "/", &["a.example:ab"], false),
            (V::HTTP_11, "/", &["a.example:+80"], false),
            (V::HTTP_11, "/", &["a.example:65536"], false),
            (V::HTTP_11, "/", &["a.example:99999"], false),
            (V::HTTP_11, "/", &["a.example:1:2"], false),
            (V::HTTP_11, "/", &["[::1"], false),
            (V::HTTP_11, "/", &["[a.example]"], false),
            (V::HTTP_11, "/", &["[::1]a"], false),
            (V::HTTP_11, "http://user:pass@a.example/", &["a.example"], false),
            (V::HTTP_11, "http://a.example:99999/", &["a.example"], false),
            (V::HTTP_10, "http://user@a.example/", &[], false),
            (V::HTTP_11, "http://a.example/", &["b.example"], true),
            (V::HTTP_11, "/", &[], false),
            (V::HTTP_11, "http://a.example/", &[], false),
            (V::HTTP_11, "/", &["a.example", "a.example"], false),
            (V::HTTP_11, "/", &["a.example", "b.example"], false),
            (V::HTTP_11, "/", &["a.example/x"], false),
            (V::HTTP_11, "/", &["a.example b.example"], false),
            (V::HTTP_11, "/", &["a.example, b.example"], false),
            (V::HTTP_11, "/", &["user@a.example"], false),
            (V::HTTP_11, "/", &["a@a"], false),
            (V::HTTP_10, "/", &[], true),
            (V::HTTP_10, "/", &["a.example"], true),
            (V::HTTP_10, "/", &["a.example", "a.example"], false),
            (V::HTTP_2, "https://a.example/", &[], true),
            (V::HTTP_2, "https://a.example/", &["A.example"], true),
            (V::HTTP_2, "/", &["a.example"], true),
            (V::HTTP_2, "/", &[], false),
            (V::HTTP_2, "https://a.example/", &["b.example"], false),
            (V::HTTP_2, "https://user:pass@a.example/", &[], false),
            (V::HTTP_2, "https://user:pass@a.example/", &["user:pass@a.example"], false),
            (V::HTTP_2, "https://a.example:99999/", &[], false),
            (V::HTTP_2, "https://a.example:443/", &[], true),
            (V::HTTP_2, "https://a.example/", &["a.example", "a.example"], false),
        ] {
            let mut request = Request::builder().version(version).uri(uri);
            for host in hosts {
                request = request.header(HOST, *host);
            }
            let (head, ()) = request.body(()).unwrap().into_parts();
            assert_eq!(names_one_host(&head), expected, "{version:?} {uri} {hosts:?}");
        }
    }
}
