//! From the nouns of the contracts to the words of the wire.

use bytes::Bytes;
use dromia_api as api;
use dromia_contracts::agent::{Agent, AgentConfig, Handle, Tenant};
use dromia_contracts::approval::{Approval, ApprovalRule, ApprovalState, DeclaredRule};
use dromia_contracts::budget::BudgetUse;
use dromia_contracts::capability::{Capability, CapabilityState};
use dromia_contracts::cost::Attempt;
use dromia_contracts::delivery::{Delivery, DeliveryAttempt, DeliveryRecord, FeedItem};
use dromia_contracts::run::Run;
use dromia_contracts::runs::{Submitted, Why};
use dromia_contracts::session::Session;
use dromia_contracts::store::{StateEntry, StoredEntry};
use dromia_contracts::token::Token;
use dromia_contracts::vault::Secret;
use dromia_contracts::{ErrorCode, Fault, RunId};
use jiff::Timestamp;
use serde_json::Value;
use serde_json::value::RawValue;

use crate::failure::{Answer, Failure};

pub(crate) fn agent(agent: Agent, config: Option<AgentConfig>) -> api::agent::Agent {
    api::agent::Agent {
        id: agent.id,
        handle: agent.handle,
        display_name: agent.display_name,
        labels: agent.labels,
        created_at: agent.created_at,
        state: agent.state,
        config,
    }
}

pub(crate) fn tenant(tenant: Tenant) -> api::tenant::Tenant {
    api::tenant::Tenant { id: tenant.id, handle: tenant.handle, created_at: tenant.created_at }
}

pub(crate) fn token(token: Token, now: Timestamp) -> api::token::Token {
    api::token::Token {
        state: token.state(now),
        id: token.id,
        name: token.name,
        scopes: token.scopes,
        created_at: token.created_at,
        expires_at: token.expires_at,
        revoked_at: token.revoked_at,
    }
}

pub(crate) fn capability(capability: Capability, state: CapabilityState) -> api::capability::Capability {
    api::capability::Capability {
        state,
        id: capability.id,
        holder: capability.holder,
        parent: capability.parent,
        usage: capability.usage,
        rights: capability.rights,
        expires_at: capability.until,
        wall_ms_max: capability.wall_ms_max,
        by: capability.by.as_str().to_owned(),
        created_at: capability.created_at,
        revoked_at: capability.revoked_at,
    }
}

pub(crate) fn secret(secret: Secret) -> api::secret::Secret {
    api::secret::Secret {
        name: secret.name,
        version: secret.version,
        host: secret.host,
        placement: secret.placement,
        created_at: secret.created_at,
        changed_at: secret.changed_at,
    }
}

pub(crate) fn approval(approval: Approval, now: Timestamp) -> api::approval::Approval {
    let state = approval.state_at(now);
    let cooling =
        approval.cooling_at(now).map(|until| until.duration_since(now).as_secs().max(0).unsigned_abs());
    let Approval { id, agent, session, run, call, tool, arguments, action, binding, rule, reason, .. } =
        approval;
    let origins = approval.origins.into_iter().map(|known| api::approval::ArgumentOrigin {
        name: known.name,
        role: known.role,
        origin: known.origin,
        label: known.label.to_string(),
        quote: known.quote,
    });
    let answer = approval.answer;
    api::approval::Approval {
        id,
        state,
        agent,
        session,
        run,
        call,
        author: approval.author.to_string(),
        tool,
        arguments,
        origins: origins.collect(),
        context: approval.context.to_string(),
        action,
        binding,
        contents: approval.bound.and_then(|bound| bound.contents),
        rule,
        reason,
        approvers: approval.approvers.iter().map(ToString::to_string).collect(),
        asked_at: approval.asked_at,
        holds_until: approval.holds_until,
        expires_at: approval.expires_at,
        cools_until: approval.cools_until,
        cools_in_seconds: cooling,
        opinion: approval.standing.opinion,
        // Whoever refuses leaves an answer; the server does where nobody could be asked, and leaves none.
        unattended: state == ApprovalState::Denied && answer.is_none(),
        answered_by: answer.as_ref().map(|answer| answer.by.to_string()),
        answered_at: answer.as_ref().map(|answer| answer.at),
        answer_reason: answer.map(|answer| answer.reason).filter(|reason| !reason.is_empty()),
        used_by: approval.used_by,
    }
}

pub(crate) fn approval_rule(rule: ApprovalRule) -> api::approval::ApprovalRule {
    api::approval::ApprovalRule {
        name: rule.name,
        answer: rule.answer,
        rule: rule.rule,
        agent: rule.agent,
        session: rule.session,
        owner: rule.owner.to_string(),
        created_at: rule.created_at,
        expires_at: rule.expires_at,
        declared: false,
    }
}

/// Writes a rule of the configuration, which is no row: it ends with the file that says it.
pub(crate) fn declared_rule(
    name: String,
    rule: &DeclaredRule,
    now: Timestamp,
) -> api::approval::ApprovalRule {
    api::approval::ApprovalRule {
        name,
        answer: rule.answer,
        rule: rule.rule.to_string(),
        agent: None,
        session: None,
        owner: "dromia.yaml".to_owned(),
        created_at: now,
        expires_at: Timestamp::MAX,
        declared: true,
    }
}

pub(crate) fn budget(known: BudgetUse) -> api::budget::Budget {
    let BudgetUse { budget, subject, used } = known;
    api::budget::Budget {
        name: budget.name,
        per: budget.per,
        of: budget.of,
        measure: budget.measure,
        period: budget.period,
        unit: Some(budget.measure.into()),
        limit: budget.limit,
        used,
        subject: (!subject.is_empty()).then_some(subject),
        declared: budget.declared,
    }
}

pub(crate) fn delivery(delivery: Delivery) -> api::delivery::Delivery {
    api::delivery::Delivery {
        due_at: delivery.state.may_begin().then_some(delivery.due_at),
        id: delivery.id,
        target: delivery.target,
        position: delivery.position,
        state: delivery.state,
        reason: delivery.reason,
        attempts: delivery.attempts,
        redrives: delivery.redrives,
        agent: delivery.agent,
        session: delivery.session,
        run: delivery.run,
        prepared_at: delivery.prepared_at,
        updated_at: delivery.updated_at,
        feed: delivery.feed,
    }
}

pub(crate) fn delivery_record(record: DeliveryRecord) -> api::delivery::DeliveryShown {
    let receipt = |attempt: DeliveryAttempt| {
        let (status, outcome) = match &attempt.ended {
            Some(end) => (end.status, Some(end.outcome)),
            None => (None, None),
        };
        api::delivery::Receipt {
            number: attempt.number,
            began_at: attempt.began_at,
            ended_at: attempt.ended.as_ref().map(|end| end.at),
            outcome,
            status,
            detail: attempt.ended.map(|end| end.detail),
        }
    };
    api::delivery::DeliveryShown {
        message: message(&record.body),
        receipts: record.attempts.into_iter().map(receipt).collect(),
        delivery: delivery(record.delivery),
    }
}

pub(crate) fn feed_item(item: FeedItem) -> api::delivery::FeedItem {
    api::delivery::FeedItem {
        number: item.number,
        delivery: item.delivery.id,
        target: item.delivery.target,
        message: message(&item.body),
    }
}

/// A message as JSON; one that a newer program wrote otherwise is shown as text.
fn message(body: &[u8]) -> Value {
    serde_json::from_slice(body).unwrap_or_else(|_| String::from_utf8_lossy(body).into_owned().into())
}

pub(crate) fn session(session: Session) -> api::session::Session {
    api::session::Session {
        id: session.id,
        agent: session.agent,
        platform: session.key.platform,
        channel: session.key.channel,
        actor: session.key.actor.as_str().to_owned(),
        opened_at: session.opened_at,
        last: session.head.last,
        waiting: session.head.last.saturating_sub(session.head.taken),
        active: session.head.active,
    }
}

pub(crate) fn run(run: &Run, imported: bool) -> api::run::Run {
    api::run::Run {
        id: run.id,
        kind: run.kind,
        agent: run.agent,
        session: run.session,
        status: run.head.status,
        started_at: run.started_at,
        updated_at: run.updated_at,
        wake_at: run.head.wake_at,
        last_seq: run.last_seq,
        epoch: run.epoch,
        model_calls: run.head.model_calls,
        usage: run.head.usage,
        cost_micros: run.head.cost_micros,
        imported,
    }
}

pub(crate) fn attempt(attempt: Attempt) -> api::cost::AttemptCost {
    api::cost::AttemptCost {
        seq: attempt.seq,
        at: attempt.at,
        step: attempt.step,
        attempt: attempt.attempt,
        opinion_of: attempt.opinion_of,
        model: attempt.model,
        input_tokens: attempt.usage.input_tokens,
        output_tokens: attempt.usage.output_tokens,
        reserved_micros: attempt.reserved_micros,
        cost_micros: attempt.cost_micros,
        charge: attempt.charge,
        failure: attempt.failure.map(|code| code.as_str().to_owned()),
    }
}

/// Says why a run stands where it stands, to somebody of a tenant.
pub(crate) fn why(run: RunId, why: Why, tenant: &Handle) -> api::run::Why {
    let in_file = why.declared.map(|budget| {
        format!(
            "give {budget} a higher limit in dromia.yaml (tenants.{tenant}.budgets), start the server anew, then `dromia run \
             resume {run}`"
        )
    });
    api::run::Why {
        status: why.status,
        waits_for: why.waits_for,
        since: why.since,
        unblocked_by: why.unblocked_by,
        command: in_file.or(why.command),
    }
}

pub(crate) fn entry(entry: StoredEntry) -> Answer<api::run::Entry> {
    let seq = entry.seq;
    let unreadable = |cause: String| {
        Failure::new(ErrorCode::JournalUnreadable, format!("entry {seq} is not JSON")).with_cause(cause)
    };
    Ok(api::run::Entry {
        seq,
        at: entry.at,
        epoch: entry.epoch,
        kind: entry.kind,
        version: entry.version,
        fields: RawValue::from_string(entry.fields).map_err(|error| unreadable(error.to_string()))?,
        body: entry.body.as_ref().map(json).transpose().map_err(unreadable)?,
        chain: entry.chain,
    })
}

pub(crate) fn state_entry(entry: StateEntry) -> Answer<api::session::StateEntry> {
    let value = json(&entry.value).map_err(|cause| {
        Failure::new(ErrorCode::Internal, format!("the state entry {:?} is not JSON", entry.name))
            .with_cause(cause)
    })?;
    Ok(api::session::StateEntry { name: entry.name, version: entry.version, value })
}

pub(crate) fn accepted(submitted: &Submitted) -> api::event::EventAccepted {
    api::event::EventAccepted {
        item: submitted.item,
        session: submitted.session,
        position: submitted.position,
        run: submitted.run,
        replayed: submitted.replayed,
    }
}

pub(crate) fn failure(fault: Fault) -> api::event::Failure {
    api::event::Failure { code: fault.code.as_str().to_owned(), message: fault.message }
}

fn json(bytes: &Bytes) -> Result<Box<RawValue>, String> {
    serde_json::from_slice(bytes).map_err(|error| error.to_string())
}
