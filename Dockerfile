# The image of launch/gke_jobset.yaml, and of any machine with containers.
#
#   docker build -t segdiff .                            for TPUs
#   docker build -t segdiff --build-arg EXTRA=cuda12 .   for NVIDIA's GPUs; EXTRA= for CPUs
#   docker run --rm -v "$PWD/runs:/segdiff/runs" segdiff segdiff --config=configs/synthetic.py
FROM python:3.12-slim
ARG EXTRA=tpu
WORKDIR /segdiff

# before the sources, whose changes then do not install everything again
COPY requirements.lock ./
RUN pip install --no-cache-dir --require-hashes -r requirements.lock

# pyproject.toml reads these; the extra adds the plugin of the accelerator to the locked JAX
COPY pyproject.toml setup.py requirements.txt README.md LICENSE ./
COPY configs configs
COPY segdiff_jax segdiff_jax
RUN pip install --no-cache-dir --constraint requirements.txt ".${EXTRA:+[$EXTRA]}"

# compiled programs outlive a container where this is a volume
ENV JAX_COMPILATION_CACHE_DIR=/segdiff/cache PYTHONUNBUFFERED=1
CMD ["segdiff", "--help"]
