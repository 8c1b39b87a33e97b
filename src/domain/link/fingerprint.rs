//! The fingerprint of a link: the same for all links to one picture, and different for every other picture.

use std::ops::Range;

use aws_lc_rs::digest::{SHA256, digest};
use serde_json::{Map, Value};
use url::Url;

use super::signed::{Pair, Signed, claims, is_within, nested, segment_pairs};

/// The domains of WhatsApp's pictures. Only there does the name of a file belong to one picture alone.
const WHATSAPP: [&str; 2] = ["whatsapp.net", "whatsapp.com"];
/// The ends of a picture's name, after its numbers.
const ENDINGS: [&str; 4] = ["_n.jpg", "_n.jpeg", "_n.png", "_n.webp"];
/// The fewest numbers in the name of a picture.
const NUMBERS_MIN: usize = 3;
/// How many of the 32 bytes of a SHA-256 are kept. A collision is less likely than a memory error.
const HASH_BYTES: usize = 16;
/// The claims of a token that change each time it is made (RFC 7519, 4.1).
const CLAIMS_OF_SIGNATURE: [&str; 4] = ["exp", "iat", "nbf", "jti"];

/// The range of `text` that holds WhatsApp's name of the picture, such as
/// `374498176_337577482181161_7091117586184162691_n.jpg`. `url` is the parsed text.
pub fn whatsapp_name(text: &str, url: &Url) -> Option<Range<usize>> {
    let host = url.host_str()?;
    if !WHATSAPP.iter().any(|domain| is_within(host, domain)) {
        return None;
    }
    let name = url.path_segments()?.next_back()?;
    let numbers = ENDINGS.iter().find_map(|ending| name.strip_suffix(ending))?;
    let is_number = |number: &str| !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit());
    if numbers.split('_').count() < NUMBERS_MIN || !numbers.split('_').all(is_number) {
        return None;
    }
    let end = text.find(['?', '#']).unwrap_or(text.len());
    text[..end].ends_with(name).then(|| end - name.len()..end)
}

/// The fingerprint of any other link: the first half of the SHA-256 of host, path and query without the
/// signature, in 32 hexadecimal digits. It has no key, so all replicas compute the same. It ignores the
/// scheme, its default port, the fragment, and the order of parameters with different names.
pub fn hash(url: &Url) -> String {
    hash_of(url, true)
}

/// The same hash. Only with `within`, a link inside a parameter also loses its signature.
fn hash_of(url: &Url, within: bool) -> String {
    let hash = digest(&SHA256, identity(url, within).as_bytes());
    let half = hash.as_ref().first_chunk::<HASH_BYTES>().expect("a SHA-256 has 32 bytes");
    format!("{:032x}", u128::from_be_bytes(*half))
}

/// The text that is hashed. It is joined by line breaks, which no part of a link contains.
fn identity(url: &Url, within: bool) -> String {
    let signed = Signed::of(url);
    let mut identity = url.host_str().unwrap_or_default().to_owned();
    if let Some(port) = url.port() {
        identity.push(':');
        identity.push_str(&port.to_string());
    }
    for segment in url.path_segments().into_iter().flatten() {
        identity.push('/');
        match claims(segment) {
            Some(claims) => identity.push_str(&lasting(claims)),
            None if Signed::is_signing_segment(segment) => {
                let raw = segment.split('&').filter(|raw| !raw.is_empty());
                let pairs = segment_pairs(segment).zip(raw);
                let lasting: Vec<_> =
                    pairs.filter_map(|(pair, raw)| parameter(raw, &pair, &signed, within)).collect();
                identity.push_str(&lasting.join("&"));
            }
            None => identity.push_str(segment),
        }
    }
    let mut raw = url.query().unwrap_or_default().split('&').filter(|raw| !raw.is_empty());
    let pairs = signed.query().iter().zip(&mut raw);
    let mut parameters: Vec<_> =
        pairs.filter_map(|(pair, raw)| Some((&pair.name, parameter(raw, pair, &signed, within)?))).collect();
    // Parameters of the same name keep their order, which may have a meaning.
    parameters.sort_by_key(|(name, _)| *name);
    let rest = raw.map(str::to_owned);
    for parameter in parameters.into_iter().map(|(_, parameter)| parameter).chain(rest) {
        identity.push('\n');
        identity.push_str(&parameter);
    }
    identity
}

/// The part of a parameter that identifies the picture; `None` when the parameter belongs to the signature.
fn parameter(raw: &str, pair: &Pair, signed: &Signed, within: bool) -> Option<String> {
    if let Some(claims) = claims(&pair.value) {
        return Some(format!("{}\n{}", pair.name, lasting(claims)));
    }
    if signed.signs(pair) {
        return None;
    }
    match nested(&pair.value).filter(|_| within) {
        Some(inner) => Some(format!("{}\n{}", pair.name, hash_of(&inner, false))),
        None => Some(raw.to_owned()),
    }
}

/// The claims of a token, without those that change each time.
fn lasting(mut claims: Map<String, Value>) -> String {
    claims.retain(|name, _| !CLAIMS_OF_SIGNATURE.contains(&&**name));
    Value::Object(claims).to_string()
}

#[cfg(test)]
mod tests {
    use std::{
        collections::HashSet,
        time::{Duration, SystemTime},
    };

    use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};

    use crate::domain::PictureLink;

    const END: u64 = 1_769_011_882;

    fn fingerprint(link: &str) -> String {
        let link =
            PictureLink::parse(link, SystemTime::UNIX_EPOCH + Duration::from_secs(END - 86_400)).unwrap();
        link.fingerprint().into_owned()
    }

    fn is_hash(fingerprint: &str) -> bool {
        fingerprint.len() == 32 && fingerprint.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
    }

    #[test]
    fn a_picture_of_whatsapp_is_known_by_its_name() {
        const NAME: &str = "374498176_337577482181161_7091117586184162691_n";
        for (place, ending) in [
            ("https://pps.whatsapp.net/v/t61.24694-24/", ".jpg?oe=6970FAAA"),
            ("https://pps.whatsapp.net/v/other/", ".jpg"),
            ("https://media-lhr8-1.cdn.whatsapp.net:443/", ".jpeg?x=/y.jpg"),
            ("https://PPS.WhatsApp.NET/", ".png#/y.jpg"),
            ("http://web.whatsapp.com/a/b/", ".webp"),
            ("https://whatsapp.net\\v\\", ".jpg"),
        ] {
            let kind = ending.split(['?', '#']).next().unwrap();
            assert_eq!(fingerprint(&format!("{place}{NAME}{ending}")), format!("{NAME}{kind}"), "{place}");
        }
    }

    #[test]
    fn any_other_link_has_a_hash() {
        for link in [
            "https://pps.whatsapp.net/v/avatar.jpg",
            "https://pps.whatsapp.net/374498176_n.jpg",
            "https://pps.whatsapp.net/1_2_n.jpg",
            "https://pps.whatsapp.net/1_2_3.jpg",
            "https://pps.whatsapp.net/1_2_3_n.enc",
            "https://pps.whatsapp.net/1_2_a_n.jpg",
            "https://pps.whatsapp.net/1__3_n.jpg",
            "https://pps.whatsapp.net/1_2_3_n.jpg/",
            "https://pps.whatsapp.net/x?/1_2_3_n.jpg",
            "https://evilwhatsapp.net/1_2_3_n.jpg",
            "https://whatsapp.net.example.org/1_2_3_n.jpg",
            "https://h/1_2_3_n.jpg",
            "https://dyn.web.whatsapp.com/pp?e=A&i=1",
            "https://h",
        ] {
            assert!(is_hash(&fingerprint(link)), "{link}");
        }
    }

    /// The hashes were computed with other tools. They must never change, because callers store them.
    #[test]
    fn the_hash_is_the_first_half_of_a_sha_256() {
        for (link, expected) in [
            // printf 'ui-avatars.com/api/\nname=Ana' | sha256sum
            ("https://ui-avatars.com/api/?name=Ana", "e277b6a67d675975d6255d663df01ff5"),
            // printf 'h:8080/a/b.jpg\na=2\na=1\nb=%%20' | sha256sum
            (
                "http://h:8080/a/b.jpg?b=%20&a=2&a=1&expires=1769011882&signature=0a1b#c",
                "21639d37e625c1830644536edeed86ef",
            ),
        ] {
            assert_eq!(fingerprint(link), expected, "{link}");
        }
    }

    #[test]
    fn different_pictures_have_different_fingerprints() {
        let token = |claims: &str| format!("eyJhIjoxfQ.{}.c2ln", BASE64_URL_SAFE_NO_PAD.encode(claims));
        let links = [
            "https://dyn.web.whatsapp.com/pp?e=A&i=1".to_owned(),
            "https://dyn.web.whatsapp.com/pp?e=B&i=2".to_owned(),
            "https://ui-avatars.com/api/?name=Ana".to_owned(),
            "https://ui-avatars.com/api/?name=Bob".to_owned(),
            "https://ui-avatars.com/api/?name=Bob&name=Ana".to_owned(),
            "https://ui-avatars.com/api/?name=Ana&name=Bob".to_owned(),
            "https://h/1/avatar.jpg".to_owned(),
            "https://h/2/avatar.jpg".to_owned(),
            "https://h/2/avatar.jpg/".to_owned(),
            "https://h/2avatar.jpg".to_owned(),
            "https://h:8080/2/avatar.jpg".to_owned(),
            "https://other/2/avatar.jpg".to_owned(),
            "https://h/avatar.jpg?2".to_owned(),
            "https://h/avatar.jpg?s=200".to_owned(),
            "https://h/avatar.jpg?s=100".to_owned(),
            // An access token without an expiry beside it may be the only part that identifies the picture.
            "https://h/avatar?token=3f0c2a4e-5b1d-4f6e-8a9b-0c1d2e3f4a5b".to_owned(),
            "https://h/avatar?token=9d0c2a4e-5b1d-4f6e-8a9b-0c1d2e3f4a5b".to_owned(),
            // A hash of a mail address beside a signature.
            format!("https://h/avatar?hash=0bc83cb571cd1c50ba6f3e8a78ef1346&expires={END}&signature=0a"),
            format!("https://h/avatar?hash=1bc83cb571cd1c50ba6f3e8a78ef1346&expires={END}&signature=0a"),
            "https://h/avatar?x-oss-process=image/resize,w_100".to_owned(),
            "https://h/avatar?x-oss-process=image/resize,w_200".to_owned(),
            format!("https://h/avatar?token={}", token(r#"{"sub":"1"}"#)),
            format!("https://h/avatar?token={}", token(r#"{"sub":"2"}"#)),
            format!("https://h/{}/avatar", token(r#"{"sub":"1"}"#)),
            format!("https://h/{}/avatar", token(r#"{"sub":"2"}"#)),
            "https://proxy/?url=https%3A%2F%2Fh%2F1.jpg%3Foe%3D6970FAAA".to_owned(),
            "https://proxy/?url=https%3A%2F%2Fh%2F2.jpg%3Foe%3D6970FAAA".to_owned(),
            "https://h/sig=a&id=1/avatar".to_owned(),
            "https://h/sig=b&id=2/avatar".to_owned(),
        ];
        let fingerprints: HashSet<_> = links.iter().map(|link| fingerprint(link)).collect();
        assert_eq!(fingerprints.len(), links.len());
    }

    /// A name that some signers give to their signature belongs to the picture everywhere else. The expiry
    /// beside it says nothing about that.
    #[test]
    fn a_picture_that_is_named_beside_an_expiry_has_its_own_fingerprint() {
        let token = |claims: String| format!("eyJhIjoxfQ.{}.c2ln", BASE64_URL_SAFE_NO_PAD.encode(claims));
        let ids = [
            ["user-0000000000000001".to_owned(), "user-0000000000000002".to_owned()],
            ["1", "2"].map(|first| format!("{first}bc83cb571cd1c50ba6f3e8a78ef1346")),
            ["1", "2"].map(|first| format!("{first}f0c2a4e-5b1d-4f6e-8a9b-0c1d2e3f4a5b")),
            ["A", "B"].map(|first| format!("{first}RU8zX0c-1kD2mYb7t_wQ5nVhJ3lP9sKf6gEoA4iTcU")),
            [1, 2].map(|sub| token(format!(r#"{{"sub":"user-{sub}","exp":{END}}}"#))),
        ];
        for name in ["token", "sign", "s", "md5", "st", "h", "sg", "verify", "hash", "t"] {
            for [one, other] in &ids {
                // The name of this parameter says that its value is a signature.
                if name == "sign" && !one.starts_with("eyJ") {
                    continue;
                }
                for rest in ["", &format!("&expires={END}"), &format!("&e={END}&v=1")] {
                    let link = |id: &str| format!("https://media.example.com/avatar?{name}={id}{rest}");
                    assert_ne!(fingerprint(&link(one)), fingerprint(&link(other)), "{}", link(one));
                }
            }
        }
    }

    #[test]
    fn a_link_with_thousands_of_parameters_is_told_from_others() {
        let link =
            |last: &str| format!("https://h/p?oe=6970FAAA&{}id={last}", "s=&e=1769011882&".repeat(3_000));
        assert_ne!(fingerprint(&link("1")), fingerprint(&link("2")));
    }

    #[test]
    fn a_picture_that_is_signed_anew_keeps_its_fingerprint() {
        let token = |end: &str, signature: &str| {
            let claims = format!(r#"{{"exp":{end},"url":"p","jti":"{signature}"}}"#);
            format!("eyJhIjoxfQ.{}.{signature}", BASE64_URL_SAFE_NO_PAD.encode(claims))
        };
        let signed = |link: &str, end: u64, date: &str, signature: &str| {
            let (hex, end) = (format!("{end:X}"), end.to_string());
            let md5 = BASE64_URL_SAFE_NO_PAD.encode(&signature[..16]);
            let link =
                link.replace("TOKEN", &token(&end, signature)).replace("HEX", &hex).replace("MD5", &md5);
            link.replace("END", &end).replace("DATE", date).replace("SIGN", signature)
        };
        for link in [
            "https://pps.whatsapp.net/p.jpg?oh=01_SIGN&oe=HEX&_nc_cat=SIGN&ccb=SIGN",
            "https://h/p?id=7&expires=END&signature=SIGN",
            "https://h/p?X-Amz-Date=DATET000000Z&X-Amz-Expires=3600&X-Amz-Credential=SIGN&X-Amz-Signature=SIGN",
            "https://h/p?x-oss-date=DATET000000Z&x-oss-expires=3600&x-oss-signature=SIGN&x-oss-process=image",
            "https://h/p?AWSAccessKeyId=SIGN&Expires=END&Signature=SIGN&versionId=1",
            "https://h/p?Policy=SIGN&Signature=SIGN&Key-Pair-Id=SIGN",
            "https://h/p?sv=2025-01-05&st=DATE&se=END&sr=b&sp=r&ske=DATE&sig=SIGN",
            "https://h/p?q-sign-algorithm=sha1&q-ak=SIGN&q-sign-time=1;END&q-key-time=1;END&q-signature=SIGN",
            "https://h/p?hdnts=exp=END~acl=/*~hmac=SIGN",
            "https://h/hdntl=exp=END~acl=%2f*~hmac=SIGN/p.jpg",
            "https://zone.b-cdn.net/p?token=SIGN&expires=END",
            "https://h/p?token=SIGN&token_path=%2F&expires=END",
            "https://h/bcdn_token=SIGN&expires=END&token_path=%2F/p.jpg",
            "https://h/bcdn_token=SIGN&id=7&expires=END/p.jpg",
            "https://name.imgix.net/p?w=9&expires=END&s=SIGN",
            "https://media.licdn.com/p?e=END&v=beta&t=SIGN",
            "https://h/p?id=7&e=END&token=SIGN:c2lnbmF0dXJlLW9mLXNoYTEtMjA=",
            "https://h/p?md5=MD5&expires=END",
            "https://h/p?e=END&st=MD5",
            "https://h/p?id=7&sign=SIGN&expires=END",
            "https://h/p?token=TOKEN&expires=END",
            "https://h/p?token=END_SIGN",
            "https://h/p?ik-t=END&ik-s=SIGN",
            "https://h/p?exp=END&sig=SIGN",
            "https://h/p?x-expires=END&x-signature=SIGN",
            "https://cdn.discordapp.com/p?ex=HEX&is=HEX&hm=SIGN",
            "https://h/p?token=TOKEN",
            "https://h/TOKEN/p.jpg",
            "https://proxy/?url=https%3A%2F%2Fh%2F1.jpg%3Foe%3DHEX%26oh%3DSIGN",
        ] {
            let first = signed(link, END, "20260121", "4492f25946a2e8e1414a8bb53dab8a6b");
            let anew = signed(link, END + 1_000, "20260122", "a1cf46154492f25946a2e8e1414a8bb5");
            assert_ne!(first, anew, "{link}");
            assert_eq!(fingerprint(&first), fingerprint(&anew), "{link}");
            assert!(is_hash(&fingerprint(&first)), "{link}");
        }
        let unsigned = fingerprint("https://h/p.jpg?a=1&b=2");
        for link in [
            "http://h/p.jpg?a=1&b=2",
            "https://h:443/p.jpg?a=1&b=2#c",
            "https://H/p.jpg?&b=2&a=1",
            "https://h/p.jpg?sig=0a&b=2&a=1",
        ] {
            assert_eq!(fingerprint(link), unsigned, "{link}");
        }
    }
}
