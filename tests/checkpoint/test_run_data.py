"""A run goes on with its own data only."""

import pytest

from segdiff_jax.checkpoint import run_data
from segdiff_jax.errors import BAD_CHECKPOINT, UserError

BEFORE = {"a": "00", "b": "01", "c": "02"}


def refusal(workdir, now, recorded=None, **more):
    recorded = run_data.fingerprint(BEFORE) if recorded is None else recorded
    with pytest.raises(UserError) as error:
        run_data.check(workdir, recorded, now, **more)
    assert error.value.code == BAD_CHECKPOINT and "allow_change=True" in str(error.value)
    return str(error.value)


@pytest.mark.parametrize(
    "now, said",
    [
        (BEFORE | {"b": "99"}, "0 added, 0 removed, 1 changed (b)"),
        (BEFORE | {"d": "00"}, "1 added (d), 0 removed, 0 changed"),
        ({"b": "01"}, "0 added, 2 removed (a, c), 0 changed"),
        ({"a": "00", "x": "01", "c": "03"}, "1 added (x), 1 removed (b), 1 changed (c)"),
        ({f"x{i}": "00" for i in range(5)}, "5 added (x0, x1, x2, ...), 3 removed (a, b, c), 0 c"),
    ],
)
def test_other_data_are_refused_with_what_changed(tmp_path, caplog, now, said):
    run_data.write(tmp_path, {"train": BEFORE})
    assert f"train: {said}" in refusal(tmp_path, {"train": now})
    run_data.check(tmp_path, run_data.fingerprint(BEFORE), {"train": now}, allow_change=True)
    assert said in caplog.text
    run_data.write(tmp_path, {"train": now})
    run_data.check(tmp_path, run_data.fingerprint(now), {"train": now})


def test_the_same_data_in_another_order_go_on(tmp_path):
    run_data.write(tmp_path, {"train": BEFORE})
    run_data.check(tmp_path, run_data.fingerprint(BEFORE), {"train": dict([*BEFORE.items()][::-1])})


def test_images_that_choose_the_checkpoint_are_compared_where_both_commands_use_them(tmp_path):
    run_data.write(tmp_path, {"train": BEFORE, "validation": {"v": "00"}})
    known = run_data.fingerprint(BEFORE)
    run_data.check(tmp_path, known, {"train": BEFORE})
    run_data.write(tmp_path, {"train": BEFORE})  # without validation
    said = refusal(tmp_path, {"train": BEFORE, "validation": {"v": "01"}})
    assert "validation: 0 added, 0 removed, 1 changed (v)" in said and "train:" not in said


@pytest.mark.parametrize("content", [None, b"", b"[1, 2]", b'{"train": 3}', b"[" * 100_000])
def test_without_its_list_the_fingerprint_still_tells_other_data(tmp_path, content):
    if content is not None:
        (tmp_path / run_data.NAME).write_bytes(content)
    assert "3 images now" in refusal(tmp_path, {"train": BEFORE | {"b": "99"}})
    run_data.check(tmp_path, run_data.fingerprint(BEFORE), {"train": BEFORE})
    run_data.check(tmp_path, "", {"train": {"b": "99"}})  # an earlier version recorded nothing
