//! `capability`: grant, delegate, revoke, list, and ask what the gate would decide.

use std::time::Duration;

use dromia_api::ListPage;
use dromia_api::agent::AgentResource;
use dromia_api::capability::{
    CallCheck, CapabilityFinding, CapabilityMade, CapabilityResource, DelegateCapability, GrantCapability,
};

use super::agent_names::AgentHandles;
use super::{Cli, listing_path, print_list};
use crate::args;
use crate::client::percent_encode;
use crate::error::{Error, Outcome};
use crate::exit::CommandExit;
use crate::output::{CommandOutput, RowStyle, draw_pairs, format_time};

pub(super) async fn run(
    cli: &Cli<'_>,
    command: args::CapabilityCommand,
    output: &mut CommandOutput<'_>,
) -> Outcome<CommandExit> {
    match command {
        args::CapabilityCommand::Grant(new) => {
            let body = GrantCapability {
                agent: new.name,
                rights: new.rights,
                expires_in_seconds: new.limits.expires,
                wall_ms_max: wall_time_millis(new.limits.wall)?,
            };
            print_created(cli, &cli.client.post_json("/v1/capabilities", &body).await?, output).await
        }
        args::CapabilityCommand::Delegate(new) => {
            let body = DelegateCapability {
                agent: new.to,
                rights: new.rights,
                expires_in_seconds: new.limits.expires,
                wall_ms_max: wall_time_millis(new.limits.wall)?,
            };
            let capability = cli.resolve_id(new.capability, output).await?;
            let path = format!("/v1/capabilities/{capability}/delegate");
            print_created(cli, &cli.client.post_json(&path, &body).await?, output).await
        }
        args::CapabilityCommand::Revoke(name) => {
            let capability = cli.resolve_id(name.capability, output).await?;
            let path = format!("/v1/capabilities/{capability}");
            let revoked: CapabilityResource = cli.client.delete(&path).await?;
            output.print_result(&revoked, revocation_text)?;
            output.print_notice("the capabilities delegated from it are revoked as well")?;
            Ok(CommandExit::Done)
        }
        args::CapabilityCommand::List(page) => {
            let mut list: ListPage<CapabilityResource> =
                cli.client.get(&listing_path("/v1/capabilities", &page, &[])).await?;
            let heads = ["id", "holder", "use", "state", "expires", "rights"];
            let handles = AgentHandles::fetch_page(cli, output).await;
            if let Some(name) = &cli.global.agent {
                let agent: AgentResource =
                    cli.client.get(&format!("/v1/agents/{}", percent_encode(name))).await?;
                list.items.retain(|capability| capability.holder == agent.id);
            }
            let style = output.row_style();
            print_list(output, &list, &heads, |capability| capability_row(capability, &handles, &style))
        }
        args::CapabilityCommand::Check(asked) => {
            let checked = ask_server(cli, &asked).await?;
            output.print_result(&checked, verdict_text)?;
            Ok(if checked.allowed { CommandExit::Done } else { CommandExit::Denied })
        }
        args::CapabilityCommand::Explain(asked) => {
            let checked = ask_server(cli, &asked).await?;
            output.print_result(&checked, |checked| {
                let said = checked.capabilities.iter().map(weighed_text);
                std::iter::once(verdict_text(checked)).chain(said).collect::<Vec<_>>().join("\n")
            })?;
            Ok(CommandExit::Done)
        }
    }
}

async fn ask_server(cli: &Cli<'_>, asked: &args::CheckCapability) -> Outcome<CallCheck> {
    let (agent, tool) = (percent_encode(&asked.name), percent_encode(&asked.tool));
    let mut path =
        format!("/v1/agents/{agent}/tools/{tool}/check?arguments={}", percent_encode(&asked.arguments));
    if let Some(token) = &asked.token {
        path.extend(["&token=", &percent_encode(token)]);
    }
    cli.client.get(&path).await
}

fn wall_time_millis(wall: Option<Duration>) -> Outcome<Option<u32>> {
    let millis = wall.map(|wall| u32::try_from(wall.as_millis())).transpose();
    millis.map_err(|_| Error::Usage("--wall is longer than a call can take; use a shorter time".to_owned()))
}

async fn print_created(
    cli: &Cli<'_>,
    made: &CapabilityMade,
    output: &mut CommandOutput<'_>,
) -> Outcome<CommandExit> {
    let record = &made.record;
    let handles = AgentHandles::fetch_page(cli, output).await;
    output.print_result(made, |made| {
        draw_pairs(&[
            ("capability", made.record.id.to_string()),
            ("holder", handles.name_with_id(made.record.holder)),
            ("rights", rights_text(&made.record)),
            ("expires", made.record.expires_at.map(format_time).unwrap_or_default()),
            ("token", made.token.clone()),
        ])
    })?;
    output.print_notice(&format!(
        "it applies from the agent's next run on; revoke it with `dromia capability revoke {}`",
        record.id
    ))?;
    Ok(CommandExit::Done)
}

/// Says that a capability is revoked, and since when: it may have been revoked earlier.
fn revocation_text(revoked: &CapabilityResource) -> String {
    let since = revoked.revoked_at.map(|at| format!(" since {}", format_time(at))).unwrap_or_default();
    format!("{} is {}{since}", revoked.id, revoked.state.as_str())
}

fn verdict_text(checked: &CallCheck) -> String {
    let said = match checked.rule.split_once(' ') {
        _ if checked.allowed => "allowed",
        Some((CallCheck::ASK, _)) => "asks: a person must approve the call",
        Some((CallCheck::DELAY, _)) => {
            "delayed: the call starts after a delay, and a person may deny it until then"
        }
        _ => "denied",
    };
    draw_pairs(&[
        ("call", format!("{} {}", checked.tool, checked.arguments)),
        ("verdict", said.to_owned()),
        ("rule", checked.rule.clone()),
        ("why", checked.reason.clone()),
        ("policy", checked.policy.map(|policy| policy.to_string()).unwrap_or_default()),
    ])
}

fn weighed_text(weighed: &CapabilityFinding) -> String {
    let whose = weighed.capability.map_or_else(|| "the token".to_owned(), |id| id.to_string());
    let covers = if weighed.covers { "covers it" } else { "does not" };
    format!("{whose} {covers}: {}", weighed.why)
}

fn capability_row(capability: &CapabilityResource, handles: &AgentHandles, style: &RowStyle) -> Vec<String> {
    let from = capability.parent.map(|parent| format!(" of {}", style.format_id(parent)));
    let from = from.unwrap_or_default();
    vec![
        style.format_id(capability.id),
        handles.display_name(capability.holder),
        capability.usage.as_str().to_owned(),
        capability.state.as_str().to_owned(),
        capability.expires_at.map_or_else(|| "never".to_owned(), |at| style.format_time(at)),
        format!("{}{from}", rights_text(capability)),
    ]
}

/// What a capability covers, with the most time of a call.
fn rights_text(capability: &CapabilityResource) -> String {
    let rights = if capability.rights.is_empty() { "all".to_owned() } else { capability.rights.join(" ") };
    match capability.wall_ms_max {
        Some(wall) => format!("{rights}, {wall} ms per call"),
        None => rights,
    }
}

#[cfg(test)]
mod tests {
    use dromia_api::{AgentId, CapabilityId, CapabilityState, CapabilityUse};

    use super::*;

    #[test]
    fn a_verdict_names_the_rule_and_each_capability_its_block() {
        let checked = CallCheck {
            tool: "file.write".to_owned(),
            arguments: serde_json::json!({"path": "a"}),
            allowed: false,
            rule: "default deny".to_owned(),
            reason: "nothing covers it".to_owned(),
            policy: None,
            capabilities: vec![CapabilityFinding {
                capability: Some(CapabilityId::from_bytes([3; 16])),
                covers: false,
                block: Some(1),
                why: "block 1 of its token was revoked".to_owned(),
            }],
        };
        insta::assert_snapshot!(verdict_text(&checked), @r#"
        call     file.write {"path":"a"}
        verdict  denied
        rule     default deny
        why      nothing covers it
        "#);
        insta::assert_snapshot!(
            weighed_text(&checked.capabilities[0]),
            @"cap_03030303030303030303030303030303 does not: block 1 of its token was revoked"
        );
        // What waits is no refusal, and is told as what it is.
        for (rule, said) in
            [("ask permission", "person"), ("delay irreversible", "delayed"), ("asked", "denied")]
        {
            let waits = CallCheck { rule: rule.to_owned(), ..checked.clone() };
            let told = verdict_text(&waits);
            assert!(told.lines().nth(1).is_some_and(|line| line.contains(said)), "{told}");
        }
    }

    #[test]
    fn a_capability_row_shows_its_state_and_parent() {
        let capability = CapabilityResource {
            id: CapabilityId::from_bytes([2; 16]),
            holder: AgentId::from_bytes([9; 16]),
            parent: Some(CapabilityId::from_bytes([1; 16])),
            usage: CapabilityUse::Held,
            rights: Vec::new(),
            state: CapabilityState::ParentRevoked,
            expires_at: None,
            wall_ms_max: Some(30_000),
            by: "cli:0".to_owned(),
            created_at: jiff::Timestamp::UNIX_EPOCH,
            revoked_at: None,
        };
        let row = capability_row(&capability, &AgentHandles::default(), &RowStyle::whole());
        assert_eq!(row[3], "parent_revoked");
        assert!(row[5].starts_with("all, 30000 ms per call of cap_0101"), "{row:?}");
        let at = jiff::Timestamp::UNIX_EPOCH;
        let revoked =
            CapabilityResource { state: CapabilityState::Revoked, revoked_at: Some(at), ..capability };
        let told = revocation_text(&revoked);
        assert!(told.ends_with(&format!(" is revoked since {}", format_time(at))), "{told}");
    }
}
