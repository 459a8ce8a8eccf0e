//! Reads server-sent events, and follows a stream of them across broken connections: a run's journal, the records of
//! the audit.
//!
//! Each follower knows the place behind what was given out, so a connection that breaks anywhere is resumed there, and
//! nothing is seen twice. What a server answered is never asked again.

use std::time::Duration;

use dromia_api::Problem;
use dromia_api::RunId;
use dromia_api::run::{
    Delta, EVENT_DELTA, EVENT_END, EVENT_ENTRY, EVENT_OUTPUT, EVENT_PROBLEM, Entry, Output, StreamEnd,
};
use hyper::body::Incoming;
use tokio::time::{sleep, timeout};

use crate::client::{ATTEMPTS, Client, FIRST_REST, next_piece, parse};
use crate::error::{Error, Outcome};
use crate::output;

/// How long the server may say nothing; it sends a keep-alive every 15 s.
const SILENCE: Duration = Duration::from_secs(45);

/// The longest event; an entry's body is at most one batch.
const EVENT_BYTES_MAX: usize = 16 << 20;

/// Makes something of the events of a stream, and knows where it goes on.
pub(crate) trait Follower {
    /// What is given out.
    type Item;

    /// The place behind what was given out; `None` is wherever the server begins.
    fn after(&self) -> Option<String>;

    /// Takes an event. One that cannot be read counts as a broken connection.
    fn take(&mut self, event: &Event) -> Outcome<Taken<Self::Item>>;
}

/// What an event is to a follower.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Taken<T> {
    /// The stream went on, so connections that broke before do not count any more; there may be nothing to give out.
    Further(Option<T>),
    /// It has no place in the stream.
    Aside(T),
    /// Nothing.
    Nothing,
}

/// Follows a stream of events across broken connections.
#[derive(Debug)]
pub(crate) struct Stream<'client, F> {
    client: &'client Client,
    path: String,
    follower: F,
    failed: u32,
    open: Option<(Incoming, Parser)>,
}

impl<'client, F: Follower> Stream<'client, F> {
    pub(crate) fn of(client: &'client Client, path: String, follower: F) -> Self {
        Self { client, path, follower, failed: 0, open: None }
    }

    /// Waits for what comes next. Whoever waits is told that no server is there.
    pub(crate) async fn next(&mut self, output: &mut output::Output<'_>) -> Outcome<F::Item> {
        loop {
            let problem = match self.step().await {
                Ok(item) => {
                    output.back();
                    match item {
                        Some(item) => return Ok(item),
                        None => continue,
                    }
                }
                // The server answered: asking again would give the same answer.
                Err(error @ (Error::Problem(_) | Error::Usage(_))) => return Err(error),
                Err(error) => error,
            };
            self.open = None;
            self.failed += 1;
            if self.failed >= ATTEMPTS {
                return Err(problem);
            }
            if matches!(problem, Error::Unreachable { .. }) {
                output.away()?;
            }
            sleep(FIRST_REST * 2_u32.pow(self.failed - 1)).await;
        }
    }

    async fn step(&mut self) -> Outcome<Option<F::Item>> {
        let Some((body, parser)) = &mut self.open else {
            let body = self.client.stream(&self.path, self.follower.after()).await?;
            self.open = Some((body, Parser::default()));
            return Ok(None);
        };
        if let Some(event) = parser.next() {
            return self.taken(&event);
        }
        let silent = Error::Late { seconds: SILENCE.as_secs() };
        let Some(piece) = timeout(SILENCE, next_piece(body)).await.unwrap_or(Err(silent))? else {
            return Err(Error::Broken("the stream ended before its time".to_owned()));
        };
        parser.push(&piece)?;
        Ok(None)
    }

    fn taken(&mut self, event: &Event) -> Outcome<Option<F::Item>> {
        if event.name == EVENT_PROBLEM {
            return Err(Error::Problem(Box::new(parse::<Problem>(event.data.as_bytes())?)));
        }
        match self.follower.take(event)? {
            Taken::Further(item) => {
                self.failed = 0;
                Ok(item)
            }
            Taken::Aside(item) => Ok(Some(item)),
            Taken::Nothing => Ok(None),
        }
    }
}

/// What a follower of a run sees.
#[derive(Debug)]
pub(crate) enum Seen {
    Entry(Entry),
    Delta(Delta),
    Output(Output),
    End(StreamEnd),
}

/// The place in the journal of a run. It moves only when an entry was given out.
#[derive(Debug)]
pub(crate) struct Journal {
    cursor: u64,
}

impl Follower for Journal {
    type Item = Seen;

    fn after(&self) -> Option<String> {
        Some(self.cursor.to_string())
    }

    fn take(&mut self, event: &Event) -> Outcome<Taken<Seen>> {
        Ok(match event.name.as_str() {
            EVENT_ENTRY => {
                let entry: Entry = parse(event.data.as_bytes())?;
                if entry.seq <= self.cursor {
                    return Ok(Taken::Nothing);
                }
                self.cursor = entry.seq;
                Taken::Further(Some(Seen::Entry(entry)))
            }
            EVENT_DELTA => Taken::Aside(Seen::Delta(parse(event.data.as_bytes())?)),
            EVENT_OUTPUT => Taken::Aside(Seen::Output(parse(event.data.as_bytes())?)),
            EVENT_END => Taken::Aside(Seen::End(parse(event.data.as_bytes())?)),
            // A newer server may say more.
            _ => Taken::Nothing,
        })
    }
}

/// Follows the journal of a run. After [`Seen::End`] nothing comes.
pub(crate) type Follow<'client> = Stream<'client, Journal>;

impl<'client> Follow<'client> {
    pub(crate) fn new(client: &'client Client, run: RunId, after: u64) -> Self {
        Self::of(client, format!("/v1/runs/{run}/journal"), Journal { cursor: after })
    }
}

/// One event of a stream.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Event {
    pub(crate) name: String,
    pub(crate) data: String,
}

/// Cuts bytes into events.
#[derive(Debug, Default)]
pub(crate) struct Parser {
    bytes: Vec<u8>,
    taken: usize,
    event: Event,
    has_data: bool,
}

impl Parser {
    pub(crate) fn push(&mut self, piece: &[u8]) -> Outcome {
        self.bytes.drain(..self.taken);
        self.taken = 0;
        if self.bytes.len() + self.event.data.len() + piece.len() > EVENT_BYTES_MAX {
            return Err(Error::Broken(format!("an event is longer than {EVENT_BYTES_MAX} bytes")));
        }
        self.bytes.extend_from_slice(piece);
        Ok(())
    }

    /// Returns the next whole event among the bytes that came.
    pub(crate) fn next(&mut self) -> Option<Event> {
        while let Some(length) = self.bytes[self.taken..].iter().position(|byte| *byte == b'\n') {
            let line = &self.bytes[self.taken..self.taken + length];
            let line = String::from_utf8_lossy(line.strip_suffix(b"\r").unwrap_or(line)).into_owned();
            self.taken += length + 1;
            if line.is_empty() {
                if std::mem::take(&mut self.has_data) {
                    return Some(std::mem::take(&mut self.event));
                }
                self.event = Event::default();
                continue;
            }
            let (field, value) = line.split_once(':').unwrap_or((line.as_str(), ""));
            let value = value.strip_prefix(' ').unwrap_or(value);
            match field {
                "event" => value.clone_into(&mut self.event.name),
                "data" => {
                    if std::mem::replace(&mut self.has_data, true) {
                        self.event.data.push('\n');
                    }
                    self.event.data.push_str(value);
                }
                // Ids are read from the entries; comments keep the connection alive.
                _ => {}
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_are_cut_the_same_wherever_the_bytes_break() {
        let text = b"id: 1\nevent: entry\ndata: {\ndata: }\n\n: keep-alive\n\nevent: end\r\ndata: x\r\n\r\n";
        let expected = [("entry", "{\n}"), ("end", "x")];
        for cut in 0..text.len() {
            let mut parser = Parser::default();
            let mut events = Vec::new();
            for piece in [&text[..cut], &text[cut..]] {
                parser.push(piece).unwrap();
                while let Some(event) = parser.next() {
                    events.push((event.name, event.data));
                }
            }
            let events: Vec<_> = events.iter().map(|(name, data)| (name.as_str(), data.as_str())).collect();
            assert_eq!(events, expected, "cut at {cut}");
        }
    }

    #[test]
    fn any_bytes_give_the_same_events_wherever_they_break() {
        fn events(chunks: &[&[u8]]) -> Vec<Event> {
            let mut parser = Parser::default();
            let mut found = Vec::new();
            for chunk in chunks {
                parser.push(chunk).expect("it is short");
                while let Some(event) = parser.next() {
                    found.push(event);
                }
            }
            found
        }
        for (name, seed) in dromia_testkit::fuzz::corpus("sse") {
            for number in 0..32 {
                let bytes = dromia_testkit::fuzz::mutated(&seed, number);
                let whole = events(&[&bytes]);
                let single: Vec<_> = bytes.chunks(1).collect();
                assert_eq!(events(&single), whole, "{name}~{number} byte by byte");
                let (head, tail) = bytes.split_at(bytes.len() / 2);
                assert_eq!(events(&[head, tail]), whole, "{name}~{number} in two");
            }
        }
    }

    #[test]
    fn an_endless_event_is_refused() {
        let mut parser = Parser::default();
        let piece = vec![b'x'; 1 << 20];
        let refused = (0..32).find_map(|_| parser.push(&piece).err());
        assert!(refused.is_some());
    }
}
