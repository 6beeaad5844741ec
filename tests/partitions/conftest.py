"""Tests that are coroutines run as those of the engines do."""

from tests.engines.conftest import pytest_pyfunc_call as pytest_pyfunc_call
