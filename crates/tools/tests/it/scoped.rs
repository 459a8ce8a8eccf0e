//! Tools for some agents only: for all others they do not exist, and a run keeps the definitions that it began with.

use std::collections::BTreeMap;
use std::sync::Arc;

use dromia_contracts::content::{ToolCall, parts_text};
use dromia_contracts::egress::EgressClient;
use dromia_contracts::sandbox::ProcessLimits;
use dromia_contracts::scope::{Actor, Scope, ScopeAuthority};
use dromia_contracts::store::Read;
use dromia_contracts::tool::{
    CallProgressSink, DiscardProgress, EffectClass, PrepareError, PreparedCall, ToolContext, ToolHost,
    ToolOutput,
};
use dromia_contracts::tool_catalogue::ToolCatalogue;
use dromia_contracts::tool_policy::ToolTerms;
use dromia_contracts::{AgentId, BoxFuture, TenantId};
use dromia_tools::{ExternalSpec, ExternalTool, ToolAudience};
use serde_json::{Value, json};

use crate::external::spec;
use crate::support::{AGENT, Bench, CALL, COLLEAGUE, OTHER_TENANT, TENANT, context};

type ConnectedTool = (ExternalTool, Arc<dyn EgressClient>);

fn only(tenants: &[&str], agents: &[(&str, &str)]) -> ToolAudience {
    let handle = |text: &str| text.parse().expect("a handle");
    ToolAudience::Only {
        tenants: tenants.iter().map(|tenant| handle(tenant)).collect(),
        agents: agents.iter().map(|(tenant, agent)| (handle(tenant), handle(agent))).collect(),
    }
}

fn connect(bench: &Bench, name: &str, audience: ToolAudience, arguments: Value) -> ConnectedTool {
    let arguments = serde_json::from_value(arguments).expect("an object");
    let own = ExternalSpec {
        name: name.to_owned(),
        audience,
        arguments,
        roles: BTreeMap::default(),
        ..spec(EffectClass::Keyed)
    };
    (ExternalTool::new(own).expect("a sound tool"), Arc::clone(&bench.line) as _)
}

/// A bench with a tool for everybody, one for `caller` of `ours`, and one for all of `theirs`.
fn scoped() -> Bench {
    let bench = Bench::new();
    let tools = [
        connect(&bench, "bank.pay", ToolAudience::Everybody, json!({})),
        connect(&bench, "bank.send", only(&[], &[("ours", "caller")]), json!({})),
        connect(&bench, "crm.find", only(&["theirs"], &[]), json!({})),
    ];
    bench.toolbox.replace_external(tools);
    bench
}

fn scope_of(tenant: TenantId) -> Scope {
    ScopeAuthority::claim().issue_scope(tenant, Actor::new("cli:ada"))
}

/// Checks that each agent sees its tools and no other, and that any other is answered as one that nobody has.
async fn check_scopes(host: &dyn ToolHost) -> Result<(), String> {
    let cases = [
        (TENANT, Some(AGENT), ["bank.pay", "bank.send"].as_slice()),
        (TENANT, Some(COLLEAGUE), &["bank.pay"]),
        (TENANT, None, &["bank.pay", "bank.send"]),
        (OTHER_TENANT, Some(COLLEAGUE), &["bank.pay", "crm.find"]),
        (OTHER_TENANT, None, &["bank.pay", "crm.find"]),
    ];
    for (tenant, agent, seen) in cases {
        let scope = scope_of(tenant);
        let tools = host.tool_catalogue(&scope, agent).await.map_err(|error| error.to_string())?;
        for name in ["bank.pay", "bank.send", "crm.find"] {
            let is_seen = seen.contains(&name);
            if tools.find_tool(name).is_some() != is_seen {
                return Err(format!("{agent:?} of {tenant} and {name}: not {is_seen}"));
            }
            let call = ToolCall { id: CALL, tool: name.to_owned(), arguments: "{}".to_owned() };
            let prepared = host.prepare_call(&tools, &call);
            let unknown = Err(PrepareError::UnknownTool { name: name.to_owned() });
            if is_seen == (prepared == unknown) {
                return Err(format!("{agent:?} of {tenant} calls {name}: {prepared:?}"));
            }
            let Some(agent) = agent else { continue };
            let has_tool = host.has_tool(&scope, agent, name).await.map_err(|error| error.to_string())?;
            if has_tool != is_seen {
                return Err(format!("{agent} of {tenant} has {name}: {has_tool}"));
            }
        }
    }
    Ok(())
}

#[tokio::test]
async fn an_agent_sees_its_own_tools_and_no_other() {
    assert_eq!(check_scopes(&scoped().toolbox).await, Ok(()));
}

/// A host with a fault in how it keeps its tools apart.
#[derive(Debug)]
struct Faulty<'a> {
    inner: &'a dyn ToolHost,
    fault: Fault,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fault {
    /// One catalogue, which is that of another tenant, answers everybody.
    OneForAll,
    /// Calls are read by the newest definitions, whatever their run began with.
    Newest,
}

impl ToolHost for Faulty<'_> {
    fn shared_catalogue(&self) -> ToolCatalogue {
        self.inner.shared_catalogue()
    }

    fn tool_catalogue<'a>(&'a self, scope: &'a Scope, agent: Option<AgentId>) -> Read<'a, ToolCatalogue> {
        Box::pin(async move {
            if self.fault == Fault::OneForAll {
                return self.inner.tool_catalogue(&scope_of(OTHER_TENANT), None).await;
            }
            self.inner.tool_catalogue(scope, agent).await
        })
    }

    fn prepare_call(&self, tools: &ToolCatalogue, call: &ToolCall) -> Result<PreparedCall, PrepareError> {
        let newest = self.inner.shared_catalogue();
        self.inner.prepare_call(if self.fault == Fault::Newest { &newest } else { tools }, call)
    }

    fn execute_call<'a>(
        &'a self,
        context: ToolContext,
        call: PreparedCall,
        pieces: &'a dyn CallProgressSink,
    ) -> BoxFuture<'a, ToolOutput> {
        self.inner.execute_call(context, call, pieces)
    }

    fn process_limits(&self, tool: &str, terms: &ToolTerms) -> Option<ProcessLimits> {
        self.inner.process_limits(tool, terms)
    }
}

/// Planted fault: tools of another tenant are listed.
#[tokio::test]
async fn a_tool_seen_by_the_wrong_tenant_is_caught() {
    let bench = scoped();
    let faulty = Faulty { inner: &bench.toolbox, fault: Fault::OneForAll };
    let found = check_scopes(&faulty).await.expect_err("nothing notices it");
    assert!(found.contains("bank.send") || found.contains("crm.find"), "{found}");
}

/// Checks that a run goes on with its definitions while `change` makes another one count.
fn check_definitions(host: &dyn ToolHost, change: impl FnOnce()) -> Result<(), String> {
    let call = ToolCall { id: CALL, tool: "bank.pay".to_owned(), arguments: r#"{"to":"x"}"#.to_owned() };
    let own = host.shared_catalogue();
    let before = host.prepare_call(&own, &call).map_err(|error| error.to_string())?;
    change();
    let newest = host.shared_catalogue();
    if newest.generation() <= own.generation() || newest.digest() == own.digest() {
        return Err("the change cannot be seen".to_owned());
    }
    if host.prepare_call(&own, &call).as_ref() != Ok(&before) {
        return Err("a run reads the live catalogue".to_owned());
    }
    if host.prepare_call(&newest, &call).is_ok() {
        return Err("the next run reads the earlier catalogue".to_owned());
    }
    Ok(())
}

/// A bench whose only tool takes a `to`, and the change after which it takes an `iban`.
fn changing() -> (Bench, ConnectedTool) {
    let bench = Bench::new();
    let takes = |name: &str| json!({"properties": {name: {"type": "string"}}, "required": [name]});
    bench.toolbox.replace_external([connect(&bench, "bank.pay", ToolAudience::Everybody, takes("to"))]);
    let next = connect(&bench, "bank.pay", ToolAudience::Everybody, takes("iban"));
    (bench, next)
}

#[test]
fn a_run_keeps_the_definitions_that_it_began_with() {
    let (bench, next) = changing();
    let change = || bench.toolbox.replace_external([next]);
    assert_eq!(check_definitions(&bench.toolbox, change), Ok(()));
}

/// Planted fault: calls are read by what counts now.
#[test]
fn a_run_that_reads_the_live_catalogue_is_caught() {
    let (bench, next) = changing();
    let faulty = Faulty { inner: &bench.toolbox, fault: Fault::Newest };
    let found = check_definitions(&faulty, || bench.toolbox.replace_external([next]));
    assert_eq!(found, Err("a run reads the live catalogue".to_owned()));
}

#[tokio::test]
async fn a_call_judged_before_a_change_is_sent_only_if_it_still_fits() {
    let (bench, next) = changing();
    let call = bench.prepare("bank.pay", r#"{"to":"x"}"#);
    bench.toolbox.replace_external([next]);
    let output = bench.toolbox.execute_call(context(), call.clone(), &DiscardProgress).await;
    let told = parts_text(&output.parts);
    assert!(output.failed && told.contains("changed this tool after the run began"), "{told}");
    bench.toolbox.replace_external([]);
    let output = bench.toolbox.execute_call(context(), call, &DiscardProgress).await;
    assert!(output.failed, "{output:?}");
    assert_eq!(parts_text(&output.parts), "there is no such tool");
    assert_eq!(bench.line.sent().len(), 0, "nothing is sent");
}

#[tokio::test]
async fn a_lost_tool_is_executed_as_one_that_never_was() {
    let bench = scoped();
    let prepared = |name: &str| PreparedCall { tool: name.to_owned(), ..bench.prepare("bank.pay", "{}") };
    let mut told = Vec::new();
    for name in ["crm.find", "crm.never"] {
        let output = bench.toolbox.execute_call(context(), prepared(name), &DiscardProgress).await;
        assert!(output.failed, "{output:?}");
        told.push(parts_text(&output.parts));
    }
    assert_eq!(told[0], told[1]);
    assert_eq!(bench.line.sent().len(), 0, "nothing is sent");
}

#[test]
fn the_operator_may_change_tools_any_number_of_times() {
    let bench = Bench::new();
    for number in 0..200 {
        let name = format!("bank.pay{number}");
        bench.toolbox.replace_external([connect(&bench, &name, ToolAudience::Everybody, json!({}))]);
    }
    let tools = bench.toolbox.shared_catalogue();
    assert!(tools.find_tool("bank.pay199").is_some() && tools.find_tool("bank.pay198").is_none());
    assert_eq!(tools.generation(), 200);
}
