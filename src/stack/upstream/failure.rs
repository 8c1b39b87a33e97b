//! Calls that brought no answer: what the client's error means, and what of it a log may hold.

use std::{error::Error, io};

use crate::{
    domain::{Again, LookupError},
    telemetry::sources,
};

/// What the failure means for the look-up, beside the error without its URL: that holds the contact.
pub fn classify(error: reqwest::Error) -> (reqwest::Error, LookupError) {
    let error = error.without_url();
    // The client has one time-out of its own, that of connecting; the attempt's is set around it.
    let again = if is_certificate_fault(&error) { Again::No } else { Again::Yes };
    let failure = LookupError::Unavailable { retry_after: None, again };
    (error, failure)
}

/// How often a request may be sent again after a graceful GOAWAY. Each such connection has answered others meanwhile:
/// with 64 attempts on the wire (rule 21), even one that takes 10 requests leaves no request over after six.
const GOAWAYS_MAX: u32 = 8;

/// How often a request that failed in this way may be sent again at once, on another connection: not at all, unless
/// Hypersender certainly did not process it. That is no retry (rule 19): it says nothing about Hypersender's health.
pub fn resends_max(error: &(dyn Error + 'static)) -> u32 {
    let resends = |source: &(dyn Error + 'static)| {
        if let Some(error) = source.downcast_ref::<h2::Error>() {
            return match error.reason() {
                // RFC 9113, 6.8: streams above the last id of a graceful GOAWAY were not processed; h2 fails only those.
                Some(h2::Reason::NO_ERROR) if error.is_go_away() && error.is_remote() => GOAWAYS_MAX,
                // RFC 9113, 8.7. It may mean a server at its limit, which many more requests would not help.
                Some(h2::Reason::REFUSED_STREAM) if error.is_reset() && error.is_remote() => 1,
                _ => 0,
            };
        }
        // The connection ended before hyper took the request to write it.
        u32::from(source.downcast_ref::<hyper::Error>().is_some_and(hyper::Error::is_canceled))
    };
    sources(error).map(resends).max().unwrap_or_default()
}

/// A certificate that does not fit stays that way, and asking again would only hide it.
fn is_certificate_fault(error: &reqwest::Error) -> bool {
    sources(error).any(|source| {
        let mut source = source;
        // An io::Error leaves the error it wraps out of the chain of sources, and the TLS connector wraps twice.
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
                // Written by the time that the connection waits for an answer.
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
