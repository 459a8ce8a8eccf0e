//! The registry finds an adapter by its alias and nothing else.

use std::collections::BTreeMap;
use std::sync::Arc;

use dromia_contracts::ErrorCode;
use dromia_contracts::model::Model as _;
use dromia_contracts::runtime::Clock;
use dromia_models::{Format, HttpConfig, Models, ModelsConfig, Provider};
use dromia_testkit::{ManualClock, Sim};

use crate::scene::{Collected, request};

fn models(aliases: &[(&str, Provider)]) -> Result<Models, dromia_models::ModelsError> {
    rustls::crypto::ring::default_provider().install_default().ok();
    let clock: Arc<dyn Clock> = Arc::new(ManualClock::new());
    let models = aliases.iter().map(|(alias, provider)| ((*alias).to_owned(), provider.clone()));
    Models::new(ModelsConfig { models: models.collect::<BTreeMap<_, _>>() }, &clock)
}

#[test]
fn the_scripted_model_is_always_there_and_others_go_by_their_alias() {
    let models = models(&[
        ("default", Provider::Scripted),
        ("gpt", Provider::Http(HttpConfig::new(Format::OpenAiChat, "http://127.0.0.1:1", "gpt-x"))),
    ])
    .expect("good settings");
    assert_eq!(models.aliases().collect::<Vec<_>>(), ["default", "gpt", "scripted"]);
    assert!(models.knows("default") && models.knows("scripted") && !models.knows("gpt-x"));
    let mut asked = request("hello");
    asked.model = "default".to_owned();
    let reply = Sim::new(1).block_on(models.call(&asked, &Collected::default())).expect("it ends");
    assert!(reply.expect("an answer").text.contains("scripted model"));
}

#[test]
fn an_alias_that_nobody_configured_is_rejected_and_costs_nothing() {
    let models = models(&[]).expect("good settings");
    let mut asked = request("hello");
    asked.model = "gpt".to_owned();
    assert_eq!(models.reserve(&asked).micros, 0);
    let failure = Sim::new(1).block_on(models.call(&asked, &Collected::default())).expect("it ends");
    assert_eq!(failure.expect_err("nobody answers").code, ErrorCode::ModelRejected);
}

#[test]
fn bad_settings_name_their_alias_and_not_their_address() {
    let bad = Provider::Http(HttpConfig::new(Format::OpenAiChat, "http://user:canary@host", "m"));
    let error = models(&[("gpt", bad)]).expect_err("a user name in the address");
    assert!(error.to_string().contains("gpt"));
    assert!(!format!("{error:?}").contains("canary"), "{error:?}");
}
