//! [`Peer`]: a gRPC client that controls its connection: it sets windows, resets calls and sends messages in
//! pieces.

use std::net::SocketAddr;

use bytes::Bytes;
use h2::{
    RecvStream, SendStream,
    client::{Builder, Connection, ResponseFuture, SendRequest},
};
use http::{HeaderMap, Request, Response, header::CONTENT_TYPE};
use tokio::{net::TcpStream, sync::watch, task::JoinHandle};
use tonic::{Code, Status};

use super::{Fault, patiently};

/// One connection.
pub struct Peer {
    origin: String,
    sender: SendRequest<Bytes>,
    window: watch::Sender<u32>,
    connection: JoinHandle<Result<(), h2::Error>>,
}

/// A call that has begun. Dropping it resets it.
pub struct Call {
    pub response: ResponseFuture,
    /// The rest of the request.
    pub request: SendStream<Bytes>,
}

/// A whole answer.
#[derive(Debug)]
pub struct Answer {
    /// The headers before the message and the trailers after it.
    headers: HeaderMap,
    /// The message with its length prefix.
    pub message: Vec<u8>,
}

/// A message with its length prefix.
pub fn framed(message: &[u8]) -> Bytes {
    let length = u32::try_from(message.len()).unwrap().to_be_bytes();
    [&[0], &length[..], message].concat().into()
}

impl Peer {
    pub async fn connect(address: SocketAddr) -> Self {
        Self::with_window(address, 65_535).await
    }

    /// Opens a connection whose streams have a window of this number of bytes.
    pub async fn with_window(address: SocketAddr, window: u32) -> Self {
        let stream = TcpStream::connect(address).await.unwrap();
        stream.set_nodelay(true).unwrap();
        let handshake = Builder::new().initial_window_size(window).handshake(stream);
        let (sender, connection) = patiently("a connection", handshake).await.unwrap();
        let window = watch::Sender::new(window);
        let connection = tokio::spawn(converse(connection, window.subscribe()));
        Self { origin: format!("http://{address}"), sender, window, connection }
    }

    /// Enlarges the window of every stream, also of the open ones.
    pub fn open(&self, window: u32) {
        self.window.send_replace(window);
    }

    /// Sends the headers of a call, as soon as the server allows another stream.
    pub async fn announce(&mut self, path: &str, headers: &[(&str, &str)]) -> Call {
        self.try_announce(path, headers).await.expect("the connection takes calls")
    }

    async fn try_announce(&mut self, path: &str, headers: &[(&str, &str)]) -> Result<Call, h2::Error> {
        let mut request = Request::post(format!("{}{path}", self.origin));
        request = request.header(CONTENT_TYPE, "application/grpc").header("te", "trailers");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let mut sender = patiently("another stream", self.sender.clone().ready()).await?;
        let (response, request) = sender.send_request(request.body(()).unwrap(), false)?;
        Ok(Call { response, request })
    }

    /// Sends a whole call.
    pub async fn call(&mut self, path: &str, message: Bytes) -> Call {
        self.call_with(path, &[], message).await
    }

    pub async fn call_with(&mut self, path: &str, headers: &[(&str, &str)], message: Bytes) -> Call {
        let mut call = self.announce(path, headers).await;
        call.request.send_data(message, true).unwrap();
        call
    }

    /// Sends a CONNECT with a body, for which hyper ends the connection at once.
    pub fn end_by_connect(&mut self) {
        let request = Request::connect("127.0.0.1:1").header("content-length", "5").body(()).unwrap();
        drop(self.sender.send_request(request, false).unwrap());
    }

    /// Waits until the server accepts no more calls on this connection.
    pub async fn told_to_go(&mut self) {
        let told = async {
            while let Ok(sender) = self.sender.clone().ready().await {
                self.sender = sender;
                tokio::task::yield_now().await;
            }
        };
        patiently("a GOAWAY", told).await;
    }

    /// Waits for the end of the connection and returns its cause.
    pub async fn ended(self) -> Result<(), h2::Error> {
        drop(self.sender);
        patiently("the end of the connection", self.connection).await.unwrap()
    }

    /// Closes the socket without a GOAWAY.
    pub async fn close(self) {
        self.connection.abort();
        assert!(self.connection.await.unwrap_err().is_cancelled());
    }
}

async fn converse(
    mut connection: Connection<TcpStream, Bytes>,
    mut window: watch::Receiver<u32>,
) -> Result<(), h2::Error> {
    loop {
        tokio::select! {
            ended = &mut connection => return ended,
            Ok(()) = window.changed() => connection.set_initial_window_size(*window.borrow_and_update())?,
        }
    }
}

impl Call {
    /// Resets the call.
    pub fn cancel(mut self) {
        self.request.send_reset(h2::Reason::CANCEL);
    }

    /// Waits for the headers of the answer and reads nothing of its message.
    pub async fn begun(self) -> Result<Response<RecvStream>, h2::Error> {
        patiently("an answer", self.response).await
    }

    /// Waits for the answer and reads it as it arrives.
    pub async fn answer(self) -> Result<Answer, h2::Error> {
        read(self.begun().await?).await
    }

    /// The same for a call that must be answered.
    pub async fn answered(self) -> Answer {
        self.answer().await.expect("an answer")
    }

    /// The code and the reason of a failed call.
    pub async fn fault(self) -> (Code, String) {
        let fault = Fault::from(&self.answered().await.status());
        (fault.code, fault.reason)
    }
}

/// Reads the rest of an answer.
pub async fn read(response: Response<RecvStream>) -> Result<Answer, h2::Error> {
    let (head, mut body) = response.into_parts();
    let (mut headers, mut message) = (head.headers, Vec::new());
    while let Some(data) = patiently("a chunk of an answer", body.data()).await {
        let data = data?;
        body.flow_control().release_capacity(data.len())?;
        message.extend(data);
    }
    headers.extend(patiently("trailers", body.trailers()).await?.unwrap_or_default());
    Ok(Answer { headers, message })
}

impl Answer {
    pub fn status(&self) -> Status {
        Status::from_header_map(&self.headers).expect("every answer has a status")
    }

    pub fn code(&self) -> Code {
        self.status().code()
    }
}
