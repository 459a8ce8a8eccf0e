//! The wording of hints for the client that reads them: the command line reads commands, a client of HTTP reads routes.
//!
//! Hints are written once, as commands. A command without a route, such as one for the operator of the machine, stays.

use std::borrow::Cow;

/// What a hint names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum HintWording {
    /// Commands, for the Unix socket.
    Commands,
    /// Routes of HTTP, for the TCP port.
    Routes,
}

/// How a command begins in a hint.
const COMMAND: &str = "`dromia ";

/// Commands with the route that does the same. What follows the words of a command takes the place of `NAME` in its route.
const ROUTES_OF_COMMANDS: [(&str, &str); 31] = [
    ("agent create", "POST /v1/agents"),
    ("agent history", "GET /v1/agents/NAME/revisions"),
    ("agent identity list", "GET /v1/agents/NAME/identity"),
    ("agent list", "GET /v1/agents"),
    ("agent resume", "POST /v1/agents/NAME/resume"),
    ("approval approve", "POST /v1/approvals/NAME/answer"),
    ("approval deny", "POST /v1/approvals/NAME/answer"),
    ("approval list", "GET /v1/approvals"),
    ("approval rule list", "GET /v1/approval-rules"),
    ("approval rule remove", "DELETE /v1/approval-rules/NAME"),
    ("approval show", "GET /v1/approvals/NAME"),
    ("audit query", "GET /v1/audit"),
    ("budget list", "GET /v1/budgets"),
    ("capability grant", "POST /v1/capabilities"),
    ("capability list", "GET /v1/capabilities"),
    ("delivery list", "GET /v1/deliveries"),
    ("delivery redrive", "POST /v1/deliveries/NAME/redrive"),
    ("role list", "GET /v1/worker-roles"),
    ("run cancel", "POST /v1/runs/NAME/cancel"),
    ("run export", "GET /v1/runs/NAME/journal"),
    ("run list", "GET /v1/runs"),
    ("run resume", "POST /v1/runs/NAME/resume"),
    ("run show", "GET /v1/runs/NAME"),
    ("run why", "GET /v1/runs/NAME/why"),
    ("secret delete", "DELETE /v1/secrets/NAME"),
    ("secret list", "GET /v1/secrets"),
    ("session list", "GET /v1/sessions"),
    ("session show", "GET /v1/sessions/NAME"),
    ("template list", "GET /v1/templates"),
    ("token list", "GET /v1/tokens"),
    ("tool list", "GET /v1/tools"),
];

/// Writes a hint for a client of HTTP.
pub(crate) fn word_for_http(hint: &str) -> Cow<'_, str> {
    if !hint.contains(COMMAND) && !hint.contains("--agent") {
        return Cow::Borrowed(hint);
    }
    let hint = hint.replace("--agent", "`agent`");
    let mut pieces = hint.split(COMMAND);
    let mut worded = pieces.next().unwrap_or_default().to_owned();
    for piece in pieces {
        let (command, rest) = piece.split_once('`').unwrap_or((piece, ""));
        match route_of(command) {
            Some(route) => worded.extend(["`", &route, "`", rest]),
            None => worded.extend([COMMAND, piece]),
        }
    }
    Cow::Owned(worded)
}

/// Finds the route that does what a command does, with the name that the command has.
fn route_of(command: &str) -> Option<String> {
    let is_of = |words: &str| {
        let rest = command.strip_prefix(words);
        rest.is_some_and(|rest| rest.is_empty() || rest.starts_with(' '))
    };
    let (words, route) = ROUTES_OF_COMMANDS.iter().find(|(words, _)| is_of(words))?;
    let name = command[words.len()..].split(' ').find(|word| !word.is_empty() && !word.starts_with("--"));
    Some(name.map_or_else(|| (*route).to_owned(), |name| route.replace("NAME", name)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::routes::ROUTES;

    #[test]
    fn a_client_of_http_reads_routes() {
        for (hint, worded) in [
            ("list the agents with `dromia agent list`", "list the agents with `GET /v1/agents`"),
            (
                "see why with `dromia run why run_1`; then `dromia run resume`",
                "see why with `GET /v1/runs/run_1/why`; then `POST /v1/runs/NAME/resume`",
            ),
            ("list them: `dromia approval list --all`", "list them: `GET /v1/approvals`"),
            ("name one with --agent", "name one with `agent`"),
            // What an operator does, and what is no command.
            ("run `dromia doctor`, and restore", "run `dromia doctor`, and restore"),
            ("`GET /openapi.json` lists the routes", "`GET /openapi.json` lists the routes"),
        ] {
            assert_eq!(word_for_http(hint), worded);
        }
    }

    #[test]
    fn every_route_of_a_hint_is_served() {
        for (command, route) in ROUTES_OF_COMMANDS {
            let (method, path) = route.split_once(' ').expect("a method and a path");
            let is_same = |served: &str| {
                let mut pairs = served.split('/').zip(path.split('/'));
                let alike = pairs.all(|(served, named)| served == named || named == "NAME");
                alike && served.matches('/').count() == path.matches('/').count()
            };
            let served = ROUTES.iter().any(|known| known.method == method && is_same(known.path));
            assert!(served, "{command}: {route}");
        }
    }
}
