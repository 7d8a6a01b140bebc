"""What a hostile owner could hand over as a cluster: a seeded stream over many classes.

Every input is one request to POST /provider/clusters. Names resolve as `Input.answers` says, one
list per question, the last one for ever; nothing here is asked of a real name server.
"""

from __future__ import annotations

import ipaddress
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from tests.hostile import pem

Json = dict[str, Any]

# Where no connection of ours may ever go, whoever is bound to what.
NEVER_V4 = (
    *("169.254.169.254", "169.254.170.2", "100.64.0.1", "100.100.100.200", "168.63.129.16"),
    *("192.0.0.192", "0.0.0.0", "224.0.0.1", "255.255.255.255", "198.18.0.1", "240.0.0.1"),
)
# Not bound for this provider: private, or loopback at a port that is somebody else's.
PRIVATE_V4 = ("10.0.0.1", "172.16.5.4", "192.168.1.1", "127.0.0.1", "127.8.9.10")
FORBIDDEN_V6 = (
    *("::", "::1", "fe80::1", "fc00::1", "fd00:ec2::254", "fec0::1", "ff02::1", "2002:7f00:1::"),
    *("64:ff9b::a9fe:a9fe", "64:ff9b:1::a00:1", "2001:0:4136:e378:8000:63bf:3fff:fdd2"),
    *("::ffff:169.254.169.254", "::ffff:10.0.0.1", "::169.254.169.254", "100::1", "2001:db8::1"),
)
PUBLIC = "93.184.215.14"  # only ever an answer that is judged; nothing connects to it


@dataclass(frozen=True)
class Input:
    """One request. ``refused``: it must not be stored; else no connection may come of it.

    answers: what the host's name resolves to, question by question. field: that a refusal names.
    """

    kind: str
    changes: Json
    refused: bool = True
    answers: tuple[tuple[str, ...], ...] = ()
    field: str = ""  # of the body
    raw: bytes | None = None


Maker = Callable[[random.Random], Input]


def url(host: str, port: str = ":6443", scheme: str = "https://") -> Json:
    return {"api_url": f"{scheme}{host}{port}"}


# --- addresses in every spelling ------------------------------------------------------------------


def _spellings(ip: str) -> dict[str, str]:
    number = int(ipaddress.IPv4Address(ip))
    parts = [int(part) for part in ip.split(".")]
    six = f"{number >> 16:x}:{number & 0xFFFF:x}"
    wide = str.maketrans("0123456789", "０１２３４５６７８９")
    return {
        "dotted": ip,
        "decimal": str(number),
        "hex": hex(number),
        "octal": f"0{number:o}",
        "octal parts": ".".join(f"0{part:o}" for part in parts),
        "hex parts": ".".join(hex(part) for part in parts),
        "mixed parts": f"{hex(parts[0])}.{parts[1]}.0{parts[2]:o}.{parts[3]}",
        "two parts": f"{parts[0]}.{number & 0xFFFFFF}",
        "zeros": ".".join(f"{part:04o}" for part in parts),
        "trailing dot": f"{ip}.",
        "wide digits": ip.translate(wide),
        "wide dots": ip.replace(".", "。"),
        "percent": ip.replace(".", "%2e"),
        "mapped": f"[::ffff:{ip}]",
        "mapped hex": f"[::ffff:{six}]",
        "long mapped": f"[0:0:0:0:0:ffff:{six}]",
        "compatible": f"[::{ip}]",
        "6to4": f"[2002:{six}::1]",
        "nat64": f"[64:ff9b::{six}]",
        "local nat64": f"[64:ff9b:1::{six}]",
        "teredo": f"[2001:0:{six}:0:0:f5ff:fffe]",
        "zone": "[fe80::1%25lo]",
    }


def literal(rng: random.Random) -> Input:
    ip = rng.choice(NEVER_V4 + PRIVATE_V4)
    name, host = rng.choice(sorted(_spellings(ip).items()))
    port = rng.choice((":6443", ":443", ""))
    # A text that resolves to nothing is stored as unreachable, and judged anew at each connect.
    return Input(f"address/{name}", url(host, port), refused=False)


def six(rng: random.Random) -> Input:
    host = ipaddress.ip_address(rng.choice(FORBIDDEN_V6))
    text = rng.choice((str(host), host.exploded, str(host).upper()))
    return Input("address/six", url(f"[{text}]", rng.choice((":6443", ":443", ""))))


def named(rng: random.Random) -> Input:
    """A name of theirs that resolves to what is not theirs."""
    host = f"k8s-{rng.randrange(10**6)}.partner.example"
    bad = rng.choice(NEVER_V4 + PRIVATE_V4 + FORBIDDEN_V6)
    answers = rng.choice(((bad,), (PUBLIC, bad), (bad, PUBLIC), (PUBLIC,) * 40 + (bad,)))
    return Input("name/forbidden", url(host), answers=(answers,))


def rebinding(rng: random.Random) -> Input:
    """Public while it is registered, forbidden when it is connected to."""
    host = f"turn-{rng.randrange(10**6)}.partner.example"
    bad = rng.choice(NEVER_V4 + PRIVATE_V4 + FORBIDDEN_V6)
    later = rng.choice(((bad,), (PUBLIC, bad), (bad, PUBLIC)))
    return Input("name/rebinding", url(host), refused=False, answers=((PUBLIC,), later))


# --- URLs -----------------------------------------------------------------------------------------

_HOST = "api.partner.example"
_URLS: dict[str, tuple[str, ...]] = {
    "scheme": (
        *(f"{scheme}://{_HOST}:6443" for scheme in ("http", "ftp", "file", "gopher", "unix")),
        *(
            "javascript:alert(1)",
            "file:///etc/passwd",
            "data:,x",
            f"//{_HOST}:6443",
            f"{_HOST}:6443",
        ),
        *(f"https:{_HOST}", f"https:///{_HOST}", f"https ://{_HOST}:6443", f"https\t://{_HOST}"),
    ),
    "userinfo": (
        *(f"https://admin:secret@{_HOST}:6443", f"https://{_HOST}:6443@169.254.169.254:443"),
        *(f"https://{_HOST}%40169.254.169.254:6443", f"https://@{_HOST}:6443"),
    ),
    "port": tuple(
        f"https://{_HOST}:{port}"
        for port in (
            "0",
            "22",
            "80",
            "5432",
            "6379",
            "65536",
            "99999",
            "-1",
            "１２",
            "6443:443",
            "x",
        )
    ),
    "rest": tuple(
        f"https://{_HOST}:6443{rest}"
        for rest in (
            "/api",
            "/..",
            "?x=1",
            "#x",
            "/#@169.254.169.254",
            "\\@169.254.169.254",
            "/%0d%0a",
        )
    ),
    "shape": (
        *(
            "",
            " ",
            "https://",
            "https://:6443",
            "https://[::1",
            "https://[]:6443",
            "https://]:6443",
        ),
        *(
            f"https://{_HOST}\r\nHost: evil",
            f"https://{_HOST}\x00.evil:6443",
            "https://" + "a" * 5000,
        ),
        *("https://exämple.example:6443", "https://\u202eelpmaxe:6443", "https://a b:6443"),
        *(f"https://{'a.' * 140}example:6443", "https://%31%32%37.0.0.1:6443"),
    ),
}


def address_text(rng: random.Random) -> Input:
    kind = rng.choice(sorted(_URLS))
    return Input(f"url/{kind}", {"api_url": rng.choice(_URLS[kind])}, answers=((PUBLIC,),))


# --- what a kubeconfig could smuggle --------------------------------------------------------------

_SMUGGLED: dict[str, Any] = {
    "exec": {"command": "/bin/sh", "args": ["-c", "touch /tmp/owned"]},
    "auth-provider": {"name": "gcp", "config": {"cmd-path": "/bin/sh"}},
    "tokenFile": "/etc/passwd",
    "token_file": "/etc/passwd",
    "proxy-url": "http://169.254.169.254:80",
    "proxy_url": "http://169.254.169.254:80",
    "insecure-skip-tls-verify": True,
    "insecure_skip_tls_verify": True,
    "client-certificate": "/etc/ssl/private/key.pem",
    "client-key": "/etc/ssl/private/key.pem",
    "certificate-authority": "/etc/passwd",
    "tls-server-name": "metadata.google.internal",
    "as": "system:admin",
    "impersonate": "system:admin",
    "kubeconfig": "apiVersion: v1\nkind: Config\n",
    "users": [{"user": {"exec": {"command": "/bin/sh"}}}],
    "verify_ssl": False,
    "binding_networks": ["0.0.0.0/0"],
    "allowed_ports": [22],
    "provider_ref": "prv_00000000000000000000000000",
    "state": "ready",
    "preflight_passed": True,
    "__class__": "Cluster",
}


def smuggled(rng: random.Random) -> Input:
    name = rng.choice(sorted(_SMUGGLED))
    return Input(f"kubeconfig/{name}", {name: _SMUGGLED[name]}, field=name)


_CONFIG = """apiVersion: v1
kind: Config
users: [{name: x, user: {exec: {apiVersion: client.authentication.k8s.io/v1, command: /bin/sh}}}]
"""


def whole_config(rng: random.Random) -> Input:
    name = rng.choice(("api_url", "ca_pem", "token"))
    return Input("kubeconfig/whole", {name: _CONFIG}, field=name)


# --- CA, token, name, body ------------------------------------------------------------------------


def authority(rng: random.Random) -> Input:
    kind, text, refused = rng.choice(pem.hostile())
    return Input(f"ca/{kind}", {"ca_pem": text}, refused=refused, field="ca_pem" if refused else "")


_TOKENS: dict[str, Any] = {
    "line break": "abc\r\nX-Injected: yes",
    "line feed": "abc\ndef",
    "nul": "abc\x00def",
    "control": "abc\x1b[2Jdef",
    "space": "abc def",
    "emoji": "abc\U0001f600",
    "bidi": "abc\u202edef",
    "surrogate": "abc\ud800",
    "empty": "",
    "huge": "a" * 2_000_000,
    "over the limit": "a" * 16_385,
    "a list": ["a"],
    "an object": {"a": "b"},
    "null": None,
}


def token(rng: random.Random) -> Input:
    kind = rng.choice(sorted(_TOKENS))
    return Input(f"token/{kind}", {"token": _TOKENS[kind]})


_NAMES: dict[str, tuple[Any, bool]] = {
    "html": ("<script>alert(1)</script>", False),
    "ansi": ("\x1b[31mred\x1b[0m", False),
    "bidi": ("good\u202edoog", False),
    "template": ("{{7*7}}${7*7}", False),
    "formula": ("=cmd|' /C calc'!A0", False),
    "sql": ("'; DROP TABLE provisioner_cluster; --", False),
    "nul": ("a\x00b", False),
    "controls alone": ("\x1b\x07\u2028", True),
    "long": ("x" * 61, True),
    "combining": ("a" + "\u0301" * 5000, True),
    "surrogate": ("a\ud800", False),
    "a number": (7, True),
    "null": (None, True),
}


def name(rng: random.Random) -> Input:
    kind = rng.choice(sorted(_NAMES))
    value, refused = _NAMES[kind]
    host = f"named-{rng.randrange(10**6)}.partner.example"
    changes = {"name": value, **url(host)}
    answers = ((PUBLIC,), ("169.254.169.254",))
    return Input(f"cluster name/{kind}", changes, refused=refused, answers=answers)


_BODIES: dict[str, bytes] = {
    "deep list": b"[" * 100_000,
    "deep object": b'{"name":' * 100_000 + b"1" + b"}" * 100_000,
    "no JSON": b"\xff\xfe\x00",
    "a list": b"[1,2,3]",
    "a text": b'"https://k8s.partner.example"',
    "a huge number": b'{"name": ' + b"9" * 100_000 + b"}",
    "not a number": b'{"name": NaN, "token": Infinity}',
    "nothing": b"",
    "lone surrogate": b'{"name": "\\ud800", "api_url": "\\udfff"}',
    "many keys": b"{" + b",".join(b'"k%d":1' % number for number in range(20_000)) + b"}",
    "megabytes": b'{"name": "' + b"x" * 2_400_000 + b'"}',
    "beyond the limit": b'{"name": "' + b"x" * 3_000_000 + b'"}',
}


def body(rng: random.Random) -> Input:
    kind = rng.choice(sorted(_BODIES))
    return Input(f"body/{kind}", {}, raw=_BODIES[kind])


# With weights: spellings of addresses are most of what there is to try.
MAKERS: tuple[tuple[Maker, int], ...] = (
    *((literal, 8), (six, 3), (named, 4), (rebinding, 4), (address_text, 6)),
    *((smuggled, 4), (whole_config, 1), (authority, 4), (token, 3), (name, 3), (body, 2)),
)


def inputs(rng: random.Random, count: int) -> Iterator[Input]:
    """So many, each class at least once where there is room for it."""
    makers = [maker for maker, _ in MAKERS]
    weights = [weight for _, weight in MAKERS]
    for number in range(count):
        maker = makers[number] if number < len(makers) else rng.choices(makers, weights)[0]
        yield maker(rng)
