//! The arguments of the tools that run programs: `exec` and `shell.execute`.
//!
//! Nothing is looked up here: a word that names no program, and a directory that is not there, are found out at the start.

use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, Serialize, de};

use super::deserialize_bounded;
use crate::path::WorkspacePath;

/// The longest command line, in bytes.
const COMMAND_BYTES_MAX: usize = 128 << 10;
/// How long a program may run by default, in seconds.
const TIMEOUT_S: u32 = 60;
/// How long a program may run at most, in seconds.
pub(crate) const TIMEOUT_S_MAX: u32 = 600;

#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct ProgramExecute {
    /// Program and arguments; no shell.
    #[serde(deserialize_with = "argv")]
    pub(crate) argv: Vec<String>,
    #[serde(default)]
    #[schemars(with = "String")]
    pub(crate) cwd: WorkspacePath,
    /// At most 600.
    #[serde(default = "timeout_default", deserialize_with = "timeout")]
    pub(crate) timeout_s: u32,
}

#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct ShellExecute {
    #[serde(deserialize_with = "command")]
    pub(crate) command: String,
    #[serde(default)]
    #[schemars(with = "String")]
    pub(crate) cwd: WorkspacePath,
    /// At most 600.
    #[serde(default = "timeout_default", deserialize_with = "timeout")]
    pub(crate) timeout_s: u32,
}

fn timeout_default() -> u32 {
    TIMEOUT_S
}

fn timeout<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u32, D::Error> {
    match u32::deserialize(deserializer)? {
        0 => Err(de::Error::custom("the timeout must be at least 1")),
        // A timeout that is cut in silence surprises the caller who waited for the rest.
        seconds if seconds > TIMEOUT_S_MAX => {
            let problem =
                format!("{seconds} seconds are more than the {TIMEOUT_S_MAX} allowed; ask for less");
            Err(de::Error::custom(problem))
        }
        seconds => Ok(seconds),
    }
}

fn argv<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<String>, D::Error> {
    let argv = Vec::<String>::deserialize(deserializer)?;
    if argv.first().is_none_or(String::is_empty) {
        return Err(de::Error::custom("the program is missing"));
    }
    let bytes: usize = argv.iter().map(String::len).sum();
    if bytes > COMMAND_BYTES_MAX {
        let problem = format!("{bytes} bytes are more than the {COMMAND_BYTES_MAX} allowed");
        return Err(de::Error::custom(problem));
    }
    if argv.iter().any(|word| word.contains('\0')) {
        return Err(de::Error::custom("a word contains a NUL byte"));
    }
    Ok(argv)
}

fn command<'de, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    let command = deserialize_bounded(deserializer, COMMAND_BYTES_MAX)?;
    if command.trim().is_empty() {
        return Err(de::Error::custom("the command is empty"));
    }
    if command.contains('\0') {
        return Err(de::Error::custom("the command contains a NUL byte"));
    }
    Ok(command)
}
