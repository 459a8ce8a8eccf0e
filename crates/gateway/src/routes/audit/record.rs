//! Reads records off the items of a chain. Of what was said nothing is told; of words that others chose (names, rules,
//! tools as a model named them) what looks like a secret is taken out.

use dromia_api::audit::{Decided, Record};
use dromia_contracts::audit::{Act, AuditCursor, AuditItem, AuditWhat, Change, Notary};
use dromia_contracts::content::CallStatus;
use dromia_contracts::entry::Entry;
use dromia_contracts::store::StoredEntry;
use dromia_contracts::token::TokenScope;
use dromia_contracts::{AgentId, Digest, ErrorCode, RunId, SessionId};
use jiff::Timestamp;
use serde::Serialize;

/// The kind of a record about a request to another host.
pub(super) const EGRESS: &str = "egress";

/// The kind of a record that this program knows the chain of, and no more.
const UNKNOWN: &str = "unknown";

/// Returns the records of an item: one, and for a finished call one for each request that was judged.
pub(super) fn records(notary: &dyn Notary, item: AuditItem) -> Vec<Record> {
    let AuditItem { place, at, what } = item;
    match what {
        AuditWhat::Act { act, chain } => vec![change(notary, place, at, &act, chain)],
        AuditWhat::Unknown { chain } => vec![bare(format!("act:{}", place.seal), place, at, UNKNOWN, chain)],
        AuditWhat::Entry { run, agent, session, entry } => {
            entry_records(notary, Some(place), Whose { run, agent, session }, &entry)
        }
    }
}

/// Whose journal an entry is in.
#[derive(Debug, Clone, Copy)]
pub(super) struct Whose {
    pub(super) run: RunId,
    pub(super) agent: AgentId,
    pub(super) session: SessionId,
}

fn bare(id: String, place: AuditCursor, at: Timestamp, kind: &str, chain: Digest) -> Record {
    Record {
        id,
        place: place.to_string(),
        at,
        kind: kind.to_owned(),
        actor: None,
        agent: None,
        session: None,
        run: None,
        call: None,
        what: None,
        decision: None,
        rule: None,
        outcome: None,
        action: None,
        chain,
    }
}

fn change(notary: &dyn Notary, place: AuditCursor, at: Timestamp, act: &Act, chain: Digest) -> Record {
    let said = |text: &str| Some(notary.redacted(text));
    let record = bare(format!("act:{}", place.seal), place, at, act.change.kind(), chain);
    let record = Record {
        actor: act.by.as_ref().and_then(|by| said(by.as_str())),
        agent: act.change.agent(),
        ..record
    };
    match &act.change {
        Change::TenantCreated { handle } | Change::AgentCreated { handle, .. } => {
            Record { what: said(handle.as_str()), ..record }
        }
        Change::TokenCreated { token, name, scopes } => Record {
            what: said(&format!("{token} {name}")),
            outcome: Some(scopes.iter().map(TokenScope::as_str).collect::<Vec<_>>().join(" ")),
            ..record
        },
        Change::TokenRevoked { token } => Record { what: Some(token.to_string()), ..record },
        Change::AgentStateSet { to, .. } => Record { outcome: Some(to.as_str().to_owned()), ..record },
        Change::StatePut { session, name } => Record { session: Some(*session), what: said(name), ..record },
        Change::DeliveryRedriven { delivery } => Record { what: Some(delivery.to_string()), ..record },
        Change::ConfigApplied { config } => Record { action: Some(*config), ..record },
    }
}

/// Returns the records of one entry. One that a newer program wrote has its kind and its chain.
pub(super) fn entry_records(
    notary: &dyn Notary,
    place: Option<AuditCursor>,
    whose: Whose,
    stored: &StoredEntry,
) -> Vec<Record> {
    let said = |text: &str| Some(notary.redacted(text));
    let id = format!("{}:{}", whose.run, stored.seq);
    let place = place.unwrap_or_default();
    let record = Record {
        run: Some(whose.run),
        agent: Some(whose.agent),
        session: Some(whose.session),
        ..bare(id.clone(), place, stored.at, &stored.kind, stored.chain)
    };
    let Ok(entry) = stored.decode() else { return vec![record] };
    let one = match entry {
        Entry::RunStarted(started) => {
            Record { what: word(&started.kind), action: Some(started.config), ..record }
        }
        Entry::ModelCalled(called) => Record { what: said(&called.model), ..record },
        Entry::ModelReplied(replied) => Record { outcome: word(&replied.finish), ..record },
        Entry::ModelFailed(failed) => Record { outcome: Some(failed.code.as_str().to_owned()), ..record },
        Entry::CallAsked(asked) => Record { call: Some(asked.call), what: said(&asked.tool), ..record },
        Entry::OpinionCalled(called) => Record {
            call: Some(called.call),
            what: said(&called.model),
            action: Some(called.action),
            ..record
        },
        Entry::OpinionGiven(given) => Record {
            call: Some(given.call),
            what: given.opinion.as_ref().and_then(|opinion| said(&opinion.model)),
            action: Some(given.action),
            outcome: Some(match &given.opinion {
                Some(opinion) if opinion.agrees() => "agrees".to_owned(),
                Some(_) => "objects".to_owned(),
                None => ErrorCode::OutcomeUnknown.as_str().to_owned(),
            }),
            ..record
        },
        Entry::ToolStarted(started) => Record {
            call: Some(started.call),
            what: said(&started.tool),
            decision: Some(Decided::Allow),
            rule: said(&started.rule),
            action: Some(started.action),
            ..record
        },
        Entry::ToolFinished(finished) => {
            let mut records =
                vec![Record { call: Some(finished.call), outcome: word(&finished.status), ..record.clone() }];
            for (number, judged) in (1..).zip(finished.egress) {
                records.push(Record {
                    id: format!("{id}:{number}"),
                    kind: EGRESS.to_owned(),
                    call: Some(finished.call),
                    what: said(&format!("{} {}", word(&judged.method).unwrap_or_default(), judged.to)),
                    decision: Some(if judged.allowed { Decided::Allow } else { Decided::Deny }),
                    rule: said(&judged.rule),
                    ..record.clone()
                });
            }
            return records;
        }
        Entry::ToolRefused(refused) => Record {
            call: Some(refused.call),
            what: said(&refused.tool),
            decision: (refused.status == CallStatus::Denied).then_some(Decided::Deny),
            rule: refused.rule.as_deref().and_then(said),
            outcome: word(&refused.status),
            ..record
        },
        Entry::ToolHanded(handed) => Record { call: Some(handed.call), what: said(&handed.tool), ..record },
        Entry::SignalTaken(taken) => {
            Record { actor: said(taken.by.as_str()), what: word(&taken.signal), ..record }
        }
        Entry::RunHeld(held) => Record { outcome: word(&held.reason), ..record },
        Entry::RunCompleted(completed) => Record {
            what: Some("reply".to_owned()),
            decision: Some(Decided::Allow),
            rule: said(&completed.rule),
            ..record
        },
        Entry::RunParked(_) | Entry::RunYielded(_) => record,
        Entry::RunFailed(failed) => Record { outcome: Some(failed.code.as_str().to_owned()), ..record },
        Entry::RunCancelled(cancelled) => {
            Record { actor: said(cancelled.by.as_str()), outcome: word(&cancelled.signal), ..record }
        }
    };
    vec![one]
}

/// Writes a word of the contracts as it is written everywhere.
fn word(word: &impl Serialize) -> Option<String> {
    serde_json::to_value(word).ok()?.as_str().map(str::to_owned)
}
