//! Addresses of images in the answers of every method: who gets them, and when they are made.

use std::{
    collections::HashMap,
    time::{Duration, SystemTime},
};

use futures_util::future::poll_fn;
use http::{Request, Response};
use http_body_util::BodyExt;
use prost::Message;
use tokio::time::Instant;
use tonic::body::Body;
use tower::Service;

use super::*;
use crate::{
    domain::{Absence, Allowed, Answer, CacheInfo, Finding, LookupError, NotFound, Now},
    grpc::{
        ContactMethod, Contacts, PREFIX_BYTES, RequestMessage,
        backend::Backend,
        contact::{
            BatchGetProfilePicturesRequest, BatchGetProfilePicturesResponse, GetProfilePictureRequest,
            GetProfilePictureResponse, ProfilePictureResult, StreamProfilePicturesRequest,
            StreamProfilePicturesResponse, profile_picture_result::Outcome,
            stream_profile_pictures_response::Event,
        },
        picture::picture,
        testing::{INSTANCE, Upstream, backend, request},
    },
    stack::{LookupService, RateSettings},
};

const NO_LIMIT: RateSettings = RateSettings { per_second: 0.0, burst: 0 };
const CHAT: &str = "15551230001";
const ADDRESS: &str = "https://a.example/shop/15551230001";

/// Addresses that show the names that they were made from.
fn plain() -> AvatarAddress {
    AvatarAddress::new(|instance, chat| {
        Some(format!("https://a.example/{}/{}", instance.as_str(), chat.as_str()))
    })
}

/// A server and the caller of all its calls.
struct Server<F> {
    contacts: Contacts<F>,
    caller: Caller,
}

/// A server with `address` and the callers that it has without a callers file.
fn server(address: Option<AvatarAddress>, rate: RateSettings) -> Server<impl LookupService> {
    let Backend { stack, credentials, streams, metrics, .. } = backend(rate, &Upstream::default());
    let contacts = Contacts::new(stack, credentials, streams, metrics, address);
    Server { contacts, caller: Caller::ANYONE }
}

impl<F: LookupService> Server<F> {
    /// The messages of the response.
    async fn ask(&mut self, method: ContactMethod, message: &impl Message) -> Vec<Vec<u8>> {
        let mut request: Request<RequestMessage> = request(method, message);
        request.extensions_mut().insert(self.caller.clone());
        let Ok(()) = poll_fn(|context| self.contacts.poll_ready(context)).await;
        let Ok(response) = self.contacts.call(request).await;
        messages(response).await
    }

    /// The address in the answer of `GetProfilePicture`.
    async fn get(&mut self, chat_id: &str) -> String {
        let message = GetProfilePictureRequest { chat_id: chat_id.to_owned(), ..Default::default() };
        let messages = self.ask(ContactMethod::GetProfilePicture, &message).await;
        let response = GetProfilePictureResponse::decode(&*messages[0]).unwrap();
        response.profile_picture.unwrap().avatar_url
    }

    /// The addresses in the results of a batch.
    async fn batch(&mut self, chat_ids: &[&str], known: &[(&str, &str)]) -> Vec<String> {
        let text = |text: &&str| (*text).to_owned();
        let message = BatchGetProfilePicturesRequest {
            chat_ids: chat_ids.iter().map(text).collect(),
            known_fingerprints: known.iter().map(|(chat, known)| (text(chat), text(known))).collect(),
            ..Default::default()
        };
        let messages = self.ask(ContactMethod::BatchGetProfilePictures, &message).await;
        let response = BatchGetProfilePicturesResponse::decode(&*messages[0]).unwrap();
        response.results.into_iter().map(address).collect()
    }

    /// The addresses in the results of a stream, by index.
    async fn stream(&mut self, chat_ids: &[&str], known: &[(&str, &str)]) -> Vec<String> {
        let text = |text: &&str| (*text).to_owned();
        let message = StreamProfilePicturesRequest {
            chat_ids: chat_ids.iter().map(text).collect(),
            known_fingerprints: known.iter().map(|(chat, known)| (text(chat), text(known))).collect(),
            ..Default::default()
        };
        let messages = self.ask(ContactMethod::StreamProfilePictures, &message).await;
        let events =
            messages.iter().map(|message| StreamProfilePicturesResponse::decode(&**message).unwrap());
        let mut addresses = HashMap::new();
        for event in events {
            if let Some(Event::Result(result)) = event.event {
                addresses.insert(usize::try_from(result.index).unwrap(), address(result));
            }
        }
        (0..chat_ids.len()).map(|index| addresses.remove(&index).unwrap()).collect()
    }
}

/// The messages in the body of `response`.
async fn messages(response: Response<Body>) -> Vec<Vec<u8>> {
    let body = response.into_body().collect().await.unwrap().to_bytes();
    let (mut rest, mut messages) = (&*body, Vec::new());
    while let Some((prefix, message)) = rest.split_first_chunk::<PREFIX_BYTES>() {
        let [_, length @ ..] = *prefix;
        let (message, after) = message.split_at(u32::from_be_bytes(length) as usize);
        messages.push(message.to_owned());
        rest = after;
    }
    messages
}

/// The kind of the outcome, and its address.
fn address(result: ProfilePictureResult) -> String {
    match result.outcome.unwrap() {
        Outcome::ProfilePicture(picture) => format!("picture {}", picture.avatar_url),
        Outcome::Unchanged(unchanged) => format!("unchanged {}", unchanged.avatar_url),
        Outcome::Error(error) => format!("error {}", error.code),
    }
}

#[tokio::test(start_paused = true)]
async fn every_method_gives_the_address_of_the_contact_also_if_the_picture_is_unchanged() {
    let mut server = server(Some(plain()), NO_LIMIT);
    assert_eq!(server.get(CHAT).await, ADDRESS, "a miss");
    assert_eq!(server.get(&format!(" +{CHAT}")).await, ADDRESS, "a hit, in canonical form");
    let chats = [CHAT, "15551230002@S.WhatsApp.net", "nobody", CHAT];
    let known = [("15551230002@S.WhatsApp.net", "1_2_3_n.jpg")];
    let expected = [
        format!("picture {ADDRESS}"),
        "unchanged https://a.example/shop/15551230002@c.us".to_owned(),
        "error 3".to_owned(),
        format!("picture {ADDRESS}"),
    ];
    assert_eq!(server.batch(&chats, &known).await, expected);
    assert_eq!(server.stream(&chats, &known).await, expected);
}

#[tokio::test(start_paused = true)]
async fn callers_of_a_callers_file_get_addresses_only_if_it_says_so() {
    let named = Caller::new("crm", Allowed::All);
    for (address, caller, expected) in [
        (Some(plain()), Caller::ANYONE, ADDRESS),
        (Some(plain()), named.clone(), ""),
        (Some(plain()), named.clone().with_avatars(true), ADDRESS),
        (Some(AvatarAddress::new(|_, _| None)), Caller::ANYONE, ""),
        (None, Caller::ANYONE, ""),
        (None, named.with_avatars(true), ""),
    ] {
        let mut server = server(address, NO_LIMIT);
        server.caller = caller;
        assert_eq!(server.get(CHAT).await, expected);
        for known in [&[][..], &[(CHAT, "1_2_3_n.jpg")]] {
            let kind = if known.is_empty() { "picture" } else { "unchanged" };
            assert_eq!(server.batch(&[CHAT], known).await, [format!("{kind} {expected}")]);
            assert_eq!(server.stream(&[CHAT], known).await, [format!("{kind} {expected}")]);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn an_address_is_made_when_its_message_is_made() {
    let begun = Instant::now();
    let address = AvatarAddress::new(move |_, _| Some(begun.elapsed().as_secs().to_string()));
    let mut server = server(Some(address), RateSettings { per_second: 0.01, burst: 1 });
    let addresses = server.stream(&["15551230001", "15551230002", "15551230003"], &[]).await;
    let mut seconds: Vec<u64> =
        addresses.iter().map(|address| address.strip_prefix("picture ").unwrap().parse().unwrap()).collect();
    seconds.sort_unstable();
    assert!(seconds.windows(2).all(|pair| pair[1] - pair[0] >= 90), "{seconds:?}");
}

#[tokio::test(start_paused = true)]
async fn a_contact_without_a_picture_has_an_address_and_an_error_has_none() {
    let answer = |finding| Answer {
        finding,
        fetched: Now { instant: Instant::now(), wall: SystemTime::UNIX_EPOCH },
        took: Duration::ZERO,
        cache: CacheInfo::FETCHED,
    };
    let (instance, chat) = (Instance::parse(INSTANCE).unwrap(), ChatId::parse(CHAT).unwrap());
    let picture = |finding| picture(&instance, &chat, answer(finding), Some(&plain()));
    assert_eq!(picture(Finding::Absent(Absence::Null)).unwrap().avatar_url, ADDRESS);
    let missing = Finding::NotFound(NotFound::NotOnWhatsApp);
    assert_eq!(picture(missing), Err(LookupError::NotFound(NotFound::NotOnWhatsApp)));
}
