//! What each record says of its row, and what the row says. What a record does not carry is not compared: of a
//! capability its end and its longest call, of an approval the call, of an agent its name for people and its labels.

use jiff::Timestamp;
use rusqlite::Row;

use dromia_contracts::agent::AgentState;
use dromia_contracts::approval::{ApprovalRequest, ApprovalRuleRecord, ApprovalState};
use dromia_contracts::audit::AuditChange;
use dromia_contracts::id::{AgentId, ApprovalId, CapabilityId, TokenId};

use super::{RecordedRight, RightKind, RightsComparison, name_key};
use crate::column_codes;
use crate::open_error::OpenError;
use crate::read;

/// What is said of a row that its record ended.
const ENDED: &str = "that it stands";

impl RightsComparison<'_, '_> {
    /// Compares every row of a right with its records.
    pub(super) fn compare_rows(&mut self) -> Result<(), OpenError> {
        let of = "WHERE tenant = ?1";
        let tokens = format!(
            "SELECT token, name, scopes, at, revoked_at, hash, expires_at FROM tokens {of} ORDER BY token"
        );
        self.for_each_row(&tokens, "tokens", Self::compare_token)?;
        let agents = format!("SELECT agent, handle, state, revision, number FROM agents {of} ORDER BY agent");
        self.for_each_row(&agents, "agents", Self::compare_agent)?;
        let secrets = format!("SELECT name, version, host, changed_at FROM secrets {of} ORDER BY name");
        self.for_each_row(&secrets, "secrets", Self::compare_secret)?;
        let capabilities = format!(
            "SELECT capability, holder, parent, rights, revoked_at, at FROM capabilities {of} ORDER BY capability"
        );
        self.for_each_row(&capabilities, "capabilities", Self::compare_capability)?;
        let budgets = format!(
            "SELECT name, per, about, measure, period, most, declared FROM budgets {of} ORDER BY name"
        );
        self.for_each_row(&budgets, "budgets", Self::compare_budget)?;
        let approvals =
            format!("SELECT record, approval, agent, open, expires_at FROM approvals {of} ORDER BY approval");
        self.for_each_row(&approvals, "approvals", Self::compare_approval)?;
        let rules = format!("SELECT record, name, agent, expires_at FROM approval_rules {of} ORDER BY name");
        self.for_each_row(&rules, "approval_rules", Self::compare_rule)
    }

    fn compare_token(&mut self, row: &Row<'_>) -> rusqlite::Result<()> {
        let id: [u8; 16] = column_codes::read_bytes(row, 0)?;
        let RecordedRight { told, made, moved_at, .. } = self.recorded_right(RightKind::Token, id)?;
        let (name, scopes): (String, _) = (row.get(1)?, column_codes::read_scopes(row, 2)?);
        let (revoked_at, expires_at): (Option<i64>, Option<i64>) = (row.get(4)?, row.get(6)?);
        let hash = column_codes::read_digest(row, 5)?;
        let what = format!("token {}", TokenId::from_bytes(id));
        let Some(AuditChange::TokenCreated { name: known, scopes: may, hash: own, expires_at: end, .. }) =
            made
        else {
            self.report_unrecorded(what);
            return Ok(());
        };
        let differs = [
            ("name", name != known),
            ("scopes", scopes != may),
            ("hash", own != hash),
            ("end", expires_at != end.map(Timestamp::as_millisecond)),
            ("revocation", revoked_at != moved_at),
        ];
        self.report_difference(what, told, &differing_fields(&differs));
        Ok(())
    }

    fn compare_agent(&mut self, row: &Row<'_>) -> rusqlite::Result<()> {
        let id: [u8; 16] = column_codes::read_bytes(row, 0)?;
        let RecordedRight { told, made, moved, .. } = self.recorded_right(RightKind::Agent, id)?;
        let (handle, state): (String, AgentState) = (row.get(1)?, column_codes::read_enum(row, 2)?);
        let what = format!("agent {}", AgentId::from_bytes(id));
        let Some(AuditChange::AgentCreated { handle: known, revision, .. }) = made else {
            self.report_unrecorded(what);
            return Ok(());
        };
        let (revision, number) = match self.latest_change(RightKind::AgentRevision, id)? {
            Some(AuditChange::AgentRevised { revision, number, .. }) => (revision, number),
            _ => (revision, 1),
        };
        let known = match self.latest_change(RightKind::AgentHandle, id)? {
            Some(AuditChange::AgentRenamed { handle, .. }) => handle,
            _ => known,
        };
        let is_current =
            column_codes::read_digest(row, 3)? == revision && column_codes::read_counter(row, 4)? == number;
        let set = match moved {
            Some(AuditChange::AgentStateSet { to, .. }) => to,
            _ => AgentState::Running,
        };
        let differs =
            [("handle", handle != known.as_str()), ("configuration", !is_current), ("state", state != set)];
        self.report_difference(what, told, &differing_fields(&differs));
        Ok(())
    }

    fn compare_secret(&mut self, row: &Row<'_>) -> rusqlite::Result<()> {
        let (name, version, host): (String, u32, String) = (row.get(0)?, row.get(1)?, row.get(2)?);
        let RecordedRight { told, made, .. } = self.recorded_right(RightKind::Secret, name_key(&name))?;
        let what = format!("secret {name}");
        let Some(AuditChange::SecretSet { version: last, host: server, .. }) = made else {
            self.report_unrecorded(what);
            return Ok(());
        };
        let differs = [("version", version != last), ("host", host != server), (ENDED, told.moved > 0)];
        self.report_difference(what, told, &differing_fields(&differs));
        Ok(())
    }

    fn compare_capability(&mut self, row: &Row<'_>) -> rusqlite::Result<()> {
        let id: [u8; 16] = column_codes::read_bytes(row, 0)?;
        let RecordedRight { told, made, .. } = self.recorded_right(RightKind::Capability, id)?;
        let whose = AgentId::from_bytes(column_codes::read_bytes(row, 1)?);
        let parent = column_codes::bytes_opt(row, 2)?.map(CapabilityId::from_bytes);
        let (covers, revoked_at): (String, Option<i64>) = (row.get(3)?, row.get(4)?);
        let what = format!("capability {}", CapabilityId::from_bytes(id));
        let (holder, rights, from) = match made {
            Some(AuditChange::CapabilityGranted { holder, rights, .. }) => (holder, rights, None),
            Some(AuditChange::CapabilityDelegated { holder, rights, from, .. }) => {
                (holder, rights, Some(from))
            }
            _ => {
                self.report_unrecorded(what);
                return Ok(());
            }
        };
        let differs = [
            ("holder", whose != holder),
            ("rights", covers != rights.join("\n")),
            ("what it was made from", parent != from),
            ("revocation", revoked_at.is_some() != (told.moved > 0)),
        ];
        self.report_difference(what, told, &differing_fields(&differs));
        Ok(())
    }

    fn compare_budget(&mut self, row: &Row<'_>) -> rusqlite::Result<()> {
        let budget = read::budget::read_budget(row)?;
        let RecordedRight { told, made, .. } =
            self.recorded_right(RightKind::Budget, name_key(&budget.name))?;
        let what = format!("budget {}", budget.name);
        let Some(AuditChange::BudgetSet { budget: known }) = made else {
            self.report_unrecorded(what);
            return Ok(());
        };
        let differs = [
            ("limit", budget.limit != known.limit),
            ("what it counts", !budget.counts_as(&known)),
            ("who declares it", budget.declared != known.declared),
            (ENDED, told.moved > 0),
        ];
        self.report_difference(what, told, &differing_fields(&differs));
        Ok(())
    }

    fn compare_approval(&mut self, row: &Row<'_>) -> rusqlite::Result<()> {
        let id: [u8; 16] = column_codes::read_bytes(row, 1)?;
        let RecordedRight { told, made, .. } = self.recorded_right(RightKind::Approval, id)?;
        let approval: ApprovalRequest = read::approval::read_record(row)?;
        let what = format!("approval {}", ApprovalId::from_bytes(id));
        let columns: (AgentId, bool, i64) =
            (AgentId::from_bytes(column_codes::read_bytes(row, 2)?), row.get(3)?, row.get(4)?);
        let own =
            (approval.source.agent, approval.state.is_open(), approval.deadlines.expires_at.as_millisecond());
        let mut differs =
            differing_fields(&[("its columns", (approval.id, columns) != (ApprovalId::from_bytes(id), own))]);
        match (&made, approval.state) {
            (Some(AuditChange::ApprovalAnswered { agent, approved, .. }), state) => {
                let follows = match state {
                    ApprovalState::Approved | ApprovalState::Used | ApprovalState::Withdrawn => *approved,
                    ApprovalState::Denied => !*approved,
                    ApprovalState::Holding | ApprovalState::Waiting | ApprovalState::Expired => false,
                };
                differs.extend(differing_fields(&[
                    ("agent", approval.source.agent != *agent),
                    ("answer", !follows),
                ]));
            }
            (_, ApprovalState::Approved | ApprovalState::Used) => {
                self.report_unrecorded(what);
                return Ok(());
            }
            // It permits nothing.
            (_, _) => {}
        }
        self.report_difference(what, told, &differs);
        Ok(())
    }

    fn compare_rule(&mut self, row: &Row<'_>) -> rusqlite::Result<()> {
        let name: String = row.get(1)?;
        let RecordedRight { told, made, .. } = self.recorded_right(RightKind::Rule, name_key(&name))?;
        let rule: ApprovalRuleRecord = read::approval::read_record(row)?;
        let what = format!("approval rule {name}");
        let Some(AuditChange::ApprovalRuleSet { answer, agent, session, expires_at, rule: digest, .. }) =
            made
        else {
            self.report_unrecorded(what);
            return Ok(());
        };
        let columns: (Option<AgentId>, i64) =
            (column_codes::bytes_opt(row, 2)?.map(AgentId::from_bytes), row.get(3)?);
        let own = (rule.agent, rule.expires_at.as_millisecond());
        let differs = [
            ("its columns", rule.name != name || columns != own),
            ("answer", rule.answer != answer),
            ("agent", rule.agent != agent),
            ("session", rule.session != session),
            ("end", rule.expires_at != expires_at),
            ("the rule itself", blake3::hash(rule.rule.as_bytes()).as_bytes() != digest.as_bytes()),
            (ENDED, told.moved > 0),
        ];
        self.report_difference(what, told, &differing_fields(&differs));
        Ok(())
    }
}

/// Lists what is otherwise.
fn differing_fields(differs: &[(&'static str, bool)]) -> Vec<&'static str> {
    differs.iter().filter(|(_, differs)| *differs).map(|(what, _)| *what).collect()
}
