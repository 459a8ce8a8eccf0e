//! `dromia audit verify`: says whether anything was removed from a history or changed in it, and where.
//!
//! It needs no server and disturbs none. What holds together: the file of checkpoints in itself and with the store; the
//! seals of each tenant with the checkpoints; every journal with the seals (`home`). An exported file is checked by itself
//! (`export`). What was found is put into words in `verified`.

mod export;
mod home;
mod signed;
mod verified;

use std::process::ExitCode;

use dromia_cli::args::VerifyAudit;
use dromia_cli::{CommandContext, CommandExit, CommandOutput, GlobalOptions};
use dromia_contracts::audit::AuditMark;
use dromia_guard::audit::PublicKey;

pub(crate) use self::verified::AuditVerification;

use self::export::of_file;
use self::home::of_home;
use self::verified::verification_text;
use super::file::AuditDirectory;
use crate::home::Home;
use crate::system;

/// Runs the command.
pub(crate) fn run(
    home: &Home,
    asked: &VerifyAudit,
    global: &GlobalOptions,
    context: &mut CommandContext,
) -> anyhow::Result<ExitCode> {
    let mut output = CommandOutput::of_local(context, global);
    output.check_format()?;
    let named = asked.key.as_deref().map(key_of).transpose()?;
    let book = AuditDirectory::for_home(home);
    let key = if named.is_some() { named } else { book.public_key()? };
    let mut verified = if let Some(file) = &asked.file {
        of_file(file, key)?
    } else {
        let wanted = asked.checkpoint.as_deref().map(checkpoint_of).transpose()?;
        of_home(home, &book, (key, named.is_some()), wanted)?
    };
    verified.ok = verified.findings.is_empty();
    // What is signed by another key says itself that it is the right one.
    verified.key_is_known =
        key.is_some_and(|key| verified.key.as_ref().is_none_or(|signed| *signed == key.to_string()));
    let exit = exit_for_result(&verified);
    output.print_result(&verified, verification_text)?;
    Ok(exit.into())
}

/// Checks the audit log of a home with the home's own key, as `dromia audit verify` does without options.
pub(crate) fn check_home(home: &Home) -> anyhow::Result<AuditVerification> {
    let book = AuditDirectory::for_home(home);
    let key = book.public_key()?;
    of_home(home, &book, (key, false), None)
}

/// Says how the command ends: a history that is not as it was is no failure to look at it. One that a newer program wrote
/// was not looked at, and is no document.
fn exit_for_result(verified: &AuditVerification) -> CommandExit {
    if verified.ok { CommandExit::Done } else { CommandExit::Conflict }
}

fn key_of(text: &str) -> anyhow::Result<PublicKey> {
    text.parse().map_err(|problem| system::ExitError::usage_error(format!("--key: {problem}")))
}

fn checkpoint_of(text: &str) -> anyhow::Result<AuditMark> {
    let parts = text.split_once(':').and_then(|(number, digest)| {
        Some(AuditMark { number: number.parse().ok()?, digest: digest.parse().ok()? })
    });
    parts.ok_or_else(|| {
        system::ExitError::usage_error("--checkpoint: expected NUMBER:DIGEST, as verify prints it")
    })
}

#[cfg(test)]
mod tests {
    use dromia_contracts::Digest;

    use super::*;

    #[test]
    fn a_failed_verification_and_a_failed_command_exit_differently() {
        let code = |ok| exit_for_result(&AuditVerification { ok, ..AuditVerification::new() }).exit_code();
        assert_eq!((code(true), code(false)), (0, 6));
        assert_ne!(code(false), CommandExit::Failed.exit_code());
    }

    #[test]
    fn a_checkpoint_is_named_by_number_and_digest() {
        let digest = "0".repeat(64);
        let mark = checkpoint_of(&format!("42:{digest}")).expect("is one");
        assert_eq!((mark.number, mark.digest), (42, Digest::default()));
        for bad in ["", "42", "x:1", &format!("{digest}:42")] {
            assert!(checkpoint_of(bad).is_err(), "{bad}");
        }
    }
}
