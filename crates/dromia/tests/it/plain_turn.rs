//! What a plain turn costs the store (B1), counted by the store of a real server and not by batches that a test makes: a row
//! that any room adds to a turn is seen here.

use serde_json::{Value, json};

use crate::home::{Home, Server, block_on};

/// How many turns of each kind are looked at.
const TURNS: usize = 5;
/// The commits of a plain turn: input with claim, and answer.
const COMMITS: u64 = 2;
/// The rows of a first turn: the session and its head, the input, the run, two entries and a seal; then two entries, the
/// run, the head and a seal.
const ROWS_OF_A_FIRST_TURN: u64 = 12;
/// A later turn finds its session.
const ROWS_OF_A_LATER_TURN: u64 = 11;

/// What the store wrote.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Written {
    commits: u64,
    rows: u64,
}

async fn written(server: &Server) -> Written {
    let (status, page) = server.get("/v1/status").await;
    assert_eq!(status, 200, "{page}");
    let read = |name: &str| page["store"][name].as_u64().expect("a count");
    Written { commits: read("commits"), rows: read("rows") }
}

/// Takes one turn and returns what it cost, and its answer.
async fn turn(server: &Server, body: &Value, key: Option<String>) -> (Written, Value) {
    let before = written(server).await;
    let mut request = reqwest::Client::new()
        .post(format!("{}/v1/events", server.url))
        .bearer_auth(&server.token)
        .json(body);
    if let Some(key) = key {
        request = request.header("Idempotency-Key", key);
    }
    let (status, answer) = server.send(request).await;
    assert_eq!((status, answer["status"].as_str()), (200, Some("completed")), "{answer}");
    let after = written(server).await;
    (Written { commits: after.commits - before.commits, rows: after.rows - before.rows }, answer)
}

/// Says what is wrong with what turns of one kind cost. Only turns write rows here. A commit may also be of the audit, which
/// marks a checkpoint at the start and once a minute, so the turn with the fewest tells what a turn needs.
fn judged(turns: &[Written], rows: u64) -> Result<(), String> {
    let fewest = turns.iter().map(|turn| turn.commits).min();
    if fewest == Some(COMMITS) && turns.iter().all(|turn| turn.rows == rows) {
        return Ok(());
    }
    Err(format!("a turn is {COMMITS} commits and {rows} rows, and these were {turns:?}"))
}

#[test]
fn a_plain_turn_is_two_commits_and_twelve_rows() {
    let home = Home::new();
    let server = home.serve();
    block_on(async {
        // The first of all pins the prompt, once.
        turn(&server, &json!({"text": "warm", "wait": true}), None).await;
        let (mut first, mut later, mut keyed) = (Vec::new(), Vec::new(), Vec::new());
        for number in 0..TURNS {
            let (cost, answer) = turn(&server, &json!({"text": "hello", "wait": true}), None).await;
            first.push(cost);
            let again = json!({"text": "again", "session": answer["session"], "wait": true});
            later.push(turn(&server, &again, None).await.0);
            let hello = json!({"text": "hello", "wait": true});
            keyed.push(turn(&server, &hello, Some(format!("key-{number}"))).await.0);
        }
        assert_eq!(judged(&first, ROWS_OF_A_FIRST_TURN), Ok(()));
        assert_eq!(judged(&later, ROWS_OF_A_LATER_TURN), Ok(()));
        // Planted: the row of an idempotency key is one more than a plain turn has, and is seen.
        assert!(judged(&keyed, ROWS_OF_A_FIRST_TURN).is_err(), "{keyed:?}");
        assert_eq!(judged(&keyed, ROWS_OF_A_FIRST_TURN + 1), Ok(()));
    });
}

#[test]
fn a_turn_with_an_extra_row_or_commit_is_caught() {
    let plain = Written { commits: COMMITS, rows: ROWS_OF_A_LATER_TURN };
    let marked = Written { commits: COMMITS + 1, ..plain };
    assert_eq!(judged(&[plain, marked, plain], ROWS_OF_A_LATER_TURN), Ok(()));
    assert!(judged(&[marked, marked], ROWS_OF_A_LATER_TURN).is_err());
    let longer = Written { rows: plain.rows + 1, ..plain };
    assert!(judged(&[plain, longer, plain], ROWS_OF_A_LATER_TURN).is_err());
    assert!(judged(&[], ROWS_OF_A_LATER_TURN).is_err());
}
