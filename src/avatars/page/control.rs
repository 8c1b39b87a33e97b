//! [`Control`]: the client of the sandbox's own endpoints, on loopback.

use std::{collections::BTreeMap, net::SocketAddr, time::Duration};

use reqwest::{Client, Method, RequestBuilder};
use serde::{Deserialize, Serialize};

/// The time for one answer of the sandbox. It is a program on this machine and does not work for it.
const TIME_MAX: Duration = Duration::from_secs(2);

/// The sandbox did not answer, or not as it should.
#[derive(Debug)]
pub struct Unreachable;

/// The requests that reached the sandbox since its start.
#[derive(Debug, Deserialize, Serialize)]
pub struct Counts {
    /// Look-ups.
    #[serde(rename(serialize = "look_ups"))]
    calls: u64,
    /// Look-ups by chat id, of all instances together.
    #[serde(rename(serialize = "look_ups_by_number"))]
    by_chat_id: BTreeMap<String, u64>,
    /// Downloads of images.
    images: u64,
    /// Downloads by contact.
    #[serde(rename(serialize = "images_by_number"))]
    images_by_contact: BTreeMap<String, u64>,
}

/// Reads the counts of the sandbox, and gives orders to it.
pub struct Control {
    /// `None` when this machine allows no client.
    client: Option<Client>,
    address: SocketAddr,
}

impl Control {
    /// For the sandbox at `address`. Opens no connection.
    pub fn new(address: SocketAddr) -> Self {
        // The sandbox speaks plain text on loopback, so that neither a proxy nor a certificate is needed.
        let client = Client::builder().no_proxy().timeout(TIME_MAX).tls_certs_only([]).build();
        Self { client: client.ok(), address }
    }

    /// The requests that reached the sandbox.
    ///
    /// # Errors
    ///
    /// See [`Unreachable`].
    pub async fn counts(&self) -> Result<Counts, Unreachable> {
        let answer = self.request(Method::GET, "calls")?.send().await.map_err(|_| Unreachable)?;
        let body = answer.bytes().await.map_err(|_| Unreachable)?;
        serde_json::from_slice(&body).map_err(|_| Unreachable)
    }

    /// Gives the contact another picture.
    ///
    /// # Errors
    ///
    /// See [`Unreachable`].
    pub async fn change(&self, number: &str) -> Result<(), Unreachable> {
        let order = serde_json::json!({ "chat_ids": [number] }).to_string();
        let answer = self.request(Method::POST, "changes")?.body(order).send().await;
        answer.and_then(reqwest::Response::error_for_status).map(drop).map_err(|_| Unreachable)
    }

    fn request(&self, method: Method, path: &str) -> Result<RequestBuilder, Unreachable> {
        let client = self.client.as_ref().ok_or(Unreachable)?;
        Ok(client.request(method, format!("http://{}/_sandbox/{path}", self.address)))
    }
}
