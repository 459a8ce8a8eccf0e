//! P17: what tools cost that an agent may not use: turns of an agent with ten tools of the operator's own, on a server that has
//! these ten and on one that has a thousand.

use anyhow::ensure;
use serde_json::{Map, Value, json};

use crate::dromia::{COMPLETED, DromiaServer, InstanceHome};
use crate::load::{LoadExtent, closed_loop};
use crate::measure::{median, ratio_or_zero};
use crate::report::BenchGoal;
use crate::run::PhaseContext;

use super::CONNECTIONS;
use super::plain::{LoadSubject, WARM_UP};

const AGENT: &str = "clerk";
/// How many tools the agent may use.
const GRANTED: usize = 10;
/// How many the larger catalogue has.
const CATALOGUE: usize = 1000;

/// Measures the phase.
pub(crate) async fn measure_tools(scene: &PhaseContext) -> anyhow::Result<Vec<BenchGoal>> {
    let model = scene.start_own_server("model", &["model"]).await?;
    let mut servers = Vec::new();
    for tools in [GRANTED, CATALOGUE] {
        let configuration = configuration(&format!("http://{}/v1", model.listen_address()), tools);
        let home = InstanceHome::create_with_config(&scene.dromia, &scene.dir, &configuration).await?;
        let server = home.start_server(&scene.dir).await?;
        let seen = create_agent(&server).await?;
        ensure!(seen == tools, "the server lists {seen} tools of the configuration, and not {tools}");
        let event = json!({"text": "hello", "wait": true, "agent": AGENT});
        let subject =
            LoadSubject::new(server.child.listen_address(), COMPLETED, server.event_request(&event));
        closed_loop(&subject.load_plan(CONNECTIONS), LoadExtent::For(WARM_UP)).await?;
        servers.push((home, server, subject, Vec::new()));
    }
    for round in 0..scene.scale.rounds {
        // The first of a round is now the one and now the other, so that what slows the machine down slows both.
        for index in [round % 2, 1 - round % 2] {
            let (_, server, subject, cpu) = &mut servers[index];
            cpu.push(subject.together_counting(&server.child).await?.1);
        }
    }
    let Ok([(_few_home, few, alone, cpu_alone), (_many_home, many, within, cpu_within)]) =
        <[_; 2]>::try_from(servers)
    else {
        anyhow::bail!("there are two servers")
    };
    few.child.stop_gracefully().await?;
    many.child.stop_gracefully().await?;
    let failed = alone.failed_count() + within.failed_count();
    let (rate, cpu) = (within.median_rate(), median(&cpu_within));
    let more = ratio_or_zero(cpu, median(&cpu_alone));
    // Two servers take turns on one machine, so their rates differ by more than the goal asks for. What they use does not.
    let note = format!(
        "processor time of a turn of an agent that may use {GRANTED} of {CATALOGUE} tools: < 1 % above that with the {GRANTED} \
         alone, none failed ({failed} did)"
    );
    Ok(vec![
        BenchGoal::with_target("P17", cpu, "us", note, cpu > 0.0 && more < 1.01 && failed == 0)
            .with_ratio(more),
        BenchGoal::without_target("P17.rate", rate, "turns/s", "these turns at 64 connections")
            .with_ratio(ratio_or_zero(rate, alone.median_rate())),
        BenchGoal::without_target("P17.alone", alone.median_rate(), "turns/s", "those with the tools alone"),
    ])
}

/// A configuration with so many tools, the first ten of which are of the family that the agent is granted.
fn configuration(base_url: &str, tools: usize) -> Value {
    let tool = |number: usize| {
        let family = if number < GRANTED { "own" } else { "other" };
        let text = json!({"type": "string", "description": "What it is about."});
        let manifest = json!({
            "description": format!("Does number {number} of many things."),
            "url": "http://127.0.0.1:9/tool",
            "arguments": {"properties": {"text": text, "count": {"type": "integer"}}, "required": ["text"]},
            "effect": "pure",
        });
        (format!("{family}.tool{number}"), manifest)
    };
    let external: Map<String, Value> = (0..tools).map(tool).collect();
    let model = json!({"kind": "openai", "base_url": base_url, "model": "scripted", "stream": false});
    json!({"models": {"default": model}, "tools": {"external": external}})
}

/// Makes the agent, and returns how many tools of the configuration the server lists.
async fn create_agent(server: &DromiaServer) -> anyhow::Result<usize> {
    let config = json!({"model": "default", "grants": ["model", "reply", "own.*"]});
    server.call_api("POST", "/v1/agents", &json!({"handle": AGENT, "config": config})).await?;
    let listed = server.call_api("GET", &format!("/v1/tools?agent={AGENT}"), &Value::Null).await?;
    let names = listed["items"].as_array().into_iter().flatten().filter_map(|tool| tool["name"].as_str());
    Ok(names.filter(|name| name.starts_with("own.") || name.starts_with("other.")).count())
}
