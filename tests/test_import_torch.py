"""Weights of the authors' code: their names, the way here by the real command, and the way back."""

import subprocess
import sys
from itertools import product
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from authors_network import Network
from flax import traverse_util
from PIL import Image
from tiny_config import ROOT, mesh_of, tiny, write_run

from segdiff_jax import errors, evaluate, import_torch, predict, train, trained_run
from segdiff_jax.checkpoint import manager, run_config
from segdiff_jax.cli import app, import_args
from segdiff_jax.data.example import Example
from segdiff_jax.factory import networks, training
from segdiff_jax.torch_weights import matching, names
from segdiff_jax.torch_weights.pt_reader import read_tensors
from segdiff_jax.torch_weights.pt_writer import write_tensors

EPS_TOLERANCE = 5e-5
CONFIG = """
from segdiff_jax.config import default


def get_config():
    c = default()
    c.data.mean, c.data.std = (0.0,) * 3, (1.0,) * 3
    c.model.channels, c.model.multipliers = {model_channels}, {channel_mult}
    c.model.blocks_per_level, c.model.heads = {num_res_blocks}, {num_heads}
    c.model.attention_factors, c.model.rrdb_blocks = {attention_resolutions}, {rrdb_blocks}
    c.augment.crop = c.sampling.tile = c.sampling.stride = 32
    return c
"""


@pytest.fixture(autouse=True)
def quiet(monkeypatch):
    monkeypatch.setattr(app, "set_up_logging", lambda: None)


@pytest.fixture(scope="module", params=["unet_a", "unet_b"])
def network(request):
    return Network(request.param)


def write_config(network, folder):
    path = folder / "network.py"
    values = {k: tuple(v) if isinstance(v, list) else v for k, v in network.config.items()}
    path.write_text(CONFIG.format(**values))
    return path


@pytest.fixture(scope="module")
def imported(network, tmp_path_factory):
    """The run that the real command makes of a file of golden weights."""
    folder = tmp_path_factory.mktemp("imported")
    file = folder / "ema_0.9999_060000.pt"
    write_tensors(file, network.tensors)
    config, workdir = write_config(network, folder), folder / "run"
    argv = [f"--weights={file}", f"--config={config}", f"--workdir={workdir}"]
    done = subprocess.run(
        [sys.executable, "-m", "segdiff_jax.import_torch", *argv],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert done.returncode == errors.DONE, done.stderr
    assert "update 60000" in done.stderr
    return workdir


def restored(workdir):
    return trained_run.restore_ema(run_config.read_config(workdir), workdir, mesh_of(1))


def test_eps_of_imported_weights_is_the_authors(network, imported):
    step, params = restored(imported)
    model = networks.model(run_config.read_config(imported))
    eps = jax.jit(model.apply)({"params": params}, network.image, network.x, network.t)
    assert step == 60_000
    np.testing.assert_allclose(eps, network.eps, rtol=0, atol=EPS_TOLERANCE)


def test_weights_go_there_and_back_bit_for_bit(network, imported, tmp_path):
    back = tmp_path / "back.pt"
    assert import_torch.main([f"--export={back}", f"--workdir={imported}"]) == errors.DONE
    found = read_tensors(back)
    assert list(found) == list(network.tensors)  # the order too
    for name, tensor in network.tensors.items():
        assert found[name].shape == tensor.shape and found[name].tobytes() == tensor.tobytes()
    assert sorted(p.name for p in tmp_path.iterdir()) == ["back.pt"]


def test_names_and_layouts_are_the_authors_one_to_one(network):
    ours = names.to_ours(network.tensors, network.modules)
    assert len(ours) == len(network.tensors)
    theirs = names.to_theirs(ours, network.modules)
    assert list(theirs) == list(network.tensors)
    for name, tensor in network.tensors.items():
        np.testing.assert_array_equal(theirs[name], tensor)


@pytest.mark.parametrize(
    ("multipliers", "blocks", "factors", "rrdb_blocks"),
    list(product([(1,), (1, 1, 2, 4)], [1, 2], ["()", "all", "last"], [3])),
)
def test_every_parameter_of_any_network_has_one_name(multipliers, blocks, factors, rrdb_blocks):
    levels = len(multipliers)
    every = tuple(2**level for level in range(levels))
    config = tiny()
    config.model.multipliers, config.model.blocks_per_level = multipliers, blocks
    config.model.attention_factors = {"()": (), "all": every, "last": every[-1:]}[factors]
    config.model.rrdb_blocks = rrdb_blocks
    paths = import_torch._placeholders(config)
    modules = names.modules(import_torch._shape(config))
    assert len(set(modules.values())) == len(modules)
    theirs = names.to_theirs(paths, modules)
    assert len(theirs) == len(paths) and not any("/" in name for name in theirs)
    back = names.to_ours(theirs, modules)
    assert {k: v.shape for k, v in back.items()} == {k: v.shape for k, v in paths.items()}


@pytest.fixture(scope="module")
def exported(run_of_chance, tmp_path_factory):
    """The weights of a small run in a file for the authors' code."""
    file = tmp_path_factory.mktemp("exported") / "ema_0.9_000007.pt"
    import_torch.export_weights(import_args.Export(file, run_of_chance))
    return file


def run_import(exported, workdir, config=None, step=7):
    command = import_args.Import(exported, config or tiny(), workdir, step)
    import_torch.import_weights(command)


def test_a_small_run_goes_there_and_back_bit_for_bit(run_of_chance, exported, tmp_path):
    run_import(exported, tmp_path / "run")
    (step, before), (_, after) = restored(run_of_chance), restored(tmp_path / "run")
    assert step == 7
    jax.tree.map(np.testing.assert_array_equal, before, after)


def test_training_goes_on_from_imported_weights_with_a_fresh_optimizer(exported, tmp_path):
    config = tiny()
    run_import(exported, tmp_path / "run", config, step=5)
    examples = [Example(np.zeros((16, 16, 3), np.uint8), np.zeros((16, 16), np.uint8), "x")]
    checkpoints = manager.Checkpoints(tmp_path / "run")
    setup = training.setup(config, examples, mesh_of(1))
    state = setup.layout.to_host(train.start(setup, checkpoints))
    checkpoints.close()
    assert state.step == 5
    _, ema = restored(tmp_path / "run")
    jax.tree.map(np.testing.assert_array_equal, ema, state.params)
    jax.tree.map(np.testing.assert_array_equal, ema, state.ema_params)
    assert not any(np.any(x) for x in jax.tree.leaves(state.opt_state))
    run_config.check_resume(config, tmp_path / "run")


@pytest.mark.slow
def test_an_imported_run_is_evaluated(exported, tmp_path, synthetic_set):
    config = tiny()
    config.data.prepared_dir = str(synthetic_set)
    run_import(exported, tmp_path / "run", config)
    page = evaluate.evaluate(config, tmp_path / "run")
    assert page.exists()


@pytest.mark.slow
def test_an_imported_run_predicts_what_the_run_it_came_from_does(run_of_chance, exported, tmp_path):
    run_import(exported, tmp_path / "run")
    pixels = np.random.default_rng(0).integers(0, 256, (20, 20, 3), np.uint8)
    Image.fromarray(pixels).save(tmp_path / "image.png")
    found = []
    for i, workdir in enumerate((run_of_chance, tmp_path / "run")):
        argv = [f"--workdir={workdir}", f"--input={tmp_path / 'image.png'}"]
        assert predict.main([*argv, f"--output={tmp_path / str(i)}"]) == errors.DONE
        found.append((tmp_path / str(i) / "probability" / "image.png").read_bytes())
    assert found[0] == found[1]


def lines_of(capsys):
    captured = capsys.readouterr()
    assert captured.out == ""
    return captured.err.splitlines()


@pytest.fixture
def tiny_config(tmp_path):
    path = tmp_path / "tiny_config.py"
    path.write_text(
        f"import sys\nsys.path.insert(0, {str(ROOT / 'tests/support')!r})\n"
        "from tiny_config import tiny as get_config\n"
    )
    return path


def test_a_mismatch_is_listed_from_both_sides(exported, tiny_config, tmp_path, capsys):
    argv = [f"--weights={exported}", f"--config={tiny_config}", f"--workdir={tmp_path / 'run'}"]
    changed = ["--config.model.rrdb_growth=4", "--config.model.attention_factors=()"]
    assert import_torch.main([*argv, *changed]) == errors.BAD_CHECKPOINT
    *lines, last = lines_of(capsys)
    assert "segdiff: - rrdb.RRDB_trunk.0.RDB1.conv1.weight (2, 4, 3, 3)" in lines
    assert "segdiff: + rrdb.RRDB_trunk.0.RDB1.conv1.weight (4, 4, 3, 3)" in lines
    assert "segdiff: - input_blocks.3.1.qkv.weight (48, 16, 1)" in lines
    assert "segdiff: + input_blocks.3.1.qkv.weight (48, 16, 1)" not in lines
    assert "segdiff: + output_blocks.1.1.conv.bias (16,)" in lines
    assert not any("time_embed" in line for line in lines)  # what agrees is not listed
    assert "is not of the network of --config" in last
    assert not (tmp_path / "run").exists()


def test_a_network_that_differs_everywhere_is_reported_in_a_hundred_lines(
    exported, tiny_config, tmp_path, capsys
):
    argv = [f"--weights={exported}", f"--config={tiny_config}", f"--workdir={tmp_path / 'run'}"]
    assert import_torch.main([*argv, "--config.model.channels=16"]) == errors.BAD_CHECKPOINT
    lines = lines_of(capsys)
    assert len(lines) == 102 and "lines more" in lines[100]


def test_a_network_that_the_authors_do_not_have_stays_here(exported, tmp_path):
    config = tiny()
    config.model.time_embedding = "table"
    with pytest.raises(errors.UserError) as caught:
        run_import(exported, tmp_path / "run", config)
    assert "+ unet/time/table/embedding (100, 32)" in caught.value.details
    assert "- time_embed.0.weight (32, 8)" in caught.value.details


def test_a_table_of_times_is_not_exported(tmp_path):
    config = tiny()
    config.model.time_embedding = "table"
    (tmp_path / "run").mkdir()
    write_run(config, tmp_path / "run", 1)
    with pytest.raises(errors.UserError, match="the authors' code has no network") as caught:
        import_torch.export_weights(import_args.Export(tmp_path / "x.pt", tmp_path / "run"))
    assert caught.value.details == ("+ unet/time/table/embedding (100, 32)",)
    assert not (tmp_path / "x.pt").exists()


@pytest.mark.parametrize("prefix", ["", "module.", "state_dict.", "model.ema."])
def test_what_all_names_begin_with_is_left_out(prefix, exported):
    wanted = read_tensors(exported)
    wrapped = {prefix + name: array for name, array in wanted.items()}
    found = matching.match(exported, wrapped, wanted)
    assert list(found) == list(wanted)


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (np.float32([np.nan]), "out.2.bias holds a number that is not finite"),
        (np.float32([-np.inf]), "out.2.bias holds a number that is not finite"),
        (np.float64([1e300]), "out.2.bias holds a number that is not finite"),
        (np.int64([1]), "out.2.bias is of int64; weights are of float"),
    ],
)
def test_what_is_no_weight_is_refused(array, message, exported):
    wanted = read_tensors(exported)
    with pytest.raises(errors.UserError, match=message) as caught:
        matching.match(exported, wanted | {"out.2.bias": array}, wanted)
    assert caught.value.code == errors.BAD_DATA


def test_settings_that_the_authors_do_not_have_are_warned_of(caplog):
    config = tiny()
    config.model.kind = "twin"  # has parameters of the same names and shapes
    import_torch._warn_of_differences(config)
    assert "config.model.kind='twin': in the authors' code it is 'diffusion'" in caplog.text
    assert "config.model.norm_groups=2: in the authors' code it is 32" in caplog.text
    assert "config.diffusion.prediction='x0'" in caplog.text


def test_a_run_that_cannot_be_finished_leaves_nothing(exported, tmp_path, monkeypatch):
    def full(*arguments):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(manager.Checkpoints, "save", full)
    with pytest.raises(OSError, match="No space"):
        run_import(exported, tmp_path / "run")
    assert list((tmp_path / "run").iterdir()) == []
    monkeypatch.undo()
    run_import(exported, tmp_path / "run")
    assert restored(tmp_path / "run")[0] == 7


@pytest.mark.parametrize(
    ("name", "step"),
    [
        ("ema_0.9999_060000.pt", 60_000),
        ("ema_val_0.8123456_0.9999_295000.pt", 295_000),
        ("ema_model_0.9999_005000.pt", 5000),
        ("model060000.pt", 60_000),
        ("ema.pt", 0),
        ("weights_v2.pt", 0),
    ],
)
def test_the_update_is_the_number_in_the_name(name, step, tmp_path):
    (tmp_path / name).write_bytes(b"")
    argv = [f"--weights={tmp_path / name}", f"--config={ROOT / 'configs' / 'monuseg.py'}"]
    argv.append(f"--workdir={tmp_path / 'run'}")
    assert import_args.parse(argv).step == step
    assert import_args.parse([*argv, "--step=3"]).step == 3
    assert import_args.parse([*argv, "--step=0"]).step == 0


OK = ["--weights=w.pt", "--config=configs/monuseg.py", "--workdir=new"]
BAD = [  # (argv, what is message), in a directory with the files of `place`
    ([], "--weights=FILE.pt (to import) or --export=FILE.pt: one of the two"),
    ([*OK, "--export=x.pt"], "one of the two"),
    (OK[:2], "--workdir is missing"),
    ([OK[0], OK[2]], "--config is missing"),
    ([*OK, "--config=configs/monuseg.py"], "--config is given twice"),
    ([OK[0], "--config", "configs/monusge.py", OK[2]], "did you mean configs/monuseg.py?"),
    ([*OK, "--config.model.rrdb_block=3"], "did you mean config.model.rrdb_blocks?"),
    ([*OK, "--config.model.rrdb_blocks=0"], "config.model.rrdb_blocks=0: must be an integer"),
    ([*OK, "--wieghts=w.pt"], "--wieghts: no such flag; did you mean weights?"),
    ([*OK, "--mode=train"], "--mode: no such flag"),
    ([*OK, "w.pt"], "w.pt: flags are written --NAME=VALUE"),
    (["--weights=no.pt", *OK[1:]], "--weights=no.pt: no such file"),
    (["--weights=run", *OK[1:]], "--weights=run: no such file"),
    ([*OK[:2], "--workdir=run"], "--workdir=run: holds a run already"),
    ([*OK[:2], "--workdir=half"], "--workdir=half: holds a run already"),
    ([*OK[:2], "--workdir=w.pt"], "--workdir=w.pt: must be a directory"),
    ([*OK, "--step=-1"], "--step=-1: must be an integer"),
    ([*OK, "--step=1e9"], "--step=1e9: must be an integer"),
    ([*OK, "--config.data.mean=()", "--config.data.std=()"], "config.data.mean=(): must be given"),
    (
        [
            *(*OK, "--config.data.train_split=train", "--config.data.validation_split=validation"),
            *("--config.train.evaluate_every=5", "--config.train.result=best"),
        ],
        "config.train.result='best': must be last",
    ),
    (["--export=x.pt"], "--workdir is missing"),
    (["--export=x.pt", "--workdir=nowhere"], "holds no run: no config.json"),
    (["--export=w.pt", "--workdir=run"], "--export=w.pt: exists already"),
    (["--export=no/x.pt", "--workdir=run"], "--export=no/x.pt: must be in a directory that exists"),
    (["--export=x.pt", "--workdir=run", OK[1]], "--export takes no --config"),
    (["--export=x.pt", "--workdir=run", "--config.seed=1"], "--export takes no --config"),
    (["--export=x.pt", "--workdir=run", "--step=3"], "--export takes no --config and no --step"),
]


@pytest.fixture
def place(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "configs").symlink_to(ROOT / "configs")
    (tmp_path / "w.pt").write_bytes(b"")
    for folder, name in (("run", "config.json"), ("half", "checkpoints")):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / name).write_text("{}")


@pytest.mark.parametrize(("argv", "message"), BAD, ids=range(len(BAD)))
def test_a_mistake_takes_one_line(argv, message, place, capsys):
    code = errors.BAD_CHECKPOINT if "holds no run" in message else errors.USAGE
    assert import_torch.main(argv) == code
    (line,) = lines_of(capsys)
    assert line.startswith("segdiff: ") and message in line


@pytest.mark.parametrize("mode", ["", "export"])
def test_an_export_is_parsed(mode, place):
    command = import_args.parse(["--export=x.pt", "--workdir=run"], mode)
    assert command == import_args.Export(Path("x.pt"), Path("run"))


def test_a_file_that_is_no_state_dict_takes_one_line_and_exit_code_65(place, capsys):
    assert import_torch.main(OK) == errors.BAD_DATA
    (line,) = lines_of(capsys)
    assert line == "segdiff: w.pt: is not a file of torch.save, which writes zip files"
    assert not Path("new").exists()


def test_help_is_one_screen(capsys):
    assert import_torch.main(["--help"]) == errors.DONE
    text = capsys.readouterr().out
    assert "--export=FILE.pt" in text
    assert text.count("\n") < 28 and max(map(len, text.splitlines())) <= 100


def test_a_file_is_refused_before_jax_is_imported(tmp_path):
    (tmp_path / "w.pt").write_bytes(b"no zip")
    code = (
        "import sys, segdiff_jax.import_torch as i; "
        f"rc = i.main(['--weights={tmp_path}/w.pt', *{OK[1:2]}, '--workdir={tmp_path}/run']); "
        "sys.exit(rc if 'jax' not in sys.modules else 1)"
    )
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT).returncode == errors.BAD_DATA


def test_pytorch_takes_the_golden_weights_there_and_back(network, tmp_path):
    torch = pytest.importorskip("torch")
    state = {name: torch.tensor(array) for name, array in network.tensors.items()}
    torch.save(state, tmp_path / "ema_0.9999_060000.pt")
    argv = [f"--weights={tmp_path / 'ema_0.9999_060000.pt'}", f"--workdir={tmp_path / 'run'}"]
    config = write_config(network, tmp_path)
    assert import_torch.main([*argv, f"--config={config}"]) == errors.DONE
    argv = [f"--export={tmp_path / 'back_060000.pt'}", f"--workdir={tmp_path / 'run'}"]
    assert import_torch.main(argv) == errors.DONE
    back = torch.load(tmp_path / "back_060000.pt", weights_only=True)
    assert list(back) == list(state)
    assert all(torch.equal(back[name], state[name]) for name in state)
    flat = traverse_util.flatten_dict(restored(tmp_path / "run")[1], sep="/")
    assert sum(map(jnp.size, flat.values())) == sum(map(torch.numel, back.values()))
