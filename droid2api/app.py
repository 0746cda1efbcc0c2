"""The name that gunicorn commands of 0.1 use: `gunicorn droid2api.app:create_app`."""

from droid2api.application import create_app as create_app
