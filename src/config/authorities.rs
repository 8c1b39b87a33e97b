//! Whether this machine has certificates of the authorities that https needs; a container often has none.

use rustls::RootCertStore;
use rustls_native_certs::load_native_certs;

/// Why nobody could be asked by https, or `None` where the machine has certificates. They are looked for as those who ask do:
/// in SSL_CERT_FILE and SSL_CERT_DIR, else where systems keep them.
pub fn missing() -> Option<String> {
    let found = load_native_certs();
    let (usable, _) = RootCertStore::empty().add_parsable_certificates(found.certs);
    if usable > 0 {
        return None;
    }
    let why = found.errors.first().map(|error| format!(" ({error})")).unwrap_or_default();
    Some(format!(
        "https needs certificates of authorities, and this machine has none{why}; install ca-certificates, or set \
         SSL_CERT_FILE or SSL_CERT_DIR"
    ))
}
