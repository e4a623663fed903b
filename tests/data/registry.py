"""Makes variants of a model file and registers model files at an MLflow server, as people do by hand.

variant MODEL OUT [--version V] [--profile P] [--rename SUFFIX]
    the same model with other words in its contract; --rename gives every attack class another name
register MODEL NAME ALIAS
    logs the file with MLflow's own onnx flavour, registers it, moves the alias; prints the version
alias NAME ALIAS VERSION
    moves the alias
"""

import argparse
import json
import sys


def variant(arguments):
    import onnx

    model = onnx.load(arguments.model)
    entries = {entry.key: entry for entry in model.metadata_props}
    if arguments.version:
        entries["ml_ids.version"].value = arguments.version
    if arguments.profile:
        entries["ml_ids.profile"].value = arguments.profile
    if arguments.rename:
        names = json.loads(entries["ml_ids.classes"].value)
        other = {name: name if name == "BENIGN" else name + arguments.rename for name in names}
        entries["ml_ids.classes"].value = json.dumps([other[name] for name in names])
        thresholds = json.loads(entries["ml_ids.thresholds"].value)
        entries["ml_ids.thresholds"].value = json.dumps({other[name]: value for name, value in thresholds.items()})
    onnx.save(model, arguments.out)


def register(arguments):
    import mlflow
    import onnx

    model = onnx.load(arguments.model)
    with mlflow.start_run():
        info = mlflow.onnx.log_model(model, name="model", pip_requirements=["onnxruntime"])
    made = mlflow.register_model(info.model_uri, arguments.name, await_registration_for=60)
    mlflow.MlflowClient().set_registered_model_alias(arguments.name, arguments.alias, made.version)
    print(made.version)


def alias(arguments):
    import mlflow

    mlflow.MlflowClient().set_registered_model_alias(arguments.name, arguments.alias, arguments.version)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    commands = parser.add_subparsers(required=True)
    command = commands.add_parser("variant")
    command.add_argument("model")
    command.add_argument("out")
    for flag in ("--version", "--profile", "--rename"):
        command.add_argument(flag)
    command.set_defaults(run=variant)
    command = commands.add_parser("register")
    for name in ("model", "name", "alias"):
        command.add_argument(name)
    command.set_defaults(run=register)
    command = commands.add_parser("alias")
    for name in ("name", "alias", "version"):
        command.add_argument(name)
    command.set_defaults(run=alias)
    arguments = parser.parse_args()
    arguments.run(arguments)
    return 0


sys.exit(main())
