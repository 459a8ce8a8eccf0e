//! The sweeper: removes file bodies that no row names.
//!
//! Such files are left by a crash between the sync of a file and the commit of its batch, by a batch that was
//! refused, and by a crash between an erasure and the removal of its files. Rows of bodies need no sweeping: they
//! go in the transaction of the last reference. It runs after a start and after an erasure. The listing is made outside
//! the writer, the decision inside it, one page at a time, so no batch can name a file between the look and the removal.

use rusqlite::{Connection, params};

use dromia_contracts::id::TenantId;

use crate::erase::UnlinkList;

/// Removes those files of a page that no row names, and the directory of a tenant that is gone. Returns how many files
/// there are.
pub(crate) fn sweep_page(
    db: &Connection,
    tenant: TenantId,
    hashes: &[[u8; 32]],
) -> rusqlite::Result<(u64, UnlinkList)> {
    let mut unlink = UnlinkList::default();
    let mut named = db.prepare_cached("SELECT 1 FROM bodies WHERE tenant = ?1 AND hash = ?2")?;
    for hash in hashes {
        if !named.exists(params![tenant.as_bytes(), hash])? {
            unlink.bodies.push((tenant, *hash));
        }
    }
    let mut known = db.prepare_cached("SELECT 1 FROM tenants WHERE tenant = ?1")?;
    unlink.directory = (!known.exists([tenant.as_bytes()])?).then_some(tenant);
    Ok((unlink.bodies.len() as u64, unlink))
}
