//! Bytes from elsewhere: what must hold of every parser for any bytes, and a corpus to begin with.
//!
//! A property takes bytes and panics where it does not hold. The fuzz targets in `fuzz/` and the tests call the same
//! functions, so what a fuzzer finds becomes a file of the corpus and is tested for ever.
//!
//! Crates that this one does not depend on pass their reader to the property ([`request`], [`session_file`],
//! [`configuration`], [`token`], [`policy_input`], [`approval_hash`], [`approval_binding`], [`audit_file`]): their fuzz
//! target does, and so does a test beside the reader. What is read only by a running program (the command line,
//! headers) is asked through the binary, with the same corpus and [`mutated()`], and so are the bodies and files once
//! more: see `foreign_bytes` in `dromia`.

mod mutated;
mod rights;

use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use dromia_contracts::agent::HandleSlug;
use dromia_contracts::approval::{ParsedRule, escape_hidden};
use dromia_contracts::input::InputBody;
use dromia_contracts::label::Label;
use dromia_contracts::model::{DeltaSink, ModelReply};
use dromia_contracts::token::TokenScope;
use dromia_contracts::{
    AgentId, CallId, Digest, ErrorCode, Fault, ItemId, RunId, SessionId, TenantId, TokenId,
};
use dromia_models::WireFormat;
use dromia_models::http::{EVENT_BYTES_MAX, StreamReader, whole_reply};
use dromia_sse::{SseError, SseParser};

pub use self::mutated::mutated;
pub use self::rights::{
    BOUND_TEXTS, Canonical, TokenRead, approval_binding, approval_hash, audit_file, label_join, policy_input,
    token,
};

/// The longest that any property may take for one input, unoptimised and on a busy machine.
pub const TIME_MAX: Duration = Duration::from_secs(10);
/// The most bytes of text and arguments that an answer may become, as the adapters promise.
const REPLY_BYTES_MAX: usize = 4 << 20;
/// The longest input that is also given byte by byte.
const SINGLE_BYTES_MAX: usize = 16 << 10;
/// The longest message of an error about a short name.
const MESSAGE_BYTES_MAX: usize = 2048;

/// A property of one parser.
pub type Property = fn(&[u8]);

/// Every property that a library shows, by the name of its target and corpus.
pub const TARGETS: [(&str, Property); 11] = [
    ("sse", sse),
    ("chat_stream", chat_stream),
    ("responses_stream", responses_stream),
    ("anthropic_stream", anthropic_stream),
    ("chat_whole", chat_whole),
    ("responses_whole", responses_whole),
    ("anthropic_whole", anthropic_whole),
    ("names", names),
    ("input_body", input_body),
    ("approval_rule", approval_rule),
    ("label_join", label_join),
];

/// The targets whose readers belong to crates that this one does not depend on.
pub const TARGETS_ELSEWHERE: [&str; 11] = [
    "chat_request",
    "messages_request",
    "responses_request",
    "event_request",
    "session_file",
    "config",
    "token",
    "policy_input",
    "approval_hash",
    "approval_binding",
    "audit_file",
];

/// Any chunking of a stream gives the same events, and never more bytes than came.
pub fn sse(data: &[u8]) {
    fn parse_events(chunks: &[&[u8]]) -> Result<Vec<String>, SseError> {
        let mut parser = SseParser::new(EVENT_BYTES_MAX);
        let mut found = Vec::new();
        for chunk in chunks {
            parser.push_chunk(chunk, |event| {
                found.push(event.data.to_owned());
                Ok::<_, SseError>(())
            })?;
        }
        Ok(found)
    }
    let whole = parse_events(&[data]);
    if let Ok(events) = &whole {
        assert!(
            events.iter().map(String::len).sum::<usize>() <= data.len(),
            "events are longer than the stream"
        );
    }
    for chunks in some_chunkings(data) {
        assert_eq!(parse_events(&chunks), whole, "another chunking gives other events");
    }
}

/// The stream of chat completions.
pub fn chat_stream(data: &[u8]) {
    check_stream(WireFormat::OpenAiChat, data);
}

/// The stream of responses.
pub fn responses_stream(data: &[u8]) {
    check_stream(WireFormat::OpenAiResponses, data);
}

/// The stream of Anthropic messages.
pub fn anthropic_stream(data: &[u8]) {
    check_stream(WireFormat::AnthropicMessages, data);
}

/// A whole chat completion.
pub fn chat_whole(data: &[u8]) {
    check_whole(WireFormat::OpenAiChat, data);
}

/// A whole response.
pub fn responses_whole(data: &[u8]) {
    check_whole(WireFormat::OpenAiResponses, data);
}

/// A whole Anthropic message.
pub fn anthropic_whole(data: &[u8]) {
    check_whole(WireFormat::AnthropicMessages, data);
}

/// Any chunking of a stream gives the same answer and the same live text, within the adapters' bounds.
fn check_stream(format: WireFormat, data: &[u8]) {
    fn read_stream(format: WireFormat, chunks: &[&[u8]]) -> (Result<ModelReply, String>, String) {
        let said = RecordedDeltas::default();
        let mut reader = StreamReader::new(format);
        for chunk in chunks {
            match reader.push_chunk(chunk, &said) {
                Ok(true) => break,
                Ok(false) => {}
                Err(error) => return (Err(format!("{error:?}")), said.recorded_text()),
            }
        }
        (reader.into_reply(|| 1).map_err(|error| format!("{error:?}")), said.recorded_text())
    }
    let once = read_stream(format, &[data]);
    check_reply(once.0.as_ref().ok());
    for chunks in some_chunkings(data) {
        assert_eq!(read_stream(format, &chunks), once, "another chunking gives another answer");
    }
}

/// A whole answer is within the bounds, and reading it twice gives the same.
fn check_whole(format: WireFormat, data: &[u8]) {
    let read =
        || whole_reply(format, data, &RecordedDeltas::default(), || 1).map_err(|error| format!("{error:?}"));
    let once = read();
    check_reply(once.as_ref().ok());
    assert_eq!(read(), once, "the same bytes give another answer");
}

fn check_reply(reply: Option<&ModelReply>) {
    let Some(reply) = reply else { return };
    let arguments = reply.calls.iter().map(|call| call.arguments.len()).sum::<usize>();
    // Empty arguments become `{}`, which the limit does not count.
    let given = reply.text.len() + arguments.saturating_sub(2 * reply.calls.len());
    assert!(given <= REPLY_BYTES_MAX, "an answer of {given} bytes");
    assert!(reply.calls.len() <= 128, "{} calls", reply.calls.len());
}

/// A rule of approvals is refused with its place, or is written as it is read; trying it on any arguments ends, and the
/// rule for exactly these arguments matches them. The first line is the rule, the rest the arguments.
pub fn approval_rule(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let (rule, arguments) = text.split_once('\n').unwrap_or((text, "{}"));
    match ParsedRule::parse(rule) {
        Err(error) => {
            assert!(error.at <= rule.len() && error.to_string().len() <= MESSAGE_BYTES_MAX, "{error}");
        }
        Ok(read) => {
            let written = read.to_string();
            assert_eq!(ParsedRule::parse(&written).as_ref(), Ok(&read), "{written}");
            let is_object =
                serde_json::from_str::<serde_json::Map<String, serde_json::Value>>(arguments).is_ok();
            assert!(is_object || !read.matches_call(read.tool_name(), arguments), "{written}");
        }
    }
    if let Some(exact) = ParsedRule::for_exact_call("t", arguments) {
        assert!(exact.matches_call("t", arguments), "{exact}");
    }
    assert!(!escape_hidden(text).chars().any(|c| c.is_control() || c == '\u{202e}'));
}

/// Ids, handles, labels, scopes and digests either come back as they were read or are refused in few words.
pub fn names(data: &[u8]) {
    fn check_round_trip<T>(text: &str)
    where
        T: FromStr + ToString + PartialEq,
        T::Err: std::fmt::Display,
    {
        match text.parse::<T>() {
            Ok(name) => {
                assert!(name.to_string().parse::<T>().ok() == Some(name), "{text:?} does not come back");
            }
            Err(error) => {
                let length = error.to_string().len();
                assert!(length <= MESSAGE_BYTES_MAX, "{length} bytes about a name of {}", text.len());
            }
        }
    }
    let Ok(text) = std::str::from_utf8(data) else { return };
    for text in text.lines().chain([text]) {
        check_round_trip::<TenantId>(text);
        check_round_trip::<AgentId>(text);
        check_round_trip::<SessionId>(text);
        check_round_trip::<RunId>(text);
        check_round_trip::<ItemId>(text);
        check_round_trip::<TokenId>(text);
        check_round_trip::<CallId>(text);
        check_round_trip::<HandleSlug>(text);
        check_round_trip::<Label>(text);
        check_round_trip::<TokenScope>(text);
        check_round_trip::<Digest>(text);
    }
}

/// The body of an input either is refused or comes back with the same meaning.
pub fn input_body(data: &[u8]) {
    let Ok(body) = InputBody::decode(data) else { return };
    comes_back(&body);
}

fn comes_back(body: &InputBody) {
    let bytes = body.encode().expect("what was read can be written");
    let again = InputBody::decode(&bytes).expect("what was written can be read");
    assert!(again == *body, "the body changed its meaning");
}

/// A request, with a session and without, either is refused in words or becomes a body that can be stored and read; and
/// reading it twice gives the same. The first argument of the reader is whether the request names a session.
pub fn request<E>(read: impl Fn(bool, &[u8]) -> Result<InputBody, E>, data: &[u8])
where
    E: std::fmt::Display + std::fmt::Debug + PartialEq,
{
    for continues in [false, true] {
        let once = read(continues, data);
        match &once {
            Ok(body) => comes_back(body),
            Err(error) => is_said_in_few_words(&error.to_string(), data),
        }
        assert!(read(continues, data) == once, "the same bytes give another request");
    }
}

/// The file of a session either passes or is refused as an invalid request, in words.
pub fn session_file(check: impl Fn(&[u8]) -> Result<(), Fault>, data: &[u8]) {
    let once = check(data);
    if let Err(fault) = &once {
        assert_eq!(fault.code, ErrorCode::InvalidRequest, "{fault}");
        is_said_in_few_words(&fault.message, data);
    }
    assert_eq!(check(data), once, "the same bytes give another verdict");
}

/// The text of a configuration named `dromia.yaml` either has no form, and the refusal begins with line and column, or
/// the reader lists what is wrong with its meaning, each with its place in the file.
pub fn configuration(read: impl Fn(&str) -> Result<Vec<String>, String>, data: &[u8]) {
    // What is no text is refused before it is read as one.
    let Ok(text) = std::str::from_utf8(data) else { return };
    let once = read(text);
    match &once {
        Err(problem) => {
            let mut parts = problem.splitn(4, ':');
            let file = parts.next();
            let mut number = || parts.next().and_then(|part| part.parse::<u32>().ok());
            let place = (file, number(), number());
            assert!(
                matches!(place, (Some("dromia.yaml"), Some(1..), Some(1..))),
                "no line and column: {problem}"
            );
            is_said_in_few_words(problem, data);
        }
        Ok(problems) => {
            for problem in problems {
                assert!(problem.starts_with("dromia.yaml:"), "no place: {problem}");
            }
        }
    }
    assert_eq!(read(text), once, "the same text means something else");
}

/// A refusal has a message, and it is not much longer than the input.
fn is_said_in_few_words(text: &str, data: &[u8]) {
    assert!(!text.is_empty(), "a refusal without words");
    // A message may name what it found, quoted: a control character becomes six of them, a name may come twice.
    let most = MESSAGE_BYTES_MAX + 16 * data.len();
    assert!(text.len() <= most, "{} bytes about {}", text.len(), data.len());
}

/// Reads the corpus of a target, sorted by name.
pub fn read_corpus(target: &str) -> Vec<(String, Vec<u8>)> {
    let directory = fuzz_directory().join("corpus").join(target);
    let entries =
        std::fs::read_dir(&directory).unwrap_or_else(|error| panic!("{}: {error}", directory.display()));
    let mut files: Vec<_> = entries
        .map(|entry| {
            let path = entry.expect("an entry of the corpus").path();
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            (name, std::fs::read(&path).expect("a file of the corpus"))
        })
        .collect();
    files.sort();
    files
}

/// The directory of the fuzz targets.
pub fn fuzz_directory() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz")
}

/// Asserts a property for one input, and that it does not take long.
pub fn assert_holds(name: &str, property: Property, data: &[u8]) {
    let began = Instant::now();
    property(data);
    let took = began.elapsed();
    assert!(took < TIME_MAX, "{name} took {took:?} for {} bytes", data.len());
}

/// Some ways to cut bytes into chunks: into bytes, into pieces of sizes that the bytes choose, and into two.
fn some_chunkings(data: &[u8]) -> Vec<Vec<&[u8]>> {
    let (head, tail) = data.split_at(data.len() / 2);
    let mut all = vec![vec![head, tail], vec![head, &[], tail]];
    let mut pieces = Vec::new();
    let mut rest = data;
    while !rest.is_empty() {
        let size = (usize::from(rest[rest.len() - 1]) % 13 + 1).min(rest.len());
        let (piece, more) = rest.split_at(size);
        pieces.push(piece);
        rest = more;
    }
    all.push(pieces);
    if data.len() <= SINGLE_BYTES_MAX {
        all.push(data.chunks(1).collect());
    }
    all
}

/// Keeps live text.
#[derive(Default)]
struct RecordedDeltas(Mutex<String>);

impl RecordedDeltas {
    fn recorded_text(&self) -> String {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl DeltaSink for RecordedDeltas {
    fn push_delta(&self, text: &str) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push_str(text);
    }
}
