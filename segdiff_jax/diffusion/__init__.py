r"""Defines diffusion on masks: forward process, parameterizations, reverse processes.

Letters are the paper's (arXiv 2112.00390, section 3): x0 in {-1, +1} is the mask, t runs from 1
to T, and

  x_t = sqrt(alpha_bar_t) x0 + sqrt(1 - alpha_bar_t) eps,    eps ~ N(0, 1)           (eq. 5)

with alpha_bar_0 = 1, so that entry 0 of every table is the clean mask. One reverse step leads
from t to any s < t. With beta = 1 - alpha_bar_t / alpha_bar_s both DDPM (eq. 10-13) and DDIM
(Song et al., arXiv 2010.02502, eq. 12) are a linear combination of x0, eps, x_t and new noise z:

  x_s = a x0 + b eps + c x_t + sigma z

so a reverse process is a table of four numbers a step, computed in float64 on the host, and
sampling is one scan over its rows.
"""

from segdiff_jax.diffusion.noise import Noise as Noise
from segdiff_jax.diffusion.noise import field as field
from segdiff_jax.diffusion.noise import gaussian as gaussian
from segdiff_jax.diffusion.parameterization import Estimate as Estimate
from segdiff_jax.diffusion.parameterization import Prediction as Prediction
from segdiff_jax.diffusion.reverse_process import Denoiser as Denoiser
from segdiff_jax.diffusion.reverse_process import Steps as Steps
from segdiff_jax.diffusion.reverse_process import ddim as ddim
from segdiff_jax.diffusion.reverse_process import ddpm as ddpm
from segdiff_jax.diffusion.reverse_process import estimates as estimates
from segdiff_jax.diffusion.reverse_process import respaced as respaced
from segdiff_jax.diffusion.reverse_process import respaced_by_snr as respaced_by_snr
from segdiff_jax.diffusion.reverse_process import reverse as reverse
from segdiff_jax.diffusion.reverse_process import sample as sample
from segdiff_jax.diffusion.schedule import Schedule as Schedule
from segdiff_jax.diffusion.schedule import add_noise as add_noise
from segdiff_jax.diffusion.schedule import cosine_schedule as cosine_schedule
from segdiff_jax.diffusion.schedule import linear_schedule as linear_schedule
from segdiff_jax.diffusion.schedule import make_schedule as make_schedule
from segdiff_jax.diffusion.schedule import with_signal_scale as with_signal_scale
