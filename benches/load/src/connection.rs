//! [`Connection`]: one connection, its calls in flight, and their answers.

use std::{
    io::{self, ErrorKind, Read, Write},
    net::SocketAddr,
    time::Duration,
};

use mio::{Interest, Registry, Token, net::TcpStream};

use crate::frames::{self, HEAD_BYTES, RequestHeaders, WINDOW_MAX, flag, frame, kind};

/// A connection with calls in flight.
pub struct Connection {
    stream: TcpStream,
    headers: RequestHeaders,
    /// The bytes to be written.
    out: Vec<u8>,
    /// The bytes of an incomplete frame.
    unread: Vec<u8>,
    /// The calls by stream. The call at index i has the stream 2 i + 1.
    calls: Vec<Call>,
    ended: usize,
    /// The number of calls whose answer has no message. In gRPC these are the failed calls.
    pub empty: u64,
    /// The number of bytes of DATA that were received.
    pub bytes: u64,
    /// The bytes of DATA that the connection window does not have back yet.
    unreturned: u32,
}

struct Call {
    begun: Duration,
    bytes: usize,
    ended: bool,
}

impl Connection {
    /// Connects and writes nothing yet.
    pub fn open(
        address: SocketAddr,
        method: &str,
        token: Option<&str>,
        registry: &Registry,
        index: usize,
    ) -> io::Result<Self> {
        // This waits for the connection, so that the connection is not part of the first call.
        let stream = std::net::TcpStream::connect(address)?;
        stream.set_nodelay(true)?;
        stream.set_nonblocking(true)?;
        let mut stream = TcpStream::from_std(stream);
        registry.register(&mut stream, Token(index), Interest::READABLE)?;
        Ok(Self {
            stream,
            headers: RequestHeaders::new(&address.to_string(), method, token),
            out: frames::opening(),
            unread: Vec::new(),
            calls: Vec::new(),
            ended: 0,
            empty: 0,
            bytes: 0,
            unreturned: 0,
        })
    }

    /// The number of calls in flight.
    pub fn in_flight(&self) -> usize {
        self.calls.len() - self.ended
    }

    /// Begins a call for some contacts, which the next `write` sends. `now` is the time at which it was due.
    pub fn begin(&mut self, contacts: impl Iterator<Item = u64>, now: Duration) {
        let stream = 2 * u32::try_from(self.calls.len()).expect("a run has fewer calls") + 1;
        let headers = if self.calls.is_empty() { &self.headers.first } else { &self.headers.further };
        frame(&mut self.out, kind::HEADERS, flag::END_HEADERS, stream, headers);
        let mut message = Vec::with_capacity(32);
        frames::request(&mut message, contacts);
        frame(&mut self.out, kind::DATA, flag::END_STREAM, stream, &message);
        self.calls.push(Call { begun: now, bytes: 0, ended: false });
    }

    /// Writes as many bytes as the operating system accepts.
    pub fn write(&mut self) -> io::Result<()> {
        while !self.out.is_empty() {
            match self.stream.write(&self.out) {
                Ok(written) => drop(self.out.drain(..written)),
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Reads all received bytes, and records the nanoseconds of each call that has ended.
    pub fn read(&mut self, buffer: &mut [u8], now: Duration, latencies: &mut Vec<u64>) -> io::Result<()> {
        loop {
            match self.stream.read(buffer) {
                Ok(0) => return Err(io::Error::other("the server closed the connection")),
                Ok(read) => self.take(&buffer[..read], now, latencies)?,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error),
            }
        }
    }

    fn take(&mut self, read: &[u8], now: Duration, latencies: &mut Vec<u64>) -> io::Result<()> {
        let mut unread = std::mem::take(&mut self.unread);
        unread.extend(read);
        let mut rest = unread.as_slice();
        while let Some((length, kind, flags, stream)) = frames::head(rest) {
            let (whole, after) = rest.split_at(HEAD_BYTES + length);
            rest = after;
            match kind {
                kind::SETTINGS | kind::PING if flags & flag::ACK == 0 => {
                    let payload = if kind == kind::PING { &whole[HEAD_BYTES..] } else { &[] };
                    frame(&mut self.out, kind, flag::ACK, 0, payload);
                }
                // A server that did not wait for the end of the request may send RST_STREAM after its answer
                // (RFC 9113, 8.1).
                kind::RST_STREAM if self.calls[stream as usize / 2].ended => {}
                kind::RST_STREAM | kind::GOAWAY => {
                    return Err(io::Error::other(format!("the server sent a frame of type {kind}")));
                }
                kind::DATA | kind::HEADERS => {
                    let call = &mut self.calls[stream as usize / 2];
                    if kind == kind::DATA {
                        call.bytes += length;
                        self.bytes += length as u64;
                        self.unreturned += u32::try_from(length).expect("a frame has at most 16 KiB");
                    }
                    if flags & flag::END_STREAM != 0 {
                        call.ended = true;
                        self.ended += 1;
                        self.empty += u64::from(call.bytes == 0);
                        let took = now.saturating_sub(call.begun).as_nanos();
                        latencies.push(took.try_into().unwrap_or(u64::MAX));
                    }
                }
                _ => {}
            }
        }
        self.unread = rest.to_vec();
        // The windows of streams are larger than an answer. The one of the connection is returned in large
        // parts, so that the server pays for hardly any of them.
        if self.unreturned > WINDOW_MAX / 2 {
            frame(
                &mut self.out,
                kind::WINDOW_UPDATE,
                0,
                0,
                &std::mem::take(&mut self.unreturned).to_be_bytes(),
            );
        }
        Ok(())
    }
}
