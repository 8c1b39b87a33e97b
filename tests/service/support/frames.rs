//! HTTP/2 frames by hand (RFC 9113), and [`Frames`]: a client that writes them. A library sends nothing more
//! on a stream that has been reset, and it never breaks the protocol.

use std::{collections::BTreeMap, io, net::SocketAddr};

use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use super::patiently;

pub const DATA: u8 = 0;
pub const HEADERS: u8 = 1;
pub const RST_STREAM: u8 = 3;
pub const SETTINGS: u8 = 4;
pub const PING: u8 = 6;
pub const GOAWAY: u8 = 7;
pub const WINDOW_UPDATE: u8 = 8;
pub const ACK: u8 = 1;
pub const END_STREAM: u8 = 1;
pub const END_HEADERS: u8 = 4;
pub const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// A frame that was read.
pub struct Frame {
    pub kind: u8,
    pub flags: u8,
    pub stream: u32,
    pub payload: Vec<u8>,
}

/// The bytes of a frame.
pub fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

/// Reads the next frame.
pub async fn read(stream: &mut (impl AsyncRead + Unpin)) -> io::Result<Frame> {
    let mut head = [0; 9];
    stream.read_exact(&mut head).await?;
    let [a, b, c, kind, flags, id @ ..] = head;
    let mut payload = vec![0; u32::from_be_bytes([0, a, b, c]) as usize];
    stream.read_exact(&mut payload).await?;
    Ok(Frame { kind, flags, stream: u32::from_be_bytes(id), payload })
}

/// The HEADERS frame that begins a call. With [`END_STREAM`] among the `flags`, it also ends the request.
pub fn headers(flags: u8, stream: u32, method: &str, path: &str, fields: &[(&str, &str)]) -> Vec<u8> {
    let pseudo = [(":method", method), (":scheme", "http"), (":path", path), (":authority", "localhost")];
    // Literals that no table remembers (RFC 7541, 6.2.2).
    let field = |(name, value)| [vec![0], string(name), string(value)].concat();
    let block: Vec<_> = pseudo.iter().chain(fields).copied().flat_map(field).collect();
    frame(HEADERS, flags | END_HEADERS, stream, &block)
}

/// A string literal of HPACK (RFC 7541, 5.2), of up to 254 bytes.
fn string(text: &str) -> Vec<u8> {
    let length = match text.len() {
        short @ ..127 => vec![u8::try_from(short).unwrap()],
        long => vec![127, u8::try_from(long - 127).unwrap()],
    };
    [&length, text.as_bytes()].concat()
}

/// One connection, and the number of frames of each kind that were read from it.
pub struct Frames {
    stream: TcpStream,
    next_stream: u32,
    /// By kind, and by whether the frame ends its stream.
    seen: BTreeMap<(u8, bool), usize>,
    /// The error code of the last GOAWAY.
    pub end: Option<u32>,
}

impl Frames {
    /// Opens a connection and waits until the service has enlarged the connection's window.
    pub async fn connect(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).await.unwrap();
        stream.set_nodelay(true).unwrap();
        let mut peer = Self { stream, next_stream: 1, seen: BTreeMap::new(), end: None };
        peer.send(&[PREFACE, &frame(SETTINGS, 0, 0, &[])].concat()).await;
        assert!(peer.until(WINDOW_UPDATE, false, 1).await, "the connection has not begun");
        peer.send(&frame(SETTINGS, ACK, 0, &[])).await;
        peer
    }

    /// The identifier of a new stream.
    pub fn stream(&mut self) -> u32 {
        self.next_stream += 2;
        self.next_stream - 2
    }

    /// Writes all bytes at once. A closed connection is no failure here; [`Frames::until`] reports it.
    pub async fn send(&mut self, bytes: &[u8]) {
        let _ = patiently("the service to read", self.stream.write_all(bytes)).await;
    }

    /// The number of frames of a kind that were read. With `ending`, only frames that end their stream count.
    pub fn seen(&self, kind: u8, ending: bool) -> usize {
        let seen = |ends| self.seen.get(&(kind, ends)).copied().unwrap_or_default();
        seen(true) + if ending { 0 } else { seen(false) }
    }

    /// Reads until [`Frames::seen`] has reached `count`. Returns `false` when the connection ends first.
    pub async fn until(&mut self, kind: u8, ending: bool, count: usize) -> bool {
        while self.seen(kind, ending) < count {
            let Ok(frame) = patiently("a frame", read(&mut self.stream)).await else { return false };
            *self.seen.entry((frame.kind, frame.flags & END_STREAM != 0)).or_default() += 1;
            if frame.kind == GOAWAY {
                self.end = frame.payload.get(4..8).map(|code| u32::from_be_bytes(code.try_into().unwrap()));
            }
        }
        true
    }
}
