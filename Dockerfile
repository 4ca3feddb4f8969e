# The sidecar (the default target) and the property service to try it with (--target stub).

FROM python:3.13-slim AS build
WORKDIR /src
RUN python -m venv --without-pip /opt/tidegate
COPY requirements-runtime.lock ./
RUN pip --python /opt/tidegate/bin/python install --no-cache-dir --no-compile --require-hashes -r requirements-runtime.lock
COPY pyproject.toml README.md ./
COPY proxy proxy
COPY upstream_stub upstream_stub
# the bytecode is never checked against its source: nothing is written at run time, the root file system may be read-only
RUN pip --python /opt/tidegate/bin/python install --no-cache-dir --no-compile --no-deps . \
    && python -m compileall -q --invalidation-mode unchecked-hash /opt/tidegate

FROM build AS build-stub
COPY requirements-stub.lock ./
RUN pip --python /opt/tidegate/bin/python install --no-cache-dir --no-compile --require-hashes -r requirements-stub.lock \
    && python -m compileall -q --invalidation-mode unchecked-hash /opt/tidegate

FROM python:3.13-slim AS runtime
ENV PATH=/opt/tidegate/bin:$PATH \
    PYTHONUNBUFFERED=1
USER 10001:10001
STOPSIGNAL SIGTERM

FROM runtime AS stub
COPY --from=build-stub /opt/tidegate /opt/tidegate
WORKDIR /tmp
ENV STUB_DATABASE_URL=sqlite+aiosqlite:////tmp/properties.db
EXPOSE 3000
ENTRYPOINT ["python", "-m", "upstream_stub"]
CMD ["--host", "0.0.0.0"]

FROM runtime AS tidegate
LABEL org.opencontainers.image.title="tidegate" \
      org.opencontainers.image.description="A sidecar reverse proxy that enforces resilience on one HTTP API, route by route, from one file."
COPY --from=build /opt/tidegate /opt/tidegate
WORKDIR /etc/tidegate
COPY policies.yaml ./
EXPOSE 8080 9902
HEALTHCHECK --interval=10s --timeout=3s --start-period=5s --retries=3 \
    CMD ["python", "-I", "-c", "import http.client as h, sys; c = h.HTTPConnection('127.0.0.1', 9902, timeout=2); c.request('GET', '/healthz'); sys.exit(c.getresponse().status != 200)"]
ENTRYPOINT ["tidegate"]
CMD ["serve", "--policies", "/etc/tidegate/policies.yaml"]
