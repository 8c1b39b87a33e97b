//! The expiry of a link, as its signer wrote it into the link.

use std::time::{Duration, SystemTime};

use url::Url;

use super::signed::{Signed, nested};

/// A date that is further ahead than this is not read as an expiry. It may be decimal digits that were read
/// as hexadecimal ones, or the far date of a link that is not meant to expire. Signers allow one year at
/// most.
const AHEAD_MAX: Duration = Duration::from_secs(400 * 24 * 60 * 60);

/// The expiry of a link that Hypersender gave at `now`, in Unix seconds: the earliest that the link carries.
/// A link that contains another link expires with it.
pub fn expiry(url: &Url, now: SystemTime) -> Option<u64> {
    let latest = (now + AHEAD_MAX).duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs();
    let outer = Signed::of(url);
    let inner = outer.pairs().iter().filter_map(|pair| nested(&pair.value));
    let inner = inner.filter_map(|url| earliest(&Signed::of(&url), latest));
    inner.chain(earliest(&outer, latest)).min()
}

fn earliest(signed: &Signed, latest: u64) -> Option<u64> {
    let ends = signed.pairs().iter().filter_map(|pair| signed.end(pair));
    ends.filter(|end| *end <= latest).min()
}

#[cfg(test)]
mod tests {
    use base64::{
        Engine,
        prelude::{BASE64_STANDARD, BASE64_URL_SAFE_NO_PAD},
    };

    use super::*;

    /// 2026-01-21T16:11:22Z, five days after `NOW`.
    const END: u64 = 0x6970_FAAA;
    const NOW: u64 = END - 5 * DAY;
    const DAY: u64 = 86_400;

    fn read(url: &str) -> Option<u64> {
        expiry(&Url::parse(url).unwrap(), SystemTime::UNIX_EPOCH + Duration::from_secs(NOW))
    }

    fn token(claims: &str) -> String {
        let [head, claims] = [r#"{"alg":"HS256"}"#, claims].map(|part| BASE64_URL_SAFE_NO_PAD.encode(part));
        format!("{head}.{claims}.c2lnbmF0dXJl")
    }

    #[test]
    fn each_kind_of_signed_link_tells_its_end() {
        const SIGNATURE: &str = "4492f25946a2e8e1414a8bb53dab8a6ba1cf4615";
        let policy = format!(
            r#"{{"Statement":[{{"Resource":"https://h/*","Condition":{{"DateLessThan":{{"AWS:EpochTime":{END}}}}}}}]}}"#
        );
        let policy = BASE64_STANDARD.encode(policy).replace('+', "-").replace('=', "_").replace('/', "~");
        for (signer, link) in [
            ("WhatsApp", "https://pps.whatsapp.net/1_2_3_n.jpg?ccb=11-4&oh=01_Q5&oe=6970FAAA".to_owned()),
            ("Laravel", format!("https://h/p?expires={END}&signature={SIGNATURE}")),
            ("S3", "https://h/p?X-Amz-Date=20260121T151122Z&X-Amz-Expires=3600&X-Amz-Signature=1".to_owned()),
            (
                "S3, by another writer",
                "https://h/p?x-amz-expires=3600&x-amz-date=20260121T151122Z".to_owned(),
            ),
            (
                "Google Cloud Storage",
                "https://h/p?X-Goog-Date=20260121T151122Z&X-Goog-Expires=3600".to_owned(),
            ),
            ("Alibaba OSS", "https://h/p?x-oss-date=20260121T151122Z&x-oss-expires=3600".to_owned()),
            ("Huawei OBS", "https://h/p?X-Obs-Date=20260121T151122Z&X-Obs-Expires=3600".to_owned()),
            ("S3 before", format!("https://h/p?AWSAccessKeyId=AK&Expires={END}&Signature=s%2Fg%3D")),
            ("Google before", format!("https://h/p?GoogleAccessId=a@b&Expires={END}&Signature=s")),
            ("Alibaba before", format!("https://h/p?OSSAccessKeyId=AK&Expires={END}&Signature=s")),
            ("CloudFront", format!("https://h/p?Expires={END}&Signature=s&Key-Pair-Id=K")),
            ("CloudFront with a policy", format!("https://h/p?Policy={policy}&Signature=s&Key-Pair-Id=K")),
            ("Azure", "https://h/p?sv=2024-11-04&se=2026-01-21T16%3A11%3A22Z&sr=b&sp=r&sig=s%3D".to_owned()),
            ("Tencent", format!("https://h/p?q-sign-time=1768000000%3B{END}&q-signature=s")),
            ("Tencent, not encoded", format!("https://h/p?q-sign-time=1768000000;{END}&q-signature=s")),
            ("Akamai", format!("https://h/p?hdnts=st=1~exp={END}~acl=/*~hmac={SIGNATURE}")),
            ("Akamai, another name", format!("https://h/p?__token__=exp={END}~acl=%2f*~hmac={SIGNATURE}")),
            ("Akamai in the path", format!("https://h/hdntl=exp={END}~acl=%2f*~hmac={SIGNATURE}/p.jpg")),
            ("Google Media CDN", format!("https://h/p?edge-cache-token=Expires={END}~KeyName=k~Signature=s")),
            ("Bunny", format!("https://h/p?token=SVq3-_s&expires={END}")),
            ("Bunny in the path", format!("https://h/bcdn_token=SVq3&expires={END}&token_path=%2F/p.jpg")),
            ("Fastly", format!("https://h/p?token={END}_{SIGNATURE}")),
            ("Fastly in hexadecimal", format!("https://h/p?token=0x6970FAAA_{SIGNATURE}")),
            ("imgix", format!("https://h/p?expires={END}&s=0a1b")),
            ("ImageKit", format!("https://h/p?ik-t={END}&ik-s=0a1b")),
            ("Cloudflare Images", format!("https://h/p?exp={END}&sig=0a1b")),
            ("Discord", "https://cdn.discordapp.com/p?ex=6970FAAA&is=696fa92a&hm=0a1b".to_owned()),
            ("TikTok", format!("https://h/p?x-expires={END}&x-signature=s%3D")),
            ("LinkedIn", format!("https://h/p?e={END}&v=beta&t=Abc")),
            ("Qiniu", format!("https://h/p?e={END}&token=AK:s")),
            ("Upyun", format!("https://h/p?_upt=0a1b2c3d{END}")),
            ("Supabase", format!("https://h/p?token={}", token(&format!(r#"{{"url":"p","exp":{END}}}"#)))),
            ("a token in the path", format!("https://h/{}/p.jpg", token(&format!(r#"{{"exp":{END}.5}}"#)))),
            ("milliseconds", format!("https://h/p?expirationTimestamp={END}123&signature=s")),
            ("microseconds", format!("https://h/p?expires={END}123456")),
            ("a date", "https://h/p?expires_at=2026-01-21T16:11:22%2B00:00".to_owned()),
            (
                "a link in a link",
                format!("https://proxy/?url=https%3A%2F%2Fh%2Fp%3Fexpires%3D{END}%26signature%3Ds"),
            ),
        ] {
            assert_eq!(read(&link), Some(END), "{signer}");
        }
    }

    #[test]
    fn azure_leaves_out_what_is_zero() {
        for (end, seconds) in [
            ("2026-01-21T16:11Z", Some(END - 22)),
            ("2026-01-21", Some(END - END % DAY)),
            ("2026-13-21", None),
            ("tomorrow", None),
        ] {
            assert_eq!(read(&format!("https://h/p?sig=s&se={end}")), seconds, "{end}");
        }
    }

    #[test]
    fn of_several_ends_the_earliest_counts() {
        let (sooner, later) = (END - 100, END + 100);
        for query in [
            format!("oe={END:x}&oe={later:x}"),
            format!("oe={later:x}&oe={END:x}"),
            format!("oe=unreadable&oe={END:x}"),
            format!("oe={later:x}&expires={END}&signature=s"),
            "sig=s&se=2027-01-01&ske=2026-01-21T16:11:22Z".to_owned(),
            format!("q-sign-time=1;{later}&q-key-time=1;{END}"),
            format!("oe={later:x}&url=https%3A%2F%2Fh%2F%3Foe%3D{END:x}"),
            format!("oe={END:x}&url=https%3A%2F%2Fh%2F%3Foe%3D{later:x}"),
        ] {
            assert_eq!(read(&format!("https://h/p?{query}")), Some(END), "{query}");
        }
        assert_eq!(read(&format!("https://h/p?expires={END}&Expires={sooner}")), Some(sooner));
    }

    #[test]
    fn an_end_more_than_400_days_ahead_is_none() {
        let (last, beyond) = (NOW + 400 * DAY, NOW + 400 * DAY + 1);
        for (query, end) in [
            (format!("oe={last:x}"), Some(last)),
            (format!("oe={beyond:x}"), None),
            // Read as decimal digits, this is an expiry in the near future.
            (format!("oe={END}"), None),
            (format!("oe={END}&oe={END:x}"), Some(END)),
            ("oe=FFFFFFFFFFFFFFFF".to_owned(), None),
            (format!("expires={beyond}&signature=s"), None),
            ("ik-t=9999999999&ik-s=s".to_owned(), None),
            ("X-Amz-Date=20260121T151122Z&X-Amz-Expires=99999999999999999999".to_owned(), None),
            ("X-Amz-Date=20260121T151122Z&X-Amz-Expires=18446744073709551615".to_owned(), None),
        ] {
            assert_eq!(read(&format!("https://h/p?{query}")), end, "{query}");
        }
    }

    #[test]
    fn what_is_no_end_is_not_taken_for_one() {
        for link in [
            "https://h/p.jpg",
            "https://h/p?oe=",
            "https://h/p?oe=xyz",
            "https://h/p?oe=-1",
            "https://h/p?oe=+64",
            "https://h/p?OE=64",
            "https://h/p?expires=",
            "https://h/p?expires=soon&signature=s",
            "https://h/p?expires=3600&signature=s",
            "https://h/p?X-Amz-Expires=3600&X-Amz-Signature=s",
            "https://h/p?X-Amz-Date=yesterday&X-Amz-Expires=3600",
            "https://h/p?X-Amz-Date=2026é121T15112Z&X-Amz-Expires=3600",
            "https://h/p?se=2026-01-21",
            "https://h/p?ex=6970FAAA",
            "https://notdiscordapp.com/p?ex=6970FAAA",
            "https://h/p?e=1769011882",
            "https://dyn.web.whatsapp.com/pp?e=A&i=1&t=l",
            "https://h/p?Policy=e30_&Key-Pair-Id=K",
            "https://h/p?Policy=%25&Key-Pair-Id=K",
            "https://h/p?token=3f0c2a4e-5b1d-4f6e-8a9b-0c1d2e3f4a5b",
            "https://h/p?token=1769011882_short",
            "https://h/p?token=eyJ.eyJ.eyJ",
            "https://h/p?verify=1769011882-c2lnbmF0dXJl",
            "https://h/p?hdnts=exp=1769011882",
            "https://h/p?_upt=short",
            "https://h/p?_upt=%C3%A9%C3%A9%C3%A9%C3%A9%C3%A91769011882",
            "https://h/1769011882/p.jpg?v=1769011882&t=1769011882",
        ] {
            assert_eq!(read(link), None, "{link}");
        }
    }
}
