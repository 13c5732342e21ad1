"""Faults of the page, of the layers for napari, and of what they read: channels and classes."""

from mutation import listed

HANDLERS, RUN = "app/test_handlers.py", "app/test_run.py"
LAYERS, TABLES = "app/test_layers.py", "app/test_tables.py"
NAPARI, CLASSES = "napari_plugin/test_layers.py", "data/datasets/test_folder_classes.py"
MASK_CHANNELS, BANDS = "data/test_channels.py", "data/image_io/test_bands.py"

MODELS = [
    (
        "the page predicts by one budget, whichever is chosen",
        "self.models.get(_budget(budget), samples)",
        'self.models.get("balanced", samples)',
        HANDLERS,
    ),
    ("the threshold stays", "session.threshold = float(threshold)", "float(threshold)", HANDLERS),
]
PROGRAM = [
    (
        "models are loaded with their own budget",
        "budget=budget, threshold=command.threshold",
        "threshold=command.threshold",
        RUN,
    ),
    ("the threshold of the command line is forgotten", ", threshold=command.threshold", "", RUN),
]
ANSWERS = [
    (
        "masks are those of 0.5 at any threshold",
        "mask = (found.shown > threshold) * np.uint8(255)",
        "mask = (found.shown > 0.5) * np.uint8(255)",
        f"{HANDLERS} app/test_answers.py",
    ),
]
SESSION = [
    (
        "an answer is kept when the threshold moves",
        "key = self.token, number, entry.version, entry.drawn, self.threshold",
        "key = self.token, number, entry.version, entry.drawn, 0.5",
        HANDLERS,
    ),
    (
        "an answer is kept when another budget has predicted",
        "entry.version += 1",
        "entry.version += 0",
        HANDLERS,
    ),
    (
        "the files of a picture are those of the first",
        "answered, entry = self.answered(number), self.entries[number]",
        "answered, entry = self.answered(min(self.entries)), self.entries[number]",
        HANDLERS,
    ),
    (
        "only pictures without any answer are answered for",
        "if not line or line.threshold != threshold]",
        "if not line]",
        HANDLERS,
    ),
]
SESSIONS = [
    ("any token opens the first page", "if one.token == token", "if token", HANDLERS),
]
STORE = [
    ("pages share their files", 'f"{owner}-{name}.npz"', 'f"{name}.npz"', HANDLERS),
    (
        "pages share what is kept in memory",
        "self.recent.get((owner, name), load, predicted.size)",
        "self.recent.get(name, load, predicted.size)",
        HANDLERS,
    ),
]
TABLE = [
    ("the best picture is first", "one[2].dice if one[2]", "-one[2].dice if one[2]", TABLES),
    ("what is not predicted is first", "(one[2] is None, one", "(one[2] is not None, one", TABLES),
]
WINDOWS = [
    (
        "the layers of a window are those of the corner",
        "values = reduced(getattr(found, name)[place], factor)",
        "values = reduced(getattr(found, name)[: window.height, : window.width], factor)",
        LAYERS,
    ),
]
OF_NAPARI = [
    (
        "the axes of a stack are exchanged",
        "data[tuple(index[:leading])]",
        "data[tuple(index[:leading][::-1])]",
        NAPARI,
    ),
    (
        "what is known of an object is that of the one before",
        "np.concatenate([[np.nan], np.asarray(x, float)])",
        "np.concatenate([np.asarray(x, float), [np.nan]])",
        NAPARI,
    ),
]
CHANNELS = [
    (
        "classes are in the reverse order",
        "range(1, len(self.classes) + 1)",
        "range(len(self.classes), 0, -1)",
        "data/test_classes.py",
    ),
]
NAMED = [
    (
        "the channels of an image are in the reverse order",
        "for k in range(len(names))]\n    notes",
        "for k in range(len(names))][::-1]\n    notes",
        BANDS,
    ),
    (
        "all channels have the range of the first",
        "pixels._replace(values=values), limits)",
        "pixels, limits)",
        BANDS,
    ),
]
STATISTICS = [
    (
        "all channels have one mean",
        "mean = np.sum(totals, axis=0) / pixels",
        "mean = np.full(len(totals[0]), np.mean(totals)) * len(totals) / pixels",
        "factory/test_image_channels.py",
    ),
]
FOLDER_CLASSES = [
    (
        "what two objects share is the last one's",
        "added = (own.classes > 0) & (classes == 0)",
        "added = own.classes > 0",
        CLASSES,
    ),
    ("objects touch at corners", "connectivity=1), np", "connectivity=2), np", CLASSES),
    (
        "objects of one class that touch are one",
        "labels if len(pair.masks[0]) > 1 else regions(classes)",
        "regions(classes)",
        CLASSES,
    ),
    (
        "a class outside the mask is not noticed",
        "(classes > 0) != (mask > 0)",
        "(classes == 0) & (mask > 0)",
        CLASSES,
    ),
]
VALUES = [
    (
        "values are classes in their own order",
        "names.index(name) + 1",
        "int(values.split('+')[0])",
        "data/test_classes.py",
    ),
    ("all channels are one bit", "astype(dtype) << dtype(k)", "astype(dtype)", MASK_CHANNELS),
    (
        "of classes that overlap a pixel has only the most probable",
        "found = (values > threshold) & mask",
        "found = (values > threshold) & (values == values.max(axis=0)) & mask",
        "data/test_classes.py",
    ),
]
AT_THRESHOLD = [
    (
        "napari's threshold does not move the mask",
        "(self.probability > threshold)",
        "(self.probability > 0.5)",
        NAPARI,
    ),
]
OVERLAPS = "data/datasets/test_folder_overlaps.py"
PAIRS = [
    (
        "a mask of a class that is lost is one of zeros",
        "if (name in images and form not in optional) or name in owned",
        "if name in owned",
        OVERLAPS,
    ),
]
OF_CLASSES = [
    (
        "a class that overlaps has the probability of the foreground",
        '"probability": of.shares[k - 1]',
        '"probability": found.probability',
        "certainty/test_overlaps.py",
    ),
]
PIPELINE = [
    (
        "the mask of a class that overlaps is in the folder of another",
        "writing.save(paths[k - 1], own",
        "writing.save(paths[-k], own",
        "prediction/test_overlapping_outputs.py",
    ),
]

MUTATIONS = listed(
    {
        "app/handlers": MODELS,
        "app/run": PROGRAM,
        "app/answers": ANSWERS,
        "app/session": SESSION,
        "app/sessions": SESSIONS,
        "app/store": STORE,
        "app/tables": TABLE,
        "app/layers": WINDOWS,
        "napari_plugin/layers": OF_NAPARI,
        "data/channels": CHANNELS,
        "data/image_io/bands": NAMED,
        "data/datasets/registry": STATISTICS,
        "data/datasets/folder_classes": FOLDER_CLASSES,
        "data/classes": VALUES,
        "data/datasets/folder_pairs": PAIRS,
        "certainty/of_classes": OF_CLASSES,
        "certainty/prediction": AT_THRESHOLD,
        "prediction/pipeline": PIPELINE,
    }
)
