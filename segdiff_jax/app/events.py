"""Names the handlers of the page's events to gradio."""

from collections.abc import Callable, Iterator
from typing import Any

import gradio as gr  # pyright: ignore[reportMissingImports]

from segdiff_jax.app.handlers import Handlers, Parts

PARTS = ("drop", "status", "pictures", "problems", "viewer", "objects")
# events of one kind run one after the other; those of the network take the cores of the machine
NETWORK = {"concurrency_limit": 1, "concurrency_id": "network"}
QUICK = {"concurrency_limit": 2, "concurrency_id": "quick"}
ANSWERS = {"concurrency_limit": 1, "concurrency_id": "answers"}
SHARED = {"show_progress": "hidden", "api_visibility": "private"}
Components = dict[str, Any]


def connect(page: Any, handlers: Handlers, parts: Components, controls: Components) -> None:
    """Names the handlers of all events.

    Args:
      page: a `gr.Blocks`.
      handlers: to be named.
      parts: the components of `PARTS`, which handlers replace.
      controls: what a person moves and presses.
    """
    quick = {**SHARED, **QUICK, "outputs": [parts[name] for name in PARTS]}
    many = {**quick, "trigger_mode": "multiple"}
    page.load(_pressed(handlers.begin), None, **quick)
    page.unload(_gone(handlers.end))
    parts["pictures"].select(_chosen(handlers.show), None, **many)
    parts["pictures"].delete(_chosen(handlers.remove), None, **many)
    parts["viewer"].select(_chosen(handlers.show_alternative), None, **many)
    parts["objects"].select(_chosen(handlers.show_object), None, **many)
    controls["next"].click(_pressed(lambda key: handlers.show_next(key, 1)), None, **many)
    controls["previous"].click(_pressed(lambda key: handlers.show_next(key, -1)), None, **many)
    controls["whole"].click(_pressed(handlers.show_whole), None, **many)
    controls["clear"].click(_pressed(handlers.clear), None, **quick)
    controls["stop"].click(_pressed(handlers.stop), None, **quick, queue=False)
    _connect_long(handlers, parts, controls)


def _connect_long(handlers: Handlers, parts: Components, controls: Components) -> None:
    """Names the handlers of what takes time."""

    def take(budget: str, request: gr.Request) -> Iterator[list[Any]]:
        yield from map(_updates, handlers.take(_key(request), budget))

    def again(budget: str, request: gr.Request) -> Iterator[list[Any]]:
        yield from map(_updates, handlers.predict_again(_key(request), budget))

    def draw(budget: str, request: gr.Request) -> Iterator[list[Any]]:
        yield from map(_updates, handlers.alternatives(_key(request), budget))

    def threshold(value: float, request: gr.Request) -> list[Any]:
        return _updates(handlers.set_threshold(_key(request), value))

    def answer_all(request: gr.Request) -> Iterator[list[Any]]:
        yield from map(_updates, handlers.answer_all(_key(request)))

    outputs = [parts[name] for name in PARTS]
    long = {**SHARED, **NETWORK, "outputs": outputs}
    budget, level, last = controls["budget"], controls["level"], {"trigger_mode": "always_last"}
    parts["drop"].upload(take, budget, **long, trigger_mode="multiple")
    budget.input(again, budget, **long, **last)
    controls["alternatives"].click(draw, budget, **long)
    moved = level.input(threshold, level, **SHARED, **QUICK, outputs=outputs, **last)
    moved.then(answer_all, None, **SHARED, **ANSWERS, outputs=outputs, **last)


def _chosen(change: Callable[[str, Any], Parts]) -> Any:
    """Returns a listener to the choice of a row or a button, whose key it hands on."""

    def answer(event: gr.EventData, request: gr.Request) -> list[Any]:
        return _updates(change(_key(request), _of(event, "key")))

    return answer


def _pressed(change: Callable[[str], Parts | None]) -> Any:
    """Returns a listener to a button."""

    def answer(request: gr.Request) -> list[Any]:
        return _updates(change(_key(request)))

    return answer


def _gone(end: Callable[[str], None]) -> Any:
    """Returns a listener to the end of a page."""

    def answer(request: gr.Request) -> None:
        end(_key(request))

    return answer


def _updates(found: Parts | None) -> list[Any]:
    """Returns the new values of `PARTS`; what is not found stays as it is."""
    found = found or {}
    return [found.get(name, gr.skip()) for name in PARTS]


def _key(request: Any) -> str:
    """Returns what tells a page from others: the browser chose it."""
    return str(request.session_hash)[:100]


def _of(event: Any, name: str) -> Any:
    return event._data.get(name) if isinstance(event._data, dict) else None
