"""What the log says of a row of summary.csv."""

from segdiff_jax.prediction.summary import Row, counted

ROW = Row("a.png", 8, 8, 0.5, 0.9, 0.1, 0.8, 1, 0.1, 10, 0)


def test_the_number_of_objects_comes_with_the_interval_that_holds():
    row = ROW._replace(objects=5.2, objects_low=3.0, objects_high=6.0)
    assert counted(row) == ", 5 objects (80 %: 3 to 6)"


def test_without_a_calibration_no_number_of_objects_is_claimed():
    assert counted(ROW) == counted(ROW._replace(objects=5.0)) == ""
