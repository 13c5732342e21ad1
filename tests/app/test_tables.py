"""Tables: the worst picture first, the object to look at first; what is not known is empty."""

import math

from segdiff_jax.app import tables
from segdiff_jax.app.answers import Line
from segdiff_jax.prediction.object_table import DOUBTFUL, OBJECT, Row

NAN = math.nan
KNOWN = Line(0.5, True, 0.912, 0.85, 0.97, 12, 10.2, 14.0, 0.25, ())
UNCALIBRATED = Line(0.5, False, 0.8, NAN, NAN, 3, NAN, NAN, 0.25, ())


def test_pictures_are_listed_worst_first_and_those_to_come_last():
    lines = [(1, "a", KNOWN), (2, "b", None), (3, "c", UNCALIBRATED)]
    rows = tables.pictures(lines, 0.5, {3: "12 bits"})
    assert rows == [
        [3, "c", "0.800 *", "", "3", "12 bits"],
        [1, "a", "0.912", "0.85 to 0.97", "12 (10 to 14)", ""],
        [2, "b", "...", "", "", ""],
    ]


def test_what_holds_for_another_threshold_is_left_out_until_it_is_known():
    assert tables.pictures([(1, "a", KNOWN)], 0.4, {})[0][2] == "..."


def test_a_picture_unlike_the_calibration_says_so():
    line = KNOWN._replace(unlike=("brightness",))
    assert tables.pictures([(1, "a", line)], 0.5, {1: "x"})[0][5] == (
        "x; unlike the calibration: brightness"
    )
    assert "in brightness" in tables.summary("a", line, 0)


def test_a_number_of_objects_is_not_negative():
    line = KNOWN._replace(objects=0, objects_low=-0.3, objects_high=1.6)
    assert tables.pictures([(1, "a", line)], 0.5, {})[0][4] == "0 (0 to 2)"


def test_the_line_under_a_picture_says_what_is_known():
    assert tables.summary("a", KNOWN, 0) == (
        "a: predicted Dice 0.912 (80 %: 0.85 to 0.97), 12 (10 to 14) objects, 25.0 % foreground"
    )
    assert tables.summary("b", UNCALIBRATED, 8) == (
        "b: expected Dice (not calibrated) 0.800, 3 objects, 25.0 % foreground, 8 alternatives"
    )


def test_objects_have_a_line_each_and_a_table_has_an_end():
    one = Row("a", 7, OBJECT, "tumour", 55, 3.4, 8.6, 0, 0, 9, 9, 30.0, 0.953, NAN, NAN, 0.871)
    other = one._replace(label=8, status=DOUBTFUL, agreement=0.25, confidence=NAN)
    assert tables.objects([one, other]) == [
        [7, "0.87", "tumour", 55, 3, 9, "0.95", ""],
        [8, "0.75", "maybe missed", 55, 3, 9, "0.95", "0.25"],
    ]
    assert len(tables.objects([one] * 999)) == tables.MOST_OBJECTS
