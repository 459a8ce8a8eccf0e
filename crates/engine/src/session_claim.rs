//! How a session is claimed: a turn is put together and its first entries are decided before anything is durable.
//!
//! Two ways lead here: admission, which claims in the commit that stores the input, and a session whose input
//! waited until a slot was free. Which one of two claimers gets the session, the store decides.

use std::sync::Arc;

use bytes::Bytes;
use dromia_contracts::agent::{AgentState, HandleSlug};
use dromia_contracts::approval::ApprovedBody;
use dromia_contracts::budget::BudgetExhaustion;
use dromia_contracts::compaction;
use dromia_contracts::conclusion::WAKES_MAX;
use dromia_contracts::content::ContentPart;
use dromia_contracts::delivery::target_of;
use dromia_contracts::entry::RunStarted;
use dromia_contracts::identity_document::PromptKind;
use dromia_contracts::label::IntegrityLevel;
use dromia_contracts::model_route::RouteFacts;
use dromia_contracts::run::RunKind;
use dromia_contracts::session::{InboxItem, InboxOwner, ItemKind, ResumeBody, SessionKey, SessionRecord};
use dromia_contracts::store::{
    CommitOutcome, CommitRefusal, InboxPut, Mutation, PageRequest, ReadError, RunFilter, SessionTail,
    TurnClaim, WriteBatch,
};
use dromia_contracts::task::{RunOrigin, TaskState};
use dromia_contracts::transcript::TranscriptTurn;
use dromia_contracts::{ErrorCode, Fault, Scope, SessionId, TenantId};
use jiff::{SignedDuration, Timestamp};

use crate::agents::{AgentDirectory, AgentSnapshot, read_fault};
use crate::client_tools::ClientToolAdmission;
use crate::context::summary::ConversationSummary;
use crate::context::transcript::ConversationTranscript;
use crate::core::EngineCore;
use crate::decide::NextAction;
use crate::encoded_request::SentRequestReader;
use crate::input_joining::{NextTurn, next_turn};
use crate::journal_reads::read_run_start;
use crate::mind_roles::MindRole;
use crate::notifications::ActiveRun;
use crate::owner::RunOwner;
use crate::owner::identity::RunIdentity;
use crate::panics::supervise_task;
use crate::refusal::{commit_fault, session_not_found};
use crate::run_kinds::RunPurpose;
use crate::scheduler::{ReadyWork, TaskSlot};
use crate::session_briefing::SessionBriefing;
use crate::state::RunState;
use crate::steps::StepPermit;
use crate::window_use::past_limits;

/// A session as admission finds it.
pub(crate) enum SessionLookup {
    /// It is there.
    Session(SessionId),
    /// It must be opened.
    New(SessionKey),
    /// It must be opened, and its key is never looked up again.
    Fresh(SessionKey),
}

/// A turn whose first entries are decided and not yet durable.
pub(crate) struct TurnStart {
    pub(crate) owner: RunOwner,
    next: NextAction,
    after: u64,
}

impl TurnStart {
    /// Ends the turn because a budget is exhausted before its first call.
    pub(crate) fn exhaust_budget(&mut self, exhausted: BudgetExhaustion) {
        self.next = self.owner.exhaust_budget(exhausted);
    }

    /// Adds the claim to the batch that stores the input.
    pub(crate) fn add_claim(&mut self, batch: &mut WriteBatch, session: SessionId) {
        let owner = &self.owner;
        let pin = &owner.identity.agent.prompt;
        if owner.core.caches.pins.get(&(batch.tenant, owner.identity.agent.id, pin.digest)).is_none() {
            batch.mutations.insert(0, Mutation::PinPut(pin.clone()));
        }
        // A run that ends before its first model call, and its answer with it.
        batch.mutations.extend(owner.answer_delivery(&[]).map(Mutation::DeliveryPrepare));
        batch.payer = Some(owner.pending_payer());
        batch.claim = Some(TurnClaim {
            session,
            agent: owner.identity.agent.id,
            run: owner.identity.run,
            holder: owner.core.lease.holder(),
            after: self.after,
            take: owner.identity.items.clone(),
            entries: owner.journal.pending.clone(),
            head: owner.state.run_head(),
            notice: owner.end_notice().map(Box::new),
        });
    }
}

/// Where a turn runs.
struct TurnPlace {
    session: SessionId,
    key: SessionKey,
    /// Which call of another run the session was opened for.
    origin: Option<Box<RunOrigin>>,
}

impl TurnPlace {
    fn new(session: SessionId, key: &SessionKey, origin: Option<Box<RunOrigin>>) -> Self {
        Self { session, key: key.clone(), origin }
    }
}

/// A session's place, with its agent as runs of the session see it.
struct TurnSource {
    place: TurnPlace,
    agent: Arc<AgentSnapshot>,
}

impl TurnSource {
    fn of_session(scope: &Scope, agent: &Arc<AgentSnapshot>, session: &SessionRecord) -> Self {
        let place = TurnPlace::new(session.id, &session.key, session.origin.clone());
        Self { place, agent: agent.within_session(scope.tenant(), &session.key) }
    }
}

/// Claims sessions for turns.
pub(crate) struct SessionClaimer<'a> {
    core: &'a Arc<EngineCore>,
}

impl<'a> SessionClaimer<'a> {
    /// Begins with the engine's shared parts.
    pub(crate) fn new(core: &'a Arc<EngineCore>) -> Self {
        Self { core }
    }

    /// Puts a turn together, if the session seems free and a slot is to be had, which goes on with the step.
    pub(crate) async fn try_begin_turn(
        &self,
        scope: &Scope,
        agent: &Arc<AgentSnapshot>,
        found: &SessionLookup,
        session: SessionId,
        put: &InboxPut,
        step: &mut Option<StepPermit>,
    ) -> Result<Option<TurnStart>, Fault> {
        if agent.state != AgentState::Running {
            return Ok(None);
        }
        let Some(slot) = self.core.scheduler.try_slot(scope.tenant()) else { return Ok(None) };
        slot.continue_step(step.take());
        let item = InboxItem {
            id: put.item,
            position: 0,
            at: put.at,
            kind: put.kind,
            author: put.author.clone(),
            body: Some(put.body.clone()),
            taken_by: None,
        };
        match found {
            SessionLookup::New(key) | SessionLookup::Fresh(key) => {
                let place = TurnPlace::new(session, key, None);
                let agent = agent.within_session(scope.tenant(), key);
                let story = ConversationTranscript::new(1);
                // Boxed, here and below, because what begins a turn is larger than what admits an input.
                let begun = self.prepare_turn_start(scope, &agent, place, story, (0, 0), vec![item], slot);
                Ok(Box::pin(begun).await)
            }
            SessionLookup::Session(_) => {
                let past = self.read_past(scope, agent, session).await.map_err(read_fault)?;
                let (mut tail, summary) = past.ok_or_else(|| session_not_found(session))?;
                let head = tail.session.head;
                if head.active.is_some() || head.last > head.taken {
                    return Ok(None);
                }
                ClientToolAdmission::new(self.core)
                    .add_answered(scope, &mut tail, head.taken, &item)
                    .await
                    .map_err(read_fault)?;
                let story = self.build_transcript(scope, &tail, summary).await?;
                let TurnSource { place, agent } = TurnSource::of_session(scope, agent, &tail.session);
                let after = (head.taken, 0);
                let begun = self.prepare_turn_start(scope, &agent, place, story, after, vec![item], slot);
                Ok(Box::pin(begun).await)
            }
        }
    }

    /// Decides the first entries of a turn that takes these items: one, or plain messages of one author.
    #[expect(
        clippy::too_many_arguments,
        reason = "each is one fact of the new run; a struct would only name them twice"
    )]
    async fn prepare_turn_start(
        &self,
        scope: &Scope,
        agent: &Arc<AgentSnapshot>,
        TurnPlace { session, key, origin }: TurnPlace,
        mut story: ConversationTranscript,
        (after, woken): (u64, u32),
        items: Vec<InboxItem>,
        slot: TaskSlot,
    ) -> Option<TurnStart> {
        for item in &items {
            if let Err(error) = story.add_item(item) {
                tracing::error!(%session, %error, "the model cannot get an input");
                return None;
            }
        }
        let taken = items.iter().map(|item| item.id).collect();
        let input_bytes: usize = items.iter().filter_map(|item| item.body.as_ref()).map(Bytes::len).sum();
        // The turn is that of the input which the conclusions before it enter with.
        let leads = items.iter().position(|item| item.kind != ItemKind::Conclusion);
        let woken = if leads.is_none() { woken + 1 } else { 0 };
        let item = items.into_iter().nth(leads.unwrap_or(0))?;
        let run = self.core.ports.runtime.run_id();
        let resumes = (item.kind == ItemKind::Resume)
            .then(|| serde_json::from_slice::<ResumeBody>(item.body.as_deref().unwrap_or_default()).ok())
            .flatten()
            .map(|body| body.run);
        // The transcript has just read its body.
        let approved = (item.kind == ItemKind::Approved)
            .then(|| ApprovedBody::decode(item.body.as_deref().unwrap_or_default()).ok())
            .flatten()
            .map(|body| body.approved);
        // A run that continues another one, and an approved call, work where that one did.
        let earlier = resumes.or(approved.as_ref().map(|approved| approved.run));
        let parent = match self.read_parent_of_branch(scope, origin.as_deref()).await {
            Ok(parent) => parent,
            Err(error) => {
                tracing::warn!(%session, %error, "the claim must wait");
                self.core.request_rescan();
                return None;
            }
        };
        let (workspace, origin) = match earlier {
            None => match &parent {
                Some(parent) => (parent.workspace.clone(), origin),
                None => (story.workspace.take(), origin),
            },
            Some(earlier) => match read_run_start(&*self.core.ports.store, scope, earlier).await {
                Ok(began) => began.map_or((None, None), |began| (began.workspace, began.origin)),
                Err(error) => {
                    tracing::warn!(%session, %error, "the claim must wait");
                    self.core.request_rescan();
                    return None;
                }
            },
        };
        let (mind, kind) = (
            agent.config.mind.unwrap_or_default(),
            RunPurpose::kind_of(&key.platform, approved.as_ref(), origin.as_deref(), after),
        );
        let role = MindRole::find_role(mind, kind, origin.as_deref());
        let worker_role = origin.as_ref().and_then(|origin| origin.role.as_ref()).map(HandleSlug::as_str);
        let routed = (kind, worker_role, &*key.platform);
        let model = match &parent {
            Some(parent) if kind == RunKind::Branch => parent.model.clone(),
            _ => route_run(self.core, &agent.config.model, routed, (&story, input_bytes)),
        };
        // A branch repeats the requests of its parent, and a compaction has a system text of its own.
        let layers = match (kind, &parent) {
            (RunKind::Compaction, _) => Vec::new(),
            (RunKind::Branch, Some(parent)) => parent.layers.clone(),
            _ => AgentDirectory::session_layers(agent, &key),
        };
        let layered = self.core.caches.agents.within_layers(scope, agent.within_kind(kind), layers).await;
        let layered = match layered {
            Ok(layered) => layered,
            Err(error) => {
                tracing::error!(%session, %error, "a document of the agent cannot be read, so its input waits");
                self.core.request_rescan();
                return None;
            }
        };
        let identity = RunIdentity {
            scope: scope.clone(),
            author: item.author,
            agent: layered
                .within_model(model.as_deref())
                .within_workspace(workspace.as_ref())
                .within_origin(&*self.core.ports.gate, origin.as_deref()),
            session,
            target: target_of(&key),
            key,
            run,
            epoch: 1,
            items: taken,
        };
        let agent = Arc::clone(&identity.agent);
        if kind == RunKind::Turn {
            story.briefing =
                SessionBriefing::read_for_turn(self.core, scope, (agent.id, session), mind).await;
        }
        let briefing = story.briefing.clone();
        // A branch begins with its parent's transcript, which has the summary.
        let summary = story.omitted.summary.filter(|_| kind != RunKind::Branch);
        let active = ActiveRun::new(agent.id);
        let mut owner = RunOwner::new(self.core, identity, (RunState::default(), story), active, slot);
        let configured = agent.config.model_calls_max.unwrap_or(self.core.config().model_calls_max);
        let model_calls_max = match kind {
            RunKind::Compaction => compaction::MODEL_CALLS_MAX,
            _ => MindRole::model_calls_max(role, configured),
        };
        let now = self.core.ports.runtime.clock.now();
        let most = self.core.config().worker_deadline;
        let deadline =
            (kind == RunKind::Worker).then(|| worker_deadline(now, most, origin.as_deref())).flatten();
        let started = RunStarted {
            kind,
            agent: agent.id,
            session,
            items: owner.identity.items.clone(),
            after,
            resumes,
            approved,
            origin,
            workspace,
            summary,
            briefing,
            config: agent.revision,
            prompt: owner.identity.agent.prompt.digest,
            layers: agent.layers.clone(),
            model,
            mind,
            model_calls_max,
            woken,
            deadline,
        };
        // Boxed, because it holds what a request is made of, and the run's future need not be larger for it.
        let next = Box::pin(owner.begin_run(started)).await;
        Some(TurnStart { owner, next, after })
    }

    /// Hands a turn whose claim is durable to a task of its own.
    pub(crate) fn drive_turn(&self, beginning: TurnStart) {
        let TurnStart { mut owner, next, .. } = beginning;
        owner.journal.durable = owner.state.seq;
        owner.journal.pending.clear();
        self.core.activity.counts.count_task(TaskState::Running);
        let status = owner.state.status();
        self.core.activity.counts.count_rest(status);
        let whose = (owner.identity.scope.tenant(), owner.identity.agent.id);
        self.core.activity.usage.count_run(whose, &owner.identity.agent.config.model, status, &[]);
        if owner.state.is_ended() && owner.identity.target.is_some() {
            self.core.notify_delivery();
        }
        if !self.core.hub.activate(owner.identity.run, &owner.active) {
            // A signal came right after the commit, and its takeover was quicker: it owns the run now.
            return;
        }
        self.core.caches.pins.insert(
            (owner.identity.scope.tenant(), owner.identity.agent.id, owner.identity.agent.prompt.digest),
            (),
        );
        let ready = ReadyWork::Run(owner.identity.run);
        let work = supervise_task(Arc::clone(self.core), ready, Box::pin(owner.drive_to_rest(next)));
        self.core.ports.runtime.spawn.spawn(work);
    }
}

/// Returns until when a worker may begin model calls: what its parent gave it, within what the operator allows.
fn worker_deadline(now: Timestamp, most: SignedDuration, origin: Option<&RunOrigin>) -> Option<Timestamp> {
    let asked = origin.and_then(|origin| i64::try_from(origin.deadline_ms?).ok());
    let granted = asked.map_or(most, |asked| most.min(SignedDuration::from_millis(asked)));
    now.checked_add(granted).ok()
}

/// Returns the alias that answers a run in the place of its agent's, if a rule of the operator says so.
fn route_run(
    core: &EngineCore,
    alias: &str,
    (kind, role, platform): (RunKind, Option<&str>, &str),
    (story, input_bytes): (&ConversationTranscript, usize),
) -> Option<Box<str>> {
    let kind = match kind {
        RunKind::Turn => PromptKind::Turn,
        RunKind::Worker => PromptKind::Worker,
        RunKind::Compaction => PromptKind::Compaction,
        RunKind::Branch | RunKind::ApprovedCall => return None,
    };
    let facts = RouteFacts {
        kind,
        role,
        platform,
        input_bytes: input_bytes as u64,
        pictures: has_new_pictures(story),
        untrusted: story.taint.label.integrity == IntegrityLevel::Untrusted,
    };
    core.ports.model.route_alias(alias, &facts).map(String::into_boxed_str)
}

/// Returns whether the newest inputs have pictures.
fn has_new_pictures(story: &ConversationTranscript) -> bool {
    let turns = story.transcript.turns().iter().rev();
    let inputs = turns.map_while(|turn| match turn {
        TranscriptTurn::Input(message) => Some(&message.parts),
        TranscriptTurn::Unit(_) | TranscriptTurn::Summary(_) => None,
    });
    inputs.flatten().any(ContentPart::is_image)
}

/// Claims a session with waiting input, for one turn that takes the first item.
pub(crate) async fn claim_waiting(
    core: &Arc<EngineCore>,
    tenant: TenantId,
    session: SessionId,
    slot: TaskSlot,
) {
    let scope = core.recovery_scope(tenant);
    slot.begin_step(core.ports.runtime.clock.monotonic_now()).await;
    // Boxed, because it holds the past of a session, and its task goes on for as long as the run.
    if let Err(fault) = Box::pin(try_claim(core, &scope, session, slot)).await {
        if fault.code == ErrorCode::JournalDamaged || fault.code == ErrorCode::JournalUnreadable {
            tracing::error!(%session, %fault, "the past of a session cannot be read, so its input waits");
            return;
        }
        tracing::warn!(%session, %fault, "the claim must wait");
        core.request_rescan();
    }
}

async fn try_claim(
    core: &Arc<EngineCore>,
    scope: &Scope,
    session: SessionId,
    slot: TaskSlot,
) -> Result<(), Fault> {
    let found = core.ports.store.session(scope, session).await.map_err(read_fault)?;
    let Some(found) = found else { return Ok(()) };
    if let Some(active) = found.head.active {
        // Its last commit reports waiting input; the resume of a paused agent does so too. What came may join the turn.
        core.hub.note_joinable(active);
        return Ok(());
    }
    let agent = match core.caches.agents.agent_snapshot(scope, found.agent).await {
        Err(fault) if fault.code == ErrorCode::AgentNotFound => return Ok(()),
        agent => agent?,
    };
    if agent.state != AgentState::Running {
        return Ok(());
    }
    let past = SessionClaimer::new(core).read_past(scope, &agent, session).await.map_err(read_fault)?;
    let Some((mut tail, summary)) = past else { return Ok(()) };
    let head = tail.session.head;
    if head.active.is_some() {
        return Ok(());
    }
    let waiting: Vec<_> = tail.items.iter().filter(|item| item.position > head.taken).cloned().collect();
    let Some(first) = waiting.first().cloned() else { return Ok(()) };
    let item = waiting.iter().find(|item| item.kind != ItemKind::Conclusion).cloned().unwrap_or(first);
    let now = core.ports.runtime.clock.now();
    let woken = SessionClaimer::new(core).count_woken(scope, session, &waiting).await?;
    let count = match next_turn(&waiting, now, woken < WAKES_MAX) {
        // They wait for the next input.
        NextTurn::Rests => return Ok(()),
        NextTurn::Takes(count) => count,
        NextTurn::WaitsUntil { until, .. }
            if core.collections.claim_later(core, scope.tenant(), session, until) =>
        {
            return Ok(());
        }
        NextTurn::WaitsUntil { collected, .. } => collected,
    };
    let leaves_more = head.last - head.taken > count as u64;
    ClientToolAdmission::new(core)
        .add_answered(scope, &mut tail, head.taken, &item)
        .await
        .map_err(read_fault)?;
    let story = SessionClaimer::new(core).build_transcript(scope, &tail, summary).await?;
    let TurnSource { place, agent } = TurnSource::of_session(scope, &agent, &tail.session);
    let beginning = SessionClaimer::new(core)
        .prepare_turn_start(
            scope,
            &agent,
            place,
            story,
            (head.taken, woken),
            waiting.into_iter().take(count).collect(),
            slot,
        )
        .await;
    let Some(mut beginning) = beginning else {
        return Ok(());
    };
    if leaves_more {
        // What waits behind the inputs of this turn may be an input that joins it.
        beginning.owner.active.note_joinable();
    }
    let mut batch = WriteBatch::new(scope.tenant());
    beginning.add_claim(&mut batch, session);
    let mut answer = core.ports.store.commit(batch).await;
    if let CommitOutcome::Refused(CommitRefusal::BudgetExhausted(exhausted)) = answer {
        beginning.exhaust_budget(exhausted);
        let mut batch = WriteBatch::new(scope.tenant());
        beginning.add_claim(&mut batch, session);
        answer = core.ports.store.commit(batch).await;
    }
    if matches!(answer, CommitOutcome::Refused(CommitRefusal::AgentState { .. } | CommitRefusal::NotFound(_)))
    {
        // The session that would hear of the end takes no input any more.
        let mut batch = WriteBatch::new(scope.tenant());
        beginning.add_claim(&mut batch, session);
        if batch.claim.as_mut().is_some_and(|claim| claim.notice.take().is_some()) {
            answer = core.ports.store.commit(batch).await;
        }
    }
    match answer {
        CommitOutcome::Done(receipt) if receipt.claimed => {
            if let Some(InboxOwner::Session(waits)) = beginning.owner.end_notice().map(|put| put.owner) {
                core.enqueue_ready(scope.tenant(), ReadyWork::Session(waits));
            }
            SessionClaimer::new(core).drive_turn(beginning);
            Ok(())
        }
        // Another owner claimed it, or the agent was paused meanwhile; its end or its resume triggers the next check.
        CommitOutcome::Done(_) => Ok(()),
        other => {
            if matches!(other, CommitOutcome::Unknown { .. }) {
                // With an exhausted budget a run ends in the commit of its claim, and a scan of open runs does not find
                // it.
                core.hub.lose_unsure(
                    scope.tenant(),
                    beginning.owner.identity.run,
                    &beginning.owner.identity.items,
                );
            }
            Err(commit_fault(other))
        }
    }
}

impl SessionClaimer<'_> {
    /// Reads the past of a session for a new run: what fits the window of its agent's model, behind the newest summary.
    async fn read_past(
        &self,
        scope: &Scope,
        agent: &AgentSnapshot,
        session: SessionId,
    ) -> Result<Option<(SessionTail, Option<Arc<ConversationSummary>>)>, ReadError> {
        let (store, summaries) = (&*self.core.ports.store, &self.core.caches.summaries);
        let summary = summaries.newest_summary(store, scope, agent.id, session).await?;
        let after = summary.as_ref().map_or(0, |summary| summary.upto());
        let limits = past_limits(self.core.window_tokens(&agent.config.model), after);
        Ok(store.session_tail(scope, session, limits).await?.map(|tail| (tail, summary)))
    }

    /// Builds the transcript of a session's past for a new run.
    async fn build_transcript(
        &self,
        scope: &Scope,
        tail: &SessionTail,
        summary: Option<Arc<ConversationSummary>>,
    ) -> Result<ConversationTranscript, Fault> {
        let tainted_past = self.core.config().tainted_past;
        let origin = tail.session.origin.as_deref();
        let reader = SentRequestReader::new(&self.core.ports);
        let start = reader.read_start(scope, origin, summary, tainted_past).await?;
        let story = ConversationTranscript::from_tail(tail, None, tainted_past, start);
        story.map_err(|error| Fault::new(ErrorCode::JournalUnreadable, error.to_string()))
    }

    /// Counts the turns in a row that conclusions began in a session, if a conclusion is what waits first.
    async fn count_woken(
        &self,
        scope: &Scope,
        session: SessionId,
        waiting: &[InboxItem],
    ) -> Result<u32, Fault> {
        if waiting.first().is_none_or(|item| item.kind != ItemKind::Conclusion) {
            return Ok(0);
        }
        let store = &*self.core.ports.store;
        let filter = RunFilter { session: Some(session), ..RunFilter::default() };
        let newest = store.runs(scope, filter, PageRequest::first_page(1)).await.map_err(read_fault)?;
        let Some(newest) = newest.first() else { return Ok(0) };
        let began = read_run_start(store, scope, newest.id).await.map_err(read_fault)?;
        Ok(began.map_or(0, |began| began.woken))
    }

    /// Reads how the run began whose transcript a branch goes on with.
    async fn read_parent_of_branch(
        &self,
        scope: &Scope,
        origin: Option<&RunOrigin>,
    ) -> Result<Option<RunStarted>, ReadError> {
        match origin.filter(|origin| origin.kind == RunKind::Branch) {
            Some(origin) => read_run_start(&*self.core.ports.store, scope, origin.run).await,
            None => Ok(None),
        }
    }
}
