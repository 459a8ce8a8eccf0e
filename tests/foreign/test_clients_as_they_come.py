"""Clients that people use, without settings made for this server: the requests that Claude Code, the Codex CLI and the
Vercel AI SDK send, and the threads and tool runners of the official clients.

What a client said must be in front of the model or in an error, so each conversation ends with a question whose answer
only its beginning has.
"""

import http.client
import json
import urllib.parse

import anthropic
import openai
import pytest

import facts
from home import DEADLINE_S

CLAUDE_CODE = {
    "model": "assistant",
    "max_tokens": 32000,
    "stream": False,
    "system": [
        {"type": "text", "text": "x-anthropic-billing-header: cc_version=2.1; cc_entrypoint=cli;"},
        {"type": "text", "text": "You are Claude Code.", "cache_control": {"type": "ephemeral", "ttl": "1h"}},
    ],
    "messages": [
        {"role": "user", "content": [
            {"type": "text", "text": "<system-reminder>\nToday is Monday.\n</system-reminder>"},
            {"type": "text", "text": "@say hello", "cache_control": {"type": "ephemeral"}},
        ]},
        {"role": "system", "content": "The user is in plan mode."},
        {"role": "user", "content": "@say hello"},
    ],
    "metadata": {"user_id": "user_1_account__session_2"},
    "thinking": {"type": "adaptive"},
    "context_management": {"edits": [{"type": "clear_thinking_20251015", "keep": "all"}]},
    "output_config": {"effort": "high"},
    "speed": "fast",
    "a_field_of_tomorrow": {"mode": "on"},
    "tools": [
        {"name": "Bash", "description": "Runs.", "input_schema": {"type": "object"}, "eager_input_streaming": True},
        {"type": "web_search_20250305", "name": "web_search", "max_uses": 8},
    ],
}

CODEX = {
    "model": "assistant",
    "instructions": "You are Codex.",
    "input": [
        {"type": "message", "role": "developer", "content": [{"type": "input_text", "text": "<permissions>"}]},
        {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "@say hello"}]},
    ],
    "tools": [
        {"type": "function", "name": "shell", "description": "Runs.", "strict": False, "parameters": {"type": "object"}},
        {"type": "local_shell"},
        {"type": "custom", "name": "apply_patch", "description": "Patches.",
         "format": {"type": "grammar", "syntax": "lark", "definition": "start: \"x\""}},
        {"type": "namespace", "name": "mcp__files", "tools": []},
        {"type": "web_search", "external_web_access": True},
    ],
    "tool_choice": "auto",
    "parallel_tool_calls": True,
    "reasoning": {"effort": "medium", "summary": "auto"},
    "store": False,
    "stream": False,
    "include": ["reasoning.encrypted_content"],
    "prompt_cache_key": "0199",
    "text": {"verbosity": "medium"},
    "client_metadata": {"originator": "codex_cli"},
}


def ask(server, path, body, **headers):
    """Sends a request and returns the status, the headers and the body."""
    place = urllib.parse.urlsplit(server.url)
    connection = http.client.HTTPConnection(place.hostname, place.port, timeout=DEADLINE_S)
    sent = {"authorization": f"Bearer {server.token}", "content-type": "application/json", **headers}
    connection.request("POST", path, json.dumps(body), sent)
    answer = connection.getresponse()
    return answer.status, answer.headers, json.loads(answer.read())


def test_claude_code_is_served_as_it_comes(server):
    place = urllib.parse.urlsplit(server.url)
    connection = http.client.HTTPConnection(place.hostname, place.port, timeout=DEADLINE_S)
    connection.request("HEAD", "/")
    probe = connection.getresponse()
    assert (probe.status, probe.read()) == (200, b"")
    status, headers, answer = ask(
        server, "/v1/messages?beta=true", CLAUDE_CODE,
        **{"anthropic-version": "2023-06-01", "anthropic-beta": "claude-code-20250219,context-management-2025-06-27"},
    )
    assert status == 200, answer
    assert answer["content"][0]["text"] == "hello"
    assert "web_search" in headers["x-dromia-warning"]
    assert "plan mode" in said_by(server, headers["x-dromia-session"])


def test_codex_is_served_without_settings(server):
    status, headers, answer = ask(server, "/v1/responses", CODEX)
    assert status == 200, answer
    assert answer["output"][0]["content"][0]["text"] == "hello"
    for kind in ("local_shell", "custom", "namespace", "web_search"):
        assert kind in headers["x-dromia-warning"], headers["x-dromia-warning"]


def said_by(server, session):
    """Everything that the newest run of the session was asked with, as one text."""
    run = facts.runs_of(server, session)[0]["id"]
    return str(server.get(f"/v1/runs/{run}/requests/1"))


def test_a_previous_response_is_continued_in_its_session(server, chat):
    raw = chat.responses.with_raw_response.create(model="assistant", input="my cat is called Mia", instructions="Be kind.")
    first, session = raw.parse(), raw.headers["x-dromia-session"]
    for _ in range(2):
        raw = chat.responses.with_raw_response.create(
            model="assistant", input="and now?", instructions="Be kind.", previous_response_id=first.id
        )
        assert raw.headers["x-dromia-session"] == session
        first = raw.parse()
    assert said_by(server, session).count("Be kind.") == 1
    with pytest.raises(openai.BadRequestError) as refused:
        chat.responses.create(model="assistant", input="hi", previous_response_id="resp_run_" + "0" * 32)
    assert refused.value.code == "previous_response_not_found"
    assert refused.value.param == "previous_response_id"


def test_a_response_that_was_continued_is_not_continued_twice(server, chat):
    first = chat.responses.create(model="assistant", input="one")
    chat.responses.create(model="assistant", input="two", previous_response_id=first.id)
    with pytest.raises(openai.ConflictError) as refused:
        chat.responses.create(model="assistant", input="other two", previous_response_id=first.id)
    assert refused.value.code == "previous_response_continued"


def test_results_of_tools_continue_a_previous_response(server, chat):
    tool = {"type": "function", "name": "look", "parameters": {"type": "object"}, "strict": False}
    first = chat.responses.create(model="assistant", input="@tool look {}", tools=[tool])
    (call,) = [item for item in first.output if item.type == "function_call"]
    second = chat.responses.create(
        model="assistant", tools=[tool], previous_response_id=first.id,
        input=[{"type": "function_call_output", "call_id": call.call_id, "output": "rain"}],
    )
    assert 'look: ok, "rain".' in second.output_text


def test_references_to_items_bring_what_they_name(server, chat):
    """The AI SDK sends references in place of what was answered."""
    tool = {"type": "function", "name": "look", "parameters": {"type": "object"}, "strict": False}
    asked = {"role": "user", "content": "@tool look {}"}
    first = chat.responses.create(model="assistant", input=[asked], tools=[tool])
    (call,) = [item for item in first.output if item.type == "function_call"]
    history = [asked, *({"type": "item_reference", "id": item.id} for item in first.output)]
    history.append({"type": "function_call_output", "call_id": call.call_id, "output": "rain"})
    second = chat.responses.create(model="assistant", input=history, tools=[tool])
    assert 'look: ok, "rain".' in second.output_text
    history += [{"type": "item_reference", "id": second.output[0].id}, {"role": "user", "content": "@say done"}]
    raw = chat.responses.with_raw_response.create(model="assistant", input=history, tools=[tool])
    assert raw.parse().output_text == "done"
    assert second.output_text[:20] in said_by(server, raw.headers["x-dromia-session"])
    for unknown in ("msg_run_" + "0" * 32, "msg_x", "rs_1"):
        with pytest.raises(openai.NotFoundError) as refused:
            chat.responses.create(
                model="assistant", input=[{"type": "item_reference", "id": unknown}, {"role": "user", "content": "hi"}]
            )
        assert refused.value.param == "input[0].id", refused.value


def test_a_thread_of_messages_keeps_its_history(server, claude):
    """Each turn sends only what is new, so whatever does not continue the session has lost the rest."""
    thread = claude.beta.messages.thread(model="assistant", max_tokens=256, system="Be kind.")
    thread.send({"role": "user", "content": "my cat is called Mia"})
    thread.send({"role": "user", "content": "and now?"})
    sessions = server.rows("session", "list")
    assert any("Mia" in said_by(server, row["id"]) and "and now?" in said_by(server, row["id"]) for row in sessions)


def test_a_thread_that_went_on_elsewhere_is_sent_again(server, claude):
    thread = claude.beta.messages.thread(model="assistant", max_tokens=256)
    thread.send({"role": "user", "content": "my dog is called Rex"})
    before = thread.previous_message_id
    other = claude.beta.messages.with_raw_response.create(
        model="assistant", max_tokens=256, messages=[{"role": "user", "content": "elsewhere"}],
        thread={"type": "continue", "previous_message_id": before}, betas=["message-threads-2026-08-12"],
    )
    assert other.status_code == 200
    thread.send({"role": "user", "content": "still there?"})
    assert thread.previous_message_id != before
    sessions = [said_by(server, row["id"]) for row in server.rows("session", "list")]
    assert any("Rex" in said and "still there?" in said for said in sessions)
    with pytest.raises(anthropic.NotFoundError) as refused:
        claude.beta.messages.create(
            model="assistant", max_tokens=256, messages=[{"role": "user", "content": "hi"}],
            thread={"type": "continue", "previous_message_id": "msg_run_" + "0" * 32},
        )
    assert refused.value.error_code == "thread_not_found"


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])
def test_a_tool_runner_comes_to_its_answer_in_one_session(server, claude, stream):
    @anthropic.beta_tool
    def look_at_sky(city: str) -> str:
        """Looks.

        Args:
            city: Where.
        """
        return "rain"

    before = len(server.rows("session", "list"))
    runner = claude.beta.messages.tool_runner(
        model="assistant", max_tokens=256, tools=[look_at_sky], stream=stream,
        messages=[{"role": "user", "content": '@tool look_at_sky {"city":"Bonn"}'}],
    )
    if stream:
        for part in runner:
            last = part.get_final_message()
    else:
        last = runner.until_done()
    assert 'look_at_sky: ok, "rain".' in last.content[0].text
    assert len(server.rows("session", "list")) == before + 1


@pytest.mark.parametrize("api", ["chat", "messages"])
def test_a_whole_history_with_calls_continues_its_session(server, chat, claude, api):
    """Runners without threads send everything each time. The words are those of the session, so it is continued."""
    if api == "chat":
        tool = {"type": "function", "function": {"name": "look", "parameters": {"type": "object"}}}
        messages = [{"role": "user", "content": '@tool look {"b": 1, "a": 2}'}]
        raw = chat.chat.completions.with_raw_response.create(model="assistant", messages=messages, tools=[tool])
        session, message = raw.headers["x-dromia-session"], raw.parse().choices[0].message
        messages += [message.model_dump(exclude_none=True),
                     {"role": "tool", "tool_call_id": message.tool_calls[0].id, "content": "rain"}]
        raw = chat.chat.completions.with_raw_response.create(model="assistant", messages=messages, tools=[tool])
    else:
        tool = {"name": "look", "input_schema": {"type": "object"}}
        messages = [{"role": "user", "content": '@tool look {"b": 1, "a": 2}'}]
        raw = claude.messages.with_raw_response.create(model="assistant", max_tokens=9, messages=messages, tools=[tool])
        session, message = raw.headers["x-dromia-session"], raw.parse()
        messages += [{"role": "assistant", "content": [block.model_dump(exclude_none=True) for block in message.content]},
                     {"role": "user", "content": [
                         {"type": "tool_result", "tool_use_id": message.content[-1].id, "content": "rain"}]}]
        raw = claude.messages.with_raw_response.create(model="assistant", max_tokens=99, messages=messages, tools=[tool])
    assert raw.headers["x-dromia-session"] == session
    messages[0]["content"] = '@tool look {"b": 1, "a": 3}'
    if api == "chat":
        raw = chat.chat.completions.with_raw_response.create(model="assistant", messages=messages, tools=[tool])
    else:
        raw = claude.messages.with_raw_response.create(model="assistant", max_tokens=99, messages=messages, tools=[tool])
    assert raw.headers["x-dromia-session"] != session, "other words are another conversation"
