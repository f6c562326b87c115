# The program in a container: CPU by default, GPUs with --build-arg TORCH=cu126.
#
#     docker build --tag simclr-rhd .
#     mkdir -p models cache
#     docker run --rm --stop-timeout 60 --user "$(id -u):$(id -g)" --volume "$PWD/models:/runs/models" \
#         --volume "$PWD/cache:/runs/.cache" simclr-rhd --data demo
ARG PYTHON=3.12
FROM python:${PYTHON}-slim

# Which build of PyTorch: cpu, or one for a version of CUDA (cu126)
ARG TORCH=cpu
ENV PYTHONUNBUFFERED=1 MPLBACKEND=Agg XDG_CACHE_HOME=/runs/.cache HOME=/runs

WORKDIR /opt/simclr-rhd
# first what seldom changes, so that a new version of the program is built in seconds
COPY requirements.txt ./
RUN grep "^torch" requirements.txt > torch.txt \
    && pip install --no-cache-dir --index-url "https://download.pytorch.org/whl/${TORCH}" --requirement torch.txt \
    && pip install --no-cache-dir --requirement requirements.txt
COPY pyproject.toml README.md LICENSE ./
COPY simclr_rhd simclr_rhd
# hadolint ignore=DL3013
RUN pip install --no-cache-dir ".[media,export]"

# any user may write here: --user changes it to the one who owns the mounted folders
RUN useradd --uid 10001 --no-create-home --shell /usr/sbin/nologin simclr \
    && install --directory --mode 1777 /runs /runs/models /runs/.cache
WORKDIR /runs
USER 10001

ENTRYPOINT ["simclr-rhd"]
CMD ["--help"]
