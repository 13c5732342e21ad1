"""Names the images of the MoNuSeg 2018 challenge: 30 to train on, 14 to test.

Collections that are passed on hold others too, most often seven more in the folder of the training
images. Which image is which is known by its name alone, so none that is tested is ever trained on.
"""

from collections.abc import Iterable

TRAINING = frozenset(
    f"TCGA-{name}"
    for name in (
        *("18-5592-01Z-00-DX1", "21-5784-01Z-00-DX1", "21-5786-01Z-00-DX1", "38-6178-01Z-00-DX1"),
        *("49-4488-01Z-00-DX1", "50-5931-01Z-00-DX1", "A7-A13E-01Z-00-DX1", "A7-A13F-01Z-00-DX1"),
        *("AR-A1AK-01Z-00-DX1", "AR-A1AS-01Z-00-DX1", "AY-A8YK-01A-01-TS1", "B0-5698-01Z-00-DX1"),
        *("B0-5710-01Z-00-DX1", "B0-5711-01Z-00-DX1", "CH-5767-01Z-00-DX1", "DK-A2I6-01A-01-TS1"),
        *("E2-A14V-01Z-00-DX1", "E2-A1B5-01Z-00-DX1", "G2-A2EK-01A-02-TSB", "G9-6336-01Z-00-DX1"),
        *("G9-6348-01Z-00-DX1", "G9-6356-01Z-00-DX1", "G9-6362-01Z-00-DX1", "G9-6363-01Z-00-DX1"),
        *("HE-7128-01Z-00-DX1", "HE-7129-01Z-00-DX1", "HE-7130-01Z-00-DX1", "KB-A93J-01A-01-TS1"),
        *("NH-A8F7-01A-01-TS1", "RD-A8N9-01A-01-TS1"),
    )
)
TEST = frozenset(
    f"TCGA-{name}"
    for name in (
        *("2Z-A9J9-01A-01-TS1", "44-2665-01B-06-BS6", "69-7764-01A-01-TS1", "A6-6782-01A-01-BS1"),
        *("AC-A2FO-01A-01-TS1", "AO-A0J2-01A-01-BSA", "CU-A0YN-01A-02-BSB", "EJ-A46H-01A-03-TSC"),
        *("FG-A4MU-01B-01-TS1", "GL-6846-01A-01-BS1", "HC-7209-01A-01-TS1", "HT-8564-01Z-00-DX1"),
        *("IZ-8196-01A-01-BS1", "ZF-A9R5-01A-01-TS1"),
    )
)
OFFICIAL = {"training": TRAINING, "test": TEST}
# Held out of the training images: one of each organ that has six, by the challenge's names.
VALIDATION = (
    "TCGA-50-5931-01Z-00-DX1",  # liver
    "TCGA-AR-A1AS-01Z-00-DX1",  # breast
    "TCGA-B0-5698-01Z-00-DX1",  # kidney
    "TCGA-G9-6362-01Z-00-DX1",  # prostate
)
MAX_NAMES = 3  # in a line of the log


def describe_others(names: Iterable[str], kind: str) -> str:
    """Returns a line about images that are left out of the "training" or "test" ones."""
    others = sorted(names)
    of_test = [name for name in others if kind == "training" and name in TEST]
    shown = ", ".join(others[:MAX_NAMES]) + (", ..." if len(others) > MAX_NAMES else "")
    tested = f", {len(of_test)} of them test images" if of_test else ""
    official = f"the {len(OFFICIAL[kind])} official {kind} images{tested}"
    return f"MoNuSeg: {len(others)} images are left out, as they are none of {official}: {shown}"
