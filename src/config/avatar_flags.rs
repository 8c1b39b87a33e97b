//! The command line of `serve` for the avatars. The key of their addresses has no flag, because every user of
//! the machine can read the command line.
//!
//! How a value is read is in `given` and `values`. The check is in `avatars`.

use std::time::Duration;

use bytesize::ByteSize;
use clap::Args;
use url::Url;

use super::{
    given::{Given, LEFT_OUT, bytes, duration, one_of, optional, read_by},
    values::{AvatarsListen, read_avatars_listen, read_base_url, read_mode},
};
use crate::avatars::{Mode, PictureHosts};

const HOUR: Duration = Duration::from_secs(60 * 60);
const DAY: Duration = Duration::from_secs(24 * 60 * 60);

#[derive(Args, Debug)]
#[command(next_help_heading = "Avatars")]
pub(super) struct AvatarFlags {
    /// IP address and port on which images of contacts are served to browsers, or off; port 0 takes a free
    /// one [default: off; with --sandbox 127.0.0.1:8080, or a free port when that one is in use]
    #[arg(long, env = "HYPERSENDER_GRPC_AVATARS_LISTEN", value_name = "IP:PORT")]
    #[arg(default_value = LEFT_OUT, hide_default_value = true)]
    #[arg(value_parser = optional(read_by(read_avatars_listen)))]
    pub avatars_listen: Given<Option<AvatarsListen>>,
    /// Public root of the addresses of images, such as https://HOST, by which browsers reach the port of
    /// --avatars-listen. If it has a path, the proxy in front must remove that path. With this flag, answers
    /// have an avatar_url. The addresses need a key: 32 random bytes in hex or base64, in the variable
    /// HYPERSENDER_GRPC_AVATARS_KEY, or in the file that HYPERSENDER_GRPC_AVATARS_KEY_FILE names. There may
    /// be several keys, one on each line; the first makes addresses, and all open them [default: none; with
    /// --sandbox the address that is listened on]
    #[arg(long, env = "HYPERSENDER_GRPC_AVATARS_URL", value_name = "URL")]
    #[arg(default_value = LEFT_OUT, hide_default_value = true, value_parser = optional(read_by(read_base_url)))]
    pub avatars_url: Given<Option<Url>>,
    /// Period of the addresses: a contact has the same address for one period, and it works until the next
    /// one has ended too (1h to 365d)
    #[arg(long, env = "HYPERSENDER_GRPC_AVATARS_PERIOD", value_name = "DURATION", default_value = "7d")]
    #[arg(value_parser = duration(HOUR..=365 * DAY))]
    pub avatars_period: Given<Duration>,
    /// Answer for a contact with a picture: bytes is the image; redirect is a redirect to the link, so that
    /// the browser gets the link, and the CDN sees the IP address of the browser
    #[arg(
        long,
        env = "HYPERSENDER_GRPC_AVATARS_MODE",
        value_name = "BYTES|REDIRECT",
        default_value = "bytes"
    )]
    #[arg(value_parser = read_by(read_mode))]
    pub avatars_mode: Given<Mode>,
    /// Maximum memory for images, of which those of more than 16 KiB count 2.25 times; 0 keeps none (0 to
    /// 1TiB)
    #[arg(long, env = "HYPERSENDER_GRPC_AVATARS_BYTES", value_name = "BYTES", default_value = "64MiB")]
    #[arg(value_parser = bytes(ByteSize::b(0)..=ByteSize::tib(1)))]
    pub avatars_bytes: Given<ByteSize>,
    /// Hosts from which images are downloaded by https, such as *.whatsapp.net, and origins such as
    /// http://127.0.0.1:50080. With --sandbox, images are downloaded from the sandbox alone
    #[arg(long, env = "HYPERSENDER_GRPC_PICTURE_HOSTS", value_name = "HOSTS")]
    #[arg(default_value = PictureHosts::DEFAULT, value_parser = one_of::<PictureHosts>(PictureHosts::FORM))]
    pub picture_hosts: Given<PictureHosts>,
}
