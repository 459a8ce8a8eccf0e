//! What one run says, in order: live text as it comes, the rest of every answer once its entry is durable, and at last
//! how the run ended.
//!
//! The journal is the truth and the watch only a hint, as in `follow`: the watch is opened before the first read, and
//! the journal is read again whenever the watch ends, lags or is silent. The listener sends the end only from the
//! durable terminal entry. What was said cannot be taken back on these wires: when a model step begins again after some
//! of its text went out, the listener gives up and says which run goes on. What the journal says is withheld is not
//! said.

mod entry_events;

use std::collections::VecDeque;
use std::time::Duration;

use dromia_contracts::content::ToolCall;
use dromia_contracts::run::RunStatus;
use dromia_contracts::runs::{LiveEvent, Watch};
use dromia_contracts::{ErrorCode, RunId, Scope};
use futures_util::StreamExt;
use jiff::Timestamp;
use tokio::time::{Instant, Interval, interval_at, sleep, sleep_until};
use tokio_util::sync::CancellationToken;

use super::run_answer::RunAnswer;
use crate::core::Shared;
use crate::failure::{Answer, ApiError};
use crate::stream_authentication::StreamAuthentication;

/// How long the listener says nothing before it says that it lives.
const QUIET: Duration = Duration::from_secs(15);

/// The pause before the listener looks again at a run that no worker holds.
const REST: Duration = Duration::from_secs(1);

/// How many entries are read at a time. An entry's body may be as long as a batch, so pages are short.
const PAGE_ENTRIES: usize = 16;

/// One thing that a listener tells.
#[derive(Debug)]
pub(super) enum ListenerEvent {
    /// The run began.
    Began(Timestamp),
    /// It said this, after everything before.
    Text(String),
    /// It waits for this, in one line.
    Waiting(String),
    /// Nothing happened for a while; what it waits for, if it does.
    Quiet(Option<String>),
    /// It answered; its last entry is durable.
    RunAnswer(Box<RunAnswer>),
    /// There will be no answer here.
    Broken(ApiError),
}

/// How an answer is awaited.
#[derive(Debug)]
pub(super) struct ListenOptions {
    /// Whether text is wanted as it comes, and not only once its entry is durable.
    pub(super) live: bool,
    /// Whether only the last answer is wanted, without what was said before calls of tools.
    pub(super) last_only: bool,
    /// When to give up, if ever.
    pub(super) until: Option<Instant>,
    /// The phase of a drain that ends the wait.
    pub(super) stop: CancellationToken,
    /// The caller who reads the answer as it comes; the stream ends soon after their token.
    pub(super) authentication: Option<StreamAuthentication>,
}

/// Listens to one run.
pub(super) struct RunListener {
    core: Shared,
    scope: Scope,
    run: RunId,
    patience: ListenOptions,
    cursor: u64,
    answered: RunAnswer,
    /// The last step whose answer is durable.
    closed_step: u32,
    /// The calls of that answer.
    asked: Vec<ToolCall>,
    open: OpenStep,
    /// What of the last closed step is said once the next entry lets it out.
    rest: Option<String>,
    /// The last entry says that the run is held, and why.
    held: Option<String>,
    /// The last entry says that the run is parked, and for what.
    waits_for: Option<String>,
    /// Why the last attempt at a model step failed.
    failed: Option<String>,
    ready: VecDeque<ListenerEvent>,
    quiet: Interval,
    next: ListenerState,
}

/// The step after the last closed one, as far as it was said.
#[derive(Debug, Default)]
struct OpenStep {
    attempt: u32,
    said: String,
    /// An attempt failed after some of its text was said.
    torn: bool,
}

enum ListenerState {
    Watch,
    Read(Option<Watch>),
    Listen(Watch),
    Rest,
    Over,
}

impl RunListener {
    pub(super) fn new(core: Shared, scope: Scope, run: RunId, patience: ListenOptions) -> Self {
        Self {
            core,
            scope,
            run,
            patience,
            cursor: 0,
            answered: RunAnswer::default(),
            closed_step: 0,
            asked: Vec::new(),
            open: OpenStep::default(),
            rest: None,
            held: None,
            waits_for: None,
            failed: None,
            ready: VecDeque::new(),
            quiet: interval_at(Instant::now() + QUIET, QUIET),
            next: ListenerState::Watch,
        }
    }

    /// Returns the next word; nothing after an answer or a break.
    pub(super) async fn next_event(&mut self) -> Option<ListenerEvent> {
        loop {
            if let Some(word) = self.ready.pop_front() {
                self.quiet.reset();
                if matches!(word, ListenerEvent::RunAnswer(_) | ListenerEvent::Broken(_)) {
                    self.ready.clear();
                    self.next = ListenerState::Over;
                }
                return Some(word);
            }
            if let Err(failure) = self.check_caller().await {
                self.next = self.give_up(failure);
                continue;
            }
            self.next = match std::mem::replace(&mut self.next, ListenerState::Over) {
                ListenerState::Over => return None,
                ListenerState::Watch => {
                    match self.core.ports.runs.watch_run(self.scope.clone(), self.run).await {
                        Ok(watch) => ListenerState::Read(Some(watch)),
                        Err(fault) => self.give_up(ApiError::from(fault)),
                    }
                }
                ListenerState::Read(watch) => match self.read_page().await {
                    Ok(true) => ListenerState::Read(watch),
                    Ok(false) => watch.map_or(ListenerState::Rest, ListenerState::Listen),
                    Err(failure) => self.give_up(failure),
                },
                ListenerState::Listen(watch) => self.wait_for_hint(watch).await,
                ListenerState::Rest => self.wait_before_watch().await,
            };
        }
    }

    /// Refuses to go on for a caller whose token has ended.
    async fn check_caller(&mut self) -> Answer<()> {
        match &mut self.patience.authentication {
            Some(authentication) if !matches!(self.next, ListenerState::Over) => {
                authentication.check_caller(&self.core).await
            }
            _ => Ok(()),
        }
    }

    fn give_up(&mut self, failure: ApiError) -> ListenerState {
        self.ready.push_back(ListenerEvent::Broken(failure));
        ListenerState::Over
    }

    /// Reads a page; tells whether there may be more.
    async fn read_page(&mut self) -> Answer<bool> {
        let store = self.core.ports.store.clone();
        let entries = store.journal_entries(&self.scope, self.run, self.cursor, PAGE_ENTRIES).await?;
        if entries.is_empty() {
            return match self.held.take() {
                Some(detail) => {
                    Err(self.unfinished_error(RunStatus::Held, &format!("the run is held: {detail}")))
                }
                None => Ok(false),
            };
        }
        for stored in entries {
            self.cursor = stored.seq;
            self.take_entry(&stored)?;
        }
        Ok(true)
    }

    async fn wait_for_hint(&mut self, mut watch: Watch) -> ListenerState {
        tokio::select! {
            biased;
            () = self.patience.stop.cancelled() => self.give_up_stopped(),
            live = watch.next() => match live {
                Some(LiveEvent::Committed { seq, .. }) if seq > self.cursor => ListenerState::Read(Some(watch)),
                Some(LiveEvent::Committed { .. } | LiveEvent::Output { .. }) => ListenerState::Listen(watch),
                Some(LiveEvent::Lagged) => ListenerState::Read(Some(watch)),
                Some(LiveEvent::Delta { step, attempt, offset, text }) => {
                    match self.take_delta(step, attempt, offset, &text) {
                        Ok(()) => ListenerState::Listen(watch),
                        Err(failure) => self.give_up(failure),
                    }
                }
                None => ListenerState::Read(None),
            },
            () = wait_until(self.patience.until) => self.too_late(),
            _ = self.quiet.tick() => {
                self.ready.push_back(ListenerEvent::Quiet(self.waits_for.clone()));
                // A new watch asks for the run itself too, which may have been erased.
                ListenerState::Watch
            }
        }
    }

    async fn wait_before_watch(&mut self) -> ListenerState {
        tokio::select! {
            biased;
            () = self.patience.stop.cancelled() => self.give_up_stopped(),
            () = sleep(REST) => ListenerState::Watch,
            () = wait_until(self.patience.until) => self.too_late(),
            _ = self.quiet.tick() => {
                self.ready.push_back(ListenerEvent::Quiet(self.waits_for.clone()));
                ListenerState::Rest
            }
        }
    }

    fn give_up_stopped(&mut self) -> ListenerState {
        let failure = self.unfinished_error(
            RunStatus::Running,
            "the server is stopping; the run continues after the restart",
        );
        self.give_up(failure)
    }

    fn too_late(&mut self) -> ListenerState {
        let failure = match &self.waits_for {
            None => self.unfinished_error(RunStatus::Running, "the wait ended first; the run continues"),
            Some(what) => {
                let text = format!("the wait ended first; the run is parked and waits for {what}");
                self.unfinished_error(RunStatus::Parked, &text)
            }
        };
        self.give_up(failure)
    }

    fn torn_error(&self) -> ApiError {
        let text = "the model started its answer again after part of it was sent; the run continues";
        self.unfinished_error(RunStatus::Running, text)
    }

    fn unfinished_error(&self, status: RunStatus, text: &str) -> ApiError {
        let failure = ApiError::new(ErrorCode::RunUnfinished, format!("{} did not end: {text}", self.run));
        let hint = format!(
            "see `dromia run why {}`; a repeat with the same Idempotency-Key joins the run",
            self.run
        );
        failure.of_run(self.run, status).with_hint(hint)
    }

    fn unanswered_error(&self, status: RunStatus, text: String) -> ApiError {
        ApiError::new(ErrorCode::RunUnanswered, text).of_run(self.run, status)
    }
}

async fn wait_until(until: Option<Instant>) {
    match until {
        Some(until) => sleep_until(until).await,
        None => std::future::pending().await,
    }
}
