//! Mistakes with models.

use super::{Ends, Mistake, Needs};

pub(crate) const MISTAKES: &[Mistake] = &[
    Mistake {
        title: "A model file that is not there",
        did: "A model is named that does not exist, or not where the command is run.",
        command: "ml-ids model check forest.onnx",
        ends: Ends::With(3),
        means: "Paths are taken from the current directory; services have another one, so give them whole paths.",
        ..Mistake::USUAL
    },
    Mistake {
        title: "A file that is no model",
        did: "A file is named as a model that is something else, here a pickle of scikit-learn.",
        setup: "printf '\\x80\\x04\\x95scikit-learn' > forest.pkl; cp forest.pkl forest-pickled.onnx",
        command: "ml-ids model check forest-pickled.onnx",
        ends: Ends::With(3),
        means: "Export the model to ONNX with the training package (`training/README.md`), which writes the contract, too.",
        ..Mistake::USUAL
    },
    Mistake {
        title: "A model of another contract",
        did: "A model that keeps another contract than this version of the program knows.",
        command: "ml-ids model check renamed.onnx",
        ends: Ends::With(3),
        means: "Export it again with the training package that belongs to this version.",
        ..Mistake::USUAL
    },
    Mistake {
        title: "A model of another profile",
        did: "A model that was trained on features of another definition than is wanted.",
        command: "ml-ids model check embedded --profile cic2017",
        ends: Ends::With(3),
        means: "Flows are counted by the profile of the model. Take the model of the wanted profile, or extract the flows of \
                this one: `ml-ids extract --profile`.",
        ..Mistake::USUAL
    },
    Mistake {
        title: "A model whose checksum is another",
        did: "`--model-sha256` pins a model, and the file is not that one.",
        setup: "",
        command: "ml-ids model check renamed.onnx --model-sha256 \
                  0000000000000000000000000000000000000000000000000000000000000000",
        ends: Ends::With(3),
        means: "If the model was changed on purpose, `ml-ids model inspect` prints the new checksum; if not, do not use it.",
        ..Mistake::USUAL
    },
    Mistake {
        title: "No MLflow server is named",
        did: "A registered model without the address of the registry.",
        command: "ml-ids model check mlflow:ids@production",
        ends: Ends::With(3),
        means: "Services do not have the variables of your shell: put `MLFLOW_TRACKING_URI` into the unit's environment.",
        ..Mistake::USUAL
    },
    Mistake {
        title: "MLflow cannot be reached",
        did: "The server is down, or the port is wrong.",
        command: "ml-ids model check mlflow:ids@production --mlflow-tracking-uri http://127.0.0.1:5999",
        ends: Ends::With(3),
        means: "Try `curl http://127.0.0.1:5999/health`. A sensor that has had the model before starts with what its cache \
                holds, and says so in `/health`.",
        ..Mistake::USUAL
    },
    Mistake {
        title: "An alias that the registry does not know",
        did: "The model is there, the alias is not.",
        needs: Needs::Registry,
        command: "ml-ids model check mlflow:ids@staging --mlflow-tracking-uri http://127.0.0.1:5000",
        ends: Ends::With(3),
        means: "Set the alias in MLflow's page, or name a version: `mlflow:ids/1`, or the newest one: `mlflow:ids`.",
        ..Mistake::USUAL
    },
    Mistake {
        title: "S3 with the wrong key",
        did: "The secret does not belong to the key.",
        needs: Needs::Registry,
        command: "AWS_ACCESS_KEY_ID=AKIDEXAMPLE AWS_SECRET_ACCESS_KEY=mistyped \\\n    ml-ids model check \
                  s3://models/ids.onnx --s3-endpoint http://127.0.0.1:9000",
        ends: Ends::With(3),
        means: "`SignatureDoesNotMatch` means that the key is known and the secret is another one; a clock that is wrong by \
                more than 15 minutes gives `RequestTimeTooSkewed`.",
        ..Mistake::USUAL
    },
];
