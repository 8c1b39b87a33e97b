//! [`Frames`]: a peer that writes its frames by hand. A library sends nothing more on a stream that has been reset.

use std::{collections::BTreeMap, net::SocketAddr};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use crate::support::patiently;

pub const DATA: u8 = 0;
pub const HEADERS: u8 = 1;
pub const RST_STREAM: u8 = 3;
pub const GOAWAY: u8 = 7;
pub const END_STREAM: u8 = 1;
const SETTINGS: u8 = 4;
const WINDOW_UPDATE: u8 = 8;
const ACK: u8 = 1;
const END_HEADERS: u8 = 4;
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// One connection, and how many frames of each kind have come.
pub struct Frames {
    stream: TcpStream,
    next_stream: u32,
    /// Those that end their stream are also counted apart.
    seen: BTreeMap<(u8, bool), usize>,
    /// The error code of the last GOAWAY.
    pub end: Option<u32>,
}

pub fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

/// A call's first frame, with which it ends if `flags` say so.
pub fn headers(flags: u8, stream: u32, method: &str, path: &str, fields: &[(&str, &str)]) -> Vec<u8> {
    let pseudo = [(":method", method), (":scheme", "http"), (":path", path), (":authority", "localhost")];
    // Literals that no table remembers (RFC 7541, 6.2.2).
    let field = |(name, value)| [vec![0], string(name), string(value)].concat();
    let block: Vec<_> = pseudo.iter().chain(fields).copied().flat_map(field).collect();
    frame(HEADERS, flags | END_HEADERS, stream, &block)
}

/// RFC 7541, 5.2, of up to 254 bytes.
fn string(text: &str) -> Vec<u8> {
    let length = match text.len() {
        short @ ..127 => vec![u8::try_from(short).unwrap()],
        long => vec![127, u8::try_from(long - 127).unwrap()],
    };
    [&length, text.as_bytes()].concat()
}

impl Frames {
    /// A connection whose windows are as large as the service makes them.
    pub async fn connect(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).await.unwrap();
        stream.set_nodelay(true).unwrap();
        let mut peer = Self { stream, next_stream: 1, seen: BTreeMap::new(), end: None };
        peer.send(&[PREFACE, &frame(SETTINGS, 0, 0, &[])].concat()).await;
        assert!(peer.until(WINDOW_UPDATE, false, 1).await, "the connection has not begun");
        peer.send(&frame(SETTINGS, ACK, 0, &[])).await;
        peer
    }

    /// A stream that has not been used.
    pub fn stream(&mut self) -> u32 {
        self.next_stream += 2;
        self.next_stream - 2
    }

    /// All of it arrives together. A connection that the service has closed takes it, too; `until` tells of that.
    pub async fn send(&mut self, bytes: &[u8]) {
        let _ = patiently("the service to read", self.stream.write_all(bytes)).await;
    }

    /// How many frames of a kind have come, or only those that end their stream.
    pub fn seen(&self, kind: u8, ending: bool) -> usize {
        let seen = |ends| self.seen.get(&(kind, ends)).copied().unwrap_or_default();
        seen(true) + if ending { 0 } else { seen(false) }
    }

    /// Reads until `count` frames of a kind have come in all. Tells whether they have before the connection ended.
    pub async fn until(&mut self, kind: u8, ending: bool, count: usize) -> bool {
        while self.seen(kind, ending) < count {
            let read = patiently("a frame", read(&mut self.stream)).await;
            let Ok((kind, flags, payload)) = read else { return false };
            *self.seen.entry((kind, flags & END_STREAM != 0)).or_default() += 1;
            if kind == GOAWAY {
                self.end = payload.get(4..8).map(|code| u32::from_be_bytes(code.try_into().unwrap()));
            }
        }
        true
    }
}

async fn read(stream: &mut TcpStream) -> std::io::Result<(u8, u8, Vec<u8>)> {
    let mut head = [0; 9];
    stream.read_exact(&mut head).await?;
    let [a, b, c, kind, flags, ..] = head;
    let mut payload = vec![0; u32::from_be_bytes([0, a, b, c]) as usize];
    stream.read_exact(&mut payload).await?;
    Ok((kind, flags, payload))
}
