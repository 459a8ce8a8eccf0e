//! `token`: make, list and take back credentials of a tenant; `whoami`: who asks.

use dromia_api::token::{CreateToken, TokenCreated, TokenResource, WhoamiResponse};
use dromia_api::{ErrorCode, HandleSlug, ListPage, TokenId, TokenScopes, role_name};
use jiff::Timestamp;
use schemars::JsonSchema;
use serde::Serialize;

use super::{Cli, listing_path, print_list};
use crate::args::{self, IdReference};
use crate::client::percent_encode;
use crate::error::{Error, Outcome};
use crate::exit::CommandExit;
use crate::output::{CommandOutput, RowStyle, draw_pairs, format_time};

pub(super) async fn run(
    cli: &Cli<'_>,
    command: args::TokenCommand,
    output: &mut CommandOutput<'_>,
) -> Outcome<CommandExit> {
    match command {
        args::TokenCommand::Create(new) => create_token(cli, new, output).await,
        args::TokenCommand::List(page) => {
            let list: ListPage<TokenResource> =
                cli.client.get(&listing_path("/v1/tokens", &page, &[])).await?;
            let heads = ["name", "scopes", "state", "created", "expires", "id"];
            let style = output.row_style();
            print_list(output, &list, &heads, |token| token_row(token, &style))
        }
        args::TokenCommand::Revoke(token) => {
            let token = revoke_token(cli, &token.name, output).await?;
            output.print_result(&token, |token| format!("{} is {}", token.name, token.state.as_str()))?;
            Ok(CommandExit::Done)
        }
    }
}

/// Revokes the token of this name or id. What is neither may be the first or last digits of an id.
async fn revoke_token(cli: &Cli<'_>, typed: &str, output: &mut CommandOutput<'_>) -> Outcome<TokenResource> {
    let path = |name: &str| format!("/v1/tokens/{}", percent_encode(name));
    let revoked = cli.client.delete(&path(typed)).await;
    match (revoked, typed.parse::<IdReference<TokenId>>()) {
        (Err(Error::Problem(problem)), Ok(typed))
            if problem.error_code() == Some(ErrorCode::TokenNotFound) =>
        {
            let id = cli.resolve_id(typed, output).await?;
            cli.client.delete(&path(&id.to_string())).await
        }
        (revoked, _) => revoked,
    }
}

/// Prints the token alone, so that it can be put where it is needed; what people read beside it is a notice.
async fn create_token(
    cli: &Cli<'_>,
    new: args::CreateToken,
    output: &mut CommandOutput<'_>,
) -> Outcome<CommandExit> {
    let new = CreateToken {
        name: new.name,
        // The default scopes give way to a role.
        scopes: if new.role.is_some() { TokenScopes::default() } else { new.scopes.into_iter().collect() },
        role: new.role,
        expires_in_seconds: new.expires,
    };
    let created: TokenCreated = cli.client.post_json("/v1/tokens", &new).await?;
    output.print_result(&created, |created| created.token.clone())?;
    let record = &created.record;
    let end = record
        .expires_at
        .map_or_else(|| "does not expire".to_owned(), |at| format!("expires {}", format_time(at)));
    output.print_notice(&format!("{} ({}): {}; {end}", record.name, record.id, record.scopes))?;
    output.print_notice("copy the token now; it is not shown again")?;
    Ok(CommandExit::Done)
}

fn token_row(token: &TokenResource, style: &RowStyle) -> Vec<String> {
    vec![
        token.name.clone(),
        token.scopes.to_string(),
        token.state.as_str().to_owned(),
        style.format_time(token.created_at),
        token.expires_at.map_or_else(|| "never".to_owned(), |at| style.format_time(at)),
        style.format_id(token.id),
    ]
}

/// Who asks, and whom a command means that names no agent.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "WhoamiShown")]
pub(super) struct WhoamiDocument {
    /// What the server says.
    #[serde(flatten)]
    whoami: WhoamiResponse,
    /// The agent that commands mean: the one named with `--agent`, else the one that `dromia agent switch` chose, else that of
    /// the server's configuration.
    #[serde(skip_serializing_if = "Option::is_none")]
    agent: Option<String>,
}

/// Says which agent is meant, and why that one.
fn default_agent_text(cli: &Cli<'_>, default: Option<&HandleSlug>) -> String {
    match (&cli.global.agent, cli.selected_agent(), default) {
        (Some(named), _, _) => format!("{named}, by --agent"),
        (None, Some(chosen), _) => format!("{chosen}, chosen by `dromia agent switch`"),
        (None, None, Some(default)) => format!("{default}, used when you name none"),
        (None, None, None) => String::new(),
    }
}

fn suspension_text(since: Timestamp, who: &WhoamiResponse) -> String {
    let (since, tenant) = (format_time(since), &who.tenant_handle);
    format!(
        "since {since}; it answers reads and changes nothing; the operator resumes it with `dromia tenant resume {tenant}`"
    )
}

pub(super) async fn show_whoami(cli: &Cli<'_>, output: &mut CommandOutput<'_>) -> Outcome<CommandExit> {
    let whoami: WhoamiResponse = cli.client.get("/v1/whoami").await?;
    let agent = cli.selected_agent().or_else(|| whoami.default_agent.as_ref().map(ToString::to_string));
    output.print_result(&WhoamiDocument { whoami, agent }, |WhoamiDocument { whoami: who, .. }| {
        draw_pairs(&[
            ("server", format!("dromia {}", who.version)),
            ("address", cli.client.network_address().unwrap_or_default()),
            ("tenant", format!("{} ({})", who.tenant_handle, who.tenant)),
            ("suspended", who.suspended_at.map(|since| suspension_text(since, who)).unwrap_or_default()),
            ("agent", default_agent_text(cli, who.default_agent.as_ref())),
            ("actor", who.actor.clone()),
            ("credential", who.credential.as_str().to_owned()),
            ("token", who.token.map(|token| token.to_string()).unwrap_or_default()),
            ("role", role_name(who.scopes).unwrap_or("none of the built-in ones").to_owned()),
            ("scopes", who.scopes.to_string()),
            ("expires", who.expires_at.map(format_time).unwrap_or_default()),
        ])
    })?;
    Ok(CommandExit::Done)
}
