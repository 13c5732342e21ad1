"""The authors' rule for the window around an object, computed in floating point."""


def by_rule(box, percent, height, width):
    """The window in floating point, from the formula of the authors' code."""
    top, left, rows, columns = box
    half_rows, half_columns = rows * (percent / 100) / 2, columns * (percent / 100) / 2
    return (
        round(max(top - half_rows, 0)),
        round(max(left - half_columns, 0)),
        round(min(top + rows + half_rows, height)),
        round(min(left + columns + half_columns, width)),
    )
