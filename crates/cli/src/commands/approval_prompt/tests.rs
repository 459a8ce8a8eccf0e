//! A prompt that somebody else answers, and keys that are none.

use tokio::sync::mpsc;

use super::*;
use crate::args::GlobalOptions;
use crate::context::{CommandContext, EchoGuard};

const ID: &str = "apr_0199c0de000000000000000000000000";

fn approval() -> ApprovalResource {
    let of = |prefix: &str| format!("{prefix}_{}", "07".repeat(16));
    let (digest, time) = ("0f".repeat(32), "2026-01-01T00:00:00Z");
    let approval = serde_json::json!({
        "id": ID, "state": "holding", "agent": of("agt"), "session": of("ses"), "run": of("run"),
        "call": "call_1_0", "author": "cli:ada", "tool": "file.write", "arguments": r#"{"path":"a"}"#,
        "origins": [], "context": "trusted/actor", "action": digest, "binding": digest, "rule": "permission",
        "reason": "a person looks", "asked_at": time, "holds_until": time, "expires_at": time,
    });
    serde_json::from_value(approval).expect("an approval")
}

fn entry(kind: &str, fields: &serde_json::Value) -> JournalEntryResource {
    let entry = serde_json::json!({
        "seq": 3, "at": "2026-01-01T00:00:00Z", "epoch": 1, "kind": kind, "version": 1, "fields": fields,
        "body": null, "chain": "0".repeat(64),
    });
    serde_json::from_str(&entry.to_string()).expect("an entry")
}

fn opened() -> ApprovalPrompts {
    let (_, keys) = mpsc::channel(1);
    let keys = KeyStream::from_receiver(keys, true, EchoGuard::restore_with(|| ()));
    let open = OpenPrompt { approval: approval(), keys, rule: None, before: None };
    ApprovalPrompts { open: Some(open), ..ApprovalPrompts::default() }
}

/// Gives an open prompt each entry after which the call takes no answer, and some after which it does.
fn check_closing(
    take: impl Fn(&mut ApprovalPrompts, &JournalEntryResource, &mut CommandOutput<'_>),
) -> Result<(), String> {
    let other = "apr_0199c0de000000000000000000000001";
    for (kind, fields, stays) in [
        ("signal_taken", serde_json::json!({"approval": ID, "signal": "approve", "by": "cli:0"}), false),
        ("signal_taken", serde_json::json!({"approval": ID, "signal": "deny", "by": "cli:0"}), false),
        ("tool_refused", serde_json::json!({"approval": ID, "status": "awaiting"}), false),
        ("tool_started", serde_json::json!({"approval": ID}), false),
        ("tool_started", serde_json::json!({"unneeded": ID}), false),
        ("run_parked", serde_json::json!({"on": "approval", "approval": other, "replaces": ID}), false),
        ("run_parked", serde_json::json!({"on": "approval", "approval": ID}), true),
        ("signal_taken", serde_json::json!({"approval": other, "signal": "approve", "by": "cli:0"}), true),
        ("model_called", serde_json::json!({"step": 1}), true),
    ] {
        let mut context = CommandContext::of_process(String::new());
        context.err = Box::new(std::io::sink());
        let mut output = CommandOutput::new(&mut context, &GlobalOptions::default());
        let mut prompts = opened();
        take(&mut prompts, &entry(kind, &fields), &mut output);
        if prompts.is_open() != stays {
            return Err(format!("{kind} {fields}: open is {}", prompts.is_open()));
        }
    }
    Ok(())
}

#[tokio::test]
async fn a_prompt_closes_when_its_call_takes_no_answer() {
    let take = |prompts: &mut ApprovalPrompts, entry: &_, output: &mut CommandOutput<'_>| {
        prompts.take_entry(entry, output).expect("it is printed");
    };
    assert_eq!(check_closing(take), Ok(()));
}

#[tokio::test]
async fn a_prompt_that_stays_open_after_an_answer_elsewhere_is_caught() {
    assert!(check_closing(|_, _, _| ()).is_err());
}

#[test]
fn keys_are_answers_from_the_time_a_call_waits() {
    let mut prompts = ApprovalPrompts::default();
    assert!(!prompts.is_asking());
    prompts.waiting.push_back(approval());
    assert!(prompts.is_asking() && !prompts.is_open());
    assert!(opened().is_asking());
}

#[test]
fn only_named_approvers_with_the_scope_are_asked() {
    let who = |actor: &str, scopes: &[&str], token: Option<&str>| -> WhoamiResponse {
        let who = serde_json::json!({
            "version": "1", "tenant": format!("ten_{}", "01".repeat(16)), "tenant_handle": "default",
            "actor": actor, "credential": "socket", "scopes": scopes, "token": token,
        });
        serde_json::from_value(who).expect("a caller")
    };
    let mut asked = approval();
    assert!(may_answer(&who("cli:0", &["admin"], None), &asked));
    assert!(may_answer(&who("cli:0", &["approve"], None), &asked));
    assert!(!may_answer(&who("cli:0", &["read", "invoke"], None), &asked));
    let token = format!("tok_{}", "02".repeat(16));
    asked.approvers = vec!["cli:7".to_owned(), format!("token:{token}")];
    assert!(!may_answer(&who("cli:0", &["admin"], None), &asked));
    assert!(may_answer(&who("cli:7", &["approve"], None), &asked));
    assert!(may_answer(&who("token:ada", &["approve"], Some(&token)), &asked));
}
