//! Reads server-sent events, and follows a stream of them across broken connections: a run's journal, the records of
//! the audit.
//!
//! Each follower knows the place behind what was given out, so a connection that breaks anywhere is resumed there, and
//! nothing is seen twice. What a server answered is never asked again.

use std::collections::VecDeque;
use std::time::Duration;

use dromia_api::ProblemDetails;
use dromia_api::RunId;
use dromia_api::run::{
    CallOutput, EVENT_DELTA, EVENT_END, EVENT_ENTRY, EVENT_OUTPUT, EVENT_PROBLEM, JournalEntryResource,
    StreamEnd, TextDelta,
};
use dromia_sse::{SseError, SseEvent, SseParser};
use hyper::body::Incoming;
use tokio::time::{Instant, sleep, timeout};

use crate::client::{ATTEMPTS, ApiClient, FIRST_REST, next_piece, parse_answer};
use crate::error::{Error, Outcome};
use crate::output;

/// How long the server may say nothing; it sends a keep-alive every 15 s.
const SILENCE: Duration = Duration::from_secs(45);

/// How long a server is waited for that stopped or is not there: a restart with the drain before it takes less.
const RETURN_WAIT: Duration = Duration::from_mins(1);

/// The longest rest between two looks for a server.
const REST_MAX: Duration = Duration::from_secs(2);

/// The longest event; an entry's body is at most one batch.
const EVENT_BYTES_MAX: usize = 16 << 20;

/// Makes something of the events of a stream, and knows where it goes on.
pub(crate) trait StreamFollower {
    /// What is given out.
    type Item;

    /// The place behind what was given out; `None` is wherever the server begins.
    fn resume_position(&self) -> Option<String>;

    /// Takes an event. One that cannot be read counts as a broken connection.
    fn take_event(&mut self, event: &StreamEvent) -> Outcome<FollowedEvent<Self::Item>>;
}

/// What an event is to a follower.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum FollowedEvent<T> {
    /// The stream went on, so connections that broke before do not count any more; there may be nothing to give out.
    Further(Option<T>),
    /// It has no place in the stream.
    Aside(T),
    /// Nothing.
    Nothing,
}

/// Follows a stream of events across broken connections.
#[derive(Debug)]
pub(crate) struct EventStream<'client, F> {
    client: &'client ApiClient,
    path: String,
    follower: F,
    breaks: StreamBreaks,
    open: Option<(Incoming, EventReader)>,
}

impl<'client, F: StreamFollower> EventStream<'client, F> {
    pub(crate) fn for_path(client: &'client ApiClient, path: String, follower: F) -> Self {
        Self { client, path, follower, breaks: StreamBreaks::default(), open: None }
    }

    /// Waits for the next item, and prints a notice while no server answers.
    pub(crate) async fn next(&mut self, output: &mut output::CommandOutput<'_>) -> Outcome<F::Item> {
        loop {
            let problem = match self.read_step(output).await {
                Ok(item) => {
                    output.note_server_back();
                    match item {
                        Some(item) => return Ok(item),
                        None => continue,
                    }
                }
                Err(error) if is_final(&error) => return Err(error),
                Err(error) => error,
            };
            self.open = None;
            let Some(rest) = self.breaks.rest(is_stopped(&problem), Instant::now()) else {
                return Err(problem);
            };
            if is_stopped(&problem) {
                output.note_server_away()?;
            }
            output.draw_live_while(sleep(rest)).await;
        }
    }

    async fn read_step(&mut self, output: &mut output::CommandOutput<'_>) -> Outcome<Option<F::Item>> {
        let Some((body, parser)) = &mut self.open else {
            let opening = self.client.open_event_stream(&self.path, self.follower.resume_position());
            let body = output.draw_live_while(opening).await?;
            self.open = Some((body, EventReader::default()));
            return Ok(None);
        };
        if let Some(event) = parser.events.pop_front() {
            return self.handle_event(&event);
        }
        let silent = Error::Late { seconds: SILENCE.as_secs() };
        let piece = output.draw_live_while(timeout(SILENCE, next_piece(body))).await;
        let Some(piece) = piece.unwrap_or(Err(silent))? else {
            return Err(Error::Broken("the server closed the stream too early".to_owned()));
        };
        parser.push_bytes(&piece)?;
        Ok(None)
    }

    fn handle_event(&mut self, event: &StreamEvent) -> Outcome<Option<F::Item>> {
        if event.name == EVENT_PROBLEM {
            return Err(Error::Problem(Box::new(parse_answer::<ProblemDetails>(event.data.as_bytes())?)));
        }
        match self.follower.take_event(event)? {
            FollowedEvent::Further(item) => {
                self.breaks.went_on();
                Ok(item)
            }
            FollowedEvent::Aside(item) => Ok(Some(item)),
            FollowedEvent::Nothing => Ok(None),
        }
    }
}

/// Whether the same request would be answered the same again. A server that stops may be back soon, and has the run.
fn is_final(error: &Error) -> bool {
    matches!(error, Error::Problem(_) | Error::Usage(_)) && !error.is_away()
}

/// Whether no server is there, or the one that is there stops.
fn is_stopped(problem: &Error) -> bool {
    problem.is_away() && !matches!(problem, Error::Severed(_))
}

/// How often a stream broke since it last went on.
#[derive(Debug, Default)]
struct StreamBreaks {
    /// How often the connection broke.
    broken: u32,
    /// How often no server was found, and since when.
    missed: u32,
    stopped_since: Option<Instant>,
}

impl StreamBreaks {
    /// The stream went on: what broke before does not count any more.
    fn went_on(&mut self) {
        *self = Self::default();
    }

    /// Counts a break, and says how long to rest before the next attempt; nothing if there is none. A server that stopped is
    /// looked for until [`RETURN_WAIT`] is over, and a stream that breaks is opened [`ATTEMPTS`] times.
    fn rest(&mut self, is_stopped: bool, now: Instant) -> Option<Duration> {
        if !is_stopped {
            self.broken += 1;
            return (self.broken < ATTEMPTS).then(|| FIRST_REST * 2_u32.pow(self.broken - 1));
        }
        let rest = FIRST_REST * 2_u32.pow(self.missed.min(ATTEMPTS));
        self.missed = self.missed.saturating_add(1);
        let since = *self.stopped_since.get_or_insert(now);
        (now.duration_since(since) < RETURN_WAIT).then_some(rest.min(REST_MAX))
    }
}

/// What a follower of a run sees.
#[derive(Debug)]
pub(crate) enum RunUpdate {
    Entry(JournalEntryResource),
    Delta(TextDelta),
    Output(CallOutput),
    End(StreamEnd),
}

/// The place in the journal of a run. It moves only when an entry was given out.
#[derive(Debug)]
pub(crate) struct JournalCursor {
    cursor: u64,
}

impl StreamFollower for JournalCursor {
    type Item = RunUpdate;

    fn resume_position(&self) -> Option<String> {
        Some(self.cursor.to_string())
    }

    fn take_event(&mut self, event: &StreamEvent) -> Outcome<FollowedEvent<RunUpdate>> {
        Ok(match event.name.as_str() {
            EVENT_ENTRY => {
                let entry: JournalEntryResource = parse_answer(event.data.as_bytes())?;
                if entry.seq <= self.cursor {
                    return Ok(FollowedEvent::Nothing);
                }
                self.cursor = entry.seq;
                FollowedEvent::Further(Some(RunUpdate::Entry(entry)))
            }
            EVENT_DELTA => FollowedEvent::Aside(RunUpdate::Delta(parse_answer(event.data.as_bytes())?)),
            EVENT_OUTPUT => FollowedEvent::Aside(RunUpdate::Output(parse_answer(event.data.as_bytes())?)),
            EVENT_END => FollowedEvent::Aside(RunUpdate::End(parse_answer(event.data.as_bytes())?)),
            // A newer server may say more.
            _ => FollowedEvent::Nothing,
        })
    }
}

/// Follows the journal of a run. After [`RunUpdate::End`] nothing comes.
pub(crate) type Follow<'client> = EventStream<'client, JournalCursor>;

impl<'client> Follow<'client> {
    pub(crate) fn new(client: &'client ApiClient, run: RunId, after: u64) -> Self {
        Self::for_path(client, format!("/v1/runs/{run}/journal"), JournalCursor { cursor: after })
    }
}

/// One event of a stream.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct StreamEvent {
    pub(crate) name: String,
    pub(crate) data: String,
}

/// Splits the pieces of a body into events.
#[derive(Debug)]
struct EventReader {
    parser: SseParser,
    /// Events of the last piece that were not given out yet; they have at most the bytes of one event and one piece.
    events: VecDeque<StreamEvent>,
}

impl Default for EventReader {
    fn default() -> Self {
        Self { parser: SseParser::new(EVENT_BYTES_MAX), events: VecDeque::new() }
    }
}

impl EventReader {
    fn push_bytes(&mut self, piece: &[u8]) -> Outcome {
        let Self { parser, events } = self;
        let pushed = parser.push_chunk(piece, |event: SseEvent<'_>| {
            events.push_back(StreamEvent { name: event.name.to_owned(), data: event.data.to_owned() });
            Ok::<_, SseError>(())
        });
        pushed.map_err(|error| Error::Broken(error.to_string()))
    }
}

#[cfg(test)]
mod tests {
    use dromia_api::ErrorCode;

    use super::*;

    #[test]
    fn mutated_bytes_give_equal_events_wherever_they_are_split() {
        /// The events, and the error that ended the stream, if one did.
        fn events(chunks: &[&[u8]]) -> (Vec<StreamEvent>, Option<String>) {
            let mut parser = EventReader::default();
            let mut found = Vec::new();
            for chunk in chunks {
                let pushed = parser.push_bytes(chunk);
                found.extend(parser.events.drain(..));
                if let Err(error) = pushed {
                    return (found, Some(error.to_string()));
                }
            }
            (found, None)
        }
        for (name, seed) in dromia_testkit::fuzz::read_corpus("sse") {
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

    /// StreamBreaks a stream many times that goes on each time, and once for ever; `went_on` is what hears of it.
    fn check_breaks(went_on: impl Fn(&mut StreamBreaks)) -> Result<(), String> {
        let (mut breaks, now) = (StreamBreaks::default(), Instant::now());
        for number in 0..3 * ATTEMPTS {
            breaks.rest(false, now).ok_or(format!("given up at break {number}, though it went on"))?;
            went_on(&mut breaks);
        }
        let attempts = (0..10 * ATTEMPTS).take_while(|_| breaks.rest(false, now).is_some()).count();
        if attempts + 1 == ATTEMPTS as usize { Ok(()) } else { Err(format!("{attempts} attempts")) }
    }

    #[test]
    fn breaks_count_from_where_the_stream_last_went_on() {
        assert_eq!(check_breaks(StreamBreaks::went_on), Ok(()));
    }

    #[test]
    fn breaks_that_add_up_are_caught() {
        assert!(check_breaks(|_| ()).is_err());
    }

    /// Compares what ends a stream at once with what must.
    fn check_final(is_final: impl Fn(&Error) -> bool) -> Result<(), String> {
        let problem = |code| Error::Problem(Box::new(ProblemDetails::new(code, "x", "req_1")));
        for (error, expected) in [
            (problem(ErrorCode::RunNotFound), true),
            (Error::Usage("x".to_owned()), true),
            (problem(ErrorCode::ShuttingDown), false),
            (Error::Unreachable { socket: "s".to_owned() }, false),
            (Error::Severed("cut".to_owned()), false),
        ] {
            if is_final(&error) != expected {
                return Err(format!("{error:?}"));
            }
        }
        Ok(())
    }

    #[test]
    fn a_stop_between_acceptance_and_stream_is_no_answer() {
        assert_eq!(check_final(is_final), Ok(()));
    }

    #[test]
    fn a_stop_that_is_taken_for_an_answer_is_caught() {
        assert!(check_final(|error| matches!(error, Error::Problem(_) | Error::Usage(_))).is_err());
    }

    #[test]
    fn a_stopped_server_is_retried_until_the_deadline() {
        let (mut breaks, began) = (StreamBreaks::default(), Instant::now());
        let mut waited = Duration::ZERO;
        while let Some(rest) = breaks.rest(true, began + waited) {
            assert!(rest <= REST_MAX);
            waited += rest;
        }
        assert!(waited >= RETURN_WAIT && waited < RETURN_WAIT + REST_MAX, "{waited:?}");
    }

    #[test]
    fn an_endless_event_is_refused() {
        let mut parser = EventReader::default();
        let piece = vec![b'x'; 1 << 20];
        let refused = (0..32).find_map(|_| parser.push_bytes(&piece).err());
        assert!(refused.is_some());
    }
}
