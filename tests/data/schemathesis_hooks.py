"""What schemathesis cannot know of the API: how lines are sent, and that all names of features are alike."""

import json

import schemathesis

# One name in all dialects, one in a single dialect, times, and the repeated column.
NAMES = ["Flow Duration", "flow_duration", "Tot Fwd Pkts", "tot_fwd_pkts", "flow_iat_max", "Fwd Header Length.1"]


@schemathesis.serializer("application/x-ndjson")
def lines(context, value):
    """A string as it is; what is not one becomes one line."""
    if isinstance(value, bytes):
        return value
    return (value if isinstance(value, str) else json.dumps(value)).encode("utf-8", "surrogatepass")


@schemathesis.hook
def before_load_schema(context, raw_schema):
    """Each of three hundred names has the same schema; some stand for all."""
    schemas = raw_schema["components"]["schemas"]
    properties = schemas["Values"]["properties"]
    schemas["Values"]["properties"] = {name: properties[name] for name in NAMES}
    schemas["Named"]["anyOf"] = [{"required": [name]} for name in NAMES]
    # The document can only say that lines are a string; here each of them is checked.
    line = [{"$ref": "#/components/schemas/Verdict"}, {"$ref": "#/components/schemas/Error"}]
    schemas["VerdictLines"] = {"type": "array", "items": {"anyOf": line}, "minItems": 1}


@schemathesis.hook
def filter_case(context, case):
    """A strict request is refused for what it does not have, which its schema allows. Lines are text: what is not a
    string cannot be sent as one."""
    is_positive = case.meta.generation.mode.is_positive
    if is_positive and (case.query or {}).get("strict") in ("1", "true"):
        return False
    return case.media_type != "application/x-ndjson" or isinstance(case.body, str)


@schemathesis.deserializer("application/x-ndjson")
def answered_lines(context, response):
    """Each line is JSON."""
    return [json.loads(line) for line in response.text.splitlines()]


@schemathesis.deserializer("application/openmetrics-text", "text/html")
def text(context, response):
    """A string, as the document says."""
    return response.text
