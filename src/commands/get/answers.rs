//! [`Answers`]: messages of the contract in protobuf's JSON, as grpcurl prints them.

use prost::Message;
use prost_reflect::{DescriptorPool, DynamicMessage};
use prost_types::{FileDescriptorProto, FileDescriptorSet};

use crate::grpc::{
    DESCRIPTORS,
    contact::{GetProfilePictureResponse, ProfilePictureResult},
};

const RESPONSE: &str = "hypersender.contact.v1.GetProfilePictureResponse";
const RESULT: &str = "hypersender.contact.v1.ProfilePictureResult";

/// Turns messages into JSON.
pub struct Answers(DescriptorPool);

impl Default for Answers {
    fn default() -> Self {
        let mut pool = DescriptorPool::decode(DESCRIPTORS).expect("the descriptor set is made at build time");
        // The details of an error are messages of Google's, such as ErrorInfo. The contract imports Google's
        // Status, so the pool has that one already.
        let details = FileDescriptorSet::decode(tonic_types::pb::FILE_DESCRIPTOR_SET);
        let mut details = details.expect("the descriptor set is made at build time");
        let has_status =
            |file: &FileDescriptorProto| file.message_type.iter().any(|one| one.name() == "Status");
        details.file.retain(|file| !has_status(file));
        pool.add_file_descriptor_set(details).expect("the details import no other file");
        Self(pool)
    }
}

impl Answers {
    /// The response of one look-up, indented.
    pub fn response(&self, response: &GetProfilePictureResponse) -> String {
        let message = self.dynamic(RESPONSE, response);
        serde_json::to_string_pretty(&message).expect("every field has a form in JSON")
    }

    /// The result for one contact, on one line.
    pub fn line(&self, result: &ProfilePictureResult) -> String {
        let message = self.dynamic(RESULT, result);
        serde_json::to_string(&message).expect("every field has a form in JSON")
    }

    /// Results as an indented array.
    pub fn array(&self, results: &[ProfilePictureResult]) -> String {
        let messages: Vec<_> = results.iter().map(|result| self.dynamic(RESULT, result)).collect();
        serde_json::to_string_pretty(&messages).expect("every field has a form in JSON")
    }

    fn dynamic(&self, name: &str, message: &impl Message) -> DynamicMessage {
        let descriptor = self.0.get_message_by_name(name).expect("the contract has this message");
        DynamicMessage::decode(descriptor, &*message.encode_to_vec()).expect("it was encoded just now")
    }
}

#[cfg(test)]
mod tests {
    use std::{collections::HashMap, time::Duration};

    use tonic_types::{ErrorDetails, StatusExt, pb};

    use super::*;
    use crate::grpc::contact::profile_picture_result::Outcome;

    #[test]
    fn an_error_is_printed_with_its_details() {
        let mut details = ErrorDetails::with_error_info("RATE_LIMITED", "hypersender-grpc", HashMap::new());
        details.set_retry_info(Some(Duration::from_secs(5)));
        let status = tonic::Status::with_error_details(tonic::Code::ResourceExhausted, "too many", details);
        let error: pb::Status = prost::Message::decode(status.details()).unwrap();
        let requested_chat_id = "15551230001".to_owned();
        let outcome = Some(Outcome::Error(error));
        let result = ProfilePictureResult { index: 3, requested_chat_id, outcome, cache_info: None };
        let line = Answers::default().line(&result);
        let json: serde_json::Value = serde_json::from_str(&line).unwrap();
        assert_eq!(json["requestedChatId"], "15551230001", "{line}");
        assert_eq!(json["error"]["message"], "too many", "{line}");
        assert!(line.contains(r#""reason":"RATE_LIMITED""#), "{line}");
        assert!(line.contains(r#""retryDelay":"5s""#) && !line.contains('\n'), "{line}");
        assert!(Answers::default().array(&[result]).starts_with("[\n  {\n"));
    }
}
