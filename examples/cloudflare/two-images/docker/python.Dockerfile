FROM docker.io/cloudflare/sandbox:0.12.10
RUN apt-get update \
    && apt-get install -y --no-install-recommends python3 python3-pandas \
    && rm -rf /var/lib/apt/lists/*
