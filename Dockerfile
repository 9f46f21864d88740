# An image with the command `sightline`, for processors or NVIDIA GPUs:
#   docker build --tag sightline .
#   docker build --tag sightline:cuda --build-arg TORCH_INDEX=https://download.pytorch.org/whl/cu128 .
#   docker run --rm --user "$(id -u)" --volume "$PWD:/data" sightline train photos_scratch --data photos/
# For GPUs, add --gpus all; the host needs the driver and the NVIDIA Container Toolkit.
ARG PYTHON=3.13

FROM python:${PYTHON}-slim AS wheel
WORKDIR /source
COPY pyproject.toml README.md LICENSE ./
COPY src src
RUN pip wheel --no-cache-dir --no-deps --wheel-dir /wheels .

FROM python:${PYTHON}-slim
ARG TORCH_INDEX=https://download.pytorch.org/whl/cpu
ARG EXTRAS=serve,onnx
RUN pip install --no-cache-dir torch torchvision --index-url ${TORCH_INDEX}
RUN --mount=type=bind,from=wheel,source=/wheels,target=/wheels \
    pip install --no-cache-dir "$(ls /wheels/*.whl)[${EXTRAS}]"
ENV SIGHTLINE_CACHE=/data/.sightline-cache \
    MPLCONFIGDIR=/tmp/matplotlib \
    HOME=/tmp
WORKDIR /data
ENTRYPOINT ["sightline"]
CMD ["--help"]
