"""A browser is told once what a failover took from it, though it keeps two tokens."""

from __future__ import annotations

from datetime import UTC, datetime
from http.cookies import SimpleCookie

import pytest

from viral_engine.cluster import ClusterView
from viral_engine.cluster.view import Answer, Observation, build_view
from viral_engine.data import SessionToken, TokenSigner
from viral_engine.data.positions import Position
from viral_engine.data.token import Span
from viral_engine.lsn import Lsn
from viral_engine.web.headers import sorted_out
from viral_engine.web.session import SessionTokens

CLUSTER = 7


def _promoted() -> ClusterView:
    answer = Answer(
        in_recovery=False, timeline=2, lsn=Lsn(500), lag_seconds=0, cluster=CLUSTER,
        ends={1: Lsn(100)},
    )  # fmt: skip
    return build_view(["iad"], [Observation("iad", 0, answer)], now=0, fresh_for=1)


@pytest.mark.parametrize("last_write", [90, 150])
def test_a_browser_is_told_once(last_write: int) -> None:
    signer = TokenSigner("shared")
    tokens = SessionTokens(signer)
    span = Span(Lsn(last_write - 1), Lsn(last_write))
    lost = SessionToken(CLUSTER, 1, Lsn(150), datetime.now(UTC), span)
    jar = dict.fromkeys(("viral-session", "viral-session-wrote"), signer.sign(lost))
    told: list[str] = []
    for _ in range(3):
        cookie = "; ".join(f"{name}={value}" for name, value in jar.items())
        incoming = sorted_out([(b"cookie", cookie.encode()), (b"host", b"localhost")])
        opened = tokens.open(incoming, _promoted(), scheme="http")
        opened.session.read_at(Position(2, Lsn(500), in_recovery=False), cluster=CLUSTER)
        for name, value in tokens.headers(opened):
            if name == b"viral-session-lost":
                told.append(value.decode())
            if name == b"set-cookie":
                jar |= {key: part.value for key, part in SimpleCookie(value.decode()).items()}
    assert len(told) == 1, told
