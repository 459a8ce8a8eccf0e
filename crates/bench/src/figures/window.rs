//! P19: a conversation that is several windows long. Its requests stay as large and as alike as one window allows, a late turn
//! costs about what an early one does, and every fact of it is still read word for word.

use std::time::Duration;

use anyhow::{Context as _, ensure};
use serde_json::{Value, json};

use crate::dromia::{DromiaServer, InstanceHome};
use crate::measure::{count_as_f64, median, ratio_or_zero};
use crate::report::BenchGoal;
use crate::run::PhaseContext;

/// The window of the model, in tokens.
const WINDOW: u32 = 32_768;
/// The turns of the conversation.
const TURNS: usize = 1_000;
/// Every so many turns one has a fact that is looked for afterwards.
const FACT_EVERY: usize = 5;
/// How long the last compaction may take.
const COMPACTION_TIME_MAX: Duration = Duration::from_secs(10);

/// A turn of the conversation.
struct MeasuredTurn {
    run: String,
    millis: f64,
    tokens: f64,
}

/// Measures the phase.
pub(crate) async fn measure_window(scene: &PhaseContext) -> anyhow::Result<Vec<BenchGoal>> {
    let configuration =
        json!({"models": {"default": {"kind": "scripted"}}, "context": {"window_tokens": WINDOW}});
    let home = InstanceHome::create_with_config(&scene.dromia, &scene.dir, &configuration).await?;
    let server = home.start_server(&scene.dir).await?;
    let mut turns = Vec::with_capacity(TURNS);
    let mut session = String::new();
    for number in 1..=TURNS {
        let began = std::time::Instant::now();
        let answer = server.complete_turn(&event_body(&fact_text(number))).await?;
        let millis = began.elapsed().as_secs_f64() * 1000.0;
        let tokens = answer["usage"]["input_tokens"].as_u64().context("the answer tells no tokens")?;
        let run = answer["run"].as_str().context("the answer tells no run")?.to_owned();
        answer["session"].as_str().context("the answer tells no session")?.clone_into(&mut session);
        turns.push(MeasuredTurn { run, millis, tokens: count_as_f64(tokens) });
    }
    wait_for_summary(&server, &session).await?;
    let prefix = shared_prefixes(&server, &turns).await?;
    let (found, asked) = read_facts(&server).await?;
    server.child.stop_gracefully().await?;

    let tokens = |from: usize, to: usize| {
        let counts: Vec<f64> = turns[from..to].iter().map(|turn| turn.tokens).collect();
        counts.iter().sum::<f64>() / count_as_f64(counts.len() as u64)
    };
    let millis =
        |from: usize, to: usize| median(&turns[from..to].iter().map(|turn| turn.millis).collect::<Vec<_>>());
    let (early_tokens, late_tokens) = (tokens(100, 200), tokens(TURNS - 100, TURNS));
    let (early, late) = (millis(5, 15), millis(TURNS - 20, TURNS));
    let (larger, slower) = (ratio_or_zero(late_tokens, early_tokens), ratio_or_zero(late, early));
    Ok(vec![
        BenchGoal::with_target(
            "P19.tokens",
            late_tokens,
            "tokens",
            format!("of the requests of turns 901-1,000 in a window of {WINDOW}, over those of turns 101-200: <= 1.2"),
            larger > 0.0 && larger <= 1.2,
        )
        .with_ratio(larger),
        BenchGoal::with_target(
            "P19.late",
            late,
            "ms",
            "the last turns end to end, over the tenth: <= 2",
            slower > 0.0 && slower <= 2.0,
        )
        .with_ratio(slower),
        BenchGoal::with_target(
            "P19.prefix",
            prefix,
            "share",
            "of a request that repeats the beginning of the one before, median of turns 800-1,000: >= 0.9",
            prefix >= 0.9,
        ),
        BenchGoal::with_target(
            "P19.facts",
            count_as_f64(found),
            "facts",
            format!("of {asked} that were said in the conversation are read word for word with past.read"),
            found == asked,
        ),
    ])
}

fn event_body(text: &str) -> Value {
    json!({"text": text, "wait": true, "channel": "long"})
}

/// What is said in a turn; no two turns say the same.
fn fact_text(number: usize) -> String {
    format!(
        "Fact {number}: the code of locker {number} is QX-{}. {}",
        number * 7_919,
        "It stands in the hall. ".repeat(10)
    )
}

async fn wait_for_summary(server: &DromiaServer, session: &str) -> anyhow::Result<()> {
    let until = std::time::Instant::now() + COMPACTION_TIME_MAX;
    loop {
        let context =
            server.call_api("GET", &format!("/v1/sessions/{session}/context"), &Value::Null).await?;
        if context["summaries"].as_array().is_some_and(|summaries| !summaries.is_empty()) {
            return Ok(());
        }
        ensure!(std::time::Instant::now() < until, "the conversation was never compacted: {context}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// Returns the median share of a request that repeats the beginning of the one before.
async fn shared_prefixes(server: &DromiaServer, turns: &[MeasuredTurn]) -> anyhow::Result<f64> {
    let mut before: Option<Vec<String>> = None;
    let mut shares = Vec::new();
    for turn in turns.iter().skip(800) {
        let path = format!("/v1/runs/{}/requests/1", turn.run);
        let request = server.call_api("GET", &path, &Value::Null).await?;
        let messages = request["messages"].as_array().context("the request has no messages")?;
        let messages: Vec<String> = messages.iter().map(Value::to_string).collect();
        if let Some(before) = &before {
            let bytes = |messages: &[String]| messages.iter().map(String::len).sum::<usize>() as u64;
            let shared = before.iter().zip(&messages).take_while(|(a, b)| a == b).count();
            shares.push(ratio_or_zero(
                count_as_f64(bytes(&messages[..shared])),
                count_as_f64(bytes(&messages)),
            ));
        }
        before = Some(messages);
    }
    Ok(median(&shares))
}

/// Has the agent read facts by their positions; returns how many it read word for word, and how many it was asked for.
async fn read_facts(server: &DromiaServer) -> anyhow::Result<(u64, u64)> {
    let (mut found, mut asked) = (0, 0);
    for number in (1..=TURNS).step_by(FACT_EVERY) {
        asked += 1;
        let call = format!("@tool past.read {}", json!({"handle": number.to_string()}));
        let answer = server.complete_turn(&event_body(&call)).await?;
        let run = answer["run"].as_str().context("the answer tells no run")?;
        let journal =
            server.call_api("GET", &format!("/v1/runs/{run}/journal?limit=64"), &Value::Null).await?;
        let entries = journal["entries"].as_array().context("the journal has no entries")?;
        let result = entries.iter().find(|entry| entry["kind"] == "tool_finished");
        let text = result.and_then(|result| result["body"]["parts"][0]["text"].as_str());
        found += u64::from(text == Some(&fact_text(number)));
    }
    Ok((found, asked))
}
