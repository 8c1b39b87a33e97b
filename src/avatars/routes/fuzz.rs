//! Random addresses and queries: only the contact that an address names is shown, and a query has one
//! meaning. Both are read here in a second way, with the decoder of another library.

use http::Uri;
use tokio::runtime::{self, Runtime};
use url::form_urlencoded;

use super::{tests::World, *};
use crate::{
    avatars::{
        fuzz::{Corpus, Random, run},
        image::Size,
        query::{BadQuery, Fallback, Name},
    },
    domain::{Instance, percent_decoded},
};

/// Maximum number of bytes of a query.
const QUERY_BYTES_MAX: usize = 2048;
const WORDS: [&[u8]; 31] = [
    b"%",
    b"%2",
    b"%2F",
    b"%2e",
    b"%00",
    b"%0d%0a",
    b"%25",
    b"%ff",
    b"%C3%A9",
    b"\xC3\xA9",
    b"%40",
    b"%2B",
    b"+",
    b"/",
    b"//",
    b"..",
    b"?",
    b"#",
    b"&",
    b"=",
    b"size=96",
    b"size=016",
    b"default=404",
    b"default=initials",
    b"name=",
    b"name=%3Cscript%3E",
    b"/avatars/",
    b"/instances/",
    b"/contacts/",
    b"/avatar",
    b"other",
];

/// The text behind the escapes, as another library reads it; `None` for an escape that is malformed, and for
/// a text that is not UTF-8. A plus is a blank in a form.
fn decoded(text: &str, in_form: bool) -> Option<String> {
    let mut escapes = text.split('%').skip(1);
    let is_hex = |escape: &str| escape.bytes().take(2).filter(u8::is_ascii_hexdigit).count() == 2;
    let text = if in_form { text.to_owned() } else { text.replace('+', "%2B") };
    let text = text.replace('&', "%26");
    let encoded = format!("x={text}");
    let (_, value) = form_urlencoded::parse(encoded.as_bytes()).next().unwrap();
    // The other library writes this character in place of bytes that are not UTF-8. No input contains it.
    let is_utf8 = !value.contains(char::REPLACEMENT_CHARACTER);
    (escapes.all(is_hex) && is_utf8).then(|| value.into_owned())
}

/// The only value of a parameter, or `None` for none.
fn value(query: &str, key: &str) -> Option<String> {
    let mut values = query.split('&').filter_map(|pair| {
        let (found, value) = pair.split_once('=').unwrap_or((pair, ""));
        (found == key).then_some(value)
    });
    let value = values.next()?;
    assert_eq!(values.next(), None, "{key} is given twice in {query:?}");
    Some(decoded(value, true).unwrap_or_else(|| panic!("{key} is malformed in {query:?}")))
}

/// Checks that a query which is accepted has the meaning that it has elsewhere, and one written form.
fn check_query(text: &str) -> Result<Query, BadQuery> {
    let query = Query::parse(Some(text));
    assert_eq!(query == Err(BadQuery::TooLong), text.len() > QUERY_BYTES_MAX);
    let query = query?;
    assert!(Size::ALL.contains(&query.size));
    let pixels = value(text, "size").map_or(640, |pixels| pixels.parse().unwrap());
    assert_eq!(Size::covering(pixels), Some(query.size), "{text:?}");
    let name = value(text, "name").unwrap_or_default();
    let fallback = match value(text, "default").as_deref() {
        None | Some("silhouette") => Fallback::Silhouette,
        Some("initials") => Fallback::Initials(Name(name)),
        Some("404") => Fallback::Status,
        Some(other) => panic!("{other:?} is accepted as a default"),
    };
    assert!(query.fallback == fallback, "{text:?}");
    assert!(Query::parse(Some(&written(&query))).as_ref() == Ok(&query), "{text:?}");
    Ok(query)
}

fn written(query: &Query) -> String {
    let (default, name) = match &query.fallback {
        Fallback::Silhouette => ("silhouette", ""),
        Fallback::Initials(Name(name)) => ("initials", name.as_str()),
        Fallback::Status => ("404", ""),
    };
    format!("size={}&default={default}&name={}", query.size.pixels(), escaped(name))
}

fn escaped(text: &str) -> String {
    text.bytes().map(|byte| format!("%{byte:02X}")).collect::<Vec<_>>().concat()
}

/// Checks that a text is decoded as the other library does.
fn check_decoding(text: &str) {
    assert_eq!(percent_decoded(text), decoded(text, false), "{text:?}");
    assert_eq!(percent_decoded(&escaped(text)).as_deref(), Some(text));
}

/// A server, the addresses for which it shows an image, and a runtime for its answers.
struct Server {
    world: World,
    sealed: Vec<String>,
    runtime: Runtime,
}

impl Server {
    fn new() -> Self {
        let world = World::new(true, 8);
        let chats = ["15551230001", "15551234567@c.us", "12345678901234567890@lid"];
        let sealed = chats.map(|chat| {
            let (instance, chat) = (Instance::parse("shop").unwrap(), ChatId::parse(chat).unwrap());
            let url = world.addresses.url(&instance, &chat, Clock::system().now().wall).unwrap();
            url.strip_prefix("https://avatars.example").unwrap().to_owned()
        });
        let runtime = runtime::Builder::new_current_thread().build().unwrap();
        Self { world, sealed: sealed.to_vec(), runtime }
    }

    /// Requests that are valid, and the means to alter them.
    fn corpus(&self) -> Corpus {
        let plain = [
            "/instances/shop/contacts/15551230001/avatar",
            "/instances/shop/contacts/%2B15551230001%40C.us/avatar?size=90",
            "/instances/%73hop/contacts/+15551230001%40s.whatsapp.net/avatar?size=%39%36&default=404",
            "/instances/shop/contacts/15551230001/avatar?name=Ada+Lovelace&default=initials&size=640",
            "/instances/other/contacts/15551230001/avatar?default=initials&name=J%C3%BCrgen%20%2B&size=16",
        ];
        let sealed =
            self.sealed.iter().flat_map(|path| [path.clone(), format!("{path}?size=48&default=404")]);
        let valid = plain.map(str::to_owned).into_iter().chain(sealed).map(String::into_bytes).collect();
        Corpus { valid, words: &WORDS, bytes_max: 4096 }
    }

    /// Sends the request, whose token may see the instance `shop`. Whether it is accepted.
    fn check(&self, target: &str) -> bool {
        let Ok(uri) = target.parse::<Uri>() else { return false };
        let query = check_query(uri.query().unwrap_or_default());
        let response = self.runtime.block_on(self.world.send("GET", target, "secret"));
        let status = response.status().as_u16();
        let asked = std::mem::take(&mut *self.world.asked.lock());
        assert!([200, 400, 403, 404, 503].contains(&status), "{status} for {target:?}");
        let asks_for_status = matches!(&query, Ok(query) if query.fallback == Fallback::Status);
        let content_type = response.headers().get("content-type").map(|value| value.to_str().unwrap());
        assert_eq!(content_type, (!asks_for_status).then_some("image/svg+xml"), "{target:?}");
        let of_plain = query.as_ref().ok().and_then(|query| shown(uri.path(), query.size));
        let is_sealed = self.sealed.iter().any(|path| path == uri.path()) && query.is_ok();
        let expected = usize::from(of_plain.is_some() || is_sealed);
        assert_eq!(asked.len(), expected, "{target:?} showed {asked:?}");
        assert!(is_sealed || asked.first() == of_plain.as_ref(), "{target:?} showed {asked:?}");
        !asked.is_empty()
    }
}

/// The entry of the gallery for the contact of a plain address.
fn shown(path: &str, size: Size) -> Option<String> {
    let parts: Vec<_> = path.split('/').collect();
    let ["", "instances", instance, "contacts", chat, "avatar"] = parts[..] else { return None };
    let chat = ChatId::parse(&decoded(chat, false)?).ok()?;
    let is_shop = decoded(instance, false)? == "shop";
    is_shop.then(|| format!("shop {} token of shop {size:?}", chat.as_str()))
}

/// A text without the character that stands for bytes that are not UTF-8.
fn text(corpus: &Corpus, random: &mut Random) -> String {
    let text = String::from_utf8_lossy(&corpus.draw(random)).replace(char::REPLACEMENT_CHARACTER, "");
    text.replace("%EF%BF%BD", "")
}

#[test]
#[ignore = "`make fuzz` runs it"]
fn an_address_shows_the_contact_that_it_names_and_no_other() {
    let server = Server::new();
    let corpus = server.corpus();
    run("paths and queries", |random| {
        let target = text(&corpus, random);
        check_decoding(&target);
        let (_, query) = target.split_once('?').unwrap_or(("", &target));
        let is_query = check_query(query).is_ok() && target.contains('?');
        let is_path = server.check(&target);
        is_path || is_query
    });
}
