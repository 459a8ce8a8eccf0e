//! Two tenants on one gateway: over its routes each is answered as if the other said nothing.
//!
//! The same random requests of one tenant meet a gateway on which another tenant asks as much, about its own things and
//! about ours, under the same keys, and one on which it is silent. Ids come from one counter, so they are compared by
//! the order in which a tenant meets them; all else is compared byte for byte.

use dromia_testkit::sim::SeededRng;

use crate::client::{Answer, authorized, full, request};
use crate::described::Operation;
use crate::world::{House, World};

/// How many requests of each tenant are made for each that the stores are asked; see `DROMIA_TENANT_OPS`.
const SHARE: usize = 10;
const OPERATIONS: usize = 5_000;
/// The requests of one world.
const WORLD_OPS: usize = 100;

/// What leaves a tenant with little to ask; it waits for the last part of a world.
const ENDS: [&str; 3] =
    ["DELETE /v1/agents/{agent}", "DELETE /v1/tokens/{token}", "POST /v1/agents/{agent}/terminate"];

/// A request that either tenant may make.
struct Asked<'a> {
    operation: &'a Operation,
    /// Whether it is about what the other tenant has.
    is_strange: bool,
    key: Option<usize>,
}

impl<'a> Asked<'a> {
    fn draw(operations: &'a [Operation], dice: &mut SeededRng, is_late: bool) -> Self {
        let operation = loop {
            let drawn = &operations[dice.draw_below(operations.len())];
            if is_late || !ENDS.contains(&drawn.line().as_str()) {
                break drawn;
            }
        };
        Self {
            operation,
            is_strange: dice.draw_below(4) == 0,
            key: (operation.method == "POST" && dice.draw_below(3) == 0).then(|| dice.draw_below(4)),
        }
    }

    async fn by(&self, world: &World, own: &House, other: &House) -> Answer {
        let about = if self.is_strange { other } else { own };
        let asked = authorized(request(&self.operation.method, &self.operation.path(about)), &own.token);
        let asked = match self.key {
            Some(key) => asked.header("idempotency-key", format!("k{key}")),
            None => asked,
        };
        world.tcp(asked.body(full(&self.operation.body(about))).unwrap()).await
    }
}

/// The ids that a tenant has met, in order.
#[derive(Default)]
struct Met(Vec<String>);

/// The fewest hex digits of what is an id or a digest: those of a request are the shortest.
const DIGITS_MIN: usize = 18;

impl Met {
    /// Puts the number of each id in its place.
    fn without_ids(&mut self, text: &str) -> String {
        let mut plain = String::new();
        let mut rest = text;
        while !rest.is_empty() {
            let is_digit = |c: char| c == '-' || matches!(c, '0'..='9' | 'a'..='f');
            let (digits, after) = rest.split_at(rest.find(|c: char| !is_digit(c)).unwrap_or(rest.len()));
            if digits.bytes().filter(|b| *b != b'-').count() >= DIGITS_MIN {
                let known = self.0.iter().position(|id| id == digits).unwrap_or_else(|| {
                    self.0.push(digits.to_owned());
                    self.0.len() - 1
                });
                plain.push('#');
                plain.push_str(&known.to_string());
            } else {
                plain.push_str(digits);
            }
            let other = after.find(is_digit).unwrap_or(after.len());
            plain.push_str(&after[..other]);
            rest = &after[other..];
        }
        plain
    }

    fn read(&mut self, answer: &Answer) -> String {
        let media = answer.headers.get("content-type");
        self.without_ids(&format!("{} {media:?} {}", answer.status, String::from_utf8_lossy(&answer.body)))
    }
}

/// A leak between the two tenants that is planted in a world.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum PlantedLeak {
    /// Agents of the other tenant become ours.
    Agents,
    /// The gateway takes our tenant for the only one, so it shows it the counters of the whole node.
    NodeCounters,
    /// The engine gives a tenant the usage of both.
    UsageSeries,
}

/// Plays a world and counts the requests that were answered well, or says which answer another tenant changed.
async fn play(seed: u64, leak: Option<PlantedLeak>) -> Result<usize, String> {
    let (beside, alone) = (World::new().await, World::new().await);
    if leak == Some(PlantedLeak::NodeCounters) {
        for world in [&beside, &alone] {
            world.rooms.lock().tenants.retain(|tenant| tenant.id == world.ours.tenant);
        }
    }
    beside.rooms.lock().leaks_usage = leak == Some(PlantedLeak::UsageSeries);
    let mut operations = beside.operations().await;
    operations.retain(Operation::is_of_a_tenant);
    let mut dice = SeededRng::new(seed);
    let (mut met_beside, mut met_alone) = (Met::default(), Met::default());
    let mut answered = 0;
    for step in 0..WORLD_OPS {
        let is_late = step * 4 > WORLD_OPS * 3;
        for _ in 0..dice.draw_below(3) {
            let theirs = Asked::draw(&operations, &mut dice, is_late);
            drop(theirs.by(&beside, &beside.theirs, &beside.ours).await);
        }
        if leak == Some(PlantedLeak::Agents) {
            for (tenant, ..) in &mut beside.rooms.lock().agents {
                *tenant = beside.ours.tenant;
            }
        }
        let asked = Asked::draw(&operations, &mut dice, is_late);
        let from_beside = asked.by(&beside, &beside.ours, &beside.theirs).await;
        let from_alone = asked.by(&alone, &alone.ours, &alone.theirs).await;
        answered += usize::from(from_alone.status.is_success());
        let (from_beside, from_alone) = (met_beside.read(&from_beside), met_alone.read(&from_alone));
        if from_beside != from_alone {
            let line = asked.operation.line();
            return Err(format!(
                "world {seed}, request {step}, {line}, about a stranger: {}\n  beside another: {from_beside}\n  alone: \
                 {from_alone}",
                asked.is_strange
            ));
        }
    }
    beside.stop.cancel();
    alone.stop.cancel();
    Ok(answered)
}

#[tokio::test]
#[expect(clippy::print_stdout, reason = "a long run says how far it is, and what was played")]
async fn the_routes_answer_a_tenant_as_if_it_were_alone() {
    let asked = std::env::var("DROMIA_TENANT_OPS").ok();
    let asked: usize = asked.map_or(OPERATIONS, |text| text.parse().expect("it is a number"));
    let worlds = asked.div_ceil(SHARE * WORLD_OPS);
    let mut answered = 0;
    for seed in 0..worlds {
        answered += play(seed as u64, None).await.unwrap_or_else(|leak| panic!("{leak}"));
        if seed % 20 == 19 {
            println!("routes: {} requests in {} worlds", (seed + 1) * WORLD_OPS, seed + 1);
        }
    }
    let all = worlds * WORLD_OPS;
    println!("routes: {all} requests of a tenant, {answered} answered well, none otherwise than alone");
    assert!(answered * 3 > all, "{answered} of {all} requests were answered well, so little was looked at");
}

#[tokio::test]
async fn a_gateway_that_shows_a_strangers_agents_is_caught() {
    let found = play(1, Some(PlantedLeak::Agents)).await.expect_err("agents of the other tenant are shown");
    assert!(found.contains("beside another"), "{found}");
}

/// Planted fault: a token reads the counters of the whole node, and with them what another tenant does.
#[tokio::test]
async fn a_gateway_that_shows_tenants_the_node_counters_is_caught() {
    // Not every world asks for the counters.
    const WORLDS_MAX: u64 = 20;
    for seed in 0..WORLDS_MAX {
        match play(seed, Some(PlantedLeak::NodeCounters)).await {
            Err(found) if found.contains("GET /metrics") || found.contains("GET /v1/status") => return,
            Err(found) => panic!("something else was found: {found}"),
            Ok(_) => {}
        }
    }
    panic!("nothing notices it in {WORLDS_MAX} worlds");
}

/// Planted fault: a token is given the series of another tenant.
#[tokio::test]
async fn a_token_that_reads_another_tenants_series_is_caught() {
    const WORLDS_MAX: u64 = 20;
    for seed in 0..WORLDS_MAX {
        match play(seed, Some(PlantedLeak::UsageSeries)).await {
            Err(found) if found.contains("GET /metrics") => return,
            Err(found) => panic!("something else was found: {found}"),
            Ok(_) => {}
        }
    }
    panic!("nothing notices it in {WORLDS_MAX} worlds");
}

#[test]
fn ids_are_distinguished_by_their_order() {
    let (id, other) = ("0199".repeat(8), "0200".repeat(8));
    let mut met = Met::default();
    let text = format!("{{\"a\":\"run_{id}\",\"b\":\"run_{other}\",\"c\":\"ses_{id}\",\"n\":17}}");
    assert_eq!(met.without_ids(&text), r#"{"a":"run_#0","b":"run_#1","c":"ses_#0","n":17}"#);
    assert_eq!(met.without_ids(&other), "#1");
}
