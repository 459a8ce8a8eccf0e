//! One layer: files of one package, compiled once and asked often.
//!
//! A layer with a term that would fail whenever it is reached is not made; one that fails for a question of [`samples`]
//! is reported by [`PolicyLayer::probe_samples`], before it counts.
//!
//! A layer has no network, no clock, no file and no randomness: of the interpreter's functions that could reach them none
//! is built, and `rand.intn` fails. Each evaluation has [`TIME_MAX`] and gives at most [`SAID_MAX`] verdicts; what
//! exceeds a bound, or says something else than a verdict, is broken, and the caller denies. The interpreter looks at its timer
//! between its steps and not within a function, so what others wrote is evaluated in a [worker](super::worker).

use std::collections::BTreeSet;
use std::num::NonZeroU32;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use dromia_contracts::digest::Digest;
use regorus::utils::limits::ExecutionTimerConfig;
use regorus::{CompiledPolicy, Engine, Value};
use serde::{Deserialize, Serialize};

use super::problem::PolicyProblem;
use super::recursion;
use super::samples;
use super::static_checks::{self, FileRules, NO_SET, RANDOM, SHAPE};
use super::verdict::{PACKAGE, PolicyVerdict, is_rule};

/// The most files of a layer.
pub const FILES_MAX: usize = 64;
/// The most bytes of one file.
pub const BYTES_MAX: usize = 256 << 10;
/// The most verdicts of one evaluation.
pub const SAID_MAX: usize = 256;
/// The most time of one evaluation, far above what is usual: it is there for a policy without an end, and a busy machine
/// stops a thread for a second. Whatever takes longer is refused, so a short time would refuse what is allowed.
pub const TIME_MAX: Duration = Duration::from_secs(3);

/// After so many steps of an evaluation the time is looked at.
const STEPS: NonZeroU32 = NonZeroU32::new(32).expect("it is not zero");
const VERDICTS: &str = "data.dromia.policy.verdicts";
const REASON_CHARS_MAX: usize = 300;

/// A file of a layer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PolicyText {
    /// Its name, as problems name it.
    pub name: String,
    /// Its content.
    pub text: String,
}

/// What one rule says about one action.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RuleVerdict {
    /// The verdict.
    pub call: PolicyVerdict,
    /// The name of the rule.
    pub rule: String,
    /// Why.
    pub reason: String,
}

/// A compiled layer.
#[derive(Debug)]
pub struct PolicyLayer {
    // Evaluating needs a machine of its own; a copy of one that is ready is cheap.
    ready: Mutex<Engine>,
    digest: Digest,
    name: String,
    texts: Box<[PolicyText]>,
    files: Vec<FileRules>,
    /// The files of which the log has said that they broke on a question.
    told: Mutex<BTreeSet<String>>,
}

impl PolicyLayer {
    /// Compiles the files of a layer, and looks up every function that they call.
    pub fn compile_layer(name: &str, files: &[PolicyText]) -> Result<Self, PolicyProblem> {
        let mut engine = read_engine(name, files, FILES_MAX)?;
        compile_engine(name, &mut engine)?;
        let modules = engine.get_modules();
        static_checks::check_modules(modules)?;
        recursion::check_recursion(modules)?;
        let rules = static_checks::count_rules(modules);
        let (ready, told) = (Mutex::new(engine), Mutex::default());
        let (name, texts) = (name.to_owned(), files.into());
        Ok(Self { ready, digest: texts_digest(files), name, texts, files: rules, told })
    }

    /// Asks the layer every sample of a question in this process, and says what it cannot answer.
    pub fn probe_samples(&self) -> Result<(), PolicyProblem> {
        for sample in samples::all_samples() {
            self.ask_question(&Value::from(sample.question.clone()))
                .map_err(|problem| sample.with_subject(problem))?;
        }
        Ok(())
    }

    /// What each of its files says, in their order.
    pub fn layer_files(&self) -> &[FileRules] {
        &self.files
    }

    /// The name of the layer.
    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// Returns the texts of its files.
    pub(super) fn file_texts(&self) -> &[PolicyText] {
        &self.texts
    }

    /// Tells whether a problem is the first of its file, so that it is logged; each file is logged once.
    pub(super) fn is_first(&self, problem: &PolicyProblem) -> bool {
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        // Its files and itself: whatever else a problem names does not make it grow.
        told.len() <= self.files.len() && told.insert(problem.file.clone())
    }

    /// The digest of what its files say.
    pub fn files_digest(&self) -> Digest {
        self.digest
    }

    /// Asks the layer, in this process.
    pub(super) fn ask_question(&self, question: &Value) -> Result<Vec<RuleVerdict>, PolicyProblem> {
        let mut engine = self.ready.lock().unwrap_or_else(PoisonError::into_inner).clone();
        engine.set_input(question.clone());
        // The machine is a copy that is not used again, so it may be left in the middle of anything.
        let ended = catch_unwind(AssertUnwindSafe(|| engine.eval_rule(VERDICTS.to_owned())));
        let ended = ended.map_err(|_| self.layer_problem("it failed"))?;
        let said = ended.map_err(|error| {
            let limit = error.downcast_ref::<regorus::LimitError>();
            let limit = limit.map(|limit| self.layer_problem(limit.to_string()));
            limit.unwrap_or_else(|| PolicyProblem::from_interpreter(self.blamed_name(), &error.to_string()))
        })?;
        let said = match &said {
            Value::Undefined => return Ok(Vec::new()),
            said => said.as_set().map_err(|_| self.layer_problem(NO_SET))?,
        };
        if said.len() > SAID_MAX {
            let problem = format!("it gives {} verdicts, more than {SAID_MAX}", said.len());
            return Err(self.layer_problem(problem));
        }
        said.iter().map(|said| parse_verdict(said).ok_or_else(|| self.layer_problem(SHAPE))).collect()
    }

    fn layer_problem(&self, problem: impl Into<String>) -> PolicyProblem {
        PolicyProblem::in_file(self.blamed_name(), problem)
    }

    /// Whom a problem is laid to that names no file.
    pub(super) fn blamed_name(&self) -> &str {
        match &self.files[..] {
            [only] => &only.name,
            _ => &self.name,
        }
    }
}

/// Counts what each file of a layer says, those of its tests included. The files are not checked.
pub fn file_rules(name: &str, files: &[PolicyText]) -> Result<Vec<FileRules>, PolicyProblem> {
    let mut engine = read_engine(name, files, 2 * FILES_MAX)?;
    Ok(static_checks::count_rules(engine.get_modules()))
}

/// Makes a machine ready to be asked.
pub(super) fn compile_engine(name: &str, engine: &mut Engine) -> Result<CompiledPolicy, PolicyProblem> {
    engine.compile_with_entrypoint(&VERDICTS.into()).map_err(|error| match error.to_string() {
        said if said == "not a valid rule path" => {
            PolicyProblem::in_file(name, "no file has a rule `verdicts contains {…} if {…}`")
        }
        said => PolicyProblem::from_interpreter(name, &said),
    })
}

/// Reads the files of a layer into a machine with its bounds.
pub(super) fn read_engine(
    name: &str,
    files: &[PolicyText],
    files_max: usize,
) -> Result<Engine, PolicyProblem> {
    if files.len() > files_max {
        let problem = format!("there are {} files; at most {files_max} are allowed", files.len());
        return Err(PolicyProblem::in_file(name, problem));
    }
    let mut engine = Engine::new();
    engine.set_execution_timer_config(ExecutionTimerConfig { limit: TIME_MAX, check_interval: STEPS });
    // What a policy prints goes nowhere.
    engine.set_gather_prints(true);
    // The text is not JSON, so the call always fails, and a failure denies.
    let fails = Box::new(|_: Vec<Value>| Value::from_json_str("a policy may not use randomness"));
    engine
        .add_extension(RANDOM.to_owned(), 2, fails)
        .map_err(|error| PolicyProblem::in_file(name, error.to_string()))?;
    for file in files {
        if file.text.len() > BYTES_MAX {
            return Err(PolicyProblem::in_file(&file.name, format!("it is longer than {BYTES_MAX} bytes")));
        }
        let package = engine
            .add_policy(file.name.clone(), file.text.clone())
            .map_err(|error| PolicyProblem::from_interpreter(&file.name, &error.to_string()))?;
        if package.strip_prefix("data.") != Some(PACKAGE) {
            let problem = format!("it must begin with `package {PACKAGE}`");
            return Err(PolicyProblem { file: file.name.clone(), place: Some((1, 1)), problem });
        }
    }
    Ok(engine)
}

/// Reads one verdict; nothing if it is none, which breaks the evaluation.
fn parse_verdict(said: &Value) -> Option<RuleVerdict> {
    let text = |key: &str| said[key].as_string().ok().map(ToString::to_string);
    let call = text("verdict").as_deref().and_then(PolicyVerdict::parse_word)?;
    let rule = text("rule").filter(|rule| is_rule(rule))?;
    let reason = text("reason").unwrap_or_default();
    let reason = reason.chars().filter(|c| !c.is_control()).take(REASON_CHARS_MAX).collect();
    Some(RuleVerdict { call, rule, reason })
}

fn texts_digest(files: &[PolicyText]) -> Digest {
    let mut hasher = blake3::Hasher::new();
    for PolicyText { name, text } in files {
        for part in [name, text] {
            hasher.update(&(part.len() as u64).to_le_bytes());
            hasher.update(part.as_bytes());
        }
    }
    Digest::from_bytes(*hasher.finalize().as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_broken_policy_file_is_logged_once_within_a_bound() {
        let rule = "package dromia.policy\nimport rego.v1\nverdicts contains {\"verdict\": \"deny\", \"rule\": \"r\"} if ";
        let text = |name: &str, condition: &str| PolicyText {
            name: name.to_owned(),
            text: format!("{rule}{condition}\n"),
        };
        let files = [text("a.rego", "to_number(input.a) == 1"), text("b.rego", "to_number(input.b) == 1")];
        let layer = PolicyLayer::compile_layer("policies", &files).expect("it compiles");
        let problem =
            |question: serde_json::Value| layer.ask_question(&question.into()).expect_err("it breaks");
        let (a, b) = (problem(serde_json::json!({ "a": "x" })), problem(serde_json::json!({ "b": "x" })));
        assert_eq!([a.file.as_str(), b.file.as_str()], ["a.rego", "b.rego"]);
        assert_eq!(
            [&a, &a, &b, &a, &b].map(|problem| layer.is_first(problem)),
            [true, false, true, false, false]
        );
        let other = |name: &str| PolicyProblem::in_file(name, "it failed");
        assert!(layer.is_first(&other("policies")), "the layer itself is told as well");
        assert!(!layer.is_first(&other("moon")));
    }
}
