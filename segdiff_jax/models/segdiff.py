"""SegDiff encodes the image once and denoises the mask many times (paper, eq. 17)."""

from collections.abc import Callable
from typing import Any, cast

import flax.linen as nn
import jax

Params = Any  # nested dictionaries of float32 arrays


class SegDiff(nn.Module):
    """Computes D(E(F(x_t) + G(I), t), t) from the modules it is given.

    With a conditioning that ignores x_t and a U-Net that ignores t it predicts the mask in one
    pass; x_t and t may then be None.

    Attributes:
      encoder: G, image [B, H, W, 3] -> features [B, h, w, C]; None: the image is its own features.
      conditioning: (x_t, features) -> stem and additions, see `models.conditioning`; contains F.
      unet: (stem, t, keys, additions) -> [B, H, W, K].
      factor: how many times smaller the sides of the features are than those of the image.
      precision: of products of float32, see `at_precision`.
    """

    encoder: nn.Module | None
    conditioning: nn.Module
    unet: nn.Module
    factor: int = 1
    precision: str = "default"

    def encode(self, image: jax.Array) -> jax.Array:
        """Maps a normalised image [B, H, W, 3] float32 to features, independent of x_t and t."""
        return image if self.encoder is None else self.encoder(image)

    def denoise(
        self,
        x_t: jax.Array | None,
        t: jax.Array | None,
        features: jax.Array,
        keys: jax.Array | None = None,
    ) -> jax.Array:
        """Maps x_t [B, H, W, K] and t [B] or [1] int32 in 1..T to an output [B, H, W, K] float32.

        `diffusion.Prediction` decides whether the output is eps, x0 or v. `keys` [B] enable
        dropout; the dropout of a row depends on its own key alone.
        """
        stem, additions = self.conditioning(x_t, features)
        return self.unet(stem, t, keys, additions)

    def __call__(
        self, image: jax.Array, x_t: jax.Array, t: jax.Array, keys: jax.Array | None = None
    ) -> jax.Array:
        """Encodes and denoises: image [B, H, W, 3], x_t [B, H, W, K] and t [B] to [B, H, W, K]."""
        return self.denoise(x_t, t, self.encode(image), keys)


def call(model: SegDiff, method: str, params: Any, *args: Any, **options: Any) -> jax.Array:
    """Applies a method of the model, "encode" or "denoise", with these parameters."""
    return cast(jax.Array, model.apply({"params": params}, *args, method=method, **options))


def at_precision(precision: str, function: Callable) -> Callable:
    """Returns a function whose products of float32, and those of its gradients, have a precision.

    TPUs multiply float32 numbers as bfloat16 by default, and NVIDIA's GPUs as TF32. The precision
    is that of the whole program, because gradients that are written by hand are traced after the
    network.

    Args:
      precision: "default"; "high": about float32, in three passes of the smaller type on a TPU;
        "highest": float32. A CPU always computes the last.
      function: traced by JAX, such as a training step.
    """
    if precision == "default":
        return function

    def traced(*args: Any) -> Any:
        with jax.default_matmul_precision(precision):
            return function(*args)

    return traced


def without_encoder(params: dict[str, Any]) -> dict[str, Any]:
    """Returns the parameters that "denoise" needs."""
    return {name: value for name, value in params.items() if name != "encoder"}
