//! [`Table`]: results as rows for a person. They hold no links, which are long and secret.

use std::time::SystemTime;

use humantime::format_rfc3339_seconds;
use tonic::Code;
use tonic_types::{RpcStatusExt, pb};

use crate::{
    commands::look_ups::Wanted,
    grpc::contact::{
        CacheInfo, CacheStatus, ProfilePicture, ProfilePictureResult, ProfilePictureState,
        profile_picture_result::Outcome,
    },
};

/// Maximum width of the first column. A longer chat id, which is invalid, moves the rest of its row.
const CHAT_ID_MAX: usize = 26;
const GREEN: &str = "\u{1b}[32m";
const YELLOW: &str = "\u{1b}[33m";
const RED: &str = "\u{1b}[31m";
const PLAIN: &str = "\u{1b}[0m";

/// Makes rows of the same width. Where colours are not wanted, they are removed when a row is printed.
pub struct Table {
    width: usize,
}

impl Table {
    /// A table for these contacts.
    pub fn new(wanted: &[Wanted]) -> Self {
        let widths = wanted.iter().map(|wanted| wanted.chat_id.chars().count());
        Self { width: widths.max().unwrap_or_default().clamp("CHAT ID".len(), CHAT_ID_MAX) }
    }

    /// The names of the columns.
    pub fn head(&self) -> String {
        self.cells("CHAT ID", "", "RESULT", "CACHE", "LINK ENDS             FINGERPRINT OR ERROR")
    }

    /// The row of a result.
    pub fn row(&self, result: &ProfilePictureResult) -> String {
        let chat_id = visible(&result.requested_chat_id);
        let cache = result.cache_info.as_ref().map_or("", cache);
        match &result.outcome {
            Some(Outcome::ProfilePicture(picture)) if picture.state() == ProfilePictureState::Present => {
                self.cells(&chat_id, GREEN, "picture", cache, &present(picture))
            }
            Some(Outcome::ProfilePicture(_)) => self.cells(&chat_id, YELLOW, "none", cache, ""),
            Some(Outcome::Unchanged(_)) => self.cells(&chat_id, GREEN, "unchanged", cache, ""),
            Some(Outcome::Error(error)) => self.cells(&chat_id, RED, "error", cache, &failed(error)),
            None => self.cells(&chat_id, RED, "error", cache, "an outcome that this version does not know"),
        }
    }

    fn cells(&self, chat_id: &str, colour: &str, result: &str, cache: &str, rest: &str) -> String {
        let plain = if colour.is_empty() { "" } else { PLAIN };
        let width = self.width;
        let row = format!("{chat_id:<width$}  {colour}{result:<9}{plain}  {cache:<9}  {rest}");
        row.trim_end().to_owned()
    }
}

/// The text without control characters, which could write elsewhere on the terminal.
fn visible(text: &str) -> String {
    text.chars().map(|letter| if letter.is_control() { '\u{FFFD}' } else { letter }).collect()
}

fn present(picture: &ProfilePicture) -> String {
    let end = picture.expire_time.and_then(|time| SystemTime::try_from(time).ok());
    let end = end.map(|end| format_rfc3339_seconds(end).to_string()).unwrap_or_default();
    format!("{end:<20}  {}", visible(&picture.fingerprint))
}

fn failed(error: &pb::Status) -> String {
    let reason = error.get_details_error_info().map(|info| info.reason);
    let code: Code = error.code.into();
    let reason = reason.unwrap_or_else(|| format!("{code:?}"));
    format!("{reason}: {}", visible(&error.message))
}

fn cache(info: &CacheInfo) -> &'static str {
    match info.status() {
        CacheStatus::Hit => "HIT",
        CacheStatus::Miss => "MISS",
        CacheStatus::Expired => "EXPIRED",
        CacheStatus::Refreshed => "REFRESHED",
        CacheStatus::Stale => "STALE",
        CacheStatus::Unspecified => "",
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use prost_types::Timestamp;
    use tonic_types::{ErrorDetails, StatusExt};

    use super::*;
    use crate::grpc::contact::UnchangedPicture;

    fn row(chat_id: &str, outcome: Option<Outcome>, status: CacheStatus) -> String {
        let wanted = [Wanted { chat_id: "15551230001@c.us".to_owned(), fingerprint: None }];
        let cache_info = Some(CacheInfo { status: status.into(), ..CacheInfo::default() });
        let requested_chat_id = chat_id.to_owned();
        let result = ProfilePictureResult { index: 0, requested_chat_id, outcome, cache_info };
        anstream::adapter::strip_str(&Table::new(&wanted).row(&result)).to_string()
    }

    #[test]
    fn every_outcome_has_a_row_without_a_link() {
        let picture = ProfilePicture {
            state: ProfilePictureState::Present.into(),
            url: "https://pps.whatsapp.net/v/x".to_owned(),
            expire_time: Some(Timestamp { seconds: 1_764_000_000, nanos: 0 }),
            fingerprint: "1_2_3_n.jpg".to_owned(),
            ..ProfilePicture::default()
        };
        let none =
            ProfilePicture { state: ProfilePictureState::NotAvailable.into(), ..ProfilePicture::default() };
        let details = ErrorDetails::with_error_info("NOT_ON_WHATSAPP", "hypersender-grpc", HashMap::new());
        let error = tonic::Status::with_error_details(Code::NotFound, "no account", details);
        let error: pb::Status = prost::Message::decode(error.details()).unwrap();
        let unchanged = Outcome::Unchanged(UnchangedPicture::default());
        for (chat_id, outcome, status, expected) in [
            (
                "15551230001",
                Some(Outcome::ProfilePicture(picture)),
                CacheStatus::Miss,
                "15551230001       picture    MISS       2025-11-24T16:00:00Z  1_2_3_n.jpg",
            ),
            ("2", Some(Outcome::ProfilePicture(none)), CacheStatus::Hit, "2                 none       HIT"),
            ("3", Some(unchanged), CacheStatus::Stale, "3                 unchanged  STALE"),
            (
                "4\u{1b}[2J",
                Some(Outcome::Error(error)),
                CacheStatus::Unspecified,
                "4\u{FFFD}[2J             error                 NOT_ON_WHATSAPP: no account",
            ),
            (
                "5",
                None,
                CacheStatus::Hit,
                "5                 error      HIT        an outcome that this version does not know",
            ),
        ] {
            assert_eq!(row(chat_id, outcome, status), expected);
        }
    }
}
