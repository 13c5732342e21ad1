"""A page without a browser: its handlers, a stand-in for the network, and files that were sent."""

import asyncio
import io

import numpy as np
from page_server import handlers_of
from PIL import Image
from stand_in import StandIn


def picture(shift=0, size=(40, 50)):
    """Two objects and a speck, one of them not blue: pixels [40, 50, 3], moved by a shift."""
    image = np.zeros((*size, 3), np.uint8)
    image[4:16, 5 + shift : 15 + shift] = 255
    image[20:30, 20:36, :2] = 200
    image[35, 40:42] = 255
    return image


def png(pixels):
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "PNG")
    return stream.getvalue()


def load(budget, samples):
    """Returns a stand-in that predicts in pieces of 7 rows, or as a whole with samples."""
    return StandIn(samples=samples, whole=bool(samples))


def page(folder, **options):
    """Returns handlers whose network is a stand-in, and the session of the page "one"."""
    handlers = handlers_of(options.pop("load", load), folder, **options)
    handlers.begin("one")
    return handlers, handlers.sessions.find("one")


def send(handlers, session, **files):
    """Sends files by name, as a browser does."""
    for name, content in files.items():
        send_named(handlers, session, name.replace("_png", ".png"), content)


def send_named(handlers, session, name, content, size=None):
    async def chunks():
        for start in range(0, len(content), 1000):
            yield content[start : start + 1000]

    size = len(content) if size is None else size
    asyncio.run(handlers.uploads.keep(session.token, name, size, chunks()))


def take(handlers, key="one", budget="balanced", told=None):
    """Predicts what was sent; returns the last parts of the page. `told` is called at each step."""
    found = {}
    session = handlers.sessions.find(key)
    for parts in handlers.take(key, budget):
        found |= parts
        if told:
            told(session.doing)
    return found
