//! [`Output`]: the lines that a process has written to one of its streams.

use std::{
    io::{self, BufRead, BufReader, Read},
    thread::{self, JoinHandle},
};

use tokio::sync::watch;

/// The lines so far. A separate thread reads them, so that all of them arrive even if the runtime of the test
/// is blocked or has been dropped.
pub struct Output {
    lines: watch::Receiver<Vec<String>>,
    reader: Option<JoinHandle<()>>,
}

impl Output {
    /// The output of a stream that is redirected: no lines.
    pub fn none() -> Self {
        Self::collect(io::empty())
    }

    pub fn collect(stream: impl Read + Send + 'static) -> Self {
        let (sender, lines) = watch::channel(Vec::new());
        let reader = thread::spawn(move || {
            for line in BufReader::new(stream).split(b'\n').map_while(Result::ok) {
                sender.send_modify(|lines| lines.push(String::from_utf8_lossy(&line).into_owned()));
            }
        });
        Self { lines, reader: Some(reader) }
    }

    pub fn text(&self) -> String {
        self.lines.borrow().join("\n")
    }

    pub fn count(&self) -> usize {
        self.lines.borrow().len()
    }

    /// Waits for a `wanted` line and returns it. The first `skipped` lines do not count. Returns `None` when
    /// the stream ends without such a line.
    pub async fn line(&self, skipped: usize, wanted: impl Fn(&str) -> bool) -> Option<String> {
        let find = |lines: &Vec<String>| lines.iter().skip(skipped).find(|line| wanted(line)).cloned();
        let mut lines = self.lines.clone();
        let lines = lines.wait_for(|lines| find(lines).is_some()).await;
        lines.ok().and_then(|lines| find(&lines))
    }

    /// Returns once the process has closed the stream.
    pub async fn ended(&self) {
        let mut lines = self.lines.clone();
        let _closed = lines.wait_for(|_| false).await;
    }

    /// Blocks until all lines are read. Only for a process that has ended.
    pub fn finish(&mut self) {
        if let Some(reader) = self.reader.take() {
            reader.join().expect("reading lines does not panic");
        }
    }
}
