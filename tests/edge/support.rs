//! [`Service`]: the built binary in front of its sandbox, and what its admin port says.

use hypersender_grpc::grpc::contact::{
    GetProfilePictureRequest, contact_service_client::ContactServiceClient,
};
use tonic::{
    Code,
    transport::{Channel, Endpoint},
};

pub use crate::process::patiently;
use crate::process::{Launch, Process, marks};

/// A running service.
pub type Service = Process;

/// `serve` on free ports.
pub fn serve(flags: &[&str]) -> Launch {
    Launch::serve().flags(flags)
}

impl Service {
    /// Serves on the sandbox, with an admin port.
    pub async fn start(flags: &[&str]) -> Self {
        serve(&["--sandbox"]).flags(flags).start().await
    }

    /// A connection of its own.
    pub async fn channel(&self) -> Channel {
        Endpoint::try_from(format!("http://{}", self.address)).unwrap().connect().await.unwrap()
    }

    /// Looks up `chat_id` and returns the code.
    pub async fn look_up(&self, chat_id: &str) -> Code {
        let mut client = ContactServiceClient::new(self.channel().await);
        let request = GetProfilePictureRequest { chat_id: chat_id.to_owned(), ..Default::default() };
        let answer = patiently("an answer", client.get_profile_picture(request)).await;
        match answer {
            Ok(_) => Code::Ok,
            Err(status) => {
                marks::assert_none_in(&status);
                status.code()
            }
        }
    }

    /// Status and body of what the admin port says at `path`.
    pub async fn get(&self, path: &str) -> (u16, String) {
        let admin = self.admin.expect("it has an admin port");
        let response =
            patiently("the admin port", reqwest::get(format!("http://{admin}{path}"))).await.unwrap();
        (response.status().as_u16(), response.text().await.unwrap())
    }

    /// The lines of `/metrics`.
    pub async fn metrics(&self) -> Samples {
        let (status, text) = self.get("/metrics").await;
        assert_eq!(status, 200, "{text}");
        Samples(text)
    }
}

/// What `/metrics` says.
pub struct Samples(pub String);

impl Samples {
    /// The lines that are samples.
    pub fn lines(&self) -> impl Iterator<Item = &str> {
        self.0.lines().filter(|line| !line.starts_with('#'))
    }

    /// The value of the sample `name`, with its labels if it has any, as in the text.
    #[track_caller]
    pub fn value(&self, name: &str) -> f64 {
        let value = self.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        value.unwrap_or_else(|| panic!("no {name} in {}", self.0)).parse().unwrap()
    }
}
