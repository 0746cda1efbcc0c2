"""Several workers as one: gunicorn -c deploy/gunicorn.conf.py -w 4 droid2api.application:create_app

What stands on the command line wins over what stands here. With prometheus-client /metrics tells of all workers
together: each writes its counts into files of one folder, a new one for each start unless PROMETHEUS_MULTIPROC_DIR
names it.
"""

import os
import shutil
import tempfile
from importlib.util import find_spec
from typing import Any

FOLDER = "PROMETHEUS_MULTIPROC_DIR"
MADE_HERE = f"droid2api-metrics-{os.getpid()}-"

bind = "127.0.0.1:3000"
worker_class = "aiohttp.GunicornUVLoopWebWorker" if find_spec("uvloop") else "aiohttp.GunicornWebWorker"
timeout = 60  # longer than a refresh of the token
graceful_timeout = 40  # longer than timeouts.drain of config.json


def on_starting(server: object) -> None:
    if find_spec("prometheus_client") and FOLDER not in os.environ:
        os.environ[FOLDER] = tempfile.mkdtemp(prefix=MADE_HERE)


def child_exit(server: object, worker: Any) -> None:
    """What a worker has counted stays in the sums; what it had open ends with it."""
    if FOLDER in os.environ and find_spec("prometheus_client"):
        from prometheus_client.multiprocess import mark_process_dead

        mark_process_dead(worker.pid)


def on_exit(server: object) -> None:
    folder = os.environ.get(FOLDER, "")
    if os.path.basename(folder).startswith(MADE_HERE):
        shutil.rmtree(folder, ignore_errors=True)
