//! What the reference store knows of agents' files.

use std::collections::BTreeMap;

use dromia_contracts::file::{FILE_LABELS_MAX, FileLabel, KnownFile};
use dromia_contracts::label::Label;
use dromia_contracts::store::{CommitRefusal, FileLabelsPut, PageRequest};
use dromia_contracts::{AgentId, Scope};

use super::agent::AgentRows;
use super::page::page_rows;

/// The labels of the files of the tenant's agents.
#[derive(Debug, Clone, Default)]
pub(super) struct FileRows {
    pub(super) rows: BTreeMap<AgentId, BTreeMap<String, FileLabel>>,
    /// What counts for the files of an agent of which nothing is known.
    pub(super) rest: BTreeMap<AgentId, Label>,
}

impl FileRows {
    pub(in crate::reference) fn put_labels(
        &mut self,
        put: &FileLabelsPut,
        agents: &AgentRows,
    ) -> Result<(), CommitRefusal> {
        if !agents.rows.contains_key(&put.agent) {
            return Err(CommitRefusal::NotFound(put.agent.to_string()));
        }
        let known = self.rows.entry(put.agent).or_default();
        let mut rest = put.said.rest;
        known.retain(|path, _| put.said.files.get(path) != Some(&None));
        for (path, holds) in &put.said.files {
            let Some(holds) = holds else { continue };
            if known.len() < FILE_LABELS_MAX || known.contains_key(path) {
                known.insert(path.clone(), holds.clone());
            } else {
                rest = Some(rest.map_or(holds.label, |rest| rest.join(holds.label)));
            }
        }
        if let Some(more) = rest {
            let rest = self.rest.entry(put.agent).or_insert(more);
            *rest = rest.join(more);
        }
        Ok(())
    }

    pub(in crate::reference) fn find_file(
        &self,
        scope: &Scope,
        agents: &AgentRows,
        agent: AgentId,
        path: &str,
    ) -> KnownFile {
        if !agents.is_seen(scope, agent) {
            return KnownFile::default();
        }
        let file = self.rows.get(&agent).and_then(|files| files.get(path)).cloned();
        let rest = self.rest.get(&agent).copied();
        KnownFile { file, rest: rest.unwrap_or(KnownFile::default().rest) }
    }

    pub(in crate::reference) fn list_files(
        &self,
        scope: &Scope,
        agents: &AgentRows,
        agent: AgentId,
        asked: PageRequest<&str>,
    ) -> Vec<(String, FileLabel)> {
        let files = self.rows.get(&agent).filter(|_| agents.is_seen(scope, agent));
        let files = files.into_iter().flatten();
        let files = files.map(|(path, file)| (path.as_str(), (path.clone(), file.clone())));
        page_rows(files, asked, false)
    }
}
