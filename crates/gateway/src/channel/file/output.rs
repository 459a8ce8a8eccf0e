//! The output file: one line for each answer, appended and synced.

use std::fs::File;
use std::io::{self, BufRead as _, BufReader, Read as _, Seek as _, SeekFrom, Write as _};
use std::path::Path;

use dromia_contracts::DeliveryId;
use dromia_contracts::channel::{ChannelTarget, DeliveryOutcome, OutgoingMessage, ReceiverAnswer};
use rustix::fs::{FlockOperation, OFlags};
use serde_json::value::RawValue;

use super::directory::{open_directory, open_file};

/// The name of the output file.
const OUTPUT: &str = "out.jsonl";
/// What is read of the end at once to find a torn line.
const BLOCK: u64 = 64 << 10;

/// A line of the output. Its order of members is part of the format: a line begins with its id.
#[derive(Debug, serde::Serialize)]
struct OutputLine<'m> {
    id: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    actor: Option<&'m str>,
    event: &'m RawValue,
}

/// Appends a message and syncs it.
pub(super) fn append_message(directory: &Path, message: &OutgoingMessage) -> DeliveryOutcome {
    let not_sent = |cause: String| DeliveryOutcome::NotSent { cause };
    let line = match encode_line(message) {
        Ok(line) => line,
        Err(error) => return not_sent(format!("the message is no JSON: {error}")),
    };
    let mut file = match open_output(directory) {
        Ok(file) => file,
        Err(error) => return not_sent(format!("the output file cannot be used: {error}")),
    };
    let begin = match cut_torn_line(&mut file) {
        Ok(end) => end,
        Err(error) => return not_sent(format!("the end of the output file cannot be read: {error}")),
    };
    if let Err(error) = file.write_all(&line) {
        // What was written of it goes; where that fails, the line counts as torn.
        return match file.set_len(begin) {
            Ok(()) => not_sent(format!("the line cannot be written: {error}")),
            Err(_) => DeliveryOutcome::Unanswered { cause: format!("the line was written in part: {error}") },
        };
    }
    match file.sync_data() {
        Ok(()) => DeliveryOutcome::Accepted(line_answer(message.delivery, begin)),
        Err(error) => DeliveryOutcome::Unanswered { cause: format!("the line could not be synced: {error}") },
    }
}

/// Finds the whole line of a delivery, and syncs it: an earlier life may have died before it did.
pub(super) fn find_line(directory: &Path, delivery: DeliveryId) -> io::Result<Option<ReceiverAnswer>> {
    let directory = open_directory(directory)?;
    let Some(mut file) = open_file(&directory, OUTPUT, OFlags::RDWR)? else { return Ok(None) };
    let end = whole_end(&mut file)?;
    file.seek(SeekFrom::Start(0))?;
    let prefix = line_prefix(delivery);
    let mut lines = BufReader::new((&file).take(end));
    let (mut begin, mut head) = (0_u64, Vec::new());
    while begin < end {
        head.clear();
        (&mut lines).take(prefix.len() as u64).read_until(b'\n', &mut head)?;
        if head == prefix.as_bytes() {
            file.sync_data()?;
            return Ok(Some(line_answer(delivery, begin)));
        }
        begin += head.len() as u64;
        if head.last() != Some(&b'\n') {
            begin += lines.skip_until(b'\n')? as u64;
        }
    }
    Ok(None)
}

fn encode_line(message: &OutgoingMessage) -> serde_json::Result<Vec<u8>> {
    let event: &RawValue = serde_json::from_slice(&message.body)?;
    // A line break between members, which the engine doesn't write, would end the line.
    let compact;
    let event = if message.body.contains(&b'\n') {
        let value: serde_json::Value = serde_json::from_str(event.get())?;
        compact = serde_json::value::to_raw_value(&value)?;
        &*compact
    } else {
        event
    };
    let actor = ChannelTarget::parse(&message.target).and_then(|target| target.conversation);
    let mut line = serde_json::to_vec(&OutputLine { id: message.delivery.to_string(), actor, event })?;
    line.push(b'\n');
    Ok(line)
}

/// What the line of a delivery begins with.
fn line_prefix(delivery: DeliveryId) -> String {
    format!("{{\"id\":\"{delivery}\"")
}

fn line_answer(delivery: DeliveryId, begin: u64) -> ReceiverAnswer {
    let text = format!("the line begins at byte {begin}");
    ReceiverAnswer { status: None, receiver_id: Some(delivery.to_string()), text }
}

/// Opens the output for one writer; another program that locks it delays the message.
fn open_output(directory: &Path) -> io::Result<File> {
    let directory = open_directory(directory)?;
    let open = |flags| open_file(&directory, OUTPUT, OFlags::RDWR | OFlags::APPEND | flags);
    let file = if let Some(file) = open(OFlags::empty())? {
        file
    } else {
        let made = open(OFlags::CREATE)?.ok_or_else(|| io::Error::other("the file was removed"))?;
        directory.sync_all()?;
        made
    };
    rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive)
        .map_err(|_| io::Error::other("another writer has locked it"))?;
    Ok(file)
}

/// Cuts a torn last line of ours off, and ends one that another program left without an end. Returns where the next line
/// begins.
fn cut_torn_line(file: &mut File) -> io::Result<u64> {
    let (whole, end) = (whole_end(file)?, file.metadata()?.len());
    if whole == end {
        return Ok(end);
    }
    let ours = b"{\"id\":\"dlv_";
    let mut torn = Vec::new();
    file.seek(SeekFrom::Start(whole))?;
    (&*file).take(ours.len() as u64).read_to_end(&mut torn)?;
    if ours.starts_with(&torn) || torn.starts_with(ours) {
        file.set_len(whole)?;
        return Ok(whole);
    }
    file.write_all(b"\n")?;
    Ok(end + 1)
}

/// Returns where the last whole line ends.
fn whole_end(file: &mut File) -> io::Result<u64> {
    let mut end = file.metadata()?.len();
    let mut block = Vec::new();
    while end > 0 {
        let begin = end.saturating_sub(BLOCK);
        file.seek(SeekFrom::Start(begin))?;
        block.clear();
        (&*file).take(end - begin).read_to_end(&mut block)?;
        if let Some(last) = block.iter().rposition(|byte| *byte == b'\n') {
            return Ok(begin + last as u64 + 1);
        }
        end = begin;
    }
    Ok(0)
}
