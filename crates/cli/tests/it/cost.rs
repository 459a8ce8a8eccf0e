//! `cost` against a scripted server: it asks until nothing follows, and adds up what comes.

use dromia_cli::CommandExit;

use crate::server::Server;

const RUN: &str = "run_0199c0de000000000000000000000000";

fn spent(cost: u64) -> String {
    format!(r#"{{"model_calls":1,"input_tokens":3,"output_tokens":5,"cost_micros":{cost}}}"#)
}

fn sum(key: &str, cost: u64, next: &str) -> String {
    let spent = spent(cost);
    format!(
        r#"{{"since":"2026-01-01T03:04:05Z","by":"model","runs":1,"total":{spent},
        "groups":[{{"key":"{key}","runs":1,"spent":{spent}}}],"next":{next}}}"#
    )
}

fn attempt(seq: u64, charge: &str, cost: u64, failure: &str) -> String {
    format!(
        r#"{{"seq":{seq},"at":"2026-01-02T03:04:05Z","step":1,"attempt":{seq},"model":"small","input_tokens":3,
        "output_tokens":5,"reserved_micros":70,"cost_micros":{cost},"charge":"{charge}"{failure}}}"#
    )
}

fn cost(attempt: &str, next: &str) -> String {
    let (own, total) = (spent(112), spent(119));
    format!(
        r#"{{"run":"{RUN}","status":"yielded","last_seq":9,"self":{own},"total":{total},
        "resumed_by":["run_0199c0de000000000000000000000001"],"attempts":[{attempt}],"next":{next}}}"#
    )
}

#[tokio::test]
async fn a_summary_follows_pages_from_one_start_time() {
    let server = Server::new(|_, before| match before {
        0 => (200, sum("small", 5, &format!("\"{RUN}\""))),
        1 => (200, sum("large", 9, "null")),
        _ => panic!("asked too often"),
    });
    let ended = server.run(&["cost", "summary", "--since", "24h", "--by", "model", "--agent", "a b"]).await;
    assert_eq!((ended.exit, ended.err.as_str()), (CommandExit::Done, ""));
    assert_eq!(
        server.lines(),
        [
            "GET /v1/cost?by=model&since=24h&agent=a%20b".to_owned(),
            format!("GET /v1/cost?by=model&since=2026-01-01T03%3A04%3A05Z&agent=a%20b&after={RUN}"),
        ]
    );
    insta::assert_snapshot!(ended.out, @r"
    MODEL  RUNS  CALLS  IN  OUT  UNPRICED  COST USD
    large  1     1      3   5    0         0.000009
    small  1     1      3   5    0         0.000005
    total  2     2      6   10   0         0.000014
    ");
}

#[tokio::test]
async fn a_run_is_shown_with_all_its_attempts() {
    let server = Server::new(|_, before| match before % 2 {
        0 => (200, cost(&attempt(2, "reservation", 70, r#","failure":"outcome_unknown""#), "4")),
        _ => (200, cost(&attempt(5, "report", 42, ""), "null")),
    });
    let ended = server.run(&["cost", "show", RUN]).await;
    let paths = [0, 4].map(|after| format!("GET /v1/runs/{RUN}/cost?after={after}&limit=256"));
    assert_eq!(server.lines(), paths);
    insta::assert_snapshot!(ended.out, @r"
    run         run_0199c0de000000000000000000000000
    status      yielded
    self        0.000112 USD (model calls: 1, tokens: 3 in, 5 out)
    total       0.000119 USD (model calls: 1, tokens: 3 in, 5 out)
    resumed by  run_0199c0de000000000000000000000001

    STEP  ATTEMPT  BEGAN                 MODEL  IN  OUT  RESERVED  COST      CHARGED BY
    1     2        2026-01-02 03:04:05Z  small  3   5    0.000070  0.000070  reservation (outcome_unknown)
    1     5        2026-01-02 03:04:05Z  small  3   5    0.000070  0.000042  report
    ");
    let json = server.run(&["cost", "show", RUN, "--json"]).await;
    let document: serde_json::Value = serde_json::from_str(&json.out).unwrap();
    assert_eq!(document["attempts"].as_array().unwrap().len(), 2);
    assert_eq!(
        (&document["self"]["cost_micros"], &document["next"]),
        (&112.into(), &serde_json::Value::Null)
    );
}
