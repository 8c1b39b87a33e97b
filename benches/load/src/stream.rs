//! [`Stream`]: one call of StreamProfilePictures, read until a number of its results have arrived.

use std::{
    io::{self, Read, Write},
    net::{SocketAddr, TcpStream},
};

use crate::frames::{self, HEAD_BYTES, RequestHeaders, WINDOW_AT_FIRST, flag, frame, kind};

/// The largest payload of a frame that a server must accept.
const FRAME_BYTES_MAX: usize = 16 * 1024;
const STREAM: u32 = 1;

/// A call on a connection of its own. It is open until this is dropped.
pub struct Stream {
    socket: TcpStream,
    /// The bytes to be written.
    out: Vec<u8>,
    upload: Upload,
    results: Results,
    /// The bytes of an incomplete frame.
    unread: Vec<u8>,
}

impl Stream {
    /// Connects and writes nothing yet.
    pub fn open(
        address: SocketAddr,
        token: Option<&str>,
        contacts: impl Iterator<Item = u64>,
    ) -> io::Result<Self> {
        let socket = TcpStream::connect(address)?;
        socket.set_nodelay(true)?;
        let mut message = Vec::new();
        frames::request(&mut message, contacts);
        let mut out = frames::opening();
        let headers = RequestHeaders::new(&address.to_string(), "StreamProfilePictures", token).first;
        frame(&mut out, kind::HEADERS, flag::END_HEADERS, STREAM, &headers);
        let upload = Upload { message, sent: 0, windows: Windows::default() };
        Ok(Self { socket, out, upload, results: Results::default(), unread: Vec::new() })
    }

    /// Reads until this number of results have arrived.
    pub fn read(&mut self, results: u64) -> io::Result<()> {
        let mut buffer = vec![0; 64 * 1024];
        while self.results.count < results {
            self.upload.append(&mut self.out);
            self.socket.write_all(&self.out)?;
            self.out.clear();
            let read = self.socket.read(&mut buffer)?;
            if read == 0 {
                return Err(io::Error::other("the server closed the connection"));
            }
            self.unread.extend(&buffer[..read]);
            let unread = std::mem::take(&mut self.unread);
            let mut rest = unread.as_slice();
            while let Some((length, kind, flags, stream)) = frames::head(rest) {
                let (whole, after) = rest.split_at(HEAD_BYTES + length);
                rest = after;
                self.take(kind, flags, stream, &whole[HEAD_BYTES..])?;
            }
            self.unread = rest.to_vec();
        }
        Ok(())
    }

    fn take(&mut self, kind: u8, flags: u8, stream: u32, payload: &[u8]) -> io::Result<()> {
        match kind {
            kind::DATA => {
                self.results.take(payload);
                // Each frame is returned at once, so that the windows stay full.
                let returned = u32::try_from(payload.len()).unwrap_or_default().to_be_bytes();
                for window in [0, STREAM].into_iter().filter(|_| !payload.is_empty()) {
                    frame(&mut self.out, kind::WINDOW_UPDATE, 0, window, &returned);
                }
            }
            kind::SETTINGS if flags & flag::ACK == 0 => {
                self.upload.windows.set(payload);
                frame(&mut self.out, kind, flag::ACK, 0, &[]);
            }
            kind::PING if flags & flag::ACK == 0 => frame(&mut self.out, kind, flag::ACK, 0, payload),
            kind::WINDOW_UPDATE => self.upload.windows.grow(stream, payload),
            kind::RST_STREAM | kind::GOAWAY => {
                return Err(io::Error::other(format!("the server sent a frame of type {kind}")));
            }
            kind::HEADERS if flags & flag::END_STREAM != 0 => {
                let arrived = self.results.count;
                return Err(io::Error::other(format!("the stream ended after {arrived} results")));
            }
            _ => {}
        }
        Ok(())
    }
}

/// The request message, sent as far as the windows of the server allow.
struct Upload {
    message: Vec<u8>,
    sent: usize,
    windows: Windows,
}

impl Upload {
    fn append(&mut self, out: &mut Vec<u8>) {
        while self.sent < self.message.len() {
            let open = usize::try_from(self.windows.stream.min(self.windows.connection)).unwrap_or_default();
            let length = (self.message.len() - self.sent).min(open).min(FRAME_BYTES_MAX);
            if length == 0 {
                return;
            }
            let part = &self.message[self.sent..self.sent + length];
            self.sent += length;
            let end = if self.sent == self.message.len() { flag::END_STREAM } else { 0 };
            frame(out, kind::DATA, end, STREAM, part);
            self.windows.use_up(length);
        }
    }
}

/// The bytes that the server accepts. The window of the stream may be negative after new settings.
struct Windows {
    initial: i64,
    stream: i64,
    connection: i64,
}

impl Default for Windows {
    fn default() -> Self {
        let first = i64::from(WINDOW_AT_FIRST);
        Self { initial: first, stream: first, connection: first }
    }
}

impl Windows {
    /// Reads settings, of which one is the first window of a stream.
    fn set(&mut self, settings: &[u8]) {
        for setting in settings.chunks_exact(6) {
            if setting[..2] == frames::INITIAL_WINDOW_SIZE.to_be_bytes() {
                let initial = i64::from(number(&setting[2..]));
                self.stream += initial - self.initial;
                self.initial = initial;
            }
        }
    }

    fn grow(&mut self, stream: u32, by: &[u8]) {
        let window = if stream == 0 { &mut self.connection } else { &mut self.stream };
        *window += i64::from(number(by));
    }

    fn use_up(&mut self, length: usize) {
        let length = i64::try_from(length).unwrap_or_default();
        self.stream -= length;
        self.connection -= length;
    }
}

fn number(bytes: &[u8]) -> u32 {
    bytes.iter().fold(0, |number, byte| number << 8 | u32::from(*byte))
}

/// Counts the messages with a result among the bytes of a response. A message may be split at any byte.
#[derive(Default)]
struct Results {
    count: u64,
    head: Vec<u8>,
    /// The bytes of the current message that are still to come.
    left: usize,
}

impl Results {
    fn take(&mut self, mut data: &[u8]) {
        /// The prefix and the tag of the event.
        const HEAD_BYTES: usize = 6;
        /// The tag of field 1, `result`, with the wire type for a length.
        const RESULT: u8 = 1 << 3 | 2;
        while !data.is_empty() {
            let skipped = self.left.min(data.len());
            self.left -= skipped;
            data = &data[skipped..];
            let taken = (HEAD_BYTES - self.head.len()).min(data.len());
            self.head.extend(&data[..taken]);
            data = &data[taken..];
            if self.head.len() == HEAD_BYTES {
                self.left = number(&self.head[1..5]) as usize - 1;
                self.count += u64::from(self.head[5] == RESULT);
                self.head.clear();
            }
        }
    }
}
