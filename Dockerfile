# dreamer_tf with CUDA and EGL. NOT TRIED: no container registry could be reached where
# this was written; its commands were run one by one on Debian 12 without a GPU.
#
#     docker build --build-arg COMMIT=$(git rev-parse HEAD) -t dreamer_tf .
#     docker run --rm --gpus all -v "$PWD/logs:/dreamer_tf/logs" dreamer_tf \
#         run.py train --version=v3 --benchmark=dmc_vision --logdir=logs/walker_walk
#
# `--build-arg BACKEND=jax` takes JAX instead of TensorFlow.
FROM python:3.12-slim-bookworm

RUN apt-get update \
 && apt-get install -y --no-install-recommends libegl1 libgl1 libopengl0 libosmesa6 make \
 && rm -rf /var/lib/apt/lists/*

# The NVIDIA container toolkit mounts the driver's EGL ("graphics"), and this names it.
RUN mkdir -p /usr/share/glvnd/egl_vendor.d \
 && echo '{"file_format_version": "1.0.0", "ICD": {"library_path": "libEGL_nvidia.so.0"}}' \
    > /usr/share/glvnd/egl_vendor.d/10_nvidia.json
ENV NVIDIA_VISIBLE_DEVICES=all NVIDIA_DRIVER_CAPABILITIES=compute,utility,graphics

WORKDIR /dreamer_tf
ARG BACKEND=tensorflow
COPY Makefile requirements*.txt ./
RUN if [ "$BACKEND" = jax ]; then make env-gpu-jax; else make env-gpu; fi \
 && rm -rf /root/.cache
ENV KERAS_BACKEND=$BACKEND PATH=/dreamer_tf/.venv-jax/bin:/dreamer_tf/.venv/bin:$PATH

COPY . .
ARG COMMIT
ENV DREAMER_TF_COMMIT=$COMMIT
ENTRYPOINT ["python"]
CMD ["run.py", "--help"]
