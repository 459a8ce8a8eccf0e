//! The rules that answer approvals. A tenant has few: they are read as a whole, and those that have ended go with the next put.

use rusqlite::params;

use dromia_contracts::approval::{ApprovalRuleRecord, RULES_MAX};
use dromia_contracts::audit::AuditChange;
use dromia_contracts::digest::Digest;
use dromia_contracts::id::AgentId;
use dromia_contracts::store::{ApprovalRuleRemove, CommitRefusal};

use super::record_json;
use crate::apply::agent::AgentDrafts;
use crate::apply::audit::ActList;
use crate::apply::session::SessionDrafts;
use crate::apply::{Checked, TableDraft, TenantDb};
use crate::read;

/// The tenant's rules, once they were looked at.
#[derive(Debug, Default)]
pub(in crate::apply) struct RuleDrafts<'b> {
    loaded: Option<LoadedRules<'b>>,
}

/// The tenant's rules as they will be.
#[derive(Debug)]
struct LoadedRules<'b> {
    known: Vec<ApprovalRuleRecord>,
    changes: Vec<RuleChange<'b>>,
}

/// What happens to a rule's row.
#[derive(Debug)]
enum RuleChange<'b> {
    /// It is written.
    Put(&'b ApprovalRuleRecord),
    /// A caller removes it.
    Remove(String),
    /// It had ended, and goes.
    Sweep(String),
}

impl<'b> RuleDrafts<'b> {
    pub(in crate::apply) fn put_rule(
        &mut self,
        db: TenantDb<'_>,
        rule: &'b ApprovalRuleRecord,
        agents: &mut AgentDrafts<'b>,
        sessions: &mut SessionDrafts<'b>,
    ) -> Checked {
        if let Some(problem) = rule.validation_problem() {
            return Err(CommitRefusal::Malformed(problem).into());
        }
        if let Some(agent) = rule.agent
            && agents.find_state(db, agent)?.is_none()
        {
            return Err(CommitRefusal::NotFound(agent.to_string()).into());
        }
        if let Some(session) = rule.session {
            sessions.find_session(db, session)?;
        }
        let draft = self.load_rules(db)?;
        let stands = draft.known.contains(rule);
        let ended =
            |known: &ApprovalRuleRecord| known.expires_at <= rule.created_at && known.name != rule.name;
        let gone = draft.known.iter().filter(|known| ended(known)).map(|known| known.name.clone());
        let gone: Vec<_> = gone.map(RuleChange::Sweep).collect();
        draft.known.retain(|known| !ended(known) && known.name != rule.name);
        if draft.known.len() >= RULES_MAX {
            return Err(CommitRefusal::Malformed(format!("a tenant has at most {RULES_MAX} rules")).into());
        }
        draft.known.push(rule.clone());
        draft.changes.extend(gone);
        if !stands {
            draft.changes.push(RuleChange::Put(rule));
        }
        Ok(())
    }

    pub(in crate::apply) fn remove_rule(&mut self, db: TenantDb<'_>, remove: &ApprovalRuleRemove) -> Checked {
        let draft = self.load_rules(db)?;
        let before = draft.known.len();
        draft.known.retain(|known| known.name != remove.name);
        if draft.known.len() < before {
            draft.changes.push(RuleChange::Remove(remove.name.clone()));
        }
        Ok(())
    }

    fn load_rules(&mut self, db: TenantDb<'_>) -> Checked<&mut LoadedRules<'b>> {
        if self.loaded.is_none() {
            let known = read::approval::all_rules(&db, db.tenant)?;
            self.loaded = Some(LoadedRules { known, changes: Vec::new() });
        }
        // It was filled above.
        self.loaded.as_mut().ok_or_else(|| CommitRefusal::Malformed("no rules".into()).into())
    }
}

impl TableDraft for RuleDrafts<'_> {
    fn write_rows(&self, db: TenantDb<'_>) -> rusqlite::Result<()> {
        for change in self.loaded.iter().flat_map(|draft| &draft.changes) {
            match change {
                RuleChange::Put(rule) => db
                    .prepare_cached(
                        "INSERT OR REPLACE INTO approval_rules (tenant, name, agent, expires_at, record) \
                         VALUES (?1, ?2, ?3, ?4, ?5)",
                    )?
                    .execute(params![
                        db.tenant.as_bytes(),
                        rule.name,
                        rule.agent.as_ref().map(AgentId::as_bytes),
                        rule.expires_at.as_millisecond(),
                        record_json(rule)?,
                    ])?,
                RuleChange::Remove(name) | RuleChange::Sweep(name) => db
                    .prepare_cached("DELETE FROM approval_rules WHERE tenant = ?1 AND name = ?2")?
                    .execute(params![db.tenant.as_bytes(), name])?,
            };
        }
        Ok(())
    }

    fn note_acts(&self, acts: &mut ActList<'_>) {
        for change in self.loaded.iter().flat_map(|draft| &draft.changes) {
            match change {
                RuleChange::Put(rule) => {
                    let ApprovalRuleRecord {
                        name, answer, agent, session, rule, created_at, expires_at, ..
                    } = rule;
                    let change = AuditChange::ApprovalRuleSet {
                        name: name.clone(),
                        answer: *answer,
                        agent: *agent,
                        session: *session,
                        expires_at: *expires_at,
                        rule: Digest::from_bytes(*blake3::hash(rule.as_bytes()).as_bytes()),
                    };
                    acts.note_change(*created_at, change);
                }
                RuleChange::Remove(name) => {
                    acts.note_wanted(AuditChange::ApprovalRuleRemoved { name: name.clone() });
                }
                RuleChange::Sweep(_) => {}
            }
        }
    }
}
