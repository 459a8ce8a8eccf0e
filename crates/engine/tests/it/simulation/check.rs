//! The final look: the store beside what the witness saw.
//!
//! Every finding begins with the id of the invariant that it breaks. Nothing here knows how the engine works; it
//! reads journals and inboxes, and folds.

use std::collections::{BTreeMap, BTreeSet};

use dromia_contracts::content::{CallStatus, ToolResult, parts_text};
use dromia_contracts::cost::CostTotals;
use dromia_contracts::delivery::{ReplyEvent, target_of};
use dromia_contracts::entry::{Entry, HoldReason};
use dromia_contracts::input::InputBody;
use dromia_contracts::run::{RunRecord, RunStatus};
use dromia_contracts::runs::EnginePort as _;
use dromia_contracts::session::{InboxItem, InboxOwner, ItemKind, SessionRecord};
use dromia_contracts::store::StoredEntry;
use dromia_contracts::tool::EffectClass;
use dromia_contracts::{CallId, RunId, TenantId};
use dromia_engine::{Engine, RunState};

use super::approvals::GATED;
use super::policies::{self, taken_items};
use super::ports::{answer_to, file_of};
use super::world::{BudgetWorld, World, scope_of};
use crate::cost::spent;

/// What a simulation went through, for those who ask whether it went through anything.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(crate) struct Tally {
    pub(crate) inputs: usize,
    pub(crate) runs: usize,
    pub(crate) entries: usize,
    pub(crate) executions: usize,
    pub(crate) unknown: usize,
    pub(crate) cancelled: usize,
    pub(crate) yielded: usize,
    pub(crate) unfunded: usize,
    pub(crate) hours_turned: usize,
    pub(crate) charged_earlier: usize,
    pub(crate) approved_in_place: usize,
    pub(crate) approved_later: usize,
    pub(crate) crowded_out: usize,
    pub(crate) asked_together: usize,
    pub(crate) opinions: usize,
    pub(crate) opinions_lost: usize,
    pub(crate) parked: usize,
    pub(crate) joined: usize,
    pub(crate) taken_together: usize,
    pub(crate) takeovers: u64,
    pub(crate) crashes: u64,
    pub(crate) losses: u64,
    pub(crate) outcomes: u64,
}

/// A run with its journal, read.
struct Read {
    run: RunRecord,
    stored: Vec<StoredEntry>,
    entries: Vec<Entry>,
}

/// Compares everything.
pub(crate) fn check(world: &World) -> Tally {
    let mut tally = Tally::default();
    let mut all = Vec::new();
    let mut notes = BTreeMap::new();
    for tenant in &world.tenants {
        let mut runs = Vec::new();
        for run in world.runs(*tenant) {
            let stored = world.journal(*tenant, run.id);
            let entries: Result<Vec<Entry>, _> = stored.iter().map(StoredEntry::decode).collect();
            match entries {
                Ok(entries) => runs.push(Read { run, stored, entries }),
                Err(error) => world.witness.blame("J7", &error.to_string()),
            }
        }
        for read in &runs {
            check_journal(world, read, &mut tally);
        }
        for session in world.sessions(*tenant) {
            let inbox = world.inbox(*tenant, InboxOwner::Session(session.id));
            check_session(world, &session, &inbox, &runs);
            for item in &inbox {
                *notes.entry(text_of(item)).or_insert(0_usize) += 1;
            }
        }
        check_messages(world, *tenant, &runs);
        all.append(&mut runs);
    }
    check_requests(world, &notes);
    check_effects(world, &all);
    check_files(world, &all);
    check_sends(world, &all, &notes);
    let book = world.witness.book();
    tally.inputs = book.requests.len();
    tally.runs = all.len();
    tally.executions = book.executions.len();
    (tally.crashes, tally.losses, tally.outcomes) = (book.crashes, book.losses, book.outcomes);
    tally
}

/// D1: a run that ended where answers are delivered has one message, which names its last entry and says how it ended;
/// no other run has one.
fn check_messages(world: &World, tenant: TenantId, runs: &[Read]) {
    let sessions = world.sessions(tenant);
    let messages = world.messages(tenant);
    for Read { run, .. } in runs {
        let session = sessions.iter().find(|session| session.id == run.session);
        let target = session.and_then(|session| target_of(&session.key));
        let of_run: Vec<_> =
            messages.iter().filter(|message| message.delivery.source.run == run.id).collect();
        let expected = usize::from(target.is_some() && run.head.status.is_terminal());
        if of_run.len() != expected {
            let what = format!("{}: {} messages, not {expected}", run.id, of_run.len());
            world.witness.blame("D1", &what);
        }
        for message in of_run {
            let said: Option<ReplyEvent> = serde_json::from_slice(&message.body).ok();
            let is_its_end = said.is_some_and(|said| {
                (said.data.run, said.data.status) == (run.id, run.head.status)
                    && (said.kind == ReplyEvent::REPLIED) == (run.head.status == RunStatus::Completed)
            });
            let names = (message.delivery.source.seq, Some(&message.delivery.target));
            if !is_its_end || names != (run.last_seq, target.as_ref()) {
                world.witness.blame("D1", &format!("{}: its message is of something else", run.id));
            }
        }
    }
}

/// Asks for the request of every model call: the engine writes it again from what is stored, and its digest is the one
/// that the entry kept when it was sent.
pub(crate) async fn check_sent(world: &World, engine: &Engine) {
    for tenant in &world.tenants {
        for run in world.runs(*tenant) {
            for stored in world.journal(*tenant, run.id) {
                let Ok(Entry::ModelCalled(called)) = stored.decode() else { continue };
                let asked = engine
                    .rebuild_request(scope_of(*tenant), run.id, called.step, Some(called.attempt))
                    .await;
                let what = match asked {
                    Ok(told) if told.sent == called.sent => continue,
                    Ok(told) => format!("it was sent as {:?} and is told as {:?}", called.sent, told.sent),
                    Err(fault) => fault.to_string(),
                };
                world.witness.blame("J4", &format!("{}, entry {}: {what}", run.id, stored.seq));
            }
        }
    }
}

fn text_of(item: &InboxItem) -> String {
    let body = item.body.as_deref().unwrap_or_default();
    InputBody::decode(body).map_or_else(|_| String::new(), |said| parts_text(&said.message.parts))
}

fn check_journal(world: &World, read: &Read, tally: &mut Tally) {
    let Read { run, stored, entries } = read;
    let blame = |invariant: &str, what: &str| {
        world.witness.blame(invariant, &format!("{}: {what}", run.id));
    };
    tally.entries += entries.len();
    tally.takeovers += run.epoch - 1;
    if !stored.iter().map(|entry| entry.seq).eq(1..=run.last_seq) {
        blame("J2", "its entries are not numbered 1..n");
    }
    if !stored.is_sorted_by_key(|entry| entry.epoch) || stored.iter().any(|entry| entry.epoch > run.epoch) {
        blame("J1", "its entries are not in the order of their epochs");
    }
    let state = RunState::fold(entries);
    if (state.run_head(), state.seq) != (run.head, run.last_seq) {
        blame("J4", &format!("its row says {:?} and its journal folds to {:?}", run.head, state.run_head()));
    }
    let spent = spent(entries);
    if spent != CostTotals::from(run) {
        blame("E7", &format!("its row says {:?} and its attempts come to {spent:?}", run.head));
    }
    let ends = |entry: &Entry| {
        matches!(
            entry,
            Entry::RunCompleted(_) | Entry::RunYielded(_) | Entry::RunFailed(_) | Entry::RunCancelled(_)
        )
    };
    let end = entries.iter().position(ends);
    if end.is_some_and(|end| end + 1 != entries.len()) {
        let kinds: Vec<_> = stored.iter().map(|entry| entry.kind.as_str()).collect();
        blame("J8", &format!("it goes on after its end: {kinds:?}"));
    }
    let mut results: BTreeMap<CallId, usize> = BTreeMap::new();
    let mut begun: BTreeMap<CallId, (EffectClass, u64)> = BTreeMap::new();
    for (at, (entry, kept)) in entries.iter().zip(stored).enumerate() {
        match entry {
            Entry::ModelReplied(replied) => {
                let indices = 0..u32::try_from(replied.tools.len()).expect("a few calls");
                for index in indices {
                    results.entry(CallId { step: replied.step, index }).or_default();
                }
            }
            Entry::ToolStarted(started) => {
                let before = begun.insert(started.call, (started.effect, kept.epoch));
                if before.is_some_and(|(effect, _)| !effect.may_repeat()) {
                    blame("E4", &format!("{} began twice", started.call));
                }
            }
            Entry::ToolFinished(finished) => {
                *results.entry(finished.call).or_default() += 1;
                let Some((effect, epoch)) = begun.get(&finished.call) else {
                    blame("E1", &format!("{} ended and never began", finished.call));
                    continue;
                };
                if finished.status == CallStatus::Unknown {
                    tally.unknown += 1;
                    let ended = entries[at..].iter().any(|entry| matches!(entry, Entry::RunCancelled(_)));
                    if *effect == EffectClass::Transactional {
                        blame("E3", &format!("{} is transactional and unknown", finished.call));
                    } else if kept.epoch == *epoch && !ended {
                        blame("E4", &format!("{} is unknown though its owner lived on", finished.call));
                    }
                }
            }
            Entry::ToolRefused(refused) => *results.entry(refused.call).or_default() += 1,
            Entry::ToolHanded(handed) => *results.entry(handed.call).or_default() += 1,
            Entry::RunHeld(held) => {
                let claims = kept.epoch - stored[at - 1].epoch;
                if held.reason == HoldReason::Claims && (claims <= 5 || world.witness.book().losses < 5) {
                    blame("E8", &format!("it is held after {claims} claims"));
                }
                if matches!(held.reason, HoldReason::Unreadable | HoldReason::Damaged) {
                    blame("J7", &held.detail);
                }
            }
            Entry::RunParked(_) => tally.parked += 1,
            Entry::InputsTaken(taken) => tally.joined += taken.items.len(),
            Entry::RunStarted(started) => tally.taken_together += usize::from(started.items.len() > 1),
            Entry::RunCancelled(_) => tally.cancelled += 1,
            Entry::RunYielded(yielded) => {
                tally.yielded += 1;
                tally.unfunded += usize::from(yielded.budget.is_some());
            }
            _ => {}
        }
    }
    if let Some((call, times)) = results.iter().find(|(_, times)| **times != 1) {
        blame("J6", &format!("{call} has {times} results"));
    }
}

fn check_session(world: &World, session: &SessionRecord, inbox: &[InboxItem], runs: &[Read]) {
    let blame = |invariant: &str, what: &str| {
        world.witness.blame(invariant, &format!("{}: {what}", session.id));
    };
    if !inbox.iter().map(|item| item.position).eq(1..=session.head.last) {
        blame("J3", "its items are not numbered 1..n");
    }
    let mut took: Vec<(u64, &Read, Vec<_>)> = Vec::new();
    for read in runs.iter().filter(|read| read.run.session == session.id) {
        match read.entries.first() {
            Some(Entry::RunStarted(started)) => {
                took.push((started.after, read, taken_items(&read.entries)));
                for (invariant, what) in policies::wrong_joins(&read.entries, inbox) {
                    blame(invariant, &format!("{}: {what}", read.run.id));
                }
            }
            _ => blame("J3", &format!("{} does not say what it took", read.run.id)),
        }
    }
    took.sort_by_key(|(after, ..)| *after);
    let taken = took.iter().flat_map(|(_, _, items)| items.iter().copied());
    let stored = inbox.iter().filter(|item| item.taken_by.is_some()).map(|item| item.id);
    if !taken.eq(stored) {
        blame("J3", "its runs did not take its items once and in order");
    }
    for pair in took.windows(2) {
        let [(_, before, _), (_, after, _)] = pair else { continue };
        let ended = before.stored.last().map(|entry| entry.at);
        let began = after.stored.first().map(|entry| entry.at);
        // A wall clock that was set back says nothing of what came first; ids do, and `observe` sees each claim.
        let is_known = world.options.budgets != Some(BudgetWorld::Hourly);
        if is_known && ended > began || before.run.id > after.run.id && (ended == began || !is_known) {
            blame("S2", &format!("{} began before {} had ended", after.run.id, before.run.id));
        }
    }
    for (_, read, items) in took {
        let input = inbox.iter().rfind(|item| items.contains(&item.id) && item.kind == ItemKind::Input);
        let reply = read.stored.iter().rfind(|entry| entry.kind == "model_replied");
        let reply = reply.and_then(|entry| entry.body.clone()).unwrap_or_default();
        if let Some(input) = input.filter(|_| read.run.head.status == RunStatus::Completed) {
            let expected = serde_json::Value::from(answer_to(&text_of(input))).to_string();
            if !String::from_utf8_lossy(&reply).contains(&expected) {
                blame("D1", &format!("{} did not answer {expected}", read.run.id));
            }
        }
    }
}

fn check_requests(world: &World, notes: &BTreeMap<String, usize>) {
    let mut book = world.witness.book();
    let mut wrong = Vec::new();
    for (number, request) in &book.requests {
        let times = notes.get(&request.text).copied().unwrap_or_default();
        if times == 0 && request.ack.is_some() {
            wrong.push(("C4", format!("input {number} was acknowledged and is lost")));
        }
        if times > 1 {
            wrong.push(("J3", format!("input {number} is stored {times} times")));
        }
        for (other, later) in &book.requests {
            if let (Some(first), Some(second)) = (request.ack, later.ack)
                && first.session == second.session
                && first.heard < later.sent
                && first.position >= second.position
            {
                wrong.push(("S2", format!("input {other} overtook input {number}")));
            }
        }
    }
    for (invariant, what) in wrong {
        book.blame(invariant, &what);
    }
}

fn check_effects(world: &World, runs: &[Read]) {
    let mut book = world.witness.book();
    let mut wrong = Vec::new();
    let mut by_key: BTreeMap<&str, (RunId, CallId, &str)> = BTreeMap::new();
    let mut by_call: BTreeMap<(RunId, CallId), &str> = BTreeMap::new();
    let mut paid: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    let mut posted: BTreeMap<&str, usize> = BTreeMap::new();
    for done in &book.executions {
        let what = (done.run, done.call, done.arguments.as_str());
        if *by_key.entry(&done.key).or_insert(what) != what {
            wrong.push(("E2", format!("the key {} stands for two calls", done.key)));
        }
        if *by_call.entry((done.run, done.call)).or_insert(&done.key) != done.key {
            wrong.push(("E2", format!("{} of {} has two keys", done.call, done.run)));
        }
        match done.tool.as_str() {
            "pay" => {
                paid.entry(&done.arguments).or_default().insert(&done.key);
            }
            "post" | GATED => *posted.entry(&done.arguments).or_default() += 1,
            _ => {}
        }
    }
    if let Some((what, keys)) = paid.iter().find(|(_, keys)| keys.len() > 1) {
        wrong.push(("E2", format!("{what} was paid under {} keys", keys.len())));
    }
    if let Some((what, times)) = posted.iter().find(|(_, times)| **times > 1) {
        wrong.push(("E4", format!("{what} was posted {times} times")));
    }
    for read in runs {
        let mut outside = BTreeMap::new();
        for entry in &read.entries {
            match entry {
                Entry::ToolStarted(started) => {
                    outside.insert(started.call, started.effect != EffectClass::Transactional);
                }
                Entry::ToolFinished(finished)
                    if matches!(finished.status, CallStatus::Ok | CallStatus::Error)
                        && outside.get(&finished.call).copied().unwrap_or_default() =>
                {
                    let ran = |done: &&super::witness::Execution| {
                        (done.run, done.call) == (read.run.id, finished.call) && done.finished
                    };
                    if !book.executions.iter().any(|done| ran(&done)) {
                        wrong.push(("E4", format!("{} has a result that no tool gave", finished.call)));
                    }
                }
                _ => {}
            }
        }
        let mut called: BTreeMap<String, usize> = BTreeMap::new();
        for entry in &read.entries {
            if let Entry::ModelCalled(attempt) = entry {
                *called.entry(format!("{}:{}", read.run.id, attempt.step)).or_default() += 1;
            }
        }
        for (step, times) in called {
            let attempts = book.attempts.remove(&step).unwrap_or_default();
            if attempts > times {
                wrong.push(("E7", format!("{step} was asked {attempts} times and charged {times} times")));
            }
        }
    }
    if let Some(step) = book.attempts.keys().next() {
        wrong.push(("C4", format!("the model was asked for {step}, and no journal says so")));
    }
    for (invariant, what) in wrong {
        book.blame(invariant, &what);
    }
}

/// What a call says of files and its result are one commit: where one is, the other is.
fn check_files(world: &World, runs: &[Read]) {
    let (mut said, mut known) = (BTreeSet::new(), BTreeSet::new());
    let ran: BTreeSet<_> = {
        let book = world.witness.book();
        book.executions.iter().filter(|done| done.finished).map(|done| (done.run, done.call)).collect()
    };
    for read in runs {
        for entry in &read.entries {
            let Entry::ToolFinished(finished) = entry else { continue };
            let is_told = matches!(finished.status, CallStatus::Ok | CallStatus::Error);
            if is_told && ran.contains(&(read.run.id, finished.call)) {
                said.insert(file_of(read.run.id, finished.call));
            }
        }
    }
    for (tenant, agent) in &world.agents {
        known.extend(world.files(*tenant, *agent));
    }
    if said != known {
        let apart: Vec<_> = said.symmetric_difference(&known).collect();
        world.witness.blame("F1", &format!("of {apart:?} the result or the label is missing"));
    }
}

/// A transactional send and its result are one commit: as many notes lie in inboxes as journals say were sent.
fn check_sends(world: &World, runs: &[Read], notes: &BTreeMap<String, usize>) {
    let mut sent: BTreeMap<String, usize> = BTreeMap::new();
    for read in runs {
        for (entry, stored) in read.entries.iter().zip(&read.stored) {
            let Entry::ToolFinished(finished) = entry else { continue };
            let body = stored.body.as_deref().unwrap_or_default();
            let text = serde_json::from_slice::<ToolResult>(body).map(|result| parts_text(&result.parts));
            let Ok(text) = text else { continue };
            if let Some(said) = text.strip_prefix("sent ").filter(|_| finished.status == CallStatus::Ok) {
                *sent.entry(said.to_owned()).or_default() += 1;
            }
        }
    }
    let mut arrived: BTreeMap<String, usize> = BTreeMap::new();
    for (text, times) in notes {
        let name = text.split('|').next().unwrap_or_default();
        // What the engine says by itself is no note of a tool.
        if name.contains('.') && !name.starts_with("The call ") {
            *arrived.entry(name.to_owned()).or_default() += times;
        }
    }
    if sent != arrived {
        world.witness.blame("E3", &format!("sent were {sent:?} and arrived are {arrived:?}"));
    }
}
