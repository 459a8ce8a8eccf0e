//! `tenant`: register and list tenants.

use dromia_api::ListPage;
use dromia_api::tenant::{CreateTenant, TenantCreated, TenantResource};

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
            print_list(output, &list, &["handle", "created", "id"], |tenant| {
                vec![tenant.handle.to_string(), format_time(tenant.created_at), tenant.id.to_string()]
            })
        }
    }
}
