//! What people, and the server itself, changed, compared with the present rows: tokens, agents, secrets, capabilities,
//! budgets, answers to approvals, and the rules that give some.
//!
//! A record says what its row must say, as far as it says anything of it (`facts`). A row that says otherwise, one that
//! went without a record, and one that no record names are findings.
//!
//! It is all read in one transaction, so a server that writes meanwhile changes nothing of it. In memory is one place of
//! about 50 bytes for each thing with a record.

mod facts;

use std::collections::HashMap;

use rusqlite::{OptionalExtension as _, Row, params};

use dromia_contracts::audit::{AuditAct, AuditChange};
use dromia_contracts::id::{AgentId, TokenId};

use super::AuditProblem;
use super::journals::unreadable_row;
use super::seals::ChainWalk;
use crate::column_codes::{self, stored_counter};
use crate::open_error::OpenError;

/// What a record is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum RightKind {
    Token,
    Agent,
    /// The current revision of an agent, where it is not the first.
    AgentRevision,
    /// The handle of an agent, where it is not the first.
    AgentHandle,
    Secret,
    Capability,
    Budget,
    Approval,
    Rule,
}

/// The records of one thing.
#[derive(Debug, Clone, Copy, Default)]
struct RightRecords {
    /// The seal of the record that made it, or set it last; 0 where none did.
    made: u64,
    /// The seal of the record that ended it or moved it since; 0 where none did.
    moved: u64,
    /// Whether its row was met.
    is_met: bool,
}

impl RightRecords {
    /// The record that counts.
    fn latest_record(self) -> Option<u64> {
        Some(self.made.max(self.moved)).filter(|seal| *seal > 0)
    }
}

/// What the records say of one row.
struct RecordedRight {
    told: RightRecords,
    made: Option<AuditChange>,
    moved: Option<AuditChange>,
    /// When it was ended or moved, in milliseconds.
    moved_at: Option<i64>,
}

/// The comparison of the records with the rows.
struct RightsComparison<'w, 'a> {
    walk: &'w mut ChainWalk<'a>,
    told: HashMap<(RightKind, [u8; 16]), RightRecords>,
    /// The seal of the last record of a rule that was set, and the latest time of one: with one of those go the rules that had
    /// ended by then, and no others.
    rule_set: u64,
    rule_set_at: i64,
}

impl ChainWalk<'_> {
    /// Compares the records of the tenant with the present rows.
    pub(super) fn check_rights(&mut self) -> Result<(), OpenError> {
        let db = self.db;
        let snapshot = db.unchecked_transaction()?;
        // What was sealed since the journals were read belongs to the snapshot.
        self.read_on()?;
        self.learn_erased()?;
        let mut comparison =
            RightsComparison { walk: self, told: HashMap::new(), rule_set: 0, rule_set_at: i64::MIN };
        comparison.learn_records()?;
        comparison.compare_rows()?;
        comparison.report_missing()?;
        self.check_registration()?;
        Ok(snapshot.finish()?)
    }

    /// Compares the row of the tenant with its registration, with which the chain begins.
    fn check_registration(&mut self) -> rusqlite::Result<()> {
        let (db, tenant) = (self.db, self.tenant);
        let first: Option<Vec<u8>> = db
            .prepare_cached("SELECT record FROM audit WHERE tenant = ?1 AND number = 1")?
            .query_row([tenant.as_bytes()], |row| row.get(0))
            .optional()?;
        let act = first.and_then(|record| serde_json::from_slice::<AuditAct>(&record).ok());
        self.checked.rows += 1;
        let Some(AuditChange::TenantCreated { handle }) = act.map(|act| act.change) else {
            self.found_row(AuditProblem::RowUnrecorded, format!("tenant {tenant}"), None, None);
            return Ok(());
        };
        let is_it = db
            .prepare_cached("SELECT 1 FROM tenants WHERE tenant = ?1 AND handle = ?2")?
            .exists(params![tenant.as_bytes(), handle.as_str()])?;
        if !is_it {
            let detail = Some(format!("handle, as {} has it", record_name(Some(1))));
            self.found_row(AuditProblem::RowChanged, format!("tenant {tenant}"), Some(1), detail);
        }
        Ok(())
    }
}

impl RightsComparison<'_, '_> {
    /// Learns which records name which things.
    fn learn_records(&mut self) -> rusqlite::Result<()> {
        let (db, tenant) = (self.walk.db, self.walk.tenant);
        let mut select = db.prepare_cached(
            "SELECT number, record, at FROM audit INDEXED BY audit_acts WHERE tenant = ?1 AND kind = 1 ORDER BY number",
        )?;
        let mut found = select.query([tenant.as_bytes()])?;
        while let Some(row) = found.next()? {
            let (seal, record): (u64, Vec<u8>) = (column_codes::read_counter(row, 0)?, row.get(1)?);
            // A kind of a newer program names nothing that is known here.
            let Ok(act) = serde_json::from_slice::<AuditAct>(&record) else { continue };
            if let AuditChange::ApprovalRuleSet { .. } = act.change {
                self.rule_set = seal;
                self.rule_set_at = self.rule_set_at.max(row.get(2)?);
            }
            let Some((kind, id, is_made)) = change_subject(&act.change) else { continue };
            let told = self.told.entry((kind, id)).or_default();
            if is_made {
                *told = RightRecords { made: seal, ..RightRecords::default() };
            } else {
                told.moved = seal;
            }
        }
        Ok(())
    }

    /// Goes over the rows of a table.
    fn for_each_row(
        &mut self,
        sql: &str,
        table: &str,
        look: fn(&mut Self, &Row<'_>) -> rusqlite::Result<()>,
    ) -> Result<(), OpenError> {
        let (db, tenant) = (self.walk.db, self.walk.tenant);
        let mut select = db.prepare_cached(sql)?;
        let mut found = select.query([tenant.as_bytes()])?;
        while let Some(row) = found.next()? {
            if let Err(error) = look(self, row) {
                let detail = unreadable_row(error)?;
                let row = format!("some row of {table}");
                self.walk.found_row(AuditProblem::RowChanged, row, None, Some(detail));
            }
        }
        Ok(())
    }

    /// What the records say of a row that was met.
    fn recorded_right(&mut self, kind: RightKind, id: [u8; 16]) -> rusqlite::Result<RecordedRight> {
        self.walk.checked.rows += 1;
        let told = self.told.get_mut(&(kind, id)).map_or_else(RightRecords::default, |told| {
            told.is_met = true;
            *told
        });
        let (moved, moved_at) = self.read_act(told.moved)?.unzip();
        Ok(RecordedRight { told, made: self.read_change(told.made)?, moved, moved_at })
    }

    /// What the last record of a column of an agent's row says, if any names it.
    fn latest_change(&self, kind: RightKind, id: [u8; 16]) -> rusqlite::Result<Option<AuditChange>> {
        self.read_change(self.told.get(&(kind, id)).map_or(0, |told| told.made))
    }

    /// Reads what a record says; nothing where there is none.
    fn read_change(&self, seal: u64) -> rusqlite::Result<Option<AuditChange>> {
        Ok(self.read_act(seal)?.map(|(change, _)| change))
    }

    /// Reads a record again, with its time; nothing where there is none.
    fn read_act(&self, seal: u64) -> rusqlite::Result<Option<(AuditChange, i64)>> {
        if seal == 0 {
            return Ok(None);
        }
        let found: Option<(Vec<u8>, i64)> = self
            .walk
            .db
            .prepare_cached("SELECT record, at FROM audit WHERE tenant = ?1 AND number = ?2")?
            .query_row(params![self.walk.tenant.as_bytes(), stored_counter(seal)], |row| {
                Ok((row.get(0)?, row.get(1)?))
            })
            .optional()?;
        Ok(found.and_then(|(record, at)| {
            let act = serde_json::from_slice::<AuditAct>(&record).ok()?;
            Some((act.change, at))
        }))
    }

    /// Reports a row that no record names.
    fn report_unrecorded(&mut self, row: String) {
        self.walk.found_row(AuditProblem::RowUnrecorded, row, None, None);
    }

    /// Reports in which fields a row differs from its record, if in any.
    fn report_difference(&mut self, row: String, told: RightRecords, differs: &[&str]) {
        if !differs.is_empty() {
            let detail =
                Some(format!("{}, as {} has it", differs.join(", "), record_name(told.latest_record())));
            self.walk.found_row(AuditProblem::RowChanged, row, told.latest_record(), detail);
        }
    }

    /// Reports what has a record and no row, though no record removed it.
    fn report_missing(&mut self) -> rusqlite::Result<()> {
        let missed = |((kind, _), told): &(&(RightKind, [u8; 16]), &RightRecords)| {
            let may_go = match kind {
                // Nothing removes the row of a token, also of one that was revoked.
                RightKind::Token | RightKind::Agent => false,
                RightKind::Secret | RightKind::Budget | RightKind::Rule => told.moved > 0,
                // What is over gives way to others.
                // They are columns of the agent's row, whose own record says whether it is missing.
                RightKind::Capability
                | RightKind::Approval
                | RightKind::AgentRevision
                | RightKind::AgentHandle => true,
            };
            !told.is_met && told.made > 0 && !may_go
        };
        let mut missed: Vec<(RightKind, [u8; 16], RightRecords)> =
            self.told.iter().filter(missed).map(|((kind, id), told)| (*kind, *id, *told)).collect();
        missed.sort_unstable_by_key(|(_, _, told)| told.made);
        for (kind, id, told) in missed {
            let is_erased = |agent: AgentId| self.walk.erased.contains(&agent);
            let row = match (kind, self.read_change(told.made)?) {
                (RightKind::Token, _) => format!("token {}", TokenId::from_bytes(id)),
                (RightKind::Agent, _) if is_erased(AgentId::from_bytes(id)) => continue,
                (RightKind::Agent, _) => format!("agent {}", AgentId::from_bytes(id)),
                (RightKind::Rule, Some(AuditChange::ApprovalRuleSet { agent: Some(agent), .. }))
                    if is_erased(agent) =>
                {
                    continue;
                }
                (RightKind::Rule, Some(AuditChange::ApprovalRuleSet { session: Some(session), .. }))
                    if self.walk.erased_sessions.contains_key(session.as_bytes()) =>
                {
                    continue;
                }
                // One that had ended goes when another one is set, and leaves no record.
                (RightKind::Rule, Some(AuditChange::ApprovalRuleSet { expires_at, .. }))
                    if told.made < self.rule_set && expires_at.as_millisecond() <= self.rule_set_at =>
                {
                    continue;
                }
                (RightKind::Rule, Some(AuditChange::ApprovalRuleSet { name, .. })) => {
                    format!("approval rule {name}")
                }
                (RightKind::Secret, Some(AuditChange::SecretSet { name, .. })) => format!("secret {name}"),
                (RightKind::Budget, Some(AuditChange::BudgetSet { budget })) => {
                    format!("budget {}", budget.name)
                }
                (_, _) => continue,
            };
            let detail = Some(format!("{} tells of it", record_name(told.latest_record())));
            self.walk.found_row(AuditProblem::RowRemoved, row, told.latest_record(), detail);
        }
        Ok(())
    }
}

/// Names a record.
fn record_name(seal: Option<u64>) -> String {
    seal.map_or_else(|| "no record".to_owned(), |seal| format!("act:{seal}"))
}

/// A key for what has a name and no id.
fn name_key(name: &str) -> [u8; 16] {
    let mut id = [0; 16];
    blake3::Hasher::new().update(name.as_bytes()).finalize_xof().fill(&mut id);
    id
}

/// Returns the subject of a record, and whether the record creates or replaces it; `None` if no row has its content.
fn change_subject(change: &AuditChange) -> Option<(RightKind, [u8; 16], bool)> {
    Some(match change {
        AuditChange::TokenCreated { token, .. } => (RightKind::Token, *token.as_bytes(), true),
        AuditChange::TokenRevoked { token } => (RightKind::Token, *token.as_bytes(), false),
        AuditChange::AgentCreated { agent, .. } => (RightKind::Agent, *agent.as_bytes(), true),
        AuditChange::AgentStateSet { agent, .. } => (RightKind::Agent, *agent.as_bytes(), false),
        AuditChange::AgentRevised { agent, .. } => (RightKind::AgentRevision, *agent.as_bytes(), true),
        AuditChange::AgentRenamed { agent, .. } => (RightKind::AgentHandle, *agent.as_bytes(), true),
        AuditChange::SecretSet { name, .. } => (RightKind::Secret, name_key(name), true),
        AuditChange::SecretErased { name } => (RightKind::Secret, name_key(name), false),
        AuditChange::CapabilityGranted { capability, .. }
        | AuditChange::CapabilityDelegated { capability, .. } => {
            (RightKind::Capability, *capability.as_bytes(), true)
        }
        AuditChange::CapabilityRevoked { capability, .. } => {
            (RightKind::Capability, *capability.as_bytes(), false)
        }
        AuditChange::BudgetSet { budget } => (RightKind::Budget, name_key(&budget.name), true),
        AuditChange::BudgetRemoved { name } => (RightKind::Budget, name_key(name), false),
        AuditChange::ApprovalAnswered { approval, .. } => (RightKind::Approval, *approval.as_bytes(), true),
        AuditChange::ApprovalRuleSet { name, .. } => (RightKind::Rule, name_key(name), true),
        AuditChange::ApprovalRuleRemoved { name } => (RightKind::Rule, name_key(name), false),
        AuditChange::TenantCreated { .. }
        | AuditChange::TenantSuspensionSet { .. }
        | AuditChange::TenantDeleted
        | AuditChange::StatePut { .. }
        | AuditChange::DeliveryRedriven { .. }
        | AuditChange::ConfigApplied { .. }
        | AuditChange::SessionExported { .. }
        | AuditChange::FilePut { .. }
        | AuditChange::PictureFetched { .. }
        | AuditChange::SessionTrusted { .. }
        | AuditChange::SessionErased { .. }
        | AuditChange::SessionHoldSet { .. }
        | AuditChange::VaultKeyReplaced => return None,
    })
}
