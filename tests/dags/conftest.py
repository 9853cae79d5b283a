"""The small simulated shop of the training tests."""

from tests.training.conftest import simulated

__all__ = ["simulated"]
