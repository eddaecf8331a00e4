import json

from hypothesis import given
from hypothesis import strategies as st

from llmgateway.wire.codec import TopFields
from llmgateway.wire.rewrite import rewrite

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=10,
)


@given(st.dictionaries(st.text(), JSON, max_size=6), st.booleans())
def test_nothing_but_the_model_changes(fields: dict[str, object], ascii_only: bool) -> None:
    body = json.dumps(fields | {"model": "alias"}, ensure_ascii=ascii_only).encode(errors="surrogatepass")
    try:
        body.decode()
    except UnicodeDecodeError:
        return

    assert json.loads(rewrite(body, "real", {})) == fields | {"model": "real"}


def test_pitfall_040_values_stay_byte_for_byte() -> None:
    messages = b'[ {"role" : "user",\n "content":"caf\\u00e9 \xc3\xa9", "n": 1.0e2} ]'
    body = b'{"messages": ' + messages + b', "model": "a"}'

    assert messages in rewrite(body, "b", {})
    assert rewrite(body, "b", {}) == rewrite(body, "b", {})


def test_a_name_given_twice_goes_out_once() -> None:
    assert rewrite(b'{"model":"a","n":1,"model":"b","n":2}', "c", {}) == b'{"model":"c","n":2}'


def test_defaults_fill_only_what_the_client_left_out() -> None:
    body = rewrite(b'{"model":"a","temperature":null}', "a", {"temperature": 0.2, "top_p": 0.9})

    assert json.loads(body) == {"model": "a", "temperature": None, "top_p": 0.9}


def test_usage_is_asked_for_beside_other_stream_options() -> None:
    plain = rewrite(b'{"model":"a","stream":true}', "a", {}, ask_usage=True)
    null = rewrite(b'{"model":"a","stream_options":null}', "a", {}, ask_usage=True)
    other = rewrite(b'{"model":"a","stream_options":{"include_obfuscation":false}}', "a", {}, ask_usage=True)

    assert json.loads(plain)["stream_options"] == {"include_usage": True}
    assert json.loads(null)["stream_options"] == {"include_usage": True}
    assert json.loads(other)["stream_options"] == {"include_obfuscation": False, "include_usage": True}


def test_a_field_goes_out_by_the_providers_name() -> None:
    names = {"seed": "random_seed", "max_completion_tokens": "max_tokens"}

    assert json.loads(rewrite(b'{"seed":1}', "m", {}, renames=names)) == {"random_seed": 1, "model": "m"}
    both = rewrite(b'{"max_completion_tokens":1,"max_tokens":2}', "m", {}, renames=names)
    assert json.loads(both) == {"max_tokens": 2, "model": "m"}


def test_stream_options_are_left_out_where_they_are_refused() -> None:
    body = rewrite(b'{"stream_options":{"include_usage":true}}', "m", {}, ask_usage=True, drop_stream_options=True)

    assert json.loads(body) == {"model": "m"}


def test_fields_that_are_known_are_rewritten_alike_and_stay_known() -> None:
    body, known = b'{"model":"a","stream_options":null,"seed":1}', TopFields()

    for model in ("b", "c"):
        again = rewrite(body, model, {"n": 2}, known=known, renames={"seed": "its"}, ask_usage=True)
        assert again == rewrite(body, model, {"n": 2}, renames={"seed": "its"}, ask_usage=True)
    # Redacted since, for instance.
    assert json.loads(rewrite(b'{"model":"a","n":3}', "b", {}, known=known)) == {"model": "b", "n": 3}
