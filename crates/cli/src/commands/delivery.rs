//! `delivery`: list messages on their way out, show one, have one sent again.

use dromia_api::delivery::{Delivery, DeliveryShown, Receipt};
use dromia_api::{DeliveryState, List};

use super::{Cli, listing, print_narrow};
use crate::args;
use crate::error::Outcome;
use crate::exit::Exit;
use crate::output::{Output, Way, pairs, table, time};

/// The columns of a listing, and how it gives way on a narrow terminal.
const HEADS: [&str; 6] = ["id", "target", "state", "attempts", "prepared", "run"];
const WAYS: [Way; 5] = [
    Way::Without("run"),
    Way::Short("prepared"),
    Way::Without("attempts"),
    Way::Cut("target", 12),
    Way::Without("prepared"),
];

pub(super) async fn run(cli: &Cli<'_>, command: args::Delivery, output: &mut Output<'_>) -> Outcome<Exit> {
    match command {
        args::Delivery::List(wanted) => {
            let state = wanted.state.map(|state| DeliveryState::from(state).as_str().to_owned());
            let filters = [("state", state), ("target", wanted.target)];
            let list: List<Delivery> =
                cli.client.get(&listing("/v1/deliveries", &wanted.page, &filters)).await?;
            print_narrow(output, &list, &HEADS, &WAYS, row)
        }
        args::Delivery::Show(delivery) => {
            let shown: DeliveryShown = cli.client.get(&format!("/v1/deliveries/{}", delivery.id)).await?;
            let columns = output.context().columns;
            output.show(&shown, |shown| text(columns, shown))?;
            Ok(Exit::Done)
        }
        args::Delivery::Redrive(delivery) => {
            let accept = if delivery.accept_double { "?accept_double=true" } else { "" };
            let path = format!("/v1/deliveries/{}/redrive{accept}", delivery.id);
            let shown: DeliveryShown = cli.client.post(&path).await?;
            output.show(&shown, |shown| {
                format!("{} is {}", shown.delivery.id, shown.delivery.state.as_str())
            })?;
            Ok(Exit::Done)
        }
    }
}

fn standing(delivery: &Delivery) -> String {
    match delivery.reason {
        Some(reason) => format!("{} ({})", delivery.state.as_str(), reason.as_str()),
        None => delivery.state.as_str().to_owned(),
    }
}

fn row(delivery: &Delivery) -> Vec<String> {
    vec![
        delivery.id.to_string(),
        delivery.target.clone(),
        standing(delivery),
        delivery.attempts.to_string(),
        time(delivery.prepared_at),
        delivery.run.to_string(),
    ]
}

fn text(columns: Option<u16>, shown: &DeliveryShown) -> String {
    let DeliveryShown { delivery, message, receipts } = shown;
    let mut text = pairs(&[
        ("delivery", delivery.id.to_string()),
        ("target", delivery.target.clone()),
        ("state", standing(delivery)),
        ("attempts", delivery.attempts.to_string()),
        ("redrives", delivery.redrives.to_string()),
        ("prepared", time(delivery.prepared_at)),
        ("changed", time(delivery.updated_at)),
        ("due", delivery.due_at.map(time).unwrap_or_default()),
        ("agent", delivery.agent.to_string()),
        ("session", delivery.session.to_string()),
        ("run", delivery.run.to_string()),
        ("message", message.to_string()),
    ]);
    if !receipts.is_empty() {
        let rows = receipts.iter().map(receipt).collect();
        text.push_str("\n\n");
        text.push_str(&table(columns, &["attempt", "began", "ended", "outcome", "detail"], rows));
    }
    text
}

fn receipt(receipt: &Receipt) -> Vec<String> {
    vec![
        receipt.number.to_string(),
        time(receipt.began_at),
        receipt.ended_at.map(time).unwrap_or_default(),
        receipt.outcome.map_or("on its way", dromia_api::AttemptOutcome::as_str).to_owned(),
        receipt.detail.clone().unwrap_or_default(),
    ]
}
