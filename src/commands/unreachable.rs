//! Why a service could not be asked, and what to change on the command line, for the subcommands that ask it.

use std::{
    error::Error,
    io::{self, ErrorKind},
};

use humantime::format_duration;
use rustls::{AlertDescription, CertificateError, Error as TlsError};
use tonic::{Status, TimeoutExpired};

use crate::{
    config::{ClientTls, Target},
    telemetry::sources,
};

const NO_TLS: &str =
    "no TLS is spoken there; leave out --tls-ca, or ask the port of the service that has TLS";
const NO_CERTIFICATE: &str =
    "the service asks its clients for a certificate; add --tls-client-cert and --tls-client-key";
const OTHER_CERTIFICATE: &str = "the service does not accept the certificate of --tls-client-cert";

/// What a person is told of a connection to `target` that failed in `error`.
pub fn explain(target: &Target, error: &(dyn Error + 'static)) -> String {
    explain_lost(target, error, NO_TLS)
}

/// The same of a call; `None` when the service itself answered so.
pub fn explain_call(target: &Target, status: &Status) -> Option<String> {
    let shown = target.tls.as_ref().is_some_and(|tls| tls.identity.is_some());
    // A client of TLS 1.3 is turned away once the handshake is over for it, and may lose the word that says why.
    let hint = if shown { OTHER_CERTIFICATE } else { NO_CERTIFICATE };
    status.source().map(|error| explain_lost(target, error, hint))
}

/// `hint` is what a connection with TLS is most likely lost for, if nothing is known of it.
fn explain_lost(target: &Target, error: &(dyn Error + 'static), hint: &str) -> String {
    let address = &target.address;
    let cause = sources(error).last().map(ToString::to_string).unwrap_or_default();
    match (&target.tls, sources(error).find_map(tls_error)) {
        (Some(tls), Some(error)) => match tls_hint(tls, error) {
            Some(hint) => format!("cannot connect to {address}: {hint} ({error})"),
            None => format!("cannot connect to {address}: {error}"),
        },
        _ if sources(error).any(<dyn Error>::is::<TimeoutExpired>) => {
            format!("no answer from {address} within {}", format_duration(target.timeout))
        }
        _ if !is_lost(error) => format!("cannot connect to {address}: {cause}"),
        (None, _) => format!(
            "no gRPC answer from {address} ({cause}); if that is the gRPC port of a service with TLS, add --tls-ca"
        ),
        (Some(_), None) => format!("{address} closed the connection ({cause}); most likely {hint}"),
    }
}

/// Whether there was a connection, which broke; without one, the system says why. Once calls are made, what the library for
/// TLS says of a connection is left as text and as data that is invalid.
fn is_lost(error: &(dyn Error + 'static)) -> bool {
    let mut errors = sources(error).filter_map(|error| error.downcast_ref::<io::Error>());
    errors.all(|error| {
        matches!(
            error.kind(),
            ErrorKind::BrokenPipe
                | ErrorKind::ConnectionReset
                | ErrorKind::UnexpectedEof
                | ErrorKind::InvalidData
        )
    })
}

/// What the library for TLS says, which the error of a socket may hold.
fn tls_error<'a>(error: &'a (dyn Error + 'static)) -> Option<&'a TlsError> {
    let held = error.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
    error.downcast_ref().or_else(|| held.and_then(|error| error.downcast_ref()))
}

fn tls_hint(tls: &ClientTls, error: &TlsError) -> Option<&'static str> {
    match error {
        TlsError::InvalidMessage(_) => Some(NO_TLS),
        TlsError::InvalidCertificate(CertificateError::UnknownIssuer | CertificateError::BadSignature) => {
            Some("no authority in --tls-ca has signed the certificate of the service")
        }
        TlsError::InvalidCertificate(
            CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
        ) => Some("the certificate of the service has another name; say which by --tls-domain"),
        TlsError::AlertReceived(AlertDescription::NoApplicationProtocol) => {
            Some("TLS is spoken there, but no gRPC; is it the gRPC port of the service?")
        }
        TlsError::AlertReceived(
            AlertDescription::CertificateRequired | AlertDescription::HandshakeFailure,
        ) if tls.identity.is_none() => Some(NO_CERTIFICATE),
        TlsError::AlertReceived(
            AlertDescription::UnknownCA
            | AlertDescription::BadCertificate
            | AlertDescription::UnsupportedCertificate
            | AlertDescription::CertificateRevoked
            | AlertDescription::CertificateExpired
            | AlertDescription::CertificateUnknown
            | AlertDescription::DecryptError
            | AlertDescription::AccessDenied,
        ) if tls.identity.is_some() => Some(OTHER_CERTIFICATE),
        _ => None,
    }
}
