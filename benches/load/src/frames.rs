//! The parts of HTTP/2 that a client with equal requests needs (RFC 9113, RFC 7541).

/// The largest window (RFC 9113, 6.9.1).
pub const WINDOW_MAX: u32 = (1 << 31) - 1;
/// The window of a stream or a connection before any settings.
pub const WINDOW_AT_FIRST: u32 = (1 << 16) - 1;
/// The setting for the first window of each stream.
pub const INITIAL_WINDOW_SIZE: u16 = 4;

/// The first bytes of a client: the preface, settings with a stream window that no answer fills, and the
/// largest connection window.
pub fn opening() -> Vec<u8> {
    let mut opening = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
    let mut setting = INITIAL_WINDOW_SIZE.to_be_bytes().to_vec();
    setting.extend((1_u32 << 20).to_be_bytes());
    frame(&mut opening, kind::SETTINGS, 0, 0, &setting);
    frame(&mut opening, kind::WINDOW_UPDATE, 0, 0, &(WINDOW_MAX - WINDOW_AT_FIRST).to_be_bytes());
    opening
}

/// The types of frames (RFC 9113, 6).
pub mod kind {
    pub const DATA: u8 = 0;
    pub const HEADERS: u8 = 1;
    pub const RST_STREAM: u8 = 3;
    pub const SETTINGS: u8 = 4;
    pub const PING: u8 = 6;
    pub const GOAWAY: u8 = 7;
    pub const WINDOW_UPDATE: u8 = 8;
}

/// The flags of frames. Their meaning depends on the type.
pub mod flag {
    pub const END_STREAM: u8 = 1;
    pub const ACK: u8 = 1;
    pub const END_HEADERS: u8 = 4;
}

/// The number of bytes before the payload of a frame.
pub const HEAD_BYTES: usize = 9;

/// Appends a frame.
pub fn frame(out: &mut Vec<u8>, kind: u8, flags: u8, stream: u32, payload: &[u8]) {
    let length = u32::try_from(payload.len()).expect("frames made here are short");
    out.extend(&length.to_be_bytes()[1..]);
    out.extend([kind, flags]);
    out.extend(stream.to_be_bytes());
    out.extend(payload);
}

/// The head of the frame at the beginning of `bytes`: length, type, flags and stream. `None` if it is
/// incomplete.
pub fn head(bytes: &[u8]) -> Option<(usize, u8, u8, u32)> {
    let head = bytes.get(..HEAD_BYTES)?;
    let length = u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize;
    let stream = u32::from_be_bytes([head[5], head[6], head[7], head[8]]);
    (bytes.len() >= HEAD_BYTES + length).then_some((length, head[3], head[4], stream))
}

/// The headers of a call. The first call of a connection has them as literals, like other clients, and the
/// later ones refer to the table of the server.
pub struct RequestHeaders {
    pub first: Vec<u8>,
    pub further: Vec<u8>,
}

impl RequestHeaders {
    pub fn new(authority: &str, method: &str, token: Option<&str>) -> Self {
        /// The entries `:method POST` and `:scheme http` of the static table.
        const POST_OVER_HTTP: [u8; 2] = [0x80 | 3, 0x80 | 6];
        /// The entry that was added last. The earlier ones follow it.
        const DYNAMIC_FIRST: usize = 62;
        let path = format!("/hypersender.contact.v1.ContactService/{method}");
        let bearer = token.map(|token| format!("Bearer {token}"));
        let mut fields = vec![
            (":path", path.as_str()),
            (":authority", authority),
            ("content-type", "application/grpc"),
            ("te", "trailers"),
            ("user-agent", "load"),
        ];
        fields.extend(bearer.as_deref().map(|bearer| ("authorization", bearer)));
        let (mut first, mut further) = (POST_OVER_HTTP.to_vec(), POST_OVER_HTTP.to_vec());
        for (index, (name, value)) in fields.iter().enumerate() {
            // A literal that the server adds to its table.
            first.push(0x40);
            string(&mut first, name);
            string(&mut first, value);
            let entry = DYNAMIC_FIRST + fields.len() - 1 - index;
            further.push(0x80 | u8::try_from(entry).expect("there are few fields"));
        }
        Self { first, further }
    }
}

fn string(out: &mut Vec<u8>, text: &str) {
    let length = u8::try_from(text.len()).ok().filter(|length| *length < 127);
    out.push(length.expect("names and values here are short"));
    out.extend(text.bytes());
}

/// A request message with its gRPC prefix. The field of the contacts has the same number in the requests of
/// both methods.
pub fn request(out: &mut Vec<u8>, contacts: impl Iterator<Item = u64>) {
    /// The tag of field 2, `chat_id` or `chat_ids`, with the wire type for a length.
    const CHAT_ID: u8 = 2 << 3 | 2;
    const PREFIX_BYTES: usize = 5;
    let start = out.len();
    out.extend([0; PREFIX_BYTES]);
    for contact in contacts {
        let digits = contact.to_string();
        let length = u8::try_from(digits.len()).expect("a number has at most 20 digits");
        out.extend([CHAT_ID, length]);
        out.extend(digits.bytes());
    }
    let length = u32::try_from(out.len() - start - PREFIX_BYTES).expect("messages made here are short");
    out[start + 1..start + PREFIX_BYTES].copy_from_slice(&length.to_be_bytes());
}

/// The phone numbers to ask for.
pub struct Contacts {
    first: u64,
    count: u64,
}

impl Contacts {
    /// A prime, so that each contact comes once in each round, and not next to its neighbour.
    const STRIDE: u64 = 61_987;

    pub fn new(first: u64, count: u64) -> Self {
        Self { first, count }
    }

    /// The contact with this number, in the order of the load.
    pub fn at(&self, number: u64) -> u64 {
        self.first + number * Self::STRIDE % self.count
    }
}
