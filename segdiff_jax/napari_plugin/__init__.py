"""A plugin of napari (extra `napari`): the widget "Segment with segdiff"; see docs/napari.md."""
