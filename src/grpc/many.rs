//! [`Many`]: the request of a batch or a stream, read and checked; and the result for each of its contacts
//! (rule 35).

use std::{collections::HashMap, mem, sync::Arc};

use futures_util::future::{BoxFuture, Either, Ready};
use prost::{
    Message,
    encoding::{DecodeContext, WireType, decode_key, skip_field},
};

use super::{
    Answered,
    avatar_address::AvatarAddress,
    backend::Backend,
    contact::{self, profile_picture_result::Outcome},
    control::cache_control,
    picture::{cache_info, picture, unchanged},
    status::rpc_status,
};
use crate::{
    domain::{Answer, CacheControl, ChatId, Credential, Finding, Instance, LookupError, Refusal},
    telemetry::ResultKind,
};

/// The response to a batch or a stream: there at once, or later.
pub type ManyCall = Either<Ready<Answered>, BoxFuture<'static, Answered>>;

/// The numbers of the repeated fields, the same in both requests.
const CHAT_IDS: u32 = 2;
const KNOWN_FINGERPRINTS: u32 = 4;
/// A longer known fingerprint is ignored. Those of this server have at most about 100 bytes.
const FINGERPRINT_BYTES_MAX: usize = 1024;

/// The fields of both requests.
#[derive(Debug, Default)]
pub struct Wanted {
    instance: String,
    chat_ids: Vec<String>,
    cache_control: Option<contact::CacheControl>,
    known_fingerprints: HashMap<String, String>,
}

impl From<contact::BatchGetProfilePicturesRequest> for Wanted {
    fn from(request: contact::BatchGetProfilePicturesRequest) -> Self {
        let contact::BatchGetProfilePicturesRequest { instance, chat_ids, cache_control, known_fingerprints } =
            request;
        Self { instance, chat_ids, cache_control, known_fingerprints }
    }
}

impl From<contact::StreamProfilePicturesRequest> for Wanted {
    fn from(request: contact::StreamProfilePicturesRequest) -> Self {
        let contact::StreamProfilePicturesRequest { instance, chat_ids, cache_control, known_fingerprints } =
            request;
        Self { instance, chat_ids, cache_control, known_fingerprints }
    }
}

/// Many contacts of one instance, and what to do with their answers.
#[derive(Debug)]
pub struct Many {
    /// The instance that is asked.
    pub instance: Instance,
    /// The token for the requests.
    pub credential: Credential,
    /// The answers that the caller accepts from the cache.
    pub control: CacheControl,
    /// The different contacts, in the order of the request.
    pub chats: Arc<[ChatId]>,
    /// For each index of the request its contact in `chats`; `None` for a malformed chat id.
    pub contact_of: Vec<Option<u32>>,
    chat_ids: Vec<String>,
    /// For each index the fingerprint that the caller knows. It is empty when the caller knows none.
    known: Vec<Option<Box<str>>>,
    /// Makes the addresses of images, if the caller gets any.
    avatar_address: Option<AvatarAddress>,
}

impl Many {
    /// Reads `message`, a request of the type `M` with at most `max` contacts. The entries are counted on the
    /// raw bytes, because decoded ones take up to a hundred times the memory.
    ///
    /// # Errors
    ///
    /// The refusals of the whole call. A malformed chat id is not one of them.
    pub fn read<M, F>(
        message: &[u8],
        max: usize,
        backend: &Backend<F>,
        call: &http::Extensions,
    ) -> Result<Self, Refusal>
    where
        M: Message + Default + Into<Wanted>,
    {
        check_sizes(message, max)?;
        let wanted: Wanted = M::decode(message).map_err(|_| Refusal::MessageInvalid)?.into();
        let control = cache_control(wanted.cache_control.unwrap_or_default())?;
        let (instance, credential) = backend.credentials.resolve(&wanted.instance, call)?;
        let mut contacts = HashMap::with_capacity(wanted.chat_ids.len());
        let mut chats = Vec::with_capacity(wanted.chat_ids.len());
        let contact_of = wanted.chat_ids.iter().map(|chat_id| {
            let chat = ChatId::parse(chat_id).ok()?;
            let next = u32::try_from(chats.len()).ok()?;
            Some(*contacts.entry(chat).or_insert_with_key(|chat| {
                chats.push(chat.clone());
                next
            }))
        });
        let contact_of = contact_of.collect();
        let chats = chats.into();
        let known = known(&wanted.chat_ids, &wanted.known_fingerprints);
        let chat_ids = wanted.chat_ids;
        let avatar_address = backend.avatar_address(call);
        Ok(Self { instance, credential, control, chats, contact_of, chat_ids, known, avatar_address })
    }

    /// The result for the contact at `index` of the request. `found` is `None` for a malformed chat id.
    pub fn result(
        &mut self,
        index: usize,
        found: Option<Result<Answer, LookupError>>,
    ) -> (contact::ProfilePictureResult, ResultKind) {
        let chat = self.contact_of[index].map(|contact| &self.chats[contact as usize]);
        let (outcome, cache_info, kind) = match (chat, found) {
            (Some(chat), Some(Ok(answer))) => self.outcome(index, chat, answer),
            (Some(_), Some(Err(error))) => (Outcome::Error(rpc_status(&error)), None, ResultKind::Failed),
            (None, _) | (_, None) => {
                (Outcome::Error(rpc_status(&Refusal::ChatIdInvalid)), None, ResultKind::Failed)
            }
        };
        let result = contact::ProfilePictureResult {
            index: i32::try_from(index).unwrap_or(i32::MAX),
            // Each index has one result, so that its text can move.
            requested_chat_id: mem::take(&mut self.chat_ids[index]),
            outcome: Some(outcome),
            cache_info,
        };
        (result, kind)
    }

    fn outcome(
        &self,
        index: usize,
        chat: &ChatId,
        answer: Answer,
    ) -> (Outcome, Option<contact::CacheInfo>, ResultKind) {
        let Self { instance, avatar_address, .. } = self;
        let address = avatar_address.as_ref();
        let cache = cache_info(answer.cache);
        if let Finding::Picture(link) = &answer.finding
            && let Some(Some(known)) = self.known.get(index)
            && link.fingerprint() == **known
        {
            let unchanged = unchanged(instance, chat, answer.fetched.wall, address);
            return (Outcome::Unchanged(unchanged), Some(cache), ResultKind::Unchanged);
        }
        let kind = match &answer.finding {
            Finding::Picture(_) => ResultKind::Picture,
            Finding::Absent(_) => ResultKind::NotAvailable,
            Finding::NotFound(_) => ResultKind::Failed,
        };
        match picture(instance, chat, answer, address) {
            Ok(picture) => (Outcome::ProfilePicture(picture), Some(cache), kind),
            Err(error) => (Outcome::Error(rpc_status(&error)), None, kind),
        }
    }
}

/// The known fingerprint of each chat id. Other keys, empty values, and values that no fingerprint can be are
/// dropped, so that a request in progress does not hold their memory.
fn known(chat_ids: &[String], fingerprints: &HashMap<String, String>) -> Vec<Option<Box<str>>> {
    if fingerprints.is_empty() {
        return Vec::new();
    }
    let possible = |known: &&String| (1..=FINGERPRINT_BYTES_MAX).contains(&known.len());
    let known = chat_ids.iter().map(|chat_id| fingerprints.get(chat_id).filter(possible));
    known.map(|known| known.map(|known| known.as_str().into())).collect()
}

/// Checks the number of chat ids and of known fingerprints in an encoded request.
fn check_sizes(mut message: &[u8], max: usize) -> Result<(), Refusal> {
    let (mut chat_ids, mut known) = (0_usize, 0_usize);
    while !message.is_empty() {
        let (field, wire) = decode_key(&mut message).map_err(|_| Refusal::MessageInvalid)?;
        match (field, wire) {
            (CHAT_IDS, WireType::LengthDelimited) => chat_ids += 1,
            (KNOWN_FINGERPRINTS, WireType::LengthDelimited) => known += 1,
            _ => {}
        }
        skip_field(wire, field, &mut message, DecodeContext::default())
            .map_err(|_| Refusal::MessageInvalid)?;
    }
    if chat_ids == 0 || chat_ids > max {
        return Err(Refusal::BatchSizeInvalid { field: "chat_ids", max });
    }
    if known > max {
        return Err(Refusal::BatchSizeInvalid { field: "known_fingerprints", max });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::{
        hash::RandomState,
        time::{Duration, SystemTime},
    };

    use tokio::time::Instant;

    use super::*;
    use crate::domain::{Absence, CacheInfo, CacheStatus, Now, PictureLink};
    use contact::StreamProfilePicturesRequest as Request;

    fn sizes(chat_ids: usize, known: usize) -> Result<(), Refusal> {
        let chat_ids = vec!["15551230001".to_owned(); chat_ids];
        let known_fingerprints = (0..known).map(|index| (index.to_string(), "f".to_owned())).collect();
        let request = Request { chat_ids, known_fingerprints, ..Request::default() };
        check_sizes(&request.encode_to_vec(), 3)
    }

    #[test]
    fn a_request_has_at_least_one_contact_and_a_bounded_number_of_entries() {
        let refused = |field| Err(Refusal::BatchSizeInvalid { field, max: 3 });
        for (chat_ids, known, expected) in [
            (0, 0, refused("chat_ids")),
            (0, 3, refused("chat_ids")),
            (1, 0, Ok(())),
            (3, 3, Ok(())),
            (4, 0, refused("chat_ids")),
            (1, 4, refused("known_fingerprints")),
        ] {
            assert_eq!(sizes(chat_ids, known), expected, "{chat_ids} chat ids, {known} fingerprints");
        }
    }

    #[test]
    fn entries_are_counted_whatever_stands_between_them() {
        // An empty chat id, a field of each wire type that a later version may add, and one more chat id.
        let varint = [0x78, 1];
        let fixed = [0x79, 0, 0, 0, 0, 0, 0, 0, 0];
        let group = [0x7b, 0x78, 1, 0x7c];
        let short = [0x7d, 0, 0, 0, 0];
        let between = [&varint[..], &fixed, &group, &short].concat();
        let two = [&[0x12, 0][..], &between, &[0x12, 1, b'1']].concat();
        assert_eq!(check_sizes(&two, 2), Ok(()));
        assert_eq!(check_sizes(&two, 1), Err(Refusal::BatchSizeInvalid { field: "chat_ids", max: 1 }));
        for broken in [&[0x12][..], &[0x12, 5, b'1'], &[0x07], &[0x7b, 0x78, 1], &[0xff; 12]] {
            assert_eq!(check_sizes(broken, 2), Err(Refusal::MessageInvalid), "{broken:?}");
        }
    }

    /// The kind of the result for an answer with `link`, when the caller knows `known`.
    fn kind(link: Option<&str>, status: CacheStatus, known: &str) -> ResultKind {
        let wall = SystemTime::UNIX_EPOCH;
        let link = link.map(|link| Finding::Picture(PictureLink::parse(link, wall).unwrap()));
        let answer = Answer {
            finding: link.unwrap_or(Finding::Absent(Absence::Null)),
            fetched: Now { instant: Instant::now(), wall },
            took: Duration::ZERO,
            cache: CacheInfo { status, ..CacheInfo::FETCHED },
        };
        let (chat_ids, chat) = (vec!["1555123".to_owned()], ChatId::parse("1555123").unwrap());
        let known = self::known(&chat_ids, &HashMap::from([(chat_ids[0].clone(), known.to_owned())]));
        let mut many = Many {
            instance: Instance::parse("shop").unwrap(),
            credential: Credential::new("token".into(), &RandomState::new()),
            control: CacheControl::default(),
            chats: [chat].into(),
            contact_of: vec![Some(0)],
            chat_ids,
            known,
            avatar_address: None,
        };
        let (result, kind) = many.result(0, Some(Ok(answer)));
        assert!(result.cache_info.is_some());
        kind
    }

    #[test]
    fn a_picture_is_unchanged_while_its_fingerprint_is_known_fresh_or_stale() {
        const LINK: &str = "https://pps.whatsapp.net/v/t/1_2_3_n.jpg?oe=70000000";
        for status in [CacheStatus::Hit, CacheStatus::Miss, CacheStatus::Stale] {
            assert_eq!(kind(Some(LINK), status, "1_2_3_n.jpg"), ResultKind::Unchanged, "{status:?}");
            assert_eq!(kind(Some(LINK), status, "3_2_1_n.jpg"), ResultKind::Picture, "{status:?}");
            assert_eq!(kind(Some(LINK), status, ""), ResultKind::Picture, "{status:?}");
            assert_eq!(kind(None, status, "1_2_3_n.jpg"), ResultKind::NotAvailable, "{status:?}");
        }
    }
}
