"""Who holds an app, and what it says when it does not any more."""

from __future__ import annotations

import pytest

from slipway.engines.kubernetes.record import Holding, Record
from slipway.errors import Conflict, Unavailable


def test_a_cluster_that_is_away_is_not_taken_for_another_controller() -> None:
    holding = Holding(Record("slipway-demo"))
    holding.check()
    holding.lost = Conflict("the record was written by another")
    with pytest.raises(Conflict, match="another controller has taken over: the record was written"):
        holding.check()
    holding.lost = Unavailable("connection refused")
    with pytest.raises(Unavailable, match="connection refused"):
        holding.check()
