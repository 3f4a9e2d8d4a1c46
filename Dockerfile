# Touchstone: one image for web, workers and commands.
#   docker build -t touchstone .
# TORCH_INDEX names the index that torch comes from: the one for CPU builds makes a small image, one for CUDA builds
# an image for GPU workers, none takes what the default index serves (README, "Choosing a torch").
#   docker build --build-arg TORCH_INDEX=URL -t touchstone .
ARG PYTHON=3.11

FROM python:${PYTHON}-slim-bookworm AS build
ARG TORCH_INDEX=
WORKDIR /build
RUN python -m venv /venv
ENV PATH=/venv/bin:$PATH PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
COPY requirements.txt .
RUN grep '^torch==' requirements.txt > torch.txt \
 && pip install ${TORCH_INDEX:+--index-url "$TORCH_INDEX"} -r torch.txt \
 && pip install -r requirements.txt

FROM python:${PYTHON}-slim-bookworm
RUN groupadd --gid 10001 touchstone \
 && useradd --uid 10001 --gid 10001 --no-create-home --home-dir /nonexistent touchstone \
 && mkdir /data && chown touchstone:touchstone /data
COPY --from=build /venv /venv
WORKDIR /app
COPY . .
# Models of a hub are kept on the volume: this user has no home.
ENV PATH=/venv/bin:$PATH PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 \
    TOUCHSTONE_DATA=/data PRODUCTION=1 HF_HOME=/data/hub HF_HUB_OFFLINE=1
RUN SECRET_KEY=only-for-collecting-static-files TOUCHSTONE_DATA=/tmp/build python manage.py collectstatic --noinput \
 && rm -rf /tmp/build
USER 10001:10001
VOLUME /data
EXPOSE 8000
HEALTHCHECK --interval=15s --timeout=10s --start-period=30s CMD ["python", "-c", "from urllib.request import urlopen; urlopen('http://127.0.0.1:8000/health/', timeout=5)"]
CMD ["python", "manage.py", "serve", "--bind", "0.0.0.0:8000", "--workers", "2", "--threads", "8"]
