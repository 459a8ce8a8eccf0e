//! `capability`: grant, hand on, take back, list, and ask what the gate would say.

use std::time::Duration;

use dromia_api::List;
use dromia_api::agent::Agent;
use dromia_api::capability::{
    Capability, CapabilityMade, Checked, DelegateCapability, GrantCapability, Weighed,
};

use super::handles::Handles;
use super::{Cli, listing, print_list};
use crate::args;
use crate::client::encoded;
use crate::error::{Error, Outcome};
use crate::exit::Exit;
use crate::output::{Output, pairs, time};

pub(super) async fn run(cli: &Cli<'_>, command: args::Capability, output: &mut Output<'_>) -> Outcome<Exit> {
    match command {
        args::Capability::Grant(new) => {
            let body = GrantCapability {
                agent: new.name,
                rights: new.rights,
                expires_in_seconds: new.limits.expires,
                wall_ms_max: wall(new.limits.wall)?,
            };
            made(cli, &cli.client.post_json("/v1/capabilities", &body).await?, output).await
        }
        args::Capability::Delegate(new) => {
            let body = DelegateCapability {
                agent: new.to,
                rights: new.rights,
                expires_in_seconds: new.limits.expires,
                wall_ms_max: wall(new.limits.wall)?,
            };
            let path = format!("/v1/capabilities/{}/delegate", new.capability);
            made(cli, &cli.client.post_json(&path, &body).await?, output).await
        }
        args::Capability::Revoke(name) => {
            let path = format!("/v1/capabilities/{}", name.capability);
            let revoked: Capability = cli.client.delete(&path).await?;
            output.show(&revoked, ended)?;
            output.notice("what was made from it counts no more either")?;
            Ok(Exit::Done)
        }
        args::Capability::List(page) => {
            let mut list: List<Capability> = cli.client.get(&listing("/v1/capabilities", &page, &[])).await?;
            let heads = ["id", "holder", "use", "state", "expires", "rights"];
            let handles = Handles::read(cli, output).await;
            if let Some(name) = &cli.global.agent {
                let agent: Agent = cli.client.get(&format!("/v1/agents/{}", encoded(name))).await?;
                list.items.retain(|capability| capability.holder == agent.id);
            }
            print_list(output, &list, &heads, |capability| row(capability, &handles))
        }
        args::Capability::Check(asked) => {
            let checked = ask(cli, &asked).await?;
            output.show(&checked, verdict)?;
            Ok(if checked.allowed { Exit::Done } else { Exit::Denied })
        }
        args::Capability::Explain(asked) => {
            let checked = ask(cli, &asked).await?;
            output.show(&checked, |checked| {
                let said = checked.capabilities.iter().map(said);
                std::iter::once(verdict(checked)).chain(said).collect::<Vec<_>>().join("\n")
            })?;
            Ok(Exit::Done)
        }
    }
}

async fn ask(cli: &Cli<'_>, asked: &args::CheckCapability) -> Outcome<Checked> {
    let (agent, tool) = (encoded(&asked.name), encoded(&asked.tool));
    let mut path = format!("/v1/agents/{agent}/tools/{tool}/check?arguments={}", encoded(&asked.arguments));
    if let Some(token) = &asked.token {
        path.extend(["&token=", &encoded(token)]);
    }
    cli.client.get(&path).await
}

fn wall(wall: Option<Duration>) -> Outcome<Option<u32>> {
    let millis = wall.map(|wall| u32::try_from(wall.as_millis())).transpose();
    millis.map_err(|_| Error::Usage("--wall is longer than any call".to_owned()))
}

async fn made(cli: &Cli<'_>, made: &CapabilityMade, output: &mut Output<'_>) -> Outcome<Exit> {
    let record = &made.record;
    let handles = Handles::read(cli, output).await;
    output.show(made, |made| {
        pairs(&[
            ("capability", made.record.id.to_string()),
            ("holder", handles.whole(made.record.holder)),
            ("rights", rights(&made.record)),
            ("expires", made.record.expires_at.map(time).unwrap_or_default()),
            ("token", made.token.clone()),
        ])
    })?;
    output.notice(&format!(
        "it counts from the next run of the agent on; take it back with `dromia capability revoke {}`",
        record.id
    ))?;
    Ok(Exit::Done)
}

/// Says how one stands that was taken back, and since when: it may have been taken back before.
fn ended(revoked: &Capability) -> String {
    let since = revoked.revoked_at.map(|at| format!(" since {}", time(at))).unwrap_or_default();
    format!("{} is {}{since}", revoked.id, revoked.state.as_str())
}

fn verdict(checked: &Checked) -> String {
    let said = match checked.rule.split_once(' ') {
        _ if checked.allowed => "allowed",
        Some((Checked::ASK, _)) => "not without a person, who is asked",
        Some((Checked::DELAY, _)) => "not at once: it is put off, and a person may refuse it",
        _ => "denied",
    };
    pairs(&[
        ("call", format!("{} {}", checked.tool, checked.arguments)),
        ("verdict", said.to_owned()),
        ("rule", checked.rule.clone()),
        ("why", checked.reason.clone()),
        ("policy", checked.policy.map(|policy| policy.to_string()).unwrap_or_default()),
    ])
}

fn said(weighed: &Weighed) -> String {
    let whose = weighed.capability.map_or_else(|| "the token".to_owned(), |id| id.to_string());
    let covers = if weighed.covers { "covers it" } else { "does not" };
    format!("{whose} {covers}: {}", weighed.why)
}

fn row(capability: &Capability, handles: &Handles) -> Vec<String> {
    let from = capability.parent.map(|parent| format!(" of {parent}")).unwrap_or_default();
    vec![
        capability.id.to_string(),
        handles.of(capability.holder),
        capability.usage.as_str().to_owned(),
        capability.state.as_str().to_owned(),
        capability.expires_at.map_or_else(|| "never".to_owned(), time),
        format!("{}{from}", rights(capability)),
    ]
}

/// What a capability covers, with the most time of a call.
fn rights(capability: &Capability) -> String {
    let rights = if capability.rights.is_empty() { "all".to_owned() } else { capability.rights.join(" ") };
    match capability.wall_ms_max {
        Some(wall) => format!("{rights}, {wall} ms a call"),
        None => rights,
    }
}

#[cfg(test)]
mod tests {
    use dromia_api::{AgentId, CapabilityId, CapabilityState, CapabilityUse};

    use super::*;

    #[test]
    fn a_verdict_names_the_rule_and_each_capability_its_block() {
        let checked = Checked {
            tool: "file.write".to_owned(),
            arguments: serde_json::json!({"path": "a"}),
            allowed: false,
            rule: "default deny".to_owned(),
            reason: "nothing covers it".to_owned(),
            policy: None,
            capabilities: vec![Weighed {
                capability: Some(CapabilityId::from_bytes([3; 16])),
                covers: false,
                block: Some(1),
                why: "block 1 of its token was revoked".to_owned(),
            }],
        };
        insta::assert_snapshot!(verdict(&checked), @r#"
        call     file.write {"path":"a"}
        verdict  denied
        rule     default deny
        why      nothing covers it
        "#);
        insta::assert_snapshot!(
            said(&checked.capabilities[0]),
            @"cap_03030303030303030303030303030303 does not: block 1 of its token was revoked"
        );
        // What waits is no refusal, and is told as what it is.
        for (rule, said) in
            [("ask permission", "person"), ("delay irreversible", "put off"), ("asked", "denied")]
        {
            let waits = Checked { rule: rule.to_owned(), ..checked.clone() };
            let told = verdict(&waits);
            assert!(told.lines().nth(1).is_some_and(|line| line.contains(said)), "{told}");
        }
    }

    #[test]
    fn a_row_has_the_state_that_the_server_tells_and_what_it_was_made_from() {
        let capability = Capability {
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
        let row = row(&capability, &Handles::default());
        assert_eq!(row[3], "parent_revoked");
        assert!(row[5].starts_with("all, 30000 ms a call of cap_0101"), "{row:?}");
        let at = jiff::Timestamp::UNIX_EPOCH;
        let revoked = Capability { state: CapabilityState::Revoked, revoked_at: Some(at), ..capability };
        let told = ended(&revoked);
        assert!(told.ends_with(&format!(" is revoked since {}", time(at))), "{told}");
    }
}
