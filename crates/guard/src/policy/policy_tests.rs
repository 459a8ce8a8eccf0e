//! The tests of a layer: rules whose names begin with `test_`, run one by one.
//!
//! It evaluates in this process; a caller that runs untrusted tests does it in a worker.

use regorus::{Engine, Value};
use serde::{Deserialize, Serialize};

use super::layer::{FILES_MAX, PolicyText, compile_engine, read_engine};
use super::problem::PolicyProblem;
use super::recursion;
use super::verdict::PACKAGE;

/// How a test of a policy ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TestEnd {
    /// The name of the rule, `test_…`.
    pub name: String,
    /// What went wrong, if it did not hold.
    pub problem: Option<String>,
}

/// The tests of a layer, ready to be run.
pub(super) struct PolicyTests {
    engine: Engine,
    names: Vec<String>,
}

impl PolicyTests {
    /// Compiles the files of a layer with their tests.
    pub(super) fn compile_tests(name: &str, files: &[PolicyText]) -> Result<Self, PolicyProblem> {
        let mut engine = read_engine(name, files, 2 * FILES_MAX)?;
        let compiled = compile_engine(name, &mut engine)?;
        recursion::check_recursion(engine.get_modules())?;
        let prefix = format!("data.{PACKAGE}.");
        let rules = compiled.get_rules().keys().filter_map(|path| path.strip_prefix(&prefix));
        let mut names: Vec<_> = rules.filter(|rule| rule.starts_with("test_")).map(str::to_owned).collect();
        names.sort();
        Ok(Self { engine, names })
    }

    /// The names of the tests, sorted.
    pub(super) fn test_names(&self) -> &[String] {
        &self.names
    }

    /// Runs one; says what went wrong, if it does not hold.
    pub(super) fn run_test(&self, name: &str) -> Option<String> {
        match self.engine.clone().eval_rule(format!("data.{PACKAGE}.{name}")) {
            Ok(Value::Bool(true)) => None,
            Ok(_) => Some("it is not true".to_owned()),
            Err(error) => Some(PolicyProblem::from_interpreter("policy", &error.to_string()).to_string()),
        }
    }
}

/// Runs the tests of a layer in this process, in the order of their names.
pub fn run_tests(name: &str, files: &[PolicyText]) -> Result<Vec<TestEnd>, PolicyProblem> {
    let trial = PolicyTests::compile_tests(name, files)?;
    let run = |name: &String| TestEnd { name: name.clone(), problem: trial.run_test(name) };
    Ok(trial.test_names().iter().map(run).collect())
}
