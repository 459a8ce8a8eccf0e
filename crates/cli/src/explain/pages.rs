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
            "the request does not match the endpoint: a field is missing, unknown, of the wrong type or out \
             of range",
            "read the message, which names the place, and correct the request",
        ),
        ErrorCode::BodyTooLarge => new_page(
            "the body of the request, or the text of an input, is longer than the server accepts",
            "send less, in several messages or as a file of the agent; if the message names \
             limits.body_bytes_max, an operator can raise it",
        ),
        ErrorCode::Unauthorized => new_page(
            "the request has no credential, or its credential is unknown, expired or revoked",
            "send `Authorization: Bearer TOKEN` with the token that the server printed when the tenant or the \
             token was created; the file `token` in the home holds the first one",
        ),
        ErrorCode::Forbidden => new_page(
            "the credential is valid, but it does not allow this request",
            "use a credential that allows it, or send the request over the server's Unix socket as its \
             operator",
        ),
        ErrorCode::RouteNotFound => new_page(
            "the server has no such route, or the route does not support this method",
            "compare path and method with `GET /openapi.json`",
        ),
        ErrorCode::TenantNotFound => new_page(
            "the tenant does not exist, or the caller cannot see it",
            "`dromia tenant list` shows the tenants; choose one with -T",
        ),
        ErrorCode::TenantSuspended => new_page(
            "the operator suspended the tenant: it answers reads, its runs rest and keep what they have, and every \
             request that would change something or call a model or a tool is refused",
            "ask the operator of the server; `dromia tenant resume TENANT` has it go on where it stopped",
        ),
        ErrorCode::TenantActive => new_page(
            "the tenant is not suspended; only a suspended tenant is deleted, because nothing of it works any more",
            "`dromia tenant suspend TENANT`, look at what it has with `dromia tenant show TENANT`, and delete it then",
        ),
        ErrorCode::SessionHeld => new_page(
            "the session is on hold, so neither it nor its agent nor its tenant is deleted",
            "`dromia session show SESSION` says who set the hold and when; `dromia session hold SESSION --off` ends it",
        ),
        ErrorCode::SessionInUse => new_page(
            "the session has a run, a message, a call or a child that has not ended, or belongs to another session",
            "wait for its end or cancel the run with `dromia run cancel`, and delete a child with its parent",
        ),
        ErrorCode::AgentNotFound => new_page(
            "the agent does not exist in this tenant, or the caller cannot see it",
            "`dromia agent list` shows the agents; choose one with --agent, and the tenant with -T",
        ),
        ErrorCode::SessionNotFound => new_page(
            "the session does not exist in this tenant, or it was deleted",
            "`dromia session list` shows the sessions; without --session a message starts a new one",
        ),
        ErrorCode::RunNotFound => new_page(
            "the run does not exist in this tenant, or it was erased with its agent",
            "`dromia run list` shows the runs; check the tenant with -T",
        ),
        ErrorCode::StateNotFound => new_page(
            "the session has no state entry of this name",
            "list the session's state entries; names are exact",
        ),
        ErrorCode::FileNotFound => new_page(
            "the agent's workspace has no file or directory of this path",
            "`dromia file list` shows the files; paths start at the workspace, such as notes/today.md",
        ),
        ErrorCode::TokenNotFound => new_page(
            "the tenant has no token of this name or id",
            "`dromia token list` shows the tokens; choose the tenant of the token with -T",
        ),
        ErrorCode::SecretNotFound => new_page(
            "the secret does not exist in this tenant",
            "`dromia secret list` shows the secrets; check the tenant with -T",
        ),
        ErrorCode::CapabilityNotFound => new_page(
            "the capability does not exist in this tenant, or it was erased with its holder",
            "`dromia capability list` shows the capabilities; check the tenant with -T",
        ),
        ErrorCode::CapabilityUnreadable => new_page(
            "the bytes are not a valid capability token: a signature is wrong, a block contains more than \
             rights, or the token is too long",
            "copy the token exactly as `dromia capability grant` or `delegate` printed it, on one line",
        ),
        ErrorCode::CapabilityForeign => new_page(
            "the root key of the capability token is not the key of this tenant: the token comes from another \
             tenant or another home, or from before the tenant's key was replaced",
            "grant a capability in this tenant with `dromia capability grant`; check the tenant with -T",
        ),
        ErrorCode::CapabilityRefused => new_page(
            "the server cannot derive this capability: its parent is revoked or expired, covers less than you \
             ask for, limits a task, or was already delegated fifteen times",
            "list the capabilities with `dromia capability list`, then narrow a valid one or grant a new one",
        ),
        ErrorCode::VaultLocked => new_page(
            "the server cannot open the secrets of the tenant: the key of this home is missing, or it is not \
             the key that sealed them",
            "restore the right vault.key in the home, readable by its owner only; `dromia doctor --only \
             vault` names what does not open. If the key is lost, so are the values: `dromia secret reset` \
             discards the secrets and capabilities of the tenant, and the tenant then accepts new ones. If the \
             file is missing, only the owner of the home can do this, on the server's machine",
        ),
        ErrorCode::ToolNotFound => {
            new_page("the server has no tool of this name", "`dromia tool list` shows the tools")
        }
        ErrorCode::RecordNotFound => new_page(
            "the audit record does not exist in this tenant, or it was erased with its agent",
            "`dromia audit query` shows the records; check the tenant with -T",
        ),
        ErrorCode::DeliveryNotFound => new_page(
            "the delivery does not exist in this tenant, or it was erased with its agent",
            "`dromia delivery list` shows the deliveries; check the tenant with -T",
        ),
        ErrorCode::DeliveryUncertain => new_page(
            "the message was sent and may have arrived, and its receiver ignores message ids, so it would \
             count a second one",
            "ask the receiver; if it did not get the message, send it again with `dromia delivery redrive ID \
             --accept-double`. If the receiver counts each webhook-id once, set channels.NAME.idempotent: true",
        ),
        ErrorCode::SignatureRefused => new_page(
            "no channel of this name signed the message, its id is not valid, or its time differs too much \
             from the server's clock; the server does not say which",
            "sign `webhook-id.webhook-timestamp.body` with the secret in channels.NAME.secret, as Standard \
             Webhooks describes; compare the clocks, which may differ by five minutes",
        ),
        ErrorCode::CallNotOpen => new_page(
            "the call does not wait for this result: it already has one, the session continued without it, or \
             its run did not complete",
            "read the session with `dromia session show SESSION`, then send a message instead of the result",
        ),
        ErrorCode::RunUnfinished => new_page(
            "the wait ended before the answer came; the run continues",
            "follow the run with `dromia run watch RUN`, or repeat the request with the same idempotency key \
             to wait again",
        ),
        ErrorCode::RunUnanswered => new_page(
            "the run was cancelled or reached its limit, so there is no answer",
            "`dromia run why RUN` says what happened; `dromia run resume RUN` continues a run that reached \
             its limit",
        ),
        ErrorCode::RequestNotFound => new_page(
            "the run has no model call with this step and attempt",
            "`dromia run show RUN` lists its model calls with their steps and attempts",
        ),
        ErrorCode::RequestUnavailable => new_page(
            "the server cannot reproduce the request byte for byte: its entry has no digest, a text in it was \
             erased, or this version encodes requests differently",
            "read the conversation with `dromia run export RUN`; the message names what is missing",
        ),
        ErrorCode::HandleTaken => new_page(
            "another tenant or agent already has this handle",
            "choose another handle, or use the existing tenant or agent",
        ),
        ErrorCode::IdempotencyConflict => new_page(
            "the idempotency key was used within the last 24 hours: for a different request, or for one whose answer is not kept",
            "use a new key for a new request; repeat a key only with the identical request",
        ),
        ErrorCode::CursorInFuture => new_page(
            "the cursor names an entry of the journal that does not exist yet",
            "start after the last entry that you have seen; `dromia run export` prints the numbers",
        ),
        ErrorCode::VersionConflict => new_page(
            "the value changed after you read it",
            "read the value again, apply your change to it, and write it with the new version",
        ),
        ErrorCode::AgentTerminated => new_page(
            "the agent is terminated and accepts no more input",
            "use another agent; `dromia agent create` creates one",
        ),
        ErrorCode::RunTerminal => new_page(
            "the run has ended, and an ended run cannot change",
            "see how it ended with `dromia run show`; send a new message to start a new run",
        ),
        ErrorCode::RunNotResumable => new_page(
            "the run can be neither resumed nor released: only a yielded run can be resumed, and only a held \
             run can be released",
            "`dromia run why` says what the run waits for and how to continue it",
        ),
        ErrorCode::Overloaded => new_page(
            "the tenant or the node has used up its share: too many inputs wait, or too many requests arrived \
             at once",
            "wait for the time in Retry-After, then send the request again with the same idempotency key; \
             send fewer requests at once",
        ),
        ErrorCode::RateLimited => new_page(
            "the token has more requests open, or sends them faster, than one token may; other tokens are not affected",
            "wait for the time in Retry-After, then send the request again with the same idempotency key; an operator can raise limits.token_rate_max or limits.requests_max, of which one token has half",
        ),
        ErrorCode::ActorRateLimited => new_page(
            "the actor sends more inputs per minute than one actor may; the server stored nothing, and other actors are not affected",
            "wait for the time in Retry-After, then send the input again with the same idempotency key; an operator can raise limits.actor_inputs_per_minute_max",
        ),
        ErrorCode::ShuttingDown => new_page(
            "the server is stopping: it finishes running turns and accepts no new requests",
            "send the request again when the server is back; the server keeps what it accepted",
        ),
        ErrorCode::StoreReadOnly => new_page(
            "the store only answers reads because a write failed; the usual cause is a full disk",
            "free disk space or repair the disk; the server retries by itself. `dromia status --node` shows the cause",
        ),
        ErrorCode::StoreUnavailable => new_page(
            "the store did not answer in time",
            "send the request again; if this repeats, check the disk with `dromia status --node` and `dromia doctor`",
        ),
        ErrorCode::OutcomeUnknown => new_page(
            "the store does not know whether the write is durable",
            "check whether the change happened, or send the same request with the same idempotency key: the \
             server executes it only once",
        ),
        ErrorCode::JournalDamaged => new_page(
            "a stored row does not match its digest: a program changed the file, or the disk lost data",
            "stop the server, copy the home, run `dromia audit verify` to name the damage, and restore a \
             backup of the whole home as `dromia docs backup` describes",
        ),
        ErrorCode::JournalUnreadable => new_page(
            "the journal has an entry that this version cannot read; a newer program wrote it",
            "start the newer program; the run is held and loses nothing",
        ),
        ErrorCode::ModelUnavailable => new_page(
            "the model's server is overloaded or unreachable",
            "wait; the engine has already retried. `dromia doctor --only models.reachable` tests the server",
        ),
        ErrorCode::ModelRejected => new_page(
            "the model's server refused the request (wrong key, unknown model, or invalid request), or dromia \
             did not send it because it contains a secret or because the model's key in the vault does not \
             open",
            "read the message. If the server refused: correct the model's entry in dromia.yaml and restart. \
             If the request contains a secret: rotate it with `dromia secret rotate`, or start another \
             session. If the key does not open: `dromia secret list` shows where it may be sent",
        ),
        ErrorCode::ModelCut => new_page(
            "the model's answer was cut off, malformed or missing; the provider may have charged for it",
            "see the run with `dromia run show`, then ask again",
        ),
        ErrorCode::ContextExceeded => new_page(
            "the model's window is too small for the newest input, the run's own work since then, the system \
             prompt, the tools and the longest answer; older messages are already left out. Or the model's server \
             refused the request as too long: its window is smaller than models.ALIAS.context_tokens says",
            "begin a new session (`/new` in a chat), send less at a time, lower engine.output_tokens_max, or use a model with a larger window; \
             `dromia model list` shows the windows, and models.ALIAS.context_tokens sets one",
        ),
        ErrorCode::BudgetExhausted => new_page(
            "a budget does not cover the run's next call: it is used up, or it counts money and the model has \
             no price",
            "`dromia run why RUN` names the budget. Raise it with `dromia budget set NAME --limit AMOUNT`, or \
             in dromia.yaml if that file sets it, or wait for its next period; then continue with `dromia run \
             resume RUN`",
        ),
        ErrorCode::LoopDetected => new_page(
            "the model repeated the same call after the rule `loop` refused it, so the run yielded",
            "`dromia run show RUN` lists its calls; finished calls stay finished. Ask in other words, \
             continue with `dromia run resume RUN`, or raise engine.loop_same in dromia.yaml",
        ),
        ErrorCode::RevisionNotFound => new_page(
            "the agent has no revision of this number; old ones that no run began with are removed",
            "`dromia agent history NAME` lists those that there are",
        ),
        ErrorCode::DocumentNotFound => new_page(
            "the agent has no document of this name; a document exists once it was written",
            "`dromia agent identity list NAME` lists those that there are, `dromia agent identity edit NAME DOCUMENT` \
             writes one",
        ),
        ErrorCode::TemplateNotFound => new_page(
            "no template of agents has this name",
            "`dromia template list` lists those that there are",
        ),
        ErrorCode::RoleNotFound => new_page(
            "no role of workers has this name, neither built in nor as a document `roles/NAME.md` of the agent",
            "`dromia role list --agent NAME` lists those that there are, `dromia agent identity edit NAME roles/ROLE.md` \
             writes one",
        ),
        ErrorCode::AnswerSchemaUnsatisfied => new_page(
            "the client wanted the answer in JSON that satisfies a schema, and neither the model's answer nor its \
             two corrections of it did",
            "`dromia run show RUN` shows the answers and what was wrong with each. Simplify the schema, explain \
             its fields, or use a stronger model",
        ),
        ErrorCode::BudgetNotFound => {
            new_page("no budget of the tenant has this name", "`dromia budget list` lists them")
        }
        ErrorCode::BudgetDeclared => new_page(
            "dromia.yaml sets this budget, so only that file can change it",
            "change `tenants.NAME.budgets` in dromia.yaml",
        ),
        ErrorCode::ApprovalNotFound => {
            new_page("the approval does not exist in this tenant", "`dromia approval list --all` lists them")
        }
        ErrorCode::ApprovalClosed => new_page(
            "the approval already has an answer or has expired, or its call can no longer start",
            "`dromia approval show ID` says which; if you still want the call, ask the agent again",
        ),
        ErrorCode::ApprovalOutdated => new_page(
            "files that the program of the call could execute changed after the approval was requested, so \
             the call cannot start; no answer was stored",
            "restore the files and approve again, or use `dromia approval deny ID`, after which the agent may \
             ask again with the current files; if other runs write to the workspace all the time, see `dromia \
             config explain approvals.files`",
        ),
        ErrorCode::ApprovalRuleNotFound => {
            new_page("no approval rule has this name", "`dromia approval rule list` lists them")
        }
        ErrorCode::ActionDenied => new_page(
            "the gate denied an action of the agent, so it did not happen: a policy or a rule forbids it, the \
             request contains a secret, or the agent lacks the grant; the message names the rule",
            "find the rule: `dromia run why RUN` shows the state of the run, `dromia policy explain RUN CALL` \
             shows who decided about a call, and `dromia explain RULE` describes a rule. Then choose, safest \
             first: leave it denied and ask for something that the agent may do (`dromia agent show` lists its \
             grants); remove the secret from the request; if the agent should have the tool, grant it with a \
             permission that asks a person about each call (`permissions.ask` in dromia.yaml); only if the \
             agent should act without asking, grant the tool alone, or change the rule",
        ),
        ErrorCode::Internal => new_page(
            "a defect of this program",
            "check whether the change happened; report the defect with the request's id, the server's log and \
             `dromia status --all`",
        ),
    }
}
