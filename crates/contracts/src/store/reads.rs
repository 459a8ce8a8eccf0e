//! The reads of the port, each declared once: its name, the scope that it sees with, its arguments and its result.
//!
//! A new read is a line here, an answer in each store, and nothing in what wraps a store.

/// Replays the list of a store's reads to a macro, which writes each one with a body of its own.
///
/// The macro gets `fn name(scope: Scope, argument: Type, …) -> Result;` with its comment for each read. `Scope` is the name of
/// what the read sees with, in [`crate`]: a scope of a tenant, or the right of an operator for a read of the whole node.
/// References in the types have the lifetime `'a`.
#[macro_export]
macro_rules! replay_store_reads {
    ($replay:ident) => {
        $replay! {
            /// Lists tenants. One that is being erased is not found, here and by its handle, id and tokens.
            fn tenants(
                operator: OperatorScope,
                page: $crate::store::PageRequest<$crate::id::TenantId>
            ) -> Vec<$crate::agent::TenantRecord>;

            /// Finds a tenant by its handle.
            fn tenant_by_handle(
                operator: OperatorScope,
                handle: &'a $crate::agent::HandleSlug
            ) -> Option<$crate::agent::TenantRecord>;

            /// Finds the scope's own tenant.
            fn tenant_record(scope: Scope) -> Option<$crate::agent::TenantRecord>;

            /// Counts what the scope's tenant has.
            fn tenant_counts(scope: Scope) -> $crate::agent::TenantCounts;

            /// Finds whose credential a token is, by BLAKE3 of the token. One that expired or was revoked is
            /// found too: the store has no clock, so the caller judges by what the record says.
            fn find_token_owner(
                operator: OperatorScope,
                hash: $crate::digest::Digest
            ) -> Option<$crate::store::TokenOwner>;

            /// Lists runs that have not ended, in the order of tenant and run.
            fn open_runs(
                operator: OperatorScope,
                page: $crate::store::PageRequest<($crate::id::TenantId, $crate::id::RunId)>
            ) -> Vec<$crate::store::OpenRun>;

            /// Lists parked runs that are woken by time, the earliest first, then in the order of tenant and
            /// run. None of an agent that is being erased.
            fn parked_runs(
                operator: OperatorScope,
                page: $crate::store::PageRequest<(::jiff::Timestamp, $crate::id::TenantId, $crate::id::RunId)>
            ) -> Vec<$crate::store::OpenRun>;

            /// Lists runs that have not ended and have a signal that no entry took, in the order of tenant and run. None of an
            /// agent that is being erased.
            fn signalled_runs(
                operator: OperatorScope,
                page: $crate::store::PageRequest<($crate::id::TenantId, $crate::id::RunId)>
            ) -> Vec<$crate::store::OpenRun>;

            /// Lists sessions of running agents with waiting items and no active turn, in the order of tenant
            /// and session. None of a tenant that is suspended.
            fn pending_sessions(
                operator: OperatorScope,
                page: $crate::store::PageRequest<($crate::id::TenantId, $crate::id::SessionId)>
            ) -> Vec<$crate::store::PendingSession>;

            /// Lists agents of every tenant that are being erased.
            fn deleting_agents(operator: OperatorScope) -> Vec<($crate::id::TenantId, $crate::id::AgentId)>;

            /// Lists tenants that are being erased.
            fn deleting_tenants(operator: OperatorScope) -> Vec<$crate::id::TenantId>;

            /// Lists sessions of every tenant that a commit erased and whose rows are not all gone.
            fn erasing_sessions(operator: OperatorScope)
                -> Vec<($crate::id::TenantId, $crate::id::SessionId)>;

            /// Returns the hold of a session.
            fn session_hold(
                scope: Scope,
                session: $crate::id::SessionId
            ) -> Option<$crate::retention::SessionHold>;

            /// Lists the sessions on hold by id, newest first.
            fn held_sessions(
                scope: Scope,
                page: $crate::store::PageRequest<$crate::id::SessionId>
            ) -> Vec<($crate::id::SessionId, $crate::retention::SessionHold)>;

            /// Looks at the next sessions by id that were opened before a time, for those in which nothing happened since and that
            /// nothing keeps. A page looks at as many sessions as it may have rows.
            fn idle_sessions(
                scope: Scope,
                before: ::jiff::Timestamp,
                page: $crate::store::PageRequest<$crate::id::SessionId>
            ) -> $crate::retention::IdlePage;

            /// Lists the tenant's tokens, optionally only those of one name. A scope that is narrowed to an
            /// agent sees none.
            fn tokens(
                scope: Scope,
                name: Option<&'a str>,
                page: $crate::store::PageRequest<$crate::id::TokenId>
            ) -> Vec<$crate::token::TokenRecord>;

            /// Finds a token by its id.
            fn token_by_id(scope: Scope, token: $crate::id::TokenId) -> Option<$crate::token::TokenRecord>;

            /// Lists the tenant's budgets by name, with what is used of them in the period that the time lies
            /// in. A scope that is narrowed to an agent sees none.
            fn budgets(scope: Scope, at: ::jiff::Timestamp) -> Vec<$crate::budget::BudgetUse>;

            /// Finds an approval.
            fn approval(
                scope: Scope,
                approval: $crate::id::ApprovalId
            ) -> Option<$crate::approval::ApprovalRequest>;

            /// Lists approvals.
            fn approvals(
                scope: Scope,
                filter: $crate::store::ApprovalFilter,
                page: $crate::store::PageRequest<$crate::id::ApprovalId>
            ) -> Vec<$crate::approval::ApprovalRequest>;

            /// Lists approvals of every tenant that are open at a time and have a time to cool. The tenants
            /// take turns: of each the one that is allowed next, these by their time, then of each the one
            /// after it, and so on. None of an agent that is being erased. The first `skip` are passed over:
            /// the caller knows how many it left where they are.
            fn cooling_approvals(
                operator: OperatorScope,
                open_at: ::jiff::Timestamp,
                skip: usize,
                limit: usize
            ) -> Vec<$crate::store::CoolingApproval>;

            /// Lists the tenant's rules of approvals by name, those that have ended included. A scope that is
            /// narrowed to an agent sees none.
            fn approval_rules(scope: Scope) -> Vec<$crate::approval::ApprovalRuleRecord>;

            /// Lists agents, optionally only those in one state.
            fn agents(
                scope: Scope,
                state: Option<$crate::agent::AgentState>,
                page: $crate::store::PageRequest<$crate::id::AgentId>
            ) -> Vec<$crate::agent::AgentRecord>;

            /// Finds an agent. One that is being erased is not found.
            fn agent(scope: Scope, agent: $crate::id::AgentId) -> Option<$crate::agent::AgentRecord>;

            /// Finds an agent by its handle.
            fn agent_by_handle(
                scope: Scope,
                handle: &'a $crate::agent::HandleSlug
            ) -> Option<$crate::agent::AgentRecord>;

            /// Reads a configuration of an agent.
            fn agent_revision(
                scope: Scope,
                agent: $crate::id::AgentId,
                digest: $crate::digest::Digest
            ) -> Option<$crate::agent::AgentRevision>;

            /// Lists the revisions of an agent, the newest first; a page goes on below a number.
            fn agent_revisions(
                scope: Scope,
                agent: $crate::id::AgentId,
                page: $crate::store::PageRequest<u64>
            ) -> Vec<$crate::revision::RevisionRecord>;

            /// Finds a session.
            fn session(
                scope: Scope,
                session: $crate::id::SessionId
            ) -> Option<$crate::session::SessionRecord>;

            /// Finds a session by its key.
            fn session_by_key(
                scope: Scope,
                agent: $crate::id::AgentId,
                key: &'a $crate::session::SessionKey
            ) -> Option<$crate::session::SessionRecord>;

            /// Lists sessions, optionally of one agent.
            fn sessions(
                scope: Scope,
                agent: Option<$crate::id::AgentId>,
                page: $crate::store::PageRequest<$crate::id::SessionId>
            ) -> Vec<$crate::session::SessionRecord>;

            /// Reads the newest part of a session, as one snapshot.
            fn session_tail(
                scope: Scope,
                session: $crate::id::SessionId,
                limits: $crate::store::TailLimits
            ) -> Option<$crate::store::SessionTail>;

            /// Finds the ids of one noun that begin or end with some digits, the newest first.
            fn ids_like(
                scope: Scope,
                kind: $crate::id_fragment::IdKind,
                fragment: $crate::id_fragment::IdFragment,
                limit: usize
            ) -> Vec<[u8; 16]>;

            /// Finds a run.
            fn run(scope: Scope, run: $crate::id::RunId) -> Option<$crate::run::RunRecord>;

            /// Lists runs.
            fn runs(
                scope: Scope,
                filter: $crate::store::RunFilter,
                page: $crate::store::PageRequest<$crate::id::RunId>
            ) -> Vec<$crate::run::RunRecord>;

            /// Lists runs that a person may want to look at: held ones first, then those that yielded or
            /// failed at a time or later; each of the three newest first by their last entry.
            fn troubled_runs(
                scope: Scope,
                since: ::jiff::Timestamp,
                limit: usize
            ) -> Vec<$crate::run::RunRecord>;

            /// Lists runs that have something to do, then those that rest, each newest first. Only the newest open
            /// runs are looked at, at most [`WORKING_LOOKS_MAX`]($crate::store::WORKING_LOOKS_MAX).
            fn working_runs(scope: Scope, limit: usize) -> Vec<$crate::run::RunRecord>;

            /// Sums up what runs spent that began with this id or later, of at most so many, the newest. Runs
            /// that came as a file are left out.
            fn spending_since(scope: Scope, first: $crate::id::RunId, limit: usize) -> $crate::store::SpendingSum;

            /// Lists runs with what they spent on each model. Only the small facts of the entries are read:
            /// no body is fetched and no chain is checked, so this is for sums that people look at and never
            /// for deciding.
            fn run_spending(
                scope: Scope,
                filter: $crate::store::RunFilter,
                page: $crate::store::PageRequest<$crate::id::RunId>
            ) -> Vec<$crate::store::RunSpending>;

            /// Lists the children in a run tree, whose parents are its root and runs below it, in the order of their sessions: each
            /// with its run, if it has begun. Those of an agent that the scope does not see are left out.
            fn child_sessions(
                scope: Scope,
                root: $crate::id::RunId,
                page: $crate::store::PageRequest<$crate::id::SessionId>
            ) -> Vec<$crate::task::ChildSession>;

            /// Lists the children that conclude in a session, in the order of their own sessions; with `open` only those that have
            /// not ended. Those of an agent that the scope does not see are left out.
            fn session_children(
                scope: Scope,
                session: $crate::id::SessionId,
                open: bool,
                page: $crate::store::PageRequest<$crate::id::SessionId>
            ) -> Vec<$crate::task::ChildSession>;

            /// Reads the journal of a run after an entry; empty for a run that is not found.
            fn journal_entries(
                scope: Scope,
                run: $crate::id::RunId,
                after: u64,
                limit: usize
            ) -> Vec<$crate::store::StoredEntry>;

            /// Finds the last checkpoint of a run.
            fn run_checkpoint(scope: Scope, run: $crate::id::RunId) -> Option<$crate::store::RunCheckpoint>;

            /// Reads an inbox after a position.
            fn inbox_items(
                scope: Scope,
                owner: $crate::session::InboxOwner,
                after: u64,
                limit: usize
            ) -> Vec<$crate::session::InboxItem>;

            /// Reads the bodies of the inputs that runs and sessions began with, for people who look for one: the
            /// first item that a run took, and the first of a session. Absent is what is not found, what no input
            /// began, what is longer than [`OPENING_BYTES_MAX`]($crate::store::OPENING_BYTES_MAX), and what does not
            /// fit into [`OPENINGS_BYTES_MAX`]($crate::store::OPENINGS_BYTES_MAX) with those before it.
            fn opening_inputs(
                scope: Scope,
                owners: &'a [$crate::session::InboxOwner]
            ) -> Vec<Option<::bytes::Bytes>>;

            /// Finds the item that a caller's key refers to at a time, as a batch of that time would meet it.
            /// A scope that is narrowed to an agent finds none.
            fn find_keyed_item(
                scope: Scope,
                key: &'a str,
                at: ::jiff::Timestamp
            ) -> Option<$crate::store::KeyedItem>;

            /// Reads a text that journals name by digest.
            fn pinned_text(scope: Scope, digest: $crate::digest::Digest) -> Option<::bytes::Bytes>;

            /// Lists the custom state of a session, by name.
            fn session_state(
                scope: Scope,
                session: $crate::id::SessionId,
                page: $crate::store::PageRequest<&'a str>
            ) -> Vec<$crate::store::StateEntry>;

            /// Reads one custom state entry of a session.
            fn state_entry(
                scope: Scope,
                session: $crate::id::SessionId,
                name: &'a str
            ) -> Option<$crate::store::StateEntry>;

            /// Finds a delivery with its message and its newest attempts.
            fn delivery_record(
                scope: Scope,
                delivery: $crate::id::DeliveryId
            ) -> Option<$crate::delivery::DeliveryRecord>;

            /// Lists deliveries.
            fn deliveries(
                scope: Scope,
                filter: $crate::store::DeliveryFilter,
                page: $crate::store::PageRequest<$crate::id::DeliveryId>
            ) -> Vec<$crate::delivery::DeliverySummary>;

            /// Lists the first open delivery of each target, in the order of tenant and target.
            fn open_deliveries(
                operator: OperatorScope,
                page: $crate::store::PageRequest<($crate::id::TenantId, String)>
            ) -> Vec<$crate::delivery::OpenDelivery>;

            /// Reads the first open delivery of one target.
            fn first_open_delivery(
                operator: OperatorScope,
                tenant: $crate::id::TenantId,
                target: &'a str
            ) -> Option<$crate::delivery::OpenDelivery>;

            /// Counts the open deliveries of a target.
            fn outbox_waiting(operator: OperatorScope, tenant: $crate::id::TenantId, target: &'a str) -> u64;

            /// Lists deliveries without a number in their feed: those of a target in their order, a tenant's
            /// together. Of tenants after one only, where one is named.
            fn unnumbered_deliveries(
                operator: OperatorScope,
                after: Option<$crate::id::TenantId>,
                limit: usize
            ) -> Vec<($crate::id::TenantId, $crate::id::DeliveryId)>;

            /// Reads the tenant's feed after a number. A page ends early with the message that passes 1 MiB.
            fn feed_items(scope: Scope, after: u64, limit: usize) -> Vec<$crate::delivery::FeedItem>;

            /// Returns how far the tenant's feed has come and who reads it. A scope that is narrowed to an
            /// agent sees no subscriber.
            fn feed_state(scope: Scope) -> $crate::delivery::FeedState;

            /// Reads the tenant's key of secrets, as it was sealed.
            fn vault_key(scope: Scope) -> Option<::bytes::Bytes>;

            /// Lists the tenant's secrets by name, also under a scope that is narrowed to an agent: its
            /// grants say which of them it may use.
            fn secrets(
                scope: Scope,
                page: $crate::store::PageRequest<&'a str>
            ) -> Vec<$crate::vault::SealedSecret>;

            /// Finds a secret by its name.
            fn secret(scope: Scope, name: &'a str) -> Option<$crate::vault::SealedSecret>;

            /// Finds what is kept under the key of a client's change. A scope that is narrowed to an agent sees none.
            fn kept_answer(scope: Scope, key: $crate::digest::Digest) -> Option<$crate::store::AnswerPut>;

            /// Lists capabilities by id. A scope that is narrowed to an agent sees those that it holds.
            fn capabilities(
                scope: Scope,
                page: $crate::store::PageRequest<$crate::id::CapabilityId>
            ) -> Vec<$crate::capability::CapabilityRecord>;

            /// Returns what is known of a file of an agent's workspace; of nothing, where the agent is not
            /// found.
            fn file_label(scope: Scope, agent: $crate::id::AgentId, path: &'a str) -> $crate::file::KnownFile;

            /// Lists the files of an agent's workspace of which something is known, by path.
            fn file_labels(
                scope: Scope,
                agent: $crate::id::AgentId,
                page: $crate::store::PageRequest<&'a str>
            ) -> Vec<(String, $crate::file::FileLabel)>;
        }
    };
}
