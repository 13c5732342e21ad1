"""Holds the numbers of the paper's tables (arXiv 2112.00390), in percent.

The paper prints no numbers for its Figures 3 to 9.
"""

from collections.abc import Mapping
from typing import NamedTuple


class Numbers(NamedTuple):
    """A table of the paper.

    Attributes:
      columns: the paper's names of them.
      keys: our score in each column, of `metrics.KEYS`; classes in Table 1, whose score is iou.
      rows: numbers by name of the method; None where the paper has a dash.
    """

    columns: tuple[str, ...]
    keys: tuple[str, ...]
    rows: Mapping[str, tuple[float | None, ...]]


# the data sets of Tables 1 to 3: our name of each
DATA = {"table1": "cityscapes", "table2": "vaihingen", "table3": "monuseg"}
TITLES = {
    "table1": "Table 1: Cityscapes",
    "table2": "Table 2: Vaihingen buildings",
    "table3": "Table 3: MoNuSeg nuclei",
}
CLASSES = ("bicycle", "bus", "person", "train", "truck", "motorcycle", "car", "rider")
_CITYSCAPES = ("Bicycle", "Bus", "Person", "Train", "Truck", "M.cycle", "Car", "Rider", "Mean")

# objects in the training images of Cityscapes by class, in hundreds: He et al., "Mask R-CNN"
# (arXiv 1703.06870), appendix A
TRAINING_OBJECTS = {
    **{"bicycle": 3700, "bus": 400, "person": 17900, "train": 200},
    **{"truck": 500, "motorcycle": 700, "car": 26900, "rider": 1800},
}
TABLE_1 = {  # mIoU on Cityscapes, by protocol
    protocol: Numbers(_CITYSCAPES, (*CLASSES, "mean"), rows)
    for protocol, rows in {
        "expansion": {
            "Polygon-RNN++": (63.06, 81.38, 72.41, 64.28, 78.90, 62.01, 79.08, 69.95, 71.38),
            "PSP-DeepLab": (67.18, 83.81, 72.62, 68.76, 80.48, 65.94, 80.45, 70.00, 73.66),
            "Polygon-GCN": (66.55, 85.01, 72.94, 60.99, 79.78, 63.87, 81.09, 71.00, 72.66),
            "Spline-GCN": (67.36, 85.43, 73.72, 64.40, 80.22, 64.86, 81.88, 71.73, 73.70),
            "SegDiff, paper": (69.80, 85.97, 76.09, 75.95, 80.68, 67.06, 83.40, 72.57, 76.44),
        },
        "tight": {
            "Deep contour": (68.08, 83.02, 75.04, 74.53, 79.55, 66.53, 81.92, 72.03, 75.09),
            "Segformer-B5": (68.02, 78.78, 73.53, 68.46, 74.54, 64.06, 83.20, 69.12, 72.46),
            "Stdc1": (67.86, 80.67, 74.20, 69.73, 77.02, 64.52, 83.53, 69.58, 73.39),
            "Stdc2": (68.67, 81.29, 74.41, 71.36, 75.71, 63.69, 83.51, 69.90, 73.57),
            "SegDiff, paper": (69.62, 84.64, 75.18, 74.89, 80.34, 67.75, 83.63, 73.49, 76.19),
        },
    }.items()
}
TABLE_2 = Numbers(  # Vaihingen
    ("F1-Score", "mIoU", "WCov", "FBound"),
    ("dice", "iou", "area_ratio", "boundary_f"),
    {
        "FCN-UNet": (87.40, 78.60, 81.80, 40.20),
        "FCN-ResNet34": (91.76, 87.20, 88.55, 75.12),
        "FCN-HarDNet": (93.97, 88.95, 93.60, 80.20),
        "DSAC": (None, 71.10, 70.70, 36.40),
        "DarNet": (93.66, 88.20, 88.10, 75.90),
        "Deep contour": (94.80, 90.33, 93.72, 78.72),
        "TDAC": (94.26, 89.16, 90.54, 78.12),
        "Segformer-B5": (93.94, 88.57, 91.91, 77.95),
        "Stdc1": (94.04, 88.75, 92.78, 78.86),
        "Stdc2": (93.97, 88.62, 92.59, 77.3),
        "SegDiff, paper": (95.14, 91.12, 93.83, 85.09),
    },
)
TABLE_3 = Numbers(  # MoNuSeg
    ("Dice", "mIoU"),
    ("dice", "iou"),
    {
        "FCN": (28.84, 28.71),
        "U-Net": (79.43, 65.99),
        "U-Net++": (79.49, 66.04),
        "Res-UNet": (79.49, 66.07),
        "A.A U-Net": (76.83, 62.49),
        "MedT": (79.55, 66.17),
        "SegDiff, paper": (81.59, 69.00),
    },
)
TABLE_4 = {  # conditioning, by data set; nine generations
    data: Numbers(("F1-Score", "IoU", "WCov", "FBound"), TABLE_2.keys, rows)
    for data, rows in {
        DATA["table2"]: {
            "one": (91.60, 85.45, 88.67, 71.70),
            "two": (90.92, 84.00, 89.67, 70.00),
            "three": (93.77, 88.67, 91.69, 80.15),
            "four": (94.77, 90.27, 93.82, 82.64),
            "five": (93.16, 87.76, 91.08, 79.89),
            "six": (91.97, 85.57, 89.83, 71.04),
            "full": (94.95, 90.64, 94.00, 84.37),
        },
        "cityscapes bus": {
            "one": (90.52, 84.15, 90.37, 62.66),
            "two": (85.21, 75.92, 81.15, 38.81),
            "three": (90.35, 83.76, 88.56, 58.80),
            "four": (91.30, 85.17, 90.34, 63.85),
            "five": (89.57, 82.73, 88.87, 58.40),
            "six": (82.97, 72.66, 80.85, 34.38),
            "full": (90.72, 84.35, 89.96, 63.87),
        },
    }.items()
}
VARIANTS = {
    "one": "Variant one: F(x_t) beside G(I)",
    "two": "Variant two: FC-HarDNet-70 for G",
    "three": "Variant three: I beside x_t",
    "four": "Variant four: G(I) after the first downsampling",
    "five": "Variant five: after the third",
    "six": "Variant six: after the fifth",
    "full": "Full method",
}
