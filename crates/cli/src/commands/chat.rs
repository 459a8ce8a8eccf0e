//! `chat`: a conversation, line by line, each answer printed as it is made.
//!
//! What is printed live comes from deltas, which are hints; the journal's entry settles it. If a lost attempt was
//! printed, the whole answer is printed again under it. What is left of an answer is printed once the next entry says that
//! it was let out; of one that is withheld nothing is. What programs say while they run goes to stderr. Ctrl-C leaves
//! whatever is done just then, also where nothing is typed yet.

use std::time::Duration;

use dromia_api::agent::Agent;
use dromia_api::event::{EventAccepted, SendEvent};
use dromia_api::run::{Delta, Entry, JournalPage, Run};
use dromia_api::session::Session;
use dromia_api::{AgentState, ErrorCode, ItemId, List, RunId, RunStatus, SessionId};
use serde::Deserialize;
use serde::de::IgnoredAny;
use tokio::task::yield_now;
use tokio::time::{Instant, sleep};

use super::event::{PLATFORM, is_unfunded};
use super::live::Heard;
use super::sending::{Sending, stored, waited};
use super::waits::Waits;
use super::{Cli, answer, typed};
use crate::args::Chat;
use crate::client::parse;
use crate::error::{Error, Outcome, Standing};
use crate::exit::Exit;
use crate::output::Output;
use crate::sse::{Follow, Seen};

/// How long one answer may take when the command line does not say.
const PATIENCE: Duration = Duration::from_mins(10);

/// How long to rest before the second look for the run that takes a waiting input; each further rest is twice as long, up
/// to the last.
const LOOK_FIRST: Duration = Duration::from_millis(200);
const LOOK_LAST: Duration = Duration::from_secs(2);

/// Among how many of the session's newest runs to look for it.
const RUNS_LOOKED_AT: u32 = 8;

/// What `/help` prints. It is no word to the agent; what begins otherwise is.
const HELP: &str =
    "each line is said to the agent, except\n  /help  this page\n  /quit  leave; so do Ctrl-D and Ctrl-C";

pub(super) async fn run(cli: &Cli<'_>, chat: Chat, output: &mut Output<'_>) -> Outcome<Exit> {
    if output.is_json() {
        return Err(Error::Usage("chat prints no JSON; use `dromia event send --wait --json`".to_owned()));
    }
    cli.check_session(chat.session)?;
    let (mut session, mut lines) = (chat.session, 0);
    let (mut last, typed_in) = (Exit::Done, output.context().input_is_terminal);
    let prompts = typed_in && output.context().out_is_terminal;
    known(cli, session).await?;
    if prompts {
        output.notice("type /quit or press Ctrl-D to leave, /help for what is known here")?;
    }
    // Whoever waits for this command listens for Ctrl-C from the next look at it on, and so before anybody is asked to type.
    yield_now().await;
    loop {
        output.goes_on(session.map(kept));
        if prompts {
            output.text("> ")?;
        }
        let line = typed::line("read the line", output).await?;
        let text = line.trim();
        if line.is_empty() || text == "/quit" {
            break;
        }
        if text == "/help" {
            output.notice(HELP)?;
            continue;
        }
        if !text.is_empty() {
            lines += 1;
            let ended = turn(cli, session, text, lines, output).await?;
            session = Some(ended.session);
            if ended.exit != Exit::Done {
                last = ended.exit;
            }
        }
    }
    if let Some(session) = session {
        output.notice(&format!("go on with `dromia chat --session {session}`"))?;
    }
    // A person has seen which turn failed and went on; a script sees only this.
    Ok(if typed_in { Exit::Done } else { last })
}

/// A turn that has ended.
struct Turn {
    session: SessionId,
    exit: Exit,
}

/// How a conversation stands in which nothing is under way.
fn kept(session: SessionId) -> Standing {
    Standing {
        known: format!("nothing is under way in {session}"),
        next: format!("go on with `dromia chat --session {session}`"),
    }
}

/// Looks for the session or the agent that is named, so that a name which nothing has is told before anybody types.
async fn known(cli: &Cli<'_>, session: Option<SessionId>) -> Outcome {
    if let Some(session) = session {
        cli.client.get::<dromia_api::session::Session>(&format!("/v1/sessions/{session}")).await?;
    } else if let Some(agent) = cli.agent() {
        let path = format!("/v1/agents/{}", crate::client::encoded(&agent));
        cli.client.get::<dromia_api::agent::Agent>(&path).await?;
    }
    Ok(())
}

/// Sends one line and prints the answer to it.
async fn turn(
    cli: &Cli<'_>,
    session: Option<SessionId>,
    text: &str,
    number: u32,
    output: &mut Output<'_>,
) -> Outcome<Turn> {
    let text = text.to_owned();
    let event = match session {
        Some(_) => SendEvent { text, session, ..SendEvent::default() },
        None => SendEvent {
            text,
            agent: cli.agent(),
            platform: Some(PLATFORM.to_owned()),
            ..SendEvent::default()
        },
    };
    let patience = cli.patience(PATIENCE);
    let sending = Sending::of_line(number, output);
    let (_, bytes) = sending.post(cli, &event, patience, Duration::ZERO, output).await?;
    let accepted: EventAccepted = parse(&bytes)?;
    output.goes_on(Some(stored(&accepted, accepted.run)));
    let mut taken = accepted.run;
    let late = Error::TimedOut { next: format!("dromia session show {}", accepted.session) };
    let answer = async {
        let run = match accepted.run {
            Some(run) => run,
            None => taker(cli, accepted.session, accepted.item, output).await?,
        };
        taken = Some(run);
        output.goes_on(Some(stored(&accepted, taken)));
        print_live(cli, run, output).await
    };
    let ended = tokio::time::timeout(patience, answer).await;
    let exit = waited(cli, &accepted, taken, ended).await?.ok_or(late)?;
    Ok(Turn { session: accepted.session, exit })
}

/// Finds the run that took an item which had to wait. Whoever waits is told once what it waits for; an agent that has ended
/// answers nothing any more.
pub(super) async fn taker(
    cli: &Cli<'_>,
    session: SessionId,
    item: ItemId,
    output: &mut Output<'_>,
) -> Outcome<RunId> {
    #[derive(Deserialize)]
    struct Started {
        #[serde(default)]
        items: Vec<ItemId>,
    }
    let path = format!("/v1/runs?session={session}&limit={RUNS_LOOKED_AT}");
    let mut others: Vec<RunId> = Vec::new();
    let (mut told, mut rest) = (false, LOOK_FIRST);
    loop {
        let runs: List<Run> = cli.client.look(&path).await?;
        // How a run began never changes.
        others.retain(|other| runs.items.iter().any(|run| run.id == *other));
        for run in runs.items.iter().map(|run| run.id) {
            if others.contains(&run) {
                continue;
            }
            let page: JournalPage = cli.client.look(&format!("/v1/runs/{run}/journal?limit=1")).await?;
            let Some(first) = page.entries.first() else { continue };
            if parse::<Started>(first.fields.get().as_bytes())?.items.contains(&item) {
                return Ok(run);
            }
            others.push(run);
        }
        let waiting: Session = cli.client.look(&format!("/v1/sessions/{session}")).await?;
        let agent: Agent = cli.client.look(&format!("/v1/agents/{}", waiting.agent)).await?;
        match agent.state {
            AgentState::Terminated | AgentState::Deleting => {
                let message = format!("{} has ended, so the input is never answered", agent.handle);
                return Err(Error::Local { exit: Exit::from(ErrorCode::AgentTerminated), message });
            }
            AgentState::Running | AgentState::Paused if told => {}
            AgentState::Paused => {
                told = true;
                let handle = agent.handle;
                output.notice(&format!("the input waits: its agent {handle} is paused"))?;
                output.notice(&format!("hint: `dromia agent resume {handle}`"))?;
            }
            AgentState::Running => {
                // What is soon over is nothing to wait for.
                let before = waiting.active.filter(|run| rest == LOOK_LAST && others.contains(run));
                if let Some(run) = before {
                    told = true;
                    output.notice(&format!("the input waits: {run} of its session goes before it"))?;
                    output.notice(&format!("hint: `dromia run why {run}`"))?;
                }
            }
        }
        sleep(rest).await;
        rest = (rest * 2).min(LOOK_LAST);
    }
}

/// Prints the answer of a run as it is made, and says how the run ended.
async fn print_live(cli: &Cli<'_>, run: RunId, output: &mut Output<'_>) -> Outcome<Exit> {
    let mut follow = Follow::new(&cli.client, run, 0);
    let (mut printed, mut heard, mut waits) = (Printed::default(), Heard::default(), Waits::of(run));
    let (began, mut failure) = (Instant::now(), None);
    loop {
        match follow.next().await? {
            Seen::Delta(delta) => {
                heard.close(output)?;
                let piece = printed.delta(&delta);
                output.text(&piece)?;
            }
            Seen::Output(piece) => heard.piece(&piece, output)?,
            Seen::Entry(entry) => {
                heard.entry(&entry, output)?;
                failure = answer::failure(&entry, failure)?;
                let piece = printed.entry(&entry)?;
                output.text(&piece)?;
                waits.entry(cli, &entry, output).await?;
            }
            Seen::End(end) if end.status == RunStatus::Completed => {
                let piece = printed.end();
                output.text(&piece)?;
                return Ok(Exit::Done);
            }
            Seen::End(end) => {
                let seconds = began.elapsed().as_secs();
                let is_unfunded = end.status == RunStatus::Yielded && is_unfunded(failure.as_ref());
                let why = failure.map(|failure| format!(": {} ({})", failure.message, failure.code));
                output.notice(&format!(
                    "{run} is {} after {seconds} s{}; see `dromia run why {run}`",
                    end.status.as_str(),
                    why.unwrap_or_default()
                ))?;
                return Ok(if is_unfunded { Exit::Budget } else { Exit::RunFailed });
            }
        }
    }
}

/// What of the current step stands on the screen.
#[derive(Debug, Default)]
struct Printed {
    attempt: Option<(u32, u32)>,
    text: String,
    /// What is left to print of the last answer.
    rest: String,
    /// Whether some of that answer stands on the screen, in a line that has no end yet.
    stands: bool,
}

impl Printed {
    /// Returns what to print for a live piece.
    fn delta(&mut self, delta: &Delta) -> String {
        let mut out = String::new();
        if !self.rest.is_empty() {
            // What is left of the answer before comes first; the entry will settle this one.
            return out;
        }
        if self.attempt != Some((delta.step, delta.attempt)) {
            if !self.text.is_empty() {
                out.push('\n');
            }
            self.attempt = Some((delta.step, delta.attempt));
            self.text.clear();
        }
        // A piece that does not follow what is printed was lost in between; the entry will settle it.
        if delta.offset == self.text.len() as u64 {
            self.text.push_str(&delta.text);
            out.push_str(&delta.text);
        }
        out
    }

    /// Returns what is left to print of the answer before an entry, which says whether it was let out.
    fn entry(&mut self, entry: &Entry) -> Outcome<String> {
        let stands = std::mem::take(&mut self.stands);
        let out = match entry.kind.as_str() {
            // It was refused, or nobody judged it.
            "run_failed" | "run_cancelled" | "run_yielded" => {
                self.rest.clear();
                if stands { "\n".to_owned() } else { String::new() }
            }
            _ => self.end(),
        };
        if entry.kind == "model_replied" {
            self.rest = self.settle(entry)?;
        }
        Ok(out)
    }

    /// Returns what is left to print of an answer that was let out.
    fn end(&mut self) -> String {
        std::mem::take(&mut self.rest)
    }

    /// Settles the live text with an entry; returns what is left to print if the answer is let out.
    fn settle(&mut self, entry: &Entry) -> Outcome<String> {
        let Some(body) = &entry.body else { return Ok(String::new()) };
        let text = parse::<Message>(body.get().as_bytes())?.text();
        let live = std::mem::take(self).text;
        self.stands = !live.is_empty();
        let Marks { withheld } = parse(entry.fields.get().as_bytes())?;
        if withheld.is_some() {
            // All that is told of it stands there.
            return Ok(if live.is_empty() { String::new() } else { "\n".to_owned() });
        }
        Ok(match text.strip_prefix(&live) {
            Some("") if live.is_empty() => String::new(),
            Some(rest) => format!("{rest}\n"),
            None => format!("\n{text}\n"),
        })
    }
}

/// What is read of the fields of a `model_replied`.
#[derive(Debug, Deserialize)]
struct Marks {
    #[serde(default)]
    withheld: Option<IgnoredAny>,
}

/// What an assistant message says.
#[derive(Debug, Default, Deserialize)]
pub(super) struct Message {
    #[serde(default)]
    parts: Vec<Piece>,
}

#[derive(Debug, Deserialize)]
struct Piece {
    #[serde(default)]
    text: String,
}

impl Message {
    pub(super) fn text(&self) -> String {
        self.parts.iter().map(|piece| piece.text.as_str()).collect::<Vec<_>>().join("\n")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn delta(attempt: u32, offset: u64, text: &str) -> Delta {
        Delta { step: 1, attempt, offset, text: text.to_owned() }
    }

    fn reply(text: &str) -> Entry {
        entry("model_replied", &serde_json::json!({}), text)
    }

    fn entry(kind: &str, fields: &serde_json::Value, text: &str) -> Entry {
        let body = serde_json::json!({"parts": [{"type": "text", "text": text, "label": "untrusted/actor"}]});
        let entry = serde_json::json!({
            "seq": 3, "at": "2026-01-01T00:00:00Z", "epoch": 1, "kind": kind, "version": 1,
            "fields": fields, "body": body, "chain": "0".repeat(64),
        });
        serde_json::from_str(&entry.to_string()).unwrap()
    }

    #[test]
    fn the_screen_ends_with_the_settled_answer() {
        for (pieces, screen) in [
            (vec![delta(1, 0, "Hel"), delta(1, 3, "lo")], "Hello\n"),
            (vec![delta(1, 0, "Hel")], "Hello\n"),
            (vec![], "Hello\n"),
            // A lost piece.
            (vec![delta(1, 0, "He"), delta(1, 3, "lo")], "Hello\n"),
            // A lost attempt.
            (vec![delta(1, 0, "Good d"), delta(2, 0, "Hel")], "Good d\nHello\n"),
            (vec![delta(1, 0, "Good d")], "Good d\nHello\n"),
        ] {
            let mut printed = Printed::default();
            let mut out: String = pieces.iter().map(|piece| printed.delta(piece)).collect();
            out.push_str(&printed.entry(&reply("Hello")).unwrap());
            out.push_str(&printed.entry(&entry("run_completed", &serde_json::json!({}), "")).unwrap());
            assert_eq!(out, screen, "{pieces:?}");
        }
    }

    #[test]
    fn nothing_is_printed_of_an_answer_that_is_not_let_out() {
        let none = serde_json::json!({});
        let withheld = serde_json::json!({"withheld": {"rule": "leak scan", "reason": "no"}});
        for (pieces, fields, end, screen) in [
            (vec![], &withheld, "run_failed", ""),
            (vec![], &withheld, "tool_started", ""),
            (vec![delta(1, 0, "*****")], &withheld, "run_failed", "*****\n"),
            (vec![delta(1, 0, "*****")], &withheld, "model_called", "*****\n"),
            (vec![], &none, "run_failed", ""),
            (vec![delta(1, 0, "Hel")], &none, "run_failed", "Hel\n"),
        ] {
            let mut printed = Printed::default();
            let mut out: String = pieces.iter().map(|piece| printed.delta(piece)).collect();
            out.push_str(&printed.entry(&entry("model_replied", fields, "Hello")).unwrap());
            out.push_str(&printed.entry(&entry(end, &none, "")).unwrap());
            assert_eq!(out, screen, "{pieces:?} {fields} {end}");
        }
    }
}
