//! The callers file: who may call, and which instances each may ask, in TOML.
//!
//! ```toml
//! [callers.crm]
//! token_sha256 = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"
//! instances = ["5a4db0c5-7a3e-4c1d-9f26-1b0e5d2c8f47"]
//! ```
//!
//! It is read value by value, so that all faults are told at once. A fault names the caller and repeats no value: where a
//! hash should be, there may be the token.

use std::{path::Path, sync::Arc};

use toml::{Table, Value};

use super::instances::{explain, field, in_file, read_file};
use crate::{
    domain::{Allowed, Caller, Instance},
    server::{Known, TokenHash},
};

/// What callers can be known by; it follows from the other settings.
#[derive(Clone, Copy, Debug)]
pub struct Proofs {
    /// A bearer token: not where that is Hypersender's.
    pub tokens: bool,
    /// A client certificate: where connections are asked for one.
    pub certificates: bool,
}

const NAME_CHARS_MAX: usize = 64;
/// SPIFFE allows its URIs so many; DNS names and common names are shorter.
const CERTIFICATE_CHARS_MAX: usize = 2048;
/// `printf %s "$TOKEN" | sha256sum` with a variable that is not set.
const HASH_OF_NOTHING: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

/// The callers in the file, or every fault of it, with the path of the file.
pub fn read(path: &Path, proofs: Proofs) -> Result<Known, Vec<String>> {
    let text = read_file(path).map_err(|fault| vec![fault]);
    text.and_then(|text| parse(&text, proofs)).map_err(|faults| in_file(path, faults))
}

fn parse(text: &str, proofs: Proofs) -> Result<Known, Vec<String>> {
    let file: Table = toml::from_str(text).map_err(|error| vec![explain(text, &error)])?;
    let mut faults = Vec::new();
    let mut known = Known::default();
    for (name, value) in &file {
        match (name.as_str(), value) {
            ("callers", Value::Table(callers)) => {
                for (name, value) in callers {
                    if let Err(all) = add(&mut known, name, value, proofs) {
                        faults.extend(all.into_iter().map(|fault| format!("{}: {fault}", shown(name))));
                    }
                }
                if callers.len() > Known::CALLERS_MAX {
                    faults.push(format!("names more than {} callers", Known::CALLERS_MAX));
                }
            }
            ("callers", _) => faults.push("callers is no table".to_owned()),
            _ => faults.push(format!("unknown {}; only callers.<name> may stand here", field(name))),
        }
    }
    if known.is_empty() && faults.is_empty() {
        let fault = "names no caller; write [callers.<name>] with token_sha256 or certificate, and instances";
        faults.push(fault.to_owned());
    }
    if faults.is_empty() { Ok(known) } else { Err(faults) }
}

/// What a caller is known by.
enum Proof {
    Token(TokenHash),
    Certificate(String),
}

fn add(known: &mut Known, name: &str, value: &Value, proofs: Proofs) -> Result<(), Vec<String>> {
    let Value::Table(given) = value else {
        return Err(vec!["is no table; write [callers.<name>]".to_owned()]);
    };
    let mut faults = Vec::new();
    if !is_name(name) {
        faults.push(format!("a name is 1 to {NAME_CHARS_MAX} characters of A-Z a-z 0-9 _ - ."));
    }
    let allowed = ["token_sha256", "certificate", "instances"];
    for unknown in given.keys().filter(|field| !allowed.contains(&field.as_str())) {
        faults.push(format!("unknown {}; allowed are {}", field(unknown), allowed.join(", ")));
    }
    let mut note = |fault| faults.push(fault);
    let proof = proof(given, proofs).map_err(&mut note).ok();
    let instances = instances(given.get("instances")).map_err(|all| all.into_iter().for_each(&mut note)).ok();
    // A caller that is at fault elsewhere still takes its place, so that another one with the same proof is told too.
    let caller = Caller::new(name, instances.unwrap_or(Allowed::All));
    let (added, proof) = match proof {
        None => return Err(faults),
        Some(Proof::Token(hash)) => (known.add_token(hash, caller), "token_sha256"),
        Some(Proof::Certificate(name)) => (known.add_certificate(&name, caller), "certificate"),
    };
    if let Err(other) = added {
        let other = shown(other.name().unwrap_or_default());
        faults.push(format!("{proof}: the same as that of {other}; each needs its own"));
    }
    if faults.is_empty() { Ok(()) } else { Err(faults) }
}

fn proof(given: &Table, proofs: Proofs) -> Result<Proof, String> {
    match (given.get("token_sha256"), given.get("certificate")) {
        (Some(_), Some(_)) => Err("token_sha256 and certificate are both given; keep one".to_owned()),
        (None, None) => Err("neither token_sha256 nor certificate is given; write one".to_owned()),
        (Some(_), None) if !proofs.tokens => {
            Err("token_sha256: of no use with --credentials passthrough; use certificate".to_owned())
        }
        (None, Some(_)) if !proofs.certificates => {
            Err("certificate: of no use without --tls-client-ca".to_owned())
        }
        (Some(hash), None) => token_hash(hash).map(Proof::Token),
        (None, Some(name)) => certificate(name).map(Proof::Certificate),
    }
}

fn token_hash(value: &Value) -> Result<TokenHash, String> {
    let not_hex = || "token_sha256: must be 64 hexadecimal digits, the SHA-256 of the token".to_owned();
    let text = value.as_str().ok_or_else(not_hex)?;
    if text.eq_ignore_ascii_case(HASH_OF_NOTHING) {
        return Err("token_sha256: is the hash of an empty text; was the variable set?".to_owned());
    }
    if text.len() != 64 || !text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return Err(not_hex());
    }
    let mut hash = TokenHash([0; 32]);
    for (byte, digits) in hash.0.iter_mut().zip(text.as_bytes().chunks(2)) {
        let digits = str::from_utf8(digits).map_err(|_| not_hex())?;
        *byte = u8::from_str_radix(digits, 16).map_err(|_| not_hex())?;
    }
    Ok(hash)
}

fn certificate(value: &Value) -> Result<String, String> {
    let name = value.as_str().unwrap_or_default();
    if !(1..=CERTIFICATE_CHARS_MAX).contains(&name.len())
        || name.trim() != name
        || name.contains(char::is_control)
    {
        return Err("certificate: must be a DNS name, a URI or a common name".to_owned());
    }
    if name.contains('*') {
        return Err("certificate: is one name and no pattern; * cannot stand in it".to_owned());
    }
    Ok(name.to_owned())
}

fn instances(value: Option<&Value>) -> Result<Allowed, Vec<String>> {
    let fault = |text: &str| Err(vec![format!("instances: {text}")]);
    let list = match value {
        None => return fault("not given; write [\"*\"] for every instance"),
        Some(Value::Array(list)) if list.is_empty() => {
            return fault("the list is empty; write [\"*\"] for every instance");
        }
        Some(Value::Array(list)) => list,
        Some(_) => return fault("must be a list, [\"*\"] or of instance ids"),
    };
    let is_all = |value: &Value| value.as_str() == Some("*");
    match list.as_slice() {
        [one] if is_all(one) => return Ok(Allowed::All),
        many if many.iter().any(is_all) => return fault("* is every instance; nothing may stand beside it"),
        _ => {}
    }
    let mut faults = Vec::new();
    let read = (1..).zip(list).filter_map(|(place, value)| {
        let instance = Instance::parse(value.as_str().unwrap_or_default());
        instance.map_err(|error| faults.push(format!("instances: number {place}: {error}"))).ok()
    });
    let read = Arc::new(read.collect());
    if faults.is_empty() { Ok(Allowed::These(read)) } else { Err(faults) }
}

fn is_name(name: &str) -> bool {
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || b"_-.".contains(&byte);
    (1..=NAME_CHARS_MAX).contains(&name.len()) && name.bytes().all(fits)
}

/// The caller, by its name where that is one.
fn shown(name: &str) -> String {
    if is_name(name) { format!("caller {name}") } else { "a caller".to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{PeerNames, Unknown};

    const ALL: Proofs = Proofs { tokens: true, certificates: true };
    const HASH: &str = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08";

    /// `HASH` in the text stands for a hash.
    fn faults(text: &str, proofs: Proofs) -> Vec<String> {
        parse(&text.replace("HASH", HASH), proofs).err().unwrap_or_default()
    }

    #[test]
    fn callers_are_read_by_token_and_certificate() {
        let upper = HASH.to_ascii_uppercase();
        let text = format!(
            "[callers.crm]\ntoken_sha256 = '{upper}'\ninstances = ['*']\n\
             [callers.'shop.eu']\ncertificate = 'shop.internal'\ninstances = ['A', 'b', 'A']\n"
        );
        let known = parse(&text, ALL).unwrap();
        assert_eq!(known.len(), 2);
        let [a, c] = ["A", "c"].map(|name| Instance::parse(name).unwrap());
        let crm = known.by_token("test").unwrap();
        assert_eq!((crm.name(), crm.may_ask(&a), crm.may_ask(&c)), (Some("crm"), true, true));
        let names = PeerNames(["shop.internal".to_owned()].into());
        let shop = known.by_certificate(&names).unwrap();
        assert_eq!((shop.name(), shop.may_ask(&a), shop.may_ask(&c)), (Some("shop.eu"), true, false));
        assert_eq!(known.by_token("Test"), Err(Unknown::TokenUnknown));
    }

    #[test]
    fn every_fault_is_told_at_once() {
        let text = "surprise = 1\n\
            [callers.a]\ntoken_sha256 = 'xyz'\ninstances = []\n\
            [callers.b]\ncolour = 'red'\n\
            [callers.c]\ntoken_sha256 = 'HASH'\ninstances = ['a/b', 'fine', 5]\n\
            [callers.d]\ntoken_sha256 = 'HASH'\ninstances = ['*']\n";
        let mut told = faults(text, ALL);
        told.sort_unstable();
        assert_eq!(
            told,
            [
                "caller a: instances: the list is empty; write [\"*\"] for every instance",
                "caller a: token_sha256: must be 64 hexadecimal digits, the SHA-256 of the token",
                "caller b: instances: not given; write [\"*\"] for every instance",
                "caller b: neither token_sha256 nor certificate is given; write one",
                "caller b: unknown field colour; allowed are token_sha256, certificate, instances",
                "caller c: instances: number 1: instance must be 1 to 64 characters of A-Z a-z 0-9 _ -",
                "caller c: instances: number 3: instance must be 1 to 64 characters of A-Z a-z 0-9 _ -",
                "caller d: token_sha256: the same as that of caller c; each needs its own",
                "unknown field surprise; only callers.<name> may stand here",
            ]
        );
    }

    #[test]
    fn a_proof_that_cannot_come_is_a_fault() {
        let [token, certificate] = ["token_sha256 = 'HASH'", "certificate = 'a.internal'"]
            .map(|proof| format!("[callers.a]\n{proof}\ninstances = ['*']\n"));
        let no_tokens = Proofs { tokens: false, ..ALL };
        let no_certificates = Proofs { certificates: false, ..ALL };
        assert_eq!(faults(&token, no_certificates), faults(&certificate, no_tokens));
        assert!(faults(&token, no_tokens)[0].starts_with("caller a: token_sha256: of no use"));
        assert!(faults(&certificate, no_certificates)[0].starts_with("caller a: certificate: of no use"));
    }

    #[test]
    fn a_file_holds_so_many_callers_and_no_more() {
        let caller = |number| format!("[callers.c{number}]\ntoken_sha256='{number:064x}'\ninstances=['*']\n");
        let most: String = (0..Known::CALLERS_MAX).map(caller).collect();
        assert_eq!(faults(&most, ALL), [""; 0]);
        assert_eq!(faults(&(most + &caller(Known::CALLERS_MAX)), ALL), ["names more than 1000 callers"]);
    }
}
