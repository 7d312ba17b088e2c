"""Shops in temporary folders."""

import pytest

from tests.services.service import open_shop


@pytest.fixture(params=["fastapi", "flask"])
def shop(request, tmp_path):
    """A shop of each framework, with a policy file."""
    with open_shop(tmp_path, request.param) as opened:
        yield opened


@pytest.fixture
def fastapi_shop(tmp_path):
    """A FastAPI shop, with a policy file."""
    with open_shop(tmp_path) as opened:
        yield opened
