//! How large a batch is, and the bounds it must keep.

use std::collections::BTreeMap;

use dromia_contracts::agent::AgentConfig;
use dromia_contracts::store::{CommitRefusal, Mutation, NewEntry, WriteBatch};

/// Rows and bytes of a batch, as the bounds count them: one row per mutation, claim and entry; the bytes of
/// whatever has no fixed length.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct BatchSize {
    pub(crate) rows: usize,
    pub(crate) bytes: usize,
}

impl BatchSize {
    pub(crate) fn from_batch(batch: &WriteBatch) -> Self {
        let mut size = Self { rows: 0, bytes: 0 };
        for mutation in &batch.mutations {
            size.rows += 1;
            match mutation {
                Mutation::TenantCreate(create) => size.bytes += create.handle.as_str().len(),
                Mutation::TokenCreate(create) => size.bytes += create.name.len(),
                Mutation::AgentCreate(create) => {
                    size.bytes += create.handle.as_str().len();
                    size.add_agent(&create.display_name, &create.labels, &create.config);
                }
                Mutation::AgentRevise(revise) => {
                    size.bytes += revise.key.as_ref().map_or(0, |key| key.key.len());
                    size.bytes += revise.document.as_ref().map_or(0, |pin| pin.bytes.len());
                    size.add_agent(&revise.display_name, &revise.labels, &revise.config);
                }
                Mutation::AgentRename(rename) => size.bytes += rename.handle.as_str().len(),
                // A whole page, which goes alone.
                Mutation::TenantErase(_) => size.rows = WriteBatch::ROWS_MAX,
                Mutation::TenantSuspensionSet(_)
                | Mutation::TokenRevoke(_)
                | Mutation::AgentStateSet(_)
                | Mutation::ImportEnd(_)
                | Mutation::RunTakeover(_)
                | Mutation::DeliveryStart(_)
                | Mutation::DeliveryDrop(_)
                | Mutation::DeliveryRedrive(_)
                | Mutation::CapabilityRevoke(_)
                | Mutation::CapabilityDrop(_) => {}
                Mutation::SessionErase(_) => size.rows += WriteBatch::ROWS_MAX - 1,
                Mutation::SessionHoldSet(set) => {
                    size.bytes += set.hold.as_ref().map_or(0, |hold| hold.by.as_str().len());
                }
                Mutation::SessionOpen(open) => {
                    size.bytes +=
                        open.key.platform.len() + open.key.channel.len() + open.key.actor.as_str().len();
                    size.bytes +=
                        open.origin.iter().flat_map(|origin| &origin.grants).map(String::len).sum::<usize>();
                }
                Mutation::InboxPut(put) => {
                    size.bytes += put.body.len() + put.author.as_str().len();
                    size.bytes += put.key.as_ref().map_or(0, |key| key.key.len());
                }
                Mutation::PinPut(pin) => size.bytes += pin.bytes.len(),
                Mutation::RunAppend(append) => {
                    size.add_entries(&append.entries);
                    size.rows += usize::from(append.checkpoint.is_some());
                    size.bytes += append.checkpoint.as_ref().map_or(0, |folded| folded.bytes.len());
                }
                Mutation::StatePut(put) => size.bytes += put.name.len() + put.value.len(),
                Mutation::FileLabelsPut(put) => {
                    size.rows += put.said.files.len();
                    size.bytes += put.said.files.keys().map(String::len).sum::<usize>();
                    let held = put.said.files.values().flatten();
                    size.bytes += held.map(|file| file.author.as_str().len()).sum::<usize>();
                }
                Mutation::DeliveryPrepare(prepare) => size.bytes += prepare.target.len() + prepare.body.len(),
                Mutation::DeliverySettle(settle) => {
                    let receiver_id = settle.end.receiver_id.as_ref().map_or(0, String::len);
                    size.bytes += settle.end.detail.len() + receiver_id;
                }
                Mutation::FeedNumber(number) => size.rows += number.deliveries.len(),
                Mutation::BudgetSet(set) => {
                    size.bytes += set.budget.name.len() + set.budget.of.as_ref().map_or(0, String::len);
                }
                Mutation::BudgetRemove(remove) => size.bytes += remove.name.len(),
                Mutation::ApprovalAsk(ask) => {
                    size.bytes += ask.judged.tool.len()
                        + ask.judged.arguments.len()
                        + ask.rule.len()
                        + ask.reason.len();
                }
                Mutation::AnswerPut(put) => size.bytes += put.answer.as_ref().map_or(0, bytes::Bytes::len),
                Mutation::ApprovalAnswer(answer) => size.bytes += answer.answered.reason.len(),
                Mutation::ApprovalRulePut(rule) => size.bytes += rule.name.len() + rule.rule.len(),
                Mutation::ApprovalRuleRemove(remove) => size.bytes += remove.name.len(),
                Mutation::CursorMove(to) => size.bytes += to.subscriber.len(),
                Mutation::VaultKeyPut(put) => size.bytes += put.key.len(),
                Mutation::SecretPut(sealed) => {
                    size.bytes += sealed.secret.name.len() + sealed.secret.host.len();
                    size.bytes += sealed.key.len() + sealed.value.len();
                }
                Mutation::SecretErase(erase) => size.bytes += erase.name.len(),
                Mutation::CapabilityPut(put) => {
                    size.bytes += put.token.len() + put.by.as_str().len();
                    size.bytes += put.rights.iter().map(String::len).sum::<usize>();
                }
            }
        }
        if let Some(claim) = &batch.claim {
            size.rows += 1;
            size.add_entries(&claim.entries);
            if let Some(notice) = &claim.notice {
                size.rows += 1;
                size.bytes += notice.body.len() + notice.author.as_str().len();
            }
        }
        size
    }

    pub(crate) fn check_bounds(self) -> Result<(), CommitRefusal> {
        if self.rows > WriteBatch::ROWS_MAX {
            return Err(CommitRefusal::Malformed(format!(
                "{} rows, at most {}",
                self.rows,
                WriteBatch::ROWS_MAX
            )));
        }
        if self.bytes > WriteBatch::BYTES_MAX {
            return Err(CommitRefusal::Malformed(format!(
                "{} bytes, at most {}",
                self.bytes,
                WriteBatch::BYTES_MAX
            )));
        }
        Ok(())
    }

    fn add_agent(&mut self, name: &str, labels: &BTreeMap<String, String>, config: &AgentConfig) {
        self.bytes += name.len() + labels.iter().map(|(name, value)| name.len() + value.len()).sum::<usize>();
        self.bytes += config.model.len() + config.instructions.len() + config.description.len();
        self.bytes += config.grants.iter().map(String::len).sum::<usize>();
    }

    fn add_entries(&mut self, entries: &[NewEntry]) {
        self.rows += entries.len();
        self.bytes += entries.iter().map(|new| new.body.as_ref().map_or(0, bytes::Bytes::len)).sum::<usize>();
    }
}

/// Every body of a batch.
pub(crate) fn batch_bodies(batch: &WriteBatch) -> impl Iterator<Item = &bytes::Bytes> {
    let entries = batch.mutations.iter().filter_map(|mutation| match mutation {
        Mutation::RunAppend(append) => Some(&append.entries),
        _ => None,
    });
    let entries = entries.chain(batch.claim.iter().map(|claim| &claim.entries)).flatten();
    let items = batch.mutations.iter().filter_map(|mutation| match mutation {
        Mutation::InboxPut(put) => Some(&put.body),
        _ => None,
    });
    let items = items.chain(batch.claim.iter().filter_map(|claim| Some(&claim.notice.as_ref()?.body)));
    entries.filter_map(|new| new.body.as_ref()).chain(items)
}

/// The body key of the tenant that a batch registers.
pub(crate) fn new_body_key(batch: &WriteBatch) -> Option<[u8; 32]> {
    batch.mutations.iter().find_map(|mutation| match mutation {
        Mutation::TenantCreate(create) => Some(create.body_key),
        _ => None,
    })
}

#[cfg(test)]
mod tests {
    use dromia_contracts::approval::{AnswerRecord, ApprovalState};
    use dromia_contracts::scope::Actor;
    use dromia_contracts::store::{
        ApprovalAnswer, ApprovalRuleRemove, FeedNumber, SecretErase, Store as _, VaultKeyPut,
    };
    use dromia_contracts::vault::{SealedSecret, SecretPlacement, SecretSummary};
    use dromia_contracts::{ApprovalId, DeliveryId, TenantId};
    use dromia_testkit::conformance::random::{BatchWriter, draw_sequence};
    use dromia_testkit::{ReferenceStore, answer_of};
    use jiff::Timestamp;

    use super::*;

    /// What the mutations of the random sequences count, by their kinds: rows, and the bytes of what has no fixed length.
    #[test]
    fn each_kind_of_change_counts_its_rows_and_bytes() {
        let mut sizes: BTreeMap<&str, (usize, usize)> = BTreeMap::new();
        let mut batches = Vec::new();
        for seed in 0..120 {
            let oracle = ReferenceStore::new();
            let mut writer = BatchWriter::new(oracle.clone());
            for batch in BatchWriter::world_batches() {
                answer_of(oracle.commit(batch.clone()));
                batches.push(batch);
            }
            for op in draw_sequence(seed, 60) {
                if let Some(batch) = writer.batch_of_op(&op) {
                    answer_of(oracle.commit(batch.clone()));
                    batches.push(batch);
                }
            }
        }
        for batch in &batches {
            let mutations = batch.mutations.iter();
            let alone =
                mutations.map(|one| (one.name(), WriteBatch::new(batch.tenant).with_mutation(one.clone())));
            let claim = batch.claim.iter().map(|claim| {
                ("claim", WriteBatch { claim: Some(claim.clone()), ..WriteBatch::new(batch.tenant) })
            });
            for (name, one) in alone.chain(claim) {
                let (size, sum) = (BatchSize::from_batch(&one), sizes.entry(name).or_default());
                *sum = (sum.0 + size.rows, sum.1 + size.bytes);
            }
        }
        let sizes: Vec<_> = sizes.into_iter().collect();
        let expected = [
            ("agent_create", (543, 19578)),
            ("agent_rename", (14, 28)),
            ("agent_revise", (27, 810)),
            ("agent_state_set", (115, 0)),
            ("answer_put", (181, 154)),
            ("approval_answer", (10, 0)),
            ("approval_ask", (4, 180)),
            ("approval_rule_put", (2, 12)),
            ("approval_rule_remove", (4, 8)),
            ("budget_remove", (44, 88)),
            ("budget_set", (137, 274)),
            ("capability_drop", (33, 0)),
            ("capability_put", (102, 1734)),
            ("capability_revoke", (31, 0)),
            ("claim", (630, 0)),
            ("cursor_move", (74, 148)),
            ("delivery_drop", (2, 0)),
            ("delivery_prepare", (72, 831)),
            ("delivery_redrive", (1, 0)),
            ("delivery_settle", (8, 112)),
            ("delivery_start", (5, 0)),
            ("feed_number", (9, 0)),
            ("file_labels_put", (325, 1058)),
            ("import_end", (3, 0)),
            ("inbox_put", (777, 14218)),
            ("pin_put", (132, 132)),
            ("run_append", (242, 44865)),
            ("run_takeover", (13, 0)),
            ("session_erase", (18176, 0)),
            ("session_hold_set", (76, 279)),
            ("session_open", (1010, 12125)),
            ("state_put", (132, 396)),
            ("tenant_create", (240, 480)),
            ("token_create", (63, 126)),
            ("token_revoke", (53, 0)),
        ];
        assert_eq!(sizes, expected, "of the seeds above");
    }

    /// What no random sequence draws: each length is another, so that no sum of some is the sum of all.
    #[test]
    fn kinds_that_no_sequence_draws_count_their_bytes_too() {
        let text = |bytes: usize| "x".repeat(bytes);
        let bytes = |length: usize| bytes::Bytes::from(text(length));
        let (at, name) = (Timestamp::UNIX_EPOCH, text(3));
        let secret = SecretSummary {
            name: name.clone(),
            version: 1,
            host: text(50),
            placement: SecretPlacement::Bearer,
            created_at: at,
            changed_at: at,
        };
        let answered = AnswerRecord { by: Actor::new("cli:ada"), at, reason: text(7), reach: None };
        let approval = ApprovalId::from_bytes([1; 16]);
        let answer = ApprovalAnswer { approval, from: ApprovalState::Waiting, approved: true, answered };
        let deliveries = vec![DeliveryId::from_bytes([2; 16]); 4];
        let replaces = Some(bytes(900));
        for (mutation, rows, length) in [
            (Mutation::TenantSuspensionSet(Some(at)), 1, 0),
            (Mutation::FeedNumber(FeedNumber { after: 1, deliveries }), 5, 0),
            (Mutation::VaultKeyPut(VaultKeyPut { key: bytes(32), replaces }), 1, 32),
            (Mutation::SecretPut(SealedSecret { secret, key: bytes(11), value: bytes(170) }), 1, 234),
            (Mutation::SecretErase(SecretErase { name: name.clone(), version: 1 }), 1, 3),
            (Mutation::ApprovalAnswer(answer), 1, 7),
            (Mutation::ApprovalRuleRemove(ApprovalRuleRemove { name }), 1, 3),
        ] {
            let kind = mutation.name();
            let batch = WriteBatch::new(TenantId::from_bytes([3; 16])).with_mutation(mutation);
            let twice = batch.clone().with_mutation(batch.mutations[0].clone());
            assert_eq!(BatchSize::from_batch(&batch), BatchSize { rows, bytes: length }, "{kind}");
            let both = BatchSize { rows: 2 * rows, bytes: 2 * length };
            assert_eq!(BatchSize::from_batch(&twice), both, "two of {kind}");
        }
    }
}
