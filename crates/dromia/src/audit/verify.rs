//! `dromia audit verify`: says whether anything was removed from a history or changed in it, and where.
//!
//! It needs no server and disturbs none. What holds together: the file of checkpoints in itself and with the store; the
//! seals of each tenant with the checkpoints; every journal with the seals. An exported file is checked by itself.

use std::collections::{BTreeSet, HashMap};
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use dromia_api::audit::ExportAbout;
use dromia_api::shown;
use dromia_cli::args::VerifyAudit;
use dromia_cli::output::{pairs, time};
use dromia_cli::{Context, Exit, Global, Output};
use dromia_contracts::audit::AuditMark;
use dromia_contracts::{Digest, RunId, SessionId, TenantId};
use dromia_guard::audit::{Checkpoint, CheckpointError, ExportError, PublicKey, check_export};
use dromia_store::{AuditFinding, Checkpointed, Inspector, StoreConfig};
use jiff::Timestamp;
use schemars::JsonSchema;
use serde::Serialize;

use super::file::{Book, Lines};
use crate::home::Home;
use crate::system;
use crate::up;

/// How long one tenant's history may take; it is read as fast as the disk gives it.
const PATIENCE: Duration = Duration::from_hours(24);

/// What was looked at, and what is wrong.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "AuditVerified")]
pub(crate) struct Verified {
    /// Whether nothing is wrong.
    ok: bool,
    /// The public key that signed; nothing if nothing is signed.
    key: Option<String>,
    /// Whether that key was named or is the home's own; else only the file itself says that it is the right one.
    key_is_known: bool,
    /// The last checkpoint as NUMBER:DIGEST, to be kept elsewhere and asked for with `--checkpoint`.
    last_checkpoint: Option<String>,
    /// Checkpoints.
    checkpoints: u64,
    /// Tenants.
    tenants: u64,
    /// Runs.
    runs: u64,
    /// Entries of their journals.
    entries: u64,
    /// Seals.
    seals: u64,
    /// Changes among them.
    acts: u64,
    /// Spans of entries that were erased with their agents.
    erased: u64,
    /// Runs that ended before there were seals: chained, and in no seal.
    before: u64,
    /// Records of an exported file.
    records: u64,
    /// What an exported file says it is about.
    about: Option<About>,
    /// What is wrong.
    findings: Vec<Finding>,
}

/// What an exported file says it is about. It has the records that these filters let through, and of no other tenant.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "AuditAbout")]
struct About {
    /// The tenant's handle.
    tenant: String,
    /// When it was written.
    at: Timestamp,
    /// The filters, as they were asked for; empty where every record was.
    filters: String,
}

/// Something that was removed or changed.
#[derive(Debug, Default, Serialize, JsonSchema)]
#[schemars(rename = "AuditFinding")]
struct Finding {
    /// What is wrong, as a word.
    problem: String,
    /// What is wrong, in words.
    text: String,
    /// The tenant.
    tenant: Option<TenantId>,
    /// The session.
    session: Option<SessionId>,
    /// The run.
    run: Option<RunId>,
    /// The number of the entry in the run's journal.
    seq: Option<u64>,
    /// The number of the seal in the tenant's chain.
    seal: Option<u64>,
    /// The number of the checkpoint.
    checkpoint: Option<u64>,
    /// The line of the file.
    line: Option<u64>,
}

impl Finding {
    fn new(problem: &str, text: impl Into<String>) -> Self {
        Self { problem: problem.to_owned(), text: text.into(), ..Self::default() }
    }

    fn of_checkpoint(problem: &str, number: u64, text: impl Into<String>) -> Self {
        Self { checkpoint: Some(number), ..Self::new(problem, text) }
    }

    fn of_store(found: AuditFinding) -> Self {
        let text = match found.detail {
            Some(detail) => format!("{}: {detail}", found.problem.text()),
            None => found.problem.text().to_owned(),
        };
        Self {
            tenant: Some(found.tenant),
            session: found.session,
            run: found.run,
            seq: found.seq,
            seal: found.seal,
            ..Self::new(found.problem.as_str(), text)
        }
    }

    fn place(&self) -> String {
        let mut place = String::new();
        let mut add = |name: &str, value: Option<String>| {
            if let Some(value) = value {
                place.extend([" ", name, " ", &value]);
            }
        };
        add("tenant", self.tenant.map(|id| id.to_string()));
        add("session", self.session.map(|id| id.to_string()));
        add("run", self.run.map(|id| id.to_string()));
        add("entry", self.seq.map(|seq| seq.to_string()));
        add("seal", self.seal.map(|seal| seal.to_string()));
        add("checkpoint", self.checkpoint.map(|number| number.to_string()));
        add("line", self.line.map(|line| line.to_string()));
        place.trim_start().to_owned()
    }
}

impl Verified {
    fn new() -> Self {
        Self {
            ok: false,
            key: None,
            key_is_known: false,
            last_checkpoint: None,
            checkpoints: 0,
            tenants: 0,
            runs: 0,
            entries: 0,
            seals: 0,
            acts: 0,
            erased: 0,
            before: 0,
            records: 0,
            about: None,
            findings: Vec::new(),
        }
    }
}

/// Runs the command.
pub(crate) fn run(
    home: &Home,
    asked: &VerifyAudit,
    global: &Global,
    context: &mut Context,
) -> anyhow::Result<ExitCode> {
    let mut output = Output::new(context, global);
    output.check()?;
    let named = asked.key.as_deref().map(key_of).transpose()?;
    let book = Book::of(home);
    let key = if named.is_some() { named } else { book.public()? };
    let mut verified = if let Some(file) = &asked.file {
        of_file(file, key)?
    } else {
        let wanted = asked.checkpoint.as_deref().map(checkpoint_of).transpose()?;
        of_home(home, &book, (key, named.is_some()), wanted)?
    };
    verified.ok = verified.findings.is_empty();
    verified.key_is_known = key.is_some();
    let exit = exit(&verified);
    output.show(&verified, text)?;
    Ok(exit.into())
}

/// Says how the command ends: a history that is not as it was is no failure to look at it.
fn exit(verified: &Verified) -> Exit {
    if verified.ok { Exit::Done } else { Exit::Conflict }
}

fn key_of(text: &str) -> anyhow::Result<PublicKey> {
    text.parse().map_err(|problem| system::Exit::usage(format!("--key: {problem}")))
}

fn checkpoint_of(text: &str) -> anyhow::Result<AuditMark> {
    let parts = text.split_once(':').and_then(|(number, digest)| {
        Some(AuditMark { number: number.parse().ok()?, digest: digest.parse().ok()? })
    });
    parts.ok_or_else(|| system::Exit::usage("--checkpoint: expected NUMBER:DIGEST, as verify prints it"))
}

/// Checks a file of records.
fn of_file(path: &Path, key: Option<PublicKey>) -> anyhow::Result<Verified> {
    let mut verified = Verified::new();
    let Some(mut lines) = Lines::open(path)? else {
        return Err(system::Exit::usage(format!("there is no file {}", path.display())));
    };
    let mut records = 0;
    let checked = check_export(|| lines.next(), key, |_| records += 1)?;
    verified.records = records;
    match checked {
        Ok(export) => {
            verified.key = Some(export.head.key.to_string());
            // What a newer program says beside it is not shown.
            let about = serde_json::from_str::<ExportAbout>(&export.head.about).ok();
            verified.about =
                about.map(|ExportAbout { tenant, at, filters, .. }| About { tenant, at, filters });
        }
        Err(error) => {
            let text = match &error {
                ExportError::Signature(_) => format!("{error}; name the right key with --key"),
                _ => error.to_string(),
            };
            let (problem, line) = match error {
                ExportError::Form { line, .. } => ("line_changed", Some(line)),
                ExportError::Broken { line } => ("record_removed_or_changed", Some(line)),
                ExportError::Cut { line } => ("file_truncated", Some(line)),
                ExportError::Version(_) => ("version_unknown", Some(1)),
                ExportError::Count { .. } => ("records_miscounted", None),
                ExportError::Signature(_) => ("signature_wrong", None),
            };
            verified.findings.push(Finding { line, ..Finding::new(problem, text) });
        }
    }
    Ok(verified)
}

/// What the file of checkpoints says.
#[derive(Default)]
struct Signed {
    key: Option<PublicKey>,
    count: u64,
    last: Option<AuditMark>,
    chains: HashMap<TenantId, Vec<Checkpointed>>,
    /// The digests of the checkpoints that were asked for, by number.
    digests: HashMap<u64, Digest>,
    findings: Vec<Finding>,
}

/// Reads the file of checkpoints. `asked` are numbers whose digests are wanted.
fn signed(path: &Path, key: Option<PublicKey>, asked: &[u64]) -> anyhow::Result<Signed> {
    let mut signed = Signed { key, ..Signed::default() };
    let Some(mut lines) = Lines::open(path)? else { return Ok(signed) };
    let (mut line, mut number, mut before) = (0, 0, Some(Checkpoint::origin()));
    while let Some(text) = lines.next()? {
        line += 1;
        let Some(bare) = text.strip_suffix('\n') else {
            // A crash cuts a line off, too: whether one is missing the store knows.
            break;
        };
        let read = match Checkpoint::read(bare, signed.key) {
            Ok(read) => read,
            Err(error) => {
                let problem = match error {
                    CheckpointError::Form(_) => "checkpoint_changed",
                    CheckpointError::Version(_) => "version_unknown",
                    CheckpointError::Signature(_) => "signature_wrong",
                };
                number += 1;
                let found = Finding::of_checkpoint(problem, number, error.to_string());
                signed.findings.push(Finding { line: Some(line), ..found });
                before = None;
                continue;
            }
        };
        let found = read.head.number;
        if found != number + 1 {
            let text = format!("checkpoint {} was removed: {found} follows {number}", number + 1);
            let finding = Finding::of_checkpoint("checkpoint_removed", number + 1, text);
            signed.findings.push(Finding { line: Some(line), ..finding });
        } else if before.is_some_and(|before| before != read.head.before) {
            let text = "it does not follow the checkpoint before it";
            let finding = Finding::of_checkpoint("checkpoint_changed", found, text);
            signed.findings.push(Finding { line: Some(line), ..finding });
        }
        (number, before) = (found, Some(read.digest));
        signed.key = Some(read.key);
        signed.count += 1;
        signed.last = Some(read.mark());
        if asked.contains(&found) {
            signed.digests.insert(found, read.digest);
        }
        for one in read.chains {
            let said = Checkpointed { checkpoint: found, seal: one.seal, chain: one.chain };
            signed.chains.entry(one.tenant).or_default().push(said);
        }
    }
    Ok(signed)
}

/// Checks a home.
fn of_home(
    home: &Home,
    book: &Book,
    (key, is_named): (Option<PublicKey>, bool),
    wanted: Option<AuditMark>,
) -> anyhow::Result<Verified> {
    if !home.store().is_dir() {
        let text = format!("there is no store in {}; name the home with --home", home.root().display());
        return Err(system::Exit::failed(text));
    }
    let inspector = Inspector::new(StoreConfig::new(home.store()), PATIENCE);
    // The store's memory first: a server that runs writes the file before it.
    let mark = inspector.audit_mark().map_err(|error| up::opened(home, error))?;
    let asked: Vec<_> = mark.iter().chain(&wanted).map(|mark| mark.number).collect();
    let Signed { key, count, last, mut chains, digests, findings } =
        signed(&book.checkpoints_path(), key, &asked)?;
    let mut verified = Verified::new();
    verified.findings = findings;
    if is_named && count == 0 && verified.findings.is_empty() {
        let text = "no checkpoint is signed with the key that you named";
        verified.findings.push(Finding::new("checkpoint_removed", text));
    }
    verified.key = key.filter(|_| count > 0).map(|key| key.to_string());
    verified.checkpoints = count;
    verified.last_checkpoint = last.map(|last| format!("{}:{}", last.number, last.digest));
    for (mark, whose) in [(mark, "the store remembers"), (wanted, "you named")] {
        let Some(mark) = mark else { continue };
        match digests.get(&mark.number) {
            Some(digest) if *digest == mark.digest => {}
            Some(_) => {
                let text = format!("it is not the one that {whose}");
                verified.findings.push(Finding::of_checkpoint("checkpoint_changed", mark.number, text));
            }
            None => {
                let text = format!("the checkpoint that {whose} was removed, with whatever followed");
                verified.findings.push(Finding::of_checkpoint("checkpoint_removed", mark.number, text));
            }
        }
    }
    let tenants = inspector.audit_tenants().map_err(|error| up::opened(home, error))?;
    let tenants: BTreeSet<_> = tenants.into_iter().chain(chains.keys().copied()).collect();
    for tenant in tenants {
        let said = chains.remove(&tenant).unwrap_or_default();
        let checked = inspector.audit(tenant, &said).map_err(|error| up::opened(home, error))?;
        verified.tenants += 1;
        verified.runs += checked.runs;
        verified.entries += checked.entries;
        verified.seals += checked.seals;
        verified.acts += checked.acts;
        verified.erased += checked.erased;
        verified.before += checked.before;
        verified.findings.extend(checked.findings.into_iter().map(Finding::of_store));
    }
    Ok(verified)
}

fn text(verified: &Verified) -> String {
    let key = verified.key.as_ref().map(|key| {
        let note = if verified.key_is_known { "" } else { " (which nobody vouches for: name it with --key)" };
        format!("{key}{note}")
    });
    let some = |number: u64| if number == 0 { String::new() } else { number.to_string() };
    let verdict = match (verified.ok, &verified.about) {
        (false, _) => "NOT AS IT WAS",
        (true, None) => "nothing is missing and nothing was changed",
        (true, Some(_)) => "no line is missing and none was changed",
    };
    let about = verified.about.as_ref();
    let only = about.map(|about| match about.filters.as_str() {
        "" => "every record until then".to_owned(),
        filters => format!("records with {}", shown(filters)),
    });
    let mut text = pairs(&[
        ("verdict", verdict.to_owned()),
        ("tenant", about.map(|about| shown(&about.tenant)).unwrap_or_default()),
        ("written", about.map(|about| time(about.at)).unwrap_or_default()),
        ("holds", only.unwrap_or_default()),
        ("tenants", some(verified.tenants)),
        ("runs", some(verified.runs)),
        ("entries", some(verified.entries)),
        ("seals", some(verified.seals)),
        ("changes", some(verified.acts)),
        ("erased", some(verified.erased)),
        ("of before", some(verified.before)),
        ("records", some(verified.records)),
        ("checkpoints", some(verified.checkpoints)),
        ("last checkpoint", verified.last_checkpoint.clone().unwrap_or_default()),
        ("key", key.unwrap_or_default()),
    ]);
    for finding in &verified.findings {
        text.extend(["\n", &finding.problem, ": ", &finding.text]);
        let place = finding.place();
        if !place.is_empty() {
            text.extend(["\n  ", &place]);
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_finding_says_what_and_where() {
        let mut verified = Verified::new();
        verified.tenants = 1;
        verified.findings.push(Finding {
            tenant: Some(TenantId::from_bytes([1; 16])),
            seq: Some(4),
            ..Finding::new("entry_removed", "this entry was removed")
        });
        insta::assert_snapshot!(text(&verified), @r"
        verdict          NOT AS IT WAS
        tenants          1
        entry_removed: this entry was removed
          tenant ten_01010101010101010101010101010101 entry 4
        ");
    }

    #[test]
    fn what_is_wrong_with_a_history_is_not_taken_for_a_failure_to_look() {
        let code = |ok| exit(&Verified { ok, ..Verified::new() }).code();
        assert_eq!((code(true), code(false)), (0, 6));
        assert_ne!(code(false), Exit::Failed.code());
    }

    #[test]
    fn a_file_says_whose_records_it_holds_and_which() {
        let mut verified = Verified::new();
        verified.ok = true;
        verified.records = 1;
        verified.about = Some(About {
            tenant: "acme".to_owned(),
            at: "2026-01-02T03:04:05Z".parse().expect("a time"),
            filters: "decision=allow\nverdict".to_owned(),
        });
        insta::assert_snapshot!(text(&verified), @r"
        verdict          no line is missing and none was changed
        tenant           acme
        written          2026-01-02 03:04:05Z
        holds            records with decision=allow\u{a}verdict
        records          1
        ");
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
