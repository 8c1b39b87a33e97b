//! Requests without an answer: what the client's error means for the look-up, and which part of it may be
//! logged.

use std::{error::Error, io};

use crate::{
    domain::{Again, LookupError},
    telemetry::sources,
};

/// The meaning of the failure for the look-up, and the error without its URL, which holds the contact.
pub fn classify(error: reqwest::Error) -> (reqwest::Error, LookupError) {
    let error = error.without_url();
    // The only time-out of the client itself is that of connecting. The attempt's time-out is set around it.
    let again = if is_certificate_fault(&error) { Again::No } else { Again::Yes };
    let failure = LookupError::Unavailable { retry_after: None, again };
    (error, failure)
}

/// How often a request may be sent again after a graceful GOAWAY. Each such connection has answered other
/// requests meanwhile. With 64 attempts on the wire (rule 21), and connections that take only 10 requests
/// each, six GOAWAYs at most meet one request.
const GOAWAYS_MAX: u32 = 8;

/// How often a request that failed with this error may be sent again at once, on another connection. It is
/// zero unless Hypersender certainly did not process the request. A request sent again is no retry (rule 19),
/// because the failure says nothing about Hypersender's health.
pub fn resends_max(error: &(dyn Error + 'static)) -> u32 {
    let resends = |source: &(dyn Error + 'static)| {
        if let Some(error) = source.downcast_ref::<h2::Error>() {
            return match error.reason() {
                // Streams above the last id of a graceful GOAWAY were not processed (RFC 9113, 6.8), and h2
                // fails only those.
                Some(h2::Reason::NO_ERROR) if error.is_go_away() && error.is_remote() => GOAWAYS_MAX,
                // RFC 9113, 8.7. The server may be at its limit, and many more requests would not help it.
                Some(h2::Reason::REFUSED_STREAM) if error.is_reset() && error.is_remote() => 1,
                _ => 0,
            };
        }
        // The connection ended before hyper began to write the request.
        u32::from(source.downcast_ref::<hyper::Error>().is_some_and(hyper::Error::is_canceled))
    };
    sources(error).map(resends).max().unwrap_or_default()
}

/// A wrong certificate stays wrong. Another attempt would only hide the fault.
fn is_certificate_fault(error: &reqwest::Error) -> bool {
    sources(error).any(|source| {
        let mut source = source;
        // The chain of sources skips the error inside an io::Error, and the TLS connector wraps its error
        // twice.
        while let Some(inner) = source.downcast_ref::<io::Error>().and_then(io::Error::get_ref) {
            source = inner;
        }
        matches!(source.downcast_ref(), Some(rustls::Error::InvalidCertificate(_)))
    })
}

#[cfg(test)]
mod tests {
    use hyper_util::rt::TokioIo;

    use super::*;

    #[tokio::test]
    async fn a_request_is_sent_again_only_when_it_was_never_written() {
        for (row, after, resends) in [("closed before", 0, 1), ("closed after", 1, 0)] {
            let (client, server) = tokio::io::duplex(1024);
            let (mut sender, connection) =
                hyper::client::conn::http1::handshake::<_, String>(TokioIo::new(client)).await.unwrap();
            let request = || hyper::Request::new(String::new());
            let sent = if after == 1 {
                let sent = sender.send_request(request());
                tokio::spawn(connection);
                // The request is written by the time that the connection waits for an answer.
                tokio::task::yield_now().await;
                drop(server);
                sent.await
            } else {
                drop(server);
                let sent = sender.send_request(request());
                drop(connection);
                sent.await
            };
            assert_eq!(resends_max(&sent.unwrap_err()), resends, "{row}");
        }
    }
}
