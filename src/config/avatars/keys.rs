//! The keys of the addresses of avatars, in the text of a variable or file. No fault repeats a key.

use std::fmt;

use base64::{
    Engine, alphabet,
    engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig},
};
use secrecy::ExposeSecret;
use url::Url;

use crate::{
    avatars::AddressKey,
    config::{
        Variables,
        faults::Faults,
        given::Given,
        secrets::{avatars_keys, slip},
        variables::{AVATARS_KEY, AVATARS_KEY_FILE, is_set},
    },
};

/// Maximum number of keys. A rotation needs two.
const KEYS_MAX: usize = 16;
const BYTES: usize = 32;
const HOW: &str = "make one by openssl rand -hex 32";
const PADDING: GeneralPurposeConfig =
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent);
const STANDARD: GeneralPurpose = GeneralPurpose::new(&alphabet::STANDARD, PADDING);
const URL_SAFE: GeneralPurpose = GeneralPurpose::new(&alphabet::URL_SAFE, PADDING);

/// The keys for the addresses below `root`. If they are required and not given, or have a fault, it is noted.
pub fn read(
    root: &Given<Option<Url>>,
    is_required: bool,
    variables: &Variables,
    faults: &mut Faults,
) -> Vec<AddressKey> {
    let (variable, text) = match avatars_keys(variables) {
        Ok(Some(given)) => given,
        Ok(None) => {
            if is_required {
                let missing = format!("not set, and neither is {AVATARS_KEY_FILE}, though {} is", root.name);
                faults.note(AVATARS_KEY, format_args!("{missing} given; {HOW}"));
            }
            return Vec::new();
        }
        Err(fault) => {
            faults.note_variable(fault);
            return Vec::new();
        }
    };
    let keys = parse(text.expose_secret());
    keys.map_err(|fault| faults.note(variable, fault)).unwrap_or_default()
}

/// Notes the fault of keys that no address is made with.
pub fn refuse_without_root(root: &Given<Option<Url>>, variables: &Variables, faults: &mut Faults) {
    if root.is_given() {
        return;
    }
    for variable in [AVATARS_KEY, AVATARS_KEY_FILE].into_iter().filter(|name| is_set(variables, name)) {
        faults.note(variable, format_args!("cannot be used without {}", root.name));
    }
}

/// The keys in a text, one on each line. Blank lines are skipped.
fn parse(text: &str) -> Result<Vec<AddressKey>, String> {
    let lines = text.lines().map(str::trim).enumerate().filter(|(_, line)| !line.is_empty());
    let lines: Vec<_> = lines.map(|(at, line)| (at + 1, line)).collect();
    let place = |line: usize, fault: &dyn fmt::Display| match lines.as_slice() {
        [_] => fault.to_string(),
        _ => format!("line {line}: {fault}"),
    };
    let mut keys: Vec<(usize, [u8; BYTES])> = Vec::new();
    for (at, line) in lines.iter().copied() {
        let bytes = key(line).map_err(|fault| place(at, &fault))?;
        if let Some((first, _)) = keys.iter().find(|(_, other)| *other == bytes) {
            return Err(place(at, &format_args!("the same key as in line {first}")));
        }
        keys.push((at, bytes));
    }
    match keys.len() {
        0 => Err(format!("holds no key; {HOW}")),
        1..=KEYS_MAX => Ok(keys.into_iter().map(|(_, bytes)| AddressKey::new(bytes)).collect()),
        count => Err(format!("holds {count} keys, and {KEYS_MAX} are the maximum")),
    }
}

/// The bytes of a key in hex or base64.
fn key(text: &str) -> Result<[u8; BYTES], String> {
    if let Some(slip) = slip(text, "key") {
        return Err(slip);
    }
    if text.starts_with("0x") || text.starts_with("0X") {
        return Err("begins with 0x; write the 64 hex digits alone".to_owned());
    }
    let is_hex = text.bytes().all(|digit| digit.is_ascii_hexdigit());
    let decoded = if is_hex && text.len() == 2 * BYTES { hex(text) } else { base64(text) };
    let bytes = decoded.as_deref().and_then(|bytes| <[u8; BYTES]>::try_from(bytes).ok());
    match (bytes, decoded) {
        (Some(bytes), _) if bytes.iter().all(|byte| *byte == bytes[0]) => {
            Err(format!("repeats one byte, so it is not random; {HOW}"))
        }
        (Some(bytes), _) => Ok(bytes),
        (None, _) if is_hex => Err(format!("has {} hex digits, and a key has 64; {HOW}", text.len())),
        (None, Some(bytes)) => Err(format!("has {} bytes, and a key has {BYTES}; {HOW}", bytes.len())),
        (None, None) => Err(format!("neither 64 hex digits nor {BYTES} bytes in base64; {HOW}")),
    }
}

fn hex(text: &str) -> Option<Vec<u8>> {
    let pairs = (0..text.len()).step_by(2).map(|at| text.get(at..at + 2));
    pairs.map(|pair| u8::from_str_radix(pair?, 16).ok()).collect()
}

/// The bytes of base64 in the usual alphabet or in the one for URLs, with or without padding.
fn base64(text: &str) -> Option<Vec<u8>> {
    STANDARD.decode(text).or_else(|_| URL_SAFE.decode(text)).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEX: &str = "6f1d2a9b8c7e5f40312233445566778899aabbccddeeff001122334455667788";
    const OTHER: &str = "Zq9mark-_+wKKp4LqBcJ8a1cFo0u2v3x4y5z6A7B8C0";

    #[test]
    fn a_key_is_read_in_hex_and_in_every_kind_of_base64() {
        let key = key(HEX).unwrap();
        let (standard, url_safe) = (STANDARD.encode(key), URL_SAFE.encode(key));
        for text in [
            HEX.to_uppercase(),
            standard.trim_end_matches('=').to_owned(),
            url_safe.trim_end_matches('=').to_owned(),
            standard,
            url_safe,
        ] {
            assert_eq!(super::key(&text), Ok(key), "{text}");
        }
    }

    #[test]
    fn keys_stand_on_lines_of_their_own() {
        let other = STANDARD.encode([7, 8].repeat(16));
        for (text, count) in
            [(HEX.to_owned(), 1), (format!("{HEX}\n"), 1), (format!("\r\n  {HEX}  \r\n\r\n{other}\r\n"), 2)]
        {
            assert_eq!(parse(&text).map(|keys| keys.len()), Ok(count), "{text:?}");
        }
        let key = |number: u8| format!("{number:02x}{}\n", &HEX[2..]);
        let most: String = (0..16).map(key).collect();
        assert_eq!(parse(&most).map(|keys| keys.len()), Ok(KEYS_MAX));
        assert!(parse(&(most + &key(16))).unwrap_err().contains("17 keys, and 16"));
    }

    #[test]
    fn every_slip_is_named_and_no_part_of_the_key_is_repeated() {
        for (word, text) in [
            ("no key", String::new()),
            ("has 62 hex digits", HEX[2..].to_owned()),
            ("has 63 hex digits", HEX[1..].to_owned()),
            ("has 31 bytes", STANDARD.encode([9; 31])),
            ("has 33 bytes", STANDARD.encode([9; 33])),
            ("0x", format!("0x{HEX}")),
            ("quotes", format!("'{HEX}'")),
            ("placeholder", "<key>".to_owned()),
            ("variable that was not replaced", "${KEY}".to_owned()),
            ("byte order mark", format!("\u{feff}{HEX}")),
            ("name of a variable", format!("HYPERSENDER_GRPC_AVATARS_KEY={HEX}")),
            ("neither", OTHER.to_owned()),
            ("neither", format!("{HEX} {HEX}")),
            ("neither", format!("{HEX},{HEX}")),
            ("not random", "ab".repeat(32)),
            ("line 2: the same key as in line 1", format!("{HEX}\n{}\n", HEX.to_uppercase())),
            ("line 3: neither", format!("{HEX}\n\n{OTHER}\n")),
        ] {
            let fault = parse(&text).err().unwrap_or_else(|| panic!("{text} is read as a key"));
            assert!(fault.contains(word), "{text}: {fault}");
            assert!(!fault.contains(&HEX[..8]) && !fault.contains("Zq9"), "{fault}");
        }
    }
}
