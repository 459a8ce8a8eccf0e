//! What must hold after the scenario, whatever failed on the way; seen from outside, through the port and the
//! file system. Each check answers with words instead of a panic, so that a planted fault can be seen to be caught.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use dromia_contracts::content::{CallStatus, parts_text};
use dromia_contracts::delivery::ReplyEvent;
use dromia_contracts::entry::Entry;
use dromia_contracts::input::InputBody;
use dromia_contracts::run::RunRecord;
use dromia_contracts::session::{InboxItem, InboxOwner, ItemKind, SessionRecord};
use dromia_contracts::store::{DeliveryFilter, PageRequest, RunFilter, Store as _, StoredEntry};
use dromia_contracts::{CallId, ItemId, RunId, Scope};
use dromia_engine::RunState;

use super::client::{ANSWER, Client, INTERIM, LINE, MESSAGE, REPLYING, STATE, Stop};
use super::process::{TestProcess, words};

type Finding<T = ()> = Result<T, String>;

/// A run with what its journal says.
struct Told {
    run: RunRecord,
    /// The items it started with.
    items: Vec<ItemId>,
    /// Every call with its tool and its one result.
    calls: BTreeMap<CallId, (String, CallStatus)>,
}

/// Checks everything, and returns the rows of the projections as text.
pub(crate) async fn check(process: &TestProcess, client: &Client) -> Finding<String> {
    let scope = process.scope(client.tenant().map_err(said)?);
    let sessions = process.store.sessions(&scope, None, PageRequest::first_page(256)).await.map_err(words)?;
    let rows = process
        .store
        .runs(&scope, RunFilter::default(), PageRequest::first_page(256))
        .await
        .map_err(words)?;
    let mut runs = BTreeMap::new();
    for run in &rows {
        runs.insert(run.id, journal(process, &scope, run).await?);
    }
    delivered(process, &scope, client).await?;
    for session in &sessions {
        inbox(process, &scope, client, session, &runs).await?;
    }
    appended(process, client, &runs)?;
    erased(process, &scope, client).await?;
    let session = client.acked_of("plain").map_err(said)?.session;
    let state = process.store.state_entry(&scope, session, STATE.0).await.map_err(words)?;
    let state = state.map(|state| (state.version, state.value.to_vec()));
    same("the custom state", &state, &Some((1, STATE.1.to_vec())))?;
    let token = client.token_id().map_err(said)?;
    let revoked = process.store.token_by_id(&scope, token).await.map_err(words)?;
    if revoked.is_none_or(|token| token.revoked_at.is_none()) {
        return Err(format!("{token} was revoked and is not"));
    }
    let agents = process.store.agents(&scope, None, PageRequest::first_page(9)).await.map_err(words)?;
    let mut names: Vec<_> = agents.iter().map(|agent| agent.handle.to_string()).collect();
    // The list is by id, and ids of two lives that follow within a few milliseconds sort by chance.
    names.sort_unstable();
    same("agents", &names, &vec!["ada".to_owned(), "bob".to_owned()])?;

    let mut dump = String::new();
    for row in &rows {
        writeln!(dump, "{row:?}").map_err(words)?;
    }
    for session in &sessions {
        writeln!(dump, "{session:?}").map_err(words)?;
    }
    Ok(dump)
}

/// A run has ended, its journal has no gap, every call one result, and its row says what the journal folds to.
async fn journal(process: &TestProcess, scope: &Scope, run: &RunRecord) -> Finding<Told> {
    if !run.head.status.is_terminal() {
        return Err(format!("{} is {}", run.id, run.head.status.as_str()));
    }
    let stored = process.store.journal_entries(scope, run.id, 0, 256).await.map_err(words)?;
    let numbers: Vec<_> = stored.iter().map(|entry| entry.seq).collect();
    same("entry numbers", &numbers, &(1..=run.last_seq).collect::<Vec<_>>())?;
    let entries: Result<Vec<Entry>, _> = stored.iter().map(StoredEntry::decode).collect();
    let entries = entries.map_err(words)?;
    same("the head", &run.head, &RunState::fold(&entries).run_head())?;
    let mut told = Told { run: run.clone(), items: Vec::new(), calls: BTreeMap::new() };
    let mut asked = BTreeMap::new();
    for entry in entries {
        let (call, status) = match entry {
            Entry::RunStarted(started) => {
                told.items = started.items;
                continue;
            }
            Entry::ModelReplied(replied) => {
                for (index, tool) in (0..).zip(replied.tools) {
                    asked.insert(CallId { step: replied.step, index }, tool);
                }
                continue;
            }
            Entry::ToolFinished(finished) => (finished.call, finished.status),
            Entry::ToolRefused(refused) => (refused.call, refused.status),
            _ => continue,
        };
        let tool = asked.get(&call).ok_or_else(|| format!("{}: nobody asked for {call}", run.id))?;
        if told.calls.insert(call, (tool.clone(), status)).is_some() {
            return Err(format!("{}: {call} has two results", run.id));
        }
    }
    same("answered calls", &told.calls.keys().collect::<Vec<_>>(), &asked.keys().collect::<Vec<_>>())?;
    Ok(told)
}

/// An inbox holds what was acknowledged, once and in order, and nothing else but the message; all of it was taken,
/// in order, by the runs that say so.
async fn inbox(
    process: &TestProcess,
    scope: &Scope,
    client: &Client,
    session: &SessionRecord,
    runs: &BTreeMap<RunId, Told>,
) -> Finding {
    let items =
        process.store.inbox_items(scope, InboxOwner::Session(session.id), 0, 256).await.map_err(words)?;
    let last = items.len() as u64;
    same("positions", &items.iter().map(|item| item.position).collect::<Vec<_>>(), &(1..=last).collect())?;
    same("the session's head", &(session.head.last, session.head.taken), &(last, last))?;
    same("the active turn", &session.head.active, &None)?;

    let acked = client.acked.iter().filter(|(_, acked)| acked.session == session.id);
    let acked: Vec<_> = acked.map(|(_, acked)| acked.item).collect();
    let bob = client.agent("bob").map_err(said)?;
    let is_message = |item: &&InboxItem| item.author.as_str().starts_with("agent:");
    let own = items.iter().filter(|item| !is_message(item)).map(|item| item.id);
    same("the inputs", &own.collect::<Vec<_>>(), &acked)?;
    let messages: Vec<_> = items.iter().filter(is_message).map(text).collect();
    let sent = count_calls(runs, "message.send", CallStatus::Ok);
    let expected = if session.agent == bob { vec![MESSAGE.to_owned(); sent] } else { Vec::new() };
    same("the messages", &messages, &expected)?;
    if session.agent == bob && sent != 1 {
        return Err(format!("{sent} calls sent the message"));
    }

    let mut takers: Vec<RunId> = Vec::new();
    for item in &items {
        let run = item.taken_by.ok_or_else(|| format!("{} was never taken", item.id))?;
        let told = runs.get(&run).ok_or_else(|| format!("{} was taken by {run}, which is gone", item.id))?;
        if takers.last() != Some(&run) {
            takers.push(run);
        }
        if told.run.session != session.id || !told.items.contains(&item.id) {
            return Err(format!("{run} does not say that it took {}", item.id));
        }
    }
    let mut distinct = takers.clone();
    distinct.sort_unstable();
    distinct.dedup();
    same("runs of the session", &distinct.len(), &takers.len())?;
    let started: usize = takers.iter().filter_map(|run| runs.get(run)).map(|told| told.items.len()).sum();
    let of_session = runs.values().filter(|told| told.run.session == session.id).count();
    same("items that runs say they took", &(started, of_session), &(items.len(), takers.len()))
}

/// The line of the unkeyed call is there once, or at most once if its outcome is unknown.
fn appended(process: &TestProcess, client: &Client, runs: &BTreeMap<RunId, Told>) -> Finding {
    let ada = client.agent("ada").map_err(said)?;
    let log = process.root.join("agents").join(ada.to_string()).join("workspace").join("log");
    let text = std::fs::read_to_string(log).unwrap_or_default();
    let lines = text.lines().filter(|line| *line == LINE).count();
    let unknown = count_calls(runs, "file.append", CallStatus::Unknown);
    let ok = count_calls(runs, "file.append", CallStatus::Ok);
    let right = if unknown == 0 { lines == 1 && ok == 1 } else { lines <= 1 && ok <= lines };
    let other = text.lines().count() - lines;
    if right && other == 0 {
        return Ok(());
    }
    Err(format!("{lines} lines of the call and {other} others; {ok} calls are ok and {unknown} unknown"))
}

/// The channel gets what the turn said before its answer, and then the answer, each once.
async fn delivered(process: &TestProcess, scope: &Scope, client: &Client) -> Finding {
    let session = client.acked_of(REPLYING).map_err(said)?.session;
    let page = PageRequest::first_page(256);
    let mut found = process.store.deliveries(scope, DeliveryFilter::default(), page).await.map_err(words)?;
    found.retain(|delivery| delivery.source.session == session);
    found.sort_by_key(|delivery| delivery.position);
    let mut told = Vec::new();
    for delivery in found {
        let record = process.store.delivery_record(scope, delivery.id).await.map_err(words)?;
        let record = record.ok_or_else(|| format!("{} is listed and not there", delivery.id))?;
        let event: ReplyEvent = serde_json::from_slice(&record.body).map_err(words)?;
        told.push((event.kind, event.data.text));
    }
    let expected = [(ReplyEvent::INTERIM, INTERIM), (ReplyEvent::REPLIED, ANSWER)];
    same(
        "the messages to the channel",
        &told,
        &expected.map(|(kind, text)| (kind.into(), text.into())).to_vec(),
    )
}

/// Nothing is left of the agent that was deleted.
async fn erased(process: &TestProcess, scope: &Scope, client: &Client) -> Finding {
    let eve = client.agent("eve").map_err(said)?;
    let store = &process.store;
    let mut left = Vec::new();
    if store.agent(scope, eve).await.map_err(words)?.is_some() {
        left.push("the agent");
    }
    let filter = RunFilter { agent: Some(eve), ..RunFilter::default() };
    if !store.runs(scope, filter, PageRequest::first_page(1)).await.map_err(words)?.is_empty() {
        left.push("runs");
    }
    if !store.sessions(scope, Some(eve), PageRequest::first_page(1)).await.map_err(words)?.is_empty() {
        left.push("sessions");
    }
    if !store.deleting_agents(&process.authority.issue_operator()).await.map_err(words)?.is_empty() {
        left.push("the mark");
    }
    if process.root.join("agents").join(eve.to_string()).exists() {
        left.push("the home");
    }
    if left.is_empty() {
        Ok(())
    } else {
        Err(format!("of the deleted agent there is left: {}", left.join(", ")))
    }
}

fn count_calls(runs: &BTreeMap<RunId, Told>, tool: &str, status: CallStatus) -> usize {
    let calls = runs.values().flat_map(|told| told.calls.values());
    calls.filter(|(of, ended)| of == tool && *ended == status).count()
}

fn text(item: &InboxItem) -> String {
    let body = item.body.as_deref().filter(|_| item.kind == ItemKind::Input).unwrap_or_default();
    InputBody::decode(body).map(|body| parts_text(&body.message.parts)).unwrap_or_default()
}

fn same<T: PartialEq + std::fmt::Debug>(what: &str, found: &T, expected: &T) -> Finding {
    if found == expected { Ok(()) } else { Err(format!("{what}: found {found:?}, expected {expected:?}")) }
}

#[expect(clippy::needless_pass_by_value, reason = "it is what an error is mapped with")]
fn said(stop: Stop) -> String {
    format!("{stop:?}")
}
