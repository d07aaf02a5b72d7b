"""What commands take in common: what was written wrong is told apart from what cannot be read, and each names its option."""

from __future__ import annotations

import ssl

import click
import pytest
import trustme

from framing import Wire
from framing.cli.parameters import client_tls, read_address, read_message, read_wire, server_tls
from framing.drivers.address import Address

TCP = Address.parse("tcp://127.0.0.1:9000")
TLS = Address.parse("tls://127.0.0.1:9000")
OTHERS = [Address.parse("udp://127.0.0.1:9000"), Address.parse("unix:/run/s")]


def test_without_files_an_address_stays_plain():
    assert server_tls(TCP, None, None) == (TCP, None)
    assert [client_tls(address, None) for address in (TCP, TLS, *OTHERS)] == [
        (address, None) for address in (TCP, TLS, *OTHERS)
    ]


def test_with_files_an_address_becomes_tls(tmp_path):
    authority = trustme.CA()
    authority.cert_pem.write_to_path(tmp_path / "ca")
    authority.issue_cert("localhost").private_key_and_cert_chain_pem.write_to_path(tmp_path / "both")
    for asked in (TCP, TLS):
        address, context = server_tls(asked, str(tmp_path / "both"), None)
        assert address == TLS
        assert context is not None
        assert context.protocol == ssl.PROTOCOL_TLS_SERVER
        address, context = client_tls(asked, str(tmp_path / "ca"))
        assert address == TLS
        assert context is not None
        assert context.check_hostname
        assert [found["subject"] for found in context.get_ca_certs()] != []
        assert len(context.get_ca_certs()) == 1  # and none of the system's


def test_what_does_not_fit_together_is_misuse():
    for call in (
        lambda: server_tls(TLS, None, None),
        lambda: server_tls(TCP, None, "key"),
        *(lambda other=other: server_tls(other, "cert", "key") for other in OTHERS),
        *(lambda other=other: client_tls(other, "ca") for other in OTHERS),
    ):
        with pytest.raises(click.UsageError, match="--tls-"):
            call()


def test_files_that_cannot_be_read_are_a_failure_that_names_them(tmp_path):
    (tmp_path / "empty").touch()
    for call, says in (
        (lambda: server_tls(TCP, "/nonexistent", None), "--tls-cert: /nonexistent: No such file"),
        (lambda: server_tls(TCP, str(tmp_path / "empty"), None), "holds no certificate"),
        (lambda: client_tls(TCP, "/nonexistent"), "--tls-ca: /nonexistent: No such file"),
        (lambda: client_tls(TCP, str(tmp_path)), "--tls-ca: .*: Is a directory"),
        (lambda: client_tls(TCP, str(tmp_path / "empty")), "--tls-ca: .* holds no certificate"),
    ):
        with pytest.raises(click.ClickException, match=says) as told:
            call()
        assert not isinstance(told.value, click.UsageError)
        assert told.value.exit_code == 1


def test_specs_and_addresses_are_read():
    context = click.Context(click.Command("x"))
    option = click.Option(["--wire"])
    assert str(read_wire(context, option, "u32+json")) == "u32+json"
    assert read_address(context, option, "tcp://127.0.0.1:9000") == TCP
    for read, wrong in ((read_wire, "u33"), (read_address, "nowhere")):
        with pytest.raises(click.BadParameter, match=wrong):
            read(context, option, wrong)


def test_a_message_is_read_as_the_wire_carries_it():
    assert read_message(Wire.parse("u32+json"), '{"a": [1]}', "it") == {"a": [1]}
    assert read_message(Wire.parse("u32+text"), '{"a"}', "it") == '{"a"}'
    assert read_message(Wire.parse("u32"), "\udcff é", "it") == b"\xff \xc3\xa9"


@pytest.mark.parametrize(
    ("text", "says"), [("hello", "message 3 is no JSON"), ("[" * 200_000, "message 3 is nested too")]
)
def test_a_message_that_cannot_be_read_is_named(text, says):
    with pytest.raises(click.UsageError, match=says):
        read_message(Wire.parse("u32+msgpack"), text, "message 3")
