//! The limit of open files: [`keep_within`] raises it as far as possible, and lowers the settings that exceed
//! it.

use std::io;

use tracing::warn;

use crate::config::{Settings, Upstream};

/// The lowest limit that a service can work with.
const FILES_MIN: usize = 32;
/// Files of the process itself: standard streams, event queues, signals, ports, a scrape of the metrics, a
/// name that is being resolved, a file that is read again. An idle service with a sandbox has 13 of them
/// open.
const FILES_OWN: usize = 20;
/// Files for the downloads of images that are in progress at a time, and for their idle connections.
const DOWNLOADS: usize = 64;
/// Files that are kept free of connections of callers, if the limit is high enough.
const FILES_RESERVED: usize = 256;

/// Keeps connections and attempts below the limit of open files. At that limit the service could neither
/// accept a connection nor open one to Hypersender.
///
/// # Errors
///
/// When the limit is too low for any service.
pub fn keep_within(settings: &mut Settings) -> io::Result<()> {
    let sandbox = matches!(settings.upstream, Upstream::Sandbox);
    let (connections, attempts) =
        (&mut settings.server.connections, &mut settings.stack.concurrency.attempts);
    let mut none = 0;
    let browsers = settings.avatars.as_mut().map_or(&mut none, |avatars| &mut avatars.connections);
    let wanted = Share { connections: *connections, browsers: *browsers, attempts: *attempts };
    let share = OpenFiles::raise(wanted, sandbox).map_err(io::Error::other)?.share(wanted, sandbox);
    if share != wanted {
        let Share { connections, browsers, attempts } = share;
        warn!(
            connections,
            avatar_connections = browsers,
            attempts,
            "fewer connections or attempts than set: the limit of open files is low"
        );
    }
    (*connections, *browsers, *attempts) = (share.connections, share.browsers, share.attempts);
    Ok(())
}

/// The number of files that this process may open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct OpenFiles(usize);

/// The maximum numbers of connections of callers, of connections of the port of the avatars (zero without
/// that port), and of attempts on the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Share {
    connections: usize,
    browsers: usize,
    attempts: usize,
}

impl Share {
    /// Files for everything but the connections of callers and browsers. With a sandbox, both ends of an
    /// attempt are in this process.
    fn reserve(self, sandbox: bool) -> usize {
        let attempts = self.attempts.saturating_mul(per_attempt(sandbox));
        attempts.saturating_add(FILES_OWN + self.downloads(sandbox)).max(FILES_RESERVED)
    }

    /// Files for the downloads of images, which exist only with the port of the avatars. With a sandbox, both
    /// ends of a download are in this process.
    fn downloads(self, sandbox: bool) -> usize {
        if self.browsers == 0 { 0 } else { DOWNLOADS * per_attempt(sandbox) }
    }
}

fn per_attempt(sandbox: bool) -> usize {
    if sandbox { 2 } else { 1 }
}

impl OpenFiles {
    /// Raises the limit as far as `wanted` needs it and the system allows it.
    ///
    /// # Errors
    ///
    /// When the limit is too low for any service.
    fn raise(wanted: Share, sandbox: bool) -> Result<Self, String> {
        let connections = wanted.connections.saturating_add(wanted.browsers);
        let files = connections.saturating_add(wanted.reserve(sandbox));
        // An error means that the system has no such limit.
        let files = rlimit::increase_nofile_limit(files as u64)
            .map_or(usize::MAX, |files| files.try_into().unwrap_or(usize::MAX));
        Self(files).enough()
    }

    fn enough(self) -> Result<Self, String> {
        let Self(files) = self;
        if files < FILES_MIN {
            return Err(format!(
                "the limit of open files is {files}, and at least {FILES_MIN} are needed; raise it, for example by ulimit -n"
            ));
        }
        Ok(self)
    }

    /// The part of `wanted` that fits. If the limit is low, connections of callers and browsers get one half
    /// of it, half of that for each, and everything else gets the other half.
    fn share(self, wanted: Share, sandbox: bool) -> Share {
        let Self(files) = self;
        let reserve = wanted.reserve(sandbox).min(files / 2);
        let others = FILES_OWN + wanted.downloads(sandbox);
        let attempts = reserve.saturating_sub(others) / per_attempt(sandbox);
        let free = files - reserve;
        let connections = wanted.connections.min(free.saturating_sub(wanted.browsers).max(free / 2));
        Share {
            connections,
            browsers: wanted.browsers.min(free.saturating_sub(connections)),
            attempts: wanted.attempts.min(attempts.max(1)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_low_limit_is_shared_by_connections_and_attempts() {
        let wanted = Share { connections: 1024, browsers: 0, attempts: 64 };
        for (files, sandbox, connections, attempts) in [
            (32, false, 16, 1),
            (64, false, 32, 12),
            (64, true, 32, 6),
            (256, false, 128, 64),
            (256, true, 128, 54),
            (1024, false, 768, 64),
            (1280, true, 1024, 64),
            (usize::MAX, false, 1024, 64),
        ] {
            let share = OpenFiles(files).share(wanted, sandbox);
            assert_eq!(share, Share { connections, browsers: 0, attempts }, "{files} {sandbox}");
        }
        let many = Share { connections: 100_000, browsers: 0, attempts: 10_000 };
        let share = OpenFiles(20_000).share(many, false);
        assert_eq!(share, Share { connections: 10_000, browsers: 0, attempts: 9_980 });
        assert_eq!(OpenFiles(200_000).share(many, false), many);
    }

    #[test]
    fn browsers_get_at_most_half_of_the_connections_of_a_low_limit() {
        let wanted = Share { connections: 1024, browsers: 1024, attempts: 64 };
        for (files, connections, browsers, attempts) in [
            (32, 8, 8, 1),
            // The reserve of 100 files has 64 for downloads.
            (200, 50, 50, 16),
            (1024, 384, 384, 64),
            (2048, 896, 896, 64),
            (2304, 1024, 1024, 64),
            (usize::MAX, 1024, 1024, 64),
        ] {
            let share = OpenFiles(files).share(wanted, false);
            assert_eq!(share, Share { connections, browsers, attempts }, "{files}");
        }
        let few = Share { connections: 10, ..wanted };
        assert_eq!(OpenFiles(1024).share(few, false), Share { browsers: 758, ..few });
        let few = Share { browsers: 10, ..wanted };
        assert_eq!(OpenFiles(1024).share(few, false), Share { connections: 758, ..few });
    }

    #[test]
    fn a_limit_that_nothing_fits_in_is_an_error() {
        assert!(OpenFiles(31).enough().unwrap_err().contains("the limit of open files is 31"));
        assert_eq!(OpenFiles(32).enough(), Ok(OpenFiles(32)));
    }
}
