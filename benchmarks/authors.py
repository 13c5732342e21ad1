"""Runs the authors' code, from a checkout, so that it can be timed beside ours.

None of it is part of this project: PyTorch and their modules are imported only when a path is
given. Their network, diffusion, `TrainLoop` and sampling loop run unchanged, on a GPU if PyTorch
finds one and otherwise on all cores; in float32, or in PyTorch's automatic mixed precision with
float16 where the config has bfloat16. Packages that they import but do not call here are replaced
by empty modules: blobfile, kornia, scikit-learn, scikit-image, torchvision, mpi4py (one process)
and their own data sets; a call of anything in these raises an error. The process group that
`TrainLoop` needs has one member. `Authors` runs in a process without JAX (`elsewhere`).
"""

import importlib
import os
import sys
import tempfile
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from importlib.machinery import ModuleSpec
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
from ml_collections import ConfigDict

from benchmarks.timing import Work
from segdiff_jax.errors import UserError

MODULES = ("unet", "script_util", "train_util")
UNUSED = (
    *("blobfile", "kornia", "skimage", "skimage.morphology", "sklearn", "sklearn.metrics"),
    *("torchvision", "torchvision.utils", "datasets", "datasets.monu"),
)


def check(path: Path) -> None:
    """Checks the path of --authors.

    Raises:
      UserError: it is not a checkout of their repository, or PyTorch is not installed.
    """
    for name in MODULES:
        if not (path / "improved_diffusion" / f"{name}.py").is_file():
            raise UserError(
                f"--authors={path}: must be a checkout of github.com/tomeramit/SegDiff; it has no "
                f"improved_diffusion/{name}.py"
            )
    if find_spec("torch") is None:  # importing it here would start its threads beside ours
        raise UserError(
            f"--authors={path}: their code needs PyTorch, which is not installed: pip install torch"
        )


class Unused(ModuleType):
    """Stands for a package that is imported but not called; a call of anything in it raises."""

    __path__: list[str] = []

    def __init__(self, name: str) -> None:
        """Stands for the package of a name; PyTorch reads its module specification."""
        super().__init__(name)
        self.__spec__ = ModuleSpec(name, None)

    def __getattr__(self, name: str) -> Any:
        """Returns a function that raises NotImplementedError."""
        if name.startswith("__"):
            raise AttributeError(name)

        def refuse(*_: object, **__: object) -> None:
            raise NotImplementedError(f"{self.__name__}.{name} is not there when timing")

        return refuse


def stand_ins() -> dict[str, ModuleType]:
    """Returns empty modules for the packages that they import but do not call here."""
    alone = SimpleNamespace(Get_rank=lambda: 0, Get_size=lambda: 1, rank=0, size=1)
    mpi4py = ModuleType("mpi4py")
    vars(mpi4py)["MPI"] = SimpleNamespace(COMM_WORLD=alone)
    return {name: Unused(name) for name in UNUSED} | {"mpi4py": mpi4py}


class Authors:
    """Builds their network from one of our configs, with fresh weights.

    Attributes:
      torch: the module.
      device: of the network.
      model: their network.
      parameters: their number.
    """

    def __init__(self, path: Path, config: ConfigDict, side: int) -> None:
        """Builds the network.

        Args:
          path: of the checkout.
          config: one of ours that the authors' code can express.
          side: of the images, pixels.

        Raises:
          UserError: see `check`.
          ImportError: PyTorch is installed and cannot be imported.
        """
        check(path)
        import torch  # pyright: ignore[reportMissingImports]

        self.torch, self._config, self._side = torch, config, side
        torch.set_num_threads(os.cpu_count() or 1)
        if str(path) not in sys.path:
            sys.path.insert(0, str(path))
            sys.modules.update(stand_ins())
        unet, self._script, self._train = (
            importlib.import_module(f"improved_diffusion.{name}") for name in MODULES
        )
        c = config.model
        self.model = unet.UNetModel(
            in_channels=1,
            model_channels=c.channels,
            out_channels=1,
            num_res_blocks=c.blocks_per_level,
            attention_resolutions=tuple(c.attention_factors),
            dropout=c.dropout,
            channel_mult=tuple(c.multipliers),
            num_heads=c.heads,
            use_scale_shift_norm=False,
            rrdb_blocks=c.rrdb_blocks,
        )
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self.model.to(self.device)
        self.parameters = sum(p.numel() for p in self.model.parameters())

    def _diffusion(self, steps: int) -> Any:
        T = self._config.diffusion.T
        respacing = str(steps) if 0 < steps < T else ""
        return self._script.create_gaussian_diffusion(
            steps=T,
            noise_schedule="linear",
            rescale_learned_sigmas=False,
            timestep_respacing=respacing,
        )

    def _images(self, count: int) -> Any:
        random = np.random.default_rng(0)
        shape = (count, 3, self._side, self._side)
        return self.torch.from_numpy(random.standard_normal(shape, np.float32)).to(self.device)

    def _precision(self) -> AbstractContextManager[None]:
        if self._config.model.dtype == "float32":
            return nullcontext()
        return self.torch.autocast(self.device.type, self.torch.float16)

    def _work(self, do: Callable[[], object], training: bool = False) -> Work:
        """Returns a workload that runs `do` in its mode and precision and waits for the device."""

        def work() -> None:
            self.model.train(training)
            with self.torch.set_grad_enabled(training), self._precision():
                do()
            if self.device.type == "cuda":
                self.torch.cuda.synchronize()

        return work

    def training_step(self, batch: int) -> Work:
        """Returns one training step of their `TrainLoop`: loss, gradient, AdamW, EMA, log."""
        dist = self.torch.distributed
        if not dist.is_initialized():
            backend = "nccl" if self.device.type == "cuda" else "gloo"  # as `setup_dist` of theirs
            dist.init_process_group(backend, store=dist.HashStore(), rank=0, world_size=1)
        logger = importlib.import_module("improved_diffusion.logger")
        with tempfile.TemporaryDirectory() as folder:  # it creates one and leaves it empty
            logger.configure(dir=folder, format_strs=[])
        c = self._config.train
        loop = self._train.TrainLoop(
            model=self.model,
            diffusion=self._diffusion(0),
            data=None,
            batch_size=batch,
            microbatch=-1,
            lr=c.learning_rate,
            ema_rate=str(c.ema_decay),
            log_interval=10**9,
            save_interval=10**9,
            resume_checkpoint="",
            logger=logger,
            image_size=self._side,
            val_dataset=None,
        )
        mask = self.torch.ones(batch, 1, self._side, self._side, device=self.device)
        mask[:, :, ::2] = -1
        condition = {"conditioned_image": self._images(batch)}

        return self._work(lambda: loop.run_step(mask, condition), training=True)

    def encoding(self, count: int) -> Work:
        """Returns a workload that computes G of `count` images."""
        images = self._images(count)
        return self._work(lambda: self.model.rrdb(images))

    def reverse_step(self, rows: int) -> Work:
        """Returns one step of their reverse process for `rows` rows; it recomputes G."""
        diffusion, images = self._diffusion(0), self._images(1).repeat(rows, 1, 1, 1)
        x = self.torch.randn(rows, 1, self._side, self._side, device=self.device)
        t = self.torch.full((rows,), diffusion.num_timesteps - 1, device=self.device)
        condition = {"conditioned_image": images}
        return self._work(
            lambda: diffusion.p_sample(
                self.model, x, t, clip_denoised=False, model_kwargs=condition
            )
        )

    def sampling(self, generations: int, steps: int) -> Work:
        """Returns a workload that samples and averages all generations of an image in one batch."""
        diffusion = self._diffusion(steps)
        images = self._images(1).repeat(generations, 1, 1, 1)
        shape = generations, 1, self._side, self._side
        condition = {"conditioned_image": images}

        def sample() -> Any:
            x = diffusion.p_sample_loop(
                self.model, shape, clip_denoised=False, model_kwargs=condition
            )
            return ((x + 1.0) / 2.0).clamp(0.0, 1.0).mean(dim=0)

        return self._work(sample)
