//! The routes of other APIs: their requests and answers are described where those APIs are.

use dromia_api::{ErrorCode, IDEMPOTENCY_HEADER, SESSION_HEADER, WAIT_HEADER, WAITING_HEADER};
use serde_json::{Value, json};

use crate::openapi::operation::Operation;

fn message_example() -> Value {
    json!({"model": "assistant", "max_tokens": 1024, "messages": [{"role": "user", "content": "hello"}]})
}

pub(super) fn compatible_operations() -> Vec<Operation> {
    let turn =
        |path, id, summary, what| {
            Operation::new("POST", path, id, summary)
            .with_header(IDEMPOTENCY_HEADER, "A repeated request with the same key is executed once, for 24 \
                                              hours.")
            .with_header(
                SESSION_HEADER,
                "Continues this session; the server reads only the last message, or all results at the end.",
            )
            .with_header(WAIT_HEADER, "The longest wait, in milliseconds.")
            .with_header(
                WAITING_HEADER,
                "How a stream says what its run waits for: comment (the default) or text of the answer.",
            )
            .takes_json::<Value>()
            .gives_json::<Value>(200, what)
            .gives_stream("With `stream`, the events of that API.", &[])
            .writes_store()
            .fails_as::<Value>()
            .fails_with(&[
                ErrorCode::AgentNotFound,
                ErrorCode::SessionNotFound,
                ErrorCode::AgentTerminated,
                ErrorCode::ActorRateLimited,
                ErrorCode::IdempotencyConflict,
                ErrorCode::CallNotOpen,
                ErrorCode::JournalUnreadable,
                ErrorCode::RunUnfinished,
                ErrorCode::RunUnanswered,
                ErrorCode::BudgetExhausted,
                ErrorCode::LoopDetected,
                ErrorCode::AnswerSchemaUnsatisfied,
            ])
        };
    vec![
        turn(
            "/v1/chat/completions",
            "chat_complete",
            "Ask an agent, as the OpenAI chat API does",
            "A chat completion.",
        )
        .with_example(|| json!({"model": "assistant", "messages": [{"role": "user", "content": "hello"}]})),
        turn(
            "/v1/responses",
            "response_create",
            "Ask an agent, as the OpenAI responses API does",
            "A response.",
        )
        .with_example(|| json!({"model": "assistant", "input": "hello"})),
        turn(
            "/v1/messages",
            "message_create",
            "Ask an agent, as the Anthropic messages API does",
            "A message.",
        )
        .with_example(message_example),
        Operation::new(
            "POST",
            "/v1/messages/count_tokens",
            "message_count_tokens",
            "Count the tokens of a message, as the Anthropic messages API does",
        )
        .takes_json::<Value>()
        .with_example(message_example)
        .gives_json::<Value>(200, "The number of tokens.")
        .fails_as::<Value>()
        .fails_with(&[
            ErrorCode::AgentNotFound,
            ErrorCode::AgentTerminated,
            ErrorCode::ContextExceeded,
            ErrorCode::ModelRejected,
        ]),
        Operation::new("GET", "/v1/models", "model_list", "List agents as models, as those APIs do")
            .gives_json::<Value>(200, "A list of models.")
            .fails_as::<Value>(),
        Operation::new(
            "GET",
            "/v1/models/{model}",
            "model_show",
            "Show an agent as a model, as those APIs do",
        )
        .gives_json::<Value>(200, "A model.")
        .fails_as::<Value>()
        .fails_with(&[ErrorCode::AgentNotFound]),
    ]
}
