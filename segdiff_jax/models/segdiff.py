"""SegDiff: encode the image once, denoise the mask many times (paper, eq. 17)."""

from typing import Any, cast

import flax.linen as nn
import jax


class SegDiff(nn.Module):
    """D(E(F(x_t) + G(I), t), t), from parts that are handed in.

    With a conditioning that ignores x_t and a U-Net that ignores t it is a network that finds the
    mask in one pass; both may then be None.

    Attributes:
      encoder: G, image [B, H, W, 3] -> features [B, h, w, C]; None: the image is its own features.
      conditioning: (x_t, features) -> stem and additions, see `models.conditioning`; holds F.
      unet: (stem, t, keys, additions) -> [B, H, W, 1].
      factor: sides of the features are so many times smaller than those of the image.
    """

    encoder: nn.Module | None
    conditioning: nn.Module
    unet: nn.Module
    factor: int = 1

    def encode(self, image: jax.Array) -> jax.Array:
        """Normalised image [B, H, W, 3] float32 -> features; neither x_t nor t enters."""
        return image if self.encoder is None else self.encoder(image)

    def denoise(
        self,
        x_t: jax.Array | None,
        t: jax.Array | None,
        features: jax.Array,
        keys: jax.Array | None = None,
    ) -> jax.Array:
        """x_t [B, H, W, 1], t [B] or [1] int32 in 1..T -> output [B, H, W, 1] float32.

        What the output means, eps, x0 or v, is for `diffusion.Prediction` to say. `keys` [B] turn
        dropout on; of a row it depends on its own key alone.
        """
        stem, additions = self.conditioning(x_t, features)
        return self.unet(stem, t, keys, additions)

    def __call__(
        self,
        image: jax.Array,
        x_t: jax.Array,
        t: jax.Array,
        keys: jax.Array | None = None,
    ) -> jax.Array:
        """Encodes and denoises: image [B, H, W, 3], x_t [B, H, W, 1], t [B] -> [B, H, W, 1]."""
        return self.denoise(x_t, t, self.encode(image), keys)


def call(model: SegDiff, method: str, params: Any, *args: Any, **options: Any) -> jax.Array:
    """Returns what a method of the model, "encode" or "denoise", makes of these parameters."""
    return cast(jax.Array, model.apply({"params": params}, *args, method=method, **options))


def without_encoder(params: dict[str, Any]) -> dict[str, Any]:
    """Returns the parameters that "denoise" takes."""
    return {name: part for name, part in params.items() if name != "encoder"}


Params = Any  # nested dictionaries of float32 arrays
