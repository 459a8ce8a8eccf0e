//! `status`: who needs a person, what runs, what was spent today, what was not delivered, and how the server does.
//!
//! A row has at most two lines: what it is, and the command that comes next. Ages are counted from the time at which the server
//! read, so no clock of this machine is asked.

use std::fmt::Write as _;
use std::time::Duration;

use dromia_api::overview::{
    FailedDelivery, OpenRun, OverviewPage, SpendToday, TenantOverview, TroubledRun, WaitingApproval,
};
use dromia_api::{DeliveryState, escape_hidden};
use jiff::Timestamp;

use super::Cli;
use crate::args::StatusArguments;
use crate::client::percent_encode;
use crate::error::{Error, Outcome};
use crate::exit::CommandExit;
use crate::output::{CommandOutput, count_noun, format_age, format_money};

/// How long the screen stays before it is drawn again.
const REDRAW: Duration = Duration::from_secs(2);

/// The most pages of tenants, of which each has several.
const PAGES_MAX: usize = 64;

/// Moves to the upper left corner and clears what follows, as `clear` does; the scrollback stays.
const CLEAR_SCREEN: &[u8] = b"\x1b[H\x1b[J";

/// The width of the word at the beginning of a row.
const WORD_WIDTH: usize = 10;

pub(super) async fn run(
    cli: &Cli<'_>,
    asked: StatusArguments,
    output: &mut CommandOutput<'_>,
) -> Outcome<CommandExit> {
    if asked.watch {
        return watch(cli, asked, output).await;
    }
    let page = read_pages(cli, asked.all_tenants).await?;
    let exit = page_exit(&page);
    let text = output.add_global_flags(&page_text(&page, asked.all_tenants)).into_owned();
    output.print_result(&page, |_| text)?;
    Ok(exit)
}

/// A store that takes no writes, or is damaged, is a failure that a script must notice.
fn page_exit(page: &OverviewPage) -> CommandExit {
    let server = &page.server;
    let is_sound = server.writable && !server.damaged && !server.config_refused;
    if is_sound { CommandExit::Done } else { CommandExit::Failed }
}

async fn read_pages(cli: &Cli<'_>, all_tenants: bool) -> Outcome<OverviewPage> {
    if !all_tenants {
        return cli.client.get("/v1/overview").await;
    }
    let mut page: OverviewPage = cli.client.get("/v1/overview?all=true").await?;
    for _ in 1..PAGES_MAX {
        let Some(after) = page.next.take() else { break };
        let further: OverviewPage =
            cli.client.get(&format!("/v1/overview?all=true&after={}", percent_encode(&after))).await?;
        page.tenants.extend(further.tenants);
        page.next = further.next;
    }
    Ok(page)
}

/// Draws the screen again and again until Ctrl-C. Where no person looks at a terminal, lines are only added, and only when
/// something but an age changed.
async fn watch(
    cli: &Cli<'_>,
    asked: StatusArguments,
    output: &mut CommandOutput<'_>,
) -> Outcome<CommandExit> {
    if output.is_json() && !output.is_jsonl() {
        let text = "--watch prints more than one document; use --jsonl, or leave out --watch";
        return Err(Error::Usage(text.to_owned()));
    }
    let is_screen = output.context_mut().out_is_terminal && !output.is_json();
    let mut shown: Option<OverviewPage> = None;
    loop {
        let page = match read_pages(cli, asked.all_tenants).await {
            Err(why) if why.is_away() => {
                output.note_server_away()?;
                tokio::time::sleep(REDRAW).await;
                continue;
            }
            page => page?,
        };
        output.note_server_back();
        let text = output.add_global_flags(&page_text(&page, asked.all_tenants)).into_owned();
        if is_screen {
            output.write_bytes(CLEAR_SCREEN)?;
            output.print_line(&text)?;
            output.print_line("\nagain every 2 s; Ctrl-C ends")?;
        } else if shown.as_ref().is_none_or(|shown| is_changed(shown, &page)) {
            let head = crate::output::format_time(page.at);
            output.print_result(&page, |_| format!("--- {head}\n{text}"))?;
            shown = Some(page);
        }
        tokio::time::sleep(REDRAW).await;
    }
}

/// Tells whether more than the time differs.
fn is_changed(before: &OverviewPage, now: &OverviewPage) -> bool {
    OverviewPage { at: now.at, ..before.clone() } != *now
}

fn page_text(page: &OverviewPage, all_tenants: bool) -> String {
    let mut text = String::new();
    for tenant in &page.tenants {
        let writer = OverviewWriter {
            now: page.at,
            tenant: all_tenants.then_some(tenant.tenant.as_str()),
            text: &mut text,
        };
        writer.write_tenant(tenant);
    }
    if page.next.is_some() {
        text.push_str("There are more tenants than this page can show; name one with -T.\n");
    }
    let server = &page.server;
    let _ = write!(text, "Server: dromia {}, up {}", server.version, format_age(server.started_at, page.at));
    text.push_str(if server.writable { "" } else { ", only answers reads" });
    text.push_str(if server.damaged { ", has damaged data" } else { "" });
    text.push_str(if server.config_refused { ", ignores dromia.yaml, which is wrong" } else { "" });
    text.push_str(if server.restart_needed { ", needs a restart for edited keys" } else { "" });
    text.push_str(if server.draining { ", is stopping" } else { "" });
    if !server.writable || server.damaged || server.config_refused || server.restart_needed {
        text.push_str("\n  next: dromia status --node");
    }
    for disabled in &server.disabled {
        let _ = write!(text, "\nDisabled: {}", escape_hidden(disabled));
    }
    text
}

/// Writes what there is of one tenant.
struct OverviewWriter<'a> {
    now: Timestamp,
    /// The tenant that the commands name, where several are shown.
    tenant: Option<&'a str>,
    text: &'a mut String,
}

impl OverviewWriter<'_> {
    fn write_tenant(mut self, tenant: &TenantOverview) {
        if let Some(handle) = self.tenant {
            self.line(&format!("Tenant {handle}"));
        }
        if let Some(since) = tenant.suspended_at {
            self.line(&format!("Suspended: {} ago; it answers reads and changes nothing", self.age(since)));
            self.line(&format!("  next: dromia tenant resume {}", tenant.tenant));
        }
        let TenantOverview { approvals, troubled, running, deliveries, spend, .. } = tenant;
        if approvals.items.is_empty() && troubled.items.is_empty() && deliveries.items.is_empty() {
            self.line("Needs you: nothing");
        } else {
            self.line("Needs you:");
            approvals.items.iter().for_each(|asked| self.write_approval(asked));
            self.write_rest(approvals.more, "dromia approval list");
            troubled.items.iter().for_each(|run| self.write_troubled(run));
            self.write_rest(troubled.more, "dromia run list --status failed");
            deliveries.items.iter().for_each(|delivery| self.write_delivery(delivery));
            self.write_rest(deliveries.more, "dromia delivery list --state dead");
        }
        if running.items.is_empty() {
            self.line("Running: nothing");
        } else {
            self.line("Running:");
            running.items.iter().for_each(|run| self.write_open_run(run));
            self.write_rest(running.more, "dromia run list --status running");
        }
        self.line(&format!("Spent today: {}", spend_text(spend)));
    }

    fn write_approval(&mut self, asked: &WaitingApproval) {
        let mut text = format!("{} wants {}, for {}", asked.agent, asked.tool, self.age(asked.asked_at));
        match asked.cools_until {
            Some(until) => {
                let _ = write!(text, "; allowed by itself in {}", format_age(self.now, until));
            }
            None => {
                let _ = write!(text, "; valid for {}", format_age(self.now, asked.expires_at));
            }
        }
        self.write_row("approval", &text, &format!("dromia approval show {}", asked.id));
    }

    fn write_troubled(&mut self, run: &TroubledRun) {
        let text =
            format!("{}{}, {} ago: {}", run.agent, quoted(&run.question), self.age(run.since), run.cause);
        self.write_row(run.status.as_str(), &text, &run.command);
    }

    fn write_delivery(&mut self, delivery: &FailedDelivery) {
        let (word, what) = if delivery.state == DeliveryState::UnknownAfterSend {
            ("unsure", "may not have arrived".to_owned())
        } else {
            let reason = delivery.reason.map_or_else(String::new, |reason| format!(": {}", reason.as_str()));
            ("unsent", format!("was given up{reason}"))
        };
        let text = format!("a message to {} {what}, {} ago", delivery.target, self.age(delivery.since));
        self.write_row(word, &text, &format!("dromia delivery show {}", delivery.id));
    }

    fn write_open_run(&mut self, run: &OpenRun) {
        let waits = self.age(run.waits_since);
        let text = format!(
            "{}{}, for {}; waits for {} ({waits})",
            run.agent,
            quoted(&run.question),
            self.age(run.started_at),
            run.waits_for
        );
        self.write_row(run.status.as_str(), &text, &format!("dromia run watch {}", run.id));
    }

    fn write_row(&mut self, word: &str, text: &str, command: &str) {
        let text = escape_hidden(text);
        self.line(&format!("  {word:<WORD_WIDTH$}{text}"));
        let command = self.named(command);
        self.line(&format!("  {:<WORD_WIDTH$}next: {command}", ""));
    }

    fn write_rest(&mut self, more: bool, command: &str) {
        if more {
            let command = self.named(command);
            self.line(&format!("  and more: {command}"));
        }
    }

    /// Writes the tenant into a command, where several tenants are shown.
    fn named(&self, command: &str) -> String {
        match (self.tenant, command.strip_prefix("dromia ")) {
            (Some(tenant), Some(rest)) => format!("dromia -T {tenant} {rest}"),
            _ => command.to_owned(),
        }
    }

    fn age(&self, since: Timestamp) -> String {
        format_age(since, self.now)
    }

    fn line(&mut self, line: &str) {
        self.text.push_str(line);
        self.text.push('\n');
    }
}

fn quoted(question: &str) -> String {
    if question.is_empty() { String::new() } else { format!(" \"{question}\"") }
}

/// Writes what was spent. What has no price is never written as an amount.
pub(super) fn spend_text(spend: &SpendToday) -> String {
    let spent = &spend.spent;
    let calls = |count: u64| count_noun(usize::try_from(count).unwrap_or(usize::MAX), "call");
    if spent.model_calls == 0 {
        return "nothing".to_owned();
    }
    let newest = if spend.more { "the newest " } else { "" };
    let runs = count_noun(usize::try_from(spend.runs).unwrap_or(usize::MAX), "run");
    let amount = format!("{} {}", format_money(spent.cost_micros), spend.currency);
    match (spent.unpriced_calls, spent.cost_micros) {
        (0, _) => format!("{amount} by {newest}{runs}"),
        (unpriced, 0) => format!("unpriced by {newest}{runs} (no price is known for {})", calls(unpriced)),
        (unpriced, _) => format!("{amount} by {newest}{runs}, and {} unpriced", calls(unpriced)),
    }
}

#[cfg(test)]
mod tests {
    use dromia_api::overview::{OverviewPart, ServerHealth};
    use dromia_api::{ApprovalId, CURRENCY, CostTotals, DeadReason, DeliveryId, RunId, RunStatus};

    use super::*;

    const fn part<T>(items: Vec<T>) -> OverviewPart<T> {
        OverviewPart { items, more: false }
    }

    fn page() -> OverviewPage {
        let at = |text: &str| text.parse::<Timestamp>().expect("a time");
        let run = RunId::from_bytes([2; 16]);
        let spent =
            CostTotals { model_calls: 9, cost_micros: 1_250_000, unpriced_calls: 2, ..CostTotals::default() };
        let overview = TenantOverview {
            tenant: "acme".parse().expect("a handle"),
            suspended_at: None,
            approvals: part(vec![WaitingApproval {
                id: ApprovalId::from_bytes([1; 16]),
                agent: "ops".into(),
                run,
                tool: "shell.run".into(),
                asked_at: at("2026-01-02T11:57:00Z"),
                expires_at: at("2026-01-02T13:00:00Z"),
                cools_until: None,
            }]),
            troubled: part(vec![TroubledRun {
                id: run,
                agent: "writer".into(),
                status: RunStatus::Failed,
                question: "sum up\u{1b}[2J the day".into(),
                since: at("2026-01-02T10:00:00Z"),
                cause: "model_unavailable: no answer".into(),
                command: format!("dromia run why {run}"),
            }]),
            running: OverviewPart {
                items: vec![OpenRun {
                    id: run,
                    agent: "writer".into(),
                    status: RunStatus::Running,
                    question: "what is due?".into(),
                    started_at: at("2026-01-02T11:59:00Z"),
                    waits_for: "the model default".into(),
                    waits_since: at("2026-01-02T11:59:48Z"),
                }],
                more: true,
            },
            deliveries: part(vec![FailedDelivery {
                id: DeliveryId::from_bytes([3; 16]),
                target: "webhook:ops".into(),
                state: DeliveryState::Dead,
                reason: Some(DeadReason::Refused),
                since: at("2025-12-31T12:00:00Z"),
            }]),
            spend: SpendToday {
                since: at("2026-01-02T00:00:00Z"),
                currency: CURRENCY.into(),
                runs: 4,
                spent,
                more: false,
            },
        };
        OverviewPage {
            at: at("2026-01-02T12:00:00Z"),
            server: ServerHealth {
                version: "0.1.0".into(),
                started_at: at("2026-01-01T09:00:00Z"),
                draining: false,
                writable: true,
                damaged: false,
                config_refused: false,
                restart_needed: false,
                disabled: Vec::new(),
            },
            tenants: vec![overview],
            next: None,
        }
    }

    #[test]
    fn the_first_screen_names_the_next_command_of_each_row() {
        insta::assert_snapshot!(page_text(&page(), true), @r#"
        Tenant acme
        Needs you:
          approval  ops wants shell.run, for 3m; valid for 1h
                    next: dromia -T acme approval show apr_01010101010101010101010101010101
          failed    writer "sum up\u{1b}[2J the day", 2h ago: model_unavailable: no answer
                    next: dromia -T acme run why run_02020202020202020202020202020202
          unsent    a message to webhook:ops was given up: refused, 2d ago
                    next: dromia -T acme delivery show dlv_03030303030303030303030303030303
        Running:
          running   writer "what is due?", for 1m; waits for the model default (12s)
                    next: dromia -T acme run watch run_02020202020202020202020202020202
          and more: dromia -T acme run list --status running
        Spent today: 1.250000 USD by 4 runs, and 2 calls unpriced
        Server: dromia 0.1.0, up 1d
        "#);
    }

    #[test]
    fn what_has_no_price_is_never_an_amount() {
        let mut spend = page().tenants.remove(0).spend;
        assert_eq!(spend_text(&spend), "1.250000 USD by 4 runs, and 2 calls unpriced");
        spend.spent.cost_micros = 0;
        assert_eq!(spend_text(&spend), "unpriced by 4 runs (no price is known for 2 calls)");
        spend.spent.unpriced_calls = 0;
        assert_eq!(spend_text(&spend), "0.000000 USD by 4 runs");
        spend.spent.model_calls = 0;
        assert_eq!(spend_text(&spend), "nothing");
    }

    #[test]
    fn an_empty_screen_says_so_and_another_time_is_no_change() {
        let mut page = page();
        let mut later = page.clone();
        later.at = "2026-01-02T12:00:09Z".parse().expect("a time");
        assert!(!is_changed(&page, &later));
        later.tenants[0].running.items.clear();
        assert!(is_changed(&page, &later));
        let overview = &mut page.tenants[0];
        overview.approvals.items.clear();
        overview.troubled.items.clear();
        overview.deliveries.items.clear();
        overview.running = part(Vec::new());
        overview.spend.spent = CostTotals::default();
        overview.suspended_at = Some("2026-01-02T11:00:00Z".parse().expect("a time"));
        page.server.writable = false;
        let text = page_text(&page, false);
        assert_eq!(
            text,
            "Suspended: 1h ago; it answers reads and changes nothing\n  next: dromia tenant resume acme\n\
             Needs you: nothing\nRunning: nothing\nSpent today: nothing\n\
             Server: dromia 0.1.0, up 1d, only answers reads\n  next: dromia status --node"
        );
        assert_eq!(page_exit(&page), CommandExit::Failed);
    }
}
