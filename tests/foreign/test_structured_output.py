"""Answers in JSON that satisfies a schema, through the official clients and a model that does not always keep to it."""

import contextlib
import http.server
import json
import threading

import anthropic
import openai
import pydantic
import pytest

from home import served

GOOD = '{"name": "Ada", "age": 36}'
CONFIGURATION = """version: 1
providers:
  fake: {{ kind: openai, base_url: "{url}/v1", key: "env:FAKE_KEY" }}
models:
  default: {{ provider: fake, model: "m", price: {{ input: 1, output: 1 }} }}
"""


class Person(pydantic.BaseModel):
    name: str
    age: int


class Model(http.server.BaseHTTPRequestHandler):
    """A chat completions server that gives the answers of a list, one after another."""

    answers, asked = [], []

    def do_POST(self):
        asked = json.loads(self.rfile.read(int(self.headers["content-length"])))
        type(self).asked.append(asked)
        text = type(self).answers.pop(0)
        usage = {"prompt_tokens": 3, "completion_tokens": 5, "total_tokens": 8}
        chunks = [
            {"id": "c", "choices": [{"index": 0, "delta": {"role": "assistant", "content": text}, "finish_reason": None}]},
            {"id": "c", "choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]},
            {"id": "c", "choices": [], "usage": usage},
        ]
        body = "".join(f"data: {json.dumps(chunk)}\n\n" for chunk in chunks) + "data: [DONE]\n\n"
        self.send_response(200)
        self.send_header("content-type", "text/event-stream")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body.encode())

    def log_message(self, *_):
        pass


@contextlib.contextmanager
def answering(*answers):
    """The model gives these answers; what it was asked is there afterwards."""
    Model.answers, Model.asked = list(answers), []
    yield Model.asked
    assert not Model.answers, f"the model was not asked for {Model.answers}"


@pytest.fixture(scope="module")
def server():
    model = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Model)
    threading.Thread(target=model.serve_forever, daemon=True).start()
    url = f"http://127.0.0.1:{model.server_address[1]}"
    with served(CONFIGURATION.format(url=url), FAKE_KEY="k") as server:
        yield server
    model.shutdown()


def ask(api, chat, claude):
    """The parsed answer of one request in the words of an API."""
    said = [{"role": "user", "content": "who is it?"}]
    if api == "chat":
        return chat.beta.chat.completions.parse(model="assistant", messages=said, response_format=Person).choices[0].message.parsed
    if api == "responses":
        return chat.responses.parse(model="assistant", input=said, text_format=Person).output_parsed
    return claude.beta.messages.parse(model="assistant", max_tokens=99, messages=said, output_format=Person).parsed_output


APIS = ["chat", "responses", "messages"]


@pytest.mark.parametrize("api", APIS)
def test_an_answer_comes_as_the_type_that_was_asked_for(chat, claude, api):
    with answering(f"```json\n{GOOD}\n```") as asked:
        assert ask(api, chat, claude) == Person(name="Ada", age=36)
    assert "JSON Schema" in asked[0]["messages"][0]["content"], "every model is told in words"


@pytest.mark.parametrize("api", APIS)
def test_an_answer_that_does_not_fit_is_repaired(server, chat, claude, api):
    with answering("It is Ada.", '{"name": "Ada"}', GOOD) as asked:
        assert ask(api, chat, claude) == Person(name="Ada", age=36)
    assert '"age" is a required property' in asked[2]["messages"][-1]["content"]
    assert server.rows("run", "list")[0]["model_calls"] == 3, "repairs are calls like any other"


@pytest.mark.parametrize("api", APIS)
def test_an_answer_that_never_fits_is_a_typed_error(chat, claude, api):
    """A third repair would ask the model a fourth time, for which it has no answer."""
    kind = anthropic.UnprocessableEntityError if api == "messages" else openai.UnprocessableEntityError
    with answering("no", "no", "no"), pytest.raises(kind) as refused:
        ask(api, chat, claude)
    assert refused.value.body["error" if api == "messages" else "code"] is not None
    assert "answer_schema_unsatisfied" in str(refused.value.body)


def test_a_stream_says_nothing_that_is_taken_back(chat):
    said = [{"role": "user", "content": "who is it?"}]
    with answering("It is Ada.", GOOD), chat.chat.completions.stream(
        model="assistant", messages=said, response_format=Person
    ) as stream:
        text = "".join(event.delta for event in stream if event.type == "content.delta")
        parsed = stream.get_final_completion().choices[0].message.parsed
    assert (text, parsed) == (GOOD, Person(name="Ada", age=36))


def test_any_object_and_a_bad_schema(chat):
    said = [{"role": "user", "content": "who is it?"}]
    with answering("[]", "{}"):
        answer = chat.chat.completions.create(model="assistant", messages=said, response_format={"type": "json_object"})
    assert answer.choices[0].message.content == "{}"
    for schema, place in [({"type": "nothing"}, "response_format"), ({"$ref": "https://a.test/b"}, "response_format.json_schema.schema")]:
        form = {"type": "json_schema", "json_schema": {"name": "a", "schema": schema}}
        with pytest.raises(openai.BadRequestError) as refused:
            chat.chat.completions.create(model="assistant", messages=said, response_format=form)
        assert refused.value.param == place


def test_the_next_turn_goes_on_without_the_answers_that_did_not_fit(chat):
    with answering("It is Ada.", GOOD):
        first = chat.responses.parse(model="assistant", input="who is it?", text_format=Person)
    with answering("gone") as asked:
        chat.responses.create(model="assistant", input="and now?", previous_response_id=first.id)
    sent = json.dumps(asked[0]["messages"])
    assert "It is Ada." not in sent and "did not have the form" in sent and "JSON Schema" not in sent
