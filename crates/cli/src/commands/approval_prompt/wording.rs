//! What a prompt prints: the call in a few lines, all that is known of it, and the rule that an answer made.

use anstyle::{AnsiColor, Style};
use dromia_api::approval::{AnswerApproval, ApprovalResource, ApprovalRuleResource, ReachKind};
use dromia_api::{ListPage, escape_hidden};

use crate::commands::Cli;
use crate::commands::agent_names::AgentHandles;
use crate::commands::approval::{argument_lines, card_text, time_span};
use crate::error::{Outcome, PendingStatus};
use crate::output::{CommandOutput, cut_to_columns, format_time};

const ASKS: Style = AnsiColor::Yellow.on_default().bold();

/// Says what an interrupt at the prompt leaves behind.
pub(super) fn waiting_status(approval: &ApprovalResource) -> PendingStatus {
    let (id, run) = (approval.id, approval.source.run);
    PendingStatus {
        known: format!("{run} waits for {id}"),
        next: format!(
            "answer with `dromia approval approve {id}` or `dromia approval deny {id}`, then follow the run with \
             `dromia run watch {run}`"
        ),
    }
}

/// Prints the call, each argument on a line that is cut to the terminal.
pub(super) fn print_call(approval: &ApprovalResource, output: &mut CommandOutput<'_>) -> Outcome {
    let tool = output.paint_err(ASKS, &escape_hidden(&approval.judged.tool));
    let when = match approval.deadlines.cools_in_seconds {
        Some(seconds) => format!("; it starts by itself in {}", time_span(seconds)),
        None => String::new(),
    };
    output.print_painted(&format!("the run asks for {tool} ({}){when}", approval.id))?;
    // A screen reader reads a line whole.
    let is_plain = output.is_plain();
    let columns = output.context_mut().err_columns().filter(|_| !is_plain);
    for line in argument_lines(approval, &|_, word| word.to_owned()) {
        // The quote has a line of its own on the card.
        let line = line.replace("\n      ", "; ");
        output
            .print_painted(&columns.map_or_else(|| line.clone(), |columns| cut_to_columns(&line, columns)))?;
    }
    Ok(())
}

/// Prints all that is known of the call.
pub(super) async fn print_whole(
    cli: &Cli<'_>,
    approval: &ApprovalResource,
    rule: Option<&str>,
    output: &mut CommandOutput<'_>,
) -> Outcome {
    let handles = AgentHandles::fetch_page(cli, output).await;
    let columns = output.context_mut().err_columns().and_then(|columns| u16::try_from(columns).ok());
    let text = card_text(approval, &handles, None, columns, &|style, word| output.paint_err(style, word));
    output.print_painted(&text)?;
    output.print_painted(
        "\na  this call only\ns  this call, and the very same one as often as it comes in this session\nd  the \
         call is refused, and the agent is told",
    )?;
    match rule {
        Some(rule) => {
            output.print_painted(&format!("A  whatever this rule matches: {}", escape_hidden(rule)))
        }
        None => output
            .print_painted("no rule for such calls can be made here; see `dromia help approval rule add`"),
    }
}

/// Prints the rule that an answer made, with its end.
pub(super) async fn print_rule(
    cli: &Cli<'_>,
    approval: &ApprovalResource,
    body: &AnswerApproval,
    output: &mut CommandOutput<'_>,
) -> Outcome {
    if body.reach == ReachKind::Once {
        return Ok(());
    }
    let rules = cli.client.get::<ListPage<ApprovalRuleResource>>("/v1/approval-rules").await;
    let session = (body.reach == ReachKind::Session).then_some(approval.source.session);
    let made = rules.ok().and_then(|rules| {
        let is_made = |rule: &ApprovalRuleResource| {
            rule.agent == Some(approval.source.agent)
                && rule.session == session
                && body.rule.as_ref().is_none_or(|made| *made == rule.rule)
        };
        rules.items.into_iter().filter(is_made).max_by_key(|rule| rule.created_at)
    });
    match made {
        Some(rule) => output.print_notice(&format!(
            "the rule {} answers from now on, until {}: {}\nhint: remove it with `dromia approval rule remove {}`",
            rule.name,
            format_time(rule.expires_at),
            escape_hidden(&rule.rule),
            rule.name
        )),
        // A caller who may not read rules still learns what the answer did.
        None => output.print_notice("such calls are answered by a rule from now on; see `dromia approval rule list`"),
    }
}
