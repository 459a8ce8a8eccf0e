//! What one run says, in order: live text as it comes, the rest of every answer once its entry is durable, and at last
//! how the run ended.
//!
//! The journal is the truth and the watch only a hint, as in `follow`: the watch is opened before the first read, and
//! the journal is read again whenever the watch ends, lags or is silent. The end is told only from the durable terminal
//! entry. What was said cannot be taken back on these wires: when a model step begins again after some of its text went
//! out, the listener gives up and says which run goes on. What the journal says is withheld is not said.

mod hear;

use std::collections::VecDeque;
use std::time::Duration;

use dromia_contracts::content::ToolCall;
use dromia_contracts::model::{Finish, Usage, UsageDetail};
use dromia_contracts::run::RunStatus;
use dromia_contracts::runs::{Live, Watch};
use dromia_contracts::{ErrorCode, RunId, Scope};
use futures_util::StreamExt;
use jiff::Timestamp;
use tokio::time::{Instant, Interval, interval_at, sleep, sleep_until};
use tokio_util::sync::CancellationToken;

use crate::core::Shared;
use crate::failure::{Answer, Failure};
use crate::standing::Standing;

/// How long the listener says nothing before it says that it lives.
const QUIET: Duration = Duration::from_secs(15);

/// How long to rest before a run that nobody works on is looked at again.
const REST: Duration = Duration::from_secs(1);

/// How many entries are read at a time. An entry's body may be as long as a batch, so pages are short.
const PAGE_ENTRIES: usize = 16;

/// One thing that a listener tells.
#[derive(Debug)]
pub(super) enum Word {
    /// The run began.
    Began(Timestamp),
    /// It said this, after everything before.
    Text(String),
    /// Nothing happened for a while.
    Quiet,
    /// It answered; its last entry is durable.
    Answered(Box<Answered>),
    /// There will be no answer here.
    Broken(Failure),
}

/// Everything that a run said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Answered {
    pub(super) started_at: Timestamp,
    /// The texts of its model steps, one after another.
    pub(super) text: String,
    /// The calls for the client with which it ended.
    pub(super) calls: Vec<ClientCall>,
    /// Why its last step stopped.
    pub(super) finish: Finish,
    /// At which stop text, where the model said so.
    pub(super) stopped_at: Option<String>,
    pub(super) usage: Usage,
    pub(super) detail: UsageDetail,
}

/// A call that a run handed to its client.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct ClientCall {
    /// Its name, which the result must carry.
    pub(super) id: String,
    /// The tool, as the client wrote it.
    pub(super) tool: String,
    /// The arguments: a JSON object.
    pub(super) arguments: String,
}

/// How an answer is awaited.
#[derive(Debug)]
pub(super) struct Patience {
    /// Whether text is wanted as it comes, and not only once its entry is durable.
    pub(super) live: bool,
    /// When to give up, if ever.
    pub(super) until: Option<Instant>,
    /// The phase of a drain that ends the wait.
    pub(super) stop: CancellationToken,
    /// Whoever hears the answer as it comes; the stream ends soon after their token.
    pub(super) standing: Option<Standing>,
}

/// Listens to one run.
pub(super) struct Listener {
    core: Shared,
    scope: Scope,
    run: RunId,
    patience: Patience,
    cursor: u64,
    answered: Answered,
    /// The last step whose answer is durable.
    closed_step: u32,
    /// The calls of that answer.
    asked: Vec<ToolCall>,
    open: OpenStep,
    /// What of the last closed step is said once the next entry lets it out.
    rest: Option<String>,
    /// The last entry says that the run is held, and why.
    held: Option<String>,
    ready: VecDeque<Word>,
    quiet: Interval,
    next: Next,
}

/// The step after the last closed one, as far as it was said.
#[derive(Debug, Default)]
struct OpenStep {
    attempt: u32,
    said: String,
    /// An attempt failed after some of its text was said.
    torn: bool,
}

enum Next {
    Watch,
    Read(Option<Watch>),
    Listen(Watch),
    Rest,
    Over,
}

impl Listener {
    pub(super) fn new(core: Shared, scope: Scope, run: RunId, patience: Patience) -> Self {
        Self {
            core,
            scope,
            run,
            patience,
            cursor: 0,
            answered: Answered {
                started_at: Timestamp::UNIX_EPOCH,
                text: String::new(),
                calls: Vec::new(),
                finish: Finish::Stop,
                stopped_at: None,
                usage: Usage::default(),
                detail: UsageDetail::default(),
            },
            closed_step: 0,
            asked: Vec::new(),
            open: OpenStep::default(),
            rest: None,
            held: None,
            ready: VecDeque::new(),
            quiet: interval_at(Instant::now() + QUIET, QUIET),
            next: Next::Watch,
        }
    }

    /// Returns the next word; nothing after an answer or a break.
    pub(super) async fn word(&mut self) -> Option<Word> {
        loop {
            if let Some(word) = self.ready.pop_front() {
                self.quiet.reset();
                if matches!(word, Word::Answered(_) | Word::Broken(_)) {
                    self.ready.clear();
                    self.next = Next::Over;
                }
                return Some(word);
            }
            if let Err(failure) = self.stand().await {
                self.next = self.give_up(failure);
                continue;
            }
            self.next = match std::mem::replace(&mut self.next, Next::Over) {
                Next::Over => return None,
                Next::Watch => match self.core.ports.runs.watch(self.scope.clone(), self.run).await {
                    Ok(watch) => Next::Read(Some(watch)),
                    Err(fault) => self.give_up(Failure::from(fault)),
                },
                Next::Read(watch) => match self.read().await {
                    Ok(true) => Next::Read(watch),
                    Ok(false) => watch.map_or(Next::Rest, Next::Listen),
                    Err(failure) => self.give_up(failure),
                },
                Next::Listen(watch) => self.listen(watch).await,
                Next::Rest => self.rest().await,
            };
        }
    }

    /// Refuses to go on for somebody who is not let in any more.
    async fn stand(&mut self) -> Answer<()> {
        match &mut self.patience.standing {
            Some(standing) if !matches!(self.next, Next::Over) => standing.check(&self.core).await,
            _ => Ok(()),
        }
    }

    fn give_up(&mut self, failure: Failure) -> Next {
        self.ready.push_back(Word::Broken(failure));
        Next::Over
    }

    /// Reads a page; tells whether there may be more.
    async fn read(&mut self) -> Answer<bool> {
        let store = self.core.ports.store.clone();
        let entries = store.journal(&self.scope, self.run, self.cursor, PAGE_ENTRIES).await?;
        if entries.is_empty() {
            return match self.held.take() {
                Some(detail) => Err(self.unfinished(RunStatus::Held, &format!("it is held: {detail}"))),
                None => Ok(false),
            };
        }
        for stored in entries {
            self.cursor = stored.seq;
            self.hear(&stored)?;
        }
        Ok(true)
    }

    async fn listen(&mut self, mut watch: Watch) -> Next {
        tokio::select! {
            biased;
            () = self.patience.stop.cancelled() => self.stopped(),
            live = watch.next() => match live {
                Some(Live::Committed { seq, .. }) if seq > self.cursor => Next::Read(Some(watch)),
                Some(Live::Committed { .. } | Live::Output { .. }) => Next::Listen(watch),
                Some(Live::Lagged) => Next::Read(Some(watch)),
                Some(Live::Delta { step, attempt, offset, text }) => {
                    match self.delta(step, attempt, offset, &text) {
                        Ok(()) => Next::Listen(watch),
                        Err(failure) => self.give_up(failure),
                    }
                }
                None => Next::Read(None),
            },
            () = at(self.patience.until) => self.too_late(),
            _ = self.quiet.tick() => {
                self.ready.push_back(Word::Quiet);
                // A new watch asks for the run itself too, which may have been erased.
                Next::Watch
            }
        }
    }

    async fn rest(&mut self) -> Next {
        tokio::select! {
            biased;
            () = self.patience.stop.cancelled() => self.stopped(),
            () = sleep(REST) => Next::Watch,
            () = at(self.patience.until) => self.too_late(),
            _ = self.quiet.tick() => {
                self.ready.push_back(Word::Quiet);
                Next::Rest
            }
        }
    }

    fn stopped(&mut self) -> Next {
        let failure =
            self.unfinished(RunStatus::Running, "the server is shutting down; it goes on afterwards");
        self.give_up(failure)
    }

    fn too_late(&mut self) -> Next {
        let failure = self.unfinished(RunStatus::Running, "the wait ended first; it goes on");
        self.give_up(failure)
    }

    fn torn(&self) -> Failure {
        let text = "its model began its answer again after some of it was sent; it goes on";
        self.unfinished(RunStatus::Running, text)
    }

    fn unfinished(&self, status: RunStatus, text: &str) -> Failure {
        let failure = Failure::new(ErrorCode::RunUnfinished, format!("{} did not end: {text}", self.run));
        let hint = format!(
            "look with `dromia run why {}`; the same Idempotency-Key joins it, if the request had one",
            self.run
        );
        failure.of_run(self.run, status).with_hint(hint)
    }

    fn unanswered(&self, status: RunStatus, text: String) -> Failure {
        Failure::new(ErrorCode::RunUnanswered, text).of_run(self.run, status)
    }
}

async fn at(until: Option<Instant>) {
    match until {
        Some(until) => sleep_until(until).await,
        None => std::future::pending().await,
    }
}
