"""The official Anthropic client against the real binary."""

import anthropic
import pytest

import facts
from home import DEADLINE_S

ANSWER = 'Hello! You said: "hello". This answer comes from a scripted model, not an LLM.'
HELLO = [{"role": "user", "content": "hello"}]
# Long enough for several pieces, and slow enough that nobody can be told it all at once.
LONG = "one two three four five six seven eight nine ten eleven twelve"
SLOWLY = f"@slow 600\n@say {LONG}"


def client_of(server, token=None):
    return anthropic.Anthropic(base_url=server.url, api_key=token or server.token, timeout=DEADLINE_S)


@pytest.fixture(scope="module")
def client(server):
    return client_of(server)


def message(client, text="hello", **more):
    """Asks and returns the answer with the headers it came with."""
    messages = more.pop("messages", [{"role": "user", "content": text}])
    raw = client.messages.with_raw_response.create(model="assistant", max_tokens=64, messages=messages, **more)
    return raw.parse(), raw.headers


def test_a_message_is_one_completed_run_with_its_usage(server, client):
    answer, headers = message(client)
    assert [(block.type, block.text) for block in answer.content] == [("text", ANSWER)]
    assert (answer.stop_reason, answer.role, answer.model) == ("end_turn", "assistant", "assistant")
    run = facts.only_run(server, headers["x-dromia-session"])
    assert (run["id"], run["status"]) == (headers["x-dromia-run"], "completed")
    usage = (answer.usage.input_tokens, answer.usage.output_tokens)
    assert usage == (run["usage"]["input_tokens"], run["usage"]["output_tokens"]) and min(usage) > 0


def test_a_streamed_message_says_the_same_in_pieces(server, client):
    asked = [{"role": "user", "content": SLOWLY}]
    with client.messages.stream(model="assistant", max_tokens=64, messages=asked) as stream:
        session = stream.response.headers["x-dromia-session"]
        pieces = list(stream.text_stream)
        whole = stream.get_final_message()
    assert "".join(pieces) == LONG and len(pieces) > 1
    assert (whole.content[0].text, whole.stop_reason) == (LONG, "end_turn")
    run = facts.only_run(server, session)
    assert whole.usage.output_tokens == run["usage"]["output_tokens"] > 0


def test_tokens_are_counted_and_no_run_begins(server, client):
    before = len(server.rows("run", "list"))
    counted = client.messages.count_tokens(model="assistant", messages=HELLO)
    longer = client.messages.count_tokens(model="assistant", messages=HELLO, system="Be kind. " * 30)
    assert 0 < counted.input_tokens < longer.input_tokens
    assert len(server.rows("run", "list")) == before
    with pytest.raises(anthropic.NotFoundError) as refused:
        client.messages.count_tokens(model="nobody", messages=HELLO)
    assert refused.value.body["error"]["code"] == "agent_not_found"


def test_agents_are_listed_as_models(server, client):
    handles = sorted(agent["handle"] for agent in server.rows("agent", "list"))
    assert sorted(model.id for model in client.models.list()) == handles
    assert client.models.retrieve("assistant").display_name == "Assistant"
    with pytest.raises(anthropic.NotFoundError) as refused:
        client.models.retrieve("nobody")
    assert refused.value.body["error"]["type"] == "not_found_error"


def test_system_text_and_earlier_messages_become_the_history(server, client):
    alone, _ = message(client)
    before = [{"role": "user", "content": "one"}, {"role": "assistant", "content": [{"type": "text", "text": "first"}]}]
    answer, headers = message(client, messages=before + HELLO, system="Be kind.")
    assert answer.content[0].text == ANSWER
    assert answer.usage.input_tokens > alone.usage.input_tokens, "the model was sent no history"
    first = facts.turns(server, headers["x-dromia-session"])[0]
    assert (first["text"], first["history"]) == ("hello", 3)


def test_a_named_session_goes_on_and_takes_the_last_message_only(server, client):
    _, headers = message(client, "one")
    session = headers["x-dromia-session"]
    again = [{"role": "user", "content": "one"}, {"role": "assistant", "content": "?"}, {"role": "user", "content": "two"}]
    _, headers = message(client, messages=again, extra_headers={"X-Dromia-Session": session})
    assert headers["x-dromia-session"] == session
    assert [text for role, text in facts.said(server, session) if role == "input"] == ["one", "two"]
    assert len(facts.runs_of(server, session)) == 2


@pytest.mark.parametrize("token", ["nobody", "drm_" + "0" * 64])
def test_a_refused_key_is_an_authentication_error(server, token):
    client = client_of(server, token)
    asks = [lambda: message(client), lambda: client.models.list(), lambda: message(client, stream=True)]
    for ask in asks:
        with pytest.raises(anthropic.AuthenticationError) as refused:
            ask()
        error = refused.value.body["error"]
        assert (refused.value.status_code, error["type"]) == (401, "authentication_error")


def test_a_retry_with_the_same_key_joins_the_run(server, client):
    key = {"Idempotency-Key": facts.key()}
    first, one = message(client, extra_headers=key)
    second, two = message(client, extra_headers=key)
    assert (first.id, first.content, first.usage) == (second.id, second.content, second.usage)
    with client.messages.stream(model="assistant", max_tokens=64, messages=HELLO, extra_headers=key) as stream:
        assert stream.get_final_text() == ANSWER
    assert one["x-dromia-run"] == two["x-dromia-run"] == facts.only_run(server, one["x-dromia-session"])["id"]
    with pytest.raises(anthropic.ConflictError) as refused:
        message(client, "something else", extra_headers=key)
    assert refused.value.body["error"]["code"] == "idempotency_conflict"


def test_a_failed_run_is_a_typed_error_that_the_client_does_not_repeat(server):
    client = client_of(server).with_options(max_retries=3)
    before = len(server.rows("run", "list"))
    with pytest.raises(anthropic.InternalServerError) as failed:
        message(client, "@fail rejected")
    error = failed.value.body["error"]
    assert (failed.value.status_code, error["code"], error["run_status"]) == (502, "model_rejected", "failed")
    assert len(server.rows("run", "list")) == before + 1, "the client began more than one run"


def test_a_failure_in_a_stream_is_a_typed_error_too(client):
    asked = [{"role": "user", "content": "@fail rejected"}]
    with pytest.raises(anthropic.APIStatusError) as failed:
        with client.messages.stream(model="assistant", max_tokens=64, messages=asked) as stream:
            stream.until_done()
    assert failed.value.body["error"]["code"] == "model_rejected"


def test_what_cannot_be_done_is_refused_with_its_place(client):
    with pytest.raises(anthropic.BadRequestError) as refused:
        message(client, messages=[])
    error = refused.value.body["error"]
    assert (error["type"], error["param"]) == ("invalid_request_error", "messages")
    with pytest.raises(anthropic.NotFoundError) as refused:
        client.messages.create(model="nobody", max_tokens=64, messages=HELLO)
    assert refused.value.body["error"]["code"] == "agent_not_found"
