"""The proxy before ports of machines, with pods of our own: what passes, and what strangers try.

That it works through a real relay is seen in tests/live/test_ports.py.
"""

from __future__ import annotations

import hashlib
import re
import socket
import time
from collections.abc import Iterator
from dataclasses import replace
from urllib.parse import urlencode

import pytest

from kernel.grants import Grant, sign
from provisioner.contracts.access import enter_verb
from provisioner.streams.ports import client, inside, passes
from provisioner.streams.ports.doors import PortDoor
from tests.ported import (
    KEYS,
    OTHER,
    PORTAL,
    RENTAL,
    TOKEN,
    Loopback,
    PortBook,
    Proxy,
    Reply,
    door,
    read_all,
    upgrade,
    web,
    websocket_echo,
)
from tests.relayed import listening
from tests.sshpod import until

BROWSER = "Accept: text/html,application/xhtml+xml;q=0.9"


@pytest.fixture
def proxy() -> Iterator[Proxy]:
    made = Proxy(PortBook(), Loopback())
    yield made
    made.stop()
    assert not made.inside._counts, "every stream was given back"


@pytest.fixture
def site(proxy: Proxy) -> Iterator[PortDoor]:
    with web() as port:
        yield proxy.book.add(door(port))


def with_mode(proxy: Proxy, of: PortDoor, mode: str) -> PortDoor:
    return proxy.book.add(replace(of, access_mode=mode))


# --- What is passed on


def test_a_request_comes_through_as_it_was_and_says_who_asks(proxy: Proxy, site: PortDoor) -> None:
    answer = proxy.ask(
        site,
        "/a%20b?c=d",
        "X-Own: kept",
        "X-Forwarded-For: 198.51.100.7",
        "X-Forwarded-Proto: gopher",
        "X-Forwarded-Host: evil.example",
        "Forwarded: for=evil",
        "X-Real-IP: 10.0.0.1",
        "Keep-Alive: 300",
        "TE: trailers",
        "Authorization: Basic cG9kcw==",
        "Cookie: a=1; __Host-gpuyard=ours; b=2",
    )
    assert answer.status == 200
    first, *lines = answer.body.decode().splitlines()
    assert first == "GET /a%20b?c=d"
    assert sorted(lines) == sorted(
        [
            f"host: {proxy.host(site)}",
            "x-own: kept",
            "authorization: Basic cG9kcw==",
            "cookie: a=1; b=2",
            "x-forwarded-for: 198.51.100.7",  # the proxy in front is on this machine
            "x-forwarded-proto: https",
            f"x-forwarded-host: {proxy.host(site)}",
        ]
    )


def test_bodies_of_any_framing_go_in_and_out(proxy: Proxy, site: PortDoor) -> None:
    body = bytes(range(256)) * 4096
    expected = hashlib.sha256(body).hexdigest().encode()
    assert proxy.ask(site, method="POST", body=body).body == expected
    host = proxy.host(site).encode()
    chunks = b"".join(
        b"%x;x=y\r\n%s\r\n" % (1000, body[i : i + 1000]) for i in range(0, 9000, 1000)
    )
    sent = b"POST / HTTP/1.1\r\nHost: %s\r\nTransfer-Encoding: chunked\r\n\r\n%s0\r\n\r\n"
    with proxy.connect() as made:
        made.sendall(sent % (host, chunks))
        got = b""
        while len(got.partition(b"\r\n\r\n")[2]) < 64:
            more = made.recv(65536)
            assert more, got
            got += more
        assert got.endswith(hashlib.sha256(body[:9000]).hexdigest().encode())
    assert proxy.ask(site, "/chunks").body == b"one two three"
    assert len(proxy.ask(site, "/bytes/3000000").body) == 3_000_000


def test_http_1_0_gets_an_answer_that_ends_with_the_connection(
    proxy: Proxy, site: PortDoor
) -> None:
    host = proxy.host(site).encode()
    with proxy.connect() as made:
        made.sendall(b"GET /chunks HTTP/1.0\r\nHost: %s\r\n\r\n" % host)
        answer = Reply(read_all(made))
    assert (answer.status, answer.body) == (200, b"one two three")
    assert not answer.header("transfer-encoding")


def test_a_connection_is_kept_and_so_is_the_stream(proxy: Proxy, site: PortDoor) -> None:
    host = proxy.host(site).encode()
    with proxy.connect() as made:
        for _ in range(3):
            made.sendall(b"GET /bytes/5 HTTP/1.1\r\nHost: %s\r\n\r\n" % host)
            got = b""
            while not got.endswith(b"xxxxx"):
                got += made.recv(65536)
        assert proxy.streams.opened == 1
        # All at once, as those who pipeline do.
        made.sendall(b"GET /bytes/5 HTTP/1.1\r\nHost: %s\r\n\r\n" % host * 3)
        got = b""
        while got.count(b"xxxxx") < 3:
            got += made.recv(65536)
        assert got.count(b"HTTP/1.1 200") == 3
        assert proxy.streams.opened == 1


def test_one_connection_may_ask_for_two_ports_of_a_machine(proxy: Proxy, site: PortDoor) -> None:
    with web("127.0.0.1", ("X-Which", "other")) as port:
        other = proxy.book.add(replace(site, port=port))
        with proxy.connect() as made:
            for of in (site, other, site):
                made.sendall(b"GET /bytes/5 HTTP/1.1\r\nHost: %s\r\n\r\n" % proxy.host(of).encode())
                got = b""
                while not got.endswith(b"xxxxx"):
                    got += made.recv(65536)
                assert (b"which" in got.lower()) is (of is other)


def test_one_connection_may_ask_for_two_machines(proxy: Proxy, site: PortDoor) -> None:
    """Proxies in front keep connections for whoever comes next."""
    with web("127.0.0.1", ("X-Which", "other")) as port:
        other = proxy.book.add(door(port, rental=OTHER))
        with proxy.connect() as made:
            for of, which in ((site, False), (other, True), (site, False)):
                host = proxy.host(of).encode()
                made.sendall(b"GET /bytes/5 HTTP/1.1\r\nHost: %s\r\n\r\n" % host)
                got = b""
                while not got.endswith(b"xxxxx"):
                    got += made.recv(65536)
                assert (b"which" in got.lower()) is which


def test_a_websocket_becomes_a_pipe(proxy: Proxy) -> None:
    with listening("127.0.0.1", websocket_echo) as port:
        of = proxy.book.add(door(port))
        with upgrade(proxy, of) as made:
            for size in (1, 100_000):
                made.sendall(b"y" * size)
                got = b""
                while len(got) < size:
                    got += made.recv(65536)
        until(lambda: not proxy.inside.guests, "nothing is left of it")


def test_another_protocol_is_not_changed_to(proxy: Proxy, site: PortDoor) -> None:
    answer = proxy.ask(site, "/", "Upgrade: h2c", "HTTP2-Settings: AAMAAABkAAQAAP__")
    assert answer.status == 200
    assert b"h2c" not in answer.body
    assert b"settings" not in answer.body


def test_an_early_answer_to_a_long_body_is_read(proxy: Proxy) -> None:
    def refuse(made: socket.socket) -> None:
        made.recv(100)
        made.sendall(
            b"HTTP/1.1 413 Too Large\r\nContent-Length: 3\r\nConnection: close\r\n\r\nno\n"
        )
        made.shutdown(socket.SHUT_WR)
        while made.recv(65536):
            continue  # as servers do, so that their answer is not lost

    with listening("127.0.0.1", refuse) as port:
        of = proxy.book.add(door(port))
        answer = proxy.ask(of, method="POST", body=b"x" * 200_000)
    assert (answer.status, answer.body) == (413, b"no\n")


def test_a_stream_that_was_closed_while_it_lay_idle_is_opened_again(proxy: Proxy) -> None:
    def once(made: socket.socket) -> None:
        made.recv(65536)
        made.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")

    with listening("127.0.0.1", once) as port:
        of = proxy.book.add(door(port))
        host = proxy.host(of).encode()
        with proxy.connect() as made:
            for _ in range(3):
                made.sendall(b"GET / HTTP/1.1\r\nHost: %s\r\n\r\n" % host)
                got = b""
                while not got.endswith(b"ok"):
                    more = made.recv(65536)
                    assert more, got
                    got += more
    assert proxy.streams.opened == 3


def test_of_what_a_machine_answers_only_what_is_for_its_own_name_comes_through(
    proxy: Proxy,
) -> None:
    hostile = (
        ("Set-Cookie", "a=1; Domain=pods.example.net; Path=/; Secure"),
        ("Set-Cookie", "__Host-gpuyard=forged; Path=/; Secure"),
        ("Set-Cookie", "=__Host-gpuyard=forged"),
        ("X-Accel-Redirect", "/streams/logs"),
        ("Clear-Site-Data", '"cookies"'),
        ("Connection", "X-Hop"),
        ("X-Hop", "1"),
        ("X-Kept", "1"),
    )
    with web("127.0.0.1", *hostile) as port:
        answer = proxy.ask(proxy.book.add(door(port)))
    assert answer.all("set-cookie") == ["a=1; Path=/; Secure"]
    names = {name for name, _ in answer.headers}
    assert "x-kept" in names
    assert names.isdisjoint({"x-accel-redirect", "clear-site-data", "x-hop"})


# --- Names


@pytest.mark.parametrize(
    "host",
    [
        "pods.example.net",
        "8000-nonsense.pods.example.net",
        "x.8000-01m8g2e91yf9da8etbjzkk2a5w.pods.example.net",
        "08000-01m8g2e91yf9da8etbjzkk2a5w.pods.example.net",
        "0-01m8g2e91yf9da8etbjzkk2a5w.pods.example.net",
        "65536-01m8g2e91yf9da8etbjzkk2a5w.pods.example.net",
        "8000-01m8g2e91yf9da8etbjzkk2a5w.pods.example.net.evil.example",
        "8000-01m8g2e91yf9da8etbjzkk2a5w.example.net",
        "\u0668-01m8g2e91yf9da8etbjzkk2a5w.pods.example.net".encode().decode("latin-1"),
        "127.0.0.1",
        "[::1]",
    ],
)
def test_what_is_no_name_leads_nowhere(proxy: Proxy, site: PortDoor, host: str) -> None:
    answer = proxy.ask(site, host=host)
    assert answer.status == 404
    assert answer.body == proxy.ask(replace(site, port=1)).body, "as a port without a name does"


def test_a_name_in_capitals_and_with_a_port_is_the_same(proxy: Proxy, site: PortDoor) -> None:
    assert proxy.ask(site, host=f"{proxy.host(site).upper()}:8443").status == 200


def test_a_machine_that_does_not_run_says_so(proxy: Proxy, site: PortDoor) -> None:
    proxy.book.add(replace(site, way=None, sentence="this machine does not run <b>"))
    answer = proxy.ask(site, "/", BROWSER)
    assert (answer.status, answer.header("cache-control")) == (503, "no-store")
    assert b"does not run &lt;b&gt;" in answer.body
    told = proxy.ask(site, "/", "Accept: application/json")
    assert told.header("content-type") == "application/problem+json"
    assert b'"status": 503' in told.body
    assert proxy.ask(site, method="HEAD").body == b""


def test_a_port_at_which_nothing_listens_says_so(proxy: Proxy, site: PortDoor) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    of = proxy.book.add(door(port))
    answer = proxy.ask(of)
    assert answer.status == 502
    assert f"Nothing listens on port {port} of this machine yet." in answer.body.decode()


@pytest.mark.parametrize("said", [b"SSH-2.0-none\r\n", b"", b"HTTP/1.1 200 OK\r\nA: b\x00\r\n\r\n"])
def test_a_port_that_speaks_no_http_is_a_bad_gateway(proxy: Proxy, said: bytes) -> None:
    def speak(made: socket.socket) -> None:
        made.recv(65536)
        made.sendall(said)

    with listening("127.0.0.1", speak) as port:
        assert proxy.ask(proxy.book.add(door(port))).status == 502


def test_while_the_directory_is_away_nobody_new_comes_in(proxy: Proxy, site: PortDoor) -> None:
    proxy.book.broken = True
    assert proxy.ask(site).status == 503
    proxy.book.broken = False
    assert proxy.ask(site).status == 200


# --- Who may


def test_a_token_opens_by_header_by_parameter_and_by_cookie(proxy: Proxy, site: PortDoor) -> None:
    of = with_mode(proxy, site, "token")
    assert proxy.ask(of).status == 401
    assert proxy.ask(of, "/", f"Authorization: Bearer {TOKEN}").status == 200
    answer = proxy.ask(of, f"/lab?token={TOKEN}&x=1")
    assert (answer.status, answer.body.split(b"\n")[0]) == (
        200,
        f"GET /lab?token={TOKEN}&x=1".encode(),
    )
    (cookie,) = answer.all("set-cookie")
    assert re.fullmatch(
        r"__Host-gpuyard=\d+\.[\w-]{43}; Path=/; Max-Age=43200; Secure; HttpOnly; SameSite=Lax",
        cookie,
    )
    kept = cookie.partition(";")[0]
    again = proxy.ask(of, "/", f"Cookie: {kept}")
    assert again.status == 200
    assert b"cookie" not in again.body, "the pod does not see it"
    assert not again.all("set-cookie")


@pytest.mark.parametrize(
    "wrong",
    ["", "t" * 42, "t" * 44, "T" * 43, "\u00e9" * 43, "%00"],
)
def test_another_token_opens_nothing(proxy: Proxy, site: PortDoor, wrong: str) -> None:
    of = with_mode(proxy, site, "token")
    sent = wrong.encode().decode("latin-1")
    assert proxy.ask(of, "/", f"Authorization: Bearer {sent}").status == 401
    assert proxy.ask(of, f"/?token={wrong if wrong.isascii() else '%C3%A9'}").status == 401


def test_cookies_of_two_machines_ports_modes_and_versions_are_kept_apart(
    proxy: Proxy, site: PortDoor
) -> None:
    of = with_mode(proxy, site, "token")

    def opens(made_for: PortDoor, now: float = 0) -> bool:
        value = passes.made(made_for, key=KEYS.cookie, now=now or time.time())
        return proxy.ask(of, "/", f"Cookie: __Host-gpuyard={value}").status == 200

    assert opens(of)
    assert not opens(replace(of, rental=OTHER))
    assert not opens(replace(of, port=of.port + 1))
    assert not opens(replace(of, access_mode="team"))
    assert not opens(replace(of, version=2))
    assert not opens(of, time.time() - passes.TOKEN_SECONDS - 1)
    until_, _, signature = passes.made(of, key=KEYS.cookie, now=time.time()).partition(".")
    for forged in (f"{int(until_) + 1}.{signature}", f"{until_}.", "", ".", "9" * 30, "\xb2.x"):
        assert proxy.ask(of, "/", f"Cookie: __Host-gpuyard={forged}").status == 401
    good = passes.made(of, key=KEYS.cookie, now=time.time())
    both = f"Cookie: __Host-gpuyard=forged; __Host-gpuyard={good}"
    assert proxy.ask(of, "/", both).status == 200, "one that was tossed in locks nobody out"


@pytest.mark.parametrize(
    "lines",
    [
        ("Origin: https://8000-01m8g2e91yf9da8etbjzkk2a5x.pods.example.net",),
        ("Origin: null",),
        ("Sec-Fetch-Site: same-site", "Sec-Fetch-Mode: no-cors", "Sec-Fetch-Dest: script"),
        ("Sec-Fetch-Site: cross-site", "Sec-Fetch-Mode: navigate", "Sec-Fetch-Dest: iframe"),
        ("Sec-Fetch-Site: same-site", "Sec-Fetch-Mode: websocket", "Sec-Fetch-Dest: websocket"),
    ],
)
def test_what_another_machines_page_asks_for_is_not_opened_by_a_cookie(
    proxy: Proxy, site: PortDoor, lines: tuple[str, ...]
) -> None:
    """Names of two machines are one site for a browser, which sends the cookie along."""
    of = with_mode(proxy, site, "token")
    cookie = f"Cookie: __Host-gpuyard={passes.made(of, key=KEYS.cookie, now=time.time())}"
    assert proxy.ask(of, "/", cookie, *lines).status == 401
    assert proxy.ask(of, f"/?token={TOKEN}", cookie, *lines).status == 200
    own = f"Origin: https://{proxy.host(of)}"
    assert proxy.ask(of, "/", cookie, own, "Sec-Fetch-Site: same-origin").status == 200
    link = ("Sec-Fetch-Site: cross-site", "Sec-Fetch-Mode: navigate", "Sec-Fetch-Dest: document")
    assert proxy.ask(of, "/", cookie, *link).status == 200


def test_a_member_is_sent_to_the_portal_and_comes_back(proxy: Proxy, site: PortDoor) -> None:
    of = with_mode(proxy, site, "team")
    sent = proxy.ask(of, "/lab?a=1&b=2", BROWSER)
    name = "ren_01m8g2e91yf9da8etbjzkk2a5w"
    where = f"{PORTAL}/rentals/{name}/ports/{of.port}/enter?to=%2Flab%3Fa%3D1%26b%3D2"
    assert (sent.status, sent.header("location")) == (302, where)
    back = enter(proxy, of, "/lab?a=1")
    assert (back.status, back.header("location")) == (303, "/lab?a=1")
    cookie = back.header("set-cookie")
    assert "Max-Age=3600;" in cookie
    assert proxy.ask(of, "/", f"Cookie: {cookie.partition(';')[0]}").status == 200
    for other in (("Accept: */*",), (BROWSER, "Sec-Fetch-Mode: cors")):
        assert proxy.ask(of, "/", *other).status == 401, "no page: nobody to send anywhere"
    assert proxy.ask(of, "/", BROWSER, method="POST", body=b"x").status == 401
    assert proxy.ask(of, f"/?token={TOKEN}").status == 401, "a token is no member"


def enter(proxy: Proxy, of: PortDoor, to: str, **given: object) -> Reply:
    grant = {"verb": enter_verb(of.port), "subject": RENTAL, "owner": OTHER, **given}
    text = sign(Grant(**grant), key=KEYS.grant, now=time.time())  # type: ignore[arg-type]
    return proxy.ask(of, f"/.gpuyard/enter?{urlencode({'grant': text, 'to': to})}")


def test_a_grant_opens_what_it_was_given_for(proxy: Proxy, site: PortDoor) -> None:
    of = with_mode(proxy, site, "team")
    assert enter(proxy, of, "/").status == 303
    assert enter(proxy, of, "/", subject=OTHER).status == 403
    assert enter(proxy, of, "/", verb="ports.enter:1").status == 403
    assert enter(proxy, of, "/", verb="logs.follow").status == 403
    assert proxy.ask(of, "/.gpuyard/enter?grant=x.y&to=/").status == 403
    assert proxy.ask(of, "/.gpuyard/enter").status == 403
    token = with_mode(proxy, site, "token")
    until(lambda: enter(proxy, token, "/").status == 403, "a grant is for members' ports alone")


@pytest.mark.parametrize(
    "to",
    [
        "//evil.example",
        "/\\evil.example",
        "\\\\evil.example",
        "https://evil.example/",
        "javascript:alert(1)",
        "/\t/evil.example",
        "/\r\nSet-Cookie: a=b",
        "evil",
        "",
        "/" + "x" * 3000,
    ],
)
def test_nobody_is_sent_to_another_host(proxy: Proxy, site: PortDoor, to: str) -> None:
    of = with_mode(proxy, site, "team")
    answer = enter(proxy, of, to)
    assert (answer.status, answer.header("location")) == (303, "/")
    assert len(answer.all("set-cookie")) == 1
    if to.startswith("//"):
        sent = proxy.ask(of, to, BROWSER)
        assert sent.header("location").endswith("/enter?to=%2F")


# --- What strangers send


HOST = b"Host: %s\r\n"


@pytest.mark.parametrize(
    ("lines", "status"),
    [
        (
            b"PUT / HTTP/1.1\r\n%sContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
            400,
        ),
        (b"POST / HTTP/1.1\r\n%sContent-Length: 3\r\nContent-Length: 4\r\n\r\nabcd", 400),
        (b"POST / HTTP/1.1\r\n%sContent-Length: 3, 4\r\n\r\nabcd", 400),
        (b"POST / HTTP/1.1\r\n%sContent-Length: +3\r\n\r\nabc", 400),
        (b"POST / HTTP/1.1\r\n%sContent-Length: -1\r\n\r\n", 400),
        (b"POST / HTTP/1.1\r\n%sContent-Length : 3\r\n\r\nabc", 400),
        (b"POST / HTTP/1.1\r\n%sTransfer-Encoding: xchunked\r\n\r\n0\r\n\r\n", 501),
        (b"POST / HTTP/1.1\r\n%sTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n", 501),
        (
            b"PUT / HTTP/1.1\r\n%sTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n",
            501,
        ),
        (b"POST / HTTP/1.0\r\n%sTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400),
        (b"POST / HTTP/1.1\r\n%sTransfer-Encoding: chunked\r\n\r\nzz\r\nab\r\n0\r\n\r\n", 400),
        (b"POST / HTTP/1.1\r\n%sTransfer-Encoding: chunked\r\n\r\n-1\r\nab\r\n0\r\n\r\n", 400),
        (b"POST / HTTP/1.1\r\n%sTransfer-Encoding: chunked\r\n\r\n1\r\nabX0\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\n%sA: b\rContent-Length: 5\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\n%sA: b\x00c\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\n%sHost: other.example\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\n\r\n", 400),
        (b"GET http://evil.example/ HTTP/1.1\r\n%s\r\n", 400),
        (b"CONNECT evil.example:443 HTTP/1.1\r\n%s\r\n", 400),
        (b"GET  / HTTP/1.1\r\n%s\r\n", 400),
        (b"GET / HTTP/2.0\r\n%s\r\n", 400),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03 a greeting by TLS\r\n\r\n", 400),
        (b"nonsense\r\n\r\n", 400),
    ],
)
def test_what_could_be_read_in_two_ways_is_refused_and_never_reaches_the_pod(
    proxy: Proxy, lines: bytes, status: int
) -> None:
    seen: list[bytes] = []

    def keep(made: socket.socket) -> None:
        while got := made.recv(65536):
            seen.append(got)

    with listening("127.0.0.1", keep) as port:
        of = proxy.book.add(door(port))
        host = HOST % proxy.host(of).encode()
        sent = lines.replace(b"%s", host)
        answer = proxy.raw(sent + b"GET /smuggled HTTP/1.1\r\n" + host + b"\r\n")
    assert Reply(answer).status == status, answer
    assert answer.count(b"HTTP/1.1 ") == 1, "the connection ended with it"
    assert b"smuggled" not in b"".join(seen)


def test_a_folded_header_is_one_line_for_the_pod(proxy: Proxy, site: PortDoor) -> None:
    answer = proxy.ask(site, "/", "X-Folded: a\r\n b\r\n\tContent-Length: 9")
    assert answer.status == 200
    assert b"x-folded: a b Content-Length: 9\n" in answer.body


def test_headers_named_as_of_this_connection_cannot_change_the_message(
    proxy: Proxy, site: PortDoor
) -> None:
    body = b"GET /smuggled HTTP/1.1\r\n\r\n"
    answer = proxy.ask(
        site, "/", "Connection: Content-Length, Host, X-Forwarded-For", method="POST", body=body
    )
    assert (answer.status, len(answer.body)) == (200, 64)


def test_a_head_may_be_so_long_and_no_longer(proxy: Proxy, site: PortDoor) -> None:
    assert proxy.ask(site, "/", "X-Long: " + "x" * 40_000).status in (200, 431)
    assert proxy.ask(site, "/", *(f"X-{n}: {'x' * 100}" for n in range(90))).status == 200
    host = proxy.host(site).encode()
    begun = b"GET / HTTP/1.1\r\nHost: %s\r\nX-Long: " % host
    # Less than is read after a refusal: the answer is there before the connection ends.
    assert Reply(proxy.raw(begun + b"x" * 1_000_000)).status == 431
    # More is cut off, and not read to its end.
    with proxy.connect() as made, pytest.raises(ConnectionError):
        made.sendall(begun + b"x" * 100_000_000)


def test_slow_and_silent_clients_hold_a_place_and_lose_it(
    proxy: Proxy, site: PortDoor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client, "HEAD_SECONDS", 0.3)
    monkeypatch.setattr(client, "IDLE_SECONDS", 0.3)
    monkeypatch.setattr(client, "_LINGER_SECONDS", 0.1)
    slow = [proxy.connect() for _ in range(50)]
    for each in slow[:25]:
        each.sendall(b"GET / HT")
    assert proxy.ask(site).status == 200, "others are served meanwhile"
    answers = [read_all(each) for each in slow]
    assert {Reply(got).status for got in answers[:25]} == {408}
    assert set(answers[25:]) == {b""}
    until(lambda: not proxy.inside.guests, "nothing is left of them")


def test_a_body_that_stops_coming_ends(
    proxy: Proxy, site: PortDoor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client, "STALL_SECONDS", 0.3)
    with proxy.connect() as made:
        host = proxy.host(site).encode()
        made.sendall(b"POST / HTTP/1.1\r\nHost: %s\r\nContent-Length: 100\r\n\r\nabc" % host)
        assert read_all(made) == b""
    until(lambda: not proxy.inside.guests, "nothing is left of it")


def test_who_hangs_up_while_the_pod_thinks_leaves_nothing(proxy: Proxy) -> None:
    ends: list[bytes] = []

    def think(made: socket.socket) -> None:
        made.recv(65536)
        ends.append(made.recv(1))

    with listening("127.0.0.1", think) as port:
        of = proxy.book.add(door(port))
        with proxy.connect() as made:
            made.sendall(b"GET / HTTP/1.1\r\nHost: %s\r\n\r\n" % proxy.host(of).encode())
            until(lambda: proxy.streams.opened == 1, "it was passed on")
        until(lambda: ends == [b""], "the pod sees the end")
    until(lambda: not proxy.inside.guests, "nothing is left of it")


def test_an_answer_that_breaks_off_does_not_look_whole(proxy: Proxy) -> None:
    def half(made: socket.socket) -> None:
        made.recv(65536)
        made.sendall(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n")

    with listening("127.0.0.1", half) as port:
        of = proxy.book.add(door(port))
        with proxy.connect() as made:
            made.sendall(b"GET / HTTP/1.1\r\nHost: %s\r\n\r\n" % proxy.host(of).encode())
            assert not read_all(made).endswith(b"0\r\n\r\n")


def test_a_machine_has_so_many_connections_and_others_theirs(proxy: Proxy) -> None:
    proxy.inside.per_rental = 3
    with listening("127.0.0.1", websocket_echo) as port, web() as other_port:
        of = proxy.book.add(door(port))
        other = proxy.book.add(door(other_port, rental=OTHER))
        inside = [upgrade(proxy, of) for _ in range(3)]
        answer = proxy.ask(of)
        assert answer.status == 503
        assert b"3 connections are open to this machine" in answer.body
        assert proxy.ask(other).status == 200
        inside.pop().close()
        until(lambda: proxy.inside._counts[of.rental] == 2, "one has left")
        inside.append(upgrade(proxy, of))
        for each in inside:
            each.close()
        until(lambda: not proxy.inside.guests, "all have left")


def test_beyond_all_places_connections_are_closed(
    proxy: Proxy, site: PortDoor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(inside, "CONNECTIONS", 5)
    held = [proxy.connect() for _ in range(5)]
    until(lambda: len(proxy.inside.guests) == 5, "they are in")
    with proxy.connect() as made:
        assert read_all(made) == b""
    for each in held:
        each.close()
    until(lambda: not proxy.inside.guests, "they are out")
    assert proxy.ask(site).status == 200


# --- What ends what is open


@pytest.mark.parametrize(
    "change",
    [
        lambda of: replace(of, access_mode="team"),
        lambda of: replace(of, version=2),
        lambda of: replace(of, way=replace(of.way, instance="ins_another")),
        lambda of: replace(of, way=None, sentence="stopped"),
        lambda of: None,
    ],
    ids=["mode", "token", "restart", "stop", "removed"],
)
def test_a_websocket_ends_with_what_let_it_in(proxy: Proxy, change) -> None:
    with listening("127.0.0.1", websocket_echo) as port:
        of = proxy.book.add(door(port, mode="token"))
        bystander = proxy.book.add(door(port, rental=OTHER))
        with (
            upgrade(proxy, of, f"Authorization: Bearer {TOKEN}") as made,
            upgrade(proxy, bystander) as other,
        ):
            proxy.book.broken = True
            made.settimeout(3 * inside.RECHECK_SECONDS)
            made.sendall(b"there")
            assert made.recv(10) == b"there"
            proxy.book.doors.pop((of.rental, of.port))
            if (changed := change(of)) is not None:
                proxy.book.add(changed)
            began = time.monotonic()
            proxy.book.broken = False
            assert read_all(made) == b""
            assert time.monotonic() - began < 5
            other.sendall(b"still")
            assert other.recv(10) == b"still"
        until(lambda: not proxy.inside.guests, "all have left")


def test_a_new_token_does_not_end_what_anybody_may(proxy: Proxy) -> None:
    of = door(1, mode="public")
    assert not of.outlived(replace(of, version=2))
    assert replace(of, access_mode="team").outlived(replace(of, access_mode="team", version=2))


def test_a_websocket_ends_with_the_cookie_that_let_it_in(
    proxy: Proxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(passes, "TEAM_SECONDS", 2)
    with listening("127.0.0.1", websocket_echo) as port:
        of = proxy.book.add(door(port, mode="team"))
        value = passes.made(of, key=KEYS.cookie, now=time.time())
        with upgrade(proxy, of, f"Cookie: __Host-gpuyard={value}") as made:
            assert read_all(made) == b""
    until(lambda: not proxy.inside.guests, "it has left")


def test_a_link_that_was_just_made_opens_at_once(proxy: Proxy, site: PortDoor) -> None:
    of = with_mode(proxy, site, "token")
    assert proxy.ask(of, f"/?token={TOKEN}").status == 200
    proxy.book.add(replace(of, version=2, token="n" * 43))
    until(lambda: proxy.ask(of, f"/?token={'n' * 43}").status == 200, "well within two seconds")
