# docker build -t @NAME@ .
FROM debian:12
RUN apt-get update \
    && apt-get install -y --no-install-recommends ca-certificates iproute2 python3.11 python3.11-venv \
    && rm -rf /var/lib/apt/lists/*
COPY . /tmp/splitfl-image
ARG TORCH_INDEX=
RUN sh /tmp/splitfl-image/install.sh && rm -rf /tmp/splitfl-image
ENV PATH=/opt/splitfl/bin:$PATH
CMD ["splitfl", "--help"]
