//! Requests without an answer: what the client's error means for the look-up, and which part of it may be
//! logged.

use std::{error::Error, io};

use crate::{
    domain::{Again, LookupError},
    telemetry::sources,
};

/// How often a request that a graceful GOAWAY met is sent again over connections that it shares with others.
/// All requests that wait go onto the same new connection, so a server that takes only a few on each (nginx
/// with `keepalive_requests`, or with `keepalive_timeout 0`) sends most of them away each time.
pub const SHARED_MAX: usize = 4;
/// How often it is sent again after that, each time over a connection that nothing else uses. One such
/// connection is enough for every server that takes at least one request on each, however many attempts are
/// on the wire and however long a handshake takes. The others are for servers that go away just then.
const ALONE_MAX: usize = 4;

/// The meaning of the failure for the look-up, and the error without its URL, which holds the contact.
pub fn classify(error: reqwest::Error) -> (reqwest::Error, LookupError) {
    let error = error.without_url();
    // The only time-out of the client itself is that of connecting. The attempt's time-out is set around it.
    let failure = if Unprocessed::of(&error) == Some(Unprocessed::SentAway) {
        LookupError::SentAway
    } else {
        let again = if is_certificate_fault(&error) { Again::No } else { Again::Yes };
        LookupError::Unavailable { retry_after: None, again }
    };
    (error, failure)
}

/// Why Hypersender certainly did not process a request. Such a request may be sent again at once, which is no
/// retry (rule 15), because the failure says nothing about Hypersender's health.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unprocessed {
    /// A graceful GOAWAY: the connection had taken its last request before this one.
    SentAway,
    /// The stream was refused.
    Refused,
    /// The connection ended before hyper began to write the request.
    Unwritten,
}

impl Unprocessed {
    /// The reason that this error gives; `None` when Hypersender may have processed the request.
    pub fn of(error: &(dyn Error + 'static)) -> Option<Self> {
        sources(error).find_map(|source| {
            let Some(error) = source.downcast_ref::<h2::Error>() else {
                let error = source.downcast_ref::<hyper::Error>()?;
                return error.is_canceled().then_some(Self::Unwritten);
            };
            match error.reason() {
                // Streams above the last id of a graceful GOAWAY were not processed (RFC 9113, 6.8), and h2
                // fails only those.
                Some(h2::Reason::NO_ERROR) if error.is_go_away() && error.is_remote() => Some(Self::SentAway),
                // RFC 9113, 8.7.
                Some(h2::Reason::REFUSED_STREAM) if error.is_reset() && error.is_remote() => {
                    Some(Self::Refused)
                }
                _ => None,
            }
        })
    }

    /// How often a request may be sent again for this reason.
    pub fn resends_max(self) -> usize {
        match self {
            Self::SentAway => SHARED_MAX + ALONE_MAX,
            // The server may be at its limit, and many more requests would not help it.
            Self::Refused | Self::Unwritten => 1,
        }
    }
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
            let reason = Unprocessed::of(&sent.unwrap_err());
            assert_eq!(reason.map_or(0, Unprocessed::resends_max), resends, "{row}");
        }
    }
}
