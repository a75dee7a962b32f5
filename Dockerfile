# SlimTrack's processes and commands, as one image: `docker run slimtrack COMMAND`.
FROM python:3.11-slim AS build
# The version of scripts/setup.
RUN pip install --no-cache-dir --disable-pip-version-check --root-user-action=ignore uv==0.13.9
ENV UV_COMPILE_BYTECODE=1 UV_LINK_MODE=copy UV_NO_CACHE=1 UV_PYTHON_DOWNLOADS=never \
    UV_PROJECT_ENVIRONMENT=/opt/slimtrack
WORKDIR /build
# The packages change less often than the code, and are a layer of their own.
COPY pyproject.toml uv.lock ./
RUN uv sync --frozen --no-dev --extra traces --no-install-project
COPY README.md LICENSE ./
COPY slimtrack slimtrack
RUN uv sync --frozen --no-dev --extra traces --no-editable

FROM python:3.11-slim
RUN useradd --uid 10001 --user-group --no-create-home --home-dir /srv/slimtrack \
    --shell /usr/sbin/nologin slimtrack
# The base has the standard library without its bytecode, and whoever may write nothing would make
# it anew at each start, and at each health check.
RUN python -m compileall -q -x '/(ensurepip|idlelib|lib2to3|site-packages|tkinter|turtledemo)/' \
    "$(python -c 'import sysconfig; print(sysconfig.get_path("stdlib"))')"
COPY --from=build /opt/slimtrack /opt/slimtrack
ENV PATH=/opt/slimtrack/bin:$PATH HOME=/srv/slimtrack
# Modules that SLIMTRACK_STAGE_WORK names are found here.
WORKDIR /srv/slimtrack
USER 10001:10001
ENV SLIMTRACK_API_BIND=0.0.0.0:8080
EXPOSE 8080
# That of the API; publisher and workers beat instead: see docker-compose.yml.
HEALTHCHECK --interval=5s --timeout=5s --start-period=30s \
    CMD ["python", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:8080/health/ready', timeout=4)"]
ENTRYPOINT ["slimtrack"]
CMD ["api"]
