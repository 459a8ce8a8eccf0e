//! Makes tokens of recipes and reads tokens, for the property of `dromia_testkit::fuzz::token`.

use std::collections::BTreeSet;

use dromia_contracts::AgentId;
use dromia_contracts::runtime::Clock as _;
use dromia_guard::capability::{AccessRequest, CapabilityToken, ROOT_ID, Resource, Right, RootKey, RootKeys};
use dromia_testkit::ManualClock;
use dromia_testkit::fuzz::{self, TokenRead};

/// The most blocks of a recipe.
const BLOCKS_MAX: u8 = 6;

/// What the holder of a token is asked about.
const PLACES: [&str; 8] = [
    "file:read:docs/a",
    "file:write:docs/a",
    "file:write:docs/b/c",
    "file:write:src/main.rs",
    "net:http:api.example.com",
    "net:http:example.org",
    "tool:shell.execute",
    "tool:exec",
];

fn root() -> RootKey {
    RootKey::new(ROOT_ID, &[7; 32]).expect("32 bytes are a key")
}

fn rights(line: &str) -> Vec<Right> {
    line.split(' ').filter_map(|text| Resource::parse(text).ok()).map(Right::unlimited).collect()
}

fn made(recipe: &str) -> Option<Vec<u8>> {
    let mut lines = (1..=BLOCKS_MAX).zip(recipe.lines());
    let agent = |number: u8| AgentId::from_bytes([number; 16]);
    let (first, line) = lines.next()?;
    let mut token = CapabilityToken::grant_rights(&root(), agent(first), &rights(line), &[first; 32]).ok()?;
    for (number, line) in lines {
        token = token.narrow_rights(Some(agent(number)), &rights(line), &[number; 32]).ok()?;
    }
    token.to_bytes().ok()
}

fn opened(bytes: &[u8]) -> Result<TokenRead, String> {
    let roots = RootKeys::new(vec![root().public_root()]).map_err(|error| error.to_string())?;
    let token = roots.open_token(bytes).map_err(|error| error.to_string())?;
    let presenter = *token.holders().last().expect("a token says whose it is");
    let at = ManualClock::new().now();
    let is_allowed = |place: &&&str| {
        let resource = Resource::parse(place).expect("a place");
        let asked = AccessRequest { presenter, resource: &resource, wall_ms: 1, at };
        token.check_access(&asked, &BTreeSet::new()).is_ok()
    };
    Ok(TokenRead {
        holders: token.holders().iter().map(ToString::to_string).collect(),
        bytes: token.to_bytes().map_err(|error| error.to_string())?,
        allows: PLACES.iter().filter(is_allowed).map(|place| (*place).to_owned()).collect(),
    })
}

/// What must hold of any bytes.
pub(crate) fn property(data: &[u8]) {
    fuzz::token(made, opened, data);
}

/// Tells whether a recipe makes a token that allows something.
#[cfg(test)]
pub(crate) fn is_made(data: &[u8]) -> bool {
    let recipe = data.split(|byte| *byte == 0).next().unwrap_or_default();
    let made = std::str::from_utf8(recipe).ok().and_then(made);
    made.and_then(|bytes| opened(&bytes).ok()).is_some_and(|read| !read.allows.is_empty())
}
