"""What an operator may set, and what is refused as unsafe."""

import pytest

from app.settings import OWN_PATHS, is_loopback, make_settings
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


@pytest.mark.parametrize(
    ("given", "kept"), [("", ""), ("/", ""), ("/scan", "/scan"), ("/scan/", "/scan"), ("/a/b-2.x", "/a/b-2.x")]
)
def test_a_prefix_is_kept_without_its_last_slash(given, kept):
    assert make_settings(root_path=given).root_path == kept


@pytest.mark.parametrize(
    "given", ["scan", "https://host/scan", "/a//b", "/../a", "/a b", "/a?b", "/a%2fb", "//host", "/a\nb"]
)
def test_what_is_no_prefix_is_refused(given):
    with pytest.raises(UsageError, match=r"root_path: .* is no path prefix; write it as the proxy publishes it"):
        make_settings(root_path=given)


@pytest.mark.parametrize("given", ["/v1", "/docs/x", "/livez"])
def test_a_prefix_that_is_a_path_of_the_service_is_refused(given):
    with pytest.raises(UsageError, match="is a path of the service itself; publish it under another prefix"):
        make_settings(root_path=given)


def test_own_paths_are_those_of_the_application():
    from app.main import create_app

    app = create_app(make_settings())
    firsts = {path.split("/")[1] for path in app.openapi()["paths"]}
    # Those of the page are not in the OpenAPI text.
    assert firsts | {"docs", "redoc", "openapi.json", "static"} == OWN_PATHS


def test_proxies_are_believed_by_address(monkeypatch):
    assert make_settings().forwarded_allow_ips == ("127.0.0.1", "::1")
    monkeypatch.setenv("INTERSCAN_FORWARDED_ALLOW_IPS", "10.0.0.1, 10.0.0.2")
    monkeypatch.setenv("INTERSCAN_ROOT_PATH", "/scan")
    settings = make_settings()
    assert (settings.forwarded_allow_ips, settings.root_path) == (("10.0.0.1", "10.0.0.2"), "/scan")
