//! Calls that brought no answer: what the client's error means, and what of it a log may hold.

use std::io;

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
