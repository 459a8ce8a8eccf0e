"""The server that the tests of the clients share."""

import pytest

import home


@pytest.fixture(scope="session")
def server():
    with home.served() as served:
        yield served
