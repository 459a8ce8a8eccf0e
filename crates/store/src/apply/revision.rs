//! Revisions of agents: what a batch adds, which act that is, and which old ones go.
//!
//! This is the one place that writes a configuration. A row is written with the agent's pointer to it, in one
//! transaction, and is never changed afterwards but for the note that a run began with it.

use std::collections::BTreeMap;

use jiff::Timestamp;
use rusqlite::{OptionalExtension as _, params};

use dromia_contracts::agent::AgentConfig;
use dromia_contracts::audit::AuditChange;
use dromia_contracts::digest::Digest;
use dromia_contracts::entry::Entry;
use dromia_contracts::id::AgentId;
use dromia_contracts::revision::{
    AgentField, REVISIONS_KEPT, REVISIONS_REMOVED_MAX, RevisionKey, grants_beyond,
};
use dromia_contracts::store::{AgentCreate, AgentRevise, TurnClaim, WriteBatch};

use super::audit::ActList;
use super::{Checked, TenantDb};
use crate::column_codes::{self, stored_counter};

/// What a revision is compared with.
#[derive(Debug)]
pub(super) struct RevisionBasis {
    config: AgentConfig,
    display_name: String,
    labels: BTreeMap<String, String>,
}

impl RevisionBasis {
    pub(super) fn of_create(create: &AgentCreate) -> Self {
        let (display_name, labels) = (create.display_name.clone(), create.labels.clone());
        Self { config: create.config.clone(), display_name, labels }
    }

    pub(super) fn of_revise(revise: &AgentRevise) -> Self {
        let (display_name, labels) = (revise.display_name.clone(), revise.labels.clone());
        Self { config: revise.config.clone(), display_name, labels }
    }

    /// Reads what an agent is now.
    pub(super) fn read_current(db: TenantDb<'_>, agent: AgentId) -> Checked<Self> {
        let unreadable = |column: usize, error: serde_json::Error| {
            column_codes::unreadable_column(column, rusqlite::types::Type::Text, error.to_string())
        };
        let basis = db
            .prepare_cached(
                "SELECT a.display_name, a.labels, r.config FROM agents a JOIN revisions r \
                 ON r.tenant = a.tenant AND r.agent = a.agent AND r.number = a.number \
                 WHERE a.tenant = ?1 AND a.agent = ?2",
            )?
            .query_row(params![db.tenant.as_bytes(), agent.as_bytes()], |row| {
                let (labels, config): (Option<String>, String) = (row.get(1)?, row.get(2)?);
                let labels = labels.map(|labels| serde_json::from_str(&labels)).transpose();
                Ok(Self {
                    display_name: row.get(0)?,
                    labels: labels.map_err(|error| unreadable(1, error))?.unwrap_or_default(),
                    config: serde_json::from_str(&config).map_err(|error| unreadable(2, error))?,
                })
            })?;
        Ok(basis)
    }
}

/// A revision that the batch adds.
#[derive(Debug)]
pub(super) struct RevisionDraft<'b> {
    number: u64,
    digest: Digest,
    at: Timestamp,
    author: Option<&'b str>,
    key: Option<&'b RevisionKey>,
    /// The digest of what was asked for; of a first revision, of the names under which the agent was registered.
    request: Option<Digest>,
    changed: Vec<AgentField>,
    granted: Vec<String>,
    taken: Vec<String>,
    config: &'b AgentConfig,
    /// What the row of the agent says from now on; nothing for the first revision, with which the row is made.
    names: Option<(&'b str, &'b BTreeMap<String, String>)>,
}

impl<'b> RevisionDraft<'b> {
    /// The first revision, with which an agent is registered.
    pub(super) fn first_of(create: &'b AgentCreate, batch: &'b WriteBatch) -> Self {
        Self {
            number: 1,
            digest: create.revision,
            at: create.at,
            author: author_of(batch),
            key: None,
            request: Some(registered_names(create)),
            changed: Vec::new(),
            granted: Vec::new(),
            taken: Vec::new(),
            config: &create.config,
            names: None,
        }
    }

    /// The revision that follows another one.
    pub(super) fn next_of(basis: &RevisionBasis, revise: &'b AgentRevise, batch: &'b WriteBatch) -> Self {
        let mut changed = AgentField::list_changed(&basis.config, &revise.config);
        let named = (AgentField::DisplayName, basis.display_name != revise.display_name);
        let labelled = (AgentField::Labels, basis.labels != revise.labels);
        changed.extend([named, labelled].into_iter().filter(|(_, is)| *is).map(|(field, _)| field));
        Self {
            number: revise.after + 1,
            digest: revise.revision,
            at: revise.at,
            author: author_of(batch),
            key: revise.key.as_ref(),
            request: revise.key.as_ref().map(|key| key.request),
            changed,
            granted: grants_beyond(&revise.config.grants, &basis.config.grants),
            taken: grants_beyond(&basis.config.grants, &revise.config.grants),
            config: &revise.config,
            names: Some((&revise.display_name, &revise.labels)),
        }
    }

    /// Returns whether it is what the agent is already.
    pub(super) fn changes_nothing(&self) -> bool {
        self.changed.is_empty()
    }

    /// Writes the revision, has the agent point to it, and removes old ones that nothing needs.
    pub(super) fn write_rows(&self, db: TenantDb<'_>, agent: AgentId) -> rusqlite::Result<()> {
        let (tenant, agent) = (db.tenant.as_bytes(), agent.as_bytes());
        db.prepare_cached(
            "INSERT INTO revisions \
             (tenant, agent, number, digest, at, author, changed, key, request, pinned, config) \
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, 0, ?10)",
        )?
        .execute(params![
            tenant,
            agent,
            stored_counter(self.number),
            self.digest.as_bytes(),
            self.at.as_millisecond(),
            self.author,
            join_fields(&self.changed),
            self.key.map(|key| &key.key),
            self.request.as_ref().map(Digest::as_bytes),
            config_json(self.config),
        ])?;
        let Some((name, labels)) = self.names else { return Ok(()) };
        db.prepare_cached(
            "UPDATE agents SET revision = ?3, number = ?4, display_name = ?5, labels = ?6 \
             WHERE tenant = ?1 AND agent = ?2",
        )?
        .execute(params![
            tenant,
            agent,
            self.digest.as_bytes(),
            stored_counter(self.number),
            name,
            labels_json(labels),
        ])?;
        if let Some(last) = self.number.checked_sub(REVISIONS_KEPT) {
            db
                .prepare_cached(
                    "DELETE FROM revisions WHERE (tenant, agent, number) IN \
                     (SELECT tenant, agent, number FROM revisions INDEXED BY revisions_loose \
                      WHERE tenant = ?1 AND agent = ?2 AND number <= ?3 AND pinned = 0 ORDER BY number LIMIT ?4)",
                )?
                .execute(params![tenant, agent, stored_counter(last), stored_counter(REVISIONS_REMOVED_MAX)])?
                as u64;
        }
        Ok(())
    }

    /// Notes the act; the first revision is part of the agent's registration.
    pub(super) fn note_act(&self, agent: AgentId, acts: &mut ActList<'_>) {
        if self.names.is_some() {
            let (number, revision, changed) = (self.number, self.digest, self.changed.clone());
            let (granted, taken) = (self.granted.clone(), self.taken.clone());
            let change = AuditChange::AgentRevised { agent, number, revision, changed, granted, taken };
            acts.note_change(self.at, change);
        }
    }
}

/// Digests the names under which an agent was registered: both may change, and a repeated registration is known by them.
pub(super) fn registered_names(create: &AgentCreate) -> Digest {
    let names = (create.handle.as_str(), &create.display_name, &create.labels);
    // Strings only, so serialization has no failing case.
    Digest::from_bytes(*blake3::hash(&serde_json::to_vec(&names).unwrap_or_default()).as_bytes())
}

/// Labels as JSON; none at all for most agents.
pub(super) fn labels_json(labels: &BTreeMap<String, String>) -> Option<String> {
    // A map of strings to strings has no failing case.
    (!labels.is_empty()).then(|| serde_json::to_string(labels).unwrap_or_default())
}

/// The configuration as JSON: strings, lists of strings and numbers, so serialization has no failing case.
pub(super) fn config_json(config: &AgentConfig) -> String {
    serde_json::to_string(config).unwrap_or_default()
}

fn author_of(batch: &WriteBatch) -> Option<&str> {
    batch.wanted.as_ref().map(|wanted| wanted.by.as_str())
}

fn join_fields(changed: &[AgentField]) -> String {
    changed.iter().map(|field| field.as_str()).collect::<Vec<_>>().join(",")
}

/// Finds the revision that a key made, and for which request.
pub(super) fn find_key(db: TenantDb<'_>, agent: AgentId, key: &str) -> Checked<Option<(u64, Digest)>> {
    let found = db
        .prepare_cached(
            "SELECT number, request FROM revisions WHERE tenant = ?1 AND agent = ?2 AND key = ?3",
        )?
        .query_row(params![db.tenant.as_bytes(), agent.as_bytes(), key], |row| {
            Ok((column_codes::read_counter(row, 0)?, column_codes::read_digest(row, 1)?))
        })
        .optional()?;
    Ok(found)
}

/// Returns whether the agent was revised by this very change before.
pub(super) fn is_revised_so(db: TenantDb<'_>, revise: &AgentRevise) -> Checked<bool> {
    let same = db
        .prepare_cached(
            "SELECT 1 FROM revisions WHERE tenant = ?1 AND agent = ?2 AND number = ?3 AND digest = ?4 AND at = ?5 \
             AND key IS ?6",
        )?
        .exists(params![
            db.tenant.as_bytes(),
            revise.agent.as_bytes(),
            stored_counter(revise.after + 1),
            revise.revision.as_bytes(),
            revise.at.as_millisecond(),
            revise.key.as_ref().map(|key| &key.key),
        ])?;
    Ok(same)
}

/// A configuration with which a run begins for the first time.
#[derive(Debug)]
pub(super) struct RevisionPin {
    agent: AgentId,
    digest: Digest,
}

impl RevisionPin {
    /// The pin of a claim whose configuration no run has named yet; nothing for one that is not kept here, as that of an
    /// imported run.
    pub(super) fn of_claim(db: TenantDb<'_>, claim: &TurnClaim) -> Checked<Option<Self>> {
        let Some(Entry::RunStarted(started)) = claim.entries.first().map(|first| &first.entry) else {
            return Ok(None);
        };
        let is_pinned = db
            .prepare_cached(
                "SELECT 1 FROM revisions WHERE tenant = ?1 AND agent = ?2 AND digest = ?3 AND pinned = 1",
            )?
            .exists(params![db.tenant.as_bytes(), claim.agent.as_bytes(), started.config.as_bytes()])?;
        Ok((!is_pinned).then_some(Self { agent: claim.agent, digest: started.config }))
    }

    /// Keeps the newest revision with that configuration.
    pub(super) fn write_row(&self, db: TenantDb<'_>) -> rusqlite::Result<()> {
        db.prepare_cached(
            "UPDATE revisions SET pinned = 1 WHERE tenant = ?1 AND agent = ?2 AND number = \
                 (SELECT max(number) FROM revisions WHERE tenant = ?1 AND agent = ?2 AND digest = ?3)",
        )?
        .execute(params![db.tenant.as_bytes(), self.agent.as_bytes(), self.digest.as_bytes()])?;
        Ok(())
    }
}
