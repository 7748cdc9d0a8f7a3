"""Carries out the steps of conformance cases; `clients/conformance/README.md` says what they are."""

from __future__ import annotations

import base64
import inspect
import threading
import time
from typing import Any, Callable, Dict, List, Optional

import anabranch
from anabranch import Client, Event, Filter, Lease, Match, NewEvent, NoMatch


class Failed(Exception):
    """What a consumer's function raises on purpose."""


class MemoryPlace:
    """A place that ends with the case."""

    def __init__(self) -> None:
        self.text: Optional[str] = None

    def load(self) -> Optional[str]:
        return self.text

    def save(self, text: str) -> None:
        self.text = text


class Steps:
    """The steps of one case, and what came out of them."""

    def __init__(self, client: Client, restart: Callable[[], None]) -> None:
        self.client = client
        self.restart = restart
        self.known: Dict[str, Any] = {}
        self.places: Dict[str, MemoryPlace] = {}

    def run(self, step: Dict[str, Any]) -> None:
        """One step. What must come out comes out, or it raises."""
        arguments = self.resolved(step.get("with", {}))
        try:
            came = getattr(self, "do_" + step["do"])(**arguments)
        except (anabranch.AnabranchError, ValueError, TypeError) as error:
            if "fails" not in step:
                raise
            compare(self.resolved(step["fails"]), said(error), f"what {step['do']} raised")
            return
        if "fails" in step:
            raise AssertionError(f"{step['do']} did not fail: {came!r}")
        if "gives" in step:
            compare(self.resolved(step["gives"]), plain(came), f"what {step['do']} gave")
        if "as" in step:
            self.known[step["as"]] = came

    def resolved(self, value: Any) -> Any:
        """The value with what came out before in the place of its name."""
        if isinstance(value, dict) and set(value) == {"$"}:
            name, *path = value["$"].split(".")
            found = self.known[name]
            for part in path:
                found = plain(found)
                found = found[int(part)] if isinstance(found, list) else found[part]
            return found
        if isinstance(value, dict):
            return {key: self.resolved(item) for key, item in value.items()}
        if isinstance(value, list):
            return [self.resolved(item) for item in value]
        return value

    # What can be done.

    def do_open(self, log: Optional[str] = None) -> Any:
        with anabranch.open(self.client._transport.url, log=log) as client:
            return {"log": client.log}

    def do_event(self, **parts: Any) -> NewEvent:
        return event(parts)

    def do_append(
        self,
        events: List[Any],
        expect: Any = None,
        no_match: Any = None,
        lease: Optional[Lease] = None,
        **options: Any,
    ) -> Any:
        by = lease or self.client
        if no_match is not None:
            items = [Match(**item) for item in no_match["items"]]
            no_match = NoMatch(items, cut(no_match["after"]) or {})
        made = [item if isinstance(item, NewEvent) else event(item) for item in events]
        return by.append(made, expect=expect, no_match=no_match, **options)

    def do_read(self, filter: Any = None, cut: Any = None, **options: Any) -> Any:
        return list(self.client.read(wanted(filter), cut=as_cut(cut), **options))

    def do_read_stream(self, stream: str, **options: Any) -> Any:
        return list(self.client.read_stream(stream, **options))

    def do_head(self, timeout: Optional[float] = None) -> Any:
        return self.client.head(timeout)

    def do_find(self, id: str) -> Any:
        return self.client.find(id)

    def do_follow(
        self,
        take: int,
        filter: Any = None,
        cut: Any = None,
        meanwhile: Any = (),
        **options: Any,
    ) -> Any:
        failed: List[BaseException] = []

        def others() -> None:
            try:
                for step in meanwhile:
                    self.run(step)
            except BaseException as error:
                failed.append(error)

        thread = threading.Thread(target=others)
        thread.start()
        taken: List[Event] = []
        if take:
            for one in self.client.follow(wanted(filter), cut=as_cut(cut), **options):
                taken.append(one)
                if len(taken) == take or failed:
                    break
        thread.join()
        if failed:
            raise failed[0]
        return taken

    def do_consume(
        self, place: str, take: int, filter: Any = None, fail_at: Optional[int] = None
    ) -> Any:
        taken: List[Event] = []

        def function(one: Event) -> None:
            taken.append(one)
            if len(taken) == fail_at:
                raise Failed

        kept = self.places.setdefault(place, MemoryPlace())
        try:
            self.client.consume(
                function, wanted(filter), place=kept, until=lambda: len(taken) == take
            )
        except Failed:
            pass
        return taken

    def do_place(self, place: str, text: Optional[str] = None) -> Any:
        kept = self.places.setdefault(place, MemoryPlace())
        kept.text = kept.text if text is None else text
        return kept.text

    def do_session(self, token: Optional[str] = None) -> Any:
        return self.client.session(token)

    def do_catch_up(self, session: anabranch.Session) -> None:
        session.catch_up()

    def do_send(self, stream: str, command: str, data: Any = None, **options: Any) -> Any:
        by = options.pop("session", self.client)
        return by.send(stream, command, data, **options)

    def do_query(self, view: str, query: str, arguments: Any = None, **options: Any) -> Any:
        by = options.pop("session", self.client)
        return by.query(view, query, arguments, **options)

    def do_register(self, name: str, **options: Any) -> Lease:
        return self.client.register(name, **options)

    def do_declare(self, lease: Lease, category: str, kinds: List[Dict[str, Any]]) -> None:
        lease.declare(category, [anabranch.Kind(**kind) for kind in kinds])

    def do_release(self, lease: Lease, give_up: bool = False) -> None:
        lease.release(give_up)

    def do_lost(self, lease: Lease) -> None:
        for _ in range(600):
            if lease.lost is not None:
                return
            time.sleep(0.05)
        raise AssertionError("the lease was not lost")

    def do_wait(self, seconds: float) -> None:
        time.sleep(seconds)

    def do_restart(self) -> None:
        self.restart()


def event(parts: Dict[str, Any]) -> NewEvent:
    """The event that a case means."""
    parts = dict(parts)
    if "base64" in parts:
        parts["data"] = base64.b64decode(parts.pop("base64"))
    return NewEvent(**parts)


def wanted(parts: Optional[Dict[str, Any]]) -> Filter:
    """The filter that a case means."""
    return Filter(**(parts or {}))


def cut(value: Any) -> Any:
    """The cut that a case means."""
    return None if value is None else {int(partition): count for partition, count in value.items()}


as_cut = cut


def plain(value: Any) -> Any:
    """What came out, as JSON has it."""
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    if isinstance(value, dict):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, anabranch.Position):
        return str(value)
    if isinstance(value, Event):
        meta = value.meta
        is_json = meta.content_type in (None, "application/json")
        return {
            **{name: plain(item) for name, item in vars(value).items() if name not in ("content", "meta")},
            "category": value.category,
            "key": value.key,
            "data": value.data if is_json else None,
            "base64": base64.b64encode(value.content).decode("ascii"),
            "content_type": meta.content_type,
            "tags": list(meta.tags),
            "headers": dict(meta.headers),
            "correlation_id": meta.correlation_id,
            "causation_id": meta.causation_id,
            "source": meta.source,
        }
    if hasattr(value, "__dataclass_fields__"):
        return {name: plain(getattr(value, name)) for name in value.__dataclass_fields__}
    return value


def said(error: Exception) -> Dict[str, Any]:
    """The fields of an error, and all its names."""
    kinds = [kind.__name__ for kind in inspect.getmro(type(error))]
    return {**{name: plain(value) for name, value in vars(error).items()}, "kind": kinds}


def compare(pattern: Any, value: Any, at: str) -> None:
    """Raises where the value is not what the pattern says."""
    pattern = plain(pattern)
    if isinstance(pattern, dict):
        assert isinstance(value, dict), f"{at}: {value!r} is no object"
        for name, item in pattern.items():
            assert name in value, f"{at}: there is no {name} in {value!r}"
            if name == "kind":
                assert item in value[name], f"{at}: it is a {value[name][0]}, not a {item}: {value!r}"
            else:
                compare(item, value[name], f"{at}, {name}")
    elif isinstance(pattern, list):
        assert isinstance(value, list), f"{at}: {value!r} is no list"
        assert len(pattern) == len(value), f"{at}: {len(value)} and not {len(pattern)}: {value!r}"
        for index, (item, found) in enumerate(zip(pattern, value)):
            compare(item, found, f"{at}, {index}")
    else:
        is_number = [type(item) in (int, float) for item in (pattern, value)]
        is_alike = all(is_number) or type(pattern) is type(value)
        assert is_alike and pattern == value, (
            f"{at}: {value!r} and not {pattern!r}"
        )
