"""Pages are compressed for whoever takes it; answers of the API are not."""

from __future__ import annotations

import gzip

from tests.area.marketplace_portal.visitors import Visitor


def test_a_page_is_compressed_and_says_that_it_varies(stranger: Visitor) -> None:
    plain = stranger.client.get("/terms")
    packed = stranger.client.get("/terms", headers={"accept-encoding": "gzip"})
    assert "Content-Encoding" not in plain.headers
    assert packed["Content-Encoding"] == "gzip"
    assert "Accept-Encoding" in packed["Vary"]
    assert gzip.decompress(packed.content).decode()[:15] == plain.content.decode()[:15]
    assert len(packed.content) < len(plain.content) / 2


def test_the_api_answers_as_it_is(stranger: Visitor) -> None:
    answer = stranger.client.get("/api/v1/accelerators", headers={"accept-encoding": "gzip"})
    assert answer.status_code == 200
    assert "Content-Encoding" not in answer.headers
    assert answer.json()
