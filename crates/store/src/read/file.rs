//! What is known of files. The row of the empty path says what counts for the rest, and is in no list.

use rusqlite::types::Type;
use rusqlite::{Connection, OptionalExtension as _, Row, params};

use dromia_contracts::file::{FileLabel, KnownFile};
use dromia_contracts::id::AgentId;
use dromia_contracts::label::Label;
use dromia_contracts::scope::Actor;
use dromia_contracts::store::PageRequest;

use super::{Found, ScopeView, page_limit};
use crate::column_codes;

/// Finds what counts for the files of an agent of which nothing is known.
pub(crate) const REST: &str = "SELECT label FROM file_labels WHERE tenant = ?1 AND agent = ?2 AND path = ''";

/// Reads a label.
pub(crate) fn read_label(row: &Row<'_>, column: usize) -> rusqlite::Result<Label> {
    let text: String = row.get(column)?;
    text.parse()
        .map_err(|_| column_codes::unreadable_column(column, Type::Text, format!("{text:?} is no label")))
}

/// Reads path, content, label and author, beginning at the first column.
fn read_file_label(row: &Row<'_>) -> rusqlite::Result<(String, FileLabel)> {
    let author: String = row.get(3)?;
    let (content, label, author) =
        (column_codes::read_digest(row, 1)?, read_label(row, 2)?, Actor::new(&author));
    Ok((row.get(0)?, FileLabel { content, label, author }))
}

pub(crate) fn find_known_file(
    db: &Connection,
    view: ScopeView,
    agent: AgentId,
    path: &str,
) -> Found<KnownFile> {
    if !view.finds_agent(db, agent)? {
        return Ok(KnownFile::default());
    }
    let (tenant, agent) = (view.tenant.as_bytes(), agent.as_bytes());
    let file = db
        .prepare_cached(
            "SELECT path, content, label, author FROM file_labels \
             WHERE tenant = ?1 AND agent = ?2 AND path = ?3 AND path > ''",
        )?
        .query_row(params![tenant, agent, path], read_file_label)
        .optional()?;
    let rest =
        db.prepare_cached(REST)?.query_row(params![tenant, agent], |row| read_label(row, 0)).optional()?;
    let file = file.map(|(_, file)| file);
    Ok(KnownFile { file, rest: rest.unwrap_or(KnownFile::default().rest) })
}

pub(crate) fn list_files(
    db: &Connection,
    view: ScopeView,
    agent: AgentId,
    page: PageRequest<&str>,
) -> Found<Vec<(String, FileLabel)>> {
    if !view.finds_agent(db, agent)? {
        return Ok(Vec::new());
    }
    let mut select = db.prepare_cached(
        "SELECT path, content, label, author FROM file_labels \
         WHERE tenant = ?1 AND agent = ?2 AND path > ?3 ORDER BY path LIMIT ?4",
    )?;
    let (tenant, agent, after) = (view.tenant.as_bytes(), agent.as_bytes(), page.after.unwrap_or_default());
    let rows = select.query_map(params![tenant, agent, after, page_limit(&page)], read_file_label)?;
    Ok(rows.collect::<Result<_, _>>()?)
}
