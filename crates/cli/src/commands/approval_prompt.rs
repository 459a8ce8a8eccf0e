//! Asks a person at the terminal for the answer to a call that a followed run waits for.
//!
//! What is asked is the call as it would be executed, with where each argument comes from. One key answers. The prompt
//! closes by itself when the call is answered elsewhere, or is no longer open, and says so. Ctrl-C at the prompt ends
//! the command and leaves the run waiting. Nothing is asked of a caller who may not answer.

mod approver;
mod wording;

use std::collections::VecDeque;
use std::future::pending;
use std::time::Duration;

use dromia_api::approval::{AnswerApproval, ApprovalResource, ReachKind};
use dromia_api::run::JournalEntryResource;
use dromia_api::token::WhoamiResponse;
use dromia_api::{ApprovalId, ErrorCode, escape_hidden};
use serde::Deserialize;
use tokio::time::{Instant, sleep_until};

use super::Cli;
use super::approval::approval_path;
use super::terminal_input::EndSignals;
use crate::context::KeyStream;
use crate::error::{Error, Outcome, PendingStatus};
use crate::exit::CommandExit;
use crate::output::CommandOutput;

use self::approver::{find_rule, may_answer};
use self::wording::{print_call, print_rule, print_whole, waiting_status};

/// How long the stream of the run must be quiet before a prompt is shown: calls of one step come together.
const QUIET: Duration = Duration::from_millis(50);

/// The most calls that wait to be asked about; a run asks for fewer at once.
const WAITING_MAX: usize = 64;

/// The prompts of one followed run.
#[derive(Debug, Default)]
pub(super) struct ApprovalPrompts {
    /// Who asks; `None` until that was found out.
    who: Option<WhoamiResponse>,
    waiting: VecDeque<ApprovalResource>,
    open: Option<OpenPrompt>,
    /// When to show the prompt.
    due: Option<Instant>,
    /// Heard from the first prompt on, until the command ends.
    signals: Option<EndSignals>,
}

/// A prompt that waits for a key.
#[derive(Debug)]
struct OpenPrompt {
    approval: ApprovalResource,
    keys: KeyStream,
    /// The rule that `always` would make.
    rule: Option<String>,
    /// What an interrupt said before.
    before: Option<PendingStatus>,
}

/// What a prompt hears.
pub(super) enum PromptEvent {
    /// The prompt must be shown.
    Due,
    /// A key; `None` when the terminal is gone.
    Key(Option<Vec<u8>>),
    /// A signal that ends the process.
    Stopped,
}

/// What is read of the fields of an entry that moves an approval.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct MovedFields {
    approval: Option<ApprovalId>,
    unneeded: Option<ApprovalId>,
    replaces: Option<ApprovalId>,
    signal: String,
    by: String,
}

impl ApprovalPrompts {
    /// Takes an approval that waits, if this person may be asked. Otherwise the command prints it as it does without a prompt.
    pub(super) async fn take_approval(
        &mut self,
        cli: &Cli<'_>,
        approval: &ApprovalResource,
        output: &mut CommandOutput<'_>,
    ) -> bool {
        let context = output.context_mut();
        let is_asked =
            context.input_is_terminal && context.err_is_terminal && context.terminal.keys.is_some();
        if !is_asked || cli.global.no_input || output.is_json() || self.waiting.len() >= WAITING_MAX {
            return false;
        }
        if self.who.is_none() {
            self.who = cli.client.get("/v1/whoami").await.ok();
        }
        let may = self.who.as_ref().is_some_and(|who| may_answer(who, approval));
        if may {
            self.waiting.push_back(approval.clone());
            self.due = Some(Instant::now() + QUIET);
        }
        may
    }

    /// Whether a prompt waits for a key.
    pub(super) fn is_open(&self) -> bool {
        self.open.is_some()
    }

    /// Whether a call is asked about, or will be once the run is quiet: from then on keys are answers, and a prompt that
    /// is being opened must not be dropped.
    pub(super) fn is_asking(&self) -> bool {
        self.is_open() || !self.waiting.is_empty()
    }

    /// Waits for something that is about a prompt; for ever while there is none. It may be dropped and called again.
    pub(super) async fn next_event(&mut self) -> PromptEvent {
        let Self { open, due, signals, .. } = self;
        let key = async {
            match open {
                Some(prompt) => prompt.keys.next_key().await,
                None => pending().await,
            }
        };
        let shown = async {
            match *due {
                Some(due) => sleep_until(due).await,
                None => pending().await,
            }
        };
        let stopped = async {
            match signals {
                Some(signals) => signals.wait_for_any().await,
                None => pending().await,
            }
        };
        tokio::select! {
            key = key => PromptEvent::Key(key),
            () = shown => PromptEvent::Due,
            () = stopped => PromptEvent::Stopped,
        }
    }

    /// Does what an event asks for.
    pub(super) async fn handle_event(
        &mut self,
        cli: &Cli<'_>,
        event: PromptEvent,
        output: &mut CommandOutput<'_>,
    ) -> Outcome {
        match event {
            PromptEvent::Due => self.show(cli, output).await,
            PromptEvent::Key(Some(key)) => self.take_key(cli, &key, output).await,
            PromptEvent::Key(None) => {
                output.print_notice("\nthe terminal is gone, so the call waits for an answer elsewhere")?;
                self.waiting.clear();
                self.close(output);
                Ok(())
            }
            PromptEvent::Stopped => {
                let message = "the command was stopped; its run continues by itself".to_owned();
                Err(Error::Local { exit: CommandExit::Failed, message })
            }
        }
    }

    /// Takes an entry before it is printed: it may close the prompt, and else it is printed above it.
    pub(super) fn take_entry(
        &mut self,
        entry: &JournalEntryResource,
        output: &mut CommandOutput<'_>,
    ) -> Outcome {
        let moved: MovedFields = serde_json::from_str(entry.fields.get()).unwrap_or_default();
        let parks = entry.kind == "run_parked";
        let ids = [moved.approval.filter(|_| !parks), moved.unneeded, moved.replaces];
        self.waiting.retain(|waiting| !ids.contains(&Some(waiting.id)));
        let Some(prompt) = &self.open else { return Ok(()) };
        let (id, is_closed) = (prompt.approval.id, ids.contains(&Some(prompt.approval.id)));
        output.print_painted("")?;
        if !is_closed {
            self.due = Some(Instant::now() + QUIET);
            return Ok(());
        }
        let text = match moved.signal.as_str() {
            "approve" => format!("{id} was approved by {}", escape_hidden(&moved.by)),
            "deny" => format!("{id} was denied by {}", escape_hidden(&moved.by)),
            _ => format!("{id} takes no answer any more"),
        };
        output.print_notice(&text)?;
        self.close(output);
        Ok(())
    }

    /// Closes what is open once the run has ended.
    pub(super) fn end(&mut self, output: &mut CommandOutput<'_>) -> Outcome {
        self.waiting.clear();
        if let Some(prompt) = &self.open {
            let id = prompt.approval.id;
            output.print_notice(&format!("\n{id} takes no answer any more: the run has ended"))?;
            self.close(output);
        }
        Ok(())
    }

    /// Gives the terminal back, and goes on to the next call.
    fn close(&mut self, output: &mut CommandOutput<'_>) {
        if let Some(prompt) = self.open.take() {
            output.note_pending(prompt.before);
        }
        self.due = (!self.waiting.is_empty()).then(|| Instant::now() + QUIET);
    }

    /// Shows the call and asks, or asks once more.
    async fn show(&mut self, cli: &Cli<'_>, output: &mut CommandOutput<'_>) -> Outcome {
        self.due = None;
        if self.open.is_none() {
            let Some(approval) = self.waiting.pop_front() else { return Ok(()) };
            print_call(&approval, output)?;
            let rule = match &self.who {
                Some(who) => find_rule(cli, who, &approval).await,
                None => None,
            };
            if self.signals.is_none() {
                self.signals =
                    Some(EndSignals::listen().map_err(Error::io_error("install the signal handlers"))?);
            }
            let Some(open_keys) = &output.context_mut().terminal.keys else { return Ok(()) };
            let keys = open_keys().map_err(Error::io_error("read keys from the terminal"))?;
            let before = output.noted_status();
            output.note_pending(Some(waiting_status(&approval)));
            self.open = Some(OpenPrompt { approval, keys, rule, before });
        }
        match &self.open {
            Some(prompt) => prompt.print_keys(output),
            None => Ok(()),
        }
    }

    async fn take_key(&mut self, cli: &Cli<'_>, key: &[u8], output: &mut CommandOutput<'_>) -> Outcome {
        let Some(prompt) = &self.open else { return Ok(()) };
        let key = if prompt.keys.is_immediate { key } else { key.trim_ascii() };
        // More than one character is an arrow, or was pasted: no answer.
        let (word, approve, reach, rule) = match (key, &prompt.rule) {
            (b"a", _) => ("allow once", true, ReachKind::Once, None),
            (b"s", _) => ("allow in this session", true, ReachKind::Session, None),
            (b"A", Some(rule)) => ("always allow", true, ReachKind::Always, Some(rule.clone())),
            (b"d", _) => ("deny", false, ReachKind::Once, None),
            (b"?", _) => {
                output.print_painted("?")?;
                print_whole(cli, &prompt.approval, prompt.rule.as_deref(), output).await?;
                return prompt.print_keys(output);
            }
            _ => return Ok(()),
        };
        output.print_painted(word)?;
        let (id, approval) = (prompt.approval.id, prompt.approval.clone());
        let body = AnswerApproval { approve, reach, rule, reason: None, also: Vec::new() };
        let path = format!("{}/answer", approval_path(id));
        let answer = cli.client.post_json::<ApprovalResource>(&path, &body);
        match output.draw_live_while(answer).await {
            Ok(_) => {
                self.close(output);
                print_rule(cli, &approval, &body, output).await
            }
            Err(Error::Problem(problem)) if problem.error_code() == Some(ErrorCode::ApprovalClosed) => {
                // Its detail names who answered, and how.
                output.print_notice(&problem.detail)?;
                self.close(output);
                Ok(())
            }
            // What is wrong may be put right, and a denial is still taken.
            Err(why) => {
                output.print_error(&why);
                match &self.open {
                    Some(prompt) => prompt.print_keys(output),
                    None => Ok(()),
                }
            }
        }
    }
}

impl OpenPrompt {
    /// Prints what each key does.
    fn print_keys(&self, output: &mut CommandOutput<'_>) -> Outcome {
        let enter = if self.keys.is_immediate { "" } else { " and Enter" };
        let (once, always) = match (&self.rule, output.is_plain()) {
            (_, true) => ("a: allow once, s: allow in this session", "A: always allow"),
            (_, false) => ("[a]llow once  [s]ession", "[A]lways"),
        };
        let rest = if output.is_plain() { "d: deny, ?: show all" } else { "[d]eny  [?]" };
        let between = if output.is_plain() { ", " } else { "  " };
        let Some(rule) = self.rule.as_deref().map(escape_hidden) else {
            return output.print_prompt(&format!("{once}{between}{rest}{enter}"));
        };
        let line = format!("{once}{between}{always}: {rule}{between}{rest}{enter}");
        if output.context_mut().err_columns().is_none_or(|columns| line.chars().count() + 2 < columns) {
            return output.print_prompt(&line);
        }
        // The rule is shown whole, whatever the width.
        output.print_painted(&format!("A makes the rule: {rule}"))?;
        output.print_prompt(&format!("{once}{between}{always}{between}{rest}{enter}"))
    }
}

#[cfg(test)]
mod tests;
