"""The Dockerfile of a build: slim, without a compiler, not root, its data in a volume."""

from __future__ import annotations

import json
from collections.abc import Sequence

_PROBE = (
    "import http.client, os; c = http.client.HTTPConnection('127.0.0.1', int(os.environ['PORT']), timeout=3);"
    " c.request('HEAD', '/'); raise SystemExit(c.getresponse().status >= 500)"
)


def dockerfile(python: str, start: Sequence[str], *, wheels: bool) -> str:
    """Return the text; `python` is the minor version to run, `start` the command."""
    copied = "COPY wheels ./wheels\n" if wheels else ""
    return f"""\
# Written by flue build. Build the image in this folder: docker build -t my-agents .
FROM python:{python}-slim

RUN useradd --uid 10001 --create-home flue && install -d -o flue -g flue /data
WORKDIR /srv/flue

COPY requirements.txt ./
{copied}RUN pip install --no-cache-dir --root-user-action=ignore --require-hashes -r requirements.txt
COPY app ./app

# Conversations and work. FLUE_DATABASE_URL=postgresql://... keeps them in a database instead.
ENV PORT=3000 FLUE_DATABASE_URL=sqlite:////data/flue.db PYTHONUNBUFFERED=1
VOLUME /data
EXPOSE 3000
USER 10001
HEALTHCHECK --interval=30s --timeout=5s --start-period=30s CMD {json.dumps(["python", "-c", _PROBE])}
CMD {json.dumps(list(start))}
"""
