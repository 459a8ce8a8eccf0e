//! From the nouns of the contracts to the words of the wire.

use bytes::Bytes;
use dromia_api as api;
use dromia_contracts::agent::{AgentConfig, AgentRecord, HandleSlug, TenantRecord};
use dromia_contracts::approval::{
    ApprovalRequest, ApprovalRuleRecord, ApprovalState, CallSource, DeclaredRule, JudgedCall,
};
use dromia_contracts::budget::BudgetUse;
use dromia_contracts::capability::{CapabilityRecord, CapabilityState};
use dromia_contracts::cost::ModelAttempt;
use dromia_contracts::delivery::{DeliveryAttempt, DeliveryRecord, DeliverySummary, FeedItem};
use dromia_contracts::retention::SessionHold;
use dromia_contracts::revision::RevisionRecord;
use dromia_contracts::run::RunRecord;
use dromia_contracts::runs::{InputReceipt, RunStatusReason};
use dromia_contracts::session::SessionRecord;
use dromia_contracts::store::{StateEntry, StoredEntry};
use dromia_contracts::token::TokenRecord;
use dromia_contracts::vault::SecretSummary;
use dromia_contracts::{ErrorCode, Fault, RunId};
use jiff::Timestamp;
use serde_json::Value;
use serde_json::value::RawValue;

use crate::failure::{Answer, ApiError};

pub(crate) fn api_agent(agent: AgentRecord, config: Option<AgentConfig>) -> api::agent::AgentResource {
    api::agent::AgentResource {
        id: agent.id,
        handle: agent.handle,
        display_name: agent.display_name,
        labels: agent.labels,
        created_at: agent.created_at,
        state: agent.state,
        revision: agent.revision_number,
        config,
    }
}

pub(crate) fn api_revision(
    revision: RevisionRecord,
    config: Option<AgentConfig>,
) -> api::agent::RevisionResource {
    api::agent::RevisionResource {
        number: revision.number,
        at: revision.at,
        by: revision.by.map(|by| by.to_string()),
        digest: revision.digest,
        changed: revision.changed,
        config,
    }
}

pub(crate) fn api_tenant(tenant: TenantRecord) -> api::tenant::TenantResource {
    let TenantRecord { id, handle, created_at, suspended_at } = tenant;
    api::tenant::TenantResource { id, handle, created_at, suspended_at }
}

pub(crate) fn api_token(token: TokenRecord, now: Timestamp) -> api::token::TokenResource {
    api::token::TokenResource {
        state: token.state_at(now),
        id: token.id,
        name: token.name,
        scopes: token.scopes,
        created_at: token.created_at,
        expires_at: token.expires_at,
        revoked_at: token.revoked_at,
    }
}

pub(crate) fn api_capability(
    capability: CapabilityRecord,
    state: CapabilityState,
) -> api::capability::CapabilityResource {
    api::capability::CapabilityResource {
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

pub(crate) fn api_secret(secret: SecretSummary) -> api::secret::SecretResource {
    api::secret::SecretResource {
        name: secret.name,
        version: secret.version,
        host: secret.host,
        placement: secret.placement,
        created_at: secret.created_at,
        changed_at: secret.changed_at,
    }
}

pub(crate) fn api_approval(approval: ApprovalRequest, now: Timestamp) -> api::approval::ApprovalResource {
    let state = approval.state_at(now);
    let cooling =
        approval.cooling_at(now).map(|until| until.duration_since(now).as_secs().max(0).unsigned_abs());
    let ApprovalRequest {
        id,
        rule,
        reason,
        source: CallSource { agent, session, run, call, .. },
        judged: JudgedCall { tool, arguments, action, binding, .. },
        ..
    } = approval;
    let origins = approval.judged.origins.into_iter().map(|known| api::approval::ArgumentOrigin {
        name: known.name,
        role: known.role,
        origin: known.origin,
        label: known.label.to_string(),
        quote: known.quote,
    });
    let answer = approval.answer;
    api::approval::ApprovalResource {
        id,
        state,
        rule,
        reason,
        approvers: approval.approvers.iter().map(ToString::to_string).collect(),
        opinion: approval.judged.provenance.opinion,
        source: api::approval::ApprovalSource {
            agent,
            session,
            run,
            call,
            author: approval.source.author.to_string(),
        },
        judged: api::approval::ApprovalCall {
            tool,
            arguments,
            origins: origins.collect(),
            context: approval.judged.context.to_string(),
            action,
            binding,
            contents: approval.judged.bound.contents,
        },
        deadlines: api::approval::ApprovalTimes {
            asked_at: approval.deadlines.asked_at,
            holds_until: approval.deadlines.holds_until,
            expires_at: approval.deadlines.expires_at,
            cools_until: approval.deadlines.cools_until,
            cools_in_seconds: cooling,
        },
        answer: api::approval::ApprovalOutcome {
            // A person who refuses leaves an answer; the server, which refuses where it could ask no person, leaves none.
            unattended: state == ApprovalState::Denied && answer.is_none(),
            answered_by: answer.as_ref().map(|answer| answer.by.to_string()),
            answered_at: answer.as_ref().map(|answer| answer.at),
            answer_reason: answer.map(|answer| answer.reason).filter(|reason| !reason.is_empty()),
            used_by: approval.used_by,
        },
    }
}

pub(crate) fn approval_rule(rule: ApprovalRuleRecord) -> api::approval::ApprovalRuleResource {
    api::approval::ApprovalRuleResource {
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
) -> api::approval::ApprovalRuleResource {
    api::approval::ApprovalRuleResource {
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

pub(crate) fn api_budget(known: BudgetUse) -> api::budget::BudgetResource {
    let BudgetUse { budget, subject, used } = known;
    api::budget::BudgetResource {
        name: budget.name,
        per: budget.per,
        of: budget.of,
        measure: budget.measure,
        period: budget.period,
        unit: budget.measure.into(),
        limit: budget.limit,
        used,
        subject: (!subject.is_empty()).then_some(subject),
        declared: budget.declared,
    }
}

pub(crate) fn api_delivery(delivery: DeliverySummary) -> api::delivery::DeliveryResource {
    api::delivery::DeliveryResource {
        due_at: delivery.state.may_begin().then_some(delivery.due_at),
        id: delivery.id,
        target: delivery.target,
        position: delivery.position,
        state: delivery.state,
        reason: delivery.reason,
        attempts: delivery.attempts,
        redrives: delivery.redrives,
        agent: delivery.source.agent,
        session: delivery.source.session,
        run: delivery.source.run,
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
        api::delivery::AttemptReceipt {
            number: attempt.number,
            began_at: attempt.began_at,
            ended_at: attempt.ended.as_ref().map(|end| end.at),
            outcome,
            status,
            receiver_id: attempt.ended.as_ref().and_then(|end| end.receiver_id.clone()),
            detail: attempt.ended.map(|end| end.detail),
        }
    };
    api::delivery::DeliveryShown {
        message: message_json(&record.body),
        receipts: record.attempts.into_iter().map(receipt).collect(),
        delivery: api_delivery(record.delivery),
    }
}

pub(crate) fn feed_item(item: FeedItem) -> api::delivery::FeedItem {
    api::delivery::FeedItem {
        number: item.number,
        delivery: item.delivery.id,
        target: item.delivery.target,
        message: message_json(&item.body),
    }
}

/// A message as JSON; one that a newer program wrote otherwise is shown as text.
fn message_json(body: &[u8]) -> Value {
    serde_json::from_slice(body).unwrap_or_else(|_| String::from_utf8_lossy(body).into_owned().into())
}

pub(crate) fn api_session(session: SessionRecord, question: Option<String>) -> api::session::SessionResource {
    api::session::SessionResource {
        id: session.id,
        agent: session.agent,
        platform: session.key.platform,
        channel: session.key.channel,
        actor: session.key.actor.as_str().to_owned(),
        opened_at: session.opened_at,
        last: session.head.last,
        waiting: session.head.last.saturating_sub(session.head.taken),
        active: session.head.active,
        question,
        hold: None,
    }
}

pub(crate) fn api_hold(hold: &SessionHold) -> api::retention::HoldResource {
    api::retention::HoldResource { by: hold.by.as_str().to_owned(), since: hold.since }
}

pub(crate) fn api_run(run: &RunRecord, imported: bool, question: Option<String>) -> api::run::RunResource {
    api::run::RunResource {
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
        unpriced_calls: run.head.unpriced_calls,
        imported,
        question,
        workspace: None,
    }
}

pub(crate) fn api_attempt(attempt: ModelAttempt) -> api::cost::AttemptCost {
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
        unpriced: attempt.unpriced,
        charge: attempt.charge,
        failure: attempt.failure.map(|code| code.as_str().to_owned()),
    }
}

/// Says why a run has its status, to a caller of a tenant.
pub(crate) fn api_why(run: RunId, why: RunStatusReason, tenant: &HandleSlug) -> api::run::RunExplanation {
    let in_file = why.declared.map(|budget| {
        format!(
            "raise the limit of {budget} in dromia.yaml (tenants.{tenant}.budgets), then \
             `dromia run resume {run}`"
        )
    });
    api::run::RunExplanation {
        status: why.status,
        waits_for: why.waits_for,
        since: why.since,
        unblocked_by: why.unblocked_by,
        command: in_file.or(why.command),
    }
}

pub(crate) fn api_entry(entry: StoredEntry) -> Answer<api::run::JournalEntryResource> {
    let seq = entry.seq;
    let unreadable = |cause: String| {
        ApiError::new(ErrorCode::JournalUnreadable, format!("entry {seq} is not JSON")).with_cause(cause)
    };
    Ok(api::run::JournalEntryResource {
        seq,
        at: entry.at,
        epoch: entry.epoch,
        kind: entry.kind,
        version: entry.version,
        fields: RawValue::from_string(entry.fields).map_err(|error| unreadable(error.to_string()))?,
        body: entry.body.as_ref().map(raw_json).transpose().map_err(unreadable)?,
        chain: entry.chain,
    })
}

pub(crate) fn state_entry(entry: StateEntry) -> Answer<api::session::StateEntry> {
    let value = raw_json(&entry.value).map_err(|cause| {
        ApiError::new(ErrorCode::Internal, format!("the state entry {:?} is not JSON", entry.name))
            .with_cause(cause)
    })?;
    Ok(api::session::StateEntry { name: entry.name, version: entry.version, value })
}

pub(crate) fn event_accepted(submitted: &InputReceipt) -> api::event::EventAccepted {
    api::event::EventAccepted {
        item: submitted.item,
        session: submitted.session,
        position: submitted.position,
        run: submitted.run,
        replayed: submitted.replayed,
    }
}

pub(crate) fn api_failure(fault: Fault) -> api::event::RunFailureDetails {
    api::event::RunFailureDetails { code: fault.code.as_str().to_owned(), message: fault.message }
}

fn raw_json(bytes: &Bytes) -> Result<Box<RawValue>, String> {
    serde_json::from_slice(bytes).map_err(|error| error.to_string())
}
