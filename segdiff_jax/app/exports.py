"""Makes the files that the page gives back, by the same writers as `segdiff predict`."""

import tempfile
import zipfile
from collections.abc import Callable, Iterable
from pathlib import Path

from segdiff_jax.app.answers import Answered
from segdiff_jax.app.pictures import file_stem
from segdiff_jax.data.image_io.pixel_size import Scale
from segdiff_jax.data.image_io.writing import Tags
from segdiff_jax.prediction import object_files
from segdiff_jax.prediction.object_outputs import save_labels
from segdiff_jax.prediction.object_table import TABLE, ObjectTable

# kind -> (end of the file, media type)
KINDS = {
    "labels": (".labels.tif", "image/tiff"),
    "csv": (".objects.csv", "text/csv"),
    "geojson": (".geojson", "application/geo+json"),
    "rois": (".rois.zip", "application/zip"),
}
ALL = "all"  # a zip of these of all pictures

Source = tuple[str, Tags, Scale | None, Answered]  # name, tags and scale of a picture, its answer


def file_name(kind: str, name: str) -> str:
    """Returns the name of a file of `KINDS` that is made of a picture."""
    return file_stem(name) + KINDS[kind][0]


def encode(kind: str, source: Source, folder: Path) -> bytes:
    """Returns the content of a file of `KINDS`; `folder` is for temporary files."""
    name, tags, scale, answered = source
    if kind == "geojson":
        return object_files.geojson(answered.objects, scale, answered.colours)
    if kind == "rois":
        return object_files.rois(answered.objects)
    with tempfile.TemporaryDirectory(dir=folder) as place:
        if kind == "labels":
            path = Path(place, "labels.tif")
            save_labels(path, answered.labels, tags, scale)
        else:
            table = _table(Path(place))
            _add(table, source)
            path = table.path
        return path.read_bytes()


def write_all(
    path: Path, numbers: Iterable[int], source: Callable[[int], Source], folder: Path
) -> None:
    """Writes a zip of the files of all pictures, one picture at a time, and one objects.csv.

    Args:
      path: of the zip.
      numbers: of the pictures.
      source: returns that of a number.
      folder: for temporary files.
    """
    taken = set[str]()
    with (
        tempfile.TemporaryDirectory(dir=folder) as place,
        zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as file,
    ):
        table = _table(Path(place))
        for number in numbers:
            one = source(number)
            stem = file_stem(one[0])
            stem = stem if stem.lower() not in taken else f"{stem}_{number}"
            taken.add(stem.lower())
            for kind in ("labels", "geojson", "rois"):
                end = KINDS[kind][0].rpartition(".")[2]
                file.writestr(f"{kind}/{stem}.{end}", encode(kind, one, folder))
            _add(table, one)
        file.write(table.path, TABLE)


def _table(folder: Path) -> ObjectTable:
    """Begins the objects.csv of a folder."""
    table = ObjectTable(folder, fresh=True)
    table.keep(())
    return table


def _add(table: ObjectTable, source: Source) -> None:
    name, _, _, answered = source
    table.add(name, [one.row for one in answered.objects])
