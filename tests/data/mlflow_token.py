"""Lets whoever brings the token of the environment into an MLflow server, as its administrator.

The `authorization_function` of MLflow's own basic-auth app is `mlflow_token:authenticate` then.
"""
import hmac
import os

from flask import Response, request
from werkzeug.datastructures import Authorization


def authenticate():
    expected = "Bearer " + os.environ["ML_IDS_TEST_TOKEN"]
    if hmac.compare_digest(request.headers.get("Authorization", ""), expected):
        return Authorization("bearer", {"username": os.environ["ML_IDS_TEST_USER"]})
    return Response("no token that is known", 401, {"WWW-Authenticate": "Bearer"})
