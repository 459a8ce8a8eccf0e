//! `secret`: set, list, rotate and delete secrets of a tenant, and give up those that no key opens any more. A value comes from a
//! person or a pipe and is never printed.

use std::io::Read as _;

use dromia_api::secret::{RotateSecret, Secret, SecretText, SetSecret};
use dromia_api::{List, Placement};

use super::{Cli, listing, print_list, typed};
use crate::args;
use crate::client::encoded;
use crate::error::{Error, Outcome};
use crate::exit::Exit;
use crate::output::{Output, time};

/// The most bytes that are read of a value; the server takes fewer.
const VALUE_BYTES_MAX: u64 = 64 << 10;

pub(super) async fn run(cli: &Cli<'_>, command: args::Secret, output: &mut Output<'_>) -> Outcome<Exit> {
    match command {
        args::Secret::Set(set) => {
            let value = value(cli, set.stdin, output).await?;
            let body = SetSecret { name: set.name, value, host: set.host, placement: set.placement };
            let secret: Secret = cli.client.post_json("/v1/secrets", &body).await?;
            show(&secret, "set", output)?;
            output.notice(&match secret.placement {
                // No call can name it, whoever is granted it.
                Placement::Signature => format!(
                    "a channel signs with it once dromia.yaml says `secret: secret:{}` of the channel",
                    secret.name
                ),
                // What the configuration names it for, nobody here knows.
                Placement::Bearer | Placement::Header(_) | Placement::Query(_) => format!(
                    "an agent may name it in a call once it is granted secret:{}; a model or a tool whose entry in dromia.yaml \
                     names it needs no grant of it",
                    secret.name
                ),
            })?;
        }
        args::Secret::List(page) => {
            let list: List<Secret> = cli.client.get(&listing("/v1/secrets", &page, &[])).await?;
            return print_list(output, &list, &["name", "version", "host", "placement", "changed"], row);
        }
        args::Secret::Rotate(rotate) => {
            let value = value(cli, rotate.stdin, output).await?;
            let path = format!("/v1/secrets/{}/rotate", encoded(&rotate.name));
            let secret: Secret = cli.client.post_json(&path, &RotateSecret { value }).await?;
            show(&secret, "rotated", output)?;
        }
        args::Secret::Delete(name) => {
            let question = format!("Delete the secret {}? Its value cannot be had back.", name.name);
            cli.confirm(&question, output).await?;
            let secret: Secret = cli.client.delete(&format!("/v1/secrets/{}", encoded(&name.name))).await?;
            show(&secret, "deleted", output)?;
        }
        args::Secret::Reset => {
            let question = format!(
                "Give up all secrets of the tenant {}, and its capabilities? If vault.key is not lost for good, put it back \
                 instead.",
                cli.tenant
            );
            cli.confirm(&question, output).await?;
            let erased: List<Secret> = cli.client.post("/v1/vault/reset").await?;
            output.show(&erased, |erased| {
                let names: Vec<_> = erased.items.iter().map(|secret| secret.name.as_str()).collect();
                match names.len() {
                    0 => "there was no secret; the tenant has a new key, and its capabilities have ended: grant them anew"
                        .to_owned(),
                    count => format!(
                        "{count} given up; set them anew: {}; the tenant's capabilities have ended: grant them anew",
                        names.join(" ")
                    ),
                }
            })?;
        }
    }
    Ok(Exit::Done)
}

fn show(secret: &Secret, what: &str, output: &mut Output<'_>) -> Outcome {
    output.show(secret, |secret| {
        format!(
            "{} {what}: version {}, for {} as {}",
            secret.name, secret.version, secret.host, secret.placement
        )
    })
}

/// Reads a value from the pipe, without the line break at its end, or asks the person for it.
async fn value(cli: &Cli<'_>, from_stdin: bool, output: &mut Output<'_>) -> Outcome<SecretText> {
    let mut text = String::new();
    if from_stdin {
        let input = &mut output.context().input;
        input.take(VALUE_BYTES_MAX).read_to_string(&mut text).map_err(Error::io("read the value"))?;
    } else if cli.global.no_input || !output.context().input_is_terminal {
        return Err(Error::Usage("Nobody can be asked for the value: pipe it in with --stdin".to_owned()));
    } else {
        text = typed::hidden("the value", output).await?;
    }
    let length = text.trim_end_matches(['\r', '\n']).len();
    text.truncate(length);
    Ok(SecretText(text))
}

fn row(secret: &Secret) -> Vec<String> {
    vec![
        secret.name.clone(),
        secret.version.to_string(),
        secret.host.clone(),
        secret.placement.to_string(),
        time(secret.changed_at),
    ]
}
