//! What people, and the server itself, changed, compared with the rows that stand: tokens, agents, secrets, capabilities,
//! budgets, answers to approvals, and the rules that give some.
//!
//! A record says what its row must say, as far as it says anything of it (`facts`). A row that says otherwise, one that went
//! without a record, and one that no record tells of are findings. A tenant whose chain does not begin with its registration
//! is older than the records; what of it has no record may be so, too, and is told more mildly.
//!
//! It is all read in one transaction, so a server that writes meanwhile changes nothing of it. In memory is one place of
//! about 50 bytes for each thing with a record; where there are more than [`ACTS_OF_PASS`] records, the things are shared out
//! over several passes.

mod facts;

use std::collections::HashMap;

use rusqlite::{OptionalExtension as _, Row, params};

use dromia_contracts::audit::{Act, Change};
use dromia_contracts::id::{AgentId, TokenId};

use super::AuditProblem;
use super::journals::unreadable;
use super::seals::Walk;
use crate::code::{self, stored};
use crate::open::OpenError;

/// How many records one pass takes things of, at most about so many.
const ACTS_OF_PASS: u64 = 1 << 20;

/// What a record is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Kind {
    Token,
    Agent,
    Secret,
    Capability,
    Budget,
    Approval,
    Rule,
}

/// The records of one thing.
#[derive(Debug, Clone, Copy, Default)]
struct Told {
    /// The seal of the record that made it, or set it last; 0 where none did.
    made: u64,
    /// The seal of the record that ended it or moved it since; 0 where none did.
    moved: u64,
    /// Whether its row was met.
    is_met: bool,
}

impl Told {
    /// The record that counts.
    fn last(self) -> Option<u64> {
        Some(self.made.max(self.moved)).filter(|seal| *seal > 0)
    }
}

/// What the records say of one row.
struct Said {
    told: Told,
    made: Option<Change>,
    moved: Option<Change>,
    /// When it was ended or moved, in milliseconds.
    moved_at: Option<i64>,
}

/// One pass over the records and the rows.
struct Pass<'w, 'a> {
    walk: &'w mut Walk<'a>,
    /// The things of this pass are those whose key is this one of so many.
    number: u64,
    of: u64,
    told: HashMap<(Kind, [u8; 16]), Told>,
    /// The seal of the last record of a rule that was set, and the latest time of one: with one of those go the rules that had
    /// ended by then, and no others.
    rule_set: u64,
    rule_set_at: i64,
    /// When the first seal was made.
    since: Option<i64>,
}

impl Walk<'_> {
    /// Compares the records of the tenant with the rows that stand.
    pub(super) fn rights(&mut self) -> Result<(), OpenError> {
        let db = self.db;
        let snapshot = db.unchecked_transaction()?;
        // What was sealed since the journals were read belongs to the snapshot.
        self.read_on()?;
        self.learn_erased()?;
        let of = self.checked.acts / ACTS_OF_PASS + 1;
        for number in 0..of {
            let (told, since) = (HashMap::new(), None);
            let mut pass = Pass { walk: self, number, of, told, rule_set: 0, rule_set_at: i64::MIN, since };
            pass.learn()?;
            pass.compare()?;
            pass.missed()?;
        }
        self.registered()?;
        Ok(snapshot.finish()?)
    }

    /// Compares the row of the tenant with its registration, with which the chain begins if it is not older.
    fn registered(&mut self) -> rusqlite::Result<()> {
        let (db, tenant) = (self.db, self.tenant);
        let first: Option<Vec<u8>> = db
            .prepare_cached("SELECT record FROM audit WHERE tenant = ?1 AND number = 1")?
            .query_row([tenant.as_bytes()], |row| row.get(0))
            .optional()?;
        let act = first.and_then(|record| serde_json::from_slice::<Act>(&record).ok());
        let Some(Change::TenantCreated { handle }) = act.map(|act| act.change) else { return Ok(()) };
        self.checked.rows += 1;
        let is_it = db
            .prepare_cached("SELECT 1 FROM tenants WHERE tenant = ?1 AND handle = ?2")?
            .exists(params![tenant.as_bytes(), handle.as_str()])?;
        if !is_it {
            let detail = Some(format!("handle, as {} has it", record(Some(1))));
            self.found_row(AuditProblem::RowChanged, format!("tenant {tenant}"), Some(1), detail);
        }
        Ok(())
    }
}

impl Pass<'_, '_> {
    /// Learns which records tell of the things of this pass.
    fn learn(&mut self) -> rusqlite::Result<()> {
        let (db, tenant) = (self.walk.db, self.walk.tenant);
        self.since = db
            .prepare_cached("SELECT at FROM audit WHERE tenant = ?1 ORDER BY number LIMIT 1")?
            .query_row([tenant.as_bytes()], |row| row.get(0))
            .optional()?;
        let mut select = db.prepare_cached(
            "SELECT number, record, at FROM audit INDEXED BY audit_acts WHERE tenant = ?1 AND kind = 1 ORDER BY number",
        )?;
        let mut found = select.query([tenant.as_bytes()])?;
        while let Some(row) = found.next()? {
            let (seal, record): (u64, Vec<u8>) = (code::number(row, 0)?, row.get(1)?);
            // A kind of a newer program tells of nothing that is known here.
            let Ok(act) = serde_json::from_slice::<Act>(&record) else { continue };
            if let Change::ApprovalRuleSet { .. } = act.change {
                self.rule_set = seal;
                self.rule_set_at = self.rule_set_at.max(row.get(2)?);
            }
            let Some((kind, id, is_made)) = about(&act.change) else { continue };
            if !self.has(id) {
                continue;
            }
            let told = self.told.entry((kind, id)).or_default();
            if is_made {
                *told = Told { made: seal, ..Told::default() };
            } else {
                told.moved = seal;
            }
        }
        Ok(())
    }

    /// Tells whether a thing belongs to this pass.
    fn has(&self, id: [u8; 16]) -> bool {
        // The last bytes of an id are random, and those of a name's digest are as good.
        let [.., a, b, c, d] = id;
        u64::from(u32::from_be_bytes([a, b, c, d])) % self.of == self.number
    }

    /// Goes over the rows of a table.
    fn each(
        &mut self,
        sql: &str,
        table: &str,
        look: fn(&mut Self, &Row<'_>) -> rusqlite::Result<()>,
    ) -> Result<(), OpenError> {
        let (db, tenant) = (self.walk.db, self.walk.tenant);
        // A store that no program of today has opened lacks the newer tables, and there is nothing in them.
        let mut known =
            db.prepare_cached("SELECT 1 FROM sqlite_schema WHERE type = 'table' AND name = ?1")?;
        if !known.exists([table])? {
            return Ok(());
        }
        let mut select = db.prepare_cached(sql)?;
        let mut found = select.query([tenant.as_bytes()])?;
        while let Some(row) = found.next()? {
            if let Err(error) = look(self, row) {
                let detail = unreadable(error)?;
                let row = format!("some row of {table}");
                self.walk.found_row(AuditProblem::RowChanged, row, None, Some(detail));
            }
        }
        Ok(())
    }

    /// What the records say of a row that was met; nothing of one that belongs to another pass.
    fn said(&mut self, kind: Kind, id: [u8; 16]) -> rusqlite::Result<Option<Said>> {
        if !self.has(id) {
            return Ok(None);
        }
        self.walk.checked.rows += 1;
        let told = self.told.get_mut(&(kind, id)).map_or_else(Told::default, |told| {
            told.is_met = true;
            *told
        });
        let (moved, moved_at) = self.act(told.moved)?.unzip();
        Ok(Some(Said { told, made: self.change(told.made)?, moved, moved_at }))
    }

    /// Reads what a record says; nothing where there is none.
    fn change(&self, seal: u64) -> rusqlite::Result<Option<Change>> {
        Ok(self.act(seal)?.map(|(change, _)| change))
    }

    /// Reads a record again, with its time; nothing where there is none.
    fn act(&self, seal: u64) -> rusqlite::Result<Option<(Change, i64)>> {
        if seal == 0 {
            return Ok(None);
        }
        let found: Option<(Vec<u8>, i64)> = self
            .walk
            .db
            .prepare_cached("SELECT record, at FROM audit WHERE tenant = ?1 AND number = ?2")?
            .query_row(params![self.walk.tenant.as_bytes(), stored(seal)], |row| {
                Ok((row.get(0)?, row.get(1)?))
            })
            .optional()?;
        Ok(found.and_then(|(record, at)| {
            let act = serde_json::from_slice::<Act>(&record).ok()?;
            Some((act.change, at))
        }))
    }

    /// Tells of a row that no record tells of, which says itself when it was written, if it does.
    fn unrecorded(&mut self, row: String, at: Option<i64>) {
        let is_older = match (at, self.since) {
            (Some(at), Some(since)) => at <= since,
            (None, _) | (_, None) => true,
        };
        if is_older && !self.walk.is_born {
            self.walk.found_older(row);
        } else {
            self.walk.found_row(AuditProblem::RowUnrecorded, row, None, None);
        }
    }

    /// Tells of what a row says otherwise than its record, if it does anywhere.
    fn differs(&mut self, row: String, told: Told, differs: &[&str]) {
        if !differs.is_empty() {
            let detail = Some(format!("{}, as {} has it", differs.join(", "), record(told.last())));
            self.walk.found_row(AuditProblem::RowChanged, row, told.last(), detail);
        }
    }

    /// Tells of what has a record and no row, though nothing took it away.
    fn missed(&mut self) -> rusqlite::Result<()> {
        let missed = |((kind, _), told): &(&(Kind, [u8; 16]), &Told)| {
            let may_go = match kind {
                // Nothing removes the row of a token, also of one that was revoked.
                Kind::Token | Kind::Agent => false,
                Kind::Secret | Kind::Budget | Kind::Rule => told.moved > 0,
                // Those of tasks that ended, and what is over, give way to others.
                Kind::Capability | Kind::Approval => true,
            };
            !told.is_met && told.made > 0 && !may_go
        };
        let mut missed: Vec<(Kind, [u8; 16], Told)> =
            self.told.iter().filter(missed).map(|((kind, id), told)| (*kind, *id, *told)).collect();
        missed.sort_unstable_by_key(|(_, _, told)| told.made);
        for (kind, id, told) in missed {
            let is_erased = |agent: AgentId| self.walk.erased.contains(&agent);
            let row = match (kind, self.change(told.made)?) {
                (Kind::Token, _) => format!("token {}", TokenId::from_bytes(id)),
                (Kind::Agent, _) if is_erased(AgentId::from_bytes(id)) => continue,
                (Kind::Agent, _) => format!("agent {}", AgentId::from_bytes(id)),
                (Kind::Rule, Some(Change::ApprovalRuleSet { agent: Some(agent), .. }))
                    if is_erased(agent) =>
                {
                    continue;
                }
                // One that had ended goes when another one is set, and leaves no record. A record of before does not say when
                // it ended.
                (Kind::Rule, Some(Change::ApprovalRuleSet { expires_at, .. }))
                    if told.made < self.rule_set
                        && expires_at.is_none_or(|end| end.as_millisecond() <= self.rule_set_at) =>
                {
                    continue;
                }
                (Kind::Rule, Some(Change::ApprovalRuleSet { name, .. })) => format!("approval rule {name}"),
                (Kind::Secret, Some(Change::SecretSet { name, .. })) => format!("secret {name}"),
                (Kind::Budget, Some(Change::BudgetSet { budget })) => format!("budget {}", budget.name),
                (_, _) => continue,
            };
            let detail = Some(format!("{} tells of it", record(told.last())));
            self.walk.found_row(AuditProblem::RowRemoved, row, told.last(), detail);
        }
        Ok(())
    }
}

/// Names a record.
fn record(seal: Option<u64>) -> String {
    seal.map_or_else(|| "no record".to_owned(), |seal| format!("act:{seal}"))
}

/// A key for what has a name and no id.
fn named(name: &str) -> [u8; 16] {
    let mut id = [0; 16];
    blake3::Hasher::new().update(name.as_bytes()).finalize_xof().fill(&mut id);
    id
}

/// Tells which thing a record is about, and whether it makes it or sets it anew; nothing where no row says what it says.
fn about(change: &Change) -> Option<(Kind, [u8; 16], bool)> {
    Some(match change {
        Change::TokenCreated { token, .. } => (Kind::Token, *token.as_bytes(), true),
        Change::TokenRevoked { token } => (Kind::Token, *token.as_bytes(), false),
        Change::AgentCreated { agent, .. } => (Kind::Agent, *agent.as_bytes(), true),
        Change::AgentStateSet { agent, .. } => (Kind::Agent, *agent.as_bytes(), false),
        Change::SecretSet { name, .. } => (Kind::Secret, named(name), true),
        Change::SecretErased { name } => (Kind::Secret, named(name), false),
        Change::CapabilityGranted { capability, .. } | Change::CapabilityDelegated { capability, .. } => {
            (Kind::Capability, *capability.as_bytes(), true)
        }
        Change::CapabilityRevoked { capability, .. } => (Kind::Capability, *capability.as_bytes(), false),
        Change::BudgetSet { budget } => (Kind::Budget, named(&budget.name), true),
        Change::BudgetRemoved { name } => (Kind::Budget, named(name), false),
        Change::ApprovalAnswered { approval, .. } => (Kind::Approval, *approval.as_bytes(), true),
        Change::ApprovalRuleSet { name, .. } => (Kind::Rule, named(name), true),
        Change::ApprovalRuleRemoved { name } => (Kind::Rule, named(name), false),
        Change::TenantCreated { .. }
        | Change::StatePut { .. }
        | Change::DeliveryRedriven { .. }
        | Change::ConfigApplied { .. }
        | Change::SessionExported { .. }
        | Change::SessionTrusted { .. }
        | Change::BeforeSealed { .. }
        | Change::VaultKeyReplaced => return None,
    })
}
