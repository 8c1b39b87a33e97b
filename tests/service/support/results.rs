//! [`summary`]: the outcome of one result of a batch or a stream, in a word.

use hypersender_grpc::grpc::contact::{ProfilePictureResult, profile_picture_result::Outcome};
use prost::Message;
use tonic::Status;
use tonic_types::{StatusExt, pb};

/// The reason of an error, the state of a picture, or `Unchanged`.
pub fn summary(result: &ProfilePictureResult) -> String {
    match result.outcome.as_ref().expect("every result has an outcome") {
        Outcome::ProfilePicture(picture) => format!("{:?}", picture.state()),
        Outcome::Unchanged(_) => "Unchanged".to_owned(),
        Outcome::Error(error) => reason(error),
    }
}

fn reason(error: &pb::Status) -> String {
    let status = Status::with_details(error.code.into(), &error.message, error.encode_to_vec().into());
    status.get_details_error_info().expect("every error has a reason").reason
}
