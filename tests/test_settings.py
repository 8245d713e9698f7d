import pytest

from tasks.core.errors import SettingsError
from tasks.core.settings import Settings

GOOD = {
    "AZURE_OPENAI_ENDPOINT": "https://name.openai.azure.com/",
    "AZURE_OPENAI_DEPLOYMENT": "gpt-4o-mini",
    "AZURE_OPENAI_API_KEY": "very-secret",
}


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (*GOOD, "OPENAI_API_VERSION", "AZURE_OPENAI_MODEL"):
        monkeypatch.delenv(name, raising=False)
    for name, value in GOOD.items():
        monkeypatch.setenv(name, value)


def test_a_complete_environment_is_read_and_the_model_defaults_to_the_deployments_name() -> None:
    settings = Settings.from_environment()
    assert settings.azure_openai_endpoint == "https://name.openai.azure.com"
    assert settings.model_name == "gpt-4o-mini"
    assert "very-secret" not in repr(settings)


def test_a_blank_key_means_entra_id(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AZURE_OPENAI_API_KEY", "")
    assert Settings.from_environment().azure_openai_api_key is None


@pytest.mark.parametrize("name", ["AZURE_OPENAI_ENDPOINT", "AZURE_OPENAI_DEPLOYMENT"])
def test_a_missing_variable_is_named(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.delenv(name)
    with pytest.raises(SettingsError, match=f"^{name} is not set"):
        Settings.from_environment()


@pytest.mark.parametrize(
    ("name", "value", "why"),
    [
        ("AZURE_OPENAI_ENDPOINT", "http://name.openai.azure.com", "must start with https"),
        ("AZURE_OPENAI_ENDPOINT", "ftp://127.0.0.1", "must start with https"),
        ("AZURE_OPENAI_ENDPOINT", "https://user:pass@name.openai.azure.com", "user or password"),
        ("AZURE_OPENAI_ENDPOINT", "https://", "must be a URL"),
        ("AZURE_OPENAI_ENDPOINT", "name.openai.azure.com", "must be a URL"),
        ("AZURE_OPENAI_ENDPOINT", "https://[::1", "must be a URL"),
        ("AZURE_OPENAI_ENDPOINT", "https://name.openai.azure.com/?key=1", "query"),
        ("AZURE_OPENAI_ENDPOINT", "http://127.0.0.1.evil.example", "must start with https"),
        ("AZURE_OPENAI_ENDPOINT", "https://name.openai.azure.com:abc", "must be a URL"),
        ("AZURE_OPENAI_API_KEY", "cl\N{LATIN SMALL LETTER E WITH ACUTE}", "copy the key again"),
        ("AZURE_OPENAI_API_KEY", "a\nb", "copy the key again"),
        ("AZURE_OPENAI_DEPLOYMENT", "..", "1 to 64 letters"),
        ("AZURE_OPENAI_DEPLOYMENT", "a/b", "1 to 64 letters"),
        ("AZURE_OPENAI_DEPLOYMENT", "a\nb", "1 to 64 letters"),
        ("AZURE_OPENAI_DEPLOYMENT", "x" * 65, "1 to 64 letters"),
        ("OPENAI_API_VERSION", "yesterday", "must look like"),
    ],
)
def test_a_wrong_variable_is_one_sentence_with_its_name_and_without_its_value(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str, why: str
) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(SettingsError, match=why) as caught:
        Settings.from_environment()
    assert str(caught.value).startswith(f"{name} ")
    assert "pass@" not in str(caught.value)


@pytest.mark.parametrize("host", ["127.0.0.1:8801", "localhost:1", "[::1]:8801"])
def test_plain_http_is_for_loopback(monkeypatch: pytest.MonkeyPatch, host: str) -> None:
    monkeypatch.setenv("AZURE_OPENAI_ENDPOINT", f"http://{host}")
    assert Settings.from_environment().azure_openai_endpoint == f"http://{host}"
