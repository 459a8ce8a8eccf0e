//! Keys whose effect is not seen on the two servers: a test of its own sees it, or a file is refused.

/// The parts of a machine.
macro_rules! machine {
    ($binary:literal, $jailer:literal, $kernel:literal, $rootfs:literal, $uid:literal) => {
        concat!(
            "sandbox: { firecracker: { binary: ",
            $binary,
            ", jailer: ",
            $jailer,
            ", kernel: ",
            $kernel,
            ", rootfs: ",
            $rootfs,
            ", uid: ",
            $uid,
            " } }\n"
        )
    };
}

/// Keys whose effect a test of its own sees: the key, the file of the test, and the test.
pub(super) const TESTS: &[(&str, &str, &str)] = &[
    (
        "approvals.allow",
        "approvals/rules.rs",
        "rules_of_the_file_are_listed_and_kept_and_whoever_asks_ahead_is_told_what_they_answer",
    ),
    ("approvals.approvers", "approvers.rs", "only_those_who_are_named_may_answer_and_each_as_the_page_says"),
    (
        "approvals.deny",
        "approvals/rules.rs",
        "rules_of_the_file_are_listed_and_kept_and_whoever_asks_ahead_is_told_what_they_answer",
    ),
    ("approvals.files", "contents.rs", "where_only_named_files_count_others_may_change"),
    ("approvals.hold_ms", "waiting.rs", "an_ask_says_what_waits_for_a_person_and_answers_once_that_came"),
    (
        "approvals.unattended",
        "approvals/rules.rs",
        "rules_answer_in_a_persons_place_and_nobody_is_asked_where_nobody_attends",
    ),
    (
        "channels.NAME.attempts_max",
        "receivers.rs",
        "every_bad_receiver_ends_typed_after_exactly_the_declared_attempts",
    ),
    (
        "channels.NAME.idempotent",
        "webhook.rs",
        "a_kill_while_a_receiver_without_ids_has_the_message_is_unknown_and_not_repeated",
    ),
    ("channels.NAME.secret", "keys.rs", "a_secret_of_a_channel_is_in_the_vault_signs_and_is_nowhere_else"),
    (
        "channels.NAME.timeout_ms",
        "receivers.rs",
        "every_bad_receiver_ends_typed_after_exactly_the_declared_attempts",
    ),
    (
        "channels.NAME.url",
        "receivers.rs",
        "every_bad_receiver_ends_typed_after_exactly_the_declared_attempts",
    ),
    ("context.tainted_past", "past.rs", "what_another_system_told_taints_a_later_turn_when_it_is_read_again"),
    (
        "egress.private_tools",
        "egress.rs",
        "an_agent_reaches_what_is_granted_and_opened_and_never_its_own_server",
    ),
    (
        "egress.https_only",
        "effects/probes.rs",
        "a_plain_request_is_refused_where_only_encrypted_ones_are_made",
    ),
    (
        "http.tls.cert",
        "edge.rs",
        "a_server_with_a_certificate_is_reached_by_https_and_the_commands_need_none",
    ),
    ("http.tls.key", "edge.rs", "a_key_of_another_certificate_stops_the_start_and_the_doctor_sees_it"),
    (
        "irreversible.action",
        "approvals/delayed.rs",
        "what_cannot_be_undone_is_aborted_where_the_file_says_so",
    ),
    (
        "irreversible.cooling_ms",
        "waiting.rs",
        "an_ask_says_what_waits_for_a_person_and_answers_once_that_came",
    ),
    (
        "irreversible.second_opinion.agree",
        "opinions.rs",
        "a_payment_to_which_a_second_model_does_not_agree_is_not_made_and_each_question_is_paid_for",
    ),
    (
        "irreversible.second_opinion.model",
        "opinions.rs",
        "a_person_who_is_asked_sees_what_the_second_model_said_and_may_overrule_it",
    ),
    (
        "irreversible.second_opinion.objection",
        "opinions.rs",
        "a_payment_to_which_a_second_model_does_not_agree_is_not_made_and_each_question_is_paid_for",
    ),
    (
        "irreversible.second_opinion.samples",
        "opinions.rs",
        "a_person_who_is_asked_sees_what_the_second_model_said_and_may_overrule_it",
    ),
    (
        "limits.actor_inputs_per_minute_max",
        "edge.rs",
        "an_actor_who_says_too_much_is_held_back_and_nobody_else_is",
    ),
    ("limits.drain_ms", "turns.rs", "a_stop_has_one_deadline_for_its_doors_and_its_turns"),
    ("limits.requests_max", "starved.rs", "a_stream_is_left_to_another_tenant_however_many_tokens_one_has"),
    ("limits.token_rate_max", "edge.rs", "a_rate_of_the_configuration_holds_a_token_back"),
    (
        "models.ALIAS.context_tokens",
        "requests.rs",
        "what_does_not_fit_the_window_is_left_out_whole_and_the_newest_never",
    ),
    ("models.ALIAS.fallback", "cost.rs", "attempts_rows_journals_and_sums_say_the_same_to_the_millionth"),
    ("roles.NAME.scopes", "rights.rs", "a_role_of_the_file_is_a_role_of_tokens"),
    ("tenants.NAME.budgets", "budgets.rs", "the_next_step_for_a_budget_of_the_file_names_its_key_and_works"),
    ("tenants.NAME.trust", "programs.rs", "a_program_of_a_hostile_tenant_runs_in_a_guest"),
    (
        "tools.external.NAME.secret",
        "external.rs",
        "an_agent_calls_a_tool_of_the_operators_with_a_secret_that_it_never_sees",
    ),
    (
        "tools.external.NAME.timeout_ms",
        "external.rs",
        "an_agent_calls_a_tool_of_the_operators_with_a_secret_that_it_never_sees",
    ),
    (
        "tools.external.NAME.url",
        "external.rs",
        "an_agent_calls_a_tool_of_the_operators_with_a_secret_that_it_never_sees",
    ),
    ("tools.message_hops_max", "hops.rs", "a_chain_that_nothing_bounds_is_caught"),
    (
        "tools.pace_ms",
        "rests.rs",
        "a_run_that_rests_or_works_names_what_it_waits_for_and_a_command_that_works",
    ),
];

/// Files that stop the program, because of a key that changes what a machine must have: the key, the file, and what is said.
pub(super) const REFUSED: &[(&str, &str, &str)] = &[
    ("version", "version: 2\n", "this program reads version 1"),
    ("listen", "listen: 192.0.2.1:1\n", "only loopback addresses are served without TLS"),
    (
        "channels.NAME.kind",
        "channels:\n  a: { kind: pigeon, agent: b, url: 'http://h/', secret: 'env:S' }\n",
        "channels.a.kind: must be one of webhook",
    ),
    (
        "egress.private_servers",
        "egress: { private_servers: ['*'] }\n",
        "egress.private_servers.0: it would open",
    ),
    ("engine.active_max", "engine: { active_max: 0 }\n", "engine.active_max: must be at least 1"),
    (
        "sandbox.control_groups",
        "sandbox: { control_groups: [a] }\n",
        "sandbox.control_groups.0: is no absolute path",
    ),
    (
        "sandbox.docker.image",
        "sandbox: { docker: { socket: /s, image: 'a b' } }\n",
        "sandbox.docker.image: is no name",
    ),
    (
        "sandbox.docker.socket",
        "sandbox: { docker: { socket: s, image: i } }\n",
        "sandbox.docker.socket: is no absolute",
    ),
    (
        "sandbox.firecracker.binary",
        machine!("b", "/j", "/k", "/r", 7),
        "sandbox.firecracker.binary: is no absolute",
    ),
    (
        "sandbox.firecracker.jailer",
        machine!("/b", "j", "/k", "/r", 7),
        "sandbox.firecracker.jailer: is no absolute",
    ),
    (
        "sandbox.firecracker.kernel",
        machine!("/b", "/j", "k", "/r", 7),
        "sandbox.firecracker.kernel: is no absolute",
    ),
    (
        "sandbox.firecracker.rootfs",
        machine!("/b", "/j", "/k", "r", 7),
        "sandbox.firecracker.rootfs: is no absolute",
    ),
    (
        "sandbox.firecracker.uid",
        machine!("/b", "/j", "/k", "/r", 0),
        "sandbox.firecracker.uid: must not be 0",
    ),
    ("sandbox.minimum", "tools: { exec: { sandbox: base } }\n", "is weaker than sandbox.minimum"),
    (
        "tools.external.NAME.placement",
        "tools: { external: { a.b: { description: D., url: 'http://h/', placement: bearer } } }\n",
        "tools.external.a.b.placement: is there without `secret`",
    ),
];
