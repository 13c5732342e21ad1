"""What every prepared data set holds: one image, one mask, one name an example."""

import abc
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow_datasets as tfds
from PIL import Image


class SegmentationBuilder(tfds.core.GeneratorBasedBuilder, abc.ABC):
    """A TFDS builder with the features all data sets share.

    A data set that is downloaded by hand sets MANUAL_DOWNLOAD_INSTRUCTIONS, one line that says
    what to download and how it lies in `config.data.dir`; without it no directory is needed.
    """

    @classmethod
    @abc.abstractmethod
    def fingerprint(cls, directory: Path | None) -> str:
        """Returns a text that changes when the files in `directory` do; None: no directory."""

    def _info(self) -> tfds.core.DatasetInfo:
        return tfds.core.DatasetInfo(
            builder=self,
            features=tfds.features.FeaturesDict(
                {
                    "image": tfds.features.Image(shape=(None, None, 3), encoding_format="png"),
                    "mask": tfds.features.Image(shape=(None, None, 1), encoding_format="png"),
                    "name": tfds.features.Text(),
                }
            ),
            metadata=tfds.core.MetadataDict(),
        )


def record(image: np.ndarray, mask: np.ndarray, name: str) -> dict[str, Any]:
    """Makes the record of one example.

    Args:
        image: [H, W, 3] uint8, RGB.
        mask: [h, w] uint8 in {0, 1}.
        name: unique in its split; a split is read in the order of its names.

    Returns:
        What a builder yields. Pillow images, because TFDS would encode arrays with TensorFlow.
    """
    assert image.dtype == np.uint8 and image.ndim == 3 and image.shape[-1] == 3, image.shape
    assert mask.dtype == np.uint8 and mask.ndim == 2 and mask.max(initial=0) <= 1, mask.shape
    return {"image": Image.fromarray(image), "mask": Image.fromarray(mask), "name": name}
