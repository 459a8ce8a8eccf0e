//! `secret`: set, list, rotate and delete secrets of a tenant, and give up those that no key opens any more. A value comes from a
//! person or a pipe and is never printed.

use std::io::Read as _;

use dromia_api::secret::{RotateSecret, SecretResource, SecretText, SetSecret};
use dromia_api::{ListPage, SecretPlacement};

use super::{Cli, listing_path, print_list, terminal_input};
use crate::args;
use crate::client::percent_encode;
use crate::error::{Error, Outcome};
use crate::exit::CommandExit;
use crate::output::{CommandOutput, format_time};

/// The most bytes that are read of a value; the server takes fewer.
const VALUE_BYTES_MAX: u64 = 64 << 10;

pub(super) async fn run(
    cli: &Cli<'_>,
    command: args::SecretCommand,
    output: &mut CommandOutput<'_>,
) -> Outcome<CommandExit> {
    match command {
        args::SecretCommand::Set(set) => {
            let value = read_secret_value(cli, set.stdin, output).await?;
            let body = SetSecret { name: set.name, value, host: set.host, placement: set.placement };
            let secret: SecretResource = cli.client.post_json("/v1/secrets", &body).await?;
            print_secret(&secret, "set", output)?;
            output.print_notice(&match secret.placement {
                // No call can name it, whatever agents are granted.
                SecretPlacement::Signature => format!(
                    "a channel in dromia.yaml that names it with `secret: secret:{}` signs with it",
                    secret.name
                ),
                // This command does not know which entry of the configuration names it.
                SecretPlacement::Bearer | SecretPlacement::Header(_) | SecretPlacement::Query(_) => format!(
                    "an agent may use it in a call if it has the grant secret:{}; a model or a tool that \
                     names it in dromia.yaml needs no grant",
                    secret.name
                ),
            })?;
        }
        args::SecretCommand::List(page) => {
            let list: ListPage<SecretResource> =
                cli.client.get(&listing_path("/v1/secrets", &page, &[])).await?;
            return print_list(
                output,
                &list,
                &["name", "version", "host", "placement", "changed"],
                secret_row,
            );
        }
        args::SecretCommand::Rotate(rotate) => {
            let value = read_secret_value(cli, rotate.stdin, output).await?;
            let path = format!("/v1/secrets/{}/rotate", percent_encode(&rotate.name));
            let secret: SecretResource = cli.client.post_json(&path, &RotateSecret { value }).await?;
            print_secret(&secret, "rotated", output)?;
        }
        args::SecretCommand::Delete(name) => {
            let question = format!("Delete the secret {}? You cannot get its value back.", name.name);
            cli.confirm(&question, output).await?;
            let secret: SecretResource =
                cli.client.delete(&format!("/v1/secrets/{}", percent_encode(&name.name))).await?;
            print_secret(&secret, "deleted", output)?;
        }
        args::SecretCommand::Reset => {
            let question = format!(
                "Discard all secrets and capabilities of the tenant {}? If you still have vault.key, restore \
                 that file instead.",
                cli.tenant
            );
            cli.confirm(&question, output).await?;
            let erased: ListPage<SecretResource> = cli.client.post("/v1/vault/reset").await?;
            output.print_result(&erased, |erased| {
                let names: Vec<_> = erased.items.iter().map(|secret| secret.name.as_str()).collect();
                match names.len() {
                    0 => "the tenant had no secrets; it has a new key, and its capabilities have ended: grant \
                          them again"
                        .to_owned(),
                    count => format!(
                        "{count} secrets discarded; set them again: {}; the tenant's capabilities have ended: \
                         grant them again",
                        names.join(" ")
                    ),
                }
            })?;
        }
    }
    Ok(CommandExit::Done)
}

fn print_secret(secret: &SecretResource, what: &str, output: &mut CommandOutput<'_>) -> Outcome {
    output.print_result(secret, |secret| {
        format!(
            "{} {what}: version {}, for {} as {}",
            secret.name, secret.version, secret.host, secret.placement
        )
    })
}

/// Reads a value from the pipe, without the line break at its end, or asks the person for it.
async fn read_secret_value(
    cli: &Cli<'_>,
    from_stdin: bool,
    output: &mut CommandOutput<'_>,
) -> Outcome<SecretText> {
    let mut text = String::new();
    if from_stdin {
        let input = &mut output.context_mut().input;
        input.take(VALUE_BYTES_MAX).read_to_string(&mut text).map_err(Error::io_error("read the value"))?;
    } else if cli.global.no_input || !output.context_mut().input_is_terminal {
        return Err(Error::Usage(
            "There is no terminal to ask for the value: pipe it in with --stdin".to_owned(),
        ));
    } else {
        text = terminal_input::read_hidden_line(
            "the value, which is not echoed (or use --stdin and a pipe)",
            output,
        )
        .await?;
    }
    let length = text.trim_end_matches(['\r', '\n']).len();
    text.truncate(length);
    Ok(SecretText(text))
}

fn secret_row(secret: &SecretResource) -> Vec<String> {
    vec![
        secret.name.clone(),
        secret.version.to_string(),
        secret.host.clone(),
        secret.placement.to_string(),
        format_time(secret.changed_at),
    ]
}
