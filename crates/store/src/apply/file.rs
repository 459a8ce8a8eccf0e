//! What is known of files: the newest word on each path, up to a bound, and what counts for the rest.

use rusqlite::{OptionalExtension as _, params};

use dromia_contracts::file::{FILE_LABELS_MAX, FILE_PATH_BYTES_MAX, FileLabel};
use dromia_contracts::id::AgentId;
use dromia_contracts::label::Label;
use dromia_contracts::store::{CommitRefusal, FileLabelsPut};

use super::{Checked, TableDraft, TenantDb};
use crate::column_codes;
use crate::read;

/// What becomes known of an agent's files.
#[derive(Debug)]
struct FilesDraft<'b> {
    agent: AgentId,
    gone: Vec<&'b str>,
    held: Vec<(&'b str, &'b FileLabel)>,
    /// What counts for the rest, where it changes.
    rest: Option<Label>,
}

/// What the batch says of files.
#[derive(Debug, Default)]
pub(super) struct FileDrafts<'b> {
    agents: Vec<FilesDraft<'b>>,
}

impl<'b> FileDrafts<'b> {
    pub(super) fn put_labels(&mut self, db: TenantDb<'_>, put: &'b FileLabelsPut) -> Checked {
        let malformed = |what: &str| -> Checked { Err(CommitRefusal::Malformed(what.to_owned()).into()) };
        if self.agents.iter().any(|draft| draft.agent == put.agent) {
            return malformed("a batch says once what an agent's files hold");
        }
        if put.said.files.keys().any(|path| path.is_empty() || path.len() > FILE_PATH_BYTES_MAX) {
            return malformed("a file's path has 1 to 4096 bytes");
        }
        let (tenant, agent) = (db.tenant.as_bytes(), put.agent.as_bytes());
        let exists = db
            .prepare_cached("SELECT 1 FROM agents WHERE tenant = ?1 AND agent = ?2")?
            .exists(params![tenant, agent])?;
        if !exists {
            return Err(CommitRefusal::NotFound(put.agent.to_string()).into());
        }
        let mut known_of =
            db.prepare_cached("SELECT 1 FROM file_labels WHERE tenant = ?1 AND agent = ?2 AND path = ?3")?;
        let mut is_known = |path: &str| known_of.exists(params![tenant, agent, path]);
        let known: u64 = db
            .prepare_cached(
                "SELECT count(*) FROM file_labels WHERE tenant = ?1 AND agent = ?2 AND path > ''",
            )?
            .query_row(params![tenant, agent], |row| column_codes::read_counter(row, 0))?;
        let mut known = usize::try_from(known).unwrap_or(usize::MAX);
        let mut draft = FilesDraft { agent: put.agent, gone: Vec::new(), held: Vec::new(), rest: None };
        let mut rest = put.said.rest;
        // What goes makes room first.
        for (path, _) in put.said.files.iter().filter(|(_, holds)| holds.is_none()) {
            if is_known(path)? {
                draft.gone.push(path);
                known -= 1;
            }
        }
        for (path, holds) in &put.said.files {
            let Some(file) = holds else { continue };
            if !is_known(path)? {
                if known >= FILE_LABELS_MAX {
                    rest = Some(rest.map_or(file.label, |rest| rest.join(file.label)));
                    continue;
                }
                known += 1;
            }
            draft.held.push((path.as_str(), file));
        }
        if let Some(more) = rest {
            let before = db
                .prepare_cached(read::file::REST)?
                .query_row(params![tenant, agent], |row| read::file::read_label(row, 0))
                .optional()?;
            let after = before.map_or(more, |before| before.join(more));
            draft.rest = (before != Some(after)).then_some(after);
        }
        self.agents.push(draft);
        Ok(())
    }
}

impl TableDraft for FileDrafts<'_> {
    fn write_rows(&self, db: TenantDb<'_>) -> rusqlite::Result<()> {
        for FilesDraft { agent, gone, held, rest } in &self.agents {
            let (tenant, agent) = (db.tenant.as_bytes(), agent.as_bytes());
            for path in gone {
                db.prepare_cached("DELETE FROM file_labels WHERE tenant = ?1 AND agent = ?2 AND path = ?3")?
                    .execute(params![tenant, agent, path])?;
            }
            let mut put = db.prepare_cached(
                "INSERT INTO file_labels (tenant, agent, path, content, label, author) VALUES (?1, ?2, ?3, ?4, ?5, ?6) \
                 ON CONFLICT DO UPDATE SET content = excluded.content, label = excluded.label, \
                 author = excluded.author",
            )?;
            for (path, FileLabel { content, label, author }) in held {
                put.execute(params![
                    tenant,
                    agent,
                    path,
                    content.as_bytes(),
                    label.to_string(),
                    author.as_str()
                ])?;
            }
            if let Some(rest) = rest {
                put.execute(params![tenant, agent, "", None::<&[u8]>, rest.to_string(), None::<&str>])?;
            }
        }
        Ok(())
    }
}
