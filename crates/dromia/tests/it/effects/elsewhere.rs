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
        "engine.retention.sessions",
        "retention.rs",
        "the_server_deletes_what_rested_and_leaves_seals_and_what_is_on_hold",
    ),
    (
        "tenants.NAME.retention.sessions",
        "retention.rs",
        "a_tenant_s_own_retention_counts_and_a_person_sees_what_is_due",
    ),
    ("approvals.allow", "approvals/rules.rs", "declared_rules_are_listed_unremovable_and_used_in_checks"),
    ("approvals.approvers", "approvers.rs", "only_named_approvers_may_answer_an_approval"),
    ("approvals.deny", "approvals/rules.rs", "declared_rules_are_listed_unremovable_and_used_in_checks"),
    ("approvals.files", "contents.rs", "where_only_named_files_count_others_may_change"),
    ("approvals.hold_ms", "waiting.rs", "an_ask_names_the_waiting_call_and_then_answers"),
    (
        "approvals.unattended",
        "approvals/rules.rs",
        "rules_answer_calls_and_unattended_sessions_are_not_asked",
    ),
    (
        "channels.NAME.attempts_max",
        "receivers.rs",
        "every_bad_receiver_ends_typed_after_exactly_the_declared_attempts",
    ),
    (
        "channels.NAME.idempotent",
        "webhook.rs",
        "a_kill_during_nonidempotent_delivery_is_unknown_and_not_repeated",
    ),
    ("channels.NAME.path", "file_channel.rs", "a_path_names_the_directory_of_a_channel"),
    ("channels.NAME.secret", "keys.rs", "a_channels_secret_signs_and_is_only_in_the_vault"),
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
    ("channels.NAME.when_busy", "file_channel.rs", "a_channel_says_what_its_messages_do_during_a_turn"),
    ("context.tainted_past", "past.rs", "foreign_text_taints_a_later_turn_that_reads_it"),
    ("egress.private_tools", "egress.rs", "an_agent_reaches_granted_open_hosts_but_never_its_server"),
    (
        "egress.https_only",
        "effects/probes.rs",
        "a_plain_request_is_refused_where_only_encrypted_ones_are_made",
    ),
    ("engine.worker_deadline_ms", "workers.rs", "a_worker_concludes_at_its_deadline_and_can_be_resumed"),
    ("http.tls.cert", "edge.rs", "a_tls_server_answers_https_and_commands_need_no_certificate"),
    ("http.tls.key", "edge.rs", "a_mismatched_tls_key_stops_startup_and_fails_the_doctor"),
    ("irreversible.action", "approvals/delayed.rs", "the_abort_setting_stops_an_irreversible_call"),
    ("irreversible.cooling_ms", "waiting.rs", "an_ask_names_the_waiting_call_and_then_answers"),
    ("engine.prompts.compaction", "identities.rs", "a_compaction_is_told_what_the_operator_says"),
    ("engine.prompts.turn", "identities.rs", "the_operators_prompts_count_where_the_agent_has_none"),
    ("engine.prompts.worker", "identities.rs", "the_operators_prompts_count_where_the_agent_has_none"),
    (
        "irreversible.second_opinion.agree",
        "opinions.rs",
        "an_objection_stops_a_payment_and_each_question_is_charged",
    ),
    (
        "irreversible.second_opinion.model",
        "opinions.rs",
        "a_person_sees_the_second_opinion_and_may_overrule_it",
    ),
    (
        "irreversible.second_opinion.objection",
        "opinions.rs",
        "an_objection_stops_a_payment_and_each_question_is_charged",
    ),
    (
        "irreversible.second_opinion.samples",
        "opinions.rs",
        "a_person_sees_the_second_opinion_and_may_overrule_it",
    ),
    ("limits.actor_inputs_per_minute_max", "edge.rs", "a_rate_limited_actor_delays_no_other_actor"),
    ("limits.drain_ms", "turns.rs", "a_stop_has_one_deadline_for_connections_and_turns"),
    ("limits.requests_max", "starved.rs", "one_tenants_tokens_cannot_take_all_streams"),
    ("limits.token_rate_max", "edge.rs", "a_rate_of_the_configuration_holds_a_token_back"),
    ("models.ALIAS.context_tokens", "requests.rs", "old_messages_outside_the_window_are_left_out_whole"),
    ("models.ALIAS.fallback", "cost.rs", "attempts_rows_journals_and_sums_agree_to_the_millionth"),
    ("models.ALIAS.routes", "model_routes.rs", "a_rule_chooses_by_kind_size_and_trust"),
    ("roles.NAME.scopes", "rights.rs", "a_role_of_the_file_is_a_role_of_tokens"),
    ("tenants.NAME.budgets", "budgets.rs", "a_declared_budgets_next_step_names_its_key_and_works"),
    ("tenants.NAME.prompts.compaction", "identities.rs", "a_compaction_is_told_what_the_operator_says"),
    ("tenants.NAME.prompts.turn", "identities.rs", "a_compaction_is_told_what_the_operator_says"),
    ("tenants.NAME.prompts.worker", "identities.rs", "the_operators_prompts_count_where_the_agent_has_none"),
    ("tenants.NAME.trust", "programs.rs", "a_program_of_a_hostile_tenant_runs_in_a_guest"),
    (
        "tools.external.NAME.agents",
        "catalogues.rs",
        "an_edited_tool_is_listed_for_its_agents_within_two_seconds",
    ),
    ("tools.external.NAME.secret", "external.rs", "an_agent_never_sees_the_secret_of_an_external_tool"),
    (
        "tools.external.NAME.tenants",
        "catalogues.rs",
        "a_tool_of_another_tenant_is_refused_as_one_that_nobody_has",
    ),
    ("tools.external.NAME.timeout_ms", "external.rs", "an_agent_never_sees_the_secret_of_an_external_tool"),
    ("tools.external.NAME.url", "external.rs", "an_agent_never_sees_the_secret_of_an_external_tool"),
    ("tools.message_hops_max", "hops.rs", "a_chain_that_nothing_bounds_is_caught"),
    ("tools.pace_ms", "rests.rs", "an_open_run_names_its_wait_and_a_working_command"),
    ("providers.NAME.answer_schemas", "requests.rs", "the_schema_of_an_answer_reaches_its_model"),
    ("workspaces.roots", "workspaces.rs", "an_unfit_workspace_is_refused_with_its_reason"),
];

/// Files that stop the program, because of a key that changes what a machine must have: the key, the file, and what is said.
pub(super) const REFUSED: &[(&str, &str, &str)] = &[
    ("version", "version: 2\n", "this program reads version 1"),
    ("listen", "listen: 192.0.2.1:1\n", "without TLS the server listens on loopback addresses only"),
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
        "sandbox.control_groups.0: is not an absolute path",
    ),
    (
        "sandbox.docker.image",
        "sandbox: { docker: { socket: /s, image: 'a b' } }\n",
        "sandbox.docker.image: is not a name of an image",
    ),
    (
        "sandbox.docker.socket",
        "sandbox: { docker: { socket: s, image: i } }\n",
        "sandbox.docker.socket: is not an absolute path",
    ),
    (
        "sandbox.firecracker.binary",
        machine!("b", "/j", "/k", "/r", 7),
        "sandbox.firecracker.binary: is not an absolute path",
    ),
    (
        "sandbox.firecracker.jailer",
        machine!("/b", "j", "/k", "/r", 7),
        "sandbox.firecracker.jailer: is not an absolute path",
    ),
    (
        "sandbox.firecracker.kernel",
        machine!("/b", "/j", "k", "/r", 7),
        "sandbox.firecracker.kernel: is not an absolute path",
    ),
    (
        "sandbox.firecracker.rootfs",
        machine!("/b", "/j", "/k", "r", 7),
        "sandbox.firecracker.rootfs: is not an absolute path",
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
        "tools.external.a.b.placement: needs `secret`",
    ),
];
