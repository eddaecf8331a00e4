import base64

from llmgateway.keys.hashing import hash_of, is_ours, new_key, prefix_of, same


def test_a_key_has_256_random_bits_after_its_mark() -> None:
    keys = {new_key() for _ in range(200)}

    assert len(keys) == 200
    for key in keys:
        assert key.startswith("lgw_")
        assert len(base64.urlsafe_b64decode(key.removeprefix("lgw_") + "=")) == 32
        assert is_ours(key.encode())


def test_what_is_kept_of_a_key_does_not_tell_it() -> None:
    key = "lgw_" + "a" * 43

    assert hash_of(key) == hash_of(key.encode())
    assert hash_of("abc") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"  # FIPS 180-4
    assert prefix_of(key) == "lgw_aaaaaaaa"


def test_hashes_are_the_same_or_not() -> None:
    assert same(hash_of("a"), hash_of(b"a"))
    assert not same(hash_of("a"), hash_of("b"))
    assert not same(hash_of("a"), "")


def test_nothing_else_has_the_shape_of_our_keys() -> None:
    good = new_key().encode()

    for wrong in (
        b"",
        b"lgw_",
        good[:-1],
        good + b"x",
        good[:-1] + b"=",
        b"LGW_" + good[4:],
        b"sk-" + good,
        good + b"\n",
    ):
        assert not is_ours(wrong), wrong
