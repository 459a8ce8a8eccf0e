//! Every guard between what a model asks for and what happens, in the order in which they stand: each is in the code, and
//! each has a test that fails where it is unplugged.
//!
//! A guard that is moved or written otherwise is missed here by its sign; one that is added gets a line of its own.

use std::fs;
use std::path::{Path, PathBuf};

/// The stages of the gate, in their order: nothing reaches the next without passing the one before.
const STAGES: [&str; 11] = [
    "canonical form",
    "action",
    "principal",
    "capability",
    "labels",
    "policy",
    "asking",
    "leaks",
    "budget and commit",
    "execution",
    "record",
];

/// A guard.
struct Guard {
    stage: &'static str,
    /// The source in which it stands, below `crates`.
    place: &'static str,
    /// What it reads like there.
    sign: &'static str,
    /// The test that fails, or notices, where it is unplugged.
    test: &'static str,
}

const fn guard(stage: &'static str, place: &'static str, sign: &'static str, test: &'static str) -> Guard {
    Guard { stage, place, sign, test }
}

const GUARDS: [Guard; 56] = [
    guard(
        "canonical form",
        "tools/src/toolbox.rs",
        ".canonical_arguments(&call.arguments)",
        "a_form_that_is_not_canonical_is_caught",
    ),
    guard(
        "action",
        "tools/src/toolbox.rs",
        "let action = action_digest(tool.name(), &arguments)",
        "a_digest_of_other_bytes_is_caught",
    ),
    guard(
        "principal",
        "gateway/src/authentication.rs",
        "core.authority().issue_scope(",
        "a_scope_issued_elsewhere_is_caught",
    ),
    guard(
        "principal",
        "gateway/src/authentication.rs",
        "revoked",
        "a_cached_token_that_was_revoked_is_caught",
    ),
    guard(
        "principal",
        "gateway/src/routes.rs",
        "Tenant(Admin)",
        "a_route_that_lets_a_viewer_write_is_caught",
    ),
    guard(
        "principal",
        "contracts/src/store/reads.rs",
        "(scope: Scope",
        "a_read_that_forgets_its_scope_is_caught",
    ),
    guard(
        "principal",
        "store/src/schema/0001_first.sql",
        "PRIMARY KEY (tenant,",
        "a_table_without_a_tenant_is_caught",
    ),
    guard(
        "capability",
        "guard/src/gate.rs",
        "rule: DEFAULT_DENY.to_owned(), reason: denial_reason(action)",
        "a_gate_that_grants_tools_models_and_replies_is_caught",
    ),
    guard(
        "capability",
        "guard/src/gate.rs",
        "self.lacks_word(",
        "a_gate_that_knows_no_privileged_tools_is_caught",
    ),
    guard(
        "capability",
        "guard/src/gate.rs",
        "find_covering_grant(",
        "a_gate_that_asks_for_no_host_is_caught",
    ),
    guard(
        "capability",
        "guard/src/gate.rs",
        "!is_granted(secret)",
        "a_gate_that_asks_for_no_secret_is_caught",
    ),
    guard(
        "capability",
        "guard/src/gate.rs",
        "capabilities.find_covering(",
        "a_gate_that_asks_no_capabilities_is_caught",
    ),
    guard(
        "capability",
        "guard/src/gate.rs",
        "self.check_bounds(",
        "a_gate_that_asks_no_capabilities_is_caught",
    ),
    guard(
        "capability",
        "guard/src/capability/token.rs",
        "revoked.contains(id)",
        "a_look_at_the_signature_alone_is_caught",
    ),
    guard(
        "capability",
        "guard/src/capability/token.rs",
        "is_own(&biscuit, index)",
        "a_token_that_is_never_verified_is_caught",
    ),
    guard(
        "labels",
        "guard/src/policy/question.rs",
        "principal.context",
        "a_gate_that_hides_labels_from_its_policy_is_caught",
    ),
    guard(
        "labels",
        "guard/src/policy/question.rs",
        "principal.endorsed",
        "a_gate_that_endorses_everything_is_caught",
    ),
    guard(
        "labels",
        "guard/src/policy/question.rs",
        "match call.network",
        "a_networked_program_that_counts_as_inside_is_caught",
    ),
    guard(
        "labels",
        "engine/src/run_kinds.rs",
        "map(|part| result_as_input(part, led_to))",
        "a_result_that_forgets_its_callers_label_is_caught",
    ),
    guard(
        "labels",
        "engine/src/session_file.rs",
        "let believes = labels == ImportLabels::Believed;",
        "a_file_that_is_believed_is_caught",
    ),
    guard(
        "labels",
        "tools/src/past_read.rs",
        "let label = label_of(content",
        "a_body_read_again_that_is_trusted_is_caught",
    ),
    guard(
        "policy",
        "guard/src/gate.rs",
        "self.policies.judge_action(",
        "a_gate_without_a_layer_of_its_policy_is_caught",
    ),
    guard(
        "policy",
        "guard/src/policy/question.rs",
        "grant::rows_for_tool(",
        "a_gate_that_ignores_the_operators_permissions_is_caught",
    ),
    guard(
        "policy",
        "guard/src/policy.rs",
        "denied(whose, BROKEN",
        "a_gate_that_takes_broken_policies_for_consent_is_caught",
    ),
    guard(
        "policy",
        "guard/src/policy.rs",
        "said.call > PolicyVerdict::Allow",
        "a_lower_layer_that_allows_is_caught",
    ),
    guard(
        "policy",
        "dromia/src/home_services.rs",
        ".with_evaluator(",
        "an_evaluation_in_the_servers_own_process_is_caught",
    ),
    guard(
        "policy",
        "dromia/src/policy/folder.rs",
        "evaluator.probe_samples(&layers)?",
        "a_policy_activated_without_a_trial_question_is_caught",
    ),
    guard(
        "policy",
        "dromia/src/policy/folder.rs",
        "let Some(place) = there.get(folder)",
        "a_lost_folder_treated_as_empty_is_caught",
    ),
    guard(
        "policy",
        "dromia/src/policy/folder.rs",
        "known != place &&",
        "an_unmounted_folder_treated_as_empty_is_caught",
    ),
    guard(
        "policy",
        "dromia/src/policy/folder/follow.rs",
        "if known.is_good",
        "a_bare_mount_point_accepted_after_a_mistake_is_caught",
    ),
    guard(
        "asking",
        "guard/src/gate.rs",
        "PolicyVerdict::Ask if",
        "a_gate_that_takes_asking_for_consent_is_caught",
    ),
    guard(
        "asking",
        "engine/src/judge.rs",
        "self.apply_opinion(",
        "an_opinion_that_is_not_asked_for_is_caught",
    ),
    guard(
        "asking",
        "contracts/src/approval/admissible.rs",
        "self.find_mistyped(",
        "a_rule_that_no_call_can_fit_is_caught",
    ),
    guard(
        "asking",
        "engine/src/judge/approval.rs",
        ".tools.executable_files(",
        "a_program_whose_files_changed_since_is_caught",
    ),
    guard(
        "asking",
        "engine/src/opinion.rs",
        "typed_texts(turn)",
        "a_request_that_shows_untrusted_text_is_caught",
    ),
    guard(
        "asking",
        "store/src/apply/approval.rs",
        "Refusal::ApprovalMoved",
        "a_start_that_uses_up_no_approval_is_caught",
    ),
    guard(
        "asking",
        "engine/src/approvals/rules.rs",
        "self.read_rule(tools, &exact",
        "a_rule_of_a_session_for_a_shell_is_caught",
    ),
    guard(
        "asking",
        "engine/src/approvals/together.rs",
        "found.source.run != first.source.run",
        "an_answer_that_goes_beyond_its_run_is_caught",
    ),
    guard(
        "leaks",
        "tools/src/toolbox.rs",
        ".leaks.scan_text(scope, call.arguments",
        "a_tool_that_looks_for_no_secrets_is_caught",
    ),
    guard(
        "leaks",
        "engine/src/owner/reply_redaction.rs",
        "mask_secrets(&mut bytes, leaks)",
        "a_way_that_hands_out_an_answer_is_caught",
    ),
    guard(
        "leaks",
        "engine/src/outcome.rs",
        "is_allowed.then_some(",
        "a_way_that_hands_out_an_answer_is_caught",
    ),
    guard(
        "leaks",
        "gateway/src/outbox/delivery.rs",
        ".leaks.scan_text(",
        "an_outbox_that_looks_for_no_secrets_is_caught",
    ),
    guard(
        "budget and commit",
        "store/src/apply/budget.rs",
        "Refusal::BudgetExhausted",
        "a_store_without_charges_is_caught",
    ),
    guard(
        "budget and commit",
        "engine/src/decide/call.rs",
        "Entry::ToolStarted(",
        "an_effect_before_its_start_is_caught",
    ),
    guard(
        "execution",
        "tools/src/toolbox/programs.rs",
        "self.check_contents(at, call)",
        "a_program_starting_with_files_changed_since_judgement_is_caught",
    ),
    guard(
        "execution",
        "tools/src/program.rs",
        "ProcessSpec { argv,",
        "a_shell_between_the_gate_and_the_kernel_is_caught",
    ),
    guard(
        "execution",
        "tools/src/toolbox/programs.rs",
        ".min(judged",
        "a_program_that_gets_more_network_than_judged_is_caught",
    ),
    guard(
        "execution",
        "tools/src/workspace.rs",
        "ResolveFlags::BENEATH",
        "a_check_followed_by_an_open_is_caught",
    ),
    guard(
        "execution",
        "tools/src/reference.rs",
        "open_below(root.as_fd()",
        "a_workspace_outside_its_root_is_caught",
    ),
    guard("execution", "sandbox/src/helper/landlock.rs", "restrict_self", "a_planted_hole_is_caught"),
    guard("execution", "guard/src/egress/client.rs", "fn judge_hop(", "a_way_out_without_a_guard_is_caught"),
    guard(
        "execution",
        "guard/src/egress/client.rs",
        "location(&response)",
        "a_redirect_that_is_followed_without_a_look_is_caught",
    ),
    guard(
        "execution",
        "guard/src/egress/clearance.rs",
        "fn judge_address(",
        "a_second_look_at_a_name_is_caught",
    ),
    guard(
        "execution",
        "guard/src/egress/client.rs",
        "const REDIRECTED",
        "a_secret_that_is_redirected_in_a_url_is_caught",
    ),
    guard(
        "record",
        "guard/src/audit/export.rs",
        "next_link(before, record) != link",
        "a_reader_that_looks_at_the_number_only_is_caught",
    ),
    guard(
        "record",
        "store/src/apply/audit.rs",
        "draft.note_acts(&mut list)",
        "an_act_without_a_record_is_caught",
    ),
];

fn crates() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// Gathers the text of every source below a directory, but for this table.
fn sources(directory: &Path, text: &mut String) {
    for entry in fs::read_dir(directory).expect("a directory") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            sources(&path, text);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            text.push_str(&fs::read_to_string(&path).expect("a source"));
        }
    }
}

/// Says what is wrong with a guard: it does not stand where it should, or nothing misses it.
fn problem(guard: &Guard, sources: &str) -> Option<String> {
    let Guard { stage, place, sign, test } = guard;
    let source = fs::read_to_string(crates().join(place)).unwrap_or_default();
    // What stands in a comment or behind the tests of a file is no guard.
    let shipped = source.split("#[cfg(test)]").next().unwrap_or_default();
    let is_code = |line: &&str| !line.trim_start().starts_with("//");
    let shipped: String = shipped.lines().filter(is_code).flat_map(|line| [line, "\n"]).collect();
    if !STAGES.contains(stage) {
        return Some(format!("there is no stage {stage}"));
    }
    if !shipped.contains(sign) {
        return Some(format!("{stage}: {place} has no {sign:?}"));
    }
    if !test.ends_with("_is_caught") || !sources.contains(&format!("fn {test}(")) {
        return Some(format!("{stage}: there is no test {test}"));
    }
    None
}

#[test]
fn each_guard_has_a_test_that_fails_without_it() {
    let mut text = String::new();
    sources(&crates(), &mut text);
    let problems: Vec<_> = GUARDS.iter().filter_map(|guard| problem(guard, &text)).collect();
    assert_eq!(problems, Vec::<String>::new());
    let mut passed: Vec<_> = GUARDS.iter().map(|guard| guard.stage).collect();
    passed.dedup();
    assert_eq!(passed, STAGES, "each stage has its guards, together and in order");
}

#[test]
fn a_missing_guard_and_a_missing_test_are_noticed() {
    let mut text = String::new();
    sources(&crates(), &mut text);
    let first = &GUARDS[0];
    for planted in [
        guard("moon", first.place, first.sign, first.test),
        guard(first.stage, first.place, "nothing of this stands there", first.test),
        guard(first.stage, "tools/src/nothing.rs", first.sign, first.test),
        guard(first.stage, first.place, first.sign, concat!("nothing_of_this_", "is_caught")),
        guard(first.stage, first.place, first.sign, "each_guard_has_a_test_that_fails_without_it"),
    ] {
        assert!(problem(&planted, &text).is_some(), "{} {} {}", planted.stage, planted.sign, planted.test);
    }
}

/// Tells whether the signs come in this order in what follows `begin` in a source.
fn is_in_order(place: &str, begin: &str, signs: &[&str]) -> bool {
    let source = fs::read_to_string(crates().join(place)).expect("a source");
    let body = source.split_once(begin).expect("it judges").1;
    let at = |sign: &&str| body.find(*sign).unwrap_or_else(|| panic!("{place} has no {sign}"));
    signs.iter().map(at).is_sorted()
}

#[test]
fn the_gate_checks_capabilities_before_policies() {
    let order = [
        "self.check_capability(",
        "self.policies.judge_action(",
        "PolicyVerdict::Allow =>",
        "PolicyVerdict::Ask if",
    ];
    let in_gate = |order: &[&str]| is_in_order("guard/src/gate.rs", "async fn judge_action(", order);
    assert!(in_gate(&order), "capability, then policy, then the verdict");
    let reversed: Vec<_> = order.iter().rev().copied().collect();
    assert!(!in_gate(&reversed), "nothing notices another order");
}

#[test]
fn a_call_is_judged_in_its_order() {
    let order = [
        "self.check_mask(",
        "self.find_call(",
        "self.check_client_tool(",
        "self.check_arguments(",
        "self.check_plan(",
        "self.check_repetition(",
        "self.with_network(",
        "self.provenance_of(",
        "self.ask_gate(",
        "self.apply_opinion(",
        "self.apply_verdict(",
    ];
    assert!(
        is_in_order("engine/src/judge.rs", "async fn run_checks(", &order),
        "form and canonical action, then what the gate is asked with, the gate, a second opinion, and the person"
    );
}
