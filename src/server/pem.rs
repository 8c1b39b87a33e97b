//! [`Pem`]: a file of certificates and keys, read in full or refused.
//!
//! PEM parsers skip blocks of unknown kinds, and a line that two blocks share. An authority that is skipped
//! locks its clients out, and a skipped revocation list revokes nothing. Here every block of the file is read
//! or is a fault.

use std::{fs, path::Path};

use rustls::{
    Error, InconsistentKeys,
    crypto::aws_lc_rs,
    pki_types::{
        CertificateDer, PrivateKeyDer,
        pem::{self, PemObject, SectionKind},
    },
    sign::CertifiedKey,
};
use x509_parser::prelude::{FromDer, X509Certificate};

/// Maximum size of a file, in bytes. A chain of thousands of certificates is smaller, so a larger file is
/// probably the wrong file, and is refused.
const BYTES_MAX: u64 = 16 << 20;
const BEGIN: &str = "-----BEGIN ";
const END: &str = "-----END ";
const ENCRYPTED: &str = "the key is encrypted; decrypt it with openssl pkey";

/// The content of a PEM file. All of its blocks are certificates, private keys, or parameters of keys.
pub struct Pem {
    bytes: Vec<u8>,
    sections: Vec<(SectionKind, Vec<u8>)>,
}

/// A block: its kind, and the line it begins on.
struct Block<'a> {
    label: &'a str,
    line: usize,
}

impl Pem {
    /// Reads a file.
    ///
    /// # Errors
    ///
    /// Why it cannot be read, or which of its lines is at fault, without any of its content.
    pub fn read(path: &Path) -> Result<Self, String> {
        let cannot = |error: std::io::Error| format!("cannot read the file ({error})");
        if fs::metadata(path).map_err(cannot)?.len() > BYTES_MAX {
            return Err(format!("the file has more than {BYTES_MAX} bytes; is it the right one?"));
        }
        let bytes = fs::read(path).map_err(cannot)?;
        Self::parse(bytes)
    }

    fn parse(bytes: Vec<u8>) -> Result<Self, String> {
        let text = String::from_utf8_lossy(&bytes);
        let mut known = Vec::new();
        for Block { label, line } in blocks(&text)? {
            match SectionKind::try_from(label.as_bytes()) {
                Ok(
                    SectionKind::Certificate
                    | SectionKind::PrivateKey
                    | SectionKind::RsaPrivateKey
                    | SectionKind::EcPrivateKey,
                ) => known.push(line),
                Ok(SectionKind::Crl) => {
                    return Err(format!("line {line}: a revocation list, which is not supported"));
                }
                Ok(SectionKind::Csr) => {
                    return Err(format!("line {line}: a request for a certificate, not a certificate"));
                }
                Err(()) if label.contains("ENCRYPTED") => return Err(format!("line {line}: {ENCRYPTED}")),
                // openssl writes these parameters before a key. The key contains them, too.
                Err(()) if label.ends_with(" PARAMETERS") => {}
                Ok(_) | Err(()) => {
                    return Err(format!("line {line}: neither a certificate nor a private key begins here"));
                }
            }
        }
        if text.contains("Proc-Type: 4,ENCRYPTED") {
            return Err(ENCRYPTED.to_owned());
        }
        let mut sections = Vec::new();
        for read in <(SectionKind, Vec<u8>)>::pem_slice_iter(&bytes) {
            let line = known.get(sections.len()).copied().unwrap_or_default();
            sections.push(read.map_err(|error| match error {
                pem::Error::Base64Decode(_) => {
                    format!("line {line}: the block that begins here is not base64")
                }
                _ => format!("line {line}: the block that begins here cannot be read"),
            })?);
        }
        if sections.len() != known.len() {
            return Err(format!("only {} of {} blocks can be read", sections.len(), known.len()));
        }
        Ok(Self { bytes, sections })
    }

    /// The unchanged content of the file.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// All certificates.
    ///
    /// # Errors
    ///
    /// When there is none, or one is broken.
    pub fn certificates(&self) -> Result<Vec<CertificateDer<'static>>, String> {
        let sections = self.sections.iter();
        let found = sections.filter_map(|(kind, der)| CertificateDer::from_pem(*kind, der.clone()));
        let found: Vec<_> = found.collect();
        let is_whole = |der: &CertificateDer<'_>| matches!(X509Certificate::from_der(der), Ok(([], _)));
        match found.iter().position(|certificate| !is_whole(certificate)) {
            Some(at) => Err(format!("certificate number {} is broken", at + 1)),
            None if found.is_empty() => Err("holds no certificate in PEM".to_owned()),
            None => Ok(found),
        }
    }

    /// The one private key.
    ///
    /// # Errors
    ///
    /// When there is none, or more than one, or it is broken.
    pub fn private_key(&self) -> Result<PrivateKeyDer<'static>, String> {
        let sections = self.sections.iter();
        let mut keys = sections.filter_map(|(kind, der)| PrivateKeyDer::from_pem(*kind, der.clone()));
        match (keys.next(), keys.count()) {
            (None, _) => Err("holds no private key in PEM".to_owned()),
            (Some(key), 0) => {
                let loaded = aws_lc_rs::default_provider().key_provider.load_private_key(key.clone_key());
                let loaded =
                    loaded.map_err(|_| "the private key is broken, or of a kind that is not supported");
                loaded.map(|_| key).map_err(str::to_owned)
            }
            (Some(_), others) => Err(format!("holds {} private keys; keep one", others + 1)),
        }
    }

    /// Whether `key` is the private key of the first certificate here.
    ///
    /// # Errors
    ///
    /// When one of them is not a certificate or key, or the certificate has a kind of key that is not
    /// supported.
    pub fn is_of(&self, key: &Self) -> Result<bool, String> {
        let (chain, key) = (self.certificates()?, key.private_key()?);
        match CertifiedKey::from_der(chain, key, &aws_lc_rs::default_provider()) {
            Ok(_) => Ok(true),
            Err(Error::InconsistentKeys(InconsistentKeys::KeyMismatch)) => Ok(false),
            Err(error) => Err(error.to_string()),
        }
    }
}

/// All blocks of the file, each with its end.
fn blocks(text: &str) -> Result<Vec<Block<'_>>, String> {
    let mut blocks = Vec::new();
    let mut open: Option<Block<'_>> = None;
    for (line, text) in (1..).zip(text.lines()) {
        if text.starts_with('\u{feff}') {
            return Err(format!(
                "line {line}: begins with a byte order mark (BOM); save the file without it"
            ));
        }
        let begins = text.matches(BEGIN).count();
        if begins > 1 || begins == 1 && !text.starts_with(BEGIN) {
            return Err(format!(
                "line {line}: a block begins within the line; put a line break before -----BEGIN"
            ));
        }
        let label = |mark| text.strip_prefix(mark).and_then(|rest| rest.trim_end().strip_suffix("-----"));
        if begins == 1 {
            if let Some(Block { line, .. }) = open {
                return Err(format!("line {line}: the block that begins here has no end"));
            }
            let label = label(BEGIN).ok_or_else(|| format!("line {line}: the -----BEGIN line is damaged"))?;
            open = Some(Block { label, line });
        } else if text.contains(END) {
            match open.take() {
                Some(block) if label(END) == Some(block.label) => blocks.push(block),
                Some(Block { line, .. }) => {
                    return Err(format!("line {line}: the block that begins here has another end"));
                }
                None => return Err(format!("line {line}: a block ends here that does not begin")),
            }
        } else if text.to_ascii_uppercase().contains(BEGIN) {
            return Err(format!("line {line}: the -----BEGIN line is not in capital letters"));
        } else if open.is_none() && is_base64(text) {
            return Err(format!(
                "line {line}: base64 outside of a block; the -----BEGIN line is missing or damaged"
            ));
        }
    }
    match open {
        Some(Block { line, .. }) => {
            Err(format!("line {line}: the block that begins here has no end; is the file cut off?"))
        }
        None => Ok(blocks),
    }
}

/// Whether a line outside of blocks is one of a block whose beginning is not seen. Text between blocks is
/// allowed, such as the `subject=` and `Bag Attributes` that openssl writes; it has blanks or punctuation.
fn is_base64(line: &str) -> bool {
    const CHARS_MIN: usize = 40;
    let line = line.trim();
    let digits = line.strip_suffix("==").or_else(|| line.strip_suffix('=')).unwrap_or(line);
    let is_digit = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/');
    line.len() >= CHARS_MIN && digits.bytes().all(is_digit)
}

#[cfg(test)]
mod tests {
    use rcgen::{CertifiedKey, generate_simple_self_signed};

    use super::*;

    fn certified() -> [String; 2] {
        let CertifiedKey { cert, signing_key } =
            generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        [cert.pem(), signing_key.serialize_pem()]
    }

    /// The number of certificates in the text, and whether it has a key.
    fn read(text: &str) -> Result<(usize, bool), String> {
        let pem = Pem::parse(text.as_bytes().to_vec())?;
        Ok((pem.certificates().map_or(0, |all| all.len()), pem.private_key().is_ok()))
    }

    #[test]
    fn all_blocks_of_a_file_are_read() {
        let [cert, key] = certified();
        let parameters = "-----BEGIN EC PARAMETERS-----\nBggqhkjOPQMBBw==\n-----END EC PARAMETERS-----\n";
        for (text, expected) in [
            (String::new(), (0, false)),
            (cert.clone(), (1, false)),
            (cert.trim_end().to_owned(), (1, false)),
            (cert.repeat(3), (3, false)),
            (format!("subject=CN\n{cert}\nissuer=CN\n{cert}"), (2, false)),
            (format!("{COMMENTS}{cert}{COMMENTS}{key}"), (1, true)),
            (cert.replace('\n', "\r\n"), (1, false)),
            (format!("{parameters}{key}"), (0, true)),
            (format!("{key}{cert}"), (1, true)),
        ] {
            assert_eq!(read(&text), Ok(expected), "{text}");
        }
    }

    /// What openssl and others write around blocks, and a line of base64 that is too short for a block.
    const COMMENTS: &str = "Bag Attributes\n    localKeyID: 54 69 6D 65 20 31 35 39 30 30 30 30 30 30\n    \
        friendlyName: a\nKey Attributes: <No Attributes>\nsubject=CN=localhostlocalhostlocalhostlocalhost\n\
        issuer=/C=US/O=Example/CN=ExampleRootAuthorityNumberOne\n# Label: \"Example\"\n\
        ==========================================================\nMIIBAAAA\n";

    #[test]
    fn a_file_of_which_a_part_would_be_lost_is_refused() {
        let [cert, key] = certified();
        let lines: Vec<_> = cert.lines().collect();
        let upto = |count: usize| lines[..count].join("\n") + "\n";
        let last = lines.len();
        let lower = cert.replace("BEGIN CERTIFICATE", "begin certificate");
        let lower = lower.replace("END CERTIFICATE", "end certificate");
        let of = |label: &str| format!("-----BEGIN {label}-----\nAAAA\n-----END {label}-----\n");
        for (text, told) in [
            (cert.trim_end().repeat(2), format!("line {last}: a block begins within the line")),
            (format!("\u{feff}{cert}"), "line 1: begins with a byte order mark (BOM)".to_owned()),
            (format!("\u{feff}subject=CN\n{cert}"), "line 1: begins with a byte order mark".to_owned()),
            (format!("{cert}\u{feff}{cert}"), format!("line {}: begins with a byte order mark", last + 1)),
            (cert.clone() + &lower, format!("line {}: the -----BEGIN line is not in capital", last + 1)),
            (cert.clone() + &lines[1..last - 1].join("\n"), format!("line {}: base64 outside of", last + 1)),
            (format!("  {}\n{cert}", "Ab+/".repeat(10)), "line 1: base64 outside of a block".to_owned()),
            (format!("{cert}{}=\n", "A".repeat(39)), format!("line {}: base64 outside of", last + 1)),
            (cert.clone() + &cert.replace("-----", "----"), format!("line {}: base64 outside of", last + 2)),
            (format!("{cert} {cert}"), format!("line {}: a block begins within the line", last + 1)),
            (
                upto(last - 1),
                "line 1: the block that begins here has no end; is the file cut off?".to_owned(),
            ),
            (upto(last - 1) + &cert, "line 1: the block that begins here has no end".to_owned()),
            (lines[1..].join("\n"), "line 1: base64 outside of a block; the -----BEGIN line is".to_owned()),
            (lines[last - 1].to_owned(), "line 1: a block ends here that does not begin".to_owned()),
            (cert.replacen("-----BEGIN", "----BEGIN", 1), "line 2: base64 outside of a block".to_owned()),
            (
                cert.replacen("CERTIFICATE-----", "CERTIFICATE---", 1),
                "line 1: the -----BEGIN line".to_owned(),
            ),
            (
                cert.replacen("END CERTIFICATE", "END X", 1),
                "line 1: the block that begins here has".to_owned(),
            ),
            (cert.replacen('M', "%", 1), "line 1: the block that begins here is not base64".to_owned()),
            (of("ENCRYPTED PRIVATE KEY"), "line 1: the key is encrypted; decrypt it with openssl".to_owned()),
            (
                key.replacen('\n', "\nProc-Type: 4,ENCRYPTED\nDEK-Info: AES-128-CBC,00\n\n", 1),
                "the key is encrypted; decrypt it with openssl pkey".to_owned(),
            ),
            (cert.clone() + &of("X509 CRL"), format!("line {}: a revocation list", last + 1)),
            (of("CERTIFICATE REQUEST"), "line 1: a request for a certificate".to_owned()),
            (of("TRUSTED CERTIFICATE"), "line 1: neither a certificate nor a private key".to_owned()),
            (of("PUBLIC KEY"), "line 1: neither a certificate nor a private key".to_owned()),
        ] {
            let fault = read(&text).expect_err(&text);
            assert!(fault.starts_with(&told), "{fault}\n{told}\n{text}");
        }
    }

    #[test]
    fn a_certificate_is_whole_and_a_key_is_one() {
        let [cert, key] = certified();
        let [other, _] = certified();
        let pem = |text: &str| Pem::parse(text.as_bytes().to_vec()).unwrap();
        let mut cut: Vec<_> = cert.lines().collect();
        cut.remove(2);
        assert_eq!(
            pem(&(cert.clone() + &cut.join("\n"))).certificates().unwrap_err(),
            "certificate number 2 is broken"
        );
        assert_eq!(pem(&key.repeat(2)).private_key().unwrap_err(), "holds 2 private keys; keep one");
        let broken = pem("-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----").private_key();
        assert!(broken.unwrap_err().starts_with("the private key is broken"));
        assert_eq!(pem(&cert).private_key().unwrap_err(), "holds no private key in PEM");
        assert_eq!(pem(&key).certificates().unwrap_err(), "holds no certificate in PEM");
        assert_eq!(pem(&cert).is_of(&pem(&key)), Ok(true));
        assert_eq!(pem(&other).is_of(&pem(&key)), Ok(false));
    }
}
