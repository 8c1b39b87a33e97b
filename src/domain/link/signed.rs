//! [`Signed`]: the parts of a link that its signer wrote.
//!
//! A signer is recognised by the names of its parameters. Names that have other meanings elsewhere count only
//! beside another name of the same signer, or on its host. The start of a period whose length only the server
//! knows (Cloudflare's `verify`, the `auth_key` and `wsTime` of other CDNs) says nothing about the expiry.

use std::{borrow::Cow, time::SystemTime};

use base64::{
    Engine,
    prelude::{BASE64_STANDARD, BASE64_URL_SAFE_NO_PAD},
};
use serde_json::{Map, Value};
use url::{Url, form_urlencoded};

/// A smaller number is a duration or a count and not a date. This one is 2001-09-09 in Unix seconds.
const UNIX_SECONDS_MIN: u64 = 1_000_000_000;
/// From this number on, a date is in milliseconds, and from a thousand times this number on in microseconds.
const UNIX_MILLIS_MIN: u64 = 100_000_000_000;

/// Names that always belong to a signature.
const SIGNATURE: [&str; 15] = [
    "signature",
    "sig",
    "hmac",
    "x-signature",
    "ssig",
    "ik-s",
    "ik-t",
    "awsaccesskeyid",
    "googleaccessid",
    "ossaccesskeyid",
    "key-pair-id",
    "auth_key",
    "wssecret",
    "txsecret",
    "bcdn_token",
];
/// Names that belong to a signature only beside another name, which comes first in each row.
const BESIDE: [(&str, &[&str]); 7] = [
    ("oe", &["oh", "ccb"]),
    ("oh", &["oe"]),
    ("signature", &["accesskeyid", "security-token"]),
    ("key-pair-id", &["policy"]),
    ("wssecret", &["wstime"]),
    ("txsecret", &["txtime"]),
    ("bcdn_token", &["token_path"]),
];
/// The parameters of Azure. They count only beside `sig` and `sv`, because Azure's signature always comes
/// with its version.
const OF_AZURE: [&str; 22] = [
    "sig", "sv", "ss", "srt", "sp", "se", "st", "spr", "sip", "si", "sr", "skoid", "sktid", "skt", "ske",
    "sks", "skv", "sdd", "saoid", "suoid", "scid", "ses",
];
/// The parameters of S3 and of storage services with the same scheme, after `x-` and the name of the signer.
const OF_S3: [&str; 10] = [
    "algorithm",
    "credential",
    "date",
    "expires",
    "signedheaders",
    "additional-headers",
    "signature",
    "signature-version",
    "security-token",
    "content-sha256",
];
const LIKE_S3: [&str; 5] = ["x-amz-", "x-goog-", "x-oss-", "x-obs-", "x-tos-"];
/// The parameters of Tencent, after `q-`.
const OF_TENCENT: [&str; 7] =
    ["sign-algorithm", "ak", "sign-time", "key-time", "header-list", "url-param-list", "signature"];
/// The fewest characters of a signature. A shorter value is a size, a version or the like.
const SIGNATURE_CHARS_MIN: usize = 16;
/// The characters of an MD5 in base64 without padding.
const MD5_CHARS: usize = 22;
/// The characters of a SHA-1 in base64 with padding.
const SHA1_CHARS: usize = 28;
/// The most pairs that are read from the query, and from the path. Signers write about twenty. In a link with
/// more pairs than this, the rest counts as part of the address.
const PAIRS_MAX: usize = 128;

/// A name and a value, decoded.
#[derive(Debug)]
pub struct Pair<'a> {
    pub name: Cow<'a, str>,
    pub value: Cow<'a, str>,
}

/// The pairs in the query and in the path of a link.
#[derive(Debug)]
pub struct Signed<'a> {
    host: &'a str,
    /// The pairs of the query come first.
    pairs: Vec<Pair<'a>>,
    in_query: usize,
}

impl<'a> Signed<'a> {
    pub fn of(url: &'a Url) -> Self {
        let mut pairs: Vec<_> = pairs(url.query().unwrap_or_default()).take(PAIRS_MAX).collect();
        let in_query = pairs.len();
        let path = url.path_segments().into_iter().flatten().flat_map(segment_pairs);
        pairs.extend(path.take(PAIRS_MAX));
        Self { host: url.host_str().unwrap_or_default(), pairs, in_query }
    }

    pub fn pairs(&self) -> &[Pair<'a>] {
        &self.pairs
    }

    /// The first pairs of the query, one for each part between its `&`.
    pub fn query(&self) -> &[Pair<'a>] {
        &self.pairs[..self.in_query]
    }

    /// Whether a pair belongs to the signature of the link, by its name or its value. Such a pair does not
    /// identify the picture.
    pub fn signs(&self, pair: &Pair) -> bool {
        let name = &*pair.name.to_ascii_lowercase();
        let rest = |start: &str, of_signature: &[&str]| {
            name.strip_prefix(start).is_some_and(|rest| of_signature.contains(&rest))
        };
        SIGNATURE.contains(&name)
            || BESIDE.iter().any(|(witness, names)| names.contains(&name) && self.has(&[witness]))
            || LIKE_S3.iter().any(|signer| rest(signer, &OF_S3))
            || rest("q-", &OF_TENCENT)
            || (OF_AZURE.contains(&name) && self.has(&["sig"]) && self.has(&["sv"]))
            || (self.is_discord() && ["ex", "is", "hm"].contains(&name))
            || (name.starts_with("_nc_") && self.has(&["oe"]))
            || self.is_signature_of_known_signer(pair)
            || self.end(pair).is_some()
    }

    /// Whether a pair is a signature although its name has other uses. Elsewhere, the same name may be all
    /// that identifies the picture, with an expiry beside it or not. So it counts only for a signer that is
    /// known by its host, by other parameters or by a form of its own.
    fn is_signature_of_known_signer(&self, pair: &Pair) -> bool {
        let value = &*pair.value;
        match &*pair.name {
            "token" => self.is_signed_by_bunny() || (self.has(&["e"]) && is_token_of_qiniu(value)),
            // LinkedIn.
            "t" => self.is_on("licdn.com") && self.has(&["e"]),
            // imgix.
            "s" => self.is_on("imgix.net"),
            // nginx: the two usual ways to configure its secure links.
            "md5" => self.has(&["expires"]) && is_md5_of_nginx(value),
            "st" => self.has(&["e"]) && is_md5_of_nginx(value),
            // This name says what it is.
            "sign" => value.len() >= SIGNATURE_CHARS_MIN && self.has(&["e", "exp", "expire", "expires"]),
            _ => false,
        }
    }

    fn is_signed_by_bunny(&self) -> bool {
        self.has(&["expires"]) && (self.is_on("b-cdn.net") || self.has(&["token_path"]))
    }

    /// Whether a segment of the path holds a signature.
    pub fn is_signing_segment(segment: &str) -> bool {
        segment_pairs(segment)
            .any(|pair| SIGNATURE.contains(&&*pair.name) || edge_token(&pair.value).is_some())
    }

    /// The expiry that one pair carries, in Unix seconds.
    pub fn end(&self, pair: &Pair) -> Option<u64> {
        let value = &*pair.value;
        let by_name = match &*pair.name {
            // WhatsApp, Facebook, Instagram.
            "oe" => hex(value),
            // Discord.
            "ex" if self.is_discord() => hex(value),
            // Azure: the expiry of the signature, and of the key that made it.
            "se" | "ske" if self.has(&["sig"]) => date(value),
            // Tencent COS: start and end.
            "q-sign-time" | "q-key-time" => value.rsplit(';').next().and_then(unix),
            // Qiniu, LinkedIn, nginx, Limelight.
            "e" if self.has(&["token", "t", "st", "md5", "h", "hash", "sign"]) => unix(value),
            // Upyun: the expiry follows eight letters of the signature.
            "_upt" => value.get(8..).and_then(unix),
            // Fastly: the expiry precedes the signature.
            "token" => before_signature(value),
            // CloudFront.
            "Policy" if self.has(&["key-pair-id"]) => policy(value),
            "ik-t" | "exp" => unix(value),
            name => self.end_by_long_name(&name.to_ascii_lowercase(), value),
        };
        by_name.or_else(|| edge_token(value)).or_else(|| time(claims(value)?.get("exp")?))
    }

    /// Names that mean an expiry with every signer: `Expires`, `expires_at`, `x-expires`,
    /// `expirationTimestamp` and so on. Newer signers (S3, Google, OSS, OBS, TOS) write a date and the number
    /// of seconds after it.
    fn end_by_long_name(&self, name: &str, value: &str) -> Option<u64> {
        if !name.contains("expir") {
            return None;
        }
        let signed_at = name.strip_suffix("-expires").map(|signer| format!("{signer}-date"));
        match signed_at.and_then(|name| self.get(&name)) {
            Some(start) => date(start)?.checked_add(digits(value)?),
            None => unix(value).or_else(|| date(value)),
        }
    }

    fn get(&self, name: &str) -> Option<&str> {
        self.pairs.iter().find(|pair| pair.name.eq_ignore_ascii_case(name)).map(|pair| &*pair.value)
    }

    fn has(&self, names: &[&str]) -> bool {
        names.iter().any(|name| self.get(name).is_some())
    }

    fn is_discord(&self) -> bool {
        ["discordapp.com", "discordapp.net", "discord.com"].iter().any(|domain| self.is_on(domain))
    }

    fn is_on(&self, domain: &str) -> bool {
        is_within(self.host, domain)
    }
}

/// Whether `host` is `domain` or one of its subdomains.
pub fn is_within(host: &str, domain: &str) -> bool {
    let below = host.strip_suffix(domain);
    below.is_some_and(|labels| labels.is_empty() || labels.ends_with('.'))
}

/// The link inside a value, as in the links of image proxies.
pub fn nested(value: &str) -> Option<Url> {
    let is_link = value.starts_with("https://") || value.starts_with("http://");
    if is_link { Url::parse(value).ok() } else { None }
}

fn pairs(text: &str) -> impl Iterator<Item = Pair<'_>> {
    form_urlencoded::parse(text.as_bytes()).map(|(name, value)| Pair { name, value })
}

/// The pairs in a segment of the path, or a token without a name.
pub fn segment_pairs(segment: &str) -> impl Iterator<Item = Pair<'_>> {
    let token = segment.starts_with("eyJ");
    let named = if segment.contains('=') && !token { segment } else { "" };
    let unnamed = token.then(|| Pair { name: "".into(), value: segment.into() });
    pairs(named).chain(unnamed)
}

/// The number, if the text has digits only.
fn digits(text: &str) -> Option<u64> {
    if text.bytes().all(|byte| byte.is_ascii_digit()) { text.parse().ok() } else { None }
}

fn hex(text: &str) -> Option<u64> {
    if text.starts_with('+') { None } else { u64::from_str_radix(text, 16).ok() }
}

/// Unix time in seconds, milliseconds or microseconds. The range of the number shows the unit.
fn unix(text: &str) -> Option<u64> {
    in_seconds(digits(text)?)
}

fn in_seconds(number: u64) -> Option<u64> {
    let seconds = match number {
        ..UNIX_SECONDS_MIN => return None,
        UNIX_SECONDS_MIN..UNIX_MILLIS_MIN => number,
        UNIX_MILLIS_MIN.. if number < UNIX_MILLIS_MIN * 1_000 => number / 1_000,
        _ => number / 1_000_000,
    };
    Some(seconds)
}

/// ISO 8601 in the forms that signers use: `20260121T161122Z`, `2026-01-21T16:11:22Z`, without seconds, or a
/// date only.
fn date(text: &str) -> Option<u64> {
    let text = match text.len() {
        16 if text.is_ascii() && text.ends_with('Z') && !text.contains('-') => format!(
            "{}-{}-{}T{}:{}:{}Z",
            &text[..4],
            &text[4..6],
            &text[6..8],
            &text[9..11],
            &text[11..13],
            &text[13..15]
        ),
        10 => format!("{text}T00:00:00Z"),
        17 => text.replacen('Z', ":00Z", 1),
        // In a query, a plus is a blank.
        _ => match text.split_once(['+', ' ']) {
            Some((time, "00:00")) => format!("{time}Z"),
            _ => text.to_owned(),
        },
    };
    let time = humantime::parse_rfc3339(&text).ok()?;
    time.duration_since(SystemTime::UNIX_EPOCH).ok().map(|time| time.as_secs())
}

/// `exp=1769011882~acl=...~hmac=...` (Akamai) and `Expires=...~KeyName=...~Signature=...` (Google), under any
/// name.
fn edge_token(value: &str) -> Option<u64> {
    let fields = || value.split('~').filter_map(|field| field.split_once('='));
    let is_signed =
        fields().any(|(name, _)| ["hmac", "signature"].iter().any(|known| name.eq_ignore_ascii_case(known)));
    let end =
        fields().find(|(name, _)| ["exp", "expires"].iter().any(|known| name.eq_ignore_ascii_case(known)));
    end.filter(|_| is_signed).and_then(|(_, end)| unix(end))
}

/// `1769011882_4492f25946a2e8e1414a8bb53dab8a6ba1cf4615`.
fn before_signature(value: &str) -> Option<u64> {
    let (end, signature) = value.split_once('_')?;
    let is_signature = signature.len() >= 32 && signature.bytes().all(|byte| byte.is_ascii_hexdigit());
    let hex = || end.strip_prefix("0x").and_then(hex).and_then(in_seconds);
    if is_signature { unix(end).or_else(hex) } else { None }
}

/// The expiry in a policy of CloudFront, which is JSON in base64 with an alphabet of its own.
fn policy(value: &str) -> Option<u64> {
    let base64 = value.replace('-', "+").replace('_', "=").replace('~', "/");
    let policy: Value = serde_json::from_slice(&BASE64_STANDARD.decode(base64).ok()?).ok()?;
    let statements = policy.get("Statement")?.as_array()?;
    let ends = statements
        .iter()
        .filter_map(|statement| time(statement.pointer("/Condition/DateLessThan/AWS:EpochTime")?));
    ends.min()
}

/// A key and a SHA-1, as in `key:c2lnbmF0dXJlLW9mLXNoYTEtMjA=`.
fn is_token_of_qiniu(value: &str) -> bool {
    value.split_once(':').is_some_and(|(key, signature)| !key.is_empty() && signature.len() == SHA1_CHARS)
}

/// An MD5 in base64 for URLs. The checksum of a file is written in hexadecimal digits or with padding.
fn is_md5_of_nginx(value: &str) -> bool {
    value.len() == MD5_CHARS && BASE64_URL_SAFE_NO_PAD.decode(value).is_ok()
}

/// The claims of a JSON Web Token (RFC 7519).
pub fn claims(token: &str) -> Option<Map<String, Value>> {
    let (head, rest) = token.split_once('.')?;
    let (claims, _) = rest.split_once('.')?;
    let claims = head.starts_with("eyJ").then(|| BASE64_URL_SAFE_NO_PAD.decode(claims))?;
    serde_json::from_slice(&claims.ok()?).ok()
}

/// Seconds in JSON. Some writers give them a fraction.
fn time(value: &Value) -> Option<u64> {
    let text = value.to_string();
    unix(text.split_once('.').map_or(&*text, |(seconds, _)| seconds))
}
