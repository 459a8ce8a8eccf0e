//! The store as the engine meets it: slow in odd places, sometimes full, sometimes failing, and, for a planted
//! fault, lying in one way.
//!
//! Below it is a `FaultyStore` over the reference store. Without a storm and without a lie it changes nothing.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use dromia_contracts::agent::ErasureCounts;
use dromia_contracts::approval::OPEN_MAX;
use dromia_contracts::entry::Entry;
use dromia_contracts::lease::NodeLife;
use dromia_contracts::run::RunRecord;
use dromia_contracts::runtime::Clock as _;
use dromia_contracts::session::{InboxItem, InboxOwner};
use dromia_contracts::store::{
    CommitOutcome, CommitReceipt, CommitRefusal, Mutation, OpenRun, PageRequest, Read, ReadError,
    RunCheckpoint, RunFilter, SessionTail, Store, StoreWrapper, StoredEntry, TailLimits, WriteBatch,
};
use dromia_contracts::tool::EffectClass;
use dromia_contracts::{
    AgentId, BoxFuture, OperatorScope, RunId, Scope, ScopeAuthority, SessionId, TenantId,
};
use dromia_testkit::faulty::CommitFault;
use dromia_testkit::runtime::ManualClock;
use dromia_testkit::{FaultyStore, ReferenceStore};

use super::witness::Witness;
use super::world::{BudgetWorld, Chance, Lie, Options, at_once, scope_of, step};

/// The store of one life of an engine.
#[derive(Debug)]
pub(crate) struct Weather {
    below: FaultyStore,
    truth: ReferenceStore,
    chance: Arc<Chance>,
    witness: Arc<Witness>,
    clock: ManualClock,
    /// Whether budgets are those of an hour.
    hourly: bool,
    lie: Option<Lie>,
    /// Whether there is room for every second request for approval only.
    crowded: Option<usize>,
    /// Whether anything fails at the moment.
    storm: AtomicBool,
    /// Whether a commit may take the whole process with it.
    deadly: bool,
    /// What a lying store has acknowledged and not written yet.
    held_back: Mutex<Vec<WriteBatch>>,
    /// For how many commits there is no room.
    full_for: Mutex<usize>,
    /// What the next takeovers are answered.
    refusals: Mutex<Vec<CommitRefusal>>,
    /// Whether no page of an erasure is ever answered.
    endless: AtomicBool,
    /// The kind and version under which every `model_called` is read, as if a newer program had written it.
    foreign: Mutex<Option<(&'static str, u16)>>,
    /// Whether the next read panics, and whether each one of a journal does.
    read_panics: AtomicBool,
    journal_panics: AtomicBool,
    /// What the next read of a run shows, though the run has gone on.
    old_row: Mutex<Option<RunRecord>>,
    /// How many entries were read of journals.
    entries_read: AtomicUsize,
    /// What is wrong with each checkpoint that is read.
    checkpoint_fault: Mutex<Option<CheckpointFault>>,
}

/// What is wrong with a checkpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum CheckpointFault {
    /// An engine with another fold wrote it.
    OtherFold,
    /// The store found that it does not match its digest.
    Damaged,
}

impl Weather {
    /// Stands before the truth for one life of an engine.
    pub(crate) fn new(
        truth: &ReferenceStore,
        chance: &Arc<Chance>,
        witness: &Arc<Witness>,
        clock: &ManualClock,
        options: Options,
        deadly: bool,
    ) -> Arc<Self> {
        Arc::new(Self {
            below: FaultyStore::new(Arc::new(truth.clone())),
            truth: truth.clone(),
            chance: Arc::clone(chance),
            witness: Arc::clone(witness),
            clock: clock.clone(),
            hourly: options.budgets == Some(BudgetWorld::Hourly),
            lie: options.lie,
            crowded: options.crowded,
            storm: AtomicBool::new(true),
            deadly,
            held_back: Mutex::default(),
            full_for: Mutex::default(),
            refusals: Mutex::default(),
            endless: AtomicBool::new(false),
            foreign: Mutex::default(),
            read_panics: AtomicBool::new(false),
            journal_panics: AtomicBool::new(false),
            old_row: Mutex::default(),
            entries_read: AtomicUsize::new(0),
            checkpoint_fault: Mutex::default(),
        })
    }

    /// Lets everything succeed from now on.
    pub(crate) fn calm(&self) {
        self.storm.store(false, Ordering::SeqCst);
    }

    /// Tells whether a commit took the process with it.
    pub(crate) fn is_dead(&self) -> bool {
        self.below.is_dead()
    }

    /// Returns how many entries of journals were read in this life.
    pub(crate) fn entries_read(&self) -> usize {
        self.entries_read.load(Ordering::SeqCst)
    }

    /// Shows each checkpoint with a fault from now on.
    pub(crate) fn spoil_checkpoints(&self, fault: CheckpointFault) {
        *self.checkpoint_fault.lock().expect("no test panics in here") = Some(fault);
    }

    /// Shows a run once as it was.
    pub(crate) fn show_once(&self, row: RunRecord) {
        *self.old_row.lock().expect("no test panics in here") = Some(row);
    }

    /// Spoils the first commit from now on whose line in the log holds a word.
    pub(crate) fn spoil_first(&self, word: &str, fault: CommitFault) {
        self.below.fail_first(word, fault);
    }

    /// Lists what each commit of this life writes, in order.
    pub(crate) fn commit_log(&self) -> Vec<String> {
        self.below.commit_log()
    }

    /// Spoils the next commit.
    pub(crate) fn spoil_next(&self, fault: CommitFault) {
        self.below.fail_nth(self.below.commit_count() + 1, fault);
    }

    /// Lets batches wait from now on, unwritten.
    pub(crate) fn hold_back(&self) {
        self.below.hold_back();
    }

    /// Counts the batches that wait.
    pub(crate) fn held_back(&self) -> usize {
        self.below.held_back()
    }

    /// Writes what waits, and lets nothing wait any more.
    pub(crate) fn let_go(&self) {
        self.below.let_go();
    }

    /// Spoils a commit, counted from 1 from now on.
    pub(crate) fn spoil_in(&self, nth: u64, fault: CommitFault) {
        self.below.fail_nth(self.below.commit_count() + nth, fault);
    }

    /// Returns how many commits arrived in this life.
    pub(crate) fn commits(&self) -> u64 {
        self.below.commit_count()
    }

    /// Has no room for the next commits.
    pub(crate) fn refuse_commits(&self, next: usize) {
        *self.full_for.lock().expect("no test panics in here") = next;
    }

    /// Refuses the next takeovers, the last refusal first.
    pub(crate) fn refuse_takeovers(&self, refusals: Vec<CommitRefusal>) {
        *self.refusals.lock().expect("no test panics in here") = refusals;
    }

    /// Answers no page of an erasure from now on.
    pub(crate) fn erase_for_ever(&self) {
        self.endless.store(true, Ordering::SeqCst);
    }

    /// Shows every `model_called` as an entry of another kind or version.
    pub(crate) fn read_as(&self, foreign: Option<(&'static str, u16)>) {
        *self.foreign.lock().expect("no test panics in here") = foreign;
    }

    /// Panics at the next read.
    pub(crate) fn panic_at_next_read(&self) {
        self.read_panics.store(true, Ordering::SeqCst);
    }

    /// Panics whenever a journal is read.
    pub(crate) fn panic_at_journals(&self) {
        self.journal_panics.store(true, Ordering::SeqCst);
    }

    fn translate(&self, entries: &mut [StoredEntry]) {
        let Some((kind, version)) = *self.foreign.lock().expect("no test panics in here") else { return };
        for entry in entries.iter_mut().filter(|entry| entry.kind == "model_called") {
            (entry.kind, entry.version) = (kind.to_owned(), version);
        }
    }

    fn storms(&self, one_in: usize) -> bool {
        self.storm.load(Ordering::SeqCst) && self.chance.one_in(one_in)
    }

    /// Lets others go first, a few times.
    async fn delay(&self) {
        assert!(!self.read_panics.swap(false, Ordering::SeqCst), "planted");
        for _ in 0..self.chance.below(3) {
            step().await;
        }
    }

    fn write(&self, mut batch: WriteBatch) -> BoxFuture<'static, CommitOutcome> {
        for held in std::mem::take(&mut *self.held_back.lock().expect("no test panics in here")) {
            at_once(self.truth.commit(held));
        }
        let is_full = {
            let mut left = self.full_for.lock().expect("no test panics in here");
            let is_full = *left > 0;
            *left = left.saturating_sub(1);
            is_full
        };
        if is_full {
            return Box::pin(std::future::ready(CommitOutcome::Refused(CommitRefusal::Overloaded)));
        }
        if batch.mutations.iter().any(|mutation| matches!(mutation, Mutation::RunTakeover(_)))
            && let Some(refusal) = self.refusals.lock().expect("no test panics in here").pop()
        {
            return Box::pin(std::future::ready(CommitOutcome::Refused(refusal)));
        }
        let asks = |mutation: &Mutation| match mutation {
            Mutation::ApprovalAsk(ask) => ask.state.is_open(),
            _ => false,
        };
        if let Some(share) = self.crowded
            && batch.mutations.iter().any(asks)
            && self.chance.one_in(share)
        {
            return Box::pin(std::future::ready(CommitOutcome::Refused(CommitRefusal::ApprovalsFull {
                most: OPEN_MAX,
            })));
        }
        if self.storms(60) {
            self.witness.book().losses += 1;
            let refusal = match self.chance.below(2) {
                0 => CommitRefusal::Overloaded,
                _ => CommitRefusal::ReadOnly { cause: "the disk is full".to_owned() },
            };
            return Box::pin(std::future::ready(CommitOutcome::Refused(refusal)));
        }
        if self.storms(30) {
            self.witness.book().losses += 1;
            let faults = if self.deadly { &CommitFault::ALL[..] } else { &CommitFault::ALL[..2] };
            let fault = faults[self.chance.below(faults.len())];
            self.below.fail_nth(self.below.commit_count() + 1, fault);
        }
        if self.lie == Some(Lie::AsksNoLease) {
            self.name_present_holders(&mut batch);
        }
        match self.lie {
            Some(lie) => match self.told(lie, &mut batch) {
                Some(receipt) => Box::pin(std::future::ready(CommitOutcome::Done(receipt))),
                None if lie == Lie::SecondClaimer => {
                    let commit = self.wrapped_store().commit(batch);
                    Box::pin(async move {
                        match commit.await {
                            CommitOutcome::Done(receipt) => {
                                CommitOutcome::Done(CommitReceipt { claimed: true, ..receipt })
                            }
                            other => other,
                        }
                    })
                }
                None => self.wrapped_store().commit(batch),
            },
            None => self.wrapped_store().commit(batch),
        }
    }

    /// Spoils a batch, or answers in its stead.
    fn told(&self, lie: Lie, batch: &mut WriteBatch) -> Option<CommitReceipt> {
        let to_session = |mutation: &Mutation| matches!(mutation, Mutation::InboxPut(put) if matches!(put.owner, InboxOwner::Session(_)));
        let appends = batch.mutations.iter().any(|mutation| matches!(mutation, Mutation::RunAppend(_)));
        match lie {
            Lie::AckBeforeCommit => {
                let input = !appends && batch.mutations.iter().any(to_session);
                (input && self.chance.one_in(6))
                    .then(|| CommitReceipt { positions: vec![1], ..CommitReceipt::default() })
            }
            Lie::DropKey => {
                for mutation in &mut batch.mutations {
                    if let Mutation::InboxPut(put) = mutation {
                        put.key = None;
                    }
                }
                None
            }
            Lie::TornSend => {
                if appends {
                    batch.mutations.retain(|mutation| !to_session(mutation));
                }
                None
            }
            Lie::NoEpoch => {
                let scope = scope_of(batch.tenant);
                let mut taken = 0;
                for mutation in &mut batch.mutations {
                    let run = match mutation {
                        Mutation::RunAppend(append) => append.run,
                        Mutation::RunTakeover(takeover) => takeover.run,
                        _ => continue,
                    };
                    let Some(run) = at_once(self.truth.run(&scope, run)).expect("it reads") else { continue };
                    match mutation {
                        Mutation::RunTakeover(takeover) if appends => {
                            (takeover.from_epoch, taken) = (run.epoch, 1);
                        }
                        Mutation::RunAppend(append) => {
                            (append.epoch, append.after) = (run.epoch + taken, run.last_seq);
                        }
                        _ => {}
                    }
                }
                None
            }
            Lie::StartHeldBack => {
                let starts = |mutation: &Mutation| match mutation {
                    Mutation::RunAppend(append) => matches!(
                        append.entries.last().map(|new| &new.entry),
                        Some(Entry::ToolStarted(started)) if started.effect != EffectClass::Transactional
                    ),
                    _ => false,
                };
                if !batch.mutations.iter().any(starts) {
                    return None;
                }
                self.held_back.lock().expect("no test panics in here").push(batch.clone());
                Some(CommitReceipt { claimed: true, ..CommitReceipt::default() })
            }
            // A batch that nobody pays for moves no approval either.
            Lie::ChargesNobody | Lie::UsesNothingUp => {
                batch.payer = None;
                None
            }
            Lie::ChargesEarlierHour => {
                if self.witness.book().hours.is_earlier(batch.tenant, self.clock.now()) {
                    super::hours::forget_count(&self.truth, batch.tenant, self.clock.now());
                }
                None
            }
            Lie::ForgetsToCool => {
                for mutation in &mut batch.mutations {
                    if let Mutation::ApprovalAsk(ask) = mutation {
                        ask.deadlines.cools_until = ask.deadlines.cools_until.map(|_| ask.deadlines.asked_at);
                    }
                }
                None
            }
            Lie::ForgetsFiles => {
                batch.mutations.retain(|mutation| !matches!(mutation, Mutation::FileLabelsPut(_)));
                None
            }
            Lie::HalfImport => {
                for mutation in &mut batch.mutations {
                    if let Mutation::SessionOpen(open) = mutation {
                        open.importing = false;
                    }
                }
                None
            }
            Lie::SecondClaimer
            | Lie::KeyPerAttempt
            | Lie::UnkeyedAsIdempotent
            | Lie::PlanHoldsAll
            | Lie::PastIsTrusted
            | Lie::CallsGoWithCallers
            | Lie::ShowsOneAuthor
            | Lie::ForgetsSignals
            | Lie::AsksNoLease
            | Lie::ShowsOneSignal => None,
        }
    }

    /// Has each takeover name the holder that the run has.
    fn name_present_holders(&self, batch: &mut WriteBatch) {
        let scope = scope_of(batch.tenant);
        for mutation in &mut batch.mutations {
            if let Mutation::RunTakeover(takeover) = mutation
                && let Some(run) = at_once(self.truth.run(&scope, takeover.run)).expect("it reads")
            {
                takeover.holder = run.holder.unwrap_or(takeover.holder);
            }
        }
    }

    /// Finds the run that a batch takes from another living process.
    fn stolen_run(&self, batch: &WriteBatch) -> Option<RunId> {
        let living = at_once(self.truth.living_lives(&ScopeAuthority::claim().issue_operator()));
        let living = living.expect("it reads");
        batch.mutations.iter().find_map(|mutation| {
            let Mutation::RunTakeover(takeover) = mutation else { return None };
            let run = at_once(self.truth.run(&scope_of(batch.tenant), takeover.run)).expect("it reads")?;
            let holder = run.holder.filter(|holder| *holder != takeover.holder)?;
            let is_alive = living.iter().any(|life| life.life == holder);
            (is_alive && run.epoch == takeover.from_epoch).then_some(run.id)
        })
    }

    /// S1 as the store shows it, at every claim: one run that has not ended per session.
    fn observe(&self, tenant: TenantId, session: SessionId) {
        let scope = scope_of(tenant);
        let filter = RunFilter { session: Some(session), agent: None, status: None };
        let runs = at_once(self.truth.runs(&scope, filter, PageRequest::first_page(256))).expect("it reads");
        let open = runs.iter().filter(|run| !run.head.status.is_terminal()).count();
        if open > 1 {
            self.witness.blame("S1", &format!("{open} runs of {session} are active"));
        }
    }
}

impl StoreWrapper for Weather {
    fn wrapped_store(&self) -> &dyn Store {
        &self.below
    }

    /// Every read is late, and in a storm sometimes gives nothing.
    fn wrap_read<'a, T: Send + 'a>(&'a self, read: impl FnOnce() -> Read<'a, T> + Send + 'a) -> Read<'a, T> {
        Box::pin(async move {
            self.delay().await;
            if self.storms(150) {
                self.witness.book().losses += 1;
                return Err(ReadError::Unavailable { cause: "a storm".to_owned() });
            }
            let answer = read().await;
            self.delay().await;
            answer
        })
    }

    fn commit(&self, batch: WriteBatch) -> BoxFuture<'static, CommitOutcome> {
        let (tenant, claimed) = (batch.tenant, batch.claim.as_ref().map(|claim| claim.session));
        let stolen = self.stolen_run(&batch);
        // The batch is on its way when the call returns, as with a writer that has a queue.
        let commit = self.write(batch);
        if self.hourly {
            self.witness.look_at_hour(&self.truth, tenant, self.clock.now());
        }
        if let Some(session) = claimed {
            self.observe(tenant, session);
        }
        let (chance, witness) = (Arc::clone(&self.chance), Arc::clone(&self.witness));
        let forgets = matches!(self.lie, Some(Lie::ForgetsSignals | Lie::ShowsOneSignal));
        Box::pin(async move {
            let mut answer = commit.await;
            if let (CommitOutcome::Done(_), Some(run)) = (&answer, stolen) {
                witness.blame("J1", &format!("{run} was taken from a living process"));
            }
            if let (CommitOutcome::Done(receipt), true) = (&mut answer, forgets) {
                receipt.signals_last = 0;
            }
            for _ in 0..chance.below(4) {
                step().await;
            }
            answer
        })
    }

    fn living_lives<'a>(&'a self, operator: &'a OperatorScope) -> Read<'a, Vec<NodeLife>> {
        if self.lie == Some(Lie::AsksNoLease) {
            return Box::pin(std::future::ready(Ok(Vec::new())));
        }
        self.wrap_read(move || self.wrapped_store().living_lives(operator))
    }

    fn signalled_runs<'a>(
        &'a self,
        operator: &'a OperatorScope,
        page: PageRequest<(TenantId, RunId)>,
    ) -> Read<'a, Vec<OpenRun>> {
        if self.lie == Some(Lie::ForgetsSignals) {
            return Box::pin(std::future::ready(Ok(Vec::new())));
        }
        self.wrap_read(move || self.wrapped_store().signalled_runs(operator, page))
    }

    fn inbox_items<'a>(
        &'a self,
        scope: &'a Scope,
        owner: InboxOwner,
        after: u64,
        limit: usize,
    ) -> Read<'a, Vec<InboxItem>> {
        let one_at_a_time = self.lie == Some(Lie::ShowsOneSignal) && matches!(owner, InboxOwner::Run(_));
        let limit = if one_at_a_time { 1 } else { limit };
        let read = self.wrap_read(move || self.wrapped_store().inbox_items(scope, owner, after, limit));
        if self.lie != Some(Lie::ShowsOneAuthor) {
            return read;
        }
        Box::pin(async move { Ok(read.await?.into_iter().map(super::policies::as_of_ada).collect()) })
    }

    fn erase_agent_page<'a>(&'a self, scope: &'a Scope, agent: AgentId) -> Read<'a, (ErasureCounts, bool)> {
        Box::pin(async move {
            self.delay().await;
            if self.endless.load(Ordering::SeqCst) {
                std::future::pending::<()>().await;
            }
            if self.storms(150) {
                self.witness.book().losses += 1;
                return Err(ReadError::Unavailable { cause: "a storm".to_owned() });
            }
            let answer = self.wrapped_store().erase_agent_page(scope, agent).await;
            self.delay().await;
            answer
        })
    }

    fn run<'a>(&'a self, scope: &'a Scope, run: RunId) -> Read<'a, Option<RunRecord>> {
        let mut old = self.old_row.lock().expect("no test panics in here");
        match old.take_if(|row| row.id == run) {
            Some(row) => Box::pin(std::future::ready(Ok(Some(row)))),
            None => self.wrap_read(move || self.wrapped_store().run(scope, run)),
        }
    }

    fn run_checkpoint<'a>(&'a self, scope: &'a Scope, run: RunId) -> Read<'a, Option<RunCheckpoint>> {
        let fault = *self.checkpoint_fault.lock().expect("no test panics in here");
        Box::pin(async move {
            let read = self.wrap_read(move || self.wrapped_store().run_checkpoint(scope, run));
            let mut found = read.await?;
            if let (Some(RunCheckpoint { folded, .. }), Some(fault)) = (&mut found, fault) {
                let spoiled = |from: &[u8]| from.iter().map(|byte| byte ^ u8::from(*byte == b'1')).collect();
                match fault {
                    CheckpointFault::OtherFold => {
                        (folded.version, folded.bytes) = (folded.version + 1, spoiled(&folded.bytes));
                    }
                    CheckpointFault::Damaged => {
                        let (place, problem) = ("a checkpoint".to_owned(), "another digest".to_owned());
                        return Err(ReadError::Damaged { place, problem });
                    }
                }
            }
            Ok(found)
        })
    }

    fn session_tail<'a>(
        &'a self,
        scope: &'a Scope,
        session: SessionId,
        limits: TailLimits,
    ) -> Read<'a, Option<SessionTail>> {
        Box::pin(async move {
            self.delay().await;
            let mut tail = self.wrapped_store().session_tail(scope, session, limits).await?;
            for (_, entries) in tail.iter_mut().flat_map(|tail| &mut tail.runs) {
                let mut own = entries.to_vec();
                self.translate(&mut own);
                *entries = own.into();
            }
            if let (Some(tail), Some(Lie::SecondClaimer)) = (&mut tail, self.lie) {
                // A claimer that does not see the turn that is active.
                (tail.session.head.active, tail.session.head.last) = (None, tail.session.head.taken);
            }
            self.delay().await;
            Ok(tail)
        })
    }

    fn journal_entries<'a>(
        &'a self,
        scope: &'a Scope,
        run: RunId,
        after: u64,
        limit: usize,
    ) -> Read<'a, Vec<StoredEntry>> {
        Box::pin(async move {
            self.delay().await;
            assert!(!self.journal_panics.load(Ordering::SeqCst), "planted");
            let mut entries = self.wrapped_store().journal_entries(scope, run, after, limit).await?;
            self.entries_read.fetch_add(entries.len(), Ordering::SeqCst);
            self.translate(&mut entries);
            self.delay().await;
            Ok(entries)
        })
    }
}
