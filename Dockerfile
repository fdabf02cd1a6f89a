# Three images from one file: `app` serves artefacts, `trainer` trains, `preprocess` fills a store.
#
#   docker build --target app -t interscan-app .
#   docker build --target trainer -t interscan-trainer .          # CUDA 12.6; needs driver 560 or newer on the host
#   docker build --target preprocess -t interscan-preprocess .
#
# BuildKit is needed (the default since Docker 23; DOCKER_BUILDKIT=1 before). A site without internet names its own BASE,
# empties TORCH_INDEX (and TORCH_INDEX_CPU) and hands its pip configuration and its certificate authority over as
# secrets, which no layer keeps: --secret id=pip,src=pip.conf --secret id=ca,src=ca.pem (docs/deploy.md).
ARG BASE=python:3.11-slim-bookworm
ARG TORCH=2.13.0
ARG TORCH_INDEX_CPU=https://download.pytorch.org/whl/cpu
# Of the trainer. Newer builds want CUDA 13 and driver 580, which spot machines do not have yet (pytorch#162531).
ARG TORCH_INDEX=https://download.pytorch.org/whl/cu126

# hadolint ignore=DL3006
FROM ${BASE} AS base
# Any uid may run it, with a read-only root and one writable /tmp: nothing is written beside the program.
ENV PATH=/opt/interscan/bin:/usr/local/bin:/usr/bin:/bin \
    HOME=/tmp \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1

FROM base AS build
# Wheels carry symbols that only a debugger reads. A base that has `strip` already, as one without internet must, is left alone.
# hadolint ignore=DL3008
RUN command -v strip \
    || (apt-get update && apt-get install -y --no-install-recommends binutils && rm -rf /var/lib/apt/lists/*)
COPY deploy/requirements/build.txt /build/build.txt
# pip stays outside the environment that the images take.
RUN --mount=type=cache,target=/root/.cache/pip \
    --mount=type=secret,id=pip,target=/etc/pip.conf \
    --mount=type=secret,id=ca,target=/build/ca.pem \
    python3 -m venv /build/venv \
    && /build/venv/bin/pip install --require-hashes --requirement /build/build.txt \
    && python3 -m venv --without-pip /opt/interscan
COPY deploy/slim.py /build/slim.py

FROM build AS app-dependencies
ARG TORCH
ARG TORCH_INDEX_CPU
COPY deploy/requirements/app.txt /build/requirements.txt
RUN --mount=type=cache,target=/root/.cache/pip \
    --mount=type=secret,id=pip,target=/etc/pip.conf \
    --mount=type=secret,id=ca,target=/build/ca.pem \
    /build/venv/bin/pip --python /opt/interscan/bin/python install --no-compile --no-deps --require-hashes \
        --requirement /build/requirements.txt \
    && if [ -n "${TORCH_INDEX_CPU}" ]; then export PIP_INDEX_URL="${TORCH_INDEX_CPU}"; fi \
    && /build/venv/bin/pip --python /opt/interscan/bin/python install --no-compile "torch==${TORCH}" \
    && python3 /build/slim.py /opt/interscan app

FROM build AS preprocess-dependencies
ARG TORCH
ARG TORCH_INDEX_CPU
COPY deploy/requirements/preprocess.txt /build/requirements.txt
RUN --mount=type=cache,target=/root/.cache/pip \
    --mount=type=secret,id=pip,target=/etc/pip.conf \
    --mount=type=secret,id=ca,target=/build/ca.pem \
    /build/venv/bin/pip --python /opt/interscan/bin/python install --no-compile --no-deps --require-hashes \
        --requirement /build/requirements.txt \
    && if [ -n "${TORCH_INDEX_CPU}" ]; then export PIP_INDEX_URL="${TORCH_INDEX_CPU}"; fi \
    && /build/venv/bin/pip --python /opt/interscan/bin/python install --no-compile "torch==${TORCH}" \
    && python3 /build/slim.py /opt/interscan preprocess

FROM build AS trainer-dependencies
ARG TORCH
ARG TORCH_INDEX
COPY deploy/requirements/trainer.txt /build/requirements.txt
RUN --mount=type=cache,target=/root/.cache/pip \
    --mount=type=secret,id=pip,target=/etc/pip.conf \
    --mount=type=secret,id=ca,target=/build/ca.pem \
    /build/venv/bin/pip --python /opt/interscan/bin/python install --no-compile --no-deps --require-hashes \
        --requirement /build/requirements.txt \
    && if [ -n "${TORCH_INDEX}" ]; then export PIP_INDEX_URL="${TORCH_INDEX}"; fi \
    && /build/venv/bin/pip --python /opt/interscan/bin/python install --no-compile "torch==${TORCH}" \
    && python3 /build/slim.py /opt/interscan trainer

# The project's own files come last and lie in a folder of their own: a changed line copies a megabyte, not a gigabyte.
FROM build AS wheel
COPY pyproject.toml README.md LICENSE /build/source/
COPY preprocess /build/source/preprocess
COPY trainer /build/source/trainer
COPY app /build/source/app
COPY interscan /build/source/interscan
RUN --mount=type=secret,id=pip,target=/etc/pip.conf \
    /build/venv/bin/pip wheel --no-deps --no-build-isolation --wheel-dir /build/wheels /build/source \
    && /build/venv/bin/pip install --no-index --no-deps --no-compile --target /opt/package /build/wheels/*.whl \
    && python3 -m compileall -q --invalidation-mode unchecked-hash /opt/package

# What is installed is what is declared, in each image.
FROM app-dependencies AS app-checked
COPY --from=wheel /opt/package /opt/package
RUN /build/venv/bin/pip --python /opt/interscan/bin/python check
FROM preprocess-dependencies AS preprocess-checked
COPY --from=wheel /opt/package /opt/package
RUN /build/venv/bin/pip --python /opt/interscan/bin/python check
FROM trainer-dependencies AS trainer-checked
COPY --from=wheel /opt/package /opt/package
RUN /build/venv/bin/pip --python /opt/interscan/bin/python check

FROM base AS preprocess
ARG VERSION=0.1.0
ARG REVISION=unknown
LABEL org.opencontainers.image.title="interscan preprocess" \
      org.opencontainers.image.description="Raw scans to a Zarr store in a bucket" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}"
ENV INTERSCAN_REVISION=${REVISION}
COPY --from=preprocess-checked /opt/interscan /opt/interscan
COPY --from=preprocess-checked /opt/package /opt/package
USER 65532:65532
WORKDIR /tmp
ENTRYPOINT ["/opt/interscan/bin/python", "-m", "interscan"]
CMD ["--help"]

FROM base AS trainer
ARG VERSION=0.1.0
ARG REVISION=unknown
LABEL org.opencontainers.image.title="interscan trainer" \
      org.opencontainers.image.description="Trains, evaluates and exports from a store in a bucket" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}"
ENV INTERSCAN_REVISION=${REVISION}
COPY --from=trainer-checked /opt/interscan /opt/interscan
COPY --from=trainer-checked /opt/package /opt/package
USER 65532:65532
WORKDIR /tmp
ENTRYPOINT ["/opt/interscan/bin/python", "-m", "interscan"]
CMD ["--help"]

# Last, so that `docker build .` without a target makes the service.
FROM base AS app
ARG VERSION=0.1.0
ARG REVISION=unknown
LABEL org.opencontainers.image.title="interscan app" \
      org.opencontainers.image.description="Answers for scans and pairs of scans over REST" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}"
ENV INTERSCAN_REVISION=${REVISION} \
    INTERSCAN_HOST=0.0.0.0 \
    PORT=8000
COPY --from=app-checked /opt/interscan /opt/interscan
COPY --from=app-checked /opt/package /opt/package
USER 65532:65532
WORKDIR /tmp
EXPOSE 8000
HEALTHCHECK --interval=10s --timeout=5s --start-period=60s --retries=3 \
    CMD ["/opt/interscan/bin/python", "-m", "app.healthcheck"]
ENTRYPOINT ["/opt/interscan/bin/python", "-m", "interscan"]
CMD ["serve"]
