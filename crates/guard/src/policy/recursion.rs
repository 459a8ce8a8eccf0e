//! Which rules and functions of a layer need which others, checked before any of it counts.
//!
//! The interpreter calls a function on the stack of its thread and counts no depth, so a function that calls itself ends the
//! process by an argument that is long enough. What needs itself, directly or through others, is therefore refused when it is
//! read, and so is a row of rules that need each other one after the other deeper than [`DEPTH_MAX`]. It evaluates nothing,
//! and it does not follow what an evaluation would never reach: what is written counts.

use std::collections::{BTreeMap, BTreeSet};

use regorus::unstable::{
    AssignOp, Expr, Literal, Module, Query, Ref, Rule, RuleAssign, RuleBody, RuleHead, Span,
};

use super::problem::PolicyProblem;
use super::static_checks::{problem_at, reference_path, reference_start};
use super::verdict::PACKAGE;

/// The most rules and functions in a row of which each needs the next.
pub const DEPTH_MAX: usize = 64;

/// Refuses what needs itself, and what lies too deep.
pub(super) fn check_recursion(modules: &[Ref<Module>]) -> Result<(), PolicyProblem> {
    RuleGraph::from_modules(modules).check_cycles()
}

/// What one name of the package needs.
struct RuleNode<'tree> {
    /// Where its first rule begins.
    span: &'tree Span,
    /// The names as they are written, whole paths within the package.
    needs: BTreeSet<String>,
}

/// Every name of the package, with what it needs.
struct RuleGraph<'tree> {
    nodes: BTreeMap<String, RuleNode<'tree>>,
}

impl<'tree> RuleGraph<'tree> {
    fn from_modules(modules: &'tree [Ref<Module>]) -> Self {
        let mut nodes: BTreeMap<String, RuleNode<'tree>> = BTreeMap::new();
        for module in modules {
            let aliases = import_aliases(module);
            for rule in &module.policy {
                let refr = rule_reference(rule);
                let Some(name) = rule_name(refr) else { continue };
                let node = nodes
                    .entry(name)
                    .or_insert_with(|| RuleNode { span: reference_start(refr), needs: BTreeSet::new() });
                let mut reader =
                    DependencyReader { locals: BTreeSet::new(), aliases: &aliases, needs: &mut node.needs };
                reader.read_rule(rule);
            }
        }
        Self { nodes }
    }

    /// The nodes that a written path means: the rule itself, one that it looks into, and all that lie below it.
    fn nodes_of_path(&self, needed: &str) -> Vec<&str> {
        if needed.is_empty() {
            return self.nodes.keys().map(String::as_str).collect();
        }
        let mut found = Vec::new();
        for (end, _) in needed.match_indices('.').chain([(needed.len(), "")]) {
            found.extend(self.nodes.get_key_value(&needed[..end]).map(|(name, _)| name.as_str()));
        }
        let below = format!("{needed}.");
        let below = self.nodes.range(below.clone()..).take_while(|(name, _)| name.starts_with(&below));
        found.extend(below.map(|(name, _)| name.as_str()));
        found
    }

    fn needed_nodes<'graph>(&'graph self, name: &str) -> Vec<&'graph str> {
        let needs = self.nodes.get(name).into_iter().flat_map(|node| &node.needs);
        needs.flat_map(|needed| self.nodes_of_path(needed)).collect()
    }

    /// Walks along all that is needed, each name once and without recursion of its own.
    fn check_cycles(&self) -> Result<(), PolicyProblem> {
        // How many names in a row each needs, itself included.
        let mut depths: BTreeMap<&str, usize> = BTreeMap::new();
        for first in self.nodes.keys() {
            if depths.contains_key(first.as_str()) {
                continue;
            }
            let mut way = vec![WalkStep::new_step(first, self.needed_nodes(first))];
            let mut on_way = BTreeSet::from([first.as_str()]);
            while let Some(step) = way.last_mut() {
                let Some(next) = step.left.pop() else {
                    let (name, depth) = (step.name, step.depth + 1);
                    depths.insert(name, depth);
                    on_way.remove(name);
                    way.pop();
                    if let Some(before) = way.last_mut() {
                        before.depth = before.depth.max(depth);
                    }
                    if depth > DEPTH_MAX {
                        return Err(self.too_deep(name));
                    }
                    continue;
                };
                match depths.get(next) {
                    Some(depth) => step.depth = step.depth.max(*depth),
                    None if on_way.contains(next) => return Err(self.cycle_problem(&way, next)),
                    None => {
                        on_way.insert(next);
                        way.push(WalkStep::new_step(next, self.needed_nodes(next)));
                    }
                }
            }
        }
        Ok(())
    }

    fn cycle_problem(&self, way: &[WalkStep<'_>], back: &str) -> PolicyProblem {
        let names = way.iter().map(|step| step.name).skip_while(|name| *name != back);
        let mut names: Vec<_> = names.take(SHOWN_MAX).collect();
        names.push(back);
        let problem = format!(
            "`{back}` needs itself ({}), which is not allowed: its evaluation might never end",
            names.join(" → ")
        );
        self.problem_at_node(back, problem)
    }

    fn too_deep(&self, name: &str) -> PolicyProblem {
        let problem =
            format!("`{name}` needs more than {DEPTH_MAX} rules and functions, each through the one before");
        self.problem_at_node(name, problem)
    }

    fn problem_at_node(&self, name: &str, problem: String) -> PolicyProblem {
        match self.nodes.get(name) {
            Some(node) => problem_at(node.span, problem),
            None => PolicyProblem::in_file(PACKAGE, problem),
        }
    }
}

/// The most names of a circle that an error lists.
const SHOWN_MAX: usize = 8;

/// One name on the way, and what of it is still to be walked.
struct WalkStep<'graph> {
    name: &'graph str,
    left: Vec<&'graph str>,
    /// The deepest of what was walked.
    depth: usize,
}

impl<'graph> WalkStep<'graph> {
    fn new_step(name: &'graph str, left: Vec<&'graph str>) -> Self {
        Self { name, left, depth: 0 }
    }
}

/// What a file calls by another name: `import data.dromia.policy.a as b`.
fn import_aliases(module: &Module) -> BTreeMap<String, String> {
    let alias = |import: &regorus::unstable::Import| {
        let path = reference_path(&import.refr)?;
        let name = match &import.r#as {
            Some(name) => name.text().to_owned(),
            None => path.rsplit('.').next()?.to_owned(),
        };
        Some((name, path))
    };
    module.imports.iter().filter_map(alias).collect()
}

fn rule_reference(rule: &Rule) -> &Ref<Expr> {
    match rule {
        Rule::Default { refr, .. }
        | Rule::Spec {
            head: RuleHead::Compr { refr, .. } | RuleHead::Set { refr, .. } | RuleHead::Func { refr, .. },
            ..
        } => refr,
    }
}

/// The name of a rule: as much of its path as is written out. The values of `a[x] := y` are those of `a`.
fn rule_name(refr: &Expr) -> Option<String> {
    match refr {
        Expr::RefDot { refr: inner, .. } | Expr::RefBrack { refr: inner, .. } => {
            reference_path(refr).or_else(|| rule_name(inner))
        }
        _ => reference_path(refr),
    }
}

/// Reads what one rule needs.
struct DependencyReader<'reader> {
    /// Names that the rule gives to values of its own, so that they mean no rule.
    locals: BTreeSet<String>,
    aliases: &'reader BTreeMap<String, String>,
    needs: &'reader mut BTreeSet<String>,
}

impl DependencyReader<'_> {
    fn read_rule(&mut self, rule: &Rule) {
        match rule {
            Rule::Default { value, .. } => self.read_term(value),
            Rule::Spec { head, bodies, .. } => {
                if let RuleHead::Func { args, .. } = head {
                    for arg in args {
                        self.declare_names(arg);
                    }
                }
                for RuleBody { query, .. } in bodies {
                    self.declare_in(query);
                }
                match head {
                    RuleHead::Compr { assign, .. } | RuleHead::Func { assign, .. } => {
                        self.read_assigned(assign.as_ref());
                    }
                    RuleHead::Set { key, .. } => self.read_terms(key),
                }
                for RuleBody { assign, query, .. } in bodies {
                    self.read_assigned(assign.as_ref());
                    self.read_query(query);
                }
            }
        }
    }

    /// Notes the names in a pattern.
    fn declare_names(&mut self, pattern: &Expr) {
        match pattern {
            Expr::Var { span, .. } => {
                self.locals.insert(span.text().to_owned());
            }
            Expr::Array { items, .. } => items.iter().for_each(|item| self.declare_names(item)),
            Expr::Object { fields, .. } => fields.iter().for_each(|(_, _, value)| self.declare_names(value)),
            _ => {}
        }
    }

    /// Notes the names that the statements of a query declare.
    fn declare_in(&mut self, query: &Query) {
        for statement in &query.stmts {
            match &statement.literal {
                Literal::SomeVars { vars, .. } => {
                    self.locals.extend(vars.iter().map(|name| name.text().to_owned()));
                }
                Literal::SomeIn { key, value, .. } => {
                    key.iter().chain([value]).for_each(|pattern| self.declare_names(pattern));
                }
                Literal::Expr { expr, .. } => {
                    if let Expr::AssignExpr { op: AssignOp::ColEq, lhs, .. } = &**expr {
                        self.declare_names(lhs);
                    }
                }
                Literal::Every { .. } | Literal::NotExpr { .. } => {}
            }
        }
    }

    fn read_assigned(&mut self, assign: Option<&RuleAssign>) {
        self.read_terms(assign.map(|assign| &assign.value));
    }

    /// Reads a query with the names that it declares, which count in it alone.
    fn read_scoped(&mut self, query: &Query, declared: &[&Span], inside: impl FnOnce(&mut Self)) {
        let outer = self.locals.clone();
        self.locals.extend(declared.iter().map(|name| name.text().to_owned()));
        self.declare_in(query);
        inside(self);
        self.locals = outer;
    }

    fn read_query(&mut self, query: &Query) {
        for statement in &query.stmts {
            for with in &statement.with_mods {
                // A function may be put in the place of another one by its name.
                self.read_terms([&with.r#as]);
            }
            match &statement.literal {
                Literal::SomeVars { .. } => {}
                Literal::SomeIn { key, value, collection, .. } => {
                    self.read_terms(key);
                    self.read_terms([value, collection]);
                }
                Literal::Expr { expr, .. } | Literal::NotExpr { expr, .. } => self.read_term(expr),
                Literal::Every { key, value, domain, query, .. } => {
                    self.read_term(domain);
                    let names: Vec<_> = key.iter().chain([value]).collect();
                    self.read_scoped(query, &names, |inside| inside.read_query(query));
                }
            }
        }
    }

    fn read_terms<'tree>(&mut self, terms: impl IntoIterator<Item = &'tree Ref<Expr>>) {
        terms.into_iter().for_each(|term| self.read_term(term));
    }

    /// Looks into a term. How deep it goes is bounded where the file is read.
    fn read_term(&mut self, term: &Expr) {
        match term {
            Expr::String { .. }
            | Expr::RawString { .. }
            | Expr::Number { .. }
            | Expr::Bool { .. }
            | Expr::Null { .. } => {}
            Expr::Var { .. } | Expr::RefDot { .. } | Expr::RefBrack { .. } => self.read_reference(term),
            Expr::Array { items, .. } | Expr::Set { items, .. } => self.read_terms(items),
            Expr::Object { fields, .. } => {
                for (_, key, value) in fields {
                    self.read_terms([key, value]);
                }
            }
            Expr::ArrayCompr { term, query, .. } | Expr::SetCompr { term, query, .. } => {
                self.read_scoped(query, &[], |inside| {
                    inside.read_term(term);
                    inside.read_query(query);
                });
            }
            Expr::ObjectCompr { key, value, query, .. } => {
                self.read_scoped(query, &[], |inside| {
                    inside.read_terms([key, value]);
                    inside.read_query(query);
                });
            }
            Expr::Call { fcn, params, .. } => {
                // A function is looked up by its path, whatever has the same name here.
                self.needs.extend(reference_path(fcn).as_deref().and_then(within_package).map(str::to_owned));
                self.read_terms(params);
            }
            Expr::UnaryExpr { expr, .. } => self.read_term(expr),
            Expr::BinExpr { lhs, rhs, .. }
            | Expr::BoolExpr { lhs, rhs, .. }
            | Expr::ArithExpr { lhs, rhs, .. }
            | Expr::AssignExpr { lhs, rhs, .. } => self.read_terms([lhs, rhs]),
            Expr::Membership { key, value, collection, .. } => {
                self.read_terms(key);
                self.read_terms([value, collection]);
            }
        }
    }

    /// Notes what a reference means: as much of its path as is written out. A term in brackets is a term of its own.
    fn read_reference(&mut self, term: &Expr) {
        let mut written = Vec::new();
        let mut at = term;
        loop {
            match at {
                Expr::RefDot { refr, field, .. } => {
                    written.push(Some(field.0.text().to_owned()));
                    at = refr;
                }
                Expr::RefBrack { refr, index, .. } => {
                    written.push(match &**index {
                        Expr::String { span, .. } => Some(span.text().to_owned()),
                        _ => None,
                    });
                    self.read_term(index);
                    at = refr;
                }
                Expr::Var { span, .. } => {
                    self.note_path(span.text(), &written);
                    return;
                }
                // What a call or a comprehension gives, and what is taken out of it.
                other => return self.read_term(other),
            }
        }
    }

    /// Notes a path that begins with a name; the rest of it is given from its end.
    fn note_path(&mut self, root: &str, rest: &[Option<String>]) {
        if self.locals.contains(root) || root == "input" {
            return;
        }
        let mut path = self.aliases.get(root).cloned().unwrap_or_else(|| root.to_owned());
        for part in rest.iter().rev() {
            let Some(part) = part else { break };
            path.extend([".", part]);
        }
        self.needs.extend(within_package(&path).map(str::to_owned));
    }
}

/// A path within the package; nothing where it leads elsewhere. Of what holds the whole package all is meant.
fn within_package(path: &str) -> Option<&str> {
    let Some(rest) = path.strip_prefix("data") else { return Some(path) };
    if !rest.is_empty() && !rest.starts_with('.') {
        return Some(path);
    }
    let inside = path.strip_prefix("data.").and_then(|path| path.strip_prefix(PACKAGE));
    match inside {
        Some(inside) if inside.is_empty() || inside.starts_with('.') => {
            Some(inside.strip_prefix('.').unwrap_or_default())
        }
        Some(_) => None,
        None => format!("data.{PACKAGE}.").starts_with(&format!("{path}.")).then_some(""),
    }
}
