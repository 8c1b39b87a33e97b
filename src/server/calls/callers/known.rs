//! [`Known`]: the callers that are known, each with its token or certificate.
//!
//! Only the hashes of the tokens are stored.

use std::collections::HashMap;

use aws_lc_rs::digest::{SHA256, digest};
use subtle::{Choice, ConditionallySelectable, ConstantTimeEq};

use crate::domain::{Caller, PeerNames, Unknown};

/// The callers that are known.
#[derive(Debug, Default)]
pub struct Known {
    tokens: Vec<(TokenHash, Caller)>,
    certificates: HashMap<String, Caller>,
}

/// SHA-256 of a bearer token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TokenHash(pub [u8; 32]);

impl TokenHash {
    /// The hash of `token`.
    #[must_use]
    pub fn of(token: &str) -> Self {
        let mut hash = Self([0; 32]);
        hash.0.copy_from_slice(digest(&SHA256, token.as_bytes()).as_ref());
        hash
    }
}

impl Known {
    /// Maximum number of callers. The first token of a connection, and each one that differs from the last,
    /// is compared with all of them, which takes about 50 us for this number.
    pub const CALLERS_MAX: usize = 1000;

    /// Adds a caller by its token.
    ///
    /// # Errors
    ///
    /// The caller that has the same token.
    pub fn add_token(&mut self, hash: TokenHash, caller: Caller) -> Result<(), Caller> {
        if let Some((_, other)) = self.tokens.iter().find(|(known, _)| *known == hash) {
            return Err(other.clone());
        }
        self.tokens.push((hash, caller));
        Ok(())
    }

    /// Adds a caller by a name in its certificate. URIs are compared byte by byte, other names without regard
    /// to case.
    ///
    /// # Errors
    ///
    /// The caller that has the same name.
    pub fn add_certificate(&mut self, name: &str, caller: Caller) -> Result<(), Caller> {
        if let Some(other) = self.certificates.get(&certificate_name(name)) {
            return Err(other.clone());
        }
        self.certificates.insert(certificate_name(name), caller);
        Ok(())
    }

    /// Whether a caller is known by a token.
    #[must_use]
    pub fn has_tokens(&self) -> bool {
        !self.tokens.is_empty()
    }

    /// The number of callers.
    #[must_use]
    pub fn len(&self) -> usize {
        self.tokens.len() + self.certificates.len()
    }

    /// Whether no caller is known.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The caller of this token. Compares with every token, even after one has matched, so that the time does
    /// not depend on the token.
    ///
    /// # Errors
    ///
    /// [`Unknown::TokenUnknown`] when no caller has it.
    pub fn by_token(&self, token: &str) -> Result<&Caller, Unknown> {
        let given = TokenHash::of(token);
        let mut found = u64::MAX;
        for (at, (known, _)) in (0_u64..).zip(&self.tokens) {
            let fits: Choice = known.0.ct_eq(&given.0);
            found.conditional_assign(&at, fits);
        }
        let found = usize::try_from(found).ok().and_then(|at| self.tokens.get(at));
        found.map(|(_, caller)| caller).ok_or(Unknown::TokenUnknown)
    }

    /// The one caller that these names belong to.
    ///
    /// # Errors
    ///
    /// [`Unknown::CertificateUnknown`] when they belong to no caller, [`Unknown::CertificateAmbiguous`] when
    /// to several.
    pub fn by_certificate(&self, names: &PeerNames) -> Result<&Caller, Unknown> {
        let mut callers = names.0.iter().filter_map(|name| self.certificates.get(&certificate_name(name)));
        let caller = callers.next().ok_or(Unknown::CertificateUnknown)?;
        if callers.any(|other| other != caller) {
            return Err(Unknown::CertificateAmbiguous);
        }
        Ok(caller)
    }
}

/// The form in which a name is compared: a URI byte by byte (SPIFFE requires that), a DNS or common name
/// without regard to case.
fn certificate_name(name: &str) -> String {
    if name.contains(':') { name.to_owned() } else { name.to_ascii_lowercase() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::Allowed;

    fn caller(name: &str) -> Caller {
        Caller::new(name, Allowed::All)
    }

    #[test]
    fn a_token_hash_is_what_sha256sum_prints() {
        // Of "abc": ba7816bf ... f20015ad.
        let TokenHash(hash) = TokenHash::of("abc");
        assert_eq!((&hash[..4], &hash[28..]), (&[0xba, 0x78, 0x16, 0xbf][..], &[0xf2, 0, 0x15, 0xad][..]));
    }

    #[test]
    fn a_token_finds_its_caller_alone() {
        let mut known = Known::default();
        assert_eq!(known.by_token("first"), Err(Unknown::TokenUnknown));
        for name in ["first", "second", "third"] {
            known.add_token(TokenHash::of(name), caller(name)).unwrap();
        }
        for name in ["first", "second", "third"] {
            assert_eq!(known.by_token(name), Ok(&caller(name)));
        }
        assert_eq!(known.by_token("fourth"), Err(Unknown::TokenUnknown));
        assert_eq!(known.add_token(TokenHash::of("second"), caller("fifth")), Err(caller("second")));
    }

    #[test]
    fn a_certificate_finds_its_caller_by_any_of_its_names() {
        let mut known = Known::default();
        known.add_certificate("crm.internal", caller("crm")).unwrap();
        known.add_certificate("spiffe://mesh/Shop", caller("shop")).unwrap();
        assert_eq!(known.add_certificate("CRM.internal", caller("other")), Err(caller("crm")));
        for (names, expected) in [
            (&["crm.internal"][..], Ok(caller("crm"))),
            (&["CRM.Internal"], Ok(caller("crm"))),
            (&["x.internal", "crm.internal"], Ok(caller("crm"))),
            (&["spiffe://mesh/Shop"], Ok(caller("shop"))),
            (&["spiffe://mesh/shop"], Err(Unknown::CertificateUnknown)),
            (&["*.internal"], Err(Unknown::CertificateUnknown)),
            (&["a.crm.internal"], Err(Unknown::CertificateUnknown)),
            (&[], Err(Unknown::CertificateUnknown)),
            (&["crm.internal", "spiffe://mesh/Shop"], Err(Unknown::CertificateAmbiguous)),
        ] {
            let given = PeerNames(names.iter().map(|name| (*name).to_owned()).collect());
            assert_eq!(known.by_certificate(&given).cloned(), expected, "{names:?}");
        }
    }
}
