//! The files that the program of a call could execute, as an approval binds them. It reads no file.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::digest::Digest;

/// Which files a call is bound to whose program could execute them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum BoundFiles {
    /// Every file of the workspace: what a program reads is unknown before it runs.
    #[default]
    All,
    /// Those that the call names, by the name of the file or of a directory on its way, and what links among them lead to.
    Named,
}

/// The files that a call's program could execute, as they were at one time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ExecutableFiles {
    /// BLAKE3 of their names and of what they hold.
    pub digest: Digest,
    /// How many there are.
    pub files: u32,
    /// Which of the workspace they are.
    pub extent: BoundFiles,
}

impl ExecutableFiles {
    /// Says in words how these files differ from others of the same extent. It cannot say which of them changed: one
    /// digest is kept of all.
    pub fn describe_difference(&self, now: &Self) -> String {
        let of = match self.extent {
            BoundFiles::All => "of the whole workspace",
            BoundFiles::Named => "of those that the call names",
        };
        let files = |count: u32| if count == 1 { "1 file".to_owned() } else { format!("{count} files") };
        match (self.files, now.files) {
            (before, after) if before == after => {
                format!("{of}, {} as before, but with other contents, names or rights", files(after))
            }
            (before, after) => format!("{of}, {} then and {} now", files(before), files(after)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_difference_of_files_names_their_number_and_extent() {
        let held = ExecutableFiles { digest: Digest::from_bytes([1; 32]), files: 1, extent: BoundFiles::All };
        let more = ExecutableFiles { digest: Digest::from_bytes([2; 32]), files: 3, ..held };
        assert_eq!(held.describe_difference(&more), "of the whole workspace, 1 file then and 3 files now");
        let other = ExecutableFiles { digest: Digest::from_bytes([2; 32]), ..held };
        let told = ExecutableFiles { extent: BoundFiles::Named, ..held }.describe_difference(&other);
        assert!(told.starts_with("of those that the call names, 1 file as before"), "{told}");
    }
}
