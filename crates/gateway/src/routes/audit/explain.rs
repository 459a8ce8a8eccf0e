//! Why a record is as it is: who asked, by what right, which rule decided, and what is not known any more.

use dromia_api::audit::{AuditDecision, AuditFact, AuditRecord, RecordExplanation};
use dromia_contracts::audit::{AuditCursor, AuditFilter, AuditWhat};
use dromia_contracts::content::{CallStatus, ToolResult, parts_text};
use dromia_contracts::entry::{
    Entry, ParkReason, RunParked, RunStarted, RunYielded, ToolRefused, repeated_text,
};
use dromia_contracts::run::RunRecord;
use dromia_contracts::session::InboxOwner;
use dromia_contracts::store::StoredEntry;
use dromia_contracts::{ErrorCode, RunId, Scope};

use super::record::{self, EGRESS, JournalOwner};
use crate::core::GatewayCore;
use crate::failure::{Answer, ApiError};

/// The most authors that are named.
const AUTHORS_MAX: usize = 16;

/// What a record's id names.
enum RecordTarget {
    /// An entry; which of its records is meant says the id as a whole.
    Entry { run: RunId, seq: u64 },
    /// A change.
    Act { seal: u64 },
}

fn parse_record_id(id: &str) -> Option<RecordTarget> {
    if let Some(seal) = id.strip_prefix("act:") {
        return Some(RecordTarget::Act { seal: seal.parse::<u64>().ok().filter(|seal| *seal > 0)? });
    }
    let mut parts = id.splitn(3, ':');
    let run = parts.next()?.parse().ok()?;
    let seq = parts.next()?.parse::<u64>().ok().filter(|seq| *seq > 0)?;
    Some(RecordTarget::Entry { run, seq })
}

pub(super) async fn explain_record(core: &GatewayCore, scope: &Scope, id: &str) -> Answer<RecordExplanation> {
    match parse_record_id(id) {
        Some(RecordTarget::Act { seal }) => explain_change(core, scope, id, seal).await,
        Some(RecordTarget::Entry { run, seq }) => explain_entry(core, scope, id, run, seq).await,
        None => Err(not_found()),
    }
}

fn not_found() -> ApiError {
    ApiError::new(ErrorCode::RecordNotFound, "there is no such record")
}

async fn explain_change(core: &GatewayCore, scope: &Scope, id: &str, seal: u64) -> Answer<RecordExplanation> {
    let before = AuditCursor { seal, ..AuditCursor::default() };
    let page = core.ports.audit.audit_items(scope, AuditFilter::default(), before, 1).await?;
    let found = page.items.into_iter().find(|item| {
        item.place.seal == seal && matches!(item.what, AuditWhat::Act { .. } | AuditWhat::Unknown { .. })
    });
    let mut records = record::audit_records(&*core.ports.notary, found.ok_or_else(not_found)?);
    let found = records.iter().position(|record| record.id == id);
    let record = records.swap_remove(found.ok_or_else(not_found)?);
    let by = record.actor.clone().unwrap_or_else(|| "the server itself".to_owned());
    let why = format!("{by} did this, with a scope that allows it");
    let missing = if record.actor.is_none() {
        vec![
            "the author: the action had no request, or the record is older than the names of authors"
                .to_owned(),
        ]
    } else {
        Vec::new()
    };
    let facts = vec![AuditFact { name: "author".to_owned(), value: by }];
    Ok(RecordExplanation { record, why, facts, missing })
}

async fn explain_entry(
    core: &GatewayCore,
    scope: &Scope,
    id: &str,
    run: RunId,
    seq: u64,
) -> Answer<RecordExplanation> {
    let store = &core.ports.store;
    let run = store.run(scope, run).await?.ok_or_else(not_found)?;
    let stored =
        store.journal_entries(scope, run.id, seq - 1, 1).await?.into_iter().next().ok_or_else(not_found)?;
    let whose = JournalOwner { run: run.id, agent: run.agent, session: run.session };
    let mut records = record::entry_records(&*core.ports.notary, None, whose, &stored);
    let found = records.iter().position(|record| record.id == id);
    let record = records.swap_remove(found.ok_or_else(not_found)?);
    let mut told = ExplanationFacts { facts: Vec::new(), missing: Vec::new() };
    add_lineage(core, scope, &run, &mut told).await?;
    let why = match stop_cause(core, scope, &record, &stored).await? {
        Some(why) => why,
        None => decision_reason(core, &record, &stored, &mut told),
    };
    Ok(RecordExplanation { record, why, facts: told.facts, missing: told.missing })
}

struct ExplanationFacts {
    facts: Vec<AuditFact>,
    missing: Vec<String>,
}

impl ExplanationFacts {
    fn add_fact(&mut self, name: &str, value: impl Into<String>) {
        self.facts.push(AuditFact { name: name.to_owned(), value: value.into() });
    }
}

/// Tells whose words the run works on, and what its agent was granted when it began.
async fn add_lineage(
    core: &GatewayCore,
    scope: &Scope,
    run: &RunRecord,
    told: &mut ExplanationFacts,
) -> Answer<()> {
    let store = &core.ports.store;
    let first = store.journal_entries(scope, run.id, 0, 1).await?;
    let Some(Ok(Entry::RunStarted(started))) = first.first().map(StoredEntry::decode) else {
        told.missing.push("how the run started: a newer program wrote it".to_owned());
        return Ok(());
    };
    let RunStarted { items, after, config, resumes, .. } = started;
    let session = InboxOwner::Session(run.session);
    let said = store.inbox_items(scope, session, after, items.len().clamp(1, AUTHORS_MAX)).await?;
    let mut authors: Vec<_> = said
        .iter()
        .filter(|item| items.contains(&item.id))
        .map(|item| core.ports.notary.redact_secrets(item.author.as_str()))
        .collect();
    authors.dedup();
    if authors.is_empty() {
        told.missing.push("the author of the run's input".to_owned());
    }
    for author in authors {
        told.add_fact("author", author);
    }
    if let Some(resumes) = resumes {
        told.add_fact("continues", resumes.to_string());
    }
    match store.agent(scope, run.agent).await? {
        Some(agent) => told.add_fact("agent", format!("{} {}", agent.handle, agent.id)),
        None => told.missing.push("the agent, which was erased".to_owned()),
    }
    told.add_fact("revision", config.to_string());
    match store.agent_revision(scope, run.agent, config).await? {
        Some(revision) => {
            let grants = revision.config.grants.join(", ");
            told.add_fact("grants", core.ports.notary.redact_secrets(&grants));
        }
        None => told.missing.push("the configuration of the run".to_owned()),
    }
    Ok(())
}

/// Says what a call waits for, by which rule, and which budget stopped a run. Nothing of other entries, and of an approval
/// that is not kept any more.
async fn stop_cause(
    core: &GatewayCore,
    scope: &Scope,
    record: &AuditRecord,
    stored: &StoredEntry,
) -> Answer<Option<String>> {
    let approval = match stored.decode() {
        Ok(Entry::RunYielded(RunYielded { budget: Some(exhausted), .. })) => {
            return Ok(Some(format!("no rule decided this: {}", exhausted.text())));
        }
        Ok(Entry::RunYielded(RunYielded { repeated: Some(told), .. })) => {
            return Ok(Some(format!("no rule decided this: {}", repeated_text(told))));
        }
        Ok(
            Entry::ToolRefused(ToolRefused {
                status: CallStatus::Awaiting, approval: Some(approval), ..
            })
            | Entry::RunParked(RunParked { park: ParkReason::Approval { approval, .. } }),
        ) => approval,
        _ => return Ok(None),
    };
    let Some(asked) = core.ports.store.approval(scope, approval).await? else { return Ok(None) };
    let what = record.what.as_deref().unwrap_or("a call");
    let how = match asked.deadlines.cools_until {
        Some(_) => format!("the gate delayed {what}"),
        None => format!("the gate asked a person about {what}"),
    };
    let (rule, reason) = (asked.asked_by(), core.ports.notary.redact_secrets(&asked.reason));
    let became = format!("`dromia approval show {approval}` shows the outcome");
    Ok(Some(format!("{how}, by the rule `{rule}`: {reason}; {became}")))
}

/// Says which rule decided, and why, as far as a rule did.
fn decision_reason(
    core: &GatewayCore,
    record: &AuditRecord,
    stored: &StoredEntry,
    told: &mut ExplanationFacts,
) -> String {
    let what = record.what.as_deref().unwrap_or("it");
    let rule = record.rule.as_deref().unwrap_or("a rule without a name");
    match (record.kind.as_str(), record.decision) {
        (EGRESS, Some(AuditDecision::Allow)) => {
            format!("the egress proxy allowed {what}, by the rule `{rule}`")
        }
        (EGRESS, _) => format!("the egress proxy denied {what}, by the rule `{rule}`; nothing was sent"),
        ("run_completed", Some(AuditDecision::Allow)) => {
            format!("the gate allowed the reply, by the rule `{rule}`")
        }
        ("model_called" | "opinion_called", Some(AuditDecision::Allow)) => {
            format!("the gate allowed the request to {what}, by the rule `{rule}`")
        }
        ("model_failed", Some(AuditDecision::Deny)) => {
            let message = match stored.decode() {
                Ok(Entry::ModelFailed(failed)) => core.ports.notary.redact_secrets(&failed.message),
                _ => format!("the rule `{rule}` denied the request"),
            };
            format!("{message}; nothing was sent")
        }
        (_, Some(AuditDecision::Allow)) => format!(
            "the gate allowed {what} before it started, by the rule `{rule}`; the digest identifies the action \
             that ran"
        ),
        (_, Some(AuditDecision::Deny)) => {
            if let Some(reason) = model_reason(core, stored) {
                format!("the gate denied {what}, by the rule `{rule}`: {reason}")
            } else {
                told.missing.push("the reason in words, because it was erased".to_owned());
                format!("the gate denied {what}, by the rule `{rule}`")
            }
        }
        ("tool_refused", None) => match model_reason(core, stored) {
            Some(reason) => format!("no rule decided this: {reason}"),
            None => "no rule decided this: the call ended before the gate judged it".to_owned(),
        },
        _ => "no rule decided this: it records an event".to_owned(),
    }
}

/// The reason that the model received, which is written for people too.
fn model_reason(core: &GatewayCore, stored: &StoredEntry) -> Option<String> {
    let result: ToolResult = serde_json::from_slice(stored.body.as_ref()?).ok()?;
    Some(core.ports.notary.redact_secrets(&parts_text(&result.parts)))
}
