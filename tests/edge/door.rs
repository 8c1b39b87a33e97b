//! [`Door`]: the built binary, started with the settings a test gives it and no others, and asked from outside.

use hypersender_grpc::grpc::contact::{
    CacheControl, GetProfilePictureRequest, GetProfilePictureResponse,
    contact_service_client::ContactServiceClient,
};
use tonic::{
    Code, Request, Status,
    transport::{Channel, Endpoint},
};
use tonic_types::StatusExt;

use crate::process::{Launch, Process, marks};

/// A running service.
pub struct Door {
    process: Process,
    address: String,
    channel: Channel,
}

/// A failed call: its code and reason.
pub type Refusal = (Code, String);

impl Door {
    /// Starts the binary with these variables, on a free port of this machine unless they say otherwise.
    pub async fn open(variables: &[(&str, &str)]) -> Self {
        let launch = Launch::serve();
        let launch = variables.iter().fold(launch, |launch, (name, value)| launch.variable(name, value));
        let process = launch.start().await;
        let address = process.address.to_string().replace("0.0.0.0", "127.0.0.1");
        let channel = Endpoint::try_from(format!("http://{address}")).unwrap().connect_lazy();
        Self { process, address, channel }
    }

    /// Where it listens.
    pub fn address(&self) -> String {
        self.address.clone()
    }

    /// A connection to it, without TLS.
    pub fn channel(&self) -> Channel {
        self.channel.clone()
    }

    /// Looks up `chat` with these entries of `authorization`.
    pub async fn ask(
        &self,
        authorization: &[&str],
        instance: &str,
        chat: &str,
        control: CacheControl,
    ) -> Result<GetProfilePictureResponse, Status> {
        let mut request = Request::new(GetProfilePictureRequest {
            instance: instance.into(),
            chat_id: chat.into(),
            cache_control: Some(control),
        });
        for entry in authorization {
            request.metadata_mut().append("authorization", entry.parse().unwrap());
        }
        let answer = ContactServiceClient::new(self.channel()).get_profile_picture(request).await;
        answer.map(tonic::Response::into_inner)
    }

    /// The same with nothing said about the cache, and a failure taken apart.
    pub async fn look_up(
        &self,
        authorization: &[&str],
        instance: &str,
        chat: &str,
    ) -> Result<GetProfilePictureResponse, Refusal> {
        let answer = self.ask(authorization, instance, chat, CacheControl::default()).await;
        answer.map_err(|status| refusal(&status))
    }

    /// Sends a signal and returns once a new log line contains `text`.
    pub async fn signal(&self, name: &str, text: &str) -> String {
        self.process.signalled(name, text).await
    }

    /// All log lines so far, at every level.
    pub fn logs(&self) -> String {
        self.process.logs()
    }
}

/// Code and reason; also checks that asking again is discouraged, as it is for all that concerns who calls.
pub fn refusal(status: &Status) -> Refusal {
    marks::assert_none_in(status);
    let pushback = status.metadata().get("grpc-retry-pushback-ms").map(|value| value.to_str().unwrap());
    assert_eq!(pushback, Some("-1"), "{status:?}");
    let details = status.get_error_details();
    let info = details.error_info().unwrap();
    assert_eq!(info.domain, "hypersender-grpc");
    (status.code(), info.reason.clone())
}
