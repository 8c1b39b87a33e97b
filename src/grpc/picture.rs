//! An answer in the terms of the contract.

use std::time::{Duration, SystemTime};

use super::{avatar_address::AvatarAddress, contact};
use crate::domain::{Answer, CacheInfo, CacheStatus, ChatId, Finding, Instance, LookupError, Ttl};

/// The picture of the contact `chat`, as `instance` sees it, with the address of its image, if there are
/// addresses. A missing contact is stored like an answer and reported as an error.
///
/// # Errors
///
/// [`LookupError::NotFound`] when there is no such contact.
pub fn picture(
    instance: &Instance,
    chat: &ChatId,
    answer: Answer,
    address: Option<&AvatarAddress>,
) -> Result<contact::ProfilePicture, LookupError> {
    let mut picture = contact::ProfilePicture {
        instance: instance.as_str().to_owned(),
        chat_id: chat.as_str().to_owned(),
        fetch_time: Some(timestamp(answer.fetched.wall)),
        ..Default::default()
    };
    match answer.finding {
        Finding::Picture(link) => {
            picture.set_state(contact::ProfilePictureState::Present);
            picture.fingerprint = link.fingerprint().into_owned();
            picture.expire_time = link.expires_at().map(timestamp);
            picture.url = link.into_url();
        }
        Finding::Absent(_) => picture.set_state(contact::ProfilePictureState::NotAvailable),
        Finding::NotFound(why) => return Err(LookupError::NotFound(why)),
    }
    picture.avatar_url = avatar_url(instance, chat, address);
    Ok(picture)
}

/// The same picture as the caller has, with the address of its image.
pub fn unchanged(
    instance: &Instance,
    chat: &ChatId,
    fetched: SystemTime,
    address: Option<&AvatarAddress>,
) -> contact::UnchangedPicture {
    contact::UnchangedPicture {
        fetch_time: Some(timestamp(fetched)),
        avatar_url: avatar_url(instance, chat, address),
    }
}

/// The address of the image of `chat`. Empty, which means unset, if there is none.
fn avatar_url(instance: &Instance, chat: &ChatId, address: Option<&AvatarAddress>) -> String {
    address.and_then(|address| address.of(instance, chat)).unwrap_or_default()
}

/// How the answer was found.
pub fn cache_info(info: CacheInfo) -> contact::CacheInfo {
    let status = match info.status {
        CacheStatus::Hit => contact::CacheStatus::Hit,
        CacheStatus::Miss => contact::CacheStatus::Miss,
        CacheStatus::Expired => contact::CacheStatus::Expired,
        CacheStatus::Refreshed => contact::CacheStatus::Refreshed,
        CacheStatus::Stale => contact::CacheStatus::Stale,
    };
    let ttl = match info.ttl {
        Ttl::Left(left) => duration(left),
        Ttl::Past(past) => {
            let past = duration(past);
            prost_types::Duration { seconds: -past.seconds, nanos: -past.nanos }
        }
    };
    contact::CacheInfo {
        status: status.into(),
        age: Some(duration(info.age)),
        ttl: Some(ttl),
        collapsed: info.collapsed,
    }
}

/// A moment of the wall clock.
pub fn timestamp(at: SystemTime) -> prost_types::Timestamp {
    prost_types::Timestamp::from(at)
}

fn duration(duration: Duration) -> prost_types::Duration {
    prost_types::Duration {
        seconds: duration.as_secs().try_into().unwrap_or(i64::MAX),
        nanos: duration.subsec_nanos().cast_signed(),
    }
}
