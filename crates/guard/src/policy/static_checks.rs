//! Static checks of a layer's files, before any of it counts.
//!
//! The interpreter finds a function when it calls it, so a call of one that is not there waits behind a condition until it
//! holds, and then everything is denied. So every call of every file is looked up here, and every verdict that is written out
//! is read. What only an evaluation shows is left to the samples. It evaluates nothing.
//!
//! The tree is what the interpreter itself reads; its version is pinned, since it does not promise a stable tree.

use std::collections::{BTreeMap, BTreeSet};

use regorus::Value;
use regorus::unstable::{
    BUILTINS, Expr, Literal, Module, Query, Ref, Rule, RuleAssign, RuleBody, RuleHead, Span,
};

use super::problem::PolicyProblem;
use super::verdict::{PACKAGE, PolicyVerdict, is_rule};

/// What a verdict must be.
pub(super) const SHAPE: &str =
    "a verdict has `verdict` (allow, delay, ask or deny) and `rule` (a name of a-z, 0-9, - and _)";
/// What `verdicts` must be.
pub(super) const NO_SET: &str = "`verdicts` is not a set; write `verdicts contains {…} if {…}`";
/// The function that fails whenever it is called.
pub(super) const RANDOM: &str = "rand.intn";
/// What a layer is asked for.
const VERDICTS: &str = "verdicts";

/// How much one file says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileRules {
    /// Its name.
    pub name: String,
    /// How many rules it has, tests aside.
    pub rules: usize,
    /// How many of them say verdicts. A file without any says nothing by itself.
    pub verdicts: usize,
    /// How many tests it has.
    pub tests: usize,
}

/// Counts the rules of each file, in the order of the files.
pub(super) fn count_rules(modules: &[Ref<Module>]) -> Vec<FileRules> {
    let of = |module: &Ref<Module>| {
        let mut found = FileRules {
            name: module.package.span.source.get_path().clone(),
            rules: 0,
            verdicts: 0,
            tests: 0,
        };
        for rule in &module.policy {
            let name = name_of(rule);
            match name.as_deref() {
                Some(name) if name.starts_with("test_") => found.tests += 1,
                name => {
                    found.rules += 1;
                    found.verdicts += usize::from(name == Some(VERDICTS));
                }
            }
        }
        found
    };
    modules.iter().map(of).collect()
}

/// Says what of the files would fail whenever it is reached, with its place; the first of it.
pub(super) fn check_modules(modules: &[Ref<Module>]) -> Result<(), PolicyProblem> {
    let mut known = FunctionTable { functions: BTreeMap::new(), defaults: BTreeSet::new() };
    for rule in modules.iter().flat_map(|module| &module.policy) {
        match &**rule {
            Rule::Spec { head: RuleHead::Func { refr, args, .. }, .. } => {
                known.functions.extend(reference_path(refr).map(|path| (path, args.len())));
            }
            Rule::Default { refr, .. } => known.defaults.extend(reference_path(refr)),
            Rule::Spec { .. } => {}
        }
    }
    for rule in modules.iter().flat_map(|module| &module.policy) {
        known.check_rule(rule)?;
        check_verdicts(rule)?;
    }
    Ok(())
}

/// The functions that the files have.
struct FunctionTable {
    /// How many values each takes, by its path within the package.
    functions: BTreeMap<String, usize>,
    /// Rules with a default, which may be a function that has only a default.
    defaults: BTreeSet<String>,
}

impl FunctionTable {
    /// Looks a call up as the interpreter does.
    fn check_call(&self, function: &Expr, given: usize) -> Result<(), PolicyProblem> {
        let span = reference_start(function);
        let Some(path) = reference_path(function) else {
            return Err(problem_at(span, "the name before the parenthesis is not a function"));
        };
        let own = path.strip_prefix("data.").and_then(|path| path.strip_prefix(PACKAGE));
        let own = own.and_then(|path| path.strip_prefix('.')).unwrap_or(&path);
        let takes = match self.functions.get(own) {
            Some(takes) => *takes,
            None if self.defaults.contains(own) || path == "print" => return Ok(()),
            None if path == RANDOM => {
                return Err(problem_at(
                    span,
                    format!("a policy may not use randomness, so `{path}` always fails"),
                ));
            }
            None => match BUILTINS.get(path.as_str()) {
                Some((_, takes)) => usize::from(*takes),
                None => return Err(problem_at(span, format!("there is no function `{path}` here"))),
            },
        };
        // One more is a place for the answer.
        if given == takes || given == takes + 1 {
            return Ok(());
        }
        Err(problem_at(span, format!("`{path}` takes {takes} values, but gets {given}")))
    }

    fn check_rule(&self, rule: &Rule) -> Result<(), PolicyProblem> {
        match rule {
            Rule::Default { value, .. } => self.check_term(value),
            Rule::Spec { head, bodies, .. } => {
                match head {
                    RuleHead::Compr { assign, .. } => self.check_assigned(assign.as_ref())?,
                    RuleHead::Set { key, .. } => self.check_terms(key)?,
                    RuleHead::Func { args, assign, .. } => {
                        self.check_terms(args)?;
                        self.check_assigned(assign.as_ref())?;
                    }
                }
                bodies.iter().try_for_each(|RuleBody { assign, query, .. }| {
                    self.check_assigned(assign.as_ref())?;
                    self.check_query(query)
                })
            }
        }
    }

    fn check_assigned(&self, assign: Option<&RuleAssign>) -> Result<(), PolicyProblem> {
        assign.map_or(Ok(()), |assign| self.check_term(&assign.value))
    }

    fn check_query(&self, query: &Query) -> Result<(), PolicyProblem> {
        query.stmts.iter().try_for_each(|statement| {
            statement.with_mods.iter().try_for_each(|with| self.check_term(&with.r#as))?;
            match &statement.literal {
                Literal::SomeVars { .. } => Ok(()),
                Literal::SomeIn { key, value, collection, .. } => {
                    self.check_terms(key)?;
                    self.check_terms([value, collection])
                }
                Literal::Expr { expr, .. } | Literal::NotExpr { expr, .. } => self.check_term(expr),
                Literal::Every { domain, query, .. } => {
                    self.check_term(domain)?;
                    self.check_query(query)
                }
            }
        })
    }

    fn check_terms<'tree>(
        &self,
        terms: impl IntoIterator<Item = &'tree Ref<Expr>>,
    ) -> Result<(), PolicyProblem> {
        terms.into_iter().try_for_each(|term| self.check_term(term))
    }

    /// Looks into a term. How deep it goes is bounded where the file is read.
    fn check_term(&self, term: &Expr) -> Result<(), PolicyProblem> {
        match term {
            Expr::String { .. }
            | Expr::RawString { .. }
            | Expr::Number { .. }
            | Expr::Bool { .. }
            | Expr::Null { .. }
            | Expr::Var { .. } => Ok(()),
            Expr::Array { items, .. } | Expr::Set { items, .. } => self.check_terms(items),
            Expr::Object { fields, .. } => {
                fields.iter().try_for_each(|(_, key, value)| self.check_terms([key, value]))
            }
            Expr::ArrayCompr { term, query, .. } | Expr::SetCompr { term, query, .. } => {
                self.check_term(term)?;
                self.check_query(query)
            }
            Expr::ObjectCompr { key, value, query, .. } => {
                self.check_terms([key, value])?;
                self.check_query(query)
            }
            Expr::Call { fcn, params, .. } => {
                self.check_call(fcn, params.len())?;
                self.check_terms(params)
            }
            Expr::UnaryExpr { expr, .. } => self.check_term(expr),
            Expr::RefDot { refr, .. } => self.check_term(refr),
            Expr::RefBrack { refr, index, .. } => self.check_terms([refr, index]),
            Expr::BinExpr { lhs, rhs, .. }
            | Expr::BoolExpr { lhs, rhs, .. }
            | Expr::ArithExpr { lhs, rhs, .. }
            | Expr::AssignExpr { lhs, rhs, .. } => self.check_terms([lhs, rhs]),
            Expr::Membership { key, value, collection, .. } => {
                self.check_terms(key)?;
                self.check_terms([value, collection])
            }
        }
    }
}

/// Reads what a rule writes out of verdicts.
fn check_verdicts(rule: &Rule) -> Result<(), PolicyProblem> {
    let Rule::Spec { head, bodies, .. } = rule else { return Ok(()) };
    if name_of(rule).as_deref() != Some(VERDICTS) {
        return Ok(());
    }
    match head {
        RuleHead::Set { key: Some(key), .. } => check_verdict(key),
        RuleHead::Set { span, key: None, .. } | RuleHead::Func { span, .. } => Err(problem_at(span, NO_SET)),
        RuleHead::Compr { span, assign, .. } => {
            let Some(assign) = assign else { return Err(problem_at(span, NO_SET)) };
            let others = bodies.iter().filter_map(|body| body.assign.as_ref());
            [assign].into_iter().chain(others).try_for_each(|assign| check_verdict_set(&assign.value))
        }
    }
}

/// Reads a set of verdicts, as far as it is written out.
fn check_verdict_set(term: &Expr) -> Result<(), PolicyProblem> {
    match term {
        Expr::Set { items, .. } => items.iter().try_for_each(|item| check_verdict(item)),
        Expr::SetCompr { term, .. } => check_verdict(term),
        Expr::String { span, .. }
        | Expr::RawString { span, .. }
        | Expr::Number { span, .. }
        | Expr::Bool { span, .. }
        | Expr::Null { span, .. }
        | Expr::Array { span, .. }
        | Expr::ArrayCompr { span, .. }
        | Expr::Object { span, .. }
        | Expr::ObjectCompr { span, .. } => Err(problem_at(span, NO_SET)),
        _ => Ok(()),
    }
}

/// Reads one verdict, as far as it is written out.
fn check_verdict(term: &Expr) -> Result<(), PolicyProblem> {
    let fields = match term {
        Expr::Object { fields, .. } => fields,
        Expr::String { span, .. }
        | Expr::RawString { span, .. }
        | Expr::Number { span, .. }
        | Expr::Bool { span, .. }
        | Expr::Null { span, .. }
        | Expr::Array { span, .. }
        | Expr::ArrayCompr { span, .. }
        | Expr::Set { span, .. }
        | Expr::SetCompr { span, .. } => return Err(problem_at(span, SHAPE)),
        _ => return Ok(()),
    };
    let is_named =
        |term: &Expr, name: &str| matches!(literal_term(term), Some(LiteralTerm::Text(text)) if text == name);
    // A key that is computed may be any.
    let is_whole = fields.iter().all(|(_, key, _)| literal_term(key).is_some());
    for name in ["verdict", "rule"] {
        let is_right = if name == "rule" { is_rule } else { is_call };
        let found = fields.iter().find(|(_, key, _)| is_named(key, name));
        match found.map(|(_, _, value)| (value, literal_term(value))) {
            Some((_, Some(LiteralTerm::Text(text)))) if is_right(text) => {}
            Some((value, Some(_))) => {
                let said = value.span().text();
                return Err(problem_at(value.span(), format!("`{name}` is {said}; {SHAPE}")));
            }
            None if is_whole => return Err(problem_at(term.span(), format!("`{name}` is missing; {SHAPE}"))),
            Some((_, None)) | None => {}
        }
    }
    Ok(())
}

fn is_call(word: &str) -> bool {
    PolicyVerdict::parse_word(word).is_some()
}

/// What is written out.
enum LiteralTerm<'tree> {
    Text(&'tree str),
    Other,
}

fn literal_term(term: &Expr) -> Option<LiteralTerm<'_>> {
    match term {
        Expr::String { value: Value::String(text), .. }
        | Expr::RawString { value: Value::String(text), .. } => Some(LiteralTerm::Text(text)),
        Expr::Number { .. } | Expr::Bool { .. } | Expr::Null { .. } => Some(LiteralTerm::Other),
        _ => None,
    }
}

/// The name of a rule within the package.
fn name_of(rule: &Rule) -> Option<String> {
    match rule {
        Rule::Default { refr, .. }
        | Rule::Spec {
            head: RuleHead::Compr { refr, .. } | RuleHead::Set { refr, .. } | RuleHead::Func { refr, .. },
            ..
        } => reference_path(refr),
    }
}

/// Spells a reference as the interpreter does; nothing if it is none.
pub(super) fn reference_path(term: &Expr) -> Option<String> {
    match term {
        Expr::Var { span, .. } => Some(span.text().to_owned()),
        Expr::RefDot { refr, field, .. } => Some(format!("{}.{}", reference_path(refr)?, field.0.text())),
        Expr::RefBrack { refr, index, .. } => match &**index {
            Expr::String { span, .. } => Some(format!("{}.{}", reference_path(refr)?, span.text())),
            _ => None,
        },
        _ => None,
    }
}

/// Where a reference begins; its own place is that of its last sign.
pub(super) fn reference_start(term: &Expr) -> &Span {
    match term {
        Expr::RefDot { refr, .. } | Expr::RefBrack { refr, .. } => reference_start(refr),
        term => term.span(),
    }
}

pub(super) fn problem_at(span: &Span, problem: impl Into<String>) -> PolicyProblem {
    let (file, place) = (span.source.get_path().clone(), Some((span.line, span.col)));
    PolicyProblem { file, place, problem: problem.into() }
}
