"""The official OpenAI client against the real binary."""

import asyncio
import concurrent.futures

import openai
import pytest

import facts
from home import DEADLINE_S

ANSWER = 'Hello! You said: "hello". This answer comes from a scripted model, not an LLM.'
HELLO = [{"role": "user", "content": "hello"}]
# Long enough for several pieces, and slow enough that nobody can be told it all at once.
LONG = "one two three four five six seven eight nine ten eleven twelve"
SLOWLY = f"@slow 600\n@say {LONG}"


def client_of(server, token=None):
    return openai.OpenAI(base_url=f"{server.url}/v1", api_key=token or server.token, timeout=DEADLINE_S)


@pytest.fixture(scope="module")
def client(server):
    return client_of(server)


def chat(client, text="hello", **more):
    """Asks and returns the answer with the headers it came with."""
    messages = more.pop("messages", [{"role": "user", "content": text}])
    raw = client.chat.completions.with_raw_response.create(model="assistant", messages=messages, **more)
    return raw.parse(), raw.headers


def test_a_chat_is_one_completed_run_with_its_usage(server, client):
    answer, headers = chat(client)
    assert answer.choices[0].message.content == ANSWER
    assert answer.choices[0].message.role == "assistant"
    assert answer.choices[0].finish_reason == "stop"
    assert (answer.object, answer.model) == ("chat.completion", "assistant")
    run = facts.only_run(server, headers["x-dromia-session"])
    assert (run["id"], run["status"]) == (headers["x-dromia-run"], "completed")
    usage = (answer.usage.prompt_tokens, answer.usage.completion_tokens)
    assert usage == (run["usage"]["input_tokens"], run["usage"]["output_tokens"])
    assert min(usage) > 0 and answer.usage.total_tokens == sum(usage)


def test_a_streamed_chat_says_the_same_in_pieces(server, client):
    asked = [{"role": "user", "content": SLOWLY}]
    stream = client.chat.completions.create(
        model="assistant", messages=asked, stream=True, stream_options={"include_usage": True}
    )
    session = stream.response.headers["x-dromia-session"]
    chunks = list(stream)
    pieces = [c.choices[0].delta.content for c in chunks if c.choices and c.choices[0].delta.content]
    assert "".join(pieces) == LONG and len(pieces) > 1
    assert [c.choices[0].finish_reason for c in chunks if c.choices][-1] == "stop"
    run = facts.only_run(server, session)
    assert (run["status"], chunks[-1].usage.prompt_tokens) == ("completed", run["usage"]["input_tokens"])


def test_the_stream_helper_puts_the_pieces_together(client):
    with client.chat.completions.stream(model="assistant", messages=HELLO) as stream:
        for _ in stream:
            pass
        assert stream.get_final_completion().choices[0].message.content == ANSWER


def test_the_asynchronous_client_streams_too(server):
    async def ask():
        base_url = f"{server.url}/v1"
        async with openai.AsyncOpenAI(base_url=base_url, api_key=server.token, timeout=DEADLINE_S) as client:
            stream = await client.chat.completions.create(model="assistant", messages=HELLO, stream=True)
            return "".join([c.choices[0].delta.content or "" async for c in stream if c.choices])

    assert asyncio.run(ask()) == ANSWER


def test_agents_are_listed_as_models(server, client):
    handles = sorted(agent["handle"] for agent in server.rows("agent", "list"))
    assert sorted(model.id for model in client.models.list()) == handles
    assert client.models.retrieve("assistant").owned_by == "dromia"
    with pytest.raises(openai.NotFoundError) as refused:
        client.models.retrieve("nobody")
    assert refused.value.code == "model_not_found"


def test_a_response_is_one_completed_run_with_its_usage(server, client):
    raw = client.responses.with_raw_response.create(model="assistant", input="hello", instructions="Be kind.")
    answer = raw.parse()
    assert (answer.output_text, answer.status) == (ANSWER, "completed")
    run = facts.only_run(server, raw.headers["x-dromia-session"])
    usage = (answer.usage.input_tokens, answer.usage.output_tokens)
    assert usage == (run["usage"]["input_tokens"], run["usage"]["output_tokens"])
    assert min(usage) > 0 and answer.usage.total_tokens == sum(usage)


def test_a_streamed_response_says_the_same_in_pieces(client):
    events = list(client.responses.create(model="assistant", input=SLOWLY, stream=True))
    pieces = [event.delta for event in events if event.type == "response.output_text.delta"]
    assert "".join(pieces) == LONG and len(pieces) > 1
    assert (events[0].type, events[-1].type) == ("response.created", "response.completed")
    assert events[-1].response.output_text == LONG
    assert [event.sequence_number for event in events] == list(range(len(events)))


def test_the_messages_before_the_last_become_the_history(server, client):
    alone, _ = chat(client)
    before = [
        {"role": "system", "content": "Be kind."},
        {"role": "user", "content": "one"},
        {"role": "assistant", "content": "first"},
    ]
    answer, headers = chat(client, messages=before + HELLO)
    assert answer.choices[0].message.content == ANSWER
    assert answer.usage.prompt_tokens > alone.usage.prompt_tokens, "the model was sent no history"
    first = facts.turns(server, headers["x-dromia-session"])[0]
    assert (first["text"], first["history"]) == ("hello", 3)


def test_a_named_session_goes_on_and_takes_the_last_message_only(server, client):
    _, headers = chat(client, "one")
    session = headers["x-dromia-session"]
    again = [{"role": "user", "content": "one"}, {"role": "assistant", "content": "?"}, {"role": "user", "content": "two"}]
    _, headers = chat(client, messages=again, extra_headers={"X-Dromia-Session": session})
    assert headers["x-dromia-session"] == session
    inputs = [text for role, text in facts.said(server, session) if role == "input"]
    assert inputs == ["one", "two"]
    response = client.responses.with_raw_response.create(
        model="assistant", input="three", extra_headers={"X-Dromia-Session": session}
    )
    assert response.headers["x-dromia-session"] == session
    assert len(facts.runs_of(server, session)) == 3


@pytest.mark.parametrize("token", ["nobody", "drm_" + "0" * 64])
def test_a_refused_key_is_an_authentication_error(server, token):
    client = client_of(server, token)
    asks = [
        lambda: client.chat.completions.create(model="assistant", messages=HELLO),
        lambda: client.chat.completions.create(model="assistant", messages=HELLO, stream=True),
        lambda: client.responses.create(model="assistant", input="hello"),
        lambda: client.models.list(),
    ]
    for ask in asks:
        with pytest.raises(openai.AuthenticationError) as refused:
            ask()
        assert (refused.value.status_code, refused.value.code) == (401, "invalid_api_key")


def test_a_retry_with_the_same_key_joins_the_run(server, client):
    key = {"Idempotency-Key": facts.key()}
    first, one = chat(client, extra_headers=key)
    second, two = chat(client, extra_headers=key)
    assert (first.id, first.choices, first.usage) == (second.id, second.choices, second.usage)
    assert one["x-dromia-run"] == two["x-dromia-run"] == facts.only_run(server, one["x-dromia-session"])["id"]
    with pytest.raises(openai.ConflictError) as refused:
        chat(client, "something else", extra_headers=key)
    assert refused.value.code == "idempotency_conflict"


def test_a_retry_joins_a_run_that_is_still_at_work(server, client):
    key = {"Idempotency-Key": facts.key()}
    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        asked = [pool.submit(chat, client, "@slow 1500\n@say late", extra_headers=key) for _ in range(4)]
        answers = [future.result(DEADLINE_S) for future in asked]
    assert {answer.choices[0].message.content for answer, _ in answers} == {"late"}
    assert len({answer.id for answer, _ in answers}) == 1
    facts.only_run(server, answers[0][1]["x-dromia-session"])


def test_a_retry_of_a_response_joins_the_run_in_either_form(server, client):
    key = {"Idempotency-Key": facts.key()}
    raw = client.responses.with_raw_response.create(model="assistant", input="hello", extra_headers=key)
    events = list(client.responses.create(model="assistant", input="hello", extra_headers=key, stream=True))
    assert events[-1].response.output_text == raw.parse().output_text == ANSWER
    facts.only_run(server, raw.headers["x-dromia-session"])


def test_a_failed_run_is_a_typed_error_that_the_client_does_not_repeat(server):
    client = client_of(server).with_options(max_retries=3)
    before = len(server.rows("run", "list"))
    with pytest.raises(openai.InternalServerError) as failed:
        chat(client, "@fail rejected")
    assert (failed.value.status_code, failed.value.code) == (502, "model_rejected")
    assert failed.value.body["run_status"] == "failed"
    assert len(server.rows("run", "list")) == before + 1, "the client began more than one run"


def test_a_failure_in_a_stream_is_a_typed_error_too(client):
    with pytest.raises(openai.APIError) as failed:
        list(client.chat.completions.create(
            model="assistant", messages=[{"role": "user", "content": "@fail rejected"}], stream=True
        ))
    assert failed.value.code == "model_rejected"


def test_what_cannot_be_done_is_refused_with_its_place(client):
    refused = [
        (openai.BadRequestError, "invalid_request", "n", {"n": 2}),
        (openai.BadRequestError, "invalid_request", "messages[0]", {"messages": [{"role": "user"}]}),
    ]
    for error, code, place, more in refused:
        with pytest.raises(error) as seen:
            chat(client, **more)
        assert seen.value.code == code and seen.value.param == place, seen.value.body
    with pytest.raises(openai.NotFoundError) as seen:
        client.chat.completions.create(model="nobody", messages=HELLO)
    assert seen.value.code == "model_not_found"


def test_a_picture_by_url_needs_a_grant_that_the_error_names(server, client):
    shown = [{"type": "image_url", "image_url": {"url": "https://img.example/a.png"}}]
    with pytest.raises(openai.BadRequestError) as refused:
        chat(client, messages=[{"role": "user", "content": shown}])
    assert refused.value.param == "messages[0].content[0].image_url"
    assert "dromia agent set assistant grants+=net.read:img.example" in refused.value.message
