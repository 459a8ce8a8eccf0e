"""Tools that a client declares, through the official clients.

A call to one ends the run and leaves in the words of the API; the client's result continues it, told in the history of
a new request or under the name of the session.
"""

import json

import openai
import pytest

import facts

ASKED = '@tool look_at_sky {"city":"Bonn"}'
TWICE = '@tool look_at_sky {"city":"Bonn"} &\n@tool look_at_sky {"city":"Oslo"}'
SCHEMA = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
CHAT_TOOL = {"type": "function", "function": {"name": "look_at_sky", "description": "Looks.", "parameters": SCHEMA}}
# The stream helper of the client takes no other.
STRICT = {**SCHEMA, "additionalProperties": False}
STRICT_TOOL = {"type": "function", "function": {**CHAT_TOOL["function"], "parameters": STRICT, "strict": True}}
RESPONSE_TOOL = {"type": "function", "name": "look_at_sky", "description": "Looks.", "parameters": SCHEMA, "strict": False}
MESSAGE_TOOL = {"name": "look_at_sky", "description": "Looks.", "input_schema": SCHEMA}
# The first bytes of a PNG, which is all that is looked at.
PNG = "iVBORw0KGgo="
# The scripted model ends with what each call gave.
TOLD = 'look_at_sky: ok, "rain".'


def headers_of(session, continued):
    return {"X-Dromia-Session": session} if continued else {}


def handed_over(server, session):
    """The one run so far must have ended by handing its calls over."""
    run = facts.only_run(server, session)
    assert run["status"] == "completed", run
    return run["id"]


@pytest.mark.parametrize("continued", [False, True], ids=["told", "continued"])
def test_a_chat_hands_its_calls_over_and_goes_on_with_their_results(server, chat, continued):
    messages = [{"role": "user", "content": TWICE}]
    raw = chat.chat.completions.with_raw_response.create(model="assistant", messages=messages, tools=[CHAT_TOOL])
    answer, session = raw.parse(), raw.headers["x-dromia-session"]
    choice = answer.choices[0]
    assert choice.finish_reason == "tool_calls"
    calls = choice.message.tool_calls
    assert [(call.type, call.function.name) for call in calls] == [("function", "look_at_sky")] * 2
    assert [json.loads(call.function.arguments) for call in calls] == [{"city": "Bonn"}, {"city": "Oslo"}]
    assert len({call.id for call in calls}) == 2
    first = handed_over(server, session)

    messages.append(choice.message.model_dump(exclude_none=True))
    messages += [{"role": "tool", "tool_call_id": call.id, "content": "rain"} for call in calls]
    raw = chat.chat.completions.with_raw_response.create(
        model="assistant", messages=messages, tools=[CHAT_TOOL], extra_headers=headers_of(session, continued)
    )
    answer = raw.parse()
    assert answer.choices[0].finish_reason == "stop"
    assert answer.choices[0].message.content.count(TOLD) == 2, answer
    # A history in the words of a session continues it, without the header too.
    assert raw.headers["x-dromia-session"] == session
    assert raw.headers["x-dromia-run"] != first


def test_a_streamed_chat_tells_the_call_in_pieces(chat):
    messages = [{"role": "user", "content": ASKED}]
    with chat.chat.completions.stream(model="assistant", messages=messages, tools=[STRICT_TOOL]) as stream:
        for _ in stream:
            pass
        choice = stream.get_final_completion().choices[0]
    assert choice.finish_reason == "tool_calls"
    (call,) = choice.message.tool_calls
    assert (call.function.name, json.loads(call.function.arguments)) == ("look_at_sky", {"city": "Bonn"})


@pytest.mark.parametrize("continued", [False, True], ids=["told", "continued"])
def test_a_response_hands_its_call_over_and_goes_on_with_its_result(server, chat, continued):
    given = [{"role": "user", "content": ASKED}]
    raw = chat.responses.with_raw_response.create(model="assistant", input=given, tools=[RESPONSE_TOOL])
    answer, session = raw.parse(), raw.headers["x-dromia-session"]
    (call,) = [item for item in answer.output if item.type == "function_call"]
    assert (answer.status, call.name, json.loads(call.arguments)) == ("completed", "look_at_sky", {"city": "Bonn"})
    handed_over(server, session)

    given += [
        {"type": "function_call", "call_id": call.call_id, "name": call.name, "arguments": call.arguments},
        {"type": "function_call_output", "call_id": call.call_id, "output": "rain"},
    ]
    answer = chat.responses.create(
        model="assistant", input=given, tools=[RESPONSE_TOOL], extra_headers=headers_of(session, continued)
    )
    assert TOLD in answer.output_text, answer


def test_a_streamed_response_tells_the_call_in_pieces(chat):
    events = list(chat.responses.create(model="assistant", input=ASKED, tools=[RESPONSE_TOOL], stream=True))
    (done,) = [event for event in events if event.type == "response.function_call_arguments.done"]
    assert json.loads(done.arguments) == {"city": "Bonn"}
    assert events[-1].type == "response.completed"
    assert [item.type for item in events[-1].response.output][-1] == "function_call"


@pytest.mark.parametrize("continued", [False, True], ids=["told", "continued"])
def test_a_message_hands_its_call_over_and_goes_on_with_its_result(server, claude, continued):
    messages = [{"role": "user", "content": ASKED}]
    raw = claude.messages.with_raw_response.create(
        model="assistant", max_tokens=256, messages=messages, tools=[MESSAGE_TOOL]
    )
    answer, session = raw.parse(), raw.headers["x-dromia-session"]
    assert answer.stop_reason == "tool_use"
    (call,) = [block for block in answer.content if block.type == "tool_use"]
    assert (call.name, call.input) == ("look_at_sky", {"city": "Bonn"})
    handed_over(server, session)

    result = {"type": "tool_result", "tool_use_id": call.id, "content": "rain"}
    messages += [
        {"role": "assistant", "content": [{"type": "tool_use", "id": call.id, "name": call.name, "input": call.input}]},
        {"role": "user", "content": [result]},
    ]
    answer = claude.messages.create(
        model="assistant", max_tokens=256, messages=messages, tools=[MESSAGE_TOOL],
        extra_headers=headers_of(session, continued),
    )
    assert answer.stop_reason == "end_turn"
    assert TOLD in answer.content[0].text, answer


def test_a_streamed_message_tells_the_call_in_pieces(claude):
    messages = [{"role": "user", "content": ASKED}]
    with claude.messages.stream(model="assistant", max_tokens=256, messages=messages, tools=[MESSAGE_TOOL]) as stream:
        answer = stream.get_final_message()
    assert answer.stop_reason == "tool_use"
    assert [(block.name, block.input) for block in answer.content if block.type == "tool_use"] == [
        ("look_at_sky", {"city": "Bonn"})
    ]


def shown(server, session):
    """How many pictures came with the result of the first call of a session."""
    return facts.turns(server, session)[1]["calls"][0]["images"]


def test_a_picture_in_a_result_is_taken_from_the_client_of_messages(server, claude):
    raw = claude.messages.with_raw_response.create(
        model="assistant", max_tokens=256, messages=[{"role": "user", "content": ASKED}], tools=[MESSAGE_TOOL]
    )
    session = raw.headers["x-dromia-session"]
    (call,) = [block for block in raw.parse().content if block.type == "tool_use"]
    picture = {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": PNG}}
    given = [{"type": "text", "text": "rain"}, picture]
    answer = claude.messages.create(
        model="assistant", max_tokens=256, tools=[MESSAGE_TOOL], extra_headers={"X-Dromia-Session": session},
        messages=[{"role": "user", "content": [{"type": "tool_result", "tool_use_id": call.id, "content": given}]}],
    )
    assert TOLD in answer.content[0].text, answer
    assert shown(server, session) == 1


def test_a_picture_in_an_output_is_taken_from_the_client_of_responses(server, chat):
    raw = chat.responses.with_raw_response.create(
        model="assistant", input=[{"role": "user", "content": ASKED}], tools=[RESPONSE_TOOL]
    )
    session = raw.headers["x-dromia-session"]
    (call,) = [item for item in raw.parse().output if item.type == "function_call"]
    picture = {"type": "input_image", "image_url": f"data:image/png;base64,{PNG}", "detail": "auto"}
    given = [{"type": "input_text", "text": "rain"}, picture]
    answer = chat.responses.create(
        model="assistant", tools=[RESPONSE_TOOL], extra_headers={"X-Dromia-Session": session},
        input=[{"type": "function_call_output", "call_id": call.call_id, "output": given}],
    )
    assert TOLD in answer.output_text, answer
    assert shown(server, session) == 1


def test_a_repeated_result_joins_the_run_that_took_it_and_another_is_refused(server, chat):
    messages = [{"role": "user", "content": ASKED}]
    raw = chat.chat.completions.with_raw_response.create(model="assistant", messages=messages, tools=[CHAT_TOOL])
    session, message = raw.headers["x-dromia-session"], raw.parse().choices[0].message
    messages.append(message.model_dump(exclude_none=True))
    messages.append({"role": "tool", "tool_call_id": message.tool_calls[0].id, "content": "rain"})

    def give():
        return chat.chat.completions.create(
            model="assistant", messages=messages, tools=[CHAT_TOOL], extra_headers={"X-Dromia-Session": session}
        )

    assert give().id == give().id
    assert len(facts.runs_of(server, session)) == 2
    messages[-1]["content"] = "sun"
    with pytest.raises(openai.ConflictError) as refused:
        give()
    assert refused.value.code == "call_not_open"


def test_a_tool_that_the_agent_has_is_refused_by_its_name(server, chat):
    own = {"type": "function", "function": {"name": "time__now", "parameters": {"type": "object"}}}
    with pytest.raises(openai.BadRequestError) as refused:
        chat.chat.completions.create(
            model="assistant", messages=[{"role": "user", "content": "hello"}], tools=[own]
        )
    assert refused.value.code == "invalid_request"
