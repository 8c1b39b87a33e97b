//! A tonic server like in tonic's tutorial: generated code, default settings, the system's allocator, and a
//! constant answer. It prints its address.

use std::error::Error;

use prost::Message;
use tonic::{
    Request, Response, Status,
    transport::{Server, server::TcpIncoming},
};

use contact::{
    CacheInfo, CacheStatus, GetProfilePictureRequest, GetProfilePictureResponse, ProfilePicture,
    ProfilePictureState,
    contact_service_server::{ContactService, ContactServiceServer},
};

mod contact {
    #![expect(clippy::pedantic, reason = "generated")]

    tonic::include_proto!("hypersender.contact.v1");
}

/// The size of every answer, as a message.
const REPLY_BYTES: usize = 217;

struct Constant(GetProfilePictureResponse);

#[tonic::async_trait]
impl ContactService for Constant {
    async fn get_profile_picture(
        &self,
        _: Request<GetProfilePictureRequest>,
    ) -> Result<Response<GetProfilePictureResponse>, Status> {
        Ok(Response::new(self.0.clone()))
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    // This is like `serve` with an address, except that the port is known.
    let incoming = TcpIncoming::bind("127.0.0.1:0".parse()?)?.with_nodelay(Some(true));
    println!("{}", incoming.local_addr()?);
    let service = ContactServiceServer::new(Constant(answer()));
    Server::builder().add_service(service).serve_with_incoming(incoming).await?;
    Ok(())
}

/// An answer with every field that a hit has, and a link that fills it up to [`REPLY_BYTES`].
fn answer() -> GetProfilePictureResponse {
    let picture = ProfilePicture {
        instance: "5a4db0c5-7a3e-4c1d-9f26-1b0e5d2c8f47".to_owned(),
        chat_id: "15560000000".to_owned(),
        state: ProfilePictureState::Present.into(),
        url: "https://pps.whatsapp.net/".to_owned(),
        fetch_time: Some(prost_types::Timestamp { seconds: 1_790_000_000, nanos: 123_456_789 }),
        expire_time: Some(prost_types::Timestamp { seconds: 1_790_852_768, nanos: 0 }),
        fingerprint: "15560000000_1_1_n.jpg".to_owned(),
        ..Default::default()
    };
    let cache = CacheInfo {
        status: CacheStatus::Hit.into(),
        age: Some(prost_types::Duration { seconds: 12, nanos: 123_456_789 }),
        ttl: Some(prost_types::Duration { seconds: 3_400, nanos: 123_456_789 }),
        collapsed: false,
    };
    let mut answer = GetProfilePictureResponse { profile_picture: Some(picture), cache_info: Some(cache) };
    while answer.encoded_len() < REPLY_BYTES {
        answer.profile_picture.get_or_insert_default().url.push('a');
    }
    assert_eq!(answer.encoded_len(), REPLY_BYTES);
    answer
}
