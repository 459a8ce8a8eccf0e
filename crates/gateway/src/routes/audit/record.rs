//! Reads records off the items of a chain. They repeat nothing of what was said; from words that others chose (names,
//! rules, tools as a model named them) what looks like a secret is taken out.

use dromia_api::audit::{AuditDecision, AuditRecord};
use dromia_contracts::audit::{AuditAct, AuditChange, AuditCursor, AuditItem, AuditSigner, AuditWhat};
use dromia_contracts::budget::BudgetDefinition;
use dromia_contracts::content::CallStatus;
use dromia_contracts::cost::CURRENCY;
use dromia_contracts::entry::Entry;
use dromia_contracts::retention::SessionSeal;
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
pub(super) fn audit_records(notary: &dyn AuditSigner, item: AuditItem) -> Vec<AuditRecord> {
    let AuditItem { place, at, what } = item;
    match what {
        AuditWhat::Act { act, chain } => vec![change_record(notary, place, at, &act, chain)],
        AuditWhat::Unknown { chain } => {
            vec![bare_record(format!("act:{}", place.seal), place, at, UNKNOWN, chain)]
        }
        AuditWhat::Entry { run, agent, session, entry } => {
            entry_records(notary, Some(place), JournalOwner { run, agent, session }, &entry)
        }
    }
}

/// Whose journal an entry is in.
#[derive(Debug, Clone, Copy)]
pub(super) struct JournalOwner {
    pub(super) run: RunId,
    pub(super) agent: AgentId,
    pub(super) session: SessionId,
}

pub(super) fn bare_record(
    id: String,
    place: AuditCursor,
    at: Timestamp,
    kind: &str,
    chain: Digest,
) -> AuditRecord {
    AuditRecord {
        id,
        place: place.to_string(),
        at,
        kind: kind.to_owned(),
        actor: None,
        actor_unread: false,
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

fn change_record(
    notary: &dyn AuditSigner,
    place: AuditCursor,
    at: Timestamp,
    act: &AuditAct,
    chain: Digest,
) -> AuditRecord {
    let said = |text: &str| Some(notary.redact_secrets(text));
    let record = bare_record(format!("act:{}", place.seal), place, at, act.change.kind(), chain);
    let record = AuditRecord {
        actor: act.by.as_ref().and_then(|by| said(by.as_str())),
        agent: act.change.concerned_agent(),
        ..record
    };
    match &act.change {
        AuditChange::TenantCreated { handle } | AuditChange::AgentCreated { handle, .. } => {
            AuditRecord { what: said(handle.as_str()), ..record }
        }
        AuditChange::TenantSuspensionSet { suspended } => {
            AuditRecord { outcome: said(if *suspended { "suspended" } else { "resumed" }), ..record }
        }
        AuditChange::TokenCreated { token, name, scopes, .. } => AuditRecord {
            what: said(&format!("{token} {name}")),
            outcome: Some(scopes.iter().map(TokenScope::as_str).collect::<Vec<_>>().join(" ")),
            ..record
        },
        AuditChange::TokenRevoked { token } => AuditRecord { what: Some(token.to_string()), ..record },
        AuditChange::AgentRevised { number, revision, changed, granted, taken, .. } => {
            let mut what: Vec<String> = changed.iter().map(|field| field.as_str().to_owned()).collect();
            what.extend(granted.iter().map(|grant| format!("+{grant}")));
            what.extend(taken.iter().map(|grant| format!("-{grant}")));
            let outcome = Some(format!("revision {number}"));
            AuditRecord { what: said(&what.join(" ")), outcome, action: Some(*revision), ..record }
        }
        AuditChange::AgentRenamed { handle, .. } => AuditRecord { what: said(handle.as_str()), ..record },
        AuditChange::AgentStateSet { to, .. } => {
            AuditRecord { outcome: Some(to.as_str().to_owned()), ..record }
        }
        AuditChange::StatePut { session, name } => {
            AuditRecord { session: Some(*session), what: said(name), ..record }
        }
        AuditChange::DeliveryRedriven { delivery } => {
            AuditRecord { what: Some(delivery.to_string()), ..record }
        }
        AuditChange::ConfigApplied { config } => AuditRecord { action: Some(*config), ..record },
        AuditChange::SecretSet { name, version, host } => AuditRecord {
            what: said(&format!("{name} for {host}")),
            outcome: Some(format!("version {version}")),
            ..record
        },
        AuditChange::SecretErased { name }
        | AuditChange::BudgetRemoved { name }
        | AuditChange::ApprovalRuleRemoved { name } => AuditRecord { what: said(name), ..record },
        AuditChange::CapabilityGranted { capability, rights, .. } => {
            AuditRecord { what: Some(capability.to_string()), outcome: said(&rights.join(" ")), ..record }
        }
        AuditChange::CapabilityDelegated { capability, from, rights, .. } => AuditRecord {
            what: Some(format!("{capability} of {from}")),
            outcome: said(&rights.join(" ")),
            ..record
        },
        AuditChange::CapabilityRevoked { capability, .. } => {
            AuditRecord { what: Some(capability.to_string()), ..record }
        }
        AuditChange::BudgetSet { budget } => {
            AuditRecord { what: said(&budget.name), outcome: said(&budget_limit(budget)), ..record }
        }
        AuditChange::ApprovalAnswered { approval, approved, .. } => {
            let outcome = if *approved { "approved" } else { "denied" };
            AuditRecord { what: Some(approval.to_string()), outcome: Some(outcome.to_owned()), ..record }
        }
        AuditChange::ApprovalRuleSet { name, answer, rule, .. } => AuditRecord {
            what: said(name),
            outcome: Some(answer.as_str().to_owned()),
            action: Some(*rule),
            ..record
        },
        AuditChange::FilePut { path, content, .. } => {
            AuditRecord { what: said(path), action: Some(*content), ..record }
        }
        AuditChange::PictureFetched { host, rule, content, .. } => AuditRecord {
            what: said(host),
            rule: rule.as_deref().and_then(said),
            outcome: said(if content.is_some() { "fetched" } else { "failed" }),
            action: *content,
            ..record
        },
        AuditChange::SessionExported { session } | AuditChange::SessionTrusted { session, .. } => {
            AuditRecord { session: Some(*session), what: Some(session.to_string()), ..record }
        }
        AuditChange::SessionErased { session, seal, .. } => AuditRecord {
            session: Some(*session),
            what: Some(seal_text(seal)),
            action: Some(seal.heads),
            ..record
        },
        AuditChange::SessionHoldSet { session, held, .. } => AuditRecord {
            session: Some(*session),
            what: Some(session.to_string()),
            outcome: said(if *held { "held" } else { "released" }),
            ..record
        },
        AuditChange::VaultKeyReplaced | AuditChange::TenantDeleted => record,
    }
}

/// Says what an erased session was, such as `runs 2, entries 9, messages 2, tokens 90, cost 0.000042 USD, last used 2026-01-02T03:04:05Z`.
fn seal_text(seal: &SessionSeal) -> String {
    let SessionSeal { runs, entries, items, spent, last_at, .. } = seal;
    let (tokens, cost) = (spent.input_tokens.saturating_add(spent.output_tokens), spent.cost_micros);
    let (units, millionths) = (cost / 1_000_000, cost % 1_000_000);
    format!(
        "runs {runs}, entries {entries}, messages {items}, tokens {tokens}, cost {units}.{millionths:06} {CURRENCY}, \
         last used {last_at}"
    )
}

/// Says what a budget allows, such as `5.000000 money per day and agent`.
fn budget_limit(budget: &BudgetDefinition) -> String {
    let BudgetDefinition { per, of, measure, period, limit, .. } = budget;
    let whose = of.as_deref().map(|of| format!(" {of}")).unwrap_or_default();
    let (limit, measure, period) = (measure.format_amount(*limit), measure.as_str(), period.as_str());
    format!("{limit} {measure} per {period} and {}{whose}", per.as_str())
}

/// Returns the records of one entry. One that a newer program wrote has its kind and its chain.
pub(super) fn entry_records(
    notary: &dyn AuditSigner,
    place: Option<AuditCursor>,
    whose: JournalOwner,
    stored: &StoredEntry,
) -> Vec<AuditRecord> {
    let said = |text: &str| Some(notary.redact_secrets(text));
    let id = format!("{}:{}", whose.run, stored.seq);
    let place = place.unwrap_or_default();
    let record = AuditRecord {
        run: Some(whose.run),
        agent: Some(whose.agent),
        session: Some(whose.session),
        ..bare_record(id.clone(), place, stored.at, &stored.kind, stored.chain)
    };
    let Ok(entry) = stored.decode() else { return vec![record] };
    let one = match entry {
        Entry::RunStarted(started) => {
            AuditRecord { what: serialized_word(&started.kind), action: Some(started.config), ..record }
        }
        Entry::ModelCalled(called) => AuditRecord {
            what: said(called.asked_alias()),
            decision: called.judged.as_ref().map(|_| AuditDecision::Allow),
            rule: called.judged.as_ref().and_then(|judged| said(&judged.rule)),
            ..record
        },
        Entry::ModelReplied(replied) => AuditRecord { outcome: serialized_word(&replied.finish), ..record },
        Entry::ModelFailed(failed) => AuditRecord {
            outcome: Some(failed.code.as_str().to_owned()),
            decision: failed.judged.as_ref().map(|_| AuditDecision::Deny),
            rule: failed.judged.as_ref().and_then(|judged| said(&judged.rule)),
            ..record
        },
        Entry::CallAsked(asked) => AuditRecord { call: Some(asked.call), what: said(&asked.tool), ..record },
        Entry::OpinionCalled(called) => AuditRecord {
            call: Some(called.call),
            what: said(called.asked_alias()),
            action: Some(called.action),
            decision: called.judged.as_ref().map(|_| AuditDecision::Allow),
            rule: called.judged.as_ref().and_then(|judged| said(&judged.rule)),
            ..record
        },
        Entry::OpinionGiven(given) => AuditRecord {
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
        Entry::ToolStarted(started) => AuditRecord {
            call: Some(started.call),
            what: said(&started.tool),
            decision: Some(AuditDecision::Allow),
            rule: said(&started.rule),
            action: Some(started.action),
            ..record
        },
        Entry::ToolFinished(finished) => {
            let mut records = vec![AuditRecord {
                call: Some(finished.call),
                outcome: serialized_word(&finished.status),
                decision: finished.withdrawn.as_ref().map(|_| AuditDecision::Deny),
                rule: finished.withdrawn.as_deref().and_then(said),
                ..record.clone()
            }];
            for (number, judged) in (1..).zip(finished.egress) {
                records.push(AuditRecord {
                    id: format!("{id}:{number}"),
                    kind: EGRESS.to_owned(),
                    call: Some(finished.call),
                    what: said(&format!(
                        "{} {}",
                        serialized_word(&judged.method).unwrap_or_default(),
                        judged.to
                    )),
                    decision: Some(if judged.allowed { AuditDecision::Allow } else { AuditDecision::Deny }),
                    rule: said(&judged.rule),
                    ..record.clone()
                });
            }
            return records;
        }
        Entry::ToolRefused(refused) => AuditRecord {
            call: Some(refused.call),
            what: said(&refused.tool),
            decision: (refused.status == CallStatus::Denied).then_some(AuditDecision::Deny),
            rule: refused.rule.as_deref().and_then(said),
            outcome: serialized_word(&refused.status),
            ..record
        },
        Entry::ToolHanded(handed) => {
            AuditRecord { call: Some(handed.call), what: said(&handed.tool), ..record }
        }
        Entry::InputsTaken(taken) => {
            AuditRecord { what: said(&format!("{} inputs", taken.items.len())), ..record }
        }
        Entry::SignalTaken(taken) => {
            AuditRecord { actor: said(taken.by.as_str()), what: serialized_word(&taken.signal), ..record }
        }
        Entry::RunHeld(held) => AuditRecord { outcome: serialized_word(&held.reason), ..record },
        Entry::RunCompleted(completed) => AuditRecord {
            what: Some("reply".to_owned()),
            decision: Some(AuditDecision::Allow),
            rule: said(&completed.rule),
            ..record
        },
        Entry::RunParked(_) | Entry::RunYielded(_) => record,
        Entry::RunFailed(failed) => AuditRecord { outcome: Some(failed.code.as_str().to_owned()), ..record },
        Entry::RunCancelled(cancelled) => AuditRecord {
            actor: said(cancelled.by.as_str()),
            outcome: serialized_word(&cancelled.signal),
            ..record
        },
    };
    vec![one]
}

/// Writes a word of the contracts as it is written everywhere.
fn serialized_word(word: &impl Serialize) -> Option<String> {
    serde_json::to_value(word).ok()?.as_str().map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use dromia_contracts::approval::RuleAnswer;
    use dromia_contracts::budget::{BudgetMeasure, BudgetPeriod, BudgetScope};
    use dromia_contracts::{Actor, ApprovalId, CapabilityId};

    use super::*;

    /// Takes one word out of texts, and signs nothing.
    #[derive(Debug)]
    struct Censor;

    impl AuditSigner for Censor {
        fn redact_secrets(&self, text: &str) -> String {
            text.replace("hunter2", "(redacted)")
        }

        fn first_line(&self, _: &str) -> (String, Digest) {
            (String::new(), Digest::default())
        }

        fn record_line(&self, _: Digest, _: &str) -> (String, Digest) {
            (String::new(), Digest::default())
        }

        fn last_line(&self, _: Digest, _: u64) -> String {
            String::new()
        }
    }

    fn told(change: AuditChange) -> AuditRecord {
        let item = AuditItem {
            place: AuditCursor { seal: 7, span: 0, seq: 1 },
            at: Timestamp::UNIX_EPOCH,
            what: AuditWhat::Act {
                act: AuditAct { by: Some(Actor::new("token:ci")), change },
                chain: Digest::default(),
            },
        };
        let mut records = audit_records(&Censor, item);
        assert_eq!(records.len(), 1, "an act is one record");
        records.remove(0)
    }

    #[test]
    fn an_act_record_names_actor_and_act_without_secrets() {
        let (capability, from) = (CapabilityId::from_bytes([1; 16]), CapabilityId::from_bytes([2; 16]));
        let (holder, approval) = (AgentId::from_bytes([3; 16]), ApprovalId::from_bytes([4; 16]));
        let session = SessionId::from_bytes([5; 16]);
        let named = || "hunter2".to_owned();
        let rights = vec!["file:write:hunter2".to_owned(), "tool:exec".to_owned()];
        let budget = BudgetDefinition {
            name: "daily".to_owned(),
            per: BudgetScope::Actor,
            of: Some("cli:hunter2".to_owned()),
            measure: BudgetMeasure::Money,
            period: BudgetPeriod::Day,
            limit: 5_000_000,
            declared: false,
        };
        let covers = Some("file:write:(redacted) tool:exec");
        let (name, rule) = (named(), Digest::from_bytes([6; 32]));
        let (answer, agent) = (RuleAnswer::Deny, Some(holder));
        let expires_at = Timestamp::UNIX_EPOCH;
        let rule_set = AuditChange::ApprovalRuleSet { name, answer, agent, session: None, expires_at, rule };
        for (change, agent, what, outcome) in [
            (
                AuditChange::SecretSet { name: named(), version: 3, host: "https://h:443".to_owned() },
                None,
                "(redacted) for https://h:443".to_owned(),
                Some("version 3"),
            ),
            (AuditChange::SecretErased { name: named() }, None, "(redacted)".to_owned(), None),
            (
                AuditChange::CapabilityGranted { capability, holder, rights: rights.clone() },
                Some(holder),
                capability.to_string(),
                covers,
            ),
            (
                AuditChange::CapabilityDelegated { capability, from, holder, rights },
                Some(holder),
                format!("{capability} of {from}"),
                covers,
            ),
            (
                AuditChange::CapabilityRevoked { capability, holder },
                Some(holder),
                capability.to_string(),
                None,
            ),
            (
                AuditChange::BudgetSet { budget },
                None,
                "daily".to_owned(),
                Some("5.000000 money per day and actor cli:(redacted)"),
            ),
            (AuditChange::BudgetRemoved { name: named() }, None, "(redacted)".to_owned(), None),
            (
                AuditChange::ApprovalAnswered { approval, agent: holder, approved: false },
                Some(holder),
                approval.to_string(),
                Some("denied"),
            ),
            (rule_set, Some(holder), "(redacted)".to_owned(), Some("deny")),
            (AuditChange::ApprovalRuleRemoved { name: named() }, None, "(redacted)".to_owned(), None),
            (
                AuditChange::FilePut { agent: holder, path: named(), content: rule },
                Some(holder),
                "(redacted)".to_owned(),
                None,
            ),
            (
                AuditChange::PictureFetched { agent: holder, host: named(), rule: None, content: None },
                Some(holder),
                "(redacted)".to_owned(),
                Some("failed"),
            ),
            (AuditChange::SessionExported { session }, None, session.to_string(), None),
            (AuditChange::SessionTrusted { session, agent: holder }, Some(holder), session.to_string(), None),
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
