//! Whether this machine has the certificates of authorities (CA certificates) that TLS needs. A container
//! often has none.

use rustls::RootCertStore;
use rustls_native_certs::load_native_certs;

/// The fault of a machine without certificates, or `None` where it has some. They are looked for where the
/// clients look for them: in SSL_CERT_FILE and SSL_CERT_DIR, or in the usual places of the system. `protocol`
/// is the one that needs them.
pub fn missing(protocol: &str) -> Option<String> {
    let found = load_native_certs();
    let (usable, _) = RootCertStore::empty().add_parsable_certificates(found.certs);
    if usable > 0 {
        return None;
    }
    let why = found.errors.first().map(|error| format!(" ({error})")).unwrap_or_default();
    Some(format!(
        "{protocol} needs certificates of authorities, and this machine has none{why}; install ca-certificates, or set \
         SSL_CERT_FILE or SSL_CERT_DIR"
    ))
}
