//! `delivery`: list outgoing messages, show one, have one sent again.

use dromia_api::delivery::{AttemptReceipt, DeliveryResource, DeliveryShown};
use dromia_api::{DeliveryState, ListPage};

use super::{Cli, listing_path, print_narrow};
use crate::args;
use crate::error::Outcome;
use crate::exit::CommandExit;
use crate::output::{ColumnShrink, CommandOutput, RowStyle, draw_pairs, draw_table, format_time};

/// The columns of a listing, and how it shrinks on a narrow terminal.
const HEADS: [&str; 6] = ["id", "target", "state", "attempts", "prepared", "run"];
const WAYS: [ColumnShrink; 5] = [
    ColumnShrink::Without("run"),
    ColumnShrink::Short("prepared"),
    ColumnShrink::Without("attempts"),
    ColumnShrink::Cut("target", 12),
    ColumnShrink::Without("prepared"),
];

pub(super) async fn run(
    cli: &Cli<'_>,
    command: args::DeliveryCommand,
    output: &mut CommandOutput<'_>,
) -> Outcome<CommandExit> {
    match command {
        args::DeliveryCommand::List(wanted) => {
            let state = wanted.state.map(|state| DeliveryState::from(state).as_str().to_owned());
            let filters = [("state", state), ("target", wanted.target)];
            let list: ListPage<DeliveryResource> =
                cli.client.get(&listing_path("/v1/deliveries", &wanted.page, &filters)).await?;
            let style = output.row_style();
            print_narrow(output, &list, &HEADS, &WAYS, |delivery| delivery_row(delivery, &style))
        }
        args::DeliveryCommand::Show(delivery) => {
            let id = cli.resolve_id(delivery.id, output).await?;
            let shown: DeliveryShown = cli.client.get(&format!("/v1/deliveries/{id}")).await?;
            let columns = output.context_mut().columns;
            output.print_result(&shown, |shown| delivery_text(columns, shown))?;
            Ok(CommandExit::Done)
        }
        args::DeliveryCommand::Redrive(delivery) => {
            let accept = if delivery.accept_double { "?accept_double=true" } else { "" };
            let id = cli.resolve_id(delivery.id, output).await?;
            let path = format!("/v1/deliveries/{id}/redrive{accept}");
            let shown: DeliveryShown = cli.client.post(&path).await?;
            output.print_result(&shown, |shown| {
                format!("{} is {}", shown.delivery.id, shown.delivery.state.as_str())
            })?;
            Ok(CommandExit::Done)
        }
    }
}

fn delivery_state_text(delivery: &DeliveryResource) -> String {
    match delivery.reason {
        Some(reason) => format!("{} ({})", delivery.state.as_str(), reason.as_str()),
        None => delivery.state.as_str().to_owned(),
    }
}

fn delivery_row(delivery: &DeliveryResource, style: &RowStyle) -> Vec<String> {
    vec![
        style.format_id(delivery.id),
        delivery.target.clone(),
        delivery_state_text(delivery),
        delivery.attempts.to_string(),
        style.format_time(delivery.prepared_at),
        style.format_id(delivery.run),
    ]
}

fn delivery_text(columns: Option<u16>, shown: &DeliveryShown) -> String {
    let DeliveryShown { delivery, message, receipts } = shown;
    let mut text = draw_pairs(&[
        ("delivery", delivery.id.to_string()),
        ("target", delivery.target.clone()),
        ("state", delivery_state_text(delivery)),
        ("attempts", delivery.attempts.to_string()),
        ("redrives", delivery.redrives.to_string()),
        ("prepared", format_time(delivery.prepared_at)),
        ("changed", format_time(delivery.updated_at)),
        ("due", delivery.due_at.map(format_time).unwrap_or_default()),
        ("agent", delivery.agent.to_string()),
        ("session", delivery.session.to_string()),
        ("run", delivery.run.to_string()),
        ("message", message.to_string()),
    ]);
    if !receipts.is_empty() {
        let rows = receipts.iter().map(receipt_row).collect();
        text.push_str("\n\n");
        text.push_str(&draw_table(
            columns,
            &["attempt", "began", "ended", "outcome", "receiver id", "detail"],
            rows,
        ));
    }
    text
}

fn receipt_row(receipt: &AttemptReceipt) -> Vec<String> {
    vec![
        receipt.number.to_string(),
        format_time(receipt.began_at),
        receipt.ended_at.map(format_time).unwrap_or_default(),
        receipt.outcome.map_or("being sent", dromia_api::AttemptOutcome::as_str).to_owned(),
        receipt.receiver_id.clone().unwrap_or_default(),
        receipt.detail.clone().unwrap_or_default(),
    ]
}
