"""What an operator may set, and what is refused as unsafe."""

import pytest

from app.settings import is_loopback, make_settings
from preprocess.errors import UsageError

KEY = "0123456789abcdef"


def test_the_environment_is_read_with_commas_between_values(monkeypatch):
    monkeypatch.setenv("INTERSCAN_ARTEFACTS", "gs://models/a/1, gs://models/b/2")
    monkeypatch.setenv("INTERSCAN_API_KEYS", f"{KEY},{KEY}x")
    monkeypatch.setenv("INTERSCAN_MAX_UPLOAD_BYTES", "1000")

    settings = make_settings()

    assert settings.artefacts == ("gs://models/a/1", "gs://models/b/2")
    assert [key.get_secret_value() for key in settings.api_keys] == [KEY, f"{KEY}x"]
    assert settings.max_upload_bytes == 1000


def test_what_is_given_outranks_the_environment(monkeypatch):
    monkeypatch.setenv("INTERSCAN_PORT", "1234")

    assert make_settings(port=4321).port == 4321
    assert make_settings().port == 1234


def test_keys_do_not_show_when_settings_are_printed():
    assert KEY not in repr(make_settings(api_keys=(KEY,)))


def test_without_keys_only_loopback_may_be_bound():
    with pytest.raises(UsageError, match="no API key"):
        make_settings(host="0.0.0.0")
    assert make_settings(host="0.0.0.0", api_keys=(KEY,)).host == "0.0.0.0"
    assert make_settings(host="0.0.0.0", no_auth=True).no_auth
    assert make_settings(host="::1").host == "::1"


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"api_keys": ("short",)}, "api_keys: a key of 5 characters"),
        ({"allow_prefixes": ("https://host",)}, "allow_prefixes: prefix 'https://host'"),
        ({"port": 99999}, "port: .*65535"),
        ({"max_runing": 3}, "max_runing"),
    ],
)
def test_a_wrong_setting_is_one_line_that_names_it(given, message):
    with pytest.raises(UsageError, match=message) as caught:
        make_settings(**given)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("host", ["127.0.0.1", "127.8.9.1", "localhost", "::1", "[::1]"])
def test_loopback_is_known(host):
    assert is_loopback(host)


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "10.0.0.1", "localhost.evil.org", "127.0.0.1.evil.org", ""])
def test_other_addresses_are_not_loopback(host):
    assert not is_loopback(host)
