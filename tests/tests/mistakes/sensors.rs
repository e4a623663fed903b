//! Mistakes of those who start a sensor.

use super::{Ends, Mistake};

pub(crate) const MISTAKES: &[Mistake] = &[
    Mistake {
        title: "An interface that is not there",
        did: "A sensor for an interface whose name is misspelt.",
        command: "ml-ids run -i eth9",
        ends: Ends::With(2),
        means: "The names after `there are:` are those of this host (or container). Take one of them; for an interface that \
                comes later, a VPN for example, add `--wait-for-interface`.",
        ..Mistake::USUAL
    },
    Mistake {
        title: "An interface that is down",
        did: "A sensor for an interface that nobody has brought up.",
        setup: "ip link add idle0 type veth peer name idle1",
        beside: "ml-ids run -i idle0 --no-alert-db",
        command: "curl -s http://127.0.0.1:8000/health | jq -c '[.status, .reasons]'",
        ends: Ends::With(0),
        means: "The sensor runs, is degraded, and sees nothing until the interface is up: `ip link set dev idle0 up`.",
        ..Mistake::USUAL
    },
    Mistake {
        title: "No privileges",
        did: "A sensor started by an ordinary user.",
        command: "setpriv --reuid=65534 --regid=65534 --clear-groups ml-ids run -i srv0 --log-dir /tmp",
        means: "Watching needs the three capabilities, or root (in a container: `--cap-add`, see `deploy/`). `ml-ids serve`, \
                `extract` and `score` need none.",
        ..Mistake::USUAL
    },
    Mistake {
        title: "The port is taken",
        did: "A second server on the same address.",
        beside: "ml-ids serve",
        command: "ml-ids serve --listen 127.0.0.1:8000",
        means: "`ss -ltnp 'sport = :8000'` says who listens there. It may be another sensor: then give this one another \
                port.",
        ..Mistake::USUAL
    },
    Mistake {
        title: "An API that anyone may use",
        did: "Listening on all addresses, without tokens.",
        command: "ml-ids serve --listen 0.0.0.0:8000",
        ends: Ends::With(2),
        means: "Make a token with `openssl rand -hex 32 > token; chmod 600 token`, and name the file with `--token-file`.",
        ..Mistake::USUAL
    },
    Mistake {
        title: "Two sensors on one interface",
        did: "A second sensor for an interface that is watched already.",
        beside: "ml-ids run -i srv0 --no-alert-db",
        command: "ml-ids run -i srv0 --listen 127.0.0.1:8001",
        means: "There is room for one XDP program on an interface. `ip link show dev srv0` shows it; `ml-ids unpin` removes \
                what a sensor with `--pin` has left behind.",
        ..Mistake::USUAL
    },
    Mistake {
        title: "Pinning without a BPF file system",
        did: "`--pin` in a directory that is on an ordinary file system.",
        setup: "mkdir -p pins",
        command: "ml-ids run -i srv0 --pin --pin-dir /srv/ids/pins",
        means: "Programs can be pinned on a BPF file system only. Most hosts have one at `/sys/fs/bpf`, which is the default; \
                containers have to be given theirs.",
        ..Mistake::USUAL
    },
    Mistake {
        title: "Logs that cannot be written",
        did: "`--log-dir` names a directory that the sensor may not write to; here it has its capabilities and nothing else.",
        setup: "mkdir -p -m 755 rootlogs",
        command: "setpriv --reuid=65534 --regid=65534 --clear-groups --inh-caps=+bpf,+net_admin,+perfmon \
                  --ambient-caps=+bpf,+net_admin,+perfmon ml-ids run -i srv0 --log-dir rootlogs",
        means: "Give the directory to the user that the sensor runs as (`chown`), or name another one. \
                The packaged unit makes `/var/log/ml-ids` by itself.",
        ..Mistake::USUAL
    },
    Mistake {
        title: "Two sensors with one database",
        did: "A second sensor with the state directory of the first, so that both would write to one `alerts.db`.",
        beside: "ml-ids run -i srv0 --state-dir state",
        command: "ml-ids run -i lo --state-dir state --listen 127.0.0.1:8001 --log-dir logs2",
        ends: Ends::Never("another sensor uses it"),
        means: "The second one watches and tells its alerts, and keeps them in memory only. Give it a `--state-dir` of its \
                own.",
        ..Mistake::USUAL
    },
    Mistake {
        title: "A damaged database",
        did: "`alerts.db` is no database any more, after a disk error for example.",
        setup: "mkdir -p state; head -c 8192 /dev/zero | tr '\\0' x > state/alerts.db; chown -R nobody state",
        command: "ml-ids run -i srv0 --state-dir state",
        ends: Ends::Never("another one begun"),
        means: "Nothing is to be done. What can be saved of the old file, `sqlite3 FILE .recover` prints.",
        ..Mistake::USUAL
    },
    Mistake {
        title: "Asking for blocks where nothing blocks",
        did: "`ml-ids block` beside a sensor that was started without `--block`, or by another user than root.",
        command: "ml-ids block list",
        means: "Start the sensor with `--block`, or with `--block-dry-run` to see first what it would block.",
        ..Mistake::USUAL
    },
    Mistake {
        title: "Blocking on a mirror port",
        did: "`--block` on an interface that gets copies of packets.",
        setup: "mkdir -p bpffs",
        command: "ml-ids run -i srv0 --attach mirror --block --bpffs bpffs --no-alert-db",
        ends: Ends::Never("is taken for a copy"),
        means: "Dropping a copy keeps nobody out. Block on the router or the host itself, and watch it with `--attach host`.",
        ..Mistake::USUAL
    },
    Mistake {
        title: "Mistakes in the configuration file",
        did: "An option whose name is misspelt, a value in the wrong unit, and a sink whose address is of no kind that there is.",
        setup: "printf '[run]\\nlog-dirr = \"/var/log/ids\"\\nlog-rotate-age = \"3 parsecs\"\\n\
                sink = [\"syslog://10.0.0.9\"]\\n' > ids.toml",
        command: "ml-ids config check ids.toml",
        ends: Ends::With(2),
        means: "Each is named with its line, all at once. `ml-ids config example` prints all options as they are written.",
        ..Mistake::USUAL
    },
    Mistake {
        title: "A misspelt option",
        did: "An option that there is not.",
        command: "ml-ids run --interfaces eth0",
        ends: Ends::With(2),
        means: "`ml-ids run --help` lists all options, `ml-ids run -h` in short.",
        ..Mistake::USUAL
    },
];
