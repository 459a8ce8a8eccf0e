//! What an answer to an approval makes durable: the approval first, then the signal or item that continues the work,
//! then the rule that comes with the answer.
//!
//! One batch, which the caller commits. An approval that is read again gets a new batch.

use bytes::Bytes;
use dromia_contracts::approval::{
    self, AnswerBody, AnswerRecord, ApprovalRequest, ApprovalState, ApprovedBody, ParsedRule,
};
use dromia_contracts::capability::approved_at;
use dromia_contracts::content::{ContentPart, InputMessage};
use dromia_contracts::input::InputBody;
use dromia_contracts::label::Label;
use dromia_contracts::runs::{ApprovalDecision, ApprovalReach};
use dromia_contracts::session::{InboxOwner, ItemKind, SessionKey};
use dromia_contracts::store::{ApprovalAnswer, InboxPut, Mutation, SessionOpen, WriteBatch};
use dromia_contracts::{Actor, CapabilityId, ErrorCode, Fault, Scope};
use jiff::Timestamp;

use super::{ApprovalAnswers, WakeTarget};
use crate::approvals::rules::ApprovalRuleBook;

impl ApprovalAnswers<'_> {
    /// Writes an answer.
    pub(super) async fn answer_batch(
        &self,
        scope: &Scope,
        found: &ApprovalRequest,
        answer: &ApprovalDecision,
        bound: Option<CapabilityId>,
        now: Timestamp,
    ) -> Result<(WriteBatch, WakeTarget), Fault> {
        let (approved, reason) = match answer {
            ApprovalDecision::Approve(_) => (true, ""),
            ApprovalDecision::Deny { reason } => (false, reason.as_str()),
        };
        let (by, reach) = (scope.actor().clone(), reach_of(answer)?);
        let answered = AnswerRecord { by, at: now, reason: reason.to_owned(), reach };
        let mut batch =
            WriteBatch::new(scope.tenant()).with_mutation(Mutation::ApprovalAnswer(ApprovalAnswer {
                approval: found.id,
                from: found.state,
                approved,
                answered,
            }));
        let put = |owner, kind, author: &Actor, body: Vec<u8>| {
            Mutation::InboxPut(InboxPut {
                owner,
                item: self.core.ports.runtime.item_id(),
                at: now,
                kind,
                author: author.clone(),
                body: Bytes::from(body),
                key: None,
            })
        };
        let unwritten = |error: serde_json::Error| Fault::new(ErrorCode::Internal, error.to_string());
        let next = match (found.state, approved) {
            (ApprovalState::Holding, _) => {
                let kind = if approved { ItemKind::Approve } else { ItemKind::Deny };
                let owner = InboxOwner::Run(found.source.run);
                let body = serde_json::to_vec(&AnswerBody::new(found.id, reason)).map_err(unwritten)?;
                batch.mutations.push(put(owner, kind, scope.actor(), body));
                WakeTarget::Run(found.source.run)
            }
            (_, true) => {
                let session = self.core.ports.runtime.session_id();
                let key = SessionKey {
                    platform: approval::PLATFORM.to_owned(),
                    channel: approved_at(found.id, bound),
                    actor: found.source.author.clone(),
                };
                let open = SessionOpen {
                    session,
                    agent: found.source.agent,
                    key,
                    at: now,
                    believes: false,
                    importing: false,
                    origin: None,
                };
                batch.mutations.push(Mutation::SessionOpen(open));
                let body = serde_json::to_vec(&ApprovedBody::from_approval(found)).map_err(unwritten)?;
                let owner = InboxOwner::Session(session);
                batch.mutations.push(put(owner, ItemKind::Approved, &found.source.author, body));
                WakeTarget::Session(session)
            }
            (_, false) => {
                let why = if reason.is_empty() {
                    String::new()
                } else {
                    format!(" and gives this reason: {reason}")
                };
                let text = format!(
                    "The call {} of {} that waited for approval ({}) is denied: {} does not allow it{why}. \
                     Nothing was done. Do not ask for it again.",
                    found.source.call,
                    found.source.run,
                    found.id,
                    scope.actor()
                );
                let parts = vec![ContentPart::new_text(text, Label::PUBLIC_FACT)];
                let message =
                    InputMessage { author: found.source.author.clone(), parts, hops: found.source.hops };
                let body = InputBody::from_message(message).encode().map_err(unwritten)?;
                let owner = InboxOwner::Session(found.source.session);
                batch.mutations.push(put(owner, ItemKind::Input, &found.source.author, body));
                WakeTarget::Session(found.source.session)
            }
        };
        if let Some(rule) = ApprovalRuleBook::new(self.core).rule_of(scope, found, answer, now).await? {
            batch.mutations.push(Mutation::ApprovalRulePut(rule));
        }
        Ok((batch, next))
    }
}

/// The reach of an answer, as it is stored: a rule in its canonical form. `None` for a refusal.
pub(super) fn reach_of(answer: &ApprovalDecision) -> Result<Option<ApprovalReach>, Fault> {
    match answer {
        ApprovalDecision::Approve(ApprovalReach::Always { rule }) => {
            let rule = ParsedRule::parse(rule)
                .map_err(|error| Fault::new(ErrorCode::InvalidRequest, error.to_string()))?
                .to_string();
            Ok(Some(ApprovalReach::Always { rule }))
        }
        ApprovalDecision::Approve(reach @ (ApprovalReach::Once | ApprovalReach::Session)) => {
            Ok(Some(reach.clone()))
        }
        ApprovalDecision::Deny { .. } => Ok(None),
    }
}
