"""The data of the shipped network: archives become folders of images and labels of objects."""

import io
import zipfile

import numpy as np
from PIL import Image

from benchmarks import nuclei

RNG = np.random.default_rng(0)


def png(pixels):
    """Returns the bytes of a PNG."""
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, format="PNG")
    return file.getvalue()


def archive(path, ids, shape=(40, 50)):
    """Writes an archive of the Data Science Bowl; each picture has two objects that overlap."""
    masks = np.zeros((2, *shape), np.uint8)
    masks[0, 5:20, 5:20], masks[1, 10:30, 10:45] = 255, 255
    with zipfile.ZipFile(path, "w") as files:
        for id in ids:
            image = RNG.integers(0, 100, (*shape, 1), np.uint8).repeat(4, axis=-1)
            files.writestr(f"{id}/images/{id}.png", png(image))
            for k, mask in enumerate(masks):
                files.writestr(f"{id}/masks/{k}.png", png(mask))
    return path


def test_archives_become_folders_of_images_and_labels(tmp_path, capsys):
    names = [f"{k:04d}" for k in range(30)]
    train = archive(tmp_path / "train.zip", names)
    test = archive(tmp_path / "test.zip", ["a", "b"])
    out = tmp_path / "out"
    assert nuclei.main([str(train), "--test", str(test), "--output", str(out)]) == 0
    found = {of: sorted(p.stem for p in (out / of / "masks").iterdir()) for of in ("train", "test")}
    held = sorted(p.stem for p in (out / "validation" / "images").iterdir())
    assert sorted(found["train"] + held) == names and found["test"] == ["a", "b"]
    assert held == [name for name in names if nuclei.split(name) == "validation"] and held
    labels = np.asarray(Image.open(out / "test" / "masks" / "a.png"))
    assert labels[12, 12] == 1 and labels[25, 40] == 2 and labels[0, 0] == 0
    assert (labels == 1).sum() == 225 and (labels == 2).sum() == 20 * 35 - 100
    assert (out / "kinds.csv").read_text().splitlines() == ['a,"fluorescence"', 'b,"fluorescence"']
    assert capsys.readouterr().out.endswith("test: 2 images\n")


def test_pieces_of_a_picture_are_all_of_it():
    labels = RNG.integers(0, 9, (520, 300)).astype(np.uint16)
    image = RNG.integers(0, 255, (520, 300, 3), np.uint8)
    found = {p.id: p for p in nuclei.pieces(nuclei.Picture("a", image, labels), 400)}
    assert list(found) == ["a_0_0", "a_0_1"]
    np.testing.assert_array_equal(np.concatenate([p.labels for p in found.values()]), labels)
    np.testing.assert_array_equal(np.concatenate([p.image for p in found.values()]), image)
    assert [p.id for p in nuclei.pieces(nuclei.Picture("a", image, labels), 0)] == ["a"]


def test_the_kind_of_a_picture_follows_from_its_colours():
    grey = np.full((9, 9, 3), 200, np.uint8)
    assert nuclei.kind(grey) == "dark on bright, grey"
    assert nuclei.kind(255 - grey) == "fluorescence"
    assert nuclei.kind(grey * np.uint8([1, 0, 1])) == "stained, in colour"
