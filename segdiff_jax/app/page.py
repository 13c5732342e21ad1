"""Lays the page out with gradio, and names the handlers of its events.

gradio is an extra of the package; `listening.quiet` comes before this module is imported.
"""

import html
from pathlib import Path
from typing import Any

import gradio as gr  # pyright: ignore[reportMissingImports]

from segdiff_jax.app import events
from segdiff_jax.app.handlers import Handlers
from segdiff_jax.cli import predict_args

QUEUE = 64  # events that wait, of all pages; further ones are refused
FOLDER = Path(__file__).parent
STYLE, SCRIPT = (FOLDER / name for name in ("page.css", "page.js"))
PICK = "segdiff.pick(element, trigger)"
HINT = (
    '<p class="sd-hint">Outlines: yellow is sure, magenta is not; blue is what some alternatives '
    "hold. Keys: <kbd>n</kbd> <kbd>p</kbd> next and previous picture, <kbd>a</kbd> alternatives, "
    "<kbd>w</kbd> the whole picture.</p>"
)


def head() -> str:
    """Returns what the page has in its head."""
    return f"<script>{SCRIPT.read_text('utf-8')}</script>"


def build(handlers: Handlers, title: str, budget: str, threshold: float) -> Any:
    """Returns the page, a `gr.Blocks`.

    Args:
      handlers: of its events.
      title: of the network.
      budget: that is chosen first.
      threshold: likewise.
    """
    with gr.Blocks(title="segdiff", analytics_enabled=False, fill_width=True) as page:
        parts = {}
        with gr.Row():
            with gr.Column(scale=2, min_width=320, elem_id="sd-left"):
                _html(f"<h2>segdiff <small>{html.escape(title)}</small></h2>")
                parts["drop"] = _html(js_on_load="segdiff.drop(element, trigger)")
                parts["status"] = _html()
                parts["problems"] = _html()
                parts["pictures"] = _html(js_on_load=PICK, elem_id="sd-pictures")
                with gr.Row():
                    stop = gr.Button("Stop", size="sm", min_width=80)
                    clear = gr.Button("Remove all", size="sm", min_width=80)
            with gr.Column(scale=5, min_width=320, elem_id="sd-right"):
                controls = _controls(budget, threshold)
                with gr.Row():
                    with gr.Column(scale=5, min_width=320):
                        parts["viewer"] = _html(js_on_load=PICK, elem_id="sd-viewer")
                        _html(HINT)
                    with gr.Column(scale=3, min_width=320):
                        parts["objects"] = _html(js_on_load=PICK, elem_id="sd-objects")
        events.connect(page, handlers, parts, {**controls, "stop": stop, "clear": clear})
    page.queue(max_size=QUEUE, default_concurrency_limit=1, api_open=False)
    return page


def _html(text: str = "", **more: Any) -> Any:
    return gr.HTML(text, apply_default_css=False, padding=False, **more)


def _controls(budget: str, threshold: float) -> dict[str, Any]:
    """Lays out what is above the picture."""
    with gr.Row():
        fade = gr.Slider(
            *(0, 2, 0),
            step=0.01,
            label="picture – probability – uncertainty",
            min_width=240,
            elem_id="sd-fade",
        )
        level = gr.Slider(0, 0.99, threshold, step=0.01, label="threshold", min_width=200)
        chosen = gr.Radio(
            list(predict_args.VALUES["budget"][1].choices),
            value=budget,
            label="budget",
            min_width=320,
            elem_id="sd-budget",
        )
    with gr.Row():
        buttons = {
            name: gr.Button(text, size="sm", min_width=70, elem_id=f"sd-{name}")
            for name, text in (
                *(("previous", "Previous"), ("next", "Next")),
                *(("whole", "Whole picture"), ("alternatives", "Alternatives")),
            )
        }
        layers = gr.CheckboxGroup(
            ["outlines", "brighter"],
            value=["outlines"],
            show_label=False,
            container=False,
            min_width=190,
            elem_id="sd-layers",
        )
    fade.input(None, fade, None, js="(value) => { segdiff.fade(value); }")
    layers.input(None, layers, None, js="(shown) => { segdiff.layers(shown); }")
    return {"level": level, "budget": chosen, **buttons}
