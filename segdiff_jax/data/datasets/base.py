"""Defines what every data set shares: its plan of files, the features it writes, its crops."""

import abc
import hashlib
import json
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import numpy as np
import tensorflow_datasets as tfds
from PIL import Image
from tqdm import tqdm

from segdiff_jax.data.composite import composite
from segdiff_jax.data.crops import CropFn, random_crop
from segdiff_jax.data.datasets.folder_layout import MAX_ANNOTATORS
from segdiff_jax.data.example import Example
from segdiff_jax.data.image_io import pillow_files
from segdiff_jax.data.image_io.headers import Limits
from segdiff_jax.errors import BAD_DATA, UserError, bad_data, one_line

# The fields of the data set's own group of the config, and "limits": reading.Limits.
Options = Mapping[str, Any]


class Item(NamedTuple):
    """Files that are read together.

    Attributes:
        files: all of them; the set is prepared again when one changes.
        read: yields (key, `record(...)`) for each example in them, perhaps none; raises UserError
            that names the file.
    """

    files: tuple[Path, ...]
    read: Callable[[], Iterator[tuple[str, dict[str, Any]]]]


class Plan(NamedTuple):
    """The files of a data set, found before any pixel is decoded.

    Attributes:
        splits: the items by split; a data set may lack a split.
        problems: a line for each file that does not fit.
        notes: entries for the prepared set's metadata.json, of types that JSON has.
        nothing: the message if the files hold no example.
        said: lines for the user: what was found, and what is left out.
        conclude: returns what is known once all items were read, of the set as a whole: further
            problems, and lines for the user.
    """

    splits: dict[str, list[Item]]
    problems: tuple[str, ...] = ()
    notes: Mapping[str, Any] = {}
    nothing: str = "the files hold no example"
    said: tuple[str, ...] = ()
    conclude: Callable[[], tuple[list[str], list[str]]] = lambda: ([], [])


class SegmentationBuilder(tfds.core.GeneratorBasedBuilder, abc.ABC):
    """A TFDS builder with the features and crops all data sets share.

    A data set that is downloaded by hand sets MANUAL_DOWNLOAD_INSTRUCTIONS: one line with what to
    download and how it lies in `config.data.dir`; without it no directory is needed.

    Programs prepare sets by `registry.Source`. TFDS's own calls work too, for sets that fit into
    memory (of a larger split TFDS asks for TensorFlow), and read back what `record` describes:

        builder = tfds.builder("monuseg", data_dir=DIR, file_format="array_record")
        manual = tfds.download.DownloadConfig(manual_dir=FOLDER)
        builder.download_and_prepare(download_config=manual)
        builder.as_data_source("train")[0]["image"]  # [H, W, 3] uint8

    Args:
        options: of the data set, in addition to DEFAULTS.
        kwargs: of TFDS.

    Attributes:
        DEFAULTS: options that are not given; those of the config.
    """

    DEFAULTS: ClassVar[Options] = {}

    def __init__(self, *, options: Options | None = None, **kwargs: Any) -> None:
        self._options = {"limits": Limits(), **self.DEFAULTS, **(options or {})}
        super().__init__(**kwargs)

    @classmethod
    @abc.abstractmethod
    def plan(cls, directory: Path | None, options: Options) -> Plan:
        """Returns the files to read; `directory` is None if the data set needs none.

        Raises:
            UserError: the directory does not hold this data set at all.
        """

    @classmethod
    def variants(cls, directory: Path | None, options: Options) -> dict[str, Options]:
        """Returns the prepared sets that the options ask for: name of folder -> options."""
        del directory
        return {"": options}

    @classmethod
    def misplaced(cls, directory: Path, what: str) -> UserError:
        """Returns the error for a directory that does not hold this data set at all."""
        instructions = cls.MANUAL_DOWNLOAD_INSTRUCTIONS
        return bad_data(f"config.data.dir {directory}", f"{what} lies in it; {instructions}")

    @classmethod
    def fingerprint(cls, plan: Plan, options: Options) -> str:
        """Returns a digest that changes with the files, the notes and the options."""
        files = [
            (split, file.name, file.stat().st_size, file.stat().st_mtime_ns)
            for split, items in sorted(plan.splits.items())
            for item in items
            for file in item.files
        ]
        return digest(files, plan.notes, options)

    @classmethod
    def train_crop(cls, options: Options, size: int, seed: int) -> CropFn:
        """Returns the crop that training sees of an example: a random square.

        Its side has `size` pixels; 0: the whole image. `seed` is for crops that are fixed for each
        example.
        """
        del options, seed
        return random_crop(size)

    @classmethod
    def eval_crop(cls, options: Options, example: Example) -> Example:
        """Returns what is predicted and scored of a prepared example: the whole of it."""
        del options
        return example

    @classmethod
    def law(cls, name: str, count: int) -> tuple[np.ndarray, np.ndarray] | None:
        """Returns what is known of the law of an example's masks; None: nothing.

        Args:
            name: of the example.
            count: of masks to draw.

        Returns:
            (cores [objects, H, W] bool of objects that a mask takes whole or not at all,
            masks [count, H, W] uint8, exact samples of the law).
        """
        del name, count
        return None

    def _info(self) -> tfds.core.DatasetInfo:
        return tfds.core.DatasetInfo(
            builder=self,
            features=tfds.features.FeaturesDict(
                {
                    "image": tfds.features.Image(shape=(None, None, 3), encoding_format="png"),
                    "mask": tfds.features.Image(shape=(None, None, 1), encoding_format="png"),
                    "annotators": tfds.features.Scalar(dtype=np.int32),
                    "name": tfds.features.Text(),
                    "box": tfds.features.Tensor(shape=(4,), dtype=np.int32),
                    "group": tfds.features.Text(),
                    "objects": tfds.features.Text(),  # a PNG of 16 bits, or nothing
                    "classes": tfds.features.Text(),  # a PNG of 8 or 16 bits, or nothing
                    "bands": tfds.features.Text(),  # a PNG of all channels, or nothing
                    "pixel_size": tfds.features.Scalar(dtype=np.float64),  # micrometres, or 0
                }
            ),
            metadata=tfds.core.MetadataDict(),
        )

    def _split_generators(self, dl_manager: tfds.download.DownloadManager) -> dict[str, Any]:
        by_hand = self.MANUAL_DOWNLOAD_INSTRUCTIONS
        directory = Path(dl_manager.manual_dir) if by_hand else None
        variants = list(self.variants(directory, self._options).values())
        if len(variants) != 1:
            several = f"{self.name}: these options make {len(variants)} sets, and TFDS prepares one"
            raise UserError(f"{several}: give options such as {{'classes': ('bus',)}}")
        plan = self.plan(directory, variants[0])
        if plan.problems or not any(plan.splits.values()):
            raise refused(plan.problems or (plan.nothing,))
        self.info.metadata.update(plan.notes)
        splits = {name: items for name, items in plan.splits.items() if items}
        ends = dict.fromkeys(splits) | {list(splits)[-1]: plan.conclude}
        return {name: self._generate_examples(splits[name], ends[name]) for name in splits}

    def _generate_examples(
        self, items: Sequence[Item], conclude: Callable[[], tuple[list[str], list[str]]] | None
    ) -> Iterator[tuple[str, dict[str, Any]]]:
        for item in items:
            yield from item.read()
        if conclude and (problems := conclude()[0]):
            raise refused(problems)


def refused(problems: Sequence[str]) -> UserError:
    """Returns the error that lists the problems of a data set, one line a file."""
    if len(problems) == 1:
        return UserError(problems[0], BAD_DATA)
    message = f"{len(problems)} problems in the data, listed above; nothing was prepared"
    return UserError(message, BAD_DATA, problems)


def read(
    items: Sequence[Item], problems: list[str], label: str
) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yields the records of all items; a bad file becomes a line of `problems`."""
    tty = sys.stderr.isatty()
    for item in tqdm(items, label, mininterval=1 if tty else 30, leave=False, delay=1):
        try:
            yield from item.read()
        except UserError as error:
            problems.append(str(error))
        except Exception as error:  # of a library, on a file that none of its authors thought of
            if not item.files:
                raise
            problems.append(f"{item.files[0]}: cannot be used ({one_line(error)})")


def problems_of(plan: Plan) -> list[str]:
    """Reads every file of a plan; returns a line for each that cannot be used."""
    problems = list(plan.problems)
    for split, items in plan.splits.items():
        for _ in read(items, problems, f"checking {split}"):
            pass
    return problems + plan.conclude()[0]


def digest(*parts: Any) -> str:
    """Returns the SHA-256 of the parts as JSON, in hexadecimal."""
    text = json.dumps(parts, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()


MAX_OBJECTS = 2**16  # of an image, whose labels are stored in 16 bits
NO_BOX = (-1, -1, -1, -1)  # the box of an example that is no single object


def record(
    image: np.ndarray,
    mask: np.ndarray,
    name: str,
    box: tuple[int, int, int, int] | None = None,
    group: str = "",
    objects: np.ndarray | None = None,
    classes: np.ndarray | None = None,
    pixel_size: float = 0.0,
) -> dict[str, Any]:
    """Returns the record of one example, for TFDS to write.

    Args:
        image: [H, W, 3] uint8, RGB; or [H, W, C] of other channels.
        mask: [h, w] uint8 in {0, 1}; or [A, h, w], of up to MAX_ANNOTATORS annotators.
        name: unique in its split; a split is read in the order of its names.
        box: (top, left, height, width) of the object, pixels; None: no single object.
        group: see `Example`.
        objects: [h, w] integers, labels of objects and 0, which become 1, 2, ...; or None.
        classes: [h, w] uint8 or uint16, a class map, see `data.classes`; or None.
        pixel_size: of the image, see `Example`.

    Images become Pillow's, as TFDS would encode arrays with TensorFlow; other channels than three
    are stored beside what is shown of them. Bit k of a stored mask is the mask of annotator k.
    """
    assert image.dtype == mask.dtype == np.uint8 and image.ndim == 3, image.shape
    masks = mask.reshape(-1, *mask.shape[-2:])
    return {
        "image": Image.fromarray(composite(image)),
        "bands": b"" if image.shape[-1] == 3 else _below_one_another(image),
        "mask": Image.fromarray(_as_bits(masks)),
        "annotators": np.int32(len(masks)),
        "name": name,
        "box": np.array(NO_BOX if box is None else box, np.int32),
        "group": group,
        "objects": b"" if objects is None else _encoded(objects),
        "classes": b"" if classes is None else pillow_files.encode_stored(classes),
        "pixel_size": np.float64(pixel_size),
    }


def _as_bits(masks: np.ndarray) -> np.ndarray:
    """Returns masks [A, h, w] of 0 and 1 as [h, w] uint8, with that of annotator k as bit k."""
    assert masks.ndim == 3 and masks.max(initial=0) <= 1, masks.shape
    assert 1 <= len(masks) <= MAX_ANNOTATORS, masks.shape
    return np.packbits(masks, axis=0, bitorder="little")[0]


def _below_one_another(image: np.ndarray) -> bytes:
    """Returns the channels of an image [H, W, C] as a PNG [C H, W]."""
    return pillow_files.encode_stored(np.concatenate(list(np.moveaxis(image, -1, 0))))


def stored_masks(bits: np.ndarray, annotators: int) -> np.ndarray:
    """Returns the masks [A, h, w] of a stored mask [h, w]; see `record`."""
    return np.unpackbits(bits[None], axis=0, count=annotators, bitorder="little")


def _encoded(objects: np.ndarray) -> bytes:
    """Returns labels [h, w] as a PNG of 0 and 1, 2, ... without gaps; b"" if they are too many."""
    present, numbers = np.unique(objects, return_inverse=True)
    if len(present) >= MAX_OBJECTS:
        return b""
    numbers = numbers.reshape(objects.shape) + int(present[0] != 0)
    return pillow_files.encode_stored(numbers.astype(np.uint16))
