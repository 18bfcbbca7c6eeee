"""No phone number and no secret is readable in a log; ids and measures stay whole."""

from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from telephony_gateway.telemetry.masking import mask_event, mask_phone, mask_text, mask_value


@pytest.mark.parametrize(
    ("number", "masked"),
    [
        ("+74951234567", "+7********67"),
        ("+12025550123", "+1********23"),
        ("+442071838750", "+44********50"),
        ("+380441234567", "+380*******67"),
        ("74951234567", "7********67"),
        ("4951234567", "********67"),
        ("+7 (495) 123-45-67", "+7********67"),
    ],
)
def test_a_phone_number_keeps_its_country_and_two_digits(number: str, masked: str) -> None:
    assert mask_phone(number) == masked


@pytest.mark.parametrize(
    ("text", "masked"),
    [
        ("call from +74951234567 refused", "call from +7********67 refused"),
        ("<sip:+74951234567@10.0.0.1:5060>;tag=1", "<sip:+7********67@10.0.0.1:5060>;tag=1"),
        ("sip:84951234567@host", "sip:84*******67@host"),
        ("tel 8 800 and 4951234567.", "tel 8 800 and ********67."),
        ("sip:8-495-123-45-67@host", "sip:84*******67@host"),
        ("+7 (495) 123-45-67 and +442071838750", "+7********67 and +44********50"),
    ],
)
def test_phone_numbers_are_masked_wherever_they_stand(text: str, masked: str) -> None:
    assert mask_text(text) == masked


@pytest.mark.parametrize(
    "text",
    [
        "01939c4e-7b3c-7123-8123-123456789012",
        "01234567-1234-7123-8123-012345678901",
        "2026-11-22T10:00:00.123456Z",
        "192.168.100.100:40000",
        "[2001:db8::1]:5060",
        "took 0.123456789 s",
        "ports 20000-29999",
        "0193abcdef12345678",
        "page 100 of 200",
    ],
)
def test_what_is_no_phone_number_stays(text: str) -> None:
    assert mask_text(text) == text


@pytest.mark.parametrize(
    "text",
    [
        "Authorization: Bearer s3cr3t-value.x",
        "Basic s3cr3t==",
        "/ws?token=s3cr3t&x=1",
        '{"token": "s3cr3t"}',
        "postgresql://user:s3cr3t@host/db",
        "redis://:s3cr3t@host",
        "api_key=s3cr3t",
        "X-API-Key: s3cr3t",
    ],
)
def test_secrets_in_text_are_masked(text: str) -> None:
    assert "s3cr3t" not in mask_text(text)
    assert "***" in mask_text(text)


@pytest.mark.parametrize(
    "key",
    [
        "token",
        "session_token",
        "Authorization",
        "api_key",
        "X-API-Key",
        "password",
        "client_secret",
        "cookie",
    ],
)
def test_a_secret_is_known_by_its_key(key: str) -> None:
    assert mask_value(key, "anything") == "***"
    assert mask_value("headers", {key: ["anything"]}) == {key: "***"}


def test_nested_values_and_odd_types() -> None:
    value = {"from": "+74951234567", "list": [b"+74951234567", 5, None], "id": UUID(int=5)}
    assert mask_value("call", value) == {
        "from": "+7********67",
        "list": ["+7********67", 5, None],
        "id": UUID(int=5),
    }
    deep: dict[str, object] = {}
    deep["again"] = deep
    assert "***" in str(mask_value("deep", deep))


def test_ids_are_not_numbers() -> None:
    event = {"event": "call +74951234567", "sip_call_id": "843817637684230@host", "from": "+74951234567"}
    assert mask_event(None, "info", event) == {
        "event": "call +7********67",
        "sip_call_id": "843817637684230@host",
        "from": "+7********67",
    }


@given(
    st.from_regex(r"\+[1-9][0-9]{9,13}", fullmatch=True),
    st.sampled_from(["{}", "sip:{}@h", "x {} y", "<{}>"]),
)
def test_no_international_number_survives(number: str, frame: str) -> None:
    assert number[1:] not in mask_text(frame.format(number))


@given(st.text(max_size=200))
def test_any_text_can_be_masked(text: str) -> None:
    assert isinstance(mask_text(text), str)


@given(st.uuids())
def test_no_uuid_is_touched(value: UUID) -> None:
    assert mask_text(f"call {value} ended") == f"call {value} ended"
