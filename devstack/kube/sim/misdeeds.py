"""What an ordered fault does to one request, on the wire."""

from __future__ import annotations

import asyncio
import dataclasses
import gzip
import json
from typing import Any

from devstack.kube.sim import wire
from devstack.kube.sim.apiserver import Answer, Request, Watching
from devstack.kube.sim.errors import StatusError, conflict, exists, expired
from devstack.kube.sim.faults import ApiFault, ApiFaults
from devstack.kube.sim.kinds import target_of
from devstack.kube.sim.podlogs import LogRequest
from devstack.kube.sim.verbs import Page

Json = dict[str, Any]

_BLOCK = 64 * 1024
_CLOSING = frozenset({"cut_after", "hang_after", "error_after"})


class Cut(Exception):
    """Close the connection with a reset and without another byte."""


class Misdeeds:
    """Carries out orders. Both methods return whether the request has been dealt with, and raise
    Cut when its connection is to be."""

    def __init__(self, faults: ApiFaults) -> None:
        self._faults = faults

    async def instead(
        self, fault: ApiFault, request: Request, writer: asyncio.StreamWriter
    ) -> bool:
        """Faults before the effect."""
        params = fault.params
        match fault.kind:
            case "cut_before":
                raise Cut
            case "hang_before":
                await asyncio.sleep(params["seconds"])
                raise Cut
            case "redirect":
                await _send(writer, Answer(307, "{}"), {"Location": params["location"]})
            case "bomb":
                await _bomb(writer, params["size"])
            case "gzip":
                await _gzip(writer, params["size"])
            case "error" | "throttle" | "conflict" | "expired":
                await self._refuse(fault, request, writer)
            case _:
                return False
        return True

    async def after(
        self,
        fault: ApiFault,
        answer: Answer | Watching | LogRequest,
        writer: asyncio.StreamWriter,
    ) -> bool:
        """Faults after the effect."""
        if isinstance(answer, Watching) and fault.kind in _CLOSING:
            answer.watch.close()
        match fault.kind:
            case "cut_after":
                raise Cut
            case "hang_after":
                await asyncio.sleep(fault.params["seconds"])
                raise Cut
            case "error_after":
                await _send(writer, _status(_error(fault)), {})
            case "empty_list" if isinstance(answer, Answer) and isinstance(answer.content, Page):
                page = dataclasses.replace(answer.content, items=[], token="")
                await _send(writer, Answer(200, page), {})
            case "drip" if isinstance(answer, Answer):
                await _drip(writer, answer, fault.params["seconds"])
            case _:
                return False
        return True

    async def _refuse(
        self, fault: ApiFault, request: Request, writer: asyncio.StreamWriter
    ) -> None:
        error = _refusal(fault, request)
        headers = {} if error.retry_after_s is None else {"Retry-After": str(error.retry_after_s)}
        if fault.kind == "expired" and "watch=true" in request.target:
            line = json.dumps({"type": "ERROR", "object": error.body()}).encode() + b"\n"
            writer.write(wire.answer_head(200, {}, length=len(line)) + line)
            await writer.drain()
            return
        await _send(writer, _status(error), headers)


def _refusal(fault: ApiFault, request: Request) -> StatusError:
    target = target_of(request.path)
    resource = target.plural if target else "objects"
    name = (target.name if target else "") or _named(request)
    if fault.kind == "throttle":
        message = "Too many requests, please try again later."
        retry = fault.params["retry_after"]
        return StatusError(429, "TooManyRequests", message, retry_after_s=retry)
    if fault.kind == "expired":
        return expired("The resourceVersion for the provided watch is too old.")
    if fault.kind == "conflict" and fault.params["reason"] == "AlreadyExists":
        return exists(resource, name)
    if fault.kind == "conflict":
        return conflict(resource, name, "the object has been modified")
    return _error(fault)


def _named(request: Request) -> str:
    """The name in the body of a creation."""
    try:
        body = request.body if isinstance(request.body, dict) else json.loads(request.body)
        return str(body["metadata"]["name"])
    except (ValueError, KeyError, TypeError):  # the order stands whatever was sent
        return ""


def _error(fault: ApiFault) -> StatusError:
    params = fault.params
    return StatusError(params["status"], params["reason"], params["message"])


def _status(error: StatusError) -> Answer:
    return Answer(error.code, error.body())


async def _send(writer: asyncio.StreamWriter, answer: Answer, headers: dict[str, str]) -> None:
    content = answer.text()
    writer.write(wire.answer_head(answer.status, headers, length=len(content)) + content)
    await writer.drain()


async def _drip(writer: asyncio.StreamWriter, answer: Answer, seconds: float) -> None:
    content = answer.text()
    writer.write(wire.answer_head(answer.status, {}, length=len(content)))
    for position in range(len(content)):
        writer.write(content[position : position + 1])
        await writer.drain()
        await asyncio.sleep(seconds)


async def _bomb(writer: asyncio.StreamWriter, size: int) -> None:
    """JSON that is whole only at its end: one very long string."""
    edge = (b'{"kind":"', b'"}')
    writer.write(wire.answer_head(200, {}, length=size + len(edge[0]) + len(edge[1])) + edge[0])
    for begin in range(0, size, _BLOCK):
        writer.write(b"A" * min(_BLOCK, size - begin))
        await writer.drain()
    writer.write(edge[1])
    await writer.drain()


async def _gzip(writer: asyncio.StreamWriter, size: int) -> None:
    content = gzip.compress(b'{"kind":"' + b"A" * size + b'"}')
    headers = {"Content-Encoding": "gzip"}
    writer.write(wire.answer_head(200, headers, length=len(content)) + content)
    await writer.drain()
