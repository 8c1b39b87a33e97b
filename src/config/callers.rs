//! The callers file: the backends that may call, and the instances that each may ask, in TOML.
//!
//! ```toml
//! [callers.crm]
//! token_sha256 = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"
//! instances = ["5a4db0c5-7a3e-4c1d-9f26-1b0e5d2c8f47"]
//! avatars = true
//! ```
//!
//! A fault names the line and the caller, and repeats no value, because a token may be written in place of
//! its hash.

use std::{path::Path, sync::Arc};

use serde::Deserialize;
use toml::{Spanned, Value};

use super::{
    files,
    tables::{Kind, LineFaults, Table, Tables},
};
use crate::{
    domain::{Allowed, Caller, Instance},
    server::{Known, TokenHash},
};

/// The proofs that callers can show; they follow from the other settings.
#[derive(Clone, Copy, Debug)]
pub struct Proofs {
    /// A bearer token. With passthrough there is none, because the token of a call is Hypersender's.
    pub tokens: bool,
    /// A client certificate. Clients must show one if `--tls-client-ca` is given.
    pub certificates: bool,
}

const NAME_CHARS_MAX: usize = 64;
/// Characters of the longest SPIFFE id. DNS names and common names are shorter.
const CERTIFICATE_CHARS_MAX: usize = 2048;
/// SHA-256 of an empty text, which `printf %s "$TOKEN" | sha256sum` prints when the variable is not set.
const HASH_OF_NOTHING: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

const CALLERS: Kind = Kind { section: "callers", head: "[callers.<name>]", called };

/// The fields of a caller. Each field accepts any type, so that a value of the wrong type does not hide the
/// faults of other fields.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Fields {
    token_sha256: Option<Spanned<Value>>,
    certificate: Option<Spanned<Value>>,
    instances: Option<Spanned<Value>>,
    avatars: Option<Spanned<Value>>,
}

/// The callers in the file.
///
/// # Errors
///
/// Every fault, with the path of the file, the line and the caller.
pub fn read(path: &Path, proofs: Proofs) -> Result<Known, Vec<String>> {
    files::parse(path, |text| parse(text, proofs))
}

fn parse(text: &str, proofs: Proofs) -> Result<Known, Vec<String>> {
    let Tables { tables, mut faults } = Tables::read(text, CALLERS);
    let mut known = Known::default();
    if let Some(table) = tables.get(Known::CALLERS_MAX) {
        faults.note(table.at, format!("names more than {} callers", Known::CALLERS_MAX));
    }
    for table in &tables {
        add(&mut known, table, proofs, &mut faults);
    }
    match faults.into_texts() {
        Some(faults) => Err(faults),
        None if known.is_empty() => {
            let fields = "token_sha256 or certificate, and instances";
            Err(vec![format!("names no caller; write {} with {fields}", CALLERS.head)])
        }
        None => Ok(known),
    }
}

/// The proof that a caller is known by.
enum Proof {
    Token(TokenHash),
    Certificate(String),
}

fn add(known: &mut Known, table: &Table<Fields>, proofs: Proofs, faults: &mut LineFaults<'_>) {
    let Table { name, at, fields } = table;
    let mut note = |at: usize, fault: String| faults.note(at, format!("{}: {fault}", called(name)));
    if !is_name(name) {
        note(*at, format!("a name is 1 to {NAME_CHARS_MAX} characters of A-Z a-z 0-9 _ - ."));
    }
    let place = |field: &Option<Spanned<Value>>| field.as_ref().map_or(*at, |value| value.span().start);
    let proof_at = place(&fields.token_sha256).max(place(&fields.certificate));
    let proof = proof(fields, proofs).map_err(|fault| note(proof_at, fault)).ok();
    let instances = instances(fields.instances.as_ref().map(Spanned::get_ref));
    let instances =
        instances.map_err(|all| all.into_iter().for_each(|fault| note(place(&fields.instances), fault)));
    let avatars = avatars(fields.avatars.as_ref().map(Spanned::get_ref));
    let avatars = avatars.map_err(|fault| note(place(&fields.avatars), fault));
    // A caller with faults keeps its proof, so that another one with the same proof is reported too.
    let caller =
        Caller::new(name, instances.unwrap_or(Allowed::All)).with_avatars(avatars.unwrap_or_default());
    let (added, proof) = match proof {
        None => return,
        Some(Proof::Token(hash)) => (known.add_token(hash, caller), "token_sha256"),
        Some(Proof::Certificate(name)) => (known.add_certificate(&name, caller), "certificate"),
    };
    if let Err(other) = added {
        let other = called(other.name().unwrap_or_default());
        note(proof_at, format!("{proof}: the same as that of {other}; each needs its own"));
    }
}

fn proof(fields: &Fields, proofs: Proofs) -> Result<Proof, String> {
    match (&fields.token_sha256, &fields.certificate) {
        (Some(_), Some(_)) => Err("token_sha256 and certificate are both given; keep one".to_owned()),
        (None, None) => Err("neither token_sha256 nor certificate is given; write one".to_owned()),
        (Some(_), None) if !proofs.tokens => {
            Err("token_sha256: cannot be used with --credentials passthrough; use certificate".to_owned())
        }
        (None, Some(_)) if !proofs.certificates => {
            Err("certificate: cannot be used without --tls-client-ca".to_owned())
        }
        (Some(hash), None) => token_hash(hash.get_ref()).map(Proof::Token),
        (None, Some(name)) => certificate(name.get_ref()).map(Proof::Certificate),
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
        return Err("certificate: must be one name, not a pattern; it cannot contain *".to_owned());
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
        Some(_) => return fault("must be a list: [\"*\"], or the ids of instances"),
    };
    let is_all = |value: &Value| value.as_str() == Some("*");
    match list.as_slice() {
        [one] if is_all(one) => return Ok(Allowed::All),
        many if many.iter().any(is_all) => {
            return fault("* means every instance; it must be the only one in the list");
        }
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

/// Whether the caller gets the addresses of images.
fn avatars(value: Option<&Value>) -> Result<bool, String> {
    match value {
        None => Ok(false),
        Some(Value::Boolean(avatars)) => Ok(*avatars),
        Some(_) => Err("avatars: must be true or false, without quotes".to_owned()),
    }
}

fn is_name(name: &str) -> bool {
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || b"_-.".contains(&byte);
    (1..=NAME_CHARS_MAX).contains(&name.len()) && name.bytes().all(fits)
}

/// The caller in the text of a fault: by its name only if that is valid, because any other text may be a
/// token.
fn called(name: &str) -> String {
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
    fn a_caller_gets_addresses_of_images_if_its_table_says_so() {
        for (line, expected) in [("", false), ("avatars = false\n", false), ("avatars = true\n", true)] {
            let text = format!("[callers.crm]\ntoken_sha256 = '{HASH}'\ninstances = ['*']\n{line}");
            let known = parse(&text, ALL).unwrap();
            assert_eq!(known.by_token("test").unwrap().has_avatars(), expected, "{line}");
        }
    }

    #[test]
    fn every_fault_is_told_at_once() {
        let text = "surprise = 1\n\
            [callers.a]\ntoken_sha256 = 'xyz'\ninstances = []\n\
            [callers.b]\ncolour = 'red'\n\
            [callers.c]\ntoken_sha256 = 'HASH'\ninstances = ['a/b', 'fine', 5]\n\
            [callers.d]\ntoken_sha256 = 'HASH'\ninstances = ['*']\n\
            [callers.e]\n\
            [callers.f]\ncertificate = 'f.internal'\ninstances = ['*']\navatars = 'true'\n\
            [callers.g]\navatars = 1\ntoken_sha256 = 'HASH'\ninstances = ['*']\n";
        assert_eq!(
            faults(text, ALL),
            [
                "line 1: unknown field surprise; only [callers.<name>] is allowed here",
                "line 3: caller a: token_sha256: must be 64 hexadecimal digits, the SHA-256 of the token",
                "line 4: caller a: instances: the list is empty; write [\"*\"] for every instance",
                "line 6: caller b: unknown field colour; allowed: token_sha256, certificate, instances, avatars",
                "line 9: caller c: instances: number 1: instance must be 1 to 64 characters of A-Z a-z 0-9 _ -",
                "line 9: caller c: instances: number 3: instance must be 1 to 64 characters of A-Z a-z 0-9 _ -",
                "line 11: caller d: token_sha256: the same as that of caller c; each needs its own",
                "line 13: caller e: neither token_sha256 nor certificate is given; write one",
                "line 13: caller e: instances: not given; write [\"*\"] for every instance",
                "line 17: caller f: avatars: must be true or false, without quotes",
                "line 19: caller g: avatars: must be true or false, without quotes",
                "line 20: caller g: token_sha256: the same as that of caller c; each needs its own",
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
        assert!(faults(&token, no_tokens)[0].starts_with("line 2: caller a: token_sha256: cannot be used"));
        assert!(
            faults(&certificate, no_certificates)[0]
                .starts_with("line 2: caller a: certificate: cannot be used")
        );
    }

    #[test]
    fn a_file_holds_so_many_callers_and_no_more() {
        let caller = |number| format!("[callers.c{number}]\ntoken_sha256='{number:064x}'\ninstances=['*']\n");
        let most: String = (0..Known::CALLERS_MAX).map(caller).collect();
        assert_eq!(faults(&most, ALL), [""; 0]);
        assert_eq!(
            faults(&(most + &caller(Known::CALLERS_MAX)), ALL),
            ["line 3001: names more than 1000 callers"]
        );
    }
}
