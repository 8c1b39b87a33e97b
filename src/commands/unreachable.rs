//! The texts of `get` and `health` for a service that cannot be reached: the reason, and what to change on
//! the command line.

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

/// The text for a connection to `target` that fails with `error`.
pub fn explain(target: &Target, error: &(dyn Error + 'static)) -> String {
    explain_lost(target, error, NO_TLS)
}

/// The text for a call that fails because of its connection; `None` where `status` is the answer of the
/// service.
pub fn explain_call(target: &Target, status: &Status) -> Option<String> {
    let shown = target.tls.as_ref().is_some_and(|tls| tls.identity.is_some());
    // In TLS 1.3 the handshake of a client ends before the server checks its certificate, and the alert may
    // be lost.
    let hint = if shown { OTHER_CERTIFICATE } else { NO_CERTIFICATE };
    status.source().map(|error| explain_lost(target, error, hint))
}

/// The text for a connection that could not be opened, or has broken. `hint` is the likely reason if a
/// connection with TLS closes without a TLS error.
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

/// Whether there was a connection and it broke. If there was none, the error of the system is the reason. In
/// the error of a call, an error of the TLS library is only text with the kind `InvalidData`.
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

/// The error of the TLS library, which may be inside of an I/O error.
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
            Some("the server speaks TLS but not gRPC; is it the gRPC port of the service?")
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
