"""Prepares and loads a data set by TFDS's own public calls, and compares it with ours."""

import importlib

import numpy as np
import tensorflow_datasets as tfds


def check(name, source, data_dir, manual_dir=None, **options):
    """Checks that TFDS prepares and reads what `source`, a registry.Source, does."""
    importlib.import_module(f"segdiff_jax.data.datasets.{name}")  # registers the builder
    given = {"data_dir": data_dir, "file_format": "array_record"}
    builder = tfds.builder(name, options=options, **given)
    manual = tfds.download.DownloadConfig(manual_dir=manual_dir)
    builder.download_and_prepare(download_config=manual)
    counts = source.prepare()
    assert {split: info.num_examples for split, info in builder.info.splits.items()} == counts
    again = tfds.builder_from_directory(builder.info.data_dir)
    for split in counts:
        records = {r["name"].decode(): r for r in again.as_data_source(split)}
        examples = source.load(split)
        assert sorted(records) == [example.name for example in examples]
        for example in examples:
            record = records[example.name]
            np.testing.assert_array_equal(record["image"], example.image)
            bits = np.unpackbits(
                record["mask"][None, ..., 0],
                axis=0,
                count=int(record["annotators"]),
                bitorder="little",
            )
            np.testing.assert_array_equal(bits, example.masks)
            assert record["group"].decode() == example.group
            assert tuple(record["box"].tolist()) == (example.box or (-1, -1, -1, -1))
