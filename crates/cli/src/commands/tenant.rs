//! `tenant`: register and list tenants.

use dromia_api::List;
use dromia_api::tenant::{CreateTenant, Tenant, TenantCreated};

use super::{Cli, listing, print_list};
use crate::args;
use crate::error::Outcome;
use crate::exit::Exit;
use crate::output::{Output, pairs, time};

pub(super) async fn run(cli: &Cli<'_>, command: args::Tenant, output: &mut Output<'_>) -> Outcome<Exit> {
    match command {
        args::Tenant::Create(new) => {
            let new = CreateTenant { handle: new.handle };
            let created: TenantCreated = cli.client.post_json("/v1/tenants", &new).await?;
            output.show(&created, |created| {
                pairs(&[
                    ("handle", created.handle.to_string()),
                    ("id", created.id.to_string()),
                    ("created", time(created.created_at)),
                    ("token", created.token.clone()),
                ])
            })?;
            output.notice("the token is shown this once")?;
            Ok(Exit::Done)
        }
        args::Tenant::List(page) => {
            let list: List<Tenant> = cli.client.get(&listing("/v1/tenants", &page, &[])).await?;
            print_list(output, &list, &["handle", "created", "id"], |tenant| {
                vec![tenant.handle.to_string(), time(tenant.created_at), tenant.id.to_string()]
            })
        }
    }
}
