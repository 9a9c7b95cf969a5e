"""What may be asked on the internet: addresses, URLs, and what the operator allows besides."""

import pytest
from yarl import URL

from common.errors import BadInput, CannotStart
from common.public_addresses import allow_list, checked_url, is_public, redirected
from tests.refusals import refused

NONE = frozenset[str]()


@pytest.mark.parametrize(
    "address",
    [
        *("127.0.0.1", "127.255.255.254", "10.0.0.1", "172.16.0.1", "172.31.255.255", "192.168.1.1", "169.254.169.254"),
        *("100.64.0.1", "0.0.0.1", "0.1.2.3", "192.0.0.8", "192.0.0.170", "192.0.2.1", "198.18.0.1", "198.51.100.7"),
        *("203.0.113.9", "224.0.0.1", "239.255.255.250", "240.0.0.1", "255.255.255.255", "192.88.99.1"),
        *("::", "::1", "::ffff:127.0.0.1", "::ffff:10.1.2.3", "::7f00:1", "64:ff9b::7f00:1", "64:ff9b:1::a00:1"),
        *("2002:7f00:1::", "2001::1", "2001:db8::1", "3fff::1", "fe80::1", "fe80::1%eth0", "fc00::1", "fd12::1"),
        *("fec0::1", "ff02::1", "100::1", "::ffff:0:127.0.0.1", "4000::1"),
    ],
)
def test_an_address_that_is_not_on_the_internet_is_refused(address: str) -> None:
    assert not is_public(address)


@pytest.mark.parametrize(
    "address", ["1.1.1.1", "8.8.8.8", "172.32.0.1", "::ffff:8.8.8.8", "2606:4700::1111", "2a00:1450:4001::1"]
)
def test_an_address_on_the_internet_is_taken(address: str) -> None:
    assert is_public(address)


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("https://127.0.0.1/", "forbidden_address"),
        ("https://[::1]/", "forbidden_address"),
        ("https://[::ffff:127.0.0.1]/", "forbidden_address"),
        ("https://[::ffff:7f00:1]/", "forbidden_address"),
        ("https://[fe80::1%25eth0]/", "forbidden_address"),
        ("https://0.0.0.0/", "forbidden_address"),
        ("https://169.254.169.254/latest/meta-data", "forbidden_address"),
        ("https://\uff11\uff12\uff17.0.0.1/", "forbidden_address"),
        ("http://example.com/", "forbidden_url"),
        ("https://example.com:8443/", "forbidden_url"),
        ("https://user:password@example.com/", "forbidden_url"),
        ("https://example.com@127.0.0.1/", "forbidden_url"),
        ("file:///etc/passwd", "forbidden_url"),
        ("gopher://127.0.0.1:70/_x", "forbidden_url"),
        ("//example.com/", "forbidden_url"),
        ("https://", "forbidden_url"),
        ("https:///path", "forbidden_url"),
        ("https://[::1", "forbidden_url"),
        ("https://example.com:99999/", "forbidden_url"),
        ("https://example.com/" + "b" * 5000, "forbidden_url"),
        ("http://example.com:443/", "forbidden_url"),
        ("", "forbidden_url"),
    ],
)
def test_a_url_that_leads_elsewhere_than_the_internet_is_refused(url: str, reason: str) -> None:
    with refused(BadInput, reason):
        checked_url(url, NONE)


@pytest.mark.parametrize(
    "url",
    [
        *("https://127.1/", "https://2130706433/", "https://0x7f.0.0.1/", "https://0x7f000001/", "https://0177.0.0.1/"),
        *("https://localhost/", "https://localhost./", "https://127.0.0.1./", "https://LOCALHOST/", "https://0/"),
        *("https://metadata/", "https://127.0.0.1.0x1/", "https://a..b.test/", "https://-/", "https://a_b.-test/"),
    ],
)
def test_a_host_that_is_no_name_of_the_internet_is_refused_without_asking_for_it(url: str) -> None:
    with pytest.raises(BadInput):
        checked_url(url, NONE)


@pytest.mark.parametrize("url", ["https://bücher.example/", "https://xn--bcher-kva.example./", "https://1.1.1.1/x?y=z"])
def test_a_name_or_a_public_address_may_be_asked(url: str) -> None:
    assert checked_url(url, NONE).scheme == "https"


@pytest.mark.parametrize("entry", ["localhost", "http://localhost:80", ":80", "localhost:", "localhost:http"])
def test_an_allow_list_that_cannot_be_meant_stops_the_start(entry: str) -> None:
    with pytest.raises(CannotStart):
        allow_list([entry])


@pytest.mark.parametrize("entry", ["plc.internal:2582", "PLC.internal.:2582"])
@pytest.mark.parametrize("url", ["http://plc.internal:2582/a", "http://plc.INTERNAL.:2582/a"])
def test_an_allowed_host_is_the_same_however_it_is_spelled(entry: str, url: str) -> None:
    assert checked_url(url, allow_list([entry])).port == 2582


def test_the_internet_may_not_redirect_to_an_allowed_origin() -> None:
    allowed = allow_list(["plc.internal:2582"])
    assert redirected(URL("http://plc.internal:2582/a"), "/b", allowed) == URL("http://plc.internal:2582/b")
    with pytest.raises(BadInput):
        redirected(URL("https://pds.example.com/"), "http://plc.internal:2582/", allowed)
