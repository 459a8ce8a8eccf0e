//! The suite that every store passes, and random sequences to compare two stores.
//!
//! Each claim is an async function of its own that takes a fresh store and panics where the port's promise does not
//! hold; [`CLAIMS`] lists them by name, [`check_store()`] runs them all. [`random`] makes sequences of batches, and
//! [`compare::equal_receipts_and_reads`] plays one against two stores. [`tenants`] has two tenants on one store, each
//! of which must be answered as if it were alone. [`acts`] looks for the audit record of each change.

pub mod acts;
pub mod compare;
pub mod random;
pub mod tenant_erasure;
pub mod tenants;

mod approval;
mod budget;
mod capability;
mod checkpoint;
mod claim;
mod commit;
mod cost;
mod crowded;
mod deliver;
mod feed;
mod file;
mod ids;
mod import;
mod journal;
mod kept_answer;
mod lease;
mod report;
mod retention;
mod revision;
mod scene;
mod task;
mod tenancy;
mod token;
mod vault;

use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use dromia_contracts::BoxFuture;
use dromia_contracts::store::Store;
use futures_util::FutureExt as _;

pub use report::{ClaimReport, conformance_table};
pub use scene::StoreScene;

/// One promise of the port, as a test of one fresh store.
pub type Claim = fn(Arc<dyn Store>) -> BoxFuture<'static, ()>;

macro_rules! claims {
    ($($module:ident::$claim:ident,)+) => {
        /// Every claim with its name.
        pub const CLAIMS: &[(&str, Claim)] = &[$((
            stringify!($claim),
            |store| Box::pin($module::$claim(store)),
        )),+];
    };
}

claims! {
    commit::a_batch_submitted_twice_gives_the_receipt_of_the_first_time,
    commit::a_batch_that_names_a_thing_twice_makes_it_once,
    commit::a_refused_batch_leaves_no_row,
    commit::a_batch_over_the_limits_is_malformed,
    commit::a_handle_is_taken_once,
    commit::a_state_entry_changes_only_from_the_version_expected,
    commit::of_two_writers_of_the_same_value_at_the_same_time_one_writes,
    commit::a_session_holds_so_many_state_entries_and_gives_them_in_pages,
    commit::a_key_stands_for_one_item,
    commit::a_key_of_a_day_is_free_after_24_hours_and_a_key_for_ever_is_not,
    commit::a_key_that_was_used_again_outlives_the_agent_of_its_first_item,
    commit::an_agents_state_changes_only_from_the_states_named,
    commit::erasing_an_agent_leaves_nothing_of_it_and_all_of_its_neighbour,
    commit::a_pin_goes_with_the_last_agent_whose_runs_name_it,
    revision::a_revision_follows_the_current_one_and_no_other,
    revision::a_change_under_one_key_makes_one_revision,
    revision::a_handle_that_was_given_up_is_free_at_once,
    revision::an_agent_that_ended_is_neither_revised_nor_renamed,
    revision::old_revisions_go_and_those_of_runs_stay,
    revision::a_stranger_sees_no_revision_and_an_erasure_takes_them,
    revision::a_document_is_kept_with_its_revision_until_its_last_agent_goes,
    claim::a_claim_takes_the_next_items_in_order_and_the_put_of_its_own_batch,
    claim::a_claim_that_cannot_be_had_leaves_the_mutations_standing,
    claim::at_most_one_turn_is_active_under_many_claimers,
    claim::a_terminal_head_frees_the_session,
    claim::an_agent_that_is_not_running_grants_no_claim,
    claim::a_paused_agent_grants_a_claim_that_begins_nothing,
    claim::a_suspended_tenant_keeps_its_input_and_grants_no_claim,
    claim::a_session_with_waiting_items_and_no_turn_is_pending,
    claim::a_tail_holds_whole_runs_and_what_waits,
    ids::an_id_is_found_by_its_first_and_by_its_last_digits,
    ids::digits_that_several_ids_share_find_all_of_them_newest_first,
    ids::a_stranger_and_the_scope_of_another_agent_find_no_id,
    ids::a_run_and_a_session_are_known_by_the_input_that_began_them,
    import::what_an_import_fills_is_there_only_when_it_ends,
    import::an_item_that_waits_in_an_import_is_nobodys_work,
    retention::an_erased_session_is_hidden_at_once_with_its_children_and_goes_page_by_page,
    retention::what_keeps_a_session_keeps_it_and_its_parent,
    retention::a_session_is_due_when_nothing_happened_in_it_since_the_time,
    retention::a_tree_that_one_commit_cannot_hold_goes_in_several,
    retention::a_hold_keeps_its_session_its_agent_and_its_tenant,
    journal::an_append_holds_only_at_the_runs_epoch_and_number,
    journal::a_takeover_raises_the_epoch_and_fences_the_old_owner,
    journal::an_ended_run_never_changes,
    journal::a_journal_is_chained_numbered_and_paged,
    journal::a_signal_waits_in_the_runs_inbox_until_it_is_taken,
    journal::a_receipt_names_the_last_signal_of_its_run,
    journal::a_running_turn_takes_the_next_inputs_of_its_session,
    journal::an_ended_run_takes_no_signal,
    journal::a_run_that_has_not_ended_is_open,
    journal::runs_that_time_wakes_are_listed_by_their_time_in_pages_and_none_of_what_is_erased,
    checkpoint::a_checkpoint_is_stored_with_its_entries,
    checkpoint::a_checkpoint_is_bounded_and_erased_with_its_run,
    checkpoint::a_takeover_and_its_first_entries_are_one_commit,
    checkpoint::a_tail_ends_where_it_is_asked_to,
    lease::a_takeover_is_refused_while_another_holder_lives,
    lease::a_run_that_rests_has_no_holder,
    lease::a_settlement_is_refused_while_another_holder_lives,
    lease::a_new_life_of_a_node_ends_the_one_before,
    budget::a_call_is_reserved_with_its_entry_and_settled_with_its_answer,
    budget::a_batch_that_a_budget_has_no_room_for_leaves_no_row,
    budget::two_runs_do_not_both_get_the_last_of_a_budget,
    budget::a_repeated_batch_is_charged_once,
    budget::a_period_begins_with_its_first_call_and_another_count,
    budget::a_call_that_ends_in_a_later_period_leaves_the_count_of_that_period,
    budget::a_wavering_clock_grants_no_period_budget_twice,
    budget::a_budget_that_counts_otherwise_begins_anew,
    budget::a_tenant_has_so_many_budgets_and_a_stranger_sees_none,
    approval::an_approval_is_used_up_in_the_commit_of_the_start_that_it_allows,
    approval::an_approval_allows_one_action_and_no_other,
    approval::an_approval_is_answered_once_and_in_time,
    approval::a_run_lets_go_of_an_approval_or_gets_its_answer_and_never_both,
    approval::what_ends_a_call_withdraws_its_approval_and_an_import_moves_none,
    approval::approvals_are_listed_newest_first_by_agent_and_while_they_are_open,
    approval::what_cools_is_listed_in_turns_and_by_its_time_while_it_is_open,
    approval::a_stranger_sees_and_answers_no_approval_and_an_erasure_takes_it,
    approval::rules_of_approvals_are_kept_by_name_until_one_comes_after_their_end,
    approval::the_end_of_an_agent_withdraws_what_was_approved_and_no_run_has,
    crowded::so_many_approvals_of_a_tenant_are_open_and_one_more_is_refused,
    crowded::a_request_in_the_place_of_another_is_none_more,
    crowded::of_answered_approvals_the_oldest_go_and_none_that_may_still_be_moved,
    crowded::approvals_that_may_not_go_hold_up_none_behind_them,
    cost::what_a_run_spent_is_told_by_model_and_sums_up_to_its_attempts,
    cost::runs_with_what_they_spent_are_paged_like_runs_and_hidden_like_runs,
    cost::only_troubled_runs_are_listed_and_sums_count_the_newest_runs,
    deliver::a_message_is_prepared_with_its_entry_or_not_at_all,
    deliver::a_message_of_a_claim_that_is_not_granted_is_not_prepared,
    deliver::an_attempt_begins_once_and_only_for_the_first_of_its_target,
    deliver::what_came_of_an_attempt_is_said_once_and_kept_as_a_receipt,
    deliver::a_dead_or_unknown_message_blocks_nobody_and_a_failed_one_does,
    deliver::a_message_is_redriven_once_however_often_it_is_asked,
    deliver::the_outbox_shows_the_first_open_message_of_each_target,
    deliver::deliveries_are_listed_newest_first_by_state_and_target,
    deliver::a_stranger_sees_and_moves_no_delivery,
    deliver::erasing_an_agent_takes_its_messages_and_leaves_the_feeds_end,
    feed::a_feed_is_numbered_once_without_gap_in_the_order_of_each_target,
    feed::what_waits_for_a_number_is_listed_by_tenant_and_after_one,
    feed::a_cursor_moves_forward_only_and_never_beyond_the_end,
    tenancy::a_row_of_another_tenant_is_refused_by_the_store,
    tenancy::a_stranger_finds_nothing,
    tenancy::a_scope_narrowed_to_one_agent_finds_nothing_of_another,
    tenant_erasure::an_erasure_takes_a_suspended_tenant_and_no_neighbour,
    token::a_token_is_found_with_everything_that_was_registered,
    token::a_token_is_registered_once,
    token::tokens_are_listed_by_id_in_pages_and_by_name,
    token::a_token_is_revoked_once_and_for_good,
    token::a_token_that_expired_is_found_and_says_so,
    token::a_stranger_sees_and_revokes_no_token,
    kept_answer::one_claim_has_a_key_and_keeps_one_answer,
    kept_answer::a_key_that_was_given_back_is_claimed_again,
    kept_answer::a_tenant_keeps_a_bounded_number_of_answers,
    kept_answer::a_key_belongs_to_its_tenant,
    vault::a_tenants_key_of_secrets_is_put_once,
    vault::a_tenants_key_of_secrets_gives_way_to_another_by_its_name,
    vault::a_version_of_a_secret_takes_the_place_of_the_one_before,
    vault::an_erased_secret_is_gone,
    vault::secrets_are_listed_by_name_in_pages,
    vault::a_stranger_sees_and_changes_no_secret,
    capability::a_capability_is_put_once_and_taken_back_for_good,
    capability::a_capability_that_is_let_go_of_is_gone_and_so_are_those_of_an_erased_agent,
    capability::a_stranger_sees_and_changes_no_capability,
    task::a_spawned_task_is_listed_below_its_root_with_its_run,
    task::a_session_has_so_many_open_children_of_a_kind,
    task::an_agent_has_so_many_open_tasks_and_one_more_is_refused,
    task::a_task_goes_no_deeper_than_its_bound,
    task::a_notice_is_put_with_its_claim_or_not_at_all,
    task::a_stranger_sees_and_spawns_no_task_of_another_tenant,
    file::what_was_said_last_of_a_file_counts_and_what_counts_for_the_rest_never_goes_down,
    file::so_many_files_are_known_and_a_further_one_counts_for_the_rest,
    file::a_stranger_knows_and_says_nothing_of_files_and_an_erasure_takes_it,
}

/// Claims of stores with the test that shows that the suite notices a store which breaks them.
pub const PLANTED_FAULTS: &[(&str, &str)] = &[
    (
        "digits_that_several_ids_share_find_all_of_them_newest_first",
        "a_part_that_picks_one_of_two_ids_is_caught",
    ),
    ("a_takeover_is_refused_while_another_holder_lives", "a_takeover_that_asks_no_lease_is_caught"),
    ("a_settlement_is_refused_while_another_holder_lives", "a_settle_of_a_living_holders_attempt_is_caught"),
    ("a_hold_keeps_its_session_its_agent_and_its_tenant", "a_hold_that_is_forgotten_is_caught"),
    (
        "an_erased_session_is_hidden_at_once_with_its_children_and_goes_page_by_page",
        "an_erased_session_that_is_not_hidden_is_caught",
    ),
    ("a_revision_follows_the_current_one_and_no_other", "a_change_with_an_old_if_match_that_wins_is_caught"),
    (
        "a_wavering_clock_grants_no_period_budget_twice",
        "a_forgotten_period_after_a_clock_step_back_is_caught",
    ),
    (
        "a_call_that_ends_in_a_later_period_leaves_the_count_of_that_period",
        "a_late_settlement_that_deletes_newer_counts_is_caught",
    ),
    ("an_agent_has_so_many_open_tasks_and_one_more_is_refused", "an_open_task_that_is_not_counted_is_caught"),
    ("a_notice_is_put_with_its_claim_or_not_at_all", "a_notice_that_does_not_wait_for_its_claim_is_caught"),
];

/// Runs every claim, each against a fresh store, and panics with the name of the first that does not hold.
pub async fn check_store<F>(make: impl Fn() -> F)
where
    F: Future<Output = Arc<dyn Store>>,
{
    for ClaimReport { claim, problem, .. } in report_store(make).await {
        if let Some(problem) = problem {
            panic!("{claim} does not hold: {problem}");
        }
    }
}

/// Runs every claim, each against a fresh store, and reports on all of them.
pub async fn report_store<F>(make: impl Fn() -> F) -> Vec<ClaimReport>
where
    F: Future<Output = Arc<dyn Store>>,
{
    let mut reports = Vec::new();
    for (claim, check) in CLAIMS {
        let store = make().await;
        let played = AssertUnwindSafe(check(store)).catch_unwind().await;
        let planted = PLANTED_FAULTS.iter().find(|(known, _)| known == claim);
        let problem = played.err().map(|panic| {
            let text = panic.downcast_ref::<String>().map(String::as_str);
            text.or_else(|| panic.downcast_ref::<&str>().copied())
                .unwrap_or("a panic without text")
                .to_owned()
        });
        reports.push(ClaimReport { claim, fault: planted.map(|(_, test)| *test), problem });
    }
    reports
}
