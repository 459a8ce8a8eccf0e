//! Reconstructs a request as it was sent: from the journal, the inbox, the pinned prompt and the encoding that the
//! entry of the call names.
//!
//! It is reconstructed exactly or not at all. The digest in the entry is of the bytes that were sent; if the
//! reconstruction has another one, or a part of it is gone, the caller gets the reason and no request. It costs the
//! reads of the call's past, which the limits of the context bound.

use std::sync::Arc;

use dromia_contracts::encoded_request::{BodyDigest, TaintedPast};
use dromia_contracts::entry::{Entry, ModelCalled, RunStarted};
use dromia_contracts::run::{RunKind, RunRecord};
use dromia_contracts::run_origin::RunOrigin;
use dromia_contracts::runs::SentRequest;
use dromia_contracts::session::{InboxItem, InboxOwner};
use dromia_contracts::store::{PageRequest, SessionTail, StoredEntry};
use dromia_contracts::{BoxFuture, Digest, ErrorCode, Fault, ItemId, RunId, Scope};

use crate::agents::{PinnedPrompt, join_texts, read_document, read_fault};
use crate::context::summary::ConversationSummary;
use crate::context::transcript::{ConversationTranscript, TranscriptStart};
use crate::journal_reads::{find_run, inputs_end, read_journal};
use crate::model_request::ModelRequestSpec;
use crate::ports::EnginePorts;
use crate::refusal::session_not_found;
use crate::summary_reads::read_summary;

/// Writes sent requests again.
pub(crate) struct SentRequestReader<'a> {
    ports: &'a EnginePorts,
}

impl<'a> SentRequestReader<'a> {
    /// Begins with the engine's ports.
    pub(crate) fn new(ports: &'a EnginePorts) -> Self {
        Self { ports }
    }

    /// Writes the request of a model call again; without an attempt that of the last one.
    pub(crate) async fn rebuild_request(
        &self,
        scope: &Scope,
        run: RunId,
        step: u32,
        attempt: Option<u32>,
    ) -> Result<SentRequest, Fault> {
        let row = find_run(&*self.ports.store, scope, run).await?;
        let mut own = read_journal(&*self.ports.store, scope, run).await.map_err(read_fault)?;
        let (started, before, called) =
            find_model_call(&own, step, attempt)?.ok_or_else(|| not_found(run, step, attempt))?;
        let sent = called.sent.clone();
        let pin = self.ports.store.pinned_text(scope, started.prompt).await.map_err(read_fault)?;
        let pin = pin.ok_or_else(|| unavailable_fault("this home does not have the prompt of the run"))?;
        let prompt = PinnedPrompt::from_pin(&pin).map_err(unavailable_fault)?;
        let system = self.layered_system(scope, &prompt.system, &started.layers).await?;
        own.truncate(before);
        let mut story = self.read_transcript(scope, &row, (&started, &called), own).await?;
        let request = story.build_model_request(ModelRequestSpec {
            model: &called.model,
            system: &system,
            tools: prompt.tools.offered_tools(&story, &system),
            output_tokens_max: called.output_tokens_max,
            run,
            step,
            concludes: sent.wording.concludes,
        });
        let body = self.ports.model.encode_request(&sent.wording, &request);
        let body = body.map_err(|error| unavailable_fault(error.message))?;
        if body_digest(&body) != sent.digest {
            return Err(unavailable_fault(format!(
                "the bytes would differ from those that were sent: a text of the conversation was erased, or \
                 this version encodes {} differently",
                sent.wording.form
            )));
        }
        let alias = sent.wording.by.clone().unwrap_or(called.model);
        Ok(SentRequest { step, attempt: called.attempt, alias, sent, body })
    }

    /// Adds the texts of a run's documents to its system text.
    async fn layered_system(
        &self,
        scope: &Scope,
        system: &Arc<str>,
        layers: &[Digest],
    ) -> Result<Arc<str>, Fault> {
        if layers.is_empty() {
            return Ok(Arc::clone(system));
        }
        let mut texts = vec![Arc::clone(system)];
        for digest in layers {
            let text = read_document(&*self.ports.store, scope, *digest).await.map_err(read_fault)?;
            let missing = || unavailable_fault(format!("this home does not have the document {digest}"));
            texts.push(text.ok_or_else(missing)?);
        }
        Ok(join_texts(texts.iter().map(|text| &**text)))
    }

    /// Reads what the runs of a session begin with that was opened so: of a branch, the transcript of its parent up to the model
    /// call whose answer has its call; of any other one, the summary.
    ///
    /// It is named by run and call and never copied. Journals and inboxes only grow at their end, so it is the same whenever it
    /// is read, however much was added since.
    pub(crate) fn read_start<'b>(
        &'b self,
        scope: &'b Scope,
        origin: Option<&'b RunOrigin>,
        summary: Option<Arc<ConversationSummary>>,
        tainted_past: TaintedPast,
    ) -> BoxFuture<'b, Result<TranscriptStart, Fault>> {
        // Boxed, because it reads the transcript of a run, which has a start, too.
        Box::pin(async move {
            let Some(origin) = origin.filter(|origin| origin.kind == RunKind::Branch) else {
                return Ok(TranscriptStart::Session(summary));
            };
            let parent = self.transcript_before_call(scope, origin).await?;
            Ok(TranscriptStart::Branch(Box::new(parent.into_branch(origin.position, tainted_past))))
        })
    }

    /// Reads the transcript of the model call whose answer has a call.
    async fn transcript_before_call(
        &self,
        scope: &Scope,
        origin: &RunOrigin,
    ) -> Result<ConversationTranscript, Fault> {
        let (run, step) = (origin.run, origin.call.step);
        let row = find_run(&*self.ports.store, scope, run).await?;
        let mut own = read_journal(&*self.ports.store, scope, run).await.map_err(read_fault)?;
        let found = find_model_call(&own, step, None)?;
        let (started, before, called) = found.ok_or_else(|| not_found(run, step, None))?;
        own.truncate(before);
        self.read_transcript(scope, &row, (&started, &called), own).await
    }

    /// Reads the transcript of a model call of a run, of whose journal the entries before the call are given.
    async fn read_transcript(
        &self,
        scope: &Scope,
        row: &RunRecord,
        (started, called): (&RunStarted, &ModelCalled),
        own: Vec<StoredEntry>,
    ) -> Result<ConversationTranscript, Fault> {
        let tainted_past = called.sent.wording.tainted_past;
        let past = self.read_session_past(scope, row, started, called.history_from, own).await?;
        let summary = match started.summary {
            Some(summary) => {
                let found = read_summary(&*self.ports.store, scope, summary).await;
                let found = found.map_err(read_fault)?;
                Some(found.ok_or_else(|| unavailable_fault(format!("the summary of {summary} was erased")))?)
            }
            None => None,
        };
        let start = self.read_start(scope, started.origin.as_deref(), summary, tainted_past).await?;
        let story = ConversationTranscript::from_tail(&past, Some(row.id), tainted_past, start);
        let mut story = story.map_err(|error| unavailable_fault(error.to_string()))?;
        story.omitted.is_cut |= called.sent.wording.leaves_words_out();
        story.briefing.clone_from(&started.briefing);
        Ok(story)
    }

    /// Reads the inbox from a position to the run's own items, with the journals of the runs that took them; its own
    /// is given.
    async fn read_session_past(
        &self,
        scope: &Scope,
        row: &RunRecord,
        started: &RunStarted,
        from: u64,
        own: Vec<StoredEntry>,
    ) -> Result<SessionTail, Fault> {
        let store = &self.ports.store;
        let session = store.session(scope, row.session).await.map_err(read_fault)?;
        let session = session.ok_or_else(|| session_not_found(row.session))?;
        let last = inputs_end(started, &own);
        let mut items: Vec<InboxItem> = Vec::new();
        let mut after = from.saturating_sub(1);
        while after < last {
            let limit =
                usize::try_from(last - after).unwrap_or(usize::MAX).min(PageRequest::<ItemId>::LIMIT_MAX);
            let owner = InboxOwner::Session(row.session);
            let page = store.inbox_items(scope, owner, after, limit).await.map_err(read_fault)?;
            let Some(end) = page.last().map(|item| item.position) else { break };
            after = end;
            items.extend(page);
        }
        let mut own = Some(own);
        let mut runs: Vec<(RunId, Arc<[StoredEntry]>)> = Vec::new();
        for taker in items.iter().filter_map(|item| item.taken_by) {
            if runs.last().is_some_and(|(last, _)| *last == taker) {
                continue;
            }
            let entries = match own.take_if(|_| taker == row.id) {
                Some(own) => own,
                None => read_journal(&*self.ports.store, scope, taker).await.map_err(read_fault)?,
            };
            runs.push((taker, entries.into()));
        }
        Ok(SessionTail { session, items, runs })
    }
}

/// The digest of a body that is sent.
pub(crate) fn body_digest(body: &[u8]) -> BodyDigest {
    BodyDigest::truncate_digest(blake3::hash(body).as_bytes())
}

/// Finds how the run began, how many entries came before the call, and the call.
fn find_model_call(
    journal: &[StoredEntry],
    step: u32,
    attempt: Option<u32>,
) -> Result<Option<(RunStarted, usize, ModelCalled)>, Fault> {
    let mut started = None;
    let mut found = None;
    for (before, stored) in journal.iter().enumerate() {
        let entry = stored.decode();
        match entry.map_err(|error| Fault::new(ErrorCode::JournalUnreadable, error.to_string()))? {
            Entry::RunStarted(first) => started = Some(first),
            Entry::ModelCalled(called)
                if called.step == step && attempt.is_none_or(|attempt| attempt == called.attempt) =>
            {
                found = Some((before, called));
            }
            _ => {}
        }
    }
    Ok(started.zip(found).map(|(started, (before, called))| (started, before, called)))
}

fn not_found(run: RunId, step: u32, attempt: Option<u32>) -> Fault {
    let attempt = attempt.map(|attempt| format!(", attempt {attempt}")).unwrap_or_default();
    Fault::new(ErrorCode::RequestNotFound, format!("{run} made no model call of step {step}{attempt}"))
        .with_hint(format!("see its model calls with `dromia run show {run}`"))
}

fn unavailable_fault(why: impl std::fmt::Display) -> Fault {
    let text = format!("the server cannot reproduce the request byte for byte: {why}");
    Fault::new(ErrorCode::RequestUnavailable, text)
}
