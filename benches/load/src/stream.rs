//! One call of StreamProfilePictures, and the time until a number of its results have arrived.

use std::{
    io::{self, Read, Write},
    net::{SocketAddr, TcpStream},
    time::Instant,
};

use crate::frames::{self, HEAD_BYTES, RequestHeaders, WINDOW_AT_FIRST, flag, frame, kind};

/// The largest payload of a frame that a server must accept.
const FRAME_BYTES_MAX: usize = 16 * 1024;
const STREAM: u32 = 1;

/// Calls for `contacts`, and returns the seconds until `until` results had arrived. Then the client leaves.
pub fn seconds(
    address: SocketAddr,
    token: Option<&str>,
    contacts: impl Iterator<Item = u64>,
    until: u64,
) -> io::Result<f64> {
    let mut message = Vec::new();
    frames::request(&mut message, contacts);
    let mut out = frames::opening();
    let headers = RequestHeaders::new(&address.to_string(), "StreamProfilePictures", token).first;
    frame(&mut out, kind::HEADERS, flag::END_HEADERS, STREAM, &headers);
    let mut upload = Upload { message, sent: 0, windows: Windows::default() };
    let mut results = Results::default();
    let (mut unread, mut buffer) = (Vec::new(), vec![0; 64 * 1024]);

    let start = Instant::now();
    let mut socket = TcpStream::connect(address)?;
    socket.set_nodelay(true)?;
    while results.count < until {
        upload.append(&mut out);
        socket.write_all(&out)?;
        out.clear();
        let read = socket.read(&mut buffer)?;
        if read == 0 {
            return Err(io::Error::other("the server closed the connection"));
        }
        unread.extend(&buffer[..read]);
        let mut rest = unread.as_slice();
        while let Some((length, kind, flags, stream)) = frames::head(rest) {
            let (whole, after) = rest.split_at(HEAD_BYTES + length);
            let payload = &whole[HEAD_BYTES..];
            rest = after;
            match kind {
                kind::DATA => {
                    results.take(payload);
                    // Each frame is returned at once, so that the windows stay full.
                    let returned = u32::try_from(length).unwrap_or_default().to_be_bytes();
                    for window in [0, STREAM].into_iter().filter(|_| length > 0) {
                        frame(&mut out, kind::WINDOW_UPDATE, 0, window, &returned);
                    }
                }
                kind::SETTINGS if flags & flag::ACK == 0 => {
                    upload.windows.set(payload);
                    frame(&mut out, kind, flag::ACK, 0, &[]);
                }
                kind::PING if flags & flag::ACK == 0 => frame(&mut out, kind, flag::ACK, 0, payload),
                kind::WINDOW_UPDATE => upload.windows.grow(stream, payload),
                kind::RST_STREAM | kind::GOAWAY => {
                    return Err(io::Error::other(format!("the server sent a frame of type {kind}")));
                }
                kind::HEADERS if flags & flag::END_STREAM != 0 => {
                    let arrived = results.count;
                    return Err(io::Error::other(format!("the stream ended after {arrived} results")));
                }
                _ => {}
            }
        }
        unread = rest.to_vec();
    }
    Ok(start.elapsed().as_secs_f64())
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
