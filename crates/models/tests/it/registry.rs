//! The registry finds an adapter by its alias and nothing else.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use dromia_contracts::model::{LanguageModel as _, ModelRequest};
use dromia_contracts::runtime::Clock;
use dromia_contracts::{BoxFuture, ErrorCode};
use dromia_models::{ContextWindow, HttpConfig, ModelProvider, ModelRegistry, ModelsConfig, WireFormat};
use dromia_testkit::{ManualClock, SimExecutor};

use crate::canned::{Then, answer_once, http};
use crate::scene::{Collected, attempt, egress, request};

fn models(aliases: &[(&str, ModelProvider)]) -> Result<ModelRegistry, dromia_models::ModelsError> {
    let clock: Arc<dyn Clock> = Arc::new(ManualClock::new());
    let models = aliases.iter().map(|(alias, provider)| ((*alias).to_owned(), provider.clone()));
    let models = models.collect::<BTreeMap<_, _>>();
    ModelRegistry::new(ModelsConfig { models, ..ModelsConfig::default() }, &clock, &egress())
}

#[test]
fn the_scripted_model_always_exists_and_others_by_alias() {
    let models = models(&[
        ("default", ModelProvider::Scripted),
        ("gpt", ModelProvider::Http(HttpConfig::new(WireFormat::OpenAiChat, "http://127.0.0.1:1", "gpt-x"))),
    ])
    .expect("good settings");
    assert_eq!(models.aliases().collect::<Vec<_>>(), ["default", "gpt", "scripted"]);
    assert!(models.knows_alias("default") && models.knows_alias("scripted") && !models.knows_alias("gpt-x"));
    let mut asked = request("hello");
    asked.model = "default".to_owned();
    let reply =
        SimExecutor::new(1).block_on(attempt(&models, &asked, &Collected::default())).expect("it ends");
    assert!(reply.expect("an answer").text.contains("scripted model"));
}

#[test]
fn an_unconfigured_alias_is_rejected_and_costs_nothing() {
    let models = models(&[]).expect("good settings");
    let mut asked = request("hello");
    asked.model = "gpt".to_owned();
    let failure = models.prepare_attempt(&asked).expect_err("nobody answers");
    assert_eq!(failure.code, ErrorCode::ModelRejected);
    assert!(failure.message.contains("`dromia model set gpt=PROVIDER/MODEL`"), "{failure}");
}

#[test]
fn bad_settings_name_their_alias_and_not_their_address() {
    let bad = ModelProvider::Http(HttpConfig::new(WireFormat::OpenAiChat, "http://user:canary@host", "m"));
    let error = models(&[("gpt", bad)]).expect_err("a user name in the address");
    assert!(error.to_string().contains("gpt"));
    assert!(!format!("{error:?}").contains("canary"), "{error:?}");
}

async fn server(status: &str, head: &str, body: &str) -> ModelProvider {
    let (address, _, _) = answer_once(http(status, head, body), Then::Close).await;
    let base = HttpConfig::new(WireFormat::OpenAiChat, format!("http://{address}"), "m");
    ModelProvider::Http(HttpConfig { stream: false, ..base })
}

const HELLO: &str = r#"{"choices":[{"message":{"content":"from the stand-in"},"finish_reason":"stop"}]}"#;

#[tokio::test]
async fn a_limited_model_cools_down_and_its_fallback_answers() {
    for status in ["429 Too Many Requests", "502 Bad Gateway", "503 Unavailable", "504 Gateway Timeout"] {
        let clock = ManualClock::new();
        let config = ModelsConfig {
            models: BTreeMap::from([
                ("default".to_owned(), server(status, "retry-after: 40\r\n", "{}").await),
                ("spare".to_owned(), server("200 OK", "", HELLO).await),
            ]),
            fallbacks: BTreeMap::from([(
                "default".to_owned(),
                vec!["spare".to_owned(), "scripted".to_owned()],
            )]),
            ..ModelsConfig::default()
        };
        let clock_port: Arc<dyn Clock> = Arc::new(clock.clone());
        let models = ModelRegistry::new(config, &clock_port, &egress()).expect("good settings");
        let mut asked = request("hello");
        asked.model = "default".to_owned();
        let error = attempt(&models, &asked, &Collected::default()).await.expect_err("it is limited");
        assert_eq!((error.code, error.retry_after), (ErrorCode::ModelUnavailable, Some(Duration::ZERO)));
        let reply = attempt(&models, &asked, &Collected::default()).await.expect("the stand-in answers");
        assert_eq!(reply.text, "from the stand-in");
        clock.advance(Duration::from_secs(39));
        attempt(&models, &asked, &Collected::default()).await.expect_err("the stand-in answers once");
        attempt(&models, &asked, &Collected::default()).await.expect("the next one stands in");
        clock.advance(Duration::from_secs(1));
        let error = attempt(&models, &asked, &Collected::default()).await.expect_err("it is asked again");
        assert_eq!(error.code, ErrorCode::ModelUnavailable);
    }
}

#[tokio::test]
async fn rejections_skip_fallbacks_and_limits_keep_the_providers_wait() {
    let clock: Arc<dyn Clock> = Arc::new(ManualClock::new());
    let config = ModelsConfig {
        models: BTreeMap::from([
            ("strict".to_owned(), server("400 Bad Request", "", "{}").await),
            ("limited".to_owned(), server("429 Too Many Requests", "retry-after: 7\r\n", "{}").await),
        ]),
        fallbacks: BTreeMap::from([("strict".to_owned(), vec!["limited".to_owned()])]),
        ..ModelsConfig::default()
    };
    let models = ModelRegistry::new(config, &clock, &egress()).expect("good settings");
    let mut asked = request("hello");
    asked.model = "strict".to_owned();
    let error = attempt(&models, &asked, &Collected::default()).await.expect_err("it is refused");
    assert_eq!((error.code, error.retry_after), (ErrorCode::ModelRejected, None));
    asked.model = "limited".to_owned();
    let error = attempt(&models, &asked, &Collected::default()).await.expect_err("it is limited");
    assert_eq!(error.retry_after, Some(Duration::from_secs(7)));
}

/// Nobody listens there; a model of it can only be prepared for.
fn nowhere(id: &str, context_tokens: Option<u32>) -> ModelProvider {
    let base = HttpConfig::new(WireFormat::OpenAiChat, "http://127.0.0.1:1", id);
    let base = HttpConfig { provider: Some("local".to_owned()), ..base };
    let window = ContextWindow { context_tokens, output_tokens_max: None };
    ModelProvider::Http(HttpConfig { window, ..base })
}

#[tokio::test]
async fn route_and_omissions_are_chosen_when_an_attempt_is_prepared() {
    let clock = ManualClock::new();
    let config = ModelsConfig {
        models: BTreeMap::from([
            ("default".to_owned(), nowhere("large", Some(100_000))),
            ("spare".to_owned(), nowhere("small", Some(1_000))),
        ]),
        fallbacks: BTreeMap::from([("default".to_owned(), vec!["spare".to_owned()])]),
        ..ModelsConfig::default()
    };
    let clock_port: Arc<dyn Clock> = Arc::new(clock.clone());
    let models = ModelRegistry::new(config, &clock_port, &egress()).expect("good settings");
    let mut asked = request(&"earlier ".repeat(400));
    let newest = request("new").transcript.turns()[0].clone();
    if let dromia_contracts::transcript::TranscriptTurn::Input(newest) = newest {
        asked.transcript.push_input(newest);
    }
    asked.model = "default".to_owned();
    asked.output_tokens_max = 200;
    let first = models.prepare_attempt(&asked).expect("it fits");
    assert_eq!(
        (first.wording.by.as_deref(), first.wording.model.as_str(), first.wording.left_out),
        (None, "large", 0)
    );
    let error = models.call_model(&asked, &first, &Collected::default()).await.expect_err("nobody listens");
    assert_eq!(error.code, ErrorCode::ModelUnavailable);
    assert!(error.message.starts_with("default (local): "), "it names whom it asked: {error}");
    let second = models.prepare_attempt(&asked).expect("the newest fits");
    let worded = (second.wording.by.as_deref(), second.wording.model.as_str(), second.wording.left_out);
    assert_eq!(worded, (Some("spare"), "small", 1), "the stand-in's window decides");
    assert!(
        second.input_tokens < first.input_tokens && second.input_tokens + second.output_tokens_max <= 1_000
    );
    let sent = String::from_utf8_lossy(&second.body);
    assert!(!sent.contains("earlier ") && sent.contains("past.read reads them, handle turn_1"), "{sent}");
    assert_eq!(models.encode_request(&first.wording, &asked), Ok(first.body), "whoever cools down");
    assert_eq!(models.encode_request(&second.wording, &asked), Ok(second.body));
    // What fits nowhere but in the model that cools down is kept for it.
    let long = ModelRequest { model: "default".to_owned(), ..request(&"long ".repeat(4_000)) };
    assert_eq!(models.prepare_attempt(&long).expect("it fits the first").wording.by, None);
    let endless = ModelRequest { model: "default".to_owned(), ..request(&"long ".repeat(400_000)) };
    let error = models.prepare_attempt(&endless).expect_err("it fits nowhere");
    assert_eq!(error.code, ErrorCode::ContextExceeded, "{error}");
}

#[test]
fn a_stand_in_must_be_another_configured_model() {
    let clock: Arc<dyn Clock> = Arc::new(ManualClock::new());
    for bad in [vec!["default"], vec!["gone"], vec!["scripted", "scripted"]] {
        let bad: Vec<_> = bad.into_iter().map(str::to_owned).collect();
        let config = ModelsConfig {
            models: BTreeMap::from([("default".to_owned(), ModelProvider::Scripted)]),
            fallbacks: BTreeMap::from([("default".to_owned(), bad.clone())]),
            ..ModelsConfig::default()
        };
        let error = ModelRegistry::new(config, &clock, &egress()).expect_err("it cannot stand in");
        assert!(error.to_string().contains(&format!("{:?}", bad[bad.len() - 1])), "{error}");
    }
}

/// Has a model and its first stand-in refuse, each for a time of its own, and says where a registry that sees time so chooses
/// another than it must.
async fn check_cooling(seen: impl FnOnce(ManualClock) -> Arc<dyn Clock>) -> Result<(), String> {
    let clock = ManualClock::new();
    let limited = |seconds: u32| format!("retry-after: {seconds}\r\n");
    let config = ModelsConfig {
        models: BTreeMap::from([
            ("default".to_owned(), server("429 Too Many Requests", &limited(40), "{}").await),
            ("spare".to_owned(), server("503 Unavailable", &limited(20), "{}").await),
            ("last".to_owned(), nowhere("last", None)),
        ]),
        fallbacks: BTreeMap::from([("default".to_owned(), vec!["spare".to_owned(), "last".to_owned()])]),
        ..ModelsConfig::default()
    };
    let models = ModelRegistry::new(config, &seen(clock.clone()), &egress()).expect("good settings");
    let asked = ModelRequest { model: "default".to_owned(), ..request("hello") };
    let first = || models.prepare_attempt(&asked).expect("it fits").wording.by;
    for by in [None, Some("spare")] {
        assert_eq!(first().as_deref(), by);
        attempt(&models, &asked, &Collected::default()).await.expect_err("it is limited");
    }
    // Each comes back at its own time, and the order of the chain counts again.
    for (seconds, by) in
        [(0, Some("last")), (19, Some("last")), (1, Some("spare")), (19, Some("spare")), (1, None)]
    {
        clock.advance(Duration::from_secs(seconds));
        let found = first();
        if found.as_deref() != by {
            return Err(format!("{found:?} and not {by:?} after {seconds} s more"));
        }
    }
    Ok(())
}

#[tokio::test]
async fn a_model_that_has_cooled_down_is_asked_first_again() {
    assert_eq!(check_cooling(|clock| Arc::new(clock)).await, Ok(()));
}

/// Planted fault: what cools never has cooled down, as no time passes for it.
#[tokio::test]
async fn a_model_that_stays_cold_is_caught() {
    #[derive(Debug)]
    struct StoppedClock(ManualClock, jiff::Timestamp);

    impl Clock for StoppedClock {
        fn now(&self) -> jiff::Timestamp {
            self.1
        }

        fn sleep_until(&self, at: jiff::Timestamp) -> BoxFuture<'static, ()> {
            self.0.sleep_until(at)
        }

        fn monotonic_now(&self) -> Duration {
            self.0.monotonic_now()
        }

        fn sleep(&self, wait: Duration) -> BoxFuture<'static, ()> {
            self.0.sleep(wait)
        }
    }

    let caught = check_cooling(|clock| {
        let now = clock.now();
        Arc::new(StoppedClock(clock, now))
    });
    caught.await.expect_err("nothing notices it");
}
