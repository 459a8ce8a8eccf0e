//! D4 for journals: a reader of `GET /v1/runs/{run}/journal` whose server is killed with SIGKILL in the middle of the run comes
//! back with the last id that it saw and reads on, to the end, without a gap and without anything twice.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::home::{DEADLINE, Home, Server, block_on, stderr};
use crate::model::{Model, Say};

/// The calls of the run, each in a step of its own.
const CALLS: usize = 6;
/// After how many calls the model is silent until its server is killed, each time once.
const SILENT_AFTER: [usize; 3] = [0, 2, 4];

/// A model that asks for one call after the other, and is silent at its places until the server is killed. `silent` counts
/// how often it was.
fn model(silent: Arc<AtomicUsize>) -> Model {
    Model::start(move |_, messages| {
        let done = messages.iter().filter(|message| message["role"] == "tool").count();
        let place = SILENT_AFTER.iter().position(|after| *after == done);
        let is_first = |place: usize| {
            silent.compare_exchange(place, place + 1, Ordering::SeqCst, Ordering::SeqCst).is_ok()
        };
        if place.is_some_and(is_first) {
            std::thread::sleep(Duration::from_mins(2));
        }
        if done < CALLS { Say::Call("time__now", "{}".to_owned()) } else { Say::Text("done".to_owned()) }
    })
}

/// What came of a stream: an event with its id, if it has one.
#[derive(Debug)]
struct Event {
    id: Option<u64>,
    name: String,
    data: Value,
}

impl Event {
    fn read(text: &str) -> Self {
        let data: Vec<&str> = field(text, "data").collect();
        Self {
            id: field(text, "id").next().map(|id| id.parse().expect("a number")),
            name: field(text, "event").next().expect("it has a name").to_owned(),
            data: serde_json::from_str(&data.join("\n")).expect("a document"),
        }
    }
}

/// The values of the lines of an event that begin with a name.
fn field<'a>(text: &'a str, name: &'a str) -> impl Iterator<Item = &'a str> {
    text.lines().filter_map(move |line| line.strip_prefix(name)?.strip_prefix(": "))
}

/// One connection of a reader.
struct Stream {
    response: reqwest::Response,
    bytes: Vec<u8>,
}

impl Stream {
    async fn open(server: &Server, run: &str, after: Option<u64>) -> Self {
        let url = format!("{}/v1/runs/{run}/journal", server.url);
        let request =
            reqwest::Client::new().get(url).bearer_auth(&server.token).header("accept", "text/event-stream");
        let request = match after {
            Some(after) => request.header("last-event-id", after.to_string()),
            None => request,
        };
        let response = request.send().await.expect("the server answers");
        assert_eq!(response.status().as_u16(), 200);
        Self { response, bytes: Vec::new() }
    }

    /// Returns the next whole event, or nothing where the stream ends or breaks off. What came of an event that did not
    /// come whole is nothing.
    async fn next(&mut self) -> Option<Event> {
        loop {
            if let Some(end) = self.bytes.windows(2).position(|two| two == b"\n\n") {
                let event: Vec<u8> = self.bytes.drain(..end + 2).collect();
                if event.starts_with(b":") {
                    continue;
                }
                return Some(Event::read(std::str::from_utf8(&event).expect("text")));
            }
            let more = tokio::time::timeout(DEADLINE, self.response.chunk()).await;
            match more.expect("the stream says nothing, not even that it lives") {
                Ok(Some(more)) => self.bytes.extend_from_slice(&more),
                Ok(None) | Err(_) => return None,
            }
        }
    }
}

/// A reader that outlives its servers.
#[derive(Default)]
struct Reader {
    entries: Vec<(u64, Value)>,
    end: Option<Value>,
}

impl Reader {
    fn last(&self) -> Option<u64> {
        self.entries.last().map(|(id, _)| *id)
    }

    fn calls_done(&self) -> usize {
        self.entries.iter().filter(|(_, entry)| entry["kind"] == "tool_finished").count()
    }

    /// Tells whether the model was asked after so many calls, and nothing came since.
    fn is_asked_after(&self, calls: usize) -> bool {
        let is_last = self.entries.last().is_some_and(|(_, entry)| entry["kind"] == "model_called");
        is_last && self.calls_done() == calls
    }

    fn take(&mut self, event: Event) {
        match (event.name.as_str(), event.id) {
            ("entry", Some(id)) => self.entries.push((id, event.data)),
            ("end", None) => self.end = Some(event.data),
            // Nothing else has an id, so no reader can begin behind it.
            ("delta" | "output", None) => {}
            other => panic!("{other:?}: {}", event.data),
        }
    }

    /// Reads until so many calls are done and the model is asked again, and waits until it is silent.
    async fn until_silent(&mut self, stream: &mut Stream, calls: usize, times: usize, silent: &AtomicUsize) {
        while !self.is_asked_after(calls) {
            let event = stream.next().await.expect("the stream goes on");
            self.take(event);
        }
        let until = Instant::now() + DEADLINE;
        while silent.load(Ordering::SeqCst) < times {
            assert!(Instant::now() < until, "the model is never asked");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// Reads what still comes.
    async fn rest(&mut self, stream: &mut Stream) {
        while let Some(event) = stream.next().await {
            self.take(event);
        }
    }
}

/// Says what is wrong with the entries that a reader saw of a journal.
fn judged(seen: &[(u64, Value)], journal: &[Value]) -> Result<(), String> {
    let ids: Vec<u64> = seen.iter().map(|(id, _)| *id).collect();
    let all: Vec<u64> = (1..).take(journal.len()).collect();
    if ids != all {
        return Err(format!("the ids are {ids:?}, and the journal has {}", journal.len()));
    }
    match seen.iter().zip(journal).find(|((_, seen), written)| seen != *written) {
        Some(((id, seen), written)) => Err(format!("entry {id} was {seen} and is {written}")),
        None => Ok(()),
    }
}

#[test]
fn a_reader_resumes_after_a_kill_without_gaps_or_doubles() {
    let silent = Arc::<AtomicUsize>::default();
    let model = model(Arc::clone(&silent));
    let home = Home::new();
    let config = format!("version: 1\nmodels:\n  default: {{ kind: scripted }}\n{}", model.alias("steps"));
    std::fs::write(home.path().join("dromia.yaml"), config).expect("the configuration can be written");
    let mut server = home.serve();
    let grants = ["model", "reply", "time.now"].map(|grant| ["--grant", grant]).concat();
    let made = home.run(&[&["agent", "create", "steps", "--model", "steps"][..], &grants].concat());
    assert!(made.status.success(), "{}", stderr(&made));
    let (status, accepted) = block_on(server.event(&json!({"text": "go", "agent": "steps"})));
    assert_eq!(status, 202, "{accepted}");
    let run = accepted["run"].as_str().expect("the agent is free").to_owned();

    let mut reader = Reader::default();
    let mut resumed_from = Vec::new();
    for (times, calls) in SILENT_AFTER.into_iter().enumerate() {
        server = block_on(async {
            let after = reader.last();
            resumed_from.extend(after);
            let mut stream = Stream::open(&server, &run, after).await;
            reader.until_silent(&mut stream, calls, times + 1, &silent).await;
            server.kill();
            reader.rest(&mut stream).await;
            home.serve()
        });
    }
    let journal = block_on(async {
        resumed_from.extend(reader.last());
        let mut stream = Stream::open(&server, &run, reader.last()).await;
        reader.rest(&mut stream).await;
        let (_, page) = server.get(&format!("/v1/runs/{run}/journal?limit=256")).await;
        page["entries"].as_array().expect("entries").clone()
    });
    let end = reader.end.as_ref().expect("the stream said that it ends");
    assert_eq!((&end["status"], &end["last_seq"]), (&json!("completed"), &json!(journal.len())));
    assert_eq!(judged(&reader.entries, &journal), Ok(()));
    assert_eq!(reader.calls_done(), CALLS);
    assert!(resumed_from.len() == SILENT_AFTER.len() && resumed_from.is_sorted(), "{resumed_from:?}");

    // Planted: a server that forgets where the reader was tells everything again, and one that looks ahead leaves out.
    let stood = resumed_from[0];
    for (after, is_right) in [(None, false), (Some(stood), true), (Some(stood + 1), false)] {
        let seen = reader.entries.iter().filter(|(id, _)| *id <= stood).cloned().collect();
        let mut other = Reader { entries: seen, end: None };
        block_on(async {
            let mut stream = Stream::open(&server, &run, after).await;
            other.rest(&mut stream).await;
        });
        assert_eq!(judged(&other.entries, &journal).is_ok(), is_right, "after {after:?}");
    }
}
