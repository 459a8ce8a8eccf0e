//! What an operator can do about a machine that keeps the store from being opened: a full disk, a file system that takes no
//! writes, too many open files.

use std::error::Error as _;
use std::path::Path;

use dromia_store::{OpenError, StorageObstacle};

/// With less space than this, in bytes, an unexplained failure is a full disk: the database begins with as much.
const ROOM_MIN: u64 = 64 << 10;

/// Says what keeps the store of a home from opening, and the next step; nothing where it is not the machine.
pub(crate) fn obstacle_text(home: &Path, error: &OpenError) -> Option<String> {
    let obstacle = match error.obstacle()? {
        StorageObstacle::Failed | StorageObstacle::Unopened if is_full(home) => StorageObstacle::Full,
        obstacle => obstacle,
    };
    let cause = error.source().map_or_else(|| error.to_string(), ToString::to_string);
    let place = home.display();
    Some(match obstacle {
        StorageObstacle::Full => format!(
            "there is no space to write in {place}: {cause}; free some on its file system (`df {place}` shows \
             it), or raise the limit on file size (`ulimit -f`), then try again"
        ),
        StorageObstacle::ReadOnly => format!(
            "{place} cannot be written: {cause}; change its owner or mode, or mount its file system for writing"
        ),
        StorageObstacle::Files => format!(
            "too many files are open to open the store in {place}: {cause}; raise the limit (`ulimit -n`), \
             then try again"
        ),
        StorageObstacle::Unopened => format!(
            "a file of the store in {place} cannot be opened: {cause}; check the owner of the files there, \
             raise the limit on open files if it is low (`ulimit -n`), then try again"
        ),
        StorageObstacle::Failed => format!(
            "the disk under the store in {place} failed: {cause}; check its file system and the system log, \
             and restore a backup if the data is lost"
        ),
    })
}

fn is_full(home: &Path) -> bool {
    rustix::fs::statvfs(home).is_ok_and(|found| found.f_bavail.saturating_mul(found.f_frsize) < ROOM_MIN)
}

#[cfg(test)]
mod tests {
    use std::io;

    use rustix::io::Errno;

    use super::*;

    #[test]
    fn each_obstacle_names_its_place_cause_and_next_step() {
        let home = std::env::temp_dir();
        for (errno, next) in [
            (Errno::NOSPC, "`df "),
            (Errno::FBIG, "`ulimit -f`"),
            (Errno::ROFS, "mount its file system for writing"),
            (Errno::ACCESS, "change its owner or mode"),
            (Errno::MFILE, "`ulimit -n`"),
            (Errno::NFILE, "`ulimit -n`"),
        ] {
            let cause = io::Error::from_raw_os_error(errno.raw_os_error());
            let (told, cause) = (obstacle_text(&home, &OpenError::Io(cause)), errno.to_string());
            let told = told.expect("it is the machine");
            for said in [&home.display().to_string(), next, &cause] {
                assert!(told.contains(said), "{said} is not in: {told}");
            }
        }
        assert_eq!(obstacle_text(&home, &OpenError::NotOurs), None);
    }
}
