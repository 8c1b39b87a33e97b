//! [`Peer`]: a gRPC client that has its connection in its hands: windows, resets, messages in pieces.

use std::net::SocketAddr;

use bytes::Bytes;
use h2::{
    RecvStream, SendStream,
    client::{Builder, Connection, ResponseFuture, SendRequest},
};
use http::{HeaderMap, Request, Response, header::CONTENT_TYPE};
use tokio::{net::TcpStream, sync::watch, task::JoinHandle};
use tonic::{Code, Status};

use crate::support::{Fault, patiently};

/// One connection.
pub struct Peer {
    origin: String,
    sender: SendRequest<Bytes>,
    window: watch::Sender<u32>,
    connection: JoinHandle<Result<(), h2::Error>>,
}

/// A call that has begun. Dropped, it is reset.
pub struct Call {
    pub response: ResponseFuture,
    /// What is still to be sent of it.
    pub request: SendStream<Bytes>,
}

/// A whole answer.
#[derive(Debug)]
pub struct Answer {
    /// Those before the message, and those after it.
    headers: HeaderMap,
    /// With its prefix.
    pub message: Vec<u8>,
}

/// A message with its prefix.
pub fn framed(message: &[u8]) -> Bytes {
    let length = u32::try_from(message.len()).unwrap().to_be_bytes();
    [&[0], &length[..], message].concat().into()
}

impl Peer {
    pub async fn connect(address: SocketAddr) -> Self {
        Self::with_window(address, 65_535).await
    }

    /// Takes so many bytes of each answer until more is asked for.
    pub async fn with_window(address: SocketAddr, window: u32) -> Self {
        let stream = TcpStream::connect(address).await.unwrap();
        stream.set_nodelay(true).unwrap();
        let handshake = Builder::new().initial_window_size(window).handshake(stream);
        let (sender, connection) = patiently("a connection", handshake).await.unwrap();
        let window = watch::Sender::new(window);
        let connection = tokio::spawn(converse(connection, window.subscribe()));
        Self { origin: format!("http://{address}"), sender, window, connection }
    }

    /// Opens the window of every answer, those that wait too.
    pub fn open(&self, window: u32) {
        self.window.send_replace(window);
    }

    /// Sends the headers of a call, as soon as the server allows one more.
    pub async fn announce(&mut self, path: &str, headers: &[(&str, &str)]) -> Call {
        self.try_announce(path, headers).await.expect("the connection takes calls")
    }

    async fn try_announce(&mut self, path: &str, headers: &[(&str, &str)]) -> Result<Call, h2::Error> {
        let mut request = Request::post(format!("{}{path}", self.origin));
        request = request.header(CONTENT_TYPE, "application/grpc").header("te", "trailers");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let mut sender = patiently("a place for a call", self.sender.clone().ready()).await?;
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

    /// Sends what makes hyper end the connection at once, whatever came before it: a CONNECT with a body.
    pub fn end_by_connect(&mut self) {
        let request = Request::connect("127.0.0.1:1").header("content-length", "5").body(()).unwrap();
        drop(self.sender.send_request(request, false).unwrap());
    }

    /// Returns once the server takes no more calls from here.
    pub async fn told_to_go(&mut self) {
        let told = async {
            while let Ok(sender) = self.sender.clone().ready().await {
                self.sender = sender;
                tokio::task::yield_now().await;
            }
        };
        patiently("a GOAWAY", told).await;
    }

    /// Returns how the connection ended, once it has.
    pub async fn ended(self) -> Result<(), h2::Error> {
        drop(self.sender);
        patiently("the end of the connection", self.connection).await.unwrap()
    }

    /// Closes the socket, whatever is going on.
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
    /// Resets it.
    pub fn cancel(mut self) {
        self.request.send_reset(h2::Reason::CANCEL);
    }

    /// The beginning of the answer; nothing of its message is read.
    pub async fn begun(self) -> Result<Response<RecvStream>, h2::Error> {
        patiently("an answer", self.response).await
    }

    /// The answer, read as it comes.
    pub async fn answer(self) -> Result<Answer, h2::Error> {
        read(self.begun().await?).await
    }

    /// The same, when there must be one.
    pub async fn answered(self) -> Answer {
        self.answer().await.expect("an answer")
    }

    /// The code of the answer, and the reason if it is a failure of ours.
    pub async fn fault(self) -> (Code, String) {
        let fault = Fault::from(&self.answered().await.status());
        (fault.code, fault.reason)
    }
}

/// Reads what has not been read yet.
pub async fn read(response: Response<RecvStream>) -> Result<Answer, h2::Error> {
    let (head, mut body) = response.into_parts();
    let (mut headers, mut message) = (head.headers, Vec::new());
    while let Some(data) = patiently("a part of an answer", body.data()).await {
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
