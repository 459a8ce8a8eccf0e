//! Fills `pin_refs` of a store that had pins before it had the table: whose runs name which pin, as their journals say.
//!
//! It believes the first entry of each run and checks no chain, because each read of the journal does. A first entry
//! that it cannot read names nothing: that run could not go on with its pin either.

use rusqlite::{Connection, params};
use serde::Deserialize;

use dromia_contracts::digest::Digest;

use crate::{column_codes, packed_fields};

/// What a run is pinned to, in whatever version its first entry is.
#[derive(Deserialize)]
struct PinnedStart {
    prompt: Digest,
}

/// Adds a row for each pin that runs of an agent name.
pub(super) fn fill_pins(db: &Connection) -> rusqlite::Result<()> {
    let mut begun = db.prepare(
        "SELECT r.tenant, r.agent, e.fields, e.packed FROM runs r \
         JOIN entries e ON e.tenant = r.tenant AND e.run = r.run AND e.seq = 1",
    )?;
    let mut put = db
        .prepare("INSERT INTO pin_refs (tenant, digest, agent) VALUES (?1, ?2, ?3) ON CONFLICT DO NOTHING")?;
    let mut unread = 0_u64;
    let mut rows = begun.query([])?;
    while let Some(row) = rows.next()? {
        let (tenant, agent): ([u8; 16], [u8; 16]) =
            (column_codes::read_bytes(row, 0)?, column_codes::read_bytes(row, 1)?);
        let fields = match row.get::<_, Option<Vec<u8>>>(3)? {
            Some(bytes) => packed_fields::unpack(&bytes),
            None => Some(row.get(2)?),
        };
        match fields.and_then(|fields| serde_json::from_str::<PinnedStart>(&fields).ok()) {
            Some(PinnedStart { prompt }) => {
                put.execute(params![tenant, prompt.as_bytes(), agent])?;
            }
            None => unread += 1,
        }
    }
    if unread > 0 {
        tracing::warn!(runs = unread, "runs whose first entry cannot be read name no prompt");
    }
    Ok(())
}
