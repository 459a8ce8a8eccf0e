//! `tenant`: register, list, show, suspend, resume and delete tenants.

use dromia_api::tenant::{CreateTenant, TenantCreated, TenantDeletionReport, TenantDetails, TenantResource};
use dromia_api::{HandleSlug, ListPage};

use super::agent::erased_pairs;
use super::overview::spend_text;
use super::{Cli, listing_path, print_list};
use crate::args;
use crate::error::Outcome;
use crate::exit::CommandExit;
use crate::output::{CommandOutput, draw_pairs, format_time};

pub(super) async fn run(
    cli: &Cli<'_>,
    command: args::TenantCommand,
    output: &mut CommandOutput<'_>,
) -> Outcome<CommandExit> {
    match command {
        args::TenantCommand::Create(new) => {
            let new = CreateTenant { handle: new.handle };
            let created: TenantCreated = cli.client.post_json("/v1/tenants", &new).await?;
            output.print_result(&created, |created| {
                draw_pairs(&[
                    ("handle", created.handle.to_string()),
                    ("id", created.id.to_string()),
                    ("created", format_time(created.created_at)),
                    ("token", created.token.clone()),
                ])
            })?;
            output.print_notice("copy the token now; it is not shown again")?;
            Ok(CommandExit::Done)
        }
        args::TenantCommand::List(page) => {
            let list: ListPage<TenantResource> =
                cli.client.get(&listing_path("/v1/tenants", &page, &[])).await?;
            print_list(output, &list, &["handle", "state", "created", "id"], |tenant| {
                let created = format_time(tenant.created_at);
                vec![tenant.handle.to_string(), state_text(tenant), created, tenant.id.to_string()]
            })
        }
        args::TenantCommand::Show(args::NamedTenant { handle }) => {
            let found: TenantDetails = cli.client.get(&format!("/v1/tenants/{handle}")).await?;
            output.print_result(&found, details_text)?;
            Ok(CommandExit::Done)
        }
        args::TenantCommand::Suspend(named) => set_suspension(cli, named, "suspend", output).await,
        args::TenantCommand::Delete(args::NamedTenant { handle }) => {
            delete_tenant(cli, &handle, output).await
        }
        args::TenantCommand::Resume(named) => set_suspension(cli, named, "resume", output).await,
    }
}

async fn set_suspension(
    cli: &Cli<'_>,
    args::NamedTenant { handle }: args::NamedTenant,
    verb: &str,
    output: &mut CommandOutput<'_>,
) -> Outcome<CommandExit> {
    let path = format!("/v1/tenants/{handle}/{verb}");
    let tenant: TenantResource = cli.client.post(&path).await?;
    output.print_result(&tenant, |tenant| format!("{handle} is {}", state_text(tenant)))?;
    if tenant.suspended_at.is_some() {
        output.print_notice(&format!(
            "its runs rest at their next step; `dromia tenant resume {handle}` has them go on"
        ))?;
    }
    Ok(CommandExit::Done)
}

async fn delete_tenant(
    cli: &Cli<'_>,
    handle: &HandleSlug,
    output: &mut CommandOutput<'_>,
) -> Outcome<CommandExit> {
    let question = format!(
        "Erase the tenant {handle} with all its agents, tokens, secrets, history and audit, for good?"
    );
    cli.confirm(&question, output).await?;
    let deleted: TenantDeletionReport = cli.client.delete(&format!("/v1/tenants/{handle}")).await?;
    output.print_result(&deleted, |deleted| {
        let mut pairs = vec![
            ("tenant", format!("{} ({})", deleted.handle, deleted.id)),
            ("agents", deleted.erased.agents.to_string()),
        ];
        pairs.extend(erased_pairs(&deleted.erased.of_agents));
        draw_pairs(&pairs)
    })?;
    Ok(CommandExit::Done)
}

fn state_text(tenant: &TenantResource) -> String {
    tenant.suspended_at.map_or("active".to_owned(), |since| format!("suspended since {}", format_time(since)))
}

fn details_text(found: &TenantDetails) -> String {
    let TenantDetails { tenant, counts, spend, budgets } = found;
    let mut pairs = vec![
        ("handle", tenant.handle.to_string()),
        ("state", state_text(tenant)),
        ("id", tenant.id.to_string()),
        ("created", format_time(tenant.created_at)),
        ("agents", counts.agents.to_string()),
        ("sessions", counts.sessions.to_string()),
        ("open runs", counts.open_runs.to_string()),
        ("spent today", spend_text(spend)),
    ];
    pairs.extend(budgets.iter().map(|budget| {
        let amount = |amount| budget.measure.format_amount(amount);
        let used = format!("{} of {} used", amount(budget.used), amount(budget.limit));
        (
            "budget",
            format!("{}: {used} ({} per {}, {})", budget.name, budget.measure, budget.per, budget.period),
        )
    }));
    draw_pairs(&pairs)
}
