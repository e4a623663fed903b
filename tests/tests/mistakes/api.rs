//! Mistakes of those who call the API, and of those who secure it.

use super::{Ends, Mistake};

/// A server that asks for a token.
const GUARDED: &str = "ml-ids serve --token-file token";
const TOKEN: &str = "echo 0123456789abcdef0123456789abcdef > token; chmod 600 token";

pub(crate) const MISTAKES: &[Mistake] = &[
    Mistake {
        title: "A request without a token",
        did: "The server asks for a token and the client has sent none.",
        setup: TOKEN,
        beside: GUARDED,
        command: "curl -si http://127.0.0.1:8000/alerts | grep -v ^date",
        ends: Ends::With(0),
        means: "`curl -H \"Authorization: Bearer $(cat token)\" …`. Probes (`/health/live`, `/health/ready`) need none.",
        ..Mistake::USUAL
    },
    Mistake {
        title: "A request with the wrong token",
        did: "A token that the server's file does not hold; after a change, for example.",
        setup: TOKEN,
        beside: GUARDED,
        command: "curl -s -w '\\n%{http_code}\\n' -H 'Authorization: Bearer 0123' http://127.0.0.1:8000/alerts",
        ends: Ends::With(0),
        means: "The answer is the same as without one, so that nobody learns anything. The server reads its file again on \
                SIGHUP; `/health` counts refusals.",
        ..Mistake::USUAL
    },
    Mistake {
        title: "A token file that everyone may read",
        did: "The file has the permissions that files have by default.",
        setup: "echo 0123456789abcdef0123456789abcdef > token; chmod 644 token",
        command: "ml-ids serve --token-file token",
        ends: Ends::Never("open to every user"),
        means: "`chmod 600 token`, and give it to the user that the sensor runs as. If others have accounts here, make a new \
                token.",
        ..Mistake::USUAL
    },
    Mistake {
        title: "A token file without a token",
        did: "The file is empty, because the command that should have written it failed.",
        setup: ": > empty; chmod 600 empty",
        command: "ml-ids serve --token-file empty",
        ends: Ends::With(3),
        means: "One token a line; `openssl rand -hex 32 > token` makes one.",
        ..Mistake::USUAL
    },
    Mistake {
        title: "A certificate and the key of another",
        did: "After a renewal only one of the two files was changed.",
        setup: "for name in old new; do openssl req -x509 -nodes -days 2 -subj /CN=$name -newkey ec -pkeyopt \
                ec_paramgen_curve:P-256 -keyout $name.key -out $name.pem 2>/dev/null || exit 1; done; chmod 600 *.key",
        command: "ml-ids serve --tls-cert new.pem --tls-key old.key",
        ends: Ends::With(3),
        means: "The two belong together if `openssl pkey -pubout -in KEY` and `openssl x509 -pubkey -noout -in CERTIFICATE` \
                print the same.",
        ..Mistake::USUAL
    },
    Mistake {
        title: "A flow in the wrong content type",
        did: "`curl -d` without a header sends a form.",
        beside: "ml-ids serve",
        command: "curl -s -w '\\n%{http_code}\\n' -d '{\"Flow Duration\": 1}' http://127.0.0.1:8000/predict",
        ends: Ends::With(0),
        means: "Add `-H 'content-type: application/json'`, or `application/x-ndjson` for a flow a line.",
        ..Mistake::USUAL
    },
    Mistake {
        title: "A flow with NaN",
        did: "Python's `json.dumps` writes `NaN` for a number that is none, which is no JSON.",
        beside: "ml-ids serve",
        command: "curl -s -w '\\n%{http_code}\\n' -H 'content-type: application/json' -d '{\"Flow Bytes/s\": NaN}' \
                  http://127.0.0.1:8000/predict",
        ends: Ends::With(0),
        means: "Send 0, or leave the feature out, as the profile `fixed` does for a flow without duration; \
                `json.dumps(…, allow_nan=False)` finds such values before they are sent.",
        ..Mistake::USUAL
    },
    Mistake {
        title: "A row of 77 numbers",
        did: "A row that lacks a column; here the last one.",
        setup: "python3 -c 'print({\"features\": [0] * 77})' | tr \"'\" '\"' > row.json",
        beside: "ml-ids serve",
        command: "curl -s -w '\\n%{http_code}\\n' -H 'content-type: application/json' -d @row.json \
                  http://127.0.0.1:8000/predict",
        ends: Ends::With(0),
        means: "`GET /features` lists the 78 in their order. Objects with names are safer than rows: \
                `{\"Flow Duration\": 1, …}`.",
        ..Mistake::USUAL
    },
    Mistake {
        title: "A path that there is not",
        did: "The path of another version, or of another program.",
        beside: "ml-ids serve",
        command: "curl -s -w '\\n%{http_code}\\n' http://127.0.0.1:8000/api/v1/predict",
        ends: Ends::With(0),
        means: "`GET /openapi.json` lists all paths, `docs/API.md` explains them.",
        ..Mistake::USUAL
    },
    Mistake {
        title: "Alerts of a server that watches nothing",
        did: "`ml-ids serve` is asked what only a sensor knows.",
        beside: "ml-ids serve",
        command: "curl -s -w '\\n%{http_code}\\n' http://127.0.0.1:8000/alerts",
        ends: Ends::With(0),
        means: "`ml-ids run` is the sensor with the API; `ml-ids serve` is the API alone.",
        ..Mistake::USUAL
    },
];
