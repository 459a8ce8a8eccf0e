//! `token`: make, list and take back credentials of a tenant; `whoami`: who asks.

use dromia_api::token::{CreateToken, Token, TokenCreated, Whoami};
use dromia_api::{Handle, List, TokenScopes};
use schemars::JsonSchema;
use serde::Serialize;

use super::{Cli, listing, print_list};
use crate::args;
use crate::client::encoded;
use crate::error::Outcome;
use crate::exit::Exit;
use crate::output::{Output, pairs, time};

pub(super) async fn run(cli: &Cli<'_>, command: args::Token, output: &mut Output<'_>) -> Outcome<Exit> {
    match command {
        args::Token::Create(new) => create(cli, new, output).await,
        args::Token::List(page) => {
            let list: List<Token> = cli.client.get(&listing("/v1/tokens", &page, &[])).await?;
            print_list(output, &list, &["name", "scopes", "state", "created", "expires", "id"], row)
        }
        args::Token::Revoke(token) => {
            let path = format!("/v1/tokens/{}", encoded(&token.name));
            let token: Token = cli.client.delete(&path).await?;
            output.show(&token, |token| format!("{} is {}", token.name, token.state.as_str()))?;
            Ok(Exit::Done)
        }
    }
}

/// Prints the token alone, so that it can be put where it is needed; what people read beside it is a notice.
async fn create(cli: &Cli<'_>, new: args::CreateToken, output: &mut Output<'_>) -> Outcome<Exit> {
    let new = CreateToken {
        name: new.name,
        // The scopes that nobody named give way to a role.
        scopes: if new.role.is_some() { TokenScopes::default() } else { new.scopes.into_iter().collect() },
        role: new.role,
        expires_in_seconds: new.expires,
    };
    let created: TokenCreated = cli.client.post_json("/v1/tokens", &new).await?;
    output.show(&created, |created| created.token.clone())?;
    let record = &created.record;
    let end =
        record.expires_at.map_or_else(|| "does not expire".to_owned(), |at| format!("expires {}", time(at)));
    output.notice(&format!("{} ({}): {}; {end}", record.name, record.id, record.scopes))?;
    output.notice("the token is shown this once")?;
    Ok(Exit::Done)
}

fn row(token: &Token) -> Vec<String> {
    vec![
        token.name.clone(),
        token.scopes.to_string(),
        token.state.as_str().to_owned(),
        time(token.created_at),
        token.expires_at.map_or_else(|| "never".to_owned(), time),
        token.id.to_string(),
    ]
}

/// Who asks, and whom a command means that names no agent.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "WhoamiShown")]
pub(super) struct Who {
    /// What the server says.
    #[serde(flatten)]
    whoami: Whoami,
    /// The agent that commands mean: the one named with `--agent`, else the one that `dromia agent switch` chose, else that of
    /// the server's configuration.
    #[serde(skip_serializing_if = "Option::is_none")]
    agent: Option<String>,
}

/// Says which agent is meant, and why that one.
fn meant(cli: &Cli<'_>, default: Option<&Handle>) -> String {
    match (&cli.global.agent, cli.agent(), default) {
        (Some(named), _, _) => format!("{named}, by --agent"),
        (None, Some(chosen), _) => format!("{chosen}, chosen by `dromia agent switch`"),
        (None, None, Some(default)) => format!("{default}, where none is named"),
        (None, None, None) => String::new(),
    }
}

pub(super) async fn whoami(cli: &Cli<'_>, output: &mut Output<'_>) -> Outcome<Exit> {
    let whoami: Whoami = cli.client.get("/v1/whoami").await?;
    let agent = cli.agent().or_else(|| whoami.default_agent.as_ref().map(ToString::to_string));
    output.show(&Who { whoami, agent }, |Who { whoami: who, .. }| {
        pairs(&[
            ("server", format!("dromia {}", who.version)),
            ("tenant", format!("{} ({})", who.tenant_handle, who.tenant)),
            ("agent", meant(cli, who.default_agent.as_ref())),
            ("actor", who.actor.clone()),
            ("credential", who.credential.as_str().to_owned()),
            ("token", who.token.map(|token| token.to_string()).unwrap_or_default()),
            ("scopes", who.scopes.to_string()),
            ("expires", who.expires_at.map(time).unwrap_or_default()),
        ])
    })?;
    Ok(Exit::Done)
}
