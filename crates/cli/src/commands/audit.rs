//! `audit`: list records, follow them, have one explained, write them into a file. A history is verified by the program
//! itself, which needs no server for it.

use dromia_api::audit::{
    AuditDecision, AuditRecord, AuditStreamStart, EVENT_BEGUN, EVENT_RECORD, RecordExplanation,
};
use dromia_api::{ListPage, RunId, escape_hidden};

use super::agent_names::AgentHandles;
use super::{Cli, listing_path, print_list};
use crate::args::{self, IdReference, RecordFilters};
use crate::client::{parse_answer, percent_encode};
use crate::download::save_response;
use crate::error::{Error, Outcome};
use crate::exit::CommandExit;
use crate::output::{CommandOutput, RowStyle, draw_pairs, format_time, print_json_row};
use crate::sse::{EventStream, FollowedEvent, StreamEvent, StreamFollower};

/// The columns of a listing; what has no bound of its own comes last.
const HEADS: [&str; 6] = ["at", "kind", "actor", "agent", "id", "what"];

/// How many characters of an agent's handle a listing shows, which the ids of records fill already.
const AGENT_SHOWN: usize = 16;

pub(super) async fn run(
    cli: &Cli<'_>,
    command: args::AuditCommand,
    output: &mut CommandOutput<'_>,
) -> Outcome<CommandExit> {
    match command {
        args::AuditCommand::Query(query) => {
            let mut filters = query_filters(cli, &query.records, output).await?.to_vec();
            filters.push(("newest", query.newest.then(|| "true".to_owned())));
            let path = listing_path("/v1/audit", &query.page, &filters);
            let list: ListPage<AuditRecord> = cli.client.get(&path).await?;
            let handles = AgentHandles::fetch_page(cli, output).await;
            let style = output.row_style();
            print_list(output, &list, &HEADS, |record| listing_row(record, &handles, &style))
        }
        args::AuditCommand::Tail(tail) => follow_records(cli, &tail, output).await,
        args::AuditCommand::Explain(record) => {
            let id = resolve_record(cli, record.id, output).await?;
            let explained: RecordExplanation =
                cli.client.get(&format!("/v1/audit/{}", percent_encode(&id))).await?;
            output.print_result(&explained, explanation_text)?;
            Ok(CommandExit::Done)
        }
        args::AuditCommand::Export(export) => {
            let path = filtered_path("/v1/audit/export", &query_filters(cli, &export.records, output).await?);
            let (file, mut lines) = (export.file.as_deref(), ExportLineScan::default());
            let (_, saved) =
                save_response(&cli.client, &path, file, output, |piece| lines.push_chunk(piece)).await?;
            if !lines.are_signed {
                return Err(Error::Broken(
                    "the file ends without its signed last line; export it again".to_owned(),
                ));
            }
            saved.map_or(Ok(()), |saved| saved.finish_download(output))?;
            Ok(CommandExit::Done)
        }
        args::AuditCommand::Verify(_) => Err(Error::Usage(
            "`audit verify` reads the home itself: run it with `dromia` on the server's machine".to_owned(),
        )),
    }
}

/// Finds the record that is meant: an entry of a run may name it by the first or last digits of its id.
async fn resolve_record(cli: &Cli<'_>, typed: String, output: &mut CommandOutput<'_>) -> Outcome<String> {
    let entry = typed.split_once(':').filter(|(_, entry)| entry.parse::<u64>().is_ok());
    match entry.and_then(|(run, entry)| Some((run.parse::<IdReference<RunId>>().ok()?, entry))) {
        Some((run, entry)) => Ok(format!("{}:{entry}", cli.resolve_id(run, output).await?)),
        None => Ok(typed),
    }
}

/// How the line begins that signs a file.
const SIGNED: &[u8] = b"{\"end\":";

/// The lines of a file that comes in pieces, of which only the beginning of the newest is kept.
#[derive(Default)]
struct ExportLineScan {
    begin: Vec<u8>,
    /// Whether the line that signs the file is the last; a stream that broke off on the server's side has none.
    are_signed: bool,
}

impl ExportLineScan {
    fn push_chunk(&mut self, piece: &[u8]) {
        for byte in piece {
            self.are_signed = *byte == b'\n' && self.begin == SIGNED;
            if *byte == b'\n' {
                self.begin.clear();
            } else if self.begin.len() < SIGNED.len() {
                self.begin.push(*byte);
            }
        }
    }
}

async fn query_filters(
    cli: &Cli<'_>,
    records: &RecordFilters,
    output: &mut CommandOutput<'_>,
) -> Outcome<[(&'static str, Option<String>); 7]> {
    let run = cli.resolve_option(records.run, output).await?;
    let decision = records.decision.map(|decision| AuditDecision::from(decision).as_str().to_owned());
    Ok([
        ("agent", cli.global.agent.clone()),
        ("run", run.map(|run| run.to_string())),
        ("kind", records.kind.clone()),
        ("actor", records.actor.clone()),
        ("decision", decision),
        ("since", records.since.clone()),
        ("until", records.until.clone()),
    ])
}

fn filtered_path(path: &str, filters: &[(&str, Option<String>)]) -> String {
    let mut path = path.to_owned();
    for (name, value) in filters {
        if let Some(value) = value {
            let mark = if path.contains('?') { "&" } else { "?" };
            path.extend([mark, name, "=", &percent_encode(value)]);
        }
    }
    path
}

/// Prints records as they come.
async fn follow_records(
    cli: &Cli<'_>,
    asked: &args::TailAudit,
    output: &mut CommandOutput<'_>,
) -> Outcome<CommandExit> {
    let by_line = asked.jsonl || output.is_jsonl();
    if output.is_json() && !by_line {
        let text = "`audit tail` never ends, so it cannot print one JSON document; use --jsonl, or `dromia \
                    audit query --json`";
        return Err(Error::Usage(text.to_owned()));
    }
    let path = filtered_path("/v1/audit", &query_filters(cli, &asked.records, output).await?);
    let mut tail = EventStream::for_path(&cli.client, path, AuditTailCursor::new(asked.after.clone()));
    let mut left = asked.count.unwrap_or(u64::MAX);
    while left > 0 {
        let record = tail.next(output).await?;
        if by_line {
            print_json_row(&record, output)?;
        } else {
            output.print_line(&record_line(&record))?;
        }
        left -= 1;
    }
    Ok(CommandExit::Done)
}

/// The place among records. It moves behind an item when the next one comes, so an item that was cut off comes again whole,
/// and what was given out of it is left out.
#[derive(Default)]
struct AuditTailCursor {
    after: Option<String>,
    /// The item that is being given out: its place, and the ids of its records so far.
    place: Option<String>,
    seen: Vec<String>,
}

impl AuditTailCursor {
    fn new(after: Option<String>) -> Self {
        Self { after, ..Self::default() }
    }
}

impl StreamFollower for AuditTailCursor {
    type Item = AuditRecord;

    fn resume_position(&self) -> Option<String> {
        self.after.clone()
    }

    fn take_event(&mut self, event: &StreamEvent) -> Outcome<FollowedEvent<AuditRecord>> {
        match event.name.as_str() {
            EVENT_BEGUN => {
                let begun: AuditStreamStart = parse_answer(event.data.as_bytes())?;
                // From here on what comes is asked for by its place, whatever breaks.
                self.after.get_or_insert(begun.place);
                Ok(FollowedEvent::Nothing)
            }
            EVENT_RECORD => {
                let record: AuditRecord = parse_answer(event.data.as_bytes())?;
                if self.place.as_ref() != Some(&record.place) {
                    let before = self.place.replace(record.place.clone());
                    self.after = before.or(self.after.take());
                    self.seen.clear();
                }
                if self.seen.contains(&record.id) {
                    return Ok(FollowedEvent::Further(None));
                }
                self.seen.push(record.id.clone());
                Ok(FollowedEvent::Further(Some(record)))
            }
            // A newer server may say more.
            _ => Ok(FollowedEvent::Nothing),
        }
    }
}

/// Writes a record as one line, also where a model or a client chose a name with line breaks.
fn record_line(record: &AuditRecord) -> String {
    record_row(record, &RowStyle::whole())
        .iter()
        .map(|cell| escape_hidden(cell))
        .collect::<Vec<_>>()
        .join("  ")
}

/// A record in a listing, with what its agent is called.
fn listing_row(record: &AuditRecord, handles: &AgentHandles, style: &RowStyle) -> Vec<String> {
    let mut cells = record_row(record, style);
    let agent = record.agent.map(|agent| handles.display_name(agent)).unwrap_or_default();
    let mut shown: String = agent.chars().take(AGENT_SHOWN).collect();
    if shown.len() < agent.len() {
        shown.push('…');
    }
    // Behind who did it.
    cells.insert(3, shown);
    cells
}

/// The row of a record, without names that the server would have to be asked for.
fn record_row(record: &AuditRecord, style: &RowStyle) -> Vec<String> {
    vec![
        style.format_time(record.at),
        record.kind.clone(),
        record_actor(record),
        style.format_record(&record.id),
        record_summary(record),
    ]
}

/// Who did it, or that this cannot be read.
fn record_actor(record: &AuditRecord) -> String {
    match &record.actor {
        Some(actor) => actor.clone(),
        None if record.actor_unread => "(unread)".to_owned(),
        None => String::new(),
    }
}

/// What a record is about, and behind it what was decided by which rule, and what came of it, as far as there is each.
fn record_summary(record: &AuditRecord) -> String {
    let decision = record.decision.map(AuditDecision::as_str);
    let ends = [decision, record.outcome.as_deref(), record.rule.as_deref()];
    let ends = ends.into_iter().flatten().collect::<Vec<_>>().join(", ");
    match record.what.as_deref() {
        Some(what) if ends.is_empty() => what.to_owned(),
        Some(what) => format!("{what}: {ends}"),
        None => ends,
    }
}

fn explanation_text(explained: &RecordExplanation) -> String {
    let RecordExplanation { record, why, facts, missing } = explained;
    let mut lines = vec![
        ("record", record.id.clone()),
        ("at", format_time(record.at)),
        ("kind", record.kind.clone()),
        ("what", record.what.as_deref().map(escape_hidden).unwrap_or_default()),
        ("decision", record.decision.map(AuditDecision::as_str).unwrap_or_default().to_owned()),
        ("rule", record.rule.as_deref().map(escape_hidden).unwrap_or_default()),
        ("outcome", record.outcome.as_deref().map(escape_hidden).unwrap_or_default()),
        ("why", escape_hidden(why)),
    ];
    lines.extend(facts.iter().map(|fact| (fact.name.as_str(), escape_hidden(&fact.value))));
    lines.extend(missing.iter().map(|missing| ("missing", escape_hidden(missing))));
    lines.push(("action", record.action.map(|action| action.to_string()).unwrap_or_default()));
    lines.push(("chain", record.chain.to_string()));
    draw_pairs(&lines)
}

#[cfg(test)]
mod tests {
    use dromia_api::audit::AuditFact;
    use dromia_api::{AgentId, Digest};

    use super::*;

    fn record() -> AuditRecord {
        AuditRecord {
            id: "act:17".to_owned(),
            place: "17.0.1".to_owned(),
            at: "2026-01-02T03:04:05Z".parse().expect("a time"),
            kind: "token_revoked".to_owned(),
            actor: Some("cli:0".to_owned()),
            actor_unread: false,
            agent: None,
            session: None,
            run: None,
            call: None,
            what: Some("tok_1".to_owned()),
            decision: None,
            rule: None,
            outcome: None,
            action: None,
            chain: Digest::default(),
        }
    }

    #[test]
    fn a_record_is_explained_in_lines() {
        let explained = RecordExplanation {
            record: record(),
            why: "cli:0 did this".to_owned(),
            facts: vec![AuditFact { name: "author".to_owned(), value: "cli:0".to_owned() }],
            missing: vec!["the agent, which was erased".to_owned()],
        };
        insta::assert_snapshot!(explanation_text(&explained), @r"
        record    act:17
        at        2026-01-02 03:04:05Z
        kind      token_revoked
        what      tok_1
        why       cli:0 did this
        author    cli:0
        missing   the agent, which was erased
        chain     0000000000000000000000000000000000000000000000000000000000000000
        ");
    }

    #[test]
    fn a_records_last_cell_holds_its_available_details() {
        let ended = AuditRecord { outcome: Some("ok".to_owned()), what: None, ..record() };
        let judged = AuditRecord {
            kind: "tool_started".to_owned(),
            actor: None,
            what: Some("exec".to_owned()),
            decision: Some(AuditDecision::Allow),
            rule: Some("grant exec".to_owned()),
            agent: Some(AgentId::from_bytes([9; 16])),
            ..record()
        };
        let rows = [record(), ended, judged]
            .iter()
            .map(|record| listing_row(record, &AgentHandles::default(), &RowStyle::whole()))
            .collect();
        insta::assert_snapshot!(crate::output::draw_table(None, &HEADS, rows), @r"
        AT                    KIND           ACTOR  AGENT              ID      WHAT
        2026-01-02 03:04:05Z  token_revoked  cli:0                     act:17  tok_1
        2026-01-02 03:04:05Z  token_revoked  cli:0                     act:17  ok
        2026-01-02 03:04:05Z  tool_started          agt_090909090909…  act:17  exec: allow, grant exec
        ");
    }

    #[test]
    fn foreign_text_in_a_record_cannot_forge_a_line() {
        let forged = AuditRecord { what: Some("exec\n2026-01-02  act  \u{202e}".to_owned()), ..record() };
        let line = record_line(&forged);
        assert!(line.contains("exec\\u{a}2026-01-02  act  \\u{202e}"), "{line}");
        let (why, facts, missing) = ("it\nrule      grant".to_owned(), Vec::new(), Vec::new());
        let told = explanation_text(&RecordExplanation { record: record(), why, facts, missing });
        assert!(told.contains("it\\u{a}rule") && !told.contains("\nrule"), "{told}");
    }

    #[test]
    fn a_cut_off_item_repeats_without_duplicate_records() {
        let mut tail = AuditTailCursor::default();
        let event = |name: &str, data: String| StreamEvent { name: name.to_owned(), data };
        let heard = |tail: &mut AuditTailCursor, id: &str, place: &str| {
            let record = AuditRecord { id: id.to_owned(), place: place.to_owned(), ..record() };
            let data = serde_json::to_string(&record).expect("is JSON");
            match tail.take_event(&event(EVENT_RECORD, data)).expect("is read") {
                FollowedEvent::Further(record) => record.is_some(),
                FollowedEvent::Aside(_) | FollowedEvent::Nothing => panic!("a record goes further"),
            }
        };
        let begun = tail.take_event(&event(EVENT_BEGUN, r#"{"place":"3.0.0"}"#.to_owned())).expect("is read");
        assert_eq!((begun, tail.resume_position().as_deref()), (FollowedEvent::Nothing, Some("3.0.0")));
        assert!(heard(&mut tail, "run:1", "3.0.1") && heard(&mut tail, "run:1:1", "3.0.1"));
        assert_eq!(tail.after.as_deref(), Some("3.0.0"), "more of it may come");
        assert!(!heard(&mut tail, "run:1", "3.0.1") && !heard(&mut tail, "run:1:1", "3.0.1"));
        assert!(heard(&mut tail, "run:1:2", "3.0.1") && heard(&mut tail, "run:2", "3.0.2"));
        assert_eq!(tail.after.as_deref(), Some("3.0.1"));
    }

    #[test]
    fn a_file_without_its_last_line_is_not_whole() {
        let whole = b"{\"dromia_audit\":1}\n{\"end\":{}}\n";
        let is_whole = |pieces: &[&[u8]]| {
            let mut lines = ExportLineScan::default();
            for piece in pieces {
                lines.push_chunk(piece);
            }
            lines.are_signed
        };
        for at in 0..=whole.len() {
            let (one, two) = whole.split_at(at);
            assert!(is_whole(&[one, two]), "wherever it is split");
            assert_eq!(is_whole(&[one]), at == whole.len(), "{at} bytes");
        }
        assert!(!is_whole(&[&whole[..], &b"{}\n"[..]]) && !is_whole(&[&b"{\"endless\":1}\n"[..]]));
    }
}
