//! The texts of `dromia explain`, one per code. A new code does not compile without its text.

use dromia_api::ErrorCode;

/// The text of one code: two sentences that begin small and have no full stop.
pub(super) struct ErrorCodePage {
    pub(super) meaning: &'static str,
    pub(super) todo: &'static str,
}

pub(super) const fn new_page(meaning: &'static str, todo: &'static str) -> ErrorCodePage {
    ErrorCodePage { meaning, todo }
}

pub(super) const fn page_for_code(code: ErrorCode) -> ErrorCodePage {
    match code {
        ErrorCode::InvalidRequest => new_page(
            "the request is not what the endpoint takes: a field is missing, unknown, of the wrong type or out of range",
            "read the message, which names the place, and mend the request",
        ),
        ErrorCode::BodyTooLarge => new_page(
            "the body of the request, or the text of an input, is longer than the server takes",
            "send less, in several messages or as a file of the agent; where the message names limits.body_bytes_max, an operator raises it",
        ),
        ErrorCode::Unauthorized => new_page(
            "the request carries no credential, or one that nobody issued or that no longer counts",
            "send `Authorization: Bearer TOKEN` with the token that was shown when the tenant or token was made; the \
             file `token` in the home holds the first one",
        ),
        ErrorCode::Forbidden => new_page(
            "the credential is good, but not for this",
            "use a credential that may do it, or do it on the server's Unix socket as its operator",
        ),
        ErrorCode::RouteNotFound => new_page(
            "the server has no such route, or not for this method",
            "compare path and method with `GET /openapi.json`",
        ),
        ErrorCode::TenantNotFound => new_page(
            "the tenant does not exist, or the caller cannot see it",
            "`dromia tenant list` names those there are; name one with -T",
        ),
        ErrorCode::AgentNotFound => new_page(
            "the agent does not exist in this tenant, or the caller cannot see it",
            "`dromia agent list` names those there are; name one with --agent, or the tenant with -T",
        ),
        ErrorCode::SessionNotFound => new_page(
            "the session does not exist in this tenant, or it was erased with its agent",
            "`dromia session list` names those there are; without --session a message begins a new one",
        ),
        ErrorCode::RunNotFound => new_page(
            "the run does not exist in this tenant, or it was erased with its agent",
            "`dromia run list` names those there are; check the tenant with -T",
        ),
        ErrorCode::StateNotFound => new_page(
            "the session has no state entry of this name",
            "list the session's state; names are exact",
        ),
        ErrorCode::TokenNotFound => new_page(
            "the tenant has no token of this name or id",
            "`dromia token list` names those there are; a token of another tenant is named with -T",
        ),
        ErrorCode::SecretNotFound => new_page(
            "the secret does not exist in this tenant",
            "`dromia secret list` names those there are; check the tenant with -T",
        ),
        ErrorCode::CapabilityNotFound => new_page(
            "the capability does not exist in this tenant, or it went with its holder",
            "`dromia capability list` names those there are; check the tenant with -T",
        ),
        ErrorCode::CapabilityUnreadable => new_page(
            "the bytes are no capability token, or somebody changed them: a signature does not hold, a block says more than \
             which rights are left, or it is longer than a token may be",
            "give the token as `dromia capability grant` or `delegate` printed it, whole and on one line",
        ),
        ErrorCode::CapabilityForeign => new_page(
            "the capability token begins with a root key that does not count here: it was made in another tenant, in another \
             home, or before this tenant's key was replaced",
            "have a capability granted in this tenant with `dromia capability grant`; check the tenant with -T",
        ),
        ErrorCode::CapabilityRefused => new_page(
            "a capability cannot be made so: what it would be made from was taken back or has expired, covers less than is \
             asked for, bounds a task, or was handed on fifteen times already",
            "look at what there is with `dromia capability list`, and narrow one that stands or grant a new one",
        ),
        ErrorCode::VaultLocked => new_page(
            "the tenant has secrets, and they cannot be opened: the key of this home is missing, or it is another one than \
             they were sealed with",
            "put the right vault.key back into the home, readable by its owner only; `dromia doctor --only vault` says what does \
             not open. If it is lost, so are the values: `dromia secret reset` gives up the secrets of the tenant with its \
             capabilities, so that its answers go out again and it takes new ones; where the file is missing, the owner of the \
             home alone does so, on the server's machine",
        ),
        ErrorCode::ToolNotFound => {
            new_page("the server has no tool of this name", "`dromia tool list` names those there are")
        }
        ErrorCode::RecordNotFound => new_page(
            "the record of the audit does not exist in this tenant, or it was erased with its agent",
            "`dromia audit query` names those there are; check the tenant with -T",
        ),
        ErrorCode::DeliveryNotFound => new_page(
            "the delivery does not exist in this tenant, or it was erased with its agent",
            "`dromia delivery list` names those there are; check the tenant with -T",
        ),
        ErrorCode::DeliveryUncertain => new_page(
            "the message was sent, it may have arrived, and its receiver takes no id, so it would count it twice",
            "ask the receiver; if it is missing there, send it with `dromia delivery redrive ID --accept-double`. \
             A receiver that counts each webhook-id once is marked with channels.NAME.idempotent: true",
        ),
        ErrorCode::SignatureRefused => new_page(
            "no channel of this name signed the message, its id is no id, or its time is too far from now; which of \
             them a stranger is not told",
            "sign `webhook-id.webhook-timestamp.body` with the secret that channels.NAME.secret names, as Standard \
             Webhooks says; compare the clocks, which may differ by five minutes",
        ),
        ErrorCode::CallNotOpen => new_page(
            "the call that the client gives a result for waits for none: it has its result, the session went on without \
             it, or its run did not complete",
            "read the session with `dromia session show SESSION`, and go on with a message instead of the result",
        ),
        ErrorCode::RunUnfinished => new_page(
            "the answer did not come within the time that the client waits; the run goes on",
            "follow it with `dromia run watch RUN`, or repeat the request with the same idempotency key, which joins it",
        ),
        ErrorCode::RunUnanswered => new_page(
            "the run was cancelled or stopped at its limit, so there is no answer",
            "`dromia run why RUN` says what happened; `dromia run resume RUN` goes on from a limit",
        ),
        ErrorCode::RequestNotFound => new_page(
            "the run made no model call of this step and attempt",
            "`dromia run show RUN` lists its model calls with their steps and attempts",
        ),
        ErrorCode::RequestUnavailable => new_page(
            "the request was sent, and it cannot be written again exactly as it was: its entry is older than digests of \
             requests, a text that it refers to is gone, or this program writes the form in another way",
            "read what was said with `dromia run export RUN`; the message names what is missing",
        ),
        ErrorCode::HandleTaken => new_page(
            "another tenant or agent carries the handle already",
            "choose another handle, or use the one that is there",
        ),
        ErrorCode::IdempotencyConflict => new_page(
            "the idempotency key was used with another request within the last 24 hours",
            "use a new key for a new request; the same key only with the very same request",
        ),
        ErrorCode::CursorInFuture => new_page(
            "the cursor names an entry of the journal that does not exist yet",
            "begin after the last entry you have seen; `dromia run export` prints the numbers",
        ),
        ErrorCode::VersionConflict => new_page(
            "the value changed since it was read",
            "read it again, make the change to what is there now, and write it with the new version",
        ),
        ErrorCode::AgentTerminated => new_page(
            "the agent is terminated and takes no more input",
            "use another agent; `dromia agent create` makes one",
        ),
        ErrorCode::RunTerminal => new_page(
            "the run has ended, and an ended run never changes",
            "look at its end with `dromia run show`; a new message begins a new run",
        ),
        ErrorCode::RunNotResumable => new_page(
            "the run can be neither resumed nor released: only a yielded run goes on, and only a held one is released",
            "`dromia run why` says what it waits for and what moves it",
        ),
        ErrorCode::Overloaded => new_page(
            "a share of the tenant or of the node is used up: too much waits, or too many requests come at once",
            "wait as long as Retry-After says and send it again with the same idempotency key; send fewer at once",
        ),
        ErrorCode::RateLimited => new_page(
            "the token asks more at a time, or more often, than one token may; other tokens are not concerned",
            "wait as long as Retry-After says and send it again with the same idempotency key; an operator raises limits.token_rate_max or limits.requests_max, of which one token has half",
        ),
        ErrorCode::ActorRateLimited => new_page(
            "the actor who says this says more in a minute than one actor may; nothing was stored, and other actors are not concerned",
            "wait as long as Retry-After says and send it again with the same idempotency key; an operator raises limits.actor_inputs_per_minute_max",
        ),
        ErrorCode::ShuttingDown => new_page(
            "the server is draining: it lets turns end and takes no more",
            "send it again when the server is back; what it had accepted is kept",
        ),
        ErrorCode::StoreReadOnly => new_page(
            "the store answers reads only, because a write failed: most often the disk is full",
            "make room or mend the disk; the server tries again by itself. `dromia status` tells the cause",
        ),
        ErrorCode::StoreUnavailable => new_page(
            "the store did not answer in time",
            "send it again; if it stays, look at the load of the disk with `dromia status` and `dromia doctor`",
        ),
        ErrorCode::OutcomeUnknown => new_page(
            "the store could not say whether the write is durable",
            "look whether it happened, or send the same request with the same idempotency key: it is done once",
        ),
        ErrorCode::JournalDamaged => new_page(
            "a stored row does not match its digest: the file was changed or the disk lost something",
            "stop the server, keep a copy of the home, let `dromia audit verify` name what is not as it was, and restore a backup of the whole home, as docs/backup.md says",
        ),
        ErrorCode::JournalUnreadable => new_page(
            "the journal holds an entry that this version cannot read; a newer program wrote it",
            "use the newer program; the run is held and has lost nothing",
        ),
        ErrorCode::ModelUnavailable => new_page(
            "the model's server is overloaded or cannot be reached",
            "wait; the engine has tried several times. `dromia doctor --only models.reachable` asks the server",
        ),
        ErrorCode::ModelRejected => new_page(
            "the model's server refused the request: a wrong key, an unknown model, or a request it does not take; or nothing was sent, because the request holds a secret or the key in the vault cannot be used",
            "read the message. The server's words: mend the model's entry in dromia.yaml and restart. A secret in the request: `dromia secret rotate` it, or begin another session. The key: `dromia secret list` shows what it is for",
        ),
        ErrorCode::ModelCut => new_page(
            "the model's answer was cut, malformed or never came; it may have been charged",
            "look at the run with `dromia run show`, then ask again",
        ),
        ErrorCode::ContextExceeded => new_page(
            "the newest input with what the run did since does not fit the model's window beside the system text, the \
             tools and the longest answer; older parts of the conversation were left out already",
            "send less at a time, lower engine.output_tokens_max, or set a model with a larger window; \
             `dromia model list` shows the windows, and models.ALIAS.context_tokens sets one",
        ),
        ErrorCode::BudgetExhausted => new_page(
            "a budget has no room for the run's next call: it is used up, or it counts money and nobody knows what the \
             model costs",
            "`dromia run why RUN` names the budget; raise it with `dromia budget set NAME --limit AMOUNT`, or in dromia.yaml \
             where that sets it, or wait for its next period, then go on with `dromia run resume RUN`",
        ),
        ErrorCode::LoopDetected => new_page(
            "the run's model made the same call again and again, and went on after it was told that the call is not made once \
             more (rule `loop`), so the run yielded",
            "`dromia run show RUN` lists its calls; what it did stays done. Ask in other words, go on with `dromia run resume \
             RUN`, or raise engine.loop_same in dromia.yaml",
        ),
        ErrorCode::BudgetNotFound => {
            new_page("no budget of the tenant has this name", "`dromia budget list` lists them")
        }
        ErrorCode::BudgetDeclared => new_page(
            "the configuration file sets the budget, so it is changed there only",
            "change `tenants.NAME.budgets` in dromia.yaml and restart the server",
        ),
        ErrorCode::ApprovalNotFound => {
            new_page("the approval does not exist in this tenant", "`dromia approval list --all` lists them")
        }
        ErrorCode::ApprovalClosed => new_page(
            "somebody answered the approval before, its time is over, or its call will not begin any more",
            "`dromia approval show ID` tells which; where the call is still wanted, ask the agent again",
        ),
        ErrorCode::ApprovalOutdated => new_page(
            "files that the call's program could execute have changed since the approval was asked for, so the call would not \
             begin; nothing was answered",
            "put the files back as they were and approve again, or `dromia approval deny ID` tells the agent, which may ask again \
             for what is there now; where other runs write to the workspace all the time, `dromia config explain approvals.files`",
        ),
        ErrorCode::ApprovalRuleNotFound => {
            new_page("no rule of approvals has this name", "`dromia approval rule list` lists them")
        }
        ErrorCode::ActionDenied => new_page(
            "the gate refused an action of the agent, so it was not done: a policy or a rule of the operator forbids it, what \
             would leave holds a secret, or the agent is not granted it; the message names the rule",
            "look by which rule it was: `dromia run why RUN` says how the run stands, `dromia policy explain RUN CALL` who \
             decided about a call, and `dromia explain RULE` what a rule means. Then, the safest way first: leave it refused \
             and ask for something that the agent may do (`dromia agent show` lists what it is granted); take the secret out \
             of what would leave; if the agent should have the tool, grant it with a permission that asks a person about each \
             call (`permissions.ask` in dromia.yaml); and only if it is to do this by itself from now on, grant it alone, or \
             change the rule",
        ),
        ErrorCode::Internal => new_page(
            "a defect of this program",
            "look whether it happened; report it with the request's id, the server's log and `dromia status --all`",
        ),
    }
}
