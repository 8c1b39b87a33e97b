//! [`names_one_host`]: the check of `Host` and `:authority` (RFC 9112 section 3.2, RFC 9113 section 8.3.1).
//!
//! A request that names two hosts, or none, may be read as one for another host by a proxy in front, so it is
//! refused. Not here: which host it is, which only the page of the sandbox cares about.

use http::{HeaderValue, Version, header::HOST, request::Parts, uri::Authority};

/// Whether the request names the host that it is for, and names one only.
pub fn names_one_host(head: &Parts) -> bool {
    let mut hosts = head.headers.get_all(HOST).iter();
    match (hosts.next(), hosts.next(), head.uri.authority()) {
        (_, Some(_), _) => false,
        (None, None, None) => head.version < Version::HTTP_11,
        // In HTTP/1, `Host` is needed besides an absolute URI.
        (None, None, Some(_)) => head.version != Version::HTTP_11,
        (Some(host), None, Some(authority)) if head.version >= Version::HTTP_2 => {
            host.as_bytes().eq_ignore_ascii_case(authority.as_str().as_bytes())
        }
        // In HTTP/1, an absolute URI takes the place of `Host`, whatever that says.
        (Some(host), None, _) => is_host(host),
    }
}

/// Whether this is a host with or without a port, or empty, as the standard allows.
fn is_host(host: &HeaderValue) -> bool {
    let host = host.as_bytes();
    host.is_empty() || (!host.contains(&b'@') && Authority::try_from(host).is_ok())
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
            (V::HTTP_11, "/", &[""], true),
            (V::HTTP_11, "http://a.example/", &["b.example"], true),
            (V::HTTP_11, "/", &[], false),
            (V::HTTP_11, "http://a.example/", &[], false),
            (V::HTTP_11, "/", &["a.example", "a.example"], false),
            (V::HTTP_11, "/", &["a.example", "b.example"], false),
            (V::HTTP_11, "/", &["a.example/x"], false),
            (V::HTTP_11, "/", &["a.example b.example"], false),
            (V::HTTP_11, "/", &["a.example, b.example"], false),
            (V::HTTP_11, "/", &["user@a.example"], false),
            (V::HTTP_10, "/", &[], true),
            (V::HTTP_10, "/", &["a.example"], true),
            (V::HTTP_10, "/", &["a.example", "a.example"], false),
            (V::HTTP_2, "https://a.example/", &[], true),
            (V::HTTP_2, "https://a.example/", &["A.example"], true),
            (V::HTTP_2, "/", &["a.example"], true),
            (V::HTTP_2, "/", &[], false),
            (V::HTTP_2, "https://a.example/", &["b.example"], false),
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
