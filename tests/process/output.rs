//! [`Output`]: what a stream of a process says, line by line.

use std::{
    io::{self, BufRead, BufReader, Read},
    thread::{self, JoinHandle},
};

use tokio::sync::watch;

/// Read by a thread of its own, so that all of it is there even when the runtime of the test stands still or is gone.
pub struct Output {
    lines: watch::Receiver<Vec<String>>,
    reader: Option<JoinHandle<()>>,
}

impl Output {
    /// Of a stream that goes elsewhere.
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

    /// The first line after the first `skipped` ones that is `wanted`, as soon as it is there; `None` when the stream
    /// ends without it.
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

    /// Blocks until all of it is read. To be called when the process is gone.
    pub fn finish(&mut self) {
        if let Some(reader) = self.reader.take() {
            reader.join().expect("reading lines does not panic");
        }
    }
}
