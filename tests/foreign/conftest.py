"""The server and the clients that the tests share."""

import anthropic
import openai
import pytest

import home


@pytest.fixture(scope="session")
def server():
    with home.served() as served:
        yield served


@pytest.fixture(scope="module")
def chat(server):
    return openai.OpenAI(base_url=f"{server.url}/v1", api_key=server.token, timeout=home.DEADLINE_S)


@pytest.fixture(scope="module")
def claude(server):
    return anthropic.Anthropic(base_url=server.url, api_key=server.token, timeout=home.DEADLINE_S)
