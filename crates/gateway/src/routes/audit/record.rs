//! Reads records off the items of a chain. Of what was said nothing is told; of words that others chose (names, rules,
//! tools as a model named them) what looks like a secret is taken out.

use dromia_api::audit::{Decided, Record};
use dromia_contracts::audit::{Act, AuditCursor, AuditItem, AuditWhat, Change, Notary};
use dromia_contracts::budget::Budget;
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
        Change::TokenCreated { token, name, scopes, .. } => Record {
            what: said(&format!("{token} {name}")),
            outcome: Some(scopes.iter().map(TokenScope::as_str).collect::<Vec<_>>().join(" ")),
            ..record
        },
        Change::TokenRevoked { token } => Record { what: Some(token.to_string()), ..record },
        Change::AgentStateSet { to, .. } => Record { outcome: Some(to.as_str().to_owned()), ..record },
        Change::StatePut { session, name } => Record { session: Some(*session), what: said(name), ..record },
        Change::DeliveryRedriven { delivery } => Record { what: Some(delivery.to_string()), ..record },
        Change::ConfigApplied { config } => Record { action: Some(*config), ..record },
        Change::SecretSet { name, version, host } => Record {
            what: said(&format!("{name} for {host}")),
            outcome: Some(format!("version {version}")),
            ..record
        },
        Change::SecretErased { name }
        | Change::BudgetRemoved { name }
        | Change::ApprovalRuleRemoved { name } => Record { what: said(name), ..record },
        Change::CapabilityGranted { capability, rights, .. } => {
            Record { what: Some(capability.to_string()), outcome: said(&rights.join(" ")), ..record }
        }
        Change::CapabilityDelegated { capability, from, rights, .. } => Record {
            what: Some(format!("{capability} of {from}")),
            outcome: said(&rights.join(" ")),
            ..record
        },
        Change::CapabilityRevoked { capability, .. } => {
            Record { what: Some(capability.to_string()), ..record }
        }
        Change::BudgetSet { budget } => {
            Record { what: said(&budget.name), outcome: said(&limit(budget)), ..record }
        }
        Change::ApprovalAnswered { approval, approved, .. } => {
            let outcome = if *approved { "approved" } else { "denied" };
            Record { what: Some(approval.to_string()), outcome: Some(outcome.to_owned()), ..record }
        }
        Change::ApprovalRuleSet { name, answer, rule, .. } => Record {
            what: said(name),
            outcome: Some(answer.as_str().to_owned()),
            action: Some(*rule),
            ..record
        },
        Change::SessionExported { session } | Change::SessionTrusted { session, .. } => {
            Record { session: Some(*session), what: Some(session.to_string()), ..record }
        }
        Change::BeforeSealed { runs, list } => {
            Record { what: Some(format!("{runs} runs")), action: Some(*list), ..record }
        }
        Change::VaultKeyReplaced => record,
    }
}

/// Says what a budget allows, such as `5.000000 money per day and agent`.
fn limit(budget: &Budget) -> String {
    let Budget { per, of, measure, period, limit, .. } = budget;
    let whose = of.as_deref().map(|of| format!(" {of}")).unwrap_or_default();
    let (limit, measure, period) = (measure.show(*limit), measure.as_str(), period.as_str());
    format!("{limit} {measure} per {period} and {}{whose}", per.as_str())
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

#[cfg(test)]
mod tests {
    use dromia_contracts::approval::RuleAnswer;
    use dromia_contracts::budget::{Measure, Per, Period};
    use dromia_contracts::{Actor, ApprovalId, CapabilityId};

    use super::*;

    /// Takes one word out of texts, and signs nothing.
    #[derive(Debug)]
    struct Censor;

    impl Notary for Censor {
        fn redacted(&self, text: &str) -> String {
            text.replace("hunter2", "(redacted)")
        }

        fn first_line(&self, _: &str) -> (String, Digest) {
            (String::new(), Digest::default())
        }

        fn line(&self, _: Digest, _: &str) -> (String, Digest) {
            (String::new(), Digest::default())
        }

        fn last_line(&self, _: Digest, _: u64) -> String {
            String::new()
        }
    }

    fn told(change: Change) -> Record {
        let item = AuditItem {
            place: AuditCursor { seal: 7, span: 0, seq: 1 },
            at: Timestamp::UNIX_EPOCH,
            what: AuditWhat::Act {
                act: Act { by: Some(Actor::new("token:ci")), change },
                chain: Digest::default(),
            },
        };
        let mut records = records(&Censor, item);
        assert_eq!(records.len(), 1, "an act is one record");
        records.remove(0)
    }

    #[test]
    fn an_act_says_who_did_what_and_nothing_that_is_secret() {
        let (capability, from) = (CapabilityId::from_bytes([1; 16]), CapabilityId::from_bytes([2; 16]));
        let (holder, approval) = (AgentId::from_bytes([3; 16]), ApprovalId::from_bytes([4; 16]));
        let session = SessionId::from_bytes([5; 16]);
        let named = || "hunter2".to_owned();
        let rights = vec!["file:write:hunter2".to_owned(), "tool:exec".to_owned()];
        let budget = Budget {
            name: "daily".to_owned(),
            per: Per::Actor,
            of: Some("cli:hunter2".to_owned()),
            measure: Measure::Money,
            period: Period::Day,
            limit: 5_000_000,
            declared: false,
        };
        let covers = Some("file:write:(redacted) tool:exec");
        let (name, rule) = (named(), Digest::from_bytes([6; 32]));
        let (answer, agent) = (RuleAnswer::Deny, Some(holder));
        let rule_set = Change::ApprovalRuleSet { name, answer, agent, session: None, expires_at: None, rule };
        for (change, agent, what, outcome) in [
            (
                Change::SecretSet { name: named(), version: 3, host: "https://h:443".to_owned() },
                None,
                "(redacted) for https://h:443".to_owned(),
                Some("version 3"),
            ),
            (Change::SecretErased { name: named() }, None, "(redacted)".to_owned(), None),
            (
                Change::CapabilityGranted { capability, holder, rights: rights.clone() },
                Some(holder),
                capability.to_string(),
                covers,
            ),
            (
                Change::CapabilityDelegated { capability, from, holder, rights },
                Some(holder),
                format!("{capability} of {from}"),
                covers,
            ),
            (Change::CapabilityRevoked { capability, holder }, Some(holder), capability.to_string(), None),
            (
                Change::BudgetSet { budget },
                None,
                "daily".to_owned(),
                Some("5.000000 money per day and actor cli:(redacted)"),
            ),
            (Change::BudgetRemoved { name: named() }, None, "(redacted)".to_owned(), None),
            (
                Change::ApprovalAnswered { approval, agent: holder, approved: false },
                Some(holder),
                approval.to_string(),
                Some("denied"),
            ),
            (rule_set, Some(holder), "(redacted)".to_owned(), Some("deny")),
            (Change::ApprovalRuleRemoved { name: named() }, None, "(redacted)".to_owned(), None),
            (Change::SessionExported { session }, None, session.to_string(), None),
            (Change::SessionTrusted { session, agent: holder }, Some(holder), session.to_string(), None),
        ] {
            let kind = change.kind();
            let record = told(change);
            assert_eq!((record.id.as_str(), record.kind.as_str()), ("act:7", kind));
            assert_eq!((record.actor.as_deref(), record.agent), (Some("token:ci"), agent), "{kind}");
            assert_eq!((record.what, record.outcome.as_deref()), (Some(what), outcome), "{kind}");
            assert_eq!(record.decision, None, "{kind} is no decision of the gate");
        }
    }
}
